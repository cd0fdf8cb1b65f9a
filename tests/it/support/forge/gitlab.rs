//! A stateful, strict GitLab on loopback for the black-box tests: real HTTP, real refusals, real webhooks.
//! It keeps GitLab's odd answers (state machine, hidden statuses, late checks of the sha) and never invents a lenient one.

pub mod acts;
pub mod api;
pub mod approvals;
pub mod changes;
pub mod checks;
pub mod commit_api;
pub mod deploying;
pub mod deployments;
pub mod faults;
pub mod history;
pub mod hook_api;
pub mod hooks;
pub mod jobs;
pub mod limits;
pub mod merging;
mod payloads;
pub mod pipelines;
pub mod protections;
pub mod repository;
mod server;
mod shapes;
pub mod state;
pub mod trains;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::Request;
use crate::support::forge::gitlab::changes::StatusPost;
use crate::support::forge::gitlab::faults::Fault;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::hooks::Errand;
use crate::support::forge::gitlab::hooks::HookRequest;
use crate::support::forge::gitlab::limits::Standing;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::server::Outgoing;
use crate::support::forge::gitlab::server::Server;
use crate::support::forge::gitlab::server::Way;
use crate::support::forge::gitlab::state::Attempt;
use crate::support::forge::gitlab::state::Call;
use crate::support::forge::gitlab::state::CommitStatus;
use crate::support::forge::gitlab::state::Delivery;
use crate::support::forge::gitlab::state::Fate;
use crate::support::forge::gitlab::state::HookMode;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::Project;
use crate::support::forge::gitlab::state::Protection;
use crate::support::forge::gitlab::state::Settings;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;
use crate::support::forge::gitlab::state::Token;
use crate::support::forge::gitlab::state::User;

/// Asked about each success the appliance posts: sha, status name, and the numbers of the merge requests of the project
/// that are open with that head. An error is a violation.
pub type SuccessCheck = Box<dyn Fn(&str, &str, &[u64]) -> Result<(), String> + Send + Sync>;

/// A running fake GitLab. Clones are handles of the same one; the last one to go stops it.
///
/// All methods are synchronous and return when the state has changed; webhooks go out on a thread of their own, in the
/// order of the changes. `settle` waits for them. Unknown projects, branches and merge requests panic: a test's mistake.
#[derive(Clone)]
pub struct FakeGitLab {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The sender thread may be within its ten seconds of waiting for an answer: told to stop, not awaited.
        let _ = self.shared.errands.send(Errand::Stop);
        if let Some(server) = self
            .server
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            server.stop();
        }
    }
}

/// What the server, the webhook sender and the test side share.
pub struct Shared {
    state: Mutex<State>,
    /// Counts the changes, for those who wait for one.
    ticks: Mutex<u64>,
    ticked: Condvar,
    errands: UnboundedSender<Errand>,
    check: Mutex<Option<Arc<SuccessCheck>>>,
    prefix: String,
}

impl FakeGitLab {
    /// Starts at the root of its own port.
    pub fn start() -> Self {
        Self::start_at("")
    }

    /// Starts below a path such as `/gitlab`; whatever is asked beside it gets an HTML 404.
    pub fn start_at(prefix: &str) -> Self {
        assert!(
            prefix.is_empty() || (prefix.starts_with('/') && !prefix.ends_with('/')),
            "a path such as /gitlab"
        );
        let (errands, inbox) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            ticks: Mutex::new(0),
            ticked: Condvar::new(),
            errands,
            check: Mutex::new(None),
            prefix: prefix.to_owned(),
        });
        let server = Server::start(shared.clone(), 0);
        let port = server.port;
        shared.change(|state| state.base_url = format!("http://127.0.0.1:{port}{prefix}"));
        let sending = shared.clone();
        std::thread::spawn(move || hooks::run(&sending, inbox));
        Self {
            running: Arc::new(Running {
                shared,
                server: Mutex::new(Some(server)),
                port,
            }),
        }
    }

    /// `http://127.0.0.1:<port><prefix>`, without a slash at the end.
    pub fn base_url(&self) -> String {
        self.read(|state| state.base_url.clone())
    }

    /// Closes the port: connections are refused until `come_back`.
    pub fn go_away(&self) {
        let server = self
            .running
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        server.expect("the fake GitLab is there").stop();
    }

    /// Listens again on the same port, everything remembered.
    pub fn come_back(&self) {
        let mut server = self.running.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.is_none(), "the fake GitLab is there already");
        *server = Some(Server::start(self.running.shared.clone(), self.running.port));
    }

    /// Reads anything of the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.running.shared.read(look)
    }

    /// Changes anything of the state; what it raises is sent.
    pub fn change_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.running.shared.change(|state| {
            let out = change(state);
            state.successes.clear();
            out
        })
    }
}

