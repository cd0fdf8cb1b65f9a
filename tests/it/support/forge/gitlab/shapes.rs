//! The JSON of GitLab's REST API, version 4, for what the fake knows.
//! It reads the state and changes nothing; lists leave out what GitLab shows only for a single merge request.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::hooks;
use crate::support::forge::gitlab::payloads::joined;
use crate::support::forge::gitlab::repository::Commit;
use crate::support::forge::gitlab::repository::FileDiff;
use crate::support::forge::gitlab::repository::NO_SHA;
use crate::support::forge::gitlab::state::Access;
use crate::support::forge::gitlab::state::Attempt;
use crate::support::forge::gitlab::state::CommitStatus;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::Delivery;
use crate::support::forge::gitlab::state::Hook;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::Pipeline;
use crate::support::forge::gitlab::state::Project;
use crate::support::forge::gitlab::state::Protection;
use crate::support::forge::gitlab::state::PushEvent;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;
use crate::support::forge::gitlab::state::Token;
use crate::support::forge::gitlab::state::User;

/// All kinds of events a hook may subscribe to.
pub const HOOK_EVENTS: [&str; 12] = [
    "push_events",
    "tag_push_events",
    "merge_requests_events",
    "repository_update_events",
    "issues_events",
    "confidential_issues_events",
    "note_events",
    "pipeline_events",
    "wiki_page_events",
    "job_events",
    "deployment_events",
    "releases_events",
];

/// Patch texts above this many bytes are withheld as `too_large`.
const PATCH_HARD_LIMIT: usize = 200 * 1024;
/// Patch texts above this many bytes are withheld as `collapsed`.
const PATCH_SAFE_LIMIT: usize = PATCH_HARD_LIMIT / 10;

/// A date as the API writes it.
pub fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn commit_date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
}

pub fn user_basic(state: &State, user: u64) -> Value {
    let user = state.users.get(&user).expect("an existing user");
    json!({
        "id": user.id,
        "username": user.username,
        "public_email": "",
        "name": user.name,
        "state": "active",
        "locked": false,
        "avatar_url": null,
        "web_url": format!("{}/{}", state.base_url, user.username),
    })
}

/// `/users/:id` as anybody sees it.
pub fn user_public(state: &State, user: u64) -> Value {
    let mut out = user_basic(state, user);
    let user = state.users.get(&user).expect("an existing user");
    out["created_at"] = json!(date(user.created_at));
    out["bio"] = json!("");
    out["bot"] = json!(user.bot);
    out["job_title"] = json!("");
    out
}

/// `/users/:id/status`, also where none was set.
pub fn user_status(user: &User) -> Value {
    json!({
        "emoji": user.status_message.as_ref().map(|_| "speech_balloon"),
        "message": user.status_message,
        "availability": null,
        "message_html": user.status_message.clone().unwrap_or_default(),
        "clear_status_at": null,
    })
}

/// `/user`: the token's own user.
pub fn user_self(state: &State, user: u64) -> Value {
    let mut out = user_public(state, user);
    let user = state.users.get(&user).expect("an existing user");
    out["email"] = json!(user.email);
    out["commit_email"] = json!(user.email);
    out["confirmed_at"] = json!(date(user.created_at));
    out["two_factor_enabled"] = json!(false);
    out["external"] = json!(false);
    if user.admin {
        out["is_admin"] = json!(true);
    }
    out
}

pub fn token(token: &Token) -> Value {
    json!({
        "id": token.id,
        "name": format!("token {}", token.id),
        "revoked": token.revoked,
        "created_at": date(token.created_at),
        "description": null,
        "scopes": token.scopes,
        "user_id": token.user,
        "last_used_at": null,
        "active": !token.revoked && !token.expired,
        "expires_at": token.expires_on,
    })
}

