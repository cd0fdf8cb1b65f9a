//! Generators of one-time codes: making a secret, the URL that an app scans, and which time step a code belongs to. Secrets are
//! handed in and out by whoever seals them; a generator that is being set up lives in memory until a code shows that it works.

use crate::domain::ids::PersonId;
use crate::domain::time::Time;
use crate::domain::totp::{DIGITS, PERIOD_SECONDS, SKEW_STEPS};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use totp_rs::{Algorithm, Builder, Secret, Totp};
use zeroize::Zeroizing;

/// Bytes of a secret: as many as SHA-1 has (RFC 4226 §4, requirement R6).
const SECRET_BYTES: usize = 20;
/// What an app shows above the code. No colon: the URL has no way to write it.
const ISSUER: &str = "SignedApproval";
/// How long setting one up may take, in seconds: finding the app, scanning, waiting for a fresh code.
pub const SETTING_UP_SECONDS: u64 = 600;
/// Wrong codes after which setting up begins anew.
const TRIES_MAX: u32 = 5;

/// A secret and what is known of it once: never stored but sealed.
pub struct NewSecret {
    pub bytes: Zeroizing<Vec<u8>>,
    /// `otpauth://totp/…`, as apps scan it.
    pub url: Zeroizing<String>,
    /// The secret in base32 and groups of four, for typing.
    pub text: Zeroizing<String>,
}

/// A new secret for somebody who is told apart by e-mail and host.
///
/// # Errors
/// When the library refuses the parameters, which are all its own defaults.
pub fn new_secret(email: &str, host: &str) -> Result<NewSecret, totp_rs::TotpError> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
    getrandom::fill(&mut bytes).expect("the system's random numbers never run out");
    let account = format!("{email} at {host}").replace(':', " port ");
    let totp = generator(&bytes, Some(&account))?;
    let base32 = Zeroizing::new(totp.secret().to_base32());
    let groups: Vec<&str> = base32
        .as_bytes()
        .chunks(4)
        .map(|it| std::str::from_utf8(it).expect("base32 is ASCII"))
        .collect();
    Ok(NewSecret {
        url: Zeroizing::new(totp.to_url()?),
        text: Zeroizing::new(groups.join(" ")),
        bytes,
    })
}

/// The time step near now whose code this is. Exactly six ASCII digits: whatever else a person or a program makes of a code is
/// another text.
pub fn matching_step(secret: &[u8], code: &str, now: Time) -> Option<u64> {
    let digits = code.len() == usize::try_from(DIGITS).unwrap_or(usize::MAX);
    let well_formed = digits && code.bytes().all(|it| it.is_ascii_digit());
    let seconds = u64::try_from(now.0).ok()? / 1000;
    let totp = generator(secret, None).ok()?;
    // Compared in constant time by the library; what was wrong about a code is told to nobody.
    well_formed.then(|| totp.check(code, seconds)).flatten()
}

fn generator(secret: &[u8], account: Option<&str>) -> Result<Totp, totp_rs::TotpError> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(u8::try_from(DIGITS).expect("a few digits"))
        .with_skew(u16::try_from(SKEW_STEPS).expect("a few steps"))
        .with_step_duration(PERIOD_SECONDS)
        .with_secret(Secret::new(secret.into()))
        .with_account_name(account.unwrap_or("code"))
        .with_issuer(Some(ISSUER))
        .build()
}

/// A generator that somebody is setting up.
struct SettingUp {
    secret: Zeroizing<Vec<u8>>,
    confirmed_by: Vec<String>,
    expires_at: Time,
    tries_left: u32,
}

/// What a code did for a generator that is being set up.
pub enum Tried {
    /// It works: its secret, what allowed it, and the step of the code. It is taken out.
    Works {
        secret: Zeroizing<Vec<u8>>,
        confirmed_by: Vec<String>,
        step: u64,
    },
    /// Another code is wanted.
    Wrong,
    /// There is none, or none any more.
    Gone,
}

/// The generators that are being set up, one a person. Gone after a restart, which only makes somebody begin anew.
#[derive(Default)]
pub struct SettingsUp {
    all: Mutex<HashMap<PersonId, SettingUp>>,
}

impl SettingsUp {
    /// Keeps a new one; the person's earlier one is gone.
    pub fn begin(
        &self,
        person: PersonId,
        secret: Zeroizing<Vec<u8>>,
        confirmed_by: Vec<String>,
        now: Time,
    ) -> Time {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, it| now < it.expires_at);
        let expires_at = now.plus_seconds(SETTING_UP_SECONDS);
        let it = SettingUp {
            secret,
            confirmed_by,
            expires_at,
            tries_left: TRIES_MAX,
        };
        all.insert(person, it);
        expires_at
    }

    /// Tries a code.
    pub fn confirm(&self, person: &PersonId, code: &str, now: Time) -> Tried {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(it) = all.get_mut(person).filter(|it| now < it.expires_at) else {
            return Tried::Gone;
        };
        if let Some(step) = matching_step(&it.secret, code, now) {
            let works = all.remove(person).map(|it| Tried::Works {
                secret: it.secret,
                confirmed_by: it.confirmed_by,
                step,
            });
            return works.unwrap_or(Tried::Gone);
        }
        it.tries_left -= 1;
        if it.tries_left == 0 {
            all.remove(person);
        }
        Tried::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6238, appendix B: the secret of the SHA-1 rows; six of their eight digits.
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            let now = Time(seconds * 1000);
            let step = u64::try_from(seconds).unwrap() / 30;
            assert_eq!(matching_step(SECRET, code, now), Some(step));
            let at = |shift: i64| matching_step(SECRET, code, Time(now.0 + shift * 1000));
            assert_eq!((at(30), at(-30)), (Some(step), Some(step)), "one step around it");
            assert_eq!((at(60), at(-60)), (None, None), "and no further");
        }
    }

    #[test]
    fn only_six_ascii_digits_are_a_code() {
        let now = Time(1_234_567_890_000);
        for other in [
            "",
            "5924",
            "05924",
            "0005924",
            " 005924",
            "005924 ",
            "005 924",
            "+05924",
            "００５９２４",
            "005924\n",
            "005924\0",
            "\u{a0}005924",
            "0x1234",
            "-05924",
        ] {
            assert_eq!(matching_step(SECRET, other, now), None, "{other:?}");
        }
    }

    #[test]
    fn a_secret_is_told_as_apps_want_it() {
        let it = new_secret("bea@example.test", "sa.example:8443").unwrap();
        assert!(
            it.url.starts_with("otpauth://totp/SignedApproval:"),
            "{}",
            *it.url
        );
        assert!(
            !it.url.contains("8443:") && it.url.contains("issuer=SignedApproval"),
            "{}",
            *it.url
        );
        assert_eq!(it.text.replace(' ', "").len(), 32);
        let other = new_secret("bea@example.test", "sa.example").unwrap();
        assert_ne!(*it.bytes, *other.bytes);
    }
}
