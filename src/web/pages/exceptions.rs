//! What went around the gate, or through it by break-glass, and who has looked it over since.

use crate::domain::event::Event;
use crate::domain::governance::Exception;
use crate::domain::people::Person;
use crate::domain::request::{Change, Request, change_row};
use crate::domain::state::{Read, Table, decode};
use crate::store::Snapshot;
use crate::web::app::App;
use crate::web::pages::card::{Places, branch};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Most exceptions on the page.
const SHOWN_MAX: usize = 200;
/// Longest text of others, in characters.
const TEXT_MAX: usize = 500;

#[derive(Template)]
#[template(path = "admin/exceptions.html")]
struct ExceptionsPage {
    frame: Frame,
    exceptions: Vec<ExceptionView>,
    open: usize,
}

/// One exception, for people.
pub struct ExceptionView {
    pub id: u64,
    pub emergency: bool,
    pub what: String,
    pub place: String,
    pub href: Option<String>,
    pub at: Moment,
    pub review: Option<ReviewView>,
    /// Why this reader can't look it over.
    pub took_part: bool,
}

/// Who looked it over, and what they found.
pub struct ReviewView {
    pub name: String,
    pub note: String,
    pub at: Moment,
}

/// The newest exceptions, `only_open` or all; how many of those read are open.
pub fn newest(
    state: &Snapshot,
    places: &Places,
    people: &People,
    reader: &Person,
    only_open: bool,
    limit: usize,
) -> Result<Vec<ExceptionView>, PageError> {
    let mut found = Vec::new();
    for (_, row) in state.scan_raw(Table::Exceptions, b"", &[0xff], SHOWN_MAX, true)? {
        let it: Exception = decode(&row)?;
        if found.len() == limit || (only_open && it.review.is_some()) {
            continue;
        }
        found.extend(view(state, places, people, reader, it)?);
    }
    Ok(found)
}

fn view(
    state: &Snapshot,
    places: &Places,
    people: &People,
    reader: &Person,
    it: Exception,
) -> Result<Option<ExceptionView>, PageError> {
    let leaves = state.leaves(it.seq, 1)?;
    let Some((_, leaf)) = leaves.first() else {
        return Ok(None);
    };
    let (what, place, href, emergency) = match Snapshot::event(leaf)? {
        Event::ExceptionUnapprovedChange {
            change, target, by, ..
        } => {
            let seen: Option<Change> = state.get(&change_row(&change))?;
            let merged_by = by.map_or_else(|| "Somebody".to_owned(), |it| shown(&it.name, 100));
            (
                format!(
                    "{merged_by} merged !{} into {} without an approval",
                    change.number,
                    branch(&target)
                ),
                places.path_of(&change.project),
                seen.and_then(|it| it.request),
                false,
            )
        }
        Event::ExceptionUnapprovedDeployment {
            deployment,
            job_name,
            environment,
            sha,
            by,
            request,
            ..
        } => {
            let who = by.map_or_else(|| "Somebody".to_owned(), |it| shown(&it.name, 100));
            let commit = sha.get(..10).unwrap_or(&sha);
            (
                format!(
                    "{who} started {} to {} at {commit} without an approval",
                    shown(&job_name, 100),
                    shown(&environment, 100)
                ),
                places.path_of(&deployment.project),
                request,
                false,
            )
        }
        Event::ExceptionProtectionDrift {
            project,
            before,
            strength,
            findings,
        } => {
            let what = findings
                .iter()
                .map(|it| it.text.as_str())
                .collect::<Vec<_>>()
                .join(" ");
            let changed = match before == strength {
                true => "The settings of a gate got worse".to_owned(),
                false => format!(
                    "A gate became weaker: {} instead of {}",
                    strength.name(),
                    before.name()
                ),
            };
            (
                format!("{changed}. {}", shown(&what, TEXT_MAX)),
                places.path_of(&project),
                None,
                false,
            )
        }
        Event::ExceptionBreakGlass {
            request,
            rule,
            approvers,
        } => {
            let names: Vec<String> = approvers.iter().map(|it| people.name(it)).collect();
            let record: Option<Request> = state.get(request.as_str())?;
            let title = record.map_or_else(String::new, |it| shown(&it.title, 120));
            (
                format!(
                    "{} broke the glass by rule “{}”",
                    names.join(" and "),
                    shown(&rule, 100)
                ),
                title,
                Some(request),
                true,
            )
        }
        _ => return Ok(None),
    };
    Ok(Some(ExceptionView {
        id: it.seq,
        emergency,
        what,
        place,
        href: href.map(|it| format!("/a/{it}")),
        at: Moment::of(it.at),
        took_part: it.took_part.contains(&reader.id),
        review: it.review.map(|it| ReviewView {
            name: shown(&it.name, 100),
            note: shown(&it.note, TEXT_MAX),
            at: Moment::of(it.at),
        }),
    }))
}

/// `GET /dashboard/exceptions`: admins and auditors.
pub async fn show_exceptions(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let exceptions = newest(&state, &places, &people, &person, false, SHOWN_MAX)?;
    Ok(html(&ExceptionsPage {
        frame: Frame::new(&app, Some(&person), Place::Overview, "Exceptions"),
        open: exceptions.iter().filter(|it| it.review.is_none()).count(),
        exceptions,
    }))
}
