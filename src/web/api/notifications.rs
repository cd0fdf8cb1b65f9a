//! What admins arrange about messages: how much they say, how often, the mail server, Apple's key, chats; and who was told of
//! a request.

use crate::domain::attention::Look;
use crate::domain::command::Command;
use crate::domain::ids::{ChatId, GroupId, PersonId};
use crate::domain::notice::{
    APNS_SECRET, Audience, Chat, ChatKind, MAIL_SECRET, Notice, NoticeSettings, chat_secret,
};
use crate::domain::people::Person;
use crate::domain::state::{Read, Table, decode};
use crate::identity::random_id;
use crate::notify::SigningKey;
use crate::outbound::parse_base;
use crate::store::Snapshot;
use crate::web::api::approvals::visible_request;
use crate::web::api::bounded;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest secret that is taken, in characters.
const SECRET_CHARS_MAX: usize = 8_000;

/// `GET /api/v1/settings/notifications`: admins.
pub async fn get_notification_settings(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    Ok(HttpResponse::Ok().json(shown(&app.snapshot()?)?))
}

fn shown(snapshot: &Snapshot) -> Result<Value, Problem> {
    let settings = NoticeSettings::load(snapshot)?;
    let mut value = serde_json::to_value(&settings).map_err(Problem::internal)?;
    for (part, name, secret) in [
        ("mail", "password_set", MAIL_SECRET),
        ("apns", "key_set", APNS_SECRET),
    ] {
        if value[part].is_object() {
            value[part][name] = json!(snapshot.secret(secret)?.is_some());
        }
    }
    Ok(value)
}

/// `PUT /api/v1/settings/notifications`: admins. Members that are not sent are as by default; secrets that are not sent stay.
pub async fn put_notification_settings(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (mut body, _) = read_json::<Value>(&request, payload).await?;
    let mut take = |part: &str, name: &str| -> Result<Option<String>, Problem> {
        let Some(members) = body.get_mut(part).and_then(Value::as_object_mut) else {
            return Ok(None);
        };
        members.remove(&format!("{name}_set"));
        match members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.chars().count() <= SECRET_CHARS_MAX => {
                Ok(Some(text))
            }
            Some(_) => Err(Problem::bad_field(
                &format!("{part}.{name}"),
                format!("text of at most {SECRET_CHARS_MAX} characters"),
            )),
        }
    };
    let (password, key) = (take("mail", "password")?, take("apns", "key")?);
    if !body.is_object() {
        return Err(Problem::bad_request("An object is needed."));
    }
    // A part of a form that was left empty has its choices and no first member.
    for (part, first) in [("mail", "host"), ("apns", "team_id")] {
        if body[part].is_object() && body[part].get(first).is_none() {
            body[part] = Value::Null;
        }
    }
    let settings: NoticeSettings = serde_json::from_value(body).map_err(|e| {
        // serde names the member and what it should be; the body held no secret any more.
        Problem::bad_request(crate::domain::text::shortened(&e.to_string(), 300))
    })?;
    if let Some(pem) = &settings.ca_pem {
        crate::outbound::tls(Some(pem)).map_err(|e| Problem::invalid("ca_pem", e.to_string()))?;
    }
    let mut secrets = Vec::new();
    if let Some(password) = password {
        secrets.push((
            MAIL_SECRET.to_owned(),
            (app.seal)(MAIL_SECRET, password.as_bytes()),
        ));
    }
    if let Some(key) = key {
        SigningKey::from_pem(&key).map_err(|e| Problem::invalid("apns.key", e.to_string()))?;
        secrets.push((APNS_SECRET.to_owned(), (app.seal)(APNS_SECRET, key.as_bytes())));
    }
    if let Some(apns) = &settings.apns {
        parse_base(&apns.base_url, &app.allow_http)
            .map_err(|e| Problem::invalid("apns.base_url", e.to_string()))?;
    }
    let command = Command::ConfigureNotices(Box::new(settings));
    app.submit_with_secrets(caller.actor(), reason.of(command), secrets)
        .await?;
    Ok(HttpResponse::Ok().json(shown(&app.snapshot()?)?))
}

