//! Who has a part in a pull request: author, committers, co-authors, and who pushed.

use crate::domain::facts::{Contributor, Part};
use crate::forge::bitbucket_data_center::User;
use crate::forge::bitbucket_data_center::repository::once;
use crate::forge::co_authors::co_authors;
use crate::forge::git::is_commit_id;
use serde::Deserialize;
use std::collections::HashSet;

/// A commit as lists show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Commit {
    pub(super) id: String,
    #[serde(default)]
    message: String,
    author: Option<Signature>,
    committer: Option<Signature>,
    #[serde(default)]
    committer_timestamp: Option<i64>,
    #[serde(default)]
    pub(super) parents: Vec<Parent>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Parent {
    pub(super) id: String,
}

/// Name and e-mail as git has them. Where Bitbucket knows the e-mail, the account stands in their place.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature {
    #[serde(default)]
    name: String,
    email_address: Option<String>,
    id: Option<u64>,
    display_name: Option<String>,
}

/// A move of a branch (`ref-change-activities`), which only admins of the repository are told.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefActivity {
    pub(super) ref_change: RefChange,
    pub(super) user: Option<User>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefChange {
    #[serde(default)]
    pub(super) ref_id: String,
    #[serde(default)]
    pub(super) to_hash: String,
    /// `ADD`, `DELETE` or `UPDATE`.
    #[serde(rename = "type", default)]
    kind: String,
}

/// Something that happened to a pull request (`activities`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Activity {
    #[serde(default)]
    pub(super) action: String,
    pub(super) user: Option<User>,
    from_hash: Option<String>,
    previous_from_hash: Option<String>,
}

impl Activity {
    /// Somebody moved the source branch.
    fn is_push(&self) -> bool {
        self.action == "RESCOPED" && self.from_hash != self.previous_from_hash
    }
}

impl Signature {
    fn account(&self) -> Option<User> {
        Some(User {
            id: self.id?,
            name: self.name.clone(),
            display_name: self.display_name.clone().unwrap_or_default(),
            kind: String::new(),
        })
    }

    fn shown_name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.name).trim()
    }
}

impl Commit {
    /// The first line of its message.
    pub(super) fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// Names of author and committer, and when it was committed.
    pub(super) fn signed(&self) -> (String, String, String) {
        let name = |it: &Option<Signature>| {
            it.as_ref()
                .map(|it| it.shown_name().to_owned())
                .unwrap_or_default()
        };
        let at = self.committer_timestamp.map(super::rfc3339);
        (name(&self.author), name(&self.committer), at.unwrap_or_default())
    }
}

