//! The offline verifier of credentials, outcomes, journal events and log proofs. It trusts the keys it is handed and
//! nothing else: no server, no clock, no file. What it can't show, it says.

use crate::domain::ids::{Digest, RequestId};
use crate::domain::request::Answer;
use crate::domain::text::visible;
use crate::domain::time::Time;
use crate::evidence::credential::{
    APPROVAL_TYPE, Credential, Evidence, Method, STATEMENT_TYPE, Webauthn, grade,
};
use crate::evidence::dsse::{Envelope, PAYLOAD_TYPE, PublicKey};
use crate::evidence::intent::{ParsedIntent, challenge};
use crate::evidence::leaf;
use crate::evidence::outcome::{OUTCOME_TYPE, Obligation, Outcome, OutcomeStatement};
use crate::evidence::receipt::Receipt;
use crate::evidence::sentence::{Signed, sentence};
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use crate::evidence::subject::Subject;
use crate::evidence::webauthn::{Assertion, WebauthnEvidence, verify_assertion};
use crate::tlog::{Proof, VerifierKey};
use serde::Serialize;
use std::collections::BTreeSet;

/// Most that a decision's time and its event's may differ, in milliseconds.
const EVENT_DISTANCE_MS: u64 = 300_000;
/// Clocks may step back this far between two entries without the order of times being doubted, in milliseconds.
const CLOCK_STEP_MS: i64 = 2_000;

/// What no proof in one's own hand can show.
const SAME_LOG: &str =
    "that everybody sees the same log: compare the proof's checkpoint with one from elsewhere";

/// One thing that was checked, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    /// A sentence for people; text from the document stands in it with its invisible characters escaped.
    pub detail: String,
}

/// What came out: valid if, and only if, there was something to check and all checks passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub valid: bool,
    /// In the order in which they were made. After a failure nothing that depends on it is checked.
    pub checks: Vec<Check>,
    /// What a reader might believe to be shown, and is not.
    pub not_shown: Vec<String>,
    /// The whole in one sentence. Absent unless valid.
    pub verdict: Option<String>,
}

/// The keys that are trusted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// Credential keys: a file's one signature must be by one of them.
    pub keys: &'a [PublicKey],
    /// Log keys, one an epoch: a proof's checkpoint must be signed by one of them.
    pub log_keys: &'a [VerifierKey],
}

/// What a document must be about, where the caller knows. All that is given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect<'a> {
    pub commit: Option<&'a str>,
    pub action: Option<&'a str>,
    pub environment: Option<&'a str>,
    pub project: Option<&'a str>,
    pub request: Option<&'a str>,
    /// Digest of the metadata the request was opened with. Whoever put a random number into it knows by this that the
    /// document belongs to that very request, whatever the server says.
    pub claimed: Option<Digest>,
    /// An outcome that has expired by this instant is refused.
    pub at: Option<Time>,
}

/// The journal's event of a document, and the proof that the log holds it.
#[derive(Clone, Copy, Debug)]
pub struct Journal<'a> {
    /// The leaf's exact bytes.
    pub event: &'a [u8],
    /// A C2SP tlog-proof.
    pub proof: Option<&'a [u8]>,
}

/// A document that passed every check made of it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Digest of the file's bytes.
    pub file_sha256: Digest,
    /// The key that signed it.
    pub keyid: String,
    /// The place in the journal of the event that names it, where the event was given and agrees.
    pub seq: Option<u64>,
    pub body: Body,
}

/// What kind of document it is.
#[derive(Clone, Debug)]
pub enum Body {
    Credential {
        credential: Box<Credential>,
        intent: Box<ParsedIntent>,
    },
    Outcome {
        outcome: Box<OutcomeStatement>,
        subject: Box<Subject>,
    },
}

impl Verified {
    /// The approval request it belongs to.
    pub fn request(&self) -> &str {
        match &self.body {
            Body::Credential { credential, .. } => &credential.request,
            Body::Outcome { outcome, .. } => &outcome.request,
        }
    }
}

/// Verifies one file, a credential or an outcome, and its journal event and proof where they are given.
/// The document itself comes back only when everything passed.
pub fn document(
    file: &[u8],
    trust: &Trust<'_>,
    expect: &Expect<'_>,
    journal: Option<&Journal<'_>>,
) -> (Report, Option<Verified>) {
    let mut checks = Checks::default();
    let opened = checks.open(file, trust);
    let mut verified = opened.and_then(|(statement, keyid)| {
        let body = checks.body(&statement, &keyid, expect)?;
        Some(Verified {
            file_sha256: Digest::of(file),
            keyid,
            seq: None,
            body,
        })
    });
    if let Some(verified) = &mut verified {
        let proven = checks.journal(verified, trust, journal);
        let key = trust.keys.iter().find(|it| verified.keyid == it.id());
        if let Some(counts) = key.and_then(PublicKey::counts) {
            checks.key_period(counts, proven);
        }
    }
    let report = checks.report();
    let verified = verified.filter(|_| report.valid);
    (report, verified)
}

