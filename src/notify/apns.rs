//! Apple's push service: the payload and its options by `a2`, the request by our own HTTP/2 client, since `a2`'s can be
//! given neither another address nor other roots. Token-based connection (ES256), renewed well before Apple's hour.

use crate::notify::token::SigningKey;
use crate::notify::{Message, Told};
use crate::outbound::{Call, Client, Error, Method, Outcome, Secret, join, parse_base};
use a2::request::notification::{CollapseId, PushType};
use a2::request::payload::PayloadLike;
use a2::{
    DefaultNotificationBuilder, ErrorBody, ErrorReason, NotificationBuilder, NotificationOptions, Priority,
};
use serde_json::json;
use std::sync::Mutex;
use std::time::Duration;

/// A token is used for this long, in seconds. Apple takes one for an hour, and refuses new ones more often than every
/// twenty minutes.
const TOKEN_SECONDS: i64 = 50 * 60;
const LIMIT: Duration = Duration::from_secs(15);
/// The category whose only action is to look: nothing is ever approved from a notification.
const CATEGORY: &str = "APPROVAL";

/// The team's key and the token made with it.
pub struct ApnsKey {
    key: SigningKey,
    key_id: String,
    team_id: String,
    /// The token and when it was made, in seconds since the epoch.
    made: Mutex<Option<(String, i64)>>,
}

impl ApnsKey {
    /// A key as Apple hands it out.
    pub fn new(key: SigningKey, key_id: &str, team_id: &str) -> ApnsKey {
        ApnsKey {
            key,
            key_id: key_id.to_owned(),
            team_id: team_id.to_owned(),
            made: Mutex::new(None),
        }
    }

    fn token(&self, now_seconds: i64) -> Result<String, String> {
        let mut made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((token, at)) = &*made
            && (0..TOKEN_SECONDS).contains(&(now_seconds - at))
        {
            return Ok(token.clone());
        }
        let token = self
            .key
            .token(
                &json!({"alg": "ES256", "kid": self.key_id}),
                &json!({"iss": self.team_id, "iat": now_seconds}),
            )
            .map_err(|e| e.to_string())?;
        *made = Some((token.clone(), now_seconds));
        Ok(token)
    }

    fn forget_token(&self) {
        *self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

/// Sends to Apple's devices.
pub struct ApnsSender<'a> {
    /// Speaks HTTP/2.
    pub client: &'a Client,
    pub key: &'a ApnsKey,
    pub base_url: &'a str,
    pub topic: &'a str,
}

impl ApnsSender<'_> {
    /// Sends a message to a device's token. `now_seconds` is the time, in seconds since the epoch.
    pub async fn send(&self, device_token: &str, message: &Message, now_seconds: i64) -> Told {
        let hex = !device_token.is_empty() && device_token.bytes().all(|it| it.is_ascii_hexdigit());
        if !hex {
            return Told::Gone("the device token is none".to_owned());
        }
        let url = parse_base(self.base_url, &[]).and_then(|it| join(&it, &["3", "device", device_token]));
        let url = match url {
            Ok(url) => url,
            Err(error) => return Told::rejected(error.to_string()),
        };
        let options = NotificationOptions {
            apns_topic: Some(self.topic),
            apns_expiration: u64::try_from(now_seconds).ok().map(|it| it + message.ttl_seconds),
            apns_collapse_id: CollapseId::new(&message.tag).ok(),
            apns_priority: Some(Priority::High),
            apns_push_type: Some(PushType::Alert),
            apns_id: None,
        };
        let body = match payload(message, device_token, options.clone()) {
            Ok(body) => body,
            Err(error) => return Told::rejected(error),
        };
        let token = match self.key.token(now_seconds) {
            Ok(token) => token,
            Err(error) => return Told::rejected(error),
        };
        let mut call = Call::new(Method::Post, url)
            .body("application/json", body.into_bytes())
            .bearer(&Secret::new(token))
            .unseen(Secret::new(device_token.to_owned()))
            .limit(LIMIT);
        for (name, value) in headers(&options) {
            call = call.header(name, &value);
        }
        let reply = match self.client.send(call).await {
            Ok(reply) => reply,
            Err(error) => return Told::By(error.into_outcome()),
        };
        if reply.status == 200 {
            return Told::By(Outcome::Delivered(()));
        }
        let reason = serde_json::from_slice::<ErrorBody>(&reply.body)
            .ok()
            .map(|it| it.reason);
        if matches!(
            reason,
            Some(ErrorReason::ExpiredProviderToken | ErrorReason::InvalidProviderToken)
        ) {
            self.key.forget_token();
        }
        judged(reply.status, reason, reply.accepted().err())
    }
}

fn payload(message: &Message, token: &str, options: NotificationOptions<'_>) -> Result<String, String> {
    let mut builder = DefaultNotificationBuilder::new()
        .set_title(&message.title)
        .set_body(&message.body)
        .set_sound("default")
        .set_category(CATEGORY);
    if let Some(badge) = message.badge {
        builder = builder.set_badge(u32::try_from(badge).unwrap_or(u32::MAX));
    }
    let mut payload = builder.build(token, options);
    payload
        .add_custom_data("url", &message.url)
        .map_err(|e| e.to_string())?;
    payload.to_json_string().map_err(|e| e.to_string())
}

fn headers(it: &NotificationOptions<'_>) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut add = |name, value: Option<String>| all.extend(value.map(|it| (name, it)));
    add("apns-topic", it.apns_topic.map(str::to_owned));
    add("apns-expiration", it.apns_expiration.map(|it| it.to_string()));
    add(
        "apns-collapse-id",
        it.apns_collapse_id.as_ref().map(|it| it.value.to_owned()),
    );
    add(
        "apns-priority",
        it.apns_priority.as_ref().map(ToString::to_string),
    );
    add(
        "apns-push-type",
        it.apns_push_type.as_ref().map(ToString::to_string),
    );
    all
}

/// What Apple's refusal means ("Handling notification responses from APNs").
fn judged(status: u16, reason: Option<ErrorReason>, error: Option<Error>) -> Told {
    match reason {
        Some(
            it @ (ErrorReason::Unregistered
            | ErrorReason::BadDeviceToken
            | ErrorReason::DeviceTokenNotForTopic),
        ) => Told::Gone(it.to_string()),
        Some(
            it @ (ErrorReason::ExpiredProviderToken
            | ErrorReason::TooManyProviderTokenUpdates
            | ErrorReason::IdleTimeout),
        ) => Told::By(Outcome::Retry {
            after: None,
            reason: it.to_string(),
        }),
        _ if status == 410 => Told::Gone("the device is known no more".to_owned()),
        _ => Told::By(error.map_or(
            Outcome::Retry {
                after: None,
                reason: format!("answered {status}"),
            },
            Error::into_outcome,
        )),
    }
}
