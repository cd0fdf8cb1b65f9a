//! People, their passkeys, sessions and groups.

use crate::domain::command::{NewInvitation, NewPasskey, NewSession, Reply};
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::{Actor, EnrolledPasskey, Event};
use crate::domain::ids::{Digest, IntegrationId, PersonId};
use crate::domain::people::{Invitation, Person, Role, Session};
use crate::domain::project::Integration;
use crate::domain::refusal::Refusal;
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// Longest name of a person, group or key, in characters: fits a line on every page.
pub const NAME_CHARS_MAX: usize = 200;
/// Longest e-mail address, in bytes (RFC 5321 §4.5.3.1.3).
pub const EMAIL_BYTES_MAX: usize = 254;

pub(super) fn claim_set_up(
    person: PersonId,
    name: String,
    email: String,
    passkey: NewPasskey,
    session: NewSession,
    now: Time,
    state: &impl Read,
) -> Decided {
    // Claimed once, for ever: whoever is enrolled closes the door.
    if state.all::<Person>()?.iter().any(|it| !it.passkeys.is_empty()) {
        return Err(Refusal::LinkSpent.into());
    }
    let (name, email) = (checked_name(&name)?, checked_email(&email)?);
    let roles = BTreeSet::from([Role::Admin, Role::Approver]);
    let created = Event::PersonCreated {
        person: person.clone(),
        name: name.clone(),
        email,
        roles,
    };
    let mut steps = vec![Step::event(created)];
    // The first admin's passkey decides at once: there is nobody yet whose hold could protect anything.
    enrolment(
        &mut steps,
        &person,
        &name,
        NewPasskey {
            hold_seconds: 0,
            ..passkey
        },
        None,
        now,
    );
    steps.push(session_opened(
        &person,
        &session,
        &last_credential(&steps),
        0,
        now,
    ));
    Ok(Plan {
        steps,
        reply: Ok(Reply::Person { id: person }),
    })
}

pub(super) fn add(
    person: PersonId,
    name: String,
    email: String,
    roles: BTreeSet<Role>,
    invitation: NewInvitation,
    now: Time,
    state: &impl Read,
) -> Decided {
    let steps = vec![
        created(&person, &name, &email, &roles, state)?,
        invited(&person, invitation, now),
    ];
    Ok(Plan {
        steps,
        reply: Ok(Reply::Person { id: person }),
    })
}

