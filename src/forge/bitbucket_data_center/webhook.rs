//! Data Center's webhooks: what one is about. Nothing in a body is ever believed beyond that.

use crate::domain::text::{shortened, visible};
use crate::forge::git::is_commit_id;
use crate::forge::hook::delivery;
use crate::forge::{Hint, HookEvent, HookRefusal, Pushed};
use serde::Deserialize;

/// What a merge queue's own branches have in their names.
pub(super) const QUEUE_MARK: &str = "merge-queue";

/// The parts of all bodies that are looked at. Newer versions add fields, so the rest is ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    pull_request: Option<PullRequest>,
    repository: Option<Numbered>,
    actor: Option<Numbered>,
    #[serde(default)]
    changes: Vec<RefChange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PullRequest {
    id: u64,
    to_ref: Side,
}

#[derive(Deserialize)]
struct Side {
    repository: Numbered,
}

#[derive(Deserialize)]
struct Numbered {
    id: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefChange {
    #[serde(rename = "ref")]
    reference: Reference,
    from_hash: String,
    to_hash: String,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
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
    let (mut change, mut pushed) = (None, None);
    let mut repository = read.repository.and_then(|it| it.id);
    let event = match event.as_str() {
        // A change of reviewers or a comment changes nothing that is approved here.
        it if it.starts_with("pr:comment") || it.starts_with("pr:reviewer") => HookEvent::Note,
        it if it.starts_with("pr:") => {
            let it = read
                .pull_request
                .ok_or_else(|| unreadable("a pull request without its data"))?;
            (change, repository) = (Some(it.id), it.to_ref.repository.id);
            HookEvent::Change
        }
        "repo:refs_changed" => {
            let user_id = read.actor.and_then(|it| it.id).map(|it| it.to_string());
            let event = moved(&read.changes, user_id.unwrap_or_default(), &mut pushed)?;
            if repository.is_none() {
                return Err(unreadable("it names no repository"));
            }
            event
        }
        other => HookEvent::Other(shortened(&visible(other), 64)),
    };
    let needs = matches!(
        event,
        HookEvent::Change | HookEvent::Push | HookEvent::TagPush | HookEvent::MergeGroup
    );
    if repository.is_none() && needs {
        return Err(unreadable("it names no repository"));
    }
    Ok(Hint {
        delivery: delivery(header("x-request-id"), body),
        event,
        forge_project_id: repository.map(|it| it.to_string()).unwrap_or_default(),
        change,
        pushed,
    })
}

/// What a push was about. One may move several refs; a branch counts more than a tag, and a merge queue's own branch is no
/// push of anybody.
fn moved(
    changes: &[RefChange],
    user_id: String,
    pushed: &mut Option<Pushed>,
) -> Result<HookEvent, HookRefusal> {
    let unreadable = || HookRefusal::Unreadable("a push without ref or commits".to_owned());
    let sound = |it: &RefChange| {
        it.reference.id.starts_with("refs/") && is_commit_id(&it.from_hash) && is_commit_id(&it.to_hash)
    };
    if changes.is_empty() || !changes.iter().all(sound) {
        return Err(unreadable());
    }
    let branch = |it: &&RefChange| it.reference.id.starts_with("refs/heads/");
    let queued = |it: &&RefChange| it.reference.id.contains(QUEUE_MARK);
    if changes.iter().filter(branch).all(|it| queued(&it)) && changes.iter().any(|it| branch(&it)) {
        return Ok(HookEvent::MergeGroup);
    }
    let shown = changes
        .iter()
        .find(branch)
        .or(changes.first())
        .ok_or_else(unreadable)?;
    let event = match branch(&shown) {
        true => HookEvent::Push,
        false => HookEvent::TagPush,
    };
    *pushed = Some(Pushed {
        ref_name: shown.reference.id.clone(),
        before: shown.from_hash.clone(),
        after: shown.to_hash.clone(),
        user_id,
    });
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(event: &str, body: &serde_json::Value) -> Result<Hint, HookRefusal> {
        let header = |asked: &str| match asked {
            "x-event-key" => Some(event.to_owned()),
            "x-request-id" => Some("d872ad25-24fe-4278-a73a-2a10ed6b653d".to_owned()),
            _ => None,
        };
        parse(&header, body.to_string().as_bytes())
    }

    #[test]
    fn each_event_is_what_it_is_about() {
        let about = |event: &str, body: serde_json::Value| read(event, &body).expect("readable");
        let fork = json!({"id": 9, "repository": {"id": 43}});
        let pull = json!({"pullRequest": {"id": 7, "fromRef": fork, "toRef": {"id": "x", "repository": {"id": 42}}}});
        for event in [
            "pr:opened",
            "pr:from_ref_updated",
            "pr:modified",
            "pr:merged",
            "pr:declined",
            "pr:deleted",
            "pr:to_ref_updated",
        ] {
            let it = about(event, pull.clone());
            assert_eq!(
                (it.event, it.change, it.forge_project_id.as_str()),
                (HookEvent::Change, Some(7), "42")
            );
            assert_eq!(it.delivery, "d872ad25-24fe-4278-a73a-2a10ed6b653d");
        }
        let (zero, one) = ("0".repeat(40), "1".repeat(40));
        let moved = |names: &[&str]| {
            let changes: Vec<_> = names
                .iter()
                .map(|it| json!({"ref": {"id": it}, "fromHash": zero, "toHash": one, "type": "ADD"}))
                .collect();
            about(
                "repo:refs_changed",
                json!({"repository": {"id": 42}, "actor": {"id": 9}, "changes": changes}),
            )
        };
        let it = moved(&["refs/tags/v1", "refs/heads/main"]);
        assert_eq!(it.event, HookEvent::Push);
        let pushed = it.pushed.expect("a push");
        assert_eq!(
            (pushed.ref_name.as_str(), pushed.user_id.as_str()),
            ("refs/heads/main", "9")
        );
        assert_eq!(moved(&["refs/tags/v1"]).event, HookEvent::TagPush);
        assert_eq!(
            moved(&["refs/heads/merge-queue/main/7"]).event,
            HookEvent::MergeGroup
        );
        assert_eq!(
            moved(&["refs/heads/merge-queue/main/7", "refs/heads/main"]).event,
            HookEvent::Push
        );
        assert_eq!(about("pr:reviewer:approved", pull).event, HookEvent::Note);
        let ping = about("diagnostics:ping", json!({"test": true}));
        assert_eq!(ping.event, HookEvent::Other("diagnostics:ping".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_words() {
        let change =
            |from: &str| json!([{"ref": {"id": "refs/heads/main"}, "fromHash": from, "toHash": from}]);
        for (event, body) in [
            ("pr:opened", json!({})),
            (
                "pr:opened",
                json!({"pullRequest": {"id": 7, "toRef": {"repository": {}}}}),
            ),
            (
                "repo:refs_changed",
                json!({"repository": {"id": 42}, "changes": []}),
            ),
            (
                "repo:refs_changed",
                json!({"repository": {"id": 42}, "changes": change("abc")}),
            ),
            ("repo:refs_changed", json!({"changes": change(&"1".repeat(40))})),
            ("repo:refs_changed", json!([])),
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
        fn no_body_panics(event in "[a-z_:]{0,20}", body in any::<Vec<u8>>()) {
            let header = |asked: &str| (asked == "x-event-key").then(|| event.clone());
            let _ = parse(&header, &body);
        }
    }
}
