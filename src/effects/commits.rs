//! Asks a forge about the commit that a pipeline named, so that the approver reads what was checked beside what is claimed.
//! What is still to be asked stands in a projection.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::ids::{ProjectId, RequestId};
use crate::domain::request::{Opening, Request, Status};
use crate::domain::state::{Read, Table, decode};
use crate::effects::pace::Pace;
use crate::effects::{Surroundings, Trouble};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// Questions on their way at once.
const IN_FLIGHT_MAX: usize = 8;
/// Rows read in one pass.
const OPEN_MAX: usize = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Asks about every commit, for ever.
///
/// # Errors
/// The state can't be read.
pub async fn run_commits(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut pace: Pace<RequestId> = Pace::new();
    let mut on_the_way: JoinSet<(RequestId, Result<(), Trouble>)> = JoinSet::new();
    let mut busy: HashSet<RequestId> = HashSet::new();
    loop {
        for request in open(&at)? {
            if busy.len() >= IN_FLIGHT_MAX {
                break;
            }
            if busy.contains(&request) || !pace.is_due(&request) {
                continue;
            }
            busy.insert(request.clone());
            let at = at.clone();
            on_the_way.spawn(async move {
                let result = ask(&at, &request).await;
                (request, result)
            });
        }
        tokio::select! {
            Some(finished) = on_the_way.join_next() => {
                let (request, result) = finished.map_err(|e| Trouble::Forge(e.to_string()))?;
                busy.remove(&request);
                match result {
                    Ok(()) => pace.done(&request),
                    Err(error) => {
                        tracing::warn!(%error, %request, "a commit can't be looked up yet");
                        pace.failed(&request, None);
                    }
                }
            }
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn open(at: &Surroundings) -> Result<Vec<RequestId>, Trouble> {
    let rows = at
        .store
        .read()?
        .scan_raw(Table::OpenCommits, &[], &[0xff], OPEN_MAX, false)?;
    let ids = rows
        .iter()
        .filter_map(|(id, _)| RequestId::parse(std::str::from_utf8(id).ok()?));
    Ok(ids.collect())
}

async fn ask(at: &Surroundings, id: &RequestId) -> Result<(), Trouble> {
    let snapshot = at.store.read()?;
    let Some(request) = snapshot.get::<Request>(id.as_str())? else {
        return Ok(());
    };
    let opening: Option<Opening> = snapshot
        .blob(&request.opening)?
        .map(|it| decode(&it))
        .transpose()?;
    let named = opening.and_then(|it| Some((it.commit_of?, it.digest?.1)));
    let facts = match named {
        // Once it is over nobody reads it any more.
        Some((project, sha)) if request.status == Status::Pending => {
            match at.connected(&project, &snapshot)? {
                Some(connected) => {
                    drop(snapshot);
                    let connected = connected.in_background();
                    let of = &connected.project.settings.forge_project_id;
                    let found = connected.forge.commit(of, &sha).await;
                    Some((
                        project,
                        found.map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?,
                    ))
                }
                None => None,
            }
        }
        _ => None,
    };
    let (project, facts): (Option<ProjectId>, _) = match facts {
        Some((project, facts)) => (Some(project), facts),
        None => (None, None),
    };
    let command = Command::RecordCommit {
        request: id.clone(),
        project,
        facts,
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(())
}
