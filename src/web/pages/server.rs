//! The server itself: what about it needs somebody, its certificate, and its settings with their origins.

use crate::domain::condition::{Condition, Severity};
use crate::domain::time::span;
use crate::texts::filters;
use crate::web::app::{App, SettingLine};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest text of others, in characters.
const TEXT_MAX: usize = 400;

#[derive(Template)]
#[template(path = "admin/server.html")]
struct ServerPage {
    frame: Frame,
    conditions: Vec<ConditionView>,
    certificate: Option<CertificateView>,
    /// Plain http, for a TLS proxy.
    behind_proxy: bool,
    connections: usize,
    settings: Vec<SettingLine>,
}

/// One condition that lasts.
pub struct ConditionView {
    pub title: String,
    pub detail: String,
    pub degraded: bool,
    pub since: Moment,
}

struct CertificateView {
    names: String,
    issuer: String,
    not_after: Moment,
    left: String,
    sha256: String,
    self_signed: bool,
}

/// What lasts and does not stand at the top of every page anyway, the worst first.
pub fn beside_the_frame(app: &App) -> Result<Vec<ConditionView>, PageError> {
    let standing = app.engine.health().standing();
    let mut all = app.conditions()?;
    all.retain(|it| standing.iter().all(|known| known.condition.name() != it.name));
    Ok(views(all))
}

/// All that lasts, the worst first.
pub fn conditions(app: &App) -> Result<Vec<ConditionView>, PageError> {
    Ok(views(app.conditions()?))
}

fn views(mut all: Vec<Condition>) -> Vec<ConditionView> {
    all.sort_by_key(|it| (std::cmp::Reverse(it.severity), it.since));
    let view = |it: Condition| ConditionView {
        title: title(&it.name),
        detail: shown(&it.detail, TEXT_MAX),
        degraded: it.severity == Severity::Degraded,
        since: Moment::of(it.since),
    };
    all.into_iter().map(view).collect()
}

/// `certificate.self_signed` as people read it: "Certificate: self signed".
fn title(name: &str) -> String {
    let (area, what) = name.split_once('.').unwrap_or((name, ""));
    let mut area = area.replace('_', " ");
    if let Some(first) = area.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match what {
        "" => area,
        what => format!("{area}: {}", what.replace('_', " ")),
    }
}

/// `GET /dashboard/server`: administrators and auditors.
pub async fn show_server(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let now = app.now();
    let certificate = app.front.tls.as_ref().map(|tls| {
        let current = tls.current();
        CertificateView {
            names: shown(&current.facts.names.join(", "), TEXT_MAX),
            issuer: shown(&current.facts.issuer, TEXT_MAX),
            not_after: Moment::of(current.facts.not_after),
            left: span(now.seconds_until(current.facts.not_after)),
            sha256: current.facts.sha256.to_string(),
            self_signed: current.self_signed,
        }
    });
    let settings = app
        .settings
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(html(&ServerPage {
        frame: Frame::new(&app, Some(&person), Place::Server, "Server"),
        conditions: conditions(&app)?,
        behind_proxy: app.front.for_proxies,
        certificate,
        connections: app.front.connections.count(),
        settings: settings.clone(),
    }))
}
