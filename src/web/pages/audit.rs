//! The end of the journal, and the keys and the checkpoint by which anybody can check it.

use crate::domain::time::Time;
use crate::evidence::leaf;
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

/// Entries on one page.
const PAGE: u64 = 50;
/// Longest text of one entry on the page, in characters.
const ENTRY_MAX: usize = 4000;

#[derive(Template)]
#[template(path = "admin/audit.html")]
struct AuditPage {
    frame: Frame,
    size: u64,
    covered: Option<u64>,
    root: String,
    checkpoint: Option<String>,
    credential_key: String,
    entries: Vec<Entry>,
    older: Option<u64>,
    first: bool,
}

/// One entry of the journal.
struct Entry {
    seq: u64,
    at: Moment,
    kind: String,
    who: String,
    about: String,
    href: Option<String>,
    exact: String,
}

/// What `GET /dashboard/audit` may be told.
#[derive(Debug, Default, Deserialize)]
pub struct AuditQuery {
    before: Option<u64>,
}

/// `GET /dashboard/audit`: administrators and auditors.
pub async fn show_audit(
    app: Data<App>,
    Reader(person): Reader,
    query: Option<Query<AuditQuery>>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let size = state.size()?;
    let before = query.and_then(|it| it.before);
    let end = before.unwrap_or(size).min(size);
    let from = end.saturating_sub(PAGE);
    let leaves = state.leaves(from, usize::try_from(end - from).unwrap_or(0))?;
    let latest = state.latest_checkpoint()?;
    Ok(html(&AuditPage {
        frame: Frame::new(&app, Some(&person), Place::Audit, "Audit"),
        root: state.root(size)?.base64(),
        size,
        covered: latest.as_ref().map(|(covered, _)| *covered),
        checkpoint: latest.map(|(_, note)| shown_lines(&note)),
        credential_key: app.credential_key()?.id().to_owned(),
        entries: leaves.iter().rev().map(|(seq, leaf)| entry(*seq, leaf)).collect(),
        older: (from > 0).then_some(from),
        first: before.is_none(),
    }))
}

/// A note's lines, each made safe to look at.
fn shown_lines(note: &str) -> String {
    note.lines()
        .map(|it| shown(it, ENTRY_MAX))
        .collect::<Vec<_>>()
        .join("\n")
}

fn entry(seq: u64, bytes: &[u8]) -> Entry {
    let exact = shown(&String::from_utf8_lossy(bytes), ENTRY_MAX);
    let Ok(leaf) = leaf::parse(bytes) else {
        let kind = "an entry that can’t be read".to_owned();
        return Entry {
            seq,
            at: Moment::of(Time(0)),
            kind,
            who: String::new(),
            about: String::new(),
            href: None,
            exact,
        };
    };
    let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |pointer: &str| {
        json.pointer(pointer)
            .and_then(|it| it.as_str())
            .map(|it| shown(it, 120))
    };
    let who = match text("/actor/kind").as_deref() {
        Some("person") => text("/actor/name").unwrap_or_else(|| "a person".to_owned()),
        Some("key") => format!("key {}", text("/actor/name").unwrap_or_default()),
        Some("forge") => "the forge".to_owned(),
        Some("host") => "the host".to_owned(),
        _ => "this server".to_owned(),
    };
    let about = text("/object/id").unwrap_or_default();
    let href = about.starts_with("apr_").then(|| format!("/a/{about}"));
    Entry {
        seq,
        at: Moment::of(Time::parse(&leaf.time).unwrap_or(Time(0))),
        kind: shown(&leaf.kind, 60),
        who,
        about,
        href,
        exact,
    }
}
