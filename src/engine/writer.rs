//! The writer: decides commands one after the other inside one transaction, signs what they make, commits once.

use crate::clock::Clock;
use crate::domain::apply::{Place, apply, note_erased};
use crate::domain::command::{Command, Reply};
use crate::domain::condition::Condition as Recorded;
use crate::domain::decide::{Plan, Step, decide, reason_of};
use crate::domain::event::{Actor, Event};
use crate::domain::ids::Digest;
use crate::domain::refusal::Refusal;
use crate::domain::request::{ChangeKey, change_row};
use crate::domain::state::{Fault, Read, Table, Write};
use crate::domain::time::Time;
use crate::engine::seal::Ready;
use crate::engine::{Condition, Error, Health, Submission};
use crate::evidence::leaf;
use crate::signing::{Keyring, Keys, SignError, sign_verified};
use crate::store;
use crate::store::{Store, Transaction};
use crate::tlog::{Checkpoint, CheckpointError};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Commands committed together at the most: enough that a burst costs one flush, few enough that the first of them does
/// not wait long.
pub(super) const GROUP_COMMANDS_MAX: usize = 256;

/// How far the host's clock may stand behind the journal before decisions are refused, in milliseconds.
const CLOCK_BEHIND_MS_MAX: i64 = 2_000;

/// What this instance calls itself in everything it signs.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub public_url: String,
    /// UUID, hyphenated.
    pub instance: String,
    pub version: String,
    /// Origin line of the log's checkpoints in the current epoch.
    pub log_origin: String,
}

/// Owns the write side of the store.
pub struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) keys: Keys,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) issuer: Issuer,
    pub(super) keyring: Option<Box<dyn Keyring>>,
    pub(super) health: Arc<Health>,
    pub(super) last: Time,
    /// The group being written decides something, or lets something through.
    opened_a_gate: bool,
}

/// The results of a group, in its order, and the journal's size after it.
pub type Written = (Vec<Result<Reply, Error>>, u64);

impl Writer {
    /// A writer over an opened store.
    ///
    /// # Errors
    /// When the journal's last entry can't be read.
    pub fn new(
        store: Arc<Store>,
        keys: Keys,
        clock: Arc<dyn Clock>,
        issuer: Issuer,
    ) -> Result<Writer, store::Error> {
        let snapshot = store.read()?;
        let last = match snapshot.size()? {
            0 => Time(i64::MIN),
            size => {
                let bytes = snapshot.leaf(size - 1)?;
                let bytes = bytes.ok_or_else(|| store::Error::Damaged("the last entry is missing".into()))?;
                let leaf = leaf::parse(&bytes).map_err(|e| store::Error::Damaged(e.to_string()))?;
                Time::parse(&leaf.time).ok_or_else(|| store::Error::Damaged("odd time of an entry".into()))?
            }
        };
        let health = Arc::new(Health::default());
        health.set_backends(keys.credential.backend(), keys.log.backend());
        // A restart does not mend what is stored: nothing is decided until all of it was compared anew.
        if let Some(damaged) = snapshot.get::<Recorded>(Condition::StorageDamaged.name())? {
            health.set(Condition::StorageDamaged, Some(damaged.detail), damaged.since);
        }
        Ok(Writer {
            store,
            keys,
            clock,
            issuer,
            keyring: None,
            health,
            last,
            opened_a_gate: false,
        })
    }

    /// Tells it where the next keys come from.
    pub fn with_keyring(mut self, keyring: Box<dyn Keyring>) -> Writer {
        self.keyring = Some(keyring);
        self
    }

    /// The journal's size.
    pub fn size(&self) -> Result<u64, store::Error> {
        self.store.read()?.size()
    }

