//! Whether the process serves, and whether it can do its work.

use crate::web::app::App;
use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

/// `GET /healthz`: anybody. 200 while the process serves.
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: anybody. 200, or 503 with what stands in the way.
pub async fn get_readiness(app: Data<App>) -> HttpResponse {
    match app.store.read().and_then(|it| it.size()) {
        Ok(_) => HttpResponse::Ok().json(json!({ "status": "ready", "reasons": [] })),
        Err(error) => {
            tracing::error!(%error, "not ready");
            HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reasons": ["storage"] }))
        }
    }
}
