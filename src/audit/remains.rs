//! What is left of a request whose documents were erased: what the journal's entries say of it, and no more.

use crate::audit::select::{Gone, Selection};
use crate::audit::{Error, damaged};
use crate::domain::ids::{Digest, RequestId};
use crate::domain::project::{Integration, Project};
use crate::domain::request::{Decision, Request};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::evidence::sentence::{Signed, erased_sentence};
use crate::store::Snapshot;
use serde_json::Value;
use std::collections::BTreeSet;

/// A request whose documents were erased.
#[derive(Clone, Debug)]
pub struct Remains {
    pub request: RequestId,
    pub kind: &'static str,
    /// `!142` of a change; else what kind of thing it was.
    pub what: String,
    /// Of a gated project: its path; else the name a pipeline gave.
    pub project: Option<String>,
    pub target: Option<String>,
    pub environment: Option<String>,
    pub requested_at: Time,
    /// How it ended in the period, and when.
    pub ended: Option<(&'static str, Time)>,
    /// Its decisions that the bundle tells of.
    pub decisions: Vec<Decision>,
    pub policy: (String, u64),
    pub erased_at: Time,
    /// Position of the entry that says what was erased, and its reason.
    pub seq: u64,
    pub reason: String,
}

impl Remains {
    /// All of a selection, by request.
    ///
    /// # Errors
    /// When an entry or a record is missing.
    pub(super) fn all(selection: &Selection, state: &Snapshot) -> Result<Vec<Remains>, Error> {
        let all = selection.erased.iter();
        all.map(|(request, gone)| Remains::read(request, gone, state))
            .collect()
    }

    fn read(request: &RequestId, gone: &Gone, state: &Snapshot) -> Result<Remains, Error> {
        let record: Option<Request> = state.get(request.as_str())?;
        let record = record.ok_or_else(|| damaged(format!("{request} is not recorded")))?;
        let leaf = state.leaf(gone.seq)?.unwrap_or_default();
        let entry: Value =
            serde_json::from_slice(&leaf).map_err(|e| damaged(format!("entry {}: {e}", gone.seq)))?;
        let project: Option<Project> = match record.gated_project() {
            Some(id) => state.get(id.as_str())?,
            None => None,
        };
        let what = match (&record.change, &project) {
            (Some(change), Some(project)) => {
                let forge: Option<Integration> = state.get(project.integration.as_str())?;
                forge.map_or_else(
                    || format!("change {}", change.number),
                    |it| it.kind.change_text(change.number),
                )
            }
            _ => record.kind.name().to_owned(),
        };
        let shown: BTreeSet<Digest> = gone.decisions.iter().map(|(_, digest)| *digest).collect();
        Ok(Remains {
            request: request.clone(),
            kind: record.kind.name(),
            what,
            project: project.map(|it| it.path).or(record.project_name),
            target: record.target,
            environment: record.environment,
            requested_at: record.created_at,
            ended: gone
                .ended
                .and(record.decided_at)
                .map(|at| (record.status.name(), at)),
            decisions: record
                .decisions
                .into_iter()
                .filter(|it| shown.contains(&it.credential))
                .collect(),
            policy: (record.policy.name, record.policy.version),
            erased_at: record.erased_at.unwrap_or(record.created_at),
            seq: gone.seq,
            reason: entry["data"]["reason"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// The word for what became of it in the period.
    pub fn word(&self) -> &'static str {
        self.ended.map_or("undecided", |(word, _)| word)
    }

    /// A decision in its one sentence, as far as the journal still tells it.
    pub fn sentence(&self, it: &Decision) -> String {
        let signed = Signed {
            what: &self.what,
            answer: it.answer,
            by: &it.name,
            method: it.method.name(),
            at: &it.decided_at.to_the_second(),
            key_id: "",
            verified: false,
        };
        erased_sentence(&signed, it.seq, &self.erased_at.to_the_second())
    }
}
