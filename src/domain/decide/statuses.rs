//! Statuses read back from the forge: somebody else's under our name, and ours where it decides nothing.

use crate::domain::command::ForgedStatus;
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::Event;
use crate::domain::request::{ConfirmedStatus, StatusKey};
use crate::domain::state::Read;

pub(super) fn read_back(
    status: StatusKey,
    forged: Option<ForgedStatus>,
    lost: Option<String>,
    not_in_force: Option<String>,
    state: &impl Read,
) -> Decided {
    // Only what we have written can be forged or out of force.
    let Some(confirmed) = state.get::<ConfirmedStatus>(&status.row())? else {
        return Ok(Plan::nothing());
    };
    let mut steps = Vec::new();
    if let Some(forged) = forged {
        steps.push(Step::event(Event::ExceptionStatusForged {
            status: status.clone(),
            shown: forged.shown,
            by: forged.by,
            forge_status: forged.forge_status,
            request: confirmed.request.clone(),
        }));
    }
    if let Some(reason) = lost {
        steps.push(Step::event(Event::StatusLost {
            status: status.clone(),
            reason,
        }));
    }
    if confirmed.not_in_force != not_in_force {
        steps.push(Step::event(Event::StatusReadBack { status, not_in_force }));
    }
    Ok(Plan::done(steps))
}
