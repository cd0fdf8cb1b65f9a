//! Web Push (RFC 8030): one request to the push service that the browser chose, signed by this appliance (RFC 8292). The
//! message is a declarative one, which newer Apple devices show by themselves; our service worker reads the same form.

use crate::notify::encryption::{Subscription, SubscriptionError};
use crate::notify::token::SigningKey;
use crate::notify::{Message, Told};
use crate::outbound::{Call, Client, Error, Method, Outcome, Secret};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use url::Url;

/// How long a signature is good for, in seconds: half of what RFC 8292 allows.
const TOKEN_SECONDS: i64 = 12 * 3_600;
/// The longest time a push service keeps a message for us, in seconds.
const TTL_SECONDS_MAX: u64 = 86_400;
/// Longest body of a message, in bytes, before it is cut: with the rest below what one record holds.
const BODY_BYTES_MAX: usize = 1_500;
const TITLE_BYTES_MAX: usize = 200;
/// A push service that does not answer within this holds up nobody longer.
const LIMIT: Duration = Duration::from_secs(15);

/// Where one browser is reached: what it handed us, to be sealed.
#[derive(Clone, Serialize, Deserialize)]
pub struct PushAddress {
    pub endpoint: String,
    pub p256dh: String,
    pub auth: String,
}

impl PushAddress {
    /// The address's URL and host: https, or http where the client may call that.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn url(&self) -> Result<Url, String> {
        let url = Url::parse(&self.endpoint).map_err(|_| "the endpoint is not a URL".to_owned())?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() || !url.username().is_empty()
        {
            return Err("the endpoint is not an https URL".to_owned());
        }
        Ok(url)
    }

    /// The browser's keys.
    ///
    /// # Errors
    /// When they are none.
    pub fn subscription(&self) -> Result<Subscription, SubscriptionError> {
        Subscription::parse(&self.p256dh, &self.auth)
    }
}

/// Sends to browsers.
pub struct WebPush<'a> {
    pub client: &'a Client,
    pub key: &'a SigningKey,
    /// `mailto:` or `https:`: whom a push service may write to.
    pub contact: &'a str,
}

impl WebPush<'_> {
    /// Sends a message. `now_seconds` is the time, in seconds since the epoch.
    pub async fn send(&self, to: &PushAddress, message: &Message, now_seconds: i64) -> Told {
        let url = match to.url() {
            Ok(url) => url,
            Err(reason) => return Told::Gone(reason),
        };
        let subscription = match to.subscription() {
            Ok(it) => it,
            Err(error) => return Told::Gone(error.to_string()),
        };
        let body = match subscription.encrypt(declarative(message).as_bytes()) {
            Ok(body) => body,
            Err(error) => return Told::rejected(error.to_string()),
        };
        let claims = json!({
            "aud": url.origin().ascii_serialization(),
            "exp": now_seconds + TOKEN_SECONDS,
            "sub": self.contact,
        });
        let token = match self.key.token(&json!({"typ": "JWT", "alg": "ES256"}), &claims) {
            Ok(token) => token,
            Err(error) => return Told::rejected(error.to_string()),
        };
        let authorization = format!("vapid t={token}, k={}", self.key.public_base64url());
        let call = Call::new(Method::Post, url)
            .body("application/octet-stream", body)
            .header("content-encoding", "aes128gcm")
            .header("ttl", &message.ttl_seconds.min(TTL_SECONDS_MAX).to_string())
            .header("urgency", "high")
            .header("topic", &message.tag)
            .secret_header("authorization", Secret::new(authorization))
            .unseen(Secret::new(to.endpoint.clone()))
            .cap(64 * 1024)
            .limit(LIMIT);
        match self.client.fetch(call).await {
            Ok(_) => Told::By(Outcome::Delivered(())),
            Err(error) => judged(error),
        }
    }
}

/// What a push service's refusal means (RFC 8030, sections 5 and 8).
fn judged(error: Error) -> Told {
    match error.status() {
        Some(404 | 410) => Told::Gone("the push service knows this subscription no more".to_owned()),
        Some(413) => Told::rejected("the push service finds the message too large"),
        Some(401 | 403) => Told::rejected(format!(
            "the push service does not accept this server’s signature: check the contact in the notification settings ({error})"
        )),
        Some(400) => Told::rejected(format!("the push service refuses the message ({error})")),
        _ => Told::By(error.into_outcome()),
    }
}

/// The message in the declarative form (w3c/push-api, "Declarative Web Push").
fn declarative(message: &Message) -> String {
    let mut told = json!({
        "web_push": 8030,
        "notification": {
            "title": cut(&message.title, TITLE_BYTES_MAX),
            "body": cut(&message.body, BODY_BYTES_MAX),
            "lang": "en",
            "navigate": message.url,
            "tag": message.tag,
            "silent": false,
        },
    });
    if let Some(badge) = message.badge {
        told["app_badge"] = json!(badge);
    }
    told.to_string()
}

/// At most that many bytes of a text, whole characters.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::encryption::PLAIN_BYTES_MAX;
    use proptest::prelude::*;

    fn refused(code: u16, retry_after: Option<u64>) -> Told {
        judged(Error::Status {
            code,
            retry_after: retry_after.map(Duration::from_secs),
            excerpt: String::new(),
        })
    }

    #[test]
    fn every_answer_has_its_meaning() {
        for code in [404, 410] {
            assert!(matches!(refused(code, None), Told::Gone(_)), "{code}");
        }
        for code in [400, 401, 403, 413] {
            assert!(
                matches!(refused(code, None), Told::By(Outcome::Rejected { .. })),
                "{code}"
            );
        }
        assert_eq!(
            refused(429, Some(30)),
            Told::By(Outcome::Retry {
                after: Some(Duration::from_secs(30)),
                reason: "answered 429".into()
            })
        );
        assert!(matches!(
            refused(503, None),
            Told::By(Outcome::Retry { after: None, .. })
        ));
    }

    proptest! {
        #[test]
        fn whatever_stands_in_it_fits_into_one_record(title in ".*", body in "\\PC{0,4000}", n: usize) {
            let message = Message {
                title,
                body,
                url: format!("https://approvals.example/a/apr_{}", "0".repeat(32)),
                tag: "t".repeat(32),
                ttl_seconds: 600,
                badge: Some(n),
            };
            let text = declarative(&message);
            // Control characters are escaped in JSON; nothing that is shown holds any.
            if !message.title.chars().chain(message.body.chars()).any(|c| c.is_control() || c == '"' || c == '\\') {
                prop_assert!(text.len() <= PLAIN_BYTES_MAX, "{}", text.len());
            }
            let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(&read["web_push"], &json!(8030));
            prop_assert_eq!(read["notification"]["navigate"].as_str(), Some(message.url.as_str()));
        }
    }
}
