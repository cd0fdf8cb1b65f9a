//! The last days in numbers, and where in the journal what is, held in memory. One task counts what the journal grows by, so
//! that a page only reads; until all of these days are counted there are no numbers rather than wrong ones.

use crate::audit::{Daily, Error, Figures, Sought, Timeline};
use crate::store::{Snapshot, Store};
use crate::web::app::App;
use actix_web::web::{Data, block};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Entries counted in one go. Whoever shows a page waits for one of them at the most.
const CHUNK: usize = 1_000;
/// Entries that a page counts itself, so that what was decided a moment ago is in it.
const BESIDES_MAX: u64 = 500;
/// What comes in a burst is counted together.
const PAUSE: Duration = Duration::from_secs(1);
/// After an error.
const AGAIN: Duration = Duration::from_secs(60);

/// What can be told now.
pub enum Told {
    /// All of it.
    Figures(Box<Figures>),
    /// So many of a hundred entries are counted.
    Counting(u64),
    /// The journal could not be read; the log says why.
    Unreadable,
}

#[derive(Default)]
struct Held {
    daily: Option<Daily>,
    /// Entries there were to count when it began.
    whole: u64,
    failed: bool,
}

/// The room for it.
#[derive(Default)]
pub struct Statistics {
    held: Mutex<Held>,
    timeline: Mutex<Timeline>,
}

impl Statistics {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be told now.
    pub fn told(&self, app: &App, state: &Snapshot) -> Told {
        let now = app.now();
        let mut held = self.held();
        if held.failed {
            return Told::Unreadable;
        }
        let whole = held.whole;
        let Some(daily) = &mut held.daily else {
            return Told::Counting(0);
        };
        let left = match daily.left(state) {
            Ok(left) if left <= BESIDES_MAX => daily.go_on(BESIDES_MAX as usize, now, state).map(|()| 0),
            other => other,
        };
        match left {
            Ok(0) => Told::Figures(Box::new(daily.figures(now))),
            Ok(left) => Told::Counting(100 - (left * 100 / whole.max(1)).min(100)),
            Err(error) => {
                tracing::error!(%error, "the journal could not be counted");
                Told::Unreadable
            }
        }
    }

    /// Positions in `first..end` where what is sought can be, the newest first, at most `limit`. `None`: not all of the journal
    /// is marked yet, or it can't be read.
    pub fn newest(
        &self,
        state: &Snapshot,
        sought: &Sought,
        first: u64,
        end: u64,
        limit: usize,
    ) -> Option<Vec<u64>> {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let left = timeline.left(state).ok()?;
        if left > 0 {
            let few = left <= BESIDES_MAX;
            (few && timeline.go_on(BESIDES_MAX as usize, state).is_ok()).then_some(())?;
        }
        Some(timeline.newest(sought, first, end, limit))
    }

    /// Marks a piece. `false`: nothing is left.
    fn mark(&self, store: &Store) -> Result<bool, Error> {
        let state = store.read()?;
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.go_on(CHUNK, &state)?;
        Ok(timeline.left(&state)? > 0)
    }

    /// Counts a piece. `false`: nothing is left.
    fn count(&self, app: &App, store: &Store) -> Result<bool, Error> {
        let (state, now) = (store.read()?, app.now());
        let mut held = self.held();
        if held.daily.is_none() {
            let daily = Daily::begin(now, &state)?;
            held.whole = daily.left(&state)?;
            held.daily = Some(daily);
        }
        let Some(daily) = &mut held.daily else {
            return Ok(false);
        };
        daily.go_on(CHUNK, now, &state)?;
        let left = daily.left(&state)?;
        held.failed = false;
        Ok(left > 0)
    }
}

/// Counts as the journal grows, until the writer ends. The gate does not need these numbers, so it goes on without them.
pub async fn run_statistics(app: Data<App>) {
    let mut grown = app.engine.watch_size();
    loop {
        grown.borrow_and_update();
        loop {
            let at = app.clone();
            match block(move || {
                // The numbers first: they stand on the page that is opened first.
                Ok::<_, Error>(at.statistics.count(&at, &at.store)? || at.statistics.mark(&at.store)?)
            })
            .await
            {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break,
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "the thread has stopped".to_owned(),
                    };
                    tracing::error!(%error, "the journal could not be counted; it is tried again");
                    app.statistics.held().failed = true;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        if grown.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
