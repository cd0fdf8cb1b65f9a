//! One message to one addressee by every channel that reaches them.

use crate::domain::ids::{ChatId, PersonId};
use crate::domain::notice::{
    APNS_SECRET, Audience, Chat, Delivery, Device, MAIL_SECRET, MailTls, MailWhen, NoticeKind,
    NoticeSettings, Platform, Preferences, Sent, TestBy, VAPID_SECRET, chat_secret, device_secret,
};
use crate::domain::people::Person;
use crate::domain::state::Read;
use crate::effects::{Surroundings, Trouble};
use crate::notify::{
    ApnsKey, ApnsSender, ChatUrl, MailServer, Message, PushAddress, SigningKey, Told, WebPush, send_chat,
    send_mail,
};
use crate::outbound::{Client, Outcome, Secret};
use crate::store::Snapshot;
use futures_util::future::join_all;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest reason that is recorded, in characters.
const REASON_MAX: usize = 300;

/// Seals a secret under its name.
type Seal = Arc<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;
/// Opens a sealed secret by its name.
type Unseal = Arc<dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// What messages are sent with: the vault, the clients, and the keys once they are opened.
pub struct Post {
    pub seal: Seal,
    pub unseal: Unseal,
    pub allow_http: Vec<String>,
    clients: Mutex<Option<Clients>>,
    apns_key: Mutex<Option<(Vec<u8>, Arc<ApnsKey>)>>,
}

/// Clients with these further roots.
#[derive(Clone)]
struct Clients {
    ca_pem: Option<String>,
    plain: Client,
    http2: Client,
}

impl Post {
    /// Nothing is opened before it is used.
    pub fn new(seal: Seal, unseal: Unseal, allow_http: Vec<String>) -> Post {
        Post {
            seal,
            unseal,
            allow_http,
            clients: Mutex::new(None),
            apns_key: Mutex::new(None),
        }
    }

    fn clients(&self, ca_pem: Option<&str>) -> Result<Clients, String> {
        let mut held = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(it) = held.as_ref().filter(|it| it.ca_pem.as_deref() == ca_pem) {
            return Ok(it.clone());
        }
        let made = Clients {
            ca_pem: ca_pem.map(str::to_owned),
            plain: Client::new(ca_pem, &self.allow_http).map_err(|e| e.to_string())?,
            http2: Client::http2(ca_pem, &self.allow_http).map_err(|e| e.to_string())?,
        };
        *held = Some(made.clone());
        Ok(made)
    }

    fn open(&self, name: &str, snapshot: &Snapshot) -> Result<Option<Vec<u8>>, Trouble> {
        let sealed = snapshot.secret(name)?;
        Ok(sealed.and_then(|it| (self.unseal)(name, &it)))
    }

    /// Apple's key, with the token that was made with it.
    fn apns(&self, settings: &NoticeSettings, snapshot: &Snapshot) -> Result<Option<Arc<ApnsKey>>, Trouble> {
        let Some(apns) = &settings.apns else {
            return Ok(None);
        };
        let Some(pem) = self.open(APNS_SECRET, snapshot)? else {
            return Ok(None);
        };
        let known = [apns.team_id.as_bytes(), apns.key_id.as_bytes(), &pem].concat();
        let mut held = self
            .apns_key
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, key)) = held.as_ref().filter(|(of, _)| *of == known) {
            let _ = of;
            return Ok(Some(key.clone()));
        }
        let key = String::from_utf8(pem)
            .ok()
            .and_then(|it| SigningKey::from_pem(&it).ok());
        let key = key.map(|it| Arc::new(ApnsKey::new(it, &apns.key_id, &apns.team_id)));
        *held = key.clone().map(|it| (known, it));
        Ok(key)
    }
}

/// A way to reach somebody.
#[derive(Clone)]
pub(super) enum Channel {
    Device(Device),
    /// The address, and when it is used.
    Mail(String, MailWhen),
    Chat(Chat),
}

impl Channel {
    /// Whether it is a way of this kind.
    pub(super) fn is_by(&self, by: TestBy) -> bool {
        match self {
            Channel::Device(_) => by == TestBy::Push,
            Channel::Mail(..) => by == TestBy::Mail,
            Channel::Chat(_) => false,
        }
    }

