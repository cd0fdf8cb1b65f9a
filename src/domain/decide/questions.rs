//! What the appliance knows and a policy is tried against: its people, its projects, the files of late. Reads only.

use crate::domain::decide::changes::{control_files, defaults};
use crate::domain::decide::governance::ready_admins;
use crate::domain::decide::roster::Roster;
use crate::domain::ids::RequestId;
use crate::domain::policy::{ControlFiles, Document, Evaluation, Hypothesis, LintFacts, ProjectDefaults};
use crate::domain::project::Project;
use crate::domain::request::{Opening, Request};
use crate::domain::state::{Fault, Read, Table, decode};
use crate::domain::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Newest requests whose files are looked at.
const REQUESTS_MAX: usize = 50;
/// Most sample paths.
const PATHS_MAX: usize = 2_000;

/// What the lint may know of this place.
///
/// # Errors
/// When the recorded state can't be read.
pub fn lint_facts(now: Time, state: &impl Read) -> Result<LintFacts, Fault> {
    let roster = Roster::load(state)?;
    let mut paths = BTreeSet::new();
    for (_, id) in state.scan_raw(Table::RequestOrder, b"", &[0xff; 9], REQUESTS_MAX, true)? {
        let id = std::str::from_utf8(&id).ok().and_then(RequestId::parse);
        let id = id.ok_or_else(|| Fault("odd row in the order of requests".into()))?;
        let Some(request) = state.get::<Request>(id.as_str())? else {
            continue;
        };
        let Some(blob) = state.blob(&request.opening)? else {
            continue;
        };
        let opening: Opening = decode(&blob)?;
        let files = opening.facts.into_iter().flat_map(|it| it.files.files);
        paths.extend(files.filter_map(|it| it.new_path.or(it.old_path)));
        if paths.len() >= PATHS_MAX {
            break;
        }
    }
    Ok(LintFacts {
        people: Some(roster.candidates(&BTreeMap::new(), now, now)),
        groups: Some(roster.groups().iter().map(|it| it.name.clone()).collect()),
        admins: Some(ready_admins(now, state)?.len()),
        sample_paths: paths.into_iter().take(PATHS_MAX).collect(),
    })
}

/// What a document makes of a question, with the settings of the project it names if that is gated here.
///
/// # Errors
/// When the recorded state can't be read.
pub fn simulate(
    asked: &Hypothesis,
    document: Option<&Document>,
    state: &impl Read,
) -> Result<Evaluation, Fault> {
    let named = match asked.project() {
        Some(path) => state
            .all::<Project>()?
            .into_iter()
            .find(|it| !it.removed && it.path == path),
        None => None,
    };
    Ok(match named {
        Some(project) => asked.judged_by(document, &defaults(&project), &control_files(&project)?),
        None => asked.judged_by(document, &ProjectDefaults::default(), &ControlFiles::default()),
    })
}