/// Why the list of commits cannot be trusted to be whole.
pub(super) fn commits_doubt(commits: &[Commit], head: &str, whole: bool, no_files: bool) -> Option<String> {
    let reason = if !whole {
        "the change has more commits than can be read"
    } else if commits.iter().any(|it| !is_commit_id(&it.id)) {
        "Bitbucket lists a commit without a full id"
    } else if commits.is_empty() && no_files {
        return None;
    } else if !commits.iter().any(|it| it.id == head) {
        "Bitbucket's list of commits does not hold the newest one"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Everyone, each once per part.
pub(super) fn contributors(author: Option<&User>, commits: &[Commit], pushers: &[User]) -> Vec<Contributor> {
    let by_account = |part, user: &User| Contributor {
        part,
        account: Some(user.clone().into()),
        name: user.name.clone(),
        email: None,
    };
    let lowered = |email: Option<&str>| {
        email
            .map(|it| it.trim().to_lowercase())
            .filter(|it| !it.is_empty())
    };
    let signed = |part, it: &Option<Signature>| Contributor {
        part,
        account: it.as_ref().and_then(Signature::account).map(Into::into),
        name: it
            .as_ref()
            .map(|it| it.shown_name().to_owned())
            .unwrap_or_default(),
        email: lowered(it.as_ref().and_then(|it| it.email_address.as_deref())),
    };
    let mut all: Vec<Contributor> = author
        .map(|it| by_account(Part::Author, it))
        .into_iter()
        .collect();
    for it in commits {
        all.push(signed(Part::CommitAuthor, &it.author));
        all.push(signed(Part::Committer, &it.committer));
        for (name, email) in co_authors(&it.message) {
            all.push(Contributor {
                part: Part::CoAuthor,
                account: None,
                name: name.to_owned(),
                email: lowered(email),
            });
        }
    }
    all.extend(pushers.iter().map(|it| by_account(Part::Pusher, it)));
    let mut seen = HashSet::new();
    all.retain(|it| seen.insert(it.clone()));
    all
}

/// Who pushed to the branch in its present life, by moves from newest to oldest, and why not all of them.
pub(super) fn pushers(moves: Vec<RefActivity>, branch: &str, whole: bool) -> (Vec<User>, Option<String>) {
    let mut found = Vec::new();
    let mut unread = None;
    for it in moves {
        if it.ref_change.ref_id != branch || it.ref_change.kind == "DELETE" {
            continue;
        }
        match it.user {
            Some(user) => found.push(user),
            None => unread = Some("Bitbucket does not tell who made one of the pushes".to_owned()),
        }
        // What was pushed before the branch was made was pushed to another branch of that name.
        if it.ref_change.kind == "ADD" {
            return (once(found), unread);
        }
    }
    // Bitbucket forgets after a while, and a mirrored branch was never pushed here.
    unread.get_or_insert_with(|| match whole {
        true => "who made the branch is no longer told".to_owned(),
        false => "there are more pushes than can be read".to_owned(),
    });
    (once(found), unread)
}

/// Who pushed since the pull request was opened, as its own page tells.
pub(super) fn pushers_since_opening(activities: Vec<Activity>) -> Vec<User> {
    once(
        activities
            .into_iter()
            .filter(Activity::is_push)
            .filter_map(|it| it.user),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";

    fn user(id: u64) -> serde_json::Value {
        json!({"id": id, "name": format!("u{id}"), "displayName": format!("U {id}"), "type": "NORMAL"})
    }

    fn commit(author: serde_json::Value, committer: serde_json::Value) -> Commit {
        serde_json::from_value(json!({
            "id": HEAD, "parents": [], "committerTimestamp": 1_700_000_000_000_i64, "author": author, "committer": committer,
            "message": "x\n\nCo-authored-by: C <C@x.org>",
        }))
        .expect("a commit")
    }

    #[test]
    fn accounts_are_taken_where_bitbucket_knows_the_mail() {
        let known =
            json!({"name": "u7", "emailAddress": "U7@x.org", "id": 7, "displayName": "U 7", "slug": "u7"});
        let it = commit(known, json!({"name": "Someone", "emailAddress": " S@X.org "}));
        let author: User = serde_json::from_value(user(1)).expect("a user");
        let all = contributors(Some(&author), std::slice::from_ref(&it), &[]);
        let parts: Vec<_> = all
            .iter()
            .map(|it| {
                (
                    it.part,
                    it.account.as_ref().map(|it| it.id.as_str()),
                    it.email.as_deref(),
                )
            })
            .collect();
        use Part::{Author, CoAuthor, CommitAuthor, Committer};
        assert_eq!(
            parts,
            [
                (Author, Some("1"), None),
                (CommitAuthor, Some("7"), Some("u7@x.org")),
                (Committer, None, Some("s@x.org")),
                (CoAuthor, None, Some("c@x.org")),
            ]
        );
        assert_eq!(it.signed().2, "2023-11-14T22:13:20Z");
    }

    #[test]
    fn commits_must_be_all_and_hold_the_head() {
        let one = [commit(json!(null), json!(null))];
        assert_eq!(commits_doubt(&one, HEAD, true, false), None);
        assert!(commits_doubt(&one, HEAD, false, false).is_some());
        assert!(commits_doubt(&one, &HEAD.replace('0', "f"), true, false).is_some());
        assert_eq!(commits_doubt(&[], HEAD, true, true), None);
        assert!(commits_doubt(&[], HEAD, true, false).is_some());
    }

    #[test]
    fn pushes_of_the_branchs_present_life_count() {
        let moved = |kind: &str, branch: &str, by: Option<u64>| -> RefActivity {
            let by = by.map(user);
            serde_json::from_value(
                json!({"refChange": {"refId": branch, "toHash": HEAD, "type": kind}, "user": by}),
            )
            .expect("a move")
        };
        let branch = "refs/heads/topic";
        let all = || {
            vec![
                moved("UPDATE", branch, Some(3)),
                moved("UPDATE", "refs/heads/other", Some(9)),
                moved("UPDATE", branch, Some(2)),
                moved("UPDATE", branch, Some(3)),
                moved("ADD", branch, Some(1)),
                moved("UPDATE", branch, Some(8)),
            ]
        };
        let ids = |found: Vec<User>| found.into_iter().map(|it| it.id).collect::<Vec<_>>();
        let (found, unread) = pushers(all(), branch, false);
        assert_eq!((ids(found), unread), (vec![3, 2, 1], None));
        let (found, unread) = pushers(all()[..1].to_vec(), branch, false);
        assert_eq!(ids(found), [3]);
        assert!(unread.is_some(), "older pushes were not read");
        let (_, unread) = pushers(all()[..1].to_vec(), branch, true);
        assert!(unread.is_some(), "who made the branch was forgotten");
        assert!(
            pushers(vec![moved("UPDATE", branch, None)], branch, true)
                .1
                .is_some()
        );
    }

    #[test]
    fn a_moved_target_is_nobodys_push() {
        let rescoped = |from: &str, before: &str| -> Activity {
            serde_json::from_value(
                json!({"action": "RESCOPED", "user": user(5), "fromHash": from, "previousFromHash": before}),
            )
            .expect("an activity")
        };
        assert!(pushers_since_opening(vec![rescoped(HEAD, HEAD)]).is_empty());
        assert_eq!(pushers_since_opening(vec![rescoped(HEAD, "other")]).len(), 1);
    }
}
