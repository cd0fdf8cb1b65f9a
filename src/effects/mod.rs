//! What follows the journal and tells the world, and what reads the forges anew. Each follower has its own cursor and
//! goes at its own pace; nothing is told that is not recorded.

mod branches;
mod callbacks;
mod commits;
mod compare;
mod conditions;
mod deploy;
mod erasures;
mod errands;
mod inspect;
mod intake;
mod latest;
mod lock;
mod merge;
mod notify;
mod pace;
mod queue;
mod read_back;
mod reconcile;
mod rounds;
mod sinks;
mod status;
mod unfinished;
mod witness;

pub use branches::run_branches;
pub use callbacks::run_callbacks;
pub use commits::run_commits;
pub use conditions::run_conditions;
pub use deploy::run_deployments;
pub use erasures::run_erasures;
pub use inspect::run_inspector;
pub use intake::run_intake;
pub use lock::{run_lock_read_back, run_locks};
pub use merge::run_merges;
pub use notify::{Post, run_notifier};
pub use queue::run_queues;
pub use read_back::run_read_back;
pub use reconcile::run_reconciler;
pub use sinks::run_sinks;
pub use status::run_statuses;
pub use witness::run_witness;

use crate::clock::Clock;
use crate::domain::ids::ProjectId;
use crate::domain::project::{Integration, Project};
use crate::domain::state::{Fault, Read};
use crate::engine::Engine;
use crate::forge::{Forge, Forges, token_name};
use crate::store;
use crate::store::{Snapshot, Store};
use std::sync::Arc;
use std::time::Duration;

/// What every follower works with.
#[derive(Clone)]
pub struct Surroundings {
    pub store: Arc<Store>,
    pub engine: Engine,
    pub clock: Arc<dyn Clock>,
    pub forges: Arc<Forges>,
    pub public_url: String,
    /// How often the forges are looked at anew, whatever webhooks tell.
    pub look_every: Duration,
}

impl Surroundings {
    /// A gated project with its integration and connection; `None` once either was removed.
    fn connected(&self, id: &ProjectId, snapshot: &Snapshot) -> Result<Option<Connected>, Trouble> {
        let Some(project) = snapshot.get::<Project>(id.as_str())?.filter(|it| !it.removed) else {
            return Ok(None);
        };
        let integration = snapshot.get::<Integration>(project.integration.as_str())?;
        let Some(integration) = integration.filter(|it| !it.removed) else {
            return Ok(None);
        };
        let sealed = snapshot.secret(&token_name(&integration.id))?;
        let sealed = sealed.ok_or_else(|| Trouble::Forge("the integration has no token".into()))?;
        let forge = self
            .forges
            .of(&integration, &sealed)
            .map_err(|e| Trouble::Forge(e.to_string()))?;
        Ok(Some(Connected {
            project,
            integration,
            forge,
        }))
    }
}

/// A project that can be called.
struct Connected {
    project: Project,
    integration: Integration,
    forge: Forge,
}

impl Connected {
    /// For reading that gives way to decisions when the forge's rate limit is nearly used up.
    fn in_background(self) -> Self {
        Connected {
            forge: self.forge.in_background(),
            ..self
        }
    }
}

/// Why a follower could not do its work now.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    State(#[from] Fault),
    #[error("{0}")]
    Forge(String),
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
}