/// Verifies one file by itself, a credential or an outcome, against the trusted credential keys.
pub fn envelope(file: &[u8], keys: &[PublicKey]) -> Report {
    document(file, &Trust { keys, log_keys: &[] }, &Expect::default(), None).0
}

/// Verifies an approval as a whole: the outcome says approved or skipped, and every credential it names is there, valid
/// and fills its place. For a pipeline that must not go on otherwise.
pub fn approval(outcome: &[u8], credentials: &[&[u8]], trust: &Trust<'_>, expect: &Expect<'_>) -> Report {
    let alone: Vec<_> = credentials.iter().map(|it| (*it, None)).collect();
    whole(outcome, &alone, trust, expect)
}

/// Verifies a receipt: the approval in it as a whole, of the request and the metadata it names, and, where a log key is
/// trusted, that the log holds each decision.
pub fn receipt(bytes: &[u8], trust: &Trust<'_>, expect: &Expect<'_>) -> Report {
    let receipt = match Receipt::parse(bytes) {
        Ok(receipt) => receipt,
        Err(error) => {
            let mut checks = Checks::default();
            checks.add("receipt", Err(visible(&error.to_string())));
            return checks.report();
        }
    };
    let own = Expect {
        request: Some(receipt.request.as_str()),
        claimed: Some(Digest::of(&receipt.claimed)),
        ..*expect
    };
    let credentials: Vec<_> = receipt
        .credentials
        .iter()
        .map(|it| {
            let proof = (!trust.log_keys.is_empty()).then_some(it.proof.as_slice());
            let journal = Journal {
                event: &it.event,
                proof,
            };
            (it.credential.as_slice(), Some(journal))
        })
        .collect();
    let mut report = whole(&receipt.outcome, &credentials, trust, &own);
    let (mut checks, mut result) = (Vec::new(), Ok("one approval with its credentials".to_owned()));
    if let Some(wanted) = expect.request.filter(|it| *it != receipt.request.as_str()) {
        result = Err(format!("it is not of {}", visible(wanted)));
    }
    if let Some(wanted) = expect.claimed.filter(|it| *it != Digest::of(&receipt.claimed)) {
        result = Err(format!("its metadata is not that of digest {wanted}"));
    }
    let ok = result.is_ok();
    checks.push(Check {
        name: "receipt",
        ok,
        detail: result.unwrap_or_else(|it| it),
    });
    checks.append(&mut report.checks);
    report.checks = checks;
    report.valid &= ok;
    if !report.valid {
        report.verdict = None;
    }
    report
}

