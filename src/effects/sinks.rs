//! Copies the journal to the log sinks: every entry, in order, at least once. Each sink has a worker and a cursor of its own;
//! one that is down holds up nobody, and gets all it lacks once it is back.

use crate::domain::command::{Command, SinkReport};
use crate::domain::event::Actor;
use crate::domain::ids::SinkId;
use crate::domain::sink::{Sink, sink_follower};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::effects::{Surroundings, Trouble};
use crate::outbound::jitter;
use crate::sink::{Connection, Health, Record, Sent, Sinks, secrets_name};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Back-off: doubling, with a ceiling, never shorter than the receiver asked for.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A receiver is not waited for longer than this by its own word.
const TOLD_WAIT_MAX: Duration = Duration::from_secs(600);
/// How often at the most a cursor is written while there is more to send. What lies between comes twice after a crash.
const CURSOR_EVERY: Duration = Duration::from_millis(250);
/// Times in a row that one entry alone is refused before it gets a substitute.
const REFUSALS_MAX: u32 = 3;
/// A removed sink still gets the word of its removal, if it takes it within this.
const FAREWELL: Duration = Duration::from_secs(30);
/// Entries read from the store at once.
const CHUNK: usize = 512;

/// Runs a worker for each sink, for ever. `stuck_after` is how long one may fail before that is an exception.
pub async fn run_sinks(at: Surroundings, sinks: Arc<Sinks>, stuck_after: Duration) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut workers: JoinSet<Result<SinkId, Trouble>> = JoinSet::new();
    // By sink: the settings its worker runs with, and how to end it.
    let mut running: HashMap<SinkId, (u64, tokio::task::AbortHandle)> = HashMap::new();
    loop {
        for sink in at.store.read()?.all::<Sink>()? {
            match running.get(&sink.id) {
                Some((settings, _)) if *settings == sink.settings_seq => continue,
                None if sink.removed.is_some() => continue,
                Some((_, worker)) => worker.abort(),
                None => {}
            }
            let (id, settings) = (sink.id.clone(), sink.settings_seq);
            let worker = Worker::new(at.clone(), sinks.clone(), sink, stuck_after)?;
            running.insert(id, (settings, workers.spawn(worker.run())));
        }
        tokio::select! {
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            Some(ended) = workers.join_next() => match ended {
                Ok(Ok(id)) => {
                    running.remove(&id);
                    sinks.board.forget(&id);
                }
                Ok(Err(error)) => return Err(error),
                // It got other settings.
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(Trouble::Forge(format!("a log sink's worker: {error}"))),
            },
        }
    }
}

/// What is on its way to one sink.
struct Batch {
    /// The entry after the last one in it.
    next: u64,
    records: Vec<Record>,
    /// It holds a substitute for this entry, for this reason.
    withheld: Option<(u64, String)>,
}

struct Worker {
    at: Surroundings,
    sinks: Arc<Sinks>,
    sink: Sink,
    stuck_after: Duration,
    health: Health,
    /// Where the journal says that it is.
    saved: u64,
    saved_at: Instant,
    /// Records at once; less while the receiver refuses more.
    size_max: usize,
    /// Times the entry at `health.next` was refused by itself, and why.
    refusals: (u32, String),
}

impl Worker {
    fn new(
        at: Surroundings,
        sinks: Arc<Sinks>,
        sink: Sink,
        stuck_after: Duration,
    ) -> Result<Worker, Trouble> {
        let saved = at.store.read()?.cursor(&sink_follower(&sink.id))?;
        let health = Health {
            next: saved.max(sink.from),
            ..Health::default()
        };
        sinks.board.set(&sink.id, health.clone());
        Ok(Worker {
            at,
            sinks,
            sink,
            stuck_after,
            health,
            saved,
            saved_at: Instant::now(),
            size_max: usize::MAX,
            refusals: (0, String::new()),
        })
    }

