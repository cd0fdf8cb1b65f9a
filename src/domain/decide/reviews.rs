//! Signing off that a period of the journal was looked over.

use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::{Actor, Event};
use crate::domain::people::{Person, Role};
use crate::domain::refusal::Refusal;
use crate::domain::state::Read;
use crate::domain::time::Time;

/// Longest note, in characters.
const NOTE_CHARS_MAX: usize = 2_000;

/// Records that the actor has reviewed a period.
pub(super) fn sign_off(
    from: Time,
    to: Time,
    through: u64,
    note: &str,
    actor: &Actor,
    state: &impl Read,
) -> Decided {
    let Actor::Person { id, .. } = actor else {
        let why = "A person reviews the journal, not a program.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    };
    let person: Person = state.get(id.as_str())?.ok_or(Refusal::Unknown)?;
    if !person.has(Role::Admin) && !person.has(Role::Auditor) {
        return Err(Refusal::Unknown.into());
    }
    if from >= to {
        return Err(Refusal::invalid("to", "It must be later than `from`.").into());
    }
    let note = note.trim().to_owned();
    if note.chars().count() < 3 || note.chars().count() > NOTE_CHARS_MAX {
        let reason = format!("Say what you found, in 3 to {NOTE_CHARS_MAX} characters.");
        return Err(Refusal::invalid("note", reason).into());
    }
    Ok(Plan::done(vec![Step::event(Event::JournalReviewed {
        from,
        to,
        through,
        person: person.id,
        name: person.name,
        note,
    })]))
}
