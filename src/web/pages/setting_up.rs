//! Setting up what enforces a project's gate: the modes, the plan, what was done and how to put it back, and trials.

use crate::domain::ids::ProjectId;
use crate::domain::people::Role;
use crate::domain::project::{Enforcement, Integration, Project};
use crate::domain::provision::{LastRun, Provisioning, StepResult, Trial};
use crate::domain::state::Read;
use crate::forge::{HookScope, ProvisionPlan};
use crate::texts::{filters, said, t};
use crate::web::api::provisioning::{Bench, hook_scope, mode};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::gate::GateView;
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use askama::Template;
use serde::Deserialize;

/// Longest text of others, in characters.
const TEXT_MAX: usize = 1000;

#[derive(Deserialize)]
pub struct Asked {
    enforcement: Option<String>,
    hook: Option<String>,
}

#[derive(Template)]
#[template(path = "admin/gate.html")]
struct GatePage {
    frame: Frame,
    admin: bool,
    project: String,
    path: String,
    branches: String,
    mode: &'static str,
    gate: GateView,
    /// Where the API has this project.
    api: String,
    modes: Vec<ModeView>,
    plan: Option<PlanView>,
    last: Option<RunView>,
    made: Vec<MadeView>,
    trial: Option<TrialView>,
}

/// One way to enforce a gate, for people.
struct ModeView {
    word: &'static str,
    title: &'static str,
    does: &'static str,
    needs: &'static str,
    bypass: &'static str,
    current: bool,
}

struct PlanView {
    /// The webhook is to be a system hook.
    system: bool,
    mode: &'static str,
    word: &'static str,
    digest: String,
    steps: Vec<StepView>,
    satisfied: Vec<String>,
    warnings: Vec<String>,
    by_hand: usize,
    can_apply: bool,
    error: Option<String>,
}

struct StepView {
    what: String,
    /// What to know about how it is done; may be empty.
    how: String,
    before: String,
    after: String,
    by_hand: Option<String>,
}

struct RunView {
    undo: bool,
    running: bool,
    mode: &'static str,
    by: String,
    at: Moment,
    reason: String,
    steps: Vec<DoneView>,
}

struct DoneView {
    look: &'static str,
    word: &'static str,
    what: String,
    detail: String,
    bad: bool,
}

struct MadeView {
    what: String,
    by: String,
    at: Moment,
    certain: bool,
}

struct TrialView {
    by: String,
    at: Moment,
    running: bool,
    left: bool,
    branch: String,
    attempts: Vec<AttemptView>,
    holes: Vec<String>,
}

struct AttemptView {
    what: String,
    answer: String,
    means: String,
}

/// A mode's name for people.
fn title(of: Enforcement) -> &'static str {
    match of {
        Enforcement::MergeBroker => t!("Merge broker"),
        Enforcement::BotApproval => t!("Bot approval"),
        Enforcement::ExternalStatusCheck => t!("External status check"),
        Enforcement::CommitStatus => t!("Commit status"),
    }
}

fn mode_view(of: Enforcement, current: Enforcement) -> ModeView {
    let (does, needs, bypass) = match of {
        Enforcement::MergeBroker => (
            t!(
                "Only this server’s account merges into the gated branches, and it merges exactly the commit that was approved."
            ),
            t!(
                "Any edition. The account is Maintainer; on Free everybody else is at most Developer, on Premium the branch names \
             the account alone."
            ),
            t!(
                "Owners of the project and administrators of GitLab, by changing these settings. That is found within five \
             minutes."
            ),
        ),
        Enforcement::BotApproval => (
            t!("GitLab asks for one more approval, which only this server’s account can give."),
            t!("GitLab Premium or Ultimate. The account is Maintainer while the rule is set up."),
            t!("Whoever may change the project’s approval rules. That is found within five minutes."),
        ),
        Enforcement::ExternalStatusCheck => (
            t!("GitLab asks this server about each merge request, bound to its commit."),
            t!("GitLab Ultimate."),
            t!(
                "Every Developer of the project, by answering the check with GitLab’s API. Found and reported, not prevented."
            ),
        ),
        Enforcement::CommitStatus => (
            t!("GitLab shows a status on the commit. A display, not a lock."),
            t!("Any edition; “Pipelines must succeed” is turned on."),
            t!(
                "Every Developer, by posting a status of the same name, and whoever may push or merge. Found and reported, not \
             prevented."
            ),
        ),
    };
    ModeView {
        word: of.name(),
        title: title(of),
        does,
        needs,
        bypass,
        current: of == current,
    }
}

