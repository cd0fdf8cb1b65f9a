//! The offline verifier of a whole bundle: one verdict a check, and what is not proved. It reads the archive once from end
//! to end and then by name, never trusts a name or a size in it, and keeps little in memory whatever it is handed.

use crate::domain::ids::Digest;
use crate::domain::text::{shortened, visible};
use crate::domain::time::Time;
use crate::evidence::bundle::archive::Archive;
use crate::evidence::bundle::manifest::Manifest;
use crate::evidence::bundle::zip::{Directory, ZipError};
use crate::evidence::bundle::{CREDENTIAL_ENDINGS, NAMED_FILES_MAX, is_known, is_named_alone, names};
use crate::evidence::credential::{Evidence, Webauthn};
use crate::evidence::dsse::{Envelope, PAYLOAD_TYPE, PublicKey, sigstore_wrapping};
use crate::evidence::keys::{Entry, check_introduction, parse_history};
use crate::evidence::leaf;
use crate::evidence::leaf::Leaf;
use crate::evidence::strict;
use crate::evidence::verify::{Body, Check, Expect, Journal, Trust, Verified, document, together};
use crate::tlog::{
    Checkpoint, Extension, Hash, Proof, VerifierKey, empty_root, leaf_hash, verify_consistency,
    verify_inclusion,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek};

/// No single proof is longer, in bytes.
const PROOF_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Failures told one by one; the rest is counted.
const FAILURES_MAX: usize = 50;

/// What came out of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// Every check passed.
    pub valid: bool,
    /// In the order in which they were made. After a failure nothing that depends on it is checked.
    pub checks: Vec<Check>,
    /// What a reader might believe to be proved, and is not.
    pub not_shown: Vec<String>,
    /// The whole in one sentence. Absent unless valid.
    pub verdict: Option<String>,
    /// Events that stand in full.
    pub events: u64,
    /// Credentials that were verified.
    pub credentials: u64,
    /// Outcomes that were verified.
    pub outcomes: u64,
    /// Documents that were erased, as the log says, and can be verified no more.
    pub erased: u64,
}

/// Verifies a bundle against the keys that are trusted.
///
/// # Errors
/// Only when the file can't be read; whatever is wrong with its contents is in the report.
pub fn bundle<S: Read + Seek>(source: &mut S, trust: &Trust<'_>) -> std::io::Result<BundleReport> {
    let mut verifier = Verifier::default();
    match verifier.run(source, trust) {
        Ok(()) | Err(Stop::Told) => {}
        Err(Stop::Zip(ZipError::Form(reason))) => {
            verifier.checks.push(fail("archive", reason));
        }
        Err(Stop::Zip(ZipError::Io(error))) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            verifier.checks.push(fail("archive", "it is cut off".into()));
        }
        Err(Stop::Zip(ZipError::Io(error))) => return Err(error),
    }
    Ok(verifier.report())
}

/// Why the verification ended early.
enum Stop {
    /// The failed check is in the list.
    Told,
    Zip(ZipError),
}

impl From<ZipError> for Stop {
    fn from(error: ZipError) -> Self {
        Stop::Zip(error)
    }
}

fn fail(name: &'static str, detail: String) -> Check {
    Check {
        name,
        ok: false,
        detail,
    }
}

fn pass(name: &'static str, detail: String) -> Check {
    Check {
        name,
        ok: true,
        detail,
    }
}

/// A name from the archive, for people.
fn told(name: &str) -> String {
    shortened(&visible(name), 120)
}

#[derive(Default)]
struct Verifier {
    checks: Vec<Check>,
    not_shown: Vec<String>,
    verdict: Option<String>,
    events: u64,
    credentials: u64,
    outcomes: u64,
    /// Documents that were erased, by their digest: the entry that says so.
    erased: BTreeMap<Digest, u64>,
}

/// A check of many things: its failures one by one, or one line that all is well.
struct Many {
    name: &'static str,
    failures: Vec<String>,
    more: u64,
}

impl Many {
    fn new(name: &'static str) -> Self {
        Many {
            name,
            failures: Vec::new(),
            more: 0,
        }
    }

    fn fail(&mut self, detail: String) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(detail);
        } else {
            self.more += 1;
        }
    }

    fn into_checks(self, well: String) -> Vec<Check> {
        if self.failures.is_empty() {
            return vec![pass(self.name, well)];
        }
        let mut checks: Vec<Check> = self.failures.into_iter().map(|it| fail(self.name, it)).collect();
        if self.more > 0 {
            checks.push(fail(self.name, format!("and {} more", self.more)));
        }
        checks
    }
}

/// The two checkpoints of a bundle.
struct Log {
    origin: String,
    from_size: u64,
    from_root: Hash,
    to_size: u64,
    to_root: Hash,
    to_note: String,
    keys: Vec<VerifierKey>,
}

/// What the events have told so far and the files have to match.
struct Progress {
    counts: BTreeMap<String, u64>,
    /// Decisions of requests that have not ended yet: credential, position, digest of the leaf.
    pending: HashMap<String, Vec<(Digest, u64, Digest)>>,
    /// Positions of enrolment events that stand in full, with the leaf's digest.
    enrolments: HashMap<u64, Digest>,
    /// Enrolments read from blobs.
    enrolled: HashMap<Digest, Result<Enrolment, String>>,
    /// Places in the directory of the `.dsse.json` of credentials that were verified.
    seen: BTreeSet<usize>,
    ended: BTreeSet<usize>,
    /// Blobs that something names.
    named_blobs: BTreeSet<Digest>,
    credentials: Many,
    outcomes: Many,
    no_enrolment: u64,
    server_attested: u64,
    /// Decisions and outcomes whose documents were erased.
    credentials_gone: u64,
    outcomes_gone: u64,
}

#[derive(Clone)]
struct Enrolment {
    seq: u64,
    person: String,
    credential_id: String,
    spki_sha256: Digest,
}

