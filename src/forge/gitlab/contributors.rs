//! Who has a part in a merge request: author, committers, co-authors, and who pushed.

use crate::domain::facts::Contributor;
use crate::domain::facts::Part;
use crate::forge::co_authors::co_authors;
use crate::forge::gitlab::User;
use crate::forge::gitlab::is_commit_id;
use serde::Deserialize;
use std::collections::HashSet;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Commit {
    id: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    author_name: Option<String>,
    #[serde(default)]
    author_email: Option<String>,
    #[serde(default)]
    committer_name: Option<String>,
    #[serde(default)]
    committer_email: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) author: Option<User>,
    pub(super) push_data: Option<PushData>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PushData {
    action: Option<String>,
    pub(super) ref_type: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    /// The commit it left the branch on.
    pub(super) commit_to: Option<String>,
    /// How many refs one push of many touched; such an event names none of them.
    ref_count: Option<u64>,
}

/// Why the list of commits cannot be trusted to be whole.
pub(super) fn commits_doubt(commits: &[Commit], head: &str, whole: bool, no_files: bool) -> Option<String> {
    let reason = if !whole {
        "the change has more commits than can be read"
    } else if commits.iter().any(|it| !is_commit_id(&it.id)) {
        "GitLab lists a commit without a full id"
    } else if commits.is_empty() && no_files {
        return None;
    } else if !commits.iter().any(|it| it.id == head) {
        "GitLab's list of commits does not hold the newest one"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Everyone, each once per part.
pub(super) fn contributors(author: &User, commits: &[Commit], pushers: Vec<User>) -> Vec<Contributor> {
    let by_account = |part, user: &User| Contributor {
        part,
        account: Some(user.clone().into()),
        name: user.name.clone(),
        email: None,
    };
    let by_email = |part, name: Option<&str>, email: Option<&str>| {
        let name = name.unwrap_or_default().trim().to_owned();
        let email = email
            .map(|it| it.trim().to_lowercase())
            .filter(|it| !it.is_empty());
        Contributor {
            part,
            account: None,
            name,
            email,
        }
    };
    let mut all = vec![by_account(Part::Author, author)];
    for commit in commits {
        all.push(by_email(
            Part::CommitAuthor,
            commit.author_name.as_deref(),
            commit.author_email.as_deref(),
        ));
        all.push(by_email(
            Part::Committer,
            commit.committer_name.as_deref(),
            commit.committer_email.as_deref(),
        ));
        for (name, email) in co_authors(&commit.message) {
            all.push(by_email(Part::CoAuthor, Some(name), email));
        }
    }
    all.extend(pushers.iter().map(|it| by_account(Part::Pusher, it)));
    let mut seen = HashSet::new();
    all.retain(|it| seen.insert(it.clone()));
    all
}

/// Who pushed to the branch in its present life, by events from newest to oldest.
pub(super) fn pushers(events: Vec<Event>, branch: &str, whole: bool) -> (Vec<User>, Option<String>) {
    let mut found: Vec<User> = Vec::new();
    let mut unread = None;
    for event in events {
        let Some(push) = event.push_data else { continue };
        if push.reference.is_none() && push.ref_count.is_some_and(|it| it > 0) {
            unread = Some("somebody pushed many branches at once, and GitLab does not tell which".to_owned());
            continue;
        }
        if push.ref_type.as_deref() == Some("tag") || push.reference.as_deref() != Some(branch) {
            continue;
        }
        if push.action.as_deref() == Some("removed") {
            continue;
        }
        match event.author {
            Some(user) if !found.iter().any(|it| it.id == user.id) => found.push(user),
            Some(_) => {}
            None => unread = Some("GitLab does not tell who made one of the pushes".to_owned()),
        }
        // What was pushed before the branch was made was pushed to another branch of that name.
        if push.action.as_deref() == Some("created") {
            return (found, unread);
        }
    }
    if !whole {
        unread.get_or_insert_with(|| "there are more pushes than can be read".to_owned());
    }
    (found, unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
    const BASE: &str = "f123456789abcdef0123456789abcdef01234567";

    #[test]
    fn everyone_counts_once_per_part() {
        let user = |id: u64| User {
            id,
            username: format!("u{id}"),
            name: format!("N{id}"),
        };
        let commit: Commit = serde_json::from_value(json!({
            "id": HEAD, "message": "x\n\nCo-authored-by: C <C@x.org>", "author_name": "A", "author_email": "A@x.org",
            "committer_name": "B", "committer_email": " B@X.org "}))
        .expect("a commit");
        let all = contributors(&user(1), &[commit.clone(), commit], vec![user(1), user(2)]);
        let short: Vec<_> = all
            .iter()
            .map(|it| {
                (
                    it.part,
                    it.account.as_ref().map(|a| a.id.as_str()),
                    it.email.as_deref(),
                )
            })
            .collect();
        let expected = vec![
            (Part::Author, Some("1"), None),
            (Part::CommitAuthor, None, Some("a@x.org")),
            (Part::Committer, None, Some("b@x.org")),
            (Part::CoAuthor, None, Some("c@x.org")),
            (Part::Pusher, Some("1"), None),
            (Part::Pusher, Some("2"), None),
        ];
        assert_eq!(short, expected);
    }

    #[test]
    fn commits_must_hold_the_head() {
        let commit = |id: &str| -> Commit { serde_json::from_value(json!({ "id": id })).expect("a commit") };
        assert_eq!(
            commits_doubt(&[commit(BASE), commit(HEAD)], HEAD, true, false),
            None
        );
        assert_eq!(commits_doubt(&[], HEAD, true, true), None);
        assert!(commits_doubt(&[], HEAD, true, false).is_some());
        assert!(commits_doubt(&[commit(BASE)], HEAD, true, false).is_some());
        assert!(commits_doubt(&[commit(HEAD)], HEAD, false, false).is_some());
        assert!(commits_doubt(&[commit(HEAD), commit("abc")], HEAD, true, false).is_some());
    }

    #[test]
    fn pushers_are_those_of_the_branch_now() {
        let event = |user: u64, action: &str, kind: &str, reference: Value| -> Event {
            serde_json::from_value(json!({"author": {"id": user, "username": "u", "name": "U"},
                "push_data": {"action": action, "ref_type": kind, "ref": reference,
                    "ref_count": if reference.is_null() { json!(5) } else { json!(null) }}}))
            .expect("an event")
        };
        let ids = |users: Vec<User>| users.iter().map(|it| it.id).collect::<Vec<_>>();
        let events = vec![
            event(8, "removed", "branch", json!("topic")),
            event(3, "pushed", "branch", json!("topic")),
            event(4, "pushed", "branch", json!("other")),
            event(5, "pushed", "tag", json!("topic")),
            event(3, "pushed", "branch", json!("topic")),
            event(6, "created", "branch", json!("topic")),
            event(7, "pushed", "branch", json!("topic")),
        ];
        let (found, unread) = pushers(events, "topic", false);
        assert_eq!((ids(found), unread), (vec![3, 6], None));
        let many = vec![
            event(3, "pushed", "branch", json!(null)),
            event(4, "created", "branch", json!("topic")),
        ];
        let (found, unread) = pushers(many, "topic", true);
        assert_eq!((ids(found), unread.is_some()), (vec![4], true));
        assert!(pushers(Vec::new(), "topic", false).1.is_some());
        assert!(pushers(Vec::new(), "topic", true).1.is_none());
    }
}
