//! Repositories by their stable number, whatever they are called today, and who the token is.

use crate::domain::facts::Account;
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, Page, User, Went};
use crate::forge::git::{page_url, short_ref};
use crate::forge::{ForgeProject, Identity, Tier};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a repository's name is believed without another look.
const NAME_KEPT: Duration = Duration::from_secs(300);
/// Pages of all repositories that the token sees, of up to 1,000 each.
const REPOSITORY_PAGES: u32 = 100;
/// Pages of accounts whose name, display name or e-mail holds a text.
const USER_PAGES: u32 = 10;

/// Where a repository is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: u64,
    /// The project's key; `~name` for somebody's own project.
    pub(super) key: String,
    pub(super) slug: String,
}

/// What is kept between calls.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `None`: to be looked at again.
    places: Mutex<HashMap<u64, (Option<Instant>, Place)>>,
    me: Mutex<Option<(Instant, Me)>>,
    /// Of each repository, what builds its open pull requests bore at the last look, and where it is looked next.
    pub(super) builds: Mutex<HashMap<u64, super::sweep::Looked>>,
    /// Commits that a merge queue may have prepared, as they were found.
    pub(super) prepared: Mutex<HashMap<String, super::queue::Shape>>,
}

/// Who the token is.
#[derive(Clone, Debug)]
pub(super) struct Me {
    pub(super) identity: Identity,
    /// The account stands for a project's or repository's token, and is nobody's.
    pub(super) service: bool,
    /// First number of Bitbucket's version; 0 if it is none.
    pub(super) major: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Repository {
    pub(super) id: u64,
    pub(super) slug: String,
    pub(super) project: Project,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    links: Links,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Project {
    pub(super) key: String,
}

/// The addresses of something's own page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Links {
    #[serde(rename = "self")]
    own: Vec<Link>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    href: String,
}

impl Links {
    /// The first of them, if a link may lead there.
    pub(super) fn page(&self) -> String {
        self.own.first().map(|it| page_url(&it.href)).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
}

impl BitbucketDataCenter {
    /// Where a repository is.
    pub(super) async fn place(&self, forge_project_id: &str) -> Result<Place, Error> {
        let id = repository_number(forge_project_id)?;
        let known = lock(&self.kept.places).get(&id).cloned();
        if let Some((at, place)) = &known
            && at.is_some_and(|it| it.elapsed() < NAME_KEPT)
        {
            return Ok(place.clone());
        }
        if let Some((_, place)) = known {
            match self.get::<Repository>(&place, &[], &[]).await {
                Ok(it) if it.id == id => {
                    self.keep_place(&it);
                    return Ok(it.place());
                }
                // Renamed, moved away, or another one under its name.
                Ok(_) => {}
                Err(error) if is_elsewhere(&error) || matches!(error.status(), Some(401 | 403)) => {}
                Err(error) => return Err(error),
            }
            lock(&self.kept.places).remove(&id);
        }
        self.search(id).await
    }

    fn keep_place(&self, it: &Repository) {
        lock(&self.kept.places).insert(it.id, (Some(Instant::now()), it.place()));
    }

    /// Looks at a repository's name again before it is used the next time: Bitbucket does not show what should be there.
    pub(super) fn doubt_place(&self, id: u64) {
        if let Some(kept) = lock(&self.kept.places).get_mut(&id) {
            kept.0 = None;
        }
    }

    /// Where a repository is after all, if it is elsewhere than where a call for it failed so.
    pub(super) async fn moved(&self, from: &Place, error: &Error) -> Result<Option<Place>, Error> {
        if !is_elsewhere(error) {
            return Ok(None);
        }
        self.doubt_place(from.id);
        let now = self.place(&from.id.to_string()).await?;
        Ok(Some(now).filter(|it| it != from))
    }

