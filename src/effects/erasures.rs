//! Works off the erasures that admins ordered, a few requests in each transaction, so that nobody who decides waits for it.
//! What is still to be done stands in a projection: a restart goes on with it.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::retention::{Erasure, examine};
use crate::domain::state::Read;
use crate::effects::{Surroundings, Trouble};
use std::time::Duration;

/// Requests looked at in one view of the database, and erased in one transaction at the most.
const ROWS: usize = 200;
/// After a failure, and where nothing grows.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Carries out every erasure, for ever.
///
/// # Errors
/// The state can't be read.
pub async fn run_erasures(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    loop {
        grown.borrow_and_update();
        let open = at.store.read()?.all::<Erasure>()?;
        for erasure in open.iter().filter(|it| it.ended_at.is_none()) {
            if let Err(error) = carry_out(&at, erasure).await {
                tracing::warn!(%error, erasure = %erasure.id, "an erasure can't go on yet");
            }
        }
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn carry_out(at: &Surroundings, erasure: &Erasure) -> Result<(), Trouble> {
    let mut from = 0;
    loop {
        let (work, now) = (at.clone(), at.clock.now());
        let (scope, before) = (erasure.scope.clone(), erasure.before);
        let found = tokio::task::spawn_blocking(move || -> Result<_, Trouble> {
            Ok(examine(&scope, before, now, from, ROWS, &work.store.read()?)?)
        });
        let found = found.await.map_err(|e| Trouble::Forge(e.to_string()))??;
        let last = found.next.is_none();
        if !found.erasable.is_empty() || last {
            let command = Command::Erase {
                erasure: erasure.id.clone(),
                requests: found.erasable.into_iter().map(|it| it.id).collect(),
                last,
            };
            at.engine.submit(Actor::System, command).await?;
        }
        match found.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
