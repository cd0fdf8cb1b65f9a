//! What a person sees and does for themself: the queue, passkeys, a test request.

use crate::domain::command::{Command, OpenRequest, Reply};
use crate::domain::decide::{Roster, as_judged_now, eligibility};
use crate::domain::ids::{CeremonyId, Digest, RequestId};
use crate::domain::people::{Passkey, Person, Role, Session};
use crate::domain::request::{Request, Requester};
use crate::domain::state::{Read, Table};
use crate::evidence::subject::{ActionKind, ActionSubject};
use crate::identity::{Purpose, hash_token, random_id};
use crate::web::api::decisions::passkeys_with_records;
use crate::web::api::{Empty, bounded};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::{SignedIn, session_token};
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Waiting requests looked at for one person's queue.
const QUEUE_MAX: usize = 1_000;
/// A silent event stream says something this often, so that proxies keep it open.
const HEARTBEAT_SECONDS: u64 = 20;
/// How long a test request waits, in seconds: long enough to find the phone.
const TRIAL_SECONDS: u64 = 1_800;

/// `GET /api/v1/me`: whoever is signed in.
pub async fn get_me(who: SignedIn) -> Result<HttpResponse, Problem> {
    let it = &who.0;
    Ok(HttpResponse::Ok().json(json!({
        "id": it.id, "name": it.name, "email": it.email, "roles": it.roles,
        "passkeys": it.live_passkeys().map(passkey_json).collect::<Vec<_>>(),
    })))
}

