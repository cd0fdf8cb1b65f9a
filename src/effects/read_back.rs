//! Reads statuses back from the forge: whether ours is there, whether somebody else wrote one under our name, and
//! whether it decides anything.

use crate::domain::command::{Command, ForgedStatus};
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
use crate::store::Snapshot;
use futures_util::StreamExt;
use futures_util::stream;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// The forge's clock may be behind ours, and its list a little late.
const MARGIN_SECONDS: i64 = 120;
/// After a start, so far back: as long as the appliance can have been away unnoticed.
const FIRST_SECONDS: i64 = 24 * 3600;
/// A status that was just written is read back after this long: forges take a moment.
const SETTLES: Duration = Duration::from_secs(3);
/// A state that is not the one confirmed is believed to be wrong only after this long: another write may be under way.
const MOVING_MS: i64 = 10_000;
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

/// The forge's statuses that were reported already: status key and the forge's number.
#[derive(Default)]
struct Seen {
    forged: RefCell<HashSet<(StatusKey, String)>>,
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
    let mut next = *grown.borrow_and_update();
    let mut pace: Pace<StatusKey> = Pace::new();
    let mut waiting: BTreeMap<StatusKey, ()> = BTreeMap::new();
    loop {
        for key in written(at, &mut next)? {
            if waiting.insert(key.clone(), ()).is_none() {
                pace.failed(&key, Some(SETTLES));
            }
        }
        let due: Vec<StatusKey> = waiting.keys().filter(|it| pace.is_due(it)).cloned().collect();
        let results: Vec<(StatusKey, Result<bool, Trouble>)> = stream::iter(due)
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
                Ok(true) => {}
                Ok(false) => pace.done(&key),
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

async fn read_back_of(at: &Surroundings, seen: &Seen, key: &StatusKey) -> Result<bool, Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&key.project, &snapshot)?
            .map(Connected::in_background)
    };
    match connected {
        // Where only we can merge, a status is a display: the green ones are looked at, since they are what people act on.
        Some(connected) if is_worth_it(at, &connected, key)? => read_back(at, seen, &connected, key).await,
        Some(_) | None => Ok(false),
    }
}

fn is_worth_it(at: &Surroundings, connected: &Connected, key: &StatusKey) -> Result<bool, Trouble> {
    if connected.project.settings.enforcement != Enforcement::MergeBroker {
        return Ok(true);
    }
    let confirmed: Option<ConfirmedStatus> = at.store.read()?.get(&key.row())?;
    Ok(confirmed.is_some_and(|it| it.state == GateState::Success))
}

/// Reads one status back and has recorded what is odd about it; answers whether it is not there as it should be.
async fn read_back(
    at: &Surroundings,
    seen: &Seen,
    connected: &Connected,
    key: &StatusKey,
) -> Result<bool, Trouble> {
    let explain = |e| Trouble::Forge(connected.forge.explain(&e));
    let settings = &connected.project.settings;
    let Some((confirmed, change)) = recorded(at, key)? else {
        return Ok(false);
    };
    let source = change.as_ref().map_or("", |it| it.source.as_str());
    let shown = connected
        .forge
        .read_status(&settings.forge_project_id, &key.head, source, &key.name())
        .await
        .map_err(explain)?;
    let ours = own_account(connected).await?;
    let (mut forged, mut lost, mut not_in_force) = (None, None, confirmed.not_in_force.clone());
    match &shown {
        Some(it) if it.author.as_ref().is_some_and(|by| by.id != ours.id) => {
            if seen.forged.borrow_mut().insert((key.clone(), it.id.clone())) {
                forged = Some(ForgedStatus {
                    shown: it.word.clone(),
                    by: it.author.clone(),
                    forge_status: it.id.clone(),
                });
            }
        }
        Some(it) if it.state == Some(confirmed.state) => {
            let open = change.as_ref().filter(|it| it.open);
            // Where only we can merge, the status decides nothing and is not meant to.
            let counts = settings.enforcement != Enforcement::MergeBroker;
            not_in_force = match open {
                Some(change) if counts && confirmed.state == GateState::Success => connected
                    .forge
                    .not_in_force(&settings.forge_project_id, change.key.number, it)
                    .await
                    .map_err(explain)?,
                _ => None,
            };
        }
        other => {
            let settled = at.clock.now().0 - confirmed.confirmed_at.0 > MOVING_MS;
            let what = other.as_ref().map_or("none", |it| it.word.as_str());
            if settled || other.is_none() {
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
    Ok(odd)
}

/// What was confirmed last, and the change it was about.
fn recorded(
    at: &Surroundings,
    key: &StatusKey,
) -> Result<Option<(ConfirmedStatus, Option<Change>)>, Trouble> {
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
    Ok(Some((confirmed, change)))
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
