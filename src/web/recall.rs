//! The state of a request, asked for again. Pipelines that poll ask nothing else, all of them together more often than
//! anything else is asked of this server, and while the journal has not grown the answer is known. So it is given before
//! the call goes through routes and extractors. What is checked is what is checked there, by the same functions; whatever
//! is not plain about a call (no key, a limit reached, a proxy in between) takes the usual way, which says what it is.

use crate::domain::ids::RequestId;
use crate::listen::Peer;
use crate::web::api::approvals::shown_recently;
use crate::web::app::App;
use crate::web::headers;
use crate::web::limits::Use;
use crate::web::observe::{self, Watched};
use crate::web::session::known_key;
use actix_http::{Method, Request, Response, StatusCode};
use actix_web::HttpMessage;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, TRANSFER_ENCODING};
use actix_web::web::Bytes;
use std::time::Instant;

/// The route whose answers are given again.
pub const ROUTE: &str = "/api/v1/approvals/{id}";

/// The answer, if it is known. `None`: the routes are to answer.
pub fn again(app: &App, request: &Request) -> Option<Response<Watched<Bytes>>> {
    let started = Instant::now();
    if *request.method() != Method::GET || request.uri().query().is_some() {
        return None;
    }
    let id = request.path().strip_prefix("/api/v1/approvals/")?;
    let id = RequestId::parse(id)?;
    let heads = request.headers();
    let plain = ![CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT]
        .iter()
        .any(|it| heads.contains_key(it));
    let peer = request.conn_data::<Peer>()?;
    if !plain || app.front.proxies.trusts(peer.address.ip()) || observe::has_too_many_headers(heads) {
        return None;
    }
    let key = known_key(app, heads, peer.certificate.is_some())?;
    let body = shown_recently(app, &key, &id)?;
    // Counted once it is sure that the routes won't do it.
    app.limits.take(&key.id, Use::Read, started).ok()?;
    let mut response = Response::with_body(
        StatusCode::OK,
        Watched {
            body,
            _serving: Some(peer.serve()),
        },
    );
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers::guard_data(app, headers);
    observe::recalled(app, request, peer, started, headers);
    Some(response)
}
