//! The API's own description, as data.

use crate::web::app::App;
use crate::web::openapi;
use crate::web::session::cookie_name;
use actix_web::HttpResponse;
use actix_web::web::Data;

/// `GET /api/v1/openapi.json`: anybody.
pub async fn get_openapi(app: Data<App>) -> HttpResponse {
    HttpResponse::Ok().json(openapi::document(
        &app.public_url,
        App::version(),
        cookie_name(&app),
    ))
}
