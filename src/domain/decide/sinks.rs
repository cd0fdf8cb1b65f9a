//! Adding, changing and removing log sinks, and what their workers report.

use crate::domain::command::{SinkReport, WantedSink};
use crate::domain::decide::people::checked_name;
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::Event;
use crate::domain::ids::SinkId;
use crate::domain::refusal::Refusal;
use crate::domain::sink::{Destination, SINKS_MAX, Sink, sink_follower};
use crate::domain::state::Read;
use crate::domain::text::{shortened, visible};

/// Longest reason that is recorded, in characters.
const REASON_CHARS_MAX: usize = 500;

pub(super) fn add(sink: SinkId, wanted: WantedSink, from: u64, state: &impl Read) -> Decided {
    let live = live_sinks(state)?;
    if live.len() >= SINKS_MAX {
        let why = format!("There are {SINKS_MAX} log sinks, and that is the most. Remove one first.");
        return Err(Refusal::NotAllowed { why }.into());
    }
    let name = free_name(&wanted, None, &live)?;
    Ok(Plan::done(vec![Step::event(Event::SinkAdded {
        sink,
        name,
        destination: wanted.destination,
        format: wanted.format,
        from,
    })]))
}

pub(super) fn change(sink: SinkId, wanted: WantedSink, state: &impl Read) -> Decided {
    let before = live(&sink, state)?;
    if before.destination.kind() != wanted.destination.kind() {
        let reason = "A sink keeps its kind; add another one instead.";
        return Err(Refusal::invalid("kind", reason).into());
    }
    let name = free_name(&wanted, Some(&sink), &live_sinks(state)?)?;
    Ok(Plan::done(vec![Step::event(Event::SinkChanged {
        sink,
        name,
        destination: wanted.destination,
        format: wanted.format,
    })]))
}

pub(super) fn remove(sink: SinkId, state: &impl Read) -> Decided {
    live(&sink, state)?;
    Ok(Plan::done(vec![Step::event(Event::SinkRemoved { sink })]))
}

/// A worker, or an admin's test, tells how it went.
pub(super) fn report(sink: SinkId, report: SinkReport, state: &impl Read) -> Decided {
    // A worker that has not yet heard of the removal reports a last time.
    let Some(record) = state.get::<Sink>(sink.as_str())? else {
        return Ok(Plan::nothing());
    };
    let said = |reason: String| shortened(&visible(&reason), REASON_CHARS_MAX);
    let name = record.name;
    Ok(Plan::done(match report {
        SinkReport::Stuck { next, reason } if record.stuck.is_none() && record.removed.is_none() => {
            vec![Step::event(Event::ExceptionSinkStuck {
                sink,
                name,
                next,
                reason: said(reason),
            })]
        }
        SinkReport::Recovered { next } if record.stuck.is_some() => {
            vec![Step::event(Event::SinkRecovered { sink, next })]
        }
        SinkReport::Stuck { .. } | SinkReport::Recovered { .. } => return Ok(Plan::nothing()),
        SinkReport::Withheld { entry, reason } => vec![
            Step::event(Event::ExceptionSinkEntryWithheld {
                sink: sink.clone(),
                name,
                entry,
                reason: said(reason),
            }),
            Step::Cursor(sink_follower(&sink), entry.saturating_add(1)),
        ],
        SinkReport::Tested { refused } => vec![Step::event(Event::SinkTested {
            sink,
            refused: refused.map(said),
        })],
    }))
}

/// What was sent twice is harmless, so where a sink has got to is no history.
pub(super) fn acknowledge(sink: SinkId, next: u64) -> Decided {
    Ok(Plan::done(vec![Step::Cursor(sink_follower(&sink), next)]))
}

fn live_sinks(state: &impl Read) -> Result<Vec<Sink>, Stop> {
    let mut all = state.all::<Sink>()?;
    all.retain(|it| it.removed.is_none());
    Ok(all)
}

fn live(id: &SinkId, state: &impl Read) -> Result<Sink, Stop> {
    match state.get::<Sink>(id.as_str())? {
        Some(it) if it.removed.is_none() => Ok(it),
        _ => Err(Refusal::Unknown.into()),
    }
}

/// A name nobody else bears, and a file nobody else writes.
fn free_name(wanted: &WantedSink, own: Option<&SinkId>, live: &[Sink]) -> Result<String, Stop> {
    let name = checked_name(&wanted.name)?;
    for other in live.iter().filter(|it| Some(&it.id) != own) {
        if other.name == name {
            let what = format!("A log sink named {name} exists.");
            return Err(Refusal::Duplicate { what }.into());
        }
        let same_file = matches!((&other.destination, &wanted.destination),
            (Destination::File { name: a }, Destination::File { name: b }) if a == b);
        if same_file {
            let what = format!("The sink {} writes that file already.", other.name);
            return Err(Refusal::Duplicate { what }.into());
        }
    }
    Ok(name)
}
