//! People, what they may do, and the credentials that prove who they are. Machine callers stand here too.

use crate::domain::ids::{ApiKeyId, Digest, GroupId, IntegrationId, InvitationId, PersonId};
use crate::domain::state::{Record, Table};
use crate::domain::time::Time;
use crate::domain::totp::Generator;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a person may do. Roles add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sets up integrations, projects, people and keys. Does not by itself allow to decide.
    Admin,
    /// Decides requests.
    Approver,
    /// Reads everything, changes nothing.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Admin, Role::Approver, Role::Auditor];

    /// Reads a role by its name.
    pub fn parse(text: &str) -> Option<Role> {
        match text {
            "admin" => Some(Role::Admin),
            "approver" => Some(Role::Approver),
            "auditor" => Some(Role::Auditor),
            _ => None,
        }
    }

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Approver => "approver",
            Role::Auditor => "auditor",
        }
    }
}

/// A human being. Quorum counts these, never credentials or accounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Person {
    pub id: PersonId,
    pub name: String,
    /// Lower-cased, unique.
    pub email: String,
    pub roles: BTreeSet<Role>,
    pub active: bool,
    pub passkeys: Vec<Passkey>,
    pub accounts: Vec<LinkedAccount>,
    pub created_at: Time,
    /// Since when an admin may approve who was given the role later. What waited by then is not theirs to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves_since: Option<Time>,
    /// Their generator of one-time codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<Generator>,
}

impl Person {
    /// Whether this person holds `role` and is active.
    pub fn has(&self, role: Role) -> bool {
        self.active && self.roles.contains(&role)
    }

    /// The passkeys that still count.
    pub fn live_passkeys(&self) -> impl Iterator<Item = &Passkey> {
        self.passkeys.iter().filter(|it| it.revoked_at.is_none())
    }
}

impl Record for Person {
    const TABLE: Table = Table::People;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// A passkey as it was enrolled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passkey {
    /// base64url without padding.
    pub credential_id: String,
    /// The person's own name for the device.
    pub label: String,
    /// SubjectPublicKeyInfo DER, base64.
    pub spki: String,
    /// COSE algorithm: -7, -8 or -257.
    pub alg: i64,
    pub aaguid: String,
    /// Enrolled as the platform authenticator of the person's own device (policy method `biometric`).
    pub platform: bool,
    pub transports: Vec<String>,
    pub backup_eligible: bool,
    pub backup_state: bool,
    /// Highest signature counter seen; 0 where the authenticator keeps none.
    pub sign_count: u32,
    /// Blob with the relying-party library's own record of this passkey.
    pub record: Digest,
    /// Blob with the attestation object as it was received.
    pub attestation: Digest,
    /// Journal position and leaf digest of the enrolment.
    pub enrolled_seq: u64,
    pub enrolled_leaf: Digest,
    pub added_at: Time,
    /// A new passkey signs in at once but decides only from here on (setting `security.passkey_hold`).
    pub decides_from: Time,
    #[serde(default)]
    pub revoked_at: Option<Time>,
    /// When it last signed in or decided.
    #[serde(default)]
    pub last_used_at: Option<Time>,
}

/// A forge account that belongs to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedAccount {
    pub integration: IntegrationId,
    /// The forge's stable number of the account.
    pub account_id: String,
    /// `true` once the person proved it; `false` while an admin merely asserted it.
    pub proven: bool,
}

/// A named set of people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    pub id: GroupId,
    pub name: String,
    pub members: BTreeSet<PersonId>,
    /// Since when admins are in it who were added later: for what waited by then they are not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub since: BTreeMap<PersonId, Time>,
}

impl Record for Group {
    const TABLE: Table = Table::Groups;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// A one-time token by which a person enrols their first passkey.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    pub id: InvitationId,
    pub person: PersonId,
    pub token_sha256: Digest,
    pub expires_at: Time,
    pub used: bool,
}

impl Record for Invitation {
    const TABLE: Table = Table::Invitations;
    fn key(&self) -> String {
        self.token_sha256.to_string()
    }
}

/// A signed-in browser. Reading and administration only: every decision has a ceremony of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub token_sha256: Digest,
    pub person: PersonId,
    pub opened_at: Time,
    pub expires_at: Time,
}

impl Record for Session {
    const TABLE: Table = Table::Sessions;
    fn key(&self) -> String {
        self.token_sha256.to_string()
    }
}

/// What a machine caller's key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Open requests and read one's own.
    Request,
    /// Read everything of its projects.
    Audit,
    /// Administer.
    Admin,
}

impl Scope {
    /// Reads a scope by its name.
    pub fn parse(text: &str) -> Option<Scope> {
        match text {
            "request" => Some(Scope::Request),
            "audit" => Some(Scope::Audit),
            "admin" => Some(Scope::Admin),
            _ => None,
        }
    }

    /// The scope's name.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Request => "request",
            Scope::Audit => "audit",
            Scope::Admin => "admin",
        }
    }
}

/// Name of the secret that signs the callbacks of a key, among the sealed secrets.
pub fn callback_secret_name(key: &ApiKeyId) -> String {
    format!("api-key/{key}/callback")
}

/// A machine caller's key. The secret itself is never stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub name: String,
    pub secret_sha256: Digest,
    pub scopes: BTreeSet<Scope>,
    /// Names of the projects it may ask for; empty: any.
    pub projects: BTreeSet<String>,
    /// The person answerable for it, who therefore can't approve what it asks.
    pub owner: Option<PersonId>,
    pub created_at: Time,
    pub expires_at: Time,
    pub revoked: bool,
}

impl Record for ApiKey {
    const TABLE: Table = Table::ApiKeys;
    fn key(&self) -> String {
        self.secret_sha256.to_string()
    }
}
