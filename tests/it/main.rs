//! The black-box tests: one binary, so that it links once.

mod fake_gitlab;
mod support;
mod support_selftest;
mod tlog_peers;
