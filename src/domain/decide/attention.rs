//! What people do with a request besides deciding it: see it, say that it is not theirs, and pick its code.

use crate::domain::attention::{Look, is_reported, match_code, requester_row};
use crate::domain::decide::decisions::eligibility;
use crate::domain::decide::judge::as_judged_now;
use crate::domain::decide::roster::Roster;
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::{Actor, Event};
use crate::domain::ids::{PersonId, RequestId};
use crate::domain::people::Person;
use crate::domain::refusal::Refusal;
use crate::domain::request::{Answer, Request};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;

/// Longest note of a report, in characters.
const NOTE_CHARS_MAX: usize = 1_000;

pub(super) fn see(request: RequestId, actor: &Actor, state: &impl Read) -> Decided {
    let record: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    let person = somebody(actor, state)?;
    let look = Look::of(&record.id, &person.id, state)?;
    if look.seen_at.is_some() {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::RequestSeen {
        request,
        person: person.id,
    })]))
}

pub(super) fn report(
    request: RequestId,
    note: String,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record: Request = state.get(request.as_str())?.ok_or(Refusal::Unknown)?;
    let person = somebody(actor, state)?;
    let record = as_judged_now(record, state)?;
    // Whoever is asked may say that they did not expect it; others have no part in it.
    if let Some(why) = eligibility(&record, &person, &Roster::load(state)?, now).why_not {
        return Err(why.into());
    }
    let note = note.trim().to_owned();
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(Refusal::invalid("note", format!("At most {NOTE_CHARS_MAX} characters.")).into());
    }
    let Some(requester) = requester_row(&record, state)? else {
        let why = "This is somebody's own test request; reject it instead.".to_owned();
        return Err(Refusal::NotAllowed { why }.into());
    };
    if is_reported(&requester, state)? {
        let what = "Its requester has been reported already and is held.".to_owned();
        return Err(Refusal::Outdated { what }.into());
    }
    Ok(Plan::done(vec![Step::event(Event::ExceptionRequesterReported {
        request,
        requester,
        requester_name: record.requested_by().to_owned(),
        person: person.id,
        name: person.name,
        note,
    })]))
}

/// That somebody picked another code than the requester sees.
pub(super) fn miss_code(request: RequestId, person: PersonId, state: &impl Read) -> Decided {
    let look = Look::of(&request, &person, state)?;
    if look.missed_code {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::RequestCodeMissed {
        request,
        person,
    })]))
}

/// Whether an approval comes with the code that the requester sees, where a rule asks for it. `Ok(false)`: the code is
/// another one, which is to be recorded.
///
/// # Errors
/// When no code came, or another one came before.
pub fn code_matches(
    request: &Request,
    person: &PersonId,
    answer: Answer,
    picked: Option<u8>,
    state: &impl Read,
) -> Result<Result<bool, Refusal>, Fault> {
    let Some(wanted) = match_code(request).filter(|_| answer == Answer::Approve) else {
        return Ok(Ok(true));
    };
    if Look::of(&request.id, person, state)?.missed_code {
        let why = "You picked another code than the requester sees, so you can't approve this any more. Reject it, or \
                   leave it to somebody else.";
        return Ok(Err(Refusal::NotEligible { why: why.into() }));
    }
    let Some(picked) = picked else {
        let reason = "Pick the code that the requester sees.";
        return Ok(Err(Refusal::invalid("match_code", reason)));
    };
    Ok(Ok(picked == wanted.code))
}

/// Why nobody may approve what this requester asks, for now.
pub(super) fn held(request: &Request, state: &impl Read) -> Result<Option<String>, Fault> {
    let Some(row) = requester_row(request, state)? else {
        return Ok(None);
    };
    Ok(is_reported(&row, state)?.then(|| {
        "Somebody reported this requester: “not me”. Nothing of it can be approved until an admin or auditor has looked \
         that over."
            .to_owned()
    }))
}

fn somebody(actor: &Actor, state: &impl Read) -> Result<Person, crate::domain::decide::Stop> {
    let Actor::Person { id, .. } = actor else {
        return Err(Refusal::Unknown.into());
    };
    Ok(state
        .get::<Person>(id.as_str())?
        .filter(|it| it.active)
        .ok_or(Refusal::Unknown)?)
}