pub fn project(state: &State, project: &Project, user: u64) -> Value {
    let web = format!("{}/{}", state.base_url, project.path);
    let (space, name) = project.path.rsplit_once('/').unwrap_or(("", &project.path));
    let settings = &project.settings;
    let level = project.members.get(&user).copied();
    let head = json!({
        "id": project.id,
        "description": null,
        "name": name,
        "name_with_namespace": project.path.replace('/', " / "),
        "path": name,
        "path_with_namespace": project.path,
        "created_at": date(project.created_at),
        "default_branch": project.default_branch,
        "tag_list": [],
        "topics": [],
        "ssh_url_to_repo": format!("git@gitlab.example.com:{}.git", project.path),
        "http_url_to_repo": format!("{web}.git"),
        "web_url": web,
        "readme_url": null,
        "forks_count": state.projects.values().filter(|p| p.forked_from == Some(project.id)).count(),
        "avatar_url": null,
        "star_count": 0,
        "last_activity_at": date(project.created_at),
    });
    let tail = json!({
        "namespace": {"id": 1, "name": space, "path": space, "kind": "group", "full_path": space},
        "packages_enabled": false,
        "empty_repo": project.branches.is_empty(),
        "archived": false,
        "visibility": "private",
        "merge_requests_enabled": true,
        "jobs_enabled": true,
        "ci_config_path": project.deploying.ci_config_path,
        "merge_method": settings.merge_method,
        "squash_option": settings.squash_option,
        "only_allow_merge_if_pipeline_succeeds": settings.only_allow_merge_if_pipeline_succeeds,
        "allow_merge_on_skipped_pipeline": settings.allow_merge_on_skipped_pipeline,
        "only_allow_merge_if_all_discussions_are_resolved": settings.only_allow_merge_if_all_discussions_are_resolved,
        "remove_source_branch_after_merge": true,
        "permissions": {
            "project_access": level.map(|level| json!({"access_level": level, "notification_level": 3})),
            "group_access": null,
        },
    });
    let mut out = joined(head, tail);
    if state.has(Tier::Ultimate) {
        let field = "only_allow_merge_if_all_status_checks_passed";
        out[field] = json!(settings.only_allow_merge_if_all_status_checks_passed);
    }
    if let Some(from) = project.forked_from.and_then(|id| state.projects.get(&id)) {
        out["forked_from_project"] = json!({"id": from.id, "path_with_namespace": from.path});
    }
    out
}

/// A merge request as lists show it.
pub fn change_in_list(state: &State, change: &MergeRequest) -> Value {
    let project = state.project(change.project);
    let user = |id: Option<u64>| id.map(|id| user_basic(state, id));
    let detailed = state.detailed_status(change.project, change.iid);
    let conflicts = state.conflicts(change.project, change.iid);
    let merge_status = if change.prepared_at.is_none() {
        "preparing"
    } else if conflicts {
        "cannot_be_merged"
    } else {
        "can_be_merged"
    };
    let head = json!({
        "id": change.id,
        "iid": change.iid,
        "project_id": change.project,
        "title": change.title,
        "description": change.description,
        "state": change.state,
        "created_at": date(change.created_at),
        "updated_at": date(change.updated_at),
        "merged_by": user(change.merged_by),
        "merge_user": user(change.merged_by.or(change.auto_merge.as_ref().map(|(user, _)| *user))),
        "merged_at": change.merged_at.map(date),
        "closed_by": user(change.closed_by),
        "closed_at": change.closed_at.map(date),
        "target_branch": change.target_branch,
        "source_branch": change.source_branch,
        "user_notes_count": 0,
        "upvotes": 0,
        "downvotes": 0,
        "author": user_basic(state, change.author),
        "assignees": [],
        "assignee": null,
        "reviewers": [],
        "source_project_id": change.source_project,
        "target_project_id": change.project,
    });
    let middle = json!({
        "labels": [],
        "draft": change.draft(),
        "imported": false,
        "imported_from": "none",
        "work_in_progress": change.draft(),
        "milestone": null,
        "merge_when_pipeline_succeeds": change.auto_merge.is_some(),
        "merge_status": merge_status,
        "detailed_merge_status": detailed,
        "merge_after": null,
        "sha": change.head,
        "merge_commit_sha": change.merge_commit_sha,
        "squash_commit_sha": change.squash_commit_sha,
        "discussion_locked": null,
        "should_remove_source_branch": null,
        "force_remove_source_branch": false,
        "prepared_at": change.prepared_at.map(date),
    });
    let tail = json!({
        "reference": format!("!{}", change.iid),
        "references": {
            "short": format!("!{}", change.iid),
            "relative": format!("!{}", change.iid),
            "full": format!("{}!{}", project.path, change.iid),
        },
        "web_url": format!("{}/{}/-/merge_requests/{}", state.base_url, project.path, change.iid),
        "time_stats": {
            "time_estimate": 0,
            "total_time_spent": 0,
            "human_time_estimate": null,
            "human_total_time_spent": null,
        },
        "squash": change.squash,
        "squash_on_merge": change.squash,
        "task_completion_status": {"count": 0, "completed_count": 0},
        "has_conflicts": conflicts,
        "blocking_discussions_resolved": change.unresolved == 0,
        "approvals_before_merge": null,
    });
    joined(joined(head, middle), tail)
}

