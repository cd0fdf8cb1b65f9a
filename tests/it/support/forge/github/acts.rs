//! What people do on GitHub, and what it tells of that.

use crate::support::forge::github::FakeGitHub;
use crate::support::forge::github::shapes::{pull_json, repository_json, user_json};
use crate::support::forge::github::state::{
    APP, Activity, Delivery, Installation, Pull, Repository, Ruleset, State, Status, User,
};
use crate::support::forge::gitlab::repository::{Edit, NO_SHA, NewCommit, Sha};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl State {
    /// Tells a subscriber of an event; what nobody gets is kept all the same.
    pub fn raise(&mut self, repository: u64, event: &str, mut payload: Value) {
        payload["repository"] = repository_json(self, repository);
        let installation = self
            .installations
            .values()
            .find(|it| it.repositories.contains(&repository) && !it.suspended);
        let Some(installation) = installation.filter(|it| it.events.iter().any(|it| it == event)) else {
            return;
        };
        payload["installation"] = json!({ "id": installation.id });
        let id = self.fresh();
        self.deliveries.push(Delivery {
            id,
            guid: format!("{id:08x}-0000-11e3-81ab-4c9367dc0958"),
            event: event.to_owned(),
            repository,
            payload,
            status: 0,
            redelivery: false,
        });
        self.raised.push(id);
    }

    pub fn raise_pull(&mut self, repository: u64, number: u64, action: &str, by: u64, more: Value) {
        let mut payload = json!({
            "action": action, "number": number,
            "pull_request": pull_json(self, repository, number, true),
            "sender": user_json(self, by),
        });
        if let Some(more) = more.as_object() {
            for (name, value) in more {
                payload[name] = value.clone();
            }
        }
        self.raise(repository, "pull_request", payload);
    }

    /// Moves a branch, as a push does.
    pub fn move_branch(&mut self, repository: u64, branch: &str, to: &str, kind: &'static str, by: u64) {
        let reference = format!("refs/heads/{branch}");
        let record = self.repository_mut(repository);
        let before = record.branches.insert(branch.to_owned(), to.to_owned());
        let before = before.unwrap_or_else(|| NO_SHA.to_owned());
        record.activity.push(Activity {
            kind,
            reference: reference.clone(),
            before: before.clone(),
            after: to.to_owned(),
            actor: by,
            at: Timestamp::now(),
        });
        let sender = user_json(self, by);
        let payload = json!({"ref": reference, "before": before, "after": to, "forced": kind == "force_push",
            "created": before == NO_SHA, "deleted": false, "sender": sender});
        self.raise(repository, "push", payload);
        // Pull requests from this branch move along.
        let own: Vec<(u64, u64)> = self
            .repositories
            .values()
            .flat_map(|it| it.pulls.values().map(|pull| (it.id, pull)))
            .filter(|(_, it)| it.source == repository && it.head_ref == branch && !it.closed)
            .map(|(id, it)| (id, it.number))
            .collect();
        for (target, number) in own {
            let tip = {
                let record = self.repository(target);
                record.branches.get(&record.pulls[&number].base_ref).cloned()
            };
            let pull = self
                .repository_mut(target)
                .pulls
                .get_mut(&number)
                .expect("it is there");
            pull.head = to.to_owned();
            pull.base = tip.unwrap_or_else(|| pull.base.clone());
            pull.updated = Timestamp::now();
            let more = json!({"before": before, "after": to});
            self.raise_pull(target, number, "synchronize", by, more);
        }
    }

    /// Merges, as the button or the API does; the commit it landed as.
    pub fn merge(&mut self, repository: u64, number: u64, method: &str, by: u64) -> Sha {
        use crate::support::forge::gitlab::repository::Signature;
        let pull = self.repository(repository).pulls[&number].clone();
        let tip = self.repository(repository).branches[&pull.base_ref].clone();
        let who = self.users[&by].clone();
        let signature = Signature::new(&who.login, &who.email);
        let github = Signature::new("GitHub", "noreply@github.com");
        let (tree, conflicts) = self.objects.merged_tree(&tip, &pull.head);
        assert!(conflicts.is_empty(), "a conflict was merged: {conflicts:?}");
        let tree = std::sync::Arc::new(tree);
        let landed = match method {
            "squash" => self
                .objects
                .store(vec![tip], &signature, &github, &pull.title, tree),
            "rebase" => {
                let base = self.objects.merge_base(&tip, &pull.head);
                let mut row = self.objects.range(base.as_deref(), &pull.head);
                row.reverse();
                let mut onto = tip;
                for sha in row {
                    let old = self.objects.get(&sha).expect("a commit").clone();
                    let below = old.parents.first().cloned();
                    let (tree, _) = self.objects.merged_over(below.as_deref(), &onto, &sha);
                    let tree = std::sync::Arc::new(tree);
                    onto = self
                        .objects
                        .store(vec![onto], &old.author, &github, &old.message, tree);
                }
                onto
            }
            _ => {
                let parents = vec![tip, pull.head.clone()];
                let message = format!("Merge pull request #{number}");
                self.objects.store(parents, &signature, &github, &message, tree)
            }
        };
        self.move_branch(repository, &pull.base_ref, &landed, "pr_merge", by);
        let pull = self
            .repository_mut(repository)
            .pulls
            .get_mut(&number)
            .expect("it is there");
        pull.closed = true;
        pull.merged = Some((Timestamp::now(), by, landed.clone()));
        pull.updated = Timestamp::now();
        self.raise_pull(repository, number, "closed", by, json!({}));
        landed
    }

    pub fn set_status(&mut self, repository: u64, sha: &str, status: Status) {
        let creator = user_json(self, status.creator);
        let payload =
            json!({"sha": sha, "state": status.state, "context": status.context, "sender": creator});
        let record = self.repository_mut(repository);
        record.statuses.entry(sha.to_owned()).or_default().push(status);
        self.raise(repository, "status", payload);
    }
}