impl Verifier {
    fn report(self) -> BundleReport {
        let valid = !self.checks.is_empty() && self.checks.iter().all(|it| it.ok);
        BundleReport {
            valid,
            verdict: self.verdict.filter(|_| valid),
            checks: self.checks,
            not_shown: self.not_shown,
            events: self.events,
            credentials: self.credentials,
            outcomes: self.outcomes,
            erased: self.erased.len() as u64,
        }
    }

    fn stop(&mut self, name: &'static str, detail: impl Into<String>) -> Stop {
        self.checks.push(fail(name, detail.into()));
        Stop::Told
    }

    fn run<S: Read + Seek>(&mut self, source: &mut S, trust: &Trust<'_>) -> Result<(), Stop> {
        let mut archive = self.archive(source)?;
        self.digests(&mut archive)?;
        let history = self.history(&mut archive)?;
        let keys = self.trusted(&mut archive, &history, trust)?;
        let (manifest, signer) = self.manifest(&mut archive, &history, &keys)?;
        let log = self.log(&mut archive, &manifest, trust)?;
        let signing = history.iter().find(|it| it.keyid == signer);
        if let Some(until) = signing.and_then(|it| it.until_seq) {
            return Err(self.stop(
                "keys",
                format!("the manifest is signed by key {signer}, which was retired at entry {until}"),
            ));
        }
        self.erasures(&mut archive, &log)?;
        let mut progress = Progress {
            counts: BTreeMap::new(),
            pending: HashMap::new(),
            enrolments: HashMap::new(),
            enrolled: HashMap::new(),
            seen: BTreeSet::new(),
            ended: BTreeSet::new(),
            named_blobs: history.iter().filter_map(|it| it.introduction).collect(),
            credentials: Many::new("credentials"),
            outcomes: Many::new("outcomes"),
            no_enrolment: 0,
            server_attested: 0,
            credentials_gone: 0,
            outcomes_gone: 0,
        };
        self.walk(&mut archive, &manifest, &log, &history, &keys, &mut progress)?;
        self.rest(&mut archive, &log, &history, &keys, &mut progress)?;
        self.blobs(&archive, &progress);
        self.limits(&manifest, &log, &progress);
        let range = &manifest.predicate.range;
        let gone = match self.erased.len() {
            0 => String::new(),
            count => format!(" ({count} more documents were erased, as the log says)"),
        };
        self.verdict = Some(format!(
            "Everything holds: {} events, {} credentials and {} outcomes{gone} of the period from {} to before {}, entries {} to {} of the log {}, signed with Ed25519 key {}…",
            self.events,
            self.credentials,
            self.outcomes,
            visible(&range.from),
            visible(&range.to),
            log.from_size,
            log.to_size.saturating_sub(1),
            visible(&log.origin),
            &signer[..6],
        ));
        Ok(())
    }

