//! Conditions of the appliance itself: what began, what changed its words, what is over.

use crate::domain::condition::{Condition, Reported};
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::Event;
use crate::domain::state::Read;

/// Compares what a watcher sees in its area with what is recorded.
pub(super) fn report(area: &str, now: Vec<Reported>, state: &impl Read) -> Decided {
    let mut steps = Vec::new();
    let recorded: Vec<Condition> = state.all()?;
    let inside = |name: &str| name.split('.').next() == Some(area);
    for old in recorded.iter().filter(|it| inside(&it.name)) {
        if !now.iter().any(|it| it.name == old.name) {
            steps.push(Step::event(Event::ConditionEnded {
                condition: old.name.clone(),
            }));
        }
    }
    for new in now.into_iter().filter(|it| inside(it.name)) {
        let same = recorded
            .iter()
            .any(|it| it.name == new.name && it.severity == new.severity && it.detail == new.detail);
        if !same {
            steps.push(Step::event(Event::ConditionBegan {
                condition: new.name.to_owned(),
                severity: new.severity,
                detail: new.detail,
            }));
        }
    }
    match steps.is_empty() {
        true => Ok(Plan::nothing()),
        false => Ok(Plan::done(steps)),
    }
}
