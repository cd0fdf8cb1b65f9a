//! What protects this server from whoever gets at a browser or a key: sessions, methods, limits, recovery, and what each
//! dangerous change asks for.

use crate::domain::danger::Act;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::settings::{SECURITY, SettingView, of, setting};
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::{Reader, SESSION_SECONDS};
use crate::web::words::span;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

#[derive(Template)]
#[template(path = "settings/security.html")]
struct SecurityPage {
    frame: Frame,
    session: String,
    idle: Option<SettingView>,
    /// `None`: a new passkey decides at once.
    hold: Option<String>,
    /// Models that may be enrolled; empty: any.
    models: Option<String>,
    acts: Vec<ActView>,
    settings: Vec<SettingView>,
}

/// One dangerous act.
struct ActView {
    words: &'static str,
    second: &'static str,
}

/// `GET /dashboard/settings/security`: administrators and auditors.
pub async fn show_security(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let acts = Act::ALL.into_iter().map(|it| ActView {
        words: it.words(),
        second: it.second().words(),
    });
    Ok(html(&SecurityPage {
        frame: Frame::new(&app, Some(&person), Place::Security, t!("Security")),
        session: span(SESSION_SECONDS),
        idle: setting(&app, "security.session_idle"),
        hold: (app.passkey_hold_seconds > 0).then(|| span(app.passkey_hold_seconds)),
        models: setting(&app, "security.authenticators")
            .map(|it| it.value)
            .filter(|it| !it.is_empty()),
        acts: acts.collect(),
        settings: of(&app, SECURITY),
    }))
}