fn whole(
    outcome: &[u8],
    credentials: &[(&[u8], Option<Journal<'_>>)],
    trust: &Trust<'_>,
    expect: &Expect<'_>,
) -> Report {
    let (mut report, verified) = document(outcome, trust, expect, None);
    let Some(verified) = verified else { return report };
    let mut given = Vec::new();
    for (file, journal) in credentials {
        let (other, verified) = document(file, trust, expect, journal.as_ref());
        report.checks.extend(other.checks);
        report.valid &= other.valid;
        given.extend(verified);
    }
    let mut checks = Checks::default();
    if let Body::Outcome { outcome, .. } = &verified.body {
        let through = matches!(outcome.outcome, Outcome::Approved | Outcome::Skipped);
        let word = outcome.outcome.word();
        checks.add(
            "granted",
            if through {
                Ok(format!("the request was {word}"))
            } else {
                Err(word.to_owned())
            },
        );
    } else {
        checks.add("granted", Err("the file is not an outcome".into()));
    }
    checks
        .list
        .extend(together(&verified, &given.iter().collect::<Vec<_>>(), true));
    report.valid &= checks.list.iter().all(|it| it.ok);
    report.checks.extend(checks.list);
    if !report.valid {
        report.verdict = None;
    }
    report
}

/// Verifies a journal event that stands for itself, by its proof alone.
pub fn event(event: &[u8], proof: &[u8], trust: &Trust<'_>) -> Report {
    let mut checks = Checks::default();
    let leaf = leaf::parse(event).map_err(|e| visible(&e.to_string()));
    let seq = leaf.as_ref().ok().map(|it| it.seq);
    let said = leaf.map(|it| {
        format!(
            "journal event {}, `{}`, at {}",
            it.seq,
            visible(&it.kind),
            it.time
        )
    });
    checks.add("event", said);
    if let Some(seq) = seq {
        checks.add("inclusion", inclusion(seq, event, proof, trust.log_keys));
        checks.not_shown.push(SAME_LOG.into());
    }
    checks.report()
}

/// Checks an outcome against credentials of its request: same subject, each named by it, and, once all it names are
/// there (or `complete` demands that they are), that they fill every obligation.
pub fn together(outcome: &Verified, credentials: &[&Verified], complete: bool) -> Vec<Check> {
    let mut checks = Checks::default();
    let Body::Outcome {
        outcome: statement, ..
    } = &outcome.body
    else {
        checks.add("outcome", Err("the file is not an outcome".into()));
        return checks.list;
    };
    let mut given = Vec::new();
    for verified in credentials {
        let Body::Credential { credential, intent } = &verified.body else {
            checks.add(
                "named",
                Err("an outcome stands where a credential belongs".into()),
            );
            continue;
        };
        let id = format!("crd_{}", verified.file_sha256);
        checks.add("named", named(statement, &id, credential, intent));
        given.push((id, credential.as_ref()));
    }
    let wanted: BTreeSet<&str> = statement
        .obligations
        .iter()
        .flat_map(|it| &it.credentials)
        .map(String::as_str)
        .collect();
    let missing = wanted
        .iter()
        .filter(|id| !given.iter().any(|(it, _)| it == *id))
        .count();
    if missing > 0 && complete {
        checks.add(
            "quorum",
            Err(format!(
                "{missing} of the credentials that the outcome names are missing"
            )),
        );
    } else if missing == 0 && statement.outcome == Outcome::Approved {
        for obligation in &statement.obligations {
            checks.add("quorum", quorum(obligation, &given));
        }
    }
    checks.list
}

/// That the outcome and a credential of the same request speak of the same thing, and the outcome names the credential.
fn named(
    outcome: &OutcomeStatement,
    id: &str,
    credential: &Credential,
    intent: &ParsedIntent,
) -> Result<String, String> {
    if credential.request != outcome.request {
        return Err(format!("{id} belongs to another request than the outcome"));
    }
    if intent.subject_bytes != outcome.subject {
        return Err(format!("{id} and the outcome are about different subjects"));
    }
    let word = outcome.outcome.word();
    let rules: Vec<String> = outcome
        .obligations
        .iter()
        .filter(|it| it.credentials.iter().any(|name| name == id))
        .map(|it| visible(&it.rule))
        .collect();
    match (credential.decision, outcome.outcome) {
        (Answer::Reject, _) if !rules.is_empty() => {
            Err(format!("the outcome counts the rejection {id} as an approval"))
        }
        (Answer::Reject, Outcome::Approved | Outcome::Skipped) => {
            Err(format!("{id} rejects what was {word}"))
        }
        (Answer::Approve, Outcome::Approved) if rules.is_empty() => {
            // An approval given before the quorum was met by others, or by somebody who lost the right to it since.
            Ok(format!("{id} approves too; the outcome did not count it"))
        }
        (Answer::Approve, Outcome::Approved) => {
            Ok(format!("the outcome names {id} for {}", rules.join(", ")))
        }
        (_, _) => Ok(format!("{id} belongs to a request that was {word}")),
    }
}

/// That the credentials an obligation names fill it: approvals, by methods it takes, by as many different persons.
fn quorum(obligation: &Obligation, given: &[(String, &Credential)]) -> Result<String, String> {
    let rule = visible(&obligation.rule);
    let mut persons = BTreeSet::new();
    for id in &obligation.credentials {
        let Some((_, credential)) = given.iter().find(|(it, _)| it == id) else {
            return Err(format!("{rule}: {id} is missing"));
        };
        if credential.decision != Answer::Approve {
            return Err(format!("{rule}: {id} is not an approval"));
        }
        if !obligation
            .methods
            .iter()
            .any(|listed| credential.method.satisfies(*listed))
        {
            return Err(format!(
                "{rule}: {} is not a method it takes",
                credential.method.name()
            ));
        }
        if !persons.insert(&credential.approver_id) {
            return Err(format!("{rule}: one person stands in it twice"));
        }
    }
    let counted = u64::try_from(persons.len()).unwrap_or(u64::MAX);
    if counted < obligation.quorum {
        return Err(format!("{rule}: {counted} of {} persons", obligation.quorum));
    }
    Ok(format!(
        "{rule}: {counted} of {} persons approved",
        obligation.quorum
    ))
}

#[derive(Default)]
struct Checks {
    list: Vec<Check>,
    not_shown: Vec<String>,
    verdict: Option<String>,
}

impl Checks {
    fn add(&mut self, name: &'static str, result: Result<String, String>) -> bool {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|it| it);
        self.list.push(Check { name, ok, detail });
        ok
    }

    fn report(self) -> Report {
        let valid = !self.list.is_empty() && self.list.iter().all(|it| it.ok);
        let verdict = self.verdict.filter(|_| valid);
        Report {
            valid,
            checks: self.list,
            not_shown: self.not_shown,
            verdict,
        }
    }

    /// Envelope and signature. The statement's bytes and the key's id, if both hold.
    fn open(&mut self, file: &[u8], trust: &Trust<'_>) -> Option<(Vec<u8>, String)> {
        let envelope = match Envelope::parse(file) {
            Ok(envelope) if envelope.payload_type != PAYLOAD_TYPE => {
                let found = visible(&envelope.payload_type);
                self.add(
                    "envelope",
                    Err(format!("the payload type is `{found}`, not `{PAYLOAD_TYPE}`")),
                );
                return None;
            }
            Ok(envelope) => envelope,
            Err(error) => {
                self.add("envelope", Err(visible(&error.to_string())));
                return None;
            }
        };
        let [signature] = envelope.signatures.as_slice() else {
            self.add(
                "envelope",
                Err(format!("{} signatures instead of one", envelope.signatures.len())),
            );
            return None;
        };
        self.add(
            "envelope",
            Ok("DSSE in its one canonical form, one signature".into()),
        );
        let keyid = signature.keyid.clone();
        let verdict = match trust.keys.iter().find(|it| it.id() == keyid) {
            None => Err(format!("signed by key {keyid}, which is not trusted here")),
            Some(key) => match envelope.verify(key) {
                Ok(()) => Ok(format!("Ed25519 signature by key {keyid}")),
                Err(error) => Err(error.to_string()),
            },
        };
        self.add("signature", verdict)
            .then_some((envelope.payload, keyid))
    }

    fn body(&mut self, statement: &[u8], keyid: &str, expect: &Expect<'_>) -> Option<Body> {
        let read = strict::parse(statement, Space::Refused);
        let typed = read.and_then(|it| predicate_type(&it).map(|kind| (kind, it)));
        match typed.as_ref().map(|(kind, it)| (kind.as_str(), it)) {
            Ok((APPROVAL_TYPE, statement)) => self.credential(statement, keyid, expect),
            Ok((OUTCOME_TYPE, statement)) => self.outcome(statement, keyid, expect),
            Ok((other, _)) => {
                let other = visible(other);
                self.add(
                    "statement",
                    Err(format!("`{other}` is neither a credential nor an outcome")),
                );
                None
            }
            Err(error) => {
                self.add("statement", Err(visible(&error.to_string())));
                None
            }
        }
    }

    fn credential(
        &mut self,
        statement: &strict::Value<'_>,
        keyid: &str,
        expect: &Expect<'_>,
    ) -> Option<Body> {
        let credential = match Credential::read(statement) {
            Ok(credential) => credential,
            Err(error) => {
                self.add("statement", Err(visible(&error.to_string())));
                return None;
            }
        };
        self.add(
            "statement",
            Ok("an approval credential (in-toto Statement v1)".into()),
        );
        let intent = match parsed_intent(&credential) {
            Ok(intent) => intent,
            Err(error) => {
                self.add("intent", Err(visible(&error)));
                return None;
            }
        };
        let subject = &intent.subject;
        self.add(
            "intent",
            Ok(format!("the intent's digest is {}", credential.intent_sha256)),
        );
        self.add(
            "subject",
            Ok(format!(
                "{} {}, {} {}",
                subject.kind,
                visible(&subject.name),
                subject.digest.0,
                subject.digest.1
            )),
        );
        self.add("agreement", agreement(&credential, &intent));
        self.add("method", honest_method(&credential));
        match &credential.evidence {
            Evidence::Webauthn(webauthn) => {
                self.add("passkey", passkey(&credential, webauthn));
            }
            Evidence::Totp { step, period, digits } => {
                self.add("totp", totp(&credential, *step, *period, *digits));
            }
        }
        self.add("times", times(&credential, &intent));
        self.expected(expect, subject, &credential.digests, &credential.request);
        self.credential_limits(&credential);
        self.verdict = Some(sentence(&Signed {
            what: &subject.name,
            answer: credential.decision,
            by: &credential.approver_name,
            method: credential.method.name(),
            at: &to_the_second(&credential.decided_at),
            key_id: keyid,
            verified: true,
        }));
        Some(Body::Credential {
            credential: Box::new(credential),
            intent: Box::new(intent),
        })
    }

    fn credential_limits(&mut self, credential: &Credential) {
        match &credential.evidence {
            Evidence::Webauthn(webauthn) => {
                self.not_shown.push(format!(
                    "that the passkey is {}'s: its enrolment is journal event {} (leaf digest {}), which this file only names",
                    visible(&credential.approver_name),
                    webauthn.enrolment_event,
                    webauthn.enrolment_sha256,
                ));
                if credential.method == Method::Biometric {
                    self.not_shown.push(
                        "whether a face, a finger or the device's PIN was used: verified on the device (biometric or device PIN)"
                            .into(),
                    );
                }
            }
            Evidence::Totp { .. } => self.not_shown.push(
                "that the person agreed to this subject: a one-time code binds nothing, so the decision is the appliance's word (server-attested)"
                    .into(),
            ),
        }
        if credential.digests.iter().any(|(name, _)| name == "gitTree") {
            self.not_shown.push(
                "that the tree id belongs to the commit: the approver's signature covers the commit".into(),
            );
        }
        self.not_shown
            .push("the time of the decision beyond the appliance's word".into());
    }

    fn outcome(&mut self, statement: &strict::Value<'_>, keyid: &str, expect: &Expect<'_>) -> Option<Body> {
        let outcome = match OutcomeStatement::read(statement) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.add("statement", Err(visible(&error.to_string())));
                return None;
            }
        };
        self.add("statement", Ok("an outcome (in-toto Statement v1)".into()));
        let subject = match outcome_subject(&outcome) {
            Ok(subject) => subject,
            Err(error) => {
                self.add("subject", Err(visible(&error)));
                return None;
            }
        };
        self.add(
            "subject",
            Ok(format!(
                "{} {}, {} {}",
                subject.kind,
                visible(&subject.name),
                subject.digest.0,
                subject.digest.1
            )),
        );
        self.add("obligations", obligations(&outcome));
        self.add("times", outcome_times(&outcome));
        if let Some(at) = expect.at {
            self.add("unexpired", unexpired(&outcome, at));
        }
        self.expected(expect, &subject, &outcome.digests, &outcome.request);
        if !outcome.obligations.is_empty() {
            self.not_shown.push(
                "the persons' own signatures: they are in the credentials that the outcome names".into(),
            );
        }
        let rules: Vec<String> = outcome.rules.iter().map(|it| visible(it)).collect();
        let by = match outcome.outcome {
            Outcome::Skipped => format!(" by rule {}", rules.join(", ")),
            _ if outcome.obligations.iter().any(|it| it.break_glass) => " by break-glass".to_owned(),
            _ => String::new(),
        };
        self.verdict = Some(format!(
            "{} was {}{by} at {}, signed with Ed25519 key {}…, signature verified",
            visible(&subject.name),
            outcome.outcome.word(),
            to_the_second(&outcome.decided_at),
            &keyid[..6],
        ));
        Some(Body::Outcome {
            outcome: Box::new(outcome),
            subject: Box::new(subject),
        })
    }

    fn expected(
        &mut self,
        expect: &Expect<'_>,
        subject: &Subject,
        digests: &[(String, String)],
        request: &str,
    ) {
        let commit = digests
            .iter()
            .find(|(name, _)| name == "gitCommit")
            .map(|(_, value)| value.as_str());
        let action = (subject.kind != "change").then_some(subject.name.as_str());
        let pairs = [
            ("commit", expect.commit, commit),
            ("action", expect.action, action),
            ("environment", expect.environment, subject.environment.as_deref()),
            ("project", expect.project, subject.project.as_deref()),
            ("request", expect.request, Some(request)),
        ];
        for (what, wanted, found) in pairs {
            let Some(wanted) = wanted else { continue };
            let found_text = found.map_or_else(|| "none".to_owned(), visible);
            self.add(
                "expected",
                match found == Some(wanted) {
                    true => Ok(format!("the {what} is {found_text}")),
                    false => Err(format!("the {what} is {found_text}, not {}", visible(wanted))),
                },
            );
        }
        if let Some(wanted) = expect.claimed {
            self.add(
                "expected",
                match subject.claimed_sha256 == Some(wanted) {
                    true => Ok("it is the request that was opened with this metadata".into()),
                    false => Err("it belongs to a request that was opened with other metadata".into()),
                },
            );
        }
    }

    /// A key whose history is known counts for its own part of the journal alone. While it still counts, a position is
    /// no condition; once it was retired or revoked, only a place in the log shows that it signed in time.
    fn key_period(&mut self, (from, until): (u64, Option<u64>), proven: Option<u64>) {
        let told = match (proven, until) {
            (Some(seq), _) if seq < from || until.is_some_and(|it| seq >= it) => Err(format!(
                "the key does not count for position {seq} of the journal: it counts from {from}{}",
                until.map_or(String::new(), |it| format!(" until before {it}"))
            )),
            (Some(seq), _) => Ok(format!("the key counts for position {seq} of the journal")),
            (None, None) => {
                self.not_shown.push(format!(
                    "that it was signed at position {from} of the journal or later"
                ));
                Ok("the key is the one that signs now".into())
            }
            (None, Some(until)) => Err(format!(
                "the key no longer counts from position {until} of the journal on: the event and its proof must show \
                 that it signed before"
            )),
        };
        self.add("key period", told);
    }

    /// Answers with the position in the log, where a proof shows it.
    fn journal(
        &mut self,
        verified: &mut Verified,
        trust: &Trust<'_>,
        journal: Option<&Journal<'_>>,
    ) -> Option<u64> {
        let Some(journal) = journal else {
            self.not_shown
                .push("inclusion in the log: neither the journal's event nor a proof was given".into());
            return None;
        };
        let event = match &verified.body {
            Body::Credential { credential, intent } => {
                decision_event(journal.event, verified.file_sha256, credential, intent)
            }
            Body::Outcome { outcome, .. } => outcome_event(journal.event, verified.file_sha256, outcome),
        };
        let seq = event.as_ref().ok().copied();
        verified.seq = seq;
        self.add(
            "event",
            event.map(|seq| format!("journal event {seq} names this file and agrees with it")),
        );
        let (Some(seq), Some(proof)) = (seq, journal.proof) else {
            self.not_shown
                .push("inclusion in the log: no proof was given for the event".into());
            return None;
        };
        let shown = self.add("inclusion", inclusion(seq, journal.event, proof, trust.log_keys));
        if shown {
            self.not_shown.push(SAME_LOG.into());
        }
        shown.then_some(seq)
    }
}