/// `GET /api/v1/inbox`: requests this person may decide.
pub async fn list_inbox(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let items: Vec<Value> = decidable(&app, &who.0)?
        .iter()
        .map(|it| {
            json!({
                "id": it.id,
                "kind": it.kind.name(),
                "status": it.status.name(),
                "action": it.title,
                "requested_by": it.requested_by(),
                "environment": it.environment,
                "project": it.project_name,
                "created_at": it.created_at,
                "expires_at": it.expires_at,
                "url": format!("{}/a/{}", app.public_url, it.id),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

fn decidable(app: &App, person: &Person) -> Result<Vec<Request>, Problem> {
    let snapshot = app.snapshot()?;
    let roster = Roster::load(&snapshot)?;
    let now = app.now();
    let mut requests = Vec::new();
    for (id, _) in snapshot.scan_raw(Table::Waiting, &[], &[0xff], QUEUE_MAX, false)? {
        let id = std::str::from_utf8(&id).map_err(Problem::internal)?;
        let Some(request) = snapshot.get::<Request>(id)? else {
            continue;
        };
        let request = as_judged_now(request, &snapshot)?;
        if !eligibility(&request, person, &roster, now).open.is_empty() {
            requests.push(request);
        }
    }
    requests.sort_by_key(|it| it.seq);
    Ok(requests)
}

/// `GET /api/v1/inbox/events`: whoever is signed in. One `inbox` event whenever their queue changes.
pub async fn follow_inbox(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let grown = app.engine.watch_size();
    let start = (app.clone(), who.0, grown, None::<String>);
    let events = stream::unfold(start, |(app, person, mut grown, mut told)| async move {
        loop {
            let current = match decidable(&app, &person) {
                Ok(requests) => {
                    let ids: Vec<_> = requests.iter().map(|it| it.id.as_str()).collect();
                    json!({ "waiting": ids.len(), "ids": ids }).to_string()
                }
                Err(_) => return None,
            };
            if told.as_ref() != Some(&current) {
                let event = Bytes::from(format!("event: inbox\ndata: {current}\n\n"));
                told = Some(current);
                return Some((Ok::<_, Problem>(event), (app, person, grown, told)));
            }
            tokio::select! {
                changed = grown.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS)) => {
                    return Some((Ok(Bytes::from_static(b": still here\n\n")), (app, person, grown, told)));
                }
            }
        }
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(events))
}

/// `POST /api/v1/me/test-request`: approvers. A request that its sender decides alone, to feel the whole path.
pub async fn send_test_request(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    if !who.0.has(Role::Approver) {
        return Err(Problem::forbidden("Only approvers can decide a test request."));
    }
    read_json::<Empty>(&request, payload).await?;
    let action = format!(
        "Test request by {}: nothing happens when you approve it",
        who.0.name
    );
    let requester = format!("person:{}", who.0.id);
    let subject = ActionSubject {
        kind: ActionKind::Action,
        action: &action,
        environment: None,
        project: None,
        digest: None,
        requester: &requester,
        claimed_sha256: Digest::of(b""),
        job: None,
    };
    let subject = String::from_utf8(subject.to_bytes()).map_err(Problem::internal)?;
    let open = OpenRequest {
        id: RequestId::from_random(random_id()),
        action,
        environment: None,
        project: None,
        digest: None,
        claimed: None,
        ttl_seconds: Some(TRIAL_SECONDS),
        requester: Requester::Person {
            id: who.0.id.clone(),
            name: who.0.name.clone(),
        },
        owner: Some(who.0.id.clone()),
        trial: true,
        subject,
        idempotency: None,
        callback_url: None,
    };
    match app.submit(who.actor(), Command::OpenRequest(Box::new(open))).await? {
        Reply::Request { id, status, expires_at, .. } => Ok(HttpResponse::Created().json(json!({
            "id": id, "status": status.name(), "expires_at": expires_at, "url": format!("{}/a/{id}", app.public_url),
        }))),
        other => Err(Problem::internal(format!("{other:?}"))),
    }
}

fn passkey_json(it: &Passkey) -> Value {
    json!({
        "id": it.credential_id,
        "label": it.label,
        "platform": it.platform,
        "aaguid": it.aaguid,
        "backup_eligible": it.backup_eligible,
        "added_at": it.added_at,
        "decides_from": it.decides_from,
        "last_used_at": it.last_used_at,
    })
}

/// `GET /api/v1/me/passkeys`: whoever is signed in.
pub async fn list_passkeys(who: SignedIn) -> Result<HttpResponse, Problem> {
    let items: Vec<_> = who.0.live_passkeys().map(passkey_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    label: Option<String>,
}

/// `POST /api/v1/me/passkeys/options`: whoever is signed in. A passkey that is held confirms the new one.
pub async fn start_passkey(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<AddBody>(&request, payload).await?;
    if let Some(label) = &body.label {
        bounded("label", label, 100)?;
    }
    let snapshot = app.snapshot()?;
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let with_records = passkeys_with_records(&snapshot, held.clone())?;
    let mut confirm_challenge = [0; 32];
    getrandom::fill(&mut confirm_challenge).map_err(Problem::internal)?;
    let (confirm, confirm_state) = app
        .relying_party
        .start_assertion(&with_records, &confirm_challenge)
        .map_err(Problem::internal)?;
    let (public_key, state) = app
        .relying_party
        .start_registration(&who.0.id, &who.0.name, &who.0.email, &held)
        .map_err(Problem::internal)?;
    let purpose = Purpose::AddPasskey {
        person: who.0.id.clone(),
        label: body.label.unwrap_or_else(|| "Passkey".into()),
        confirm: Box::new(confirm_state),
        confirm_challenge,
        state: Box::new(state),
    };
    let ceremony = app.ceremonies.begin(purpose, app.now());
    Ok(HttpResponse::Ok().json(json!({ "ceremony": ceremony, "confirm": confirm, "publicKey": public_key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedBody {
    ceremony: String,
    confirm: Value,
    credential: Value,
}

/// `POST /api/v1/me/passkeys`: whoever started it.
pub async fn add_passkey(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<AddedBody>(&request, payload).await?;
    let ceremony = CeremonyId::parse(&body.ceremony).ok_or_else(Problem::ceremony_spent)?;
    let Some(Purpose::AddPasskey {
        person,
        label,
        confirm,
        confirm_challenge,
        state,
    }) = app.ceremonies.take(&ceremony, app.now())
    else {
        return Err(Problem::ceremony_spent());
    };
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let checked = app
        .relying_party
        .finish_assertion(
            &confirm,
            &body.confirm,
            &confirm_challenge,
            [0; 32],
            &who.0.id,
            &held,
        )
        .and_then(|proof| {
            let hold = app.passkey_hold_seconds;
            let passkey =
                app.relying_party
                    .finish_registration(&state, &body.credential, Some(&label), hold)?;
            Ok((proof, passkey))
        });
    let (proof, mut passkey) = match checked {
        Ok(checked) if person == who.0.id => checked,
        other => {
            let wrong_model = matches!(other, Err(crate::identity::Error::Model(_)));
            let reason = other
                .err()
                .map_or_else(|| "another person's ceremony".into(), |e| e.to_string());
            let reason = crate::domain::text::shortened(&reason, 300);
            let command = Command::RefuseCeremony {
                person: Some(who.0.id.clone()),
                request: None,
                reason: reason.clone(),
            };
            app.submit(who.actor(), command).await?;
            return Err(match wrong_model {
                true => Problem::invalid("credential", reason),
                false => Problem::ceremony_failed(),
            });
        }
    };
    passkey.confirmed_by = vec![proof.credential_id];
    let id = passkey.credential_id.clone();
    app.submit(who.actor(), Command::AddPasskey { person, passkey })
        .await?;
    Ok(HttpResponse::Created().json(json!({ "id": id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameBody {
    label: String,
}

/// `PATCH /api/v1/me/passkeys/{id}`: whose passkey it is.
pub async fn name_passkey(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<NameBody>(&request, payload).await?;
    bounded("label", &body.label, 100)?;
    let command = Command::NamePasskey {
        credential_id: id.into_inner(),
        label: body.label,
    };
    app.submit(who.actor(), command).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /api/v1/me/sessions`: whoever is signed in. An id is the digest of a session's token, which opens nothing.
pub async fn list_sessions(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let own = session_token(&app, &request).map(|it| hash_token(&it));
    let now = app.now();
    let mut sessions: Vec<Session> = app.snapshot()?.all()?;
    sessions.retain(|it| it.person == who.0.id && now < it.expires_at);
    sessions.sort_by_key(|it| std::cmp::Reverse(it.opened_at));
    let items: Vec<Value> = sessions
        .iter()
        .map(|it| {
            json!({
                "id": it.token_sha256.to_string(), "opened_at": it.opened_at, "expires_at": it.expires_at,
                "this": own == Some(it.token_sha256),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `DELETE /api/v1/me/sessions/{id}`: whose session it is.
pub async fn end_session(app: Data<App>, who: SignedIn, id: Path<String>) -> Result<HttpResponse, Problem> {
    let token_sha256 = Digest::parse(&id).ok_or_else(Problem::not_found)?;
    app.submit(who.actor(), Command::EndSession { token_sha256 })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /api/v1/me/passkeys/{id}`: whose passkey it is.
pub async fn remove_passkey(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let command = Command::RevokePasskey {
        person: who.0.id.clone(),
        credential_id: id.into_inner(),
        reason: "removed by its owner".into(),
    };
    app.submit(who.actor(), command).await?;
    Ok(HttpResponse::NoContent().finish())
}
