//! Ceremonies under way. Each is taken out before its answer is looked at, so a failed try burns it; all of them are
//! gone after a restart, which only makes somebody tap again.

use crate::domain::ids::{CeremonyId, DeviceId, Digest, PersonId, ProposalId, RequestId};
use crate::domain::request::{Answer, Status};
use crate::domain::time::Time;
use crate::identity::device_key::DeviceKey;
use crate::identity::tokens::random_id;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use webauthn_rs::prelude::{DiscoverableAuthentication, PasskeyAuthentication, PasskeyRegistration};

/// How long a ceremony may take (contract: 120 seconds).
pub const LIFETIME_SECONDS: u64 = 120;

/// Ceremonies at once. The oldest go first: whoever floods the appliance with half-done ceremonies can make others
/// start anew, and nothing else.
const ONGOING_MAX: usize = 10_000;

/// What a ceremony is for, with everything its answer will be checked against.
pub enum Purpose {
    /// The first passkey of a person, by set-up or invitation.
    Enrol {
        /// Digest of the token that was shown.
        token: Digest,
        person: PersonId,
        name: String,
        email: String,
        state: Box<PasskeyRegistration>,
    },
    SignIn {
        state: Box<DiscoverableAuthentication>,
    },
    /// A further passkey, confirmed by one that is held.
    AddPasskey {
        person: PersonId,
        label: String,
        confirm: Box<PasskeyAuthentication>,
        confirm_challenge: [u8; 32],
        state: Box<PasskeyRegistration>,
    },
    Decide {
        person: PersonId,
        request: RequestId,
        answer: Answer,
        comment: String,
        break_glass: bool,
        match_code: Option<u8>,
        intent: Vec<u8>,
        nonce: [u8; 32],
        challenge: [u8; 32],
        subject_sha256: Digest,
        policy_sha256: Digest,
        issued_at: Time,
        state: Box<PasskeyAuthentication>,
    },
    /// An admin agrees to go on from a journal that lacks entries. The passkey says who it is.
    Rollback {
        intent: Vec<u8>,
        nonce: [u8; 32],
        challenge: [u8; 32],
        state: Box<DiscoverableAuthentication>,
    },
    /// A native client's device shows that it holds its key.
    ConfirmDevice {
        person: PersonId,
        device: DeviceId,
        key: Box<DeviceKey>,
        challenge: [u8; 32],
    },
    /// A passkey allows its owner to set one-time codes up.
    AllowTotp {
        person: PersonId,
        challenge: [u8; 32],
        state: Box<PasskeyAuthentication>,
    },
    /// Somebody confirms one call, which is dangerous.
    Act {
        person: PersonId,
        method: String,
        path: String,
        body_sha256: Digest,
        reason: String,
        intent: Vec<u8>,
        nonce: [u8; 32],
        challenge: [u8; 32],
        state: Box<PasskeyAuthentication>,
    },
    /// A further admin confirms a change to the rules.
    Confirm {
        person: PersonId,
        proposal: ProposalId,
        intent: Vec<u8>,
        nonce: [u8; 32],
        challenge: [u8; 32],
        state: Box<PasskeyAuthentication>,
    },
}

/// A ceremony under way.
pub struct Ceremony {
    pub purpose: Purpose,
    expires_at: Time,
}

/// The answer a ceremony got, kept so that the same bytes sent twice get it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub person: PersonId,
    pub request: RequestId,
    pub body: Digest,
    pub status: Status,
    pub credential: Digest,
}

#[derive(Default)]
struct Ongoing {
    /// Enrolments go by their token, which their answer carries; the newest start counts.
    enrolments: HashMap<Digest, Ceremony>,
    open: HashMap<CeremonyId, Ceremony>,
    answered: HashMap<CeremonyId, (Answered, Time)>,
}

/// All ceremonies under way.
#[derive(Default)]
pub struct Ceremonies {
    ongoing: Mutex<Ongoing>,
}

impl Ceremonies {
    /// Keeps a ceremony; answers its id.
    pub fn begin(&self, purpose: Purpose, now: Time) -> CeremonyId {
        let id = CeremonyId::from_random(random_id());
        let mut ongoing = self.lock();
        ongoing.open.retain(|_, it| it.expires_at > now);
        ongoing.answered.retain(|_, (_, until)| *until > now);
        // Anybody may start a sign-in: a flood of them pushes out sign-ins, never somebody's decision.
        let sign_in = matches!(purpose, Purpose::SignIn { .. });
        let alike = |it: &Ceremony| matches!(it.purpose, Purpose::SignIn { .. }) == sign_in;
        if ongoing.open.values().filter(|it| alike(it)).count() >= ONGOING_MAX {
            let oldest = ongoing
                .open
                .iter()
                .filter(|(_, it)| alike(it))
                .min_by_key(|(_, it)| it.expires_at)
                .map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                ongoing.open.remove(&oldest);
            }
        }
        let expires_at = now.plus_seconds(LIFETIME_SECONDS);
        ongoing.open.insert(id.clone(), Ceremony { purpose, expires_at });
        id
    }

    /// Keeps an enrolment under its token; an earlier one of the same token is gone.
    pub fn begin_enrolment(&self, token: Digest, purpose: Purpose, now: Time) {
        let mut ongoing = self.lock();
        ongoing.enrolments.retain(|_, it| it.expires_at > now);
        // Only bearers of a valid token get here, so the map stays as small as the list of open invitations.
        ongoing.enrolments.insert(
            token,
            Ceremony {
                purpose,
                expires_at: now.plus_seconds(LIFETIME_SECONDS),
            },
        );
    }

    /// Takes an enrolment out, once.
    pub fn take_enrolment(&self, token: &Digest, now: Time) -> Option<Purpose> {
        let ceremony = self.lock().enrolments.remove(token)?;
        (now < ceremony.expires_at).then_some(ceremony.purpose)
    }

    /// Takes a ceremony out, once. `None` when it is unknown, used or too old.
    pub fn take(&self, id: &CeremonyId, now: Time) -> Option<Purpose> {
        let ceremony = self.lock().open.remove(id)?;
        (now < ceremony.expires_at).then_some(ceremony.purpose)
    }

    /// Remembers a successful answer for as long as a client may reasonably repeat it.
    pub fn remember(&self, id: CeremonyId, answered: Answered, now: Time) {
        self.lock()
            .answered
            .insert(id, (answered, now.plus_seconds(10 * LIFETIME_SECONDS)));
    }

    /// The answer a ceremony got.
    pub fn answered(&self, id: &CeremonyId) -> Option<Answered> {
        self.lock().answered.get(id).map(|(it, _)| it.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Ongoing> {
        // A panic while holding the lock leaves maps that are whole: nothing is changed in two steps.
        self.ongoing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