/// A merge request on its own: with head pipeline, change count and diff refs.
pub fn change(state: &State, change: &MergeRequest, user: u64) -> Value {
    let mut out = change_in_list(state, change);
    let pipeline = state
        .head_pipeline(change.project, change.iid)
        .map(|p| pipeline_detail(state, state.project_of_pipeline(p.id), p));
    let prepared = change.prepared_at.is_some();
    let refs = json!({
        "base_sha": change.diff.base,
        "head_sha": change.diff.head,
        "start_sha": change.diff.start,
    });
    out["subscribed"] = json!(false);
    out["changes_count"] = json!(changes_count(change));
    out["latest_build_started_at"] = Value::Null;
    out["latest_build_finished_at"] = Value::Null;
    out["first_deployed_to_production_at"] = Value::Null;
    out["pipeline"] = json!(pipeline);
    out["head_pipeline"] = json!(pipeline);
    out["diff_refs"] = if prepared { refs } else { Value::Null };
    out["merge_error"] = json!(change.merge_error);
    out["user"] = json!({"can_merge": state.may_merge_into(change.project, &change.target_branch, user)});
    out
}

/// GitLab's string: a number, with `+` where the stored diff overflowed; null while preparing and for an empty diff.
fn changes_count(change: &MergeRequest) -> Option<String> {
    if let Some(forced) = &change.forced_count {
        return forced.clone();
    }
    if change.prepared_at.is_none() || change.diff.commits.is_empty() {
        return None;
    }
    let plus = if change.diff.overflow { "+" } else { "" };
    Some(format!("{}{plus}", change.diff.files.len()))
}

/// One entry of `…/diffs`.
pub fn file(change: &MergeRequest, index: usize) -> Value {
    let file = &change.diff.files[index];
    let too_large = file.text.len() > PATCH_HARD_LIMIT;
    let collapsed =
        !too_large && (file.text.len() > PATCH_SAFE_LIMIT || change.collapsed.contains(&file.new_path));
    let text = if too_large || collapsed { "" } else { &file.text };
    json!({
        "diff": text,
        "collapsed": collapsed,
        "too_large": too_large,
        "new_path": file.new_path,
        "old_path": file.old_path,
        "a_mode": file.a_mode,
        "b_mode": file.b_mode,
        "new_file": file.new_file,
        "renamed_file": file.renamed_file,
        "deleted_file": file.deleted_file,
        "generated_file": false,
    })
}

/// One entry of a compare or of a commit's own diff.
pub fn file_diff(file: &FileDiff) -> Value {
    let too_large = file.text.len() > PATCH_HARD_LIMIT;
    let collapsed = !too_large && file.text.len() > PATCH_SAFE_LIMIT;
    json!({
        "diff": if too_large || collapsed { "" } else { &file.text },
        "collapsed": collapsed,
        "too_large": too_large,
        "new_path": file.new_path,
        "old_path": file.old_path,
        "a_mode": file.a_mode,
        "b_mode": file.b_mode,
        "new_file": file.new_file,
        "renamed_file": file.renamed_file,
        "deleted_file": file.deleted_file,
        "generated_file": null,
    })
}

/// A tag, which here is always a lightweight one.
pub fn tag(state: &State, project: u64, name: &str) -> Value {
    let record = state.project(project);
    let sha = record.tags.get(name).expect("an existing tag");
    let tip = state.objects.get(sha).expect("a tag names a commit");
    json!({
        "name": name,
        "message": "",
        "target": sha,
        "commit": commit(state, project, tip, true),
        "release": null,
        "protected": false,
        "created_at": null,
    })
}

/// A commit; merge request lists carry no `parent_ids`, as GitLab's stored diff commits have none.
pub fn commit(state: &State, project: u64, commit: &Commit, with_parents: bool) -> Value {
    let web = format!(
        "{}/{}/-/commit/{}",
        state.base_url,
        state.project(project).path,
        commit.sha
    );
    let mut trailers = serde_json::Map::new();
    let mut extended = serde_json::Map::new();
    for (key, value) in commit.trailers() {
        let all = extended.entry(key.clone()).or_insert_with(|| json!([]));
        all.as_array_mut().expect("made as an array").push(json!(value));
        trailers.insert(key, json!(value));
    }
    json!({
        "id": commit.sha,
        "short_id": &commit.sha[..8],
        "created_at": commit_date(commit.at),
        "parent_ids": if with_parents { json!(commit.parents) } else { json!([]) },
        "title": commit.title(),
        "message": commit.message,
        "author_name": commit.author.name,
        "author_email": commit.author.email,
        "authored_date": commit_date(commit.at),
        "committer_name": commit.committer.name,
        "committer_email": commit.committer.email,
        "committed_date": commit_date(commit.at),
        "trailers": trailers,
        "extended_trailers": extended,
        "web_url": web,
    })
}