/// People, tokens and projects.
impl FakeGitLab {
    /// The licence of the instance. A paid one needs the enterprise edition, which is then installed.
    pub fn set_tier(&self, tier: Tier) {
        self.change_state(|state| {
            state.tier = tier;
            if tier > Tier::Free && !state.enterprise {
                state.enterprise = true;
                state.version = format!("{}-ee", state.version);
            }
        });
    }

    /// The community edition: no licence, no `-ee`, and the routes of paid features do not exist at all.
    pub fn community_edition(&self) {
        self.change_state(|state| {
            state.tier = Tier::Free;
            state.enterprise = false;
            state.version = state.version.trim_end_matches("-ee").to_owned();
        });
    }

    /// Another version, such as `17.2.1-ee`; what came later is then unknown to the instance.
    pub fn set_version(&self, version: &str) {
        self.change_state(|state| version.clone_into(&mut state.version));
    }

    /// A person; the answer is the numeric user id.
    pub fn add_user(&self, username: &str, name: &str, email: &str) -> u64 {
        self.change_state(|state| {
            let id = state.fresh_id();
            let user = User {
                id,
                username: username.to_owned(),
                name: name.to_owned(),
                email: email.to_owned(),
                admin: false,
                bot: username.starts_with("project_") || username.starts_with("group_"),
                created_at: Timestamp::now(),
                status_message: None,
            };
            state.users.insert(id, user);
            id
        })
    }

    /// A token of the user; the answer is the secret.
    pub fn add_token(&self, user: u64, scopes: &[&str]) -> String {
        self.change_state(|state| {
            assert!(state.users.contains_key(&user), "no user {user}");
            let id = state.fresh_id();
            let secret = format!("glpat-fake{id:016}");
            state.tokens.push(Token {
                id,
                secret: secret.clone(),
                user,
                scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
                revoked: false,
                expires_on: "2099-12-31".to_owned(),
                expired: false,
                created_at: Timestamp::now(),
            });
            secret
        })
    }

    /// From now on the token answers 401 as a revoked one.
    pub fn revoke_token(&self, secret: &str) {
        self.token(secret, |token| token.revoked = true);
    }

    /// From now on the token answers 401 as an expired one.
    pub fn expire_token(&self, secret: &str) {
        self.token(secret, |token| token.expired = true);
    }

    /// Gives a token other scopes.
    pub fn rescope_token(&self, secret: &str, scopes: &[&str]) {
        self.token(secret, |token| {
            token.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect()
        });
    }

    fn token(&self, secret: &str, change: impl FnOnce(&mut Token)) {
        self.change_state(|state| {
            let token = state.tokens.iter_mut().find(|token| token.secret == secret);
            change(token.expect("a token of this fake"));
        });
    }

    /// A private project whose default branch `main` has one commit with a README.
    pub fn add_project(&self, id: u64, path: &str) {
        self.change_state(|state| {
            assert!(!state.projects.contains_key(&id), "project {id} exists");
            for other in state.projects.values_mut() {
                // A new project takes a path over from redirects.
                other.former_paths.retain(|former| former != path);
                assert_ne!(other.path, path, "project path {path} is taken");
            }
            state.projects.insert(id, new_project(id, path));
            let readme = vec![repository::Edit::write("README.md", "# A project\n")];
            let first = NewCommit::by("Initial", "initial@example.com", "Initial commit", readme);
            state.write_commit(id, "main", &first);
        });
    }

    /// A fork: the same commits and branches under another id and path, no members, no protection.
    pub fn fork(&self, from: u64, id: u64, path: &str) {
        self.change_state(|state| {
            let source = state.project(from);
            let mut fork = new_project(id, path);
            fork.branches = source.branches.clone();
            fork.objects = source.objects.clone();
            fork.default_branch = source.default_branch.clone();
            fork.forked_from = Some(from);
            state.projects.insert(id, fork);
        });
    }

    /// Moves a project to another path; the old one redirects reads.
    pub fn rename_project(&self, id: u64, path: &str) {
        self.change_state(|state| {
            let project = state.project_mut(id);
            let former = std::mem::replace(&mut project.path, path.to_owned());
            project.former_paths.push(former);
        });
    }

    /// Removes a project; its path is free for a new one.
    pub fn delete_project(&self, id: u64) {
        self.change_state(|state| {
            state.projects.remove(&id).expect("a project that exists");
            state.deliveries.retain(|_, delivery| delivery.project != id);
        });
    }

    /// Gives a user a role, see the levels in `state`.
    pub fn add_member(&self, project: u64, user: u64, level: u64) {
        self.change_state(|state| state.project_mut(project).members.insert(user, level));
    }

