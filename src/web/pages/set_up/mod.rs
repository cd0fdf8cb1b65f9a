//! Setting up, a page a step. Where it goes on, and what is done, is said by `domain::set_up`; each page shows what its step
//! is for, what stands already, and the one thing to do next. Everything works by plain forms.

mod steps;

use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::people::Role;
use crate::domain::set_up::{FINGERPRINT_END, SetUpFacts, SetUpStep, SetUpWord, Standing, ends_like};
use crate::domain::state::Read;
use crate::store::Snapshot;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::body::read_bytes;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::policy_editor::only_admin;
use crate::web::pages::settings::transport;
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::{Reader, SignedIn};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;
use steps::Said;

/// Largest form, in bytes.
const FORM_BYTES_MAX: usize = 8 * 1024;

/// What stands above each step.
pub(super) struct Head {
    pub step: SetUpStep,
    pub number: usize,
    pub count: usize,
    pub done: usize,
    pub title: &'static str,
    /// What the step is for.
    pub lead: &'static str,
    pub standing: Standing,
    pub steps: Vec<StepLine>,
    /// Whoever reads may answer.
    pub admin: bool,
    /// It may be put off now.
    pub may_wait: bool,
    /// Where the next step is.
    pub next: &'static str,
}

/// One step in the list of them; the overview shows the same.
pub struct StepLine {
    pub number: usize,
    pub label: &'static str,
    pub why: &'static str,
    pub href: String,
    pub standing: Standing,
    pub current: bool,
}

/// A step's name on lists, and why it is there, in a sentence.
fn words(step: SetUpStep) -> (&'static str, &'static str) {
    match step {
        SetUpStep::Passkey => (
            t!("Your passkey"),
            t!("It signs your decisions. Nobody else can."),
        ),
        SetUpStep::PublicUrl => (
            t!("The address"),
            t!("Every passkey belongs to it for good, so it has to be right."),
        ),
        SetUpStep::Tls => (
            t!("TLS"),
            t!("Browsers make passkeys only where they trust the connection."),
        ),
        SetUpStep::SigningKey => (
            t!("The signing key’s fingerprint"),
            t!("Written down elsewhere, it shows later that a proof is this server’s."),
        ),
        SetUpStep::Forge => (
            t!("A forge and a first gate"),
            t!("So that merge requests and pull requests wait for people."),
        ),
        SetUpStep::Policy => (t!("A first policy"), t!("It says what needs whose approval.")),
        SetUpStep::Approver => (
            t!("A second approver"),
            t!("Nobody approves their own change, so one person is never enough."),
        ),
    }
}

fn lead(step: SetUpStep) -> &'static str {
    match step {
        SetUpStep::Passkey => {
            t!(
                "A passkey takes the place of a password: it signs you in, and it signs each decision of yours. Your device keeps \
             it, and not even this server’s administrators can use it."
            )
        }
        SetUpStep::PublicUrl => {
            t!(
                "The address people and forges know this server by. It is bound into passkeys, credentials and the log, so look at \
             it once before more people come."
            )
        }
        SetUpStep::Tls => t!("Who speaks TLS here, and with which certificate."),
        SetUpStep::SigningKey => {
            t!(
                "Whoever wants to verify an approval without trusting this server needs to know its key from somewhere else: a \
             sheet of paper in a safe, a page on your intranet, a pinned file in pipelines."
            )
        }
        SetUpStep::Forge => {
            t!(
                "Connect GitLab, GitHub or Bitbucket and gate a first repository. Then this server looks at what the forge’s own \
             settings really enforce, and says what to mend."
            )
        }
        SetUpStep::Policy => {
            t!(
                "A policy says which changes and deployments need whose approval, by which method and within which time. It lives \
             here, so that no change under review can touch it."
            )
        }
        SetUpStep::Approver => {
            t!(
                "Nobody approves what they made themselves. Invite somebody else; they make their passkey on their own phone."
            )
        }
    }
}

fn href(step: SetUpStep) -> String {
    format!("/dashboard/set-up/{}", step.name())
}

/// Everything that says how far it is.
pub(super) fn facts(app: &App, state: &impl Read) -> Result<SetUpFacts, PageError> {
    Ok(SetUpFacts::load(app.public_url(), transport(app), state)?)
}

/// How many steps are done, of how many; `None` once all are, or where it can't be told.
pub(super) fn progress(app: &App) -> Option<(usize, usize)> {
    let state = app.snapshot().ok()?;
    let done = facts(app, &state).ok()?.done();
    (done < SetUpStep::ALL.len()).then_some((done, SetUpStep::ALL.len()))
}

/// All steps, for lists.
pub(super) fn lines(facts: &SetUpFacts, current: Option<SetUpStep>) -> Vec<StepLine> {
    SetUpStep::ALL
        .into_iter()
        .map(|step| {
            let (label, why) = words(step);
            StepLine {
                number: step.number(),
                label,
                why,
                href: href(step),
                standing: facts.standing(step),
                current: current == Some(step),
            }
        })
        .collect()
}

