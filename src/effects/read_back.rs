//! Reads statuses back from the forge: whether ours is there, whether somebody else wrote one under our name, and
//! whether it decides anything.

use crate::domain::command::{Command, ForgedStatus};
use crate::domain::decide::wanted_status;
use crate::domain::event::{Actor, Event};
use crate::domain::facts::Account;
use crate::domain::ids::ProjectId;
use crate::domain::project::{Enforcement, Project};
use crate::domain::request::{Change, ConfirmedStatus, GateState, Request, StatusKey, change_row};
use crate::domain::state::{Read, Table, decode};
use crate::domain::time::Time;
use crate::effects::pace::Pace;
use crate::effects::rounds::{every, run_rounds};
use crate::effects::{Connected, Surroundings, Trouble};
use crate::forge::StatusRead;
use crate::store::Snapshot;
use futures_util::StreamExt;
use futures_util::stream;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The forge's clock may be behind ours, and its list a little late.
const MARGIN_SECONDS: i64 = 600;
/// After a start, so far back: as long as the appliance can have been away unnoticed.
const FIRST_SECONDS: i64 = 24 * 3600;
/// A status that was just written is read back after this long: forges take a moment.
const SETTLES: Duration = Duration::from_secs(3);
/// A state that is not the one confirmed is believed to be wrong only after this long: another write may be under way.
const MOVING: Duration = Duration::from_secs(10);
/// Entries before a start in which it is looked for statuses to read back.
const AGAIN_ENTRIES: u64 = 1024;
/// Somebody who writes our status over and over is told of once in so long.
const TOLD_AGAIN_MS: i64 = 600_000;
/// Statuses read back at once.
const AT_ONCE: usize = 8;
/// Entries read in one go.
const ENTRIES_MAX: usize = 1024;
const TICK: Duration = Duration::from_millis(500);

/// Reads statuses back, for ever: those on commits that something happened to, and each one once after it was written.
pub async fn run_read_back(at: Surroundings) -> Result<(), Trouble> {
    let seen = Seen::default();
    tokio::try_join!(watch(&at, &seen), after_writes(&at, &seen))?;
    Ok(())
}

/// What was reported already.
#[derive(Default)]
struct Seen {
    /// Of each status, the forge's number of the newest one that was not ours.
    newest: RefCell<HashMap<StatusKey, String>>,
    /// By whom, and when it was told last.
    told: RefCell<HashMap<(StatusKey, String), Time>>,
}

impl Seen {
    /// Whether this one was not seen before.
    fn is_new(&self, key: &StatusKey, forge_status: &str) -> bool {
        let before = self
            .newest
            .borrow_mut()
            .insert(key.clone(), forge_status.to_owned());
        before.as_deref() != Some(forge_status)
    }

    /// Whether it is to be told: once in a while for each account.
    fn tells(&self, key: &StatusKey, by: &str, now: Time) -> bool {
        let mut told = self.told.borrow_mut();
        told.retain(|_, at| now.0 - at.0 < TOLD_AGAIN_MS);
        let row = (key.clone(), by.to_owned());
        if told.contains_key(&row) {
            return false;
        }
        told.insert(row, now);
        true
    }
}

async fn watch(at: &Surroundings, seen: &Seen) -> Result<(), Trouble> {
    let wakes = |event: &str| matches!(event, "pipeline" | "job");
    let since: RefCell<HashMap<ProjectId, Time>> = RefCell::default();
    let since = &since;
    run_rounds(
        at,
        "statuses",
        every(at.look_every),
        wakes,
        |project| async move {
            let now = at.clock.now();
            let last = since.borrow().get(&project.id).copied();
            let from = match last {
                Some(last) => Time(last.0 - MARGIN_SECONDS * 1000),
                None => Time(now.0 - FIRST_SECONDS * 1000),
            };
            look(at, seen, &project, from).await?;
            since.borrow_mut().insert(project.id, now);
            Ok(())
        },
    )
    .await
}

/// Reads back the statuses on all commits of a project whose pipelines changed since.
async fn look(at: &Surroundings, seen: &Seen, project: &Project, from: Time) -> Result<(), Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&project.id, &snapshot)?
            .map(Connected::in_background)
    };
    let Some(connected) = connected else { return Ok(()) };
    let commits = connected
        .forge
        .restless_commits(&project.settings.forge_project_id, &from.to_the_second())
        .await
        .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
    for commit in commits {
        let written: Vec<ConfirmedStatus> = {
            let snapshot = at.store.read()?;
            let prefix = format!("{}\0{commit}\0", project.id);
            let rows = snapshot.with_prefix(Table::Statuses, prefix.as_bytes())?;
            rows.iter()
                .map(|(_, row)| decode(row))
                .collect::<Result<_, _>>()?
        };
        for confirmed in written {
            read_back(at, seen, &connected, &confirmed.key).await?;
        }
    }
    Ok(())
}

