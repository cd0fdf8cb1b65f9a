//! One request's story as the evidence tells it: what was asked, who decided, what became of it. Made from what never
//! changes any more (openings, credentials, outcomes), so that it reads the same whenever it is told.

use crate::audit::select::{Selection, statement};
use crate::audit::{Error, damaged};
use crate::domain::ids::{Digest, RequestId};
use crate::domain::request::{Answer, Opening, Request, Requester};
use crate::domain::state::{Read, decode};
use crate::domain::time::Time;
use crate::evidence::credential::{Credential, Method};
use crate::evidence::dsse::{Envelope, PublicKey};
use crate::evidence::intent::ParsedIntent;
use crate::evidence::outcome::OutcomeStatement;
use crate::evidence::sentence::{Signed, sentence as told};
use crate::evidence::strict;
use crate::evidence::subject::Subject;
use crate::store::Snapshot;

/// One decision in a story.
#[derive(Clone, Debug)]
pub struct Act {
    pub digest: Digest,
    /// Position of `decision.recorded`.
    pub seq: u64,
    /// The envelope's exact bytes.
    pub file: Vec<u8>,
    pub key_id: String,
    /// The appliance's signature was checked just now, and holds.
    pub verified: bool,
    pub credential: Credential,
    /// What was decided, as the subject calls it.
    pub what: String,
}

impl Act {
    /// Reads a stored credential and checks its signature against `keys`.
    ///
    /// # Errors
    /// When it is missing or can't be read.
    pub fn read(digest: &Digest, seq: u64, keys: &[PublicKey], state: &Snapshot) -> Result<Act, Error> {
        let file = state.blob(digest)?;
        let file = file.ok_or_else(|| damaged(format!("crd_{digest} is missing")))?;
        let unreadable = |e: String| damaged(format!("crd_{digest}: {e}"));
        let envelope = Envelope::parse(&file).map_err(|e| unreadable(e.to_string()))?;
        let credential = Credential::parse(&envelope.payload).map_err(|e| unreadable(e.to_string()))?;
        let intent = ParsedIntent::parse(&credential.intent).map_err(|e| unreadable(e.to_string()))?;
        let key_id = envelope.keyid().to_owned();
        let key = keys.iter().find(|it| it.id() == key_id);
        Ok(Act {
            digest: *digest,
            seq,
            verified: key.is_some_and(|it| envelope.verify(it).is_ok()),
            key_id,
            file,
            what: intent.subject.name,
            credential,
        })
    }

    /// When, in milliseconds.
    pub fn at(&self) -> Option<Time> {
        strict::time(&self.credential.decided_at)
    }

    /// It approves.
    pub fn approves(&self) -> bool {
        self.credential.decision == Answer::Approve
    }
}

/// A decision in its one sentence.
pub fn sentence(act: &Act) -> String {
    let at = act
        .at()
        .map_or_else(|| act.credential.decided_at.clone(), Time::to_the_second);
    told(&Signed {
        what: &act.what,
        answer: act.credential.decision,
        by: &act.credential.approver_name,
        method: act.credential.method.name(),
        at: &at,
        key_id: &act.key_id,
        verified: act.verified,
    })
}

/// One request.
#[derive(Clone, Debug)]
pub struct Story {
    pub request: RequestId,
    pub subject: Subject,
    /// Text from outside; `None` where it was erased.
    pub title: Option<String>,
    pub requested_by: String,
    pub requested_at: Time,
    pub policy: (String, u64),
    /// The outcome and its file, if it ended in the period.
    pub outcome: Option<(OutcomeStatement, Vec<u8>)>,
    /// Position of the event that tells of the outcome, or of the first decision.
    pub seq: u64,
    pub acts: Vec<Act>,
    /// Somebody who took part in it approved it, as its rules allow.
    pub self_approved: bool,
    /// A person tried the gate out with it.
    pub trial: bool,
}

