//! The GitHub App itself: its key, the tokens it signs, and the tokens its installations get for them.
//!
//! Sources: "Generating a JSON Web Token (JWT) for a GitHub App" and "Generating an installation access token" of GitHub's
//! documentation, RFC 7519.

use crate::outbound::{Error, Reply, Secret, unix_seconds};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// GitHub takes no token that was issued in its future: its own clocks may differ so much.
const ISSUED_BEFORE: i64 = 60;
/// GitHub takes no token that lives longer than ten minutes.
const LIVES: i64 = 540;
/// An installation's token is renewed when less of it is left: what has begun with it must end with it.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// What an App proves itself by; sealed as one text.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The App's number.
    pub app_id: u64,
    /// The private key in PEM, as GitHub hands it out (PKCS#1) or as PKCS#8.
    pub private_key: Zeroizing<String>,
    /// The one installation to use; `None`: every one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<u64>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials of App {}", self.app_id)
    }
}

impl Credentials {
    /// The text that is sealed.
    pub fn to_secret(&self) -> Secret {
        Secret::new(serde_json::to_string(self).expect("plain fields have no failing serializer"))
    }

    /// Whether the key can be used at all.
    ///
    /// # Errors
    /// `Refused`, with a sentence for whoever pasted it.
    pub fn check(&self) -> Result<(), Error> {
        key(&self.private_key).map(drop)
    }

    /// Reads the text.
    ///
    /// # Errors
    /// `Refused` if it is none.
    pub fn read(text: &Secret) -> Result<Self, Error> {
        serde_json::from_str(text.expose()).map_err(|_| {
            Error::Refused("the App's id and key are not in the form they are stored in".to_owned())
        })
    }
}

/// An installation's token.
#[derive(Clone, Debug)]
struct Held {
    token: Secret,
    until: Instant,
}

/// GitHub's answer to a wish for an installation's token.
#[derive(Deserialize)]
pub(super) struct Minted {
    /// `ghs_…`, of any length.
    token: String,
    /// RFC 3339.
    expires_at: String,
}

/// An App with its key.
pub(super) struct App {
    pub(super) id: u64,
    key: KeyPair,
    pub(super) installation: Option<u64>,
    /// GitHub's clock, as an answer told it last: unix seconds, and when that was.
    clock: Mutex<Option<(Instant, i64)>>,
    tokens: Mutex<HashMap<u64, Held>>,
    /// One token is asked for at a time.
    pub(super) minting: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "App {}", self.id)
    }
}

impl App {
    /// An App from its credentials.
    ///
    /// # Errors
    /// `Refused` if the key is none that can be used.
    pub(super) fn new(credentials: &Credentials) -> Result<Self, Error> {
        Ok(App {
            id: credentials.app_id,
            key: key(&credentials.private_key)?,
            installation: credentials.installation_id,
            clock: Mutex::default(),
            tokens: Mutex::default(),
            minting: tokio::sync::Mutex::default(),
        })
    }

    /// Learns GitHub's clock from an answer. Tokens are dated by it alone, so that ours may be wrong.
    pub(super) fn hear(&self, reply: &Reply) {
        if let Some(seconds) = reply.header("date").and_then(unix_seconds) {
            *lock(&self.clock) = Some((Instant::now(), seconds));
        }
    }

    /// GitHub's clock, unix seconds; `None` before the first answer.
    pub(super) fn now(&self) -> Option<i64> {
        let told = *lock(&self.clock);
        told.map(|(at, seconds)| seconds.saturating_add_unsigned(at.elapsed().as_secs()))
    }

