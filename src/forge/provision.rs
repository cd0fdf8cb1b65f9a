//! Setting a gate up on a forge: the plan an admin confirms, and how putting back ends.

use crate::domain::ids::Digest;
use crate::domain::project::{Enforcement, ProjectSettings};
use crate::domain::provision::{PlannedChange, plan_digest};

/// What a gate is to be set up for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub forge_project_id: &'a str,
    /// The branches that are gated, as the project's settings name them.
    pub branch_patterns: &'a [String],
    pub enforcement: Enforcement,
    /// Where webhooks of this integration lead.
    pub hook_url: &'a str,
    /// Where the webhook is to be.
    pub hook: HookScope,
}

/// What a webhook tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookScope {
    /// One project.
    #[default]
    Project,
    /// Every project of the forge: it takes an administrator's token.
    System,
}

impl HookScope {
    /// All of them, by name.
    pub const NAMES: [(&'static str, HookScope); 2] =
        [("project", HookScope::Project), ("system", HookScope::System)];

    /// By its name.
    pub fn parse(text: &str) -> Option<HookScope> {
        Self::NAMES.iter().find(|it| it.0 == text).map(|it| it.1)
    }
}

impl<'a> Wanted<'a> {
    /// The mode `enforcement` for a project.
    pub fn of(
        settings: &'a ProjectSettings,
        enforcement: Enforcement,
        hook_url: &'a str,
        hook: HookScope,
    ) -> Self {
        Wanted {
            forge_project_id: &settings.forge_project_id,
            branch_patterns: &settings.branch_patterns,
            enforcement,
            hook_url,
            hook,
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    pub change: PlannedChange,
    /// How it is now, in words.
    pub before: String,
    /// How it will be, in words.
    pub after: String,
    /// Why our token can't do it, and what a person has to click instead.
    pub by_hand: Option<String>,
}

/// What would be changed on a forge, in the order in which it would be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionPlan {
    pub enforcement: Enforcement,
    pub steps: Vec<PlannedStep>,
    /// What is as it should be already, a sentence each.
    pub satisfied: Vec<String>,
    /// Who can still go around it, and what else to know.
    pub warnings: Vec<String>,
    /// Names exactly this plan.
    pub digest: Digest,
}

impl ProvisionPlan {
    /// Names the plan by everything that an admin is shown of it.
    pub(crate) fn new(
        enforcement: Enforcement,
        about: &[&str],
        steps: Vec<PlannedStep>,
        satisfied: Vec<String>,
        warnings: Vec<String>,
    ) -> Self {
        let changes: Vec<(PlannedChange, Option<String>)> = steps
            .iter()
            .map(|it| (it.change.clone(), it.by_hand.clone()))
            .collect();
        let about: Vec<&str> = about
            .iter()
            .copied()
            .chain(warnings.iter().map(String::as_str))
            .collect();
        let digest = plan_digest(enforcement, &about, &changes);
        ProvisionPlan {
            enforcement,
            steps,
            satisfied,
            warnings,
            digest,
        }
    }

    /// The steps that our token can take.
    pub fn doable(&self) -> impl Iterator<Item = &PlannedStep> {
        self.steps.iter().filter(|it| it.by_hand.is_none())
    }
}

/// How putting one change back ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is as it was before; where a part was left alone, the text says which.
    Done(String),
    /// It was as before already.
    Unchanged,
    /// Somebody has changed it since; how it is now.
    LeftAlone(String),
}