/// The request that a credential or outcome says it belongs to, unchecked.
pub fn request_of(file: &[u8]) -> Option<String> {
    let envelope = Envelope::parse(file).ok()?;
    let value = strict::parse(&envelope.payload, Space::Refused).ok()?;
    let statement = value.object("statement").ok()?;
    let predicate = statement.object("predicate").ok()?;
    Some(predicate.text("request").ok()?.to_owned())
}

/// The predicate type of a statement, before its predicate is read.
fn predicate_type(value: &strict::Value<'_>) -> Result<String, StrictError> {
    let statement = value.object("statement")?;
    if statement.text("_type")? != STATEMENT_TYPE {
        return Err(StrictError::Shape("not an in-toto Statement v1".into()));
    }
    Ok(statement.text("predicateType")?.to_owned())
}

fn parsed_intent(credential: &Credential) -> Result<ParsedIntent, String> {
    if Digest::of(&credential.intent) != credential.intent_sha256 {
        return Err("intent.sha256 is not the digest of intent.content".into());
    }
    ParsedIntent::parse(&credential.intent).map_err(|e| e.to_string())
}

/// What stands both in the intent, which the person signed, and outside it, where only the appliance did.
fn agreement(credential: &Credential, intent: &ParsedIntent) -> Result<String, String> {
    let subject = &intent.subject;
    let gate = &credential.gate;
    let requester = format!("{}:{}", credential.requester_kind, credential.requester_id);
    let pairs = [
        ("decision", credential.decision == intent.decision),
        ("meaning", credential.meaning == intent.meaning),
        ("comment", credential.comment == intent.comment),
        ("request", credential.request == intent.request.as_str()),
        ("approver.id", credential.approver_id == intent.person.as_str()),
        ("approver.name", credential.approver_name == intent.person_name),
        ("policy.sha256", credential.policy_sha256 == intent.policy_sha256),
        ("policy.rules", credential.policy_rules == intent.rules),
        ("gate.kind", gate.kind == subject.kind),
        ("gate.targetRef", gate.target_ref == subject.target),
        ("gate.base", gate.base == subject.base),
        ("gate.environment", gate.environment == subject.environment),
        (
            "requester",
            subject.requester.as_ref().is_none_or(|it| *it == requester),
        ),
        (
            "the statement's subject",
            digests_agree(&credential.digests, subject),
        ),
        (
            "times.challengeIssuedAt",
            credential.challenge_issued_at == intent.issued_at,
        ),
    ];
    let differing: Vec<&str> = pairs
        .iter()
        .filter(|(_, same)| !same)
        .map(|(name, _)| *name)
        .collect();
    if differing.is_empty() {
        Ok(format!("{} members agree with the intent", pairs.len()))
    } else {
        Err(format!("not as in the intent: {}", differing.join(", ")))
    }
}

