//! GitLab's webhooks: whether one is genuine, and what it is about. Nothing in a body is ever believed beyond that.

use crate::domain::ids::Digest;
use crate::domain::text::shortened;
use crate::domain::text::visible;
use crate::forge::Hint;
use crate::forge::HookEvent;
use crate::forge::HookRefusal;
use crate::forge::HookSecret;
use crate::forge::Pushed;
use crate::forge::gitlab::is_commit_id;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Seconds a signed webhook may be older or newer than our clock (Standard Webhooks).
const TOLERANCE: u64 = 300;
/// Signatures looked at in one header: a rotation needs two.
const MOST_SIGNATURES: usize = 8;
/// Characters of a delivery id that is kept as it is.
const LONGEST_DELIVERY: usize = 128;

/// Checks the signature (Standard Webhooks, GitLab 19.0 and later), or that of an external status check, or, only where
/// there is none, the plain token.
///
/// # Errors
/// `Unverified`: a signature that is present and does not verify is never made good by a token.
pub fn verify(
    secret: &HookSecret,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
    now: i64,
) -> Result<(), HookRefusal> {
    if let Some(signatures) = header("webhook-signature") {
        return verify_signature(secret, &signatures, header, body, now);
    }
    if let Some(signature) = header("x-gitlab-signature") {
        return verify_check(secret, &signature, body);
    }
    let Some(token) = header("x-gitlab-token") else {
        return Err(HookRefusal::Unverified("it has neither a signature nor a token"));
    };
    // Digests have one length, so the comparison tells nothing about the secret's.
    let given = Digest::of(token.as_bytes());
    let expected = Digest::of(secret.token.expose().as_bytes());
    if bool::from(given.0.ct_eq(&expected.0)) {
        Ok(())
    } else {
        Err(HookRefusal::Unverified("the token is another"))
    }
}

/// Checks the call of an external status check: the bare hex of an HMAC-SHA256 over the body, with the whole secret as key.
/// It bears no time, so it proves where a body comes from and not when; what it is about is read from GitLab anyway.
fn verify_check(secret: &HookSecret, signature: &str, body: &[u8]) -> Result<(), HookRefusal> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.token.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(body);
    let expected = mac.finalize().into_bytes();
    let given = hex::decode(signature).unwrap_or_default();
    if bool::from(given.as_slice().ct_eq(expected.as_slice())) {
        Ok(())
    } else {
        Err(HookRefusal::Unverified("the signature is another"))
    }
}

