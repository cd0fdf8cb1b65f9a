//! What both Bitbuckets have in common: the signature of their webhooks, how a build status is named and worded, and what
//! neither of them has.

use crate::domain::ids::Digest;
use crate::domain::provision::Attempt;
use crate::domain::request::GateState;
use crate::domain::text::{shortened, visible};
use crate::forge::{HookRefusal, HookSecret, Tried};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Characters Bitbucket Cloud takes of a status's key.
const KEY_MAX: usize = 40;
/// Hex digits that stand for a name too long to be a key.
const KEY_DIGITS: usize = 24;

/// What is done by hand on Bitbucket.
pub(super) const BY_HAND: &str = "on Bitbucket the gate is set up by hand: let nobody but this server's account merge and push into \
                                  the gated branches";
/// Bitbucket's lock is who may merge.
pub(super) const NO_LOCK: &str =
    "Bitbucket has no other lock than who may merge: enforce the project by merge_broker";
/// Neither Bitbucket asks anybody before it deploys.
pub(super) const NO_DEPLOYMENTS: &str =
    "Bitbucket holds no deployments: let the pipeline ask with signedapproval gate before it deploys";

/// What trying a gate out comes to here.
pub(super) fn not_tried() -> Tried {
    Tried {
        attempts: vec![Attempt {
            what: "Try the gate out".to_owned(),
            answer: "Not tried".to_owned(),
            means: "Bitbucket tells who may merge and push into a branch itself, so nothing needs to be tried: see what was \
                    found about the gate."
                .to_owned(),
        }],
        cleared: true,
        ..Tried::default()
    }
}

/// Checks `X-Hub-Signature: sha256=…` over the body. It proves where a body comes from and not when; what it is about is read
/// from Bitbucket anyway.
///
/// # Errors
/// `Unverified`; also for a signature of any other kind, as SHA-1, which proves nothing any more.
pub(super) fn verify(
    secret: &HookSecret,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
) -> Result<(), HookRefusal> {
    let refused = |reason| Err(HookRefusal::Unverified(reason));
    let Some(signature) = header("x-hub-signature") else {
        return refused("it bears no signature: set the webhook's secret in the repository's settings");
    };
    let Some(signature) = signature.strip_prefix("sha256=") else {
        return refused("its signature is not one of SHA-256");
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.token.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(body);
    let expected = mac.finalize().into_bytes();
    let given = hex::decode(signature).unwrap_or_default();
    match bool::from(given.as_slice().ct_eq(expected.as_slice())) {
        true => Ok(()),
        false => refused("the signature is another"),
    }
}

/// The key of the status of that name: the name itself where it is short enough, else what begins with `signedapproval~`,
/// which no branch's name can look like (git allows no `~`).
pub(super) fn key(name: &str) -> String {
    let fits = name.len() <= KEY_MAX && name.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return name.to_owned();
    }
    let digest = Digest::of(name.as_bytes()).to_string();
    let product = name.split_once('/').map_or("signedapproval", |it| it.0);
    format!("{product}~{}", &digest[..KEY_DIGITS])
}

/// Bitbucket's word for a state.
pub(super) fn word(state: GateState) -> &'static str {
    match state {
        GateState::Pending => "INPROGRESS",
        GateState::Success => "SUCCESSFUL",
        GateState::Failed => "FAILED",
    }
}

/// The state of a word that we write ourselves.
pub(super) fn state(word: &str) -> Option<GateState> {
    [GateState::Pending, GateState::Success, GateState::Failed]
        .into_iter()
        .find(|it| self::word(*it) == word)
}

/// Bitbucket's own words in an error answer: Cloud's `error.message` and `error.detail`, Data Center's `errors[].message`.
pub(super) fn words(excerpt: &str) -> String {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(excerpt) {
        let error = &value["error"];
        for text in [
            &error["message"],
            &error["detail"],
            error,
            &value["error_description"],
        ] {
            found.extend(text.as_str().map(str::to_owned));
        }
        for error in value["errors"].as_array().into_iter().flatten() {
            found.extend(error["message"].as_str().map(str::to_owned));
        }
    }
    let text = if found.is_empty() {
        excerpt.to_owned()
    } else {
        found.join("; ")
    };
    shortened(&visible(&text), 200)
}

/// `sentence`, with Bitbucket's words behind it where there are any.
pub(super) fn with_words(sentence: &str, excerpt: &str) -> String {
    let words = words(excerpt);
    if words.is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence} (Bitbucket says: {words})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Secret;
    use proptest::prelude::*;

    /// Atlassian's own example, "Secure webhooks".
    #[test]
    fn only_the_whole_signature_of_sha256_counts() {
        let secret = HookSecret::read(Secret::new("It's a Secret to Everybody")).expect("long enough");
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let body = b"Hello, World!";
        let verified = |name: &str, value: &str, body: &[u8]| {
            let header = |asked: &str| (asked == name).then(|| value.to_owned());
            verify(&secret, &header, body).is_ok()
        };
        assert!(verified("x-hub-signature", right, body));
        for wrong in [
            "",
            "sha256=",
            &right[..right.len() - 2],
            &right.replace("sha256=", "sha1="),
            &right.replace("sha256=", ""),
        ] {
            assert!(!verified("x-hub-signature", wrong, body), "{wrong}");
        }
        assert!(!verified("x-hub-signature", right, b"Hello, world!"));
        assert!(!verified("x-hub-signature-256", right, body), "another header");
    }

    #[test]
    fn every_state_has_a_word_of_its_own() {
        for it in [GateState::Pending, GateState::Success, GateState::Failed] {
            assert_eq!(state(word(it)), Some(it));
        }
        assert_eq!(state("STOPPED"), None);
    }

    #[test]
    fn both_bitbuckets_errors_are_read() {
        let cloud = r#"{"type":"error","error":{"message":"no","detail":"because"}}"#;
        assert_eq!(words(cloud), "no; because");
        assert_eq!(words(r#"{"errors":[{"context":null,"message":"no"}]}"#), "no");
        assert_eq!(
            words(r#"{"error":"invalid_grant","error_description":"x"}"#),
            "invalid_grant; x"
        );
        assert_eq!(words("<html>"), "<html>");
    }

    proptest! {
        #[test]
        fn a_key_is_short_and_one_names_own(one in "[a-zA-Z0-9/._ü-]{1,90}", other in "[a-zA-Z0-9/._ü-]{1,90}") {
            let (one, other) = (format!("signedapproval/{one}"), format!("signedapproval/{other}"));
            prop_assert!(key(&one).chars().count() <= KEY_MAX);
            prop_assert!(key(&one).bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(key(&one) == key(&other), one == other);
        }
    }
}