    /// Changes the settings that decide over merges.
    pub fn set(&self, project: u64, change: impl FnOnce(&mut Settings)) {
        self.change_state(|state| change(&mut state.project_mut(project).settings));
    }

    /// Protects a branch or wildcard: push and merge levels (0: no one), and users who may merge besides.
    pub fn protect(&self, project: u64, name: &str, push_level: u64, merge_level: u64, merge_users: &[u64]) {
        self.change_state(|state| {
            let push = state.access_to(Some(push_level), &[]);
            // A rule that names users and no role has no role entry.
            let role = Some(merge_level).filter(|level| *level > 0 || merge_users.is_empty());
            let merge = state.access_to(role, merge_users);
            let rule = Protection {
                id: state.fresh_id(),
                name: name.to_owned(),
                push,
                merge,
                unprotect: Vec::new(),
                allow_force_push: false,
                code_owners: false,
            };
            let rules = &mut state.project_mut(project).protections;
            rules.retain(|old| old.name != name);
            rules.push(rule);
        });
    }

    /// Takes a protection away.
    pub fn unprotect(&self, project: u64, name: &str) {
        self.change_state(|state| {
            state
                .project_mut(project)
                .protections
                .retain(|rule| rule.name != name)
        });
    }
}

/// Commits, branches and pushes.
impl FakeGitLab {
    /// A commit on a branch, made before anybody looked: no push event, no hook.
    pub fn commit(&self, project: u64, branch: &str, new: &NewCommit) -> Sha {
        self.change_state(|state| {
            let sha = state.write_commit(project, branch, new);
            let open: Vec<u64> = state.project(project).merge_requests.keys().copied().collect();
            assert!(
                open.iter()
                    .all(|iid| state.change(project, *iid).source_branch != branch),
                "branch {branch} has a merge request: push instead"
            );
            sha
        })
    }

    /// A branch at a commit or at another branch's tip, without any event.
    pub fn branch(&self, project: u64, name: &str, at: &str) {
        self.change_state(|state| {
            let sha = state
                .find_commit(project, at)
                .unwrap_or_else(|| panic!("no commit or branch {at}"));
            state.set_branch(project, name, &sha);
        });
    }

    /// A tag, which may bear the name of a branch.
    pub fn tag(&self, project: u64, name: &str, sha: &str) {
        self.change_state(|state| {
            state
                .project_mut(project)
                .tags
                .insert(name.to_owned(), sha.to_owned())
        });
    }

    /// The tip of a branch.
    pub fn head(&self, project: u64, branch: &str) -> Sha {
        self.read(|state| {
            state
                .branch(project, branch)
                .unwrap_or_else(|| panic!("no branch {branch}"))
                .clone()
        })
    }

    /// A new commit pushed by `user`: Push Hook, push event, and an `update` of every open merge request of the branch.
    pub fn push(&self, project: u64, branch: &str, user: u64, new: &NewCommit) -> Sha {
        self.change_state(|state| {
            let before = state.branch(project, branch).cloned();
            let sha = state.write_commit(project, branch, new);
            state.pushed(project, branch, before.as_deref(), user);
            sha
        })
    }

    /// Sets a branch to any known commit, forwards or back, as `git push --force` does.
    pub fn force_push(&self, project: u64, branch: &str, user: u64, sha: &str) {
        self.change_state(|state| {
            let before = state.branch(project, branch).cloned();
            state.set_branch(project, branch, sha);
            state.pushed(project, branch, before.as_deref(), user);
        });
    }

    /// Makes a commit without any branch, to force-push to later.
    pub fn loose_commit(&self, project: u64, parent: &str, new: &NewCommit) -> Sha {
        self.change_state(|state| {
            let sha = state.objects.commit(Some(parent), new);
            state.project_mut(project).objects.insert(sha.clone());
            sha
        })
    }

    /// Removes a branch.
    pub fn delete_branch(&self, project: u64, branch: &str, user: u64) {
        self.change_state(|state| state.delete_branch(project, branch, user));
    }

    /// A CI pipeline: `source` is `push` or `merge_request_event` (then `ref_name` is `refs/merge-requests/<iid>/head`).
    pub fn add_pipeline(
        &self,
        project: u64,
        sha: &str,
        ref_name: &str,
        source: &str,
        state: &str,
        user: u64,
    ) -> u64 {
        let own = state;
        self.change_state(|state| {
            let id = state.new_pipeline(project, sha, ref_name, source, user, Some(own));
            state.settle_pipeline(project, id, user);
            id
        })
    }

