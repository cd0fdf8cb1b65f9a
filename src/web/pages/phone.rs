//! How this person is told that something waits: this device, the others, quiet hours, mail; and how the pages become an app.

use crate::domain::notice::{Device, DeviceState, MailWhen, NoticeSettings, Preferences};
use crate::domain::state::Read;
use crate::texts::{filters, t};
use crate::web::api::devices::clock;
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::reach::Reach;
use crate::web::pages::{PageError, html, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

const NAME_MAX: usize = 100;
/// Devices that are no more, and are shown still.
const DEAD_MAX: usize = 5;

#[derive(Template)]
#[template(path = "approve/phone.html")]
struct PhonePage {
    frame: Frame,
    reached_by: Vec<String>,
    devices: Vec<DeviceView>,
    mail_arranged: bool,
    email: String,
    mail: &'static str,
    quiet: Option<(String, String, String)>,
}

/// One device.
struct DeviceView {
    id: String,
    name: String,
    host: String,
    live: bool,
    state: String,
    added: Moment,
    confirmed: Moment,
}

/// `GET /a/phone`: everybody who is signed in.
pub async fn show_phone(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    let state = app.snapshot()?;
    let settings = NoticeSettings::load(&state)?;
    let preferences = Preferences::load(&person.id, &state)?;
    let mut devices: Vec<Device> = state.all()?;
    devices.retain(|it| it.person == person.id);
    devices.sort_by_key(|it| (!it.is_live(), std::cmp::Reverse(it.confirmed_at)));
    let live = devices.iter().filter(|it| it.is_live()).count();
    devices.truncate(live + DEAD_MAX);
    Ok(html(&PhonePage {
        frame: Frame::new(&app, Some(&person), Place::Phone, t!("Phone")),
        reached_by: Reach::load(&state)?.of(&person),
        devices: devices.iter().map(view).collect(),
        mail_arranged: settings.mail.is_some(),
        email: shown(&person.email, NAME_MAX),
        mail: match preferences.mail {
            MailWhen::Always => "always",
            MailWhen::Fallback => "fallback",
            MailWhen::Never => "never",
        },
        quiet: preferences
            .quiet
            .map(|it| (clock(it.from), clock(it.until), it.zone)),
    }))
}

fn view(it: &Device) -> DeviceView {
    DeviceView {
        id: it.id.to_string(),
        name: shown(&it.name, NAME_MAX),
        host: shown(&it.host, NAME_MAX),
        live: it.is_live(),
        state: match &it.state {
            DeviceState::Live => "told".to_owned(),
            DeviceState::Pending => t!("has not signed its challenge yet").to_owned(),
            DeviceState::Dead { reason } => shown(reason, 200),
        },
        added: Moment::of(it.added_at),
        confirmed: Moment::of(it.confirmed_at),
    }
}
