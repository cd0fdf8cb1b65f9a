//! The one way anything comes true: commands go into a bounded queue, one writer thread decides and commits them in
//! groups, and whoever asked is answered after the commit. It never talks to the network.

mod seal;
mod start;
mod timers;
mod writer;

pub use start::{Begun, begin_instance, continue_instance};
pub use timers::run_timers;
pub use writer::{Issuer, Writer, rebuild};

use crate::domain::command::{Command, Reply};
use crate::domain::event::Actor;
use crate::domain::refusal::Refusal;
use std::sync::Arc;
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
    /// The host's clock is behind the journal; nothing was decided.
    #[error("the host's clock is behind the journal")]
    ClockUnsound,
    /// The writer has stopped; what was asked may or may not be recorded.
    #[error("the journal can't be written")]
    Stopped,
}

struct Job {
    submission: Submission,
    answer: oneshot::Sender<Result<Reply, Error>>,
}

/// A handle to the writer, cheap to clone.
#[derive(Clone)]
pub struct Engine {
    queue: mpsc::Sender<Job>,
    size: watch::Receiver<u64>,
    /// Closed when the writer has stopped.
    alive: Arc<watch::Receiver<bool>>,
}

impl Engine {
    /// Starts the writer on a thread of its own.
    pub fn start(mut writer: Writer) -> Result<Engine, crate::store::Error> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE_COMMANDS_MAX);
        let (size_sender, size) = watch::channel(writer.size()?);
        let (alive_sender, alive) = watch::channel(true);
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                while let Some(first) = jobs.blocking_recv() {
                    let mut group = vec![first];
                    while group.len() < writer::GROUP_COMMANDS_MAX
                        && let Ok(job) = jobs.try_recv()
                    {
                        group.push(job);
                    }
                    let (submissions, answers): (Vec<_>, Vec<_>) =
                        group.into_iter().map(|it| (it.submission, it.answer)).unzip();
                    match writer.write(submissions) {
                        Ok((results, journal_size)) => {
                            for (answer, result) in answers.into_iter().zip(results) {
                                // A caller that went away does not undo what is committed.
                                let _ = answer.send(result);
                            }
                            size_sender
                                .send_if_modified(|it| std::mem::replace(it, journal_size) != journal_size);
                        }
                        Err(error) => {
                            // Unknown, not failed: stop here, let a restart look at what is on the disk.
                            tracing::error!(%error, "the journal can't be written; stopping");
                            for answer in answers {
                                let _ = answer.send(Err(Error::Stopped));
                            }
                            break;
                        }
                    }
                }
                let _ = alive_sender.send(false);
            })
            .map_err(|e| crate::store::Error::Io(format!("the writer thread: {e}")))?;
        Ok(Engine {
            queue,
            size,
            alive: Arc::new(alive),
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
        match self.queue.try_send(Job { submission, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::Stopped),
        }
        answered.await.unwrap_or(Err(Error::Stopped))
    }

    /// The journal's size, and word of every change of it.
    pub fn watch_size(&self) -> watch::Receiver<u64> {
        self.size.clone()
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