    /// The CI jobs of a pipeline come to another state.
    pub fn set_pipeline(&self, project: u64, pipeline: u64, own: &str) {
        self.change_state(|state| {
            let all = &mut state.project_mut(project).pipelines;
            let record = all
                .iter_mut()
                .find(|p| p.id == pipeline)
                .expect("a pipeline that exists");
            record.own = Some(own.to_owned());
            let user = record.user;
            state.settle_pipeline(project, pipeline, user);
        });
    }
}

/// Merge requests.
impl FakeGitLab {
    /// Opens a merge request within the project; the answer is its iid.
    pub fn open_merge_request(
        &self,
        project: u64,
        source: &str,
        target: &str,
        title: &str,
        author: u64,
    ) -> u64 {
        self.change_state(|state| state.open_change(project, (project, source), target, title, author))
    }

    /// Opens a merge request from a fork.
    pub fn open_fork_merge_request(
        &self,
        project: u64,
        fork: u64,
        source: &str,
        target: &str,
        title: &str,
        author: u64,
    ) -> u64 {
        self.change_state(|state| state.open_change(project, (fork, source), target, title, author))
    }

    /// The merge request as it is.
    pub fn merge_request(&self, project: u64, iid: u64) -> MergeRequest {
        self.read(|state| state.change(project, iid).clone())
    }

    /// GitLab's `detailed_merge_status`.
    pub fn detailed_status(&self, project: u64, iid: u64) -> String {
        self.read(|state| state.detailed_status(project, iid))
    }

    /// Changes the target branch. The hook's `changes` names only `merge_status`, as real ones have been seen to.
    pub fn retarget(&self, project: u64, iid: u64, target: &str, user: u64) {
        self.change_state(|state| {
            assert!(
                state.branch(project, target).is_some(),
                "no target branch {target}"
            );
            state.retarget(project, iid, target, user);
        });
    }

    /// Changes the title.
    pub fn retitle(&self, project: u64, iid: u64, title: &str, user: u64) {
        self.change_state(|state| state.retitle(project, iid, title, user));
    }

    /// Marks as draft or as ready, by the title as GitLab does.
    pub fn set_draft(&self, project: u64, iid: u64, draft: bool, user: u64) {
        let title = self.merge_request(project, iid).title;
        let bare = title.strip_prefix("Draft: ").unwrap_or(&title);
        let title = if draft {
            format!("Draft: {bare}")
        } else {
            bare.to_owned()
        };
        self.retitle(project, iid, &title, user);
    }

    /// Closes without merging.
    pub fn close(&self, project: u64, iid: u64, user: u64) {
        self.change_state(|state| state.close(project, iid, user));
    }

    /// Opens a closed one again; its head and diff are those of the branches now.
    pub fn reopen(&self, project: u64, iid: u64, user: u64) {
        self.change_state(|state| state.reopen(project, iid, user));
    }

    /// Merges in the user interface as this user; panics where GitLab's page would show no merge button.
    pub fn merge_as(&self, project: u64, iid: u64, user: u64) {
        self.change_state(|state| {
            let target = state.change(project, iid).target_branch.clone();
            assert!(
                state.may_merge_into(project, &target, user),
                "user {user} may not merge into {target}"
            );
            state
                .merge(project, iid, user, &MergeWish::default())
                .expect("a mergeable merge request");
        });
    }

    /// Merges as an administrator who lifts every check.
    pub fn merge_past_all_checks(&self, project: u64, iid: u64, user: u64) {
        self.change_state(|state| {
            let forced = state
                .change_mut(project, iid)
                .forced_status
                .replace("mergeable".to_owned());
            state
                .merge(project, iid, user, &MergeWish::default())
                .expect("forced to be mergeable");
            state.change_mut(project, iid).forced_status = forced;
        });
    }

    /// Turns auto-merge on for the present head, as a person does on the page.
    pub fn auto_merge(&self, project: u64, iid: u64, user: u64) {
        self.change_state(|state| {
            let change = state.change_mut(project, iid);
            change.auto_merge = Some((user, change.head.clone()));
            state.run_auto_merges();
        });
    }

    /// Whether new merge requests of the project stay `preparing`: no diff, no count, no diff refs.
    pub fn hold_preparation(&self, project: u64, hold: bool) {
        self.change_state(|state| state.project_mut(project).hold_preparation = hold);
    }

    /// Ends the preparation of a merge request.
    pub fn finish_preparing(&self, project: u64, iid: u64) {
        self.change_state(|state| {
            state.change_mut(project, iid).prepared_at = Some(Timestamp::now());
            state.touch(project, iid);
        });
    }

    /// Forces a `detailed_merge_status`, or lets the fake compute it again.
    pub fn force_merge_status(&self, project: u64, iid: u64, status: Option<&str>) {
        self.change_state(|state| state.change_mut(project, iid).forced_status = status.map(str::to_owned));
    }

