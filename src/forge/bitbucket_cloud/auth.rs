//! What Bitbucket Cloud is called with: an access token, somebody's API token, or an OAuth consumer whose token is renewed.
//!
//! Sources: "Access tokens", "API tokens" and "Use OAuth on Bitbucket Cloud" of Atlassian's documentation, RFC 6749 section
//! 4.4.

use crate::outbound::{Call, Error, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A consumer's token is renewed when less of it is left: what has begun with it must end with it.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A token that says nothing of its end is kept so long; Bitbucket's live two hours.
const LIVES: u64 = 3600;

/// What an integration proves itself by; sealed as one text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Credentials {
    /// An access token of a repository, project or workspace.
    Token { token: Zeroizing<String> },
    /// A user's API token, with the e-mail address of that user.
    User { email: String, token: Zeroizing<String> },
    /// An OAuth consumer of a workspace.
    Consumer {
        client_id: String,
        client_secret: Zeroizing<String>,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Token { .. } => "an access token",
            Credentials::User { .. } => "a user's API token",
            Credentials::Consumer { .. } => "an OAuth consumer",
        })
    }
}

impl Credentials {
    /// The text that is sealed.
    pub fn to_secret(&self) -> Secret {
        Secret::new(serde_json::to_string(self).expect("plain fields have no failing serializer"))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// `Refused` if it is none.
    pub fn read(text: &Secret) -> Result<Self, Error> {
        serde_json::from_str(text.expose())
            .map_err(|_| Error::Refused("the token is not in the form it is stored in".to_owned()))
    }
}

/// A consumer's token.
#[derive(Debug)]
struct Token {
    token: Secret,
    until: Instant,
}

/// Bitbucket's answer to a consumer.
#[derive(Deserialize)]
pub(super) struct Minted {
    access_token: String,
    expires_in: Option<u64>,
}

/// Credentials, and the token they were exchanged for.
#[derive(Debug)]
pub(super) struct Auth {
    credentials: Credentials,
    token: Mutex<Option<Token>>,
    /// One token is asked for at a time.
    pub(super) minting: tokio::sync::Mutex<()>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Auth {
            credentials,
            token: Mutex::default(),
            minting: tokio::sync::Mutex::default(),
        }
    }

    /// It is a consumer, whose tokens end.
    pub(super) fn renews(&self) -> bool {
        matches!(self.credentials, Credentials::Consumer { .. })
    }

    /// It acts as a user, which branch restrictions can name.
    pub(super) fn is_user(&self) -> bool {
        matches!(self.credentials, Credentials::User { .. })
    }

    /// The consumer's token, while it lasts.
    pub(super) fn held(&self) -> Option<Secret> {
        let held = self.lock();
        let it = held.as_ref()?;
        (it.until > Instant::now()).then(|| it.token.clone())
    }

    /// Keeps a token until shortly before its end.
    pub(super) fn keep(&self, minted: Minted) -> Secret {
        let token = Secret::new(minted.access_token);
        let lives = Duration::from_secs(minted.expires_in.unwrap_or(LIVES));
        *self.lock() = Some(Token {
            token: token.clone(),
            until: Instant::now() + lives.saturating_sub(RENEW_BEFORE),
        });
        token
    }

    /// Forgets a token that is not taken any more; not one that came after it.
    pub(super) fn drop_token(&self, token: &Secret) {
        let mut held = self.lock();
        if held.as_ref().is_some_and(|it| it.token == *token) {
            *held = None;
        }
    }

    /// The call by which a consumer gets a token.
    pub(super) fn asks(&self, call: Call) -> Call {
        let form = b"grant_type=client_credentials".to_vec();
        let call = call.body("application/x-www-form-urlencoded", form);
        match &self.credentials {
            Credentials::Consumer {
                client_id,
                client_secret,
            } => basic(call, client_id, client_secret),
            _ => call,
        }
    }

    /// The call with what proves it; `token`: the consumer's.
    pub(super) fn proven(&self, call: Call, token: Option<&Secret>) -> Call {
        match (&self.credentials, token) {
            (Credentials::User { email, token }, _) => basic(call, email, token),
            (Credentials::Token { token }, _) => call.bearer(&Secret::new(token.as_str())),
            (Credentials::Consumer { .. }, Some(token)) => call.bearer(token),
            (Credentials::Consumer { .. }, None) => call,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds `Authorization: Basic …` (RFC 7617).
fn basic(call: Call, user: &str, password: &str) -> Call {
    let both = Zeroizing::new(format!("{user}:{password}"));
    let encoded = Zeroizing::new(STANDARD.encode(both.as_bytes()));
    call.unseen(Secret::new(password))
        .unseen(Secret::new(encoded.as_str()))
        .secret_header(
            "authorization",
            Secret::new(format!("Basic {}", encoded.as_str())),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_they_were_sealed_and_print_nothing() {
        let all = [
            Credentials::Token {
                token: "ATCTT-secret".to_owned().into(),
            },
            Credentials::User {
                email: "gate@example.test".to_owned(),
                token: "ATATT-secret".to_owned().into(),
            },
            Credentials::Consumer {
                client_id: "key".to_owned(),
                client_secret: "consumer-secret".to_owned().into(),
            },
        ];
        for it in all {
            let sealed = it.to_secret();
            let read = Credentials::read(&sealed).expect("its own form");
            assert_eq!(read.to_secret().expose(), sealed.expose());
            assert!(!format!("{it:?}").contains("secret"), "{it:?}");
        }
        assert!(Credentials::read(&Secret::new("ATCTT")).is_err());
    }

    #[test]
    fn a_token_is_kept_until_shortly_before_its_end() {
        let auth = Auth::new(Credentials::Consumer {
            client_id: "key".to_owned(),
            client_secret: "s".to_owned().into(),
        });
        let minted = |token: &str, seconds| Minted {
            access_token: token.to_owned(),
            expires_in: seconds,
        };
        auth.keep(minted("short", Some(RENEW_BEFORE.as_secs())));
        assert!(auth.held().is_none(), "too little is left of it");
        let token = auth.keep(minted("long", Some(7200)));
        assert_eq!(auth.held(), Some(token.clone()));
        auth.drop_token(&Secret::new("another"));
        assert!(auth.held().is_some());
        auth.drop_token(&token);
        assert!(auth.held().is_none());
    }
}
