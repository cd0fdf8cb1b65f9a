//! The keys of pipelines and programs. The secret itself is never here.

use crate::domain::people::{ApiKey, Role};
use crate::domain::project::Project;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest name on the page, in characters.
const TEXT_MAX: usize = 120;
/// Seconds a new key lives unless the form says otherwise: 90 days.
const LIFE_SECONDS: u64 = 90 * 86_400;

#[derive(Template)]
#[template(path = "admin/api_keys.html")]
struct ApiKeysPage {
    frame: Frame,
    admin: bool,
    keys: Vec<KeyView>,
    projects: Vec<String>,
    /// The day the form proposes as the last one.
    proposed: String,
    /// The first day the form takes.
    earliest: String,
}

/// One key.
struct KeyView {
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    projects: String,
    owner: Option<String>,
    created: Moment,
    expires: Moment,
    /// `active`, `revoked` or `expired`, with the look of its badge.
    state: &'static str,
    look: &'static str,
}

/// `GET /dashboard/api-keys`: administrators; auditors see it without the form.
pub async fn show_api_keys(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let now = app.now();
    let people = People::load(&state)?;
    let mut keys = state.all::<ApiKey>()?;
    keys.sort_by_key(|it| {
        (
            it.revoked || it.expires_at <= now,
            std::cmp::Reverse(it.created_at),
        )
    });
    let projects = state.all::<Project>()?.into_iter().filter(|it| !it.removed);
    let day = |time: Time| time.to_the_second().chars().take(10).collect::<String>();
    Ok(html(&ApiKeysPage {
        frame: Frame::new(&app, Some(&person), Place::ApiKeys, t!("API keys")),
        admin: person.has(Role::Admin),
        keys: keys.iter().map(|it| view(it, &people, now)).collect(),
        projects: projects.map(|it| shown(&it.path, TEXT_MAX)).collect(),
        proposed: day(now.plus_seconds(LIFE_SECONDS)),
        earliest: day(now.plus_seconds(86_400)),
    }))
}

fn view(key: &ApiKey, people: &People, now: Time) -> KeyView {
    let (state, look) = match (key.revoked, key.expires_at <= now) {
        (true, _) => (t!("Revoked"), "cancelled"),
        (false, true) => (t!("Expired"), "expired"),
        (false, false) => (t!("Active"), "approved"),
    };
    KeyView {
        id: key.id.to_string(),
        name: shown(&key.name, TEXT_MAX),
        scopes: key.scopes.iter().map(|it| it.name()).collect(),
        projects: key
            .projects
            .iter()
            .map(|it| shown(it, TEXT_MAX))
            .collect::<Vec<_>>()
            .join(", "),
        owner: key.owner.as_ref().map(|it| people.name(it)),
        created: Moment::of(key.created_at),
        expires: Moment::of(key.expires_at),
        state,
        look,
    }
}
