//! Webhooks: verified before they are parsed, durable before they are answered, believed never.

use crate::domain::command::{Command, Reply};
use crate::domain::event::Actor;
use crate::domain::ids::IntegrationId;
use crate::domain::project::{Integration, Project};
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
    let sealed = app.snapshot()?.secret(&hook_secret_name(&integration.id))?;
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
    let concerns_us = is_gated(&app, &integration, &hint.forge_project_id)?;
    if !concerns_us {
        tracing::info!(integration = %integration.id, project = %hint.forge_project_id, "a webhook of a project that is not gated");
        return Ok(HttpResponse::Ok()
            .json(json!({ "status": "ignored", "reason": "this project is not gated here" })));
    }
    if matches!(hint.event, HookEvent::Other(_)) {
        return Ok(
            HttpResponse::Ok().json(json!({ "status": "ignored", "reason": "nothing to do for this event" }))
        );
    }
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

fn is_gated(app: &App, integration: &Integration, forge_project_id: &str) -> Result<bool, Problem> {
    Ok(app.snapshot()?.all::<Project>()?.iter().any(|it| {
        !it.removed && it.integration == integration.id && it.settings.forge_project_id == forge_project_id
    }))
}
