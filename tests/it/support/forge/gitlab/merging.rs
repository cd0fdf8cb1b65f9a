//! How the fake GitLab merges: methods, squash, rebase, and pushes that bring a merge request's commits in past its button.
//! Who may ask is decided elsewhere.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::repository::Signature;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::State;

/// Why a merge did not happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Unmerged {
    /// The detailed merge status forbids it: 405.
    NotMergeable(String),
    /// The trees conflict: 422.
    Conflict,
}

/// How somebody wants a merge.
#[derive(Clone, Debug, Default)]
pub struct MergeWish {
    /// None: as the project's squash option has it by default.
    pub squash: Option<bool>,
    pub message: Option<String>,
    pub squash_message: Option<String>,
    pub remove_source: bool,
}

impl State {
    /// Merge requests into a pushed branch: those whose head landed are merged; those whose commits landed get a new diff.
    pub fn refresh_targets(&mut self, project: u64, branch: &str, fresh: &[Sha], after: &str, user: u64) {
        let landed: HashSet<&Sha> = fresh.iter().collect();
        for (target, iid) in self.open_changes(|m| m.project == project && m.target_branch == branch) {
            let change = self.change(target, iid);
            if landed.contains(&change.head) {
                let merged = self.brought_in_by(&change.head, after, fresh);
                self.finish_merge(target, iid, user, Some(merged), None);
            } else if change.diff.commits.iter().any(|sha| landed.contains(sha)) {
                self.recompute(target, iid);
                self.touch(target, iid);
            }
        }
    }

    /// The pushed commit GitLab holds for the merge of `head`: the oldest one on the branch's own line that contains it,
    /// or `head` itself where it lies on that line.
    fn brought_in_by(&self, head: &str, after: &str, fresh: &[Sha]) -> Sha {
        let known: HashSet<&Sha> = fresh.iter().collect();
        let line = self.objects.first_parents(None, after);
        let line = line.iter().take_while(|sha| known.contains(sha));
        let oldest = line.filter(|sha| self.objects.is_ancestor(head, sha)).last();
        oldest.map_or_else(|| after.to_owned(), Clone::clone)
    }