    fn id(&self) -> String {
        match self {
            Channel::Device(it) => format!("device/{}", it.id),
            Channel::Mail(..) => "mail".to_owned(),
            Channel::Chat(it) => format!("chat/{}", it.id),
        }
    }

    fn name(&self) -> String {
        match self {
            Channel::Device(it) => it.name.clone(),
            Channel::Mail(..) => "Mail".to_owned(),
            Channel::Chat(it) => it.name.clone(),
        }
    }
}

/// A delivery, and the wait the other side asked for.
pub(super) struct Delivered {
    pub delivery: Delivery,
    pub after: Option<Duration>,
}

/// Every channel that reaches an addressee now.
pub(super) fn channels(
    to: &str,
    settings: &NoticeSettings,
    snapshot: &Snapshot,
) -> Result<Vec<Channel>, Trouble> {
    if let Some(id) = ChatId::parse(to) {
        let chat: Option<Chat> = snapshot.get(id.as_str())?;
        return Ok(chat.map(Channel::Chat).into_iter().collect());
    }
    let Some(id) = PersonId::parse(to) else {
        return Ok(Vec::new());
    };
    let Some(person) = snapshot.get::<Person>(id.as_str())?.filter(|it| it.active) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for device in snapshot.all::<Device>()? {
        let served = device.platform == Platform::Webpush || settings.apns.is_some();
        if device.person == person.id && device.is_live() && served {
            found.push(Channel::Device(device));
        }
    }
    for chat in snapshot.all::<Chat>()? {
        if matches!(&chat.audience, Audience::Person { person: it } if *it == person.id) {
            found.push(Channel::Chat(chat));
        }
    }
    let when = Preferences::load(&person.id, snapshot)?.mail;
    if settings.mail.is_some() && when != MailWhen::Never && !person.email.is_empty() {
        found.push(Channel::Mail(person.email, when));
    }
    Ok(found)
}

/// Sends a message by all of these, or by the one that is named.
pub(super) async fn deliver(
    at: &Surroundings,
    post: &Post,
    settings: &NoticeSettings,
    channels: Vec<Channel>,
    only: Option<&str>,
    message: &Message,
    kind: NoticeKind,
) -> Result<Vec<Delivered>, Trouble> {
    let channels: Vec<Channel> = channels
        .into_iter()
        .filter(|it| only.is_none_or(|only| it.id() == only))
        .collect();
    let (letters, others): (Vec<Channel>, Vec<Channel>) = channels
        .into_iter()
        .partition(|it| matches!(it, Channel::Mail(..)));
    let mut told = join_all(others.iter().map(|it| send(at, post, settings, it, message))).await;
    let reached = told.iter().any(|it| {
        matches!(it, Ok(it) if it.delivery.channel.starts_with("device/") && it.delivery.sent == Sent::Delivered)
    });
    for letter in &letters {
        let needed = match letter {
            Channel::Mail(_, MailWhen::Fallback) => {
                // What is said of one's own passkeys goes everywhere.
                !reached || only.is_some() || matches!(kind, NoticeKind::Alert | NoticeKind::Test)
            }
            _ => true,
        };
        if needed {
            told.push(send(at, post, settings, letter, message).await);
        }
    }
    told.into_iter().collect()
}

