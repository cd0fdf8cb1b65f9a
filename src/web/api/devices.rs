//! A person's devices that are told when something waits: browsers by their push subscription, native clients by Apple's token
//! and a key of their own; and what the person arranges about messages.

use crate::domain::apply::PUSH_KEY;
use crate::domain::command::{Command, NewDevice};
use crate::domain::ids::{CeremonyId, DeviceId, Digest};
use crate::domain::notice::{
    Device, DeviceState, MailWhen, NoticeSettings, Platform, Preferences, QuietHours, device_secret,
};
use crate::domain::state::{Read, Table};
use crate::identity::{DeviceKey, Purpose, random_id};
use crate::notify::PushAddress;
use crate::web::api::{Empty, bounded};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest endpoint of a subscription, in bytes.
const ENDPOINT_BYTES_MAX: usize = 2_048;
/// Longest device token, in characters.
const TOKEN_CHARS_MAX: usize = 200;

/// A device for its owner.
pub(in crate::web) fn device_json(it: &Device) -> Value {
    let (state, reason) = match &it.state {
        DeviceState::Pending => ("pending", None),
        DeviceState::Live => ("live", None),
        DeviceState::Dead { reason } => ("dead", Some(reason)),
    };
    json!({
        "id": it.id,
        "platform": match it.platform { Platform::Webpush => "webpush", Platform::Apns => "apns" },
        "name": it.name,
        "host": it.host,
        "state": state,
        "reason": reason,
        "added_at": it.added_at,
        "confirmed_at": it.confirmed_at,
    })
}

