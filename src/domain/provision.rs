//! Setting up on its forge what enforces a project's gate, so that it can be put back; and trying a gate out.
//!
//! What was changed is recorded before the first call, so that nothing an interrupted run did is ever forgotten.

use crate::domain::gate::{Finding, Gate, Strength};
use crate::domain::ids::{Digest, ProjectId};
use crate::domain::project::{Enforcement, ProjectSettings};
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Settings of one thing on a forge, by the forge's own names for them. Never a secret.
pub type Settings = BTreeMap<String, Value>;

/// What every branch of a trial begins with.
pub const TRIAL_PREFIX: &str = "signedapproval-trial-";
/// What the code of every finding of a trial begins with.
const TRIAL_CODE: &str = "trial_";
/// A run that has not ended after so many seconds has been interrupted: no run may take longer than a part of it.
pub const RUN_SECONDS_MAX: u64 = 300;

/// One thing changed on a forge, with everything that putting it back needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alteration {
    /// What kind of thing it is, in the adapter's word, as `protected_branch`.
    pub kind: String,
    /// Its name among its kind: a branch, an address; empty where a project has one only.
    pub name: String,
    /// Its number on the forge, where it has one and it is known.
    pub number: Option<String>,
    /// Its settings as they were; `None`: it was not there.
    pub before: Option<Settings>,
    /// The same settings as they were made.
    pub after: Settings,
}

/// One thing that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// Stays the same from plan to plan, as `protect:main`.
    pub id: String,
    /// A plain sentence.
    pub what: String,
    pub alteration: Alteration,
}

/// How one step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    Done,
    /// It was as wanted already.
    Unchanged,
    /// The forge did not do it.
    Failed,
    /// A step before it failed.
    NotTried,
    /// A person has to do it on the forge.
    ByHand,
    /// Somebody changed it since, so it was left as it is.
    LeftAlone,
}

impl StepResult {
    /// The words for it on a page.
    pub fn words(self) -> &'static str {
        match self {
            StepResult::Done => "Done",
            StepResult::Unchanged => "Was so already",
            StepResult::Failed => "Failed",
            StepResult::NotTried => "Not tried",
            StepResult::ByHand => "By hand",
            StepResult::LeftAlone => "Left alone",
        }
    }
}

/// How one step went, for people and for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub id: String,
    pub what: String,
    pub result: StepResult,
    /// What there is to say about it: the forge's words, or what a person has to do. May be empty.
    pub detail: String,
    /// What was changed, as far as something was or may have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alteration: Option<Alteration>,
}

/// A change that is recorded and can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeChange {
    pub id: String,
    pub what: String,
    pub alteration: Alteration,
    /// False: it was about to be made, or failed half way, and nobody knows how far it got.
    pub certain: bool,
    pub enforcement: Enforcement,
    pub by: String,
    pub at: Time,
}

/// How the newest run went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    pub enforcement: Enforcement,
    /// It put things back.
    pub undo: bool,
    pub by: String,
    pub reason: String,
    pub at: Time,
    pub steps: Vec<StepReport>,
}

/// What this server has changed on the forge of one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioning {
    pub project: ProjectId,
    /// A run that has begun and not ended.
    pub running: Option<Time>,
    /// What can be undone, oldest first.
    pub made: Vec<MadeChange>,
    pub last: Option<LastRun>,
}

impl Provisioning {
    /// Nothing yet.
    pub fn none(project: ProjectId) -> Self {
        Provisioning {
            project,
            running: None,
            made: Vec::new(),
            last: None,
        }
    }

    /// A run is under way.
    pub fn is_running(&self, now: Time) -> bool {
        self.running
            .is_some_and(|it| now < it.plus_seconds(RUN_SECONDS_MAX))
    }
}

impl Record for Provisioning {
    const TABLE: Table = Table::Provisionings;
    fn key(&self) -> String {
        self.project.to_string()
    }
}

/// A project's settings with another mode. Where nobody else merges, this server must.
pub fn settings_for(settings: &ProjectSettings, enforcement: Enforcement) -> ProjectSettings {
    ProjectSettings {
        enforcement,
        auto_merge: settings.auto_merge || enforcement == Enforcement::MergeBroker,
        ..settings.clone()
    }
}

/// Digest of a plan: what an admin confirms.
pub fn plan_digest(
    enforcement: Enforcement,
    about: &[&str],
    changes: &[(PlannedChange, Option<String>)],
) -> Digest {
    let bytes = serde_json::to_vec(&(enforcement, about, changes));
    Digest::of(&bytes.expect("plans have string keys and no failing serializers"))
}

/// One thing a trial did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried.
    pub what: String,
    /// What the forge answered.
    pub answer: String,
    /// What that means.
    pub means: String,
}

/// What a trial saw. `None` where it could not find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The forge calls the waiting change ready to be merged by whoever may merge.
    pub open_while_waiting: Option<bool>,
    /// The other account's token may merge into the gated branch.
    pub developer_merges: Option<bool>,
    /// The forge took a green status of our name from that token.
    pub developer_posts: Option<bool>,
    /// With that status the forge calls the change ready to be merged.
    pub open_by_forgery: Option<bool>,
}

