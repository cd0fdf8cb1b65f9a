//! Who has a part in a pull request: author, committers, co-authors, and who pushed.

use crate::domain::facts::{Contributor, Part};
use crate::forge::co_authors::co_authors;
use crate::forge::github::{User, is_commit_id};
use serde::{Deserialize, Deserializer};
use std::collections::HashSet;

/// The account under which GitHub itself commits what people do on its pages; the author is the person.
const GITHUB_ITSELF: &str = "web-flow";

/// A commit as comparisons and lists show it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Commit {
    pub(super) sha: String,
    commit: Inner,
    /// The account GitHub knows the e-mail of.
    #[serde(default, deserialize_with = "account")]
    author: Option<User>,
    #[serde(default, deserialize_with = "account")]
    committer: Option<User>,
    #[serde(default)]
    pub(super) parents: Vec<Parent>,
}

#[derive(Clone, Debug, Deserialize)]
struct Inner {
    #[serde(default)]
    message: String,
    author: Option<Signature>,
    committer: Option<Signature>,
}

#[derive(Clone, Debug, Deserialize)]
struct Signature {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    date: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Parent {
    pub(super) sha: String,
}

/// A move of a branch (`GET /repos/{owner}/{repo}/activity`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Activity {
    #[serde(default)]
    activity_type: String,
    #[serde(rename = "ref", default)]
    pub(super) reference: String,
    #[serde(default)]
    pub(super) after: String,
    pub(super) actor: Option<User>,
}

/// An account that nobody knows is shown as `null` or `{}`.
fn account<'de, D: Deserializer<'de>>(from: D) -> Result<Option<User>, D::Error> {
    #[derive(Deserialize)]
    struct Maybe {
        id: Option<u64>,
        #[serde(default)]
        login: String,
    }
    let found: Option<Maybe> = Option::deserialize(from)?;
    Ok(found.and_then(|it| {
        Some(User {
            id: it.id?,
            login: it.login,
        })
    }))
}

impl Commit {
    /// The first line of its message.
    pub(super) fn title(&self) -> &str {
        self.commit.message.lines().next().unwrap_or_default()
    }

    /// Names of author and committer, and when it was committed.
    pub(super) fn signed(&self) -> (String, String, String) {
        let of = |it: &Option<Signature>, part: fn(&Signature) -> &Option<String>| {
            it.as_ref().and_then(|it| part(it).clone()).unwrap_or_default()
        };
        (
            of(&self.commit.author, |it| &it.name),
            of(&self.commit.committer, |it| &it.name),
            of(&self.commit.committer, |it| &it.date),
        )
    }
}

