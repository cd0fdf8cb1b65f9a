//! Bitbucket Cloud's webhooks: what one is about. Nothing in a body is ever believed beyond that. The signature is checked in
//! `forge/bitbucket.rs`.

use crate::domain::text::{shortened, visible};
use crate::forge::bitbucket_cloud::is_uuid;
use crate::forge::git::{full_ref, is_commit_id};
use crate::forge::hook::delivery;
use crate::forge::{Hint, HookEvent, HookRefusal, Pushed};
use serde::Deserialize;

/// What Bitbucket writes where there is no commit, and what forges write elsewhere.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// The parts of all bodies that are looked at. Bitbucket adds fields freely, so the rest is ignored.
#[derive(Deserialize)]
struct Body {
    repository: Option<Named>,
    actor: Option<Named>,
    pullrequest: Option<Numbered>,
    push: Option<Push>,
}

#[derive(Deserialize)]
struct Named {
    uuid: Option<String>,
}

#[derive(Deserialize)]
struct Numbered {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(default)]
    changes: Vec<Move>,
}

#[derive(Deserialize)]
struct Move {
    old: Option<Side>,
    new: Option<Side>,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    hash: String,
}

/// Reads what a webhook is about.
///
/// # Errors
/// `Unreadable` for a body that is not Bitbucket's own form.
pub fn parse(header: &dyn Fn(&str) -> Option<String>, body: &[u8]) -> Result<Hint, HookRefusal> {
    let unreadable = |reason: &str| HookRefusal::Unreadable(reason.to_owned());
    let event = header("x-event-key").ok_or_else(|| unreadable("it names no event (X-Event-Key)"))?;
    let read: Body = serde_json::from_slice(body).map_err(|error| {
        HookRefusal::Unreadable(format!("it is not Bitbucket's JSON ({:?})", error.classify()))
    })?;
    let repository = read.repository.and_then(|it| it.uuid);
    let (mut change, mut pushed) = (None, None);
    let event = match event.as_str() {
        it if it.starts_with("pullrequest:") => {
            let number = read.pullrequest.and_then(|it| it.id);
            change = Some(number.ok_or_else(|| unreadable("a pull request without a number"))?);
            match it.starts_with("pullrequest:comment") {
                true => HookEvent::Note,
                false => HookEvent::Change,
            }
        }
        "repo:push" => {
            let push = read.push.ok_or_else(|| unreadable("a push without changes"))?;
            let by = read.actor.and_then(|it| it.uuid).unwrap_or_default();
            let mut moves = push.changes.iter().map(|it| moved(it, &by));
            // One delivery may tell of several branches; each is looked at anyway, so the first stands for all.
            pushed = moves.next().flatten();
            match &pushed {
                Some(it) if it.ref_name.starts_with("refs/tags/") => HookEvent::TagPush,
                // A push whose changes were too many to be told is one all the same.
                _ => HookEvent::Push,
            }
        }
        "repo:commit_status_created" | "repo:commit_status_updated" => HookEvent::Pipeline,
        other => HookEvent::Other(shortened(&visible(other), 64)),
    };
    let named = repository.as_deref().is_some_and(is_uuid);
    if !named && !matches!(event, HookEvent::Other(_)) {
        return Err(unreadable("it names no repository"));
    }
    Ok(Hint {
        delivery: delivery(header("x-request-uuid"), body),
        event,
        forge_project_id: repository.filter(|_| named).unwrap_or_default(),
        change,
        pushed,
    })
}

