//! Bitbucket Data Center by its REST API, with an HTTP access token. It never follows a link that an answer names:
//! repositories that were renamed or moved are found again by their number.

mod contributors;
mod files;
mod inspect;
mod landing;
mod matcher;
mod merge;
mod pull_request;
mod queue;
mod read;
mod repository;
mod status;
mod sweep;
pub mod webhook;

use crate::domain::facts::Account;
use crate::forge::Connection;
use crate::forge::bitbucket::with_words;
use crate::forge::bitbucket_data_center::repository::{Kept, Place, is_elsewhere};
use crate::forge::hold::Held;
use crate::forge::pages::{BadPage, Limits, Listed, is_limit, pause};
use crate::outbound::{self, Call, Client, Error, Method, Reply, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Entries asked for per page. Bitbucket gives fewer where its own limit is lower, and says so.
const PER_PAGE: usize = 500;
/// Attempts at one page of a list before it counts as unreadable.
const PAGE_TRIES: u32 = 3;
/// A limit that names no wait. Bitbucket fills its buckets every second.
const LIMIT_WAIT: Duration = Duration::from_secs(5);
/// Bytes of an answer, unless a list says otherwise.
const BYTES: u64 = 8 * 1024 * 1024;

/// A connected Bitbucket Data Center.
#[derive(Clone, Debug)]
pub struct BitbucketDataCenter {
    client: Held,
    /// Root of all its REST APIs.
    rest: Url,
    token: Secret,
    /// Reads for nobody who waits: gives way when the rate limit is nearly used up.
    background: bool,
    kept: Arc<Kept>,
}

impl BitbucketDataCenter {
    /// Prepares a connection; calls nothing yet.
    ///
    /// # Errors
    /// `Refused` if base URL or CA certificates cannot be used.
    pub fn new(connection: &Connection, token: Secret, allow_http: &[String]) -> Result<Self, Error> {
        let base = outbound::parse_base(&connection.base_url, allow_http)?;
        let rest = outbound::join(&base, &["rest"])?;
        Ok(BitbucketDataCenter {
            client: Held::new(Client::new(connection.ca_pem.as_deref(), allow_http)?),
            rest,
            token,
            background: false,
            kept: Arc::default(),
        })
    }

    pub(super) fn in_background(&self) -> Self {
        BitbucketDataCenter {
            background: true,
            ..self.clone()
        }
    }

    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.client.silent_for()
    }

    pub(super) fn heir_of(mut self, before: &BitbucketDataCenter) -> Self {
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

    /// A call below `/rest`.
    fn call(&self, method: Method, segments: &[&str]) -> Result<Call, Error> {
        let writes = !matches!(method, Method::Get);
        let call = Call::new(method, outbound::join(&self.rest, segments)?)
            .header("accept", "application/json, text/plain;q=0.5")
            .bearer(&self.token)
            .cap(BYTES);
        // Bitbucket takes what a browser could send for a forgery without it.
        Ok(match writes {
            true => call.header("x-atlassian-token", "no-check"),
            false => call,
        })
    }

    /// A call about a repository, of one of the APIs.
    fn in_repository(
        &self,
        method: Method,
        api: &str,
        place: &Place,
        segments: &[&str],
    ) -> Result<Call, Error> {
        let root = [api, "latest", "projects", &place.key, "repos", &place.slug];
        self.call(method, &[&root, segments].concat())
    }

    /// Makes a call, whatever its answer but for limits.
    async fn send(&self, call: Call) -> Result<Reply, Error> {
        let reply = self.client.send(call).await?;
        if reply.status != 429 {
            return Ok(reply);
        }
        let interval = reply
            .header("x-ratelimit-interval-seconds")
            .and_then(|it| it.trim().parse().ok())
            .map(Duration::from_secs);
        let wait = reply.told_wait().or(interval).unwrap_or(LIMIT_WAIT);
        let wait = wait.max(Duration::from_secs(1));
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

    /// Makes a call that must be answered with 2xx.
    async fn fetch(&self, call: Call) -> Result<Reply, Error> {
        self.send(call).await?.accepted()
    }

    /// As [`BitbucketDataCenter::fetch`] about a repository. What is not shown there may be elsewhere by now.
    async fn fetch_at(&self, place: &Place, call: Call) -> Result<Reply, Error> {
        let answer = self.fetch(call).await;
        if let Err(error) = &answer
            && is_elsewhere(error)
        {
            self.doubt_place(place.id);
        }
        answer
    }

    /// Reads one thing of a repository.
    async fn get<T: DeserializeOwned>(
        &self,
        place: &Place,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let call = self.in_repository(Method::Get, "api", place, segments)?;
        let call = call.query(query.iter().copied());
        self.fetch_at(place, call).await?.json()
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
        self.pages_of("api", place, segments, query, limits).await
    }

    /// As [`BitbucketDataCenter::pages`], of one of the APIs.
    async fn pages_of<T: DeserializeOwned>(
        &self,
        api: &str,
        place: &Place,
        segments: &[&str],
        query: &[(&str, &str)],
        limits: Limits,
    ) -> Result<Listed<T>, BadPage> {
        let mut items = Vec::new();
        let mut start = 0;
        for page in 1..=limits.pages {
            let bad = |error| BadPage { page, error };
            let call = self
                .in_repository(Method::Get, api, place, segments)
                .map_err(bad)?;
            let call = call.query(query.iter().copied()).cap(limits.bytes);
            let found: Page<T> = self.page(place, call, start).await.map_err(bad)?;
            match found.take(start, &mut items) {
                Went::ToTheEnd => return Ok(Listed { items, whole: true }),
                Went::On(next) => start = next,
                Went::Short => break,
            }
        }
        Ok(Listed { items, whole: false })
    }

    /// One page of a list, tried anew where that may help.
    async fn page<T: DeserializeOwned>(
        &self,
        place: &Place,
        call: Call,
        start: u64,
    ) -> Result<Page<T>, Error> {
        let (start, size) = (start.to_string(), PER_PAGE.to_string());
        let call = call.query([("start", start.as_str()), ("limit", size.as_str())]);
        let mut attempt = 1;
        loop {
            match self.fetch_at(place, call.clone()).await {
                Err(error) if attempt < PAGE_TRIES && error.may_pass() && !is_limit(&error) => {
                    pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer?.json(),
            }
        }
    }
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    values: Vec<T>,
    #[serde(default)]
    is_last_page: bool,
    next_page_start: Option<u64>,
}

/// How a list goes on after a page.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    ToTheEnd,
    /// The next page starts there.
    On(u64),
    /// There is more, and Bitbucket does not give it: its own limit cut the list.
    Short,
}

impl<T> Page<T> {
    /// Adds the page's entries; `start` is where it starts.
    fn take(self, start: u64, items: &mut Vec<T>) -> Went {
        let empty = self.values.is_empty();
        items.extend(self.values);
        match (self.is_last_page, self.next_page_start) {
            (true, _) => Went::ToTheEnd,
            (false, Some(next)) if next > start && !empty => Went::On(next),
            (false, _) => Went::Short,
        }
    }
}

/// An account as Bitbucket's entities show it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: u64,
    /// What people sign in with.
    name: String,
    #[serde(default)]
    display_name: String,
    /// `NORMAL`, or `SERVICE` for the account behind a project's or repository's token.
    #[serde(rename = "type", default)]
    kind: String,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Account {
            id: user.id.to_string(),
            name: if user.display_name.is_empty() {
                user.name.clone()
            } else {
                user.display_name
            },
            username: user.name,
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
    let sentence = match code {
        _ if retry_after.is_some() => "Bitbucket asks to be called less often",
        300..=399 => return format!("Bitbucket {error}"),
        401 if is_permission(excerpt) => {
            "the token's account may not do this: give it the permission that the guide names on the repository"
        }
        401 => {
            "Bitbucket does not accept the token: it was revoked or has expired. Make a new HTTP access token for the same \
             account and connect Bitbucket again with it"
        }
        403 => {
            "the token's account may not do this: look at the token's permissions and at the account's on the repository"
        }
        404 => "Bitbucket knows no such thing, or does not show it to the token's account",
        429 => "Bitbucket asks to be called less often",
        500..=599 => "Bitbucket is not able to answer now",
        _ => "Bitbucket does not answer as expected",
    };
    with_words(&format!("{sentence} ({code})"), excerpt)
}

/// The token is not taken at all, which is nothing about what was asked.
fn is_signed_out(error: &Error) -> bool {
    matches!(error, Error::Status { code: 401, excerpt, .. } if !is_permission(excerpt))
}

/// Bitbucket answers 401 both to a token that it does not know and to one that may not do something.
fn is_permission(excerpt: &str) -> bool {
    excerpt.contains("AuthorisationException") || excerpt.contains("not permitted")
}

/// Milliseconds since 1970 as RFC 3339; empty where they are none.
fn rfc3339(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map(|it| it.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::forge::bitbucket_data_center::{Page, Went, explained};
    use crate::outbound::Error;
    use serde_json::json;

    fn page(values: &[u8], last: Option<bool>, next: Option<u64>) -> Page<u8> {
        serde_json::from_value(
            json!({"values": values, "isLastPage": last.unwrap_or(false), "nextPageStart": next}),
        )
        .expect("a page")
    }

    #[test]
    fn a_list_is_whole_only_at_its_last_page() {
        let mut items = Vec::new();
        assert_eq!(
            page(&[1, 2], Some(false), Some(2)).take(0, &mut items),
            Went::On(2)
        );
        assert_eq!(page(&[3], Some(true), None).take(2, &mut items), Went::ToTheEnd);
        assert_eq!(items, [1, 2, 3]);
        let cut = |values: &[u8], last, next, start| page(values, last, next).take(start, &mut Vec::new());
        assert_eq!(
            cut(&[1], Some(false), None, 0),
            Went::Short,
            "more, and not told where"
        );
        assert_eq!(
            cut(&[1], None, None, 0),
            Went::Short,
            "nothing is said of the end"
        );
        assert_eq!(
            cut(&[1], Some(false), Some(0), 0),
            Went::Short,
            "it would go round for ever"
        );
        assert_eq!(
            cut(&[], Some(false), Some(9), 4),
            Went::Short,
            "a page of nothing before the end"
        );
        assert_eq!(cut(&[], Some(true), None, 0), Went::ToTheEnd);
    }

    #[test]
    fn errors_are_told_in_words_and_tokens_apart_from_permissions() {
        let refused = |code: u16, exception: &str, message: &str| Error::Status {
            code,
            retry_after: None,
            excerpt: json!({"errors": [{"context": null, "message": message, "exceptionName": exception}]})
                .to_string(),
        };
        let revoked = explained(&refused(
            401,
            "com.atlassian.bitbucket.AuthenticationException",
            "Token is invalid",
        ));
        assert!(
            revoked.contains("revoked or has expired") && revoked.contains("Token is invalid"),
            "{revoked}"
        );
        let forbidden = explained(&refused(
            401,
            "com.atlassian.bitbucket.AuthorisationException",
            "You are not permitted",
        ));
        assert!(forbidden.contains("may not do this"), "{forbidden}");
        let odd = explained(&refused(404, "x", "gone\u{202e}"));
        assert!(odd.contains("gone\\u{202e}"), "{odd}");
    }
}
