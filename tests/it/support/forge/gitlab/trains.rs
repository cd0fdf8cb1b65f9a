//! Merge trains: cars that are merged one after the other, each tried out on top of those before it. What a car's pipeline ran
//! on is what lands (<https://docs.gitlab.com/ci/pipelines/merge_trains/>).

use std::sync::Arc;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::repository::Signature;
use crate::support::forge::gitlab::state::State;

/// A merge request on a train.
#[derive(Clone, Debug)]
pub struct Car {
    pub project: u64,
    pub target: String,
    pub iid: u64,
    /// The head it joined with: a push takes it off.
    pub head: Sha,
    /// Who put it on, and is said to have merged it.
    pub user: u64,
    /// What its commit stands on, and the commit itself.
    pub base: Sha,
    pub commit: Sha,
}

impl State {
    /// The commit and the pipeline of a car on top of `base`.
    fn couple(&mut self, project: u64, iid: u64, base: &str, user: u64) -> Sha {
        let change = self.change(project, iid).clone();
        let (tree, _) = self.objects.merged_tree(base, &change.head);
        let who = Signature::new("GitLab", "gitlab@example.com");
        let message = format!(
            "Merge branch '{}' into '{}'",
            change.source_branch, change.target_branch
        );
        let parents = vec![base.to_owned(), change.head.clone()];
        let sha = self.objects.store(parents, &who, &who, &message, Arc::new(tree));
        self.adopt(project, &sha);
        let name = format!("refs/merge-requests/{iid}/train");
        let id = self.new_pipeline(project, &sha, &name, "merge_request_event", user, Some("success"));
        let mut all = self.project_mut(project).pipelines.iter_mut();
        all.find(|it| it.id == id).expect("just made").source_sha = Some(change.head);
        self.settle_pipeline(project, id, user);
        sha
    }
}

impl FakeGitLab {
    /// A person's "Set to merge" with trains on: refused as the button would be.
    pub fn try_join_train(&self, project: u64, iid: u64, user: u64) -> Result<Sha, String> {
        self.change_state(|state| {
            let change = state.change(project, iid).clone();
            let target = change.target_branch;
            if !state.may_merge_into(project, &target, user) {
                return Err("Ready to merge by members who can write to the target branch.".to_owned());
            }
            match state.detailed_status(project, iid).as_str() {
                "mergeable" => {}
                other => return Err(other.to_owned()),
            }
            let before = state
                .trains
                .iter()
                .rfind(|it| it.project == project && it.target == target);
            let base = match before {
                Some(car) => car.commit.clone(),
                None => state.branch(project, &target).expect("a target branch").clone(),
            };
            let commit = state.couple(project, iid, &base, user);
            state.trains.push(Car {
                project,
                target,
                iid,
                head: change.head,
                user,
                base,
                commit: commit.clone(),
            });
            Ok(commit)
        })
    }

    /// Lets the train of a branch arrive, car by car. One whose head moved, or that is no longer open, was taken off, and
    /// those behind it are made anew. The answer is what landed.
    pub fn run_train(&self, project: u64, target: &str) -> Vec<(u64, Sha)> {
        self.change_state(|state| {
            let all = std::mem::take(&mut state.trains);
            let (cars, rest): (Vec<Car>, Vec<Car>) = all
                .into_iter()
                .partition(|it| it.project == project && it.target == target);
            state.trains = rest;
            let mut landed = Vec::new();
            for mut car in cars {
                let change = state.change(project, car.iid);
                if change.state != "opened" || change.head != car.head {
                    continue;
                }
                let tip = state.branch(project, target).expect("a target branch").clone();
                if car.base != tip {
                    car.commit = state.couple(project, car.iid, &tip, car.user);
                }
                state.set_branch(project, target, &car.commit);
                state.finish_merge(project, car.iid, car.user, Some(car.commit.clone()), None);
                state.pushed(project, target, Some(&tip), car.user);
                landed.push((car.iid, car.commit));
            }
            landed
        })
    }
}