    fn archive<'s, S: Read + Seek>(&mut self, source: &'s mut S) -> Result<Archive<'s, S>, Stop> {
        let directory = Directory::read(source)?;
        if let Some(strange) = directory.entries.iter().find(|it| !is_known(&it.name)) {
            return Err(self.stop(
                "archive",
                format!("it holds {}, which no bundle has", told(&strange.name)),
            ));
        }
        let wanted = [
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
        if let Some(missing) = wanted.iter().find(|it| directory.find(it).is_none()) {
            return Err(self.stop("archive", format!("{missing} is missing")));
        }
        let mut digests = vec![Digest([0; 32]); directory.entries.len()];
        directory.digest(source, |index, digest| digests[index] = digest)?;
        self.checks.push(pass(
            "archive",
            format!(
                "{} files, stored, sorted, nothing between or behind them",
                directory.entries.len()
            ),
        ));
        Ok(Archive {
            source,
            directory,
            digests,
        })
    }

    /// `SHA256SUMS` against the contents.
    fn digests<S: Read + Seek>(&mut self, archive: &mut Archive<'_, S>) -> Result<(), Stop> {
        let mut many = Many::new("digests");
        let mut lines = archive.lines(names::SUMS).expect("looked for before");
        let mut at = 0;
        let skipped = |name: &str| name == names::SUMS || name == names::MANIFEST;
        let mut count = 0;
        while let Some(line) = lines.next(archive.source)? {
            let listed = std::str::from_utf8(line)
                .ok()
                .and_then(|it| it.split_once("  "))
                .and_then(|(digest, name)| Some((Digest::parse(digest)?, name)));
            let Some((digest, name)) = listed else {
                many.fail("a line of SHA256SUMS is not a digest and a name".into());
                break;
            };
            while archive
                .directory
                .entries
                .get(at)
                .is_some_and(|it| skipped(&it.name) || it.name.as_bytes() < name.as_bytes())
            {
                if !skipped(&archive.directory.entries[at].name) {
                    let name = told(&archive.directory.entries[at].name);
                    many.fail(format!(
                        "{name} is not listed: it was added, or its line was taken out"
                    ));
                }
                at += 1;
            }
            match archive.directory.entries.get(at) {
                Some(entry) if &*entry.name == name => {
                    if archive.digests[at] != digest {
                        many.fail(format!(
                            "{} is not the file that was listed: it was changed",
                            told(name)
                        ));
                    }
                    at += 1;
                    count += 1;
                }
                _ => many.fail(format!("{} is listed and missing", told(name))),
            }
        }
        for entry in &archive.directory.entries[at..] {
            if !skipped(&entry.name) {
                many.fail(format!(
                    "{} is not listed: it was added, or its line was taken out",
                    told(&entry.name)
                ));
            }
        }
        let failed = !many.failures.is_empty();
        self.checks
            .extend(many.into_checks(format!("{count} files are the ones in SHA256SUMS")));
        if failed { Err(Stop::Told) } else { Ok(()) }
    }

    fn history<S: Read + Seek>(&mut self, archive: &mut Archive<'_, S>) -> Result<Vec<Entry>, Stop> {
        let bytes = archive
            .file(names::HISTORY, PROOF_FILE_BYTES_MAX)?
            .unwrap_or_default();
        parse_history(&bytes)
            .map_err(|e| self.stop("keys", format!("{}: {}", names::HISTORY, visible(&e.to_string()))))
    }

    /// The credential keys of the history that are trusted: those that were handed in, and those that introductions tie
    /// to them.
    fn trusted<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        history: &[Entry],
        trust: &Trust<'_>,
    ) -> Result<Vec<PublicKey>, Stop> {
        let mut ids: BTreeSet<String> = trust.keys.iter().map(|it| it.id().to_owned()).collect();
        let mut introductions = Vec::new();
        for key in history.iter().filter(|it| it.r#use == "credential") {
            let Some(digest) = key.introduction else { continue };
            let blob = archive.file(&format!("{}{digest}", names::BLOBS), PROOF_FILE_BYTES_MAX)?;
            match blob.and_then(|it| introduced_by(&it, key, history)) {
                Some(pair) => introductions.push(pair),
                None => {
                    return Err(self.stop(
                        "keys",
                        format!(
                            "the introduction of key {} is missing or does not hold",
                            key.keyid
                        ),
                    ));
                }
            }
        }
        loop {
            let before = ids.len();
            for pair in &introductions {
                if pair.iter().any(|it| ids.contains(it)) {
                    ids.extend(pair.iter().cloned());
                }
            }
            if ids.len() == before {
                break;
            }
        }
        let mut files: BTreeSet<String> = archive
            .directory
            .below("keys/credential-")
            .map(|(_, name)| name.to_owned())
            .collect();
        let mut trusted = Vec::new();
        for key in history.iter().filter(|it| it.r#use == "credential") {
            let Ok(public) = key.public_key() else {
                return Err(self.stop("keys", format!("key {} is not an Ed25519 key", key.keyid)));
            };
            let name = pem_name(&key.keyid);
            let pem = archive.file(&name, PROOF_FILE_BYTES_MAX)?;
            if pem.as_deref() != Some(public.pem().as_bytes()) {
                return Err(self.stop("keys", format!("{} is not key {}", told(&name), key.keyid)));
            }
            files.remove(&name);
            if ids.contains(&key.keyid) {
                // Where it counts is checked with the position of each event, which the log proves here.
                let anywhere = PublicKey::from_spki(&public.spki());
                trusted.extend(anywhere.ok());
            }
        }
        if let Some(name) = files.first() {
            return Err(self.stop("keys", format!("{} is no key of the history", told(name))));
        }
        if trusted.is_empty() {
            return Err(self.stop(
                "keys",
                "none of the keys you trust is one of this bundle's: it is from another instance, or somebody put other keys in it",
            ));
        }
        self.checks.push(pass(
            "keys",
            format!(
                "{} of {} credential keys in the history are trusted",
                trusted.len(),
                history.iter().filter(|it| it.r#use == "credential").count()
            ),
        ));
        Ok(trusted)
    }

    fn manifest<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        history: &[Entry],
        keys: &[PublicKey],
    ) -> Result<(Manifest, String), Stop> {
        let bytes = archive
            .file(names::MANIFEST, PROOF_FILE_BYTES_MAX)?
            .unwrap_or_default();
        let read = (|| {
            let envelope = Envelope::parse(&bytes).map_err(|e| visible(&e.to_string()))?;
            if envelope.payload_type != PAYLOAD_TYPE {
                return Err("it is not an in-toto statement".to_owned());
            }
            let keyid = envelope.keyid().to_owned();
            let key = keys.iter().find(|it| it.id() == keyid).ok_or_else(|| {
                match history.iter().any(|it| it.keyid == keyid) {
                    true => format!("signed by key {keyid}, which nothing ties to the keys you trust"),
                    false => format!("signed by key {keyid}, which is not trusted here"),
                }
            })?;
            envelope.verify(key).map_err(|e| e.to_string())?;
            let manifest = Manifest::parse(&envelope.payload).map_err(|e| visible(&e.to_string()))?;
            Ok((manifest, keyid))
        })();
        let (manifest, keyid) = read.map_err(|e| self.stop("manifest", e))?;
        let many_files = archive.directory.entries.len() - 1 > NAMED_FILES_MAX;
        let mut wanted = archive
            .directory
            .entries
            .iter()
            .zip(&archive.digests)
            .filter(|(it, _)| &*it.name != names::MANIFEST && (!many_files || is_named_alone(&it.name)));
        let mut named = manifest.files.iter();
        loop {
            match (named.next(), wanted.next()) {
                (None, None) => break,
                (Some(file), Some((entry, digest))) if *file.name == *entry.name => {
                    if file.sha256 != *digest {
                        return Err(self.stop(
                            "manifest",
                            format!("{} is not the file that was signed for", told(&file.name)),
                        ));
                    }
                }
                (file, entry) => {
                    let name = match (file, entry) {
                        (Some(file), Some((entry, _))) if file.name.as_bytes() > entry.name.as_bytes() => {
                            &*entry.name
                        }
                        (Some(file), _) => &file.name,
                        (None, Some((entry, _))) => &entry.name,
                        (None, None) => "",
                    };
                    return Err(self.stop(
                        "manifest",
                        format!("the signed list and the archive differ at {}", told(name)),
                    ));
                }
            }
        }
        self.checks.push(pass(
            "manifest",
            format!("Ed25519 signature by key {keyid} over every file's digest"),
        ));
        Ok((manifest, keyid))
    }

    fn log<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        manifest: &Manifest,
        trust: &Trust<'_>,
    ) -> Result<Log, Stop> {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
        let listed = text(archive.file(names::LOG_KEYS, PROOF_FILE_BYTES_MAX)?);
        let mut keys = trust.log_keys.to_vec();
        for line in listed.lines() {
            let Ok(key) = VerifierKey::parse(line) else {
                return Err(self.stop("log", format!("{} holds a line that is no key", names::LOG_KEYS)));
            };
            // The same key under the name of another epoch.
            if trust
                .log_keys
                .iter()
                .any(|it| it.key() == key.key() && same_log(it.name(), key.name()))
            {
                keys.push(key);
            }
        }
        let from = archive
            .file(names::CHECKPOINT_FROM, PROOF_FILE_BYTES_MAX)?
            .unwrap_or_default();
        let to = archive
            .file(names::CHECKPOINT_TO, PROOF_FILE_BYTES_MAX)?
            .unwrap_or_default();
        let open = |note: &[u8], name: &str| {
            Checkpoint::open(note, &keys)
                .map(|(it, _)| it)
                .map_err(|e| format!("{name}: {}", visible(&e.to_string())))
        };
        let new = open(&to, names::CHECKPOINT_TO).map_err(|e| self.stop("log", e))?;
        let (old_size, old_root) = if from.is_empty() {
            (0, empty_root())
        } else {
            let old = open(&from, names::CHECKPOINT_FROM).map_err(|e| self.stop("log", e))?;
            if !same_log(old.origin(), new.origin()) {
                return Err(self.stop("log", "the two checkpoints are of different logs"));
            }
            (old.size(), *old.root())
        };
        let to_note = text(Some(to));
        let range = &manifest.predicate.range;
        if manifest.predicate.checkpoint != to_note
            || (range.from_seq, range.to_seq) != (old_size, new.size())
        {
            return Err(self.stop(
                "log",
                "the manifest names other checkpoints than the bundle holds",
            ));
        }
        self.checks.push(pass(
            "log",
            format!(
                "checkpoints of {old_size} and {} entries, both signed by the log key of {}",
                new.size(),
                visible(new.origin())
            ),
        ));
        Ok(Log {
            origin: new.origin().to_owned(),
            from_size: old_size,
            from_root: old_root,
            to_size: new.size(),
            to_root: *new.root(),
            to_note,
            keys,
        })
    }

    /// What was erased: the entries that say so, in the log that this bundle is a part of.
    fn erasures<S: Read + Seek>(&mut self, archive: &mut Archive<'_, S>, log: &Log) -> Result<(), Stop> {
        let files: Vec<String> = archive
            .directory
            .below(names::ERASURES)
            .map(|(_, name)| name.to_owned())
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let mut found: Vec<u64> = files
            .iter()
            .filter_map(|it| {
                let rest = it.strip_prefix(names::ERASURES)?;
                rest.strip_suffix(".event.json")?.parse().ok()
            })
            .collect();
        found.sort_unstable();
        let note = archive.file(names::ERASURES_CHECKPOINT, PROOF_FILE_BYTES_MAX)?;
        let consistency = archive.file(names::ERASURES_CONSISTENCY, PROOF_FILE_BYTES_MAX)?;
        if found.is_empty() || files.len() != 2 + 2 * found.len() {
            return Err(self.stop("erasures", "there are files about erasures that belong to none"));
        }
        let (note, consistency) = (note.unwrap_or_default(), consistency.unwrap_or_default());
        let checkpoint =
            erasures_checkpoint(&note, &consistency, log).map_err(|reason| self.stop("erasures", reason))?;
        let mut requests = BTreeSet::new();
        for seq in &found {
            let base = format!("{}{seq}", names::ERASURES);
            let event = archive.file(&format!("{base}.event.json"), PROOF_FILE_BYTES_MAX)?;
            let proof = archive.file(&format!("{base}.tlog-proof"), PROOF_FILE_BYTES_MAX)?;
            let (event, proof) = (event.unwrap_or_default(), proof.unwrap_or_default());
            let (request, documents) = read_erasure(*seq, &event, &proof, &note, &checkpoint)
                .map_err(|reason| self.stop("erasures", format!("entry {seq}: {reason}")))?;
            requests.insert(request);
            self.erased.extend(documents.into_iter().map(|it| (it, *seq)));
        }
        let requests = requests.len();
        let shown: Vec<String> = found.iter().take(10).map(ToString::to_string).collect();
        self.checks.push(pass(
            "erasures",
            format!(
                "{} documents of {requests} requests were erased, as the log's entries say ({}{})",
                self.erased.len(),
                shown.join(", "),
                if found.len() > 10 { ", …" } else { "" }
            ),
        ));
        Ok(())
    }

    /// Every line of `events.jsonl` in order, and the decisions and outcomes they name.
    fn walk<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        manifest: &Manifest,
        log: &Log,
        history: &[Entry],
        keys: &[PublicKey],
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let proof = archive
            .file(names::CONSISTENCY, PROOF_FILE_BYTES_MAX)?
            .unwrap_or_default();
        let proof: Option<Vec<Hash>> = std::str::from_utf8(&proof)
            .ok()
            .filter(|it| it.is_empty() || it.ends_with('\n'))
            .and_then(|it| it.lines().map(Hash::from_base64).collect());
        let Some(proof) = proof else {
            return Err(self.stop("log", format!("{} is not one hash a line", names::CONSISTENCY)));
        };
        let mut extension =
            Extension::begin(log.from_size, &log.from_root, log.to_size, &log.to_root, &proof)
                .map_err(|e| self.stop("log", format!("the log was not only appended to: {e}")))?;
        let range = &manifest.predicate.range;
        let period = strict::time(&range.from).zip(strict::time(&range.to));
        let Some((from, to)) = period.filter(|(from, to)| from < to) else {
            return Err(self.stop("events", "the manifest's period is none"));
        };
        let whole = manifest.predicate.filter.is_empty();
        let mut lines = archive.lines(names::EVENTS).expect("looked for before");
        let (mut seq, mut last) = (log.from_size, None::<Time>);
        // Entries left out: before the first shown, and behind the last shown.
        let (mut shown, mut before, mut behind) = (false, 0_u64, 0_u64);
        while let Some(line) = lines.next(archive.source)? {
            let line = line.to_vec();
            let leaf = match read_line(&line, seq) {
                Ok(leaf) => leaf,
                Err(reason) => return Err(self.stop("events", reason)),
            };
            let hash = match &leaf {
                Line::Hash(hash) => *hash,
                Line::Leaf(_) => leaf_hash(&line),
            };
            if extension.append(hash).is_err() {
                return Err(self.stop("events", format!("entry {seq} is more than the log has")));
            }
            match leaf {
                Line::Hash(_) if shown => behind += 1,
                Line::Hash(_) => before += 1,
                Line::Leaf(leaf) => {
                    let time = strict::time(&leaf.time);
                    let Some(time) = time.filter(|it| from <= *it && *it < to) else {
                        return Err(self.stop(
                            "events",
                            format!("entry {seq} stands in full, yet outside of the period"),
                        ));
                    };
                    if last.is_some_and(|it| time < it) {
                        return Err(self.stop("events", format!("time runs back at entry {seq}")));
                    }
                    if whole && behind > 0 {
                        return Err(self.stop(
                            "events",
                            format!("{behind} entries of the period before entry {seq} are left out"),
                        ));
                    }
                    last = Some(time);
                    shown = true;
                    self.events += 1;
                    *progress.counts.entry(leaf.kind.clone()).or_insert(0) += 1;
                    self.event(archive, &line, &leaf, log, history, keys, progress)?;
                }
            }
            seq += 1;
        }
        if extension.finish().is_err() {
            return Err(self.stop(
                "events",
                format!(
                    "the {} lines are not the log's entries between the two checkpoints: one was changed, left out, added or moved",
                    seq - log.from_size
                ),
            ));
        }
        if progress.counts != manifest.predicate.counts {
            return Err(self.stop("events", "the manifest counts other events than there are"));
        }
        self.checks.push(pass(
            "events",
            format!(
                "all {} entries between the checkpoints are accounted for, {} in full and {} by their hash",
                seq - log.from_size,
                self.events,
                seq - log.from_size - self.events
            ),
        ));
        if whole && before + behind > 0 {
            self.not_shown.push(format!(
                "that the {before} entries before the first one shown and the {behind} behind the last are outside of the period: only their hashes are here"
            ));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what one event is checked against")]
    fn event<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        line: &[u8],
        leaf: &Leaf<'_>,
        log: &Log,
        history: &[Entry],
        keys: &[PublicKey],
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let Ok(data) = leaf.data.object("data") else {
            return Ok(());
        };
        let digest = |name: &str| data.digest(name).ok();
        let named = match leaf.kind.as_str() {
            "policy.activated" => vec![digest("sha256")],
            "person.enrolled" | "passkey.added" => {
                progress.enrolments.insert(leaf.seq, Digest::of(line));
                vec![digest("attestation_sha256")]
            }
            "request.opened" => vec![digest("opening_sha256"), digest("policy_sha256")],
            "request.shortened" => vec![digest("policy_sha256")],
            "proposal.made" => vec![
                data.object("change")
                    .ok()
                    .and_then(|it| it.digest("document").ok()),
            ],
            "proposal.confirmed" => vec![digest("evidence_sha256")],
            "blob.erased" => vec![digest("stub_sha256")],
            _ => Vec::new(),
        };
        progress.named_blobs.extend(named.into_iter().flatten());
        let request = data.text("request").ok();
        if leaf.kind == "decision.recorded" {
            if let (Some(request), Some(credential)) = (request, digest("credential_sha256")) {
                let decision = (credential, leaf.seq, Digest::of(line));
                progress
                    .pending
                    .entry(request.to_owned())
                    .or_default()
                    .push(decision);
            }
        } else if let (Some(request), Some(outcome)) = (request, digest("outcome_sha256")) {
            let decisions = progress.pending.remove(request).unwrap_or_default();
            self.outcome(
                archive, line, request, outcome, decisions, log, history, keys, progress,
            )?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what one outcome is checked against")]
    fn outcome<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        line: &[u8],
        request: &str,
        wanted: Digest,
        decisions: Vec<(Digest, u64, Digest)>,
        log: &Log,
        history: &[Entry],
        keys: &[PublicKey],
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let mut given = Vec::new();
        for (credential, seq, leaf) in decisions {
            given.extend(self.credential(
                archive,
                credential,
                Some((seq, leaf)),
                log,
                history,
                keys,
                progress,
            )?);
        }
        let name = format!("{}{}.dsse.json", names::OUTCOMES, visible(request));
        let Some(index) = archive.directory.find(&name) else {
            if self.erased.contains_key(&wanted) {
                progress.outcomes_gone += 1;
                return Ok(());
            }
            progress.outcomes.fail(format!("{} is missing", told(&name)));
            return Ok(());
        };
        progress.ended.insert(index);
        if archive.digests[index] != wanted {
            progress
                .outcomes
                .fail(format!("{} is not the one that the journal names", told(&name)));
            return Ok(());
        }
        let file = archive.file(&name, PROOF_FILE_BYTES_MAX)?.unwrap_or_default();
        let journal = Journal {
            event: line,
            proof: None,
        };
        let trust = Trust { keys, log_keys: &[] };
        let (report, verified) = document(&file, &trust, &Expect::default(), Some(&journal));
        let Some(verified) = verified else {
            let reason = report.checks.into_iter().find(|it| !it.ok).map(|it| it.detail);
            progress
                .outcomes
                .fail(format!("{}: {}", told(&name), reason.unwrap_or_default()));
            return Ok(());
        };
        let Body::Outcome { outcome, .. } = &verified.body else {
            progress
                .outcomes
                .fail(format!("{} is not an outcome", told(&name)));
            return Ok(());
        };
        progress.named_blobs.insert(outcome.policy_sha256);
        let seq = verified.seq.unwrap_or_default();
        self.position(
            &verified.keyid,
            seq,
            history,
            &told(&name),
            &mut progress.outcomes,
        );
        let named: BTreeSet<&String> = outcome
            .obligations
            .iter()
            .flat_map(|it| &it.credentials)
            .collect();
        for id in named {
            let digest = id.strip_prefix("crd_").and_then(Digest::parse);
            let here = |it: &Verified| Some(it.file_sha256) == digest;
            if given.iter().any(here) {
                continue;
            }
            if let Some(digest) = digest {
                given.extend(self.credential(archive, digest, None, log, history, keys, progress)?);
            }
        }
        let given: Vec<&Verified> = given.iter().collect();
        for check in together(&verified, &given, true).into_iter().filter(|it| !it.ok) {
            progress
                .outcomes
                .fail(format!("{}: {}", told(&name), check.detail));
        }
        self.outcomes += 1;
        Ok(())
    }

    /// One credential with its event, proof and wrapping. `event` is where the events have it.
    #[expect(clippy::too_many_arguments, reason = "what one credential is checked against")]
    fn credential<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        digest: Digest,
        event: Option<(u64, Digest)>,
        log: &Log,
        history: &[Entry],
        keys: &[PublicKey],
        progress: &mut Progress,
    ) -> Result<Option<Verified>, Stop> {
        let base = format!("{}crd_{digest}", names::CREDENTIALS);
        let mut files = Vec::new();
        let here = |it: &&str| archive.directory.find(&format!("{base}{it}")).is_some();
        if self.erased.contains_key(&digest) && !CREDENTIAL_ENDINGS.iter().any(here) {
            progress.credentials_gone += 1;
            return Ok(None);
        }
        for ending in CREDENTIAL_ENDINGS {
            match archive.file(&format!("{base}{ending}"), PROOF_FILE_BYTES_MAX)? {
                Some(file) => files.push(file),
                None => {
                    progress.credentials.fail(format!("{base}{ending} is missing"));
                    return Ok(None);
                }
            }
        }
        let [file, leaf, sigstore, proof] = files.as_slice() else {
            return Ok(None);
        };
        if let Some(index) = archive.directory.find(&format!("{base}.dsse.json")) {
            progress.seen.insert(index);
        }
        let checked = (|| {
            if Digest::of(file) != digest {
                return Err("its name is not its digest".to_owned());
            }
            let trust = Trust { keys, log_keys: &[] };
            let journal = Journal {
                event: leaf,
                proof: None,
            };
            let (report, verified) = document(file, &trust, &Expect::default(), Some(&journal));
            let Some(verified) = verified else {
                let reason = report.checks.into_iter().find(|it| !it.ok);
                return Err(reason.map_or_else(String::new, |it| it.detail));
            };
            let seq = verified.seq.ok_or("its event does not agree with it")?;
            match event {
                Some((at, sha256)) if at != seq || sha256 != Digest::of(leaf) => {
                    return Err("its event is not the one in the journal".to_owned());
                }
                None if seq >= log.from_size => {
                    return Err("the journal shows no such decision at its event's place".to_owned());
                }
                _ => {}
            }
            let proof = Proof::parse(proof).map_err(|e| visible(&e.to_string()))?;
            if proof.checkpoint() != log.to_note || proof.index() != seq {
                return Err("its proof is over another checkpoint or entry".to_owned());
            }
            verify_inclusion(&leaf_hash(leaf), seq, log.to_size, proof.hashes(), &log.to_root)
                .map_err(|e| format!("its proof: {e}"))?;
            if sigstore_wrapping(file, &verified.keyid) != *sigstore {
                return Err("its Sigstore wrapping does not hold the same envelope".to_owned());
            }
            Ok((verified, seq))
        })();
        let (verified, seq) = match checked {
            Ok(checked) => checked,
            Err(reason) => {
                progress.credentials.fail(format!("crd_{digest}: {reason}"));
                return Ok(None);
            }
        };
        self.position(
            &verified.keyid,
            seq,
            history,
            &format!("crd_{digest}"),
            &mut progress.credentials,
        );
        if let Body::Credential { credential, .. } = &verified.body {
            progress.named_blobs.insert(credential.policy_sha256);
            let instance = credential
                .issuer_instance
                .strip_prefix("urn:uuid:")
                .unwrap_or_default();
            let named = instance_of(&log.origin);
            if named.is_none_or(|it| !instance.starts_with(it)) {
                progress
                    .credentials
                    .fail(format!("crd_{digest}: it is from another instance than the log"));
            }
            match &credential.evidence {
                Evidence::Totp { .. } => progress.server_attested += 1,
                Evidence::Webauthn(webauthn) => {
                    let person = credential.approver_id.clone();
                    if let Err(reason) = self.enrolment(archive, webauthn, &person, log, progress)? {
                        progress.credentials.fail(format!("crd_{digest}: {reason}"));
                    }
                }
            }
        }
        self.credentials += 1;
        Ok(Some(verified))
    }

    /// That the key which signed a file counted at that place of the journal.
    fn position(&self, keyid: &str, seq: u64, history: &[Entry], what: &str, many: &mut Many) {
        match history.iter().find(|it| it.keyid == keyid) {
            Some(key) if key.from_seq <= seq && key.until_seq.is_none_or(|it| seq < it) => {}
            Some(key) => many.fail(format!(
                "{what}: signed by key {} at entry {seq}, where it did not count (from {} {})",
                key.keyid,
                key.from_seq,
                key.until_seq
                    .map_or_else(|| "on".to_owned(), |it| format!("until {it}"))
            )),
            None => many.fail(format!("{what}: signed by a key the history does not know")),
        }
    }

    /// That the passkey is the approver's, as its enrolment event says.
    fn enrolment<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        webauthn: &Webauthn,
        person: &str,
        log: &Log,
        progress: &mut Progress,
    ) -> Result<Result<(), String>, Stop> {
        let digest = webauthn.enrolment_sha256;
        let seq = webauthn.enrolment_event;
        if let Some(seen) = progress.enrolments.get(&seq)
            && *seen != digest
        {
            return Ok(Err(format!("its passkey was not enrolled by the event at {seq}")));
        }
        if seq >= log.to_size {
            return Ok(Err("its passkey was enrolled after it was used".into()));
        }
        if !progress.enrolled.contains_key(&digest) {
            let blob = archive.file(&format!("{}{digest}", names::BLOBS), PROOF_FILE_BYTES_MAX)?;
            let Some(blob) = blob else {
                progress.no_enrolment += 1;
                return Ok(Ok(()));
            };
            progress.named_blobs.insert(digest);
            progress.enrolled.insert(digest, read_enrolment(&blob));
        }
        let enrolment = match &progress.enrolled[&digest] {
            Ok(enrolment) => enrolment,
            Err(reason) => return Ok(Err(format!("the enrolment of its passkey: {reason}"))),
        };
        let same = enrolment.seq == seq
            && enrolment.person == person
            && enrolment.credential_id == URL_SAFE_NO_PAD.encode(&webauthn.credential_id)
            && enrolment.spki_sha256 == Digest::of(&webauthn.public_key_spki);
        Ok(match same {
            true => Ok(()),
            false => Err("its passkey was enrolled for somebody else, or is another".into()),
        })
    }

    /// Decisions of requests that have not ended, and files that no event names.
    fn rest<S: Read + Seek>(
        &mut self,
        archive: &mut Archive<'_, S>,
        log: &Log,
        history: &[Entry],
        keys: &[PublicKey],
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let mut left: Vec<(Digest, u64, Digest)> = std::mem::take(&mut progress.pending)
            .into_values()
            .flatten()
            .collect();
        left.sort_by_key(|(_, seq, _)| *seq);
        for (digest, seq, leaf) in left {
            self.credential(archive, digest, Some((seq, leaf)), log, history, keys, progress)?;
        }
        for (index, name) in archive.directory.below(names::CREDENTIALS) {
            if name.ends_with(".dsse.json") && !progress.seen.contains(&index) {
                let name = told(name);
                progress
                    .credentials
                    .fail(format!("{name}: no decision or outcome shown here names it"));
            }
        }
        let expected = progress.seen.len() * CREDENTIAL_ENDINGS.len();
        let found = archive.directory.below(names::CREDENTIALS).count();
        if found > expected && progress.credentials.failures.is_empty() {
            progress
                .credentials
                .fail(format!("{} files belong to no credential", found - expected));
        }
        for (index, name) in archive.directory.below(names::OUTCOMES) {
            if !progress.ended.contains(&index) {
                let name = told(name);
                progress
                    .outcomes
                    .fail(format!("{name}: no event shown here names it"));
            }
        }
        let credentials = std::mem::replace(&mut progress.credentials, Many::new("credentials"));
        self.checks.extend(credentials.into_checks(format!(
            "{} credentials: the appliance's signature, the person's passkey over the exact subject, event and inclusion in the log",
            self.credentials
        )));
        let outcomes = std::mem::replace(&mut progress.outcomes, Many::new("outcomes"));
        self.checks.extend(outcomes.into_checks(format!(
            "{} outcomes: signature, event, and the credentials that filled each obligation",
            self.outcomes
        )));
        Ok(())
    }

    fn blobs<S: Read + Seek>(&mut self, archive: &Archive<'_, S>, progress: &Progress) {
        let mut many = Many::new("blobs");
        let elsewhere = progress
            .named_blobs
            .iter()
            .filter(|it| !self.erased.contains_key(*it));
        let (mut count, mut missing) = (0_u64, elsewhere.count() as u64);
        for (index, name) in archive.directory.below(names::BLOBS) {
            count += 1;
            let named = name.strip_prefix(names::BLOBS).and_then(Digest::parse);
            if named != Some(archive.digests[index]) {
                many.fail(format!("{}: its name is not its digest", told(name)));
            } else if named.is_some_and(|it| progress.named_blobs.contains(&it)) {
                missing -= u64::from(!named.is_some_and(|it| self.erased.contains_key(&it)));
            } else {
                many.fail(format!("{}: nothing shown here names it", told(name)));
            }
        }
        self.checks
            .extend(many.into_checks(format!("{count} blobs, each by its digest and named by an event")));
        if missing > 0 {
            self.not_shown.push(format!(
                "{missing} documents that events name by digest only: they are not part of this bundle, or were erased"
            ));
        }
    }

    fn limits(&mut self, manifest: &Manifest, log: &Log, progress: &Progress) {
        if !manifest.predicate.filter.is_empty() {
            self.not_shown.push(
                "what the entries that the filter left out are: only their hashes are here, so that none can be missing"
                    .into(),
            );
        }
        if progress.credentials_gone + progress.outcomes_gone > 0 {
            self.not_shown.push(format!(
                "what {} decisions and {} outcomes said beyond their entries, and that persons signed them: their documents were erased",
                progress.credentials_gone, progress.outcomes_gone
            ));
        }
        if log.from_size > 0 {
            self.not_shown.push(format!(
                "the {} entries before {}: this bundle begins after them",
                log.from_size,
                names::CHECKPOINT_FROM
            ));
        }
        if progress.no_enrolment > 0 {
            self.not_shown.push(format!(
                "whose the passkeys of {} credentials are: their enrolment is named by digest only",
                progress.no_enrolment
            ));
        }
        if progress.server_attested > 0 {
            self.not_shown.push(format!(
                "that the persons of {} one-time-code decisions agreed to their subjects: a code binds nothing, so it is the appliance's word",
                progress.server_attested
            ));
        }
        self.not_shown.extend([
            format!(
                "that {} and {} say what the signed statements say: the appliance signed them as files, no person did",
                names::REPORT,
                names::APPROVALS
            ),
            "that everybody is shown the same log: compare checkpoint-to with one that somebody else kept".into(),
            "times beyond the appliance's word".into(),
            "that the keys you gave are the appliance's: take them from somewhere else than this bundle".into(),
        ]);
    }
}

