//! Bitbucket Cloud by its REST API 2.0. It never follows a link that an answer names: of `next` only the page is taken, and
//! repositories are named by their UUID, whatever they are called today.

mod auth;
mod commits;
mod files;
mod inspect;
mod landing;
mod merge;
mod pull_request;
mod read;
mod repository;
mod status;
mod sweep;
pub mod webhook;

pub use auth::Credentials;

use crate::domain::facts::Account;
use crate::forge::Connection;
use crate::forge::bitbucket::with_words;
use crate::forge::bitbucket_cloud::auth::{Auth, Minted};
use crate::forge::bitbucket_cloud::repository::Kept;
use crate::forge::hold::Held;
use crate::forge::pages::{BadPage, Limits, Listed, is_limit, pause};
use crate::outbound::{self, Call, Client, Error, Method, Reply, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Bitbucket's public API, and where its OAuth is.
const PUBLIC: [&str; 3] = ["api.bitbucket.org", "bitbucket.org", "www.bitbucket.org"];
/// Attempts at one page of a list before it counts as unreadable.
const PAGE_TRIES: u32 = 3;
/// Where Bitbucket says that it is called too often and not for how long: its limits roll over an hour.
const LIMIT_WAIT: Duration = Duration::from_secs(60);
/// Bytes of an answer, unless a list says otherwise.
const BYTES: u64 = 8 * 1024 * 1024;
/// Bitbucket's word for a call that took it too long ("merge" and "diffstat" in its OpenAPI document).
const TOOK_TOO_LONG: u16 = 555;

/// A connected Bitbucket Cloud.
#[derive(Clone, Debug)]
pub struct BitbucketCloud {
    client: Held,
    /// Root of the REST API, `…/2.0`.
    api: Url,
    /// Where a consumer gets its token.
    oauth: Url,
    auth: Arc<Auth>,
    /// Reads for nobody who waits: gives way when the rate limit is nearly used up.
    background: bool,
    kept: Arc<Kept>,
}

impl BitbucketCloud {
    /// Prepares a connection; calls nothing yet.
    ///
    /// # Errors
    /// `Refused` if base URL, CA certificates or credentials cannot be used.
    pub fn new(connection: &Connection, credentials: &Secret, allow_http: &[String]) -> Result<Self, Error> {
        let (api, oauth) = roots(&connection.base_url, allow_http)?;
        let client = Client::new(connection.ca_pem.as_deref(), allow_http)?;
        Ok(BitbucketCloud {
            client: Held::new(client),
            api,
            oauth,
            auth: Arc::new(Auth::new(Credentials::read(credentials)?)),
            background: false,
            kept: Arc::default(),
        })
    }

    pub(super) fn in_background(&self) -> Self {
        BitbucketCloud {
            background: true,
            ..self.clone()
        }
    }

    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.client.silent_for()
    }

    pub(super) fn heir_of(mut self, before: &BitbucketCloud) -> Self {
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
        let call = Call::new(method, outbound::join(&self.api, segments)?).cap(BYTES);
        Ok(call.header("accept", "application/json"))
    }

    /// Makes a call that must be answered with 2xx.
    async fn fetch(&self, call: Call) -> Result<Reply, Error> {
        self.send(call).await?.accepted()
    }

    /// As [`BitbucketCloud::fetch`], whatever the answer but for limits. A consumer's token that is not taken any more is
    /// renewed once.
    async fn send(&self, call: Call) -> Result<Reply, Error> {
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let reply = self
                .client
                .send(self.auth.proven(call.clone(), token.as_ref()))
                .await?;
            if let (401, false, Some(token)) = (reply.status, renewed, &token) {
                renewed = true;
                self.auth.drop_token(token);
                continue;
            }
            return self.unless_limited(reply);
        }
    }

    /// A refusal for calling too often, as such, with a wait.
    fn unless_limited(&self, reply: Reply) -> Result<Reply, Error> {
        if reply.status != 429 || reply.told_wait().is_some() {
            return Ok(reply);
        }
        self.client.wait(LIMIT_WAIT);
        match reply.accepted() {
            Err(Error::Status { code, excerpt, .. }) => Err(Error::Status {
                code,
                retry_after: Some(LIMIT_WAIT),
                excerpt,
            }),
            other => other,
        }
    }

    /// A consumer's token, from before or asked for now.
    async fn token(&self) -> Result<Option<Secret>, Error> {
        if !self.auth.renews() {
            return Ok(None);
        }
        if let Some(token) = self.auth.held() {
            return Ok(Some(token));
        }
        let _one_at_a_time = self.auth.minting.lock().await;
        if let Some(token) = self.auth.held() {
            return Ok(Some(token));
        }
        let call = Call::new(Method::Post, self.oauth.clone()).header("accept", "application/json");
        let reply = self.client.send(self.auth.asks(call)).await?;
        let minted: Result<Minted, Error> = self.unless_limited(reply)?.accepted().and_then(|it| it.json());
        match minted {
            Ok(it) => Ok(Some(self.auth.keep(it))),
            // RFC 6749 answers a consumer that is not one with 400 or 401.
            Err(Error::Status {
                code: 400,
                excerpt,
                retry_after,
            }) => Err(Error::Status {
                code: 401,
                excerpt,
                retry_after,
            }),
            Err(error) => Err(error),
        }
    }

    /// A call below the repository of that UUID. The workspace may stay empty then ("Repository object and UUID").
    fn in_repository(&self, method: Method, repository: &str, segments: &[&str]) -> Result<Call, Error> {
        let path = [&["repositories", "{}", uuid(repository)?], segments].concat();
        self.call(method, &path)
    }

    /// Reads one thing of a repository.
    async fn get<T: DeserializeOwned>(
        &self,
        repository: &str,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let call = self.in_repository(Method::Get, repository, segments)?;
        self.fetch(call.query(query.iter().copied())).await?.json()
    }

    /// Reads all pages of a list of a repository, and how many entries Bitbucket counts where it tells.
    ///
    /// # Errors
    /// The page that could not be read, after [`PAGE_TRIES`] attempts (one where the answer says how long to wait).
    async fn pages<T: DeserializeOwned>(
        &self,
        repository: &str,
        segments: &[&str],
        query: &[(&str, &str)],
        limits: Limits,
    ) -> Result<(Listed<T>, Option<u64>), BadPage> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        let mut page = 1;
        loop {
            let bad = |error| BadPage { page, error };
            let (_, found) = self
                .page(repository, segments, query, next.as_deref(), limits.bytes)
                .await
                .map_err(bad)?;
            next = found.next_page().map_err(bad)?;
            items.extend(found.values);
            let whole = next.is_none();
            if whole || page >= limits.pages {
                return Ok((Listed { items, whole }, found.size));
            }
            page += 1;
        }
    }

    /// One page; `next`: its name, as the page before it told.
    async fn page<T: DeserializeOwned>(
        &self,
        repository: &str,
        segments: &[&str],
        query: &[(&str, &str)],
        next: Option<&str>,
        cap: u64,
    ) -> Result<(Reply, Page<T>), Error> {
        let mut attempt = 1;
        loop {
            let call = self.in_repository(Method::Get, repository, segments)?;
            let call = call
                .query(query.iter().copied())
                .query(next.map(|it| ("page", it)))
                .cap(cap);
            let answer = self.fetch(call).await.and_then(|reply| {
                let page = reply.json()?;
                Ok((reply, page))
            });
            match answer {
                Err(error)
                    if attempt < PAGE_TRIES
                        && (error.may_pass() || error.status() == Some(TOOK_TOO_LONG))
                        && !is_limit(&error) =>
                {
                    pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    #[serde(default = "Vec::new")]
    values: Vec<T>,
    /// Address of the page after it. Only the page's name is ever taken from it.
    next: Option<String>,
    size: Option<u64>,
}

impl<T> Page<T> {
    /// The name of the page after it.
    ///
    /// # Errors
    /// `NotJson` if there is one and it has none.
    fn next_page(&self) -> Result<Option<String>, Error> {
        let Some(next) = &self.next else { return Ok(None) };
        match page_of(next) {
            Some(name) => Ok(Some(name)),
            None => Err(Error::NotJson("a next page without a name".to_owned())),
        }
    }
}

/// The name of the page that an address leads to: a number, or text that Bitbucket alone reads.
fn page_of(next: &str) -> Option<String> {
    let url = Url::parse(next).ok()?;
    let (_, page) = url.query_pairs().find(|(name, _)| name == "page")?;
    let plain = !page.is_empty() && page.len() <= 512 && page.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| page.into_owned())
}

/// The roots of REST and of OAuth's token for the address that was given. A test installation serves both below one.
fn roots(base_url: &str, allow_http: &[String]) -> Result<(Url, Url), Error> {
    let base = outbound::parse_base(base_url, allow_http)?;
    let public = base.host_str().is_some_and(|it| PUBLIC.contains(&it));
    let (api, web) = match public {
        true => (
            outbound::parse_base("https://api.bitbucket.org", &[])?,
            outbound::parse_base("https://bitbucket.org", &[])?,
        ),
        false => (base.clone(), base),
    };
    Ok((
        outbound::join(&api, &["2.0"])?,
        outbound::join(&web, &["site", "oauth2", "access_token"])?,
    ))
}

/// Whether a text is a UUID as Bitbucket writes it: in braces, in lowercase hex digits.
pub fn is_uuid(text: &str) -> bool {
    let inner = text.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    inner.is_some_and(|it| {
        it.len() == 36
            && it.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
            })
    })
}