fn verify_signature(
    secret: &HookSecret,
    signatures: &str,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
    now: i64,
) -> Result<(), HookRefusal> {
    let refused = |reason| Err(HookRefusal::Unverified(reason));
    let Some(key) = &secret.signing else {
        return refused("it is signed, and this integration's secret is not a signing key");
    };
    let (Some(id), Some(timestamp)) = (header("webhook-id"), header("webhook-timestamp")) else {
        return refused("it is signed without an id or a time");
    };
    // Only the canonical form: the text is part of what is signed, the number is what is judged.
    let sent = match timestamp.parse::<i64>() {
        Ok(seconds) if seconds.to_string() == timestamp => seconds,
        _ => return refused("its time is not a number"),
    };
    if now.abs_diff(sent) > TOLERANCE {
        return refused("its time is more than five minutes from ours");
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let expected = mac.finalize().into_bytes();
    let matches = |signature: &str| {
        let given = signature
            .strip_prefix("v1,")
            .and_then(|it| STANDARD.decode(it).ok());
        given.is_some_and(|it| bool::from(it.as_slice().ct_eq(expected.as_slice())))
    };
    if signatures
        .split_ascii_whitespace()
        .take(MOST_SIGNATURES)
        .any(matches)
    {
        Ok(())
    } else {
        refused("the signature is another")
    }
}

/// The parts of all bodies that are looked at. GitLab adds fields freely, so the rest is ignored.
#[derive(Deserialize)]
struct Body {
    object_kind: Option<String>,
    event_name: Option<String>,
    project_id: Option<u64>,
    project: Option<Named>,
    object_attributes: Option<Attributes>,
    merge_request: Option<MergeRequest>,
    #[serde(rename = "ref")]
    reference: Option<serde_json::Value>,
    before: Option<String>,
    after: Option<String>,
    user_id: Option<u64>,
}

#[derive(Deserialize)]
struct Named {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Attributes {
    iid: Option<u64>,
    target_project_id: Option<u64>,
}

#[derive(Deserialize)]
struct MergeRequest {
    iid: Option<u64>,
    target_project_id: Option<u64>,
}

/// Reads what a webhook is about: project and group hooks, and system hooks.
///
/// # Errors
/// `Unreadable` for a body that is not GitLab's own form, e.g. one made by a custom webhook template.
pub fn parse(header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> Result<Hint, HookRefusal> {
    let unreadable = |reason: &str| HookRefusal::Unreadable(reason.to_owned());
    let read: Body = serde_json::from_slice(body).map_err(|error| {
        HookRefusal::Unreadable(format!("it is not GitLab's JSON ({:?})", error.classify()))
    })?;
    let system = header("x-gitlab-event").is_some_and(|it| it == "System Hook");
    // System hooks about users, groups and keys name only `event_name`.
    let kind = match (read.object_kind, read.event_name) {
        (Some(kind), _) => kind,
        (None, Some(name)) if system => name,
        _ => {
            return Err(unreadable(
                "the body has no object_kind: remove the custom webhook template from this webhook in GitLab",
            ));
        }
    };
    let mut project = read.project.and_then(|it| it.id).or(read.project_id);
    let mut change = None;
    let event = match kind.as_str() {
        "merge_request" => {
            let Some(attributes) = read.object_attributes else {
                return Err(unreadable("a merge request without object_attributes"));
            };
            change = Some(
                attributes
                    .iid
                    .ok_or_else(|| unreadable("a merge request without iid"))?,
            );
            // A merge request belongs to the project it is to be merged into.
            project = attributes.target_project_id.or(project);
            HookEvent::Change
        }
        "push" => HookEvent::Push,
        "tag_push" => HookEvent::TagPush,
        "pipeline" => HookEvent::Pipeline,
        "build" => HookEvent::Job,
        "deployment" => HookEvent::Deployment,
        "note" => HookEvent::Note,
        other => HookEvent::Other(shortened(&visible(other), 64)),
    };
    if matches!(event, HookEvent::Pipeline | HookEvent::Note)
        && let Some(about) = read.merge_request
    {
        change = about.iid;
        // A fork's pipeline names the fork as its project.
        project = about.target_project_id.or(project);
    }
    if project.is_none() && !matches!(event, HookEvent::Other(_)) {
        return Err(unreadable("it names no project"));
    }
    let pushed = match event {
        HookEvent::Push | HookEvent::TagPush => {
            let reference = read.reference.as_ref().and_then(|it| it.as_str());
            match (reference, read.before, read.after, read.user_id) {
                (Some(reference), Some(before), Some(after), Some(user))
                    if reference.starts_with("refs/") && is_commit_id(&before) && is_commit_id(&after) =>
                {
                    Some(Pushed {
                        ref_name: reference.to_owned(),
                        before,
                        after,
                        user_id: user.to_string(),
                    })
                }
                _ => return Err(unreadable("a push without ref, commits or account")),
            }
        }
        _ => None,
    };
    Ok(Hint {
        delivery: delivery(header, body),
        event,
        forge_project_id: project.map(|it| it.to_string()).unwrap_or_default(),
        change,
        pushed,
    })
}

/// What names this delivery: `Idempotency-Key` (GitLab 17.4 and later, the same on every repetition), the signed
/// `webhook-id`, or a digest of the event's UUID and the body.
fn delivery(header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> String {
    let given = header("idempotency-key")
        .or_else(|| header("webhook-id"))
        .filter(|it| !it.is_empty());
    match given {
        Some(id) if id.len() <= LONGEST_DELIVERY && id.bytes().all(|b| b.is_ascii_graphic()) => id,
        Some(id) => format!("sha256:{}", Digest::of(id.as_bytes())),
        None => {
            let uuid = header("x-gitlab-event-uuid").unwrap_or_default();
            let mut text = Digest::of(uuid.as_bytes()).0.to_vec();
            text.extend_from_slice(body);
            format!("sha256:{}", Digest::of(&text))
        }
    }
}
