//! Work that stands in a projection, a row for each request that something is still to be done for: a restart goes on with
//! it, and each piece is a task of its own, so that one that hangs holds up no other.

use crate::domain::ids::RequestId;
use crate::domain::state::{Read, Table};
use crate::effects::pace::Pace;
use crate::effects::{Surroundings, Trouble};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is worked off, and how.
pub(super) struct Errands {
    /// Request id → nothing, until its work is recorded as done.
    pub table: Table,
    /// Rows read in one pass.
    pub rows_max: usize,
    /// Pieces of work at once.
    pub in_flight_max: usize,
    /// What can't be done yet, for the log.
    pub what: &'static str,
}

impl Errands {
    /// Works everything off, for ever. What `work` answers is not before when it is to be tried again; `None`: it is done.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn run<F, W>(self, at: Surroundings, work: F) -> Result<(), Trouble>
    where
        F: Fn(RequestId) -> W,
        W: Future<Output = Result<Option<Duration>, Trouble>> + Send + 'static,
    {
        let mut grown = at.engine.watch_size();
        let mut pace: Pace<RequestId> = Pace::new();
        let mut on_the_way: JoinSet<(RequestId, Result<Option<Duration>, Trouble>)> = JoinSet::new();
        let mut busy: HashSet<RequestId> = HashSet::new();
        loop {
            for request in self.open(&at)? {
                if busy.len() >= self.in_flight_max {
                    break;
                }
                if busy.contains(&request) || !pace.is_due(&request) {
                    continue;
                }
                busy.insert(request.clone());
                let done = work(request.clone());
                on_the_way.spawn(async move { (request, done.await) });
            }
            tokio::select! {
                Some(finished) = on_the_way.join_next() => {
                    let (request, result) = finished.map_err(|e| Trouble::Forge(e.to_string()))?;
                    busy.remove(&request);
                    match result {
                        Ok(None) => pace.done(&request),
                        Ok(Some(after)) => pace.failed(&request, Some(after)),
                        Err(error) => {
                            tracing::warn!(%error, %request, "{} yet", self.what);
                            pace.failed(&request, None);
                        }
                    }
                }
                changed = grown.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn open(&self, at: &Surroundings) -> Result<Vec<RequestId>, Trouble> {
        let rows = at
            .store
            .read()?
            .scan_raw(self.table, &[], &[0xff], self.rows_max, false)?;
        let ids = rows
            .iter()
            .filter_map(|(id, _)| RequestId::parse(std::str::from_utf8(id).ok()?));
        Ok(ids.collect())
    }
}
