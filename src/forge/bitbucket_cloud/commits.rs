//! Commits, by whatever Bitbucket calls them, and who has a part in a pull request: author, authors and committers of its
//! commits, co-authors, and who pushed to it since it was opened.

use crate::domain::facts::{Account, Contributor, Part};
use crate::domain::follow_up::CommitFacts;
use crate::domain::text::shortened;
use crate::forge::bitbucket_cloud::repository::Links;
use crate::forge::bitbucket_cloud::{BitbucketCloud, User};
use crate::forge::co_authors::co_authors;
use crate::forge::git::{commit_id, is_commit_id, own_commit_id, short_ref};
use crate::forge::pages::{BadPage, Limits, Listed};
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::HashSet;

/// Longest text that is kept of a commit, in characters.
const TEXT_MAX: usize = 300;
/// Digits of an abbreviation that are worth looking a commit up by.
const SHORTEST: usize = 7;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Commit {
    pub(super) hash: String,
    #[serde(default)]
    message: String,
    author: Option<Signature>,
    committer: Option<Signature>,
    #[serde(default)]
    date: String,
    #[serde(default)]
    pub(super) parents: Vec<Parent>,
    #[serde(default)]
    links: Links,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Parent {
    pub(super) hash: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Signature {
    /// `Name <e-mail>`.
    #[serde(default)]
    raw: String,
    /// The account that Bitbucket knows the e-mail of.
    user: Option<User>,
}

impl Signature {
    /// Name, and e-mail in lower case.
    fn parts(&self) -> (&str, Option<String>) {
        match self.raw.rsplit_once('<') {
            Some((name, email)) => {
                let email = email.trim_end().trim_end_matches('>').trim().to_lowercase();
                (name.trim(), Some(email).filter(|it| !it.is_empty()))
            }
            None => (self.raw.trim(), None),
        }
    }
}

impl Commit {
    /// The first line of its message.
    pub(super) fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

impl BitbucketCloud {
    /// The one commit that a full or abbreviated id names.
    pub(super) async fn commit_named(&self, repository: &str, name: &str) -> Result<Commit, Error> {
        let plain = (SHORTEST..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !plain {
            return Err(Error::NotJson("Bitbucket names no commit".to_owned()));
        }
        let found: Commit = self.get(repository, &["commit", name], &[]).await?;
        if !commit_id(&found.hash)?.starts_with(name) {
            return Err(Error::NotJson("another commit than the one asked for".to_owned()));
        }
        Ok(found)
    }

    /// The commit a branch stands on.
    pub(crate) async fn branch_head(&self, forge_project_id: &str, branch: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Branch {
            target: Parent,
        }
        let path = ["refs", "branches", short_ref(branch)];
        let found: Branch = self.get(forge_project_id, &path, &[]).await?;
        Ok(commit_id(&found.target.hash)?.to_owned())
    }

    /// What `of` reaches and `but` does not.
    pub(super) async fn commits_between(
        &self,
        repository: &str,
        but: &str,
        of: &str,
        limits: Limits,
    ) -> Result<Listed<Commit>, BadPage> {
        let path = ["commits", of];
        let query = [("exclude", but), ("pagelen", "100")];
        let (listed, _) = self.pages(repository, &path, &query, limits).await?;
        Ok(listed)
    }

    /// See [`crate::forge::Forge::commit`].
    pub(crate) async fn commit(
        &self,
        forge_project_id: &str,
        sha: &str,
    ) -> Result<Option<CommitFacts>, Error> {
        match self.commit_named(forge_project_id, own_commit_id(sha)?).await {
            Ok(it) => {
                let name = |of: &Option<Signature>| {
                    let name = of.as_ref().map_or("", |it| it.parts().0);
                    shortened(name, TEXT_MAX)
                };
                Ok(Some(CommitFacts {
                    title: shortened(it.title(), TEXT_MAX),
                    author: name(&it.author),
                    committer: name(if it.committer.is_some() {
                        &it.committer
                    } else {
                        &it.author
                    }),
                    committed_at: shortened(&it.date, TEXT_MAX),
                    web_url: Some(it.links.page()).filter(|it| !it.is_empty()),
                }))
            }
            Err(error) if error.status() == Some(404) => self.project(forge_project_id).await.map(|_| None),
            Err(error) => Err(error),
        }
    }
}

/// Why the list of commits cannot be trusted to be whole.
pub(super) fn commits_doubt(commits: &[Commit], head: &str, whole: bool, no_files: bool) -> Option<String> {
    let reason = if !whole {
        "the change has more commits than can be read"
    } else if commits.iter().any(|it| !is_commit_id(&it.hash)) {
        "Bitbucket lists a commit without a full id"
    } else if commits.is_empty() && no_files {
        return None;
    } else if !commits.iter().any(|it| it.hash == head) {
        "Bitbucket's list of commits does not hold the newest one"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Everyone, each once per part.
pub(super) fn contributors(author: &Account, commits: &[Commit], pushers: &[User]) -> Vec<Contributor> {
    let by_account = |part, account: Account| Contributor {
        part,
        name: account.name.clone(),
        account: Some(account),
        email: None,
    };
    let signed = |part, signature: &Signature| {
        let (name, email) = signature.parts();
        Contributor {
            part,
            account: signature.user.clone().map(Into::into),
            name: name.to_owned(),
            email,
        }
    };
    let mut all = vec![by_account(Part::Author, author.clone())];
    for it in commits {
        all.extend(it.author.as_ref().map(|by| signed(Part::CommitAuthor, by)));
        all.extend(it.committer.as_ref().map(|by| signed(Part::Committer, by)));
        for (name, email) in co_authors(&it.message) {
            all.push(Contributor {
                part: Part::CoAuthor,
                account: None,
                name: name.to_owned(),
                email: email
                    .map(|it| it.trim().to_lowercase())
                    .filter(|it| !it.is_empty()),
            });
        }
    }
    all.extend(
        pushers
            .iter()
            .map(|it| by_account(Part::Pusher, it.clone().into())),
    );
    let mut seen = HashSet::new();
    all.retain(|it| seen.insert(it.clone()));
    all
}

/// Something that happened to a pull request (`GET …/pullrequests/{id}/activity`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Activity {
    /// An approval or a comment has none.
    update: Option<Update>,
}

#[derive(Clone, Debug, Deserialize)]
struct Update {
    author: Option<User>,
    source: Option<UpdateSide>,
}

#[derive(Clone, Debug, Deserialize)]
struct UpdateSide {
    commit: Option<Parent>,
}

/// Who moved the source of a pull request, by its updates from newest to oldest, and why not all of them are known. The
/// oldest update is its opening, by its author.
pub(super) fn pushers(activity: &[Activity], whole: bool) -> (Vec<User>, Option<String>) {
    let updates: Vec<&Update> = activity.iter().filter_map(|it| it.update.as_ref()).collect();
    let commit = |it: &Update| {
        let of = it.source.as_ref().and_then(|it| it.commit.as_ref());
        of.map(|it| it.hash.clone())
    };
    let mut found: Vec<User> = Vec::new();
    let mut unread = None;
    for (at, it) in updates.iter().enumerate() {
        // Where the source stays as it was, it was a new title or the like.
        let moved = match updates.get(at + 1) {
            Some(older) => commit(it) != commit(older),
            None => true,
        };
        match &it.author {
            _ if !moved => {}
            Some(user) if !found.iter().any(|known| known.uuid == user.uuid) => found.push(user.clone()),
            Some(_) => {}
            None => unread = Some("Bitbucket does not tell who made one of the pushes".to_owned()),
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

    fn commit() -> Commit {
        serde_json::from_value(json!({
            "hash": HEAD, "message": "x\n\nCo-authored-by: C <C@x.org>",
            "author": {"raw": "A B <A@x.org>", "user": {"uuid": "{1}", "nickname": "a", "display_name": "A B"}},
            "committer": {"raw": "nobody"}, "parents": [{"hash": HEAD}],
        }))
        .expect("a commit")
    }

    #[test]
    fn everybody_with_a_part_is_told() {
        let author = Account {
            id: "{1}".to_owned(),
            username: "a".to_owned(),
            name: "A B".to_owned(),
        };
        let all = contributors(&author, &[commit()], &[]);
        let parts: Vec<Part> = all.iter().map(|it| it.part).collect();
        assert_eq!(
            parts,
            [Part::Author, Part::CommitAuthor, Part::Committer, Part::CoAuthor]
        );
        assert_eq!(all[1].email.as_deref(), Some("a@x.org"));
        assert_eq!(
            (all[2].name.as_str(), &all[2].email, &all[2].account),
            ("nobody", &None, &None)
        );
        assert_eq!(all[3].email.as_deref(), Some("c@x.org"));
    }

    #[test]
    fn commits_must_be_all_and_hold_the_head() {
        let one = [commit()];
        assert_eq!(commits_doubt(&one, HEAD, true, false), None);
        assert!(commits_doubt(&one, HEAD, false, false).is_some());
        assert!(commits_doubt(&one, &HEAD.replace('0', "f"), true, false).is_some());
        assert_eq!(commits_doubt(&[], HEAD, true, true), None);
        assert!(commits_doubt(&[], HEAD, true, false).is_some());
    }

    #[test]
    fn who_moved_the_source_pushed() {
        let update = |by: Option<&str>, commit: &str| -> Activity {
            let author = by.map(|it| json!({"uuid": it}));
            serde_json::from_value(
                json!({"update": {"author": author, "source": {"commit": {"hash": commit}}}}),
            )
            .expect("an update")
        };
        let comment: Activity = serde_json::from_value(json!({"comment": {"id": 1}})).expect("a comment");
        let all = [
            update(Some("{retitled}"), "b"),
            comment,
            update(Some("{pushed}"), "b"),
            update(Some("{opened}"), "a"),
        ];
        let (found, unread) = pushers(&all, true);
        let ids: Vec<&str> = found.iter().map(|it| it.uuid.as_str()).collect();
        assert_eq!((ids, unread), (vec!["{pushed}", "{opened}"], None));
        assert!(pushers(&all, false).1.is_some());
        assert!(pushers(&[update(None, "a")], true).1.is_some());
    }
}
