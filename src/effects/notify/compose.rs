//! The words of a message: what waits, where, and how large it is. Text of others is shown like on every page, with nothing in
//! it that hides; the settings can leave it out altogether.

use crate::domain::attention::requester_row;
use crate::domain::event::Event;
use crate::domain::ids::PersonId;
use crate::domain::notice::{Due, NoticeKind, NoticeSettings, TestBy, Wording};
use crate::domain::people::Person;
use crate::domain::project::{ForgeKind, Integration, Project};
use crate::domain::request::{Kind, Opening, Request, Requester};
use crate::domain::state::{Read, decode};
use crate::domain::text::{shortened, visible};
use crate::domain::time::Time;
use crate::effects::Trouble;
use crate::notify::Message;
use crate::store::Snapshot;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How long a message about something without a limit is worth delivering, in seconds.
const TTL_SECONDS: u64 = 86_400;
/// Longest title of a change or action in a message, in characters.
const TITLE_MAX: usize = 120;
const NAME_MAX: usize = 80;
/// Requests that a digest names one by one.
const NAMED_MAX: usize = 5;

/// Who is told of an alert.
pub(super) enum Recipients {
    Admins,
    One(PersonId),
    /// A person, and all admins.
    OneAndAdmins(PersonId),
}

/// Something that an admin, or somebody about their own credentials, has to know.
pub(super) struct Alert {
    pub to: Recipients,
    pub kind: NoticeKind,
    pub message: Message,
    /// By this way alone.
    pub by: Option<TestBy>,
}

/// A requester as the caps know them.
pub(super) fn requester_of(request: &Request, snapshot: &Snapshot) -> Result<String, Trouble> {
    let row = requester_row(request, snapshot)?;
    Ok(row.unwrap_or_else(|| match &request.requester {
        Requester::Person { id, .. } => format!("person/{id}"),
        Requester::Key { id, .. } => format!("key/{id}"),
        Requester::ForgeAccount { id, .. } => format!("account/{id}"),
    }))
}

/// The message about what is due; `None` where nothing of it is there any more.
pub(super) fn message(
    of: &[Due],
    kind: NoticeKind,
    waiting: usize,
    public_url: &str,
    settings: &NoticeSettings,
    snapshot: &Snapshot,
    now: Time,
) -> Result<Option<Message>, Trouble> {
    let mut requests = Vec::new();
    for due in of {
        requests.extend(snapshot.get::<Request>(due.request.as_str())?);
    }
    let Some(first) = requests.first() else {
        return Ok(None);
    };
    let count = waiting.max(requests.len());
    let many = |n: usize| match n {
        1 => "1 approval waiting".to_owned(),
        n => format!("{n} approvals waiting"),
    };
    let one = requests.len() == 1 && kind != NoticeKind::Digest;
    let (title, body) = match settings.text {
        Wording::Minimal => (many(count), "Open SignedApproval to see what it is.".to_owned()),
        Wording::Full if one => {
            let title = match kind {
                NoticeKind::Reminder => "Still waiting for you",
                NoticeKind::Escalation => "Nobody has decided yet",
                _ => "Approval needed",
            };
            (title.to_owned(), line(first, snapshot)?)
        }
        Wording::Full => {
            let mut lines = Vec::new();
            for it in requests.iter().take(NAMED_MAX) {
                lines.push(line(it, snapshot)?);
            }
            if requests.len() > NAMED_MAX {
                lines.push(format!("and {} more", requests.len() - NAMED_MAX));
            }
            (many(count), lines.join("\n"))
        }
    };
    let url = match one {
        true => format!("{public_url}/a/{}", first.id),
        false => format!("{public_url}/a/"),
    };
    let longest = requests
        .iter()
        .map(|it| it.expires_at.map_or(TTL_SECONDS, |at| now.seconds_until(at)))
        .max();
    Ok(Some(Message {
        title,
        body,
        url,
        tag: match one {
            true => tag(first.id.as_str()),
            false => tag("digest"),
        },
        ttl_seconds: longest.unwrap_or(TTL_SECONDS).clamp(1, TTL_SECONDS),
        badge: (waiting > 0).then_some(waiting),
    }))
}

/// What a newer message takes the place of: 32 characters of base64url, as RFC 8030 wants a topic.
fn tag(of: &str) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(Sha256::digest(of.as_bytes()));
    text.truncate(32);
    text
}

fn said(text: &str, characters_max: usize) -> String {
    shortened(&visible(text), characters_max)
}

