//! Lists that are not about one change: what is open or was changed lately in a repository, and where its branches stand.

use crate::domain::policy::NamePattern;
use crate::forge::bitbucket_cloud::BitbucketCloud;
use crate::forge::bitbucket_cloud::pull_request::PullRequest;
use crate::forge::git::{commit_id, full_ref, is_commit_id};
use crate::forge::pages::Limits;
use crate::forge::{ChangeHead, ListedChange, Swept};
use crate::outbound::{Error, unix_seconds};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Pull requests on a page: Bitbucket's maximum.
const PER_PAGE: &str = "50";
const OPEN_LIMITS: Limits = Limits {
    pages: 200,
    bytes: 32 * 1024 * 1024,
};
const BRANCH_LIMITS: Limits = Limits {
    pages: 100,
    bytes: 16 * 1024 * 1024,
};
/// Open pull requests whose statuses are read back at one look. Each costs a call, and Bitbucket allows a thousand an hour.
const STATUSES_MAX: usize = 5;
/// Up to so many branches are asked for one by one; more are listed.
const ONE_BY_ONE: usize = 3;

#[derive(Debug, Deserialize)]
struct Branch {
    name: String,
    target: Tip,
}

#[derive(Debug, Deserialize)]
struct Tip {
    hash: String,
}

impl BitbucketCloud {
    fn shown(&self, repository: &str, it: PullRequest) -> ChangeHead {
        let short = it.source.short();
        let head = self.kept.head(repository, it.number, short, &it.updated_on);
        ChangeHead {
            number: it.number,
            // Not known in full until it is read.
            head: head.filter(|it| is_commit_id(it)).unwrap_or_default(),
            target: it.target_ref(),
            source: it.source_ref(),
            draft: it.is_draft(),
            updated_at: it.updated_on,
            title: it.title,
        }
    }

    /// Open pull requests, oldest first, so that what is opened while the pages are read comes last.
    pub(crate) async fn open_changes(&self, forge_project_id: &str) -> Result<Vec<ChangeHead>, Error> {
        self.begin(1)?;
        let query = [("state", "OPEN"), ("sort", "created_on"), ("pagelen", PER_PAGE)];
        let (listed, _) = self
            .pages::<PullRequest>(forge_project_id, &["pullrequests"], &query, OPEN_LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the repository has more open pull requests than can be read".to_owned(),
            ));
        }
        let mut seen = HashSet::new();
        let heads: Vec<ChangeHead> = listed
            .items
            .into_iter()
            .filter(|it| seen.insert(it.number))
            .map(|it| self.shown(forge_project_id, it))
            .collect();
        self.kept.keep_open(forge_project_id, &heads);
        Ok(heads)
    }

    /// See [`crate::forge::Forge::changed_since`]. Bitbucket has no list over all repositories.
    pub(crate) async fn changed_since(
        &self,
        forge_project_id: Option<&str>,
        since: i64,
        calls_max: u32,
    ) -> Result<Swept, Error> {
        let Some(id) = forge_project_id else {
            return Ok(Swept::TooLong);
        };
        self.begin(1)?;
        let query = [
            ("state", "OPEN"),
            ("state", "MERGED"),
            ("state", "DECLINED"),
            ("state", "SUPERSEDED"),
            ("sort", "-updated_on"),
            ("pagelen", PER_PAGE),
        ];
        let (mut items, mut began, mut next) = (Vec::new(), None, None::<String>);
        let mut seen = HashSet::new();
        for _ in 0..calls_max {
            let (reply, found) = self
                .page::<PullRequest>(id, &["pullrequests"], &query, next.as_deref(), OPEN_LIMITS.bytes)
                .await?;
            began = began.or_else(|| reply.header("date").and_then(unix_seconds));
            next = found.next_page()?;
            let mut older = false;
            for it in found.values {
                let updated = it.updated();
                if updated.is_some_and(|at| at < since) {
                    older = true;
                } else if seen.insert(it.number) {
                    items.push(ListedChange {
                        forge_project_id: id.to_owned(),
                        state: it.state()?,
                        // Bitbucket tells when anything changed last, and for a merged one that is not before its merge.
                        merged_at: updated,
                        head: self.shown(id, it),
                    });
                }
            }
            if older || next.is_none() {
                return Ok(Swept::Whole { items, at: began });
            }
        }
        Ok(Swept::TooLong)
    }

    /// See [`crate::forge::Forge::restless_commits`]. Bitbucket tells nobody which statuses changed, so the heads of open pull
    /// requests are looked at in turn.
    pub(crate) async fn restless_commits(&self, forge_project_id: &str) -> Result<BTreeSet<String>, Error> {
        let open = match self.kept.open_lately(forge_project_id) {
            Some(open) => open,
            None => {
                self.open_changes(forge_project_id).await?;
                self.kept.open_lately(forge_project_id).unwrap_or_default()
            }
        };
        let turn = self.kept.turn(forge_project_id, open.len(), STATUSES_MAX);
        Ok(turn.into_iter().map(|it| open[it].clone()).collect())
    }

    /// See [`crate::forge::Forge::branches`].
    pub(crate) async fn branches(
        &self,
        forge_project_id: &str,
        patterns: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        self.begin(u32::try_from(patterns.len()).unwrap_or(u32::MAX))?;
        let mut compiled = Vec::new();
        for pattern in patterns {
            match NamePattern::new(pattern) {
                Ok(it) => compiled.push(it),
                Err(_) => return Err(Error::Refused(format!("{pattern:?} is not a branch pattern"))),
            }
        }
        let literal = |it: &String| !it.contains(['*', '?', '[', '{']);
        if patterns.len() <= ONE_BY_ONE && patterns.iter().all(literal) {
            return self.named_branches(forge_project_id, patterns).await;
        }
        let path = ["refs", "branches"];
        let (listed, _) = self
            .pages::<Branch>(forge_project_id, &path, &[("pagelen", "100")], BRANCH_LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "there are more branches than can be read".to_owned(),
            ));
        }
        let mut found = BTreeMap::new();
        for it in listed.items {
            let name = full_ref(&it.name);
            if compiled.iter().any(|it| it.matches_branch(&name)) {
                found.insert(name, commit_id(&it.target.hash)?.to_owned());
            }
        }
        Ok(found)
    }

    async fn named_branches(
        &self,
        forge_project_id: &str,
        names: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        let mut found = BTreeMap::new();
        let mut missing = false;
        for name in names {
            match self.branch_head(forge_project_id, name).await {
                Ok(head) => drop(found.insert(full_ref(name), head)),
                Err(error) if error.status() == Some(404) => missing = true,
                Err(error) => return Err(error),
            }
        }
        if missing {
            // A repository that is hidden from us answers the same as a branch that is gone.
            self.project(forge_project_id).await?;
        }
        Ok(found)
    }
}
