//! What people do on Bitbucket, and what it tells of that.

use crate::support::forge::bitbucket_data_center::FakeBitbucketDataCenter;
use crate::support::forge::bitbucket_data_center::shapes::{pull_json, repository_json, time, user_json};
use crate::support::forge::bitbucket_data_center::state::{
    Access, Activity, Build, Hook, Move, Pull, Repository, State, Token, User,
};
use crate::support::forge::github::hooks_sign;
use crate::support::forge::gitlab::repository::{Edit, NO_SHA, NewCommit, Sha, Signature};
use crate::support::forge::host::Outgoing;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

impl State {
    /// Tells the subscribers of an event.
    pub fn raise(&mut self, repository: u64, event: &str, by: u64, mut payload: Value) {
        payload["eventKey"] = json!(event);
        payload["date"] = json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+0000").to_string());
        payload["actor"] = user_json(self, by);
        let hooks = self.repository(repository).hooks.clone();
        for hook in hooks
            .iter()
            .filter(|it| it.active && it.events.iter().any(|it| it == event))
        {
            if self.silent {
                continue;
            }
            let body = payload.to_string().into_bytes();
            let id = format!("d872ad25-24fe-4278-a73a-{:012x}", self.fresh());
            let mut headers = vec![
                (
                    "content-type".to_owned(),
                    "application/json; charset=utf-8".to_owned(),
                ),
                ("x-event-key".to_owned(), event.to_owned()),
                ("x-request-id".to_owned(), id),
            ];
            if let Some(secret) = &hook.secret {
                headers.push(("x-hub-signature".to_owned(), hooks_sign(secret, &body)));
            }
            self.raised.push(Outgoing {
                url: hook.url.clone(),
                headers,
                body,
            });
        }
    }

    pub fn raise_pull(&mut self, repository: u64, number: u64, event: &str, by: u64, more: Value) {
        let mut payload = json!({ "pullRequest": pull_json(self, repository, number) });
        for (name, value) in more.as_object().into_iter().flatten() {
            payload[name] = value.clone();
        }
        self.raise(repository, event, by, payload);
    }

    /// Notes that something happened to a pull request.
    pub fn note(&mut self, repository: u64, number: u64, action: &'static str, by: u64, more: Value) {
        let id = self.fresh();
        let pull = self.pull_mut(repository, number);
        pull.updated = Timestamp::now();
        pull.activities.push(Activity {
            id,
            action,
            user: by,
            at: Timestamp::now(),
            more,
        });
    }

    pub fn pull_mut(&mut self, repository: u64, number: u64) -> &mut Pull {
        let pulls = &mut self.repository_mut(repository).pulls;
        pulls.get_mut(&number).expect("a pull request of this fake")
    }

    /// Moves a branch, as a push does; pull requests from it and into it move along.
    pub fn move_branch(&mut self, repository: u64, branch: &str, to: &str, by: u64) {
        let reference = format!("refs/heads/{branch}");
        let id = self.fresh();
        let record = self.repository_mut(repository);
        let before = record.branches.insert(branch.to_owned(), to.to_owned());
        record.moved.insert(branch.to_owned(), Timestamp::now());
        let kind = if before.is_some() { "UPDATE" } else { "ADD" };
        let before = before.unwrap_or_else(|| NO_SHA.to_owned());
        record.moves.push(Move {
            id,
            reference: reference.clone(),
            from: before.clone(),
            to: to.to_owned(),
            kind,
            by,
            at: Timestamp::now(),
        });
        let shown = repository_json(self, repository);
        let change = json!({"ref": {"id": reference, "displayId": branch, "type": "BRANCH"}, "refId": reference,
            "fromHash": before, "toHash": to, "type": kind});
        self.raise(
            repository,
            "repo:refs_changed",
            by,
            json!({"repository": shown, "changes": [change]}),
        );
        let all: Vec<(u64, Pull)> = self
            .repositories
            .values()
            .flat_map(|it| it.pulls.values().map(|pull| (it.id, pull.clone())))
            .filter(|(_, it)| it.state == "OPEN")
            .collect();
        for (target, pull) in all {
            let from = pull.source == repository && pull.from_ref == branch;
            let into = target == repository && pull.to_ref == branch;
            if !from && !into {
                continue;
            }
            let it = self.pull_mut(target, pull.id);
            if from {
                it.head = to.to_owned();
            }
            if into {
                it.tip = to.to_owned();
            }
            let head = it.head.clone();
            // New commits leave the version as it is.
            let more = json!({"fromHash": head, "previousFromHash": pull.head, "toHash": to, "previousToHash": pull.tip});
            self.note(target, pull.id, "RESCOPED", by, more);
            if from {
                let more = json!({"previousFromHash": pull.head});
                self.raise_pull(target, pull.id, "pr:from_ref_updated", by, more);
            }
        }
    }

