//! Answers a question from the index, block by block, the newest request first.

use crate::domain::ids::RequestId;
use crate::domain::request::Request;
use crate::domain::search::BLOCK;
use crate::domain::search::index::{count, row, terms};
use crate::domain::search::query::{Clause, Query, holds};
use crate::domain::search::set::Set;
use crate::domain::state::{Fault, Read, Table};
use crate::domain::time::Time;

/// What one answer may cost, in the units below: a few milliseconds.
const BUDGET: u64 = 12_000;
/// A row that is looked up.
const SEEK: u64 = 4;
/// A request that is read: about 20 µs, five times a row.
const READ: u64 = 20;
/// Rows of one block that a word's beginning may lead to. Where there are more, each request is looked at instead.
const ROWS_MAX: usize = 2_000;

/// Requests that a question leads to, newest first.
#[derive(Debug)]
pub struct Found {
    pub requests: Vec<Request>,
    pub more: More,
}

/// How an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It is whole.
    No,
    /// There is at least one more, before this request's number.
    Yes { before: u64 },
    /// The answer would have cost too much. All requests from this number on were looked at; the last of them was opened at
    /// this time.
    Stopped { before: u64, back_to: Time },
}

impl More {
    /// The number to go on before.
    pub fn before(self) -> Option<u64> {
        match self {
            More::No => None,
            More::Yes { before } | More::Stopped { before, .. } => Some(before),
        }
    }
}

struct Search<'a, R> {
    state: &'a R,
    query: &'a Query,
    spent: u64,
}

/// The newest requests that fit: at most `limit`, of those with a number below `before`. `sees` says whether whoever asks may
/// know of a request.
///
/// # Errors
/// When the index or a request can't be read.
pub fn find<R: Read>(
    state: &R,
    query: &Query,
    before: Option<u64>,
    limit: usize,
    sees: impl Fn(&Request) -> bool,
) -> Result<Found, Fault> {
    let mut search = Search {
        state,
        query,
        spent: 0,
    };
    let mut found = Found {
        requests: Vec::new(),
        more: More::No,
    };
    let all = count(state)?;
    let mut end = before.unwrap_or(all).min(all);
    if let Some(until) = query.until {
        end = search.first_since(until, end)?;
    }
    let begin = match query.since {
        Some(since) => search.first_since(since, end)?,
        None => 0,
    };
    let start = end;
    while begin < end {
        let block = (end - 1) / BLOCK;
        let first = block * BLOCK;
        let (places, certain) = search.block(block, begin.max(first) - first, end - first)?;
        for place in places.backwards() {
            let ordinal = first + place as u64;
            // Each answer gets on by one request at the least.
            if search.spent >= BUDGET && ordinal + 1 < start {
                return search.stopped(found, ordinal + 1);
            }
            let request = search.read(ordinal)?;
            let fits = certain || holds(&query.clauses, &terms(&request));
            if fits && sees(&request) {
                if found.requests.len() == limit {
                    found.more = More::Yes { before: ordinal + 1 };
                    return Ok(found);
                }
                found.requests.push(request);
            }
        }
        end = first;
        if search.spent >= BUDGET && begin < end {
            return search.stopped(found, end);
        }
    }
    Ok(found)
}

impl<R: Read> Search<'_, R> {
    /// The places of a block that fit. `false`: some may not, each is to be looked at.
    fn block(&mut self, block: u64, from: u64, to: u64) -> Result<(Set, bool), Fault> {
        let place = |it| usize::try_from(it).expect("a block's places fit");
        let mut places = Set::between(place(from), place(to));
        let mut certain = true;
        // What is met whole costs one row; a long word leads to fewer rows than a short one.
        let mut clauses: Vec<&Clause> = self.query.clauses.iter().collect();
        clauses.sort_by_key(|it| match it {
            Clause::Never => 0,
            Clause::Any(any) => any.len(),
            Clause::Begins(begin) => usize::MAX - begin.len(),
        });
        for clause in clauses {
            let mut fitting = Set::empty();
            match clause {
                Clause::Never => {}
                Clause::Any(any) => {
                    for term in any {
                        self.spent += SEEK;
                        if let Some(bytes) = self.state.get_raw(Table::RequestIndex, &row(block, term))? {
                            fitting.join(&Set::decode(&bytes)?);
                        }
                    }
                }
                Clause::Begins(begin) => {
                    let from = row(block, begin);
                    // No text has this byte.
                    let to = [&from[..], &[0xff]].concat();
                    let rows = self
                        .state
                        .scan_raw(Table::RequestIndex, &from, &to, ROWS_MAX, false)?;
                    self.spent += SEEK + rows.len() as u64;
                    if rows.len() == ROWS_MAX {
                        certain = false;
                        continue;
                    }
                    for (_, bytes) in rows {
                        fitting.join(&Set::decode(&bytes)?);
                    }
                }
            }
            places.meet(&fitting);
            if places.is_empty() {
                break;
            }
        }
        Ok((places, certain))
    }

    /// The number of the first request that was opened at this time or later, of the first `all`. Times never go back.
    fn first_since(&mut self, time: Time, all: u64) -> Result<u64, Fault> {
        let (mut low, mut high) = (0, all);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.read(middle)?.created_at < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn read(&mut self, ordinal: u64) -> Result<Request, Fault> {
        self.spent += READ;
        let lost = || Fault(format!("request number {ordinal} is not recorded"));
        let id = self
            .state
            .get_raw(Table::RequestNumbers, &ordinal.to_be_bytes())?;
        let id = id.and_then(|it| String::from_utf8(it).ok());
        let id = id.and_then(|it| RequestId::parse(&it)).ok_or_else(lost)?;
        self.state.get(id.as_str())?.ok_or_else(lost)
    }

    fn stopped(&mut self, mut found: Found, before: u64) -> Result<Found, Fault> {
        let back_to = self.read(before)?.created_at;
        found.more = More::Stopped { before, back_to };
        Ok(found)
    }
}
