//! Which language an answer speaks: the one a person chose (a cookie), or the best of ours for what the browser asks for.
//!
//! Programs get English: nothing below `/api/` speaks anything else, except to the scripts of our own pages, which show its
//! problems to people as they come.

use crate::texts::{Languages, speaking};
use crate::web::app::App;
use crate::web::recovery::Recovery;
use crate::web::sealed::Sealed;
use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;

/// The cookie with the tag of the language somebody chose.
pub const COOKIE: &str = "language";

/// Surrounds each request that may be answered with texts for people.
pub async fn speak(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let language = languages(&request).and_then(|it| match for_a_person(&request) {
        true => chosen(&request, it),
        false => None,
    });
    let mut response = speaking(language, next.call(request))
        .await?
        .map_into_boxed_body();
    if let Some(tag) = language.and_then(|it| HeaderValue::from_str(&it.tag).ok()) {
        response.headers_mut().insert(CONTENT_LANGUAGE, tag);
    }
    Ok(response)
}

fn languages(request: &ServiceRequest) -> Option<&Languages> {
    request
        .app_data::<Data<App>>()
        .map(|it| &it.languages)
        .or_else(|| request.app_data::<Data<Sealed>>().map(|it| &it.languages))
        .or_else(|| request.app_data::<Data<Recovery>>().map(|it| &it.languages))
}

/// Only browsers send `Sec-Fetch-Site`, and no page can write it.
fn for_a_person(request: &ServiceRequest) -> bool {
    let site = request.headers().get("sec-fetch-site");
    !request.path().starts_with("/api/") || site.is_some_and(|it| it.as_bytes() == b"same-origin")
}

fn chosen(request: &ServiceRequest, languages: &Languages) -> Option<&'static crate::texts::Language> {
    let cookie = request.cookie(COOKIE);
    if let Some(found) = cookie.and_then(|it| languages.tagged(it.value())) {
        return found;
    }
    let header = request.headers().get(ACCEPT_LANGUAGE)?.to_str().ok()?;
    languages.accepted(header)
}
