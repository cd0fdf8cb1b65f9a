//! Lists that are not about one change: what is open or was changed lately in a repository, and which webhooks got lost.
//!
//! GitHub counts a list that has not changed for nothing against the rate limit, if it is asked so (`If-None-Match`).

use crate::forge::github::pull_request::PullRequest;
use crate::forge::github::repository::{Place, is_elsewhere, lock, repository_number};
use crate::forge::github::{By, GitHub, PER_PAGE, has_next};
use crate::forge::{ChangeHead, Swept};
use crate::outbound::{Error, Method, Reply, unix_seconds};
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};

/// Pages of open pull requests.
const PAGES_MAX: u32 = 200;
const PAGE_BYTES: u64 = 32 * 1024 * 1024;
/// Answers kept for when nothing has changed, and the largest of them, in bytes.
const KEPT_MAX: usize = 512;
const KEPT_BYTES: usize = 1024 * 1024;
/// Pages of deliveries looked at, and lost ones fetched: the lists of changes find the same, so this only has to be quick.
const DELIVERY_PAGES: u32 = 5;
const DELIVERIES_MAX: usize = 50;
const DELIVERY_BYTES: u64 = 32 * 1024 * 1024;

/// An answer that GitHub may call unchanged.
#[derive(Clone, Debug)]
pub(super) struct Unchanged {
    etag: String,
    reply: Reply,
}

/// A delivery of a webhook, as GitHub keeps it for some days.
#[derive(Deserialize)]
struct Delivery {
    id: u64,
    guid: String,
    #[serde(default)]
    status_code: u16,
    #[serde(default)]
    event: String,
    repository_id: Option<u64>,
}

#[derive(Deserialize)]
struct Sent {
    request: SentRequest,
}

#[derive(Deserialize)]
struct SentRequest {
    payload: serde_json::Value,
}

impl GitHub {
    /// As [`GitHub::fetch`] for a page of a list that is asked for over and over; with GitHub's clock.
    pub(super) async fn fetch_again(
        &self,
        place: &Place,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(Reply, Option<i64>), Error> {
        let key = format!("{} {} {query:?}", place.id, segments.join("/"));
        let known = lock(&self.kept.lists).get(&key).cloned();
        let mut call = self
            .in_repository(Method::Get, place, segments)?
            .query(query.iter().copied())
            .cap(PAGE_BYTES);
        if let Some(known) = &known {
            call = call.header("if-none-match", &known.etag);
        }
        let reply = self.send(By::Installation(place.installation), call).await?;
        let at = reply.header("date").and_then(unix_seconds);
        if let (304, Some(known)) = (reply.status, known) {
            return Ok((known.reply, at));
        }
        let reply = match reply.accepted() {
            Err(error) if is_elsewhere(&error) => {
                self.doubt_place(place.id);
                return Err(error);
            }
            answer => answer?,
        };
        let mut kept = lock(&self.kept.lists);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        match reply.header("etag").map(str::to_owned) {
            Some(etag) if reply.body.len() <= KEPT_BYTES => {
                let reply = reply.clone();
                kept.insert(key, Unchanged { etag, reply });
            }
            _ => drop(kept.remove(&key)),
        }
        Ok((reply, at))
    }

    /// Open pull requests, oldest first, so that what is opened while the pages are read comes last.
    pub(crate) async fn open_changes(&self, forge_project_id: &str) -> Result<Vec<ChangeHead>, Error> {
        self.begin(1)?;
        let place = self.place(forge_project_id).await?;
        let size = PER_PAGE.to_string();
        let mut heads = Vec::new();
        let mut seen = HashSet::new();
        for page in 1..=PAGES_MAX {
            let page = page.to_string();
            let query = [
                ("state", "open"),
                ("sort", "created"),
                ("direction", "asc"),
                ("per_page", size.as_str()),
                ("page", page.as_str()),
            ];
            let (reply, _) = self.fetch_again(&place, &["pulls"], &query).await?;
            let found: Vec<PullRequest> = reply.json()?;
            heads.extend(
                found
                    .into_iter()
                    .map(PullRequest::shown)
                    .filter(|it| seen.insert(it.number)),
            );
            if !has_next(&reply) {
                return Ok(heads);
            }
        }
        Err(Error::NotJson(
            "the repository has more open pull requests than can be read".to_owned(),
        ))
    }

    /// See [`crate::forge::Forge::changed_since`]. GitHub has no list over all repositories.
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
        let size = PER_PAGE.to_string();
        let (mut items, mut began) = (Vec::new(), None);
        let mut seen = HashSet::new();
        for page in 1..=calls_max {
            let page = page.to_string();
            let query = [
                ("state", "all"),
                ("sort", "updated"),
                ("direction", "desc"),
                ("per_page", size.as_str()),
                ("page", page.as_str()),
            ];
            let (reply, at) = self.fetch_again(&place, &["pulls"], &query).await?;
            began = began.or(at);
            let found: Vec<PullRequest> = reply.json()?;
            let mut older = false;
            for it in found {
                match it.updated() {
                    Some(updated) if updated < since => older = true,
                    _ if seen.insert(it.number) => items.extend(it.listed(id)),
                    _ => {}
                }
            }
            if older || !has_next(&reply) {
                return Ok(Swept::Whole { items, at: began });
            }
        }
        Ok(Swept::TooLong)
    }

