//! Administration on the appliance's own host, over its Unix socket. Whoever can open the socket is the appliance's
//! user or root, who could read its files anyway; every act is in the journal under the actor `host`.

use crate::domain::command::{Command, Reply};
use crate::domain::decide::REASON_CHARS_MAX;
use crate::domain::event::Actor;
use crate::domain::governance::Governed;
use crate::domain::ids::PersonId;
use crate::domain::keys::all_keys;
use crate::domain::people::Person;
use crate::domain::state::Read;
use crate::engine::{KeyChange, KeysChanged, PassphraseText};
use crate::identity::random_id;
use crate::web::api::api_keys::{KeyBody, make};
use crate::web::api::governance::{Change, govern};
use crate::web::api::keys::rotation;
use crate::web::api::people::{INVITATION_SECONDS, PersonBody, invite_url, new_invitation, roles_of};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::keys::verifier_key;
use crate::web::problem::Problem;
use crate::web::sealed::FIRST_CHARS_MIN;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

/// `POST /local/people`: the host. Adds a person, or invites again one of that e-mail who has no passkey.
pub async fn invite_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<PersonBody>(&request, payload).await?;
    let (invitation, token) = new_invitation();
    let known = person_by(&app, &body.email).ok();
    let person = match known {
        Some(person) => {
            let command = Command::InviteAgain {
                person: person.id.clone(),
                invitation,
            };
            app.submit(Actor::Host, command).await?;
            person.id
        }
        None => {
            let command = Command::AddPerson {
                person: PersonId::from_random(random_id()),
                name: body.name,
                email: body.email,
                roles: roles_of(&body.roles)?,
                invitation,
            };
            match app.submit(Actor::Host, command).await? {
                Reply::Person { id } => id,
                other => return Err(Problem::internal(format!("{other:?}"))),
            }
        }
    };
    Ok(HttpResponse::Created().json(json!({
        "person": person,
        "url": invite_url(&app, &token),
        "expires_at": app.now().plus_seconds(INVITATION_SECONDS),
    })))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoverBody {
    person: String,
    #[serde(default)]
    reason: String,
}

/// `POST /local/recoveries`: the host. Ends a person's passkeys and invites them anew.
pub async fn recover_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<RecoverBody>(&request, payload).await?;
    let person = person_by(&app, &body.person)?;
    if person.live_passkeys().next().is_some() {
        let change = Governed::Recovery {
            person: person.id.clone(),
        };
        govern(&app, Actor::Host, Change::of(change, body.reason)).await?;
    }
    let (invitation, token) = new_invitation();
    let command = Command::InviteAgain {
        person: person.id.clone(),
        invitation,
    };
    app.submit(Actor::Host, command).await?;
    Ok(HttpResponse::Created().json(json!({
        "person": person.id,
        "url": invite_url(&app, &token),
        "expires_at": app.now().plus_seconds(INVITATION_SECONDS),
    })))
}

/// `POST /local/api-keys`: the host.
pub async fn create_api_key_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<KeyBody>(&request, payload).await?;
    Ok(HttpResponse::Created().json(make(&app, Actor::Host, None, None, body).await?))
}

/// `GET /local/people`: the host.
pub async fn list_people_locally(app: Data<App>) -> Result<HttpResponse, Problem> {
    let people: Vec<Person> = app.snapshot()?.all()?;
    let items: Vec<_> = people
        .iter()
        .map(|it| {
            json!({
                "id": it.id, "name": it.name, "email": it.email, "roles": it.roles, "active": it.active,
                "passkeys": it.live_passkeys().count(),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items })))
}

/// `GET /local/keys`: the host. What the log is called and which keys sign.
pub async fn show_keys_locally(app: Data<App>) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let log = verifier_key(&snapshot)?;
    let backends = app.engine.health().backends();
    let keys: Vec<_> = all_keys(&snapshot)?
        .iter()
        .rev()
        .map(|it| {
            let signs = it.until_seq.is_none();
            json!({
                "use": it.r#use, "keyid": it.keyid, "from_seq": it.from_seq, "until_seq": it.until_seq,
                "revoked": it.compromised, "signs": signs,
                "backend": signs.then(|| if it.r#use == "log" { backends.1 } else { backends.0 }),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "log_origin": log.name(),
        "log_vkey": log.vkey(),
        "keys": keys,
    })))
}

/// What `POST /local/keys/rotate` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    r#use: String,
}

/// `POST /local/keys/rotate`: the host. The next key of a use takes over; `data` seals all secrets anew.
pub async fn rotate_key_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<RotateBody>(&request, payload).await?;
    let change = rotation(&body.r#use)?;
    Ok(changed(app.engine.change_keys(Actor::Host, change).await?))
}

/// What `POST /local/keys/passphrase` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PassphraseBody {
    from: String,
    to: String,
}

/// `POST /local/keys/passphrase`: the host. Key files and data keys stand under another passphrase from then on.
pub async fn change_passphrase_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<PassphraseBody>(&request, payload).await?;
    let text = |it: String| PassphraseText::new(Zeroizing::new(it));
    let (from, to) = (text(body.from), text(body.to));
    if to.expose().chars().count() < FIRST_CHARS_MIN {
        let why = format!("At least {FIRST_CHARS_MIN} characters: it is all that protects the keys' files.");
        return Err(Problem::invalid("to", why));
    }
    let change = KeyChange::Passphrase { from, to };
    Ok(changed(app.engine.change_keys(Actor::Host, change).await?))
}

/// What `POST /local/keys/revoke` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    keyid: String,
    from_seq: Option<u64>,
    reason: String,
}

/// `POST /local/keys/revoke`: the host. From a position of the journal on nothing counts that the key signed.
pub async fn revoke_key_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<RevokeBody>(&request, payload).await?;
    if body.reason.trim().is_empty() || body.reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::invalid(
            "reason",
            "Say why, in at most 2,000 characters.",
        ));
    }
    let change = KeyChange::Revoke {
        keyid: body.keyid,
        from_seq: body.from_seq,
        reason: body.reason,
    };
    Ok(changed(app.engine.change_keys(Actor::Host, change).await?))
}

/// What came of a change of the keys.
pub fn changed(it: KeysChanged) -> HttpResponse {
    let (ended, from_seq) = it.ended.unzip();
    HttpResponse::Ok().json(json!({
        "activated": it.activated, "ended": ended, "from_seq": from_seq, "taken_back": it.taken_back,
        "secrets": it.secrets,
    }))
}

/// A person by id or e-mail.
pub fn person_by(app: &App, who: &str) -> Result<Person, Problem> {
    let people: Vec<Person> = app.snapshot()?.all()?;
    people
        .into_iter()
        .find(|it| it.id.as_str() == who || it.email.eq_ignore_ascii_case(who))
        .ok_or_else(|| {
            Problem::invalid(
                "owner",
                format!("There is no person {}.", crate::domain::text::visible(who)),
            )
        })
}
