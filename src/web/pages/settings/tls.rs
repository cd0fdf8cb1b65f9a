//! How connections are protected, and the exact settings for each way.

use crate::domain::set_up::Transport;
use crate::texts::filters;
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::settings::{SettingView, TLS, of};
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use crate::web::words::span;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest text of a certificate, in characters.
const TEXT_MAX: usize = 400;

#[derive(Template)]
#[template(path = "settings/tls.html")]
struct TlsPage {
    frame: Frame,
    transport: Transport,
    certificate: Option<CertificateView>,
    ways: Ways,
    settings: Vec<SettingView>,
}

/// A certificate, for people.
pub struct CertificateView {
    pub names: String,
    pub names_host: bool,
    pub issuer: String,
    pub not_after: Moment,
    pub left: String,
    pub sha256: String,
    pub self_signed: bool,
}

impl CertificateView {
    /// The one that is served, where there is one.
    pub fn of(app: &App) -> Option<CertificateView> {
        let current = app.front.tls.as_ref()?.current();
        Some(CertificateView {
            names: shown(&current.facts.names.join(", "), TEXT_MAX),
            names_host: current.facts.names_host,
            issuer: shown(&current.facts.issuer, TEXT_MAX),
            not_after: Moment::of(current.facts.not_after),
            left: span(app.now().seconds_until(current.facts.not_after)),
            sha256: current.facts.sha256.to_string(),
            self_signed: current.self_signed,
        })
    }
}

/// How connections are protected now.
pub fn transport(app: &App) -> Transport {
    let Some(tls) = &app.front.tls else {
        return match app.front.for_proxies {
            true => Transport::Proxy,
            false => Transport::Evaluation,
        };
    };
    let current = tls.current();
    match current.self_signed {
        true => Transport::SelfSigned,
        false => Transport::Files {
            counts: current.facts.names_host && app.now() < current.facts.not_after,
        },
    }
}

/// What to write into the settings' file for each way, with this server's own address in it.
pub struct Ways {
    pub files: String,
    pub proxy: String,
}

impl Ways {
    /// For this server's address; an evaluation's is no example for others.
    pub fn of(app: &App) -> Ways {
        let url = match app.evaluation() {
            true => "https://approvals.example.com",
            false => app.public_url(),
        };
        Ways {
            files: format!(
                "public_url = \"{url}\"\nlisten = \"0.0.0.0:443\"\n\n[tls]\ncertificate = \"/etc/signedapproval/tls.pem\"\n\
                 private_key = \"/etc/signedapproval/tls.key\""
            ),
            proxy: format!(
                "public_url = \"{url}\"\nlisten = \"127.0.0.1:8080\"\n\n# Only where the proxy is on another machine, \
                 with listen = \"0.0.0.0:8080\":\n# [proxy]\n# trusted = [\"192.0.2.7\"]"
            ),
        }
    }
}

/// `GET /dashboard/settings/tls`: administrators and auditors.
pub async fn show_tls(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    Ok(html(&TlsPage {
        frame: Frame::new(&app, Some(&person), Place::Tls, "TLS"),
        transport: transport(&app),
        certificate: CertificateView::of(&app),
        ways: Ways::of(&app),
        settings: of(&app, TLS),
    }))
}
