//! Which commands are dangerous acts (`domain::danger`), what each needs, and the entry that tells of its ceremony.

use crate::domain::command::{Command, Confirmed, Govern};
use crate::domain::danger::{Act, Second};
use crate::domain::decide::governance::{policies, ready_admins};
use crate::domain::decide::{Step, Stop};
use crate::domain::event::{Actor, Event};
use crate::domain::governance::Governed;
use crate::domain::ids::{Digest, PersonId, ProposalId};
use crate::domain::people::{Group, Person, Role, Scope};
use crate::domain::policy::weaker::{approvers_hold, methods_hold, weaker};
use crate::domain::policy::{Approver, BindBase, Document, Method, Unattributed};
use crate::domain::project::{Enforcement, PolicyRecord, Project, ProjectSettings};
use crate::domain::provision::settings_for;
use crate::domain::refusal::Refusal;
use crate::domain::sink::Sink;
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// The dangerous act that a command is, if it is one.
///
/// # Errors
/// When the recorded state can't be read.
pub(super) fn act_of(command: &Command, actor: &Actor, state: &impl Read) -> Result<Option<Act>, Fault> {
    // Whoever is on the host could change every file; the appliance's own steps follow from what people have done.
    let (Actor::Person { .. } | Actor::Key { .. }) = actor else {
        return Ok(None);
    };
    let key = matches!(actor, Actor::Key { .. });
    Ok(match command {
        // A key that brings people in or takes them out is what a directory is joined by; admins it does not make.
        Command::AddPerson { roles, .. } => {
            (!key || roles.contains(&Role::Admin)).then_some(Act::InvitePerson)
        }
        Command::InviteAgain { person, .. } => {
            let record: Option<Person> = state.get(person.as_str())?;
            let admin = record.is_some_and(|it| it.roles.contains(&Role::Admin));
            (!key || admin).then_some(Act::InvitePerson)
        }
        Command::ChangePerson {
            person,
            roles,
            active,
            ..
        } => {
            let Some(before) = state.get::<Person>(person.as_str())? else {
                return Ok(None);
            };
            let after = changed(&before, roles.as_ref(), *active);
            let gains = after.active && Role::ALL.iter().any(|it| after.has(*it) && !before.has(*it));
            let counts = match key {
                true => gains || before.has(Role::Admin),
                false => true,
            };
            let other = after.roles != before.roles || after.active != before.active;
            (other && counts).then_some(Act::ChangeRoles)
        }
        Command::CreateApiKey { scopes, .. } => scopes.contains(&Scope::Admin).then_some(Act::MakeAdminKey),
        Command::RemoveIntegration { integration } => {
            let projects = state.all::<Project>()?;
            let gated = projects
                .iter()
                .any(|it| !it.removed && it.integration == *integration);
            gated.then_some(Act::RemoveIntegration)
        }
        Command::StartRestoring { .. } => Some(Act::PutGateBack),
        Command::StartProvisioning {
            project, enforcement, ..
        } => {
            let record: Option<Project> = state.get(project.as_str())?;
            let less =
                record.is_some_and(|it| less_than(&settings_for(&it.settings, *enforcement), &it.settings));
            less.then_some(Act::WeakenProject)
        }
        // Whose account it is decides who counts as a change's author, and so who may not approve it.
        Command::LinkAccount { proof: None, .. } => Some(Act::LinkAccount),
        Command::RemoveSink { .. } => Some(Act::RemoveSink),
        Command::ChangeSink { sink, wanted } => {
            let record: Option<Sink> = state.get(sink.as_str())?;
            let elsewhere = record.is_some_and(|it| it.destination != wanted.destination);
            elsewhere.then_some(Act::RemoveSink)
        }
        Command::BeginAct { act } => Some(*act),
        Command::Govern(it) => govern_act(it, state)?,
        _ => None,
    })
}

