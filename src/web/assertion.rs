//! A passkey asked to sign an intent: what each of these ceremonies begins with, and what the browser is told.

use crate::domain::time::Time;
use crate::evidence::intent::challenge;
use crate::identity::{Ceremonies, Error, LIFETIME_SECONDS, Purpose};
use crate::web::problem::Problem;
use actix_web::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What the ceremony keeps until it is answered.
pub struct Bound<S> {
    pub intent: Vec<u8>,
    pub nonce: [u8; 32],
    /// Derived from both.
    pub challenge: [u8; 32],
    pub state: Box<S>,
}

/// What the browser gets: it can see for itself that the challenge is that of the intent.
pub struct Shown {
    intent: String,
    nonce: String,
    public_key: Value,
}

/// Draws a nonce and lets `start` begin an assertion over the challenge.
///
/// # Errors
/// When there is no randomness, or `start` fails.
pub fn over<S>(
    intent: Vec<u8>,
    start: impl FnOnce(&[u8; 32]) -> Result<(Value, S), Error>,
) -> Result<(Bound<S>, Shown), Problem> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(Problem::internal)?;
    let challenge = challenge(&nonce, &intent);
    let (public_key, state) = start(&challenge).map_err(Problem::internal)?;
    let shown = Shown {
        intent: STANDARD.encode(&intent),
        nonce: STANDARD.encode(nonce),
        public_key,
    };
    let bound = Bound {
        intent,
        nonce,
        challenge,
        state: Box::new(state),
    };
    Ok((bound, shown))
}

impl Shown {
    /// Begins the ceremony and tells the browser.
    pub fn begin(self, ceremonies: &Ceremonies, purpose: Purpose, now: Time) -> HttpResponse {
        HttpResponse::Ok().json(json!({
            "ceremony": ceremonies.begin(purpose, now),
            "expires_at": now.plus_seconds(LIFETIME_SECONDS),
            "intent": self.intent,
            "nonce": self.nonce,
            "publicKey": self.public_key,
        }))
    }
}
