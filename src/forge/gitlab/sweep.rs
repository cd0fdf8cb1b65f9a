//! Lists that are not about one change: what is open or was changed lately, over the whole installation, and which
//! webhooks got lost.

use crate::domain::facts::ChangeState;
use crate::forge::ListedChange;
use crate::forge::Swept;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::Limits;
use crate::forge::gitlab::merge_request::MergeRequest;
use crate::forge::gitlab::next_page;
use crate::forge::gitlab::project_number;
use crate::outbound::Error;
use crate::outbound::Method;
use crate::outbound::Reply;
use crate::outbound::unix_seconds;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Pages read at once: a page of 100 merge requests takes GitLab a good part of a second.
const AT_ONCE: u32 = 6;
/// Bytes of one page.
const PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// GitLab gives at most so many deliveries of a webhook a page, each with its whole body.
const DELIVERIES_PER_PAGE: &str = "20";
const DELIVERY_BYTES: u64 = 64 * 1024 * 1024;
/// Pages of failed deliveries looked at: the lists of changes find the same, so this only has to be quick.
const DELIVERY_PAGES: u32 = 5;
const HOOK_LIMITS: Limits = Limits {
    pages: 5,
    bytes: 4 * 1024 * 1024,
};

#[derive(Deserialize)]
struct Hook {
    id: u64,
    #[serde(default)]
    url: String,
}

/// A delivery of a webhook, as GitLab keeps it for a week.
#[derive(Deserialize)]
struct Delivery {
    #[serde(default)]
    response_status: serde_json::Value,
    #[serde(default)]
    request_data: serde_json::Value,
}

impl GitLab {
    /// See [`crate::forge::Forge::open_everywhere`].
    pub(crate) async fn open_everywhere(&self, calls_max: u32) -> Result<Swept, Error> {
        let query = [
            ("scope", "all"),
            ("state", "opened"),
            ("order_by", "created_at"),
            ("sort", "asc"),
        ];
        let swept = self.sweep(&["merge_requests"], &query, calls_max).await?;
        Ok(swept.filtered(|it| it.state == ChangeState::Open))
    }

    /// See [`crate::forge::Forge::changed_since`].
    pub(crate) async fn changed_since(
        &self,
        forge_project_id: Option<&str>,
        since: i64,
        calls_max: u32,
    ) -> Result<Swept, Error> {
        let since = jiff::Timestamp::from_second(since)
            .map_err(|_| Error::Refused("a time that is none".to_owned()))?
            .to_string();
        let query = [
            ("scope", "all"),
            ("state", "all"),
            ("updated_after", since.as_str()),
            ("order_by", "updated_at"),
            ("sort", "asc"),
        ];
        match forge_project_id {
            None => self.sweep(&["merge_requests"], &query, calls_max).await,
            Some(id) => {
                let path = ["projects", project_number(id)?, "merge_requests"];
                self.sweep(&path, &query, calls_max).await
            }
        }
    }

    /// Reads a list to its end, several pages at once.
    async fn sweep(&self, path: &[&str], query: &[(&str, &str)], calls_max: u32) -> Result<Swept, Error> {
        self.begin(1)?;
        let first = self.page(path, query, 1, PAGE_BYTES).await?;
        let at = first.header("date").and_then(unix_seconds);
        // GitLab leaves the total out where counting would take too long.
        let pages: Option<u32> = first
            .header("x-total-pages")
            .and_then(|it| it.trim().parse().ok());
        if pages.is_some_and(|it| it > calls_max) {
            return Ok(Swept::TooLong);
        }
        let mut items = Vec::new();
        let mut more = take(1, &first, &mut items)?;
        let mut next = 2;
        while more {
            if next > calls_max {
                return Ok(Swept::TooLong);
            }
            let last = pages.filter(|it| *it >= next).unwrap_or(u32::MAX);
            let end = last.min(calls_max).min(next + AT_ONCE - 1);
            let pages: Vec<_> = (next..=end)
                .map(|number| self.page(path, query, number, PAGE_BYTES))
                .collect();
            let wave: Vec<Result<Reply, Error>> =
                stream::iter(pages).buffered(AT_ONCE as usize).collect().await;
            for (number, reply) in (next..=end).zip(wave) {
                more = take(number, &reply?, &mut items)?;
                if !more {
                    break;
                }
            }
            next = end + 1;
        }
        // Between two pages a merge request may move from one to the other.
        let mut seen = BTreeSet::new();
        items.retain(|it: &ListedChange| seen.insert((it.forge_project_id.clone(), it.head.number)));
        Ok(Swept::Whole { items, at })
    }

