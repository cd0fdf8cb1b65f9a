//! Random tokens: sessions, invitations, machine keys. Only their digests are ever stored.

use crate::domain::ids::Digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// A secret handed to its bearer once. 256 bits, so that its plain SHA-256 can be looked up: guessing is hopeless, and
/// a look-up by digest tells nothing by its timing.
pub struct Token {
    pub text: Zeroizing<String>,
    pub sha256: Digest,
}

/// A new token.
pub fn new_token() -> Token {
    with_prefix("")
}

/// A new machine caller's key: `sa_…`.
pub fn new_api_key() -> Token {
    with_prefix("sa_")
}

/// The digest a token is stored under.
pub fn hash_token(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// 128 random bits for an id.
pub fn random_id() -> [u8; 16] {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the system's random numbers never run out");
    bits
}

fn with_prefix(prefix: &str) -> Token {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the system's random numbers never run out");
    let text = Zeroizing::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*bytes)));
    let sha256 = hash_token(&text);
    Token { text, sha256 }
}
