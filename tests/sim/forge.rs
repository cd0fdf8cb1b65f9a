//! A simulated forge: merge requests, statuses and merges, kept apart from the appliance's machine, so that it remembers
//! what it was told when the machine goes down.

use signedapproval::domain::facts::{
    Account, ChangeFacts, ChangeState, Contributor, FileChange, FileList, FileMode, FileStatus, Merged, Part,
};
use signedapproval::domain::ids::{Digest, ProjectId};
use signedapproval::domain::request::GateState;
use std::collections::BTreeMap;

/// A merge request: project, number.
pub type Number = (String, u64);

/// A merge request as the forge has it.
#[derive(Clone, Debug)]
pub struct MergeRequest {
    pub state: ChangeState,
    pub title: String,
    pub head: String,
    pub target: String,
    pub author: Account,
    pub paths: Vec<String>,
    pub merged: Option<Merged>,
}

/// A status it was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub project: String,
    pub head: String,
    pub target: String,
    pub state: GateState,
    /// The journal's size when the call was made.
    pub journal_size: u64,
}

/// The forge.
#[derive(Clone, Debug, Default)]
pub struct Forge {
    pub changes: BTreeMap<Number, MergeRequest>,
    /// Project, head, target → what stands there.
    pub statuses: BTreeMap<(String, String, String), GateState>,
    pub told: Vec<Told>,
    /// Merges made for the appliance: project, number, head.
    pub merges: Vec<(Number, String)>,
}

/// What it answers to a merge.
pub enum MergeAnswer {
    Merged(Option<String>),
    HeadMoved,
    NotReady,
}

/// The commit id of a name.
pub fn commit(name: &str) -> String {
    Digest::of(name.as_bytes()).to_string()[..40].to_owned()
}

/// The account of a name.
pub fn account(name: &str) -> Account {
    let id = u64::from_be_bytes(
        Digest::of(name.as_bytes()).0[..8]
            .try_into()
            .expect("eight bytes"),
    ) % 100_000;
    Account {
        id: id.to_string(),
        username: name.to_lowercase(),
        name: name.to_owned(),
    }
}

impl Forge {
    /// Sets a status.
    pub fn set_status(&mut self, told: Told) {
        let key = (told.project.clone(), told.head.clone(), told.target.clone());
        self.statuses.insert(key, told.state);
        self.told.push(told);
    }

    /// Merges, if the head is still this one and the gate is green.
    pub fn merge(&mut self, number: &Number, head: &str) -> MergeAnswer {
        let change = self
            .changes
            .get_mut(number)
            .expect("the appliance merges what exists");
        if change.head != head {
            return MergeAnswer::HeadMoved;
        }
        match change.state {
            ChangeState::Merged => {
                MergeAnswer::Merged(change.merged.as_ref().and_then(|it| it.commit.clone()))
            }
            ChangeState::Closed => MergeAnswer::NotReady,
            ChangeState::Open => {
                let status = (number.0.clone(), change.head.clone(), change.target.clone());
                if self.statuses.get(&status) != Some(&GateState::Success) {
                    return MergeAnswer::NotReady;
                }
                let landed = commit(&format!("merge of {head}"));
                change.state = ChangeState::Merged;
                change.merged = Some(Merged {
                    by: Some(account("Gate")),
                    commit: Some(landed.clone()),
                });
                self.merges.push((number.clone(), head.to_owned()));
                MergeAnswer::Merged(Some(landed))
            }
        }
    }

    /// A merge request as its API shows it.
    pub fn facts(&self, project: &ProjectId, number: &Number) -> Option<ChangeFacts> {
        let change = self.changes.get(number)?;
        let files = change
            .paths
            .iter()
            .map(|path| FileChange {
                status: FileStatus::Modified,
                old_path: Some(path.as_str().into()),
                new_path: Some(path.as_str().into()),
                old_mode: FileMode::Known(0o100_644),
                new_mode: FileMode::Known(0o100_644),
                lines: None,
            })
            .collect();
        Some(ChangeFacts {
            project: project.clone(),
            number: number.1,
            state: change.state,
            draft: false,
            title: change.title.clone(),
            web_url: format!(
                "https://forge.example.org/{}/-/merge_requests/{}",
                number.0, number.1
            ),
            author: change.author.clone(),
            source: "refs/heads/topic".into(),
            source_project_id: "7".into(),
            target: change.target.clone(),
            head: change.head.clone(),
            base: commit("base"),
            target_sha: None,
            files: FileList {
                files,
                incomplete: None,
            },
            contributors: vec![Contributor {
                part: Part::CommitAuthor,
                account: Some(change.author.clone()),
                name: change.author.name.clone(),
                email: None,
            }],
            contributors_incomplete: None,
            commits: 1,
            merged: change.merged.clone(),
        })
    }
}
