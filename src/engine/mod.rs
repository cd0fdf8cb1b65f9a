//! The one way anything comes true: commands go into a bounded queue, one writer thread decides and commits them in
//! groups, and whoever asked is answered after the commit. It never talks to the network.

mod backups;
mod compare;
mod health;
mod keys;
mod seal;
mod start;
mod storage;
mod timers;
mod writer;

pub use crate::signing::{PassphraseText, Use};
pub use backups::{Backups, Kept, Plan as BackupPlan, run_backups};
pub use compare::{Fit, compare_checkpoint};
pub use health::{Condition, Health, Standing};
pub use keys::{KeyChange, KeysChanged};
pub use start::{Begun, begin_instance, continue_instance};
pub use storage::{Room, watch_room, watch_store};
pub use timers::run_timers;
pub use writer::{Issuer, Writer, rebuild};

use crate::domain::command::{Command, Reply};
use crate::domain::event::Actor;
use crate::domain::refusal::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that may wait for the writer. Past this the appliance says 503 rather than let memory grow.
const QUEUE_COMMANDS_MAX: usize = 4096;

/// A command, who gives it, and what is stored with it.
#[derive(Debug)]
pub struct Submission {
    pub actor: Actor,
    pub command: Command,
    /// Sealed secrets to store if the command is accepted: name and sealed bytes.
    pub secrets: Vec<(String, Vec<u8>)>,
    /// A follower's cursor to move in the same transaction.
    pub cursor: Option<(&'static str, u64)>,
}

/// Why a command did not come true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The rules say no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The queue is full; nothing happened.
    #[error("too much is waiting to be written")]
    Busy,
    /// The signing key is away; nothing was decided.
    #[error("the signing key can't be used: {0}")]
    Sealed(String),
    /// The keys can't be changed so; nothing happened.
    #[error("{0}")]
    Keys(String),
    /// The appliance records nothing that people ask while this holds; nothing happened.
    #[error("nothing is recorded: {}", .0.name())]
    ReadOnly(Condition),
    /// The host's clock is behind the journal; nothing was decided.
    #[error("the host's clock is behind the journal")]
    ClockUnsound,
    /// The writer has stopped; what was asked may or may not be recorded.
    #[error("the journal can't be written")]
    Stopped,
}

/// A command and who waits for its answer.
type Waiting = (Submission, oneshot::Sender<Result<Reply, Error>>);

/// What the writer can be asked.
enum Job {
    Command(Box<Waiting>),
    /// Another key, between two groups of commands.
    Keys {
        change: KeyChange,
        actor: Actor,
        answer: oneshot::Sender<Result<KeysChanged, Error>>,
    },
    /// A statement about the journal, as an audit bundle's manifest; nothing is written.
    Sign {
        statement: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>, Error>>,
    },
    /// A look whether the signing keys are there.
    LookAtSigner,
}

/// A handle to the writer, cheap to clone.
#[derive(Clone)]
pub struct Engine {
    queue: mpsc::Sender<Job>,
    size: watch::Receiver<u64>,
    /// Closed when the writer has stopped.
    alive: Arc<watch::Receiver<bool>>,
    health: Arc<Health>,
    timings: Arc<Timings>,
}

/// What the writer has done since the start.
#[derive(Debug, Default)]
pub struct Timings {
    pub groups: AtomicU64,
    pub commands: AtomicU64,
    /// Time in transactions, in microseconds.
    pub micros: AtomicU64,
}

