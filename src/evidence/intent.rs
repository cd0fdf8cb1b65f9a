//! What a person signs: the intent, and the challenge that binds a passkey's signature to it.
//! It never writes a subject anew: the subject's own bytes stand in the intent verbatim.

use crate::domain::governance::Governed;
use crate::domain::ids::{Digest, PersonId, RequestId};
use crate::domain::request::Answer;
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use crate::evidence::subject::Subject;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Digest as _;

/// The `type` of every intent.
pub const INTENT_TYPE: &str = "signedapproval/intent";

/// First bytes of what a challenge is hashed from, followed by a zero byte.
const CHALLENGE_LABEL: &[u8] = b"signedapproval/webauthn-challenge/v1";

/// What an intent is made from.
#[derive(Clone, Debug)]
pub struct Intent<'a> {
    pub request: &'a RequestId,
    pub decision: Answer,
    /// The subject's exact bytes.
    pub subject: &'a [u8],
    pub policy_sha256: Digest,
    /// Names of the rules whose obligations the request carries.
    pub rules: &'a [String],
    pub person: &'a PersonId,
    pub person_name: &'a str,
    /// Empty where the person wrote none.
    pub comment: &'a str,
    /// RFC 3339, UTC: when the ceremony started.
    pub issued_at: &'a str,
    /// RFC 3339, UTC: when the request expires, not the ceremony. `None`: it waits without limit.
    pub expires_at: Option<&'a str>,
}

#[derive(Serialize)]
struct IntentForm<'a> {
    v: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    request: &'a str,
    decision: Answer,
    meaning: &'static str,
    subject: &'a RawValue,
    subject_sha256: Digest,
    policy_sha256: Digest,
    rules: &'a [String],
    person: &'a str,
    person_name: &'a str,
    comment: &'a str,
    issued_at: &'a str,
    expires_at: Option<&'a str>,
}

impl Intent<'_> {
    /// The intent's bytes, made once. Fails where the subject or a time is not what the strict reader takes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StrictError> {
        Subject::parse(self.subject)?;
        let subject = serde_json::from_slice(self.subject).map_err(|_| StrictError::Syntax(0))?;
        let form = IntentForm {
            v: 1,
            kind: INTENT_TYPE,
            request: self.request.as_str(),
            decision: self.decision,
            meaning: self.decision.meaning(),
            subject,
            subject_sha256: Digest::of(self.subject),
            policy_sha256: self.policy_sha256,
            rules: self.rules,
            person: self.person.as_str(),
            person_name: self.person_name,
            comment: self.comment,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        };
        let bytes = serde_json::to_vec(&form).expect("texts, digests and raw JSON always serialise");
        ParsedIntent::parse(&bytes)?;
        Ok(bytes)
    }
}

/// An intent as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedIntent {
    pub request: RequestId,
    pub decision: Answer,
    pub meaning: String,
    /// The subject's exact bytes, as they stand in the intent.
    pub subject_bytes: Vec<u8>,
    pub subject: Subject,
    /// The digest the intent states; [`ParsedIntent::parse`] has compared it with the bytes.
    pub subject_sha256: Digest,
    pub policy_sha256: Digest,
    pub rules: Vec<String>,
    pub person: PersonId,
    pub person_name: String,
    pub comment: String,
    pub issued_at: String,
    pub expires_at: Option<String>,
}

