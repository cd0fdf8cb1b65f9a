//! The dashboard's first page: what is still to set up, what waits, what was decided, what went past the gate.

use crate::domain::people::{Person, Role};
use crate::domain::project::{Integration, Project};
use crate::domain::request::{Request, Requester, Status};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::web::app::App;
use crate::web::pages::card::{Card, Places};
use crate::web::pages::deployments::{Stuck, stuck};
use crate::web::pages::exceptions::{ExceptionView, newest};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::proposals::{Line, waiting as waiting_proposals};
use crate::web::pages::queue::{broken_glass, read_newest, read_waiting};
use crate::web::pages::reach::Reach;
use crate::web::pages::receipt::Teller;
use crate::web::pages::server::{ConditionView, beside_the_frame};
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Most waiting requests that are counted.
const WAITING_COUNT_MAX: usize = 1000;
/// Cards in each list.
const CARDS_MAX: usize = 6;
/// Newest requests that are looked at for what was decided of late.
const RECENT_MAX: usize = 500;
/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct OverviewPage {
    frame: Frame,
    /// What about the server itself needs somebody.
    conditions: Vec<ConditionView>,
    steps: Vec<Step>,
    steps_done: usize,
    approver: bool,
    waiting: Vec<Card>,
    waiting_count: String,
    decided: Vec<Card>,
    approved_count: usize,
    rejected_count: usize,
    expired_count: usize,
    skipped_count: usize,
    /// The counts are of the newest requests only.
    at_least: bool,
    exceptions: Vec<ExceptionView>,
    proposals: Vec<Line>,
    /// Emergencies that nobody has looked over yet.
    broken_glass: usize,
    /// Deployments that were decided and are not started.
    stuck: Vec<Stuck>,
    /// Approvers whom no message reaches.
    unreached: Vec<String>,
}

/// One step of the checklist.
struct Step {
    done: bool,
    label: &'static str,
    why: &'static str,
    href: &'static str,
    action: &'static str,
}

/// `GET /dashboard`: administrators and auditors.
pub async fn show_overview(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let now = app.now();
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let mut waiting = read_waiting(&state, WAITING_COUNT_MAX)?;
    waiting.sort_by_key(|it| it.created_at);
    let recent: Vec<Request> = read_newest(&state, None, RECENT_MAX)?
        .into_iter()
        .map(|(_, it)| it)
        .collect();
    let steps = steps(&state, &person, &people, &recent)?;

    let since = Time(now.0.saturating_sub(DAY_MS));
    let mut ended: Vec<&Request> = recent
        .iter()
        .filter(|it| it.decided_at.is_some_and(|at| at > since))
        .collect();
    ended.sort_by_key(|it| std::cmp::Reverse(it.decided_at));
    let count = |status| ended.iter().filter(|it| it.status == status).count();
    let teller = Teller::new(&state)?;
    let card = |it: &Request| Card::of(it, &places, &people, &teller, now);
    Ok(html(&OverviewPage {
        frame: Frame::new(&app, Some(&person), Place::Overview, "Overview"),
        conditions: beside_the_frame(&app)?,
        steps_done: steps.iter().filter(|it| it.done).count(),
        steps,
        approver: person.has(Role::Approver),
        waiting_count: match waiting.len() {
            WAITING_COUNT_MAX => format!("{WAITING_COUNT_MAX}+"),
            count => count.to_string(),
        },
        waiting: waiting
            .iter()
            .take(CARDS_MAX)
            .map(card)
            .collect::<Result<_, _>>()?,
        approved_count: count(Status::Approved),
        rejected_count: count(Status::Rejected),
        expired_count: count(Status::Expired),
        skipped_count: count(Status::Skipped),
        decided: ended
            .iter()
            .take(CARDS_MAX)
            .map(|it| card(it))
            .collect::<Result<_, _>>()?,
        at_least: recent.len() == RECENT_MAX && recent.last().is_some_and(|it| it.created_at > since),
        broken_glass: broken_glass(&state)?,
        exceptions: newest(&state, &places, &people, &person, true, CARDS_MAX)?,
        proposals: waiting_proposals(&state, &people)?,
        stuck: stuck(&state, &places, now)?,
        unreached: Reach::load(&state)?.unreached(&people),
    }))
}

fn steps(
    state: &impl Read,
    person: &Person,
    people: &People,
    recent: &[Request],
) -> Result<Vec<Step>, PageError> {
    let approvers = people
        .sorted()
        .into_iter()
        .filter(|it| it.has(Role::Approver) && it.live_passkeys().next().is_some());
    let integrations = state.all::<Integration>()?;
    let projects = state.all::<Project>()?;
    let tried = recent
        .iter()
        .any(|it| matches!(it.requester, Requester::Person { .. }) && !it.decisions.is_empty());
    Ok(vec![
        Step {
            done: person.live_passkeys().next().is_some(),
            label: "Your passkey",
            why: "It signs your decisions. Nobody else can.",
            href: "/dashboard/people",
            action: "See it",
        },
        Step {
            done: tried,
            label: "Try it out",
            why: "Send yourself a test request and decide it.",
            href: "#test",
            action: "Go to the button",
        },
        Step {
            done: integrations.iter().any(|it| !it.removed),
            label: "Connect GitLab, GitHub or Bitbucket",
            why: "So that merge requests and pull requests wait for people.",
            href: "/dashboard/integrations",
            action: "Connect",
        },
        Step {
            done: projects.iter().any(|it| !it.removed),
            label: "Gate a first project",
            why: "Choose its branches and how many people must approve.",
            href: "/dashboard/integrations",
            action: "Add it",
        },
        Step {
            done: approvers.count() >= 2,
            label: "A second approver",
            why: "Nobody approves their own change, so one person is never enough.",
            href: "/dashboard/people#add",
            action: "Invite",
        },
    ])
}