    /// Decides and commits a group. After an error nothing may be written any more: what was being committed is unknown.
    pub fn write(&mut self, group: Vec<Submission>) -> Result<Written, store::Error> {
        let wall = self.clock.now();
        let clock_sound = wall.0 >= self.last.0.saturating_sub(CLOCK_BEHIND_MS_MAX);
        let now = wall.max(self.last);
        let mut transaction = self.store.write()?;
        let before = transaction.size()?;
        let mut results = Vec::with_capacity(group.len());
        // A signer that is known to be away keeps nothing from being recorded but what needs a signature: the checkpoint
        // follows when it is back. One that goes away in this very group costs the group, which may be tried again.
        let read_only = self.health.read_only();
        self.clock_is(clock_sound, wall, now);
        let lenient = self.health.has(Condition::SignerDown);
        self.opened_a_gate = false;
        for submission in group {
            if let Some(condition) = read_only
                && submission.actor != Actor::System
            {
                results.push(Err(Error::ReadOnly(condition)));
                continue;
            }
            let needs_clock = matches!(
                submission.command,
                Command::Decide(_) | Command::ConsumeRequest { .. } | Command::EnrolTotp { .. }
            );
            if needs_clock && !clock_sound {
                results.push(Err(Error::ClockUnsound));
                continue;
            }
            results.push(self.perform(submission, now, &mut transaction)?);
        }
        let size = transaction.size()?;
        if size != before {
            match self.checkpoint(&transaction, size)? {
                Ok(note) => transaction.put_checkpoint(size, &note)?,
                Err(error) => {
                    self.signer_is_down(&error, now);
                    if !lenient || self.opened_a_gate {
                        // No checkpoint, no acknowledgement: the whole group is undone and may be tried again.
                        let sealed = || Err(Error::Sealed(error.to_string()));
                        return Ok((results.iter().map(|_| sealed()).collect(), before));
                    }
                }
            }
        }
        transaction.commit()?;
        self.last = if size == before { self.last } else { now };
        Ok((results, size))
    }

    pub(super) fn perform(
        &mut self,
        submission: Submission,
        now: Time,
        transaction: &mut Transaction,
    ) -> Result<Result<Reply, Error>, store::Error> {
        let reason = reason_of(&submission.command, transaction)?;
        let Plan { steps, reply } = decide(submission.command, &submission.actor, now, transaction)?;
        // Everything is signed before anything is written, so that a signer that is away leaves no half a plan.
        let opens = steps.iter().any(Step::opens_a_gate);
        let prepared = match self.ready(steps, now, transaction)? {
            Ok(prepared) => prepared,
            Err(error) => {
                self.signer_is_down(&error, now);
                return Ok(Err(Error::Sealed(error.to_string())));
            }
        };
        self.opened_a_gate |= opens;
        // The same holds for what the journal can't take: found before the first byte, it costs one command, not the
        // process. Nobody else writes meanwhile, so the positions are known, and each entry is encoded once.
        let mut leaves = std::collections::VecDeque::new();
        let mut seq = transaction.size()?;
        for step in &prepared.steps {
            if let Ready::Event(event) = step {
                match encode_leaf(event, &submission.actor, reason.as_deref(), seq, now) {
                    Ok(leaf) => leaves.push_back(leaf),
                    Err(reason) => {
                        tracing::error!(%reason, "a command is too large for the journal");
                        let refusal =
                            Refusal::invalid("body", "This is more than one journal entry can hold.");
                        return Ok(Err(Error::Refused(refusal)));
                    }
                }
                seq += 1;
            }
        }
        let reply = reply.map(|it| match (it, prepared.credential) {
            (Reply::Decided { status, .. }, Some(credential)) => Reply::Decided { status, credential },
            (other, _) => other,
        });
        for step in prepared.steps {
            match step {
                Ready::Blob(bytes) => {
                    transaction.put_blob(&bytes)?;
                }
                Ready::Event(event) => {
                    let leaf = leaves.pop_front().expect("every event was encoded");
                    self.record(&event, &leaf, now, transaction)?;
                }
                Ready::Hint(change) => {
                    // Older than any webhook still to come: one that arrives while this hint is being worked off must
                    // not look like the hint itself.
                    let newest = transaction.size()?.saturating_sub(1);
                    transaction.put_raw(
                        Table::Hints,
                        change_row(&change).as_bytes(),
                        &newest.to_be_bytes(),
                    )?;
                }
                Ready::Unhint(change, seen) => unhint(&change, seen, transaction)?,
                Ready::Cursor(follower, next) => transaction.put_cursor(&follower, next)?,
                Ready::Erase(digest) => transaction.remove_blob(&digest)?,
            }
        }
        if reply.is_ok() {
            for (name, sealed) in &submission.secrets {
                transaction.put_secret(name, sealed)?;
            }
            if let Some((follower, next)) = submission.cursor {
                transaction.put_cursor(follower, next)?;
            }
        }
        Ok(reply.map_err(Error::Refused))
    }