/// What the tests do.
impl FakeGitHub {
    pub fn add_user(&self, login: &str, email: &str) -> u64 {
        self.change(|state| {
            let id = state.fresh();
            let user = User {
                id,
                login: login.to_owned(),
                name: login.to_owned(),
                email: email.to_owned(),
                bio: None,
            };
            state.users.insert(id, user);
            id
        })
    }

    /// A person's own token.
    pub fn add_token(&self, user: u64) -> String {
        self.change(|state| {
            let token = format!("ghp_fake{:030}", state.fresh());
            state.personal.insert(token.clone(), user);
            token
        })
    }

    /// A repository whose branch `main` has one commit.
    pub fn add_repository(&self, id: u64, owner: &str, name: &str) {
        self.change(|state| {
            let edits = vec![Edit::write("README.md", "# A repository\n")];
            let first = NewCommit::by("Initial", "initial@example.com", "Initial commit", edits);
            let sha = state.objects.commit(None, &first);
            let repository = Repository {
                id,
                owner: owner.to_owned(),
                name: name.to_owned(),
                branches: BTreeMap::from([("main".to_owned(), sha)]),
                pulls: BTreeMap::new(),
                statuses: BTreeMap::new(),
                activity: Vec::new(),
                rulesets: Vec::new(),
                classic: BTreeMap::new(),
                merge_commits: true,
                squash: true,
                rebase: true,
                queue: BTreeMap::new(),
                counted_files: None,
                forked_from: None,
                deploys: Vec::new(),
                environments: Vec::new(),
            };
            state.repositories.insert(id, repository);
        });
    }

    /// A fork under another owner: the same commits and branches.
    pub fn fork(&self, of: u64, id: u64, owner: &str) {
        self.change(|state| {
            let mut fork = state.repository(of).clone();
            (fork.id, fork.owner, fork.forked_from) = (id, owner.to_owned(), Some(of));
            fork.pulls.clear();
            fork.activity.clear();
            state.repositories.insert(id, fork);
        });
    }

    /// Installs the App on repositories, with what the manifest asks for.
    pub fn install(&self, account: &str, repositories: &[u64], write: bool) -> u64 {
        self.change(|state| {
            let id = state.fresh();
            let access = if write { "write" } else { "read" };
            let permissions = [
                ("metadata", "read"),
                ("statuses", "write"),
                ("checks", "read"),
                ("pull_requests", access),
                ("contents", access),
                ("merge_queues", "read"),
                ("actions", "read"),
                ("deployments", "write"),
                ("administration", "write"),
            ];
            let events = [
                "pull_request",
                "push",
                "status",
                "merge_group",
                "deployment_protection_rule",
            ];
            state.installations.insert(
                id,
                Installation {
                    id,
                    account: account.to_owned(),
                    suspended: false,
                    repositories: repositories.to_vec(),
                    permissions: permissions
                        .into_iter()
                        .map(|(name, access)| (name.to_owned(), access.to_owned()))
                        .collect(),
                    events: events.map(str::to_owned).to_vec(),
                },
            );
            id
        })
    }

    /// Requires the check of a branch, from the App, with nobody to bypass it.
    pub fn require_check(&self, repository: u64, branch: &str, source: Option<u64>, bypass: Vec<Value>) {
        self.change(|state| {
            let id = state.fresh();
            let mut check = json!({ "context": format!("signedapproval/{branch}") });
            if let Some(source) = source {
                check["integration_id"] = json!(source);
            }
            let ruleset = Ruleset {
                id,
                name: format!("Gate of {branch}"),
                branches: vec![branch.to_owned()],
                rules: vec![
                    json!({"type": "required_status_checks", "parameters": {"required_status_checks": [check],
                        "strict_required_status_checks_policy": false, "do_not_enforce_on_create": false}}),
                    json!({"type": "non_fast_forward"}),
                ],
                bypass,
            };
            state.repository_mut(repository).rulesets.push(ruleset);
        });
    }