async fn send(
    at: &Surroundings,
    post: &Post,
    settings: &NoticeSettings,
    channel: &Channel,
    message: &Message,
) -> Result<Delivered, Trouble> {
    let clients = match post.clients(settings.ca_pem.as_deref()) {
        Ok(clients) => clients,
        Err(reason) => return Ok(judged(channel, Told::By(Outcome::Rejected { reason }))),
    };
    let now_seconds = at.clock.now().0 / 1000;
    let told = match channel {
        Channel::Device(device) => {
            let (address, vapid, apns) = {
                let snapshot = at.store.read()?;
                (
                    post.open(&device_secret(&device.id), &snapshot)?,
                    post.open(VAPID_SECRET, &snapshot)?,
                    post.apns(settings, &snapshot)?,
                )
            };
            let Some(address) = address else {
                return Ok(judged(channel, Told::Gone("its address is missing".into())));
            };
            match device.platform {
                Platform::Webpush => {
                    webpush(at, settings, &clients, &address, vapid, message, now_seconds).await
                }
                Platform::Apns => match (&settings.apns, apns, String::from_utf8(address)) {
                    (Some(apns), Some(key), Ok(token)) => {
                        let sender = ApnsSender {
                            client: &clients.http2,
                            key: &key,
                            base_url: &apns.base_url,
                            topic: &apns.topic,
                        };
                        sender.send(&token, message, now_seconds).await
                    }
                    _ => refused("Apple’s key is missing or is none: enter it in the notification settings"),
                },
            }
        }
        Channel::Mail(to, _) => match &settings.mail {
            Some(mail) => {
                let password = post.open(MAIL_SECRET, &at.store.read()?)?;
                let password = password
                    .and_then(|it| String::from_utf8(it).ok())
                    .map(Secret::new);
                let login = mail.username.as_deref().zip(password.as_ref());
                let plain = mail.tls == MailTls::None;
                if plain && !post.allow_http.contains(&mail.host) {
                    refused("mail without TLS needs the server’s name in outbound.allow_http")
                } else if mail.username.is_some() && login.is_none() {
                    refused("the mail server’s password is missing: enter it in the notification settings")
                } else {
                    let host = url::Url::parse(&at.public_url).ok();
                    let host = host.as_ref().and_then(url::Url::host_str).unwrap_or("localhost");
                    let server = MailServer {
                        host: &mail.host,
                        port: mail.port,
                        implicit_tls: mail.tls == MailTls::Implicit,
                        plain,
                        login,
                        ca_pem: settings.ca_pem.as_deref(),
                        from: &mail.from,
                        hello: host,
                    };
                    send_mail(&server, to, message).await
                }
            }
            None => refused("no mail server is arranged"),
        },
        Channel::Chat(chat) => {
            let url = post.open(&chat_secret(&chat.id), &at.store.read()?)?;
            match url.and_then(|it| String::from_utf8(it).ok()) {
                Some(url) => send_chat(&clients.plain, chat.kind, &ChatUrl(Secret::new(url)), message).await,
                None => refused("the chat’s webhook is missing: add it again"),
            }
        }
    };
    Ok(judged(channel, told))
}

async fn webpush(
    at: &Surroundings,
    settings: &NoticeSettings,
    clients: &Clients,
    address: &[u8],
    vapid: Option<Vec<u8>>,
    message: &Message,
    now_seconds: i64,
) -> Told {
    let Ok(address) = serde_json::from_slice::<PushAddress>(address) else {
        return Told::Gone("its address is damaged".into());
    };
    // The list may have become shorter since it was registered.
    let host = address.url().ok().and_then(|it| it.host_str().map(str::to_owned));
    if !host.is_some_and(|it| settings.allows_push_host(&it)) {
        return refused("its push service is not in the list of those that may be called");
    }
    let Some(key) = vapid.and_then(|it| SigningKey::from_pkcs8(&it).ok()) else {
        return refused("this server’s push key is missing");
    };
    let contact = settings.contact.clone().unwrap_or_else(|| at.public_url.clone());
    let push = WebPush {
        client: &clients.plain,
        key: &key,
        contact: &contact,
    };
    push.send(&address, message, now_seconds).await
}

fn refused(reason: &str) -> Told {
    Told::By(Outcome::Rejected {
        reason: reason.to_owned(),
    })
}

fn judged(channel: &Channel, told: Told) -> Delivered {
    let (sent, reason, after) = match told {
        Told::By(Outcome::Delivered(())) => (Sent::Delivered, None, None),
        Told::By(Outcome::Retry { after, reason }) => (Sent::Later, Some(reason), after),
        Told::By(Outcome::Rejected { reason }) => (Sent::Refused, Some(reason), None),
        Told::Gone(reason) => (Sent::Gone, Some(reason), None),
    };
    if let (Sent::Refused, Some(reason)) = (sent, &reason) {
        tracing::warn!(%reason, channel = %channel.id(), "a message was refused");
    }
    Delivered {
        delivery: Delivery {
            channel: channel.id(),
            name: channel.name(),
            sent,
            reason: reason.map(|it| crate::domain::text::shortened(&it, REASON_MAX)),
        },
        after,
    }
}
