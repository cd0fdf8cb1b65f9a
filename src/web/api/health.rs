//! Whether the process serves, and whether it can do its work.

use crate::domain::condition::Severity;
use crate::web::app::App;
use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

/// `GET /healthz`: anybody. 200 while the process serves.
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: anybody. 200, or 503 with what stands in the way. What only needs somebody in time stands under
/// `warnings` and changes no status.
pub async fn get_readiness(app: Data<App>) -> HttpResponse {
    match app.conditions() {
        Ok(conditions) => {
            let names = |severity: Severity| -> Vec<&str> {
                let these = conditions.iter().filter(|it| it.severity == severity);
                these.map(|it| it.name.as_str()).collect()
            };
            let (reasons, warnings) = (names(Severity::Degraded), names(Severity::Warning));
            if reasons.is_empty() {
                HttpResponse::Ok().json(json!({ "status": "ready", "reasons": [], "warnings": warnings }))
            } else {
                let body = json!({ "status": "not ready", "reasons": reasons, "warnings": warnings });
                HttpResponse::ServiceUnavailable().json(body)
            }
        }
        Err(error) => {
            tracing::error!(%error, "not ready");
            HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reasons": ["storage"] }))
        }
    }
}
