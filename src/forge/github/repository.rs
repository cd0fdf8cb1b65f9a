//! Repositories by their stable number, whatever they are called today, and who the App is.

use crate::forge::github::{By, GitHub, User, has_next, page_url};
use crate::forge::{ForgeProject, Identity, Tier};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a repository's name is believed without another look.
const NAME_KEPT: Duration = Duration::from_secs(300);
/// Installations looked through, and pages of repositories of each.
const INSTALLATIONS_MAX: usize = 100;
const REPOSITORY_PAGES: u32 = 50;

/// Where a repository is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) installation: u64,
}

/// What is kept between calls.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `None`: to be looked at again.
    places: Mutex<HashMap<u64, (Option<Instant>, Place)>>,
    me: Mutex<Option<(Instant, Identity)>>,
    /// Of each repository, what statuses its open pull requests bore at the last look.
    pub(super) statuses: Mutex<HashMap<u64, HashMap<String, String>>>,
    /// Answers that GitHub may call unchanged, by what was asked.
    pub(super) lists: Mutex<HashMap<String, super::sweep::Unchanged>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Repository {
    pub(super) id: u64,
    pub(super) name: String,
    full_name: String,
    pub(super) owner: Owner,
    #[serde(default)]
    html_url: String,
    default_branch: Option<String>,
    #[serde(default)]
    archived: bool,
    pub(super) allow_merge_commit: Option<bool>,
    pub(super) allow_squash_merge: Option<bool>,
    pub(super) allow_rebase_merge: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Owner {
    pub(super) login: String,
}

#[derive(Deserialize)]
pub(super) struct Installation {
    pub(super) id: u64,
    pub(super) suspended_at: Option<String>,
    account: Option<Owner>,
}

#[derive(Deserialize)]
struct Accessible {
    repositories: Vec<Repository>,
}

/// `GET /app`, as far as it is read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AppShown {
    pub(super) slug: String,
    #[serde(default)]
    pub(super) permissions: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Meta {
    /// GitHub Enterprise Server only.
    installed_version: Option<String>,
}

impl GitHub {
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
                    self.keep_place(place.clone());
                    return Ok(place);
                }
                // Renamed, moved away, or another one under its name.
                Ok(_) => {}
                Err(error) if is_elsewhere(&error) || error.status() == Some(403) => {}
                Err(error) => return Err(error),
            }
            lock(&self.kept.places).remove(&id);
        }
        self.search(id).await
    }

    fn keep_place(&self, place: Place) {
        lock(&self.kept.places).insert(place.id, (Some(Instant::now()), place));
    }

    /// Looks at a repository's name again before it is used the next time: GitHub does not show what should be there.
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

    /// Looks through everything the App is installed on.
    async fn search(&self, id: u64) -> Result<Place, Error> {
        let mut out_of_use = None;
        for installation in self.installations().await? {
            if installation.suspended_at.is_some() {
                out_of_use = Some(suspended(installation.account.as_ref()));
                continue;
            }
            for page in 1..=REPOSITORY_PAGES {
                let number = page.to_string();
                let call = self.call(Method::Get, &["installation", "repositories"])?;
                let call = call.query([("per_page", "100"), ("page", number.as_str())]);
                let reply = self.fetch(By::Installation(installation.id), call).await?;
                let found: Accessible = reply.json()?;
                for it in found.repositories {
                    self.keep_place(Place {
                        id: it.id,
                        owner: it.owner.login,
                        name: it.name,
                        installation: installation.id,
                    });
                }
                if !has_next(&reply) {
                    break;
                }
            }
            let found = lock(&self.kept.places).get(&id).map(|it| it.1.clone());
            if let Some(place) = found {
                return Ok(place);
            }
        }
        Err(out_of_use.unwrap_or_else(|| Error::Status {
            code: 404,
            retry_after: None,
            excerpt: "no installation of the App has this repository".to_owned(),
        }))
    }

    pub(super) async fn installations(&self) -> Result<Vec<Installation>, Error> {
        if let Some(id) = self.app.installation {
            let number = id.to_string();
            let call = self.call(Method::Get, &["app", "installations", &number])?;
            return Ok(vec![self.fetch(By::App, call).await?.json()?]);
        }
        let call = self.call(Method::Get, &["app", "installations"])?;
        let call = call.query([("per_page", "100")]);
        let mut all: Vec<Installation> = self.fetch(By::App, call).await?.json()?;
        all.truncate(INSTALLATIONS_MAX);
        Ok(all)
    }

    /// A repository by number, or by `owner/name`.
    pub(crate) async fn project(&self, forge_project_id: &str) -> Result<ForgeProject, Error> {
        let place = match forge_project_id.split_once('/') {
            None => self.place(forge_project_id).await?,
            Some((owner, name)) => self.place_of(owner, name).await?,
        };
        let it: Repository = self.get(&place, &[], &[]).await?;
        self.keep_place(Place {
            id: it.id,
            owner: it.owner.login.clone(),
            name: it.name.clone(),
            installation: place.installation,
        });
        Ok(ForgeProject {
            id: it.id.to_string(),
            path: it.full_name,
            web_url: page_url(&it.html_url),
            default_branch: it.default_branch,
            archived: it.archived,
            access_level: None,
            merge_needs_pipeline: false,
            merge_on_skipped_pipeline: false,
            merge_needs_checks: false,
            ci_config: None,
        })
    }

    /// The repository of that name, as the installation on it tells.
    async fn place_of(&self, owner: &str, name: &str) -> Result<Place, Error> {
        let sound = |it: &str| {
            !it.is_empty()
                && it.len() <= 100
                && !matches!(it, "." | "..")
                && it
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if !sound(owner) || !sound(name) {
            return Err(Error::Refused(
                "a GitHub repository is named by its owner and its name".to_owned(),
            ));
        }
        let call = self.call(Method::Get, &["repos", owner, name, "installation"])?;
        let installation: Installation = self.fetch(By::App, call).await?.json()?;
        let fixed = self.app.installation.is_none_or(|it| it == installation.id);
        if !fixed {
            return Err(Error::Refused(
                "the repository belongs to another installation of the App than the one that is connected"
                    .to_owned(),
            ));
        }
        Ok(Place {
            id: 0,
            owner: owner.to_owned(),
            name: name.to_owned(),
            installation: installation.id,
        })
    }

    /// What GitHub says of the App.
    pub(super) async fn app_shown(&self) -> Result<AppShown, Error> {
        let call = self.call(Method::Get, &["app"])?;
        self.fetch(By::App, call).await?.json()
    }

    /// Who the App is: the account it acts as, `slug[bot]`, is only told to an installation.
    async fn identify(&self) -> Result<Identity, Error> {
        let app = self.app_shown().await?;
        let installations = self.installations().await?;
        let active = installations.iter().find(|it| it.suspended_at.is_none());
        let Some(installation) = active else {
            return Err(no_installation(&installations));
        };
        let login = format!("{}[bot]", app.slug);
        let call = self.call(Method::Get, &["users", &login])?;
        let user: User = self
            .fetch(By::Installation(installation.id), call)
            .await?
            .json()?;
        let meta = self.call(Method::Get, &["meta"])?;
        let meta: Option<Meta> = match self.fetch(By::App, meta).await {
            Ok(reply) => reply.json().ok(),
            Err(_) => None,
        };
        let mut scopes: Vec<String> = app
            .permissions
            .iter()
            .map(|(name, access)| format!("{name}:{access}"))
            .collect();
        scopes.sort();
        Ok(Identity {
            account: user.into(),
            scopes,
            token_expires_at: None,
            version: meta.and_then(|it| it.installed_version).unwrap_or_default(),
            tier: Tier::Unknown,
        })
    }

    /// Who the App is, as it was told within the last minutes.
    pub(crate) async fn me(&self) -> Result<Identity, Error> {
        let lately = lock(&self.kept.me)
            .as_ref()
            .filter(|(at, _)| at.elapsed() < NAME_KEPT)
            .map(|(_, me)| me.clone());
        if let Some(me) = lately {
            return Ok(me);
        }
        let me = self.identify().await?;
        *lock(&self.kept.me) = Some((Instant::now(), me.clone()));
        Ok(me)
    }
}

