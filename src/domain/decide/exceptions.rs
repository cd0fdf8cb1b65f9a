//! Looking over, afterwards, what went around the gate or through it by the emergency way.

use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::{Actor, Event};
use crate::domain::governance::Exception;
use crate::domain::people::{Person, Role};
use crate::domain::refusal::Refusal;
use crate::domain::state::Read;

/// Longest note, in characters.
const NOTE_CHARS_MAX: usize = 2_000;

pub(super) fn review(exception: u64, note: String, actor: &Actor, state: &impl Read) -> Decided {
    let record: Exception = state.get(&Exception::row(exception))?.ok_or(Refusal::Unknown)?;
    let Actor::Person { id, .. } = actor else {
        let why = "A person looks an exception over, not a program.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    };
    let person: Person = state.get(id.as_str())?.ok_or(Refusal::Unknown)?;
    if !person.has(Role::Admin) && !person.has(Role::Auditor) {
        return Err(Refusal::Unknown.into());
    }
    if record.took_part.contains(&person.id) {
        let why = "You took part in it, so somebody else has to look it over.".to_owned();
        return Err(Refusal::NotEligible { why }.into());
    }
    if let Some(review) = &record.review {
        let what = format!("{} has looked this over already.", review.name);
        return Err(Refusal::Outdated { what }.into());
    }
    let note = note.trim().to_owned();
    if note.chars().count() < 3 || note.chars().count() > NOTE_CHARS_MAX {
        let reason = format!("Say what you found, in 3 to {NOTE_CHARS_MAX} characters.");
        return Err(Refusal::invalid("note", reason).into());
    }
    Ok(Plan::done(vec![Step::event(Event::ExceptionReviewed {
        exception,
        person: person.id,
        name: person.name,
        note,
    })]))
}