/// The statement names the subject's digest and, beside a commit, at most its tree.
fn digests_agree(digests: &[(String, String)], subject: &Subject) -> bool {
    match digests {
        [one] => *one == subject.digest,
        [one, tree] => *one == subject.digest && one.0 == "gitCommit" && tree.0 == "gitTree",
        _ => false,
    }
}

/// That method, grade and evidence belong together, so that nothing looks stronger than it is.
fn honest_method(credential: &Credential) -> Result<String, String> {
    let method = credential.method;
    let by_passkey = method != Method::Totp;
    if credential.grade != grade(method) {
        return Err(format!(
            "{} is graded `{}`",
            method.name(),
            visible(&credential.grade)
        ));
    }
    if credential.user_verified != by_passkey || credential.authenticator.is_some() != by_passkey {
        return Err(format!(
            "{} with userVerified or authenticator of another method",
            method.name()
        ));
    }
    if matches!(credential.evidence, Evidence::Webauthn(_)) != by_passkey {
        return Err(format!("{} with the evidence of another method", method.name()));
    }
    Ok(format!("{}, {}", method.name(), credential.grade))
}

fn passkey(credential: &Credential, webauthn: &Webauthn) -> Result<String, String> {
    let expected = challenge(&webauthn.nonce, &credential.intent);
    let evidence = WebauthnEvidence {
        rp_id: &webauthn.rp_id,
        origin: &webauthn.origin,
        public_key_spki: &webauthn.public_key_spki,
        authenticator_data: &webauthn.authenticator_data,
        client_data_json: &webauthn.client_data_json,
        signature: &webauthn.signature,
        alg: webauthn.alg,
    };
    let Assertion { flags, .. } = verify_assertion(&evidence, &expected).map_err(|e| e.to_string())?;
    if !is_origin_of(&webauthn.origin, &webauthn.rp_id) {
        return Err("the origin's host does not belong to the relying party".into());
    }
    let told = credential
        .authenticator
        .as_ref()
        .map(|it| (it.backup_eligible, it.backup_state));
    if told != Some((flags.backup_eligible(), flags.backup_state())) {
        return Err("the backup flags are not those the authenticator signed".into());
    }
    Ok(format!(
        "the passkey's signature (algorithm {}) covers this intent, given at {}, user verified",
        webauthn.alg,
        visible(&webauthn.origin),
    ))
}

