//! The exact bytes that people and the appliance sign and that the journal holds, and the offline verifier of them all.
//! Bytes are made once, here; nothing in this module touches files, clocks or the network.

pub mod bundle;
pub mod credential;
pub mod dsse;
pub mod intent;
pub mod keys;
pub mod leaf;
pub mod outcome;
pub mod receipt;
pub mod sentence;
pub mod strict;
pub mod subject;
pub mod verify;
pub mod webauthn;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