impl Story {
    /// Reads a story.
    ///
    /// # Errors
    /// When a part that never goes away is missing.
    pub(super) fn read(
        request: &RequestId,
        selection: &Selection,
        keys: &[PublicKey],
        state: &Snapshot,
    ) -> Result<Story, Error> {
        let record: Option<Request> = state.get(request.as_str())?;
        let record = record.ok_or_else(|| damaged(format!("{request} is not recorded")))?;
        let mut acts = Vec::new();
        for (seq, digest) in selection.decisions.get(request).into_iter().flatten() {
            acts.push(Act::read(digest, *seq, keys, state)?);
        }
        let ended = selection.outcomes.get(request);
        let outcome = match ended {
            None => None,
            Some(ended) => {
                let file = state.blob(&ended.outcome)?;
                let file = file.ok_or_else(|| damaged(format!("the outcome of {request} is missing")))?;
                let read = statement(&file).and_then(|it| OutcomeStatement::parse(&it).ok());
                let read = read.ok_or_else(|| damaged(format!("the outcome of {request} can't be read")))?;
                Some((read, file))
            }
        };
        let seq = ended.map(|it| it.seq).or_else(|| acts.first().map(|it| it.seq));
        let subject = match (&outcome, acts.first()) {
            (Some((outcome, _)), _) => Subject::parse(&outcome.subject).ok(),
            (None, Some(act)) => ParsedIntent::parse(&act.credential.intent)
                .ok()
                .map(|it| it.subject),
            (None, None) => None,
        };
        let opening: Option<Opening> = state.blob(&record.opening)?.map(|it| decode(&it)).transpose()?;
        let involved = |act: &Act| {
            let people = opening.as_ref().map(|it| &it.involved);
            people.is_some_and(|it| it.keys().any(|it| it.as_str() == act.credential.approver_id))
        };
        let trial = matches!(record.requester, Requester::Person { .. });
        Ok(Story {
            request: request.clone(),
            subject: subject.ok_or_else(|| damaged(format!("the subject of {request} can't be read")))?,
            requested_by: match &opening {
                Some(opening) => opening.requester.parts().2.to_owned(),
                None => acts
                    .first()
                    .map_or_else(String::new, |it| it.credential.requester_name.clone()),
            },
            requested_at: record.created_at,
            policy: match &outcome {
                Some((outcome, _)) => (outcome.policy_name.clone(), outcome.policy_version),
                None => acts.first().map_or_else(
                    || (String::new(), 0),
                    |it| (it.credential.policy_name.clone(), it.credential.policy_version),
                ),
            },
            self_approved: !trial && acts.iter().any(|it| it.approves() && involved(it)),
            title: opening.map(|it| it.title),
            outcome,
            seq: seq.unwrap_or_default(),
            acts,
            trial,
        })
    }

    /// The word for what became of it in the period.
    pub fn word(&self) -> &'static str {
        self.outcome
            .as_ref()
            .map_or("undecided", |(it, _)| it.outcome.word())
    }

    /// It went through the emergency way.
    pub fn broke_glass(&self) -> bool {
        let obligations = self.outcome.as_ref().map(|(it, _)| &it.obligations);
        obligations.is_some_and(|it| it.iter().any(|it| it.break_glass))
    }

    /// It was approved, and every approval that counted was a one-time code.
    pub fn by_codes_alone(&self) -> bool {
        let mut counted = self.acts.iter().filter(|it| it.approves()).peekable();
        self.word() == "approved"
            && counted.peek().is_some()
            && counted.all(|it| it.credential.method == Method::Totp)
    }

    /// When its outcome was decided.
    pub fn ended_at(&self) -> Option<Time> {
        self.outcome
            .as_ref()
            .and_then(|(it, _)| strict::time(&it.decided_at))
    }

    /// Why it is among the exceptions; empty for most.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = Vec::new();
        if self.broke_glass() {
            flags.push("break-glass");
        }
        if self.by_codes_alone() {
            flags.push("one-time codes only");
        }
        if self.self_approved {
            flags.push("approved by somebody who took part");
        }
        flags
    }
}
