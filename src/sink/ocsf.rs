//! An entry of the journal as an event of the Open Cybersecurity Schema Framework, version 1.6.0 (schema.ocsf.io/1.6.0).
//! `docs/sinks/ocsf.md` has the mapping as a table. Pure.

use crate::domain::event::Actor;
use crate::domain::time::Time;
use crate::sink::record::About;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The schema's version, in every event.
pub const VERSION: &str = "1.6.0";

/// A class of the schema, and what of it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Something went around the gate, or needs somebody's look.
    DetectionFinding,
    /// A person, or what a person signs with.
    AccountChange,
    Authentication,
    /// All else: requests, policies, projects, keys, sinks.
    EntityManagement,
    GroupManagement,
}

impl Class {
    fn uid(self) -> (u32, &'static str) {
        match self {
            Class::DetectionFinding => (2004, "Detection Finding"),
            Class::AccountChange => (3001, "Account Change"),
            Class::Authentication => (3002, "Authentication"),
            Class::EntityManagement => (3004, "Entity Management"),
            Class::GroupManagement => (3006, "Group Management"),
        }
    }

    fn category(self) -> (u32, &'static str) {
        match self {
            Class::DetectionFinding => (2, "Findings"),
            _ => (3, "Identity & Access Management"),
        }
    }
}

/// Class and activity of a type of event.
fn class_of(kind: &str) -> (Class, u32, &'static str) {
    let other = (99, "Other");
    let (class, (activity, name)) = match kind {
        "exception.reviewed" => (Class::DetectionFinding, (3, "Close")),
        it if it.starts_with("exception.") => (Class::DetectionFinding, (1, "Create")),
        "session.opened" | "ceremony.refused" => (Class::Authentication, (1, "Logon")),
        "session.closed" => (Class::Authentication, (2, "Logoff")),
        "person.created" => (Class::AccountChange, (1, "Create")),
        "person.enrolled" | "passkey.added" | "totp.enrolled" => {
            (Class::AccountChange, (10, "MFA Factor Enable"))
        }
        "passkey.revoked" | "totp.revoked" => (Class::AccountChange, (11, "MFA Factor Disable")),
        "person.changed" | "invitation.created" | "account.linked" => (Class::AccountChange, other),
        "group.removed" => (Class::GroupManagement, (5, "Delete")),
        it if it.starts_with("group.") => (Class::GroupManagement, other),
        it => {
            let verb = it.rsplit('.').next().unwrap_or_default();
            let activity = match verb {
                "created" | "added" | "opened" | "made" => (1, "Create"),
                "changed" | "set" => (3, "Update"),
                "removed" | "revoked" => (4, "Delete"),
                "activated" => (10, "Activate"),
                _ => other,
            };
            (Class::EntityManagement, activity)
        }
    };
    (class, activity, name)
}

/// What of an entry is looked at.
#[derive(Deserialize)]
struct Leaf<'a> {
    seq: u64,
    time: &'a str,
    r#type: &'a str,
    actor: Actor,
    object: Object<'a>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Object<'a> {
    kind: &'a str,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Members of `data` that more than one class looks for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known<'a> {
    #[serde(borrow)]
    person: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    exception: Option<u64>,
}

/// An event, in the order in which it is written. Straight from the entry's parts to bytes: a log sink that catches up makes
/// tens of thousands of these in a second.
#[derive(Serialize)]
struct Written<'a> {
    metadata: Metadata<'a>,
    time: i64,
    category_uid: u32,
    category_name: &'a str,
    class_uid: u32,
    class_name: &'a str,
    activity_id: u32,
    activity_name: &'a str,
    type_uid: u32,
    severity_id: u32,
    severity: &'a str,
    status_id: u32,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'a str>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Acting<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<Entity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding_info: Option<Finding<'a>>,
    raw_data: &'a str,
    unmapped: &'a RawValue,
}

#[derive(Serialize)]
struct Metadata<'a> {
    version: &'a str,
    product: Product<'a>,
    uid: String,
    sequence: u64,
    event_code: &'a str,
    original_time: &'a str,
    log_name: &'a str,
}

