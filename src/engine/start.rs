//! The first entries of a journal, and what a later start has to say.

use crate::clock::Clock;
use crate::domain::command::{AcceptRollback, Command};
use crate::domain::event::{Actor, Event};
use crate::domain::ids::PersonId;
use crate::domain::keys::{active, all_keys};
use crate::domain::rollback::FoundCheckpoint;
use crate::engine::writer::{Issuer, Writer, current_epoch};
use crate::engine::{Submission, writer};
use crate::evidence::dsse::{key_id, spki_of_ed25519};
use crate::signing::Keys;
use crate::store;
use crate::store::Store;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

/// What the caller of a start has to know.
pub struct Begun {
    pub writer: Writer,
    /// A new epoch is to be opened because the public URL is another than before.
    pub new_epoch: bool,
    /// What [`Begun::go_on`] writes. Until then a start has written nothing, so that a journal that must not be gone on with
    /// stays as it was found.
    pub pending: Vec<Event>,
    /// The journal comes from a backup, and this is the first start since.
    pub restored: bool,
}

impl Begun {
    /// Writes what this start has to say.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn go_on(&mut self) -> Result<(), store::Error> {
        let events = std::mem::take(&mut self.pending);
        if !events.is_empty() {
            give(&mut self.writer, Command::Record { events })?;
        }
        if std::mem::take(&mut self.restored) {
            let reason =
                "The server was restored from a backup: what happened after it was made is not known.";
            give(
                &mut self.writer,
                Command::LetAllGo {
                    reason: reason.into(),
                },
            )?;
            let transaction = self.writer.store.write()?;
            transaction.forget_restore()?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// Goes on from a journal that lacks entries, under a new epoch, since enough admins agreed.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn accept_rollback(
        &mut self,
        public_url: &str,
        found: Vec<FoundCheckpoint>,
        confirmed: Vec<(Option<PersonId>, String, Option<Vec<u8>>)>,
    ) -> Result<(), store::Error> {
        let (size, instance, epoch) = {
            let snapshot = self.writer.store.read()?;
            let epoch = current_epoch(&snapshot)?;
            let (epoch, _) =
                epoch.ok_or_else(|| store::Error::Damaged("the journal has no genesis".into()))?;
            (snapshot.size()?, snapshot.identity()?.instance, epoch)
        };
        // Whatever epoch the rest of the tree was signed in, this is a later one.
        let later = found.iter().filter_map(|it| epoch_of(&it.checkpoint)).max();
        let planned = self.pending.iter().filter_map(|it| match it {
            Event::EpochOpened { epoch, .. } => Some(epoch.saturating_sub(1)),
            _ => None,
        });
        let later = later.max(planned.max());
        let epoch = epoch.max(later.unwrap_or(0)).saturating_add(1);
        let origin = origin(public_url, &instance, epoch);
        self.writer.issuer.log_origin.clone_from(&origin);
        // The epoch is opened by what is agreed on; that it came from a backup is still to be said.
        self.pending.retain(|it| !matches!(it, Event::EpochOpened { .. }));
        let command = Command::AcceptRollback(Box::new(AcceptRollback {
            size,
            found,
            confirmed,
            epoch,
            origin,
        }));
        give(&mut self.writer, command)?;
        self.go_on()
    }
}

/// The epoch in a checkpoint's origin.
fn epoch_of(note: &str) -> Option<u32> {
    note.lines().next()?.rsplit_once('/')?.1.parse().ok()
}

/// The log's origin: host of the public URL, `log`, the first 8 hex digits of the instance, the epoch.
pub(super) fn origin(public_url: &str, instance: &str, epoch: u32) -> String {
    let host = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    format!("{host}/log/{}/{epoch}", &instance[..8.min(instance.len())])
}