/// What a call for a repository that is called otherwise now is answered with.
pub(super) fn is_elsewhere(error: &Error) -> bool {
    matches!(error.status(), Some(301 | 302 | 307 | 308 | 404))
}

/// Why the App can ask nothing as an installation.
pub(super) fn no_installation(all: &[Installation]) -> Error {
    match all.first() {
        Some(it) => suspended(it.account.as_ref()),
        None => Error::Refused(
            "the App is installed nowhere yet: install it on a repository first (its page on GitHub → Install App)".to_owned(),
        ),
    }
}

/// What a call for an installation that is suspended would be answered with.
fn suspended(account: Option<&Owner>) -> Error {
    let whose = account.map(|it| format!(" on {}", it.login)).unwrap_or_default();
    Error::Status {
        code: 403,
        retry_after: None,
        excerpt: format!("the installation{whose} is suspended"),
    }
}

/// GitHub's stable number of a repository.
pub(super) fn repository_number(id: &str) -> Result<u64, Error> {
    let plain = !id.is_empty() && id.len() <= 19 && id.bytes().all(|b| b.is_ascii_digit());
    let number = id.parse().ok().filter(|_| plain);
    number.ok_or_else(|| Error::Refused("a GitHub repository is named by its number".to_owned()))
}

pub(super) fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
