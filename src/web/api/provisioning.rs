//! Setting a gate up on its forge, and putting that back, for admins. What is about to be done is in the journal before
//! the first call; what is asked of the forge goes on to its end whoever stops waiting for the answer.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::governance::Governed;
use crate::domain::ids::Digest;
use crate::domain::project::{Enforcement, Integration, Project};
use crate::domain::provision::{MadeChange, Provisioning, StepReport, StepResult, settings_for};
use crate::domain::refusal::Refusal;
use crate::domain::state::Read;
use crate::forge::{
    Forge, HookScope, HookSecret, ProvisionPlan, Restored, Wanted, hook_secret_name, hook_url,
};
use crate::web::api::governance::{Change, govern};
use crate::web::api::integrations::{connected, find, find_project, gate, look_now};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::confirm::{current, within};
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time for one step.
const STEP_MAX: Duration = Duration::from_secs(90);
/// After this no further step is begun: far below the time at which a run counts as interrupted.
const RUN_MAX: Duration = Duration::from_secs(150);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanQuery {
    enforcement: Option<String>,
    hook: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetUpBody {
    enforcement: String,
    hook: Option<String>,
    plan: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoBody {
    #[serde(default)]
    reason: String,
}

/// Everything a run works with.
pub(crate) struct Bench {
    pub(crate) integration: Integration,
    pub(crate) project: Project,
    pub(crate) forge: Forge,
    secret: HookSecret,
    hook_url: String,
}

impl Bench {
    /// The project, and its forge ready to be called.
    pub(crate) fn of(app: &App, integration: &str, project: &str) -> Result<Bench, Problem> {
        let (integration, project) = (find(app, integration)?, find_project(app, integration, project)?);
        let forge = connected(app, &integration)?;
        let sealed = app.snapshot()?.secret(&hook_secret_name(&integration.id))?;
        let sealed = sealed.ok_or_else(|| Problem::internal("an integration without a webhook secret"))?;
        let secret = app.forges.hook_secret(&integration.id, &sealed);
        let hook_url = hook_url(app.public_url(), &integration);
        Ok(Bench {
            secret: secret.map_err(Problem::internal)?,
            integration,
            project,
            forge,
            hook_url,
        })
    }

    /// What setting the gate up in a mode would change now.
    pub(crate) async fn plan(
        &self,
        enforcement: Enforcement,
        hook: HookScope,
    ) -> Result<ProvisionPlan, Problem> {
        let wanted = Wanted::of(&self.project.settings, enforcement, &self.hook_url, hook);
        let plan = self.forge.provision_plan(&wanted).await;
        plan.map_err(|e| Problem::forge_answer(self.forge.explain(&e)))
    }

    fn forge_project(&self) -> &str {
        &self.project.settings.forge_project_id
    }
}

pub(crate) fn mode(text: &str) -> Result<Enforcement, Problem> {
    Enforcement::parse(text).ok_or_else(|| {
        let known = Enforcement::ALL.map(Enforcement::name).join(", ");
        Problem::bad_field("enforcement", format!("one of {known}"))
    })
}

/// Where the webhook is to be: by default at the project.
pub(crate) fn hook_scope(text: Option<&str>) -> Result<HookScope, Problem> {
    let Some(text) = text.filter(|it| !it.is_empty()) else {
        return Ok(HookScope::default());
    };
    HookScope::parse(text).ok_or_else(|| {
        let known: Vec<&str> = HookScope::NAMES.iter().map(|it| it.0).collect();
        Problem::bad_field("hook", format!("one of {}", known.join(", ")))
    })
}

/// `GET /api/v1/integrations/{id}/projects/{pid}/provisioning`: admins. The forge is read, nothing is changed.
pub async fn get_plan(
    app: Data<App>,
    caller: Caller,
    ids: Path<(String, String)>,
    query: Query<PlanQuery>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let bench = Bench::of(&app, &ids.0, &ids.1)?;
    let enforcement = match &query.enforcement {
        Some(text) => mode(text)?,
        None => bench.project.settings.enforcement,
    };
    let plan = bench
        .plan(enforcement, hook_scope(query.hook.as_deref())?)
        .await?;
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|it| {
            json!({
                "id": it.change.id, "what": it.change.what, "before": it.before, "after": it.after, "by_hand": it.by_hand,
            })
        })
        .collect();
    let made: Option<Provisioning> = app.snapshot()?.get(bench.project.id.as_str())?;
    Ok(HttpResponse::Ok().json(json!({
        "enforcement": plan.enforcement,
        "plan": plan.digest,
        "steps": steps,
        "satisfied": plan.satisfied,
        "warnings": plan.warnings,
        "undoable": made.map(|it| it.made).unwrap_or_default().iter().map(undoable).collect::<Vec<_>>(),
    })))
}

fn undoable(it: &MadeChange) -> Value {
    json!({ "id": it.id, "what": it.what, "enforcement": it.enforcement, "by": it.by, "at": it.at, "certain": it.certain })
}

fn report(it: &StepReport) -> Value {
    json!({ "id": it.id, "what": it.what, "result": it.result, "detail": it.detail })
}

/// `POST /api/v1/integrations/{id}/projects/{pid}/provisioning`: admins. Carries out exactly the plan that it names.
pub async fn set_up(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    ids: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let bench = Bench::of(&app, &ids.0, &ids.1)?;
    let (body, _) = read_json::<SetUpBody>(&request, payload).await?;
    let enforcement = mode(&body.enforcement)?;
    let hook = hook_scope(body.hook.as_deref())?;
    let reason = stated.or(body.reason)?.text();
    let confirmed = Digest::parse(&body.plan)
        .ok_or_else(|| Problem::bad_field("plan", "the digest of a plan: 64 lowercase hex digits"))?;
    let plan = bench.plan(enforcement, hook).await?;
    if plan.digest != confirmed {
        let what = "The forge's settings, or what is known of them, have changed since this plan was made. Look at the plan \
                    as it is now.";
        return Err(Refusal::Outdated { what: what.into() }.into());
    }
    if !plan.steps.is_empty() && plan.doable().next().is_none() {
        return Err(Problem::invalid(
            "plan",
            "Our token can take none of its steps. The plan says what a person has to click for each.",
        ));
    }
    let actor = caller.actor();
    let command = Command::StartProvisioning {
        project: bench.project.id.clone(),
        enforcement,
        plan_sha256: plan.digest,
        reason: reason.clone(),
        changes: plan.doable().map(|it| it.change.clone()).collect(),
    };
    app.submit(actor.clone(), command).await?;
    let run = carry_out(app, bench, plan, actor, reason);
    // Whoever closes the page does not leave a gate half set up.
    actix_web::rt::spawn(within(current(), run))
        .await
        .map_err(Problem::internal)?
}

async fn carry_out(
    app: Data<App>,
    bench: Bench,
    plan: ProvisionPlan,
    actor: Actor,
    reason: String,
) -> Result<HttpResponse, Problem> {
    let begun = Instant::now();
    let mut steps = Vec::new();
    let mut stopped = false;
    for step in &plan.steps {
        let told = |result, detail: String, alteration| StepReport {
            id: step.change.id.clone(),
            what: step.change.what.clone(),
            result,
            detail,
            alteration,
        };
        if let Some(by_hand) = &step.by_hand {
            steps.push(told(StepResult::ByHand, by_hand.clone(), None));
            continue;
        }
        if stopped || begun.elapsed() > RUN_MAX {
            stopped = true;
            steps.push(told(StepResult::NotTried, String::new(), None));
            continue;
        }
        let change = &step.change.alteration;
        let made = bench.forge.alter(bench.forge_project(), change, &bench.secret);
        let made = tokio::time::timeout(STEP_MAX, made)
            .await
            .unwrap_or_else(|_| Err("The forge takes too long; nobody knows how far it got.".to_owned()));
        steps.push(match made {
            Ok((change, note)) => told(StepResult::Done, note, Some(change)),
            Err(why) => {
                stopped = true;
                told(StepResult::Failed, why, Some(change.clone()))
            }
        });
    }
    let complete = steps.iter().all(|it| it.result == StepResult::Done);
    if !steps.is_empty() {
        let command = Command::RecordProvisioning {
            project: bench.project.id.clone(),
            enforcement: plan.enforcement,
            reason: reason.clone(),
            steps: steps.clone(),
        };
        app.submit(actor.clone(), command).await?;
    }
    let mut answer = json!({
        "enforcement": plan.enforcement,
        "complete": complete,
        "steps": steps.iter().map(report).collect::<Vec<_>>(),
    });
    let settings = settings_for(&bench.project.settings, plan.enforcement);
    if complete && settings != bench.project.settings {
        let project = bench.project.id.clone();
        let change = Change::of(Governed::Project { project, settings }, reason);
        // A policy that came into force since may ask for further admins: then the change waits for them.
        if let Some(waits) = govern(&app, actor, change).await? {
            answer["proposal"] = json!(waits.0);
        }
    }
    with_gate(&app, &bench, answer).await
}

/// The answer, with the gate as it is by now.
async fn with_gate(app: &App, bench: &Bench, mut answer: Value) -> Result<HttpResponse, Problem> {
    let ids = (bench.integration.id.as_str(), bench.project.id.as_str());
    let project = find_project(app, ids.0, ids.1)?;
    if let Err(problem) = look_now(app, &bench.integration, &project).await {
        tracing::warn!(%problem, project = ids.1, "a gate can't be looked at after it was changed");
    }
    answer["gate"] = gate(&project, &app.snapshot()?)?;
    Ok(HttpResponse::Ok().json(answer))
}

/// `POST /api/v1/integrations/{id}/projects/{pid}/provisioning/undo`: admins. Puts back what was set up from here, as far as
/// nobody has changed it since.
pub async fn undo(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    ids: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let bench = Bench::of(&app, &ids.0, &ids.1)?;
    let (body, _) = read_json::<UndoBody>(&request, payload).await?;
    let reason = stated.or(body.reason)?.text();
    let actor = caller.actor();
    let command = Command::StartRestoring {
        project: bench.project.id.clone(),
        reason: reason.clone(),
    };
    app.submit(actor.clone(), command).await?;
    let made: Option<Provisioning> = app.snapshot()?.get(bench.project.id.as_str())?;
    let made = made.map(|it| it.made).unwrap_or_default();
    if made.is_empty() {
        let why = "Nothing that was set up from here is left to be put back.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    }
    let run = put_back(app, bench, made, actor, reason);
    actix_web::rt::spawn(within(current(), run))
        .await
        .map_err(Problem::internal)?
}

async fn put_back(
    app: Data<App>,
    bench: Bench,
    made: Vec<MadeChange>,
    actor: Actor,
    reason: String,
) -> Result<HttpResponse, Problem> {
    let begun = Instant::now();
    let mut steps = Vec::new();
    for it in made.iter().rev() {
        let put_back = bench
            .forge
            .restore(bench.forge_project(), &it.alteration, it.certain, &bench.secret);
        let result = match begun.elapsed() > RUN_MAX {
            true => None,
            false => {
                let late = |_| Err("The forge takes too long; nobody knows how far it got.".to_owned());
                Some(
                    tokio::time::timeout(STEP_MAX, put_back)
                        .await
                        .unwrap_or_else(late),
                )
            }
        };
        let (result, detail) = match result {
            None => (StepResult::NotTried, String::new()),
            Some(Ok(Restored::Done(note))) => (StepResult::Done, note),
            Some(Ok(Restored::Unchanged)) => (StepResult::Unchanged, String::new()),
            Some(Ok(Restored::LeftAlone(how))) => (StepResult::LeftAlone, how),
            Some(Err(why)) => (StepResult::Failed, why),
        };
        steps.push(StepReport {
            id: it.id.clone(),
            what: it.what.clone(),
            result,
            detail,
            alteration: Some(it.alteration.clone()),
        });
    }
    let failed = |it: &StepReport| matches!(it.result, StepResult::Failed | StepResult::NotTried);
    let answer = json!({
        "complete": !steps.iter().any(failed),
        "steps": steps.iter().map(report).collect::<Vec<_>>(),
    });
    let command = Command::RecordRestoring {
        project: bench.project.id.clone(),
        reason,
        steps,
    };
    app.submit(actor, command).await?;
    with_gate(&app, &bench, answer).await
}