impl Seen {
    /// What a trial proves; `others_merge`: people besides our account may merge, as the settings say.
    pub fn findings(&self, others_merge: bool) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |code: &str, leaves, text: &str| found.push(Finding::new(code, leaves, text));
        let somebody = others_merge || self.developer_merges == Some(true);
        if self.open_while_waiting == Some(true) && somebody {
            add(
                "trial_open_while_waiting",
                Strength::None,
                "Tried: the forge offered an unapproved change for merging, and others than this server may merge. Nothing \
                 holds it.",
            );
        }
        if self.developer_merges == Some(true) {
            add(
                "trial_developer_merges",
                Strength::Soft,
                "Tried: the token of another account may merge into a gated branch. Take that away: \"Allowed to merge\" of \
                 the protected branch.",
            );
        }
        if self.open_by_forgery == Some(true) && somebody {
            add(
                "trial_forged_status",
                Strength::Soft,
                "Tried: another account posted a green status in this server's name, and the forge then offered the \
                 unapproved change for merging.",
            );
        }
        found
    }
}

impl Seen {
    /// Whether it says anything about a finding of that code.
    pub fn answers(&self, code: &str) -> bool {
        match code {
            "trial_open_while_waiting" => self.open_while_waiting.is_some(),
            "trial_developer_merges" => self.developer_merges.is_some(),
            "trial_forged_status" => self.open_by_forgery.is_some() || self.developer_posts == Some(false),
            _ => false,
        }
    }
}

/// The newest trial of a project's gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub project: ProjectId,
    /// The throw-away branch, its short name.
    pub branch: String,
    pub started_at: Time,
    pub by: String,
    /// `None` while it goes on.
    pub ended_at: Option<Time>,
    /// The throw-away branch and its change may still be on the forge.
    pub to_clear: bool,
    pub attempts: Vec<Attempt>,
    /// Holes that it proved and that count until another trial or a changed setting.
    pub holes: Vec<Finding>,
    /// What the settings were found to be when it ended; `None`: nobody had looked.
    pub basis: Option<Vec<Finding>>,
}

impl Trial {
    /// It goes on.
    pub fn is_running(&self, now: Time) -> bool {
        self.ended_at.is_none() && now < self.started_at.plus_seconds(RUN_SECONDS_MAX)
    }

    /// What it proved and what still counts where the settings are these now.
    pub fn holds(&self, inspected: &[Finding]) -> &[Finding] {
        match &self.basis {
            Some(basis) if weakening(inspected) != weakening(basis) => &[],
            _ => &self.holes,
        }
    }
}

impl Record for Trial {
    const TABLE: Table = Table::Trials;
    fn key(&self) -> String {
        self.project.to_string()
    }
}

/// What a look at the settings found, without what a trial proved.
pub fn inspected(gate: &Gate) -> Vec<Finding> {
    let of_settings = gate.findings.iter().filter(|it| !it.code.starts_with(TRIAL_CODE));
    of_settings.cloned().collect()
}

/// The kinds of findings that open something. The others come and go without any setting having changed, and so do the
/// names in their words.
fn weakening(findings: &[Finding]) -> BTreeSet<(&str, Strength)> {
    let open = findings.iter().filter(|it| it.leaves < Strength::Hard);
    open.map(|it| (it.code.as_str(), it.leaves)).collect()
}

/// Whether a change's source (short name or full ref) is the throw-away branch of a trial. Such a change is never merged
/// by us, whatever became of its request.
pub fn is_trial_branch(source: &str) -> bool {
    let name = source.strip_prefix("refs/heads/").unwrap_or(source);
    name.starts_with(TRIAL_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_proves_a_hole_only_where_somebody_could_use_it() {
        let codes = |seen: &Seen, others| -> Vec<(String, Strength)> {
            let found = seen.findings(others);
            found.into_iter().map(|it| (it.code, it.leaves)).collect()
        };
        let open = Seen {
            open_while_waiting: Some(true),
            developer_posts: Some(true),
            open_by_forgery: Some(true),
            ..Seen::default()
        };
        assert_eq!(codes(&open, false), []);
        let code = |code: &str, leaves| (code.to_owned(), leaves);
        assert_eq!(
            codes(&open, true),
            [
                code("trial_open_while_waiting", Strength::None),
                code("trial_forged_status", Strength::Soft)
            ]
        );
        let merging = Seen {
            open_while_waiting: Some(false),
            developer_merges: Some(true),
            ..Seen::default()
        };
        assert_eq!(
            codes(&merging, false),
            [code("trial_developer_merges", Strength::Soft)]
        );
        assert_eq!(codes(&Seen::default(), true), []);
    }

    #[test]
    fn a_trials_branch_is_known_by_its_name() {
        assert!(is_trial_branch("refs/heads/signedapproval-trial-1a"));
        assert!(is_trial_branch("signedapproval-trial-1a"));
        assert!(!is_trial_branch("refs/heads/my-signedapproval-trial-1a"));
    }
}
