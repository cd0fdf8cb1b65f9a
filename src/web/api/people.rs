//! People, their linked accounts and groups, for admins.

use crate::domain::command::{Command, NewInvitation, Reply};
use crate::domain::governance::Governed;
use crate::domain::ids::{GroupId, IntegrationId, InvitationId, PersonId};
use crate::domain::people::{Group, Person, Role};
use crate::domain::state::Read;
use crate::identity::{Token, new_token, random_id};
use crate::web::api::governance::{Change, Waits, govern};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::qr::qr_data_url;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How long an invitation works, in seconds: a week, so that it outlives a holiday weekend.
pub const INVITATION_SECONDS: u64 = 7 * 86_400;

/// Body of `POST /api/v1/people`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonBody {
    pub name: String,
    pub email: String,
    pub roles: Vec<String>,
}

/// Roles by their names.
pub fn roles_of(names: &[String]) -> Result<BTreeSet<Role>, Problem> {
    names
        .iter()
        .map(|it| {
            Role::parse(it).ok_or_else(|| Problem::bad_field("roles", "any of admin, approver, auditor"))
        })
        .collect()
}

/// An invitation and its token, which is shown once.
pub fn new_invitation() -> (NewInvitation, Token) {
    let token = new_token();
    let invitation = NewInvitation {
        id: InvitationId::from_random(random_id()),
        token_sha256: token.sha256,
        lifetime_seconds: INVITATION_SECONDS,
    };
    (invitation, token)
}

/// The link of an invitation. The token stands in the fragment: no server, proxy or log ever sees it.
pub fn invite_url(app: &App, token: &Token) -> String {
    format!("{}/enrol#{}", app.public_url, token.text.as_str())
}

fn shown(it: &Person) -> Value {
    json!({
        "id": it.id, "name": it.name, "email": it.email, "roles": it.roles, "active": it.active,
        "enrolled": it.live_passkeys().next().is_some(),
        "passkeys": it.live_passkeys().count(),
        "accounts": it.accounts.iter().map(|a| json!({
            "integration": a.integration, "account_id": a.account_id,
            "proof": if a.proven { "proven" } else { "asserted" },
        })).collect::<Vec<_>>(),
        "created_at": it.created_at,
    })
}

