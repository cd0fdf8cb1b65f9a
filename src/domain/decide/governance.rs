//! Changes to the rules themselves: policies, settings of projects, groups, who stands in for whom. Where the policy in
//! force asks for several admins (`change_quorum`), a change becomes a proposal that further admins confirm with their
//! passkeys; nothing of it holds before.

use crate::domain::command::{ConfirmProposal, Govern, Reply};
use crate::domain::decide::administration::{checked_settings, known_approvers, live_project};
use crate::domain::decide::codes::revoked;
use crate::domain::decide::people::{checked_name, roles_set};
use crate::domain::decide::requests::DEFAULT_POLICY;
use crate::domain::decide::{Decided, Plan, Step, Stop, erasures};
use crate::domain::event::{Actor, Event};
use crate::domain::governance::{Delegation, Governed, Proposal, ProposalState};
use crate::domain::ids::{DelegationId, Digest, PersonId, ProjectId, ProposalId};
use crate::domain::people::{Group, Person, Role, Session};
use crate::domain::policy::{Approver, Document};
use crate::domain::project::{PolicyRecord, Project};
use crate::domain::refusal::Refusal;
use crate::domain::state::{Fault, Read, encode};
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// Longest time one person may stand in for another, in seconds: 92 days. Longer is a change of groups.
pub const DELEGATION_SECONDS_MAX: u64 = 92 * 86_400;
/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 500;

/// Who is behind a change that is being carried out.
struct Behind {
    /// Id of what is carried out, where it needs one: the proposal's, also where none was needed.
    id: ProposalId,
    by: Vec<String>,
    proposal: Option<ProposalId>,
}