/// `/repository/commits/:sha`: with its last pipeline.
pub fn commit_detail(state: &State, project: u64, found: &Commit) -> Value {
    let mut out = commit(state, project, found, true);
    let pipelines = state
        .project(project)
        .pipelines
        .iter()
        .filter(|p| p.sha == found.sha);
    let last = pipelines.max_by_key(|p| p.id);
    out["stats"] = json!({"additions": 0, "deletions": 0, "total": 0});
    out["status"] = json!(last.map(|p| p.status.clone()));
    out["project_id"] = json!(project);
    out["last_pipeline"] = json!(last.map(|p| pipeline(state, p)));
    out
}

pub fn pipeline(state: &State, pipeline: &Pipeline) -> Value {
    let project = state.project(state.project_of_pipeline(pipeline.id));
    json!({
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": project.id,
        "sha": pipeline.sha,
        "ref": pipeline.ref_name,
        "status": state.pipeline_state(project.id, pipeline.id),
        "source": pipeline.source,
        "created_at": date(pipeline.created_at),
        "updated_at": date(pipeline.updated_at),
        "web_url": format!("{}/{}/-/pipelines/{}", state.base_url, project.path, pipeline.id),
    })
}

/// A pipeline on its own, and as a merge request's head pipeline.
pub fn pipeline_detail(state: &State, project: u64, of: &Pipeline) -> Value {
    let status = state.pipeline_state(project, of.id);
    let finished = !matches!(status.as_str(), "created" | "pending" | "running" | "manual");
    let more = json!({
        "before_sha": NO_SHA,
        "tag": false,
        "yaml_errors": null,
        "user": user_basic(state, of.user),
        "started_at": null,
        "finished_at": finished.then(|| date(of.updated_at)),
        "committed_at": null,
        "duration": null,
        "queued_duration": null,
        "coverage": null,
        "detailed_status": {"text": status, "label": status, "group": status},
    });
    joined(pipeline(state, of), more)
}

pub fn status(state: &State, status: &CommitStatus) -> Value {
    json!({
        "id": status.id,
        "sha": status.sha,
        "ref": status.ref_name,
        "status": status.status,
        "name": status.name,
        "target_url": status.target_url,
        "description": status.description,
        "created_at": date(status.created_at),
        "started_at": status.started_at.map(date),
        "finished_at": status.finished_at.map(date),
        "allow_failure": false,
        "coverage": null,
        "pipeline_id": status.pipeline,
        "author": user_basic(state, status.author),
    })
}

/// A hook; its secrets never come back.
pub fn hook(project: u64, hook: &Hook) -> Value {
    let mut out = json!({
        "id": hook.id,
        "url": hook.url,
        "name": hook.name,
        "description": hook.description,
        "created_at": date(hook.created_at),
        "project_id": project,
        "enable_ssl_verification": hook.ssl_verification,
        "alert_status": hook.status(),
        "disabled_until": hook.disabled_until.map(date),
        "url_variables": [],
        "push_events_branch_filter": null,
        "branch_filter_strategy": "wildcard",
        "custom_webhook_template": null,
        "custom_headers": [],
        "token_present": hook.token.is_some(),
        "signing_token_present": hook.signing_token.is_some(),
    });
    for kind in HOOK_EVENTS {
        out[kind] = json!(hook.events.contains(kind));
    }
    out
}

/// One line of a hook's history, the token redacted.
pub fn hook_event(state: &State, delivery: &Delivery, attempt: &Attempt) -> Value {
    let request = hooks::request(state, delivery.id, attempt.at);
    let secret = |name: &str| name.eq_ignore_ascii_case("X-Gitlab-Token");
    let headers = request.headers.iter().map(|(name, value)| {
        let shown = if secret(name) {
            "[REDACTED]"
        } else {
            value.as_str()
        };
        (name.clone(), json!(shown))
    });
    let answer = attempt
        .status
        .map_or("internal error".to_owned(), |status| status.to_string());
    json!({
        "id": attempt.log,
        "url": request.url,
        "trigger": delivery.event.to_lowercase().replace(' ', "_") + "s",
        "request_headers": serde_json::Map::from_iter(headers),
        "request_data": serde_json::from_str::<Value>(&delivery.body).expect("recorded as JSON"),
        "response_headers": {},
        "response_body": "",
        "execution_duration": attempt.took.as_secs_f64(),
        "response_status": answer,
        "created_at": date(attempt.at),
    })
}

