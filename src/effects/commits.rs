//! Asks a forge about the commit that a pipeline named, so that the approver reads what was checked beside what is claimed.
//! What is still to be asked stands in a projection.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::ids::{ProjectId, RequestId};
use crate::domain::request::{Opening, Request, Status};
use crate::domain::state::{Read, Table, decode};
use crate::effects::errands::Errands;
use crate::effects::{Surroundings, Trouble};

/// Asks about every commit, for ever.
///
/// # Errors
/// The state can't be read.
pub async fn run_commits(at: Surroundings) -> Result<(), Trouble> {
    let errands = Errands {
        table: Table::OpenCommits,
        rows_max: 1_000,
        in_flight_max: 8,
        what: "a commit can't be looked up",
    };
    let work = at.clone();
    errands
        .run(at, move |request| {
            let at = work.clone();
            async move { ask(&at, &request).await.map(|()| None) }
        })
        .await
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