pub(super) fn govern(
    it: Govern,
    needed: u32,
    by_key: bool,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Decided {
    if it.reason.chars().count() > REASON_CHARS_MAX {
        return Err(Refusal::invalid("reason", format!("At most {REASON_CHARS_MAX} characters.")).into());
    }
    let base = base(&it.change, state)?;
    if it.expected.is_some() && it.expected != base {
        let what =
            "Somebody else changed this meanwhile. Look at what holds now, and change that.".to_owned();
        return Err(Refusal::Outdated { what }.into());
    }
    let (proposer, name) = match actor {
        Actor::Person { id, name } => (Some(id.clone()), name.clone()),
        Actor::Key { name, .. } => (None, format!("the key {name}")),
        Actor::Host => (None, "the appliance's host".to_owned()),
        Actor::System | Actor::Forge { .. } => (None, "the appliance".to_owned()),
    };
    if let Governed::Delegation { from, to, .. } = &it.change {
        let own = proposer.as_ref() == Some(from);
        let to_self = proposer.as_ref() == Some(to);
        if proposer.is_none() || (to_self && !own) {
            let why = "Somebody stands in for another because that person, or a third one, says so.";
            return Err(Refusal::NotAllowed { why: why.into() }.into());
        }
    }
    let behind = Behind {
        id: it.fresh.clone(),
        by: vec![name.clone()],
        proposal: None,
    };
    let steps = carried(&it.change, it.document.as_deref(), &it.reason, behind, now, state)?;
    if steps.is_empty() {
        return Ok(Plan::nothing());
    }
    let quorum = match (&it.change, &proposer) {
        // About one's own place one decides alone.
        (Governed::Delegation { from, .. }, Some(person)) if from == person => 1,
        // Whoever is on the host could read every file anyway; without this the last admin could never come back.
        (Governed::Recovery { .. }, None) if matches!(actor, Actor::Host) => 1,
        _ => change_quorum(&it.change, state)?.max(needed),
    };
    // A key has no passkey to confirm a dangerous act with: an admin's has to, and the key counts as nobody.
    if quorum <= 1 && !by_key {
        return Ok(Plan::done(steps));
    }
    let mut may_confirm = ready_admins(now, state)?;
    may_confirm.retain(|it| Some(it) != proposer.as_ref());
    let mut steps: Vec<Step> = it.document.into_iter().map(Step::Blob).collect();
    steps.push(Step::event(Event::ProposalMade {
        may_confirm,
        proposal: it.fresh.clone(),
        change: it.change,
        base,
        reason: it.reason,
        quorum,
        person: proposer,
        name,
    }));
    Ok(Plan {
        steps,
        reply: Ok(Reply::Proposed { id: it.fresh }),
    })
}

/// The admins whose passkeys may decide by now.
///
/// # Errors
/// When the recorded state can't be read.
pub(super) fn ready_admins(now: Time, state: &impl Read) -> Result<Vec<PersonId>, Fault> {
    let mut ready = state.all::<Person>()?;
    ready.retain(|it| it.has(Role::Admin) && it.live_passkeys().any(|it| it.decides_from <= now));
    Ok(ready.into_iter().map(|it| it.id).collect())
}

/// Whether a person may confirm a proposal now; whoever asks before the ceremony is told the same as after it.
///
/// # Errors
/// A refusal says why not.
pub fn may_confirm(proposal: &Proposal, person: &Person, now: Time, state: &impl Read) -> Result<(), Stop> {
    let no = |why: &str| Err(Refusal::NotEligible { why: why.into() }.into());
    if proposal.state != ProposalState::Open {
        return Err(Refusal::Outdated {
            what: "This proposal has been carried out or withdrawn.".into(),
        }
        .into());
    }
    if !person.has(Role::Admin) {
        return no("Only people with the role admin confirm changes to the rules.");
    }
    if proposal.proposer.as_ref() == Some(&person.id) {
        return no("You proposed this change, so another admin has to confirm it.");
    }
    // One admin could make the others, and then be two.
    if !proposal.may_confirm.contains(&person.id) {
        return no(
            "You were not yet an administrator with a passkey that may decide when this was proposed, so you can't confirm \
             it. Whoever is one by now can confirm what is proposed from now on.",
        );
    }
    if proposal.confirmations.iter().any(|it| it.person == person.id) {
        return no("You have confirmed this change already.");
    }
    if !person.live_passkeys().any(|it| it.decides_from <= now) {
        return no("You have no passkey that may decide yet.");
    }
    if base(&proposal.change, state)? != proposal.base {
        let what =
            "What this proposal would replace has been changed meanwhile. Withdraw it and propose anew.";
        return Err(Refusal::Outdated { what: what.into() }.into());
    }
    Ok(())
}

pub(super) fn confirm(it: ConfirmProposal, now: Time, state: &impl Read) -> Decided {
    let mut proposal: Proposal = state.get(it.proposal.as_str())?.ok_or(Refusal::Unknown)?;
    let person: Person = state.get(it.person.as_str())?.ok_or(Refusal::Unknown)?;
    may_confirm(&proposal, &person, now, state)?;
    let counts = person
        .live_passkeys()
        .any(|passkey| passkey.credential_id == it.proof.credential_id && passkey.decides_from <= now);
    if !counts {
        let why = "This passkey may not decide.".to_owned();
        return Err(Refusal::NotEligible { why }.into());
    }
    let evidence_sha256 = Digest::of(&it.evidence);
    let mut steps = vec![
        Step::Blob(it.evidence),
        Step::event(Event::ProposalConfirmed {
            proposal: proposal.id.clone(),
            person: person.id.clone(),
            name: person.name.clone(),
            credential_id: it.proof.credential_id,
            sign_count: it.proof.sign_count,
            evidence_sha256,
        }),
    ];
    proposal
        .confirmations
        .push(crate::domain::governance::Confirmation {
            person: person.id,
            name: person.name,
            evidence: evidence_sha256,
            at: now,
        });
    // Whoever lost the role since has not stood by it to the end.
    let mut standing = 0;
    let behind = proposal.confirmations.iter().map(|it| &it.person);
    for person in proposal.proposer.iter().chain(behind) {
        let record: Option<Person> = state.get(person.as_str())?;
        standing += u32::from(record.is_some_and(|it| it.has(Role::Admin)));
    }
    if standing >= proposal.quorum {
        let document = match &proposal.change {
            Governed::Policy { document, .. } => Some(
                state
                    .blob(document)?
                    .ok_or_else(|| Fault(format!("the document of proposal {} is missing", proposal.id)))?,
            ),
            _ => None,
        };
        let behind = Behind {
            id: proposal.id.clone(),
            by: proposal.names(),
            proposal: Some(proposal.id.clone()),
        };
        let change = carried(
            &proposal.change,
            document.as_deref(),
            &proposal.reason,
            behind,
            now,
            state,
        )?;
        steps.extend(change);
        steps.push(Step::event(Event::ProposalClosed {
            proposal: proposal.id,
            state: ProposalState::CarriedOut,
            reason: String::new(),
        }));
    }
    Ok(Plan::done(steps))
}

pub(super) fn withdraw(proposal: ProposalId, reason: String, state: &impl Read) -> Decided {
    let record: Proposal = state.get(proposal.as_str())?.ok_or(Refusal::Unknown)?;
    if record.state != ProposalState::Open {
        let what = "This proposal has been carried out or withdrawn.".to_owned();
        return Err(Refusal::Outdated { what }.into());
    }
    Ok(Plan::done(vec![Step::event(Event::ProposalClosed {
        proposal,
        state: ProposalState::Withdrawn,
        reason,
    })]))
}

pub(super) fn end_delegation(
    delegation: DelegationId,
    actor: &Actor,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record: Delegation = state.get(delegation.as_str())?.ok_or(Refusal::Unknown)?;
    // Taking a place back never gives anybody more than they had, so an admin may do it alone.
    let allowed = match actor {
        Actor::Person { id, .. } if *id == record.from || *id == record.to => true,
        Actor::Person { id, .. } => state
            .get::<Person>(id.as_str())?
            .is_some_and(|it| it.has(Role::Admin)),
        _ => false,
    };
    if !allowed {
        return Err(Refusal::Unknown.into());
    }
    if now >= record.until() {
        return Ok(Plan::nothing());
    }
    Ok(Plan::done(vec![Step::event(Event::DelegationEnded {
        delegation,
    })]))
}

/// The steps that make a change true, checked against what is recorded now. Empty: it changes nothing.
fn carried(
    change: &Governed,
    document: Option<&[u8]>,
    reason: &str,
    behind: Behind,
    now: Time,
    state: &impl Read,
) -> Result<Vec<Step>, Stop> {
    match change {
        Governed::Policy { name, .. } => activate_policy(name, document, reason, behind, state),
        Governed::Project { project, settings } => {
            let record = live_project(project, state)?;
            if record.settings.forge_project_id != settings.forge_project_id {
                let reason = "A project keeps its number on the forge; add another project instead.";
                return Err(Refusal::invalid("project_id", reason).into());
            }
            checked_settings(settings, state)?;
            if record.settings == *settings {
                return Ok(Vec::new());
            }
            Ok(vec![Step::event(Event::ProjectChanged {
                project: project.clone(),
                settings: settings.clone(),
            })])
        }
        Governed::ProjectRemoval { project } => {
            live_project(project, state)?;
            let project = project.clone();
            Ok(vec![Step::event(Event::ProjectRemoved { project })])
        }
        Governed::Group {
            group,
            new,
            name,
            members,
        } => {
            let name = checked_name(name)?;
            let groups = state.all::<Group>()?;
            if groups.iter().any(|it| it.id == *group) == *new {
                return Err(Refusal::Unknown.into());
            }
            if groups.iter().any(|it| it.name == name && it.id != *group) {
                let what = format!("A group named {name} exists.");
                return Err(Refusal::Duplicate { what }.into());
            }
            for member in members {
                if state.get::<Person>(member.as_str())?.is_none() {
                    return Err(Refusal::invalid("members", format!("There is no person {member}.")).into());
                }
            }
            Ok(vec![Step::event(Event::GroupSet {
                group: group.clone(),
                name,
                members: members.clone(),
            })])
        }
        Governed::GroupRemoval { group } => {
            let record: Group = state.get(group.as_str())?.ok_or(Refusal::Unknown)?;
            if let Some(user) = named_by(&record.name, state)? {
                let why = format!(
                    "{user} names this group. Take it out there first, or nobody could fill the rule."
                );
                return Err(Refusal::NotAllowed { why }.into());
            }
            let group = group.clone();
            Ok(vec![Step::event(Event::GroupRemoved { group })])
        }
        Governed::Roles {
            person,
            new,
            roles,
            active,
        } => roles_set(person, new.as_ref(), roles, *active, state),
        Governed::Recovery { person } => {
            let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
            if !record.active {
                return Err(Refusal::Unknown.into());
            }
            let ended = record.live_passkeys().map(|it| {
                Step::event(Event::PasskeyRevoked {
                    person: person.clone(),
                    credential_id: it.credential_id.clone(),
                    reason: match reason.trim() {
                        "" => "recovery".to_owned(),
                        reason => format!("recovery: {reason}"),
                    },
                })
            });
            let sessions = state
                .all::<Session>()?
                .into_iter()
                .filter(|it| it.person == *person);
            let closed = sessions.map(|it| {
                Step::event(Event::SessionClosed {
                    person: person.clone(),
                    session_sha256: it.token_sha256,
                })
            });
            let codes = record.totp.as_ref().map(|_| revoked(person, "recovery"));
            Ok(ended.chain(codes).chain(closed).collect())
        }
        Governed::Delegation {
            delegation,
            from,
            to,
            starts,
            ends,
        } => {
            checked_delegation(from, to, *starts, *ends, now, state)?;
            Ok(vec![Step::event(Event::DelegationMade {
                delegation: delegation.clone(),
                from: from.clone(),
                to: to.clone(),
                starts: *starts,
                ends: *ends,
                reason: reason.to_owned(),
                by: behind.by.join(", "),
            })])
        }
        Governed::Erasure { scope, before } => {
            erasures::may_order(scope, *before, reason, now, state)?;
            let erasure = behind.id;
            Ok(vec![Step::event(Event::ErasureOrdered {
                erasure,
                scope: scope.clone(),
                before: *before,
                reason: reason.trim().to_owned(),
                by: behind.by,
            })])
        }
    }
}

fn activate_policy(
    name: &str,
    document: Option<&[u8]>,
    reason: &str,
    behind: Behind,
    state: &impl Read,
) -> Result<Vec<Step>, Stop> {
    let name = checked_name(name)?;
    let document = document.ok_or_else(|| Fault("a policy without its document".into()))?;
    let parsed = Document::parse(document).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Refusal::invalid("policy", first)
    })?;
    known_approvers(parsed.approvers().map(|(_, _, it)| it), "policy", state)?;
    let before: Option<PolicyRecord> = state.get(&name)?;
    let sha256 = Digest::of(document);
    if before.as_ref().is_some_and(|it| it.document == sha256) {
        return Ok(Vec::new());
    }
    Ok(vec![
        Step::Blob(document.to_vec()),
        Step::event(Event::PolicyActivated {
            name,
            version: before.as_ref().map_or(1, |it| it.version + 1),
            sha256,
            previous_sha256: before.map(|it| it.document),
            reason: reason.to_owned(),
            by: behind.by,
            proposal: behind.proposal,
        }),
    ])
}

