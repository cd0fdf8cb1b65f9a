//! GitLab, from 15.7 on, by its REST API v4. It never follows a link that an answer names, and puts the token into one
//! header only.

mod account;
mod commit;
mod contributors;
mod deployments;
mod files;
mod inspect;
mod inspect_environments;
mod landing;
mod lock;
mod merge;
mod merge_request;
mod person;
mod plan;
mod provision;
mod read;
mod status;
mod sweep;
mod system_hook;
mod trial;
pub mod webhook;

#[cfg(test)]
mod tests;

use crate::domain::facts::Account;
use crate::domain::text::shortened;
use crate::domain::text::visible;
use crate::forge::Connection;
use crate::forge::Identity;
use crate::forge::git::{commit_id, full_ref, is_commit_id, page_url, short_ref};
use crate::forge::hold::Held;
use crate::forge::pages::{BadPage, Limits, Listed, is_limit, pause};
use crate::outbound;
use crate::outbound::Call;
use crate::outbound::Client;
use crate::outbound::Error;
use crate::outbound::Method;
use crate::outbound::Reply;
use crate::outbound::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use url::Url;

/// Entries asked for per page: GitLab's maximum.
const PER_PAGE: usize = 100;
/// How long the looks in the background go by what the token was.
const KNOWN_FOR: Duration = Duration::from_secs(180);
/// Attempts at one page of a list before it counts as unreadable.
const PAGE_TRIES: u32 = 3;

/// A connected GitLab.
#[derive(Clone, Debug)]
pub struct GitLab {
    client: Held,
    base: Url,
    token: Secret,
    /// Reads for nobody who waits: gives way when the rate limit is nearly used up.
    background: bool,
    /// Who the token is, as it was told last.
    me: Arc<Mutex<Option<(Instant, Identity)>>>,
}

impl GitLab {
    /// Prepares a connection; calls nothing yet.
    ///
    /// # Errors
    /// `Refused` if base URL or CA certificates cannot be used.
    pub fn new(connection: &Connection, token: Secret, allow_http: &[String]) -> Result<Self, Error> {
        let base = outbound::parse_base(&connection.base_url, allow_http)?;
        let client = Client::new(connection.ca_pem.as_deref(), allow_http)?;
        Ok(GitLab {
            client: Held::new(client),
            base,
            token,
            background: false,
            me: Arc::default(),
        })
    }

    pub(super) fn in_background(&self) -> Self {
        GitLab {
            background: true,
            ..self.clone()
        }
    }

