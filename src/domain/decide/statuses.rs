//! Statuses read back from the forge: somebody else's under our name, and ours where it decides nothing.

use crate::domain::command::ForgedStatus;
use crate::domain::decide::provision::is_on_trial;
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::Event;
use crate::domain::request::{
    ChangeKey, ConfirmedLock, ConfirmedStatus, GateState, Request, StatusKey, change_row,
};
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
    let on_trial = match &confirmed.request {
        Some(id) => match state.get::<Request>(id.as_str())? {
            Some(request) => is_on_trial(&request, state)?,
            None => false,
        },
        None => false,
    };
    // What a trial of ours posts with another account's token is set back like any other, and alarms nobody.
    let lost = match (&forged, on_trial) {
        (Some(_), true) => Some("A trial of the gate posted another one.".to_owned()),
        _ => lost,
    };
    if let Some(forged) = forged.filter(|_| !on_trial) {
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

/// Only what is still confirmed for that head is missed: meanwhile it may have been told something else.
pub(super) fn miss_lock(change: ChangeKey, head: &str, state: &impl Read) -> Decided {
    let confirmed: Option<ConfirmedLock> = state.get(&change_row(&change))?;
    let missed =
        confirmed.is_some_and(|it| it.state == GateState::Success && it.head == head && it.refused.is_none());
    match missed {
        true => Ok(Plan::done(vec![Step::event(Event::LockLost { change })])),
        false => Ok(Plan::nothing()),
    }
}
