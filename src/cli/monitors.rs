//! What monitors see while a start waits for somebody: the listener for metrics answers from the first moment on.

use crate::domain::time::Time;
use crate::web;
use crate::web::metrics::Waiting;
use actix_web::dev::ServerHandle;
use actix_web::web::Data;
use std::net::TcpListener;

/// The listener for monitors, where there is one, and what it needs.
pub struct Monitors<'a> {
    pub listener: Option<&'a TcpListener>,
    pub token: Option<String>,
    pub started: Time,
}

impl Monitors<'_> {
    /// What they are told: that `condition` is why nothing else is served.
    pub fn waiting(&self, condition: &'static str) -> Data<Waiting> {
        Data::new(Waiting {
            condition,
            token: self.token.clone(),
            started: self.started,
        })
    }

    /// Serves them. The handle stops it.
    ///
    /// # Errors
    /// In words, when the listener can't be used.
    pub fn serve(&self, waiting: Data<Waiting>) -> Result<Option<ServerHandle>, String> {
        let Some(listener) = self.listener else {
            return Ok(None);
        };
        let listener = listener.try_clone().map_err(|e| e.to_string())?;
        let server = web::serve_waiting_metrics(waiting, listener).map_err(|e| e.to_string())?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Some(handle))
    }
}
