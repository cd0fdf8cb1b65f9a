//! What about the appliance itself needs a person, for as long as it lasts: a certificate that runs out, a disk that fills.
//! Whoever watches such a thing reports what is so now; what is new or over is what gets recorded.

use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should see to it in time.
    Warning,
    /// The appliance can't do all of its work: it is not ready.
    Degraded,
}

/// One condition as its watcher sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// `area.what`, for instance `certificate.expiring`.
    pub name: &'static str,
    pub severity: Severity,
    /// A sentence for whoever has to do something. The same words for the same state: other words are another entry in the
    /// journal.
    pub detail: String,
}

/// One condition that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub name: String,
    pub severity: Severity,
    pub detail: String,
    pub since: Time,
}

impl Record for Condition {
    const TABLE: Table = Table::Conditions;
    fn key(&self) -> String {
        self.name.clone()
    }
}
