//! Who somebody is: passkey ceremonies, sessions and machine keys. It checks proofs it is handed and never decides
//! what a proven person may do.

mod ceremonies;
mod claims;
mod device_key;
mod relying_party;
mod tokens;
mod totp;

pub use ceremonies::{Answered, Ceremonies, Ceremony, LIFETIME_SECONDS, Purpose};
pub use claims::{CLAIM_SECONDS, Claim, Claims};
pub use device_key::{DEVICE_CHALLENGE_LABEL, DeviceKey};
pub use relying_party::{Error, RelyingParty, SignIn};
pub use tokens::{Token, hash_token, new_api_key, new_token, random_id};
pub use totp::{NewSecret, SETTING_UP_SECONDS, SettingsUp, Tried, matching_step, new_secret};