fn checked_delegation(
    from: &PersonId,
    to: &PersonId,
    starts: Time,
    ends: Time,
    now: Time,
    state: &impl Read,
) -> Result<(), Stop> {
    let invalid = |field: &str, reason: &str| Err(Refusal::invalid(field, reason).into());
    for (field, person) in [("from", from), ("to", to)] {
        let record: Option<Person> = state.get(person.as_str())?;
        if !record.is_some_and(|it| it.has(Role::Approver)) {
            return invalid(field, "An active person with the role approver.");
        }
    }
    if from == to {
        return invalid("to", "Somebody else.");
    }
    if ends <= starts || ends <= now {
        return invalid("ends", "Later than the start, and not in the past.");
    }
    if starts.seconds_until(ends) > DELEGATION_SECONDS_MAX {
        return invalid(
            "ends",
            "At most 92 days after the start; for longer, change the groups.",
        );
    }
    let begins = starts.max(now);
    let overlaps = |it: &Delegation| begins < it.until() && it.starts < ends;
    for other in state.all::<Delegation>()? {
        if other.from == *from && overlaps(&other) {
            return invalid(
                "starts",
                "Somebody stands in for this person in that time already; end that first.",
            );
        }
        if other.from == *to && overlaps(&other) {
            return invalid("to", "This person is away themselves in that time.");
        }
    }
    Ok(())
}

