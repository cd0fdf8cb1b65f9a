//! What waits for people, by age and by where its effect would be.

use crate::audit::SPANS;
use crate::domain::decide::as_judged_now;
use crate::domain::ids::RequestId;
use crate::domain::request::{Request, Status};
use crate::domain::state::{Read, Table, decode};
use crate::domain::time::Time;
use crate::store::Snapshot;
use crate::texts::t;
use crate::web::pages::card::branch;
use crate::web::pages::{PageError, shown};
use crate::web::words::span;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most waiting requests that are looked at.
const READ_MAX: usize = 1_000;
/// Places that have a row of their own.
const PLACES_MAX: usize = 8;
/// Longest name of a place, in characters.
const NAME_MAX: usize = 60;

/// A word, how often, and how long its bar is in a hundred.
pub struct Measure {
    pub word: String,
    pub count: u64,
    pub width: u64,
}

/// Rows whose bars compare.
pub fn measures(rows: impl IntoIterator<Item = (String, u64)>) -> Vec<Measure> {
    let rows: Vec<(String, u64)> = rows.into_iter().collect();
    let most = rows.iter().map(|it| it.1).max().unwrap_or(1).max(1);
    let measure = |(word, count)| Measure {
        word,
        count,
        width: count * 100 / most,
    };
    rows.into_iter().map(measure).collect()
}

/// What waits.
pub struct Waiting {
    /// All that wait.
    pub count: u64,
    /// Only so many of them are in the rows.
    pub looked_at: Option<usize>,
    pub by_age: Vec<Measure>,
    pub by_place: Vec<Measure>,
    /// Age of the oldest.
    pub oldest: Option<String>,
    /// The oldest ones, as they are judged now.
    pub first: Vec<Request>,
}

/// What of a request the rows need.
#[derive(Deserialize)]
struct Line {
    id: RequestId,
    status: Status,
    environment: Option<String>,
    target: Option<String>,
    created_at: Time,
}

impl Line {
    fn place(&self) -> String {
        match (&self.environment, &self.target) {
            (Some(environment), _) => shown(environment, NAME_MAX),
            (None, Some(target)) => t!("branch {target}", target = shown(&branch(target), NAME_MAX)),
            (None, None) => t!("no environment named").to_owned(),
        }
    }
}

impl Waiting {
    /// Reads what waits, with the `first` oldest in whole.
    pub fn load(state: &Snapshot, first: usize, now: Time) -> Result<Waiting, PageError> {
        let rows = state.scan_raw(Table::Waiting, b"", &[0xff; 8], READ_MAX, false)?;
        let mut lines: Vec<Line> = Vec::with_capacity(rows.len());
        for (id, _) in &rows {
            if let Some(row) = state.get_raw(Table::Requests, id)? {
                lines.push(decode(&row)?);
            }
        }
        lines.retain(|it| it.status == Status::Pending);
        lines.sort_by_key(|it| it.created_at);
        let mut ages = [0; SPANS.len()];
        let mut places: BTreeMap<String, u64> = BTreeMap::new();
        for it in &lines {
            let age = it.created_at.seconds_until(now);
            let at = SPANS.iter().position(|(bound, _)| age < *bound);
            ages[at.unwrap_or(SPANS.len() - 1)] += 1;
            *places.entry(it.place()).or_insert(0) += 1;
        }
        let mut places: Vec<(String, u64)> = places.into_iter().collect();
        places.sort_by_key(|it| std::cmp::Reverse(it.1));
        let others: u64 = places.iter().skip(PLACES_MAX).map(|it| it.1).sum();
        places.truncate(PLACES_MAX);
        if others > 0 {
            places.push((t!("elsewhere").to_owned(), others));
        }
        let mut oldest = Vec::with_capacity(first);
        for it in lines.iter().take(first) {
            if let Some(request) = state.get::<Request>(it.id.as_str())? {
                oldest.push(as_judged_now(request, state)?);
            }
        }
        let ages = SPANS.iter().zip(ages);
        Ok(Waiting {
            count: state.count(Table::Waiting)?,
            looked_at: (rows.len() == READ_MAX).then_some(READ_MAX),
            oldest: lines.first().map(|it| span(it.created_at.seconds_until(now))),
            by_age: measures(ages.map(|((_, word), count)| ((*word).to_owned(), count))),
            by_place: measures(places),
            first: oldest,
        })
    }
}
