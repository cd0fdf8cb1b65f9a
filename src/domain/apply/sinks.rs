//! What events about log sinks change.

use crate::domain::apply::Place;
use crate::domain::event::Event;
use crate::domain::ids::SinkId;
use crate::domain::sink::Sink;
use crate::domain::state::{Fault, Write};

pub(super) fn apply(event: &Event, at: Place, state: &mut impl Write) -> Result<(), Fault> {
    match event {
        Event::SinkAdded {
            sink,
            name,
            destination,
            format,
            from,
        } => state.put(&Sink {
            id: sink.clone(),
            name: name.clone(),
            destination: destination.clone(),
            format: *format,
            from: *from,
            created_at: at.time,
            settings_seq: at.seq,
            removed: None,
            stuck: None,
            withheld: 0,
        }),
        Event::SinkChanged {
            sink,
            name,
            destination,
            format,
        } => edit(state, sink, |it| {
            it.name.clone_from(name);
            it.destination = destination.clone();
            it.format = *format;
            it.settings_seq = at.seq;
        }),
        Event::SinkRemoved { sink } => edit(state, sink, |it| it.removed = Some(at.seq)),
        Event::ExceptionSinkStuck { sink, .. } => edit(state, sink, |it| it.stuck = Some(at.seq)),
        Event::SinkRecovered { sink, .. } => edit(state, sink, |it| it.stuck = None),
        Event::ExceptionSinkEntryWithheld { sink, .. } => {
            edit(state, sink, |it| it.withheld = it.withheld.saturating_add(1))
        }
        _ => Ok(()),
    }
}

fn edit(state: &mut impl Write, id: &SinkId, change: impl FnOnce(&mut Sink)) -> Result<(), Fault> {
    let record: Option<Sink> = state.get(id.as_str())?;
    let mut record = record.ok_or_else(|| Fault(format!("{id} is not recorded")))?;
    change(&mut record);
    state.put(&record)
}
