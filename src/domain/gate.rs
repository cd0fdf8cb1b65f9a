//! How strong a gate is: what the settings of a forge really enforce. An adapter finds, the domain weighs.

use crate::domain::ids::ProjectId;
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How strong a gate is, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Nothing on the forge holds an unapproved change, or nobody knows whether anything does.
    None,
    /// The forge shows the gate, and some can go around it. That is found and reported.
    Soft,
    /// Only the appliance's account can merge or push.
    Hard,
}

impl Strength {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Strength::None => "none",
            Strength::Soft => "soft",
            Strength::Hard => "hard",
        }
    }
}

/// One thing about a project's settings on its forge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// A word that stays the same, as `others_merge`.
    pub code: String,
    /// The strongest gate that this leaves.
    pub leaves: Strength,
    /// A sentence for people: what it is, and what to do.
    pub text: String,
}

impl Finding {
    /// A finding.
    pub fn new(code: &str, leaves: Strength, text: impl Into<String>) -> Self {
        Finding {
            code: code.to_owned(),
            leaves,
            text: text.into(),
        }
    }
}

/// What a hard gate is, and what it is not.
const HARD: &str = "Nothing comes into the gated branches but what this server lets in. Whoever may change the \
                    project's settings could change that; it would be found and reported within five minutes.";

/// The gate is as strong as what its findings leave.
pub fn strength(findings: &[Finding]) -> Strength {
    let weakest = findings.iter().map(|it| it.leaves).min();
    weakest.unwrap_or(Strength::Hard)
}

/// What was found last about a project's gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    pub project: ProjectId,
    pub strength: Strength,
    /// Without repetitions, in order.
    pub findings: Vec<Finding>,
    /// When this was recorded: at every change of the findings, and once a day.
    pub checked_at: Time,
}

impl Gate {
    /// Why it is as strong as it is: the weakest first. Never empty.
    pub fn reasons(of: Option<&Gate>) -> Vec<String> {
        let Some(gate) = of else {
            return vec!["The forge's settings have not been looked at yet.".to_owned()];
        };
        let mut findings: Vec<&Finding> = gate.findings.iter().collect();
        findings.sort_by_key(|it| it.leaves);
        let mut reasons: Vec<String> = findings.iter().map(|it| it.text.clone()).collect();
        if gate.strength == Strength::Hard {
            reasons.insert(0, HARD.to_owned());
        }
        reasons
    }
}

impl Record for Gate {
    const TABLE: Table = Table::Gates;
    fn key(&self) -> String {
        self.project.to_string()
    }
}

/// What is worse than it was: the findings of a kind that was not there, if there are any or the gate became weaker.
pub fn drift(before: &Gate, now: &[Finding]) -> Option<Vec<Finding>> {
    let known: BTreeSet<&str> = before.findings.iter().map(|it| it.code.as_str()).collect();
    let fresh: Vec<Finding> = now
        .iter()
        .filter(|it| !known.contains(it.code.as_str()))
        .cloned()
        .collect();
    let weaker = strength(now) < before.strength;
    (weaker || !fresh.is_empty()).then(|| match fresh.is_empty() {
        // The same kinds as before, but one of them leaves less.
        true => now
            .iter()
            .filter(|it| it.leaves < before.strength)
            .cloned()
            .collect(),
        false => fresh,
    })
}
