//! What came by plain http where https is spoken: a reader is sent on, anything that carries a secret or changes something
//! is refused.

use crate::web::app::App;
use crate::web::problem::Problem;
use actix_web::http::{Method, header};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};

/// The answer to everything on the plain listener.
pub async fn send_to_https(app: Data<App>, request: HttpRequest) -> HttpResponse {
    answer(&app, &request)
}

/// A redirect for whoever only reads, else a refusal: a key that was sent unencrypted must not seem to work.
pub fn answer(app: &App, request: &HttpRequest) -> HttpResponse {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || request.headers().contains_key(header::AUTHORIZATION) {
        return Problem::plain_http(app.public_url()).error_response();
    }
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
    HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, format!("{}{path}", app.public_url())))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}
