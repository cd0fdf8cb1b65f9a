//! What the fake GitLab knows: people, tokens, projects, merge requests, statuses, hooks, faults and the call log.
//! Pure bookkeeping: no sockets, no JSON; the rules of change are in `changes.rs`, the answers in `api.rs`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;

use crate::support::forge::gitlab::approvals::ApprovalRule;
use crate::support::forge::gitlab::checks::CheckResponse;
use crate::support::forge::gitlab::checks::StatusCheck;
use crate::support::forge::gitlab::deployments::Deployment;
use crate::support::forge::gitlab::deployments::Environment;
use crate::support::forge::gitlab::deployments::ProtectedEnvironment;
use crate::support::forge::gitlab::faults::Fault;
use crate::support::forge::gitlab::jobs::Job;
use crate::support::forge::gitlab::limits::Limit;
use crate::support::forge::gitlab::limits::Quiet;
use crate::support::forge::gitlab::repository::FileDiff;
use crate::support::forge::gitlab::repository::Objects;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::trains::Car;

/// Access levels as GitLab numbers them.
pub const GUEST: u64 = 10;
pub const REPORTER: u64 = 20;
pub const DEVELOPER: u64 = 30;
pub const MAINTAINER: u64 = 40;
pub const OWNER: u64 = 50;

/// What an instance is licensed for. It decides which parts of the API answer, and which rules hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    #[default]
    Free,
    Premium,
    Ultimate,
}

/// A person or a bot.
#[derive(Clone, Debug)]
pub struct User {
    pub id: u64,
    pub username: String,
    pub name: String,
    pub email: String,
    pub admin: bool,
    pub bot: bool,
    pub created_at: Timestamp,
    /// Its own words about itself; only itself sets them (`PUT /user/status`).
    pub status_message: Option<String>,
}

/// An access token; `secret` is what stands in the request header.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: u64,
    pub secret: String,
    pub user: u64,
    pub scopes: Vec<String>,
    pub revoked: bool,
    /// `YYYY-MM-DD`.
    pub expires_on: String,
    pub expired: bool,
    pub created_at: Timestamp,
}

/// One entry of who may: a role from a level on, a user, or a group.
#[derive(Clone, Debug)]
pub struct Access {
    pub id: u64,
    /// 0: no one.
    pub level: Option<u64>,
    pub user: Option<u64>,
    pub group: Option<u64>,
}

/// A group that rules can name.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: u64,
    pub name: String,
    pub members: BTreeSet<u64>,
}

/// Whose push, merge and unprotecting a protected branch accepts; several entries, users and groups are Premium.
#[derive(Clone, Debug)]
pub struct Protection {
    pub id: u64,
    /// A name or a `*` wildcard.
    pub name: String,
    pub push: Vec<Access>,
    pub merge: Vec<Access>,
    /// Empty: every Maintainer.
    pub unprotect: Vec<Access>,
    pub allow_force_push: bool,
    pub code_owners: bool,
}

/// The settings of a project that decide over a merge.
#[derive(Clone, Debug)]
pub struct Settings {
    pub only_allow_merge_if_pipeline_succeeds: bool,
    pub allow_merge_on_skipped_pipeline: bool,
    pub only_allow_merge_if_all_discussions_are_resolved: bool,
    /// Ultimate.
    pub only_allow_merge_if_all_status_checks_passed: bool,
    /// `merge`, `rebase_merge` or `ff`.
    pub merge_method: String,
    /// `never`, `always`, `default_on` or `default_off`.
    pub squash_option: String,
    /// This one and the next four are Premium.
    pub reset_approvals_on_push: bool,
    pub merge_requests_author_approval: bool,
    pub merge_requests_disable_committers_approval: bool,
    pub disable_overriding_approvers_per_merge_request: bool,
    pub require_password_to_approve: bool,
    /// Approvals a merge needs; 0 on Free.
    pub approvals_required: usize,
    /// Whose approvals count; empty: anybody's.
    pub approvers: Vec<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            only_allow_merge_if_pipeline_succeeds: false,
            allow_merge_on_skipped_pipeline: false,
            only_allow_merge_if_all_discussions_are_resolved: false,
            only_allow_merge_if_all_status_checks_passed: false,
            merge_method: "merge".to_owned(),
            squash_option: "default_off".to_owned(),
            reset_approvals_on_push: true,
            merge_requests_author_approval: false,
            merge_requests_disable_committers_approval: false,
            disable_overriding_approvers_per_merge_request: false,
            require_password_to_approve: false,
            approvals_required: 0,
            approvers: Vec::new(),
        }
    }
}