pub(super) fn invite_again(
    person: PersonId,
    invitation: NewInvitation,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
    if record.live_passkeys().next().is_some() {
        let why =
            "This person has a passkey. A further one is added by the person, confirmed with that passkey.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    Ok(Plan::done(vec![invited(&person, invitation, now)]))
}

pub(super) fn change(
    person: PersonId,
    name: Option<String>,
    roles: Option<BTreeSet<Role>>,
    active: Option<bool>,
    state: &impl Read,
) -> Decided {
    let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
    let roles = roles.unwrap_or_else(|| record.roles.clone());
    let active = active.unwrap_or(record.active);
    let name = match name {
        Some(name) => checked_name(&name)?,
        None => record.name.clone(),
    };
    Ok(Plan::done(vec![person_changed(
        &record, name, &roles, active, state,
    )?]))
}

/// What a proposal about somebody's roles does, once it holds.
pub(super) fn roles_set(
    person: &PersonId,
    new: Option<&(String, String)>,
    roles: &BTreeSet<Role>,
    active: bool,
    state: &impl Read,
) -> Result<Vec<Step>, Stop> {
    let record: Option<Person> = state.get(person.as_str())?;
    match (record, new) {
        (Some(record), None) if record.roles == *roles && record.active == active => Ok(Vec::new()),
        (Some(record), None) => {
            let name = record.name.clone();
            Ok(vec![person_changed(&record, name, roles, active, state)?])
        }
        (None, Some((name, email))) => Ok(vec![created(person, name, email, roles, state)?]),
        _ => Err(Refusal::Unknown.into()),
    }
}

fn person_changed(
    record: &Person,
    name: String,
    roles: &BTreeSet<Role>,
    active: bool,
    state: &impl Read,
) -> Result<Step, Stop> {
    if roles.is_empty() {
        return Err(Refusal::invalid("roles", "Give at least one of admin, approver, auditor.").into());
    }
    let stays_admin = active && roles.contains(&Role::Admin);
    if record.has(Role::Admin) && !stays_admin {
        let others = state
            .all::<Person>()?
            .into_iter()
            .filter(|it| it.id != record.id && it.has(Role::Admin) && it.live_passkeys().next().is_some());
        if others.count() == 0 {
            let why = "This is the last admin with a passkey; make another person admin first.";
            return Err(Refusal::NotAllowed { why: why.into() }.into());
        }
    }
    Ok(Step::event(Event::PersonChanged {
        person: record.id.clone(),
        name,
        roles: roles.clone(),
        active,
    }))
}

fn created(
    person: &PersonId,
    name: &str,
    email: &str,
    roles: &BTreeSet<Role>,
    state: &impl Read,
) -> Result<Step, Stop> {
    let (name, email) = (checked_name(name)?, checked_email(email)?);
    if roles.is_empty() {
        return Err(Refusal::invalid("roles", "Give at least one of admin, approver, auditor.").into());
    }
    if state.all::<Person>()?.iter().any(|it| it.email == email) {
        return Err(Refusal::Duplicate {
            what: format!("A person with the e-mail {email} exists."),
        }
        .into());
    }
    Ok(Step::event(Event::PersonCreated {
        person: person.clone(),
        name,
        email,
        roles: roles.clone(),
    }))
}

pub(super) fn enrol(
    token_sha256: Digest,
    passkey: NewPasskey,
    session: NewSession,
    now: Time,
    state: &impl Read,
) -> Decided {
    let invitation: Invitation = state.get(&token_sha256.to_string())?.ok_or(Refusal::LinkSpent)?;
    if invitation.used || now >= invitation.expires_at {
        return Err(Refusal::LinkSpent.into());
    }
    let person: Person = state.get(invitation.person.as_str())?.ok_or(Refusal::LinkSpent)?;
    // A second invitation must not add a passkey behind the person's back.
    if !person.active || person.live_passkeys().next().is_some() {
        return Err(Refusal::LinkSpent.into());
    }
    unowned(&passkey.credential_id, state)?;
    let mut steps = Vec::new();
    enrolment(
        &mut steps,
        &person.id,
        &person.name,
        passkey,
        Some(token_sha256),
        now,
    );
    steps.push(session_opened(
        &person.id,
        &session,
        &last_credential(&steps),
        0,
        now,
    ));
    Ok(Plan {
        steps,
        reply: Ok(Reply::Person { id: person.id }),
    })
}

pub(super) fn add_passkey(person: PersonId, passkey: NewPasskey, now: Time, state: &impl Read) -> Decided {
    let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
    if !record.active {
        return Err(Refusal::Unknown.into());
    }
    unowned(&passkey.credential_id, state)?;
    let confirmed = !passkey.confirmed_by.is_empty()
        && passkey
            .confirmed_by
            .iter()
            .all(|id| record.live_passkeys().any(|it| it.credential_id == *id));
    if !confirmed {
        let why = "A further passkey must be confirmed with one you hold.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    let mut steps = vec![
        Step::Blob(passkey.record.clone()),
        Step::Blob(passkey.attestation.clone()),
    ];
    let enrolled = enrolled(&person, &record.name, passkey, now);
    steps.push(Step::event(Event::PasskeyAdded {
        passkey: Box::new(enrolled),
    }));
    Ok(Plan::done(steps))
}

pub(super) fn revoke_passkey(
    person: PersonId,
    credential_id: String,
    reason: String,
    state: &impl Read,
) -> Decided {
    let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
    if !record.live_passkeys().any(|it| it.credential_id == credential_id) {
        return Err(Refusal::Unknown.into());
    }
    if record.live_passkeys().count() == 1 {
        let why = "This is the last passkey; add another one first.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    Ok(Plan::done(vec![Step::event(Event::PasskeyRevoked {
        person,
        credential_id,
        reason,
    })]))
}

pub(super) fn name_passkey(
    credential_id: String,
    label: String,
    actor: &Actor,
    state: &impl Read,
) -> Decided {
    let Actor::Person { id, .. } = actor else {
        return Err(Refusal::Unknown.into());
    };
    let record: Person = state.get(id.as_str())?.ok_or(Refusal::Unknown)?;
    if !record.live_passkeys().any(|it| it.credential_id == credential_id) {
        return Err(Refusal::Unknown.into());
    }
    let label = checked_name(&label)?;
    Ok(Plan::done(vec![Step::event(Event::PasskeyNamed {
        person: id.clone(),
        credential_id,
        label,
    })]))
}

/// Somebody ends a session of their own; of somebody else's there is nothing to know.
pub(super) fn end_session(token_sha256: Digest, actor: &Actor, state: &impl Read) -> Decided {
    let session: Session = state.get(&token_sha256.to_string())?.ok_or(Refusal::Unknown)?;
    match actor {
        Actor::Person { id, .. } if *id == session.person => {}
        _ => return Err(Refusal::Unknown.into()),
    }
    close_session(token_sha256, state)
}

pub(super) fn open_session(
    person: PersonId,
    session: NewSession,
    credential_id: String,
    sign_count: u32,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
    let live = record.live_passkeys().any(|it| it.credential_id == credential_id);
    if !record.active || !live {
        return Err(Refusal::Unknown.into());
    }
    Ok(Plan::done(vec![session_opened(
        &person,
        &session,
        &credential_id,
        sign_count,
        now,
    )]))
}

pub(super) fn close_session(token_sha256: Digest, state: &impl Read) -> Decided {
    match state.get::<Session>(&token_sha256.to_string())? {
        Some(session) => Ok(Plan::done(vec![Step::event(Event::SessionClosed {
            person: session.person,
            session_sha256: token_sha256,
        })])),
        None => Ok(Plan::nothing()),
    }
}

