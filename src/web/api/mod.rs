//! The JSON API, one file a noun. The first line of a handler says who may call it; the last one gives a command or
//! reads.

pub mod accounts;
pub mod api_keys;
pub mod approvals;
pub mod attention;
pub mod audit;
pub mod backups;
pub mod confirmations;
pub mod credentials;
pub mod decisions;
pub mod delegations;
pub mod description;
pub mod devices;
pub mod enrolment;
pub mod exceptions;
pub mod github_apps;
pub mod governance;
pub mod health;
pub mod hooks;
pub mod integrations;
pub mod journal;
pub mod keys;
pub mod local;
pub mod log;
pub mod me;
pub mod notifications;
pub mod people;
pub mod policies;
pub mod policy_versions;
pub mod programs;
pub mod provisioning;
pub mod retention;
pub mod server;
pub mod session;
pub mod sinks;
pub mod totp;
pub mod trials;
pub mod well_known;

use crate::web::problem::Problem;
use serde::Deserialize;

/// Items of a list at the most, and how many without `limit`.
const PAGE_ITEMS_MAX: usize = 100;

/// Paging of every list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    pub after: Option<String>,
    pub limit: Option<usize>,
}

/// The page size asked for, within bounds.
fn page_size(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(PAGE_ITEMS_MAX),
        Some(it @ 1..=PAGE_ITEMS_MAX) => Ok(it),
        Some(_) => Err(Problem::bad_field("limit", format!("1 to {PAGE_ITEMS_MAX}"))),
    }
}

/// A text within its bounds.
fn bounded(field: &str, text: &str, characters_max: usize) -> Result<(), Problem> {
    match text.chars().count() {
        0 => Err(Problem::bad_field(field, "must not be empty")),
        it if it > characters_max => Err(Problem::bad_field(
            field,
            format!("at most {characters_max} characters, these are {it}"),
        )),
        _ => Ok(()),
    }
}

/// A body of `{}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}