/// A project with its repository's refs.
#[derive(Clone)]
pub struct Project {
    pub id: u64,
    pub path: String,
    pub former_paths: Vec<String>,
    pub default_branch: String,
    pub members: BTreeMap<u64, u64>,
    pub branches: BTreeMap<String, Sha>,
    pub tags: BTreeMap<String, Sha>,
    /// Every commit this repository can name, also those only a fork merge request brought in.
    pub objects: BTreeSet<Sha>,
    pub protections: Vec<Protection>,
    pub approval_rules: Vec<ApprovalRule>,
    pub status_checks: Vec<StatusCheck>,
    pub settings: Settings,
    pub merge_requests: BTreeMap<u64, MergeRequest>,
    pub pipelines: Vec<Pipeline>,
    pub statuses: Vec<CommitStatus>,
    pub jobs: Vec<Job>,
    pub environments: Vec<Environment>,
    pub protected_environments: Vec<ProtectedEnvironment>,
    pub deployments: Vec<Deployment>,
    pub deploying: crate::support::forge::gitlab::deploying::Deploying,
    pub triggerer_may_approve: bool,
    pub hooks: Vec<Hook>,
    pub pushes: Vec<PushEvent>,
    pub forked_from: Option<u64>,
    pub created_at: Timestamp,
    /// New merge requests stay `preparing` until `finish_preparing`.
    pub hold_preparation: bool,
}

/// The diff of a merge request as computed at its last source push or retarget.
#[derive(Clone)]
pub struct Diff {
    pub base: Sha,
    pub start: Sha,
    pub head: Sha,
    /// Newest first.
    pub commits: Vec<Sha>,
    /// Already cut to the instance's limits.
    pub files: Vec<FileDiff>,
    pub overflow: bool,
}

/// A merge request. `title` decides the draft state.
#[derive(Clone)]
pub struct MergeRequest {
    pub id: u64,
    pub iid: u64,
    pub project: u64,
    pub source_project: u64,
    pub title: String,
    pub description: String,
    /// `opened`, `closed` or `merged`.
    pub state: String,
    pub author: u64,
    pub source_branch: String,
    pub target_branch: String,
    pub head: Sha,
    pub diff: Diff,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub prepared_at: Option<Timestamp>,
    pub merged_by: Option<u64>,
    pub merged_at: Option<Timestamp>,
    pub closed_by: Option<u64>,
    pub closed_at: Option<Timestamp>,
    pub merge_commit_sha: Option<Sha>,
    pub squash_commit_sha: Option<Sha>,
    /// Whether it was squashed when it was merged.
    pub squash: bool,
    /// Why the last rebase or merge failed.
    pub merge_error: Option<String>,
    /// Threads nobody has resolved.
    pub unresolved: usize,
    pub approvals: Vec<(u64, Timestamp)>,
    pub check_responses: Vec<CheckResponse>,
    /// Who asked for auto-merge, and for which head.
    pub auto_merge: Option<(u64, Sha)>,
    /// A detailed merge status forced by the test.
    pub forced_status: Option<String>,
    /// A changes count forced by the test (`Some(None)` is JSON null).
    pub forced_count: Option<Option<String>>,
    /// Paths whose patch text is withheld as `collapsed`.
    pub collapsed: BTreeSet<String>,
}

impl MergeRequest {
    /// GitLab's rule: a title that starts with `Draft:`, `[Draft]` or `(Draft)`, in any case.
    pub fn draft(&self) -> bool {
        let title = self.title.trim_start().to_ascii_lowercase();
        ["draft:", "[draft]", "(draft)"]
            .iter()
            .any(|mark| title.starts_with(mark))
    }
}

