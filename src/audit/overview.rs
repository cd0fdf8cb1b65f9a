//! The report of a period as a page shows it: the numbers and lists of a bundle's report, without its cards.

use crate::audit::remains::Remains;
use crate::audit::select::{Order, range, select};
use crate::audit::story::Story;
use crate::audit::summary::Summary;
use crate::audit::{Error, gates, keys, report, summary};
use crate::domain::ids::RequestId;
use crate::store::Store;
use std::collections::BTreeSet;

/// Requests read in one view of the database.
const ITEMS: usize = 512;

/// How much of the work is reading the entries, in percent; the rest is reading the requests.
const ENTRIES_SHARE: u64 = 40;

/// A period in numbers, charts and lists: HTML in which every text from outside is escaped. `told` hears how far it is, in
/// percent.
///
/// # Errors
/// See `Error`.
pub fn overview(store: &Store, order: &Order, told: &mut dyn FnMut(u64)) -> Result<String, Error> {
    let state = store.read()?;
    let range = range(order.from, order.to, &state)?;
    let history = keys::history(range.to_size(), "", &state)?;
    drop(state);
    let entries = range.end.saturating_sub(range.first).max(1);
    let selection = select(store, order, &range, &mut |seq| {
        told(seq.saturating_sub(range.first) * ENTRIES_SHARE / entries);
        Ok(())
    })?;
    let credential_keys = keys::credential_keys(&history);
    let requests: BTreeSet<&RequestId> = selection
        .outcomes
        .keys()
        .chain(selection.decisions.keys())
        .collect();
    let mut summary = Summary::default();
    let requests: Vec<&RequestId> = requests.into_iter().collect();
    for (n, some) in requests.chunks(ITEMS).enumerate() {
        let state = store.read()?;
        told(ENTRIES_SHARE + (n * ITEMS) as u64 * (100 - ENTRIES_SHARE) / requests.len() as u64);
        for request in some {
            summary.add(&Story::read(request, &selection, &credential_keys, &state)?);
        }
    }
    let state = store.read()?;
    let erased = Remains::all(&selection, &state)?;
    erased.iter().for_each(|it| summary.add_remains(it));
    let (exceptions, exceptions_left_out) = summary::exceptions(&selection, range.end, &state)?;
    let period = (order.from, order.to);
    let (gates, gates_left_out) = gates::gates(&selection, &order.filter, period, &state)?;
    let (access, access_left_out) = summary::access(&selection, &state)?;
    let holdings = match order.filter.is_empty() {
        true => summary::holdings(range.end, order.to, &state)?,
        false => Vec::new(),
    };
    let mut out = Vec::new();
    report::figures(
        &summary,
        exceptions.len() as u64 + exceptions_left_out as u64,
        &mut out,
    )?;
    report::charts(&summary, &mut out)?;
    report::told_exceptions(&summary, &exceptions, exceptions_left_out, &mut out)?;
    report::told_gates(&gates, gates_left_out, &mut out)?;
    report::told_erased(&erased, &mut out)?;
    report::told_access(&access, access_left_out, &mut out)?;
    report::told_holdings(&holdings, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
