//! A period in numbers: what was asked, what became of it, by which methods, how long it took, what was out of the ordinary.

use crate::audit::chart::Part;
use crate::audit::remains::Remains;
use crate::audit::select::{Selection, outline};
use crate::audit::story::Story;
use crate::audit::{Error, damaged};
use crate::domain::people::Person;
use crate::domain::project::Project;
use crate::domain::request::Answer;
use crate::domain::state::Read;
use crate::domain::text::marked;
use crate::domain::time::Time;
use crate::store::Snapshot;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

const DAY_MS: i64 = 86_400_000;
/// Bounds of the times to decide, in seconds, and their words.
pub const SPANS: [(u64, &str); 6] = [
    (300, "under 5 min"),
    (3_600, "under 1 h"),
    (14_400, "under 4 h"),
    (86_400, "under 1 day"),
    (259_200, "under 3 days"),
    (u64::MAX, "longer"),
];
/// How requests end, as bars tell it.
pub const ENDINGS: [Part; 4] = [
    Part {
        class: "approved-bar",
        column: marked!("Approved"),
        word: marked!("approved"),
    },
    Part {
        class: "rejected-bar",
        column: marked!("Rejected"),
        word: marked!("rejected"),
    },
    Part {
        class: "other-bar",
        column: marked!("Other"),
        word: marked!("expired, cancelled or superseded"),
    },
    Part {
        class: "skipped-bar",
        column: marked!("Skipped"),
        word: marked!("skipped by a rule"),
    },
];
/// Exceptions, gates and changes of access told one by one.
pub(super) const TOLD_MAX: usize = 1_000;

/// Numbers of a period.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Method → approvals and rejections.
    pub methods: BTreeMap<&'static str, (u64, u64)>,
    pub decisions: u64,
    pub signatures_bad: u64,
    /// Requests by time to decide, as `SPANS`.
    pub spans: [u64; 6],
    seconds: Vec<u32>,
    /// First day of the week (in days since 1970) → requests that ended, as `ENDINGS`.
    pub weeks: BTreeMap<i64, [u64; 4]>,
    pub approvers: HashMap<String, u64>,
    pub break_glass: u64,
    pub codes_only: u64,
    pub self_approved: u64,
    pub stories: u64,
    /// Requests whose documents were erased.
    pub erased: u64,
}

/// Which of `ENDINGS` a request's outcome is.
pub(super) fn ending(word: &str) -> usize {
    match word {
        "approved" => 0,
        "rejected" => 1,
        "skipped" => 3,
        _ => 2,
    }
}

/// Monday of the week an instant lies in, in days since 1970.
pub fn week_of(time: Time) -> i64 {
    let day = time.0.div_euclid(DAY_MS);
    // 1 January 1970 was a Thursday.
    day - (day + 3).rem_euclid(7)
}

/// Median and 90th percentile, in the same unit.
pub(super) fn middle_and_bound(times: &mut [u32]) -> Option<(u64, u64)> {
    let last = times.len().checked_sub(1)?;
    let mut at = |share: usize| {
        let (_, it, _) = times.select_nth_unstable((times.len() * share / 100).min(last));
        u64::from(*it)
    };
    Some((at(50), at(90)))
}

impl Summary {
    /// Counts a story.
    pub fn add(&mut self, story: &Story) {
        self.stories += 1;
        *self.outcomes.entry(story.word()).or_insert(0) += 1;
        for act in &story.acts {
            let method = self.methods.entry(act.credential.method.name()).or_insert((0, 0));
            match act.approves() {
                true => method.0 += 1,
                false => method.1 += 1,
            }
            self.decisions += 1;
            self.signatures_bad += u64::from(!act.verified);
            *self
                .approvers
                .entry(act.credential.approver_name.clone())
                .or_insert(0) += 1;
        }
        if let Some(at) = story.ended_at() {
            self.took(story.word(), story.requested_at.seconds_until(at), at);
        }
        self.break_glass += u64::from(story.broke_glass());
        self.codes_only += u64::from(story.by_codes_alone());
        self.self_approved += u64::from(story.self_approved);
    }

    /// Counts what is left of a request.
    pub fn add_remains(&mut self, it: &Remains) {
        self.erased += 1;
        *self.outcomes.entry(it.word()).or_insert(0) += 1;
        for decision in &it.decisions {
            let method = self.methods.entry(decision.method.name()).or_insert((0, 0));
            match decision.answer {
                Answer::Approve => method.0 += 1,
                Answer::Reject => method.1 += 1,
            }
            self.decisions += 1;
            *self.approvers.entry(decision.name.clone()).or_insert(0) += 1;
        }
        let Some((word, at)) = it.ended else { return };
        self.took(word, it.requested_at.seconds_until(at), at);
    }