    /// As an admin sets a hard gate up.
    pub fn gate(&self, repository: u64, branch: &str) {
        self.require_check(repository, branch, Some(APP), Vec::new());
    }

    /// A branch at another's tip, without any event.
    pub fn branch(&self, repository: u64, name: &str, at: &str) {
        self.change(|state| {
            let record = state.repository_mut(repository);
            let sha = record.branches.get(at).cloned().unwrap_or_else(|| at.to_owned());
            record.branches.insert(name.to_owned(), sha);
        });
    }

    /// A commit on a branch, made before anybody looked.
    pub fn commit(&self, repository: u64, branch: &str, by: u64, new: &NewCommit) -> Sha {
        self.change(|state| {
            let parent = state.repository(repository).branches[branch].clone();
            let sha = state.objects.commit(Some(&parent), new);
            let record = state.repository_mut(repository);
            record.branches.insert(branch.to_owned(), sha.clone());
            record.activity.push(Activity {
                kind: "branch_creation",
                reference: format!("refs/heads/{branch}"),
                before: NO_SHA.to_owned(),
                after: sha.clone(),
                actor: by,
                at: Timestamp::now(),
            });
            sha
        })
    }

    pub fn push(&self, repository: u64, branch: &str, by: u64, new: &NewCommit) -> Sha {
        self.change(|state| {
            let parent = state.repository(repository).branches[branch].clone();
            let sha = state.objects.commit(Some(&parent), new);
            state.move_branch(repository, branch, &sha, "push", by);
            sha
        })
    }

    pub fn force_push(&self, repository: u64, branch: &str, by: u64, to: &str) {
        self.change(|state| state.move_branch(repository, branch, to, "force_push", by));
    }

    /// Opens a pull request; `source` is the repository of the branch.
    pub fn open(
        &self,
        repository: u64,
        source: u64,
        branch: &str,
        target: &str,
        title: &str,
        author: u64,
    ) -> u64 {
        self.change(|state| {
            let head = state.repository(source).branches[branch].clone();
            let id = state.fresh();
            let record = state.repository_mut(repository);
            let number = record.pulls.keys().last().copied().unwrap_or(0) + 1;
            let base = record.branches[target].clone();
            record.pulls.insert(
                number,
                Pull {
                    number,
                    id,
                    title: title.to_owned(),
                    author,
                    source,
                    head_ref: branch.to_owned(),
                    head,
                    base_ref: target.to_owned(),
                    base,
                    closed: false,
                    draft: false,
                    merged: None,
                    updated: Timestamp::now(),
                },
            );
            state.raise_pull(repository, number, "opened", author, json!({}));
            number
        })
    }

    fn edit(
        &self,
        repository: u64,
        number: u64,
        action: &str,
        by: u64,
        edit: impl FnOnce(&mut Pull) -> Value,
    ) {
        self.change(|state| {
            let pull = state
                .repository_mut(repository)
                .pulls
                .get_mut(&number)
                .expect("a pull request");
            let more = edit(pull);
            pull.updated = Timestamp::now();
            state.raise_pull(repository, number, action, by, more);
        });
    }

    pub fn retarget(&self, repository: u64, number: u64, target: &str, by: u64) {
        let tip = self.read(|it| it.repository(repository).branches[target].clone());
        self.edit(repository, number, "edited", by, |pull| {
            let from = std::mem::replace(&mut pull.base_ref, target.to_owned());
            pull.base = tip;
            json!({"changes": {"base": {"ref": {"from": from}}}})
        });
    }

    pub fn close(&self, repository: u64, number: u64, by: u64) {
        self.edit(repository, number, "closed", by, |pull| {
            pull.closed = true;
            json!({})
        });
    }

    pub fn reopen(&self, repository: u64, number: u64, by: u64) {
        self.edit(repository, number, "reopened", by, |pull| {
            pull.closed = false;
            json!({})
        });
    }

    pub fn make_draft(&self, repository: u64, number: u64, by: u64, draft: bool) {
        let action = if draft {
            "converted_to_draft"
        } else {
            "ready_for_review"
        };
        self.edit(repository, number, action, by, |pull| {
            pull.draft = draft;
            json!({})
        });
    }

    /// Merges past every rule, as an administrator may who bypasses them.
    pub fn merge_past_the_rules(&self, repository: u64, number: u64, method: &str, by: u64) -> Sha {
        self.change(|state| state.merge(repository, number, method, by))
    }

    /// The newest state of a context on a commit.
    pub fn status(&self, repository: u64, sha: &str, context: &str) -> Option<String> {
        self.read(|state| {
            state
                .newest(repository, sha)
                .get(&context.to_ascii_lowercase())
                .map(|it| it.state.clone())
        })
    }

    pub fn pull(&self, repository: u64, number: u64) -> Pull {
        self.read(|state| state.repository(repository).pulls[&number].clone())
    }
}
