//! What an admin says of a step of the setting up.

use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::{Actor, Event};
use crate::domain::keys::{active, all_keys};
use crate::domain::people::{Person, Role};
use crate::domain::refusal::Refusal;
use crate::domain::set_up::{SetUpAnswer, SetUpStep, SetUpWord};
use crate::domain::state::{Read, Table, decode};

/// Longest text that an answer is about, in bytes: a URL.
const OF_BYTES_MAX: usize = 400;

/// Records an answer.
pub(super) fn answer(
    step: SetUpStep,
    word: SetUpWord,
    of: String,
    actor: &Actor,
    state: &impl Read,
) -> Decided {
    let Actor::Person { id, .. } = actor else {
        let why = "A person sets the server up, not a program.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    };
    let person: Person = state.get(id.as_str())?.ok_or(Refusal::Unknown)?;
    if !person.has(Role::Admin) {
        return Err(Refusal::Unknown.into());
    }
    if !step.takes(word) || of.len() > OF_BYTES_MAX {
        return Err(Refusal::invalid("word", "This step takes another answer.").into());
    }
    if step == SetUpStep::SigningKey {
        let keys = all_keys(state)?;
        if active(&keys, "credential").is_none_or(|it| it.keyid != of) {
            let what = "Another key signs by now. Write down the fingerprint of that one.".to_owned();
            return Err(Refusal::Outdated { what }.into());
        }
    }
    let before = state.get_raw(Table::Counters, &SetUpAnswer::row(step))?;
    let before: Option<SetUpAnswer> = before.map(|it| decode(&it)).transpose()?;
    if before.is_some_and(|it| it.word == word && it.of == of) {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::SetUpAnswered {
        step,
        word,
        of,
        person: person.id,
        name: person.name,
    })]))
}