fn govern_act(it: &Govern, state: &impl Read) -> Result<Option<Act>, Fault> {
    Ok(match &it.change {
        Governed::Policy { name, .. } => {
            let parsed = it.document.as_deref().and_then(|it| Document::parse(it).ok());
            // What is not valid is refused for that.
            let Some(after) = parsed else { return Ok(None) };
            let before = match state.get::<PolicyRecord>(name.trim())? {
                Some(record) => {
                    let bytes = state.blob(&record.document)?;
                    let parsed = bytes.and_then(|it| Document::parse(&it).ok());
                    Some(parsed.ok_or_else(|| Fault(format!("the document of policy {name} is damaged")))?)
                }
                None => None,
            };
            weaker(before.as_ref(), &after).then_some(Act::WeakenPolicy)
        }
        Governed::Project { project, settings } => {
            let record: Option<Project> = state.get(project.as_str())?;
            let less = record.is_some_and(|it| less_than(settings, &it.settings));
            less.then_some(Act::WeakenProject)
        }
        Governed::ProjectRemoval { .. } => Some(Act::RemoveProject),
        Governed::Group {
            group, name, members, ..
        } => {
            let before: Option<Group> = state.get(group.as_str())?;
            let others = before
                .as_ref()
                .map_or(!members.is_empty(), |it| it.members != *members);
            let named = is_named(name.trim(), state)?
                || match &before {
                    Some(it) => is_named(&it.name, state)?,
                    None => false,
                };
            (named && others).then_some(Act::ChangeGroup)
        }
        // A group that something names can't be removed.
        Governed::GroupRemoval { .. } => None,
        Governed::Recovery { .. } => Some(Act::RecoverPerson),
        Governed::Delegation { .. } => Some(Act::LetStandIn),
        Governed::Erasure { .. } => Some(Act::EraseDocuments),
        Governed::Roles { new, .. } => Some(match new {
            Some(_) => Act::InvitePerson,
            None => Act::ChangeRoles,
        }),
    })
}

/// Whether a policy or a project names a group.
fn is_named(group: &str, state: &impl Read) -> Result<bool, Fault> {
    let named = |it: &Approver| matches!(it, Approver::Group(name) if name == group);
    if policies(state)?
        .iter()
        .any(|(_, document)| document.approvers().any(|(_, _, it)| named(it)))
    {
        return Ok(true);
    }
    let projects = state.all::<Project>()?;
    Ok(projects
        .iter()
        .any(|it| !it.removed && it.settings.approvers.iter().any(named)))
}

/// Whether settings of a project could let more through than those before; what can't be compared counts as less.
fn less_than(new: &ProjectSettings, old: &ProjectSettings) -> bool {
    const DEFAULT: [Method; 2] = [Method::Passkey, Method::Biometric];
    let keeps = |new: &[String], old: &[String]| old.iter().all(|it| new.contains(it));
    let methods = |it: &ProjectSettings| it.methods.clone().unwrap_or_else(|| DEFAULT.to_vec());
    let bound = |it: BindBase| match it {
        BindBase::None => 0,
        BindBase::MergeBase => 1,
        BindBase::TargetSha => 2,
    };
    let strength = |it: Enforcement| Enforcement::ALL.iter().position(|known| *known == it);
    !(new.quorum >= old.quorum
        && keeps(&new.branch_patterns, &old.branch_patterns)
        && keeps(&new.environments, &old.environments)
        && keeps(&new.control_files, &old.control_files)
        && approvers_hold(&new.approvers, &old.approvers)
        && methods_hold(&methods(new), &methods(old))
        && new.policy == old.policy
        && strength(new.enforcement) <= strength(old.enforcement)
        && bound(new.bind_base) >= bound(old.bind_base)
        && (new.unattributed == old.unattributed || new.unattributed == Unattributed::Block))
}

