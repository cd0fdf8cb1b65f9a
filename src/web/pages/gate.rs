//! How strong a project's gate is, for people: one word and why.

use crate::domain::gate::{Gate, Strength};
use crate::domain::project::Project;
use crate::domain::state::{Fault, Read};
use crate::texts::t;
use crate::web::pages::moment::Moment;
use crate::web::pages::shown;

/// Longest reason, in characters.
const REASON_MAX: usize = 600;

/// A project's gate.
pub struct GateView {
    /// `Hard`, `Soft`, `None` or `Not checked yet`.
    pub word: &'static str,
    /// The look of its badge.
    pub look: &'static str,
    pub reasons: Vec<String>,
    pub at: Option<Moment>,
}

impl GateView {
    /// What was found last.
    pub fn of(project: &Project, state: &impl Read) -> Result<Self, Fault> {
        let gate: Option<Gate> = state.get(project.id.as_str())?;
        let (word, look) = match gate.as_ref().map(|it| it.strength) {
            Some(Strength::Hard) => (t!("Hard"), "approved"),
            Some(Strength::Soft) => (t!("Soft"), "pending"),
            Some(Strength::None) => (t!("None"), "rejected"),
            None => (t!("Not checked yet"), "pending"),
        };
        Ok(GateView {
            word,
            look,
            reasons: Gate::reasons(gate.as_ref())
                .iter()
                .map(|it| shown(it, REASON_MAX))
                .collect(),
            at: gate.map(|it| Moment::of(it.checked_at)),
        })
    }
}
