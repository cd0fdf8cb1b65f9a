//! The last days in numbers, counted as the journal grows: what ended and how, how long it took, by which methods, and what
//! went around the gate. Times in the journal never go back, so a day that is over never changes and no entry is read twice.

use crate::audit::chart::Part;
use crate::audit::select::first_at;
use crate::audit::summary::{ending, middle_and_bound};
use crate::audit::{Error, damaged};
use crate::domain::ids::RequestId;
use crate::domain::policy::Method;
use crate::domain::request::{Request, Status};
use crate::domain::state::{Read, Record, decode};
use crate::domain::text::marked;
use crate::domain::time::Time;
use crate::store::Snapshot;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};

/// Days that are told, today included. A day is one of UTC.
const DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// Requests that ended last and are known by name.
const NEWEST_MAX: usize = 6;

/// What goes past the gate, or makes it weaker, as bars tell it.
pub const AROUND: [Part; 3] = [
    Part {
        class: "rejected-bar",
        column: marked!("Bypass"),
        word: marked!("around the gate: merged, pushed or started without an approval, or a forged status"),
    },
    Part {
        class: "skipped-bar",
        column: marked!("Break-glass"),
        word: marked!("through it by break-glass"),
    },
    Part {
        class: "other-bar",
        column: marked!("Other"),
        word: marked!("a weaker gate, a reported requester, a log sink"),
    },
];

/// One day.
#[derive(Clone, Debug, Default)]
pub struct Day {
    /// Requests that ended, by how.
    outcomes: BTreeMap<&'static str, u64>,
    /// Decisions by people, by method.
    methods: BTreeMap<&'static str, u64>,
    /// Exceptions, as `AROUND`.
    around: [u64; 3],
    /// Seconds from request to decision.
    seconds: Vec<u32>,
    /// Their middle and bound, until there is another.
    times: Option<(u64, u64)>,
}

impl Day {
    /// Requests that ended so.
    pub fn ended(&self, status: Status) -> u64 {
        self.outcomes.get(status.name()).copied().unwrap_or(0)
    }

    fn endings(&self) -> [u64; 4] {
        let mut all = [0; 4];
        for (word, count) in &self.outcomes {
            all[ending(word)] += count;
        }
        all
    }

    fn times(&mut self) -> Option<(u64, u64)> {
        if self.times.is_none() {
            self.times = middle_and_bound(&mut self.seconds);
        }
        self.times
    }
}

/// One day's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayLine {
    /// Days since 1970.
    pub day: i64,
    /// Requests that ended, as `ENDINGS`.
    pub endings: [u64; 4],
    /// Exceptions, as `AROUND`.
    pub around: [u64; 3],
    /// Median and 90th percentile of the time to decide, in seconds.
    pub times: Option<(u64, u64)>,
}

/// All days' figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Each of the days, the oldest first, those without anything too.
    pub lines: Vec<DayLine>,
    /// Decisions by people in these days, by method.
    pub methods: BTreeMap<&'static str, u64>,
    /// Today by itself.
    pub today: Day,
    /// Decisions by people today.
    pub decisions_today: u64,
    /// The requests that ended last, the newest first.
    pub newest: Vec<RequestId>,
}

/// Counts the journal.
#[derive(Debug)]
pub struct Daily {
    /// The first entry that is not counted yet.
    next: u64,
    days: BTreeMap<i64, Day>,
    newest: VecDeque<RequestId>,
}

/// An entry, its data unread.
#[derive(Deserialize)]
struct Entry<'a> {
    r#type: &'a str,
    time: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Ended {
    request: RequestId,
}

#[derive(Deserialize)]
struct Decided {
    method: Method,
}

#[derive(Deserialize)]
struct Opened {
    created_at: Time,
}

/// The day an instant lies in, in days since 1970.
fn day_of(time: Time) -> i64 {
    time.0.div_euclid(DAY_MS)
}

