//! Changes of the signing keys: each in one transaction of its own, between two groups of commands, so that nothing is
//! lost and nothing is signed by a key that the journal does not name.

use crate::domain::command::Command;
use crate::domain::event::{Actor, Event};
use crate::domain::ids::Digest;
use crate::domain::keys::{KeyRecord, active, all_keys};
use crate::domain::refusal::Refusal;
use crate::domain::time::Time;
use crate::engine::start::origin;
use crate::engine::writer::{Writer, current_epoch};
use crate::engine::{Error, Submission};
use crate::evidence::dsse::{Envelope, KEY_INTRODUCTION, Signature, key_id, pae, spki_of_ed25519};
use crate::evidence::keys::introduction_payload;
use crate::signing::{Keys, PassphraseText, SignError, Signer, Use, sign_verified};
use crate::store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

/// What is to happen to the keys.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// The next key takes over.
    Rotate(Use),
    /// Somebody else may hold a key: from a position on nothing it signed counts. Where it is the one that signs now, the
    /// next takes over, without being introduced by it.
    Revoke {
        keyid: String,
        /// The first position that does not count; `None`: from now on.
        from_seq: Option<u64>,
        reason: String,
    },
    /// A new data key, and every stored secret sealed anew.
    DataKey,
    /// Another passphrase for everything that one guards.
    Passphrase {
        from: PassphraseText,
        to: PassphraseText,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysChanged {
    /// The key that signs from now on, where another took over.
    pub activated: Option<String>,
    /// The key that no longer counts, and from which position on.
    pub ended: Option<(String, u64)>,
    /// Requests that were taken back since a revoked key had signed for them.
    pub taken_back: u64,
    /// Secrets that were sealed anew.
    pub secrets: u64,
}

/// What a change of the signing keys comes down to, once it is known that it can be done.
struct Turn {
    which: Use,
    old: KeyRecord,
    /// The key that takes over, if one does.
    next: Option<Arc<dyn Signer>>,
    /// From where on, and why, the old one is not believed; `None`: it is only retired.
    revoked: Option<(u64, String)>,
}

impl Writer {
    /// Carries out a change of the keys. As with `write`, after an outer error nothing may be written any more.
    pub(super) fn change_keys(
        &mut self,
        change: KeyChange,
        actor: &Actor,
    ) -> Result<Result<KeysChanged, Error>, store::Error> {
        match &change {
            KeyChange::DataKey => return self.rotate_data_key(actor),
            KeyChange::Passphrase { from, to } => {
                return self.change_passphrase(from.expose(), to.expose(), actor);
            }
            KeyChange::Rotate(_) | KeyChange::Revoke { .. } => {}
        }
        let records = all_keys(&self.store.read()?)?;
        let turn = match self.turn(change, &records)? {
            Ok(turn) => turn,
            Err(error) => return Ok(Err(error)),
        };
        let which = turn.which;
        let replaced = turn.next.is_some();
        let before = self.keys.clone();
        let done = self.take_turn(turn, actor);
        if !matches!(done, Ok(Ok(_))) {
            self.keys = before;
            if let Some(ring) = self.keyring.as_mut().filter(|_| replaced) {
                ring.discard(which);
            }
            return done;
        }
        if let Some(ring) = self.keyring.as_mut().filter(|_| replaced)
            && let Err(error) = ring.promote(which)
        {
            // The journal names the new key, and its file is there: the next start puts it in its place.
            tracing::error!(%error, "the new key's file could not be put in its place yet");
        }
        done
    }

    /// What a change comes down to, or why it can't be.
    fn turn(
        &mut self,
        change: KeyChange,
        records: &[KeyRecord],
    ) -> Result<Result<Turn, Error>, store::Error> {
        let size = self.size()?;
        let (old, revoked) = match change {
            KeyChange::Rotate(which) => (active(records, which.name()), None),
            KeyChange::Revoke {
                keyid,
                from_seq,
                reason,
            } => {
                let found = records.iter().find(|it| it.keyid == keyid);
                let from_seq = from_seq.unwrap_or(size);
                if found.is_some_and(|it| from_seq < it.from_seq) || from_seq > size {
                    let why = "A position at which the key signed, or the journal's size.";
                    return Ok(Err(Refusal::invalid("from_seq", why).into()));
                }
                if found.is_some_and(|it| it.compromised.is_some() && it.until_seq <= Some(from_seq)) {
                    let why = "The key is revoked from that position, or an earlier one, on.";
                    return Ok(Err(Refusal::invalid("keyid", why).into()));
                }
                (found, Some((from_seq, reason)))
            }
            KeyChange::DataKey | KeyChange::Passphrase { .. } => {
                return Ok(Err(Refusal::Unknown.into()));
            }
        };
        let Some(old) = old.cloned() else {
            return Ok(Err(Refusal::Unknown.into()));
        };
        let which = if old.r#use == Use::Log.name() {
            Use::Log
        } else {
            Use::Credential
        };
        let next = match (&mut self.keyring, old.until_seq) {
            (_, Some(_)) => None,
            (Some(ring), None) => match ring.successor(which) {
                Ok(next) => Some(next),
                Err(reason) => return Ok(Err(Error::Keys(reason))),
            },
            (None, None) => return Ok(Err(Error::Keys("no further keys can be made here".into()))),
        };
        Ok(Ok(Turn {
            which,
            old,
            next,
            revoked,
        }))
    }

    fn take_turn(&mut self, turn: Turn, actor: &Actor) -> Result<Result<KeysChanged, Error>, store::Error> {
        let now = self.clock.now().max(self.last);
        let mut transaction = self.store.write()?;
        let seq = transaction.size()?;
        let mut changed = KeysChanged {
            activated: None,
            ended: None,
            taken_back: 0,
            secrets: 0,
        };
        let (mut events, mut blob) = (Vec::new(), None);
        let mut new_origin = None;
        if let Some(next) = &turn.next {
            if turn.which == Use::Log {
                // One log key an epoch: whoever knows the old key sees where its part of the log ends.
                let (epoch, _) = current_epoch(&transaction)?
                    .ok_or_else(|| store::Error::Damaged("the journal has no epoch".into()))?;
                let opened = origin(&self.issuer.public_url, &self.issuer.instance, epoch + 1);
                let before = self.store.read()?.latest_checkpoint()?;
                events.push(Event::EpochOpened {
                    epoch: epoch + 1,
                    origin: opened.clone(),
                    reason: "the log key changed".into(),
                    previous: before.map(|(_, note)| note),
                });
                new_origin = Some(opened);
            }
            let introduction = match &turn.revoked {
                // What a key that others may hold says of another is worth nothing.
                Some(_) => None,
                None => match self.introduce(turn.which, &**next, seq, now) {
                    Ok(file) => Some(file),
                    Err(error) => return Ok(Err(Error::Sealed(error.to_string()))),
                },
            };
            let spki = spki_of_ed25519(&next.public_key());
            changed.activated = Some(key_id(&spki));
            events.push(Event::KeyActivated {
                r#use: turn.which.name().into(),
                keyid: key_id(&spki),
                spki: STANDARD.encode(&spki),
                from_seq: seq,
                introduction: introduction.as_deref().map(Digest::of),
            });
            blob = introduction;
        }
        let (r#use, keyid, spki) = (turn.old.r#use, turn.old.keyid, turn.old.spki);
        let ends = turn.revoked.as_ref().map_or(seq, |(from, _)| *from);
        changed.ended = Some((keyid.clone(), ends));
        events.push(match &turn.revoked {
            None => Event::KeyRetired {
                r#use,
                keyid,
                spki,
                from_seq: ends,
            },
            Some((from_seq, reason)) => Event::KeyCompromised {
                r#use,
                keyid,
                spki,
                from_seq: *from_seq,
                reason: reason.clone(),
            },
        });
        if let Some(next) = turn.next {
            match turn.which {
                Use::Credential => self.keys.credential = next,
                Use::Log => self.keys.log = next,
            }
        }
        if let Some(bytes) = blob {
            transaction.put_blob(&bytes)?;
        }
        let mut commands = vec![Command::Record { events }];
        if let (Some((from_seq, _)), Use::Credential) = (&turn.revoked, turn.which) {
            commands.push(Command::Disown {
                from_seq: *from_seq,
                reason: "The key that signed for it was revoked.".into(),
            });
        }
        for command in commands {
            let submission = Submission {
                actor: actor.clone(),
                command,
                secrets: Vec::new(),
                cursor: None,
            };
            if let Err(error) = self.perform(submission, now, &mut transaction)? {
                return Ok(Err(error));
            }
        }
        let size = transaction.size()?;
        for at in seq..size {
            let leaf = transaction.leaf(at)?.unwrap_or_default();
            let event: Event = serde_json::from_slice(&leaf)
                .map_err(|e| store::Error::Damaged(format!("entry {at}: {e}")))?;
            changed.taken_back += u64::from(event.request().is_some());
        }
        match self.checkpoint(&transaction, size)? {
            Ok(note) => transaction.put_checkpoint(size, &note)?,
            Err(error) => return Ok(Err(Error::Sealed(error.to_string()))),
        }
        transaction.commit()?;
        self.last = now;
        self.health
            .set_backends(self.keys.credential.backend(), self.keys.log.backend());
        if let Some(opened) = new_origin {
            self.issuer.log_origin = opened;
        }
        Ok(Ok(changed))
    }

    /// The statement by which the key that signs now introduces the next, signed by both.
    fn introduce(&self, which: Use, next: &dyn Signer, seq: u64, now: Time) -> Result<Vec<u8>, SignError> {
        let Keys { credential, log } = &self.keys;
        let old = if which == Use::Log { log } else { credential };
        let spki = spki_of_ed25519(&next.public_key());
        let payload = introduction_payload(which.name(), &spki, &key_id(&spki), seq, &now.to_string());
        let message = pae(KEY_INTRODUCTION, &payload);
        let mut signatures = Vec::new();
        for signer in [&**old, next] {
            signatures.push(Signature {
                keyid: key_id(&spki_of_ed25519(&signer.public_key())),
                sig: sign_verified(signer, &message)?,
            });
        }
        Ok(Envelope {
            payload_type: KEY_INTRODUCTION.to_owned(),
            payload,
            signatures,
        }
        .to_bytes())
    }

    /// Puts keys and vault under another passphrase. The files come first: an entry of a change that did not happen would be
    /// worse than one that is missing after a crash.
    fn change_passphrase(
        &mut self,
        from: &str,
        to: &str,
        actor: &Actor,
    ) -> Result<Result<KeysChanged, Error>, store::Error> {
        if let Some(condition) = self.health.read_only() {
            return Ok(Err(Error::ReadOnly(condition)));
        }
        let Some(ring) = self.keyring.as_mut() else {
            return Ok(Err(Error::Keys("there are no key files here".into())));
        };
        if let Err(reason) = ring.change_passphrase(from, to) {
            return Ok(Err(Error::Keys(reason)));
        }
        let submission = Submission {
            actor: actor.clone(),
            command: Command::Record {
                events: vec![Event::PassphraseChanged {}],
            },
            secrets: Vec::new(),
            cursor: None,
        };
        let (results, _) = self.write(vec![submission])?;
        if let Some(Err(error)) = results.into_iter().next() {
            tracing::error!(%error, "the passphrase was changed, and the journal does not tell of it");
        }
        Ok(Ok(KeysChanged {
            activated: None,
            ended: None,
            taken_back: 0,
            secrets: 0,
        }))
    }

    /// Seals every stored secret anew, in one transaction.
    fn rotate_data_key(&mut self, actor: &Actor) -> Result<Result<KeysChanged, Error>, store::Error> {
        let Some(mut ring) = self.keyring.take() else {
            return Ok(Err(Error::Keys("there is no vault here".into())));
        };
        let done = match ring.add_data_key() {
            Ok(()) => self.seal_anew(&*ring, actor),
            Err(reason) => Ok(Err(Error::Keys(reason))),
        };
        if let Ok(Ok(_)) = done
            && let Err(error) = ring.forget_older_data_keys()
        {
            tracing::warn!(%error, "the older data keys could not be removed yet; the next change of the data key does it");
        }
        self.keyring = Some(ring);
        done
    }

    fn seal_anew(
        &mut self,
        ring: &dyn crate::signing::Keyring,
        actor: &Actor,
    ) -> Result<Result<KeysChanged, Error>, store::Error> {
        let mut secrets = Vec::new();
        for (name, sealed) in self.store.read()?.secrets()? {
            match ring.reseal(&name, &sealed) {
                Ok(anew) => secrets.push((name, anew)),
                Err(reason) => return Ok(Err(Error::Keys(format!("{name}: {reason}")))),
            }
        }
        let count = secrets.len() as u64;
        let submission = Submission {
            actor: actor.clone(),
            command: Command::Record {
                events: vec![Event::DataKeyRotated { secrets: count }],
            },
            secrets,
            cursor: None,
        };
        let (results, _) = self.write(vec![submission])?;
        Ok(match results.into_iter().next() {
            Some(Err(error)) => Err(error),
            _ => Ok(KeysChanged {
                activated: None,
                ended: None,
                taken_back: 0,
                secrets: count,
            }),
        })
    }
}