/// The checkpoint that proofs of erasures are over, shown to continue the bundle's own.
fn erasures_checkpoint(note: &[u8], consistency: &[u8], log: &Log) -> Result<Checkpoint, String> {
    let (checkpoint, _) = Checkpoint::open(note, &log.keys)
        .map_err(|e| format!("{}: {}", names::ERASURES_CHECKPOINT, visible(&e.to_string())))?;
    if !same_log(checkpoint.origin(), &log.origin) {
        return Err(format!("{} is of another log", names::ERASURES_CHECKPOINT));
    }
    let hashes: Option<Vec<Hash>> = std::str::from_utf8(consistency)
        .ok()
        .and_then(|it| it.lines().map(Hash::from_base64).collect());
    let hashes = hashes.ok_or_else(|| format!("{} is not one hash a line", names::ERASURES_CONSISTENCY))?;
    verify_consistency(
        log.to_size,
        &log.to_root,
        checkpoint.size(),
        checkpoint.root(),
        &hashes,
    )
    .map_err(|e| format!("the log was not only appended to until the erasures: {e}"))?;
    Ok(checkpoint)
}

/// What one entry says was erased: of which request, and the documents' digests.
fn read_erasure(
    seq: u64,
    event: &[u8],
    proof: &[u8],
    note: &[u8],
    checkpoint: &Checkpoint,
) -> Result<(String, Vec<Digest>), String> {
    let leaf = leaf::parse(event).map_err(|e| visible(&e.to_string()))?;
    if leaf.seq != seq || leaf.kind != "blob.erased" {
        return Err("it is not that of an erasure".into());
    }
    let proof = Proof::parse(proof).map_err(|e| visible(&e.to_string()))?;
    if proof.checkpoint().as_bytes() != note || proof.index() != seq {
        return Err("its proof is over something else".into());
    }
    verify_inclusion(
        &leaf_hash(event),
        seq,
        checkpoint.size(),
        proof.hashes(),
        checkpoint.root(),
    )
    .map_err(|e| format!("its proof: {e}"))?;
    let shown = |e: strict::StrictError| visible(&e.to_string());
    let data = leaf.data.object("data").map_err(shown)?;
    let request = data.text("request").map_err(shown)?.to_owned();
    let documents = data.list("documents").map_err(shown)?.iter();
    let digests = documents.map(|it| it.object("document")?.digest("sha256"));
    Ok((request, digests.collect::<Result<_, _>>().map_err(shown)?))
}