    /// Counts how long a request took and when it ended.
    fn took(&mut self, word: &str, seconds: u64, at: Time) {
        if matches!(word, "approved" | "rejected") {
            let span = SPANS.iter().position(|(bound, _)| seconds < *bound).unwrap_or(5);
            self.spans[span] += 1;
            self.seconds.push(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        self.weeks.entry(week_of(at)).or_default()[ending(word)] += 1;
    }

    /// Median and 90th percentile of the time to decide, in seconds.
    pub fn times_to_decide(&self) -> Option<(u64, u64)> {
        middle_and_bound(&mut self.seconds.clone())
    }

    /// How many ended so.
    pub fn ended(&self, word: &str) -> u64 {
        self.outcomes.get(word).copied().unwrap_or(0)
    }
}

/// Something out of the ordinary, in a sentence.
#[derive(Clone, Debug)]
pub struct Exceptional {
    pub seq: u64,
    pub at: String,
    /// `Around the gate`, `Forged status`, `Weaker gate` or `Break-glass`.
    pub kind: &'static str,
    pub what: String,
    /// Who looked it over within the period, and what they found.
    pub review: Option<String>,
}

/// The exceptions of the period, in their order, and whether some are left out.
pub(super) fn exceptions(
    selection: &Selection,
    end: u64,
    state: &Snapshot,
) -> Result<(Vec<Exceptional>, usize), Error> {
    let mut found = Vec::new();
    for seq in selection.exceptions.iter().take(TOLD_MAX) {
        let leaf = state.leaf(*seq)?.unwrap_or_default();
        let entry: Value = serde_json::from_slice(&leaf).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
        let record: Option<crate::domain::governance::Exception> =
            state.get(&crate::domain::governance::Exception::row(*seq))?;
        let review = match record.and_then(|it| it.review) {
            // Told only if it came within the journal's part that is shown, so that the same period reads the same later.
            Some(review)
                if state.checkpoint_within(end)?.is_some() && reviewed_before(&review, end, state)? =>
            {
                Some(format!(
                    "{} on {}: {}",
                    review.name,
                    review.at.to_the_second(),
                    review.note
                ))
            }
            _ => None,
        };
        let place = [
            "/data/project",
            "/data/status/project",
            "/data/deployment/project",
        ]
        .iter()
        .find_map(|it| entry.pointer(it)?.as_str());
        let project: Option<Project> = match place {
            Some(id) => state.get(id)?,
            None => None,
        };
        let (kind, what) = words(&entry, project.as_ref());
        found.push(Exceptional {
            seq: *seq,
            at: entry["time"].as_str().unwrap_or_default().to_owned(),
            kind,
            what,
            review,
        });
    }
    Ok((found, selection.exceptions.len().saturating_sub(TOLD_MAX)))
}

fn reviewed_before(
    review: &crate::domain::governance::Review,
    end: u64,
    state: &Snapshot,
) -> Result<bool, Error> {
    let Some(last) = end.checked_sub(1) else {
        return Ok(false);
    };
    let leaf = state.leaf(last)?.unwrap_or_default();
    let entry: Value = serde_json::from_slice(&leaf).map_err(|e| damaged(e.to_string()))?;
    let until = entry["time"].as_str().and_then(Time::parse);
    Ok(until.is_some_and(|it| review.at <= it))
}

/// An exception's kind and sentence.
fn words(entry: &Value, project: Option<&Project>) -> (&'static str, String) {
    let of = project.map_or_else(|| "a project".to_owned(), |it| it.path.clone());
    let data = &entry["data"];
    let text = |pointer: &str| {
        data.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let by = match text("/by/name") {
        name if name.is_empty() => "Somebody".to_owned(),
        name => name,
    };
    let branch = |name: String| {
        name.strip_prefix("refs/heads/")
            .map_or(name.clone(), str::to_owned)
    };
    let short = |commit: String| commit.get(..12).map_or(commit.clone(), str::to_owned);
    match entry["type"].as_str().unwrap_or_default() {
        "exception.unapproved_change" => {
            let into = branch(text("/target"));
            let what = match text("/way").as_str() {
                "merged" => format!(
                    "{by} merged !{} into {into} of {of} without an approval",
                    data["change"]["number"]
                ),
                "forced" => format!("{by} pushed to {into} of {of} by force: history was taken away"),
                "created" => format!("{by} made the branch {into} of {of} with commits nobody approved"),
                _ => format!("{by} pushed to {into} of {of} directly, around the gate"),
            };
            (
                "Around the gate",
                format!("{what} (commit {}). {}", short(text("/head")), text("/reason")),
            )
        }
        "exception.unapproved_deployment" => (
            "Around the gate",
            format!(
                "{by} started {} of {of} to {} without an approval (commit {})",
                text("/job_name"),
                text("/environment"),
                short(text("/sha"))
            ),
        ),
        "exception.status_forged" => (
            "Forged status",
            format!(
                "{by} set our status for {} of {of} to {} on commit {}; it was set back",
                branch(text("/status/target")),
                text("/shown"),
                short(text("/status/head"))
            ),
        ),
        "exception.protection_drift" => (
            "Weaker gate",
            match text("/before") == text("/strength") {
                true => format!("The settings of the gate of {of} got worse: {}", findings(data)),
                false => format!(
                    "The gate of {of} went from {} to {}: {}",
                    text("/before"),
                    text("/strength"),
                    findings(data)
                ),
            },
        ),
        "exception.requester_reported" => (
            "Reported",
            format!(
                "{} reported the requester {}: {}",
                text("/name"),
                text("/requester_name"),
                text("/note")
            ),
        ),
        "exception.break_glass" => (
            "Break-glass",
            format!("Rule {} was used for {}", text("/rule"), text("/request")),
        ),
        "exception.sink_stuck" => (
            "Log sink",
            format!("The log sink {} took nothing: {}", text("/name"), text("/reason")),
        ),
        "exception.sink_entry_withheld" => (
            "Log sink",
            format!(
                "The log sink {} did not take entry {}, and got a substitute: {}",
                text("/name"),
                data["entry"],
                text("/reason")
            ),
        ),
        "exception.rollback_accepted" => (
            "Rollback",
            "Two admins let the server go on from a journal that is shorter than one it had shown".to_owned(),
        ),
        other => ("Exception", other.to_owned()),
    }
}

/// What is new or worse about a gate, in words.
fn findings(data: &Value) -> String {
    let all = data["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = all.iter().filter_map(|it| it["text"].as_str()).collect();
    texts.join(" ")
}

/// A change of access, of the rules or of keys.
#[derive(Clone, Debug)]
pub struct AccessChange {
    pub seq: u64,
    pub at: String,
    pub kind: String,
    pub who: String,
    pub about: String,
    pub reason: String,
}

/// The changes of access of the period, in their order, and how many are left out.
pub(super) fn access(selection: &Selection, state: &Snapshot) -> Result<(Vec<AccessChange>, usize), Error> {
    let mut found = Vec::new();
    for seq in selection.access.iter().take(TOLD_MAX) {
        let leaf = state.leaf(*seq)?.unwrap_or_default();
        let kind = outline(*seq, &leaf)?.r#type.to_owned();
        let entry: Value = serde_json::from_slice(&leaf).map_err(|e| damaged(format!("entry {seq}: {e}")))?;
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let who = match text("/actor/kind").as_deref() {
            Some("person") => text("/actor/name").unwrap_or_default(),
            Some("key") => format!("key {}", text("/actor/name").unwrap_or_default()),
            Some("forge") => "the forge".into(),
            Some("host") => "the host".into(),
            _ => "the appliance".into(),
        };
        found.push(AccessChange {
            seq: *seq,
            at: text("/time").unwrap_or_default(),
            kind,
            who,
            about: text("/data/name").or(text("/object/id")).unwrap_or_default(),
            reason: text("/data/reason").unwrap_or_default(),
        });
    }
    Ok((found, selection.access.len().saturating_sub(TOLD_MAX)))
}

/// A passkey and who held it when the period ended.
#[derive(Clone, Debug)]
pub struct Holding {
    pub name: String,
    pub label: String,
    pub platform: bool,
    pub synced: bool,
    pub since: String,
}

/// Who held which credential at the end: as enrolled before position `end` and not revoked by `to`.
pub(super) fn holdings(end: u64, to: Time, state: &Snapshot) -> Result<Vec<Holding>, Error> {
    let mut found = Vec::new();
    for person in state.all::<Person>()? {
        for passkey in &person.passkeys {
            let live = passkey.revoked_at.is_none_or(|it| it >= to);
            if passkey.enrolled_seq >= end || !live {
                continue;
            }
            // The names as they were at the enrolment: names change, and the same period has to read the same.
            let leaf = state.leaf(passkey.enrolled_seq)?.unwrap_or_default();
            let entry: Value = serde_json::from_slice(&leaf).map_err(|e| damaged(e.to_string()))?;
            found.push(Holding {
                name: entry["data"]["name"].as_str().unwrap_or_default().to_owned(),
                label: entry["data"]["label"].as_str().unwrap_or_default().to_owned(),
                platform: passkey.platform,
                synced: passkey.backup_eligible,
                since: passkey.added_at.to_the_second(),
            });
        }
    }
    found.sort_by(|one, other| (&one.name, &one.since).cmp(&(&other.name, &other.since)));
    Ok(found)
}
