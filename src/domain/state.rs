//! What has been recorded, as the rules see it: typed records over an ordered key-value view.
//!
//! The view is read and written inside the one transaction that records the decision, so no check goes stale.
//! Everything in it follows from the journal and can be dropped and rebuilt.

use crate::domain::ids::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Every projection has a table of its own. The text is the table's name on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    People,
    Groups,
    Invitations,
    Sessions,
    ApiKeys,
    Integrations,
    Projects,
    /// `integration NUL the forge's number` → project id: the project that is gated under a number.
    ForgeProjects,
    Policies,
    /// `name NUL version` → every version a policy ever had.
    PolicyVersions,
    /// Changes to the rules that wait, or waited, for further admins.
    Proposals,
    /// Who stands in for whom, and when.
    Delegations,
    /// Journal position → what went around or through the gate, and who has looked it over since.
    Exceptions,
    /// Project → how strong its gate was found to be.
    Gates,
    /// `project NUL branch` → where a gated branch was seen last.
    Tips,
    /// Project → the branch patterns whose branches have been looked at once.
    Watched,
    /// `project NUL number NUL commit` → the exception (u64 big-endian) that told of that merged change.
    Bypasses,
    /// `project NUL number` → what the forge's own lock of a change was last told.
    Locks,
    /// Project → what was changed on its forge, and can be undone.
    Provisionings,
    /// Project → the newest trial of its gate.
    Trials,
    Requests,
    /// Opening position (u64 big-endian) → request id: the list of all requests, in order.
    RequestOrder,
    /// A request's number in the order of opening (u64 big-endian) → request id.
    RequestNumbers,
    /// Block (u32 big-endian) and term → which requests of the block have the term (`domain::search`).
    RequestIndex,
    /// Kind and folded text → text: the values that requests are filtered by.
    RequestValues,
    /// Lists of requests that somebody wants to come back to.
    Views,
    /// `project NUL number NUL opening position` → request id: all requests of one change, in order.
    ChangeRequests,
    /// `request NUL person` → when that person first saw it, and what else they did besides deciding.
    Looks,
    /// Devices that are told when something waits.
    Devices,
    /// Digest of a device's address → its id.
    DeviceAddresses,
    /// Chats that are told when something waits.
    Chats,
    /// The one row of what admins arrange about messages.
    NoticeSettings,
    /// Person → what they arrange about messages to them.
    NoticePreferences,
    /// `request NUL addressee` → what they were told about it, and by which channel.
    Notices,
    /// `addressee NUL journal position` → a message of the last hour, for the caps.
    NoticeTimes,
    /// A reported requester → position of the exception (u64 big-endian) that has to be looked over first.
    Reported,
    /// Request id → nothing: those that still wait for people.
    Waiting,
    Changes,
    /// `project NUL head NUL target NUL number` → nothing: the open changes that share one forge status.
    Heads,
    /// Deadline (u64 big-endian, ms) and request id → nothing.
    Deadlines,
    /// `key id NUL idempotency key` → digest of the body and the request it made.
    Idempotency,
    /// Webhook delivery ids seen: `integration NUL delivery` → time.
    Deliveries,
    /// Time (u64 big-endian, ms) and journal position → row in the deliveries: the oldest are forgotten first.
    DeliveryTimes,
    /// `integration NUL the forge's number` → the newest record of a webhook about a project that is not gated.
    Strangers,
    /// `integration NUL the forge's number` → time of the newest webhook about that project (i64 big-endian, ms).
    LastHooks,
    /// Changes a webhook or the reconciler says to look at again: `project NUL number` → journal position of the newest hint.
    Hints,
    /// Last status each forge confirmed.
    Statuses,
    /// Credential file digest → request id and leaf position.
    Credentials,
    /// Position of the next request number, counters and the like.
    Counters,
    /// Merges asked for and what became of them: request id → record.
    Merges,
    /// WebAuthn credential id → person id: one credential belongs to one person.
    PasskeyOwners,
    /// `project NUL job` → a job on a forge that deploys, and the request that gates it.
    Deployments,
    /// `project NUL job` → nothing: the deployments of which something may still have to be done.
    OpenDeployments,
    /// What about the appliance itself needs a person, while it lasts.
    Conditions,
    /// Log sinks.
    Sinks,
    /// Request id → nothing: requests that are over and whose callback has not been made.
    OpenCallbacks,
    /// Request id → nothing: requests about whose commit a forge is still to be asked.
    OpenCommits,
    /// Erasures that two admins ordered.
    Erasures,
    /// Digest of an erased document → the entry that says so, and what stands in its place.
    Erased,
}