impl ParsedIntent {
    /// Reads an intent strictly: exactly the known members in their order, the meaning that belongs to the decision,
    /// and a `subject_sha256` that is the digest of the subject's bytes.
    pub fn parse(bytes: &[u8]) -> Result<ParsedIntent, StrictError> {
        let value = strict::parse(bytes, Space::Refused)?;
        let intent = value.object("intent")?;
        intent.exactly(&[
            "v",
            "type",
            "request",
            "decision",
            "meaning",
            "subject",
            "subject_sha256",
            "policy_sha256",
            "rules",
            "person",
            "person_name",
            "comment",
            "issued_at",
            "expires_at",
        ])?;
        let shape = |text: &str| StrictError::Shape(text.to_owned());
        if intent.integer("v")? != 1 || intent.text("type")? != INTENT_TYPE {
            return Err(shape("the intent is of a version or type that is not known"));
        }
        let decision = Answer::parse(intent.text("decision")?)
            .ok_or_else(|| shape("intent.decision is neither approve nor reject"))?;
        if intent.text("meaning")? != decision.meaning() {
            return Err(shape("intent.meaning does not belong to intent.decision"));
        }
        let subject_bytes = intent.member("subject")?.bytes.to_vec();
        let subject_sha256 = intent.digest("subject_sha256")?;
        if Digest::of(&subject_bytes) != subject_sha256 {
            return Err(shape(
                "intent.subject_sha256 is not the digest of the subject's bytes",
            ));
        }
        let expires_at = intent.text_or_null("expires_at")?;
        if expires_at.is_some_and(|it| strict::time(it).is_none()) {
            return Err(shape("intent.expires_at is not an RFC 3339 time in UTC"));
        }
        Ok(ParsedIntent {
            request: RequestId::parse(intent.text("request")?)
                .ok_or_else(|| shape("intent.request is not a request id"))?,
            decision,
            meaning: decision.meaning().to_owned(),
            subject: Subject::parse(&subject_bytes)?,
            subject_bytes,
            subject_sha256,
            policy_sha256: intent.digest("policy_sha256")?,
            rules: intent.texts("rules")?,
            person: PersonId::parse(intent.text("person")?)
                .ok_or_else(|| shape("intent.person is not a person id"))?,
            person_name: intent.text("person_name")?.to_owned(),
            comment: intent.text("comment")?.to_owned(),
            issued_at: intent.time("issued_at")?.0.to_owned(),
            expires_at: expires_at.map(str::to_owned),
        })
    }
}

/// The `type` of what an admin signs to confirm a change to the rules. Being another type than an approval's, with other
/// members, neither can ever stand for the other.
pub const CHANGE_INTENT_TYPE: &str = "signedapproval/change-intent";

/// What an admin signs to confirm a change to the rules.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeIntent<'a> {
    pub v: u32,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub proposal: &'a str,
    /// The change itself, complete; a policy's document by its digest.
    pub change: &'a Governed,
    /// Digest of the change's own bytes.
    pub change_sha256: Digest,
    /// Digest of what it replaces.
    pub base_sha256: Option<Digest>,
    pub reason: &'a str,
    pub proposed_by: &'a str,
    pub person: &'a str,
    pub person_name: &'a str,
    /// RFC 3339, UTC: when the ceremony started.
    pub issued_at: &'a str,
}

impl ChangeIntent<'_> {
    /// The bytes of a change as they stand in the intent, and their digest.
    pub fn change_sha256(change: &Governed) -> Digest {
        Digest::of(&serde_json::to_vec(change).expect("ids, texts and numbers always serialise"))
    }

    /// The intent's bytes, made once.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("ids, texts and digests always serialise")
    }
}

/// The `type` of what somebody signs under a dangerous call.
pub const ACT_INTENT_TYPE: &str = "signedapproval/act-intent";

/// What somebody signs under one dangerous call: exactly that call.
#[derive(Clone, Debug, Serialize)]
pub struct ActIntent<'a> {
    pub v: u32,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    pub body_sha256: Digest,
    pub reason: &'a str,
    pub person: &'a str,
    pub person_name: &'a str,
    /// RFC 3339, UTC: when the ceremony started.
    pub issued_at: &'a str,
}

impl ActIntent<'_> {
    /// The intent's bytes, made once.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and digests always serialise")
    }
}

/// The challenge for the authenticator:
/// `SHA-256("signedapproval/webauthn-challenge/v1" || 0x00 || nonce || SHA-256(intent))`.
/// The nonce keeps it unpredictable, the hash binds it to the intent.
pub fn challenge(nonce: &[u8; 32], intent: &[u8]) -> [u8; 32] {
    let mut hash = sha2::Sha256::new();
    hash.update(CHALLENGE_LABEL);
    hash.update([0]);
    hash.update(nonce);
    hash.update(Digest::of(intent).0);
    hash.finalize().into()
}
