//! The HTTP side: API, pages and webhooks. Handlers check who is calling, give a command or read, and answer; they never
//! call a forge to act.

pub mod api;
pub mod app;
mod assertion;
mod assets;
mod body;
pub mod confirm;
pub mod exports;
mod filters;
mod headers;
pub mod idle;
pub mod keys;
mod language;
pub mod limits;
pub mod metrics;
mod observe;
pub mod openapi;
mod pages;
mod plain_http;
pub mod problem;
pub(crate) mod qr;
mod reason;
mod recall;
pub mod recent;
pub mod recovery;
pub mod reports;
mod routes;
pub mod sealed;
mod session;
pub mod statistics;
mod support;
pub mod waits;
pub mod words;

use crate::listen::{Connection, Front};
use crate::web::app::App;
use actix_http::HttpService;
use actix_http::body::EitherBody;
use actix_http::error::DispatchError;
use actix_http::{Request, Response};
use actix_server::ServerBuilder;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config,
};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::{Data, to};
use actix_web::{App as Actix, Error, HttpServer};
use futures_util::future::Either;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpStream;

/// Threads that serve. The appliance is small, and each thread costs memory.
const WORKERS: usize = 2;
/// Seconds a started answer may take after a stop was asked for.
const SHUTDOWN_SECONDS: u64 = 5;
/// How long a connection may wait for its next request.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A connection's first head has to be there within this. Later ones: `listen/stream.rs`.
const FIRST_HEAD: Duration = Duration::from_secs(5);
/// Monitors are few.
const METRICS_CONNECTIONS_MAX: usize = 64;
/// How long the end of a connection may take.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Serves the public listener.
///
/// # Errors
/// When the listener can't be used.
pub fn serve(app: Data<App>, listener: TcpListener) -> std::io::Result<Server> {
    let front = app.front.clone();
    let known = Some(app.clone());
    listen("public", front, listener, known, move || {
        Actix::new()
            .app_data(app.clone())
            .configure(routes::parsing)
            .wrap(from_fn(confirm::carry))
            .wrap(from_fn(headers::guard))
            .wrap(from_fn(language::speak))
            .wrap(from_fn(observe::observe))
            .configure(routes::public)
    })
}

/// Serves the listener for plain http, which only sends people to https.
///
/// # Errors
/// When the listener can't be used.
pub fn serve_redirect(app: Data<App>, listener: TcpListener) -> std::io::Result<Server> {
    let front = Arc::new(Front {
        tls: None,
        proxies: app.front.proxies.clone(),
        connections: app.front.connections.clone(),
        public_url: app.public_url.clone(),
        for_proxies: false,
        keys_need_certificate: AtomicBool::new(false),
    });
    listen("redirect", front, listener, None, move || {
        Actix::new()
            .app_data(app.clone())
            .configure(routes::parsing)
            .wrap(from_fn(observe::observe))
            .default_service(to(plain_http::send_to_https))
    })
}

/// One listener: connections as `front` lets them in, requests as `make` answers them, where `known` does not answer before.
fn listen<F, T, B>(
    name: &str,
    front: Arc<Front>,
    listener: TcpListener,
    known: Option<Data<App>>,
    make: F,
) -> std::io::Result<Server>
where
    F: Fn() -> Actix<T> + Send + Clone + 'static,
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
{
    let builder = ServerBuilder::new()
        .workers(WORKERS)
        // Who has to go when there is no room is decided in `listen`.
        .max_concurrent_connections(usize::MAX >> 1)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let server = builder.listen(name, listener, move || {
        let (stopping, known) = (stopping.clone(), known.clone());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(FIRST_HEAD)
            .client_disconnect_timeout(DISCONNECT)
            .on_connect_ext(|io: &Connection, extensions| {
                extensions.insert(io.peer().clone());
            })
            .h1(apply_fn_factory(
                map_config(
                    make()
                        .into_factory()
                        .map_err(|error: Error| error.error_response()),
                    |()| AppConfig::default(),
                ),
                move |request: Request, routes: &_| {
                    let again = known.as_ref().and_then(|it| recall::again(it, &request));
                    let answer = match again {
                        Some(it) => Either::Left(it),
                        None => Either::Right(Service::call(routes, request)),
                    };
                    async move {
                        match answer {
                            Either::Left(it) => Ok(it.map_body(|_, body| EitherBody::right(body))),
                            Either::Right(it) => {
                                let it: Response<B> = it.await?.into();
                                Ok(it.map_body(|_, body| EitherBody::left(body)))
                            }
                        }
                    }
                },
            ));
        let front = front.clone();
        fn_service(move |io: TcpStream| {
            let front = front.clone();
            async move { front.accept(io).await.map_err(DispatchError::Io) }
        })
        .and_then(http)
    })?;
    Ok(server.run())
}

/// Serves figures and health to monitors.
///
/// # Errors
/// When the listener can't be used.
pub fn serve_metrics(app: Data<App>, listener: TcpListener) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(app.clone())
            .configure(routes::parsing)
            .configure(routes::for_monitors)
    })
    .workers(1)
    .max_connections(METRICS_CONNECTIONS_MAX)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(FIRST_HEAD)
    .shutdown_timeout(1)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// Serves figures and health to monitors while the appliance waits for somebody.
///
/// # Errors
/// When the listener can't be used.
pub fn serve_waiting_metrics(
    waiting: Data<metrics::Waiting>,
    listener: TcpListener,
) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(waiting.clone())
            .configure(routes::parsing)
            .configure(routes::for_monitors_while_waiting)
    })
    .workers(1)
    .max_connections(METRICS_CONNECTIONS_MAX)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(FIRST_HEAD)
    .shutdown_timeout(1)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// Serves the Unix socket of the host's own administrators.
///
/// # Errors
/// When the listener can't be used.
pub fn serve_host(app: Data<App>, listener: UnixListener) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(app.clone())
            .configure(routes::parsing)
            .configure(routes::on_the_host)
    })
    .workers(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals()
    .listen_uds(listener)?;
    Ok(server.run())
}

/// Serves what a journal that lacks entries may be asked meanwhile.
///
/// # Errors
/// When a listener can't be used.
pub fn serve_recovery(
    recovery: Data<recovery::Recovery>,
    front: Arc<Front>,
    listener: TcpListener,
    socket: UnixListener,
) -> std::io::Result<(Server, Server)> {
    let at = recovery.clone();
    let server = listen("recovery", front, listener, None, move || {
        Actix::new()
            .app_data(at.clone())
            .configure(routes::parsing)
            .wrap(from_fn(headers::guard))
            .wrap(from_fn(language::speak))
            .configure(recovery::public)
    })?;
    let host = HttpServer::new(move || {
        Actix::new()
            .app_data(recovery.clone())
            .configure(routes::parsing)
            .configure(recovery::on_the_host)
    })
    .workers(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals()
    .listen_uds(socket)?;
    Ok((server, host.run()))
}
