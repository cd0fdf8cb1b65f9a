//! The rules by which the fake GitLab changes: pushes, merge requests, merges, statuses, and the events each one raises.
//! It decides nothing about who may ask; `api.rs` does, the test side is always allowed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::hooks::fresh_uuid;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::repository::NO_SHA;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::state::CommitStatus;
use crate::support::forge::gitlab::state::Delivery;
use crate::support::forge::gitlab::state::Diff;
use crate::support::forge::gitlab::state::Fate;
use crate::support::forge::gitlab::state::HookMode;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::Pipeline;
use crate::support::forge::gitlab::state::PushEvent;
use crate::support::forge::gitlab::state::State;

/// What a status post carries besides its commit.
#[derive(Clone, Debug, Default)]
pub struct StatusPost {
    pub state: String,
    pub name: String,
    pub ref_name: Option<String>,
    pub target_url: Option<String>,
    pub description: Option<String>,
    pub pipeline: Option<u64>,
}

/// Why a status post was refused, in the order GitLab checks.
#[derive(Debug, PartialEq, Eq)]
pub enum StatusRefusal {
    /// `404 <what> Not Found`.
    NotFound(&'static str),
    /// The ref is protected against this user.
    Forbidden,
    /// A field is bad: its name and GitLab's words.
    Field(&'static str, &'static str),
    /// The state machine: event and present state.
    Transition(&'static str, String),
}

impl State {
    /// Makes a commit on a branch (creating branch and project history as needed) without any event.
    pub fn write_commit(&mut self, project: u64, branch: &str, new: &NewCommit) -> Sha {
        let parent = self.branch(project, branch).cloned();
        let sha = self.objects.commit(parent.as_deref(), new);
        self.set_branch(project, branch, &sha);
        sha
    }

    /// Points a branch somewhere and makes the commits nameable in the project and its merge request targets.
    pub fn set_branch(&mut self, project: u64, branch: &str, sha: &str) {
        assert!(
            self.objects.get(sha).is_some(),
            "branch {branch} cannot point to unknown commit {sha}"
        );
        self.adopt(project, sha);
        self.project_mut(project)
            .branches
            .insert(branch.to_owned(), sha.to_owned());
    }

    pub fn adopt(&mut self, project: u64, sha: &str) {
        let history = self.objects.history(sha);
        self.project_mut(project).objects.extend(history);
    }

    /// After a branch moved from `before`: records the push, raises the Push Hook, refreshes merge requests.
    pub fn pushed(&mut self, project: u64, branch: &str, before: Option<&str>, user: u64) {
        let after = self.branch(project, branch).cloned();
        let fresh = match (&after, before) {
            (Some(after), Some(before)) => self.objects.range(Some(before), after),
            (Some(after), None) => {
                let default = self.project(project).default_branch.clone();
                let known = if default == branch {
                    None
                } else {
                    self.branch(project, &default).cloned()
                };
                self.objects.range(known.as_deref(), after)
            }
            (None, _) => Vec::new(),
        };
        let id = self.fresh_id();
        let title = after
            .as_ref()
            .and_then(|sha| self.objects.get(sha))
            .map_or("", |c| c.title())
            .to_owned();
        let event = PushEvent {
            id,
            user,
            branch: branch.to_owned(),
            tag: false,
            before: before.unwrap_or(NO_SHA).to_owned(),
            after: after.clone().unwrap_or_else(|| NO_SHA.to_owned()),
            commits: fresh.len(),
            title,
            at: Timestamp::now(),
        };
        let body = payloads::push_hook(self, project, &event, &fresh, user);
        self.project_mut(project).pushes.push(event);
        self.raise(project, "Push Hook", "push_events", &body);
        if let Some(after) = after {
            self.refresh_sources(project, branch, before, &after, user);
            self.refresh_targets(project, branch, &fresh, &after, user);
        }
    }

    /// Open merge requests whose source branch moved get a new head and diff, lose approvals and auto-merge.
    fn refresh_sources(&mut self, project: u64, branch: &str, before: Option<&str>, after: &str, user: u64) {
        for (target, iid) in self.open_changes(|m| m.source_project == project && m.source_branch == branch) {
            self.adopt(target, after);
            let change = self.change_mut(target, iid);
            change.head = after.to_owned();
            change.auto_merge = None;
            self.recompute(target, iid);
            self.touch(target, iid);
            self.raise_change(target, iid, "update", user, before, json!({}));
            self.reset_approvals(target, iid, user);
        }
    }

    pub fn open_changes(&self, wanted: impl Fn(&MergeRequest) -> bool) -> Vec<(u64, u64)> {
        let all = self
            .projects
            .values()
            .flat_map(|project| project.merge_requests.values());
        all.filter(|m| m.state == "opened" && wanted(m))
            .map(|m| (m.project, m.iid))
            .collect()
    }

    /// Sets `updated_at`; never to the same instant twice.
    pub fn touch(&mut self, project: u64, iid: u64) {
        let change = self.change_mut(project, iid);
        change.updated_at = Timestamp::now().max(change.updated_at + jiff::SignedDuration::from_millis(1));
    }

    /// Opens a merge request and raises its hook.
    pub fn open_change(
        &mut self,
        project: u64,
        source: (u64, &str),
        target_branch: &str,
        title: &str,
        author: u64,
    ) -> u64 {
        let head = self
            .branch(source.0, source.1)
            .unwrap_or_else(|| panic!("no branch {}", source.1))
            .clone();
        assert!(
            self.branch(project, target_branch).is_some(),
            "no target branch {target_branch}"
        );
        self.adopt(project, &head);
        let diff = self.diff_of(project, target_branch, &head);
        let iid = self
            .project(project)
            .merge_requests
            .keys()
            .next_back()
            .map_or(1, |last| last + 1);
        let now = Timestamp::now();
        let held = self.project(project).hold_preparation;
        let id = self.fresh_id();
        let change = MergeRequest {
            id,
            iid,
            project,
            source_project: source.0,
            title: title.to_owned(),
            description: String::new(),
            state: "opened".to_owned(),
            author,
            source_branch: source.1.to_owned(),
            target_branch: target_branch.to_owned(),
            head,
            diff,
            created_at: now,
            updated_at: now,
            prepared_at: (!held).then_some(now),
            merged_by: None,
            merged_at: None,
            closed_by: None,
            closed_at: None,
            merge_commit_sha: None,
            squash_commit_sha: None,
            squash: false,
            merge_error: None,
            unresolved: 0,
            approvals: Vec::new(),
            check_responses: Vec::new(),
            auto_merge: None,
            forced_status: None,
            forced_count: None,
            collapsed: BTreeSet::new(),
        };
        self.project_mut(project).merge_requests.insert(iid, change);
        self.raise_change(project, iid, "open", author, None, json!({}));
        iid
    }

    /// Changes the target branch. The hook's `changes` names only `merge_status`, as real ones have been seen to.
    pub fn retarget(&mut self, project: u64, iid: u64, target: &str, user: u64) {
        self.change_mut(project, iid).target_branch = target.to_owned();
        self.recompute(project, iid);
        self.touch(project, iid);
        let seen = json!({"merge_status": {"previous": "can_be_merged", "current": "unchecked"}});
        self.raise_change(project, iid, "update", user, None, seen);
    }

    /// Changes the title, and with it perhaps the draft state.
    pub fn retitle(&mut self, project: u64, iid: u64, title: &str, user: u64) {
        let change = self.change_mut(project, iid);
        let was_draft = change.draft();
        let previous = std::mem::replace(&mut change.title, title.to_owned());
        let draft = change.draft();
        let mut changes = json!({"title": {"previous": previous, "current": title}});
        if was_draft != draft {
            changes["draft"] = json!({"previous": was_draft, "current": draft});
        }
        self.touch(project, iid);
        self.raise_change(project, iid, "update", user, None, changes);
    }

    /// Closes without merging.
    pub fn close(&mut self, project: u64, iid: u64, user: u64) {
        let change = self.change_mut(project, iid);
        assert_eq!(change.state, "opened", "only an open merge request can be closed");
        change.state = "closed".to_owned();
        change.closed_by = Some(user);
        change.closed_at = Some(Timestamp::now());
        change.auto_merge = None;
        self.touch(project, iid);
        let flip = json!({"state_id": {"previous": 1, "current": 2}});
        self.raise_change(project, iid, "close", user, None, flip);
    }

    /// Opens a closed one again; its head and diff are those of the branches now.
    pub fn reopen(&mut self, project: u64, iid: u64, user: u64) {
        let change = self.change(project, iid);
        assert_eq!(
            change.state, "closed",
            "only a closed merge request can be reopened"
        );
        let head = self.branch(change.source_project, &change.source_branch).cloned();
        let change = self.change_mut(project, iid);
        change.state = "opened".to_owned();
        change.closed_by = None;
        change.closed_at = None;
        change.head = head.unwrap_or_else(|| change.head.clone());
        self.recompute(project, iid);
        self.touch(project, iid);
        let flip = json!({"state_id": {"previous": 2, "current": 1}});
        self.raise_change(project, iid, "reopen", user, None, flip);
    }

    /// Recomputes the stored diff against the target branch as it is now.
    pub fn recompute(&mut self, project: u64, iid: u64) {
        let change = self.change(project, iid);
        let (target, head) = (change.target_branch.clone(), change.head.clone());
        let diff = self.diff_of(project, &target, &head);
        self.change_mut(project, iid).diff = diff;
    }

    fn diff_of(&self, project: u64, target_branch: &str, head: &str) -> Diff {
        let start = self
            .branch(project, target_branch)
            .expect("a target branch that exists")
            .clone();
        let base = self.objects.merge_base(&start, head);
        let mut files = self.objects.diff(base.as_deref(), head);
        let (mut lines, mut kept) = (0, 0);
        for file in &files {
            lines += file.lines();
            if kept >= self.max_files || lines > self.max_lines {
                break;
            }
            kept += 1;
        }
        let overflow = kept < files.len();
        files.truncate(kept);
        let commits = self.objects.range(Some(&start), head);
        Diff {
            base: base.unwrap_or_else(|| start.clone()),
            start,
            head: head.to_owned(),
            commits,
            files,
            overflow,
        }
    }

    /// GitLab's `detailed_merge_status`, in the order of its checks.
    pub fn detailed_status(&self, project: u64, iid: u64) -> String {
        let change = self.change(project, iid);
        if let Some(forced) = &change.forced_status {
            return forced.clone();
        }
        let settings = &self.project(project).settings;
        let target = self.branch(project, &change.target_branch);
        let found = if change.state != "opened" {
            "not_open"
        } else if change.prepared_at.is_none() {
            "preparing"
        } else if change.diff.commits.is_empty() || target.is_none() {
            "commits_status"
        } else if change.draft() {
            "draft_status"
        } else if settings.only_allow_merge_if_all_discussions_are_resolved && change.unresolved > 0 {
            "discussions_not_resolved"
        } else if !self.approved(project, iid) {
            "not_approved"
        } else if self.checks_block(change) {
            "status_checks_must_pass"
        } else if settings.only_allow_merge_if_pipeline_succeeds {
            match self
                .head_pipeline(project, iid)
                .map(|p| self.pipeline_state(p_project(p, change, project), p.id))
            {
                Some(state) if state == "success" => self.tree_status(project, iid),
                Some(state) if state == "skipped" && settings.allow_merge_on_skipped_pipeline => {
                    self.tree_status(project, iid)
                }
                Some(state) if state == "running" || state == "pending" || state == "created" => {
                    "ci_still_running"
                }
                _ => "ci_must_pass",
            }
        } else {
            self.tree_status(project, iid)
        };
        found.to_owned()
    }

    /// Removes a branch and tells it as a push to all zeros.
    pub fn delete_branch(&mut self, project: u64, branch: &str, user: u64) {
        let before = self
            .project_mut(project)
            .branches
            .remove(branch)
            .expect("a branch that exists");
        self.pushed(project, branch, Some(&before), user);
    }

    /// Merges every change whose auto-merge has become possible.
    pub fn run_auto_merges(&mut self) {
        for (project, iid) in self.open_changes(|m| m.auto_merge.is_some()) {
            let change = self.change(project, iid);
            let Some((user, sha)) = change.auto_merge.clone() else {
                continue;
            };
            if sha == change.head && self.detailed_status(project, iid) == "mergeable" {
                self.merge(project, iid, user, &MergeWish::default())
                    .expect("a mergeable change");
            }
        }
    }

    /// A commit by its id, an unambiguous prefix of seven or more digits, a tag or a branch; tags win, as in git.
    pub fn find_commit(&self, project: u64, name: &str) -> Option<Sha> {
        let known = self.project(project);
        if known.objects.contains(name) {
            return Some(name.to_owned());
        }
        let named = known.tags.get(name).or_else(|| known.branches.get(name)).cloned();
        let named = named.or_else(|| known.branches.get(name.strip_prefix("refs/heads/")?).cloned());
        let named = named.or_else(|| known.tags.get(name.strip_prefix("refs/tags/")?).cloned());
        named.or_else(|| {
            let short = name.len() >= 7 && name.bytes().all(|b| b.is_ascii_hexdigit());
            let mut found = known.objects.iter().filter(|sha| short && sha.starts_with(name));
            match (found.next(), found.next()) {
                (Some(only), None) => Some(only.clone()),
                _ => None,
            }
        })
    }

    /// Branches that contain the commit.
    pub fn branches_with(&self, project: u64, sha: &str) -> Vec<String> {
        let branches = self.project(project).branches.iter();
        branches
            .filter(|(_, tip)| self.objects.is_ancestor(sha, tip))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The newest pipeline of the commit, optionally of one ref or one id.
    fn matching_pipeline(&self, project: u64, sha: &str, post: &StatusPost) -> Option<&Pipeline> {
        let all = self.project(project).pipelines.iter().filter(|p| p.sha == sha);
        all.filter(|p| post.ref_name.as_deref().is_none_or(|name| p.ref_name == name))
            .filter(|p| post.pipeline.is_none_or(|id| p.id == id))
            .max_by_key(|p| p.id)
    }

    /// Posts a commit status as GitLab's `Ci::CreateCommitStatusService` does.
    pub fn post_status(
        &mut self,
        project: u64,
        name: &str,
        user: u64,
        post: &StatusPost,
    ) -> Result<u64, StatusRefusal> {
        let sha = self
            .find_commit(project, name)
            .ok_or(StatusRefusal::NotFound("Commit"))?;
        let existing = self
            .matching_pipeline(project, &sha, post)
            .map(|p| (p.id, p.ref_name.clone()));
        let ref_name = post
            .ref_name
            .clone()
            .or_else(|| existing.as_ref().map(|(_, name)| name.clone()))
            .or_else(|| self.branches_with(project, &sha).into_iter().next())
            .ok_or(StatusRefusal::NotFound("References for commit"))?;
        if post.pipeline.is_some() && existing.is_none() {
            return Err(StatusRefusal::NotFound("Pipeline for pipeline_id, sha and ref"));
        }
        let guarded = !self.protections(project, &ref_name).is_empty();
        if guarded && !self.may_merge_into(project, &ref_name, user) {
            return Err(StatusRefusal::Forbidden);
        }
        check_fields(post)?;
        let pipeline = existing.map(|(id, _)| id);
        let active = self.project(project).statuses.iter().find(|s| {
            Some(s.pipeline) == pipeline
                && s.name == post.name
                && s.ref_name == ref_name
                && s.author == user
                && (s.status == "pending" || s.status == "running")
        });
        let present = active.map_or("created", |s| s.status.as_str());
        let state = next_state(present, &post.state)?;
        let reused = active.map(|s| s.id);
        let pipeline =
            pipeline.unwrap_or_else(|| self.new_pipeline(project, &sha, &ref_name, "external", user, None));
        let id = reused.unwrap_or_else(|| self.fresh_id());
        let written = self.fresh_id();
        let now = Timestamp::now();
        let statuses = &mut self.project_mut(project).statuses;
        if reused.is_none() {
            for older in statuses
                .iter_mut()
                .filter(|s| s.pipeline == pipeline && s.name == post.name)
            {
                older.retried = true;
            }
            statuses.push(CommitStatus {
                id,
                project,
                sha: sha.clone(),
                ref_name,
                name: post.name.clone(),
                status: String::new(),
                target_url: None,
                description: None,
                author: user,
                pipeline,
                retried: false,
                created_at: now,
                started_at: None,
                finished_at: None,
                written,
            });
        }
        let record = statuses
            .iter_mut()
            .find(|s| s.id == id)
            .expect("found or just made");
        record.status = state.to_owned();
        record.written = written;
        record.target_url = post.target_url.clone().or(record.target_url.take());
        record.description = post.description.clone().or(record.description.take());
        match state {
            "running" => record.started_at = Some(now),
            "pending" => {}
            _ => record.finished_at = Some(now),
        }
        self.touch_pipeline(project, pipeline);
        if state == "success" {
            self.successes.push((project, sha, post.name.clone()));
        }
        self.settle_pipeline(project, pipeline, user);
        Ok(id)
    }

    /// A new pipeline; `own` is the state of its CI jobs.
    pub fn new_pipeline(
        &mut self,
        project: u64,
        sha: &str,
        ref_name: &str,
        source: &str,
        user: u64,
        own: Option<&str>,
    ) -> u64 {
        let id = self.fresh_id();
        let now = Timestamp::now();
        let iid = self.project(project).pipelines.len() as u64 + 1;
        self.project_mut(project).pipelines.push(Pipeline {
            id,
            iid,
            sha: sha.to_owned(),
            ref_name: ref_name.to_owned(),
            source_sha: None,
            source: source.to_owned(),
            user,
            own: own.map(str::to_owned),
            status: "created".to_owned(),
            created_at: now,
            updated_at: now,
        });
        id
    }

    /// Moves a pipeline's `updated_at`; never to the same instant twice.
    pub fn touch_pipeline(&mut self, project: u64, pipeline: u64) {
        let mut all = self.project_mut(project).pipelines.iter_mut();
        let record = all.find(|p| p.id == pipeline).expect("a pipeline that exists");
        record.updated_at = Timestamp::now().max(record.updated_at + jiff::SignedDuration::from_millis(1));
    }

    /// Tells a pipeline's change of state and lets waiting auto-merges run.
    pub fn settle_pipeline(&mut self, project: u64, pipeline: u64, user: u64) {
        let state = self.pipeline_state(project, pipeline);
        let found = self
            .project_mut(project)
            .pipelines
            .iter_mut()
            .find(|p| p.id == pipeline);
        let record = found.expect("a pipeline that exists");
        if record.status != state {
            record.status = state;
            self.touch_pipeline(project, pipeline);
            let body = payloads::pipeline_hook(self, project, pipeline, user);
            self.raise(project, "Pipeline Hook", "pipeline_events", &body);
        }
        self.run_auto_merges();
    }

    /// Raises a Merge Request Hook.
    pub fn raise_change(
        &mut self,
        project: u64,
        iid: u64,
        action: &str,
        user: u64,
        oldrev: Option<&str>,
        changes: Value,
    ) {
        let body = payloads::merge_request_hook(self, project, iid, action, user, oldrev, changes);
        self.raise(project, "Merge Request Hook", "merge_requests_events", &body);
        self.tell_checks(project, iid, &body);
    }

    /// The same for what GitLab did by itself after somebody's act.
    pub fn raise_system_change(&mut self, project: u64, iid: u64, action: &str, user: u64, why: &str) {
        let mut body = payloads::merge_request_hook(self, project, iid, action, user, None, json!({}));
        body["object_attributes"]["system"] = json!(true);
        body["object_attributes"]["system_action"] = json!(why);
        self.raise(project, "Merge Request Hook", "merge_requests_events", &body);
    }

    /// Makes one delivery for each hook of the project that listens; the caller's unlock sends them.
    pub fn raise(&mut self, project: u64, event: &str, kind: &str, body: &Value) {
        let event_uuid = fresh_uuid();
        let own = self.project(project).hooks.iter();
        let hooks = own
            .chain(&self.system_hooks)
            .filter(|hook| hook.events.contains(kind));
        let hooks: Vec<(u64, bool)> = hooks.map(|h| (h.id, h.status() == "executable")).collect();
        for (hook, executable) in hooks {
            let fate = match self.hook_mode {
                HookMode::On if executable => Fate::Sent,
                HookMode::Hold if executable => Fate::Held,
                _ => Fate::Lost,
            };
            let id = self.fresh_id();
            self.deliveries.insert(
                id,
                Delivery {
                    id,
                    project,
                    hook,
                    event: event.to_owned(),
                    key: fresh_uuid(),
                    event_uuid: event_uuid.clone(),
                    body: body.to_string(),
                    fate,
                    attempts: Vec::new(),
                    at: Timestamp::now(),
                },
            );
            if fate == Fate::Sent {
                self.outbox.push(id);
            }
        }
    }
}

/// A fork's pipelines live in the fork.
fn p_project(pipeline: &Pipeline, change: &MergeRequest, project: u64) -> u64 {
    if pipeline.ref_name.starts_with("refs/merge-requests/") {
        project
    } else {
        change.source_project
    }
}

/// GitLab's model checks, in the words of its errors.
fn check_fields(post: &StatusPost) -> Result<(), StatusRefusal> {
    let long = |text: &str| text.chars().count() > 255;
    const TOO_LONG: &str = "is too long (maximum is 255 characters)";
    if long(&post.name) {
        return Err(StatusRefusal::Field("name", TOO_LONG));
    }
    if post.description.as_deref().is_some_and(long) {
        return Err(StatusRefusal::Field("description", TOO_LONG));
    }
    if let Some(address) = &post.target_url {
        if long(address) {
            return Err(StatusRefusal::Field("target_url", TOO_LONG));
        }
        match url::Url::parse(address) {
            Err(_) => return Err(StatusRefusal::Field("target_url", "is blocked: URI is invalid")),
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
                return Err(StatusRefusal::Field(
                    "target_url",
                    "is blocked: Only allowed schemes are http, https",
                ));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// GitLab's `CommitStatus` state machine for what the API may ask.
fn next_state<'a>(present: &str, asked: &'a str) -> Result<&'a str, StatusRefusal> {
    let (event, from): (&'static str, &[&str]) = match asked {
        "pending" => ("enqueue", &["created"]),
        // GitLab first tries to enqueue a new one, quietly, and then runs it.
        "running" => ("run", &["created", "pending"]),
        "success" => ("success", &["created", "pending", "running"]),
        "failed" => ("drop", &["created", "pending", "running"]),
        "canceled" => ("cancel", &["created", "pending", "running"]),
        _ => ("skip", &["created", "pending"]),
    };
    if from.contains(&present) {
        Ok(asked)
    } else {
        Err(StatusRefusal::Transition(event, present.to_owned()))
    }
}