#[derive(Template)]
#[template(path = "set_up/finished.html")]
struct FinishedPage {
    frame: Frame,
    steps: Vec<StepLine>,
    steps_done: usize,
    approver: bool,
}

/// `GET /dashboard/set-up`: administrators and auditors. Goes on at the first step that is open, or says that none is.
pub async fn go_on_setting_up(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let facts = facts(&app, &app.snapshot()?)?;
    if let Some(step) = facts.first_open() {
        return Ok(see_other(&href(step)));
    }
    Ok(html(&FinishedPage {
        frame: Frame::new(&app, Some(&person), Place::SetUp, t!("Set-up")),
        steps: lines(&facts, None),
        steps_done: facts.done(),
        approver: person.has(Role::Approver),
    }))
}

fn see_other(place: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, place))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

/// What a step's page may be asked besides.
#[derive(Debug, Default, Deserialize)]
pub struct StepQuery {
    /// An address to be looked at before it is set.
    address: Option<String>,
}

/// `GET /dashboard/set-up/{step}`: administrators; auditors see it without the forms.
pub async fn show_step(
    app: Data<App>,
    Reader(person): Reader,
    step: Path<String>,
    query: Option<Query<StepQuery>>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let step = SetUpStep::parse(&step).ok_or(PageError::Unknown)?;
    let said = Said {
        address: query.and_then(|it| it.into_inner().address),
        ..Said::default()
    };
    page(&app, &person, step, said)
}

fn page(
    app: &App,
    person: &crate::domain::people::Person,
    step: SetUpStep,
    said: Said,
) -> Result<HttpResponse, PageError> {
    let state = app.snapshot()?;
    let facts = facts(app, &state)?;
    let standing = facts.standing(step);
    let (title, _) = words(step);
    let following = SetUpStep::ALL.get(step.number()).map_or("", |it| it.name());
    let head = Head {
        step,
        number: step.number(),
        count: SetUpStep::ALL.len(),
        done: facts.done(),
        title,
        lead: lead(step),
        standing,
        steps: lines(&facts, Some(step)),
        admin: person.has(Role::Admin),
        may_wait: standing == Standing::Open && step.takes(SetUpWord::Later),
        next: following,
    };
    let frame = Frame::new(app, Some(person), Place::SetUp, title);
    let refused = !said.wrong.is_empty();
    let mut response = steps::show(app, &state, person, frame, head, &facts, said)?;
    if refused {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `POST /dashboard/set-up/{step}`: admins. What they say of a step; then on to the next that is open.
pub async fn answer_step(
    app: Data<App>,
    who: SignedIn,
    step: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, PageError> {
    only_admin(&who.0)?;
    let step = SetUpStep::parse(&step).ok_or(PageError::Unknown)?;
    let body = read_bytes(&request, payload, FORM_BYTES_MAX).await?;
    let (mut word, mut typed) = (None, String::new());
    for (name, value) in url::form_urlencoded::parse(&body) {
        match name.as_ref() {
            "word" => word = SetUpWord::parse(&value),
            "typed" => typed = value.into_owned(),
            _ => {}
        }
    }
    let of = facts(&app, &app.snapshot()?)?.subject(step).to_owned();
    let word = word.ok_or(PageError::Status(StatusCode::BAD_REQUEST))?;
    let again = |why: String, typed: String| {
        let said = Said {
            wrong: why,
            typed,
            ..Said::default()
        };
        page(&app, &who.0, step, said)
    };
    if step == SetUpStep::SigningKey && word == SetUpWord::Confirmed && !ends_like(&of, &typed) {
        let why = t!(
            "Those are not the last {fingerprint_end} characters of the credential key’s fingerprint. Read them from what you \
             wrote down, not from here.",
            fingerprint_end = FINGERPRINT_END
        );
        return again(why, typed);
    }
    let command = Command::AnswerSetUp { step, word, of };
    match app.submit(who.actor(), command).await {
        Ok(_) => Ok(see_other("/dashboard/set-up")),
        Err(problem) => again(problem.told(), typed),
    }
}

/// The address that the journal was begun with.
fn first_address(state: &Snapshot) -> Option<String> {
    let leaf = state.leaf(0).ok()??;
    match serde_json::from_slice(&leaf).ok()? {
        Event::InstanceCreated { public_url, .. } => Some(public_url),
        _ => None,
    }
}

/// What the page for claiming a new server says of its address: as it is now, and as the journal was begun with where that
/// was another.
pub(super) fn addresses(app: &App) -> Result<(String, Option<String>), PageError> {
    let first = first_address(&app.snapshot()?);
    let now = app.public_url().to_owned();
    Ok((now.clone(), first.filter(|it| *it != now)))
}