/// Whether the origin's host is the relying party id or below it (WebAuthn section 5.1.4).
fn is_origin_of(origin: &str, rp_id: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => authority,
    };
    let below = host.strip_suffix(rp_id).is_some_and(|it| it.ends_with('.'));
    !rp_id.is_empty() && (host == rp_id || below)
}

fn totp(credential: &Credential, step: u64, period: u64, digits: u64) -> Result<String, String> {
    if !(1..=300).contains(&period) || !(6..=8).contains(&digits) {
        return Err("period or digits are none a one-time code has".into());
    }
    let decided = strict::time(&credential.decided_at).ok_or("decidedAt is not a time")?;
    let now = u64::try_from(decided.0).map_err(|_| "decided before 1970")? / 1000 / period;
    if now.abs_diff(step) > 1 {
        return Err(format!(
            "time step {step} is not within one of decidedAt's, {now}"
        ));
    }
    Ok(format!(
        "time step {step} fits decidedAt; the code itself is not kept and binds nothing"
    ))
}

fn times(credential: &Credential, intent: &ParsedIntent) -> Result<String, String> {
    let read = |text: &str| {
        strict::time(text)
            .map(|it| it.0)
            .ok_or_else(|| format!("`{}` is not a time", visible(text)))
    };
    let requested = read(&credential.requested_at)?;
    let issued = read(&credential.challenge_issued_at)?;
    let decided = read(&credential.decided_at)?;
    if requested > issued.saturating_add(CLOCK_STEP_MS) || issued > decided.saturating_add(CLOCK_STEP_MS) {
        return Err("requested, shown and decided do not follow each other".into());
    }
    match intent.expires_at.as_deref() {
        None => Ok(format!(
            "decided at {}; the request had no limit",
            credential.decided_at
        )),
        Some(expires) if decided < read(expires)? => Ok(format!(
            "decided at {}, before the request expired at {expires}",
            credential.decided_at
        )),
        Some(_) => Err("decided after the request had expired".into()),
    }
}

