//! What the domain says in plain sentences, in the language of the page.

use crate::domain::policy::{Document, Effect, Evaluation, Method, Obligation, Rule, words};
use crate::domain::request::Answer;
use crate::domain::text::visible;
use crate::domain::time;
use crate::evidence::sentence::Signed;
use crate::texts::{Spoken, marked, t};

/// What is said below the pages in a word, or put together there from counts. Whole sentences are found by themselves.
const _: &[&str] = &[
    marked!("Signed webhook"),
    marked!("Splunk HEC"),
    marked!("Datadog logs"),
    marked!("Syslog"),
    marked!("JSON lines file"),
    marked!("a URL such as https://approvals.example"),
    marked!("scheme, host and port only, without a path"),
    marked!("a host name, not an address: passkeys belong to names"),
    marked!("a host name in lower case, in its ASCII form"),
    marked!("under 5 min"),
    marked!("under 1 h"),
    marked!("under 4 h"),
    marked!("under 1 day"),
    marked!("under 3 days"),
    marked!("longer"),
    marked!("other"),
    marked!("biometric"),
    marked!("totp"),
    marked!("admin"),
    marked!("approver"),
    marked!("auditor"),
    marked!("request"),
    marked!("audit"),
    marked!("pending"),
    marked!("approved"),
    marked!("rejected"),
    marked!("expired"),
    marked!("cancelled"),
    marked!("superseded"),
    marked!("skipped"),
    marked!("approval"),
    marked!("rejection"),
    marked!("{have} of {quorum} approval"),
    marked!("{have} of {quorum} approvals"),
    marked!("{met} of {all} rules met"),
    marked!("{met} of {all} rules met, 1 approval so far"),
    marked!("{met} of {all} rules met, {given} approvals so far"),
    marked!("commit status"),
    marked!("bot approval"),
    marked!("external status check"),
    marked!("merge broker"),
];

/// Digits of a key id in a sentence. The whole of it stands elsewhere.
const KEY_DIGITS: usize = 6;

/// `9 min`, `1 h 5 min`, `3 days`.
pub fn span(seconds: u64) -> String {
    time::span_in(&Spoken, seconds)
}

/// The name of a rule, as it stands in a sentence.
pub fn rule_name(rule: &str) -> String {
    words::rule_name(&Spoken, rule)
}

/// Methods, as `passkey or biometric`.
pub fn methods(list: &[Method]) -> String {
    words::methods(&Spoken, list)
}

/// What one obligation asks, as `2 people of group:release by passkey`.
pub fn obligation(it: &Obligation) -> String {
    words::obligation(&Spoken, it)
}

/// What a policy makes of a request, in one sentence.
pub fn judged(it: &Evaluation) -> String {
    words::judged(&Spoken, it)
}

/// The word for what a path contributes.
pub fn effect(it: Effect) -> String {
    words::effect(&Spoken, it)
}

/// A rule in one sentence.
pub fn rule(it: &Rule) -> String {
    words::rule(&Spoken, it)
}

/// The default rule of a document in one sentence.
pub fn default_rule(document: &Document) -> String {
    words::default_rule(&Spoken, document)
}

/// A list of which all are meant.
pub fn all_of(names: &[String]) -> String {
    words::all_of(&Spoken, names)
}

/// A decision in the one sentence in which it reads everywhere: `evidence::sentence` in the language spoken.
pub fn sentence(it: &Signed<'_>) -> String {
    let (what, by) = (visible(it.what), visible(it.by));
    let key = it.key_id.get(..KEY_DIGITS).unwrap_or(it.key_id);
    // A code binds nothing to what was decided, so the sentence must not read as if somebody had signed it.
    let method = match it.method {
        "totp" => t!("totp (server-attested)"),
        other => fixed_method(other),
    };
    match (it.answer, it.verified) {
        (Answer::Approve, true) => t!(
            "{what} was approved by {by} via {method} at {at}, signed with Ed25519 key {key}…, signature verified",
            what = what,
            by = by,
            method = method,
            at = it.at,
            key = key
        ),
        (Answer::Approve, false) => t!(
            "{what} was approved by {by} via {method} at {at}, signed with Ed25519 key {key}…, signature NOT verified",
            what = what,
            by = by,
            method = method,
            at = it.at,
            key = key
        ),
        (Answer::Reject, true) => t!(
            "{what} was rejected by {by} via {method} at {at}, signed with Ed25519 key {key}…, signature verified",
            what = what,
            by = by,
            method = method,
            at = it.at,
            key = key
        ),
        (Answer::Reject, false) => t!(
            "{what} was rejected by {by} via {method} at {at}, signed with Ed25519 key {key}…, signature NOT verified",
            what = what,
            by = by,
            method = method,
            at = it.at,
            key = key
        ),
    }
}

/// The same of a decision whose credential was erased.
pub fn erased_sentence(it: &Signed<'_>, entry: u64, erased_at: &str) -> String {
    let (what, by, method) = (visible(it.what), visible(it.by), fixed_method(it.method));
    match it.answer {
        Answer::Approve => t!(
            "{what} was approved by {by} via {method} at {at}, as entry {entry} of the journal says; its credential was erased at {erased}",
            what = what,
            by = by,
            method = method,
            at = it.at,
            entry = entry,
            erased = erased_at
        ),
        Answer::Reject => t!(
            "{what} was rejected by {by} via {method} at {at}, as entry {entry} of the journal says; its credential was erased at {erased}",
            what = what,
            by = by,
            method = method,
            at = it.at,
            entry = entry,
            erased = erased_at
        ),
    }
}

fn fixed_method(name: &str) -> &str {
    match name {
        "passkey" => t!("passkey"),
        "biometric" => t!("biometric"),
        "totp" => t!("totp"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::sentence;

    /// What a page says in English is what bundle and command line say.
    #[test]
    fn the_sentence_of_a_decision_is_the_same_everywhere() {
        for answer in [Answer::Approve, Answer::Reject] {
            for verified in [true, false] {
                for method in ["passkey", "biometric", "totp"] {
                    let it = Signed {
                        what: "!142",
                        answer,
                        by: "Alex\u{202e} Floyd",
                        method,
                        at: "2026-03-15T14:23:07Z",
                        key_id: "abc123456",
                        verified,
                    };
                    assert_eq!(super::sentence(&it), sentence::sentence(&it));
                    let erased = "2026-04-15T14:23:07Z";
                    assert_eq!(
                        erased_sentence(&it, 7, erased),
                        sentence::erased_sentence(&it, 7, erased)
                    );
                }
            }
        }
    }

    #[test]
    fn spans_name_their_units() {
        for seconds in [0, 5, 60, 540, 3600, 3900, 86_400, 90_000, 400_000] {
            assert_eq!(span(seconds), crate::domain::time::span(seconds));
        }
    }

    #[test]
    fn lists_read_like_lists() {
        let names = |count: usize| (1..=count).map(|it| it.to_string()).collect::<Vec<_>>();
        let said: Vec<String> = [0, 1, 2, 3].iter().map(|it| all_of(&names(*it))).collect();
        assert_eq!(said, ["", "1", "1 and 2", "1, 2 and 3"]);
        assert_eq!(
            all_of(&names(14)),
            "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more"
        );
        assert_eq!(
            methods(&[Method::Passkey, Method::Biometric]),
            "passkey or biometric"
        );
    }
}
