//! What keeps the appliance from doing all its work, told in the journal when it begins and when it is over: what the engine's
//! health says, log sinks that are stuck, forges that do not answer.

use crate::domain::command::Command;
use crate::domain::condition::{Condition as Recorded, Reported, Severity};
use crate::domain::event::Actor;
use crate::domain::project::Integration;
use crate::domain::sink::Sink;
use crate::domain::state::Read;
use crate::effects::{Surroundings, Trouble};
use crate::engine::{Condition, Error};
use crate::sink::Sinks;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// A forge that has answered nothing for two looks, and at least this long, does not answer.
const SILENT_MIN: Duration = Duration::from_secs(5);
/// Log sinks that are stuck.
const SINKS: &str = "sink_behind";
/// Forges that do not answer.
const FORGES: &str = "forge_unreachable";

/// Reports, for ever. `required` says whether decisions wait for a log sink.
pub async fn run_conditions(at: Surroundings, sinks: Arc<Sinks>, required: bool) -> Result<(), Trouble> {
    let mut told = recorded(&at)?;
    loop {
        for (area, now) in seen(&at, &sinks, required)? {
            if told.get(area).is_some_and(|it| *it == now) || (now.is_none() && undecided(&at, area)) {
                continue;
            }
            let command = Command::ReportConditions {
                area,
                now: now.iter().cloned().collect(),
            };
            match at.engine.submit(Actor::System, command).await {
                Ok(_) => {
                    told.insert(area, now);
                }
                // At the next look.
                Err(Error::Busy | Error::Sealed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Told = BTreeMap<&'static str, Option<Reported>>;

/// What needs no word: areas of which nothing is recorded. Whatever is recorded from before is reported anew.
fn recorded(at: &Surroundings) -> Result<Told, Trouble> {
    let known: Vec<Recorded> = at.store.read()?.all()?;
    Ok(areas()
        .filter(|area| !known.iter().any(|it| it.name == *area))
        .map(|area| (area, None))
        .collect())
}

fn areas() -> impl Iterator<Item = &'static str> {
    let health = Condition::ALL.iter().map(|it| it.name());
    health.chain([SINKS, FORGES])
}

/// That something is not seen after a start does not show that it is over: what is stored has to be compared wholly first, and
/// a backup to be made.
fn undecided(at: &Surroundings, area: &str) -> bool {
    let health = at.engine.health();
    (area == Condition::StorageDamaged.name() && !health.is_compared())
        || (area == Condition::BackupFailed.name() && health.backup().is_none())
}

fn seen(at: &Surroundings, sinks: &Sinks, required: bool) -> Result<Told, Trouble> {
    let mut seen: Told = areas().map(|area| (area, None)).collect();
    for it in at.engine.health().standing() {
        let severity = match it.condition.blocks_decisions() {
            true => Severity::Degraded,
            false => Severity::Warning,
        };
        // How much room there is changes by the second, and each change of words would be an entry. What is damaged stays so.
        let detail = match it.condition {
            Condition::StorageDamaged => it.detail,
            condition => condition.words().to_owned(),
        };
        let name = it.condition.name();
        seen.insert(
            name,
            Some(Reported {
                name,
                severity,
                detail,
            }),
        );
    }
    seen.insert(SINKS, stuck_sinks(at, sinks, required)?);
    seen.insert(FORGES, silent_forges(at)?);
    Ok(seen)
}

fn stuck_sinks(at: &Surroundings, sinks: &Sinks, required: bool) -> Result<Option<Reported>, Trouble> {
    let mut all: Vec<Sink> = at.store.read()?.all()?;
    all.retain(|it| it.removed.is_none());
    let stuck: Vec<&str> = all
        .iter()
        .filter(|it| it.stuck.is_some())
        .map(|it| it.name.as_str())
        .collect();
    if stuck.is_empty() {
        return Ok(None);
    }
    let takes = |it: &Sink| sinks.board.health(&it.id).is_some_and(|it| it.failing.is_none());
    let (severity, then) = match required && !all.iter().any(takes) {
        true => (
            Severity::Degraded,
            "Decisions need one that takes them (sinks.require) and are refused.",
        ),
        false => (
            Severity::Warning,
            "They get what they lack once they take it again.",
        ),
    };
    Ok(Some(Reported {
        name: SINKS,
        severity,
        detail: format!("Log sinks that take nothing: {}. {then}", stuck.join(", ")),
    }))
}

fn silent_forges(at: &Surroundings) -> Result<Option<Reported>, Trouble> {
    let after = (2 * at.look_every).max(SILENT_MIN);
    let all: Vec<Integration> = at.store.read()?.all()?;
    let silent: Vec<&str> = all
        .iter()
        .filter(|it| !it.removed && at.forges.silent_for(&it.id).is_some_and(|it| it >= after))
        .map(|it| it.base_url.as_str())
        .collect();
    Ok((!silent.is_empty()).then(|| Reported {
        name: FORGES,
        severity: Severity::Warning,
        detail: format!(
            "No answer from {}. Statuses and merges follow once it answers; nothing turns green before.",
            silent.join(", ")
        ),
    }))
}
