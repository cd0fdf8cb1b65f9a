//! Changes to what decides who must approve, which a policy may let wait for further admins; and people standing in for
//! each other.

use crate::domain::ids::{DelegationId, Digest, GroupId, PersonId, ProjectId, ProposalId};
use crate::domain::people::Role;
use crate::domain::project::ProjectSettings;
use crate::domain::retention::ErasureScope;
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A change to the rules, or to who is meant by them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Governed {
    /// A new version of a policy, or a first one.
    Policy {
        name: String,
        document: Digest,
    },
    /// Other settings of a gated project.
    Project {
        project: ProjectId,
        settings: ProjectSettings,
    },
    /// A project is gated no more.
    ProjectRemoval {
        project: ProjectId,
    },
    /// A new group, or another name or other members of one.
    Group {
        group: GroupId,
        new: bool,
        name: String,
        members: BTreeSet<PersonId>,
    },
    GroupRemoval {
        group: GroupId,
    },
    /// Somebody has lost all their passkeys: those end, and they are invited anew. Always by two admins, or on the host.
    Recovery {
        person: PersonId,
    },
    /// Somebody is brought in with roles, gets or loses one, or is let in or out.
    Roles {
        person: PersonId,
        /// Name and e-mail address of somebody who is not there yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new: Option<(String, String)>,
        roles: BTreeSet<Role>,
        active: bool,
    },
    /// An admin lets somebody stand in for somebody else.
    Delegation {
        delegation: DelegationId,
        from: PersonId,
        to: PersonId,
        starts: Time,
        ends: Time,
    },
    /// The documents of requests that ended before a time are erased, once their retention is over. Always by two admins.
    Erasure {
        scope: ErasureScope,
        before: Time,
    },
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// It waits for further admins.
    Open,
    CarriedOut,
    Withdrawn,
}

/// A change to the rules that needs more than one admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub id: ProposalId,
    pub change: Governed,
    /// Digest of what it would replace: if that has changed meanwhile, the proposal is void.
    pub base: Option<Digest>,
    pub reason: String,
    /// Admins it needs, the proposer among them.
    pub quorum: u32,
    /// `None`: a machine caller, which counts as nobody.
    pub proposer: Option<PersonId>,
    pub proposer_name: String,
    pub state: ProposalState,
    /// Who may confirm it: admins of the time it was made.
    #[serde(default)]
    pub may_confirm: Vec<PersonId>,
    pub confirmations: Vec<Confirmation>,
    pub created_at: Time,
    pub closed_at: Option<Time>,
    /// Journal position of `proposal.made`.
    pub seq: u64,
}

impl Proposal {
    /// Admins who stand behind it so far.
    pub fn admins(&self) -> usize {
        usize::from(self.proposer.is_some()) + self.confirmations.len()
    }

    /// Their names, the proposer first.
    pub fn names(&self) -> Vec<String> {
        let confirmed = self.confirmations.iter().map(|it| it.name.clone());
        std::iter::once(self.proposer_name.clone())
            .chain(confirmed)
            .collect()
    }
}

impl Record for Proposal {
    const TABLE: Table = Table::Proposals;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// One further admin's passkey under a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    pub person: PersonId,
    pub name: String,
    /// Blob with what was signed and the signature.
    pub evidence: Digest,
    pub at: Time,
}

/// One person stands in for another while the other is away.
///
/// The deputy has, besides their own, the places of the absent person in groups and rules; the absent person does not
/// decide meanwhile, so that one place never counts twice. It never passes on, and never helps with what the absent
/// person made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    pub id: DelegationId,
    pub from: PersonId,
    pub to: PersonId,
    pub starts: Time,
    /// Exclusive.
    pub ends: Time,
    pub reason: String,
    /// Who made it: the person's own name, or an admin's.
    pub by: String,
    pub ended_at: Option<Time>,
}

impl Delegation {
    /// It holds at that time.
    pub fn in_force(&self, now: Time) -> bool {
        self.starts <= now && now < self.until()
    }

    /// When it ends, or ended.
    pub fn until(&self) -> Time {
        self.ended_at.map_or(self.ends, |it| it.min(self.ends))
    }
}

impl Record for Delegation {
    const TABLE: Table = Table::Delegations;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// Something that went around the gate, or through it by the emergency way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Journal position of the event that tells of it; its id.
    pub seq: u64,
    pub at: Time,
    /// The event's type, as `exception.break_glass`.
    pub kind: String,
    /// Who may not be the one to look it over afterwards.
    pub took_part: BTreeSet<PersonId>,
    pub review: Option<Review>,
}

impl Exception {
    /// Key of an exception in its table.
    pub fn row(seq: u64) -> String {
        format!("{seq:020}")
    }
}

impl Record for Exception {
    const TABLE: Table = Table::Exceptions;
    fn key(&self) -> String {
        Exception::row(self.seq)
    }
}

/// Somebody looked at an exception afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub by: PersonId,
    pub name: String,
    pub note: String,
    pub at: Time,
}