/// `GET /api/v1/me/devices`: whoever is signed in.
pub async fn list_devices(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let mut devices: Vec<Device> = app.snapshot()?.all()?;
    devices.retain(|it| it.person == who.0.id);
    devices.sort_by_key(|it| std::cmp::Reverse(it.added_at));
    let items: Vec<Value> = devices.iter().map(device_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/push-key`: whoever is signed in. What `pushManager.subscribe` takes as `applicationServerKey`.
pub async fn get_push_key(app: Data<App>, _: SignedIn) -> Result<HttpResponse, Problem> {
    let key = app.snapshot()?.get_raw(Table::Counters, PUSH_KEY)?;
    let key = key.and_then(|it| String::from_utf8(it).ok());
    let key = key.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(json!({ "public_key": key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceBody {
    platform: String,
    subscription: Option<SubscriptionBody>,
    token: Option<String>,
    name: Option<String>,
    /// The endpoint that this subscription takes the place of.
    replaces: Option<String>,
    /// SubjectPublicKeyInfo of a P-256 key, DER in base64.
    device_public_key: Option<String>,
}

#[derive(Deserialize)]
struct SubscriptionBody {
    endpoint: String,
    keys: KeysBody,
}

#[derive(Deserialize)]
struct KeysBody {
    p256dh: String,
    auth: String,
}

/// `POST /api/v1/me/devices`: whoever is signed in. A browser calls this at each load of a page; the same subscription stays
/// the same device.
pub async fn add_device(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<DeviceBody>(&request, payload).await?;
    if let Some(name) = &body.name {
        bounded("name", name, 100)?;
    }
    let snapshot = app.snapshot()?;
    let settings = NoticeSettings::load(&snapshot)?;
    let (platform, host, address, identity) = match body.platform.as_str() {
        "webpush" => {
            let it = body.subscription.ok_or_else(|| {
                Problem::bad_field("subscription", "the browser's PushSubscription as JSON")
            })?;
            let (host, address) = web_address(&app, &settings, it)?;
            let identity = address.endpoint.clone();
            let bytes = serde_json::to_vec(&address).map_err(Problem::internal)?;
            (Platform::Webpush, host, bytes, identity)
        }
        "apns" => {
            let apns = settings
                .apns
                .as_ref()
                .ok_or_else(|| Problem::invalid("platform", "Apple's push service is not arranged here."))?;
            let token = body.token.unwrap_or_default();
            let hex = !token.is_empty()
                && token.len() <= TOKEN_CHARS_MAX
                && token.bytes().all(|it| it.is_ascii_hexdigit());
            if !hex {
                return Err(Problem::bad_field(
                    "token",
                    "the device token in hexadecimal digits",
                ));
            }
            let host = url::Url::parse(&apns.base_url).ok();
            let host = host
                .and_then(|it| it.host_str().map(str::to_owned))
                .unwrap_or_default();
            (
                Platform::Apns,
                host,
                token.clone().into_bytes(),
                format!("apns:{token}"),
            )
        }
        _ => return Err(Problem::bad_field("platform", "\"webpush\" or \"apns\"")),
    };
    let key = match (platform, body.device_public_key) {
        (Platform::Apns, Some(text)) => {
            Some(DeviceKey::parse(&text).map_err(|reason| Problem::bad_field("device_public_key", reason))?)
        }
        (Platform::Apns, None) => {
            return Err(Problem::bad_field(
                "device_public_key",
                "a P-256 public key, SubjectPublicKeyInfo in base64",
            ));
        }
        (Platform::Webpush, _) => None,
    };
    let address_sha256 = Digest::of(identity.as_bytes());
    let known = snapshot
        .all::<Device>()?
        .into_iter()
        .find(|it| it.address_sha256 == address_sha256 && it.person == who.0.id && it.is_live());
    let same_key = |it: &Device| it.device_key.as_deref() == key.as_ref().map(DeviceKey::base64);
    let known = known.filter(same_key);
    let id = known
        .as_ref()
        .map_or_else(|| DeviceId::from_random(random_id()), |it| it.id.clone());
    let name = body.name.unwrap_or_else(|| match platform {
        Platform::Webpush => "Browser".to_owned(),
        Platform::Apns => "Phone".to_owned(),
    });
    let sealed = (app.seal)(&device_secret(&id), &address);
    let command = Command::AddDevice(NewDevice {
        id: id.clone(),
        platform,
        name,
        host,
        address_sha256,
        device_key: key.as_ref().map(|it| it.base64().to_owned()),
        replaces: body.replaces.map(|it| Digest::of(it.as_bytes())),
    });
    app.submit_with_secrets(who.actor(), command, vec![(device_secret(&id), sealed)])
        .await?;
    let Some(key) = key.filter(|_| known.is_none()) else {
        return Ok(HttpResponse::Ok().json(json!({ "id": id, "state": "live" })));
    };
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge).map_err(Problem::internal)?;
    let purpose = Purpose::ConfirmDevice {
        person: who.0.id.clone(),
        device: id.clone(),
        key: Box::new(key),
        challenge,
    };
    let ceremony = app.ceremonies.begin(purpose, app.now());
    Ok(HttpResponse::Created().json(json!({
        "id": id, "state": "pending", "ceremony": ceremony, "challenge": URL_SAFE_NO_PAD.encode(challenge),
    })))
}

/// A subscription that may be called: its host in the list, https, keys that are keys.
fn web_address(
    app: &App,
    settings: &NoticeSettings,
    it: SubscriptionBody,
) -> Result<(String, PushAddress), Problem> {
    let field = "subscription.endpoint";
    if it.endpoint.len() > ENDPOINT_BYTES_MAX {
        return Err(Problem::bad_field(
            field,
            format!("at most {ENDPOINT_BYTES_MAX} bytes"),
        ));
    }
    let address = PushAddress {
        endpoint: it.endpoint,
        p256dh: it.keys.p256dh,
        auth: it.keys.auth,
    };
    let url = address
        .url()
        .map_err(|reason| Problem::bad_field(field, reason))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    // Whoever registers it chooses the address: it must not lead into the organisation's own network.
    if !settings.allows_push_host(&host) {
        let reason = format!(
            "The push service {} is not in the list of those that may be called. An admin can add it.",
            crate::domain::text::visible(&crate::domain::text::shortened(&host, 100))
        );
        return Err(Problem::invalid(field, reason));
    }
    if url.scheme() == "http" && !app.evaluation {
        return Err(Problem::invalid(field, "Only https."));
    }
    address
        .subscription()
        .map_err(|e| Problem::bad_field("subscription.keys", e.to_string()))?;
    Ok((host, address))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmBody {
    ceremony: String,
    /// ECDSA over SHA-256, ASN.1 DER, in base64.
    signature: String,
}

/// `POST /api/v1/me/devices/{id}/confirm`: whose device it is. The device's key has signed the challenge.
pub async fn confirm_device(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<ConfirmBody>(&request, payload).await?;
    let id = DeviceId::parse(&id).ok_or_else(Problem::not_found)?;
    let ceremony = CeremonyId::parse(&body.ceremony).ok_or_else(Problem::ceremony_spent)?;
    let Some(Purpose::ConfirmDevice {
        person,
        device,
        key,
        challenge,
    }) = app.ceremonies.take(&ceremony, app.now())
    else {
        return Err(Problem::ceremony_spent());
    };
    let signature = STANDARD
        .decode(&body.signature)
        .map_err(|_| Problem::bad_field("signature", "ASN.1 DER in base64"))?;
    if person != who.0.id || device != id || !key.has_signed(&challenge, &signature) {
        let command = Command::RefuseCeremony {
            person: Some(who.0.id.clone()),
            request: None,
            reason: "a device's key did not sign its challenge".into(),
        };
        app.submit(who.actor(), command).await?;
        return Err(Problem::ceremony_failed());
    }
    app.submit(who.actor(), Command::ConfirmDevice { device: id.clone() })
        .await?;
    Ok(HttpResponse::Ok().json(json!({ "id": id, "state": "live" })))
}

/// `DELETE /api/v1/me/devices/{id}`: whose device it is.
pub async fn remove_device(app: Data<App>, who: SignedIn, id: Path<String>) -> Result<HttpResponse, Problem> {
    let device = DeviceId::parse(&id).ok_or_else(Problem::not_found)?;
    let command = Command::EndDevice {
        device,
        reason: "Removed by its owner.".into(),
    };
    app.submit(who.actor(), command).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/v1/me/devices/test`: whoever is signed in. A message by every channel that reaches them.
pub async fn test_devices(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    read_json::<Empty>(&request, payload).await?;
    app.submit(who.actor(), Command::AskTestNotice { by: None })
        .await?;
    Ok(HttpResponse::Accepted().json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreferencesBody {
    mail: Option<MailWhen>,
    #[serde(default)]
    quiet: Option<QuietBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuietBody {
    from: Option<String>,
    until: Option<String>,
    zone: Option<String>,
}

/// `GET /api/v1/me/notifications`: whoever is signed in.
pub async fn get_preferences(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let it = Preferences::load(&who.0.id, &app.snapshot()?)?;
    Ok(HttpResponse::Ok().json(preferences_json(&it)))
}

fn preferences_json(it: &Preferences) -> Value {
    let quiet = it
        .quiet
        .as_ref()
        .map(|it| json!({ "from": clock(it.from), "until": clock(it.until), "zone": it.zone }));
    json!({ "mail": it.mail, "quiet": quiet })
}

/// Minutes after midnight as `22:00`.
pub(in crate::web) fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn minutes(field: &str, text: &str) -> Result<u16, Problem> {
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    });
    parsed.ok_or_else(|| Problem::bad_field(field, "a time of the day, such as 22:00"))
}

/// `PUT /api/v1/me/notifications`: whoever is signed in.
pub async fn put_preferences(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<PreferencesBody>(&request, payload).await?;
    // A form that was left empty has a time zone and no times.
    let quiet = body.quiet.filter(|it| it.from.is_some() || it.until.is_some());
    let quiet = quiet
        .map(|it| {
            Ok::<_, Problem>(QuietHours {
                from: minutes("quiet.from", it.from.as_deref().unwrap_or_default())?,
                until: minutes("quiet.until", it.until.as_deref().unwrap_or_default())?,
                zone: it.zone.unwrap_or_else(|| "UTC".to_owned()),
            })
        })
        .transpose()?;
    let command = Command::PreferNotices {
        mail: body.mail.unwrap_or_default(),
        quiet,
    };
    app.submit(who.actor(), command).await?;
    get_preferences(app, who).await
}
