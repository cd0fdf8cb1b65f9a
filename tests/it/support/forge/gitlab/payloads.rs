//! Webhook bodies in GitLab's shape, with its odder habits: redacted e-mails of users, two date styles, at most twenty commits.
//! It reads the state and changes nothing.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::jobs;
use crate::support::forge::gitlab::repository::NO_SHA;
use crate::support::forge::gitlab::state::Project;
use crate::support::forge::gitlab::state::PushEvent;
use crate::support::forge::gitlab::state::State;

/// A date as most of a hook writes it.
pub fn hook_date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn rfc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn project_json(state: &State, project: &Project) -> Value {
    let web = format!("{}/{}", state.base_url, project.path);
    let (space, name) = project.path.rsplit_once('/').unwrap_or(("", &project.path));
    json!({
        "id": project.id,
        "name": name,
        "description": null,
        "web_url": web,
        "avatar_url": null,
        "git_ssh_url": format!("git@gitlab.example.com:{}.git", project.path),
        "git_http_url": format!("{web}.git"),
        "namespace": space,
        "visibility_level": 0,
        "path_with_namespace": project.path,
        "default_branch": project.default_branch,
        "ci_config_path": null,
        "homepage": web,
        "url": format!("git@gitlab.example.com:{}.git", project.path),
        "ssh_url": format!("git@gitlab.example.com:{}.git", project.path),
        "http_url": format!("{web}.git"),
    })
}

fn repository_json(state: &State, project: &Project) -> Value {
    let web = format!("{}/{}", state.base_url, project.path);
    let name = project.path.rsplit('/').next().unwrap_or(&project.path);
    json!({
        "name": name,
        "url": format!("git@gitlab.example.com:{}.git", project.path),
        "description": null,
        "homepage": web,
    })
}

/// A person as hooks tell them.
pub fn user_json(state: &State, user: u64) -> Value {
    let user = state.users.get(&user).expect("hooks name existing users");
    json!({"id": user.id, "name": user.name, "username": user.username, "avatar_url": null, "email": "[REDACTED]"})
}

/// Two objects as one; a single `json!` of GitLab's size exceeds the compiler's recursion limit.
pub fn joined(mut first: Value, second: Value) -> Value {
    let both = (first.as_object_mut(), second);
    let (Some(into), Value::Object(more)) = both else {
        panic!("both are objects")
    };
    into.extend(more);
    first
}

/// Merge Request Hook.
pub fn merge_request_hook(
    state: &State,
    project: u64,
    iid: u64,
    action: &str,
    user: u64,
    oldrev: Option<&str>,
    changes: Value,
) -> Value {
    let change = state.change(project, iid);
    let target = state.project(project);
    let source = state.projects.get(&change.source_project);
    let commit = state.objects.get(&change.head).expect("a head that exists");
    let status = state.detailed_status(project, iid);
    let mergeable = if status == "mergeable" {
        "can_be_merged"
    } else {
        "unchecked"
    };
    let web = format!("{}/{}", state.base_url, target.path);
    let state_id = match change.state.as_str() {
        "opened" => 1,
        "closed" => 2,
        _ => 3,
    };
    let attributes = json!({
        "assignee_id": null,
        "author_id": change.author,
        "created_at": hook_date(change.created_at),
        "description": change.description,
        "draft": change.draft(),
        "head_pipeline_id": state.head_pipeline(project, iid).map(|p| p.id),
        "id": change.id,
        "iid": iid,
        "last_edited_at": null,
        "last_edited_by_id": null,
        "merge_commit_sha": change.merge_commit_sha,
        "merge_error": null,
        "merge_params": {"force_remove_source_branch": "0"},
        "merge_status": mergeable,
        "merge_user_id": change.merged_by,
        "merge_when_pipeline_succeeds": change.auto_merge.is_some(),
        "milestone_id": null,
        "source_branch": change.source_branch,
        "source_project_id": change.source_project,
        "state_id": state_id,
        "target_branch": change.target_branch,
        "target_project_id": project,
        "time_estimate": 0,
        "title": change.title,
        "updated_at": hook_date(change.updated_at),
        "updated_by_id": null,
        "prepared_at": change.prepared_at.map(hook_date),
    });
    let more = json!({
        "assignee_ids": [],
        "blocking_discussions_resolved": true,
        "detailed_merge_status": status,
        "first_contribution": false,
        "human_time_change": null,
        "human_time_estimate": null,
        "human_total_time_spent": null,
        "labels": [],
        "last_commit": {
            "id": commit.sha,
            "message": commit.message,
            "title": commit.title(),
            "timestamp": rfc(commit.at),
            "url": format!("{web}/-/commit/{}", commit.sha),
            "author": {"name": commit.author.name, "email": commit.author.email},
        },
        "reviewer_ids": [],
        "source": source.map(|project| project_json(state, project)),
        "state": change.state,
        "system": false,
        "target": project_json(state, target),
        "time_change": 0,
        "total_time_spent": 0,
        "url": format!("{web}/-/merge_requests/{iid}"),
        "work_in_progress": change.draft(),
        "approval_rules": [],
        "action": action,
    });
    let mut attributes = joined(attributes, more);
    if let Some(oldrev) = oldrev {
        attributes["oldrev"] = json!(oldrev);
    }
    json!({
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": user_json(state, user),
        "project": project_json(state, target),
        "object_attributes": attributes,
        "labels": [],
        "changes": changes,
        "repository": repository_json(state, target),
    })
}

