//! All requests, for administrators and auditors.

use crate::domain::request::Status;
use crate::texts::filters;
use crate::web::app::App;
use crate::web::pages::card::{Card, Places};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::queue::read_newest;
use crate::web::pages::receipt::Teller;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

/// Requests on one page.
const PAGE: usize = 50;
/// Requests that are looked at for one page, when a filter passes most of them over.
const READ_MAX: usize = 1000;

#[derive(Template)]
#[template(path = "admin/requests.html")]
struct RequestsPage {
    frame: Frame,
    choices: Vec<Choice>,
    /// The chosen status, for the link to the next page.
    status: &'static str,
    cards: Vec<Card>,
    older: Option<u64>,
    first: bool,
}

/// One entry of the filter.
struct Choice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

/// What `GET /dashboard/requests` may be told.
#[derive(Debug, Default, Deserialize)]
pub struct RequestsQuery {
    status: Option<String>,
    before: Option<u64>,
}

/// `GET /dashboard/requests`: administrators and auditors.
pub async fn show_requests(
    app: Data<App>,
    Reader(person): Reader,
    query: Option<Query<RequestsQuery>>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let query = query.map(Query::into_inner).unwrap_or_default();
    let wanted = query.status.as_deref().and_then(Status::parse);
    let state = app.snapshot()?;
    let now = app.now();
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let teller = Teller::new(&state)?;
    let read = read_newest(&state, query.before, READ_MAX)?;
    let mut older = read
        .last()
        .map(|(seq, _)| *seq)
        .filter(|_| read.len() == READ_MAX);
    let mut cards = Vec::new();
    for (seq, request) in read
        .iter()
        .filter(|(_, it)| wanted.is_none_or(|status| it.status == status))
    {
        if cards.len() == PAGE {
            older = Some(seq + 1);
            break;
        }
        cards.push(Card::of(request, &places, &people, &teller, now)?);
    }
    let all = [
        ("", "All"),
        ("pending", "Waiting"),
        ("approved", "Approved"),
        ("rejected", "Rejected"),
        ("expired", "Expired"),
        ("cancelled", "Cancelled"),
        ("superseded", "Superseded"),
        ("skipped", "Skipped"),
    ];
    let status = wanted.map_or("", Status::name);
    Ok(html(&RequestsPage {
        frame: Frame::new(&app, Some(&person), Place::Requests, "Requests"),
        choices: all
            .into_iter()
            .map(|(value, label)| Choice {
                value,
                label,
                chosen: value == status,
            })
            .collect(),
        status,
        cards,
        older,
        first: query.before.is_none(),
    }))
}
