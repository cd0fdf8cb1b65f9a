//! The queue: what waits for this person, and what waits for others.

use crate::domain::decide::as_judged_now;
use crate::domain::governance::Exception;
use crate::domain::ids::RequestId;
use crate::domain::people::Role;
use crate::domain::request::{Request, Status};
use crate::domain::state::{Fault, Read, Table};
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::card::{Card, Places};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::receipt::Teller;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Most waiting requests that are looked at for one page. A queue of more is no queue any more.
const WAITING_READ_MAX: usize = 500;
/// Most cards in each half of the page.
const CARDS_MAX: usize = 50;
/// How far back the last decision is looked for, in requests.
const LOOK_BACK_MAX: usize = 50;

#[derive(Template)]
#[template(path = "approve/queue.html")]
struct QueuePage {
    frame: Frame,
    mine: Vec<Card>,
    others: Vec<Card>,
    /// Cards that did not fit.
    more: usize,
    /// Ids of the cards this person may decide; `None` where they are not all here.
    ids: Option<String>,
    last: Option<Last>,
    approver: bool,
    /// Emergencies that nobody has looked over yet; shown to those who can.
    broken_glass: usize,
}

/// The newest decision, for an empty queue.
struct Last {
    id: String,
    sentence: String,
}

/// `GET /a/`: everybody who is signed in.
pub async fn show_queue(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    let state = app.snapshot()?;
    let now = app.now();
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let mut waiting = read_waiting(&state, WAITING_READ_MAX + 1)?;
    let overflow = waiting.len() > WAITING_READ_MAX;
    waiting.truncate(WAITING_READ_MAX);
    // What runs out first comes first; what never does comes last, oldest first.
    waiting.sort_by_key(|it| (it.expires_at.map_or(i64::MAX, |at| at.0), it.created_at));
    let (mine, others): (Vec<Request>, Vec<Request>) = waiting
        .into_iter()
        .partition(|it| !people.chance(it, &person, now).open.is_empty());

    let teller = Teller::new(&state)?;
    let cards = |list: &[Request]| -> Result<Vec<Card>, Fault> {
        list.iter()
            .take(CARDS_MAX)
            .map(|it| Card::of(it, &places, &people, &teller, now))
            .collect()
    };
    let whole = !overflow && mine.len() <= CARDS_MAX;
    let mut ids: Vec<&str> = mine.iter().map(|it| it.id.as_str()).collect();
    ids.sort_unstable();
    let last = if mine.is_empty() {
        last_decision(&state, &places, &teller)?
    } else {
        None
    };
    Ok(html(&QueuePage {
        frame: Frame::new(&app, Some(&person), Place::Queue, t!("Queue")),
        more: mine.len().saturating_sub(CARDS_MAX)
            + others.len().saturating_sub(CARDS_MAX)
            + usize::from(overflow),
        ids: whole.then(|| ids.join(",")),
        mine: cards(&mine)?,
        others: cards(&others)?,
        last,
        approver: person.has(Role::Approver),
        broken_glass: match person.has(Role::Admin) || person.has(Role::Auditor) {
            true => broken_glass(&state)?,
            false => 0,
        },
    }))
}

/// How many requests went through by break-glass and were not looked over since.
pub fn broken_glass(state: &impl Read) -> Result<usize, Fault> {
    let all = state.all::<Exception>()?;
    let open = |it: &&Exception| it.review.is_none() && it.kind == "exception.break_glass";
    Ok(all.iter().filter(open).count())
}

/// Requests that wait, at most `limit`.
pub fn read_waiting(state: &impl Read, limit: usize) -> Result<Vec<Request>, PageError> {
    let rows = state.scan_raw(Table::Waiting, b"", &[0xff; 8], limit, false)?;
    let mut waiting = Vec::with_capacity(rows.len());
    for (key, _) in rows {
        let request: Option<Request> = match std::str::from_utf8(&key).ok().and_then(RequestId::parse) {
            Some(id) => state.get(id.as_str())?,
            None => None,
        };
        if let Some(request) = request.filter(|it| it.status == Status::Pending) {
            waiting.push(as_judged_now(request, state)?);
        }
    }
    Ok(waiting)
}

/// Requests newest first, with their place in the order: at most `limit`, all before `before`.
pub fn read_newest(
    state: &impl Read,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, Request)>, PageError> {
    let end = before.unwrap_or(u64::MAX).to_be_bytes();
    let rows = state.scan_raw(Table::RequestOrder, b"", &end, limit, true)?;
    let mut requests = Vec::with_capacity(rows.len());
    for (key, id) in rows {
        let seq = key.try_into().map(u64::from_be_bytes).unwrap_or(0);
        if let Some(id) = std::str::from_utf8(&id).ok().and_then(RequestId::parse)
            && let Some(request) = state.get::<Request>(id.as_str())?
        {
            requests.push((seq, request));
        }
    }
    Ok(requests)
}

fn last_decision<R: Read>(
    state: &R,
    places: &Places,
    teller: &Teller<'_, R>,
) -> Result<Option<Last>, PageError> {
    let newest = read_newest(state, None, LOOK_BACK_MAX)?;
    let decided = newest
        .iter()
        .filter_map(|(_, it)| Some((it.decisions.last()?, it)));
    let Some((_, request)) = decided.max_by_key(|(decision, _)| decision.decided_at) else {
        return Ok(None);
    };
    let mut sentences = teller.sentences(request, &places.called(request))?;
    Ok(sentences.pop().map(|sentence| Last {
        id: request.id.to_string(),
        sentence,
    }))
}
