//! Watches what the journal stands on: whether there is room, and whether what is stored is still what was written.

use crate::clock::Clock;
use crate::engine::{Condition, Engine};
use crate::store;
use crate::store::Store;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The file that keeps room for the last entries. It is given up when nothing else is left.
const BALLAST: &str = "ballast";
/// Its length, in bytes: thousands of entries.
const BALLAST_BYTES: usize = 8 * 1024 * 1024;
/// How often it is looked how much room there is.
const LOOK: Duration = Duration::from_secs(1);
/// Entries and blobs compared in one read, and the wait between two: a look at a million entries takes some minutes and
/// nobody notices.
const COMPARED_AT_ONCE: usize = 500;
const BETWEEN: Duration = Duration::from_millis(100);
/// After a whole look at everything, the next begins this much later.
const LOOK_AGAIN: Duration = Duration::from_secs(6 * 3_600);

/// Where the journal is, and how much room there should be.
#[derive(Clone, Debug)]
pub struct Room {
    pub data_dir: PathBuf,
    /// With less than this, in bytes, what people ask is refused.
    pub reserve: u64,
}

impl Room {
    /// Bytes that this process may still write there.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn free(&self) -> std::io::Result<u64> {
        let it = rustix::fs::statvfs(&self.data_dir)?;
        Ok(it.f_bavail.saturating_mul(it.f_frsize))
    }

    /// Before the database is opened, which may have to write: gives the ballast up where there is no room.
    pub fn before_opening(&self) {
        if self.free().is_ok_and(|it| it < BALLAST_BYTES as u64) {
            give_up(&self.data_dir.join(BALLAST));
        }
    }

    fn keep_ballast(&self, free: u64) {
        let path = self.data_dir.join(BALLAST);
        let has = path.exists();
        // The ballast itself must not be what makes it full.
        if !has && free > self.reserve.saturating_add(4 * BALLAST_BYTES as u64) {
            if let Err(error) = make(&path) {
                tracing::warn!(%error, "no room could be kept for the last entries");
                give_up(&path);
            }
        } else if has && free < BALLAST_BYTES as u64 / 4 {
            give_up(&path);
        }
    }
}

fn make(path: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // Written, not only sized: a hole in a file keeps no room.
    file.write_all(&vec![0x5a; BALLAST_BYTES])?;
    file.sync_all()
}

fn give_up(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::error!(%error, "the ballast could not be given up");
        }
        _ => {}
    }
}

/// Watches the room, for ever.
pub async fn watch_room(room: Room, engine: Engine, clock: Arc<dyn Clock>) {
    loop {
        let look = {
            let room = room.clone();
            tokio::task::spawn_blocking(move || {
                let free = room.free()?;
                room.keep_ballast(free);
                Ok::<u64, std::io::Error>(free)
            })
            .await
        };
        match look {
            Ok(Ok(free)) => told_of_room(&room, &engine, &*clock, free),
            Ok(Err(error)) => tracing::warn!(%error, "how much room there is can't be told"),
            Err(error) => tracing::warn!(%error, "how much room there is can't be told"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn told_of_room(room: &Room, engine: &Engine, clock: &dyn Clock, free: u64) {
    let health = engine.health();
    let full = health.has(Condition::StorageFull);
    // A little more has to be free before it is over, so that it does not come and go.
    let enough = if full {
        room.reserve.saturating_add(room.reserve / 4)
    } else {
        room.reserve
    };
    if free >= enough {
        if health.set(Condition::StorageFull, None, clock.now()) {
            tracing::info!("there is room on the disk again");
        }
        return;
    }
    let detail = format!(
        "{} MiB are free; {} MiB should be.",
        free >> 20,
        room.reserve >> 20
    );
    if health.set(Condition::StorageFull, Some(detail), clock.now()) {
        tracing::error!(
            free,
            reserve = room.reserve,
            "the disk is nearly full: only what keeps the gate safe is recorded"
        );
    }
}

/// Compares every entry with its tree and every blob with its name, again and again, for ever.
pub async fn watch_store(store: Arc<Store>, engine: Engine, clock: Arc<dyn Clock>) {
    let (mut entry, mut blob) = (0, Some(Vec::new()));
    loop {
        let looked = {
            let (store, blob) = (store.clone(), blob.clone());
            tokio::task::spawn_blocking(move || compare(&store, entry, blob)).await
        };
        match looked {
            Ok(Ok((next, next_blob))) => {
                let whole = next == entry && next_blob.is_none();
                (entry, blob) = (next, next_blob);
                if whole {
                    engine.health().set_compared();
                    if engine.health().set(Condition::StorageDamaged, None, clock.now()) {
                        tracing::info!("all that is stored is what was written");
                    }
                    (entry, blob) = (0, Some(Vec::new()));
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            Ok(Err(error)) => {
                if engine
                    .health()
                    .set(Condition::StorageDamaged, Some(error.to_string()), clock.now())
                {
                    tracing::error!(%error, "what is stored is not what was written: nothing is decided any more");
                }
                // It does not get better by itself. A restart looks anew.
                return std::future::pending().await;
            }
            Err(error) => tracing::error!(%error, "the stored entries could not be compared"),
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

type Compared = (u64, Option<Vec<u8>>);

fn compare(store: &Store, entry: u64, blob: Option<Vec<u8>>) -> Result<Compared, store::Error> {
    let snapshot = store.read()?;
    let next = snapshot.check_entries(entry, COMPARED_AT_ONCE)?;
    let next_blob = match blob {
        Some(from) => snapshot.check_blobs(&from, COMPARED_AT_ONCE)?,
        None => None,
    };
    Ok((next, next_blob))
}
