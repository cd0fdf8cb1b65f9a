//! What every handler works with. Built once at start and passed down; nothing here is global.

use crate::clock::Clock;
use crate::domain::command::{Command, Reply};
use crate::domain::condition::{Condition, Severity};
use crate::domain::event::Actor;
use crate::domain::ids::{Digest, RequestId};
use crate::domain::people::{ApiKey, Group, Person};
use crate::domain::request::Request;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::engine::{Backups, Engine, Submission};
use crate::evidence::dsse::PublicKey;
use crate::forge::Forges;
use crate::identity::{Ceremonies, Claims, RelyingParty, SettingsUp};
use crate::listen::Front;
use crate::sink::{Requirement, Sinks, Unseal};
use crate::store;
use crate::store::{Snapshot, Store};
use crate::texts::Languages;
use crate::web::api::programs::Program;
use crate::web::confirm::{Confirmations, with_ceremony};
use crate::web::idle::SessionUses;
use crate::web::keys;
use crate::web::limits::Limits;
use crate::web::metrics::Metrics;
use crate::web::problem::Problem;
use crate::web::recent::Recent;
use crate::web::reports::Reports;
use crate::web::statistics::Statistics;
use crate::web::waits::Waits;
use actix_web::web::Bytes;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;
use subtle::ConstantTimeEq;

/// Refused ceremonies of nobody known that are journalled in a minute at the most.
const STRANGERS_A_MINUTE_MAX: u32 = 20;

/// Seals a secret under its name.
pub type Seal = Arc<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;

/// A request as it was answered.
#[derive(Clone)]
pub struct Shown {
    /// As it was judged then.
    pub request: Arc<Request>,
    /// The answer's body.
    pub body: Bytes,
    /// When. Some of what it says follows from the time.
    pub at: Instant,
}

/// Where callbacks may go.
pub struct CallbackRules {
    /// Names, `*.` and a domain, or addresses; lower case.
    pub hosts: Vec<String>,
    /// Hosts that may be called over plain http.
    pub allow_http: Vec<String>,
}

/// The set-up link while nobody has claimed it.
pub struct SetUpToken {
    pub sha256: Digest,
    pub expires_at: Time,
}

/// One setting, for people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SettingLine {
    pub key: &'static str,
    pub value: String,
    pub origin: String,
    /// A change counts after SIGHUP; else after a restart.
    pub reloaded: bool,
}

/// What every handler works with.
pub struct App {
    pub store: Arc<Store>,
    pub engine: Engine,
    pub backups: Arc<Backups>,
    pub clock: Arc<dyn Clock>,
    pub forges: Arc<Forges>,
    pub sinks: Arc<Sinks>,
    /// Whether a decision needs a log sink that has stored it.
    pub require_sink: Requirement,
    pub relying_party: RelyingParty,
    pub ceremonies: Ceremonies,
    /// Dangerous calls that a passkey was put under.
    pub confirmations: Confirmations,
    pub seal: Seal,
    /// Opens what was sealed under its name.
    pub unseal: Unseal,
    /// Generators of one-time codes that are being set up.
    pub generators: SettingsUp,
    /// Claims on forge accounts that are to be proved.
    pub claims: Claims,
    /// The program's own file, for runners.
    pub program: Program,
    /// Where callbacks may go.
    pub callbacks: CallbackRules,
    /// Long polls.
    pub waits: Waits,
    /// Keys by their secret's digest, as they were looked up.
    pub recent_keys: Recent<Digest, Arc<ApiKey>>,
    /// Requests as they were answered.
    pub recent_requests: Recent<(RequestId, bool), Shown>,
    /// What each API key may use.
    pub limits: Limits,
    pub public_url: String,
    pub evaluation: bool,
    /// What pages can speak.
    pub languages: Languages,
    /// What is counted.
    pub metrics: Metrics,
    /// The last days in numbers.
    pub statistics: Statistics,
    /// Every setting with its value and where it comes from; secrets are not in it.
    pub settings: RwLock<Vec<SettingLine>>,
    /// How connections come in.
    pub front: Arc<Front>,
    /// Hosts that may be called over plain http.
    pub allow_http: Vec<String>,
    pub passkey_hold_seconds: u64,
    /// When each session was last used, since the start.
    pub session_uses: SessionUses,
    pub set_up_token: Mutex<Option<SetUpToken>>,
    /// Since when, and how many ceremonies of nobody known were journalled in that minute.
    pub strangers: Mutex<(Time, u32)>,
    /// Audit bundles being made, or ready to be fetched.
    pub exports: crate::web::exports::Exports,
    /// Reports of periods.
    pub reports: Reports,
    /// GitHub Apps that are being made.
    pub apps_begun: crate::web::api::github_apps::AppsBegun,
    /// Where the set-up link stands on disk.
    pub set_up_file: PathBuf,
}