    /// See [`crate::forge::Forge::missed_hooks`]. What got lost is asked for once more as well.
    pub(crate) async fn missed_hooks(&self, forge_project_id: &str) -> Result<Vec<u64>, Error> {
        let id = repository_number(forge_project_id)?;
        self.begin(2)?;
        let (mut lost, mut arrived) = (Vec::new(), HashSet::new());
        let mut cursor: Option<String> = None;
        for _ in 0..DELIVERY_PAGES {
            let call = self.call(Method::Get, &["app", "hook", "deliveries"])?;
            let call = call.query([("per_page", "100")]);
            let call = call.query(cursor.as_deref().map(|it| ("cursor", it)));
            let reply = match self.fetch(By::App, call).await {
                Ok(reply) => reply,
                // The App has no webhook at all.
                Err(error) if matches!(error.status(), Some(400 | 404)) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let found: Vec<Delivery> = reply.json()?;
            for it in found {
                match it.status_code {
                    200..=299 => drop(arrived.insert(it.guid)),
                    _ if it.repository_id == Some(id) => lost.push(it),
                    _ => {}
                }
            }
            cursor = next_cursor(&reply);
            if cursor.is_none() {
                break;
            }
        }
        let (mut missed, mut asked) = (BTreeSet::new(), HashSet::new());
        lost.retain(|it| !arrived.contains(&it.guid) && asked.insert(it.guid.clone()));
        lost.truncate(DELIVERIES_MAX);
        for it in lost {
            let number = it.id.to_string();
            let path = ["app", "hook", "deliveries", number.as_str()];
            if it.event == "pull_request" {
                let call = self.call(Method::Get, &path)?.cap(DELIVERY_BYTES);
                let sent: Sent = self.fetch(By::App, call).await?.json()?;
                missed.extend(sent.request.payload["pull_request"]["number"].as_u64());
            }
            let again = [&path[..], &["attempts"]].concat();
            let call = self.call(Method::Post, &again)?;
            // Best effort: GitHub keeps a delivery for some days only.
            if let Err(error) = self.fetch(By::App, call).await
                && super::is_limit(&error)
            {
                return Err(error);
            }
        }
        Ok(missed.into_iter().collect())
    }
}

/// The cursor of the next page: the one part of the address in `Link` that is taken.
fn next_cursor(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    let next = link.split(',').find(|it| it.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once("cursor=")?;
    let end = rest.find(['&', '>'])?;
    let cursor = &rest[..end];
    let plain = !cursor.is_empty()
        && cursor.len() <= 200
        && cursor
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'%' | b'=' | b'.'));
    plain.then(|| percent_decoded(cursor))
}

fn percent_decoded(text: &str) -> String {
    let pair = format!("c={text}");
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