    /// A token that proves to be the App (RS256), issued at `now` by GitHub's clock.
    pub(super) fn jwt(&self, now: i64) -> Result<Secret, Error> {
        let claims = serde_json::json!({
            "iat": now - ISSUED_BEFORE, "exp": now + LIVES, "iss": self.id.to_string(),
        });
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| Error::Refused("the App's private key does not sign".to_owned()))?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(Secret::new(format!("{signed}.{signature}")))
    }

    /// The token of an installation, while it lasts.
    pub(super) fn token(&self, installation: u64) -> Option<Secret> {
        let tokens = lock(&self.tokens);
        let held = tokens.get(&installation)?;
        (held.until > Instant::now()).then(|| held.token.clone())
    }

    /// Keeps a token until shortly before its end.
    ///
    /// # Errors
    /// `NotJson` if GitHub tells no usable end.
    pub(super) fn keep(&self, installation: u64, minted: Minted) -> Result<Secret, Error> {
        let expires: jiff::Timestamp = minted
            .expires_at
            .parse()
            .map_err(|_| Error::NotJson("an installation's token without an end".to_owned()))?;
        let left = expires.as_second() - self.now().unwrap_or(expires.as_second());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
        let token = Secret::new(minted.token);
        let held = Held {
            token: token.clone(),
            until: Instant::now() + left.saturating_sub(RENEW_BEFORE),
        };
        lock(&self.tokens).insert(installation, held);
        Ok(token)
    }

    /// Forgets a token that GitHub does not take any more; not one that came after it.
    pub(super) fn drop_token(&self, installation: u64, token: &Secret) {
        let mut tokens = lock(&self.tokens);
        if tokens.get(&installation).is_some_and(|it| it.token == *token) {
            tokens.remove(&installation);
        }
    }
}

/// Reads a private key in PEM.
///
/// # Errors
/// `Refused`, with a sentence for whoever pasted it.
fn key(pem: &str) -> Result<KeyPair, Error> {
    let refused = |reason: &str| Error::Refused(format!("the private key cannot be used: {reason}"));
    let der = PrivateKeyDer::from_pem_slice(pem.trim().as_bytes())
        .map_err(|_| refused("this is not PEM; paste the whole file that GitHub handed out"))?;
    let pair = match &der {
        PrivateKeyDer::Pkcs1(it) => KeyPair::from_der(it.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(it) => KeyPair::from_pkcs8(it.secret_pkcs8_der()),
        _ => return Err(refused("it is not an RSA key")),
    };
    pair.map_err(|_| refused("it is no RSA key of 2,048 bits or more"))
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use base64::engine::general_purpose::STANDARD;

    fn pem() -> String {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS#8");
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        )
    }

    fn app() -> App {
        let credentials = Credentials {
            app_id: 4711,
            private_key: Zeroizing::new(pem()),
            installation_id: None,
        };
        App::new(&Credentials::read(&credentials.to_secret()).expect("its own form")).expect("a key")
    }

    #[test]
    fn a_token_is_dated_before_and_ends_within_ten_minutes() {
        let app = app();
        let token = app.jwt(1_800_000_000).expect("a token");
        let (signed, signature) = token.expose().rsplit_once('.').expect("three parts");
        let (_, claims) = signed.split_once('.').expect("three parts");
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON");
        assert_eq!(claims["iss"], "4711");
        assert_eq!(claims["iat"], 1_800_000_000 - 60);
        assert!(claims["exp"].as_i64().expect("a number") - 1_800_000_000 < 600);
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, app.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .expect("it verifies");
    }

    #[test]
    fn a_token_of_any_length_is_kept_until_shortly_before_its_end() {
        let app = app();
        *lock(&app.clock) = Some((Instant::now(), 1_800_000_000));
        let minted = |seconds: i64| Minted {
            token: format!("ghs_4711_{}", "x".repeat(900)),
            expires_at: jiff::Timestamp::from_second(1_800_000_000 + seconds)
                .expect("a time")
                .to_string(),
        };
        let token = app.keep(1, minted(3_600)).expect("kept");
        assert_eq!(app.token(1), Some(token.clone()));
        assert_eq!(app.token(2), None);
        app.drop_token(1, &Secret::new("another"));
        assert!(app.token(1).is_some(), "only the refused one is forgotten");
        app.drop_token(1, &token);
        assert_eq!(app.token(1), None);
        app.keep(1, minted(299)).expect("kept");
        assert_eq!(app.token(1), None, "it would end while it is used");
    }

    #[test]
    fn only_a_whole_rsa_key_is_taken() {
        for odd in [
            "",
            "key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            assert!(key(odd).is_err(), "{odd}");
        }
        assert!(key(&format!("\n {}\n", pem().trim())).is_ok());
        assert!(!format!("{:?}", app()).contains("PRIVATE"));
    }
}