#[derive(Serialize)]
struct Product<'a> {
    name: &'a str,
    vendor_name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct User<'a> {
    uid: &'a str,
    type_id: u32,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> User<'a> {
    fn new(uid: &'a str, name: Option<&'a str>) -> Self {
        User {
            uid,
            type_id: 1,
            r#type: "User",
            name,
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Acting<'a> {
    Person { user: User<'a> },
    Program { app_name: &'a str, app_uid: &'a str },
}

#[derive(Serialize)]
struct Named<'a> {
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Entity<'a> {
    r#type: &'a str,
    uid: &'a str,
}

#[derive(Serialize)]
struct Finding<'a> {
    uid: String,
    title: &'a str,
    types: [&'a str; 1],
}

/// The entry's event, as compact JSON; `None` if the bytes are no entry.
pub fn event(leaf: &[u8], about: &About) -> Option<Vec<u8>> {
    let parsed: Leaf = serde_json::from_slice(leaf).ok()?;
    let known: Known = serde_json::from_str(parsed.data.get()).unwrap_or_default();
    let (class, activity, activity_name) = class_of(parsed.r#type);
    let refused = parsed.r#type == "ceremony.refused";
    let severity = match class {
        Class::DetectionFinding if activity == 1 => (4, "High"),
        _ if refused => (3, "Medium"),
        _ => (1, "Informational"),
    };
    let ((class_uid, class_name), (category_uid, category_name)) = (class.uid(), class.category());
    let object = &parsed.object;
    let user = || {
        let uid = known.person.as_deref().unwrap_or(match object.kind {
            "person" => &object.id,
            _ => "unknown",
        });
        let named = class == Class::AccountChange;
        User::new(uid, known.name.as_deref().filter(|_| named))
    };
    let event = Written {
        metadata: Metadata {
            version: VERSION,
            product: Product {
                name: "SignedApproval",
                vendor_name: "SignedApproval",
                version: about.version,
            },
            uid: format!("{}/{}", about.instance, parsed.seq),
            sequence: parsed.seq,
            event_code: parsed.r#type,
            original_time: parsed.time,
            log_name: "journal",
        },
        time: Time::parse(parsed.time)?.0,
        category_uid,
        category_name,
        class_uid,
        class_name,
        activity_id: activity,
        activity_name: if activity == 99 {
            parsed.r#type
        } else {
            activity_name
        },
        type_uid: class_uid * 100 + activity,
        severity_id: severity.0,
        severity: severity.1,
        status_id: if refused { 2 } else { 1 },
        status: if refused { "Failure" } else { "Success" },
        status_detail: known.reason.as_deref().filter(|it| !it.is_empty()),
        message: message(&parsed),
        actor: (class != Class::DetectionFinding).then(|| acting(&parsed.actor)),
        user: matches!(class, Class::AccountChange | Class::Authentication).then(user),
        service: (class == Class::Authentication).then_some(Named {
            uid: &about.instance,
            name: Some("SignedApproval"),
        }),
        group: (class == Class::GroupManagement).then_some(Named {
            uid: &object.id,
            name: known.name.as_deref(),
        }),
        entity: (class == Class::EntityManagement).then_some(Entity {
            r#type: object.kind,
            uid: &object.id,
        }),
        // A review closes the finding that its exception opened.
        finding_info: (class == Class::DetectionFinding).then(|| Finding {
            uid: format!("{}/{}", about.instance, known.exception.unwrap_or(parsed.seq)),
            title: parsed.r#type,
            types: [object.kind],
        }),
        raw_data: std::str::from_utf8(leaf).ok()?,
        unmapped: parsed.data,
    };
    let mut bytes = Vec::with_capacity(2 * leaf.len() + 1_024);
    serde_json::to_writer(&mut bytes, &event).ok()?;
    Some(bytes)
}

/// One line for whoever reads along.
fn message(leaf: &Leaf) -> String {
    let who = match &leaf.actor {
        Actor::System => "the appliance".to_owned(),
        Actor::Person { name, .. } => name.clone(),
        Actor::Key { name, .. } => format!("the key {name}"),
        Actor::Host => "the appliance's host".to_owned(),
        Actor::Forge { integration } => format!("the forge {integration}"),
    };
    let (kind, id) = (leaf.object.kind, &leaf.object.id);
    format!("{} of {kind} {id} by {who}", leaf.r#type)
}

fn acting(actor: &Actor) -> Acting<'_> {
    let program = |app_name, app_uid| Acting::Program { app_name, app_uid };
    match actor {
        Actor::Person { id, name } => Acting::Person {
            user: User::new(id.as_str(), Some(name)),
        },
        Actor::Key { id, name } => program(name, id.as_str()),
        Actor::System => program("SignedApproval", "system"),
        Actor::Host => program("SignedApproval", "host"),
        Actor::Forge { integration } => program("forge", integration.as_str()),
    }
}

/// Something that is no entry (a checkpoint, a test, a substitute) in the same clothes: Application Lifecycle, other.
pub fn aside(kind: &str, time: Time, json: &Value, about: &About) -> Value {
    json!({
        "metadata": {
            "version": VERSION,
            "product": { "name": "SignedApproval", "vendor_name": "SignedApproval", "version": about.version },
            "event_code": kind,
            "log_name": "journal",
        },
        "time": time.0,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6002,
        "class_name": "Application Lifecycle",
        "activity_id": 99,
        "activity_name": kind,
        "type_uid": 600_299,
        "severity_id": 1,
        "severity": "Informational",
        "message": kind,
        "app": { "name": "SignedApproval", "vendor_name": "SignedApproval", "version": about.version },
        "raw_data": json.to_string(),
        "unmapped": json,
    })
}
