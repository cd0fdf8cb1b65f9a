//! How strong each gate was in a period, as the journal recorded it: what an approval was worth depends on it.

use crate::audit::select::{Filter, Selection};
use crate::audit::summary::TOLD_MAX;
use crate::audit::{Error, damaged};
use crate::domain::gate::{Finding, Gate, Strength};
use crate::domain::ids::ProjectId;
use crate::domain::project::Project;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::store::Snapshot;
use serde::Deserialize;

/// Positions of what a project's settings on its forge were found to enforce in a period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    last: u64,
    weakest: (Strength, u64),
}

/// The members of `gate.checked` that say how strong it is.
#[derive(Deserialize)]
pub(super) struct Check {
    project: ProjectId,
    strength: Strength,
}

impl Selection {
    /// Notes what was found about a gate.
    pub(super) fn checked(&mut self, seq: u64, check: Check) {
        let found = (check.strength, seq);
        let known = self.gates.entry(check.project).or_insert(Checked {
            last: seq,
            weakest: found,
        });
        known.last = seq;
        if check.strength < known.weakest.0 {
            known.weakest = found;
        }
    }
}

/// A project's gate in a period.
#[derive(Clone, Debug)]
pub struct GateTold {
    pub project: String,
    /// `None`: nobody looked within the period.
    pub found: Option<Found>,
}

/// What was found about it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Last in the period, when, and at which entry.
    pub last: (Strength, Time, u64),
    /// The weakest of the period, when, and at which entry.
    pub weakest: (Strength, Time, u64),
    /// Why it was as strong as it was last, the weakest first.
    pub reasons: Vec<String>,
}

/// `gate.checked` with its time.
#[derive(Deserialize)]
struct Leaf {
    time: Time,
    data: Findings,
}

#[derive(Deserialize)]
struct Findings {
    strength: Strength,
    findings: Vec<Finding>,
}

/// The gates there were within a period, weakest first, and how many are left out. None where a filter leaves out what was
/// found about them.
pub(super) fn gates(
    selection: &Selection,
    filter: &Filter,
    (from, to): (Time, Time),
    state: &Snapshot,
) -> Result<(Vec<GateTold>, usize), Error> {
    if filter.person.is_some() || filter.outcome.is_some() {
        return Ok((Vec::new(), 0));
    }
    let mut all = Vec::new();
    for project in state.all::<Project>()? {
        let there = project.created_at < to && project.removed_at.is_none_or(|it| it >= from);
        if !there || !filter.means(&project) {
            continue;
        }
        let found = match selection.gates.get(&project.id) {
            None => None,
            Some(checked) => {
                let last = leaf(checked.last, state)?;
                let weakest = leaf(checked.weakest.1, state)?;
                let gate = Gate {
                    project: project.id.clone(),
                    strength: last.data.strength,
                    findings: last.data.findings,
                    checked_at: last.time,
                };
                Some(Found {
                    last: (gate.strength, last.time, checked.last),
                    weakest: (checked.weakest.0, weakest.time, checked.weakest.1),
                    reasons: Gate::reasons(Some(&gate)),
                })
            }
        };
        all.push(GateTold {
            // Neither its settings nor anything else that changes: the same period has to read the same.
            project: project.path,
            found,
        });
    }
    let strength = |it: &GateTold| it.found.as_ref().map(|it| it.weakest.0);
    all.sort_by(|one, other| (strength(one), &one.project).cmp(&(strength(other), &other.project)));
    let left_out = all.len().saturating_sub(TOLD_MAX);
    all.truncate(TOLD_MAX);
    Ok((all, left_out))
}

fn leaf(seq: u64, state: &Snapshot) -> Result<Leaf, Error> {
    let leaf = state.leaf(seq)?.unwrap_or_default();
    serde_json::from_slice(&leaf).map_err(|e| damaged(format!("entry {seq}: {e}")))
}