    /// Forces `changes_count` (the inner none is JSON null), or lets the fake compute it again.
    pub fn force_changes_count(&self, project: u64, iid: u64, count: Option<Option<&str>>) {
        let count = count.map(|text| text.map(str::to_owned));
        self.change_state(|state| state.change_mut(project, iid).forced_count = count);
    }

    /// The instance's diff limits: files (GitLab's default 1000) and lines (50,000). For diffs made from now on.
    pub fn limit_diffs(&self, files: usize, lines: usize) {
        self.change_state(|state| (state.max_files, state.max_lines) = (files, lines));
    }
}

/// Statuses.
impl FakeGitLab {
    /// Names the user whose statuses are the appliance's; only these are checked and answered by `status`.
    pub fn appliance_is(&self, user: u64) {
        self.change_state(|state| state.appliance = Some(user));
    }

    /// Posts a status as any user, past the API: a forger, or another system. Panics where GitLab refuses.
    pub fn post_status(&self, project: u64, sha: &str, user: u64, name: &str, ref_name: &str, to: &str) {
        let post = StatusPost {
            state: to.to_owned(),
            name: name.to_owned(),
            ref_name: Some(ref_name.to_owned()),
            ..StatusPost::default()
        };
        self.change_state(|state| {
            state
                .post_status(project, sha, user, &post)
                .expect("a status GitLab takes")
        });
    }

    /// Every status record of a commit, hidden ones too, in the order they were last written.
    pub fn statuses(&self, project: u64, sha: &str) -> Vec<CommitStatus> {
        self.read(|state| {
            let all = state
                .project(project)
                .statuses
                .iter()
                .filter(|status| status.sha == sha);
            let mut found: Vec<CommitStatus> = all.cloned().collect();
            found.sort_by_key(|status| status.written);
            found
        })
    }

    /// The appliance's newest status of that name on the commit (anybody's, before `appliance_is`).
    pub fn status(&self, project: u64, sha: &str, name: &str) -> Option<String> {
        let appliance = self.read(|state| state.appliance);
        let all = self.statuses(project, sha).into_iter();
        let mut ours = all.filter(|s| s.name == name && appliance.is_none_or(|user| s.author == user));
        ours.next_back().map(|status| status.status)
    }

    /// What GitLab shows under that name, whoever wrote it last.
    pub fn shown_status(&self, project: u64, sha: &str, name: &str) -> Option<CommitStatus> {
        self.statuses(project, sha)
            .into_iter()
            .rfind(|s| s.name == name && !s.retried)
    }

    /// Every success the appliance posts is put to this check, after it is stored and before it is answered.
    pub fn on_success(&self, check: SuccessCheck) {
        *self
            .running
            .shared
            .check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(check));
    }

    /// What the checks found so far.
    pub fn violations(&self) -> Vec<String> {
        self.read(|state| state.violations.clone())
    }

    /// Panics with everything the checks found.
    pub fn assert_no_violations(&self) {
        let found = self.violations();
        assert!(
            found.is_empty(),
            "the fake GitLab saw {} violations:\n{}",
            found.len(),
            found.join("\n")
        );
    }
}

/// Webhooks.
impl FakeGitLab {
    /// A project hook for pushes, merge requests and pipelines; `signing` is `whsec_` and the base64 of 32 bytes.
    pub fn register_hook(&self, project: u64, url: &str, token: Option<&str>, signing: Option<&str>) -> u64 {
        self.change_state(|state| {
            let mut hook = hook_api::new_hook(state, url);
            hook.token = token.map(str::to_owned);
            hook.signing_token = signing.map(str::to_owned);
            let kinds = ["push_events", "merge_requests_events", "pipeline_events"];
            hook.events = BTreeSet::from(kinds.map(str::to_owned));
            let id = hook.id;
            state.project_mut(project).hooks.push(hook);
            id
        })
    }

    /// Events make no webhook until `hooks_on`: they are lost.
    pub fn hooks_off(&self) {
        self.change_state(|state| state.hook_mode = HookMode::Off);
    }

    /// Events are sent again as they come; what is held stays held.
    pub fn hooks_on(&self) {
        self.change_state(|state| state.hook_mode = HookMode::On);
    }

    /// Events are kept back, to be released late or in another order.
    pub fn hold_hooks(&self) {
        self.change_state(|state| state.hook_mode = HookMode::Hold);
    }

    /// Deliveries kept back, oldest first.
    pub fn held(&self) -> Vec<Delivery> {
        self.deliveries()
            .into_iter()
            .filter(|delivery| delivery.fate == Fate::Held)
            .collect()
    }