    /// Merges, as the button or the API does.
    pub fn merge(&mut self, repository: u64, number: u64, strategy: &str, by: u64) -> Sha {
        let pull = self.repository(repository).pulls[&number].clone();
        let tip = self.repository(repository).branches[&pull.to_ref].clone();
        let who = self.users[&by].clone();
        let signature = Signature::new(&who.name, &who.email);
        let (tree, conflicts) = self.objects.merged_tree(&tip, &pull.head);
        assert!(conflicts.is_empty(), "a conflict was merged: {conflicts:?}");
        let tree = Arc::new(tree);
        let message = format!("Pull request #{number}: {}", pull.title);
        let landed = match strategy {
            "ff-only" => pull.head.clone(),
            "squash" => self
                .objects
                .store(vec![tip], &signature, &signature, &message, tree),
            "rebase-no-ff" | "rebase-ff-only" => {
                let base = self.objects.merge_base(&tip, &pull.head);
                let mut row = self.objects.range(base.as_deref(), &pull.head);
                row.reverse();
                let mut onto = tip.clone();
                for sha in row {
                    let old = self.objects.get(&sha).expect("a commit").clone();
                    let below = old.parents.first().cloned();
                    let (tree, _) = self.objects.merged_over(below.as_deref(), &onto, &sha);
                    let tree = Arc::new(tree);
                    onto = self
                        .objects
                        .store(vec![onto], &old.author, &signature, &old.message, tree);
                }
                match strategy {
                    "rebase-no-ff" => {
                        let parents = vec![tip, onto];
                        self.objects
                            .store(parents, &signature, &signature, &message, tree)
                    }
                    _ => onto,
                }
            }
            _ => {
                let parents = vec![tip, pull.head.clone()];
                self.objects
                    .store(parents, &signature, &signature, &message, tree)
            }
        };
        self.landed(repository, number, &landed, by);
        landed
    }

    /// A pull request has landed as this commit.
    pub fn landed(&mut self, repository: u64, number: u64, commit: &str, by: u64) {
        let it = self.pull_mut(repository, number);
        it.state = "MERGED";
        it.version += 1;
        it.closed = Some(Timestamp::now());
        it.merge_commit = (commit != it.head).then(|| commit.to_owned());
        let (branch, at) = (it.to_ref.clone(), time(Timestamp::now()));
        self.move_branch(repository, &branch, commit, by);
        let more = json!({"commit": {"id": commit}, "at": at});
        self.note(repository, number, "MERGED", by, more);
        self.raise_pull(repository, number, "pr:merged", by, json!({}));
    }
}

/// Lands what the merge queue has prepared and whose required builds are all there; throws out what failed.
pub fn land_queue(state: &mut State, repository: u64) {
    let queue = state.repository(repository).queue.clone();
    for (branch, number) in queue {
        let record = state.repository(repository);
        let commit = record.branches[&branch].clone();
        let target = record.pulls[&number].to_ref.clone();
        let key = format!("signedapproval/{target}");
        let found = record
            .builds
            .get(&commit)
            .and_then(|it| it.get(&key))
            .map(|it| it.state.clone());
        let on_top = state
            .objects
            .get(&commit)
            .is_some_and(|it| it.parents[0] == record.branches[&target]);
        match found.as_deref() {
            Some("SUCCESSFUL") if on_top => {
                let by = state.repository(repository).pulls[&number].author;
                state.landed(repository, number, &commit, by);
            }
            Some("FAILED") => {}
            _ => continue,
        }
        let record = state.repository_mut(repository);
        record.queue.retain(|it| it.1 != number);
        record.branches.remove(&branch);
    }
}

/// What the tests do.
impl FakeBitbucketDataCenter {
    pub fn add_user(&self, name: &str, email: &str) -> u64 {
        self.change(|state| {
            let id = state.fresh();
            let user = User {
                id,
                name: name.to_owned(),
                display: name.to_uppercase(),
                email: email.to_owned(),
                service: email.is_empty(),
            };
            state.users.insert(id, user);
            id
        })
    }

    /// A token of somebody's.
    pub fn add_token(&self, user: u64, access: Access) -> String {
        self.change(|state| {
            let token = format!("BBDC-{:040}", state.fresh());
            let it = Token {
                user,
                access,
                revoked: false,
            };
            state.tokens.insert(token.clone(), it);
            token
        })
    }

    pub fn revoke(&self, token: &str) {
        self.change(|state| state.tokens.get_mut(token).expect("a token of this fake").revoked = true);
    }

