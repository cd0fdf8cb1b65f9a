//! Webhooks: verified before they are parsed, durable before they are answered, believed never.

use crate::domain::command::{Command, Reply};
use crate::domain::event::Actor;
use crate::domain::ids::IntegrationId;
use crate::domain::project::{Integration, gated_project};
use crate::domain::state::Read;
use crate::forge::{HookEvent, HookRefusal, hook_secret_name, parse_hook, verify_hook};
use crate::web::app::App;
use crate::web::body::{WEBHOOK_BYTES_MAX, read_bytes};
use crate::web::problem::Problem;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

/// Longest delivery id that is kept as it is; a longer one is not a forge's.
const DELIVERY_BYTES_MAX: usize = 200;

/// `POST /hooks/{kind}/{integration}`: whoever knows the integration's secret.
pub async fn receive_hook(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (kind, id) = path.into_inner();
    let integration = integration(&app, &kind, &id)?;
    let body = read_bytes(&request, payload, WEBHOOK_BYTES_MAX).await?;
    let snapshot = app.snapshot()?;
    let sealed = snapshot.secret(&hook_secret_name(&integration.id))?;
    let sealed = sealed.ok_or_else(|| Problem::internal("an integration without a webhook secret"))?;
    let secret = app
        .forges
        .hook_secret(&integration.id, &sealed)
        .map_err(Problem::internal)?;
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|it| it.to_str().ok())
            .map(str::to_owned)
    };
    verify_hook(integration.kind, &secret, &header, &body, app.now().0 / 1000)
        .map_err(|e| Problem::webhook_unverified(e.to_string()))?;
    let hint = match parse_hook(integration.kind, &header, &body) {
        Ok(hint) => hint,
        Err(HookRefusal::Unverified(reason)) => return Err(Problem::webhook_unverified(reason)),
        Err(HookRefusal::Unreadable(reason)) => return Err(Problem::bad_request(reason)),
    };
    if hint.delivery.len() > DELIVERY_BYTES_MAX {
        return Err(Problem::bad_request("The delivery id is too long."));
    }
    if matches!(hint.event, HookEvent::Other(_)) {
        return Ok(
            HttpResponse::Ok().json(json!({ "status": "ignored", "reason": "nothing to do for this event" }))
        );
    }
    let gated = gated_project(&integration.id, &hint.forge_project_id, &snapshot)?.is_some();
    drop(snapshot);
    let command = Command::ReceiveHook {
        integration: integration.id.clone(),
        delivery: hint.delivery,
        event: hint.event.word().to_owned(),
        forge_project_id: hint.forge_project_id,
        number: hint.change,
    };
    let actor = Actor::Forge {
        integration: integration.id,
    };
    match app.submit(actor, command).await? {
        // Recorded once in a while, so that an admin sees it.
        _ if !gated => Ok(HttpResponse::Ok()
            .json(json!({ "status": "ignored", "reason": "this project is not gated here" }))),
        Reply::Nothing => Ok(HttpResponse::Ok().json(json!({ "status": "known" }))),
        _ => Ok(HttpResponse::Accepted().json(json!({ "status": "accepted" }))),
    }
}

fn integration(app: &App, kind: &str, id: &str) -> Result<Integration, Problem> {
    let id = IntegrationId::parse(id).ok_or_else(Problem::not_found)?;
    let found: Option<Integration> = app.snapshot()?.get(id.as_str())?;
    found
        .filter(|it| !it.removed && it.kind.name() == kind)
        .ok_or_else(Problem::not_found)
}
