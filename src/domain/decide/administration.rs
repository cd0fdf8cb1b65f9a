//! Keys for machine callers, integrations, and adding projects; what settings may say.

use crate::domain::decide::governance::removal_quorum;
use crate::domain::decide::people::checked_name;
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::Event;
use crate::domain::facts::Account;
use crate::domain::ids::{ApiKeyId, Digest, IntegrationId, PersonId, ProjectId};
use crate::domain::people::{ApiKey, Group, Person, Scope};
use crate::domain::policy::{Approver, ControlFiles, NamePattern};
use crate::domain::project::{ForgeKind, Integration, PolicyRecord, Project, ProjectSettings};
use crate::domain::refusal::Refusal;
use crate::domain::retention::RETENTION_DAYS_MAX;
use crate::domain::state::Read;
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// Most branch patterns of one project: far above any real need, low enough to stay cheap for every webhook.
pub const BRANCH_PATTERNS_MAX: usize = 100;
/// Most environments or patterns of one project.
pub const ENVIRONMENTS_MAX: usize = 50;
/// Most globs of control files that a project adds.
pub const CONTROL_FILES_MAX: usize = 100;
/// Largest quorum: more people than any approval list that was seen.
pub const QUORUM_MAX: u32 = 100;

#[expect(
    clippy::too_many_arguments,
    reason = "the members of one command, each with its own type"
)]
pub(super) fn create_api_key(
    key: ApiKeyId,
    name: String,
    secret_sha256: Digest,
    scopes: BTreeSet<Scope>,
    projects: BTreeSet<String>,
    owner: Option<PersonId>,
    lifetime_seconds: u64,
    now: Time,
    state: &impl Read,
) -> Decided {
    let name = checked_name(&name)?;
    if scopes.is_empty() {
        return Err(Refusal::invalid("scopes", "Give at least one of request, audit, admin.").into());
    }
    if let Some(owner) = &owner
        && state.get::<Person>(owner.as_str())?.is_none()
    {
        return Err(Refusal::invalid("owner", "There is no such person.").into());
    }
    Ok(Plan::done(vec![Step::event(Event::ApiKeyCreated {
        key,
        name,
        secret_sha256,
        scopes,
        projects,
        owner,
        expires_at: now.plus_seconds(lifetime_seconds),
    })]))
}

pub(super) fn revoke_api_key(key: ApiKeyId, state: &impl Read) -> Decided {
    let found = state
        .all::<ApiKey>()?
        .into_iter()
        .find(|it| it.id == key && !it.revoked);
    let found = found.ok_or(Refusal::Unknown)?;
    Ok(Plan::done(vec![Step::event(Event::ApiKeyRevoked {
        key,
        secret_sha256: found.secret_sha256,
    })]))
}

pub(super) fn add_integration(
    integration: IntegrationId,
    kind: ForgeKind,
    name: String,
    base_url: String,
    ca_pem: Option<String>,
    account: Option<Account>,
    state: &impl Read,
) -> Decided {
    let name = checked_name(&name)?;
    let taken = state
        .all::<Integration>()?
        .into_iter()
        .any(|it| !it.removed && it.name == name);
    if taken {
        return Err(Refusal::Duplicate {
            what: format!("An integration named {name} exists."),
        }
        .into());
    }
    Ok(Plan::done(vec![Step::event(Event::IntegrationAdded {
        integration,
        kind,
        name,
        base_url,
        ca_pem,
        account,
    })]))
}

pub(super) fn remove_integration(integration: IntegrationId, needed: u32, state: &impl Read) -> Decided {
    live_integration(&integration, state)?;
    let projects = state.all::<Project>()?.into_iter();
    let mut steps = Vec::new();
    for project in projects.filter(|it| !it.removed && it.integration == integration) {
        if removal_quorum(&project.id, state)?.max(needed) > 1 {
            let why = format!(
                "It takes several admins to take the gate of {} away. Remove that project first.",
                project.path
            );
            return Err(Refusal::NotAllowed { why }.into());
        }
        steps.push(Step::event(Event::ProjectRemoved { project: project.id }));
    }
    steps.push(Step::event(Event::IntegrationRemoved { integration }));
    Ok(Plan::done(steps))
}