/// Push Hook; `fresh` are the pushed commits, newest first.
pub fn push_hook(state: &State, project: u64, push: &PushEvent, fresh: &[String], user: u64) -> Value {
    let record = state.project(project);
    let person = state.users.get(&user).expect("hooks name existing users");
    let web = format!("{}/{}", state.base_url, record.path);
    let commits: Vec<Value> = fresh
        .iter()
        .take(20)
        .rev()
        .filter_map(|sha| state.objects.get(sha))
        .map(|commit| {
            let parent = commit.parents.first().map(String::as_str);
            let files = state.objects.diff(parent, &commit.sha);
            let list = |wanted: fn(&(bool, bool)) -> bool| -> Vec<&str> {
                let kept = files
                    .iter()
                    .filter(|f| wanted(&(f.new_file || f.renamed_file, f.deleted_file)));
                kept.map(|f| f.new_path.as_str()).collect()
            };
            let gone: Vec<&str> = files
                .iter()
                .filter(|f| f.deleted_file || f.renamed_file)
                .map(|f| f.old_path.as_str())
                .collect();
            json!({
                "id": commit.sha,
                "message": commit.message,
                "title": commit.title(),
                "timestamp": rfc(commit.at),
                "url": format!("{web}/-/commit/{}", commit.sha),
                "author": {"name": commit.author.name, "email": commit.author.email},
                "added": list(|(new, _)| *new),
                "modified": list(|(new, gone)| !new && !gone),
                "removed": gone,
            })
        })
        .collect();
    json!({
        "object_kind": if push.tag { "tag_push" } else { "push" },
        "event_name": if push.tag { "tag_push" } else { "push" },
        "before": push.before,
        "after": push.after,
        "ref": format!("refs/{}/{}", if push.tag { "tags" } else { "heads" }, push.branch),
        "ref_protected": !state.protections(project, &push.branch).is_empty(),
        "checkout_sha": (push.after != NO_SHA).then_some(&push.after),
        "message": null,
        "user_id": user,
        "user_name": person.name,
        "user_username": person.username,
        "user_email": "",
        "user_avatar": null,
        "project_id": project,
        "project": project_json(state, record),
        "commits": commits,
        "total_commits_count": push.commits,
        "push_options": {},
        "repository": {
            "name": record.path.rsplit('/').next(),
            "url": format!("git@gitlab.example.com:{}.git", record.path),
            "description": null,
            "homepage": web,
            "git_http_url": format!("{web}.git"),
            "git_ssh_url": format!("git@gitlab.example.com:{}.git", record.path),
            "visibility_level": 0,
        },
    })
}

