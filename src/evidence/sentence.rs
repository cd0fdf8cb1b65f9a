//! The one sentence in which a decision reads wherever it is shown.

use crate::domain::request::Answer;
use crate::domain::text::visible;

/// Digits of a key id in a sentence. The whole of it stands elsewhere.
const KEY_DIGITS: usize = 6;

/// What the sentence says.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// What was decided, as the subject calls it: `!142`, or an action's text.
    pub what: &'a str,
    pub answer: Answer,
    /// The person's name.
    pub by: &'a str,
    /// `passkey`, `biometric` or `totp`.
    pub method: &'a str,
    /// To the second: `2026-03-15T14:23:07Z`.
    pub at: &'a str,
    /// 64 hex digits.
    pub key_id: &'a str,
    /// Whether the credential's signature was checked just now and is good.
    pub verified: bool,
}

/// `!142 was approved by Alex Floyd via passkey at 2026-03-15T14:23:07Z, signed with Ed25519 key abc123…, signature
/// verified`. Says that the signature is verified only where it is; hidden characters in names are made visible.
pub fn sentence(it: &Signed<'_>) -> String {
    let verb = match it.answer {
        Answer::Approve => "approved",
        Answer::Reject => "rejected",
    };
    let verdict = match it.verified {
        true => "signature verified",
        false => "signature NOT verified",
    };
    // A code binds nothing to what was decided, so the sentence must not read as if somebody had signed it.
    let method = match it.method {
        "totp" => "totp (server-attested)",
        other => other,
    };
    format!(
        "{} was {verb} by {} via {method} at {}, signed with Ed25519 key {}…, {verdict}",
        visible(it.what),
        visible(it.by),
        it.at,
        it.key_id.get(..KEY_DIGITS).unwrap_or(it.key_id),
    )
}

/// The same of a decision whose credential was erased: what the journal's entry still says, and nothing of a signature.
pub fn erased_sentence(it: &Signed<'_>, entry: u64, erased_at: &str) -> String {
    let verb = match it.answer {
        Answer::Approve => "approved",
        Answer::Reject => "rejected",
    };
    format!(
        "{} was {verb} by {} via {} at {}, as entry {entry} of the journal says; its credential was erased at {erased_at}",
        visible(it.what),
        visible(it.by),
        it.method,
        it.at,
    )
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
            at: "2026-03-15T14:23:07Z",
            key_id: &key_id,
            verified: true,
        };
        assert_eq!(
            sentence(&signed),
            "!142 was approved by Alex Floyd via passkey at 2026-03-15T14:23:07Z, signed with Ed25519 key abc123…, \
             signature verified"
        );
        signed.verified = false;
        assert!(sentence(&signed).ends_with("signature NOT verified"));
        signed.method = "totp";
        assert!(sentence(&signed).contains(" via totp (server-attested) at "));
    }
}