    /// See [`crate::forge::Forge::missed_hooks`].
    pub(crate) async fn missed_hooks(
        &self,
        forge_project_id: &str,
        hook_url: &str,
    ) -> Result<Vec<u64>, Error> {
        let project = project_number(forge_project_id)?;
        self.begin(2)?;
        let hooks = match self
            .pages::<Hook>(&["projects", project, "hooks"], &[], HOOK_LIMITS)
            .await
        {
            Ok(listed) => listed.items,
            // A token that may not see them.
            Err(bad) if matches!(bad.error.status(), Some(401..=404)) => return Ok(Vec::new()),
            Err(bad) => return Err(bad.error),
        };
        let mut missed = BTreeSet::new();
        for hook in hooks.iter().filter(|it| it.url == hook_url) {
            let id = hook.id.to_string();
            let path = ["projects", project, "hooks", id.as_str(), "events"];
            // The newest first, whatever became of them, then those that failed.
            for status in [None, Some("client_failure"), Some("server_failure")] {
                match self.deliveries(&path, status).await {
                    Ok(deliveries) => missed.extend(deliveries.iter().filter_map(|it| lost(it, project))),
                    // GitLab keeps the history from 17.3 on.
                    Err(error) if matches!(error.status(), Some(400 | 403 | 404)) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(missed.into_iter().collect())
    }

    /// Deliveries of a webhook, newest first.
    async fn deliveries(&self, path: &[&str], status: Option<&str>) -> Result<Vec<Delivery>, Error> {
        let pages = if status.is_some() { DELIVERY_PAGES } else { 1 };
        let mut found = Vec::new();
        for page in 1..=pages {
            let page = page.to_string();
            let paging = [("page", page.as_str()), ("per_page", DELIVERIES_PER_PAGE)];
            let call = self.call(Method::Get, path)?.cap(DELIVERY_BYTES);
            let call = call.query(status.map(|it| ("status", it)).into_iter().chain(paging));
            let reply = self.client.fetch(call).await?;
            let items: Vec<Delivery> = reply.json()?;
            let last = items.is_empty() || reply.header("x-next-page").is_none_or(str::is_empty);
            found.extend(items);
            if last {
                break;
            }
        }
        Ok(found)
    }
}

/// Adds a page's entries; whether there is another one.
fn take(page: u32, reply: &Reply, items: &mut Vec<ListedChange>) -> Result<bool, Error> {
    let found: Vec<MergeRequest> = reply.json()?;
    let next = next_page(
        page,
        reply.header("x-next-page"),
        reply.header("link"),
        found.len(),
    )?;
    items.extend(found.into_iter().filter_map(MergeRequest::listed));
    Ok(next.is_some())
}

/// The merge request of this project that a delivery which was not taken was about.
fn lost(delivery: &Delivery, project: &str) -> Option<u64> {
    let status = match &delivery.response_status {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if status.starts_with('2') {
        return None;
    }
    let parsed;
    let data = match &delivery.request_data {
        serde_json::Value::String(text) => {
            parsed = serde_json::from_str::<serde_json::Value>(text).ok()?;
            &parsed
        }
        other => other,
    };
    if data["object_kind"] != "merge_request" {
        return None;
    }
    let about = &data["object_attributes"];
    let here = about["target_project_id"]
        .as_u64()
        .is_some_and(|it| it.to_string() == project);
    about["iid"].as_u64().filter(|_| here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_delivery_that_was_not_taken_and_is_about_this_project_is_lost() {
        let about = |project: u64| json!({"object_kind": "merge_request", "object_attributes": {"iid": 7, "target_project_id": project}});
        for (status, data, found) in [
            (json!("500"), about(42), Some(7)),
            (json!(413), about(42), Some(7)),
            (json!("internal error"), about(42), Some(7)),
            (json!("internal error"), json!(about(42).to_string()), Some(7)),
            (json!("202"), about(42), None),
            (json!("500"), about(99), None),
            (json!("500"), json!({"object_kind": "push"}), None),
            (json!(null), json!(null), None),
        ] {
            let delivery = Delivery {
                response_status: status.clone(),
                request_data: data,
            };
            assert_eq!(lost(&delivery, "42"), found, "{status}");
        }
    }
}
