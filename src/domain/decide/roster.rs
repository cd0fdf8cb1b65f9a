//! Everybody who may decide, with their groups and whom they stand in for. The rules about people are asked here, so that
//! the gate and every page see the same people.

use crate::domain::governance::Delegation;
use crate::domain::ids::PersonId;
use crate::domain::people::{Group, Passkey, Person, Role};
use crate::domain::policy::{Candidate, Method};
use crate::domain::request::Involvement;
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use std::collections::BTreeMap;

/// What somebody decides with, or could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    pub method: Method,
    /// The same of a passkey that can't be copied off its device.
    pub device_bound: Option<Method>,
}

impl Means {
    /// One passkey.
    pub fn of(passkey: &Passkey) -> Means {
        let method = method_of(passkey);
        Means {
            method,
            device_bound: (!passkey.backup_eligible).then_some(method),
        }
    }

    /// A one-time code.
    pub const CODE: Means = Means {
        method: Method::Totp,
        device_bound: None,
    };

    /// The strongest a person could decide with by now.
    pub fn strongest(person: &Person, now: Time) -> Option<Means> {
        let passkeys = person.live_passkeys().filter(|it| it.decides_from <= now);
        let code = decides_by_code(person, now).then_some(Means::CODE);
        passkeys.map(Means::of).chain(code).reduce(|a, b| Means {
            method: a.method.max(b.method),
            device_bound: a.device_bound.max(b.device_bound),
        })
    }
}

/// All people, groups and delegations.
pub struct Roster {
    people: BTreeMap<PersonId, Person>,
    groups: Vec<Group>,
    delegations: Vec<Delegation>,
}

impl Roster {
    /// Reads everybody. People and groups stay few.
    ///
    /// # Errors
    /// When the recorded state can't be read.
    pub fn load(state: &impl Read) -> Result<Self, Fault> {
        let people = state.all::<Person>()?;
        Ok(Roster {
            people: people.into_iter().map(|it| (it.id.clone(), it)).collect(),
            groups: state.all()?,
            delegations: state.all()?,
        })
    }

    /// A person.
    pub fn person(&self, id: &PersonId) -> Option<&Person> {
        self.people.get(id)
    }

    /// Everybody, in no order that means anything.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }

    /// All groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The delegation by which a person is away now.
    pub fn away(&self, person: &PersonId, now: Time) -> Option<&Delegation> {
        self.delegations
            .iter()
            .find(|it| it.from == *person && it.in_force(now))
    }

    /// Whom a person stands in for now.
    pub fn stands_in_for(&self, person: &PersonId, now: Time) -> impl Iterator<Item = &Person> {
        self.delegations
            .iter()
            .filter(move |it| it.to == *person && it.in_force(now))
            .filter_map(|it| self.people.get(&it.from))
            .filter(|it| it.has(Role::Approver))
    }

    /// A person as the obligations of a request see them: with their own places, and those of whoever they stand in for. An
    /// admin's place counts for what was opened after it was given: nobody lets themselves in to what waits.
    pub fn candidate(
        &self,
        person: &Person,
        means: Means,
        involved: &BTreeMap<PersonId, Involvement>,
        opened: Time,
        now: Time,
    ) -> Candidate {
        let involvement = involved.get(&person.id);
        // Nobody picks who approves what they made themselves.
        let absent: Vec<&Person> = self
            .stands_in_for(&person.id, now)
            .filter(|it| !involved.contains_key(&it.id))
            .collect();
        let places = |group: &Group, member: &PersonId| {
            let counts = group.since.get(member).is_none_or(|it| *it <= opened);
            counts && (*member == person.id || absent.iter().any(|it| it.id == *member))
        };
        let late = person.approves_since.filter(|it| *it > opened);
        let named = absent.iter().flat_map(|it| [it.email.clone(), it.id.to_string()]);
        Candidate {
            person: person.id.clone(),
            emails: std::iter::once(person.email.clone()).chain(named).collect(),
            method: means.method,
            device_bound: means.device_bound,
            groups: self
                .groups
                .iter()
                .filter(|it| it.members.iter().any(|member| places(it, member)))
                .map(|it| it.name.clone())
                .collect(),
            author: involvement.is_some_and(|it| it.author),
            contributor: involvement.is_some_and(|it| !it.author),
            barred: late.map(|_| {
                "You were an administrator when you became an approver, and this was waiting already. Somebody else decides it."
                    .to_owned()
            }).or_else(|| self.away(&person.id, now).map(|it| {
                let deputy = self
                    .people
                    .get(&it.to)
                    .map_or("somebody else", |it| it.name.as_str());
                format!(
                    "{deputy} stands in for you until {}. End that to decide yourself.",
                    it.until().to_the_second()
                )
            })),
        }
    }

    /// Everyone who could decide, with the strongest method they hold.
    pub fn candidates(
        &self,
        involved: &BTreeMap<PersonId, Involvement>,
        opened: Time,
        now: Time,
    ) -> Vec<Candidate> {
        self.people
            .values()
            .filter(|it| it.has(Role::Approver))
            .filter_map(|it| Some(self.candidate(it, Means::strongest(it, now)?, involved, opened, now)))
            .collect()
    }
}

/// Whether a person's one-time codes may decide by now.
pub(super) fn decides_by_code(person: &Person, now: Time) -> bool {
    person.totp.as_ref().is_some_and(|it| it.decides(now))
}

/// A platform passkey counts as `biometric`, any other as `passkey`; both verify the user.
fn method_of(passkey: &Passkey) -> Method {
    if passkey.platform {
        Method::Biometric
    } else {
        Method::Passkey
    }
}