fn chat_json(it: &Chat) -> Value {
    let audience = match &it.audience {
        Audience::Everyone => json!("everyone"),
        Audience::Group { group } => json!(group),
        Audience::Person { person } => json!(person),
    };
    json!({
        "id": it.id, "name": it.name, "kind": it.kind.name(), "host": it.host, "audience": audience, "added_at": it.added_at,
    })
}

/// `GET /api/v1/chats`: admins.
pub async fn list_chats(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let items: Vec<Value> = app.snapshot()?.all::<Chat>()?.iter().map(chat_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatBody {
    name: String,
    kind: String,
    url: String,
    /// `everyone`, a group's id or a person's.
    audience: Option<String>,
}

/// `POST /api/v1/chats`: admins. The webhook's URL is a secret: it is sealed and never shown again.
pub async fn add_chat(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<ChatBody>(&request, payload).await?;
    bounded("name", &body.name, 100)?;
    let kind = ChatKind::parse(&body.kind)
        .ok_or_else(|| Problem::bad_field("kind", "\"slack\", \"teams\", \"mattermost\" or \"ntfy\""))?;
    let url = url::Url::parse(&body.url).map_err(|_| Problem::bad_field("url", "a URL"))?;
    let mut bare = url.clone();
    bare.set_query(None);
    parse_base(bare.as_str(), &app.allow_http).map_err(|e| Problem::invalid("url", e.to_string()))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let audience = match body.audience.as_deref() {
        None | Some("everyone") => Audience::Everyone,
        Some(text) => match (GroupId::parse(text), PersonId::parse(text)) {
            (Some(group), _) => Audience::Group { group },
            (None, Some(person)) => Audience::Person { person },
            (None, None) => {
                return Err(Problem::bad_field(
                    "audience",
                    "\"everyone\", a group's id or a person's",
                ));
            }
        },
    };
    let chat = Chat {
        id: ChatId::from_random(random_id()),
        name: body.name,
        kind,
        host,
        audience,
        added_at: app.now(),
    };
    let name = chat_secret(&chat.id);
    let sealed = (app.seal)(&name, body.url.as_bytes());
    let shown = chat_json(&chat);
    app.submit_with_secrets(
        caller.actor(),
        reason.of(Command::AddChat(chat)),
        vec![(name, sealed)],
    )
    .await?;
    Ok(HttpResponse::Created().json(shown))
}

/// `DELETE /api/v1/chats/{id}`: admins.
pub async fn remove_chat(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let chat = ChatId::parse(&id).ok_or_else(Problem::not_found)?;
    app.submit(caller.actor(), reason.of(Command::RemoveChat { chat }))
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /api/v1/approvals/{id}/notices`: people who see the request. Who was told of it, by which channel, and who has had it
/// on their screen.
pub async fn list_notices(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let request = visible_request(&snapshot, &caller, &id)?;
    let Caller::Person(_) = &caller else {
        return Err(Problem::forbidden("This call is for people."));
    };
    let mut items = Vec::new();
    let prefix = format!("{}\0", request.id);
    for (_, bytes) in snapshot.with_prefix(Table::Notices, prefix.as_bytes())? {
        let it: Notice = decode(&bytes)?;
        let person = PersonId::parse(&it.to);
        let (name, seen) = match &person {
            Some(id) => {
                let person: Option<Person> = snapshot.get(id.as_str())?;
                let seen = Look::of(&request.id, id, &snapshot)?.seen_at;
                (person.map(|it| it.name), seen)
            }
            None => (snapshot.get::<Chat>(&it.to)?.map(|it| it.name), None),
        };
        items.push(json!({
            "to": { "id": it.to, "name": name }, "first_at": it.first_at, "seen_at": seen,
            "reminders": it.reminders, "deliveries": it.lines,
        }));
    }
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}