    fn clock_is(&self, sound: bool, wall: Time, now: Time) {
        let detail = (!sound).then(|| format!("The host's clock says {wall}; the newest entry is of {now}."));
        if self.health.set(Condition::ClockUnsound, detail, now) && !sound {
            tracing::error!(%wall, newest = %now, "the host's clock is behind the journal: nothing is decided until it is right");
        }
    }

    fn signer_is_down(&self, error: &SignError, now: Time) {
        if self
            .health
            .set(Condition::SignerDown, Some(error.to_string()), now)
        {
            tracing::warn!(%error, "a signing key is away: nothing is decided until it is back");
        }
    }

    /// Looks whether the keys are there. Once they are again, what was recorded without them gets its checkpoint.
    /// As with `write`, after an error nothing may be written any more.
    pub(super) fn look_at_signer(&mut self) -> Result<(), store::Error> {
        let wall = self.clock.now();
        let now = wall.max(self.last);
        self.clock_is(
            wall.0 >= self.last.0.saturating_sub(CLOCK_BEHIND_MS_MAX),
            wall,
            now,
        );
        let there = self.keys.credential.check().and_then(|()| self.keys.log.check());
        if let Err(error) = there {
            self.signer_is_down(&error, now);
            return Ok(());
        }
        if !self.health.has(Condition::SignerDown) {
            return Ok(());
        }
        let mut transaction = self.store.write()?;
        let size = transaction.size()?;
        match self.checkpoint(&transaction, size)? {
            Ok(note) => transaction.put_checkpoint(size, &note)?,
            Err(error) => {
                self.signer_is_down(&error, now);
                return Ok(());
            }
        }
        transaction.commit()?;
        self.health.set(Condition::SignerDown, None, now);
        tracing::info!("the signing keys are back");
        Ok(())
    }

    fn record(
        &self,
        event: &Event,
        leaf: &[u8],
        now: Time,
        transaction: &mut Transaction,
    ) -> Result<(), store::Error> {
        let seq = transaction.append(leaf)?;
        apply(
            event,
            Place {
                seq,
                time: now,
                leaf: Digest::of(leaf),
            },
            transaction,
        )?;
        Ok(())
    }

    /// The signed checkpoint of the transaction's journal. The outer error is the store's, which is never to be tried
    /// again; the inner one is the signer's, which may be.
    pub(super) fn checkpoint(
        &self,
        transaction: &Transaction,
        size: u64,
    ) -> Result<Result<String, SignError>, store::Error> {
        let unfit =
            |error: CheckpointError| store::Error::Damaged(format!("checkpoint of {size} entries: {error}"));
        let origin = current_origin(transaction)?.unwrap_or_else(|| self.issuer.log_origin.clone());
        let checkpoint = Checkpoint::new(&origin, size, transaction.root()?).map_err(unfit)?;
        let signature = match sign_verified(&*self.keys.log, checkpoint.body().as_bytes()) {
            Ok(signature) => signature,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(checkpoint
            .assemble(self.keys.log.public_key(), &signature)
            .map_err(unfit)?))
    }
}

