//! A person's passkeys and sessions: names, when they were last used, adding one, ending one.

use crate::domain::people::{Passkey, Session};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, shown};
use crate::web::session::{Reader, session_token};
use crate::web::words::span;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

const NAME_MAX: usize = 100;
/// Digits of an authenticator model that are enough to tell two apart.
const NO_MODEL: &str = "00000000-0000-0000-0000-000000000000";

#[derive(Template)]
#[template(path = "approve/passkeys.html")]
struct PasskeysPage {
    frame: Frame,
    passkeys: Vec<PasskeyView>,
    sessions: Vec<SessionView>,
    /// How long a new one waits, in words; `None`: not at all.
    hold: Option<String>,
}

struct PasskeyView {
    id: String,
    label: String,
    kind: &'static str,
    synced: bool,
    model: Option<String>,
    added: Moment,
    used: Option<Moment>,
    decides_from: Option<Moment>,
    only: bool,
}

struct SessionView {
    id: String,
    opened: Moment,
    expires: Moment,
    this: bool,
}

/// `GET /a/passkeys`: everybody who is signed in.
pub async fn show_passkeys(
    app: Data<App>,
    Reader(person): Reader,
    request: HttpRequest,
) -> Result<HttpResponse, PageError> {
    let state = app.snapshot()?;
    let now = app.now();
    let own = session_token(&app, &request).map(|it| crate::identity::hash_token(&it));
    let mut sessions: Vec<Session> = state.all()?;
    sessions.retain(|it| it.person == person.id && now < it.expires_at);
    sessions.sort_by_key(|it| (own != Some(it.token_sha256), std::cmp::Reverse(it.opened_at)));
    let only = person.live_passkeys().count() == 1;
    Ok(html(&PasskeysPage {
        frame: Frame::new(&app, Some(&person), Place::Passkeys, t!("Passkeys")),
        passkeys: person.live_passkeys().map(|it| view(it, only, now)).collect(),
        sessions: sessions
            .iter()
            .map(|it| SessionView {
                id: it.token_sha256.to_string(),
                opened: Moment::of(it.opened_at),
                expires: Moment::of(it.expires_at),
                this: own == Some(it.token_sha256),
            })
            .collect(),
        hold: (app.passkey_hold_seconds > 0).then(|| span(app.passkey_hold_seconds)),
    }))
}

fn view(it: &Passkey, only: bool, now: Time) -> PasskeyView {
    PasskeyView {
        id: it.credential_id.clone(),
        label: match it.label.is_empty() {
            true => t!("Passkey").to_owned(),
            false => shown(&it.label, NAME_MAX),
        },
        kind: match it.platform {
            true => t!("on the device itself"),
            false => t!("security key or phone"),
        },
        synced: it.backup_eligible,
        model: (it.aaguid != NO_MODEL).then(|| shown(&it.aaguid, 40)),
        added: Moment::of(it.added_at),
        used: it.last_used_at.map(Moment::of),
        decides_from: Some(it.decides_from).filter(|it| *it > now).map(Moment::of),
        only,
    }
}
