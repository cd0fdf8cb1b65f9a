//! Writes a bundle: the selection's files in the order of their names, digests and manifest into the places kept for them.
//! The same closed period under the same key gives the same bytes.

use crate::audit::remains::Remains;
use crate::audit::select::{CHUNK, Ended, Order, Range, Selection, range, select};
use crate::audit::story::Story;
use crate::audit::summary::Summary;
use crate::audit::{Error, csv, damaged, gates, keys, report, summary};
use crate::domain::ids::{Digest, RequestId};
use crate::domain::keys::{active, all_keys};
use crate::domain::state::Read;
use crate::evidence::bundle::manifest::{File, Generator, Manifest, Predicate, RangeForm};
use crate::evidence::bundle::verify::pem_name;
use crate::evidence::bundle::zip::Writer;
use crate::evidence::bundle::{CREDENTIAL_ENDINGS, NAMED_FILES_MAX, is_named_alone, names};
use crate::evidence::dsse::{Envelope, PAYLOAD_TYPE, PublicKey, sigstore_bundle};
use crate::evidence::keys::history as history_bytes;
use crate::store::{Snapshot, Store};
use crate::tlog::{Proof, leaf_hash};
use std::collections::BTreeMap;
use std::io::{Seek, Write};

/// Items written in one view of the database.
const ITEMS: usize = 512;

/// Endings of the two files of an erasure.
const ERASURE_EVENT: &str = ".event.json";
const ERASURE_PROOF: &str = ".tlog-proof";

const README: &str = include_str!("../../assets/bundle/README.txt");
const VERIFY: &str = include_str!("../../assets/bundle/verify.py");
const SCHEMAS: [(&str, &str); 6] = [
    (
        "schema/approval.json",
        include_str!("../../assets/bundle/schema/approval.json"),
    ),
    (
        "schema/event.json",
        include_str!("../../assets/bundle/schema/event.json"),
    ),
    (
        "schema/history.json",
        include_str!("../../assets/bundle/schema/history.json"),
    ),
    (
        "schema/intent.json",
        include_str!("../../assets/bundle/schema/intent.json"),
    ),
    (
        "schema/manifest.json",
        include_str!("../../assets/bundle/schema/manifest.json"),
    ),
    (
        "schema/outcome.json",
        include_str!("../../assets/bundle/schema/outcome.json"),
    ),
];

/// Signs a statement with the appliance's credential key: the envelope's bytes.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, String>;

/// What a bundle is made with.
pub struct Export<'a> {
    pub store: &'a Store,
    pub order: &'a Order,
    pub public_url: &'a str,
    pub version: &'a str,
    pub sign: Sign<'a>,
    /// Hears how much is done of how much; `false` calls the export off.
    pub told: &'a mut dyn FnMut(u64, u64) -> bool,
}

/// A finished bundle, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub from_seq: u64,
    pub to_seq: u64,
    /// Events that stand in full.
    pub events: u64,
    pub credentials: u64,
    pub outcomes: u64,
}

/// Writes a bundle to `out`, which must be empty.
///
/// # Errors
/// See `Error`; what is in `out` then is no bundle.
pub fn export<W: Write + Seek>(it: Export<'_>, out: W) -> Result<(W, Made), Error> {
    let state = it.store.read()?;
    let range = range(it.order.from, it.order.to, &state)?;
    let signing = signing_key(&state)?;
    drop(state);
    let span = range.to_size() - range.from_size();
    let mut progress = Progress {
        done: 0,
        total: 2 * span,
        told: it.told,
    };
    let first = range.first;
    let selection = select(it.store, it.order, &range, &mut |seq| progress.at(seq - first))?;
    progress.done = span;
    progress.total += 2 * selection.credentials.len() as u64 + selection.outcomes.len() as u64;
    let state = it.store.read()?;
    let history = keys::history(range.to_size(), &signing, &state)?;
    let log_keys = keys::log_keys(range.to_size(), &state)?;
    let (mut blobs, enrolments) = documents(&selection, &state)?;
    blobs.extend(history.iter().filter_map(|it| it.introduction));
    blobs.sort_unstable();
    blobs.dedup();
    drop(state);
    let mut job = Job {
        credential_keys: keys::credential_keys(&history),
        history: history_bytes(&history),
        log_keys,
        blobs,
        enrolments,
        order: it.order,
        range: &range,
        selection: &selection,
        store: it.store,
        public_url: it.public_url,
        version: it.version,
        signing: &signing,
        summary: Summary::default(),
        erased: Vec::new(),
        cards: Vec::new(),
    };
    let out = job.write(out, it.sign, &mut progress)?;
    Ok((
        out,
        Made {
            from_seq: range.from_size(),
            to_seq: range.to_size(),
            events: selection.counts.values().sum(),
            credentials: selection.credentials.len() as u64,
            outcomes: selection.outcomes.len() as u64,
        },
    ))
}

