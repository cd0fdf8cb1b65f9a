//! Saved views: anybody who reads the dashboard has their own, and admins make those that all share.

use crate::domain::decide::notices::somebody;
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::{Actor, Event};
use crate::domain::ids::ViewId;
use crate::domain::people::{Person, Role};
use crate::domain::refusal::Refusal;
use crate::domain::state::Read;
use crate::domain::text::visible;
use crate::domain::view::{NAME_CHARS_MAX, QUERY_BYTES_MAX, VIEWS_MAX, View};

pub(super) fn save(
    view: ViewId,
    name: String,
    query: String,
    shared: bool,
    actor: &Actor,
    state: &impl Read,
) -> Decided {
    let person = reader(actor, state)?;
    let name = name.trim().to_owned();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || visible(&name) != name {
        let reason = format!("1 to {NAME_CHARS_MAX} characters that can be seen.");
        return Err(Refusal::invalid("name", reason).into());
    }
    if query.len() > QUERY_BYTES_MAX {
        return Err(Refusal::invalid("query", "These are too many filters.").into());
    }
    let before: Option<View> = state.get(view.as_str())?;
    if let Some(before) = &before {
        changeable(before, &person)?;
    }
    if shared && !person.has(Role::Admin) {
        let why = "Administrators share views.".into();
        return Err(Refusal::NotAllowed { why }.into());
    }
    let owner = (!shared).then(|| person.id.clone());
    let mut beside = state.all::<View>()?;
    beside.retain(|it| it.owner == owner && it.id != view);
    if beside.iter().any(|it| it.name == name) {
        return Err(Refusal::invalid("name", "There is a view by this name.").into());
    }
    if beside.len() >= VIEWS_MAX {
        let reason = format!("There are {VIEWS_MAX} views. Remove one first.");
        return Err(Refusal::invalid("name", reason).into());
    }
    if before.is_some_and(|it| it.name == name && it.query == query && it.owner == owner) {
        return Ok(Plan::done(Vec::new()));
    }
    Ok(Plan::done(vec![Step::event(Event::ViewSaved {
        view,
        name,
        query,
        owner,
    })]))
}

pub(super) fn remove(view: &ViewId, actor: &Actor, state: &impl Read) -> Decided {
    let person = reader(actor, state)?;
    let before: View = state.get(view.as_str())?.ok_or(Refusal::Unknown)?;
    changeable(&before, &person)?;
    Ok(Plan::done(vec![Step::event(Event::ViewRemoved {
        view: view.clone(),
    })]))
}

fn reader(actor: &Actor, state: &impl Read) -> Result<Person, crate::domain::decide::Stop> {
    let person = somebody(actor, state)?;
    match person.has(Role::Admin) || person.has(Role::Auditor) {
        true => Ok(person),
        false => Err(Refusal::Unknown.into()),
    }
}

/// One's own, and for admins the shared ones. Nobody learns of another's.
fn changeable(view: &View, person: &Person) -> Result<(), Refusal> {
    match &view.owner {
        Some(owner) if *owner == person.id => Ok(()),
        None if person.has(Role::Admin) => Ok(()),
        None => Err(Refusal::NotAllowed {
            why: "Administrators change shared views.".into(),
        }),
        Some(_) => Err(Refusal::Unknown),
    }
}
