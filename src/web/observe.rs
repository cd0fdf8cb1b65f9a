//! What goes around every request: its id, whose it is, its line in the log, and what is refused before anything looks at
//! it.

use crate::listen::{Peer, Serving};
use crate::web::app::App;
use crate::web::plain_http;
use crate::web::problem::Problem;
use actix_http::Request;
use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpMessage, ResponseError};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

/// Bytes of a request's headers at the most. Cookies and keys need a fraction.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Characters of a path that the log keeps.
const PATH_CHARACTERS_MAX: usize = 200;

tokio::task_local! {
    static REQUEST: Uuid;
}

/// The id of the request that is being answered, or a new one outside of any.
pub fn current_id() -> Uuid {
    REQUEST.try_with(|it| *it).unwrap_or_else(|_| Uuid::new_v4())
}

/// The client's address, as far as it is known for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Surrounds each request.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = Uuid::new_v4();
    let started = Instant::now();
    let peer = request.request().conn_data::<Peer>().cloned();
    let serving = peer.as_ref().map(Peer::serve);
    let app = request.app_data::<Data<App>>().cloned();
    let mut came_plain = false;
    let mut client = None;
    if let (Some(app), Some(peer)) = (&app, &peer) {
        let front = &app.front;
        let ip = peer.address.ip();
        client = Some(
            front
                .proxies
                .client(ip, values(request.headers(), "x-forwarded-for")),
        );
        came_plain = front.proxies.trusts(ip)
            && !app.evaluation
            && values(request.headers(), "x-forwarded-proto")
                .next_back()
                .is_some_and(|it| it.eq_ignore_ascii_case("http"));
    }
    if let Some(client) = client {
        request.extensions_mut().insert(ClientAddress(client));
    }
    let method = request.method().clone();
    let path = match request.path().len() <= PATH_CHARACTERS_MAX {
        true => request.path().to_owned(),
        false => request.path().chars().take(PATH_CHARACTERS_MAX).collect(),
    };
    let certificate = peer.and_then(|it| it.certificate);
    let span = tracing::info_span!("request", request.id = %id);
    let answered = REQUEST.scope(id, async {
        if has_too_many_headers(request.headers()) {
            let refusal = Problem::headers_too_large(HEADER_BYTES_MAX).error_response();
            return Ok(request.into_response(refusal));
        }
        if came_plain && let Some(app) = &app {
            let answer = plain_http::answer(app, request.request());
            return Ok(request.into_response(answer));
        }
        next.call(request).await.map(ServiceResponse::map_into_boxed_body)
    });
    let mut response = answered.instrument(span).await?;
    let status = response.status().as_u16();
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-request-id"), id_value(id));
    if let Some(app) = &app {
        // The pattern, never the path: a figure for each path would have no end.
        let route = response
            .request()
            .match_pattern()
            .unwrap_or_else(|| "none".to_owned());
        app.metrics
            .answered(&route, known(&method), status, started.elapsed().as_secs_f64());
    }
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let client = client.map(|it| it.to_string()).unwrap_or_default();
    let subject = certificate.as_ref().map(|it| it.subject.as_str());
    if is_worth_a_line(&method, status) {
        tracing::info!(
            request.id = %id, %method, path, status, duration_ms, client.address = client,
            client.certificate = subject, "answered"
        );
    } else {
        tracing::debug!(
            request.id = %id, %method, path, status, duration_ms, client.address = client,
            client.certificate = subject, "answered"
        );
    }
    Ok(response.map_body(|_, body| {
        BoxBody::new(Watched {
            body,
            _serving: serving,
        })
    }))
}

/// Whether an operator wants to see it at the usual level: what was to change something, and what was not granted. Pipelines that
/// wait, monitors, pages that look for news and the files they bring are some lines a second of nothing; metrics count them.
fn is_worth_a_line(method: &Method, status: u16) -> bool {
    status >= 400 || !(*method == Method::GET || *method == Method::HEAD)
}

/// A method as a label: callers may invent others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// A header's values that are text, in their order.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl DoubleEndedIterator<Item = &'a str> {
    let all: Vec<&str> = headers.get_all(name).filter_map(|it| it.to_str().ok()).collect();
    all.into_iter()
}

/// Whether a request's headers are more than anybody needs.
pub fn has_too_many_headers(headers: &HeaderMap) -> bool {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    bytes > HEADER_BYTES_MAX
}

/// The same as [`observe`] for an answer that `recall` gives: its id, its figures and its line in the log.
pub fn recalled(app: &App, request: &Request, peer: &Peer, started: Instant, headers: &mut HeaderMap) {
    let id = Uuid::new_v4();
    headers.insert(HeaderName::from_static("x-request-id"), id_value(id));
    app.metrics.recalled(started.elapsed().as_secs_f64());
    tracing::debug!(
        request.id = %id, method = "GET", path = request.path(), status = 200, duration_ms = 0,
        client.address = %peer.address.ip(),
        client.certificate = peer.certificate.as_ref().map(|it| it.subject.as_str()), "answered"
    );
}

fn id_value(id: Uuid) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).expect("a UUID is a header value")
}

/// A body that keeps its connection marked as at work until it is sent.
pub struct Watched<B> {
    pub body: B,
    pub _serving: Option<Serving>,
}

impl<B: MessageBody + Unpin> MessageBody for Watched<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Watched { body, _serving } = self;
        body.try_into_bytes().map_err(|body| Watched { body, _serving })
    }
}
