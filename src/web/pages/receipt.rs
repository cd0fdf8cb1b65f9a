//! The receipt of one decision: the sentence, the numbers that identify it, and how anybody checks it without us.

use crate::domain::ids::PersonId;
use crate::domain::request::{Answer, Decision, Request};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use crate::evidence::dsse::{Envelope, PublicKey};
use crate::web::keys::credential_keys;
use crate::web::pages::moment::Moment;
use crate::web::pages::shown;
use crate::web::pages::standing::method_words;

/// Digits of a key id in a sentence. The whole of it stands below.
const KEY_DIGITS: usize = 6;

/// What a receipt's sentence says.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// What was decided: `!142`.
    pub what: &'a str,
    pub answer: Answer,
    /// The person's name.
    pub by: &'a str,
    /// `passkey`, `biometric` or `totp`.
    pub method: &'a str,
    pub at: Time,
    /// 64 hex digits.
    pub key_id: &'a str,
    /// Whether the credential's signature was checked just now and is good.
    pub verified: bool,
}

/// `!142 was approved by Alex Floyd via passkey at 2026-03-15T14:23:07Z, signed with Ed25519 key abc123…, signature
/// verified`. Says that the signature is verified only where it is.
pub fn signed_sentence(it: &Signed<'_>) -> String {
    let verb = match it.answer {
        Answer::Approve => "approved",
        Answer::Reject => "rejected",
    };
    let key = it.key_id.get(..KEY_DIGITS).unwrap_or(it.key_id);
    let verdict = if it.verified {
        "signature verified"
    } else {
        "signature NOT verified"
    };
    format!(
        "{} was {verb} by {} via {} at {}, signed with Ed25519 key {key}…, {verdict}",
        it.what,
        it.by,
        it.method,
        it.at.to_the_second(),
    )
}

/// One decision as its receipt.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub sentence: String,
    /// `crd_` and 64 hex digits.
    pub credential: String,
    pub key_id: String,
    pub verified: bool,
    pub approved: bool,
    pub by: String,
    /// The reader's own decision.
    pub own: bool,
    /// It went the emergency way.
    pub break_glass: bool,
    pub method: &'static str,
    pub at: Moment,
    pub comment: String,
    pub seq: u64,
}

impl Receipt {
    /// The receipts of a request's decisions, the reader's own first, else in their order, each checked against the appliance's key now.
    pub fn all(
        state: &impl Read,
        request: &Request,
        what: &str,
        reader: &PersonId,
    ) -> Result<Vec<Receipt>, Fault> {
        let keys = credential_keys(state)?;
        let mut receipts = Vec::with_capacity(request.decisions.len());
        for decision in &request.decisions {
            receipts.push(Receipt::of(&keys, state, decision, what, reader)?);
        }
        receipts.sort_by_key(|it| !it.own);
        Ok(receipts)
    }

    fn of(
        keys: &[PublicKey],
        state: &impl Read,
        decision: &Decision,
        what: &str,
        reader: &PersonId,
    ) -> Result<Receipt, Fault> {
        let file = state.blob(&decision.credential)?;
        let envelope = file.and_then(|it| Envelope::parse(&it).ok());
        let verified = envelope.as_ref().is_some_and(|it| {
            let key = keys.iter().find(|key| key.id() == it.keyid());
            // A key signs for its own part of the journal alone.
            key.is_some_and(|key| it.verify(key).is_ok() && key.counts_at(decision.seq))
        });
        let signature = envelope.as_ref().and_then(|it| it.signatures.first());
        let key_id = signature.map_or_else(String::new, |it| it.keyid.clone());
        let by = shown(&decision.name, 120);
        let sentence = signed_sentence(&Signed {
            what,
            answer: decision.answer,
            by: &by,
            method: decision.method.name(),
            at: decision.decided_at,
            key_id: &key_id,
            verified,
        });
        Ok(Receipt {
            sentence,
            credential: format!("crd_{}", decision.credential),
            key_id,
            verified,
            approved: decision.answer == Answer::Approve,
            by,
            own: decision.person == *reader,
            break_glass: decision.break_glass,
            method: method_words(decision.method),
            at: Moment::of(decision.decided_at),
            comment: shown(&decision.comment, 2000),
            seq: decision.seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_the_one_that_was_promised() {
        let key_id = "abc123".to_owned() + &"0".repeat(58);
        let mut signed = Signed {
            what: "!142",
            answer: Answer::Approve,
            by: "Alex Floyd",
            method: "passkey",
            at: Time::parse("2026-03-15T14:23:07Z").expect("a time"),
            key_id: &key_id,
            verified: true,
        };
        assert_eq!(
            signed_sentence(&signed),
            "!142 was approved by Alex Floyd via passkey at 2026-03-15T14:23:07Z, signed with Ed25519 key abc123…, \
             signature verified"
        );
        signed.verified = false;
        assert!(signed_sentence(&signed).ends_with("signature NOT verified"));
    }
}