impl Timings {
    fn add(&self, commands: u64, took: std::time::Duration) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(commands, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Engine {
    /// Starts the writer on a thread of its own.
    pub fn start(mut writer: Writer) -> Result<Engine, crate::store::Error> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE_COMMANDS_MAX);
        let (size_sender, size) = watch::channel(writer.size()?);
        let (alive_sender, alive) = watch::channel(true);
        let health = writer.health.clone();
        let timings = Arc::new(Timings::default());
        let counted = timings.clone();
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                while let Some(first) = jobs.blocking_recv() {
                    let done = match first {
                        Job::Command(first) => {
                            let (group, then) = group_of(*first, &mut jobs);
                            let (begun, commands) = (std::time::Instant::now(), group.len() as u64);
                            let done = write_group(&mut writer, group, &size_sender);
                            counted.add(commands, begun.elapsed());
                            match (done, then) {
                                (Ok(()), Some(job)) => with_keys(&mut writer, job, &size_sender),
                                (done, _) => done,
                            }
                        }
                        Job::LookAtSigner => writer.look_at_signer(),
                        job => with_keys(&mut writer, job, &size_sender),
                    };
                    if let Err(error) = done {
                        // Unknown, not failed: stop here, let a restart look at what is on the disk.
                        tracing::error!(%error, "the journal can't be written; stopping");
                        break;
                    }
                }
                let _ = alive_sender.send(false);
            })
            .map_err(|e| crate::store::Error::Io(format!("the writer thread: {e}")))?;
        Ok(Engine {
            queue,
            size,
            alive: Arc::new(alive),
            health,
            timings,
        })
    }

    /// Gives a command and waits until it is durable or refused.
    ///
    /// # Errors
    /// See `Error`; after `Busy`, `Sealed`, `ClockUnsound` and `Refused` nothing has happened.
    pub async fn submit(&self, actor: Actor, command: Command) -> Result<Reply, Error> {
        self.submit_with(Submission {
            actor,
            command,
            secrets: Vec::new(),
            cursor: None,
        })
        .await
    }

    /// As `submit`, with secrets or a cursor in the same transaction.
    pub async fn submit_with(&self, submission: Submission) -> Result<Reply, Error> {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(Job::Command(Box::new((submission, answer)))) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::Stopped),
        }
        answered.await.unwrap_or(Err(Error::Stopped))
    }

    /// What keeps the appliance from doing all its work.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Has a look whether the signing keys are there. What came of it stands in the health.
    pub fn look_at_signer(&self) {
        // A full queue shows soon enough whether they are.
        let _ = self.queue.try_send(Job::LookAtSigner);
    }

    /// Changes the keys, between two groups of commands.
    ///
    /// # Errors
    /// See `Error`; after `Busy`, `Sealed`, `Keys` and `Refused` nothing has happened.
    pub async fn change_keys(&self, actor: Actor, change: KeyChange) -> Result<KeysChanged, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Keys {
            change,
            actor,
            answer,
        };
        self.queue.send(job).await.map_err(|_| Error::Stopped)?;
        answered.await.unwrap_or(Err(Error::Stopped))
    }

    /// Has an in-toto statement signed with the credential key: the envelope's bytes. For threads that may wait.
    ///
    /// # Errors
    /// `Busy`, `Sealed` or `Stopped`.
    pub fn sign_blocking(&self, statement: &[u8]) -> Result<Vec<u8>, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Sign {
            statement: statement.to_vec(),
            answer,
        };
        match self.queue.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::Stopped),
        }
        answered.blocking_recv().unwrap_or(Err(Error::Stopped))
    }

    /// The journal's size.
    pub fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// The journal's size, and word of every change of it.
    pub fn watch_size(&self) -> watch::Receiver<u64> {
        self.size.clone()
    }

    /// What the writer has done since the start.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// How many commands wait for the writer.
    pub fn queued(&self) -> usize {
        QUEUE_COMMANDS_MAX - self.queue.capacity()
    }

    /// Returns when the writer has stopped for good.
    pub async fn stopped(&self) {
        let mut alive = (*self.alive).clone();
        while *alive.borrow_and_update() {
            if alive.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The first command and those that wait behind it, up to a group; and the change of keys that ends the group early.
fn group_of(first: Waiting, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Waiting>, Option<Job>) {
    let mut group = vec![first];
    while group.len() < writer::GROUP_COMMANDS_MAX {
        match jobs.try_recv() {
            Ok(Job::Command(next)) => group.push(*next),
            Ok(job) => return (group, Some(job)),
            Err(_) => break,
        }
    }
    (group, None)
}

/// Writes a group and answers everybody in it. After an error the writer must stop.
fn write_group(
    writer: &mut Writer,
    group: Vec<Waiting>,
    size: &watch::Sender<u64>,
) -> Result<(), crate::store::Error> {
    let (submissions, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    match writer.write(submissions) {
        Ok((results, journal_size)) => {
            // Before the answers: whoever has one finds nothing that was read before it.
            size.send_if_modified(|it| std::mem::replace(it, journal_size) != journal_size);
            for (answer, result) in answers.into_iter().zip(results) {
                // A caller that went away does not undo what is committed.
                let _ = answer.send(result);
            }
            Ok(())
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(Error::Stopped));
            }
            Err(error)
        }
    }
}

/// Does what needs the keys between two groups, and answers whoever asked. After an error the writer must stop.
fn with_keys(writer: &mut Writer, job: Job, size: &watch::Sender<u64>) -> Result<(), crate::store::Error> {
    let (change, actor, answer) = match job {
        Job::Keys {
            change,
            actor,
            answer,
        } => (change, actor, answer),
        Job::Sign { statement, answer } => {
            let signed = writer.sign_statement(&statement);
            let _ = answer.send(signed.map_err(|e| Error::Sealed(e.to_string())));
            return Ok(());
        }
        Job::LookAtSigner => return writer.look_at_signer(),
        Job::Command(_) => return Ok(()),
    };
    match writer.change_keys(change, &actor) {
        Ok(result) => {
            let journal_size = writer.size()?;
            size.send_if_modified(|it| std::mem::replace(it, journal_size) != journal_size);
            let _ = answer.send(result);
            Ok(())
        }
        Err(error) => {
            let _ = answer.send(Err(Error::Stopped));
            Err(error)
        }
    }
}
