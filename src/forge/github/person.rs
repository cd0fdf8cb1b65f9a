//! Accounts of people: finding one by name, and what it says of itself.
//!
//! The bio of a profile (`PATCH /user`) is written by the account itself and by nobody else: comments won't do as a proof, since
//! whoever may write to a repository may edit those of others.

use crate::domain::facts::Account;
use crate::domain::text::shortened;
use crate::forge::github::repository::no_installation;
use crate::forge::github::{By, GitHub};
use crate::outbound::{Error, Method};
use serde::Deserialize;

/// Longest name that is kept, in characters.
const NAME_MAX: usize = 200;
/// Longest user name GitHub has; Enterprise Managed Users have a suffix.
const USERNAME_MAX: usize = 100;

/// `GET /users/{username}`, as far as it is read. Enterprise Server has no call for a profile by its number.
#[derive(Deserialize)]
struct Profile {
    id: u64,
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
    name: Option<String>,
    bio: Option<String>,
}

impl GitHub {
    /// See [`crate::forge::Forge::account_named`].
    pub(crate) async fn account_named(&self, username: &str) -> Result<Option<Account>, Error> {
        let name = username.trim().trim_start_matches('@');
        let sound = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
        if name.is_empty() || name.len() > USERNAME_MAX || !name.bytes().all(sound) {
            return Ok(None);
        }
        let found = match self.profile(&["users", name]).await {
            Err(error) if error.status() == Some(404) => return Ok(None),
            found => found?,
        };
        // Organizations and Apps have profiles too, and nobody signs in as one.
        let person = found.kind == "User" && found.login.eq_ignore_ascii_case(name);
        Ok(person.then(|| Account {
            id: found.id.to_string(),
            name: shortened(found.name.as_deref().unwrap_or(&found.login), NAME_MAX),
            username: shortened(&found.login, NAME_MAX),
        }))
    }

    /// See [`crate::forge::Forge::said_of_itself`].
    pub(crate) async fn said_of_itself(&self, account: &Account) -> Result<String, Error> {
        let found = self.profile(&["users", &account.username]).await?;
        // A name may be somebody else's by now, a number never.
        if found.id.to_string() != account.id {
            return Err(Error::Refused(
                "the user name is another account's by now".to_owned(),
            ));
        }
        Ok(found.bio.unwrap_or_default())
    }

    /// A public profile, asked for by any installation: the App itself sees none.
    async fn profile(&self, path: &[&str]) -> Result<Profile, Error> {
        let installations = self.installations().await?;
        let active = installations.iter().find(|it| it.suspended_at.is_none());
        let active = active.ok_or_else(|| no_installation(&installations))?;
        let call = self.call(Method::Get, path)?;
        self.fetch(By::Installation(active.id), call).await?.json()
    }
}
