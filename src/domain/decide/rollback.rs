//! Going on from a journal that lacks entries which were told to the world: nothing that waited or was granted in it can be
//! trusted to be still so, since what happened to it later is what is missing.

use crate::domain::command::AcceptRollback;
use crate::domain::decide::evidence::let_all_go;
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::Event;
use crate::domain::ids::Digest;
use crate::domain::people::Session;
use crate::domain::rollback::RollbackConfirmation;
use crate::domain::state::Read;
use crate::domain::time::Time;

/// Why requests end, in words.
const BECAUSE: &str = "The journal was found to lack entries; what became of this since is not known.";

pub(super) fn accept(it: AcceptRollback, now: Time, state: &impl Read) -> Decided {
    let mut steps = Vec::new();
    let mut by = Vec::new();
    for (person, name, evidence) in it.confirmed {
        let evidence_sha256 = evidence.as_ref().map(|it| Digest::of(it));
        steps.extend(evidence.map(Step::Blob));
        by.push(RollbackConfirmation {
            person,
            name,
            evidence_sha256,
        });
    }
    let newest = it.found.iter().max_by_key(|it| it.size);
    let previous = newest.map(|it| it.checkpoint.clone());
    steps.push(Step::event(Event::ExceptionRollbackAccepted {
        size: it.size,
        found: it.found,
        by,
    }));
    steps.push(Step::event(Event::EpochOpened {
        epoch: it.epoch,
        origin: it.origin,
        reason: "the journal lacked entries, and admins went on from it".into(),
        previous,
    }));
    steps.extend(let_all_go(BECAUSE, now, state)?.steps);
    for session in state.all::<Session>()? {
        steps.push(Step::event(Event::SessionClosed {
            person: session.person,
            session_sha256: session.token_sha256,
        }));
    }
    Ok(Plan::done(steps))
}
