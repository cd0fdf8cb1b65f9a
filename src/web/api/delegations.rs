//! Who stands in for whom, and when. People let somebody stand in for themselves; admins for others.

use crate::domain::command::Command;
use crate::domain::governance::{Delegation, Governed};
use crate::domain::ids::{DelegationId, PersonId};
use crate::domain::people::Role;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::identity::random_id;
use crate::web::api::governance::{Change, govern};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::SignedIn;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

fn shown(it: &Delegation, now: Time) -> Value {
    json!({
        "id": it.id, "from": it.from, "to": it.to, "starts": it.starts, "ends": it.ends,
        "ended_at": it.ended_at, "in_force": it.in_force(now), "reason": it.reason, "by": it.by,
    })
}

/// `GET /api/v1/delegations`: admins and auditors see all, everybody else their own. Latest first.
pub async fn list_delegations(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let (person, now) = (&who.0, app.now());
    let all = person.has(Role::Admin) || person.has(Role::Auditor);
    let mut items: Vec<Delegation> = app.snapshot()?.all()?;
    items.retain(|it| all || it.from == person.id || it.to == person.id);
    items.sort_by_key(|it| std::cmp::Reverse(it.starts));
    let items: Vec<Value> = items.iter().map(|it| shown(it, now)).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegationBody {
    /// Absent: the caller.
    from: Option<String>,
    to: String,
    /// Absent: now.
    starts: Option<String>,
    ends: String,
    #[serde(default)]
    reason: String,
}

/// `POST /api/v1/delegations`: for oneself; admins for others too.
pub async fn add_delegation(
    app: Data<App>,
    who: SignedIn,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<DelegationBody>(&request, payload).await?;
    let person = |field: &str, id: &str| {
        PersonId::parse(id).ok_or_else(|| Problem::invalid(field, "There is no such person."))
    };
    let time = |field: &str, text: &str| {
        Time::parse(text).ok_or_else(|| Problem::bad_field(field, "an RFC 3339 time"))
    };
    let from = match &body.from {
        Some(id) => person("from", id)?,
        None => who.0.id.clone(),
    };
    if from != who.0.id && !who.0.has(Role::Admin) {
        return Err(Problem::forbidden(
            "You can let somebody stand in for yourself; for others an admin does.",
        ));
    }
    // About one's own place nobody has to explain oneself.
    let reason = match from == who.0.id {
        true => stated.or_none(body.reason)?,
        false => stated.or(body.reason)?.text(),
    };
    let delegation = DelegationId::from_random(random_id());
    let change = Governed::Delegation {
        delegation: delegation.clone(),
        from,
        to: person("to", &body.to)?,
        starts: match &body.starts {
            Some(text) => time("starts", text)?,
            None => app.now(),
        },
        ends: time("ends", &body.ends)?,
    };
    if let Some(waits) = govern(&app, who.actor(), Change::of(change, reason)).await? {
        return Ok(waits.answer());
    }
    let record: Delegation = app
        .snapshot()?
        .get(delegation.as_str())?
        .ok_or_else(|| Problem::internal("a delegation is missing"))?;
    Ok(HttpResponse::Created().json(shown(&record, app.now())))
}

/// `DELETE /api/v1/delegations/{id}`: either of the two, or an admin, ends it now.
pub async fn end_delegation(
    app: Data<App>,
    who: SignedIn,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let delegation = DelegationId::parse(&id).ok_or_else(Problem::not_found)?;
    let record: Option<Delegation> = app.snapshot()?.get(delegation.as_str())?;
    let own = record.is_some_and(|it| it.from == who.0.id || it.to == who.0.id);
    let command = Command::EndDelegation { delegation };
    let command = match own || !who.0.has(Role::Admin) {
        true => command,
        false => stated.required()?.of(command),
    };
    app.submit(who.actor(), command).await?;
    Ok(HttpResponse::NoContent().finish())
}
