//! The HTTP side: API, pages and webhooks. Handlers check who is calling, give a command or read, and answer; they never
//! call a forge to act.

pub mod api;
pub mod app;
mod assets;
mod body;
mod headers;
mod pages;
pub mod problem;
mod routes;
mod session;

use crate::web::app::App;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App as Actix, HttpServer};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// Threads that serve. The appliance is small, and each thread costs memory.
const WORKERS: usize = 2;
/// Seconds a started answer may take after a stop was asked for.
const SHUTDOWN_SECONDS: u64 = 5;

/// Serves the public listener.
///
/// # Errors
/// When the listener can't be used.
pub fn serve(app: Data<App>, listener: TcpListener) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(app.clone())
            .configure(routes::parsing)
            .wrap(from_fn(headers::guard))
            .configure(routes::public)
    })
    .workers(WORKERS)
    .keep_alive(Duration::from_secs(15))
    .client_request_timeout(Duration::from_secs(5))
    .shutdown_timeout(SHUTDOWN_SECONDS)
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
