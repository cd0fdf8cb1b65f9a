//! The server itself: its settings with their origins, and what about it needs a person.

use crate::web::app::App;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

/// `GET /api/v1/settings`: admins, auditors and keys that audit. They are set in file and environment, and only there.
pub async fn list_settings(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let settings = app
        .settings
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(HttpResponse::Ok().json(json!({ "items": *settings, "next": null })))
}

/// `GET /api/v1/conditions`: admins, auditors and keys that audit.
pub async fn list_conditions(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let conditions = app.conditions()?;
    Ok(HttpResponse::Ok().json(json!({ "items": conditions, "next": null })))
}