    pub fn tree_status(&self, project: u64, iid: u64) -> &'static str {
        if self.conflicts(project, iid) {
            return "conflict";
        }
        let change = self.change(project, iid);
        let target = self
            .branch(project, &change.target_branch)
            .expect("checked by the caller");
        let linear = self.project(project).settings.merge_method != "merge";
        if linear && !self.objects.is_ancestor(target, &change.head) {
            return "need_rebase";
        }
        "mergeable"
    }

    pub fn conflicts(&self, project: u64, iid: u64) -> bool {
        let change = self.change(project, iid);
        let target = self.branch(project, &change.target_branch);
        target.is_some_and(|target| !self.objects.merged_tree(target, &change.head).1.is_empty())
    }

    /// Whether a merge squashes: the project may demand or forbid it, and says what holds when nobody asks.
    fn squashes(&self, project: u64, asked: Option<bool>) -> bool {
        match self.project(project).settings.squash_option.as_str() {
            "always" => true,
            "never" => false,
            "default_on" => asked.unwrap_or(true),
            _ => asked.unwrap_or(false),
        }
    }

    /// Merges as the user, if GitLab would, by the project's method: `merge` makes a merge commit, `rebase_merge` does so
    /// on top of the target only, `ff` moves the target to the head. A squash lands one new commit in the place of many.
    pub fn merge(&mut self, project: u64, iid: u64, user: u64, wish: &MergeWish) -> Result<(), Unmerged> {
        match self.detailed_status(project, iid).as_str() {
            "mergeable" => {}
            "conflict" => return Err(Unmerged::Conflict),
            other => return Err(Unmerged::NotMergeable(other.to_owned())),
        }
        let change = self.change(project, iid).clone();
        let before = self
            .branch(project, &change.target_branch)
            .expect("mergeable has a target")
            .clone();
        let squash = self.squashes(project, wish.squash);
        let squashed = squash.then(|| self.squashed(&change, &before, user, wish));
        let mut tip = squashed.clone().unwrap_or_else(|| change.head.clone());
        let mut merged = None;
        if self.project(project).settings.merge_method != "ff" {
            tip = self.merge_commit(&change, &before, &tip, user, wish);
            merged = Some(tip.clone());
        }
        self.set_branch(project, &change.target_branch, &tip);
        self.change_mut(project, iid).squash = squash;
        self.finish_merge(project, iid, user, merged, squashed);
        self.pushed(project, &change.target_branch, Some(&before), user);
        let source = (change.source_project, change.source_branch.as_str());
        if wish.remove_source && self.branch(source.0, source.1).is_some() {
            self.delete_branch(source.0, source.1, user);
        }
        Ok(())
    }

    fn signature(&self, user: u64) -> Signature {
        let person = self.users.get(&user).expect("an existing user");
        Signature::new(&person.name, &person.email)
    }

    /// One commit with the whole change, by its author, committed by who merges. A single commit that already says the
    /// same is taken as it is.
    fn squashed(&mut self, change: &MergeRequest, before: &str, user: u64, wish: &MergeWish) -> Sha {
        let message = wish
            .squash_message
            .clone()
            .unwrap_or_else(|| change.title.clone());
        if let [only] = change.diff.commits.as_slice()
            && self
                .objects
                .get(only)
                .is_some_and(|commit| commit.message.trim() == message.trim())
        {
            return only.clone();
        }
        let (tree, _) = self.objects.merged_tree(before, &change.head);
        let (author, committer) = (self.signature(change.author), self.signature(user));
        let parents = vec![before.to_owned()];
        self.objects
            .store(parents, &author, &committer, &message, Arc::new(tree))
    }

    fn merge_commit(
        &mut self,
        change: &MergeRequest,
        before: &str,
        tip: &str,
        user: u64,
        wish: &MergeWish,
    ) -> Sha {
        let default = format!(
            "Merge branch '{}' into '{}'\n\n{}\n\nSee merge request {}!{}",
            change.source_branch,
            change.target_branch,
            change.title,
            self.project(change.project).path,
            change.iid
        );
        let (tree, _) = self.objects.merged_tree(before, tip);
        let who = self.signature(user);
        let text = wish.message.clone().unwrap_or(default);
        let parents = vec![before.to_owned(), tip.to_owned()];
        self.objects.store(parents, &who, &who, &text, Arc::new(tree))
    }

    pub(super) fn finish_merge(
        &mut self,
        project: u64,
        iid: u64,
        user: u64,
        merged: Option<Sha>,
        squashed: Option<Sha>,
    ) {
        let change = self.change_mut(project, iid);
        change.state = "merged".to_owned();
        change.merged_by = Some(user);
        change.merged_at = Some(Timestamp::now());
        change.merge_commit_sha = merged;
        change.squash_commit_sha = squashed;
        change.auto_merge = None;
        self.touch(project, iid);
        let flip = json!({"state_id": {"previous": 4, "current": 3}});
        self.raise_change(project, iid, "merge", user, None, flip);
    }

    /// Puts the source branch's own commits on top of the target, committed by the user, and pushes that. Conflicts leave
    /// everything as it was and a `merge_error`.
    pub fn rebase(&mut self, project: u64, iid: u64, user: u64) {
        let change = self.change(project, iid).clone();
        let target = self
            .branch(project, &change.target_branch)
            .expect("a target branch that exists")
            .clone();
        let committer = self.signature(user);
        let mut tip = target;
        for sha in change.diff.commits.iter().rev() {
            let commit = self
                .objects
                .get(sha)
                .expect("a commit of the change exists")
                .clone();
            let [parent] = commit.parents.as_slice() else {
                // Merges are left out, as `git rebase` does.
                continue;
            };
            let (tree, conflicts) = self.objects.merged_over(Some(parent), &tip, sha);
            if !conflicts.is_empty() {
                let why = "Rebase failed: Rebase locally, resolve all conflicts, then push the branch.";
                self.change_mut(project, iid).merge_error = Some(why.to_owned());
                self.touch(project, iid);
                return;
            }
            tip = self.objects.store(
                vec![tip],
                &commit.author,
                &committer,
                &commit.message,
                Arc::new(tree),
            );
        }
        self.change_mut(project, iid).merge_error = None;
        self.set_branch(change.source_project, &change.source_branch, &tip);
        self.pushed(
            change.source_project,
            &change.source_branch,
            Some(&change.head),
            user,
        );
    }
}