/// A pipeline; `own` is what its CI jobs came to, if it has any.
#[derive(Clone)]
pub struct Pipeline {
    pub id: u64,
    pub iid: u64,
    pub sha: Sha,
    /// A branch, or `refs/merge-requests/<iid>/head`.
    pub ref_name: String,
    /// Of a merged-results pipeline: the head it was made for, as `sha` is a merge commit nobody pushed.
    pub source_sha: Option<Sha>,
    /// `external`, `push`, `merge_request_event` …
    pub source: String,
    pub user: u64,
    pub own: Option<String>,
    /// The last overall state told to hooks.
    pub status: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One external status record; a newer record of the same name in its pipeline makes it `retried`.
#[derive(Clone, Debug)]
pub struct CommitStatus {
    pub id: u64,
    pub project: u64,
    pub sha: Sha,
    pub ref_name: String,
    pub name: String,
    /// `pending`, `running`, `success`, `failed`, `canceled`, `skipped`.
    pub status: String,
    pub target_url: Option<String>,
    pub description: Option<String>,
    pub author: u64,
    pub pipeline: u64,
    pub retried: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Place in the order of all status writes of the instance.
    pub written: u64,
}

/// A project webhook.
#[derive(Clone, Debug)]
pub struct Hook {
    pub id: u64,
    pub uuid: String,
    pub url: String,
    pub token: Option<String>,
    /// `whsec_` and the base64 of 32 bytes.
    pub signing_token: Option<String>,
    pub ssl_verification: bool,
    /// Names such as `push_events`.
    pub events: BTreeSet<String>,
    pub failures: u64,
    /// `executable`, `temporarily_disabled` or `disabled`.
    pub alert_status: String,
    /// When a pause ends; none for a hook that is not paused, and for one that ended for good.
    pub disabled_until: Option<Timestamp>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub created_at: Timestamp,
}

impl Hook {
    /// `alert_status` now: a pause ends by itself.
    pub fn status(&self) -> &str {
        let over = self.disabled_until.is_some_and(|until| until <= Timestamp::now());
        if over { "executable" } else { &self.alert_status }
    }
}

/// A push as `/projects/:id/events?action=pushed` tells it.
#[derive(Clone, Debug)]
pub struct PushEvent {
    pub id: u64,
    pub user: u64,
    /// The name of the branch, or of the tag.
    pub branch: String,
    pub tag: bool,
    pub before: Sha,
    pub after: Sha,
    pub commits: usize,
    pub title: String,
    pub at: Timestamp,
}

/// One try to hand a delivery over.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its number in the hook's history; 0 for one that is in no history.
    pub log: u64,
    /// The answer's code; none where no answer came.
    pub status: Option<u16>,
    pub error: Option<String>,
    pub took: Duration,
    pub at: Timestamp,
}

/// One webhook call, sent, held or lost.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: u64,
    pub project: u64,
    pub hook: u64,
    /// `X-Gitlab-Event`, such as `Merge Request Hook`.
    pub event: String,
    /// `Idempotency-Key`, the same over all resends.
    pub key: String,
    /// `X-Gitlab-Event-UUID`.
    pub event_uuid: String,
    pub body: String,
    pub fate: Fate,
    pub attempts: Vec<Attempt>,
    pub at: Timestamp,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Handed to the sender; see `attempts`.
    Sent,
    /// Kept back until released.
    Held,
    /// Dropped: hooks were off or the hook was disabled.
    Lost,
}

/// How hooks behave at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMode {
    On,
    Off,
    Hold,
}

/// One API call as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub time: Timestamp,
    pub method: String,
    /// Path below `/api/v4`, still percent-encoded.
    pub path: String,
    pub query: String,
    /// The body as JSON, or a JSON string where it is not JSON, or null.
    pub body: Value,
    /// User name of the token, where the token is known.
    pub user: Option<String>,
    /// None while the call is under way.
    pub status: Option<u16>,
    /// The planned fault it met.
    pub fault: Option<String>,
    /// It came before the end of a `Retry-After` given to the same token.
    pub too_early: bool,
}

/// Everything. Cloned only for "answered but not stored".
#[derive(Clone)]
pub struct State {
    pub base_url: String,
    pub version: String,
    /// The enterprise edition is installed. Without a licence it is `Free`; the community edition lacks whole routes.
    pub enterprise: bool,
    pub tier: Tier,
    /// Diff limits of the instance.
    pub max_files: usize,
    pub max_lines: usize,
    pub users: BTreeMap<u64, User>,
    pub groups: BTreeMap<u64, Group>,
    pub tokens: Vec<Token>,
    /// What is on merge trains, the first to land first.
    pub trains: Vec<Car>,
    /// Hooks of the instance, for all projects.
    pub system_hooks: Vec<Hook>,
    pub projects: BTreeMap<u64, Project>,
    pub objects: Objects,
    pub deliveries: BTreeMap<u64, Delivery>,
    pub hook_mode: HookMode,
    pub auto_disable_hooks: bool,
    pub block_local_hooks: bool,
    /// The delivery whose end the call under way waits for.
    pub awaited: Option<u64>,
    pub faults: Vec<Fault>,
    pub calls: Vec<Call>,
    /// Per token secret: until when calls break a `Retry-After`.
    pub quiet: BTreeMap<String, Quiet>,
    /// Per token secret: how much it may call.
    pub limits: BTreeMap<String, Limit>,
    /// The user whose statuses are the appliance's.
    pub appliance: Option<u64>,
    pub violations: Vec<String>,
    /// Deliveries handed over but not yet answered.
    pub in_flight: usize,
    /// Deliveries the change under way has produced.
    pub outbox: Vec<u64>,
    /// Successes the call under way has stored: project, sha, name.
    pub successes: Vec<(u64, Sha, String)>,
    next_id: u64,
}