/// How far it is.
struct Progress<'a> {
    done: u64,
    total: u64,
    told: &'a mut dyn FnMut(u64, u64) -> bool,
}

impl Progress<'_> {
    fn at(&mut self, done: u64) -> Result<(), Error> {
        match (self.told)(done, self.total) {
            true => Ok(()),
            false => Err(Error::CalledOff),
        }
    }

    fn more(&mut self, items: u64) -> Result<(), Error> {
        self.done += items;
        self.at(self.done)
    }
}

/// The id of the key that signs now.
fn signing_key(state: &Snapshot) -> Result<String, Error> {
    let keys = all_keys(state)?;
    let signing = active(&keys, "credential").map(|it| it.keyid.clone());
    signing.ok_or_else(|| damaged("the journal names no credential key"))
}

/// Documents that are there (erased ones are not), and enrolment entries, by digest.
type Documents = (Vec<Digest>, BTreeMap<Digest, u64>);

fn documents(selection: &Selection, state: &Snapshot) -> Result<Documents, Error> {
    let mut blobs = Vec::new();
    for digest in &selection.blobs {
        if state.has_blob(digest)? {
            blobs.push(*digest);
        }
    }
    Ok((blobs, selection.enrolments.clone()))
}

struct Job<'a> {
    order: &'a Order,
    range: &'a Range,
    selection: &'a Selection,
    store: &'a Store,
    public_url: &'a str,
    version: &'a str,
    signing: &'a str,
    credential_keys: Vec<PublicKey>,
    history: Vec<u8>,
    log_keys: String,
    blobs: Vec<Digest>,
    enrolments: BTreeMap<Digest, u64>,
    summary: Summary,
    /// Requests whose documents were erased.
    erased: Vec<Remains>,
    /// Requests for the report: ordinary ones behind exceptional ones, then by position.
    cards: Vec<(bool, u64, RequestId)>,
}