/// Writes the genesis of a new journal: the instance, its first epoch and its two keys.
pub fn begin_instance(
    store: Arc<Store>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    public_url: &str,
    instance: &str,
    version: &str,
) -> Result<Begun, store::Error> {
    let log_origin = origin(public_url, instance, 1);
    let issuer = Issuer {
        public_url: public_url.to_owned(),
        instance: instance.to_owned(),
        version: version.to_owned(),
        log_origin: log_origin.clone(),
    };
    let events = vec![
        Event::InstanceCreated {
            instance: instance.to_owned(),
            public_url: public_url.to_owned(),
            version: version.to_owned(),
        },
        Event::EpochOpened {
            epoch: 1,
            origin: log_origin,
            reason: "first start".into(),
            previous: None,
        },
        activated("credential", keys.credential.public_key(), 2),
        activated("log", keys.log.public_key(), 3),
    ];
    let mut writer = Writer::new(store, keys, clock, issuer)?;
    give(&mut writer, Command::Record { events })?;
    Ok(Begun {
        writer,
        new_epoch: false,
        pending: Vec::new(),
        restored: false,
    })
}

/// Goes on with an existing journal.
///
/// # Errors
/// `Damaged` when the journal lacks its genesis or the keys are not the ones it names.
pub fn continue_instance(
    store: Arc<Store>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    public_url: &str,
    version: &str,
) -> Result<Begun, store::Error> {
    let snapshot = store.read()?;
    let instance = snapshot.identity()?.instance;
    let (epoch, before) = current_epoch(&snapshot)?
        .ok_or_else(|| store::Error::Damaged("the journal has no genesis".into()))?;
    let recorded = all_keys(&snapshot)?;
    for (which, key) in [("credential", &keys.credential), ("log", &keys.log)] {
        let keyid = key_id(&spki_of_ed25519(&key.public_key()));
        if active(&recorded, which).map(|it| it.keyid.as_str()) != Some(keyid.as_str()) {
            return Err(store::Error::Damaged(format!(
                "the {which} key is not the one this journal names"
            )));
        }
    }
    let newest = snapshot.latest_checkpoint()?.map(|(_, note)| note);
    let restored = snapshot.restored()?;
    drop(snapshot);
    let same = origin(public_url, &instance, epoch);
    let moved = same != before || restored.is_some();
    // An epoch that others may have seen is never used twice.
    let next = restored.as_ref().map_or(0, |it| it.epoch).max(epoch + 1);
    let log_origin = if moved {
        origin(public_url, &instance, next)
    } else {
        same
    };
    let issuer = Issuer {
        public_url: public_url.to_owned(),
        instance,
        version: version.to_owned(),
        log_origin: log_origin.clone(),
    };
    let writer = Writer::new(store, keys, clock, issuer)?;
    let mut pending = Vec::new();
    if moved {
        pending.push(Event::EpochOpened {
            epoch: next,
            origin: log_origin,
            reason: match &restored {
                Some(it) => format!("restored from a backup of {} entries", it.entries),
                None => "the public URL changed".into(),
            },
            previous: newest,
        });
    }
    if let Some(it) = &restored {
        pending.push(Event::BackupRestored {
            entries: it.entries,
            created_at: it.created_at.clone(),
        });
    }
    Ok(Begun {
        writer,
        new_epoch: moved,
        pending,
        restored: restored.is_some(),
    })
}

fn activated(which: &str, public: [u8; 32], from_seq: u64) -> Event {
    let spki = spki_of_ed25519(&public);
    Event::KeyActivated {
        r#use: which.to_owned(),
        keyid: key_id(&spki),
        spki: STANDARD.encode(&spki),
        from_seq,
        introduction: None,
    }
}

fn give(writer: &mut writer::Writer, command: Command) -> Result<(), store::Error> {
    let submission = Submission {
        actor: Actor::System,
        command,
        secrets: Vec::new(),
        cursor: None,
    };
    let (results, _) = writer.write(vec![submission])?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(store::Error::Io(format!("the first entries: {error}"))),
        None => Err(store::Error::Io("the first entries were not written".into())),
    }
}
