//! Trying a gate out, for admins: a throw-away change, and whether the forge would let it through.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::policy::NamePattern;
use crate::domain::provision::{TRIAL_PREFIX, Trial};
use crate::domain::state::Read;
use crate::forge::TrialWanted;
use crate::identity::random_id;
use crate::outbound::Secret;
use crate::web::api::bounded;
use crate::web::api::integrations::{find_project, gate, look_now};
use crate::web::api::provisioning::Bench;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialBody {
    /// Another account's token. Used for this trial, kept nowhere.
    other_token: Option<String>,
    /// A gated branch; by default the first there is.
    branch: Option<String>,
}

fn shown(trial: Option<&Trial>) -> Value {
    let Some(it) = trial else { return Value::Null };
    json!({
        "started_at": it.started_at,
        "ended_at": it.ended_at,
        "by": it.by,
        "branch": it.branch,
        "cleared": !it.to_clear,
        "attempts": it.attempts,
        "findings": it.holes,
    })
}

/// `GET /api/v1/integrations/{id}/projects/{pid}/trial`: admins and auditors. The newest trial, or null.
pub async fn get_trial(
    app: Data<App>,
    caller: Caller,
    ids: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let project = find_project(&app, &ids.0, &ids.1)?;
    let trial: Option<Trial> = app.snapshot()?.get(project.id.as_str())?;
    Ok(HttpResponse::Ok().json(json!({ "trial": shown(trial.as_ref()) })))
}

/// `POST /api/v1/integrations/{id}/projects/{pid}/trial`: admins. Answers when it has ended: up to a few minutes.
pub async fn try_gate(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    ids: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let bench = Bench::of(&app, &ids.0, &ids.1)?;
    let (body, _) = read_json::<TrialBody>(&request, payload).await?;
    let other = body.other_token.map(Secret::new);
    if let Some(token) = &other {
        bounded("other_token", token.expose(), 500)?;
    }
    if let Some(branch) = &body.branch {
        let gated = |it: &String| NamePattern::new(it).is_ok_and(|it| it.matches(branch));
        if !bench.project.settings.branch_patterns.iter().any(gated) {
            return Err(Problem::invalid("branch", "a branch that this project gates"));
        }
    }
    // What a trial proves depends on who else may merge, so that is looked at first.
    look_now(&app, &bench.integration, &bench.project).await?;
    let branch = format!("{TRIAL_PREFIX}{}", hex::encode(&random_id()[..6]));
    let command = Command::StartTrial {
        project: bench.project.id.clone(),
        branch: branch.clone(),
    };
    app.submit(caller.actor(), reason.of(command)).await?;
    let run = run(app, bench, branch, body.branch, other);
    // Whoever closes the page leaves nothing behind on the forge.
    actix_web::rt::spawn(run).await.map_err(Problem::internal)?
}

async fn run(
    app: Data<App>,
    bench: Bench,
    branch: String,
    target: Option<String>,
    other: Option<Secret>,
) -> Result<HttpResponse, Problem> {
    let settings = &bench.project.settings;
    let wanted = TrialWanted {
        forge_project_id: &settings.forge_project_id,
        branch_patterns: &settings.branch_patterns,
        target: target.as_deref(),
        branch: &branch,
    };
    let tried = bench.forge.try_gate(&wanted, other).await;
    let command = Command::RecordTrial {
        project: bench.project.id.clone(),
        branch,
        attempts: tried.attempts,
        seen: tried.seen,
        cleared: tried.cleared,
    };
    // What was seen is a fact; who asked for it stands in the record of the start.
    app.submit(Actor::System, command).await?;
    let state = app.snapshot()?;
    let trial: Option<Trial> = state.get(bench.project.id.as_str())?;
    let project = find_project(&app, bench.integration.id.as_str(), bench.project.id.as_str())?;
    Ok(HttpResponse::Ok().json(json!({ "trial": shown(trial.as_ref()), "gate": gate(&project, &state)? })))
}
