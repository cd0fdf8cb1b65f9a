//! Webhooks that we send, signed as Standard Webhooks 1.0 asks (github.com/standard-webhooks/standard-webhooks,
//! `spec/standard-webhooks.md`): HMAC-SHA256 over `id.timestamp.body`, in three headers. It signs and sends nothing.

use crate::outbound::{Call, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Shortest and longest key, in bytes, as the specification has them.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// A symmetric signing secret. `Debug` prints `[secret]`.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl SigningSecret {
    /// Makes a secret of 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        SigningSecret(Zeroizing::new(bytes.to_vec()))
    }

    /// Reads `whsec_` and standard base64 of 24 to 64 bytes; `None` if it is anything else.
    pub fn read(text: &str) -> Option<Self> {
        let key = Zeroizing::new(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        KEY_BYTES.contains(&key.len()).then_some(SigningSecret(key))
    }

    /// The secret as text, in the form that receivers' libraries take.
    pub fn text(&self) -> Secret {
        let encoded = Zeroizing::new(STANDARD.encode(&*self.0));
        Secret::new(format!("{PREFIX}{}", encoded.as_str()))
    }

    /// One signature: `v1,` and base64.
    fn sign(&self, id: &str, unix_seconds: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{unix_seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// The headers of one message. `id` stays the same when the message is sent again, so that a receiver can drop what it has;
/// it must not hold a dot. `unix_seconds` is the time of this attempt: receivers refuse what is older than some minutes.
/// Several secrets make several signatures, for as long as a receiver changes from one to the other.
pub fn headers(
    id: &str,
    unix_seconds: i64,
    body: &[u8],
    secrets: &[SigningSecret],
) -> [(&'static str, String); 3] {
    let signatures: Vec<String> = secrets.iter().map(|it| it.sign(id, unix_seconds, body)).collect();
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", unix_seconds.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ]
}

/// `call` with this JSON body and its signature headers.
pub fn signed(call: Call, id: &str, unix_seconds: i64, body: Vec<u8>, secrets: &[SigningSecret]) -> Call {
    let call = headers(id, unix_seconds, &body, secrets)
        .iter()
        .fold(call, |call, (name, value)| call.header(name, value));
    call.body("application/json", body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};
    use standardwebhooks::Webhook;

    fn now() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn map(headers: [(&'static str, String); 3]) -> HeaderMap {
        headers
            .into_iter()
            .map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    HeaderValue::from_str(&value).expect("a value"),
                )
            })
            .collect()
    }

    #[test]
    fn the_independent_library_takes_what_we_sign_and_nothing_else() {
        let secret = SigningSecret::from_random(&[9; 32]);
        let other = SigningSecret::from_random(&[8; 32]);
        let receiver = |it: &SigningSecret| Webhook::new(it.text().expose()).expect("a secret");
        let body = br#"{"type":"x","data":"\u00e4"}"#;
        let sent = map(headers("msg_1", now(), body, std::slice::from_ref(&secret)));
        receiver(&secret).verify(body, &sent).expect("it verifies");
        assert!(receiver(&other).verify(body, &sent).is_err());
        assert!(receiver(&secret).verify(b"{}", &sent).is_err());
        let mut moved = sent.clone();
        moved.insert("webhook-id", HeaderValue::from_static("msg_2"));
        assert!(receiver(&secret).verify(body, &moved).is_err());
        let both = map(headers("msg_1", now(), body, &[secret.clone(), other.clone()]));
        receiver(&secret).verify(body, &both).expect("the old secret");
        receiver(&other).verify(body, &both).expect("the new secret");
        let old = map(headers("msg_1", now() - 600, body, std::slice::from_ref(&secret)));
        assert!(receiver(&secret).verify(body, &old).is_err());
    }

    #[test]
    fn secrets_are_read_as_they_are_written() {
        let secret = SigningSecret::from_random(&[7; 32]);
        let text = secret.text();
        let again = SigningSecret::read(text.expose()).expect("its own text");
        assert_eq!(again.sign("a", 1, b"b"), secret.sign("a", 1, b"b"));
        assert_eq!(format!("{secret:?}"), "[secret]");
        let of = |length: usize| format!("{PREFIX}{}", STANDARD.encode(vec![1; length]));
        assert!(SigningSecret::read(&of(24)).is_some() && SigningSecret::read(&of(64)).is_some());
        for bad in [
            "",
            "whsec_",
            "whsec_!!!!",
            &of(23),
            &of(65),
            &STANDARD.encode([1; 32]),
        ] {
            assert!(SigningSecret::read(bad).is_none(), "{bad}");
        }
    }
}
