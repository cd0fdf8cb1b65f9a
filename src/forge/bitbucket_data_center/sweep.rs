//! Lists that are not about one change: what is open or was changed lately in a repository, and whose builds moved.

use crate::forge::bitbucket_data_center::pull_request::PullRequest;
use crate::forge::bitbucket_data_center::repository::{Place, lock};
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, Page, Went};
use crate::forge::pages::{Limits, is_limit};
use crate::forge::{ChangeHead, Swept};
use crate::outbound::{Error, Method, unix_seconds};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Pages of open pull requests.
const OPEN_LIMITS: Limits = Limits {
    pages: 100,
    bytes: 32 * 1024 * 1024,
};
/// Commits whose builds are counted in one call.
const COUNTED_MAX: usize = 100;
/// Statuses that are read back at each look, whatever the counts say.
const SLICE: usize = 10;

/// What builds the heads of a repository's open pull requests bore at the last look.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// How many builds of each state, by commit.
    counts: HashMap<String, String>,
    /// The last commit of the slice that was read back.
    at: String,
}

impl BitbucketDataCenter {
    /// Open pull requests, oldest first, so that what is opened while the pages are read comes last.
    pub(crate) async fn open_changes(&self, forge_project_id: &str) -> Result<Vec<ChangeHead>, Error> {
        self.begin(1)?;
        let place = self.place(forge_project_id).await?;
        self.open_at(&place).await
    }

    pub(super) async fn open_at(&self, place: &Place) -> Result<Vec<ChangeHead>, Error> {
        let query = [("state", "OPEN"), ("order", "OLDEST"), ("direction", "INCOMING")];
        let listed = self
            .pages::<PullRequest>(place, &["pull-requests"], &query, OPEN_LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the repository has more open pull requests than Bitbucket lists".to_owned(),
            ));
        }
        let mut seen = HashSet::new();
        let heads = listed.items.into_iter().map(PullRequest::shown);
        Ok(heads.filter(|it| seen.insert(it.number)).collect())
    }

    /// See [`crate::forge::Forge::changed_since`]. There is no list over all repositories. Whether "newest" means opened or
    /// changed is not documented, so the list ends early only while its entries fall in time.
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
        let place = self.place(id).await?;
        let (mut items, mut began, mut start) = (Vec::new(), None, 0);
        let (mut seen, mut last, mut falls) = (HashSet::new(), i64::MAX, true);
        for _ in 0..calls_max {
            let from = start.to_string();
            let call = self.in_repository(Method::Get, "api", &place, &["pull-requests"])?;
            let call = call.query([
                ("state", "ALL"),
                ("order", "NEWEST"),
                ("direction", "INCOMING"),
                ("limit", "100"),
                ("start", from.as_str()),
            ]);
            let reply = self.fetch_at(&place, call.cap(OPEN_LIMITS.bytes)).await?;
            began = began.or(reply.header("date").and_then(unix_seconds));
            let mut found = Vec::new();
            let went = reply.json::<Page<PullRequest>>()?.take(start, &mut found);
            let mut older = false;
            for it in found {
                let updated = it.updated();
                falls &= updated <= last;
                last = updated;
                if updated / 1000 < since {
                    older = true;
                } else if seen.insert(it.number) {
                    items.extend(it.listed(id));
                }
            }
            match went {
                Went::ToTheEnd => return Ok(Swept::Whole { items, at: began }),
                Went::On(_) if older && falls => return Ok(Swept::Whole { items, at: began }),
                Went::On(next) => start = next,
                Went::Short => break,
            }
        }
        Ok(Swept::TooLong)
    }

    /// The heads of open pull requests whose builds are others than at the last look, and some of the rest in turn: counts
    /// alone could be kept the same by whoever wants to.
    pub(crate) async fn restless_commits(&self, forge_project_id: &str) -> Result<BTreeSet<String>, Error> {
        self.begin(2)?;
        let place = self.place(forge_project_id).await?;
        let open = self.open_at(&place).await?;
        let heads: BTreeSet<String> = open
            .into_iter()
            .map(|it| it.head)
            .filter(|it| !it.is_empty())
            .collect();
        let all: Vec<&String> = heads.iter().collect();
        let mut counts: HashMap<String, String> = HashMap::new();
        for chunk in all.chunks(COUNTED_MAX) {
            let call = self.call(Method::Post, &["build-status", "latest", "commits", "stats"])?;
            let found: HashMap<String, Value> = match self.fetch(call.json(&serde_json::json!(chunk))).await {
                Ok(reply) => reply.json()?,
                Err(error) if is_limit(&error) => return Err(error),
                // Not everybody's token may count them; what is read in turn is.
                Err(_) => break,
            };
            counts.extend(found.into_iter().map(|(commit, it)| (commit, it.to_string())));
        }
        let mut kept = lock(&self.kept.builds);
        let looked = kept.entry(place.id).or_default();
        let mut restless: BTreeSet<String> = heads
            .iter()
            .filter(|it| counts.get(*it) != looked.counts.get(*it))
            .cloned()
            .collect();
        let turn = slice(&heads, &looked.at);
        if let Some(last) = turn.last() {
            looked.at.clone_from(last);
        }
        restless.extend(turn);
        looked.counts = counts;
        Ok(restless)
    }
}

/// The next few after `last`, round and round.
fn slice(all: &BTreeSet<String>, last: &str) -> Vec<String> {
    use std::ops::Bound::{Excluded, Unbounded};
    let after = all.range::<str, _>((Excluded(last), Unbounded));
    after
        .chain(all.iter())
        .take(SLICE.min(all.len()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_turn() {
        let all: BTreeSet<String> = (0..25).map(|n| format!("{n:02}")).collect();
        let (mut last, mut seen) = (String::new(), BTreeSet::new());
        for _ in 0..3 {
            let turn = slice(&all, &last);
            assert_eq!(turn.len(), SLICE);
            last = turn.last().expect("some").clone();
            seen.extend(turn);
        }
        assert_eq!(seen, all);
        assert!(slice(&BTreeSet::new(), "x").is_empty());
        let few: BTreeSet<String> = ["a".to_owned()].into();
        assert_eq!(slice(&few, "a"), ["a"]);
    }
}
