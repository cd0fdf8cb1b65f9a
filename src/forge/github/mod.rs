//! GitHub and GitHub Enterprise Server as a GitHub App, by the REST API (version 2022-11-28) and GraphQL where REST has
//! nothing. It never follows a link that an answer names: renamed repositories are found again by their number.

mod app;
mod contributors;
mod deployments;
mod files;
mod graphql;
mod inspect;
mod inspect_environments;
mod landing;
mod manifest;
mod merge;
mod person;
mod pull_request;
mod queue;
mod read;
mod repository;
mod status;
mod sweep;
pub mod webhook;

pub use app::Credentials;
pub use manifest::{Converted, Wishes, convert, manifest};

use crate::domain::facts::Account;
use crate::domain::provision::Attempt;
use crate::domain::text::{shortened, visible};
use crate::forge::git::{commit_id, full_ref, is_commit_id, own_commit_id, page_url, short_ref};
use crate::forge::github::app::{App, Minted};
use crate::forge::github::repository::{Kept, Place, is_elsewhere};
use crate::forge::hold::Held;
use crate::forge::pages::{BadPage, Limits, Listed, is_limit, pause};
use crate::forge::{Connection, Tried};
use crate::outbound::{self, Call, Client, Error, Method, Reply, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Every GraphQL document that is sent.
pub const DOCUMENTS: [&str; 3] = [graphql::STATUSES, graphql::ENQUEUE, queue::QUEUE];
/// Entries asked for per page: GitHub's maximum.
const PER_PAGE: usize = 100;
/// Attempts at one page of a list before it counts as unreadable.
const PAGE_TRIES: u32 = 3;
/// GitHub's word for a secondary limit that names no wait: at least a minute.
const SECONDARY_WAIT: Duration = Duration::from_secs(60);
/// Bytes of an answer, unless a list says otherwise.
const BYTES: u64 = 8 * 1024 * 1024;

/// A connected GitHub App.
#[derive(Clone, Debug)]
pub struct GitHub {
    client: Held,
    /// Root of the REST API.
    api: Url,
    graphql: Url,
    app: Arc<App>,
    /// Reads for nobody who waits: gives way when the rate limit is nearly used up.
    background: bool,
    kept: Arc<Kept>,
}

/// What is done by hand on GitHub.
pub(super) const BY_HAND: &str = "on GitHub the gate is set up by hand: require the check signedapproval/BRANCH for each gated \
                                  branch, with this App as its source, and let nobody bypass it";
/// GitHub's lock is the required status.
pub(super) const NO_LOCK: &str =
    "GitHub has no other lock than the required status: enforce the project by commit_status";
/// What trying a gate out comes to here.
pub(super) fn not_tried() -> Tried {
    Tried {
        attempts: vec![Attempt {
            what: "Try the gate out".to_owned(),
            answer: "Not tried".to_owned(),
            means: "GitHub tells the rules in force on a branch itself, so nothing needs to be tried: see what was found \
                    about the gate."
                .to_owned(),
        }],
        cleared: true,
        ..Tried::default()
    }
}

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    App,
    Installation(u64),
}

impl GitHub {
    /// Prepares a connection; calls nothing yet.
    ///
    /// # Errors
    /// `Refused` if base URL, CA certificates or the App's credentials cannot be used.
    pub fn new(connection: &Connection, credentials: &Secret, allow_http: &[String]) -> Result<Self, Error> {
        let (api, graphql) = roots(&connection.base_url, allow_http)?;
        let client = Client::new(connection.ca_pem.as_deref(), allow_http)?;
        Ok(GitHub {
            client: Held::new(client),
            api,
            graphql,
            app: Arc::new(App::new(&Credentials::read(credentials)?)?),
            background: false,
            kept: Arc::default(),
        })
    }