/// Why the list of commits cannot be trusted to be whole.
pub(super) fn commits_doubt(commits: &[Commit], head: &str, total: u64, no_files: bool) -> Option<String> {
    let reason = if commits.len() as u64 != total {
        "the change has more commits than can be read"
    } else if commits.iter().any(|it| !is_commit_id(&it.sha)) {
        "GitHub lists a commit without a full id"
    } else if commits.is_empty() && no_files {
        return None;
    } else if !commits.iter().any(|it| it.sha == head) {
        "GitHub's list of commits does not hold the newest one"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Everyone, each once per part.
pub(super) fn contributors(author: &User, commits: &[Commit], pushers: &[User]) -> Vec<Contributor> {
    let by_account = |part, user: &User| Contributor {
        part,
        account: Some(user.clone().into()),
        name: user.login.clone(),
        email: None,
    };
    let lowered = |email: Option<&str>| {
        email
            .map(|it| it.trim().to_lowercase())
            .filter(|it| !it.is_empty())
    };
    let signed = |part, user: &Option<User>, signature: &Option<Signature>| Contributor {
        part,
        account: user.clone().map(Into::into),
        name: signature
            .as_ref()
            .and_then(|it| it.name.as_deref())
            .unwrap_or_default()
            .trim()
            .to_owned(),
        email: lowered(signature.as_ref().and_then(|it| it.email.as_deref())),
    };
    let mut all = vec![by_account(Part::Author, author)];
    for it in commits {
        all.push(signed(Part::CommitAuthor, &it.author, &it.commit.author));
        if it.committer.as_ref().is_none_or(|it| it.login != GITHUB_ITSELF) {
            all.push(signed(Part::Committer, &it.committer, &it.commit.committer));
        }
        for (name, email) in co_authors(&it.commit.message) {
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

/// Who pushed to the branch in its present life, by moves from newest to oldest.
pub(super) fn pushers(moves: Vec<Activity>, branch: &str, whole: bool) -> (Vec<User>, Option<String>) {
    let mut found: Vec<User> = Vec::new();
    let mut unread = None;
    for it in moves {
        if it.reference != branch || it.activity_type == "branch_deletion" {
            continue;
        }
        match it.actor {
            Some(user) if !found.iter().any(|known| known.id == user.id) => found.push(user),
            Some(_) => {}
            None => unread = Some("GitHub does not tell who made one of the pushes".to_owned()),
        }
        // What was pushed before the branch was made was pushed to another branch of that name.
        if it.activity_type == "branch_creation" {
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
    use serde_json::json;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";

    fn user(id: u64) -> User {
        User {
            id,
            login: format!("u{id}"),
        }
    }

    fn commit(committer: &str) -> Commit {
        serde_json::from_value(json!({
            "sha": HEAD, "parents": [],
            "author": {"id": 1, "login": "u1"}, "committer": {"id": 19_864_447, "login": committer},
            "commit": {"message": "x\n\nCo-authored-by: C <C@x.org>", "author": {"name": "A", "email": "A@x.org"},
                "committer": {"name": "GitHub", "email": "noreply@github.com"}},
        }))
        .expect("a commit")
    }

    #[test]
    fn what_people_do_on_githubs_pages_is_theirs_alone() {
        let parts = |it: &Commit| -> Vec<Part> {
            let all = contributors(&user(1), std::slice::from_ref(it), &[user(2)]);
            all.into_iter().map(|it| it.part).collect()
        };
        use Part::{Author, CoAuthor, CommitAuthor, Committer, Pusher};
        assert_eq!(
            parts(&commit("web-flow")),
            [Author, CommitAuthor, CoAuthor, Pusher]
        );
        assert_eq!(
            parts(&commit("carl")),
            [Author, CommitAuthor, Committer, CoAuthor, Pusher]
        );
    }

    #[test]
    fn an_empty_account_is_none() {
        let it: Commit =
            serde_json::from_value(json!({"sha": HEAD, "author": {}, "committer": null, "commit": {}}))
                .expect("a commit");
        assert_eq!((it.author, it.committer), (None, None));
    }

    #[test]
    fn commits_must_be_all_and_hold_the_head() {
        let one = [commit("carl")];
        assert_eq!(commits_doubt(&one, HEAD, 1, false), None);
        assert!(commits_doubt(&one, HEAD, 2, false).is_some());
        assert!(commits_doubt(&one, &HEAD.replace('0', "f"), 1, false).is_some());
        assert_eq!(commits_doubt(&[], HEAD, 0, true), None);
        assert!(commits_doubt(&[], HEAD, 0, false).is_some());
    }

    #[test]
    fn pushes_of_the_branchs_present_life_count() {
        let moved = |kind: &str, branch: &str, by: Option<u64>| -> Activity {
            let actor = by.map(|it| json!({"id": it, "login": "u"}));
            serde_json::from_value(
                json!({"activity_type": kind, "ref": branch, "after": HEAD, "actor": actor}),
            )
            .expect("a move")
        };
        let branch = "refs/heads/topic";
        let all = || {
            vec![
                moved("force_push", branch, Some(3)),
                moved("push", "refs/heads/other", Some(9)),
                moved("push", branch, Some(2)),
                moved("branch_creation", branch, Some(1)),
                moved("push", branch, Some(8)),
            ]
        };
        let ids = |found: Vec<User>| found.into_iter().map(|it| it.id).collect::<Vec<_>>();
        let (found, unread) = pushers(all(), branch, false);
        assert_eq!((ids(found), unread), (vec![3, 2, 1], None));
        let (found, unread) = pushers(all()[..1].to_vec(), branch, false);
        assert_eq!(ids(found), [3]);
        assert!(unread.is_some(), "older pushes were not read");
        assert!(
            pushers(vec![moved("push", branch, None)], branch, true)
                .1
                .is_some()
        );
    }
}
