//! `POST /projects/:id/repository/commits`: a commit made by the API, on a branch that it may start.

use serde_json::Value;

use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::State;

/// Only new files: nothing else is asked for here, and anything else is refused.
pub fn create(state: &mut State, call: &Call, project: u64) -> Answer {
    let params = &call.params;
    let (branch, message) = (params.required("branch")?, params.required("commit_message")?);
    let actions = params.0.get("actions").and_then(Value::as_array);
    let actions = actions.ok_or_else(|| Reply::error(400, "actions is missing"))?;
    let mut edits = Vec::new();
    for action in actions {
        let (Some("create"), Some(path)) = (action["action"].as_str(), action["file_path"].as_str()) else {
            return Err(Reply::error(
                400,
                "actions[0][action] does not have a valid value",
            ));
        };
        edits.push(Edit::write(path, action["content"].as_str().unwrap_or_default()));
    }
    call.project_as(state, DEVELOPER)?;
    if !state.may_push_to(project, &branch, call.user) {
        return Err(Reply::message(
            400,
            "You are not allowed to push into this branch",
        ));
    }
    let before = state.branch(project, &branch).cloned();
    match (params.text("start_branch"), &before) {
        (Some(_), Some(_)) => {
            let why = format!(
                "A branch called '{branch}' already exists. Switch to that branch in order to make changes"
            );
            return Err(Reply::message(400, &why));
        }
        (Some(start), None) => {
            let Some(sha) = state.branch(project, &start).cloned() else {
                return Err(Reply::message(400, "Invalid reference name"));
            };
            state.set_branch(project, &branch, &sha);
        }
        (None, None) => {
            return Err(Reply::message(
                400,
                "You can only create or edit files when you are on a branch",
            ));
        }
        (None, Some(_)) => {}
    }
    let user = state.users.get(&call.user).expect("the caller").clone();
    let new = NewCommit::by(&user.name, &user.email, &message, edits);
    let sha = state.write_commit(project, &branch, &new);
    state.pushed(project, &branch, before.as_deref(), call.user);
    let commit = state.objects.get(&sha).expect("just made").clone();
    Ok(Reply::json(201, &shapes::commit_detail(state, project, &commit)))
}