/// A repository's UUID, as it may stand in a URL.
fn uuid(id: &str) -> Result<&str, Error> {
    match is_uuid(id) {
        true => Ok(id),
        false => Err(Error::Refused(
            "a Bitbucket repository is named by its UUID".to_owned(),
        )),
    }
}

/// An account as Bitbucket's entities show it. Its UUID is what stays.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct User {
    uuid: String,
    #[serde(default)]
    nickname: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        let name = user.display_name.unwrap_or_default();
        Account {
            username: user.nickname.unwrap_or_else(|| name.clone()),
            id: user.uuid,
            name,
        }
    }
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
    let sentence = match *code {
        _ if retry_after.is_some() => "Bitbucket asks to be called less often",
        300..=399 => return format!("Bitbucket {error}"),
        401 => {
            "Bitbucket does not accept the token or consumer: it is wrong, expired or revoked. Make a new one and connect \
             again"
        }
        403 => {
            "the token or consumer may not do this: it lacks a scope, or its account a permission on the repository"
        }
        404 => "Bitbucket knows no such repository, or does not show it to the token or consumer",
        429 => "Bitbucket asks to be called less often",
        TOOK_TOO_LONG => "the call took Bitbucket too long",
        500..=599 => "Bitbucket is not able to answer now",
        _ => "Bitbucket does not answer as expected",
    };
    with_words(&format!("{sentence} ({code})"), excerpt)
}