impl State {
    pub fn new() -> Self {
        Self {
            base_url: String::new(),
            version: "19.5.0-ee".to_owned(),
            enterprise: true,
            tier: Tier::Free,
            max_files: 1000,
            max_lines: 50_000,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            tokens: Vec::new(),
            trains: Vec::new(),
            system_hooks: Vec::new(),
            projects: BTreeMap::new(),
            objects: Objects::default(),
            deliveries: BTreeMap::new(),
            hook_mode: HookMode::On,
            auto_disable_hooks: false,
            block_local_hooks: false,
            awaited: None,
            faults: Vec::new(),
            calls: Vec::new(),
            quiet: BTreeMap::new(),
            limits: BTreeMap::new(),
            appliance: None,
            violations: Vec::new(),
            in_flight: 0,
            outbox: Vec::new(),
            successes: Vec::new(),
            next_id: 1000,
        }
    }

    /// Whether the licence carries this tier.
    pub fn has(&self, tier: Tier) -> bool {
        self.tier >= tier
    }

    /// Whether the instance is at least of this version.
    pub fn at_least(&self, major: u64, minor: u64) -> bool {
        let mut numbers = self
            .version
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    /// A number no other record has.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn project(&self, id: u64) -> &Project {
        self.projects
            .get(&id)
            .unwrap_or_else(|| panic!("no project {id} in the fake GitLab"))
    }

    pub fn project_mut(&mut self, id: u64) -> &mut Project {
        self.projects
            .get_mut(&id)
            .unwrap_or_else(|| panic!("no project {id} in the fake GitLab"))
    }

    pub fn change(&self, project: u64, iid: u64) -> &MergeRequest {
        let found = self.project(project).merge_requests.get(&iid);
        found.unwrap_or_else(|| panic!("no merge request !{iid} in project {project}"))
    }

    pub fn change_mut(&mut self, project: u64, iid: u64) -> &mut MergeRequest {
        let found = self.project_mut(project).merge_requests.get_mut(&iid);
        found.unwrap_or_else(|| panic!("no merge request !{iid} in project {project}"))
    }

    pub fn branch(&self, project: u64, branch: &str) -> Option<&Sha> {
        self.project(project).branches.get(branch)
    }

    /// Whether the default branch has what this one has, and more: GitLab's `merged`.
    pub fn branch_merged(&self, project: u64, name: &str) -> bool {
        let default = self.branch(project, &self.project(project).default_branch);
        match (self.branch(project, name), default) {
            (Some(tip), Some(default)) => tip != default && self.objects.is_ancestor(tip, default),
            _ => false,
        }
    }

    /// A hook of the project, or of the instance.
    pub fn hook_of(&self, project: u64, hook: u64) -> Option<&Hook> {
        let of_project = self.projects.get(&project).map(|it| it.hooks.as_slice());
        let all = of_project.unwrap_or_default().iter().chain(&self.system_hooks);
        all.into_iter().find(|it| it.id == hook)
    }

    /// Access level in the project; 0 for outsiders, owner for administrators.
    pub fn level(&self, project: u64, user: u64) -> u64 {
        if self.users.get(&user).is_some_and(|user| user.admin) {
            return OWNER;
        }
        self.project(project).members.get(&user).copied().unwrap_or(0)
    }

    /// Protections whose name or wildcard covers the branch.
    pub fn protections(&self, project: u64, branch: &str) -> Vec<&Protection> {
        self.project(project)
            .protections
            .iter()
            .filter(|p| wildcard(&p.name, branch))
            .collect()
    }

    pub fn may_merge_into(&self, project: u64, branch: &str, user: u64) -> bool {
        self.may(project, branch, user, |rule| &rule.merge) || self.may_push_to(project, branch, user)
    }