pub(super) fn add_project(
    project: ProjectId,
    integration: IntegrationId,
    path: String,
    web_url: String,
    settings: ProjectSettings,
    state: &impl Read,
) -> Decided {
    live_integration(&integration, state)?;
    checked_settings(&settings, state)?;
    let taken = state.all::<Project>()?.into_iter().any(|it| {
        !it.removed
            && it.integration == integration
            && it.settings.forge_project_id == settings.forge_project_id
    });
    if taken {
        return Err(Refusal::Duplicate {
            what: "That project is gated already.".into(),
        }
        .into());
    }
    Ok(Plan::done(vec![Step::event(Event::ProjectAdded {
        project,
        integration,
        path,
        web_url,
        settings,
    })]))
}

/// Groups and people a policy or project names must exist: a name nobody bears is a quorum nobody fills.
pub(super) fn known_approvers<'a>(
    approvers: impl Iterator<Item = &'a Approver>,
    field: &str,
    state: &impl Read,
) -> Result<(), Stop> {
    let (groups, people) = (state.all::<Group>()?, state.all::<Person>()?);
    for approver in approvers {
        let known = match approver {
            Approver::Group(name) => groups.iter().any(|it| it.name == *name),
            Approver::Person(who) => people
                .iter()
                .any(|it| it.id.as_str() == who || it.email.eq_ignore_ascii_case(who)),
        };
        if !known {
            return Err(Refusal::invalid(field, format!("There is nobody called {approver}.")).into());
        }
    }
    Ok(())
}

pub(super) fn checked_settings(settings: &ProjectSettings, state: &impl Read) -> Result<(), Stop> {
    let patterns = &settings.branch_patterns;
    if patterns.is_empty() || patterns.len() > BRANCH_PATTERNS_MAX {
        let reason = format!("Give 1 to {BRANCH_PATTERNS_MAX} branch names or patterns, such as \"main\".");
        return Err(Refusal::invalid("branch_patterns", reason).into());
    }
    for pattern in patterns {
        NamePattern::new(pattern)
            .map_err(|e| Refusal::invalid("branch_patterns", format!("{pattern:?}: {e}")))?;
    }
    if settings.environments.len() > ENVIRONMENTS_MAX {
        let reason = format!("At most {ENVIRONMENTS_MAX} names or patterns, such as \"production\".");
        return Err(Refusal::invalid("environments", reason).into());
    }
    for pattern in &settings.environments {
        NamePattern::new(pattern)
            .map_err(|e| Refusal::invalid("environments", format!("{pattern:?}: {e}")))?;
    }
    if settings.retention_days > RETENTION_DAYS_MAX {
        let reason = format!("From 0 to {RETENTION_DAYS_MAX} days.");
        return Err(Refusal::invalid("retention_days", reason).into());
    }
    if settings.quorum == 0 || settings.quorum > QUORUM_MAX {
        let reason = format!("From 1 to {QUORUM_MAX} people.");
        return Err(Refusal::invalid("required_approval_count", reason).into());
    }
    if settings.methods.as_ref().is_some_and(Vec::is_empty) {
        return Err(Refusal::invalid("methods", "Give at least one of passkey, biometric, totp.").into());
    }
    if settings.control_files.len() > CONTROL_FILES_MAX {
        let reason = format!("At most {CONTROL_FILES_MAX} globs.");
        return Err(Refusal::invalid("control_files", reason).into());
    }
    ControlFiles::new(settings.control_files.iter().map(String::as_str))
        .map_err(|(glob, bad)| Refusal::invalid("control_files", format!("{glob:?}: it {bad}")))?;
    if let Some(policy) = &settings.policy
        && state.get::<PolicyRecord>(policy)?.is_none()
    {
        return Err(Refusal::invalid("policy", format!("There is no policy named {policy}.")).into());
    }
    known_approvers(settings.approvers.iter(), "approvers", state)
}

fn live_integration(id: &IntegrationId, state: &impl Read) -> Result<Integration, Stop> {
    match state.get::<Integration>(id.as_str())? {
        Some(it) if !it.removed => Ok(it),
        _ => Err(Refusal::Unknown.into()),
    }
}

/// A project that is still gated.
pub(super) fn live_project(id: &ProjectId, state: &impl Read) -> Result<Project, Stop> {
    match state.get::<Project>(id.as_str())? {
        Some(it) if !it.removed => Ok(it),
        _ => Err(Refusal::Unknown.into()),
    }
}
