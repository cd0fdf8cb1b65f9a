//! SignedApproval: an approval gate whose approvals are signed by the approver's own passkey.
//!
//! The modules stand in reading order; each may name only modules above it (`tests/it/tidy.rs` holds that).

pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod effects;
pub mod engine;
pub mod evidence;
pub mod forge;
pub mod identity;
pub mod listen;
pub mod notify;
pub mod outbound;
pub mod signing;
pub mod sink;
pub mod store;
pub mod texts;
pub mod tlog;
pub mod web;