/// Reads each status back once after it was written.
async fn after_writes(at: &Surroundings, seen: &Seen) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    // What was written shortly before a start was not read back then.
    let mut next = grown.borrow_and_update().saturating_sub(AGAIN_ENTRIES);
    let mut pace: Pace<StatusKey> = Pace::new();
    let mut waiting: BTreeMap<StatusKey, ()> = BTreeMap::new();
    loop {
        for key in written(at, &mut next)? {
            if waiting.insert(key.clone(), ()).is_none() {
                pace.failed(&key, Some(SETTLES));
            }
        }
        let due: Vec<StatusKey> = waiting.keys().filter(|it| pace.is_due(it)).cloned().collect();
        let results: Vec<(StatusKey, Result<Looked, Trouble>)> = stream::iter(due)
            .map(|key| async move {
                let result = read_back_of(at, seen, &key).await;
                (key, result)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (key, result) in results {
            waiting.remove(&key);
            match result {
                // What was lost is written again, and read back again: each time after a longer wait.
                Ok(Looked::Odd) => {}
                Ok(Looked::Right) => pace.done(&key),
                Ok(Looked::Moving) => {
                    pace.failed(&key, Some(MOVING));
                    waiting.insert(key, ());
                }
                Err(error) => {
                    tracing::info!(%error, sha = %key.head, "a status can't be read back now");
                    pace.failed(&key, None);
                    waiting.insert(key, ());
                }
            }
        }
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn written(at: &Surroundings, next: &mut u64) -> Result<Vec<StatusKey>, Trouble> {
    let snapshot = at.store.read()?;
    let mut found = Vec::new();
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(found);
        }
        for (seq, leaf) in entries {
            *next = seq + 1;
            if let Event::StatusConfirmed {
                status,
                refused: None,
                ..
            } = Snapshot::event(&leaf)?
            {
                found.push(status);
            }
        }
    }
}

/// How a status was found.
enum Looked {
    /// As it was confirmed.
    Right,
    /// Recorded, and to be written again.
    Odd,
    /// Another state than the confirmed one: perhaps the next write has overtaken its confirmation.
    Moving,
}

async fn read_back_of(at: &Surroundings, seen: &Seen, key: &StatusKey) -> Result<Looked, Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&key.project, &snapshot)?
            .map(Connected::in_background)
    };
    match connected {
        Some(connected) => read_back(at, seen, &connected, key).await,
        None => Ok(Looked::Right),
    }
}

