//! What becomes of requests when what backs them no longer holds: a key that signed for them was not ours alone, or the
//! journal was brought back from a copy and what happened since is not known.

use crate::domain::decide::changes::void_with;
use crate::domain::decide::{Decided, Plan, Step};
use crate::domain::event::Event;
use crate::domain::people::Session;
use crate::domain::request::{Change, ConfirmedStatus, Request, Status, change_row};
use crate::domain::state::{Fault, Read, Table, decode};
use crate::domain::time::Time;

/// Requests looked at in one read.
const PAGE: usize = 1_000;

/// Takes back what was signed at or after `from_seq`: those requests no longer open a gate, and changes are asked for anew.
pub(super) fn disown(from_seq: u64, reason: &str, now: Time, state: &impl Read) -> Decided {
    let signed = |request: &Request| {
        let decided = request.decisions.iter().any(|it| it.seq >= from_seq);
        // An outcome without decisions (a skip) was signed when the request was opened.
        decided || (request.status == Status::Skipped && request.seq >= from_seq)
    };
    let_go(reason, now, signed, state)
}

/// Takes back everything that still waits or could still be used, ends every session, and believes no status any more: what
/// the forges show may come from what is lost.
pub(super) fn let_all_go(reason: &str, now: Time, state: &impl Read) -> Decided {
    let mut plan = let_go(reason, now, |_| true, state)?;
    for status in state.all::<ConfirmedStatus>()? {
        plan.steps.push(Step::event(Event::StatusLost {
            status: status.key,
            reason: reason.to_owned(),
        }));
    }
    for session in state.all::<Session>()? {
        plan.steps.push(Step::event(Event::SessionClosed {
            person: session.person,
            session_sha256: session.token_sha256,
        }));
    }
    Ok(plan)
}

fn let_go(reason: &str, now: Time, wanted: impl Fn(&Request) -> bool, state: &impl Read) -> Decided {
    let mut steps = Vec::new();
    let mut from = Vec::new();
    loop {
        let rows = state.scan_raw(Table::Requests, &from, &[0xff; 32], PAGE, false)?;
        let Some((last, _)) = rows.last() else { break };
        from = [last.as_slice(), &[0]].concat();
        for (_, row) in &rows {
            let request: Request = decode(row)?;
            if wanted(&request) {
                steps.extend(one(&request, reason, now, state)?);
            }
        }
    }
    Ok(Plan::done(steps))
}

fn one(request: &Request, reason: &str, now: Time, state: &impl Read) -> Result<Vec<Step>, Fault> {
    let spent = request.consumed_at.is_some() || request.expires_at.is_some_and(|it| now >= it);
    let granted = matches!(request.status, Status::Approved | Status::Skipped);
    let mut steps = Vec::new();
    let Some(key) = &request.change else {
        if !(granted && spent) {
            steps.extend(void_with(request, Status::Cancelled, reason));
        }
        return Ok(steps);
    };
    let change: Option<Change> = state.get(&change_row(key))?;
    match change {
        Some(change) if change.open && change.request.as_ref() == Some(&request.id) => {
            steps.extend(void_with(request, Status::Cancelled, reason));
            // Without a request its status is taken back at once; the next look at it opens a new one.
            steps.push(Step::event(unasked(&change)));
            steps.push(Step::Hint(key.clone()));
        }
        // A merge has used it, or another request has taken its place.
        Some(change) if change.merged && granted => {}
        _ => steps.extend(void_with(request, Status::Cancelled, reason)),
    }
    Ok(steps)
}

/// The same change, gated by no request.
fn unasked(change: &Change) -> Event {
    let it = change.clone();
    Event::ChangeObserved {
        change: it.key,
        open: it.open,
        merged: it.merged,
        draft: it.draft,
        title: it.title,
        web_url: it.web_url,
        author: it.author,
        head: it.head,
        base: it.base,
        target_sha: it.target_sha,
        source: it.source,
        target: it.target,
        source_project_id: it.source_project_id,
        files_sha256: it.files_sha256,
        request: None,
        left: None,
    }
}
