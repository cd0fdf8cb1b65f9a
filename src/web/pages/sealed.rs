//! The page of a sealed server.

use crate::texts::{filters, t};
use crate::web::pages::frame::Frame;
use crate::web::pages::scripts::with_scripts;
use actix_web::HttpResponse;
use askama::Template;

#[derive(Template)]
#[template(path = "enter/unseal.html")]
struct SealedPage {
    frame: Frame,
    first: bool,
    chars_min: usize,
}

/// The page that takes the passphrase; with `first`, that lets it be chosen.
pub fn show_sealed(first: bool, chars_min: usize) -> HttpResponse {
    let title = if first {
        t!("Choose the passphrase")
    } else {
        t!("Sealed")
    };
    let page = SealedPage {
        frame: Frame::bare(title),
        first,
        chars_min,
    };
    match page.render() {
        Ok(html) => HttpResponse::ServiceUnavailable()
            .content_type("text/html; charset=utf-8")
            .body(with_scripts(html)),
        Err(error) => {
            tracing::error!(%error, "a page can't be made");
            HttpResponse::InternalServerError().finish()
        }
    }
}