/// Pipeline Hook. External statuses are no builds, so GitLab lists none of them here.
pub fn pipeline_hook(state: &State, project: u64, pipeline: u64, user: u64) -> Value {
    let record = state.project(project);
    let pipeline = record
        .pipelines
        .iter()
        .find(|p| p.id == pipeline)
        .expect("a pipeline that exists");
    let commit = state
        .objects
        .get(&pipeline.sha)
        .expect("a pipeline's commit exists");
    let web = format!("{}/{}", state.base_url, record.path);
    let finished = !matches!(
        pipeline.status.as_str(),
        "created" | "pending" | "running" | "manual"
    );
    let jobs = record
        .jobs
        .iter()
        .filter(|job| job.pipeline == pipeline.id && !job.retried);
    let builds: Vec<Value> = jobs.map(|job| jobs::build(state, job)).collect();
    let change = record.merge_requests.values().find(|m| {
        m.state == "opened"
            && m.head == pipeline.sha
            && pipeline.ref_name == format!("refs/merge-requests/{}/head", m.iid)
    });
    json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "name": null,
            "ref": pipeline.ref_name,
            "tag": false,
            "sha": pipeline.sha,
            "before_sha": NO_SHA,
            "source": pipeline.source,
            "status": pipeline.status,
            "detailed_status": pipeline.status,
            "stages": ["external"],
            "created_at": hook_date(pipeline.created_at),
            "finished_at": finished.then(|| hook_date(pipeline.updated_at)),
            "duration": null,
            "queued_duration": null,
            "variables": [],
            "url": format!("{web}/-/pipelines/{}", pipeline.id),
        },
        "merge_request": change.map(|m| json!({
            "id": m.id,
            "iid": m.iid,
            "title": m.title,
            "source_branch": m.source_branch,
            "source_project_id": m.source_project,
            "target_branch": m.target_branch,
            "target_project_id": m.project,
            "state": m.state,
            "merge_status": "can_be_merged",
            "detailed_merge_status": state.detailed_status(project, m.iid),
            "url": format!("{web}/-/merge_requests/{}", m.iid),
        })),
        "user": user_json(state, user),
        "project": project_json(state, record),
        "commit": {
            "id": commit.sha,
            "message": commit.message,
            "title": commit.title(),
            "timestamp": rfc(commit.at),
            "url": format!("{web}/-/commit/{}", commit.sha),
            "author": {"name": commit.author.name, "email": commit.author.email},
        },
        "builds": builds,
    })
}

/// Job Hook, whose object kind is still `build`.
pub fn job_hook(state: &State, project: u64, job: u64) -> Value {
    let record = state.project(project);
    let job = state.job(project, job);
    let pipeline = state.pipeline(project, job.pipeline);
    let commit = state
        .objects
        .get(&pipeline.sha)
        .expect("a pipeline's commit exists");
    json!({
        "object_kind": "build",
        "ref": pipeline.ref_name,
        "tag": false,
        "before_sha": NO_SHA,
        "sha": pipeline.sha,
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": job.stage,
        "build_status": job.status,
        "build_created_at": hook_date(job.created_at),
        "build_started_at": job.started_at.map(hook_date),
        "build_finished_at": job.finished_at.map(hook_date),
        "build_duration": null,
        "build_allow_failure": job.allow_failure,
        "build_failure_reason": job.failure.as_deref().unwrap_or("unknown_failure"),
        "pipeline_id": pipeline.id,
        "project_id": project,
        "project_name": record.path.replace('/', " / "),
        "user": user_json(state, job.user),
        "commit": {
            "id": pipeline.id,
            "name": null,
            "sha": commit.sha,
            "message": commit.message,
            "author_name": commit.author.name,
            "author_email": commit.author.email,
            "status": pipeline.status,
            "duration": null,
            "started_at": null,
            "finished_at": null,
        },
        "project": project_json(state, record),
        "repository": repository_json(state, record),
        "environment": jobs::build(state, job)["environment"],
    })
}

/// Deployment Hook.
pub fn deployment_hook(state: &State, project: u64, deployment: u64) -> Value {
    let record = state.project(project);
    let found = record.deployments.iter().find(|it| it.id == deployment);
    let of = found.expect("a deployment that exists");
    let job = state.job(project, of.job);
    let environment = state.environment(project, of.environment);
    let commit = state.objects.get(&of.sha).expect("a deployment's commit exists");
    let web = format!("{}/{}", state.base_url, record.path);
    json!({
        "object_kind": "deployment",
        "status": of.status,
        "status_changed_at": of.updated_at.strftime("%Y-%m-%d %H:%M:%S +0000").to_string(),
        "deployment_id": of.id,
        "deployable_id": job.id,
        "deployable_url": format!("{web}/-/jobs/{}", job.id),
        "environment": environment.name,
        "environment_tier": environment.tier,
        "environment_slug": environment.name,
        "environment_external_url": null,
        "project": project_json(state, record),
        "short_sha": &of.sha[..8],
        "user": user_json(state, job.user),
        "user_url": format!("{}/{}", state.base_url, job.user),
        "commit_url": format!("{web}/-/commit/{}", of.sha),
        "commit_title": commit.title(),
        "ref": of.ref_name,
    })
}