    /// A repository whose branch `main` has one commit.
    pub fn add_repository(&self, id: u64, key: &str, slug: &str) {
        self.change(|state| {
            let edits = vec![Edit::write("README.md", "# A repository\n")];
            let first = NewCommit::by("Initial", "initial@example.com", "Initial commit", edits);
            let sha = state.objects.commit(None, &first);
            let repository = Repository {
                id,
                key: key.to_owned(),
                slug: slug.to_owned(),
                branches: BTreeMap::from([("main".to_owned(), sha)]),
                moved: BTreeMap::new(),
                pulls: BTreeMap::new(),
                builds: BTreeMap::new(),
                moves: Vec::new(),
                restrictions: Vec::new(),
                conditions: Vec::new(),
                members: BTreeMap::new(),
                hooks: Vec::new(),
                strategy: "no-ff",
                settings: json!({"requiredAllApprovers": false, "requiredAllTasksComplete": false}),
                forked_from: None,
                queue: Vec::new(),
            };
            state.repositories.insert(id, repository);
        });
    }

    /// A fork in somebody's own project: the same commits and branches, other members.
    pub fn fork(&self, of: u64, id: u64, owner: u64) {
        self.change(|state| {
            let mut fork = state.repository(of).clone();
            (fork.id, fork.forked_from) = (id, Some(of));
            fork.key = format!("~{}", state.users[&owner].name);
            fork.pulls.clear();
            fork.moves.clear();
            fork.hooks.clear();
            fork.members = BTreeMap::from([(owner, Access::Admin)]);
            state.repositories.insert(id, fork);
        });
    }

    pub fn let_in(&self, repository: u64, user: u64, access: Access) {
        self.change(|state| state.repository_mut(repository).members.insert(user, access));
    }

    /// Prevents a kind of change to a branch, but for some.
    pub fn restrict(&self, repository: u64, branch: &str, kind: &str, users: &[u64], groups: &[&str]) {
        self.change(|state| {
            let id = state.fresh();
            let users: Vec<Value> = users.iter().map(|it| user_json(state, *it)).collect();
            let reference = format!("refs/heads/{branch}");
            let restriction = json!({
                "id": id, "type": kind, "users": users, "groups": groups, "accessKeys": [],
                "scope": {"type": "REPOSITORY", "resourceId": repository},
                "matcher": {"id": reference, "displayId": branch, "active": true, "type": {"id": "BRANCH", "name": "Branch"}},
            });
            state.repository_mut(repository).restrictions.push(restriction);
        });
    }

    /// Requires the build of a branch.
    pub fn require_build(&self, repository: u64, branch: &str) {
        self.change(|state| {
            let id = state.fresh();
            let reference = format!("refs/heads/{branch}");
            let condition = json!({
                "id": id, "buildParentKeys": [format!("signedapproval/{branch}")],
                "refMatcher": {"id": reference, "displayId": branch, "type": {"id": "BRANCH", "name": "Branch"}},
            });
            state.repository_mut(repository).conditions.push(condition);
        });
    }

    pub fn add_hook(&self, repository: u64, url: &str, secret: &str) {
        self.change(|state| {
            let id = state.fresh();
            let events = [
                "repo:refs_changed",
                "pr:opened",
                "pr:from_ref_updated",
                "pr:modified",
                "pr:merged",
                "pr:declined",
                "pr:deleted",
            ];
            state.repository_mut(repository).hooks.push(Hook {
                id,
                url: url.to_owned(),
                secret: Some(secret.to_owned()),
                events: events.map(str::to_owned).to_vec(),
                active: true,
            });
        });
    }

    /// A branch at another's tip, without any event.
    pub fn branch(&self, repository: u64, name: &str, at: &str) {
        self.change(|state| {
            let record = state.repository_mut(repository);
            let sha = record.branches.get(at).cloned().unwrap_or_else(|| at.to_owned());
            record.branches.insert(name.to_owned(), sha);
            record.moved.insert(name.to_owned(), Timestamp::now());
        });
    }

    /// A commit on a branch that was made with it.
    pub fn commit(&self, repository: u64, branch: &str, by: u64, new: &NewCommit) -> Sha {
        self.change(|state| {
            let parent = state.repository(repository).branches[branch].clone();
            let sha = state.objects.commit(Some(&parent), new);
            state.repository_mut(repository).branches.remove(branch);
            state.move_branch(repository, branch, &sha, by);
            sha
        })
    }

    pub fn push(&self, repository: u64, branch: &str, by: u64, new: &NewCommit) -> Sha {
        self.change(|state| {
            let parent = state.repository(repository).branches[branch].clone();
            let sha = state.objects.commit(Some(&parent), new);
            state.move_branch(repository, branch, &sha, by);
            sha
        })
    }