/// One entry of who may, as protected branches and environments list it.
pub fn access(state: &State, access: &Access) -> Value {
    let words = match access.level {
        Some(0) => "No one".to_owned(),
        Some(30) => "Developers + Maintainers".to_owned(),
        Some(60) => "Administrators".to_owned(),
        _ => "Maintainers".to_owned(),
    };
    let user = access
        .user
        .and_then(|id| state.users.get(&id))
        .map(|user| user.name.clone());
    let group = access
        .group
        .and_then(|id| state.groups.get(&id))
        .map(|group| group.name.clone());
    json!({
        "id": access.id,
        "access_level": access.level.unwrap_or(MAINTAINER),
        "access_level_description": user.or(group).unwrap_or(words),
        "deploy_key_id": null,
        "user_id": access.user,
        "group_id": access.group,
    })
}

pub fn protection(state: &State, rule: &Protection) -> Value {
    let list = |entries: &[Access]| {
        entries
            .iter()
            .map(|entry| access(state, entry))
            .collect::<Vec<Value>>()
    };
    json!({
        "id": rule.id,
        "name": rule.name,
        "push_access_levels": list(&rule.push),
        "merge_access_levels": list(&rule.merge),
        "unprotect_access_levels": list(&rule.unprotect),
        "allow_force_push": rule.allow_force_push,
        "code_owner_approval_required": rule.code_owners,
        "inherited": false,
    })
}

pub fn push_event(state: &State, project: u64, push: &PushEvent) -> Value {
    let (verb, action) = if push.before == NO_SHA {
        ("pushed new", "created")
    } else if push.after == NO_SHA {
        ("deleted", "removed")
    } else {
        ("pushed to", "pushed")
    };
    let sha = |sha: &String| (sha != NO_SHA).then(|| sha.clone());
    json!({
        "id": push.id,
        "project_id": project,
        "action_name": verb,
        "target_id": null,
        "target_iid": null,
        "target_type": null,
        "author_id": push.user,
        "target_title": null,
        "created_at": date(push.at),
        "author": user_basic(state, push.user),
        "imported": false,
        "imported_from": "none",
        "push_data": {
            "commit_count": push.commits,
            "action": action,
            "ref_type": if push.tag { "tag" } else { "branch" },
            "commit_from": sha(&push.before),
            "commit_to": sha(&push.after),
            "ref": push.branch,
            "commit_title": push.title,
            "ref_count": null,
        },
        "author_username": state.users.get(&push.user).map(|user| user.username.clone()),
    })
}

pub fn branch(state: &State, project: u64, name: &str, user: u64) -> Value {
    let record = state.project(project);
    let sha = record.branches.get(name).expect("an existing branch");
    let tip = state.objects.get(sha).expect("a branch tip exists");
    let rules = state.protections(project, name);
    let open = |act: fn(&Protection) -> &Vec<Access>| {
        rules
            .iter()
            .any(|rule| act(rule).iter().any(|access| access.level == Some(DEVELOPER)))
    };
    json!({
        "name": name,
        "commit": commit(state, project, tip, true),
        "merged": state.branch_merged(project, name),
        "protected": !state.protections(project, name).is_empty(),
        "developers_can_push": open(|rule| &rule.push),
        "developers_can_merge": open(|rule| &rule.merge),
        "can_push": state.may_push_to(project, name, user),
        "default": record.default_branch == name,
        "web_url": format!("{}/{}/-/tree/{name}", state.base_url, record.path),
    })
}

/// `…/approvals` and the answer of `…/approve`.
pub fn approvals(state: &State, change: &MergeRequest) -> Value {
    let given: Vec<Value> = change
        .approvals
        .iter()
        .map(|(user, at)| json!({"user": user_basic(state, *user), "approved_at": date(*at)}))
        .collect();
    let required = state.project(change.project).settings.approvals_required;
    json!({
        "id": change.id,
        "iid": change.iid,
        "project_id": change.project,
        "title": change.title,
        "state": change.state,
        "created_at": date(change.created_at),
        "updated_at": date(change.updated_at),
        "merge_status": "can_be_merged",
        "approved": state.approved(change.project, change.iid) && (required > 0 || !given.is_empty()),
        "approvals_required": required,
        "approvals_left": required.saturating_sub(given.len()),
        "approved_by": given,
    })
}
