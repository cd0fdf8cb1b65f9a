//! Crash points and random days over engine and store.
//!
//! `SIM_ALL=1` tries every step with every failure and every kind of survival; `SEED=n` replays one random day.

mod appliance;
mod checks;
mod crash;
mod day;
mod forge;
mod passkey;
mod random;
mod storage;