    /// Looks through everything the token may read: Bitbucket documents no call by number.
    async fn search(&self, id: u64) -> Result<Place, Error> {
        let mut start = 0;
        for _ in 0..REPOSITORY_PAGES {
            let from = start.to_string();
            let call = self.call(Method::Get, &["api", "latest", "repos"])?;
            let call = call.query([
                ("permission", "REPO_READ"),
                ("archived", "ALL"),
                ("start", from.as_str()),
                ("limit", "1000"),
            ]);
            let page: Page<Repository> = self.fetch(call).await?.json()?;
            let mut found = Vec::new();
            let went = page.take(start, &mut found);
            for it in &found {
                self.keep_place(it);
            }
            if let Some(it) = found.iter().find(|it| it.id == id) {
                return Ok(it.place());
            }
            match went {
                Went::On(next) => start = next,
                Went::ToTheEnd | Went::Short => break,
            }
        }
        Err(Error::Status {
            code: 404,
            retry_after: None,
            excerpt: "the token's account sees no such repository".to_owned(),
        })
    }

    /// A repository by number, or by `PROJECT/slug`.
    pub(crate) async fn project(&self, forge_project_id: &str) -> Result<ForgeProject, Error> {
        let place = match forge_project_id.split_once('/') {
            None => self.place(forge_project_id).await?,
            Some((key, slug)) => named(key, slug)?,
        };
        let it: Repository = self.get(&place, &[], &[]).await?;
        self.keep_place(&it);
        let place = it.place();
        // 204 or 404 for a repository without a commit.
        let call = self.in_repository(Method::Get, "api", &place, &["default-branch"])?;
        let default_branch = match self.fetch(call).await {
            Ok(reply) if reply.status == 204 => None,
            Ok(reply) => Some(short_ref(&reply.json::<Reference>()?.id).to_owned()),
            Err(error) if error.status() == Some(404) => None,
            Err(error) => return Err(error),
        };
        Ok(ForgeProject {
            id: it.id.to_string(),
            path: format!("{}/{}", place.key, place.slug),
            web_url: it.links.page(),
            default_branch,
            archived: it.archived,
            access_level: None,
            merge_needs_pipeline: false,
            merge_on_skipped_pipeline: false,
            merge_needs_checks: false,
            ci_config: None,
        })
    }

    /// Who the token is, as it was told within the last minutes.
    pub(super) async fn who(&self) -> Result<Me, Error> {
        let lately = lock(&self.kept.me)
            .as_ref()
            .filter(|(at, _)| at.elapsed() < NAME_KEPT)
            .map(|(_, me)| me.clone());
        if let Some(me) = lately {
            return Ok(me);
        }
        let me = self.ask_who().await?;
        *lock(&self.kept.me) = Some((Instant::now(), me.clone()));
        Ok(me)
    }

    /// See [`crate::forge::Forge::identify`].
    pub(crate) async fn identify(&self) -> Result<Identity, Error> {
        let me = self.ask_who().await?;
        *lock(&self.kept.me) = Some((Instant::now(), me.clone()));
        Ok(me.identity)
    }

    /// Bitbucket has no call that tells it, and says it in the headers of every answer.
    async fn ask_who(&self) -> Result<Me, Error> {
        let call = self.call(Method::Get, &["api", "latest", "application-properties"])?;
        let reply = self.fetch(call).await?;
        let name = reply.header("x-ausername").map(percent_decoded);
        let Some(name) = name.filter(|it| !it.is_empty() && it != "anonymous") else {
            return Err(Error::Status {
                code: 401,
                retry_after: None,
                excerpt: "it answers as to somebody who is not signed in".to_owned(),
            });
        };
        let number: Option<u64> = reply.header("x-auserid").and_then(|it| it.trim().parse().ok());
        let version = reply.json::<Properties>()?.version;
        let user = self.user_named(&name).await?;
        let service = user.as_ref().is_none_or(|it| it.kind == "SERVICE");
        let account = match (user, number) {
            (Some(user), _) => user.into(),
            (None, Some(number)) => Account {
                id: number.to_string(),
                username: name.clone(),
                name,
            },
            (None, None) => {
                return Err(Error::NotJson(
                    "Bitbucket does not tell the number of the token's account".to_owned(),
                ));
            }
        };
        let major = version
            .split('.')
            .next()
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        Ok(Me {
            identity: Identity {
                account,
                scopes: Vec::new(),
                token_expires_at: None,
                version,
                tier: Tier::Unknown,
            },
            service,
            major,
        })
    }

