//! What people do with a request besides deciding it: have it on their screen, and say that it is not theirs.

use crate::domain::command::Command;
use crate::domain::people::Role;
use crate::web::api::Empty;
use crate::web::api::approvals::visible_request;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::{Caller, SignedIn};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

/// `POST /api/v1/approvals/{id}/seen`: approvers. Recorded once for each person and request.
pub async fn see_request(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    read_json::<Empty>(&request, payload).await?;
    let record = visible_request(&app.snapshot()?, &Caller::Person(who.0.clone()), &id)?;
    if who.0.has(Role::Approver) {
        let command = Command::SeeRequest { request: record.id };
        app.submit(who.actor(), command).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportBody {
    note: Option<String>,
}

/// `POST /api/v1/approvals/{id}/not-me`: whoever may decide the request. Nothing of its requester can be approved until an
/// admin or auditor has looked the report over.
pub async fn report_request(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<ReportBody>(&request, payload).await?;
    let note = body.note.unwrap_or_default();
    let record = visible_request(&app.snapshot()?, &Caller::Person(who.0.clone()), &id)?;
    let command = Command::ReportRequest {
        request: record.id,
        note,
    };
    app.submit(who.actor(), command).await?;
    Ok(HttpResponse::NoContent().finish())
}