impl App {
    /// A consistent view of everything committed.
    pub fn snapshot(&self) -> Result<Snapshot, Problem> {
        Ok(self.store.read()?)
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Plain http on localhost: for trying out.
    pub fn evaluation(&self) -> bool {
        self.evaluation
    }

    /// Everything about the appliance itself that needs somebody now: what its watchers recorded, and what keeps the engine
    /// from its work at this moment.
    pub fn conditions(&self) -> Result<Vec<Condition>, store::Error> {
        let state = self.store.read()?;
        state.size()?;
        let mut all: Vec<Condition> = state.all()?;
        for it in self.engine.health().standing() {
            if let Some(known) = all.iter_mut().find(|known| known.name == it.condition.name()) {
                // What is recorded stays the same while it lasts; this is what is so now.
                known.detail = it.detail;
                continue;
            }
            all.push(Condition {
                name: it.condition.name().to_owned(),
                severity: match it.condition.blocks_decisions() {
                    true => Severity::Degraded,
                    false => Severity::Warning,
                },
                detail: it.detail,
                since: it.since,
            });
        }
        Ok(all)
    }

    /// The database's file.
    pub fn database_file(&self) -> PathBuf {
        self.set_up_file.with_file_name("journal.redb")
    }

    /// Whether the certificate is one of our own making.
    pub fn self_signed(&self) -> bool {
        self.front.tls.as_ref().is_some_and(|it| it.current().self_signed)
    }

    /// The address people and forges know this appliance by, without a trailing slash.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Whether somebody is enrolled.
    pub fn set_up(&self) -> Result<bool, Problem> {
        Ok(self
            .snapshot()?
            .all::<Person>()?
            .iter()
            .any(|it| !it.passkeys.is_empty()))
    }

    /// The public half of the credential key that signs now.
    pub fn credential_key(&self) -> Result<PublicKey, Problem> {
        Ok(keys::credential_key(&self.snapshot()?)?)
    }

    /// Version of the program.
    pub fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// All groups.
    pub fn groups(&self) -> Result<Vec<Group>, Problem> {
        Ok(self.snapshot()?.all::<Group>()?)
    }

    /// Gives a command and waits until it is durable.
    pub async fn submit(&self, actor: Actor, command: Command) -> Result<Reply, Problem> {
        Ok(self.engine.submit(actor, with_ceremony(command)).await?)
    }

    /// As `submit`, with sealed secrets in the same transaction.
    pub async fn submit_with_secrets(
        &self,
        actor: Actor,
        command: Command,
        secrets: Vec<(String, Vec<u8>)>,
    ) -> Result<Reply, Problem> {
        let submission = Submission {
            actor,
            command: with_ceremony(command),
            secrets,
            cursor: None,
        };
        Ok(self.engine.submit_with(submission).await?)
    }

    /// Whether `digest` is the set-up link's, and it still counts.
    pub fn is_set_up_token(&self, digest: &Digest) -> bool {
        let token = self
            .set_up_token
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        token
            .as_ref()
            .is_some_and(|it| bool::from(it.sha256.0.ct_eq(&digest.0)) && self.now() < it.expires_at)
    }

    /// Whether one more refused ceremony of nobody known goes into the journal. Anybody can cause them, and the journal
    /// keeps what it holds: past a few a minute they are only counted in the log.
    pub fn may_journal_a_stranger(&self) -> bool {
        let now = self.now();
        let mut seen = self
            .strangers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.0.seconds_until(now) >= 60 {
            if seen.1 > STRANGERS_A_MINUTE_MAX {
                tracing::warn!(
                    count = seen.1,
                    "sign-ins with unknown passkeys were refused within a minute"
                );
            }
            *seen = (now, 0);
        }
        seen.1 = seen.1.saturating_add(1);
        seen.1 <= STRANGERS_A_MINUTE_MAX
    }

    /// The set-up link has been used.
    pub fn spend_set_up_token(&self) {
        *self
            .set_up_token
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        if let Err(error) = std::fs::remove_file(&self.set_up_file) {
            tracing::warn!(%error, "the spent set-up link could not be removed");
        }
    }
}
