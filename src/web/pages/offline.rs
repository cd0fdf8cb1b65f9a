//! The page the service worker keeps for when there is no network. It belongs to nobody and shows nothing of anybody.

use crate::texts::{filters, t};
use crate::web::pages::frame::Frame;
use crate::web::pages::html;
use actix_web::HttpResponse;
use askama::Template;

#[derive(Template)]
#[template(path = "offline.html")]
struct OfflinePage {
    frame: Frame,
}

/// `GET /offline`: anybody; meant for the service worker.
pub async fn show_offline() -> HttpResponse {
    html(&OfflinePage {
        frame: Frame::bare(t!("No connection")),
    })
}
