//! SignedApproval: an approval gate whose approvals are signed by the approver's own passkey.
//!
//! The modules stand in reading order; each may name only modules above it (`tests/it/tidy.rs` holds that).

pub mod domain;
pub mod tlog;
pub mod clock;
pub mod signing;
pub mod evidence;
pub mod store;
pub mod engine;
pub mod identity;
pub mod config;
pub mod outbound;
pub mod forge;
pub mod effects;
pub mod web;
pub mod cli;
