//! What an erasure changes: the request keeps what names nobody.

use crate::domain::apply::{Place, must};
use crate::domain::event::Event;
use crate::domain::request::{Opening, Request};
use crate::domain::retention::{DocumentKind, Erased, Erasure};
use crate::domain::search;
use crate::domain::state::{Fault, Table, Write, decode, encode};

/// Notes what was erased and what stands in its place. When all projections are made anew, this comes before everything
/// else: the entries that open requests need it.
///
/// # Errors
/// When it can't be written.
pub fn note_erased(event: &Event, seq: u64, state: &mut impl Write) -> Result<(), Fault> {
    let Event::BlobErased {
        documents,
        stub_sha256,
        ..
    } = event
    else {
        return Ok(());
    };
    for document in documents {
        let stub = (document.kind == DocumentKind::Opening).then_some(*stub_sha256);
        state.put_raw(Table::Erased, &document.sha256.0, &encode(&Erased { seq, stub }))?;
    }
    Ok(())
}

pub(super) fn apply(event: &Event, at: Place, state: &mut impl Write) -> Result<(), Fault> {
    match event {
        Event::ErasureOrdered {
            erasure,
            scope,
            before,
            reason,
            by,
        } => state.put(&Erasure {
            id: erasure.clone(),
            scope: scope.clone(),
            before: *before,
            reason: reason.clone(),
            by: by.clone(),
            ordered_at: at.time,
            requests: 0,
            documents: 0,
            ended_at: None,
            seq: at.seq,
        }),
        Event::BlobErased {
            erasure,
            request,
            documents,
            stub_sha256,
            ..
        } => {
            note_erased(event, at.seq, state)?;
            let mut order: Erasure = must(state, erasure.as_str())?;
            order.requests += 1;
            order.documents += documents.len() as u64;
            state.put(&order)?;
            let stub = state.blob(stub_sha256)?;
            let stub = stub.ok_or_else(|| Fault(format!("what is left of {request} is missing")))?;
            let stub: Opening = decode(&stub)?;
            let before: Request = must(state, request.as_str())?;
            let after = Request {
                source: stub.source(),
                title: stub.title,
                requester: stub.requester,
                involved: stub.involved,
                calls_back: false,
                opening: *stub_sha256,
                erased_at: Some(at.time),
                changed_seq: at.seq,
                ..before.clone()
            };
            search::note_changed(&before, &after, state)?;
            state.put(&after)
        }
        Event::ErasureEnded { erasure, .. } => {
            let mut order: Erasure = must(state, erasure.as_str())?;
            order.ended_at = Some(at.time);
            state.put(&order)
        }
        _ => Ok(()),
    }
}