    pub fn force_push(&self, repository: u64, branch: &str, by: u64, to: &str) {
        self.change(|state| state.move_branch(repository, branch, to, by));
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
            let record = state.repository_mut(repository);
            let id = record.pulls.keys().last().copied().unwrap_or(0) + 1;
            let now = Timestamp::now();
            let pull = Pull {
                id,
                version: 0,
                title: title.to_owned(),
                author,
                source,
                from_ref: branch.to_owned(),
                head,
                to_ref: target.to_owned(),
                tip: record.branches[target].clone(),
                state: "OPEN",
                draft: false,
                created: now,
                updated: now,
                closed: None,
                merge_commit: None,
                activities: Vec::new(),
            };
            record.pulls.insert(id, pull);
            state.note(repository, id, "OPENED", author, json!({}));
            state.raise_pull(repository, id, "pr:opened", author, json!({}));
            id
        })
    }

    /// Edits a pull request, which raises its version.
    pub fn edit(&self, repository: u64, number: u64, by: u64, edit: impl FnOnce(&mut Pull)) {
        self.change(|state| {
            let before = state.repository(repository).pulls[&number].clone();
            let pull = state.pull_mut(repository, number);
            pull.version += 1;
            edit(pull);
            let (target, draft) = (pull.to_ref.clone(), pull.draft);
            let tip = state.repository(repository).branches[&target].clone();
            state.pull_mut(repository, number).tip = tip;
            state.note(repository, number, "UPDATED", by, json!({}));
            let more = json!({"previousTitle": before.title, "previousDraft": before.draft, "draft": draft,
                "previousTarget": {"id": format!("refs/heads/{}", before.to_ref), "latestCommit": before.tip}});
            state.raise_pull(repository, number, "pr:modified", by, more);
        });
    }

    pub fn retarget(&self, repository: u64, number: u64, target: &str, by: u64) {
        self.edit(repository, number, by, |it| it.to_ref = target.to_owned());
    }

    pub fn decline(&self, repository: u64, number: u64, by: u64) {
        self.change(|state| {
            let it = state.pull_mut(repository, number);
            it.state = "DECLINED";
            it.version += 1;
            it.closed = Some(Timestamp::now());
            state.note(repository, number, "DECLINED", by, json!({}));
            state.raise_pull(repository, number, "pr:declined", by, json!({}));
        });
    }

    /// Opens a declined one again, of which Bitbucket tells nobody.
    pub fn reopen(&self, repository: u64, number: u64, by: u64) {
        self.change(|state| {
            let it = state.pull_mut(repository, number);
            it.state = "OPEN";
            it.version += 1;
            it.closed = None;
            state.note(repository, number, "REOPENED", by, json!({}));
        });
    }

    /// Whoever rules Bitbucket takes the rules away, merges, and puts them back.
    pub fn merge_past_the_rules(&self, repository: u64, number: u64, strategy: &str, by: u64) -> Sha {
        self.change(|state| state.merge(repository, number, strategy, by))
    }

    /// The merge queue prepares the commit that it is about to land; its name.
    pub fn enqueue(&self, repository: u64, number: u64) -> Sha {
        self.change(|state| {
            let pull = state.repository(repository).pulls[&number].clone();
            let last = state.repository(repository).queue.last().map(|it| it.0.clone());
            let onto = last.unwrap_or_else(|| pull.to_ref.clone());
            let onto = state.repository(repository).branches[&onto].clone();
            let (tree, _) = state.objects.merged_tree(&onto, &pull.head);
            let who = Signature::new("Bitbucket", "bitbucket@example.com");
            let parents = vec![onto, pull.head.clone()];
            let message = format!("Pull request #{number}");
            let sha = state.objects.store(parents, &who, &who, &message, Arc::new(tree));
            let branch = format!("merge-queue/{}/{number}", pull.to_ref);
            state.move_branch(repository, &branch, &sha, pull.author);
            state.repository_mut(repository).queue.push((branch, number));
            sha
        })
    }

    pub fn pull(&self, repository: u64, number: u64) -> Pull {
        self.read(|state| state.repository(repository).pulls[&number].clone())
    }

    /// The state of a build of a commit, in Bitbucket's word.
    pub fn status(&self, repository: u64, sha: &str, key: &str) -> Option<String> {
        self.build(repository, sha, key).map(|it| it.state)
    }

    pub fn build(&self, repository: u64, sha: &str, key: &str) -> Option<Build> {
        self.read(|state| state.repository(repository).builds.get(sha)?.get(key).cloned())
    }
}