/// Digest of what a change replaces; `None` where there is nothing yet.
fn base(change: &Governed, state: &impl Read) -> Result<Option<Digest>, Fault> {
    Ok(match change {
        Governed::Policy { name, .. } => state.get::<PolicyRecord>(name.trim())?.map(|it| it.document),
        Governed::Project { project, .. } | Governed::ProjectRemoval { project } => state
            .get::<Project>(project.as_str())?
            .map(|it| Digest::of(&encode(&it.settings))),
        Governed::Roles { person, .. } => state
            .get::<Person>(person.as_str())?
            .map(|it| Digest::of(&encode(&(&it.roles, it.active)))),
        Governed::Recovery { person } => state.get::<Person>(person.as_str())?.map(|it| {
            let live: Vec<&str> = it.live_passkeys().map(|it| it.credential_id.as_str()).collect();
            Digest::of(&encode(&live))
        }),
        Governed::Group { group, .. } | Governed::GroupRemoval { group } => state
            .get::<Group>(group.as_str())?
            .map(|it| Digest::of(&encode(&it))),
        Governed::Delegation { .. } | Governed::Erasure { .. } => None,
    })
}

/// How many admins a change needs: what the policies say whose meaning it touches.
pub(super) fn change_quorum(change: &Governed, state: &impl Read) -> Result<u32, Fault> {
    let policies = policies(state)?;
    let of = |wanted: &dyn Fn(&str, &Document) -> bool| {
        let touched = policies.iter().filter(|(name, document)| wanted(name, document));
        touched.map(|(_, it)| it.change_quorum()).max().unwrap_or(1)
    };
    let names_one_of = |document: &Document, approvers: &BTreeSet<Approver>| {
        document.approvers().any(|(_, _, it)| approvers.contains(it))
    };
    Ok(match change {
        Governed::Policy { name, .. } => of(&|it, _| it == name.trim()),
        Governed::Project { project, .. } | Governed::ProjectRemoval { project } => {
            let record: Option<Project> = state.get(project.as_str())?;
            let governs = record.and_then(|it| it.settings.policy);
            let governs = governs.as_deref().unwrap_or(DEFAULT_POLICY);
            of(&|it, _| it == governs)
        }
        Governed::Group { group, name, .. } => {
            let before: Option<Group> = state.get(group.as_str())?;
            let names = before
                .map(|it| it.name)
                .into_iter()
                .chain([name.trim().to_owned()]);
            let names = names.map(Approver::Group).collect();
            of(&|_, document| names_one_of(document, &names))
        }
        Governed::GroupRemoval { group } => {
            let before: Option<Group> = state.get(group.as_str())?;
            let names = before.map(|it| Approver::Group(it.name)).into_iter().collect();
            of(&|_, document| names_one_of(document, &names))
        }
        // What the roles need is asked of who there is, not of the policies.
        Governed::Roles { .. } => 1,
        // One admin can neither enrol nor reset another person's credential (21 CFR 11.200(a)(3)).
        Governed::Recovery { .. } => 2,
        // Nor takes one admin evidence away (NIST 800-53 AU-9(5)).
        Governed::Erasure { scope, .. } => {
            let project = erasures::project_of(scope, state)?;
            let governs = project.map(|it| it.settings.policy.unwrap_or_else(|| DEFAULT_POLICY.to_owned()));
            of(&|name, _| governs.as_deref() == Some(name)).max(2)
        }
        Governed::Delegation { from, .. } => {
            let person: Option<Person> = state.get(from.as_str())?;
            let groups = state.all::<Group>()?;
            let groups = groups.into_iter().filter(|it| it.members.contains(from));
            let names: BTreeSet<Approver> = person
                .into_iter()
                .flat_map(|it| [it.id.to_string(), it.email])
                .map(Approver::Person)
                .chain(groups.map(|it| Approver::Group(it.name)))
                .collect();
            of(&|_, document| names_one_of(document, &names))
        }
    })
}