impl Daily {
    /// Nothing counted yet: it begins where the days that are told at `now` begin.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn begin(now: Time, state: &Snapshot) -> Result<Daily, Error> {
        let first = Time((day_of(now) - DAYS + 1).saturating_mul(DAY_MS));
        Ok(Daily {
            next: first_at(first, state)?,
            days: BTreeMap::new(),
            newest: VecDeque::new(),
        })
    }

    /// How many entries are not counted yet.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn left(&self, state: &Snapshot) -> Result<u64, Error> {
        Ok(state.size()?.saturating_sub(self.next))
    }

    /// Counts at most `limit` entries.
    ///
    /// # Errors
    /// When an entry can't be read. What was counted before it stays counted, once.
    pub fn go_on(&mut self, limit: usize, now: Time, state: &Snapshot) -> Result<(), Error> {
        let opened = |request: &RequestId| -> Result<Option<Time>, Error> {
            let row = state.get_raw(Request::TABLE, request.as_str().as_bytes())?;
            Ok(row
                .map(|it| decode::<Opened>(&it))
                .transpose()?
                .map(|it| it.created_at))
        };
        state.each_leaf(self.next, limit, |seq, leaf| -> Result<(), Error> {
            self.count(seq, leaf, opened)?;
            self.next = seq + 1;
            Ok(())
        })?;
        let oldest = day_of(now) - DAYS + 1;
        self.days = self.days.split_off(&oldest);
        Ok(())
    }

    fn count(
        &mut self,
        seq: u64,
        leaf: &[u8],
        opened: impl Fn(&RequestId) -> Result<Option<Time>, Error>,
    ) -> Result<(), Error> {
        let odd = |e: serde_json::Error| damaged(format!("entry {seq}: {e}"));
        let entry: Entry<'_> = serde_json::from_slice(leaf).map_err(odd)?;
        let (area, what) = entry.r#type.split_once('.').unwrap_or((entry.r#type, ""));
        let status = Status::parse(what).filter(|it| area == "request" && *it != Status::Pending);
        let counts = status.is_some()
            || entry.r#type == "decision.recorded"
            || (area == "exception" && what != "reviewed");
        if !counts {
            return Ok(());
        }
        let at = Time::parse(entry.time).ok_or_else(|| damaged(format!("entry {seq} has no time")))?;
        let day = self.days.entry(day_of(at)).or_default();
        match (status, area) {
            (Some(status), _) => {
                *day.outcomes.entry(status.name()).or_insert(0) += 1;
                let ended: Ended = serde_json::from_str(entry.data.get()).map_err(odd)?;
                if matches!(status, Status::Approved | Status::Rejected)
                    && let Some(opened) = opened(&ended.request)?
                {
                    let seconds = u32::try_from(opened.seconds_until(at)).unwrap_or(u32::MAX);
                    day.seconds.push(seconds);
                    day.times = None;
                }
                self.newest.push_front(ended.request);
                self.newest.truncate(NEWEST_MAX);
            }
            (None, "decision") => {
                let decided: Decided = serde_json::from_str(entry.data.get()).map_err(odd)?;
                *day.methods.entry(decided.method.name()).or_insert(0) += 1;
            }
            (None, _) => {
                let part = match what {
                    "unapproved_change" | "unapproved_deployment" | "status_forged" => 0,
                    "break_glass" => 1,
                    _ => 2,
                };
                day.around[part] += 1;
            }
        }
        Ok(())
    }

    /// The figures of the days that are told at `now`.
    pub fn figures(&mut self, now: Time) -> Figures {
        let today = day_of(now);
        let mut figures = Figures {
            newest: self.newest.iter().cloned().collect(),
            today: self.days.get(&today).cloned().unwrap_or_default(),
            ..Figures::default()
        };
        figures.decisions_today = figures.today.methods.values().sum();
        for day in today - DAYS + 1..=today {
            let mut line = DayLine {
                day,
                endings: [0; 4],
                around: [0; 3],
                times: None,
            };
            if let Some(known) = self.days.get_mut(&day) {
                (line.endings, line.around, line.times) = (known.endings(), known.around, known.times());
                for (method, count) in &known.methods {
                    *figures.methods.entry(method).or_insert(0) += count;
                }
            }
            figures.lines.push(line);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOON: i64 = 1_700_000_000_000;

    fn request() -> RequestId {
        RequestId::from_random([9; 16])
    }

    fn daily() -> Daily {
        Daily {
            next: 0,
            days: BTreeMap::new(),
            newest: VecDeque::new(),
        }
    }

    fn tell(daily: &mut Daily, at: i64, kind: &str, data: &Value, opened: i64) {
        let leaf = json!({"v": 1, "seq": 7, "time": Time(at).to_string(), "type": kind,
            "actor": {"kind": "system"}, "data": data});
        let leaf = serde_json::to_vec(&leaf).expect("JSON");
        daily
            .count(7, &leaf, |_| Ok(Some(Time(opened))))
            .expect("it counts");
    }

    #[test]
    fn each_entry_counts_on_its_own_day_and_no_other() {
        let mut daily = daily();
        let ended = json!({"request": request(), "outcome_sha256": "00"});
        for (back, kind, seconds) in [
            (0, "request.approved", 60),
            (0, "request.approved", 120),
            (1, "request.rejected", 30),
            (1, "request.superseded", 5),
            (29, "request.skipped", 0),
            (30, "request.expired", 0),
        ] {
            let at = NOON - back * DAY_MS;
            tell(&mut daily, at, kind, &ended, at - seconds * 1000);
        }
        for (kind, data) in [
            ("decision.recorded", json!({"method": "passkey"})),
            ("decision.recorded", json!({"method": "totp"})),
            ("exception.unapproved_change", json!({})),
            ("exception.break_glass", json!({})),
            ("exception.sink_stuck", json!({})),
            // None of these is anything of the kind.
            ("exception.reviewed", json!({})),
            ("request.opened", json!({})),
            ("request.consumed", json!({})),
            ("request.pending", json!({})),
            ("deployment.approved", json!({})),
        ] {
            tell(&mut daily, NOON, kind, &data, 0);
        }
        let figures = daily.figures(Time(NOON));
        assert_eq!(figures.lines.len(), 30);
        let (today, before, first) = (figures.lines[29], figures.lines[28], figures.lines[0]);
        assert_eq!((today.endings, today.around), ([2, 0, 0, 0], [1, 1, 1]));
        assert_eq!(today.times, Some((120, 120)));
        assert_eq!((before.endings, before.times), ([0, 1, 1, 0], Some((30, 30))));
        assert_eq!((first.endings, first.times), ([0, 0, 0, 1], None));
        let all: u64 = figures.lines.iter().flat_map(|it| it.endings).sum();
        assert_eq!(all, 5, "what is older than the days is not told");
        assert_eq!(figures.methods, BTreeMap::from([("passkey", 1), ("totp", 1)]));
        assert_eq!(
            (figures.today.ended(Status::Approved), figures.decisions_today),
            (2, 2)
        );
        // The next day the same numbers stand one place further back.
        let next = daily.figures(Time(NOON + DAY_MS));
        assert_eq!(next.lines[28].endings, [2, 0, 0, 0]);
        assert_eq!(next.today.ended(Status::Approved), 0);
        assert_eq!(next.lines[0].endings, [0; 4]);
    }

    #[test]
    fn middle_and_bound_are_those_of_all_times_in_any_order() {
        let mut daily = daily();
        let ended = json!({"request": request()});
        for seconds in (1..=100).map(|n| n * 37 % 101) {
            tell(
                &mut daily,
                NOON,
                "request.approved",
                &ended,
                NOON - seconds * 1000,
            );
            daily.figures(Time(NOON));
        }
        assert_eq!(daily.figures(Time(NOON)).lines[29].times, Some((51, 91)));
        tell(&mut daily, NOON, "request.approved", &ended, NOON - 1_000_000);
        assert_eq!(daily.figures(Time(NOON)).lines[29].times, Some((51, 91)));
        assert_eq!(daily.newest.len(), NEWEST_MAX);
    }
}