/// How many admins an act needs, the acting one among them.
///
/// # Errors
/// When the recorded state can't be read.
pub(super) fn admins_needed(
    act: Act,
    command: &Command,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Result<u32, Fault> {
    let needs = match act.second() {
        Second::Never => false,
        Second::Always => return Ok(2),
        Second::WhereTwo => true,
        Second::WhereTwoAndOwn => about_admins_or_own(command, actor, state)?,
    };
    // Who is alone goes on alone: else nobody could set a server up, and the only admin left could never bring in another.
    Ok(match needs && ready_admins(now, state)?.len() >= 2 {
        true => 2,
        false => 1,
    })
}

/// A person as a change makes them.
fn changed(before: &Person, roles: Option<&BTreeSet<Role>>, active: Option<bool>) -> Person {
    let mut after = before.clone();
    if let Some(roles) = roles {
        after.roles.clone_from(roles);
    }
    after.active = active.unwrap_or(after.active);
    after
}

/// Whether a change of people is about the role admin, or gives the acting admin a place of their own.
fn about_admins_or_own(command: &Command, actor: &Actor, state: &impl Read) -> Result<bool, Fault> {
    let own = |person: &PersonId| matches!(actor, Actor::Person { id, .. } if id == person);
    Ok(match command {
        Command::AddPerson { roles, .. } => roles.contains(&Role::Admin),
        Command::ChangePerson {
            person,
            roles,
            active,
            ..
        } => {
            let Some(before) = state.get::<Person>(person.as_str())? else {
                return Ok(false);
            };
            let after = changed(&before, roles.as_ref(), *active);
            let gains = |role| after.has(role) && !before.has(role);
            // Taking the role from others would leave one alone, who then needs nobody.
            let loses = before.has(Role::Admin) && !after.has(Role::Admin) && !own(person);
            gains(Role::Admin) || loses || (gains(Role::Approver) && own(person))
        }
        Command::Govern(it) => match &it.change {
            Governed::Group { group, members, .. } => {
                let before: Option<Group> = state.get(group.as_str())?;
                let was = |it: &PersonId| before.as_ref().is_some_and(|group| group.members.contains(it));
                members.iter().any(|it| own(it) && !was(it))
            }
            _ => false,
        },
        _ => false,
    })
}

/// Lets a dangerous act go on: the entry that tells of its ceremony. A key has no passkey, so what it asks for becomes a
/// proposal, where that can be, and else is refused.
///
/// # Errors
/// A refusal says what is missing.
pub(super) fn let_pass(
    act: Act,
    confirmed: Option<Confirmed>,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Result<Vec<Step>, Stop> {
    let Actor::Person { id, .. } = actor else {
        return Ok(Vec::new());
    };
    let Some(it) = confirmed else {
        return Err(Refusal::PasskeyNeeded { act: act.words() }.into());
    };
    let person: Person = state.get(id.as_str())?.ok_or(Refusal::Unknown)?;
    let counts = it.person == *id
        && person
            .live_passkeys()
            .any(|passkey| passkey.credential_id == it.proof.credential_id && passkey.decides_from <= now);
    if !counts {
        let why = "This passkey may not confirm this.".to_owned();
        return Err(Refusal::NotEligible { why }.into());
    }
    let evidence_sha256 = Digest::of(&it.evidence);
    Ok(vec![
        Step::Blob(it.evidence),
        Step::event(Event::CeremonyConfirmed {
            person: person.id,
            name: person.name,
            act: act.name().to_owned(),
            credential_id: it.proof.credential_id,
            sign_count: it.proof.sign_count,
            evidence_sha256,
        }),
    ])
}

/// A change of people that waits for a second admin: the proposal's change. Any other command stays as it is.
///
/// # Errors
/// When the recorded state can't be read.
pub(super) fn as_proposal(
    command: Command,
    reason: &str,
    evidence: &Digest,
    state: &impl Read,
) -> Result<Command, Fault> {
    let change = match command {
        Command::AddPerson {
            person,
            name,
            email,
            roles,
            ..
        } => Governed::Roles {
            person,
            new: Some((name, email)),
            roles,
            active: true,
        },
        Command::ChangePerson {
            ref person,
            ref roles,
            active,
            ..
        } => {
            let Some(before) = state.get::<Person>(person.as_str())? else {
                return Ok(command);
            };
            let after = changed(&before, roles.as_ref(), active);
            Governed::Roles {
                person: after.id,
                new: None,
                roles: after.roles,
                active: after.active,
            }
        }
        command => return Ok(command),
    };
    let mut id = [0; 16];
    id.copy_from_slice(&evidence.0[..16]);
    Ok(Command::Govern(Box::new(Govern {
        change,
        document: None,
        expected: None,
        reason: reason.to_owned(),
        // What was signed holds a random nonce, so its digest was never there before.
        fresh: ProposalId::from_random(id),
    })))
}

/// Why a key can't do this at all.
pub(super) fn no_key(act: Act) -> Refusal {
    let why = format!(
        "To {} takes a person's passkey at that moment, which an API key has not. An administrator does it on the pages.",
        act.words()
    );
    Refusal::NotAllowed { why }
}
