//! Saved views: a list of requests, under a name, that somebody comes back to.

use crate::domain::ids::{PersonId, ViewId};
use crate::domain::state::{Fault, Read, Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 60;
/// Longest question, in bytes.
pub const QUERY_BYTES_MAX: usize = 2_000;
/// Views of one person, and views that everybody shares: a list that is looked over at a glance.
pub const VIEWS_MAX: usize = 30;

/// A saved view. It changes nothing and hides nothing: whoever opens it sees what they may see anyway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub id: ViewId,
    pub name: String,
    /// The filters, as the page writes them into its address: `status=pending&environment=production`.
    pub query: String,
    /// Whose it is; `None`: everybody's who reads the dashboard.
    pub owner: Option<PersonId>,
    pub saved_at: Time,
}

impl Record for View {
    const TABLE: Table = Table::Views;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// The shared views and this person's own, by name.
///
/// # Errors
/// When they can't be read.
pub fn views_of(person: &PersonId, state: &impl Read) -> Result<Vec<View>, Fault> {
    let mut views = state.all::<View>()?;
    views.retain(|it| it.owner.as_ref().is_none_or(|owner| owner == person));
    views.sort_by(|a, b| (a.owner.is_some(), &a.name).cmp(&(b.owner.is_some(), &b.name)));
    Ok(views)
}