fn outcome_subject(outcome: &OutcomeStatement) -> Result<Subject, String> {
    if RequestId::parse(&outcome.request).is_none() {
        return Err("the outcome names no request".into());
    }
    if Digest::of(&outcome.subject) != outcome.subject_sha256 {
        return Err("subject.sha256 is not the digest of subject.content".into());
    }
    let subject = Subject::parse(&outcome.subject).map_err(|e| e.to_string())?;
    if !digests_agree(&outcome.digests, &subject) {
        return Err("the statement's subject is not the subject's digest".into());
    }
    Ok(subject)
}

fn obligations(outcome: &OutcomeStatement) -> Result<String, String> {
    let list = &outcome.obligations;
    let mut rules = BTreeSet::new();
    for obligation in list {
        let rule = visible(&obligation.rule);
        if !rules.insert(&obligation.rule) {
            return Err(format!("{rule} stands twice"));
        }
        let well_formed = |id: &&String| {
            id.strip_prefix("crd_")
                .is_some_and(|it| Digest::parse(it).is_some())
        };
        let distinct: BTreeSet<_> = obligation.credentials.iter().filter(well_formed).collect();
        if distinct.len() != obligation.credentials.len() {
            return Err(format!("{rule} names a credential twice, or none at all"));
        }
        if obligation.quorum == 0 || obligation.methods.is_empty() {
            return Err(format!("{rule} asks for nobody or takes no method"));
        }
        let filled = u64::try_from(distinct.len()).unwrap_or(u64::MAX) >= obligation.quorum;
        if outcome.outcome == Outcome::Approved && !filled {
            return Err(format!("{rule} is not filled, yet the outcome says approved"));
        }
    }
    if list.iter().any(|it| it.break_glass) && list.len() != 1 {
        return Err("a break-glass rule does not stand alone".into());
    }
    match outcome.outcome {
        Outcome::Approved if list.is_empty() => Err("approved under no obligation".into()),
        Outcome::Approved => Ok(format!("{} of {} obligations filled", list.len(), list.len())),
        Outcome::Skipped if outcome.rules.is_empty() || !list.is_empty() => {
            Err("a skip names the rules that allowed it, and no obligation".into())
        }
        Outcome::Skipped => Ok("skipped by rule: nobody approved this".into()),
        other => Ok(format!("the request was {}: nothing was granted", other.word())),
    }
}

