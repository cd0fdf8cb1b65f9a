//! A person's one-time codes: what they are worth, setting them up, removing them.

use crate::domain::decide::deciding_codes;
use crate::domain::totp::Generator;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, shown};
use crate::web::session::Reader;
use crate::web::words::span;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Rules that are named one by one.
const NAMED_MAX: usize = 10;

#[derive(Template)]
#[template(path = "approve/codes.html")]
struct CodesPage {
    frame: Frame,
    generator: Option<GeneratorView>,
    /// What takes codes, in words.
    taken_by: Vec<String>,
    taken_by_more: usize,
    /// How long a new one waits, in words; `None`: not at all.
    hold: Option<String>,
}

struct GeneratorView {
    added: Moment,
    used: Option<Moment>,
    decides_from: Option<Moment>,
    locked: Option<Moment>,
}

/// `GET /a/codes`: everybody who is signed in.
pub async fn show_codes(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    let taken_by = deciding_codes(&app.snapshot()?)?;
    let view = |it: &Generator| GeneratorView {
        added: Moment::of(it.added_at),
        used: it.last_used_at.map(Moment::of),
        decides_from: Some(it.decides_from).filter(|it| *it > app.now()).map(Moment::of),
        locked: it.locked_at.map(Moment::of),
    };
    Ok(html(&CodesPage {
        frame: Frame::new(&app, Some(&person), Place::Passkeys, t!("One-time codes")),
        generator: person.totp.as_ref().map(view),
        taken_by_more: taken_by.len().saturating_sub(NAMED_MAX),
        taken_by: taken_by.iter().take(NAMED_MAX).map(|it| shown(it, 300)).collect(),
        hold: (app.passkey_hold_seconds > 0).then(|| span(app.passkey_hold_seconds)),
    }))
}
