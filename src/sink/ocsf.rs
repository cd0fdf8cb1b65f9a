//! An entry of the journal as an event of the Open Cybersecurity Schema Framework, version 1.6.0 (schema.ocsf.io/1.6.0).
//! `docs/sinks/ocsf.md` has the mapping as a table. Pure.

use crate::domain::event::Actor;
use crate::domain::time::Time;
use crate::sink::record::About;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

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
    id: String,
}

/// Members of `data` that more than one class looks for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    person: Option<String>,
    name: Option<String>,
    reason: Option<String>,
    exception: Option<u64>,
}

/// The entry's event; `None` if the bytes are no entry.
pub fn event(leaf: &[u8], about: &About) -> Option<Value> {
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
    let mut event = json!({
        "metadata": {
            "version": VERSION,
            "product": { "name": "SignedApproval", "vendor_name": "SignedApproval", "version": about.version },
            "uid": format!("{}/{}", about.instance, parsed.seq),
            "sequence": parsed.seq,
            "event_code": parsed.r#type,
            "original_time": parsed.time,
            "log_name": "journal",
        },
        "time": Time::parse(parsed.time)?.0,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": class_name,
        "activity_id": activity,
        "activity_name": if activity == 99 { parsed.r#type } else { activity_name },
        "type_uid": class_uid * 100 + activity,
        "severity_id": severity.0,
        "severity": severity.1,
        "status_id": if refused { 2 } else { 1 },
        "status": if refused { "Failure" } else { "Success" },
        "message": message(&parsed),
        "raw_data": std::str::from_utf8(leaf).ok()?,
        "unmapped": parsed.data,
    });
    if let Some(reason) = known.reason.filter(|it| !it.is_empty()) {
        event["status_detail"] = json!(reason);
    }
    if class != Class::DetectionFinding {
        event["actor"] = actor(&parsed.actor);
    }
    let person = |name: Option<String>| {
        let uid = known.person.clone().unwrap_or_else(|| match parsed.object.kind {
            "person" => parsed.object.id.clone(),
            _ => "unknown".to_owned(),
        });
        let mut user = json!({ "uid": uid, "type_id": 1, "type": "User" });
        if let Some(name) = name {
            user["name"] = json!(name);
        }
        user
    };
    match class {
        Class::DetectionFinding => {
            // A review closes the finding that its exception opened.
            let opened_by = known.exception.unwrap_or(parsed.seq);
            event["finding_info"] = json!({
                "uid": format!("{}/{opened_by}", about.instance),
                "title": parsed.r#type,
                "types": [parsed.object.kind],
            });
        }
        Class::AccountChange => event["user"] = person(known.name.clone()),
        Class::Authentication => {
            event["user"] = person(None);
            event["service"] = json!({ "name": "SignedApproval", "uid": about.instance });
        }
        Class::GroupManagement => {
            let mut group = json!({ "uid": parsed.object.id });
            if let Some(name) = &known.name {
                group["name"] = json!(name);
            }
            event["group"] = group;
        }
        Class::EntityManagement => {
            event["entity"] = json!({ "type": parsed.object.kind, "uid": parsed.object.id });
        }
    }
    Some(event)
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

fn actor(actor: &Actor) -> Value {
    match actor {
        Actor::Person { id, name } => {
            json!({ "user": { "uid": id, "name": name, "type_id": 1, "type": "User" } })
        }
        Actor::Key { id, name } => json!({ "app_uid": id, "app_name": name }),
        Actor::System => json!({ "app_name": "SignedApproval", "app_uid": "system" }),
        Actor::Host => json!({ "app_name": "SignedApproval", "app_uid": "host" }),
        Actor::Forge { integration } => json!({ "app_name": "forge", "app_uid": integration }),
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