/// A move of a branch or tag, if it is told as one.
fn moved(it: &Move, by: &str) -> Option<Pushed> {
    let any = it.new.as_ref().or(it.old.as_ref())?;
    let ref_name = match any.kind.as_str() {
        "tag" | "annotated_tag" => format!("refs/tags/{}", any.name),
        _ => full_ref(&any.name),
    };
    let commit = |side: &Option<Side>| match side {
        None => Some(NO_COMMIT.to_owned()),
        Some(it) => {
            let hash = it.target.as_ref().map_or("", |it| it.hash.as_str());
            is_commit_id(hash).then(|| hash.to_owned())
        }
    };
    Some(Pushed {
        ref_name,
        before: commit(&it.old)?,
        after: commit(&it.new)?,
        user_id: by.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const UUID: &str = "{5137f783-a12b-4958-a614-4a2af63fca20}";

    fn read(event: &str, body: &serde_json::Value) -> Result<Hint, HookRefusal> {
        let header = |asked: &str| match asked {
            "x-event-key" => Some(event.to_owned()),
            "x-request-uuid" => Some("f4b3c2d1-0000-4000-8000-000000000001".to_owned()),
            _ => None,
        };
        parse(&header, body.to_string().as_bytes())
    }

    #[test]
    fn each_event_is_what_it_is_about() {
        let about = |event: &str, body: serde_json::Value| read(event, &body).expect("readable");
        let repository = json!({"uuid": UUID, "full_name": "team/app"});
        for event in ["created", "updated", "fulfilled", "rejected", "approved", "push"] {
            let body = json!({"repository": repository, "pullrequest": {"id": 7}});
            let it = about(&format!("pullrequest:{event}"), body);
            assert_eq!(
                (it.event, it.change, it.forge_project_id.as_str()),
                (HookEvent::Change, Some(7), UUID)
            );
            assert_eq!(it.delivery, "f4b3c2d1-0000-4000-8000-000000000001");
        }
        let note = json!({"repository": repository, "pullrequest": {"id": 7}});
        assert_eq!(about("pullrequest:comment_created", note).event, HookEvent::Note);
        let (zero, one, two) = ("0".repeat(40), "1".repeat(40), "2".repeat(40));
        let side = |hash: &str| json!({"type": "branch", "name": "main", "target": {"hash": hash}});
        let push = json!({"repository": repository, "actor": {"uuid": "{a}"},
            "push": {"changes": [{"old": side(&one), "new": side(&two)}]}});
        let it = about("repo:push", push);
        assert_eq!(it.event, HookEvent::Push);
        let pushed = it.pushed.expect("a push");
        assert_eq!(
            (
                pushed.ref_name.as_str(),
                pushed.before,
                pushed.after,
                pushed.user_id.as_str()
            ),
            ("refs/heads/main", one, two.clone(), "{a}")
        );
        let made = json!({"repository": repository, "push": {"changes": [{"old": null,
            "new": {"type": "tag", "name": "v1", "target": {"hash": two}}}]}});
        let it = about("repo:push", made);
        assert_eq!(it.event, HookEvent::TagPush);
        assert_eq!(it.pushed.expect("a push").before, zero);
        let many = json!({"repository": repository, "push": {"changes": []}});
        assert_eq!(about("repo:push", many).event, HookEvent::Push);
        let status = about("repo:commit_status_updated", json!({"repository": repository}));
        assert_eq!(status.event, HookEvent::Pipeline);
        assert_eq!(
            about("repo:fork", json!({})).event,
            HookEvent::Other("repo:fork".to_owned())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_words() {
        for (event, body) in [
            ("pullrequest:created", json!({"repository": {"uuid": UUID}})),
            ("pullrequest:created", json!({"pullrequest": {"id": 7}})),
            (
                "pullrequest:created",
                json!({"pullrequest": {"id": 7}, "repository": {"uuid": "../x"}}),
            ),
            ("repo:push", json!({"repository": {"uuid": UUID}})),
            ("repo:push", json!([])),
        ] {
            let refused = read(event, &body);
            assert!(
                matches!(refused, Err(HookRefusal::Unreadable(_))),
                "{event} {body}"
            );
        }
        let none = |_: &str| None;
        assert!(matches!(parse(&none, b"{}"), Err(HookRefusal::Unreadable(_))));
    }

    proptest! {
        #[test]
        fn no_body_panics(event in "[a-z:_]{0,30}", body in any::<Vec<u8>>()) {
            let header = |asked: &str| (asked == "x-event-key").then(|| event.clone());
            let _ = parse(&header, &body);
        }
    }
}