#[cfg(test)]
mod tests {
    use crate::forge::bitbucket_cloud::{is_uuid, page_of, roots};

    #[test]
    fn repositories_are_named_by_uuids_in_braces() {
        assert!(is_uuid("{5137f783-a12b-4958-a614-4a2af63fca20}"));
        for odd in [
            "",
            "{}",
            "5137f783-a12b-4958-a614-4a2af63fca20",
            "{5137F783-a12b-4958-a614-4a2af63fca20}",
            "{5137f783-a12b-4958-a614-4a2af63fca2}",
            "{5137f783-a12b-4958-a614/4a2af63fca20}",
        ] {
            assert!(!is_uuid(odd), "{odd}");
        }
    }

    #[test]
    fn only_the_name_of_the_next_page_is_taken() {
        let of = |text: &str| page_of(text);
        assert_eq!(of("https://evil.test/2.0/x?page=2").as_deref(), Some("2"));
        assert_eq!(
            of("https://api.bitbucket.org/x?pagelen=5&page=aB%3D%3D").as_deref(),
            Some("aB==")
        );
        assert_eq!(of("https://api.bitbucket.org/x"), None);
        assert_eq!(of("https://api.bitbucket.org/x?page="), None);
        assert_eq!(of("page=2"), None);
    }

    #[test]
    fn the_public_api_has_its_oauth_elsewhere() {
        for base in ["https://api.bitbucket.org", "https://bitbucket.org/"] {
            let (api, oauth) = roots(base, &[]).expect("usable");
            assert_eq!(api.as_str(), "https://api.bitbucket.org/2.0");
            assert_eq!(oauth.as_str(), "https://bitbucket.org/site/oauth2/access_token");
        }
        let (api, oauth) = roots("https://bitbucket.test", &[]).expect("usable");
        assert_eq!(api.as_str(), "https://bitbucket.test/2.0");
        assert_eq!(oauth.as_str(), "https://bitbucket.test/site/oauth2/access_token");
        assert!(roots("http://api.bitbucket.org", &[]).is_err());
    }
}