    pub(super) fn in_background(&self) -> Self {
        GitHub {
            background: true,
            ..self.clone()
        }
    }

    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.client.silent_for()
    }

    /// See [`crate::forge::Forge::time_there`].
    pub(super) fn time_there(&self) -> Option<crate::domain::time::Time> {
        self.client.time_there()
    }

    pub(super) fn heir_of(mut self, before: &GitHub) -> Self {
        self.client.under(&before.client);
        self
    }

    /// Before a piece of reading that takes about so many calls.
    fn begin(&self, calls: u32) -> Result<(), Error> {
        if self.background {
            self.client.admit_background(calls)
        } else {
            Ok(())
        }
    }

    fn call(&self, method: Method, segments: &[&str]) -> Result<Call, Error> {
        Ok(Call::new(method, outbound::join(&self.api, segments)?).cap(BYTES))
    }

    /// Makes a call that must be answered with 2xx. A token that is not taken any more is renewed once.
    async fn fetch(&self, by: By, call: Call) -> Result<Reply, Error> {
        self.send(by, call).await?.accepted()
    }

    /// As [`GitHub::fetch`] by a repository's installation. What GitHub does not show there may be elsewhere by now.
    async fn fetch_at(&self, place: &Place, call: Call) -> Result<Reply, Error> {
        let answer = self.fetch(By::Installation(place.installation), call).await;
        if let Err(error) = &answer
            && is_elsewhere(error)
        {
            self.doubt_place(place.id);
        }
        answer
    }

    /// As [`GitHub::fetch`], whatever the answer but for limits.
    async fn send(&self, by: By, call: Call) -> Result<Reply, Error> {
        let mut renewed = false;
        loop {
            let token = match by {
                By::App => self.jwt().await?,
                By::Installation(id) => self.token(id).await?,
            };
            let reply = self.client.send(dressed(call.clone()).bearer(&token)).await?;
            self.app.hear(&reply);
            if reply.status == 401 && !renewed {
                // Revoked, or dated by a clock that has been set since.
                renewed = true;
                if let By::Installation(id) = by {
                    self.app.drop_token(id, &token);
                }
                continue;
            }
            return self.unless_limited(reply);
        }
    }

    /// A refusal for calling too often, as such: with the wait, whatever status it came with.
    fn unless_limited(&self, reply: Reply) -> Result<Reply, Error> {
        if !matches!(reply.status, 403 | 429) {
            return Ok(reply);
        }
        let told = reply.told_wait();
        let secondary = String::from_utf8_lossy(&reply.body).contains("secondary rate limit");
        let Some(wait) = told.or(secondary.then_some(SECONDARY_WAIT)) else {
            return Ok(reply);
        };
        self.client.wait(wait);
        match reply.accepted() {
            Err(Error::Status { excerpt, .. }) => Err(Error::Status {
                code: 429,
                retry_after: Some(wait),
                excerpt,
            }),
            other => other,
        }
    }

    /// A token of the App, dated by GitHub's own clock.
    async fn jwt(&self) -> Result<Secret, Error> {
        let now = match self.app.now() {
            Some(now) => now,
            None => {
                // Any answer tells the time, a refusal too.
                let reply = self
                    .client
                    .send_unlearned(dressed(self.call(Method::Get, &["meta"])?))
                    .await?;
                self.app.hear(&reply);
                self.app
                    .now()
                    .ok_or_else(|| Error::NotJson("GitHub's answers bear no date".to_owned()))?
            }
        };
        self.app.jwt(now)
    }

    /// A token of an installation, from before or asked for now.
    async fn token(&self, installation: u64) -> Result<Secret, Error> {
        if let Some(token) = self.app.token(installation) {
            return Ok(token);
        }
        let _one_at_a_time = self.app.minting.lock().await;
        if let Some(token) = self.app.token(installation) {
            return Ok(token);
        }
        let number = installation.to_string();
        let path = ["app", "installations", number.as_str(), "access_tokens"];
        let mut attempt = 1;
        loop {
            let jwt = self.jwt().await?;
            let call = dressed(self.call(Method::Post, &path)?).bearer(&jwt);
            let reply = self.client.send(call).await?;
            self.app.hear(&reply);
            if reply.status == 401 && attempt == 1 {
                attempt = 2;
                continue;
            }
            let minted: Minted = self.unless_limited(reply)?.accepted()?.json()?;
            return self.app.keep(installation, minted);
        }
    }

    /// Reads one thing of a repository.
    async fn get<T: DeserializeOwned>(
        &self,
        place: &Place,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let call = self.in_repository(Method::Get, place, segments)?;
        let call = call.query(query.iter().copied());
        self.fetch_at(place, call).await?.json()
    }

    /// A call below `/repos/{owner}/{repo}`.
    fn in_repository(&self, method: Method, place: &Place, segments: &[&str]) -> Result<Call, Error> {
        let path = [&["repos", &place.owner, &place.name], segments].concat();
        self.call(method, &path)
    }

    /// Reads all pages of a list of a repository.
    ///
    /// # Errors
    /// The page that could not be read, after [`PAGE_TRIES`] attempts (one where the answer says how long to wait).
    async fn pages<T: DeserializeOwned>(
        &self,
        place: &Place,
        segments: &[&str],
        query: &[(&str, &str)],
        limits: Limits,
    ) -> Result<Listed<T>, BadPage> {
        let mut items = Vec::new();
        let mut page = 1;
        loop {
            let bad = |error| BadPage { page, error };
            let reply = self
                .page(place, segments, query, page, limits.bytes)
                .await
                .map_err(bad)?;
            let found: Vec<T> = reply.json().map_err(bad)?;
            items.extend(found);
            if !has_next(&reply) {
                return Ok(Listed { items, whole: true });
            }
            if page >= limits.pages {
                return Ok(Listed { items, whole: false });
            }
            page += 1;
        }
    }

    async fn page(
        &self,
        place: &Place,
        segments: &[&str],
        query: &[(&str, &str)],
        page: u32,
        cap: u64,
    ) -> Result<Reply, Error> {
        let (number, size) = (page.to_string(), PER_PAGE.to_string());
        let paging = [("per_page", size.as_str()), ("page", number.as_str())];
        let mut attempt = 1;
        loop {
            let call = self.in_repository(Method::Get, place, segments)?;
            let call = call.query(query.iter().copied().chain(paging)).cap(cap);
            match self.fetch_at(place, call).await {
                Err(error) if attempt < PAGE_TRIES && error.may_pass() && !is_limit(&error) => {
                    pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// What every call bears.
fn dressed(call: Call) -> Call {
    call.header("accept", "application/vnd.github+json")
        .header("x-github-api-version", "2022-11-28")
}

/// The roots of REST and GraphQL for the address people use: `api.github.com` for github.com, `api.NAME.ghe.com` for
/// Enterprise Cloud with data residency, paths below the installation for GitHub Enterprise Server.
fn roots(base_url: &str, allow_http: &[String]) -> Result<(Url, Url), Error> {
    let base = outbound::parse_base(base_url, allow_http)?;
    let host = base.host_str().unwrap_or_default();
    let in_the_cloud = match host {
        "github.com" | "www.github.com" => Some("https://api.github.com".to_owned()),
        _ if host.ends_with(".ghe.com") => Some(format!("https://api.{host}")),
        _ => None,
    };
    match in_the_cloud {
        Some(api) => {
            let api = outbound::parse_base(&api, &[])?;
            let graphql = outbound::join(&api, &["graphql"])?;
            Ok((api, graphql))
        }
        None => Ok((
            outbound::join(&base, &["api", "v3"])?,
            outbound::join(&base, &["api", "graphql"])?,
        )),
    }
}

/// Whether a list goes on. Only that is ever taken from `Link`, never an address.
fn has_next(reply: &Reply) -> bool {
    reply
        .header("link")
        .is_some_and(|it| it.split(',').any(|it| it.contains("rel=\"next\"")))
}

/// A failed read in words that an admin can act on.
pub(crate) fn explained(error: &Error) -> String {
    let Error::Status {
        code,
        excerpt,
        retry_after,
    } = error
    else {
        return error.to_string();
    };
    let sentence = match code {
        _ if retry_after.is_some() => "GitHub asks to be called less often",
        403 if excerpt.contains("suspended") => {
            "the App's installation is suspended: an owner of the organization lifts that under Settings → GitHub Apps → \
             Configure"
        }
        300..=399 => return format!("GitHub {error}"),
        401 => {
            "GitHub does not accept the App: its private key was deleted, or its id is another one. Make a new key in the \
             App's settings and connect it again"
        }
        403 => {
            "the App may not do this: look at its permissions, and whether the installation has accepted the newest ones"
        }
        404 => {
            "GitHub knows no such thing, or the App is not installed there: install it on the repository, or have its \
             permissions accepted"
        }
        429 => "GitHub asks to be called less often",
        500..=599 => "GitHub is not able to answer now",
        _ => "GitHub does not answer as expected",
    };
    with_words(&format!("{sentence} ({code})"), excerpt)
}

/// An account as GitHub's entities show it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct User {
    id: u64,
    #[serde(default)]
    login: String,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Account {
            id: user.id.to_string(),
            name: user.login.clone(),
            username: user.login,
        }
    }
}

/// GitHub's own words in an error answer: `message`, and what `errors` says.
fn words(excerpt: &str) -> String {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(excerpt) {
        found.extend(value["message"].as_str().map(str::to_owned));
        for error in value["errors"].as_array().into_iter().flatten() {
            let text = error.as_str().or_else(|| error["message"].as_str());
            found.extend(text.map(str::to_owned));
        }
    }
    let text = if found.is_empty() {
        excerpt.to_owned()
    } else {
        found.join("; ")
    };
    shortened(&visible(&text), 200)
}

/// `sentence`, with GitHub's words behind it where there are any.
fn with_words(sentence: &str, excerpt: &str) -> String {
    let words = words(excerpt);
    if words.is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence} (GitHub says: {words})")
    }
}
