//! Pipelines and commit statuses as GitLab's API tells them, and the test side's ways to make pipelines.
//! The rules of a status are in `changes.rs`.

use serde_json::json;

use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::changes::StatusPost;
use crate::support::forge::gitlab::changes::StatusRefusal;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;

pub fn statuses(state: &State, call: &Call, project: u64, sha: &str) -> Answer {
    let all = call.params.flag("all")?.unwrap_or(false);
    let (ref_name, name) = (call.params.text("ref"), call.params.text("name"));
    let pipeline = call.params.number("pipeline_id")?;
    let mut found: Vec<_> = state
        .project(project)
        .statuses
        .iter()
        .filter(|s| s.sha == sha && (all || !s.retried))
        .filter(|s| ref_name.as_ref().is_none_or(|wanted| &s.ref_name == wanted))
        .filter(|s| name.as_ref().is_none_or(|wanted| &s.name == wanted))
        .filter(|s| pipeline.is_none_or(|wanted| s.pipeline == wanted))
        .collect();
    found.sort_by_key(|s| s.id);
    page(
        state,
        call.request,
        &call.params,
        found.into_iter().map(|s| shapes::status(state, s)).collect(),
    )
}

pub fn post_status(state: &mut State, call: &Call, sha: &str) -> Answer {
    let params = &call.params;
    let states = ["pending", "running", "success", "failed", "canceled", "skipped"];
    params.required("state")?;
    let asked = params.choice("state", &states)?.expect("just required");
    if params.text("ref").is_some_and(|name| name.chars().count() > 255) {
        return Err(Reply::error(400, "ref must be less than 255 characters"));
    }
    let post = StatusPost {
        state: asked,
        name: params
            .text("name")
            .or(params.text("context"))
            .unwrap_or_else(|| "default".to_owned()),
        ref_name: params.text("ref"),
        target_url: params.text("target_url"),
        description: params.text("description"),
        pipeline: params.number("pipeline_id")?,
    };
    let project = call.project_as(state, DEVELOPER)?;
    match state.post_status(project, sha, call.user, &post) {
        Ok(id) => {
            let record = state
                .project(project)
                .statuses
                .iter()
                .find(|s| s.id == id)
                .expect("just stored");
            Ok(Reply::json(201, &shapes::status(state, record)))
        }
        Err(StatusRefusal::NotFound(what)) => Err(Reply::message(404, &format!("404 {what} Not Found"))),
        Err(StatusRefusal::Forbidden) => Err(Reply::message(403, "403 Forbidden")),
        Err(StatusRefusal::Field(field, why)) => Err(Reply::json(400, &json!({"message": {field: [why]}}))),
        Err(StatusRefusal::Transition(event, present)) => {
            let text = format!(
                "Cannot transition status via :{event} from :{present} \
                 (Reason(s): Status cannot transition via \"{event}\")"
            );
            Err(Reply::message(400, &text))
        }
    }
}

pub fn route(state: &State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, REPORTER)?;
    match rest {
        [] => {
            let (sha, ref_name) = (call.params.text("sha"), call.params.text("ref"));
            let all = state.project(project).pipelines.iter().rev();
            let found = all.filter(|p| {
                sha.as_ref().is_none_or(|sha| &p.sha == sha)
                    && ref_name.as_ref().is_none_or(|name| &p.ref_name == name)
            });
            page(
                state,
                call.request,
                &call.params,
                found.map(|p| shapes::pipeline(state, p)).collect(),
            )
        }
        [id] => {
            let id = int(id, "pipeline_id")?;
            let found = state.project(project).pipelines.iter().find(|p| p.id == id);
            let found = found.ok_or_else(|| Reply::message(404, "404 Not found"))?;
            Ok(Reply::json(200, &shapes::pipeline(state, found)))
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}
