//! The settings, a page for each part. What the host sets (file, environment, flags) is shown with its origin and can't be
//! changed here; what is kept in the journal is changed on its own page.

mod about;
mod backup;
mod general;
mod index;
mod security;
mod signing_keys;
mod tls;

pub use about::show_about;
pub use backup::show_backup;
pub use general::show_general;
pub use index::show_settings;
pub use security::show_security;
pub use signing_keys::{KeyView, keys, show_signing_keys};
pub use tls::{CertificateView, Ways, show_tls, transport};

use crate::texts::t;
use crate::web::app::{App, SettingLine};
use std::sync::PoisonError;

/// Settings that the page about TLS shows.
const TLS: &[&str] = &["tls.", "proxy."];
/// Those of the page about signing keys.
const SIGNING_KEYS: &[&str] = &["keys."];
/// Those of the page about backups.
const BACKUP: &[&str] = &["backup.", "storage."];
/// Those of the page about security.
const SECURITY: &[&str] = &[
    "security.",
    "limits.changes_per_minute",
    "limits.reads_per_minute",
];
/// What has a page of its own; all the rest is general.
const ELSEWHERE: &[&[&str]] = &[TLS, SIGNING_KEYS, BACKUP, SECURITY];

/// One setting of the host's, for people.
pub struct SettingView {
    pub key: &'static str,
    pub value: String,
    /// Where it comes from, in words.
    pub origin: String,
    /// Nothing sets it.
    pub default: bool,
    /// It counts after a reload.
    pub reloaded: bool,
}

impl From<&SettingLine> for SettingView {
    fn from(it: &SettingLine) -> Self {
        SettingView {
            key: it.key,
            value: it.value.clone(),
            origin: origin_in_words(&it.origin),
            default: it.origin == "default",
            reloaded: it.reloaded,
        }
    }
}

/// `environment X` as a sentence's part: "set by the environment variable X".
fn origin_in_words(origin: &str) -> String {
    if origin == "default" {
        return t!("the default: nothing sets it").to_owned();
    }
    if let Some(name) = origin.strip_prefix("environment ") {
        return t!("set by the environment variable {name}", name = name);
    }
    if let Some(name) = origin.strip_prefix("flag ") {
        return t!("set by the flag {name}", name = name);
    }
    match origin.rsplit_once(':') {
        Some((file, line)) => t!("set in the file {file}, line {line}", file = file, line = line),
        None => t!("set in {origin}", origin = origin),
    }
}

fn is_of(key: &str, parts: &[&str]) -> bool {
    parts
        .iter()
        .any(|it| key == *it || (it.ends_with('.') && key.starts_with(it)))
}

/// The settings of one page.
fn of(app: &App, parts: &[&str]) -> Vec<SettingView> {
    chosen(app, |key| is_of(key, parts))
}

/// One setting by its key, wherever it is shown.
pub fn setting(app: &App, key: &str) -> Option<SettingView> {
    chosen(app, |it| it == key).pop()
}

/// The settings that no other page shows.
fn general(app: &App) -> Vec<SettingView> {
    chosen(app, |key| !ELSEWHERE.iter().any(|parts| is_of(key, parts)))
}

fn chosen(app: &App, wanted: impl Fn(&str) -> bool) -> Vec<SettingView> {
    let all = app.settings.read().unwrap_or_else(PoisonError::into_inner);
    all.iter()
        .filter(|it| wanted(it.key))
        .map(SettingView::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::KEYS;
    use crate::web::pages::settings::{ELSEWHERE, is_of, origin_in_words};

    #[test]
    fn every_setting_is_on_one_page() {
        for key in KEYS {
            let pages = ELSEWHERE.iter().filter(|parts| is_of(key.name, parts)).count();
            assert!(pages <= 1, "{} is on {pages} pages", key.name);
        }
        // Each page's own parts name something.
        for parts in ELSEWHERE.iter().flat_map(|it| it.iter()) {
            assert!(
                KEYS.iter().any(|it| is_of(it.name, &[parts])),
                "{parts} names no setting"
            );
        }
    }

    #[test]
    fn origins_are_told_in_words() {
        for (origin, words) in [
            ("default", "the default: nothing sets it"),
            (
                "environment SIGNEDAPPROVAL_LISTEN",
                "set by the environment variable SIGNEDAPPROVAL_LISTEN",
            ),
            ("flag --listen", "set by the flag --listen"),
            (
                "/etc/x:y/config.toml:12",
                "set in the file /etc/x:y/config.toml, line 12",
            ),
        ] {
            assert_eq!(origin_in_words(origin), words);
        }
    }
}