/// One request in one line: what, where to, and how many files.
fn line(request: &Request, snapshot: &Snapshot) -> Result<String, Trouble> {
    let title = said(&request.title, TITLE_MAX);
    let project: Option<Project> = match request.gated_project() {
        Some(id) => snapshot.get(id.as_str())?,
        None => None,
    };
    let place = project.as_ref().map(|it| said(&it.path, NAME_MAX));
    if let (Kind::Change, Some(key)) = (request.kind, &request.change) {
        let forge: Option<Integration> = match &project {
            Some(it) => snapshot.get(it.integration.as_str())?,
            None => None,
        };
        let number = forge
            .map_or(ForgeKind::Gitlab, |it| it.kind)
            .change_text(key.number);
        let target = request.target.as_deref().unwrap_or_default();
        let target = said(target.strip_prefix("refs/heads/").unwrap_or(target), NAME_MAX);
        let files = match snapshot.blob(&request.opening)? {
            Some(blob) => decode::<Opening>(&blob)?.facts.map(|it| it.files.files.len()),
            None => None,
        };
        let files = match files {
            Some(1) => ", 1 file".to_owned(),
            Some(count) => format!(", {count} files"),
            None => String::new(),
        };
        let place = place.map_or_else(String::new, |it| format!("{it} "));
        return Ok(format!("{place}{number} → {target}: {title}{files}"));
    }
    Ok(match &request.environment {
        Some(environment) => format!("{}: {title}", said(environment, NAME_MAX)),
        None => title,
    })
}

/// What an event has somebody know at once.
pub(super) fn alert(event: &Event, public_url: &str, snapshot: &Snapshot) -> Result<Option<Alert>, Trouble> {
    let admins = |title: &str, body: String, path: &str| Alert {
        to: Recipients::Admins,
        kind: NoticeKind::Alert,
        message: Message {
            title: title.to_owned(),
            body,
            url: format!("{public_url}{path}"),
            tag: tag(&format!("{title}{path}")),
            ttl_seconds: TTL_SECONDS,
            badge: None,
        },
        by: None,
    };
    let owner = |person: &PersonId, title: &str, body: String| Alert {
        to: Recipients::One(person.clone()),
        kind: NoticeKind::Alert,
        message: Message {
            title: title.to_owned(),
            body,
            url: format!("{public_url}/a/passkeys"),
            tag: tag(title),
            ttl_seconds: TTL_SECONDS,
            badge: None,
        },
        by: None,
    };
    const EXCEPTIONS: &str = "/dashboard/exceptions";
    Ok(Some(match event {
        Event::ExceptionBreakGlass { .. } => admins(
            "The glass was broken",
            "A request was approved the emergency way. Somebody who took no part has to look it over.".into(),
            EXCEPTIONS,
        ),
        Event::ExceptionRequesterReported {
            name, requester_name, ..
        } => admins(
            "Not me: a requester was reported",
            format!(
                "{} did not expect what {} asks. Nothing of it can be approved until that was looked over.",
                said(name, NAME_MAX),
                said(requester_name, NAME_MAX)
            ),
            EXCEPTIONS,
        ),
        Event::ExceptionUnapprovedChange { .. } => admins(
            "Around the gate",
            "Something is in a gated branch that no approval covers.".into(),
            EXCEPTIONS,
        ),
        Event::ExceptionUnapprovedDeployment { .. } => admins(
            "Around the gate",
            "A gated job was started without an approval.".into(),
            EXCEPTIONS,
        ),
        Event::ExceptionStatusForged { .. } => admins(
            "A status was forged",
            "Somebody else wrote a status under our name. It was set back.".into(),
            EXCEPTIONS,
        ),
        Event::ExceptionProtectionDrift { .. } => admins(
            "A gate became weaker",
            "A forge’s settings enforce less than before.".into(),
            EXCEPTIONS,
        ),
        Event::PasskeyAdded { passkey } => owner(
            &passkey.person,
            "A passkey was added to your account",
            format!(
                "“{}” signs in as you from now on. If that was not you, remove it and tell an admin.",
                said(&passkey.label, NAME_MAX)
            ),
        ),
        Event::PasskeyRevoked { person, .. } => owner(
            person,
            "A passkey of yours was removed",
            "If that was not you, tell an admin.".into(),
        ),
        Event::TotpEnrolled { person, .. } => owner(
            person,
            "One-time codes were set up for your account",
            "They decide as you wherever a rule takes them. If that was not you, remove them and tell an admin.".into(),
        ),
        Event::TotpRevoked { person, .. } => owner(
            person,
            "Your one-time codes were removed",
            "If that was not you, tell an admin.".into(),
        ),
        Event::TotpLocked { person, name, wrong } => Alert {
            to: Recipients::OneAndAdmins(person.clone()),
            ..owner(
                person,
                "One-time codes are locked",
                format!(
                    "{wrong} codes in a row were wrong for {}. Somebody with a session of theirs may be guessing. Passkeys \
                     work as before.",
                    said(name, NAME_MAX)
                ),
            )
        },
        Event::NotificationAsked { person, by } => {
            let record: Option<Person> = snapshot.get(person.as_str())?;
            let name = record.map_or_else(String::new, |it| said(&it.name, NAME_MAX));
            let mut alert = owner(
                person,
                "This is a test",
                format!("Messages for {name} arrive here."),
            );
            alert.kind = NoticeKind::Test;
            alert.by = *by;
            alert.message.url = format!("{public_url}/a/phone");
            alert
        }
        _ => return Ok(None),
    }))
}
