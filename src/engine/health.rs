//! What keeps the appliance from doing all its work right now: one struct that pages, `/readyz` and metrics read.

use crate::domain::time::Time;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A way of working less than whole. Few, and each visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// A signing key can't be reached: decisions are refused, everything else is recorded.
    SignerDown,
    /// The disk is nearly full: what people ask is refused, what keeps the gate safe is still recorded.
    StorageFull,
    /// The host's clock is behind the journal: decisions are refused.
    ClockUnsound,
    /// A newer state of this journal was seen elsewhere: nothing is recorded until admins agree to go on.
    RollbackSuspected,
    /// Something stored is not what it should be: nothing is decided any more.
    StorageDamaged,
    /// The newest backup could not be made or does not verify. Everything else goes on.
    BackupFailed,
}

impl Condition {
    /// All there are.
    pub const ALL: &'static [Condition] = &[
        Condition::SignerDown,
        Condition::StorageFull,
        Condition::ClockUnsound,
        Condition::RollbackSuspected,
        Condition::StorageDamaged,
        Condition::BackupFailed,
    ];

    /// Its name in `/readyz`, metrics and the journal. Never changed.
    pub fn name(self) -> &'static str {
        match self {
            Condition::SignerDown => "signer_down",
            Condition::StorageFull => "storage_full",
            Condition::ClockUnsound => "clock_unsound",
            Condition::RollbackSuspected => "rollback_suspected",
            Condition::StorageDamaged => "storage_damaged",
            Condition::BackupFailed => "backup_failed",
        }
    }

    /// What it means, for people, in words that do not change while it lasts.
    pub fn words(self) -> &'static str {
        match self {
            Condition::SignerDown => "A signing key can't be reached. Nothing is decided until it is back.",
            Condition::StorageFull => {
                "The disk is nearly full. What people and pipelines ask is refused until there is room."
            }
            Condition::ClockUnsound => {
                "The host's clock is behind the journal. Nothing is decided until it is right."
            }
            Condition::RollbackSuspected => "A newer state of this journal was seen elsewhere.",
            Condition::StorageDamaged => {
                "Something stored is not what was written. Nothing is decided any more: restore a backup."
            }
            Condition::BackupFailed => "The newest backup could not be made. It is tried again.",
        }
    }

    /// Whether the appliance is not ready for decisions while it holds.
    pub fn blocks_decisions(self) -> bool {
        self != Condition::BackupFailed
    }

    /// Whether what people ask is refused while it holds.
    pub fn read_only(self) -> bool {
        matches!(
            self,
            Condition::StorageFull | Condition::RollbackSuspected | Condition::StorageDamaged
        )
    }
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub condition: Condition,
    /// What was seen, for people. No secret.
    pub detail: String,
    pub since: Time,
}

#[derive(Default)]
struct Inner {
    standing: BTreeMap<Condition, (String, Time)>,
    backends: (&'static str, &'static str),
    /// When the newest good backup was written, and how many entries it covers.
    backup: Option<(Time, u64)>,
    /// All that is stored was compared since the start, and found as it was written.
    compared: bool,
}

/// What holds now. Shared by the writer, the watchers and whoever shows it.
#[derive(Default)]
pub struct Health(Mutex<Inner>);

impl Health {
    /// Says that a condition holds, or no longer does. Answers whether that is news.
    pub fn set(&self, condition: Condition, detail: Option<String>, now: Time) -> bool {
        let mut inner = self.inner();
        match detail {
            Some(detail) => {
                let known = inner.standing.get_mut(&condition);
                match known {
                    Some((seen, _)) => {
                        *seen = detail;
                        false
                    }
                    None => {
                        inner.standing.insert(condition, (detail, now));
                        true
                    }
                }
            }
            None => inner.standing.remove(&condition).is_some(),
        }
    }

    /// Whether a condition holds.
    pub fn has(&self, condition: Condition) -> bool {
        self.inner().standing.contains_key(&condition)
    }

    /// Everything that holds, in a fixed order.
    pub fn standing(&self) -> Vec<Standing> {
        let inner = self.inner();
        inner
            .standing
            .iter()
            .map(|(condition, (detail, since))| Standing {
                condition: *condition,
                detail: detail.clone(),
                since: *since,
            })
            .collect()
    }

    /// The condition that makes the appliance read-only now, if one does.
    pub fn read_only(&self) -> Option<Condition> {
        self.inner().standing.keys().copied().find(|it| it.read_only())
    }

    /// Where the credential and the log key are: `file` or `agent`.
    pub fn backends(&self) -> (&'static str, &'static str) {
        self.inner().backends
    }

    /// Tells where the keys are.
    pub fn set_backends(&self, credential: &'static str, log: &'static str) {
        self.inner().backends = (credential, log);
    }

    /// When the newest good backup was written, and how many entries it covers.
    pub fn backup(&self) -> Option<(Time, u64)> {
        self.inner().backup
    }

    /// A good backup was written.
    pub fn set_backup(&self, at: Time, entries: u64) {
        self.inner().backup = Some((at, entries));
    }

    /// Whether all that is stored was compared since the start and found as it was written.
    pub fn is_compared(&self) -> bool {
        self.inner().compared
    }

    /// All that is stored was found as it was written.
    pub fn set_compared(&self) {
        self.inner().compared = true;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
