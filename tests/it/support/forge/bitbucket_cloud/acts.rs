//! What people do on Bitbucket, and what it tells of that.

use crate::support::forge::bitbucket_cloud::FakeBitbucketCloud;
use crate::support::forge::bitbucket_cloud::shapes::{pull_json, repository_json, status_json, user_json};
use crate::support::forge::bitbucket_cloud::state::{Hook, Pull, Repository, State, Status, Token, User};
use crate::support::forge::gitlab::repository::{Edit, NewCommit, Sha, Signature};
use crate::support::forge::host::Outgoing;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a webhook of this product subscribes to.
pub const EVENTS: [&str; 7] = [
    "repo:push",
    "repo:commit_status_created",
    "repo:commit_status_updated",
    "pullrequest:created",
    "pullrequest:updated",
    "pullrequest:fulfilled",
    "pullrequest:rejected",
];

/// `X-Hub-Signature` of a body.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

impl State {
    /// Tells the subscribers of an event.
    fn raise(&mut self, id: &str, event: &str, by: &str, mut payload: Value) {
        if self.silent {
            return;
        }
        payload["repository"] = repository_json(self, id);
        payload["actor"] = user_json(self, by);
        let body = payload.to_string().into_bytes();
        let hooks = self.repository(id).hooks.clone();
        for hook in hooks
            .iter()
            .filter(|it| it.active && it.events.iter().any(|it| it == event))
        {
            let delivery = self.fresh_uuid();
            let mut headers = vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("user-agent".to_owned(), "Bitbucket-Webhooks/2.0".to_owned()),
                ("x-event-key".to_owned(), event.to_owned()),
                ("x-hook-uuid".to_owned(), "{fake-hook}".to_owned()),
                ("x-request-uuid".to_owned(), delivery),
                ("x-attempt-number".to_owned(), "1".to_owned()),
            ];
            if !hook.secret.is_empty() {
                headers.push(("x-hub-signature".to_owned(), sign(&hook.secret, &body)));
            }
            self.outgoing.push(Outgoing {
                url: hook.url.clone(),
                headers,
                body: body.clone(),
            });
        }
    }

    fn raise_pull(&mut self, id: &str, number: u64, event: &str, by: &str) {
        let pull = pull_json(self, id, &self.repository(id).pulls[&number], true);
        self.raise(
            id,
            &format!("pullrequest:{event}"),
            by,
            json!({ "pullrequest": pull }),
        );
    }

    /// Moves a branch, as a push does.
    pub fn move_branch(&mut self, id: &str, branch: &str, to: &str, by: &str) {
        let before = self
            .repository_mut(id)
            .branches
            .insert(branch.to_owned(), to.to_owned());
        let side =
            |sha: &str| json!({"type": "branch", "name": branch, "target": {"type": "commit", "hash": sha}});
        let change = json!({"old": before.as_deref().map(side), "new": side(to), "created": before.is_none(),
            "closed": false, "forced": false, "truncated": false});
        self.raise(id, "repo:push", by, json!({"push": {"changes": [change]}}));
        // Pull requests from this branch move along.
        let own: Vec<(String, u64)> = self
            .repositories
            .values()
            .flat_map(|it| it.pulls.values().map(|pull| (it.uuid.clone(), pull)))
            .filter(|(_, it)| it.source == id && it.source_branch == branch && it.state == "OPEN")
            .map(|(target, it)| (target, it.number))
            .collect();
        for (target, number) in own {
            let tip = {
                let record = self.repository(&target);
                record.branches.get(&record.pulls[&number].target_branch).cloned()
            };
            let pull = self.pull_mut(&target, number);
            pull.head = to.to_owned();
            pull.target = tip.unwrap_or_else(|| pull.target.clone());
            pull.updates.push((by.to_owned(), to.to_owned()));
            self.raise_pull(&target, number, "updated", by);
        }
    }

    /// A pull request that is about to be touched.
    fn pull_mut(&mut self, id: &str, number: u64) -> &mut Pull {
        let pull = self
            .repository_mut(id)
            .pulls
            .get_mut(&number)
            .expect("a pull request");
        pull.updated = Timestamp::now();
        pull
    }

    /// Merges, as the button or the API does; the commit it landed as.
    pub fn merge(&mut self, id: &str, number: u64, strategy: &str, by: &str) -> Sha {
        let pull = self.repository(id).pulls[&number].clone();
        let tip = self.repository(id).branches[&pull.target_branch].clone();
        let signature = match self.users.get(by) {
            Some(it) => Signature::new(&it.name, &it.email),
            None => Signature::new("Bitbucket", "noreply@bitbucket.org"),
        };
        let (tree, conflicts) = self.objects.merged_tree(&tip, &pull.head);
        assert!(conflicts.is_empty(), "a conflict was merged: {conflicts:?}");
        let tree = Arc::new(tree);
        let landed = match strategy {
            "squash" => self
                .objects
                .store(vec![tip], &signature, &signature, &pull.title, tree),
            "rebase_fast_forward" => {
                let base = self.objects.merge_base(&tip, &pull.head);
                let mut row = self.objects.range(base.as_deref(), &pull.head);
                row.reverse();
                let mut onto = tip;
                for sha in row {
                    let old = self.objects.get(&sha).expect("a commit").clone();
                    let below = old.parents.first().cloned();
                    let (tree, _) = self.objects.merged_over(below.as_deref(), &onto, &sha);
                    onto =
                        self.objects
                            .store(vec![onto], &old.author, &signature, &old.message, Arc::new(tree));
                }
                onto
            }
            "fast_forward" => pull.head.clone(),
            _ => {
                let parents = vec![tip, pull.head.clone()];
                let message = format!("Merged in {} (pull request #{number})", pull.source_branch);
                self.objects
                    .store(parents, &signature, &signature, &message, tree)
            }
        };
        let target = pull.target_branch.clone();
        let pull = self.pull_mut(id, number);
        pull.state = "MERGED";
        pull.landed = Some(landed.clone());
        pull.closed_by = Some(by.to_owned());
        self.move_branch(id, &target, &landed, by);
        self.raise_pull(id, number, "fulfilled", by);
        landed
    }

    pub fn set_status(&mut self, id: &str, sha: &str, status: Status) {
        let payload = json!({ "commit_status": status_json(&status) });
        let at = (sha.to_owned(), status.key.clone());
        let before = self.repository_mut(id).statuses.insert(at, status);
        let event = match before {
            None => "repo:commit_status_created",
            Some(_) => "repo:commit_status_updated",
        };
        self.raise(id, event, "{nobody}", payload);
    }
}

