//! What people do past the API: pushes with and without the right to, merges by hand, tags, threads.
//! `try_…` is refused as git and GitLab's page refuse it; `…_anyway` is an owner who lifts the protection for a moment.

use jiff::Timestamp;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::changes::StatusPost;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::merging::Unmerged;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NO_SHA;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::PushEvent;
use crate::support::forge::gitlab::state::State;

const NO_PUSH: &str = "GitLab: You are not allowed to push code to protected branches on this project.";
const NO_FORCE: &str =
    "GitLab: You are not allowed to force push code to a protected branch on this project.";
const NO_DELETE: &str = "GitLab: You can only delete protected branches using the web interface.";

/// Why a `git push` to the branch is refused, if it is.
fn push_refused(state: &State, project: u64, branch: &str, user: u64) -> Result<(), String> {
    if state.level(project, user) < DEVELOPER {
        return Err("GitLab: You are not allowed to push code to this project.".to_owned());
    }
    if state.may_push_to(project, branch, user) {
        Ok(())
    } else {
        Err(NO_PUSH.to_owned())
    }
}

/// Forwards-only branches take no history away; every matching rule must allow it, as in GitLab.
fn force_refused(state: &State, project: u64, branch: &str, sha: &str) -> Result<(), String> {
    let forward = state
        .branch(project, branch)
        .is_none_or(|tip| state.objects.is_ancestor(tip, sha));
    let rules = state.protections(project, branch);
    if forward || rules.iter().all(|rule| rule.allow_force_push) {
        Ok(())
    } else {
        Err(NO_FORCE.to_owned())
    }
}

/// Lifting a protection takes a Maintainer.
fn assert_may_lift(state: &State, project: u64, user: u64) {
    assert!(
        state.level(project, user) >= MAINTAINER,
        "user {user} may not lift protections"
    );
}

/// Pushes.
impl FakeGitLab {
    /// Makes the user an administrator of the instance.
    pub fn make_admin(&self, user: u64) {
        self.change_state(|state| state.users.get_mut(&user).expect("an existing user").admin = true);
    }

    /// A user sets their own status.
    pub fn set_status_message(&self, user: u64, message: &str) {
        self.change_state(|state| {
            state
                .users
                .get_mut(&user)
                .expect("an existing user")
                .status_message = Some(message.to_owned());
        });
    }

    /// A new commit by `git push`, if the branch's protection lets the user.
    pub fn try_push(&self, project: u64, branch: &str, user: u64, new: &NewCommit) -> Result<Sha, String> {
        self.read(|state| push_refused(state, project, branch, user))?;
        Ok(self.push(project, branch, user, new))
    }

    /// The same by somebody who may lift the protection and does, for this push.
    pub fn push_anyway(&self, project: u64, branch: &str, user: u64, new: &NewCommit) -> Sha {
        self.read(|state| assert_may_lift(state, project, user));
        self.push(project, branch, user, new)
    }

    /// `git push --force` to any known commit, if the protection lets the user.
    pub fn try_force_push(&self, project: u64, branch: &str, user: u64, sha: &str) -> Result<(), String> {
        self.read(|state| {
            push_refused(state, project, branch, user)?;
            force_refused(state, project, branch, sha)
        })?;
        self.force_push(project, branch, user, sha);
        Ok(())
    }

    /// The same by somebody who may lift the protection and does, for this push.
    pub fn force_push_anyway(&self, project: u64, branch: &str, user: u64, sha: &str) {
        self.read(|state| assert_may_lift(state, project, user));
        self.force_push(project, branch, user, sha);
    }

    /// Pushes a new branch that points at a commit or another branch's tip.
    pub fn try_create_branch(&self, project: u64, name: &str, at: &str, user: u64) -> Result<Sha, String> {
        self.read(|state| push_refused(state, project, name, user))?;
        self.change_state(|state| {
            if state.branch(project, name).is_some() {
                return Err("GitLab: Branch already exists".to_owned());
            }
            let sha = state
                .find_commit(project, at)
                .unwrap_or_else(|| panic!("no commit or branch {at}"));
            state.set_branch(project, name, &sha);
            state.pushed(project, name, None, user);
            Ok(sha)
        })
    }

