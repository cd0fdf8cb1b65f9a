//! The secrets of one sink, sealed together under one name. Given once, never shown again.

use crate::domain::ids::SinkId;
use crate::outbound::standard_webhook::SigningSecret;
use crate::outbound::{Error, Secret};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Name of a sink's secrets among the sealed ones.
pub fn secrets_name(sink: &SinkId) -> String {
    format!("sink/{sink}/secrets")
}

/// Secrets by name: `signing`, `authorization`, `token`, `client_key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkSecrets(BTreeMap<String, Secret>);

impl SinkSecrets {
    /// Sets one.
    pub fn set(&mut self, name: &str, secret: Secret) {
        self.0.insert(name.to_owned(), secret);
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// The key that webhooks are signed with.
    pub(super) fn signing(&self) -> Result<SigningSecret, Error> {
        self.get("signing")
            .and_then(|it| SigningSecret::read(it.expose()))
            .ok_or_else(|| Error::Refused("it has no signing secret".into()))
    }

    /// The bytes to seal.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let plain: BTreeMap<&str, &str> = self
            .0
            .iter()
            .map(|(name, it)| (name.as_str(), it.expose()))
            .collect();
        Zeroizing::new(serde_json::to_vec(&plain).expect("texts are JSON"))
    }

    /// Reads what [`SinkSecrets::to_bytes`] wrote.
    pub fn read(bytes: &[u8]) -> Option<SinkSecrets> {
        let plain: BTreeMap<String, String> = serde_json::from_slice(bytes).ok()?;
        Some(SinkSecrets(
            plain
                .into_iter()
                .map(|(name, text)| (name, Secret::new(text)))
                .collect(),
        ))
    }
}