/// What the tests do.
impl FakeBitbucketCloud {
    /// A user; its UUID.
    pub fn add_user(&self, nickname: &str, email: &str) -> String {
        self.change(|state| {
            let uuid = state.fresh_uuid();
            let user = User {
                uuid: uuid.clone(),
                nickname: nickname.to_owned(),
                name: nickname.to_owned(),
                email: email.to_owned(),
            };
            state.users.insert(uuid.clone(), user);
            uuid
        })
    }

    /// A token: of a user, or (`None`) an access token.
    pub fn add_token(&self, user: Option<&str>, scopes: &[&str]) -> String {
        self.change(|state| {
            let secret = format!("ATATT3xFfGF0-fake{:030}", state.fresh());
            state.tokens.push(Token {
                secret: secret.clone(),
                user: user.map(str::to_owned),
                scopes: scopes.iter().map(|it| (*it).to_owned()).collect(),
                revoked: false,
            });
            secret
        })
    }

    /// A repository whose branch `main` has one commit; its UUID.
    pub fn add_repository(&self, workspace: &str, slug: &str) -> String {
        self.change(|state| {
            let edits = vec![Edit::write("README.md", "# A repository\n")];
            let first = NewCommit::by("Initial", "initial@example.com", "Initial commit", edits);
            let sha = state.objects.commit(None, &first);
            let uuid = state.fresh_uuid();
            let repository = Repository {
                uuid: uuid.clone(),
                workspace: workspace.to_owned(),
                slug: slug.to_owned(),
                branches: BTreeMap::from([("main".to_owned(), sha)]),
                pulls: BTreeMap::new(),
                statuses: BTreeMap::new(),
                restrictions: Vec::new(),
                hooks: Vec::new(),
                strategies: ["merge_commit", "squash", "fast_forward", "rebase_fast_forward"]
                    .map(str::to_owned)
                    .to_vec(),
                hidden: false,
            };
            state.repositories.insert(uuid.clone(), repository);
            uuid
        })
    }

    /// A fork in another workspace: the same commits and branches.
    pub fn fork(&self, of: &str, workspace: &str) -> String {
        self.change(|state| {
            let uuid = state.fresh_uuid();
            let mut fork = state.repository(of).clone();
            (fork.uuid, fork.workspace) = (uuid.clone(), workspace.to_owned());
            fork.pulls.clear();
            fork.hooks.clear();
            fork.restrictions.clear();
            state.repositories.insert(uuid.clone(), fork);
            uuid
        })
    }

