//! Pipelines and commit statuses as GitLab's API tells them, and the test side's ways to make pipelines.
//! The rules of a status are in `changes.rs`.

use std::sync::Arc;

use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::changes::StatusPost;
use crate::support::forge::gitlab::changes::StatusRefusal;
use crate::support::forge::gitlab::jobs;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::repository::Signature;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::Pipeline;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;

/// What a pipeline can be in.
const STATES: [&str; 11] = [
    "created",
    "waiting_for_resource",
    "preparing",
    "pending",
    "running",
    "success",
    "failed",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];

/// Merge request pipelines.
impl FakeGitLab {
    /// A detached merge request pipeline: it runs on the head itself.
    pub fn add_detached_pipeline(&self, project: u64, iid: u64, own: &str, user: u64) -> u64 {
        let head = self.merge_request(project, iid).head;
        let name = format!("refs/merge-requests/{iid}/head");
        self.add_pipeline(project, &head, &name, "merge_request_event", own, user)
    }

    /// A merged-results pipeline: it runs on a merge of head and target which is on no branch. The answer is the
    /// pipeline and that commit.
    pub fn add_merged_results_pipeline(&self, project: u64, iid: u64, own: &str, user: u64) -> (u64, Sha) {
        self.change_state(|state| {
            let change = state.change(project, iid).clone();
            let target = state
                .branch(project, &change.target_branch)
                .expect("a target branch")
                .clone();
            let (tree, _) = state.objects.merged_tree(&target, &change.head);
            let who = Signature::new("GitLab", "gitlab@example.com");
            let message = format!("Merge {} into {target}", change.head);
            let parents = vec![target, change.head.clone()];
            let sha = state.objects.store(parents, &who, &who, &message, Arc::new(tree));
            state.adopt(project, &sha);
            let name = format!("refs/merge-requests/{iid}/merge");
            let id = state.new_pipeline(project, &sha, &name, "merge_request_event", user, Some(own));
            let mut all = state.project_mut(project).pipelines.iter_mut();
            let record = all.find(|p| p.id == id).expect("just made");
            record.source_sha = Some(change.head);
            state.settle_pipeline(project, id, user);
            (id, sha)
        })
    }
}

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

/// `/pipelines` with its filters; newest first unless asked otherwise.
fn list(state: &State, call: &Call, project: u64) -> Answer {
    let params = &call.params;
    let (after, before) = (params.date("updated_after")?, params.date("updated_before")?);
    let keys = ["id", "status", "ref", "updated_at", "user_id"];
    let order = params
        .choice("order_by", &keys)?
        .unwrap_or_else(|| "id".to_owned());
    let sort = params
        .choice("sort", &["asc", "desc"])?
        .unwrap_or_else(|| "desc".to_owned());
    let status = params.choice("status", &STATES)?;
    let same = |name: &str, value: &str| params.text(name).is_none_or(|wanted| wanted == value);
    let mut found: Vec<(String, &Pipeline)> = state
        .project(project)
        .pipelines
        .iter()
        .filter(|p| same("sha", &p.sha) && same("ref", &p.ref_name) && same("source", &p.source))
        .filter(|p| after.is_none_or(|at| p.updated_at >= at) && before.is_none_or(|at| p.updated_at <= at))
        .map(|p| (state.pipeline_state(project, p.id), p))
        .filter(|(own, _)| status.as_ref().is_none_or(|wanted| wanted == own))
        .collect();
    match order.as_str() {
        "updated_at" => found.sort_by_key(|(_, p)| (p.updated_at, p.id)),
        "status" => found.sort_by(|a, b| (&a.0, a.1.id).cmp(&(&b.0, b.1.id))),
        "ref" => found.sort_by(|a, b| (&a.1.ref_name, a.1.id).cmp(&(&b.1.ref_name, b.1.id))),
        "user_id" => found.sort_by_key(|(_, p)| (p.user, p.id)),
        _ => found.sort_by_key(|(_, p)| p.id),
    }
    if sort == "desc" {
        found.reverse();
    }
    let list = found
        .into_iter()
        .map(|(_, p)| shapes::pipeline(state, p))
        .collect();
    page(state, call.request, params, list)
}

pub fn route(state: &State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, REPORTER)?;
    match rest {
        [] => list(state, call, project),
        ["latest"] => {
            let record = state.project(project);
            let name = call
                .params
                .text("ref")
                .unwrap_or_else(|| record.default_branch.clone());
            let tip = state.branch(project, &name);
            let all = record.pipelines.iter().rev();
            let newest = all.filter(|p| p.ref_name == name).find(|p| Some(&p.sha) == tip);
            let newest = newest.ok_or_else(|| Reply::message(404, "404 Pipeline Not Found"))?;
            Ok(Reply::json(200, &shapes::pipeline_detail(state, project, newest)))
        }
        [id] => {
            let id = int(id, "pipeline_id")?;
            let found = state.project(project).pipelines.iter().find(|p| p.id == id);
            let found = found.ok_or_else(|| Reply::message(404, "404 Not found"))?;
            Ok(Reply::json(200, &shapes::pipeline_detail(state, project, found)))
        }
        [id, "jobs"] => {
            let id = int(id, "pipeline_id")?;
            if !state.project(project).pipelines.iter().any(|p| p.id == id) {
                return Err(Reply::message(404, "404 Not found"));
            }
            jobs::of_pipeline(state, call, project, id)
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}
