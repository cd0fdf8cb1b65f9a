//! The page of a journal that lacks entries, for the admins who have to decide about it.

use crate::domain::rollback::ADMINS_NEEDED;
use crate::texts::{filters, t};
use crate::web::pages::frame::Frame;
use crate::web::pages::{PageError, respond, shown};
use crate::web::recovery::Recovery;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use askama::Template;

/// Longest text on the page, in characters.
const TEXT_MAX: usize = 300;

#[derive(Template)]
#[template(path = "enter/recovery.html")]
struct RecoveryPage {
    frame: Frame,
    size: u64,
    found: Vec<FoundView>,
    confirmed: Vec<String>,
    needed: usize,
    host_may_confirm: bool,
    expect: String,
}

/// One checkpoint that the journal does not fit.
struct FoundView {
    place: String,
    size: u64,
    /// Entries that are missing, where it covers more than the journal has.
    missing: Option<u64>,
}

/// `GET /`, while a journal that lacks entries waits.
pub async fn show_recovery(recovery: Data<Recovery>) -> Result<HttpResponse, PageError> {
    let found = recovery
        .found
        .iter()
        .map(|it| FoundView {
            place: shown(&it.place, TEXT_MAX),
            size: it.size,
            missing: it.size.checked_sub(recovery.size).filter(|it| *it > 0),
        })
        .collect();
    let page = RecoveryPage {
        frame: Frame {
            evaluation: recovery.evaluation,
            ..Frame::bare(t!("Journal lacks entries"))
        },
        size: recovery.size,
        found,
        confirmed: recovery
            .confirmed()
            .iter()
            .map(|it| shown(&it.1, TEXT_MAX))
            .collect(),
        needed: ADMINS_NEEDED,
        host_may_confirm: recovery.host_may_confirm()?,
        expect:
            serde_json::json!({ "type": "signedapproval/rollback-intent", "journal_entries": recovery.size })
                .to_string(),
    };
    Ok(respond(StatusCode::SERVICE_UNAVAILABLE, &page))
}
