//! Headers of every answer, and the request id that log and answer share.

use crate::web::app::App;
use crate::web::pages::Said;
use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;

/// Nothing from elsewhere, nothing inline, nothing framed.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A page with a form that leads to another site, which its policy then names.
#[derive(Clone, Debug)]
pub struct FormsTo(HeaderValue);

impl FormsTo {
    /// For a form that goes to this address; `None` if it is none that a policy could name.
    pub fn of(action: &str) -> Option<Self> {
        let origin = url::Url::parse(action).ok()?.origin();
        if !origin.is_tuple() {
            return None;
        }
        let policy = CONTENT_SECURITY_POLICY.replace(
            "form-action 'self'",
            &format!("form-action 'self' {}", origin.ascii_serialization()),
        );
        HeaderValue::from_str(&policy).ok().map(FormsTo)
    }
}

/// The same for what is no page: data does nothing, wherever it is shown.
const CONTENT_SECURITY_POLICY_OF_DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// Adds what every answer carries.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let app = request.app_data::<Data<App>>();
    let evaluation = app.is_some_and(|it| it.evaluation);
    let strict = app.is_none_or(|it| is_strict(it));
    let mut response = next.call(request).await?.map_into_boxed_body();
    // An error page is made where the server is not at hand; in evaluation it says so like every other page.
    let said = response.response().extensions().get::<Said>().cloned();
    if let Some(said) = said.filter(|_| evaluation) {
        response = response.into_response(said.in_evaluation());
    }
    let elsewhere = response.response().extensions().get::<FormsTo>().cloned();
    let headers = response.headers_mut();
    let data = headers.get(CONTENT_TYPE).is_some_and(|it| {
        [b"application/json".as_slice(), b"application/problem+json"].contains(&it.as_bytes())
    });
    add(headers, data, strict);
    if let Some(FormsTo(policy)) = elsewhere {
        headers.insert(HeaderName::from_static("content-security-policy"), policy);
    }
    Ok(response)
}

/// The same for an answer that is known to be data.
pub fn guard_data(app: &App, headers: &mut HeaderMap) {
    add(headers, true, is_strict(app));
}

/// Whether browsers are told to insist on TLS. With a certificate that nobody can check they would ignore it (RFC 6797,
/// section 8.1); evaluation has none.
fn is_strict(app: &App) -> bool {
    !app.evaluation && !app.self_signed()
}

fn add(headers: &mut HeaderMap, data: bool, strict: bool) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    set("x-content-type-options", "nosniff");
    set("referrer-policy", "no-referrer");
    set("cross-origin-resource-policy", "same-origin");
    if data {
        set("content-security-policy", CONTENT_SECURITY_POLICY_OF_DATA);
    } else {
        set("content-security-policy", CONTENT_SECURITY_POLICY);
        set("cross-origin-opener-policy", "same-origin");
        set(
            "permissions-policy",
            "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()",
        );
    }
    if strict {
        set("strict-transport-security", "max-age=31536000");
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