impl Job<'_> {
    fn write<W: Write + Seek>(
        &mut self,
        out: W,
        sign: Sign<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<W, Error> {
        let all = self.names();
        let listed = |it: &&String| *it != names::SUMS && *it != names::MANIFEST;
        let sums_bytes: u64 = all.iter().filter(listed).map(|it| it.len() as u64 + 67).sum();
        let manifest_bytes = {
            let zero = Digest([0; 32]);
            let manifest = self.manifest(all.iter().map(|it| (it.as_str(), zero)), all.len());
            Envelope::build(PAYLOAD_TYPE, &manifest.statement_bytes(), self.signing, &[0; 64]).len() as u64
        };
        let mut zip = Writer::new(out);
        zip.add(names::README, README.as_bytes())?;
        let sums = zip.reserve(names::SUMS, sums_bytes)?;
        zip.stream(names::APPROVALS, |out| self.approvals(out, progress))?;
        self.add_blobs(&mut zip)?;
        self.add_credentials(&mut zip, progress)?;
        self.add_erasures(&mut zip)?;
        zip.stream(names::EVENTS, |out| self.events(out, progress))?;
        let mut pems: Vec<(String, String)> = self
            .credential_keys
            .iter()
            .map(|it| (pem_name(it.id()), it.pem()))
            .collect();
        pems.sort();
        for (name, pem) in pems {
            zip.add(&name, pem.as_bytes())?;
        }
        zip.add(names::HISTORY, &self.history)?;
        zip.add(names::LOG_KEYS, self.log_keys.as_bytes())?;
        let from = self.range.checkpoint_from.as_ref().map_or("", |(_, note)| note);
        zip.add(names::CHECKPOINT_FROM, from.as_bytes())?;
        zip.add(names::CHECKPOINT_TO, self.range.checkpoint_to.1.as_bytes())?;
        let state = self.store.read()?;
        let proof = state.consistency_proof(self.range.from_size(), self.range.to_size())?;
        let proof: String = proof.iter().map(|it| it.base64() + "\n").collect();
        zip.add(names::CONSISTENCY, proof.as_bytes())?;
        drop(state);
        let manifest = zip.reserve(names::MANIFEST, manifest_bytes)?;
        self.add_outcomes(&mut zip, progress)?;
        zip.stream(names::REPORT, |out| self.report(out))?;
        for (name, schema) in SCHEMAS {
            zip.add(name, schema.as_bytes())?;
        }
        zip.add(names::VERIFY, VERIFY.as_bytes())?;
        let mut text = String::with_capacity(usize::try_from(sums_bytes).unwrap_or(0));
        for (name, digest) in zip.entries() {
            if name != names::SUMS && name != names::MANIFEST {
                text.push_str(&format!("{digest}  {name}\n"));
            }
        }
        zip.fill(sums, text.as_bytes())?;
        drop(text);
        let statement = {
            let named = zip.entries().filter(|(name, _)| *name != names::MANIFEST);
            self.manifest(named, all.len()).statement_bytes()
        };
        let envelope = sign(&statement).map_err(Error::Sealed)?;
        zip.fill(manifest, &envelope)?;
        Ok(zip.finish()?)
    }

    /// Every file's name, in order.
    fn names(&self) -> Vec<String> {
        let fixed = [
            names::README,
            names::SUMS,
            names::APPROVALS,
            names::EVENTS,
            names::HISTORY,
            names::LOG_KEYS,
            names::CHECKPOINT_FROM,
            names::CHECKPOINT_TO,
            names::CONSISTENCY,
            names::MANIFEST,
            names::REPORT,
            names::VERIFY,
        ];
        let mut all: Vec<String> = fixed
            .into_iter()
            .chain(SCHEMAS.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .collect();
        all.extend(self.credential_keys.iter().map(|it| pem_name(it.id())));
        let documents = self.blobs.iter().chain(self.enrolments.keys());
        all.extend(documents.map(|it| format!("{}{it}", names::BLOBS)));
        for digest in self.selection.credentials.keys() {
            all.extend(
                CREDENTIAL_ENDINGS
                    .iter()
                    .map(|it| format!("{}crd_{digest}{it}", names::CREDENTIALS)),
            );
        }
        all.extend(self.selection.outcomes.keys().map(outcome_name));
        all.extend(self.erasures());
        all.sort();
        all
    }

    fn manifest<'n>(&self, files: impl Iterator<Item = (&'n str, Digest)>, count: usize) -> Manifest {
        let many = count - 1 > NAMED_FILES_MAX;
        Manifest {
            files: files
                .filter(|(name, _)| *name != names::MANIFEST && (!many || is_named_alone(name)))
                .map(|(name, sha256)| File {
                    name: name.to_owned(),
                    sha256,
                })
                .collect(),
            predicate: Predicate {
                range: RangeForm {
                    from: self.order.from.to_string(),
                    to: self.order.to.to_string(),
                    from_seq: self.range.from_size(),
                    to_seq: self.range.to_size(),
                },
                filter: self.order.filter.form(),
                counts: self.selection.counts.clone(),
                checkpoint: self.range.checkpoint_to.1.clone(),
                generator: Generator {
                    version: self.version.to_owned(),
                },
            },
        }
    }

    /// The spreadsheet; along the way the numbers, and which requests get a card.
    fn approvals(&mut self, out: &mut dyn Write, progress: &mut Progress<'_>) -> Result<(), Error> {
        csv::header(out)?;
        let mut requests: Vec<(u64, &RequestId)> = self
            .selection
            .outcomes
            .iter()
            .map(|(id, Ended { seq, .. })| (*seq, id))
            .chain(
                self.selection
                    .decisions
                    .iter()
                    .filter(|(id, _)| !self.selection.outcomes.contains_key(*id))
                    .map(|(id, decisions)| (decisions.first().map_or(0, |(seq, _)| *seq), id)),
            )
            .collect();
        requests.sort_unstable();
        for some in requests.chunks(ITEMS) {
            let state = self.store.read()?;
            for (seq, request) in some {
                let story = Story::read(request, self.selection, &self.credential_keys, &state)?;
                csv::rows(&story, out)?;
                self.summary.add(&story);
                self.cards
                    .push((story.flags().is_empty(), u64::MAX - seq, (*request).clone()));
            }
            progress.more(some.len() as u64)?;
        }
        self.erased = Remains::all(self.selection, &self.store.read()?)?;
        for it in &self.erased {
            csv::remains(it, out)?;
            self.summary.add_remains(it);
        }
        self.cards.sort_unstable();
        self.cards.truncate(report::CARDS_MAX);
        Ok(())
    }

    fn add_blobs<W: Write + Seek>(&self, zip: &mut Writer<W>) -> Result<(), Error> {
        let mut all: Vec<(Digest, Option<u64>)> = self.blobs.iter().map(|it| (*it, None)).collect();
        all.extend(self.enrolments.iter().map(|(digest, seq)| (*digest, Some(*seq))));
        all.sort_unstable_by_key(|(digest, _)| *digest);
        for some in all.chunks(ITEMS) {
            let state = self.store.read()?;
            for (digest, seq) in some {
                let bytes = match seq {
                    Some(seq) => state.leaf(*seq)?,
                    None => state.blob(digest)?,
                };
                let bytes = bytes.ok_or_else(|| damaged(format!("blob {digest} is missing")))?;
                zip.add(&format!("{}{digest}", names::BLOBS), &bytes)?;
            }
        }
        Ok(())
    }

    fn add_credentials<W: Write + Seek>(
        &self,
        zip: &mut Writer<W>,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let all: Vec<(&Digest, &u64)> = self.selection.credentials.iter().collect();
        let (size, note) = &self.range.checkpoint_to;
        for some in all.chunks(ITEMS) {
            let state = self.store.read()?;
            for (digest, seq) in some {
                let missing = || damaged(format!("crd_{digest} is missing"));
                let base = format!("{}crd_{digest}", names::CREDENTIALS);
                let file = state.blob(digest)?.ok_or_else(missing)?;
                zip.add(&format!("{base}.dsse.json"), &file)?;
                let leaf = state.leaf(**seq)?.ok_or_else(missing)?;
                zip.add(&format!("{base}.event.json"), &leaf)?;
                let envelope = Envelope::parse(&file).map_err(|e| damaged(e.to_string()))?;
                let sigstore =
                    sigstore_bundle(&file, envelope.keyid()).map_err(|e| damaged(e.to_string()))?;
                zip.add(&format!("{base}.sigstore.json"), &sigstore)?;
                let hashes = state.inclusion_proof(**seq, *size)?;
                let proof = Proof::new(**seq, hashes, note).map_err(|e| damaged(e.to_string()))?;
                zip.add(&format!("{base}.tlog-proof"), proof.encode().as_bytes())?;
            }
            progress.more(some.len() as u64)?;
        }
        Ok(())
    }

    /// The files that tell of erasures, in order.
    fn erasures(&self) -> Vec<String> {
        let erasures = &self.selection.erasures;
        if erasures.is_empty() {
            return Vec::new();
        }
        let mut all = vec![
            names::ERASURES_CHECKPOINT.to_owned(),
            names::ERASURES_CONSISTENCY.to_owned(),
        ];
        for seq in erasures {
            all.extend([ERASURE_EVENT, ERASURE_PROOF].map(|it| format!("{}{seq}{it}", names::ERASURES)));
        }
        all.sort();
        all
    }

    /// The entries that say what was erased, which may be younger than the period, with proofs that they are in the log.
    fn add_erasures<W: Write + Seek>(&self, zip: &mut Writer<W>) -> Result<(), Error> {
        let Some(last) = self.selection.erasures.last() else {
            return Ok(());
        };
        let to = &self.range.checkpoint_to;
        let (size, note) = match *last < to.0 {
            true => to.clone(),
            false => {
                let covering = self.store.read()?.checkpoint_covering(*last)?;
                covering.ok_or_else(|| damaged("no checkpoint covers an erasure"))?
            }
        };
        for some in self.erasures().chunks(ITEMS) {
            let state = self.store.read()?;
            for name in some {
                let file = match name.as_str() {
                    names::ERASURES_CHECKPOINT => note.clone().into_bytes(),
                    names::ERASURES_CONSISTENCY => {
                        let proof = state.consistency_proof(to.0, size)?;
                        let lines: String = proof.iter().map(|it| it.base64() + "\n").collect();
                        lines.into_bytes()
                    }
                    name => {
                        let rest = name.strip_prefix(names::ERASURES).unwrap_or_default();
                        let (seq, _) = rest.split_once('.').unwrap_or_default();
                        let seq: u64 = seq.parse().map_err(|_| damaged("odd name of an erasure"))?;
                        match name.ends_with(ERASURE_EVENT) {
                            true => state
                                .leaf(seq)?
                                .ok_or_else(|| damaged(format!("entry {seq} is missing")))?,
                            false => {
                                let hashes = state.inclusion_proof(seq, size)?;
                                let proof = Proof::new(seq, hashes, &note);
                                proof.map_err(|e| damaged(e.to_string()))?.encode().into_bytes()
                            }
                        }
                    }
                };
                zip.add(name, &file)?;
            }
        }
        Ok(())
    }

    fn events(&self, out: &mut dyn Write, progress: &mut Progress<'_>) -> Result<(), Error> {
        let (mut next, end) = (self.range.from_size(), self.range.to_size());
        while next < end {
            let take = CHUNK.min(usize::try_from(end - next).unwrap_or(CHUNK));
            let state = self.store.read()?;
            state.each_leaf::<Error>(next, take, |seq, leaf| {
                if self.selection.shown.has(seq) {
                    out.write_all(leaf)?;
                    out.write_all(b"\n")?;
                } else {
                    let hash = leaf_hash(leaf).hex();
                    writeln!(out, "{{\"seq\":{seq},\"leaf_hash\":\"{hash}\"}}")?;
                }
                Ok(())
            })?;
            next += take as u64;
            progress.more(take as u64)?;
        }
        Ok(())
    }

    fn add_outcomes<W: Write + Seek>(
        &self,
        zip: &mut Writer<W>,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let all: Vec<(&RequestId, &Ended)> = self.selection.outcomes.iter().collect();
        for some in all.chunks(ITEMS) {
            let state = self.store.read()?;
            for (request, ended) in some {
                let file = state.blob(&ended.outcome)?;
                let file = file.ok_or_else(|| damaged(format!("the outcome of {request} is missing")))?;
                zip.add(&outcome_name(request), &file)?;
            }
            progress.more(some.len() as u64)?;
        }
        Ok(())
    }

    fn report(&self, out: &mut dyn Write) -> Result<(), Error> {
        let state = self.store.read()?;
        let (exceptions, exceptions_left_out) = summary::exceptions(self.selection, self.range.end, &state)?;
        let period = (self.order.from, self.order.to);
        let (gates, gates_left_out) = gates::gates(self.selection, &self.order.filter, period, &state)?;
        let (access, access_left_out) = summary::access(self.selection, &state)?;
        let holdings = match self.order.filter.is_empty() {
            true => summary::holdings(self.range.end, self.order.to, &state)?,
            false => Vec::new(),
        };
        let key_ids: Vec<String> = self.credential_keys.iter().map(|it| it.id().to_owned()).collect();
        let head = report::Head {
            order: self.order,
            range: self.range,
            summary: &self.summary,
            exceptions: &exceptions,
            exceptions_left_out,
            gates: &gates,
            gates_left_out,
            erased: &self.erased,
            access: &access,
            access_left_out,
            holdings: &holdings,
            public_url: self.public_url,
            history: &self.history,
            log_keys: &self.log_keys,
            credential_keys: &key_ids,
        };
        report::begin(&head, out)?;
        for (_, _, request) in &self.cards {
            let story = Story::read(request, self.selection, &self.credential_keys, &state)?;
            report::card(&story, out)?;
        }
        report::end(&head, out)
    }
}

fn outcome_name(request: &RequestId) -> String {
    format!("{}{request}.dsse.json", names::OUTCOMES)
}
