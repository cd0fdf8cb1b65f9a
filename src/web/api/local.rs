//! Administration on the appliance's own host, over its Unix socket. Whoever can open the socket is the appliance's
//! user or root, who could read its files anyway; every act is in the journal under the actor `host`.

use crate::domain::command::{Command, Reply};
use crate::domain::event::Actor;
use crate::domain::ids::PersonId;
use crate::domain::people::Person;
use crate::domain::state::Read;
use crate::identity::random_id;
use crate::web::api::api_keys::{KeyBody, make};
use crate::web::api::people::{INVITATION_SECONDS, PersonBody, invite_url, new_invitation, roles_of};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

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

/// `POST /local/api-keys`: the host.
pub async fn create_api_key_locally(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<KeyBody>(&request, payload).await?;
    Ok(HttpResponse::Created().json(make(&app, Actor::Host, None, body).await?))
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
    use crate::evidence::dsse::{key_id, spki_of_ed25519};
    Ok(HttpResponse::Ok().json(json!({
        "log_origin": app.log_origin,
        "log_vkey": app.log_key.vkey(),
        "keys": [
            { "use": "credential", "keyid": app.key_id(), "backend": "file" },
            { "use": "log", "keyid": key_id(&spki_of_ed25519(app.log_key.key())), "backend": "file" },
        ],
    })))
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