/// Rebuilds every projection from the journal, in one transaction.
pub fn rebuild(store: &Store) -> Result<(), store::Error> {
    let mut transaction = store.write()?;
    transaction.drop_projections()?;
    note_all_erased(&mut transaction)?;
    for seq in 0..transaction.size()? {
        let leaf = transaction
            .leaf(seq)?
            .ok_or_else(|| store::Error::Damaged(format!("entry {seq} is missing")))?;
        let parsed = leaf::parse(&leaf).map_err(|e| store::Error::Damaged(e.to_string()))?;
        let time = Time::parse(&parsed.time).ok_or_else(|| store::Error::Damaged("odd time".into()))?;
        let event: Event =
            serde_json::from_slice(&leaf).map_err(|e| store::Error::Damaged(format!("entry {seq}: {e}")))?;
        apply(
            &event,
            Place {
                seq,
                time,
                leaf: Digest::of(&leaf),
            },
            &mut transaction,
        )?;
    }
    transaction.commit()
}

/// What was erased is known before the entries that once named it are read again.
fn note_all_erased(transaction: &mut Transaction) -> Result<(), store::Error> {
    for seq in 0..transaction.size()? {
        let leaf = transaction.leaf(seq)?.unwrap_or_default();
        if std::str::from_utf8(&leaf).is_ok_and(|it| it.contains(r#""type":"blob.erased""#)) {
            // What only quotes these words is another event, and nothing to note.
            let event: Event = serde_json::from_slice(&leaf)
                .map_err(|e| store::Error::Damaged(format!("entry {seq}: {e}")))?;
            note_erased(&event, seq, transaction)?;
        }
    }
    Ok(())
}

/// The log's origin as the journal has it.
pub(super) fn current_origin(state: &impl Read) -> Result<Option<String>, Fault> {
    Ok(current_epoch(state)?.map(|(_, origin)| origin))
}

/// The current epoch's number and origin as the journal has them.
pub(super) fn current_epoch(state: &impl Read) -> Result<Option<(u32, String)>, Fault> {
    let row = state.get_raw(Table::Counters, crate::domain::keys::EPOCH)?;
    row.map(|it| crate::domain::state::decode(&it)).transpose()
}

fn encode_leaf(
    event: &Event,
    actor: &Actor,
    reason: Option<&str>,
    seq: u64,
    now: Time,
) -> Result<Vec<u8>, String> {
    #[derive(serde::Deserialize)]
    struct Parts {
        r#type: String,
        data: Box<RawValue>,
    }
    #[derive(serde::Serialize)]
    struct Object<'a> {
        kind: &'a str,
        id: &'a str,
    }
    let text = serde_json::to_string(event).map_err(|e| e.to_string())?;
    let mut parts: Parts = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    if let Some(reason) = reason {
        parts.data = with_reason(parts.data, reason).map_err(|e| e.to_string())?;
    }
    let (kind, id) = event.object();
    let object = Object { kind, id: &id };
    leaf::encode(seq, &now.to_string(), &parts.r#type, actor, &object, &parts.data).map_err(|e| e.to_string())
}

/// The members of an event and why it was brought about, where they do not say so themselves.
fn with_reason(data: Box<RawValue>, reason: &str) -> Result<Box<RawValue>, serde_json::Error> {
    let members: std::collections::HashMap<&str, serde::de::IgnoredAny> = serde_json::from_str(data.get())?;
    let Some(open) = data
        .get()
        .strip_suffix('}')
        .filter(|_| !members.contains_key("reason"))
    else {
        return Ok(data);
    };
    let comma = if members.is_empty() { "" } else { "," };
    let reason = serde_json::to_string(reason)?;
    RawValue::from_string(format!("{open}{comma}\"reason\":{reason}}}"))
}

fn unhint(change: &ChangeKey, seen: u64, transaction: &mut Transaction) -> Result<(), store::Error> {
    let row = change_row(change);
    let newest = transaction.get_raw(Table::Hints, row.as_bytes())?;
    let newest = newest.and_then(|it| it.try_into().ok()).map(u64::from_be_bytes);
    if newest.is_some_and(|it| it <= seen) {
        transaction.delete_raw(Table::Hints, row.as_bytes())?;
    }
    Ok(())
}
