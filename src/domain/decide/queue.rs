//! What the status of a commit that a merge queue is about to land should say.

use super::changes::gate_of;
use crate::domain::ids::ProjectId;
use crate::domain::request::{Change, ChangeKey, GateState, Request, change_row};
use crate::domain::state::{Fault, Read};

/// What is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedStatus {
    pub state: GateState,
    pub description: String,
    /// Changes of which another head is recorded, or nothing: they are to be read anew.
    pub unread: Vec<ChangeKey>,
}

/// Green only if every change it holds is approved at just the head it is queued with. `members`: number and head of each;
/// `known`: the forge told all of them.
pub fn queued_status(
    project: &ProjectId,
    target: &str,
    members: &[(u64, String)],
    known: bool,
    state: &impl Read,
) -> Result<QueuedStatus, Fault> {
    let mut unread = Vec::new();
    let mut refused = Vec::new();
    for (number, head) in members {
        let key = ChangeKey {
            project: project.clone(),
            number: *number,
        };
        let change: Option<Change> = state.get(&change_row(&key))?;
        let current = change.filter(|it| it.open && it.head == *head && it.target == target);
        let request: Option<Request> = match current.and_then(|it| it.request) {
            Some(id) => state.get(id.as_str())?,
            None => None,
        };
        match request {
            Some(request) if gate_of(&request) == GateState::Success => {}
            Some(_) => refused.push(number.to_string()),
            None => unread.push(key),
        }
    }
    let (state, description) = if !refused.is_empty() {
        let which = refused.join(", #");
        (GateState::Failed, format!("Not approved as queued: #{which}"))
    } else if !known || members.is_empty() {
        (
            GateState::Failed,
            "The queue does not tell everything that this commit holds".to_owned(),
        )
    } else if !unread.is_empty() {
        (GateState::Pending, "What is queued is being read".to_owned())
    } else {
        (
            GateState::Success,
            "Everything in this commit is approved as queued".to_owned(),
        )
    };
    Ok(QueuedStatus {
        state,
        description,
        unread,
    })
}
