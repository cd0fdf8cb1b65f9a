//! The server itself: what about it needs somebody, its address, and the settings that have no page of their own.

use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::server::{ConditionView, conditions};
use crate::web::pages::settings::{SettingView, general};
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

#[derive(Template)]
#[template(path = "settings/general.html")]
struct GeneralPage {
    frame: Frame,
    conditions: Vec<ConditionView>,
    public_url: String,
    connections: usize,
    settings: Vec<SettingView>,
}

/// `GET /dashboard/settings/general`: administrators and auditors.
pub async fn show_general(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    Ok(html(&GeneralPage {
        frame: Frame::new(&app, Some(&person), Place::General, t!("General settings")),
        conditions: conditions(&app)?,
        public_url: app.public_url().to_owned(),
        connections: app.front.connections.count(),
        settings: general(&app),
    }))
}