impl Table {
    /// All tables, for creation and rebuild.
    pub const ALL: &'static [Table] = &[
        Table::People,
        Table::Groups,
        Table::Invitations,
        Table::Sessions,
        Table::ApiKeys,
        Table::Integrations,
        Table::Projects,
        Table::ForgeProjects,
        Table::Policies,
        Table::PolicyVersions,
        Table::Proposals,
        Table::Delegations,
        Table::Exceptions,
        Table::Gates,
        Table::Tips,
        Table::Watched,
        Table::Bypasses,
        Table::Locks,
        Table::Provisionings,
        Table::Trials,
        Table::Requests,
        Table::RequestOrder,
        Table::RequestNumbers,
        Table::RequestIndex,
        Table::RequestValues,
        Table::Views,
        Table::ChangeRequests,
        Table::Looks,
        Table::Reported,
        Table::Devices,
        Table::DeviceAddresses,
        Table::Chats,
        Table::NoticeSettings,
        Table::NoticePreferences,
        Table::Notices,
        Table::NoticeTimes,
        Table::Waiting,
        Table::Changes,
        Table::Heads,
        Table::Deadlines,
        Table::Idempotency,
        Table::Deliveries,
        Table::DeliveryTimes,
        Table::Strangers,
        Table::LastHooks,
        Table::Hints,
        Table::Statuses,
        Table::Credentials,
        Table::Counters,
        Table::Merges,
        Table::PasskeyOwners,
        Table::Deployments,
        Table::OpenDeployments,
        Table::Conditions,
        Table::Sinks,
        Table::OpenCallbacks,
        Table::OpenCommits,
        Table::Erasures,
        Table::Erased,
    ];

    /// The table's name on disk. Never changed once released.
    pub fn name(self) -> &'static str {
        match self {
            Table::People => "people",
            Table::Groups => "groups",
            Table::Invitations => "invitations",
            Table::Sessions => "sessions",
            Table::ApiKeys => "api_keys",
            Table::Integrations => "integrations",
            Table::Projects => "projects",
            Table::ForgeProjects => "forge_projects",
            Table::Policies => "policies",
            Table::PolicyVersions => "policy_versions",
            Table::Proposals => "proposals",
            Table::Delegations => "delegations",
            Table::Exceptions => "exceptions",
            Table::Gates => "gates",
            Table::ChangeRequests => "change_requests",
            Table::Looks => "looks",
            Table::Reported => "reported",
            Table::Devices => "devices",
            Table::DeviceAddresses => "device_addresses",
            Table::Chats => "chats",
            Table::NoticeSettings => "notice_settings",
            Table::NoticePreferences => "notice_preferences",
            Table::Notices => "notices",
            Table::NoticeTimes => "notice_times",
            Table::Tips => "tips",
            Table::Watched => "watched",
            Table::Bypasses => "bypasses",
            Table::Locks => "locks",
            Table::Provisionings => "provisionings",
            Table::Trials => "trials",
            Table::Requests => "requests",
            Table::RequestOrder => "request_order",
            Table::RequestNumbers => "request_numbers",
            Table::RequestIndex => "request_index",
            Table::RequestValues => "request_values",
            Table::Views => "views",
            Table::Waiting => "waiting",
            Table::Changes => "changes",
            Table::Heads => "heads",
            Table::Deadlines => "deadlines",
            Table::Idempotency => "idempotency",
            Table::Deliveries => "deliveries",
            Table::DeliveryTimes => "delivery_times",
            Table::Strangers => "strangers",
            Table::LastHooks => "last_hooks",
            Table::Hints => "hints",
            Table::Statuses => "statuses",
            Table::Credentials => "credentials",
            Table::Counters => "counters",
            Table::Merges => "merges",
            Table::PasskeyOwners => "passkey_owners",
            Table::Deployments => "deployments",
            Table::OpenDeployments => "open_deployments",
            Table::Conditions => "conditions",
            Table::Sinks => "sinks",
            Table::OpenCallbacks => "open_callbacks",
            Table::OpenCommits => "open_commits",
            Table::Erasures => "erasures",
            Table::Erased => "erased",
        }
    }
}

