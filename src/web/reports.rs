//! Reports of periods that take more than a moment: made beside the page that asks for them, and kept a while. In memory alone,
//! as all of it stands in the journal.

use crate::audit;
use crate::audit::Order;
use crate::domain::time::Time;
use crate::web::app::App;
use actix_web::web::{Data, block};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Entries of a period that a page reads itself, which takes some milliseconds.
const DIRECT_MAX: u64 = 512;
/// Reports made at the same time: each takes a core and reads its whole period.
const RUNNING_MAX: usize = 2;
/// Reports that are kept; the oldest go first.
const KEPT_MAX: usize = 8;
/// How long one is shown again, in milliseconds, to whoever does not ask for a newer one.
const KEPT_MS: i64 = 600_000;
/// How long it is told that one could not be made before it is tried again.
const AGAIN_MS: i64 = 10_000;

/// Why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The journal has nothing before the end of the period.
    Empty,
    /// Others are being made.
    Busy,
    /// The log says why.
    Broken,
}

/// One of them.
#[derive(Debug)]
pub struct Report {
    order: Order,
    /// Entries the journal had when it was begun: what it tells is as of then.
    pub size: u64,
    /// When it was begun.
    pub at: Time,
    percent: AtomicU64,
    made: OnceLock<(Time, Result<String, Failure>)>,
}

impl Report {
    /// How far it is.
    pub fn percent(&self) -> u64 {
        self.percent.load(Ordering::Relaxed)
    }

    /// HTML in which every text from outside is escaped. `None`: it is being made.
    pub fn made(&self) -> Option<Result<&str, Failure>> {
        self.made
            .get()
            .map(|(_, it)| it.as_ref().map(String::as_str).map_err(|it| *it))
    }

    fn make(&self, app: &App) -> Result<String, Failure> {
        let told = &mut |percent| self.percent.store(percent, Ordering::Relaxed);
        audit::overview(&app.store, &self.order, told).map_err(|error| match error {
            audit::Error::Empty => Failure::Empty,
            error => {
                tracing::error!(%error, "a report could not be made");
                Failure::Broken
            }
        })
    }
}

/// All of them.
#[derive(Default)]
pub struct Reports {
    held: Mutex<Vec<Arc<Report>>>,
}

impl Reports {
    /// The report of a period from at least so many entries of the journal: one that is there or on its way, or one that is
    /// begun now. A short period's is made at once.
    ///
    /// # Errors
    /// `Busy` when it would be one too many.
    pub async fn of(&self, app: &Data<App>, order: Order, least: u64) -> Result<Arc<Report>, Failure> {
        let broken = |error: audit::Error| {
            tracing::error!(%error, "a report could not be made");
            Failure::Broken
        };
        let state = app.store.read().map_err(|it| broken(it.into()))?;
        let size = state.size().map_err(|it| broken(it.into()))?;
        let now = app.now();
        let direct = match audit::range(order.from, order.to, &state) {
            Ok(range) => range.end.saturating_sub(range.first) <= DIRECT_MAX,
            Err(audit::Error::Empty) => return Err(Failure::Empty),
            Err(error) => return Err(broken(error)),
        };
        drop(state);
        let report = Arc::new(Report {
            order,
            size,
            at: now,
            percent: AtomicU64::new(0),
            made: OnceLock::new(),
        });
        if !direct && let Some(there) = self.there_or_begun(&report, least)? {
            return Ok(there);
        }
        let (app, making) = (app.clone(), report.clone());
        let work = async move {
            let (at, inner) = (app.clone(), making.clone());
            let made = block(move || inner.make(&at)).await;
            // Once only: nobody else sets it.
            let _ = making.made.set((app.now(), made.unwrap_or(Err(Failure::Broken))));
        };
        match direct {
            true => work.await,
            false => drop(actix_web::rt::spawn(work)),
        }
        Ok(report)
    }

    /// One that will do instead of `begun`. `None`: `begun` is noted, and is to be made.
    fn there_or_begun(&self, begun: &Arc<Report>, least: u64) -> Result<Option<Arc<Report>>, Failure> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|it| match it.made.get() {
            Some((at, Ok(_))) => begun.at.0 - at.0 < KEPT_MS,
            Some((at, Err(_))) => begun.at.0 - at.0 < AGAIN_MS,
            None => true,
        });
        let there = held
            .iter()
            .rev()
            .find(|it| it.order == begun.order && it.size >= least.min(begun.size));
        if let Some(there) = there {
            return Ok(Some(there.clone()));
        }
        if held.iter().filter(|it| it.made.get().is_none()).count() >= RUNNING_MAX {
            return Err(Failure::Busy);
        }
        if held.len() >= KEPT_MAX
            && let Some(oldest) = held.iter().position(|it| it.made.get().is_some())
        {
            held.remove(oldest);
        }
        held.push(begun.clone());
        Ok(None)
    }
}