    /// All deliveries, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.read(|state| state.deliveries.values().cloned().collect())
    }

    /// Sends a delivery kept back or lost.
    pub fn release(&self, delivery: u64) {
        self.change_state(|state| {
            state
                .deliveries
                .get_mut(&delivery)
                .expect("a recorded delivery")
                .fate = Fate::Sent;
            state.outbox.push(delivery);
        });
    }

    /// Sends a delivery again, under the same `Idempotency-Key`, as GitLab's resend does.
    pub fn resend(&self, delivery: u64) {
        self.release(delivery);
    }

    /// Sends a delivery two more times.
    pub fn deliver_twice(&self, delivery: u64) {
        self.release(delivery);
        self.release(delivery);
    }

    /// The request a delivery is, signed now; bend it and send it with `send_raw`.
    pub fn request_of(&self, delivery: u64) -> HookRequest {
        self.request_at(delivery, Timestamp::now())
    }

    /// The request a delivery was at another time.
    pub fn request_at(&self, delivery: u64, at: Timestamp) -> HookRequest {
        self.read(|state| hooks::request(state, delivery, at))
    }

    /// A request to a hook with any event name and body, authentic in everything, under a fresh key.
    pub fn hook_request(&self, hook: u64, event: &str, body: &str) -> HookRequest {
        self.read(|state| {
            let mut all = state.projects.values().flat_map(|project| project.hooks.iter());
            let hook = all
                .find(|candidate| candidate.id == hook)
                .expect("a registered hook");
            let (key, uuid) = (hooks::fresh_uuid(), hooks::fresh_uuid());
            hooks::request_for(state, hook, event, &key, &uuid, body, Timestamp::now())
        })
    }

    /// Sends a request as it is and waits for its end. It is in no delivery record.
    pub fn send_raw(&self, request: HookRequest) -> Attempt {
        let (report, answer) = std::sync::mpsc::channel();
        self.running
            .shared
            .errands
            .send(Errand::Raw(request, report))
            .expect("the sender thread lives");
        answer.recv().expect("the sender thread answers")
    }

    /// The body of a Merge Request Hook as it would be now.
    pub fn webhook_payload(&self, project: u64, iid: u64, action: &str, user: u64) -> Value {
        self.read(|state| payloads::merge_request_hook(state, project, iid, action, user, None, json!({})))
    }

    /// Waits until every webhook on its way has been answered or given up.
    pub fn settle(&self, timeout: Duration) {
        self.expect("all webhooks answered", timeout, |gitlab| {
            gitlab.read(|state| state.in_flight == 0)
        });
    }
}

/// Faults, the call log and waiting.
impl FakeGitLab {
    /// The next `times` calls of that method (`""`: any) and path meet the trouble; see [`Fault::path`].
    pub fn fail(&self, method: &str, path: &str, times: usize, trouble: Trouble) {
        self.fail_after(0, method, path, times, trouble);
    }

    /// As `fail`, after `after` matching calls have passed.
    pub fn fail_after(&self, after: usize, method: &str, path: &str, times: usize, trouble: Trouble) {
        let method = (!method.is_empty()).then(|| method.to_owned());
        let fault = Fault {
            method,
            path: path.to_owned(),
            after,
            left: times,
            trouble,
        };
        self.change_state(|state| state.faults.push(fault));
    }

    /// Takes every planned fault back.
    pub fn heal(&self) {
        self.change_state(|state| state.faults.clear());
    }