/// Reads one status back and has recorded what is odd about it.
async fn read_back(
    at: &Surroundings,
    seen: &Seen,
    connected: &Connected,
    key: &StatusKey,
) -> Result<Looked, Trouble> {
    let explain = |e| Trouble::Forge(connected.forge.explain(&e));
    let settings = &connected.project.settings;
    let Some(Recorded {
        confirmed,
        change,
        others,
    }) = recorded(at, key)?
    else {
        return Ok(Looked::Right);
    };
    let tells_authors = connected.integration.kind.tells_status_authors();
    // Where the forge tells nobody's account, ours is not needed either.
    let ours = match tells_authors {
        true => Some(own_account(connected).await?),
        false => None,
    };
    let is_ours = |by: &Account| ours.as_ref().is_none_or(|it| it.id == by.id);
    let source = change.as_ref().map_or("", |it| it.source.as_str());
    let read = async |source: &str| {
        let name = key.name();
        let shown = connected
            .forge
            .read_status(&settings.forge_project_id, &key.head, source, &name)
            .await;
        shown.map_err(explain)
    };
    let mut shown = read(source).await?;
    // The first that is not ours and as it was confirmed is what is to be mended.
    let is_right = |it: &Option<StatusRead>| {
        it.as_ref()
            .is_some_and(|it| it.state == Some(confirmed.state) && it.author.as_ref().is_none_or(is_ours))
    };
    for other in &others {
        if !is_right(&shown) {
            break;
        }
        let elsewhere = read(other).await?;
        if !is_right(&elsewhere) {
            shown = elsewhere;
        }
    }
    let (mut forged, mut lost, mut not_in_force) = (None, None, confirmed.not_in_force.clone());
    match &shown {
        Some(it)
            if it.author.as_ref().is_some_and(|by| !is_ours(by))
                || (!tells_authors && is_made_up(at, key, &confirmed, it)?) =>
        {
            let by = it.author.as_ref().map(|by| by.id.clone()).unwrap_or_default();
            if !seen.is_new(key, &it.id) {
                // Reported, and not replaced yet.
            } else if seen.tells(key, &by, at.clock.now()) {
                forged = Some(ForgedStatus {
                    shown: it.word.clone(),
                    by: it.author.clone(),
                    forge_status: it.id.clone(),
                });
            } else {
                // Again and again by the same account: set back each time, and not told each time.
                lost = Some("It was set once more as it was before.".to_owned());
            }
        }
        Some(it) if it.state == Some(confirmed.state) => {
            let open = change.as_ref().filter(|it| it.open);
            // Where only we can merge, the status decides nothing and is not meant to.
            let counts = settings.enforcement != Enforcement::MergeBroker;
            not_in_force = match open {
                Some(change) if counts => connected
                    .forge
                    .not_in_force(&settings.forge_project_id, change.key.number, it)
                    .await
                    .map_err(explain)?,
                _ => None,
            };
        }
        other => {
            let age = at.clock.now().0.saturating_sub(confirmed.confirmed_at.0);
            let settled = u128::try_from(age).is_ok_and(|it| it >= MOVING.as_millis());
            let what = other.as_ref().map_or("none", |it| it.word.as_str());
            if !settled && other.is_some() {
                return Ok(Looked::Moving);
            } else {
                lost = Some(format!(
                    "The forge shows {} where {} was confirmed.",
                    crate::domain::text::visible(what),
                    match confirmed.state {
                        GateState::Pending => "pending",
                        GateState::Success => "success",
                        GateState::Failed => "failed",
                    }
                ));
            }
        }
    }
    let odd = forged.is_some() || lost.is_some();
    if odd || not_in_force != confirmed.not_in_force {
        let command = Command::RecordReadBack {
            status: key.clone(),
            forged,
            lost,
            not_in_force,
        };
        at.engine.submit(Actor::System, command).await?;
    }
    Ok(if odd { Looked::Odd } else { Looked::Right })
}

/// Where the forge does not tell who wrote a status: a green that was neither confirmed nor is to be written is not ours.
fn is_made_up(
    at: &Surroundings,
    key: &StatusKey,
    confirmed: &ConfirmedStatus,
    shown: &StatusRead,
) -> Result<bool, Trouble> {
    let green = |it: GateState| it == GateState::Success;
    if !shown.state.is_some_and(green) || green(confirmed.state) {
        return Ok(false);
    }
    let wanted = wanted_status(key, false, &at.store.read()?)?;
    Ok(!wanted.is_some_and(|it| green(it.state)))
}

/// What was confirmed last of a status.
struct Recorded {
    confirmed: ConfirmedStatus,
    /// The change it was about.
    change: Option<Change>,
    /// Branches of further changes that share it: a forge may keep a status for each.
    others: Vec<String>,
}

fn recorded(at: &Surroundings, key: &StatusKey) -> Result<Option<Recorded>, Trouble> {
    let snapshot = at.store.read()?;
    let confirmed: Option<ConfirmedStatus> = snapshot.get(&key.row())?;
    let Some(confirmed) = confirmed.filter(|it| it.refused.is_none()) else {
        return Ok(None);
    };
    let request: Option<Request> = match &confirmed.request {
        Some(id) => snapshot.get(id.as_str())?,
        None => None,
    };
    let change: Option<Change> = match request.and_then(|it| it.change) {
        Some(change) => snapshot.get(&change_row(&change))?,
        None => None,
    };
    // A branch that shares it no longer, or is still to be told, is none to look at.
    let mut others = wanted_status(key, false, &snapshot)?.map_or_else(Vec::new, |it| it.sources);
    let about = change.as_ref().map(|it| &it.source);
    others.retain(|it| confirmed.sources.contains(it) && Some(it) != about);
    Ok(Some(Recorded {
        confirmed,
        change,
        others,
    }))
}

async fn own_account(connected: &Connected) -> Result<Account, Trouble> {
    if let Some(account) = &connected.integration.account {
        return Ok(account.clone());
    }
    let identity = connected.forge.identify().await;
    Ok(identity
        .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?
        .account)
}