    pub(super) fn heir_of(mut self, before: &GitLab) -> Self {
        self.client.under(&before.client);
        self
    }

    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.client.silent_for()
    }

    /// See [`crate::forge::Forge::time_there`].
    pub(super) fn time_there(&self) -> Option<crate::domain::time::Time> {
        self.client.time_there()
    }

    /// Who the token is; for the looks in the background, which are about hundreds of projects, as it was told within
    /// the last minutes.
    async fn me(&self) -> Result<Identity, Error> {
        let known = || self.me.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known()
            .as_ref()
            .filter(|(at, _)| self.background && at.elapsed() < KNOWN_FOR)
            .map(|(_, me)| me.clone());
        if let Some(me) = lately {
            return Ok(me);
        }
        let me = self.identify().await?;
        *known() = Some((Instant::now(), me.clone()));
        Ok(me)
    }

    /// Before a piece of reading that takes about so many calls.
    fn begin(&self, calls: u32) -> Result<(), Error> {
        if self.background {
            self.client.admit_background(calls)
        } else {
            Ok(())
        }
    }

    /// A call below `/api/v4`, the token with it.
    fn call(&self, method: Method, segments: &[&str]) -> Result<Call, Error> {
        let url = outbound::join(&outbound::join(&self.base, &["api", "v4"])?, segments)?;
        Ok(Call::new(method, url).secret_header("private-token", self.token.clone()))
    }

    /// Reads one thing.
    async fn get<T: DeserializeOwned>(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<T, Error> {
        let call = self.call(Method::Get, segments)?.query(query.iter().copied());
        self.client.fetch(call).await?.json()
    }

    /// Reads all pages of a list.
    ///
    /// # Errors
    /// The page that could not be read, after [`PAGE_TRIES`] attempts (one where the answer says how long to wait).
    async fn pages<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        limits: Limits,
    ) -> Result<Listed<T>, BadPage> {
        let mut items = Vec::new();
        let mut page = 1;
        loop {
            let bad = |error| BadPage { page, error };
            let reply = self
                .page(segments, query, page, limits.bytes)
                .await
                .map_err(bad)?;
            let found: Vec<T> = reply.json().map_err(bad)?;
            let next = next_page(
                page,
                reply.header("x-next-page"),
                reply.header("link"),
                found.len(),
            )
            .map_err(bad)?;
            items.extend(found);
            match next {
                None => return Ok(Listed { items, whole: true }),
                Some(next) if next > limits.pages => return Ok(Listed { items, whole: false }),
                Some(next) => page = next,
            }
        }
    }

    async fn page(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        page: u32,
        cap: u64,
    ) -> Result<Reply, Error> {
        let (number, size) = (page.to_string(), PER_PAGE.to_string());
        let paging = [("page", number.as_str()), ("per_page", size.as_str())];
        let mut attempt = 1;
        loop {
            let call = self.call(Method::Get, segments)?;
            let call = call.query(query.iter().copied().chain(paging)).cap(cap);
            match self.client.fetch(call).await {
                Err(error) if attempt < PAGE_TRIES && error.may_pass() && !is_limit(&error) => {
                    pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// A failed read in words that an admin can act on.
pub(crate) fn explained(error: &Error) -> String {
    let Error::Status { code, excerpt, .. } = error else {
        return error.to_string();
    };
    let sentence = match code {
        300..=399 => return format!("GitLab {error}"),
        401 => "GitLab does not accept the token: it is wrong, expired or revoked",
        403 => "the token may not do this: it needs the scope api, and its account a role in the project",
        404 => "GitLab knows no such project, or does not show it to the token's account",
        429 => "GitLab asks to be called less often",
        500..=599 => "GitLab is not able to answer now",
        _ => "GitLab does not answer as expected",
    };
    with_words(&format!("{sentence} ({code})"), excerpt)
}

/// The page after `page`, by `X-Next-Page`, else by `Link`, else by whether this one was full. Only a number is ever taken
/// from these headers, never an address.
fn next_page(
    page: u32,
    header: Option<&str>,
    link: Option<&str>,
    items: usize,
) -> Result<Option<u32>, Error> {
    if let Some(header) = header.map(str::trim) {
        if header.is_empty() {
            return Ok(None);
        }
        return match header.parse::<u32>() {
            Ok(next) if next == page + 1 => Ok(Some(next)),
            _ => Err(Error::NotJson(format!(
                "page {page} of a list names a next page that is not {}",
                page + 1
            ))),
        };
    }
    let more = match link {
        Some(link) => link.split(',').any(|it| it.contains("rel=\"next\"")),
        None => items >= PER_PAGE,
    };
    Ok(more.then_some(page + 1))
}

/// GitLab's stable number of a project, as it may stand in a URL.
fn project_number(id: &str) -> Result<&str, Error> {
    let plain = !id.is_empty() && id.len() <= 19 && id.bytes().all(|b| b.is_ascii_digit());
    if plain {
        Ok(id)
    } else {
        Err(Error::Refused(
            "a GitLab project is named by its number".to_owned(),
        ))
    }
}

/// An account as GitLab's entities show it.
#[derive(Clone, Debug, Deserialize)]
struct User {
    id: u64,
    #[serde(default)]
    username: String,
    #[serde(default)]
    name: String,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Account {
            id: user.id.to_string(),
            username: user.username,
            name: user.name,
        }
    }
}

/// GitLab's own words in an error answer: `message` or `error`, a text, a list, or a map of lists.
fn words(excerpt: &str) -> String {
    fn flat(value: &serde_json::Value, out: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => out.push(text.clone()),
            serde_json::Value::Array(items) => items.iter().for_each(|it| flat(it, out)),
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let mut inner = Vec::new();
                    flat(value, &mut inner);
                    out.push(format!("{name} {}", inner.join(", ")));
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(excerpt) {
        for field in ["message", "error", "error_description"] {
            if let Some(value) = value.get(field) {
                flat(value, &mut found);
            }
        }
    }
    let text = if found.is_empty() {
        excerpt.to_owned()
    } else {
        found.join("; ")
    };
    shortened(&visible(&text), 200)
}

/// `sentence`, with GitLab's words behind it where there are any.
fn with_words(sentence: &str, excerpt: &str) -> String {
    let words = words(excerpt);
    if words.is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence} (GitLab says: {words})")
    }
}
