//! Repositories by their UUID, and who the token is.

use crate::domain::facts::Account;
use crate::forge::bitbucket_cloud::{BitbucketCloud, User, is_uuid};
use crate::forge::git::page_url;
use crate::forge::{ChangeHead, ForgeProject, Identity, Tier};
use crate::outbound::{Error, Method, Reply};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it is believed who the token is.
const ME_KEPT: Duration = Duration::from_secs(300);

/// How long a list of what is open is good enough for looking at its statuses.
const OPEN_KEPT: Duration = Duration::from_secs(60);

/// What is kept between calls.
#[derive(Debug, Default)]
pub(super) struct Kept {
    me: Mutex<Option<(Instant, Identity)>>,
    /// Of pull requests, by repository and number: the full head they had when they were read.
    heads: Mutex<HashMap<(String, u64), Head>>,
    /// Of repositories: the heads of what was open at the last look.
    open: Mutex<HashMap<String, (Instant, Vec<String>)>>,
    /// Of repositories: from which of its open pull requests on the statuses are looked at next.
    turns: Mutex<HashMap<String, usize>>,
}

/// A head as it was read.
#[derive(Clone, Debug)]
struct Head {
    /// What lists show of it, and when the pull request was changed last.
    short: String,
    updated: String,
    full: String,
}

impl Kept {
    /// The full head of a pull request that has not been touched since it was read. An abbreviation alone proves nothing:
    /// somebody could make another commit that begins the same.
    pub(super) fn head(&self, repository: &str, number: u64, short: &str, updated: &str) -> Option<String> {
        let heads = lock(&self.heads);
        let it = heads.get(&(repository.to_owned(), number))?;
        (it.short == short && it.updated == updated && !updated.is_empty()).then(|| it.full.clone())
    }

    pub(super) fn keep_head(&self, repository: &str, number: u64, short: &str, updated: &str, full: &str) {
        let head = Head {
            short: short.to_owned(),
            updated: updated.to_owned(),
            full: full.to_owned(),
        };
        lock(&self.heads).insert((repository.to_owned(), number), head);
    }

    /// Keeps what is open, and forgets the heads of what is not any more.
    pub(super) fn keep_open(&self, repository: &str, open: &[ChangeHead]) {
        let is_open = |number: u64| open.iter().any(|it| it.number == number);
        lock(&self.heads).retain(|(of, number), _| of != repository || is_open(*number));
        let heads = open.iter().map(|it| it.head.clone()).filter(|it| !it.is_empty());
        let kept = (Instant::now(), heads.collect());
        lock(&self.open).insert(repository.to_owned(), kept);
    }

    /// The heads of what was open within the last minute, where somebody looked.
    pub(super) fn open_lately(&self, repository: &str) -> Option<Vec<String>> {
        let open = lock(&self.open);
        let (at, heads) = open.get(repository)?;
        (at.elapsed() < OPEN_KEPT).then(|| heads.clone())
    }

    /// The next `most` of so many, in turn.
    pub(super) fn turn(&self, repository: &str, of: usize, most: usize) -> Vec<usize> {
        if of == 0 {
            return Vec::new();
        }
        let mut turns = lock(&self.turns);
        let from = turns.entry(repository.to_owned()).or_default();
        let found = (0..most.min(of)).map(|it| (*from + it) % of).collect();
        *from = (*from + most.min(of)) % of;
        found
    }
}

#[derive(Debug, Deserialize)]
struct Repository {
    uuid: String,
    full_name: String,
    mainbranch: Option<Named>,
    #[serde(default)]
    links: Links,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// Links of an entity to its pages.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Links {
    html: Option<Link>,
}

#[derive(Clone, Debug, Deserialize)]
struct Link {
    href: String,
}

impl Links {
    /// The page for people; empty if there is none that a link may lead to.
    pub(super) fn page(&self) -> String {
        self.html
            .as_ref()
            .map(|it| page_url(&it.href))
            .unwrap_or_default()
    }
}

impl BitbucketCloud {
    /// A repository by UUID, or by `workspace/name`.
    pub(crate) async fn project(&self, forge_project_id: &str) -> Result<ForgeProject, Error> {
        let call = match forge_project_id.split_once('/') {
            None => self.in_repository(Method::Get, forge_project_id, &[])?,
            Some((workspace, name)) => self.call(Method::Get, &["repositories", workspace, name])?,
        };
        let it: Repository = self.fetch(call).await?.json()?;
        if !is_uuid(&it.uuid) {
            return Err(Error::NotJson("a repository without a UUID".to_owned()));
        }
        Ok(ForgeProject {
            id: it.uuid,
            path: it.full_name,
            web_url: it.links.page(),
            default_branch: it.mainbranch.map(|it| it.name),
            archived: false,
            access_level: None,
            merge_needs_pipeline: false,
            merge_on_skipped_pipeline: false,
            merge_needs_checks: false,
            ci_config: None,
        })
    }

    /// Who the token is, as it was told within the last minutes.
    pub(crate) async fn identify(&self) -> Result<Identity, Error> {
        let lately = lock(&self.kept.me)
            .as_ref()
            .filter(|(at, _)| at.elapsed() < ME_KEPT)
            .map(|(_, me)| me.clone());
        if let Some(me) = lately {
            return Ok(me);
        }
        let reply = self.send(self.call(Method::Get, &["user"])?).await?;
        let scopes = scopes(&reply);
        let account = match reply.status {
            // The token is taken, and lacks the scope to be told whose it is: access tokens can't have it.
            403 | 404 => Account {
                id: String::new(),
                username: String::new(),
                name: String::new(),
            },
            _ => reply.accepted()?.json::<User>()?.into(),
        };
        let me = Identity {
            account,
            scopes,
            token_expires_at: None,
            version: String::new(),
            tier: Tier::Unknown,
        };
        *lock(&self.kept.me) = Some((Instant::now(), me.clone()));
        Ok(me)
    }
}

/// What the token may do, as every answer tells.
fn scopes(reply: &Reply) -> Vec<String> {
    let told = reply.header("x-oauth-scopes").unwrap_or_default();
    let mut scopes: Vec<String> = told
        .split([',', ' '])
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
        .collect();
    scopes.sort();
    scopes
}

pub(super) fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_counts_only_while_nothing_was_touched() {
        let kept = Kept::default();
        let full = "0123456789abcdef0123456789abcdef01234567";
        kept.keep_head("r", 1, "0123456789ab", "now", full);
        assert_eq!(kept.head("r", 1, "0123456789ab", "now").as_deref(), Some(full));
        assert_eq!(kept.head("r", 1, "0123456789ab", "later"), None);
        assert_eq!(kept.head("r", 1, "0123456789ac", "now"), None);
        assert_eq!(kept.head("r", 2, "0123456789ab", "now"), None);
        assert_eq!(kept.open_lately("r"), None);
        kept.keep_open("r", &[]);
        assert_eq!(kept.head("r", 1, "0123456789ab", "now"), None);
        assert_eq!(kept.open_lately("r"), Some(vec![]));
    }

    #[test]
    fn all_get_their_turn() {
        let kept = Kept::default();
        assert_eq!(kept.turn("r", 5, 2), [0, 1]);
        assert_eq!(kept.turn("r", 5, 2), [2, 3]);
        assert_eq!(kept.turn("r", 5, 2), [4, 0]);
        assert_eq!(kept.turn("r", 1, 2), [0]);
        assert!(kept.turn("r", 0, 2).is_empty());
    }
}
