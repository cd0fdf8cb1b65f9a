//! The signing keys there ever were: what each is for, its fingerprint, how long it counted, where it is kept; and letting
//! another one take over.

use crate::domain::keys::{KeyRecord, all_keys};
use crate::domain::people::Role;
use crate::domain::state::Read;
use crate::engine::Condition;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::keys::verifier_keys;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::settings::{SIGNING_KEYS, SettingView, of};
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest reason on the page, in characters.
const TEXT_MAX: usize = 300;
/// Hex digits in a group of a fingerprint: what people read in one go.
const GROUP: usize = 4;

#[derive(Template)]
#[template(path = "settings/signing_keys.html")]
struct SigningKeysPage {
    frame: Frame,
    admin: bool,
    away: bool,
    in_files: bool,
    keys: Vec<KeyView>,
    log: Vec<LogView>,
    settings: Vec<SettingView>,
}

/// One key.
pub struct KeyView {
    pub credential: bool,
    pub keyid: String,
    /// Its first digits.
    pub short: String,
    /// The same in groups.
    pub fingerprint: String,
    pub from_seq: u64,
    pub from: Moment,
    /// The first entry it no longer counts for, and when that was recorded.
    pub until: Option<(u64, Option<Moment>)>,
    /// Why somebody else may hold it.
    pub revoked: Option<String>,
    /// Where it is kept, while it signs.
    pub backend: Option<&'static str>,
    /// Digest of the statement by which the key before introduced it.
    pub introduction: Option<String>,
}

/// One epoch of the log.
struct LogView {
    origin: String,
    vkey: String,
}

/// `9986bd64…` as `9986 bd64 …`.
pub fn grouped(fingerprint: &str) -> String {
    let digits: Vec<char> = fingerprint.chars().collect();
    let groups: Vec<String> = digits.chunks(GROUP).map(|it| it.iter().collect()).collect();
    groups.join(" ")
}

/// All keys, the newest first.
pub fn keys(app: &App, state: &impl Read) -> Result<Vec<KeyView>, PageError> {
    let backends = app.engine.health().backends();
    let view = |it: &KeyRecord| {
        let credential = it.r#use == "credential";
        let backend = if credential { backends.0 } else { backends.1 };
        KeyView {
            credential,
            short: it.keyid.chars().take(8).collect(),
            fingerprint: grouped(&it.keyid),
            keyid: it.keyid.clone(),
            from_seq: it.from_seq,
            from: Moment::of(it.from),
            until: it.until_seq.map(|seq| (seq, it.until.map(Moment::of))),
            revoked: it.compromised.as_deref().map(|it| shown(it, TEXT_MAX)),
            backend: it.until_seq.is_none().then(|| words_of(backend)),
            introduction: it.introduction.map(|it| it.to_string()),
        }
    };
    let mut all: Vec<KeyView> = all_keys(state)?.iter().map(view).collect();
    all.reverse();
    Ok(all)
}

fn words_of(backend: &str) -> &'static str {
    match backend {
        "agent" => t!("an agent or token, which this server only asks"),
        _ => t!("an encrypted file in the data directory"),
    }
}

/// `GET /dashboard/settings/signing-keys`: administrators; auditors see it without the forms.
pub async fn show_signing_keys(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let health = app.engine.health();
    let log = verifier_keys(&state)?;
    Ok(html(&SigningKeysPage {
        frame: Frame::new(&app, Some(&person), Place::SigningKeys, t!("Signing keys")),
        admin: person.has(Role::Admin),
        away: health.has(Condition::SignerDown),
        in_files: health.backends().0 != "agent",
        keys: keys(&app, &state)?,
        log: log
            .iter()
            .map(|it| LogView {
                origin: it.name().to_owned(),
                vkey: it.vkey(),
            })
            .collect(),
        settings: of(&app, SIGNING_KEYS),
    }))
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn fingerprints_come_in_groups_of_four() {
        assert_eq!(grouped("0123456789ab"), "0123 4567 89ab");
        assert_eq!(grouped("01234"), "0123 4");
    }
}