    /// Every API call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.read(|state| state.calls.clone())
    }

    /// Calls of that method whose path contains the text.
    pub fn calls_to(&self, method: &str, path: &str) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.method == method && call.path.contains(path))
            .collect()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.change_state(|state| state.calls.clear());
    }

    /// Panics if a call came while its token had been told to wait.
    pub fn assert_retry_after_respected(&self) {
        let early: Vec<Call> = self.calls().into_iter().filter(|call| call.too_early).collect();
        assert!(early.is_empty(), "calls inside Retry-After: {early:?}");
    }

    /// Waits until the condition holds; looked at again at each change of the fake, and from time to time for the sake of
    /// conditions outside it. False: not within the timeout.
    #[must_use]
    pub fn wait_for(&self, mut holds: impl FnMut(&Self) -> bool, timeout: Duration) -> bool {
        const GLANCE: Duration = Duration::from_millis(50);
        let until = Instant::now() + timeout;
        let shared = &self.running.shared;
        loop {
            let seen = *shared.ticks.lock().unwrap_or_else(PoisonError::into_inner);
            if holds(self) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let ticks = shared.ticks.lock().unwrap_or_else(PoisonError::into_inner);
            drop(
                shared
                    .ticked
                    .wait_timeout_while(ticks, left.min(GLANCE), |ticks| *ticks == seen),
            );
        }
    }

    /// As `wait_for`, but panics with the last calls when it does not come true.
    pub fn expect(&self, what: &str, timeout: Duration, holds: impl FnMut(&Self) -> bool) {
        if !self.wait_for(holds, timeout) {
            let calls = self.calls();
            let last = calls.iter().rev().take(20).rev();
            let lines: Vec<String> = last
                .map(|c| {
                    format!(
                        "  {} {}?{} {} -> {:?} {:?}",
                        c.method, c.path, c.query, c.body, c.status, c.fault
                    )
                })
                .collect();
            panic!(
                "not within {timeout:?}: {what}\nlast calls:\n{}",
                lines.join("\n")
            );
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state, hands its deliveries to the sender and wakes those who wait.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let out = change(&mut state);
        for delivery in std::mem::take(&mut state.outbox) {
            // After the sender has stopped nobody waits for deliveries any more.
            if self.errands.send(Errand::Deliver(delivery)).is_ok() {
                state.in_flight += 1;
            }
        }
        drop(state);
        *self.ticks.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.ticked.notify_all();
        out
    }

    /// Answers one HTTP request.
    pub fn handle(&self, mut request: Request) -> Outgoing {
        let below = request
            .path
            .strip_prefix(&format!("{}/api/v4", self.prefix))
            .map(str::to_owned);
        let Some(path) = below.filter(|path| path.starts_with('/')) else {
            let wrong = Call {
                status: Some(404),
                ..arrived(&request)
            };
            self.change(|state| state.calls.push(wrong));
            return Outgoing {
                reply: html(404),
                way: Way::Plain,
            };
        };
        request.path = path;
        let (mut outgoing, successes, awaited) = self.change(|state| {
            state.awaited = None;
            let trouble = note_arrival(state, &request);
            let standing = limits::count(state, request.token().unwrap_or(""));
            let mut outgoing = match standing.filter(Standing::over) {
                Some(_) => Outgoing {
                    reply: retry_later(),
                    way: Way::Plain,
                },
                None => meet(state, &request, trouble),
            };
            if let Some(standing) = standing {
                outgoing.reply = standing.told(outgoing.reply);
            }
            let own = successes_of_appliance(state, &request);
            state.calls.last_mut().expect("just noted").status = Some(outgoing.reply.status);
            (outgoing, own, state.awaited.take())
        });
        if let Some(delivery) = awaited.filter(|_| outgoing.reply.status == 201) {
            outgoing.reply = self.after_delivery(delivery, outgoing.reply);
        }
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (project, sha, name) in successes {
            let open: Vec<u64> = self.read(|state| {
                let all = state.project(project).merge_requests.values();
                let target = name.strip_prefix("signedapproval/").unwrap_or_default();
                all.filter(|it| it.state == "opened" && it.head == sha && it.target_branch == target)
                    .map(|it| it.iid)
                    .collect()
            });
            if let Some(Err(why)) = check.as_ref().map(|check| check(&sha, &name, &open)) {
                let line = format!("success for project {project}, {sha}, {name}: {why}");
                self.change(|state| state.violations.push(line));
            }
        }
        outgoing
    }
}

impl Shared {
    /// GitLab answers a test and a resend only when the receiver has: by then its answer decides.
    fn after_delivery(&self, delivery: u64, reply: Reply) -> Reply {
        const LIMIT: Duration = Duration::from_secs(12);
        let begun = Instant::now();
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = || {
            self.read(|state| {
                let on_its_way = state.in_flight > 0;
                let attempts = state.deliveries.get(&delivery).map(|d| d.attempts.clone());
                (on_its_way, attempts.unwrap_or_default())
            })
        };
        let (mut busy, mut attempts) = newest();
        while busy && begun.elapsed() < LIMIT {
            let waited = self.ticked.wait_timeout(ticks, Duration::from_millis(20));
            ticks = waited.unwrap_or_else(PoisonError::into_inner).0;
            (busy, attempts) = newest();
        }
        drop(ticks);
        let status = attempts.last().and_then(|attempt| attempt.status);
        let resent = String::from_utf8_lossy(&reply.body).contains("response_status");
        match status {
            Some(code) if resent => Reply::json(201, &json!({"response_status": code})),
            Some(200..300) => reply,
            _ if resent => Reply::json(201, &json!({"response_status": "internal error"})),
            other => Reply::message(
                422,
                &other.map_or("internal error".to_owned(), |code| code.to_string()),
            ),
        }
    }
}

