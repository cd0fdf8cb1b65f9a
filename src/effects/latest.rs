//! Followers for which only the newest state matters: ten changes of one thing are one call. What is wanted is computed
//! again right before it is sent, and what was sent without an answer is in doubt until it is sent again.

use crate::domain::command::Command;
use crate::domain::event::{Actor, Event};
use crate::effects::pace::Pace;
use crate::effects::{Surroundings, Trouble};
use crate::engine::{Error, Submission};
use crate::store::Snapshot;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;
use tokio::task::JoinSet;

/// Entries read in one go.
const ENTRIES_MAX: usize = 1024;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What the forge refused is offered again after this long: somebody may have mended the token's rights.
const REFUSED_AGAIN: Duration = Duration::from_secs(300);
/// Calls on their way at once, over all forges.
const IN_FLIGHT_MAX: usize = 32;

/// The cursor is moved by itself after so many entries that touched nothing.
pub(super) const CURSOR_ENTRIES: u64 = 512;

/// Where the cursor may move once a state is confirmed, and where it has to stay while the forge refuses it.
#[derive(Clone, Copy)]
pub(super) struct Cursors {
    pub done: u64,
    pub kept: u64,
}

/// How an attempt to make it right ended.
pub(super) enum Settled {
    Right,
    /// The forge will not take it; recorded once.
    Refused,
    Later {
        after: Option<Duration>,
        reason: String,
    },
}

/// What an entry of the journal touches.
pub(super) struct Touched<K> {
    pub key: K,
    /// The forge may show something else than what was confirmed.
    pub in_doubt: bool,
}

/// One kind of thing that is kept right.
pub(super) trait Latest: 'static {
    /// Name of its cursor.
    const FOLLOWER: &'static str;
    /// What is kept right.
    type Key: Ord + Hash + Clone + Debug + Send + 'static;

    /// What an entry touches.
    fn touched(event: &Event, snapshot: &Snapshot) -> Result<Vec<Touched<Self::Key>>, Trouble>;

    /// Makes it right.
    fn settle(
        at: Surroundings,
        key: Self::Key,
        in_doubt: bool,
        cursors: Cursors,
    ) -> impl Future<Output = Result<Settled, Trouble>> + Send;
}

/// Keeps everything of a kind right, for ever. Every call is a task of its own, so that a forge that hangs holds up
/// nothing of another.
pub(super) async fn keep_right<L: Latest>(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut dirty: BTreeMap<L::Key, u64> = BTreeMap::new();
    let mut pace: Pace<L::Key> = Pace::new();
    let mut on_the_way: JoinSet<(L::Key, u64, Result<Settled, Trouble>)> = JoinSet::new();
    let mut busy: HashSet<L::Key> = HashSet::new();
    // What was sent and not confirmed: the forge may show it or not. After a start that holds for all that the cursor
    // has not passed.
    let mut in_doubt: HashSet<L::Key> = HashSet::new();
    // What came to be in doubt while a call was on its way: that call does not settle it.
    let mut in_doubt_since: HashSet<L::Key> = HashSet::new();
    let mut next = at.store.read()?.cursor(L::FOLLOWER)?;
    let mut saved = next;
    follow::<L>(&at, &mut next, &mut dirty)?;
    in_doubt.extend(dirty.keys().cloned());
    loop {
        for touched in follow::<L>(&at, &mut next, &mut dirty)? {
            // Something new about it: a red state must not wait out the back-off of an older green one.
            pace.done(&touched.key);
            if touched.in_doubt {
                if busy.contains(&touched.key) {
                    in_doubt_since.insert(touched.key.clone());
                }
                in_doubt.insert(touched.key);
            }
        }
        let due: Vec<L::Key> = dirty
            .keys()
            .filter(|it| !busy.contains(*it) && pace.is_due(it))
            .cloned()
            .collect();
        for key in due.into_iter().take(IN_FLIGHT_MAX.saturating_sub(busy.len())) {
            let seen = dirty.get(&key).copied().unwrap_or(next);
            let others = dirty
                .iter()
                .filter(|(it, _)| **it != key)
                .map(|(_, seq)| *seq)
                .min();
            let cursors = Cursors {
                done: others.unwrap_or(next),
                kept: others.map_or(seen, |it| it.min(seen)),
            };
            let doubtful = in_doubt.contains(&key);
            in_doubt.insert(key.clone());
            busy.insert(key.clone());
            let at = at.clone();
            on_the_way.spawn(async move {
                let result = L::settle(at, key.clone(), doubtful, cursors).await;
                (key, seen, result)
            });
        }
        if dirty.is_empty() && next - saved >= CURSOR_ENTRIES {
            // Nothing to tell for a long time: a start need not read all of it again.
            save_cursor(&at, L::FOLLOWER, next).await?;
            saved = next;
        }
        tokio::select! {
            Some(finished) = on_the_way.join_next() => {
                let (key, seen, result) = finished.map_err(|e| Trouble::Forge(e.to_string()))?;
                busy.remove(&key);
                let follower = L::FOLLOWER;
                // Touched again meanwhile, it is looked at again at once: what was refused or failed was about the older state.
                let touched_since = dirty.get(&key) != Some(&seen);
                let wait = match result {
                    Ok(Settled::Right) => {
                        pace.done(&key);
                        if !in_doubt_since.remove(&key) {
                            in_doubt.remove(&key);
                        }
                        if !touched_since {
                            dirty.remove(&key);
                        }
                        continue;
                    }
                    Ok(Settled::Refused) => Some(REFUSED_AGAIN),
                    Ok(Settled::Later { after, reason }) => {
                        tracing::warn!(%reason, follower, ?key, "the forge does not take it yet");
                        after
                    }
                    Err(error) => {
                        tracing::warn!(%error, follower, ?key, "the forge can't be told yet");
                        None
                    }
                };
                match touched_since {
                    true => pace.failed(&key, None),
                    false => pace.failed(&key, wait),
                }
            }
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

pub(super) async fn save_cursor(at: &Surroundings, follower: &'static str, next: u64) -> Result<(), Trouble> {
    let submission = Submission {
        actor: Actor::System,
        command: Command::Record { events: Vec::new() },
        secrets: Vec::new(),
        cursor: Some((follower, next)),
    };
    match at.engine.submit_with(submission).await {
        // It only saves reading: the next one will do.
        Ok(_) | Err(Error::Busy | Error::Sealed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads new entries and marks what they touch; answers which.
fn follow<L: Latest>(
    at: &Surroundings,
    next: &mut u64,
    dirty: &mut BTreeMap<L::Key, u64>,
) -> Result<Vec<Touched<L::Key>>, Trouble> {
    let snapshot = at.store.read()?;
    let mut marked = Vec::new();
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok(marked);
        }
        for (seq, leaf) in entries {
            for touched in L::touched(&Snapshot::event(&leaf)?, &snapshot)? {
                dirty.insert(touched.key.clone(), seq);
                marked.push(touched);
            }
            *next = seq + 1;
        }
    }
}
