//! GitHub's webhooks: whether one is genuine, and what it is about. Nothing in a body is ever believed beyond that.

use crate::domain::text::{shortened, visible};
use crate::forge::github::is_commit_id;
use crate::forge::hook::delivery;
use crate::forge::{Hint, HookEvent, HookRefusal, HookSecret, Pushed};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Checks `X-Hub-Signature-256`. It signs the body alone, so it proves where a body comes from and not when; what it is about
/// is read from GitHub anyway.
///
/// # Errors
/// `Unverified`; also for the old SHA-1 signature alone, which proves nothing any more.
pub fn verify(
    secret: &HookSecret,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
) -> Result<(), HookRefusal> {
    let refused = |reason| Err(HookRefusal::Unverified(reason));
    let Some(signature) = header("x-hub-signature-256") else {
        return refused(match header("x-hub-signature") {
            Some(_) => "it is signed with SHA-1 only",
            None => "it bears no signature: set the webhook's secret in the App's settings",
        });
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

/// The parts of all bodies that are looked at. GitHub adds fields freely, so the rest is ignored.
#[derive(Deserialize)]
struct Body {
    number: Option<u64>,
    pull_request: Option<Numbered>,
    repository: Option<Named>,
    sender: Option<Named>,
    #[serde(rename = "ref")]
    reference: Option<serde_json::Value>,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Numbered {
    number: Option<u64>,
}

#[derive(Deserialize)]
struct Named {
    id: Option<u64>,
}

/// Reads what a webhook is about.
///
/// # Errors
/// `Unreadable` for a body that is not GitHub's own form.
pub fn parse(header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> Result<Hint, HookRefusal> {
    let unreadable = |reason: &str| HookRefusal::Unreadable(reason.to_owned());
    let event = header("x-github-event").ok_or_else(|| unreadable("it names no event (X-GitHub-Event)"))?;
    if body.starts_with(b"payload=") {
        return Err(unreadable(
            "the body is a form: set the webhook's content type to application/json in the App's settings",
        ));
    }
    let read: Body = serde_json::from_slice(body).map_err(|error| {
        HookRefusal::Unreadable(format!("it is not GitHub's JSON ({:?})", error.classify()))
    })?;
    let repository = read.repository.and_then(|it| it.id);
    let (mut change, mut pushed) = (None, None);
    let event = match event.as_str() {
        "pull_request" => {
            let number = read.number.or(read.pull_request.and_then(|it| it.number));
            change = Some(number.ok_or_else(|| unreadable("a pull request without a number"))?);
            HookEvent::Change
        }
        "push" => {
            let text =
                |it: Option<serde_json::Value>| it.as_ref().and_then(|it| it.as_str()).map(str::to_owned);
            match (text(read.reference), text(read.before), text(read.after)) {
                (Some(ref_name), Some(before), Some(after))
                    if ref_name.starts_with("refs/") && is_commit_id(&before) && is_commit_id(&after) =>
                {
                    let tag = ref_name.starts_with("refs/tags/");
                    pushed = Some(Pushed {
                        ref_name,
                        before,
                        after,
                        user_id: read
                            .sender
                            .and_then(|it| it.id)
                            .map(|it| it.to_string())
                            .unwrap_or_default(),
                    });
                    if tag { HookEvent::TagPush } else { HookEvent::Push }
                }
                _ => return Err(unreadable("a push without ref or commits")),
            }
        }
        "status" | "check_run" | "check_suite" => HookEvent::Pipeline,
        "merge_group" => HookEvent::MergeGroup,
        "deployment_protection_rule" | "deployment" | "deployment_status" | "workflow_run" => {
            HookEvent::Deployment
        }
        other => HookEvent::Other(shortened(&visible(other), 64)),
    };
    if repository.is_none() && !matches!(event, HookEvent::Other(_)) {
        return Err(unreadable("it names no repository"));
    }
    Ok(Hint {
        delivery: delivery(header("x-github-delivery"), body),
        event,
        forge_project_id: repository.map(|it| it.to_string()).unwrap_or_default(),
        change,
        pushed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Secret;
    use proptest::prelude::*;
    use serde_json::json;

    const SECRET: &str = "it is a secret to everybody";

    fn secret() -> HookSecret {
        HookSecret::read(Secret::new(SECRET)).expect("long enough")
    }

    fn sign(body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
        mac.update(body);
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    fn verified(name: &str, value: &str, body: &[u8]) -> bool {
        let header = |asked: &str| (asked == name).then(|| value.to_owned());
        verify(&secret(), &header, body).is_ok()
    }

    /// GitHub's own example, "Validating webhook deliveries".
    #[test]
    fn githubs_own_example_verifies() {
        let secret = HookSecret::read(Secret::new("It's a Secret to Everybody")).expect("long enough");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let header = |asked: &str| (asked == "x-hub-signature-256").then(|| signature.to_owned());
        assert_eq!(verify(&secret, &header, b"Hello, World!"), Ok(()));
    }

    #[test]
    fn only_the_whole_signature_of_sha256_counts() {
        let body = b"{}";
        let right = sign(body);
        assert!(verified("x-hub-signature-256", &right, body));
        for wrong in [
            "",
            "sha256=",
            &right[..right.len() - 2],
            &right.replace("sha256=", "sha1="),
            &right.replace("sha256=", ""),
            &sign(b"{ }"),
        ] {
            assert!(!verified("x-hub-signature-256", wrong, body), "{wrong}");
        }
        assert!(!verified("x-hub-signature", &right, body), "SHA-1's header alone");
        assert!(!verified("x-other", &right, body));
    }

    fn read(event: &str, body: &serde_json::Value) -> Result<Hint, HookRefusal> {
        let header = |asked: &str| match asked {
            "x-github-event" => Some(event.to_owned()),
            "x-github-delivery" => Some("72d3162e-cc78-11e3-81ab-4c9367dc0958".to_owned()),
            _ => None,
        };
        parse(&header, body.to_string().as_bytes())
    }

    #[test]
    fn each_event_is_what_it_is_about() {
        let about = |event: &str, body: serde_json::Value| read(event, &body).expect("readable");
        let it = about("pull_request", json!({"number": 7, "repository": {"id": 42}}));
        assert_eq!(
            (it.event, it.change, it.forge_project_id.as_str()),
            (HookEvent::Change, Some(7), "42")
        );
        assert_eq!(it.delivery, "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        let (zero, one) = ("0".repeat(40), "1".repeat(40));
        let push = json!({"ref": "refs/heads/main", "before": zero, "after": one, "repository": {"id": 42}, "sender": {"id": 9}});
        let it = about("push", push);
        assert_eq!(it.event, HookEvent::Push);
        assert_eq!(it.pushed.expect("a push").user_id, "9");
        assert_eq!(
            about("merge_group", json!({"repository": {"id": 42}})).event,
            HookEvent::MergeGroup
        );
        assert_eq!(
            about("ping", json!({})).event,
            HookEvent::Other("ping".to_owned())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_words() {
        for (event, body) in [
            ("pull_request", json!({"repository": {"id": 42}})),
            ("pull_request", json!({"number": 7})),
            ("push", json!({"repository": {"id": 42}, "ref": "main"})),
            ("push", json!([])),
        ] {
            let refused = read(event, &body);
            assert!(
                matches!(refused, Err(HookRefusal::Unreadable(_))),
                "{event} {body}"
            );
        }
        let none = |_: &str| None;
        assert!(matches!(parse(&none, b"{}"), Err(HookRefusal::Unreadable(_))));
        let form = |it: &str| (it == "x-github-event").then(|| "push".to_owned());
        assert!(
            matches!(parse(&form, b"payload=%7B%7D"), Err(HookRefusal::Unreadable(it)) if it.contains("application/json"))
        );
    }

    proptest! {
        #[test]
        fn no_body_panics(event in "[a-z_]{0,20}", body in any::<Vec<u8>>()) {
            let header = |asked: &str| (asked == "x-github-event").then(|| event.clone());
            let _ = parse(&header, &body);
        }

        #[test]
        fn a_flipped_bit_never_verifies(body in proptest::collection::vec(any::<u8>(), 1..200), at in any::<usize>(), bit in 0u8..8) {
            let signature = sign(&body);
            let mut other = body;
            let at = at % other.len();
            other[at] ^= 1 << bit;
            prop_assert!(!verified("x-hub-signature-256", &signature, &other));
        }
    }
}
