//! What went around the gate, or through it by break-glass, and who has looked it over since.

use crate::domain::branch::Way;
use crate::domain::event::Event;
use crate::domain::facts::Account;
use crate::domain::governance::Exception;
use crate::domain::ids::RequestId;
use crate::domain::people::Person;
use crate::domain::request::{Change, Request, change_row};
use crate::domain::state::{Read, Table, decode};
use crate::store::Snapshot;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::card::{Places, branch};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use crate::web::words::all_of;
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
    /// `Around the gate`, `Forged status`, `Gate`, `Not me` or `Break-glass`.
    pub kind: &'static str,
    pub what: String,
    /// Sentences about it.
    pub details: Vec<String>,
    /// Commits nothing covers, shortened.
    pub commits: Vec<String>,
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
    let Some(told) = told(Snapshot::event(leaf)?, state, places, people)? else {
        return Ok(None);
    };
    Ok(Some(ExceptionView {
        id: it.seq,
        kind: told.kind,
        what: told.what,
        details: told.details,
        commits: told.commits,
        place: told.place,
        href: told.request.map(|it| format!("/a/{it}")),
        at: Moment::of(it.at),
        took_part: it.took_part.contains(&reader.id),
        review: it.review.map(|it| ReviewView {
            name: shown(&it.name, 100),
            note: shown(&it.note, TEXT_MAX),
            at: Moment::of(it.at),
        }),
    }))
}

/// What an exception's event tells people.
struct Told {
    kind: &'static str,
    what: String,
    details: Vec<String>,
    commits: Vec<String>,
    place: String,
    request: Option<RequestId>,
}

fn told(event: Event, state: &Snapshot, places: &Places, people: &People) -> Result<Option<Told>, PageError> {
    let name = |by: Option<Account>| by.map_or_else(|| t!("Somebody").to_owned(), |it| shown(&it.name, 100));
    Ok(Some(match event {
        Event::ExceptionUnapprovedChange {
            project,
            way,
            change,
            target,
            by,
            commit,
            before,
            commits,
            reason,
            ..
        } => {
            let (who, into) = (name(by), branch(&target));
            let number = change.as_ref().map_or(0, |it| it.number);
            let what = match way {
                Way::Merged => t!(
                    "{who} merged !{number} into {into} without an approval",
                    who = who,
                    number = number,
                    into = into
                ),
                Way::Pushed => t!(
                    "{who} pushed to {into} directly, around the gate",
                    who = who,
                    into = into
                ),
                Way::Forced => t!(
                    "{who} pushed to {into} by force: history was taken away",
                    who = who,
                    into = into
                ),
                Way::Created => t!(
                    "{who} made the branch {into} with commits nobody approved",
                    who = who,
                    into = into
                ),
            };
            let mut details = Vec::new();
            if !reason.is_empty() {
                details.push(shown(&reason, TEXT_MAX));
            }
            if let Some(commit) = &commit {
                details.push(match &before {
                    Some(before) => t!(
                        "The branch went from {before} to {commit}.",
                        before = id(before),
                        commit = id(commit)
                    ),
                    None => t!("It is in the branch as {commit}.", commit = id(commit)),
                });
            }
            let seen: Option<Change> = match &change {
                Some(key) => state.get(&change_row(key))?,
                None => None,
            };
            Told {
                kind: t!("Around the gate"),
                what,
                details,
                commits: commits.iter().map(|it| id(it)).collect(),
                place: places.path_of(&project),
                request: seen.and_then(|it| it.request),
            }
        }
        Event::ExceptionStatusForged {
            status,
            shown: word,
            by,
            request,
            ..
        } => Told {
            kind: t!("Forged status"),
            what: t!(
                "{by} set our status {name} to {word}",
                by = name(by),
                name = shown(&status.name(), 120),
                word = shown(&word, 20)
            ),
            details: vec![t!(
                "On commit {head}. It was set back to what was decided.",
                head = id(&status.head)
            )],
            commits: Vec::new(),
            place: places.path_of(&status.project),
            request,
        },
        Event::ExceptionUnapprovedDeployment {
            deployment,
            job_name,
            environment,
            ref_name,
            sha,
            pipeline,
            by,
            request,
        } => Told {
            kind: t!("Around the gate"),
            what: t!(
                "{by} started {job_name} to {environment} without an approval",
                by = name(by),
                job_name = shown(&job_name, 100),
                environment = shown(&environment, 100)
            ),
            details: vec![t!(
                "On commit {sha} of {ref_name}, in pipeline {pipeline}.",
                sha = id(&sha),
                ref_name = branch(&ref_name),
                pipeline = pipeline
            )],
            commits: Vec::new(),
            place: places.path_of(&deployment.project),
            request,
        },
        Event::ExceptionProtectionDrift {
            project,
            before,
            strength,
            findings,
        } => Told {
            kind: t!("Gate"),
            what: match before == strength {
                true => t!("The settings of a gate got worse").to_owned(),
                false => t!(
                    "A gate became weaker: {name} instead of {name_2}",
                    name = strength.name(),
                    name_2 = before.name()
                ),
            },
            details: findings.iter().map(|it| shown(&it.text, TEXT_MAX)).collect(),
            commits: Vec::new(),
            place: places.path_of(&project),
            request: None,
        },
        Event::ExceptionRequesterReported {
            request,
            requester_name,
            name,
            note,
            ..
        } => {
            let record: Option<Request> = state.get(request.as_str())?;
            let mut details = vec![
                t!("Nothing of this requester can be approved until somebody has looked this over.")
                    .to_owned(),
            ];
            if !note.is_empty() {
                details.push(format!("“{}”", shown(&note, TEXT_MAX)));
            }
            Told {
                kind: t!("Not me"),
                what: t!(
                    "{name} did not expect what {requester_name} asks",
                    name = shown(&name, 100),
                    requester_name = shown(&requester_name, 100)
                ),
                details,
                commits: Vec::new(),
                place: record.map_or_else(String::new, |it| shown(&it.title, 120)),
                request: Some(request),
            }
        }
        Event::ExceptionBreakGlass {
            request,
            rule,
            approvers,
        } => {
            let names: Vec<String> = approvers.iter().map(|it| people.name(it)).collect();
            let record: Option<Request> = state.get(request.as_str())?;
            Told {
                kind: t!("Break-glass"),
                what: t!(
                    "{people} broke the glass by rule “{rule}”",
                    people = all_of(&names),
                    rule = shown(&rule, 100)
                ),
                details: Vec::new(),
                commits: Vec::new(),
                place: record.map_or_else(String::new, |it| shown(&it.title, 120)),
                request: Some(request),
            }
        }
        _ => return Ok(None),
    }))
}

/// A commit's id, short enough to read.
fn id(commit: &str) -> String {
    shown(commit.get(..12).unwrap_or(commit), 12)
}

/// `GET /dashboard/exceptions`: admins and auditors.
pub async fn show_exceptions(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let exceptions = newest(&state, &places, &people, &person, false, SHOWN_MAX)?;
    Ok(html(&ExceptionsPage {
        frame: Frame::new(&app, Some(&person), Place::Overview, t!("Exceptions")),
        open: exceptions.iter().filter(|it| it.review.is_none()).count(),
        exceptions,
    }))
}