/// `GET /dashboard/integrations/gitlab/{pid}/gate`: administrators; auditors see it without plans and forms. With
/// `?enforcement=` the forge is read for the plan.
pub async fn show_gate(
    app: Data<App>,
    Reader(person): Reader,
    id: Path<String>,
    asked: Query<Asked>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let id = ProjectId::parse(&id).ok_or(PageError::Unknown)?;
    let project: Project = state.get(id.as_str())?.ok_or(PageError::Unknown)?;
    let integration: Option<Integration> = state.get(project.integration.as_str())?;
    if project.removed || integration.is_none_or(|it| it.removed) {
        return Err(PageError::Unknown);
    }
    let admin = person.has(Role::Admin);
    let current = project.settings.enforcement;
    let plan = match asked.enforcement.as_deref() {
        Some(word) if admin => {
            let wanted = mode(word).map_err(|_| PageError::Unknown)?;
            let hook = hook_scope(asked.hook.as_deref()).map_err(|_| PageError::Unknown)?;
            Some(plan_view(&app, &project, wanted, hook).await?)
        }
        _ => None,
    };
    let provisioning: Option<Provisioning> = state.get(id.as_str())?;
    let trial: Option<Trial> = state.get(id.as_str())?;
    let now = app.now();
    let running = provisioning.as_ref().is_some_and(|it| it.is_running(now));
    let (made, last) = provisioning.map(|it| (it.made, it.last)).unwrap_or_default();
    let branches: Vec<String> = project
        .settings
        .branch_patterns
        .iter()
        .map(|it| shown(it, 80))
        .collect();
    Ok(html(&GatePage {
        frame: Frame::new(&app, Some(&person), Place::Integrations, t!("Set up the gate")),
        admin,
        project: id.to_string(),
        path: shown(&project.path, TEXT_MAX),
        branches: branches.join(", "),
        mode: title(current),
        gate: GateView::of(&project, &state)?,
        api: format!("/api/v1/integrations/{}/projects/{id}", project.integration),
        modes: Enforcement::ALL
            .iter()
            .map(|it| mode_view(*it, current))
            .collect(),
        plan,
        last: last.map(|it| run_view(&it, running)),
        made: made
            .iter()
            .map(|it| MadeView {
                what: shown(first(&said(&it.what)).0, TEXT_MAX),
                by: shown(&it.by, 100),
                at: Moment::of(it.at),
                certain: it.certain,
            })
            .collect(),
        trial: trial.map(|it| TrialView {
            by: shown(&it.by, 100),
            at: Moment::of(it.ended_at.unwrap_or(it.started_at)),
            running: it.is_running(now),
            left: it.to_clear,
            branch: it.branch.clone(),
            attempts: it
                .attempts
                .iter()
                .map(|it| AttemptView {
                    what: shown(&it.what, TEXT_MAX),
                    answer: shown(&it.answer, TEXT_MAX),
                    means: shown(&it.means, TEXT_MAX),
                })
                .collect(),
            holes: it.holes.iter().map(|it| shown(&it.text, TEXT_MAX)).collect(),
        }),
    }))
}

async fn plan_view(
    app: &App,
    project: &Project,
    wanted: Enforcement,
    hook: HookScope,
) -> Result<PlanView, PageError> {
    let bench = Bench::of(app, project.integration.as_str(), project.id.as_str())?;
    let empty = PlanView {
        system: hook == HookScope::System,
        mode: title(wanted),
        word: wanted.name(),
        digest: String::new(),
        steps: Vec::new(),
        satisfied: Vec::new(),
        warnings: Vec::new(),
        by_hand: 0,
        can_apply: false,
        error: None,
    };
    let plan: ProvisionPlan = match bench.plan(wanted, hook).await {
        Ok(plan) => plan,
        Err(problem) => {
            let error = Some(problem.told());
            return Ok(PlanView { error, ..empty });
        }
    };
    let text = |it: &str| shown(it, TEXT_MAX);
    Ok(PlanView {
        digest: plan.digest.to_string(),
        steps: plan
            .steps
            .iter()
            .map(|it| (it, said(&it.change.what)))
            .map(|(it, what)| StepView {
                what: text(first(&what).0),
                how: text(first(&what).1),
                before: text(&said(&it.before)),
                after: text(&said(&it.after)),
                by_hand: it.by_hand.as_deref().map(text),
            })
            .collect(),
        satisfied: plan.satisfied.iter().map(|it| text(it)).collect(),
        warnings: plan.warnings.iter().map(|it| text(it)).collect(),
        by_hand: plan.steps.len() - plan.doable().count(),
        can_apply: plan.steps.is_empty() || plan.doable().next().is_some(),
        ..empty
    })
}

/// A step's first sentence, which says what changes, and the others, which say how.
fn first(what: &str) -> (&str, &str) {
    match what.find(". ") {
        Some(end) => (&what[..=end], what[end + 1..].trim_start()),
        None => (what, ""),
    }
}

fn run_view(run: &LastRun, running: bool) -> RunView {
    let steps = run.steps.iter().map(|it| {
        let look = match it.result {
            StepResult::Done => "approved",
            StepResult::Unchanged => "skipped",
            StepResult::Failed => "rejected",
            StepResult::NotTried => "cancelled",
            StepResult::ByHand | StepResult::LeftAlone => "pending",
        };
        DoneView {
            look,
            word: it.result.words(),
            what: shown(first(&said(&it.what)).0, TEXT_MAX),
            detail: shown(&it.detail, TEXT_MAX),
            bad: it.result == StepResult::Failed,
        }
    });
    RunView {
        undo: run.undo,
        running,
        mode: title(run.enforcement),
        by: shown(&run.by, 100),
        at: Moment::of(run.at),
        reason: shown(&run.reason, TEXT_MAX),
        steps: steps.collect(),
    }
}