fn outcome_times(outcome: &OutcomeStatement) -> Result<String, String> {
    let decided = strict::time(&outcome.decided_at).ok_or("decidedAt is not a time")?;
    let Some(expires) = outcome.expires_at.as_deref() else {
        return Ok(format!("decided at {}, without limit", outcome.decided_at));
    };
    let expires_at = strict::time(expires).ok_or("expiresAt is not a time")?;
    // A request that expires does so at that very instant or after it; a grant must come before.
    if matches!(outcome.outcome, Outcome::Approved | Outcome::Skipped) && decided >= expires_at {
        return Err("granted at or after its own expiry".into());
    }
    Ok(format!("decided at {}, good until {expires}", outcome.decided_at))
}

fn unexpired(outcome: &OutcomeStatement, at: Time) -> Result<String, String> {
    match outcome.expires_at.as_deref() {
        None => Ok("without limit".into()),
        Some(expires) if strict::time(expires).is_some_and(|it| at < it) => {
            Ok(format!("good until {expires}"))
        }
        Some(expires) => Err(format!("expired at {}", visible(expires))),
    }
}

/// That a `decision.recorded` event names this credential and agrees with it. Its position.
fn decision_event(
    event: &[u8],
    file_sha256: Digest,
    credential: &Credential,
    intent: &ParsedIntent,
) -> Result<u64, String> {
    let seen = |e: StrictError| visible(&e.to_string());
    let leaf = leaf::parse(event).map_err(|e| visible(&e.to_string()))?;
    if leaf.kind != "decision.recorded" {
        return Err(format!(
            "the event is `{}`, not `decision.recorded`",
            visible(&leaf.kind)
        ));
    }
    let data = leaf.data.object("event.data").map_err(seen)?;
    let pairs = [
        (
            "credential_sha256",
            data.digest("credential_sha256").map_err(seen)? == file_sha256,
        ),
        (
            "request",
            data.text("request").map_err(seen)? == credential.request,
        ),
        (
            "person",
            data.text("person").map_err(seen)? == credential.approver_id,
        ),
        (
            "decision",
            data.text("decision").map_err(seen)? == credential.decision.name(),
        ),
        (
            "method",
            data.text("method").map_err(seen)? == credential.method.name(),
        ),
        (
            "subject_sha256",
            data.digest("subject_sha256").map_err(seen)? == intent.subject_sha256,
        ),
    ];
    agree_in_time(&pairs, &leaf.time, &credential.decided_at)?;
    Ok(leaf.seq)
}

/// That the event of a request's end names this outcome and agrees with it. Its position.
fn outcome_event(event: &[u8], file_sha256: Digest, outcome: &OutcomeStatement) -> Result<u64, String> {
    let seen = |e: StrictError| visible(&e.to_string());
    let leaf = leaf::parse(event).map_err(|e| visible(&e.to_string()))?;
    let wanted = format!("request.{}", outcome.outcome.word());
    if leaf.kind != wanted {
        return Err(format!("the event is `{}`, not `{wanted}`", visible(&leaf.kind)));
    }
    let data = leaf.data.object("event.data").map_err(seen)?;
    let pairs = [
        (
            "outcome_sha256",
            data.digest("outcome_sha256").map_err(seen)? == file_sha256,
        ),
        ("request", data.text("request").map_err(seen)? == outcome.request),
    ];
    agree_in_time(&pairs, &leaf.time, &outcome.decided_at)?;
    Ok(leaf.seq)
}

fn agree_in_time(pairs: &[(&str, bool)], event_time: &str, decided_at: &str) -> Result<(), String> {
    if let Some((name, _)) = pairs.iter().find(|(_, same)| !same) {
        return Err(format!("the event's {name} is another than the file's"));
    }
    match (strict::time(event_time), strict::time(decided_at)) {
        (Some(event), Some(decided)) if event.0.abs_diff(decided.0) <= EVENT_DISTANCE_MS => Ok(()),
        _ => Err("the event's time and decidedAt are more than 300 s apart".into()),
    }
}

fn inclusion(seq: u64, event: &[u8], proof: &[u8], keys: &[VerifierKey]) -> Result<String, String> {
    if keys.is_empty() {
        return Err("no log key was given to check the proof with".into());
    }
    let proof = Proof::parse(proof).map_err(|e| visible(&e.to_string()))?;
    if proof.index() != seq {
        return Err(format!("the proof is for event {}, not {seq}", proof.index()));
    }
    let checkpoint = proof.verify(event, keys).map_err(|e| visible(&e.to_string()))?;
    Ok(format!(
        "event {seq} is in the log {} of {} entries, whose checkpoint the log key signed",
        visible(checkpoint.origin()),
        checkpoint.size(),
    ))
}

fn to_the_second(text: &str) -> String {
    strict::time(text).map_or_else(|| visible(text), Time::to_the_second)
}