    /// `git push --delete`: never for a protected branch, whoever asks.
    pub fn try_delete_branch(&self, project: u64, branch: &str, user: u64) -> Result<(), String> {
        self.read(|state| {
            push_refused(state, project, branch, user)?;
            if state.protections(project, branch).is_empty() {
                Ok(())
            } else {
                Err(NO_DELETE.to_owned())
            }
        })?;
        self.delete_branch(project, branch, user);
        Ok(())
    }

    /// A hand-made merge of `theirs` (a commit or a branch) into the branch whose tree carries edits no reviewed commit
    /// has. Pushed without a look at protections; see `try_push` with [`FakeGitLab::evil_merge`] for the other.
    pub fn push_evil_merge(
        &self,
        project: u64,
        branch: &str,
        user: u64,
        theirs: &str,
        edits: Vec<Edit>,
    ) -> Sha {
        let new = self.evil_merge(project, branch, user, theirs, edits);
        self.push(project, branch, user, &new)
    }

    /// The commit `push_evil_merge` pushes, with GitLab's own words for a merge.
    pub fn evil_merge(
        &self,
        project: u64,
        branch: &str,
        user: u64,
        theirs: &str,
        edits: Vec<Edit>,
    ) -> NewCommit {
        self.read(|state| {
            let person = state.users.get(&user).expect("an existing user");
            let sha = state
                .find_commit(project, theirs)
                .unwrap_or_else(|| panic!("no commit or branch {theirs}"));
            let message = format!("Merge branch '{theirs}' into '{branch}'");
            NewCommit::by(&person.name, &person.email, &message, edits).merging(&sha)
        })
    }

    /// Pushes a tag, which may bear the name of a branch: Tag Push Hook and push event.
    pub fn push_tag(&self, project: u64, name: &str, sha: &str, user: u64) {
        self.change_state(|state| {
            let before = state.project(project).tags.get(name).cloned();
            state
                .project_mut(project)
                .tags
                .insert(name.to_owned(), sha.to_owned());
            let id = state.fresh_id();
            let event = PushEvent {
                id,
                user,
                branch: name.to_owned(),
                tag: true,
                before: before.unwrap_or_else(|| NO_SHA.to_owned()),
                after: sha.to_owned(),
                commits: 0,
                title: String::new(),
                at: Timestamp::now(),
            };
            let body = payloads::push_hook(state, project, &event, &[], user);
            state.project_mut(project).pushes.push(event);
            state.raise(project, "Tag Push Hook", "tag_push_events", &body);
        });
    }
}

/// Merge requests and statuses.
impl FakeGitLab {
    /// A person's merge on the page; the error is what GitLab would show instead of the button.
    pub fn try_merge_as(&self, project: u64, iid: u64, user: u64, wish: &MergeWish) -> Result<(), String> {
        self.change_state(|state| {
            let target = state.change(project, iid).target_branch.clone();
            if !state.may_merge_into(project, &target, user) {
                return Err("Ready to merge by members who can write to the target branch.".to_owned());
            }
            match state.merge(project, iid, user, wish) {
                Ok(()) => Ok(()),
                Err(Unmerged::Conflict) => Err("conflict".to_owned()),
                Err(Unmerged::NotMergeable(why)) => Err(why),
            }
        })
    }

    /// A person's rebase on the page.
    pub fn rebase(&self, project: u64, iid: u64, user: u64) {
        self.change_state(|state| state.rebase(project, iid, user));
    }

    /// Opens a thread that has to be resolved.
    pub fn open_thread(&self, project: u64, iid: u64) {
        self.change_state(|state| {
            state.change_mut(project, iid).unresolved += 1;
            state.touch(project, iid);
        });
    }

    /// Resolves every thread.
    pub fn resolve_threads(&self, project: u64, iid: u64) {
        self.change_state(|state| {
            state.change_mut(project, iid).unresolved = 0;
            state.touch(project, iid);
            state.run_auto_merges();
        });
    }

    /// As `post_status`, but with the refusal instead of a panic, and into a pipeline of choice.
    pub fn try_post_status(
        &self,
        project: u64,
        sha: &str,
        user: u64,
        post: &StatusPost,
    ) -> Result<u64, String> {
        self.change_state(|state| {
            if state.level(project, user) < DEVELOPER {
                return Err("403 Forbidden".to_owned());
            }
            let posted = state.post_status(project, sha, user, post);
            posted.map_err(|refusal| format!("{refusal:?}"))
        })
    }
}
