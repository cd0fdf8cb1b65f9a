//! What the events about one-time codes change.

use crate::domain::apply::{Place, edit_person};
use crate::domain::event::{Event, RefusedCode, UsedCode};
use crate::domain::ids::PersonId;
use crate::domain::state::{Fault, Write};
use crate::domain::totp::Generator;

pub(super) fn apply(event: &Event, at: Place, state: &mut impl Write) -> Result<(), Fault> {
    match event {
        Event::TotpEnrolled {
            person,
            step,
            decides_from,
            ..
        } => edit_person(state, person, |it| {
            it.totp = Some(Generator {
                added_at: at.time,
                decides_from: *decides_from,
                last_step: *step,
                wrong: Vec::new(),
                wrong_in_a_row: 0,
                locked_at: None,
                last_used_at: None,
            });
        }),
        Event::TotpRevoked { person, .. } => edit_person(state, person, |it| it.totp = None),
        Event::TotpLocked { person, .. } => edit(state, person, |it| it.locked_at = Some(at.time)),
        _ => Ok(()),
    }
}

/// A code was taken.
pub(super) fn used(
    person: &PersonId,
    code: &UsedCode,
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    edit(state, person, |it| {
        it.burn(code.step);
        it.wrong_in_a_row = 0;
        it.last_used_at = Some(at.time);
    })
}

/// A ceremony was refused; of a code it counts.
pub(super) fn refused(
    person: Option<&PersonId>,
    code: Option<&RefusedCode>,
    at: Place,
    state: &mut impl Write,
) -> Result<(), Fault> {
    let (Some(person), Some(code)) = (person, code) else {
        return Ok(());
    };
    edit(state, person, |it| match code.burnt_step {
        Some(step) => it.burn(step),
        None => it.count_wrong(at.time),
    })
}

fn edit(state: &mut impl Write, person: &PersonId, change: impl FnOnce(&mut Generator)) -> Result<(), Fault> {
    edit_person(state, person, |it| {
        if let Some(generator) = &mut it.totp {
            change(generator);
        }
    })
}