/// Admins that taking a project's gate away needs.
pub(super) fn removal_quorum(project: &ProjectId, state: &impl Read) -> Result<u32, Fault> {
    let project = project.clone();
    change_quorum(&Governed::ProjectRemoval { project }, state)
}

/// All policies in force, read.
pub(super) fn policies(state: &impl Read) -> Result<Vec<(String, Document)>, Fault> {
    let mut all = Vec::new();
    for record in state.all::<PolicyRecord>()? {
        let bytes = state.blob(&record.document)?;
        let document = bytes.and_then(|it| Document::parse(&it).ok());
        let document =
            document.ok_or_else(|| Fault(format!("the document of policy {} is damaged", record.name)))?;
        all.push((record.name, document));
    }
    Ok(all)
}

/// What names a group, as the beginning of a sentence.
fn named_by(group: &str, state: &impl Read) -> Result<Option<String>, Fault> {
    let named = |it: &Approver| matches!(it, Approver::Group(name) if name == group);
    let policy = policies(state)?
        .into_iter()
        .find(|(_, document)| document.approvers().any(|(_, _, it)| named(it)));
    if let Some((name, _)) = policy {
        return Ok(Some(format!("The policy {name}")));
    }
    let project = state
        .all::<Project>()?
        .into_iter()
        .find(|it| !it.removed && it.settings.approvers.iter().any(named));
    Ok(project.map(|it| format!("The project {}", it.path)))
}