    /// The account that signs in with a name; the accounts behind tokens are not listed.
    async fn user_named(&self, name: &str) -> Result<Option<User>, Error> {
        let mut start = 0;
        for _ in 0..USER_PAGES {
            let from = start.to_string();
            let call = self.call(Method::Get, &["api", "latest", "users"])?;
            let call = call.query([("filter", name), ("start", from.as_str()), ("limit", "100")]);
            let page: Page<User> = match self.fetch(call).await {
                Ok(reply) => reply.json()?,
                // A project's token may not look people up.
                Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut found = Vec::new();
            let went = page.take(start, &mut found);
            if let Some(it) = found.into_iter().find(|it| it.name.eq_ignore_ascii_case(name)) {
                return Ok(Some(it));
            }
            match went {
                Went::On(next) => start = next,
                Went::ToTheEnd | Went::Short => break,
            }
        }
        Ok(None)
    }
}

impl Repository {
    pub(super) fn place(&self) -> Place {
        Place {
            id: self.id,
            key: self.project.key.clone(),
            slug: self.slug.clone(),
        }
    }
}

/// A repository by the names in its address.
fn named(key: &str, slug: &str) -> Result<Place, Error> {
    let sound = |it: &str, first: &[u8]| {
        let rest = it.bytes().enumerate();
        !it.is_empty()
            && it.len() <= 128
            && !matches!(it, "." | "..")
            && rest.into_iter().all(|(at, b)| {
                b.is_ascii_alphanumeric()
                    || matches!(b, b'-' | b'_' | b'.')
                    || (at == 0 && first.contains(&b))
            })
    };
    if !sound(key, b"~") || !sound(slug, b"") {
        return Err(Error::Refused(
            "a Bitbucket repository is named by its project's key and its slug, as in its address".to_owned(),
        ));
    }
    Ok(Place {
        id: 0,
        key: key.to_owned(),
        slug: slug.to_owned(),
    })
}

/// What a call for a repository that is called otherwise now is answered with.
pub(super) fn is_elsewhere(error: &Error) -> bool {
    matches!(error.status(), Some(301 | 302 | 307 | 308 | 404))
}

/// Bitbucket's stable number of a repository.
pub(super) fn repository_number(id: &str) -> Result<u64, Error> {
    let plain = !id.is_empty() && id.len() <= 19 && id.bytes().all(|b| b.is_ascii_digit());
    let number = id.parse().ok().filter(|_| plain);
    number.ok_or_else(|| Error::Refused("a Bitbucket repository is named by its number".to_owned()))
}

/// A header's value: names outside of ASCII come percent-encoded.
fn percent_decoded(text: &str) -> String {
    let pair = format!("n={}", text.trim().replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

pub(super) fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each once.
pub(super) fn once(users: impl IntoIterator<Item = User>) -> Vec<User> {
    let mut seen = HashSet::new();
    users.into_iter().filter(|it| seen.insert(it.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_addresses() {
        for (key, slug) in [("PRJ", "app"), ("~jane.doe", "my-app_2.x"), ("P_1", "a")] {
            assert!(named(key, slug).is_ok(), "{key}/{slug}");
        }
        for (key, slug) in [
            ("", "a"),
            ("P", ""),
            ("P", ".."),
            ("P", "a/b"),
            ("P", "~a"),
            ("P~", "a"),
            ("P", "a b"),
        ] {
            assert!(named(key, slug).is_err(), "{key}/{slug}");
        }
        assert!(repository_number("42").is_ok());
        for wrong in ["", "PRJ", "-1", "4 2", "99999999999999999999"] {
            assert!(repository_number(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_in_a_header_is_decoded_once() {
        assert_eq!(percent_decoded("j%C3%BCrgen"), "jürgen");
        assert_eq!(percent_decoded("a+b&c@x.org"), "a+b&c@x.org");
        assert_eq!(percent_decoded("50%2525"), "50%25");
    }
}
