//! What admins arrange about messages, and how everybody is reached.

use crate::domain::notice::{
    APNS_SECRET, Audience, Chat, ChatKind, MAIL_SECRET, MailTls, NoticeSettings, Wording,
};
use crate::domain::people::Role;
use crate::domain::state::Read;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::reach::Reach;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

const NAME_MAX: usize = 100;

#[derive(Template)]
#[template(path = "admin/notifications.html")]
struct NotificationsPage {
    frame: Frame,
    minimal: bool,
    contact: String,
    push_hosts: String,
    ca_pem: String,
    remind_after: String,
    reminders: u32,
    escalate_after: String,
    escalate_to: String,
    per_ten_minutes: u32,
    per_hour: u32,
    per_requester: u32,
    mail: MailView,
    apns: ApnsView,
    chats: Vec<ChatView>,
    groups: Vec<(String, String)>,
    people: Vec<(String, String)>,
    reached: Vec<(String, String)>,
    unreached: Vec<String>,
}

struct MailView {
    host: String,
    port: String,
    tls: &'static str,
    username: String,
    from: String,
    password_set: bool,
}

struct ApnsView {
    team_id: String,
    key_id: String,
    topic: String,
    base_url: String,
    key_set: bool,
}

struct ChatView {
    id: String,
    name: String,
    kind: &'static str,
    host: String,
    audience: String,
}

/// `GET /dashboard/settings/notifications`: admins.
pub async fn show_notifications(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only(&person, &[Role::Admin], t!("administrators"))?;
    let state = app.snapshot()?;
    let people = People::load(&state)?;
    let settings = NoticeSettings::load(&state)?;
    let reach = Reach::load(&state)?;
    let number = |it: Option<u64>| it.map_or_else(String::new, |it| it.to_string());
    let approvers = people.sorted().into_iter().filter(|it| it.has(Role::Approver));
    let chats = state.all::<Chat>()?.into_iter().map(|it| ChatView {
        id: it.id.to_string(),
        name: shown(&it.name, NAME_MAX),
        kind: match it.kind {
            ChatKind::Slack => "Slack",
            ChatKind::Teams => t!("Microsoft Teams"),
            ChatKind::Mattermost => "Mattermost",
            ChatKind::Ntfy => t!("ntfy"),
        },
        host: shown(&it.host, NAME_MAX),
        audience: match &it.audience {
            Audience::Everyone => t!("all requests").to_owned(),
            Audience::Group { group } => {
                let known = people.groups().iter().find(|it| it.id == *group);
                known.map_or_else(
                    || t!("a removed group").to_owned(),
                    |it| t!("requests of the group {name}", name = shown(&it.name, NAME_MAX)),
                )
            }
            Audience::Person { person } => t!("requests of {person}", person = people.name(person)),
        },
    });
    let mail = settings.mail.as_ref();
    let apns = settings.apns.as_ref();
    Ok(html(&NotificationsPage {
        frame: Frame::new(&app, Some(&person), Place::Notifications, t!("Notifications")),
        minimal: settings.text == Wording::Minimal,
        contact: settings.contact.clone().unwrap_or_default(),
        push_hosts: settings.push_hosts.join("\n"),
        ca_pem: settings.ca_pem.clone().unwrap_or_default(),
        remind_after: number(settings.remind_after),
        reminders: settings.reminders,
        escalate_after: number(settings.escalate_after),
        escalate_to: settings.escalate_to.join("\n"),
        per_ten_minutes: settings.per_ten_minutes,
        per_hour: settings.per_hour,
        per_requester: settings.per_requester,
        mail: MailView {
            host: mail.map_or_else(String::new, |it| it.host.clone()),
            port: mail.map_or_else(String::new, |it| it.port.to_string()),
            tls: match mail.map(|it| it.tls) {
                Some(MailTls::Implicit) => "implicit",
                Some(MailTls::None) => "none",
                Some(MailTls::Starttls) | None => "starttls",
            },
            username: mail.and_then(|it| it.username.clone()).unwrap_or_default(),
            from: mail.map_or_else(String::new, |it| it.from.clone()),
            password_set: state.secret(MAIL_SECRET)?.is_some(),
        },
        apns: ApnsView {
            team_id: apns.map_or_else(String::new, |it| it.team_id.clone()),
            key_id: apns.map_or_else(String::new, |it| it.key_id.clone()),
            topic: apns.map_or_else(String::new, |it| it.topic.clone()),
            base_url: apns.map_or_else(String::new, |it| it.base_url.clone()),
            key_set: state.secret(APNS_SECRET)?.is_some(),
        },
        chats: chats.collect(),
        groups: people
            .groups()
            .iter()
            .map(|it| (it.id.to_string(), shown(&it.name, NAME_MAX)))
            .collect(),
        people: people
            .sorted()
            .into_iter()
            .map(|it| (it.id.to_string(), shown(&it.name, NAME_MAX)))
            .collect(),
        reached: approvers
            .map(|it| (shown(&it.name, NAME_MAX), reach.of(it).join(", ")))
            .collect(),
        unreached: reach.unreached(&people),
    }))
}
