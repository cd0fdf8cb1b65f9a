//! Deployments that a forge does not start although they were decided: for admins, who can mend it.

use crate::domain::decide::{NextStep, next_step};
use crate::domain::deployment::{Deployment, DeploymentKey};
use crate::domain::request::Request;
use crate::domain::state::{Fault, Read, Table};
use crate::domain::time::Time;
use crate::texts::t;
use crate::web::pages::card::Places;
use crate::web::pages::shown;

/// Most deployments that are looked at.
const READ_MAX: usize = 1_000;
/// Most that are listed.
const SHOWN_MAX: usize = 20;
/// Longest reason, in characters.
const TEXT_MAX: usize = 600;

/// One deployment that is stuck, and why.
pub struct Stuck {
    pub what: String,
    pub place: String,
    pub why: String,
    pub href: String,
}

/// Deployments that were decided and that their forge refuses to act on.
pub fn stuck(state: &impl Read, places: &Places, now: Time) -> Result<Vec<Stuck>, Fault> {
    let mut found = Vec::new();
    for (row, _) in state.scan_raw(Table::OpenDeployments, b"", &[0xff], READ_MAX, false)? {
        let Some(key) = DeploymentKey::of_row(&row) else {
            continue;
        };
        let record: Option<Deployment> = state.get(&key.row())?;
        let Some(it) = record.filter(|it| it.refused.is_some()) else {
            continue;
        };
        let request: Option<Request> = match &it.request {
            Some(id) => state.get(id.as_str())?,
            None => None,
        };
        if let (Some(request), Some(why)) = (&request, &it.refused)
            && next_step(&it, Some(request), now) != NextStep::Nothing
            && found.len() < SHOWN_MAX
        {
            found.push(Stuck {
                what: t!(
                    "{job_name} to {environment}",
                    job_name = shown(&it.facts.job_name, 100),
                    environment = shown(&it.facts.environment, 100)
                ),
                place: places.path_of(&it.key.project),
                why: shown(why, TEXT_MAX),
                href: format!("/a/{}", request.id),
            });
        }
    }
    Ok(found)
}
