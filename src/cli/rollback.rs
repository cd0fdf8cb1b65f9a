//! At start: does the journal fit the newest checkpoints that stand outside the data directory? If not, nothing is gone on
//! with until admins say so.

use crate::cli::monitors::Monitors;
use crate::clock::Clock;
use crate::config::SinkSettings;
use crate::domain::rollback::FoundCheckpoint;
use crate::domain::sink::Sink;
use crate::domain::state::Read;
use crate::engine::{Condition, Fit, compare_checkpoint};
use crate::identity::{Ceremonies, RelyingParty};
use crate::listen::Front;
use crate::sink::{Sinks, secrets_name, witness};
use crate::store;
use crate::store::Store;
use crate::texts::Languages;
use crate::web;
use crate::web::recovery::{Confirmed, Recovery};
use actix_web::web::Data;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A sink that is asked for its newest checkpoint has this long. Nobody waits longer for a start.
const ASK_MAX: Duration = Duration::from_secs(10);

/// The checkpoints that the journal does not fit.
///
/// # Errors
/// When the journal can't be read.
pub async fn look(
    store: &Store,
    settings: &SinkSettings,
    sinks: &Sinks,
    clock: &dyn Clock,
) -> Result<Vec<FoundCheckpoint>, store::Error> {
    let mut notes = Vec::new();
    if let Some(path) = &settings.witness {
        match witness::kept(path) {
            Ok(Some(note)) => notes.push((path.display().to_string(), note)),
            Ok(None) => {
                tracing::warn!(path = %path.display(), "there is no witness yet; the journal can't be compared with it")
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the witness can't be read; the journal is not compared with it")
            }
        }
    }
    if let Some(directory) = &settings.directory {
        match witness::newest_in(directory) {
            Ok(found) => notes.extend(
                found
                    .into_iter()
                    .map(|(path, note)| (path.display().to_string(), note)),
            ),
            Err(error) => {
                tracing::error!(%error, directory = %directory.display(), "the sinks' files can't be read; the journal is not compared with them")
            }
        }
    }
    notes.extend(asked(store, sinks, clock).await?);
    let mut found: Vec<FoundCheckpoint> = Vec::new();
    for (place, checkpoint) in notes {
        let (fit, size) = compare_checkpoint(store, &checkpoint)?;
        match fit {
            Fit::Unrelated => continue,
            Fit::Consistent => {
                tracing::info!(%place, size, "the journal fits the checkpoint that stands there");
                continue;
            }
            Fit::Smaller | Fit::Inconsistent | Fit::UnknownKey => {
                tracing::error!(%place, size, ?fit, "the journal does not fit the checkpoint that stands there");
            }
        }
        found.push(FoundCheckpoint {
            place,
            size,
            checkpoint,
        });
    }
    Ok(found)
}

/// What the sinks that can be asked answer. One that does not answer holds up no start: it is told in the log.
async fn asked(
    store: &Store,
    sinks: &Sinks,
    clock: &dyn Clock,
) -> Result<Vec<(String, String)>, store::Error> {
    let snapshot = store.read()?;
    let mut notes = Vec::new();
    for sink in snapshot
        .all::<Sink>()?
        .into_iter()
        .filter(|it| it.removed.is_none())
    {
        let Ok(connection) = sinks.of(&sink, snapshot.secret(&secrets_name(&sink.id))?.as_deref()) else {
            continue;
        };
        let now = clock.now().0;
        let id = format!("{}_checkpoint_{now}", sink.id);
        let asking = connection.newest_checkpoint(&id, now.div_euclid(1000));
        match tokio::time::timeout(ASK_MAX, asking).await {
            Ok(None) => {}
            Ok(Some(Ok(note))) => notes.push((format!("the log sink {}", sink.name), note)),
            Ok(Some(Err(reason))) => {
                tracing::warn!(sink = %sink.id, %reason, "a log sink can't tell its newest checkpoint; the journal is not compared with it");
            }
            Err(_) => {
                tracing::warn!(sink = %sink.id, "a log sink did not tell its newest checkpoint in time; the journal is not compared with it");
            }
        }
    }
    Ok(notes)
}

/// Where admins are asked meanwhile.
pub struct Place<'a> {
    pub front: Arc<Front>,
    pub listener: &'a TcpListener,
    pub socket: UnixListener,
    pub socket_path: &'a Path,
    pub public_url: &'a str,
    pub evaluation: bool,
    pub languages: Languages,
    pub monitors: Monitors<'a>,
}

/// Serves the page that says what was found, until enough admins agree to go on. `None`: it was told to stop.
///
/// # Errors
/// In words, when it can't be served.
pub async fn wait(
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    found: &[FoundCheckpoint],
    place: Place<'_>,
    stop: impl Future<Output = ()>,
) -> Result<Option<Vec<Confirmed>>, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    let (size, instance) = {
        let snapshot = store.read().map_err(|e| words(&e))?;
        let identity = snapshot.identity().map_err(|e| words(&e))?;
        (snapshot.size().map_err(|e| words(&e))?, identity.instance)
    };
    let recovery = Data::new(Recovery {
        store,
        clock,
        relying_party: RelyingParty::new(place.public_url).map_err(|e| words(&e))?,
        ceremonies: Ceremonies::default(),
        instance,
        size,
        found: found.to_vec(),
        evaluation: place.evaluation,
        languages: place.languages,
        confirmed: Default::default(),
        enough: Default::default(),
    });
    let listener = place.listener.try_clone().map_err(|e| words(&e))?;
    let (server, host) =
        web::serve_recovery(recovery.clone(), place.front, listener, place.socket).map_err(|e| words(&e))?;
    let mut handles = vec![server.handle(), host.handle()];
    let waiting = place.monitors.waiting(Condition::RollbackSuspected.name());
    handles.extend(place.monitors.serve(waiting)?);
    actix_web::rt::spawn(server);
    actix_web::rt::spawn(host);
    println!(
        "The journal lacks entries that were told to others. Nothing goes on until two administrators agree at {}.",
        place.public_url
    );
    let agreed = tokio::select! {
        () = recovery.enough.notified() => true,
        () = stop => false,
    };
    // The last confirmation is answered before its server goes.
    for handle in handles {
        handle.stop(true).await;
    }
    let _ = std::fs::remove_file(place.socket_path);
    let confirmed = std::mem::take(&mut *recovery.confirmed());
    Ok(agreed.then_some(confirmed))
}
