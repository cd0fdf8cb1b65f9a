//! All parts of the settings, and what each holds.

use crate::domain::people::{Person, Role};
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

#[derive(Template)]
#[template(path = "settings/index.html")]
struct SettingsPage {
    frame: Frame,
    parts: Vec<Part>,
}

/// One page of the settings.
struct Part {
    href: &'static str,
    label: &'static str,
    about: &'static str,
    /// Where what it shows is set.
    kept: &'static str,
}

fn parts(person: &Person) -> Vec<Part> {
    let (host, journal) = (t!("set on the host"), t!("recorded in the journal"));
    let (both, nothing) = (t!("both"), t!("to look at"));
    let all = [
        (
            "/dashboard/settings/general",
            t!("General"),
            t!("The address, what this server listens on, limits, logs, and what about it needs somebody."),
            host,
        ),
        (
            "/dashboard/settings/tls",
            "TLS",
            t!("The certificate or the proxy in front, and how to change either."),
            host,
        ),
        (
            "/dashboard/settings/signing-keys",
            t!("Signing keys"),
            t!("The keys there ever were, their fingerprints, rotation and revocation."),
            both,
        ),
        (
            "/dashboard/settings/log-sinks",
            t!("Log sinks"),
            t!("Where the journal’s entries are sent."),
            journal,
        ),
        (
            "/dashboard/settings/notifications",
            t!("Notifications"),
            t!("How approvers are told that something waits."),
            journal,
        ),
        (
            "/dashboard/settings/backup",
            t!("Backup"),
            t!("The schedule, what there is, and how to bring one back."),
            host,
        ),
        (
            "/dashboard/settings/security",
            t!("Security"),
            t!("Sessions, ways to prove who you are, limits, recovery, and which changes need what."),
            host,
        ),
        (
            "/dashboard/settings/retention",
            t!("Retention"),
            t!("How long documents are kept, and erasing them."),
            journal,
        ),
        (
            "/dashboard/settings/diagnostics",
            t!("Diagnostics"),
            t!("Clocks, names, forges, webhooks, messages, and a support bundle."),
            nothing,
        ),
        (
            "/dashboard/settings/about",
            t!("About"),
            t!("Version, checksum, licences, and what this journal is called."),
            nothing,
        ),
    ];
    all.into_iter()
        // How people are told is for administrators alone.
        .filter(|(href, ..)| person.has(Role::Admin) || !href.ends_with("/notifications"))
        .map(|(href, label, about, kept)| Part {
            href,
            label,
            about,
            kept,
        })
        .collect()
}

/// `GET /dashboard/settings`: administrators and auditors.
pub async fn show_settings(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    Ok(html(&SettingsPage {
        frame: Frame::new(&app, Some(&person), Place::Settings, t!("Settings")),
        parts: parts(&person),
    }))
}