/// The view could not be read or written, or a record in it is damaged. Never a verdict: whoever meets it must stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// Key and value of one row.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reading recorded state.
pub trait Read {
    /// The raw record under `key`.
    fn get_raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
    /// At most `limit` rows with `from <= key < to`, in key order, or from the end when `backwards`.
    fn scan_raw(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        backwards: bool,
    ) -> Result<Vec<Row>, Fault>;
    /// A blob by its digest.
    fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Fault>;

    /// The record under `key`.
    fn get<R: Record>(&self, key: &str) -> Result<Option<R>, Fault>
    where
        Self: Sized,
    {
        match self.get_raw(R::TABLE, key.as_bytes())? {
            Some(bytes) => decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// All records of a kind, in key order. For kinds that stay small (people, projects, keys).
    fn all<R: Record>(&self) -> Result<Vec<R>, Fault>
    where
        Self: Sized,
    {
        self.scan_raw(R::TABLE, b"", &[0xff; 32], usize::MAX, false)?
            .iter()
            .map(|(_, bytes)| decode(bytes))
            .collect()
    }

    /// All rows whose key begins with `prefix`.
    fn with_prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<Row>, Fault> {
        let mut end = prefix.to_vec();
        end.extend_from_slice(&[0xff; 8]);
        self.scan_raw(table, prefix, &end, usize::MAX, false)
    }
}

/// Writing recorded state. Only `apply` does.
pub trait Write: Read {
    /// Sets the raw record under `key`.
    fn put_raw(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault>;
    /// Removes the record under `key`, if there is one.
    fn delete_raw(&mut self, table: Table, key: &[u8]) -> Result<(), Fault>;

    /// Stores a record under its own key.
    fn put<R: Record>(&mut self, record: &R) -> Result<(), Fault>
    where
        Self: Sized,
    {
        self.put_raw(R::TABLE, record.key().as_bytes(), &encode(record))
    }
}

/// A kind of record: where it lives and what its key is.
pub trait Record: Serialize + DeserializeOwned {
    /// The table it lives in.
    const TABLE: Table;
    /// Its key in that table.
    fn key(&self) -> String;
}

/// Version of the record encoding, the first byte of every record. Members are only ever added, with a default.
pub const RECORD_VERSION: u8 = 1;

/// The bytes of a record: a version byte and compact JSON. Self-describing, so that a later release can read it without
/// guessing, and independent of the database's own value types.
pub fn encode<R: Serialize>(record: &R) -> Vec<u8> {
    let mut bytes = vec![RECORD_VERSION];
    serde_json::to_writer(&mut bytes, record).expect("records have string keys and no failing serializers");
    bytes
}

/// Reads a record back.
pub fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, Fault> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, json)) => {
            serde_json::from_slice(json).map_err(|e| Fault(format!("damaged record: {e}")))
        }
        Some((version, _)) => Err(Fault(format!(
            "record version {version} is newer than this program"
        ))),
        None => Err(Fault("empty record".into())),
    }
}