/// The name of a credential key's file.
pub fn pem_name(keyid: &str) -> String {
    format!("keys/credential-{}.pem", keyid.get(..16).unwrap_or(keyid))
}

/// The ids of the key before and of `entry`, if `blob` is its introduction and the key before still counted then.
fn introduced_by(blob: &[u8], entry: &Entry, history: &[Entry]) -> Option<[String; 2]> {
    let before = Envelope::parse(blob).ok()?.keyid().to_owned();
    let by = history
        .iter()
        .find(|it| it.keyid == before && it.r#use == entry.r#use)?;
    let counted = by.until_seq.is_none_or(|until| entry.from_seq <= until);
    check_introduction(blob, entry, &by.public_key().ok()?).ok()?;
    counted.then(|| [before, entry.keyid.clone()])
}

/// Whether two origins are epochs of the same log: all but the epoch, and the host, which may change between epochs.
fn same_log(one: &str, other: &str) -> bool {
    matches!((instance_of(one), instance_of(other)), (Some(one), Some(other)) if one == other)
}

/// The first digits of the instance's UUID in an origin `<host>/log/<8 hex>/<epoch>`.
fn instance_of(origin: &str) -> Option<&str> {
    let mut parts = origin.rsplitn(4, '/');
    parts.next()?;
    let instance = parts.next()?;
    (parts.next()? == "log" && instance.len() == 8).then_some(instance)
}

/// A line of `events.jsonl`.
enum Line<'a> {
    Leaf(Box<Leaf<'a>>),
    Hash(Hash),
}

fn read_line(line: &[u8], seq: u64) -> Result<Line<'_>, String> {
    let here = |reason: &str| format!("line {}: {reason}", seq);
    if let Some(rest) = line.strip_prefix(format!("{{\"seq\":{seq},\"leaf_hash\":\"").as_bytes()) {
        let hash = rest
            .strip_suffix(b"\"}")
            .and_then(|it| std::str::from_utf8(it).ok())
            .and_then(Hash::from_hex);
        return hash.map(Line::Hash).ok_or_else(|| here("not a leaf's hash"));
    }
    let leaf = leaf::parse(line).map_err(|e| here(&visible(&e.to_string())))?;
    if leaf.seq != seq {
        return Err(here(&format!("entry {} stands where {seq} belongs", leaf.seq)));
    }
    Ok(Line::Leaf(Box::new(leaf)))
}

fn read_enrolment(blob: &[u8]) -> Result<Enrolment, String> {
    let leaf = leaf::parse(blob).map_err(|e| visible(&e.to_string()))?;
    if !matches!(leaf.kind.as_str(), "person.enrolled" | "passkey.added") {
        return Err("the event is not an enrolment".into());
    }
    let seen = |e: strict::StrictError| visible(&e.to_string());
    let data = leaf.data.object("data").map_err(seen)?;
    Ok(Enrolment {
        seq: leaf.seq,
        person: data.text("person").map_err(seen)?.to_owned(),
        credential_id: data.text("credential_id").map_err(seen)?.to_owned(),
        spki_sha256: data.digest("spki_sha256").map_err(seen)?,
    })
}
