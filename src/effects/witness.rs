//! Keeps the newest checkpoint in a file outside the data directory, so that an older copy of that directory shows.

use crate::effects::{Surroundings, Trouble};
use crate::sink::witness::keep;
use std::path::PathBuf;
use std::time::Duration;

/// Between two writings: each is a file made durable. What is written within this before a copy is put back does not show.
const EVERY: Duration = Duration::from_millis(200);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Follows the journal, for ever. Without a path there is nothing to do.
pub async fn run_witness(at: Surroundings, path: Option<PathBuf>) -> Result<(), Trouble> {
    let Some(path) = path else {
        return std::future::pending().await;
    };
    let mut grown = at.engine.watch_size();
    let mut failing = false;
    loop {
        grown.borrow_and_update();
        let newest = at.store.read()?.latest_checkpoint()?;
        if let Some((_, note)) = newest {
            let place = path.clone();
            let written = tokio::task::spawn_blocking(move || keep(&place, &note)).await;
            let written = written.unwrap_or_else(|e| Err(std::io::Error::other(e.to_string())));
            if let Err(error) = written {
                if !failing {
                    tracing::error!(%error, path = %path.display(), "the witness can't be written");
                }
                failing = true;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            failing = false;
        }
        if grown.changed().await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(EVERY).await;
    }
}
