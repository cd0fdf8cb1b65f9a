//! Accounts of people: finding one by name, and what it says of itself.
//!
//! The status message (`PUT /user/status`) is written by the account itself and by nobody else: comments won't do as a proof,
//! since Maintainers may edit those of others.

use crate::domain::facts::Account;
use crate::domain::text::shortened;
use crate::forge::gitlab::{GitLab, User};
use crate::outbound::Error;
use serde::Deserialize;

/// Longest name that is kept, in characters.
const NAME_MAX: usize = 200;
/// Longest user name GitLab has.
const USERNAME_MAX: usize = 255;

/// `GET /users/:id/status`, as far as it is read.
#[derive(Deserialize)]
struct UserStatus {
    message: Option<String>,
}

impl GitLab {
    /// See [`crate::forge::Forge::account_named`].
    pub(crate) async fn account_named(&self, username: &str) -> Result<Option<Account>, Error> {
        let name = username.trim().trim_start_matches('@');
        let sound = !name.is_empty() && name.len() <= USERNAME_MAX && !name.chars().any(char::is_control);
        if !sound {
            return Ok(None);
        }
        let found: Vec<User> = self.get(&["users"], &[("username", name)]).await?;
        let account = found
            .into_iter()
            .find(|it| it.username.eq_ignore_ascii_case(name))
            .map(Account::from);
        Ok(account.map(|it| Account {
            username: shortened(&it.username, NAME_MAX),
            name: shortened(&it.name, NAME_MAX),
            ..it
        }))
    }

    /// See [`crate::forge::Forge::said_of_itself`].
    pub(crate) async fn said_of_itself(&self, account: &Account) -> Result<String, Error> {
        let account_id = account.id.as_str();
        if account_id.is_empty() || !account_id.bytes().all(|it| it.is_ascii_digit()) {
            return Err(Error::Refused(
                "a GitLab account is named by its number".to_owned(),
            ));
        }
        let status: UserStatus = self.get(&["users", account_id, "status"], &[]).await?;
        Ok(status.message.unwrap_or_default())
    }
}
