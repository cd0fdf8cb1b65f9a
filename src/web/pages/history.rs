//! What became of earlier requests, for approvers.

use crate::domain::request::{Answer, Status};
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::card::{Card, Places};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::queue::read_newest;
use crate::web::pages::receipt::Teller;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

/// Requests on one page.
const PAGE: usize = 25;
/// Requests that are looked at for one page; those that still wait are passed over.
const READ_MAX: usize = 200;

#[derive(Template)]
#[template(path = "approve/history.html")]
struct HistoryPage {
    frame: Frame,
    lines: Vec<Line>,
    /// Where the next page begins.
    older: Option<u64>,
    first: bool,
}

struct Line {
    card: Card,
    /// What this person did about it.
    own: Option<&'static str>,
}

/// What `GET /a/history` may be told.
#[derive(Debug, Default, Deserialize)]
pub struct HistoryQuery {
    before: Option<u64>,
}

/// `GET /a/history`: everybody who is signed in.
pub async fn show_history(
    app: Data<App>,
    Reader(person): Reader,
    query: Option<Query<HistoryQuery>>,
) -> Result<HttpResponse, PageError> {
    let before = query.and_then(|it| it.before);
    let state = app.snapshot()?;
    let now = app.now();
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let teller = Teller::new(&state)?;
    let read = read_newest(&state, before, READ_MAX)?;
    let all_read = read.len() < READ_MAX;
    let mut older = read.last().map(|(seq, _)| *seq).filter(|_| !all_read);
    let mut lines = Vec::new();
    for (seq, request) in read.into_iter().filter(|(_, it)| it.status != Status::Pending) {
        if lines.len() == PAGE {
            // The page is full and there is at least this one more: the next page begins with it.
            older = Some(seq + 1);
            break;
        }
        let own = request
            .decisions
            .iter()
            .find(|it| it.person == person.id)
            .map(|it| match it.answer {
                Answer::Approve => t!("You approved it"),
                Answer::Reject => t!("You rejected it"),
            });
        lines.push(Line {
            card: Card::of(&request, &places, &people, &teller, now)?,
            own,
        });
    }
    let frame = Frame::new(&app, Some(&person), Place::History, t!("History"));
    Ok(html(&HistoryPage {
        frame,
        lines,
        older,
        first: before.is_none(),
    }))
}