fn arrived(request: &Request) -> Call {
    let body = match serde_json::from_slice(&request.body) {
        Ok(body) => body,
        Err(_) if request.body.is_empty() => Value::Null,
        Err(_) => json!(String::from_utf8_lossy(&request.body)),
    };
    Call {
        at: Instant::now(),
        time: Timestamp::now(),
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        body,
        user: None,
        status: None,
        fault: None,
        too_early: false,
    }
}

/// Writes the call down and looks whether a trouble is planned for it.
fn note_arrival(state: &mut State, request: &Request) -> Option<Trouble> {
    let mut call = arrived(request);
    let secret = request.token().unwrap_or("");
    let token = state.tokens.iter().find(|token| token.secret == secret);
    let user = token.and_then(|token| state.users.get(&token.user));
    call.user = user.map(|user| user.username.clone());
    call.too_early = limits::too_early(state, secret, &call);
    let trouble = faults::strike(&mut state.faults, &request.method, &request.path, &request.query);
    call.fault = trouble.as_ref().map(|trouble| format!("{trouble:?}"));
    state.calls.push(call);
    if let Some(Trouble::RetryLater(seconds)) = &trouble {
        limits::hush(state, secret, *seconds);
    }
    trouble
}

/// The true answer, bent by the trouble.
fn meet(state: &mut State, request: &Request, trouble: Option<Trouble>) -> Outgoing {
    let plain = |reply: Reply| Outgoing {
        reply,
        way: Way::Plain,
    };
    match trouble {
        None => plain(api::answer(state, request)),
        Some(Trouble::RetryLater(seconds)) => plain(
            retry_later()
                .with("Retry-After", &seconds.to_string())
                .with("RateLimit-Remaining", "0"),
        ),
        Some(Trouble::StatusLocked) => plain(Reply::message(
            409,
            "Another update to this commit status is in progress",
        )),
        Some(Trouble::Code(code)) if code >= 500 => plain(html(code)),
        Some(Trouble::Code(code)) => plain(Reply::message(code, &format!("{code} by plan"))),
        Some(Trouble::LostAnswer(code)) => {
            api::answer(state, request);
            plain(html(code))
        }
        Some(Trouble::Hang(time)) => Outgoing {
            reply: api::answer(state, request),
            way: Way::Late(time),
        },
        Some(Trouble::CutBody) => Outgoing {
            reply: api::answer(state, request),
            way: Way::Cut,
        },
        Some(Trouble::Html) => plain(html(200)),
        Some(Trouble::NotStored) => plain(api::answer(&mut state.clone(), request)),
        Some(Trouble::Json(code, body)) => plain(Reply::json(code, &body)),
        Some(Trouble::Flood(size)) => Outgoing {
            reply: Reply::json(200, &Value::Null),
            way: Way::Flood(size),
        },
        Some(Trouble::Redirect(to)) => plain(html(302).with("Location", &to)),
    }
}

/// Takes the successes the call stored, if they are the appliance's.
fn successes_of_appliance(state: &mut State, request: &Request) -> Vec<(u64, Sha, String)> {
    let stored = std::mem::take(&mut state.successes);
    let token = state
        .tokens
        .iter()
        .find(|token| request.token() == Some(&token.secret));
    let by = token.map(|token| token.user);
    if state.appliance.is_none() || state.appliance == by {
        stored
    } else {
        Vec::new()
    }
}

/// What GitLab's throttle answers.
fn retry_later() -> Reply {
    Reply {
        status: 429,
        headers: Vec::new(),
        content_type: "text/plain",
        body: b"Retry later\n".to_vec(),
    }
}

fn html(code: u16) -> Reply {
    let body = format!(
        "<!DOCTYPE html>\n<html><head><title>GitLab ({code})</title></head><body>{code}</body></html>\n"
    );
    Reply {
        status: code,
        headers: Vec::new(),
        content_type: "text/html; charset=utf-8",
        body: body.into_bytes(),
    }
}

fn new_project(id: u64, path: &str) -> Project {
    Project {
        id,
        path: path.to_owned(),
        former_paths: Vec::new(),
        default_branch: "main".to_owned(),
        members: BTreeMap::new(),
        branches: BTreeMap::new(),
        tags: BTreeMap::new(),
        objects: BTreeSet::new(),
        protections: Vec::new(),
        approval_rules: Vec::new(),
        status_checks: Vec::new(),
        settings: Settings::default(),
        merge_requests: BTreeMap::new(),
        pipelines: Vec::new(),
        statuses: Vec::new(),
        jobs: Vec::new(),
        environments: Vec::new(),
        protected_environments: Vec::new(),
        deploying: deploying::Deploying::default(),
        deployments: Vec::new(),
        triggerer_may_approve: false,
        hooks: Vec::new(),
        pushes: Vec::new(),
        forked_from: None,
        created_at: Timestamp::now(),
        hold_preparation: false,
    }
}
