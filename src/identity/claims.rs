//! Claims on forge accounts: somebody says that an account is theirs, and shows it by writing a code where only that account
//! writes. In memory: a restart only makes them begin anew.

use crate::domain::facts::Account;
use crate::domain::ids::{IntegrationId, PersonId};
use crate::domain::time::Time;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a claim may take, in seconds: signing in to the forge and finding the place.
pub const CLAIM_SECONDS: u64 = 900;
/// Looks at the forge for one claim; each costs a call of its rate limit.
const LOOKS_MAX: u32 = 20;
/// Random bytes of a code: nobody guesses what another one was shown.
const CODE_BYTES: usize = 10;

/// A claim under way.
#[derive(Clone, Debug)]
pub struct Claim {
    pub integration: IntegrationId,
    pub account: Account,
    /// What the account has to write.
    pub code: String,
    pub expires_at: Time,
    looks_left: u32,
}

/// All claims under way, one a person.
#[derive(Default)]
pub struct Claims {
    all: Mutex<HashMap<PersonId, Claim>>,
}

impl Claims {
    /// Begins a claim; the person's earlier one is gone.
    pub fn begin(&self, person: PersonId, integration: IntegrationId, account: Account, now: Time) -> Claim {
        let mut bytes = [0; CODE_BYTES];
        getrandom::fill(&mut bytes).expect("the system's random numbers never run out");
        let claim = Claim {
            integration,
            account,
            code: format!("signedapproval-{}", hex::encode(bytes)),
            expires_at: now.plus_seconds(CLAIM_SECONDS),
            looks_left: LOOKS_MAX,
        };
        let mut all = self.lock();
        all.retain(|_, it| now < it.expires_at);
        all.insert(person, claim.clone());
        claim
    }

    /// The person's claim, for one more look at the forge.
    pub fn look(&self, person: &PersonId, now: Time) -> Option<Claim> {
        let mut all = self.lock();
        let claim = all.get_mut(person).filter(|it| now < it.expires_at)?;
        claim.looks_left = claim.looks_left.checked_sub(1)?;
        Some(claim.clone())
    }

    /// The claim of that code is over.
    pub fn end(&self, person: &PersonId, code: &str) {
        let mut all = self.lock();
        if all.get(person).is_some_and(|it| it.code == code) {
            all.remove(person);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PersonId, Claim>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_its_persons_own_and_ends_with_its_time_and_its_looks() {
        let claims = Claims::default();
        let (bea, dan) = (PersonId::from_random([1; 16]), PersonId::from_random([2; 16]));
        let account = Account {
            id: "7".into(),
            username: "bea".into(),
            name: "Bea".into(),
        };
        let begin = |now| {
            claims.begin(
                bea.clone(),
                IntegrationId::from_random([3; 16]),
                account.clone(),
                now,
            )
        };
        let first = begin(Time(0));
        let second = begin(Time(0));
        assert_ne!(first.code, second.code);
        assert!(second.code.len() < 100, "it fits GitLab's status message");
        assert_eq!(
            claims.look(&bea, Time(1)).map(|it| it.code),
            Some(second.code.clone())
        );
        assert!(claims.look(&dan, Time(1)).is_none());
        assert!(claims.look(&bea, Time(900_000)).is_none());
        for _ in 1..LOOKS_MAX {
            assert!(claims.look(&bea, Time(1)).is_some());
        }
        assert!(claims.look(&bea, Time(1)).is_none(), "that was one too many");
        claims.end(&bea, &first.code);
        let third = begin(Time(2));
        claims.end(&bea, &second.code);
        assert!(
            claims.look(&bea, Time(3)).is_some(),
            "another claim's end is not this one's"
        );
        claims.end(&bea, &third.code);
        assert!(claims.look(&bea, Time(3)).is_none());
    }
}
