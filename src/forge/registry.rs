//! The connected forges, ready to be called: connections are made once and kept while nothing about them changes.

use crate::domain::ids::{Digest, IntegrationId};
use crate::domain::project::Integration;
use crate::domain::time::Time;
use crate::forge::{Connection, Forge, HookSecret, connect};
use crate::outbound::{Error, Secret};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Opens a sealed secret by its name; `None` when it can't be opened.
pub type Unseal = Arc<dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Name of an integration's token among the sealed secrets.
pub fn token_name(integration: &IntegrationId) -> String {
    format!("integration/{integration}/token")
}

/// Name of an integration's webhook secret among the sealed secrets.
pub fn hook_secret_name(integration: &IntegrationId) -> String {
    format!("integration/{integration}/webhook")
}

/// All connections.
pub struct Forges {
    allow_http: Vec<String>,
    unseal: Unseal,
    /// By integration: digest of the sealed token it was made with, and the connection.
    made: Mutex<HashMap<IntegrationId, (Digest, Forge)>>,
}

impl Forges {
    /// No connection yet. Plain http is let through only to `allow_http`.
    pub fn new(allow_http: Vec<String>, unseal: Unseal) -> Self {
        Forges {
            allow_http,
            unseal,
            made: Mutex::default(),
        }
    }

    /// A connection that is tried out before it is kept.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn try_out(&self, connection: &Connection, token: Secret) -> Result<Forge, Error> {
        connect(connection, token, &self.allow_http)
    }

    /// The connection of an integration, from its sealed token.
    ///
    /// # Errors
    /// `Refused` when the token can't be opened or the settings can't be used.
    pub fn of(&self, integration: &Integration, sealed: &[u8]) -> Result<Forge, Error> {
        let digest = Digest::of(sealed);
        let mut made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((with, forge)) = made.get(&integration.id)
            && *with == digest
        {
            return Ok(forge.clone());
        }
        let token = self.text(&token_name(&integration.id), sealed)?;
        let connection = Connection {
            kind: integration.kind,
            base_url: integration.base_url.clone(),
            ca_pem: integration.ca_pem.clone(),
        };
        let mut forge = connect(&connection, token, &self.allow_http)?;
        if let Some((_, before)) = made.get(&integration.id) {
            forge = forge.heir_of(before);
        }
        made.insert(integration.id.clone(), (digest, forge.clone()));
        Ok(forge)
    }

    /// For how long an integration's forge has answered no call; `None` while it answers, or before the first call.
    pub fn silent_for(&self, integration: &IntegrationId) -> Option<std::time::Duration> {
        let made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        made.get(integration).and_then(|(_, forge)| forge.silent_for())
    }

    /// What time it is by an integration's forge, to the second; `None` before its first answer.
    pub fn time_there(&self, integration: &IntegrationId) -> Option<Time> {
        let made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        made.get(integration).and_then(|(_, forge)| forge.time_there())
    }

    /// The webhook secret of an integration.
    ///
    /// # Errors
    /// `Refused` when it can't be opened; then no webhook is taken.
    pub fn hook_secret(&self, integration: &IntegrationId, sealed: &[u8]) -> Result<HookSecret, Error> {
        let text = self.text(&hook_secret_name(integration), sealed)?;
        HookSecret::read(text).ok_or_else(|| Error::Refused("the webhook secret is too short".into()))
    }

    fn text(&self, name: &str, sealed: &[u8]) -> Result<Secret, Error> {
        (self.unseal)(name, sealed)
            .and_then(|it| String::from_utf8(it).ok())
            .map(Secret::new)
            .ok_or_else(|| Error::Refused("a stored secret can't be opened with the present keys".into()))
    }
}
