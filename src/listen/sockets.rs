//! Listening sockets: made here, or handed over by systemd (`sd_listen_fds(3)`), so that a restart refuses nobody.

use listenfd::ListenFd;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::TcpListener;

/// Sockets from systemd, by the names of their units.
pub struct Inherited {
    listeners: Vec<(String, TcpListener)>,
}

impl Inherited {
    /// Takes what systemd handed over. Call it once, before other files are opened.
    ///
    /// # Errors
    /// Names the socket that is none for TCP.
    pub fn take() -> Result<Inherited, String> {
        // The names go with the numbers; read before both are taken out of the environment.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut handed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for at in 0..handed.len() {
            let name = names.split(':').nth(at).unwrap_or_default().to_owned();
            match handed.take_tcp_listener(at) {
                Ok(Some(listener)) => listeners.push((name, listener)),
                Ok(None) => {}
                Err(error) => return Err(format!("socket {at} from systemd (`{name}`): {error}")),
            }
        }
        Ok(Inherited { listeners })
    }

    /// The socket with this name.
    pub fn named(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.listeners.iter().position(|(it, _)| it == name)?;
        Some(self.listeners.remove(at).1)
    }

    /// The first one that is left, whatever its name.
    pub fn first(&mut self) -> Option<TcpListener> {
        (!self.listeners.is_empty()).then(|| self.listeners.remove(0).1)
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.listeners.len()
    }
}

/// Raises the limit of open files to what is allowed, and says what it is now. Each connection is an open file.
pub fn raise_file_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    if soft == limit.maximum {
        return soft.unwrap_or(u64::MAX);
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
        return soft.unwrap_or(u64::MAX);
    }
    limit.maximum.unwrap_or(u64::MAX)
}