    pub fn may_push_to(&self, project: u64, branch: &str, user: u64) -> bool {
        self.may(project, branch, user, |rule| &rule.push)
    }

    /// Without protection a Developer may; with several, the most permissive decides, as in GitLab.
    fn may(&self, project: u64, branch: &str, user: u64, ask: impl Fn(&Protection) -> &Vec<Access>) -> bool {
        if self.level(project, user) < DEVELOPER {
            return false;
        }
        let rules = self.protections(project, branch);
        let admitted = |rule: &&Protection| ask(rule).iter().any(|access| self.admits(project, access, user));
        rules.is_empty() || rules.iter().any(admitted)
    }

    /// State of a pipeline out of its CI jobs and the newest external status of each name, by GitLab's composite rule.
    pub fn pipeline_state(&self, project: u64, pipeline: u64) -> String {
        let project = self.project(project);
        let own = project
            .pipelines
            .iter()
            .find(|p| p.id == pipeline)
            .and_then(|p| p.own.as_deref());
        let external = project
            .statuses
            .iter()
            .filter(|s| s.pipeline == pipeline && !s.retried);
        let jobs = project
            .jobs
            .iter()
            .filter(|job| job.pipeline == pipeline && !job.retried);
        // A job whose failure is allowed holds nothing up while nobody plays it, and its failure counts as success.
        let of_jobs = jobs.map(|job| match (job.status.as_str(), job.allow_failure) {
            ("manual", true) => "skipped",
            ("failed" | "canceled", true) => "success",
            (status, _) => status,
        });
        let states: BTreeSet<&str> = own
            .into_iter()
            .chain(of_jobs)
            .chain(external.map(|s| s.status.as_str()))
            .collect();
        let has = |state: &str| states.contains(state);
        let only = |allowed: &[&str]| states.iter().all(|state| allowed.contains(state));
        let overall = if states.is_empty() {
            "created"
        } else if only(&["skipped"]) {
            "skipped"
        } else if only(&["success", "skipped"]) {
            "success"
        } else if only(&["pending", "skipped"]) {
            "pending"
        } else if has("running") || has("pending") {
            "running"
        } else if has("manual") {
            "manual"
        } else if has("failed") {
            "failed"
        } else {
            "canceled"
        };
        overall.to_owned()
    }

    pub fn pipeline(&self, project: u64, pipeline: u64) -> &Pipeline {
        let found = self
            .project(project)
            .pipelines
            .iter()
            .find(|it| it.id == pipeline);
        found.expect("a pipeline that exists")
    }

    pub fn project_of_pipeline(&self, pipeline: u64) -> u64 {
        let mut all = self.projects.values();
        let found = all.find(|p| p.pipelines.iter().any(|q| q.id == pipeline));
        found.expect("a pipeline has a project").id
    }

    /// The head pipeline of a merge request: its own merge request pipelines come first, then the newest on its head.
    pub fn head_pipeline(&self, project: u64, iid: u64) -> Option<&Pipeline> {
        self.change_pipelines(project, iid)
            .into_iter()
            .max_by_key(|p| (p.source == "merge_request_event", p.id))
    }

    /// Pipelines of a merge request's head: those of the source project, where a fork keeps them to itself.
    pub fn change_pipelines(&self, project: u64, iid: u64) -> Vec<&Pipeline> {
        let change = self.change(project, iid);
        let own = |ref_name: &str| {
            let rest = ref_name
                .strip_prefix("refs/merge-requests/")
                .and_then(|rest| rest.split_once('/'));
            rest.is_some_and(|(number, kind)| {
                number == iid.to_string() && matches!(kind, "head" | "merge" | "train")
            })
        };
        let of_head = |p: &Pipeline| p.sha == change.head || p.source_sha.as_ref() == Some(&change.head);
        let of_source = self
            .projects
            .get(&change.source_project)
            .into_iter()
            .flat_map(|p| p.pipelines.iter());
        let mut found: Vec<&Pipeline> = of_source
            .filter(|p| of_head(p) && (p.ref_name == change.source_branch || own(&p.ref_name)))
            .collect();
        if change.source_project != project {
            let of_target = self.project(project).pipelines.iter();
            found.extend(of_target.filter(|p| of_head(p) && own(&p.ref_name)));
        }
        found
    }
}

/// GitLab's branch wildcard: `*` stands for any run of characters, slashes too.
pub fn wildcard(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + middle.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(tail) => rest.ends_with(tail),
    }
}