    pub fn add_hook(&self, repository: &str, url: &str, secret: &str) {
        let hook = Hook {
            url: url.to_owned(),
            secret: secret.to_owned(),
            active: true,
            events: EVENTS.map(str::to_owned).to_vec(),
        };
        self.change(|state| state.repository_mut(repository).hooks.push(hook));
    }

    /// Restricts a branch, as an admin does.
    pub fn restrict(&self, repository: &str, kind: &str, branch: &str, users: &[&str]) {
        self.change(|state| {
            let id = state.fresh();
            let users: Vec<Value> = users.iter().map(|it| user_json(state, it)).collect();
            let rule = json!({"type": "branchrestriction", "id": id, "kind": kind, "branch_match_kind": "glob",
                "pattern": branch, "users": users, "groups": [], "value": 1});
            state.repository_mut(repository).restrictions.push(rule);
        });
    }

    /// A branch at another's tip, without any event.
    pub fn branch(&self, repository: &str, name: &str, at: &str) {
        self.change(|state| {
            let record = state.repository_mut(repository);
            let sha = record.branches.get(at).cloned().unwrap_or_else(|| at.to_owned());
            record.branches.insert(name.to_owned(), sha);
        });
    }

    /// A commit on a branch, made before anybody looked.
    pub fn commit(&self, repository: &str, branch: &str, new: &NewCommit) -> Sha {
        self.change(|state| {
            let parent = state.repository(repository).branches[branch].clone();
            let sha = state.objects.commit(Some(&parent), new);
            let record = state.repository_mut(repository);
            record.branches.insert(branch.to_owned(), sha.clone());
            sha
        })
    }

    pub fn push(&self, repository: &str, branch: &str, by: &str, new: &NewCommit) -> Sha {
        self.change(|state| {
            let parent = state.repository(repository).branches[branch].clone();
            let sha = state.objects.commit(Some(&parent), new);
            state.move_branch(repository, branch, &sha, by);
            sha
        })
    }

    /// Opens a pull request; `source` is the repository of the branch.
    pub fn open(&self, repository: &str, source: &str, branch: &str, target: &str, author: &str) -> u64 {
        self.change(|state| {
            let head = state.repository(source).branches[branch].clone();
            let record = state.repository_mut(repository);
            let number = record.pulls.keys().last().copied().unwrap_or(0) + 1;
            let tip = record.branches[target].clone();
            record.pulls.insert(
                number,
                Pull {
                    number,
                    title: "A change".to_owned(),
                    author: author.to_owned(),
                    source: source.to_owned(),
                    source_branch: branch.to_owned(),
                    updates: vec![(author.to_owned(), head.clone())],
                    head,
                    target_branch: target.to_owned(),
                    target: tip,
                    state: "OPEN",
                    draft: false,
                    landed: None,
                    closed_by: None,
                    updated: Timestamp::now(),
                },
            );
            state.raise_pull(repository, number, "created", author);
            number
        })
    }

    pub fn edit(&self, repository: &str, number: u64, event: &str, by: &str, edit: impl FnOnce(&mut Pull)) {
        self.change(|state| {
            let pull = state.pull_mut(repository, number);
            edit(pull);
            let head = pull.head.clone();
            pull.updates.push((by.to_owned(), head));
            state.raise_pull(repository, number, event, by);
        });
    }

    pub fn retarget(&self, repository: &str, number: u64, target: &str, by: &str) {
        let tip = self.read(|it| it.repository(repository).branches[target].clone());
        self.edit(repository, number, "updated", by, |pull| {
            pull.target_branch = target.to_owned();
            pull.target = tip;
        });
    }

    /// It can't be opened again.
    pub fn decline(&self, repository: &str, number: u64, by: &str) {
        self.edit(repository, number, "rejected", by, |pull| {
            pull.state = "DECLINED";
            pull.closed_by = Some(by.to_owned());
        });
    }

    /// Merges past every restriction, as an administrator does who lifts them for a moment.
    pub fn merge_past_the_rules(&self, repository: &str, number: u64, strategy: &str, by: &str) -> Sha {
        self.change(|state| state.merge(repository, number, strategy, by))
    }

    /// The state of a key on a commit.
    pub fn status(&self, repository: &str, sha: &str, key: &str) -> Option<String> {
        self.read(|state| {
            let at = (sha.to_owned(), key.to_owned());
            state
                .repository(repository)
                .statuses
                .get(&at)
                .map(|it| it.state.clone())
        })
    }

    pub fn pull(&self, repository: &str, number: u64) -> Pull {
        self.read(|state| state.repository(repository).pulls[&number].clone())
    }
}