pub(super) fn link_account(
    person: PersonId,
    integration: IntegrationId,
    account_id: String,
    proof: Option<String>,
    state: &impl Read,
) -> Decided {
    let people = state.all::<Person>()?;
    if !people.iter().any(|it| it.id == person) {
        return Err(Refusal::Unknown.into());
    }
    match state.get::<Integration>(integration.as_str())? {
        Some(it) if !it.removed => {}
        _ => return Err(Refusal::invalid("integration", "There is no such integration.").into()),
    }
    if account_id.is_empty() || account_id.len() > 64 {
        return Err(Refusal::invalid("account_id", "The forge's own number of the account, as text.").into());
    }
    let taken = people.iter().find(|it| {
        it.id != person
            && it
                .accounts
                .iter()
                .any(|a| a.integration == integration && a.account_id == account_id)
    });
    if let Some(other) = taken {
        // One account is one person's: else a second person could hide behind it.
        let what = format!("That account is linked to {} already.", other.name);
        return Err(Refusal::Duplicate { what }.into());
    }
    let known = people.iter().find(|it| it.id == person);
    let known = known.and_then(|it| {
        let mut accounts = it.accounts.iter();
        accounts.find(|a| a.integration == integration && a.account_id == account_id)
    });
    if known.is_some_and(|it| it.proven || proof.is_none()) {
        // What was proved is not less for being asserted again.
        return Ok(Plan {
            steps: Vec::new(),
            reply: Ok(Reply::Done),
        });
    }
    Ok(Plan::done(vec![Step::event(Event::AccountLinked {
        person,
        integration,
        account_id,
        proven: proof.is_some(),
        proof,
    })]))
}

/// A name for people: one line, something visible in it, not too long.
pub(super) fn checked_name(name: &str) -> Result<String, Stop> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(Refusal::invalid("name", format!("1 to {NAME_CHARS_MAX} characters.")).into());
    }
    if crate::domain::text::visible(name) != name {
        return Err(Refusal::invalid("name", "No control or invisible characters.").into());
    }
    Ok(name.to_owned())
}

fn checked_email(email: &str) -> Result<String, Stop> {
    let email = email.trim().to_lowercase();
    let well_formed = email.len() <= EMAIL_BYTES_MAX
        && email.split_once('@').is_some_and(|(local, host)| {
            !local.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.')
        })
        && !email.chars().any(|c| c.is_whitespace())
        && crate::domain::text::visible(&email) == email;
    if well_formed {
        Ok(email)
    } else {
        Err(Refusal::invalid("email", "Not an e-mail address.").into())
    }
}

fn unowned(credential_id: &str, state: &impl Read) -> Result<(), Stop> {
    match state.get_raw(Table::PasskeyOwners, credential_id.as_bytes())? {
        Some(_) => Err(Refusal::Duplicate {
            what: "This passkey is enrolled already.".into(),
        }
        .into()),
        None => Ok(()),
    }
}

fn invited(person: &PersonId, invitation: NewInvitation, now: Time) -> Step {
    Step::event(Event::InvitationCreated {
        invitation: invitation.id,
        person: person.clone(),
        token_sha256: invitation.token_sha256,
        expires_at: now.plus_seconds(invitation.lifetime_seconds),
    })
}

fn enrolment(
    steps: &mut Vec<Step>,
    person: &PersonId,
    name: &str,
    passkey: NewPasskey,
    invitation: Option<Digest>,
    now: Time,
) {
    steps.push(Step::Blob(passkey.record.clone()));
    steps.push(Step::Blob(passkey.attestation.clone()));
    let passkey = Box::new(enrolled(person, name, passkey, now));
    steps.push(Step::event(Event::PersonEnrolled { invitation, passkey }));
}

fn enrolled(person: &PersonId, name: &str, it: NewPasskey, now: Time) -> EnrolledPasskey {
    EnrolledPasskey {
        person: person.clone(),
        name: name.to_owned(),
        credential_id: it.credential_id,
        spki_sha256: it.spki_sha256,
        aaguid: it.aaguid,
        platform: it.platform,
        attestation_sha256: Digest::of(&it.attestation),
        confirmed_by: it.confirmed_by,
        label: it.label,
        spki: it.spki,
        alg: it.alg,
        transports: it.transports,
        backup_eligible: it.backup_eligible,
        backup_state: it.backup_state,
        sign_count: it.sign_count,
        record_sha256: Digest::of(&it.record),
        decides_from: now.plus_seconds(it.hold_seconds),
    }
}

fn last_credential(steps: &[Step]) -> String {
    steps
        .iter()
        .rev()
        .find_map(|it| match it {
            Step::Event(event) => match &**event {
                Event::PersonEnrolled { passkey, .. } => Some(passkey.credential_id.clone()),
                _ => None,
            },
            _ => None,
        })
        .unwrap_or_default()
}

fn session_opened(
    person: &PersonId,
    session: &NewSession,
    credential_id: &str,
    sign_count: u32,
    now: Time,
) -> Step {
    Step::event(Event::SessionOpened {
        person: person.clone(),
        session_sha256: session.token_sha256,
        expires_at: now.plus_seconds(session.lifetime_seconds),
        credential_id: credential_id.to_owned(),
        sign_count,
    })
}