/// `GET /api/v1/people`: admins and auditors.
pub async fn list_people(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let items: Vec<_> = app.snapshot()?.all::<Person>()?.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/people/{id}`: admins and auditors.
pub async fn get_person(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    Ok(HttpResponse::Ok().json(shown(&find(&app, &id)?)))
}

/// `POST /api/v1/people`: admins.
pub async fn add_person(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<PersonBody>(&request, payload).await?;
    let (invitation, token) = new_invitation();
    let command = Command::AddPerson {
        person: PersonId::from_random(random_id()),
        name: body.name,
        email: body.email,
        roles: roles_of(&body.roles)?,
        invitation,
    };
    let id = match app.submit(caller.actor(), reason.of(command)).await? {
        Reply::Person { id } => id,
        // Once another admin has confirmed it, an invitation is made for whoever is there then.
        Reply::Proposed { id } => return Ok(Waits(id).answer()),
        _ => return Err(Problem::internal("a person without an id")),
    };
    let mut shown = shown(&find(&app, id.as_str())?);
    let url = invite_url(&app, &token);
    shown["invite_qr"] = json!(qr_data_url(&url).map_err(Problem::internal)?);
    shown["invite_url"] = json!(url);
    shown["invite_expires_at"] = json!(app.now().plus_seconds(INVITATION_SECONDS));
    Ok(HttpResponse::Created().json(shown))
}

/// `POST /api/v1/people/{id}/invitations`: admins. A new link for somebody who has no passkey yet.
pub async fn invite_again(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let person = find(&app, &id)?.id;
    let (invitation, token) = new_invitation();
    app.submit(
        caller.actor(),
        reason.of(Command::InviteAgain { person, invitation }),
    )
    .await?;
    let url = invite_url(&app, &token);
    Ok(HttpResponse::Created().json(json!({
        "invite_qr": qr_data_url(&url).map_err(Problem::internal)?,
        "invite_url": url,
        "invite_expires_at": app.now().plus_seconds(INVITATION_SECONDS),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    name: Option<String>,
    roles: Option<Vec<String>>,
    active: Option<bool>,
}

/// `PATCH /api/v1/people/{id}`: admins.
pub async fn change_person(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<ChangeBody>(&request, payload).await?;
    let person = find(&app, &id)?.id;
    let roles = body.roles.as_deref().map(roles_of).transpose()?;
    let command = Command::ChangePerson {
        person,
        name: body.name,
        roles,
        active: body.active,
    };
    if let Reply::Proposed { id } = app.submit(caller.actor(), reason.of(command)).await? {
        return Ok(Waits(id).answer());
    }
    Ok(HttpResponse::Ok().json(shown(&find(&app, &id)?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountBody {
    integration: String,
    account_id: String,
}

/// `POST /api/v1/people/{id}/accounts`: admins. The forge's own number of the account; marked `asserted`.
pub async fn link_account(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<AccountBody>(&request, payload).await?;
    let person = find(&app, &id)?.id;
    let integration = IntegrationId::parse(&body.integration)
        .ok_or_else(|| Problem::invalid("integration", "There is no such integration."))?;
    let command = Command::LinkAccount {
        person,
        integration,
        account_id: body.account_id,
        proof: None,
    };
    app.submit(caller.actor(), reason.of(command)).await?;
    Ok(HttpResponse::Created().json(shown(&find(&app, &id)?)))
}

fn find(app: &App, id: &str) -> Result<Person, Problem> {
    let id = PersonId::parse(id).ok_or_else(Problem::not_found)?;
    app.snapshot()?.get(id.as_str())?.ok_or_else(Problem::not_found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveryBody {
    #[serde(default)]
    reason: String,
}

/// `POST /api/v1/people/{id}/recovery`: admins, and a second one has to confirm it with a passkey. The person's passkeys and
/// sessions end; then any admin invites them anew, and the new passkey decides after the hold.
pub async fn recover_person(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let (body, _) = read_json::<RecoveryBody>(&request, payload).await?;
    let reason = stated.or(body.reason)?;
    let Caller::Person(_) = &caller else {
        return Err(Problem::forbidden("A person asks for a recovery, not a key."));
    };
    let person = find(&app, &id)?;
    if person.live_passkeys().next().is_none() {
        return Err(Problem::invalid(
            "id",
            "This person has no passkey; invite them again.",
        ));
    }
    let change = Governed::Recovery { person: person.id };
    match govern(&app, caller.actor(), Change::of(change, reason.text())).await? {
        Some(waits) => Ok(waits.answer()),
        None => Ok(HttpResponse::NoContent().finish()),
    }
}

/// `GET /api/v1/groups`: admins and auditors.
pub async fn list_groups(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let items: Vec<Group> = app.snapshot()?.all()?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    name: String,
    #[serde(default)]
    members: Vec<String>,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

/// `POST /api/v1/groups`: admins.
pub async fn add_group(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let (body, _) = read_json::<GroupBody>(&request, payload).await?;
    let group = GroupId::from_random(random_id());
    set_group(&app, &caller, group, true, stated, body).await
}

/// `PUT /api/v1/groups/{id}`: admins.
pub async fn change_group(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let (body, _) = read_json::<GroupBody>(&request, payload).await?;
    let id = GroupId::parse(&id).ok_or_else(Problem::not_found)?;
    set_group(&app, &caller, id, false, stated, body).await
}

async fn set_group(
    app: &App,
    caller: &Caller,
    group: GroupId,
    new: bool,
    stated: Stated,
    body: GroupBody,
) -> Result<HttpResponse, Problem> {
    let reason = stated.or(body.reason)?;
    let members = body
        .members
        .iter()
        .map(|it| {
            PersonId::parse(it)
                .ok_or_else(|| Problem::invalid("members", format!("There is no person {it}.")))
        })
        .collect::<Result<_, _>>()?;
    let change = Governed::Group {
        group: group.clone(),
        new,
        name: body.name,
        members,
    };
    if let Some(waits) = govern(app, caller.actor(), Change::of(change, reason.text())).await? {
        return Ok(waits.answer());
    }
    let record: Group = app
        .snapshot()?
        .get(group.as_str())?
        .ok_or_else(|| Problem::internal("a group is missing"))?;
    let mut answer = if new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(record))
}

/// `DELETE /api/v1/groups/{id}`: admins.
pub async fn remove_group(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let group = GroupId::parse(&id).ok_or_else(Problem::not_found)?;
    let change = Governed::GroupRemoval { group };
    if let Some(waits) = govern(&app, caller.actor(), Change::of(change, reason.text())).await? {
        return Ok(waits.answer());
    }
    Ok(HttpResponse::NoContent().finish())
}