    async fn run(mut self) -> Result<SinkId, Trouble> {
        let mut grown = self.at.engine.watch_size();
        let mut connection = None;
        let mut removed_at = None;
        loop {
            let size = *grown.borrow_and_update();
            let state = self.at.store.read()?.get::<Sink>(self.sink.id.as_str())?;
            if let Some(last) = state.and_then(|it| it.removed) {
                let since = *removed_at.get_or_insert_with(Instant::now);
                if self.health.next > last || since.elapsed() > FAREWELL {
                    return Ok(self.sink.id);
                }
            }
            if self.health.next >= size {
                self.save(true).await?;
                if grown.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let sent = match self.connected(&mut connection) {
                Ok(connection) => {
                    let batch = self.batch(connection)?;
                    let id = format!("{}_{}_{}", self.sink.id, self.health.next, batch.next);
                    let sent = connection
                        .send(&batch.records, &id, self.at.clock.now().0.div_euclid(1000))
                        .await;
                    let (length, only) = (batch.records.len(), batch.next == self.health.next + 1);
                    match sent {
                        Sent::Stored => {
                            let confirms = connection.confirms();
                            self.stored(batch, confirms).await?;
                            continue;
                        }
                        Sent::TooMuch { reason } if length > 1 || !only => {
                            // The half may pass; a checkpoint goes by itself in the end.
                            tracing::debug!(sink = %self.sink.id, length, %reason, "a log sink refuses a batch");
                            self.size_max = (length / 2).max(1);
                            continue;
                        }
                        Sent::TooMuch { reason } => {
                            self.refusals = (self.refusals.0 + 1, reason.clone());
                            Sent::Later { after: None, reason }
                        }
                        other => other,
                    }
                }
                Err(reason) => Sent::Blocked { reason },
            };
            let (after, reason) = match sent {
                Sent::Later { after, reason } => (after, reason),
                Sent::Blocked { reason } | Sent::TooMuch { reason } => {
                    // Settings may be mended on the other side: look again, and with a connection made anew.
                    connection = None;
                    (None, reason)
                }
                Sent::Stored => continue,
            };
            self.failed(reason).await?;
            self.save(true).await?;
            let doubled = FIRST_WAIT
                .saturating_mul(2_u32.saturating_pow(self.health.failures.min(12)))
                .min(LONGEST_WAIT);
            let wait = after.unwrap_or_default().min(TOLD_WAIT_MAX).max(jitter(doubled));
            let until_stuck = self.until_stuck();
            if until_stuck < wait {
                // However long the receiver asks us to wait, the exception is told in its time.
                tokio::time::sleep(until_stuck).await;
                self.tell_if_stuck().await?;
            }
            tokio::time::sleep(if until_stuck < wait {
                wait - until_stuck
            } else {
                wait
            })
            .await;
        }
    }

    fn connected<'a>(&self, kept: &'a mut Option<Connection>) -> Result<&'a Connection, String> {
        if kept.is_none() {
            let sealed = self
                .at
                .store
                .read()
                .and_then(|it| it.secret(&secrets_name(&self.sink.id)))
                .map_err(|e| e.to_string())?;
            let made = self.sinks.of(&self.sink, sealed.as_deref());
            *kept = Some(made.map_err(|e| e.to_string())?);
        }
        kept.as_ref().ok_or_else(|| "it can't be called".to_owned())
    }

    /// The next records: entries from `health.next` on and the newest checkpoint among them.
    fn batch(&self, connection: &Connection) -> Result<Batch, Trouble> {
        let limits = connection.limits();
        let (about, format) = (&self.sinks.about, self.sink.format);
        let odd = |e: String| Trouble::State(crate::domain::state::Fault(e));
        let records_max = limits.records.min(self.size_max).max(1);
        let snapshot = self.at.store.read()?;
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, self.health.next);
        let mut withheld = None;
        'full: while records.len() < records_max {
            let entries = snapshot.leaves(next, CHUNK.min(records_max - records.len()))?;
            if entries.is_empty() {
                break;
            }
            for (seq, leaf) in entries {
                let record = Record::entry(seq, leaf.clone(), format, about).map_err(odd)?;
                let refused = match connection.refuses(&record) {
                    Some(reason) => Some(reason),
                    None if self.refusals.0 >= REFUSALS_MAX && seq == self.health.next => {
                        Some(self.refusals.1.clone())
                    }
                    None => None,
                };
                if let Some(reason) = refused {
                    // A substitute goes by itself: what is taken with it must not speak for it.
                    if records.is_empty() {
                        let substitute = Record::substitute(seq, &leaf, record.time, &reason, format, about);
                        withheld = Some((seq, reason));
                        records.push(substitute);
                        next = seq + 1;
                    }
                    break 'full;
                }
                bytes += record.json.len();
                if bytes > limits.bytes && !records.is_empty() {
                    break 'full;
                }
                records.push(record);
                next = seq + 1;
            }
        }
        if withheld.is_none()
            && records.len() < records_max
            && let Some((size, note)) = snapshot.checkpoint_between(self.health.next, next)?
        {
            let at = records
                .iter()
                .position(|it| it.seq >= size)
                .unwrap_or(records.len());
            let time = records.get(at.saturating_sub(1)).map_or(Time(0), |it| it.time);
            let checkpoint = Record::checkpoint(size, &note, time, format, about);
            if connection.refuses(&checkpoint).is_none() {
                records.insert(at, checkpoint);
            }
        }
        Ok(Batch {
            next,
            records,
            withheld,
        })
    }

    async fn stored(&mut self, batch: Batch, confirms: bool) -> Result<(), Trouble> {
        self.health = Health {
            next: batch.next,
            stored_at: Some(self.at.clock.now()),
            confirms,
            ..Health::default()
        };
        self.refusals = (0, String::new());
        self.size_max = self.size_max.saturating_mul(2);
        self.sinks.board.set(&self.sink.id, self.health.clone());
        if let Some((entry, reason)) = batch.withheld {
            tracing::error!(sink = %self.sink.id, name = %self.sink.name, entry, %reason, "a log sink does not take an entry; it got a substitute");
            self.report(SinkReport::Withheld { entry, reason }).await?;
            self.saved = batch.next;
        }
        if self.sink.stuck.take().is_some() {
            self.report(SinkReport::Recovered { next: batch.next }).await?;
        }
        self.save(false).await
    }

    async fn failed(&mut self, reason: String) -> Result<(), Trouble> {
        let now = self.at.clock.now();
        let since = self.health.failing.take().map_or(now, |(since, _)| since);
        self.health.failures = self.health.failures.saturating_add(1);
        if self.health.failures == 1 {
            tracing::warn!(sink = %self.sink.id, name = %self.sink.name, %reason, "a log sink takes nothing");
        }
        self.health.failing = Some((since, reason.clone()));
        self.sinks.board.set(&self.sink.id, self.health.clone());
        self.tell_if_stuck().await
    }

    async fn tell_if_stuck(&mut self) -> Result<(), Trouble> {
        let Some((_, reason)) = self.health.failing.clone() else {
            return Ok(());
        };
        if self.until_stuck().is_zero() {
            let next = self.health.next;
            tracing::error!(sink = %self.sink.id, name = %self.sink.name, %reason, next, "a log sink is stuck");
            self.report(SinkReport::Stuck { next, reason }).await?;
            self.sink.stuck = Some(next);
        }
        Ok(())
    }

    /// Time until a sink that fails is called stuck.
    fn until_stuck(&self) -> Duration {
        match (&self.health.failing, self.sink.stuck) {
            (Some((since, _)), None) => {
                let failing = self.at.clock.now().0.saturating_sub(since.0).unsigned_abs();
                self.stuck_after.saturating_sub(Duration::from_millis(failing))
            }
            _ => Duration::MAX,
        }
    }

    async fn report(&self, report: SinkReport) -> Result<(), Trouble> {
        let sink = self.sink.id.clone();
        self.submit(Command::ReportSink { sink, report }).await
    }

    /// Writes down how far it has got, at once or when it is time.
    async fn save(&mut self, at_once: bool) -> Result<(), Trouble> {
        let next = self.health.next;
        if next == self.saved || (!at_once && self.saved_at.elapsed() < CURSOR_EVERY) {
            return Ok(());
        }
        let sink = self.sink.id.clone();
        self.submit(Command::AcknowledgeSink { sink, next }).await?;
        (self.saved, self.saved_at) = (next, Instant::now());
        Ok(())
    }

    /// A full queue is waited for; anything else ends the follower.
    async fn submit(&self, command: Command) -> Result<(), Trouble> {
        loop {
            match self.at.engine.submit(Actor::System, command.clone()).await {
                Err(crate::engine::Error::Busy | crate::engine::Error::Sealed(_)) => {
                    tokio::time::sleep(FIRST_WAIT).await;
                }
                done => return Ok(done.map(|_| ())?),
            }
        }
    }
}
