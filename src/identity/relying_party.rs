//! The WebAuthn relying party (W3C Web Authentication Level 3, section 7). User verification is always required.
//!
//! webauthn-rs checks every answer first; then the project's own offline verifier checks the same evidence again, and
//! both must agree. It also covers what webauthn-rs leaves open: `crossOrigin`, `topOrigin`, the exact origin.

use crate::domain::command::{CeremonyProof, NewPasskey};
use crate::domain::ids::{Digest, PersonId};
use crate::domain::people::Passkey as StoredPasskey;
use crate::evidence::webauthn::{WebauthnEvidence, attested, verify_assertion};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;
use webauthn_rs::prelude::{
    DiscoverableAuthentication, Passkey, PasskeyAuthentication, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Uuid, Webauthn, WebauthnBuilder,
};

/// Longest label of a passkey, in characters.
const LABEL_CHARS_MAX: usize = 100;

/// Why a ceremony failed. The words are for the journal and the log; a caller learns only that it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The public URL can't be a relying party.
    #[error("passkeys need a public URL with a host name: {0}")]
    Settings(String),
    /// The answer is not of the standard form.
    #[error("the answer is not a WebAuthn response: {0}")]
    Form(String),
    /// The authenticator's model is not one of those that may be enrolled.
    #[error("authenticators of the model {0} may not be enrolled here")]
    Model(String),
    /// The answer does not prove what it should.
    #[error("the passkey was not verified: {0}")]
    NotVerified(String),
}

/// The appliance as a relying party.
pub struct RelyingParty {
    webauthn: Webauthn,
    id: String,
    origin: String,
    /// AAGUIDs of the models that may be enrolled; empty: any.
    models: Vec<String>,
}

/// A sign-in that was verified.
pub struct SignIn {
    pub sign_count: u32,
}

impl RelyingParty {
    /// The relying party of a public URL. Its host is the RP ID: changing it later loses every passkey.
    pub fn new(public_url: &str) -> Result<RelyingParty, Error> {
        let url = Url::parse(public_url).map_err(|e| Error::Settings(e.to_string()))?;
        let id = url
            .domain()
            .ok_or_else(|| Error::Settings("an address is not a name".into()))?
            .to_owned();
        let webauthn = WebauthnBuilder::new(&id, &url)
            .and_then(|it| {
                it.rp_name("SignedApproval")
                    .timeout(Duration::from_secs(super::ceremonies::LIFETIME_SECONDS))
                    .build()
            })
            .map_err(|e| Error::Settings(e.to_string()))?;
        Ok(RelyingParty {
            webauthn,
            id,
            origin: url.origin().ascii_serialization(),
            models: Vec::new(),
        })
    }

    /// Lets only these authenticator models be enrolled, by their AAGUID. Empty: any.
    pub fn only_models(self, models: Vec<String>) -> RelyingParty {
        RelyingParty { models, ..self }
    }

    /// The RP ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The one origin that is accepted.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Starts the registration of a passkey: creation options in the standard JSON form.
    pub fn start_registration(
        &self,
        person: &PersonId,
        name: &str,
        email: &str,
        held: &[StoredPasskey],
    ) -> Result<(Value, PasskeyRegistration), Error> {
        let exclude = held
            .iter()
            .filter_map(|it| URL_SAFE_NO_PAD.decode(&it.credential_id).ok())
            .collect::<Vec<_>>();
        let (options, state) = self
            .webauthn
            .start_passkey_registration(user_handle(person), email, name, Some(exclude))
            .map_err(not_verified)?;
        let mut options = to_json(&options.public_key);
        // Sign-in asks for no name, so the passkey must be discoverable.
        options["authenticatorSelection"]["residentKey"] = json!("required");
        options["authenticatorSelection"]["requireResidentKey"] = json!(true);
        if !self.models.is_empty() {
            // Without being asked for an attestation, many clients leave the model out.
            options["attestation"] = json!("direct");
        }
        Ok((options, state))
    }

    /// Checks the answer of a registration.
    pub fn finish_registration(
        &self,
        state: &PasskeyRegistration,
        credential: &Value,
        label: Option<&str>,
        hold_seconds: u64,
    ) -> Result<NewPasskey, Error> {
        let response: RegisterPublicKeyCredential =
            serde_json::from_value(credential.clone()).map_err(|e| Error::Form(e.to_string()))?;
        let passkey = self
            .webauthn
            .finish_passkey_registration(&response, state)
            .map_err(not_verified)?;
        self.check_client_data(&response.response.client_data_json)?;
        let attestation = response.response.attestation_object.to_vec();
        let key = attested(&attestation).map_err(not_verified)?;
        if key.credential_id != passkey.cred_id().to_vec() || !key.flags.user_verified() {
            return Err(Error::NotVerified(
                "two readings of the attestation disagree".into(),
            ));
        }
        if !self.models.is_empty() && !self.models.contains(&key.aaguid.to_ascii_lowercase()) {
            return Err(Error::Model(key.aaguid));
        }
        let platform = credential.get("authenticatorAttachment").and_then(Value::as_str) == Some("platform");
        let transports = credential
            .pointer("/response/transports")
            .and_then(Value::as_array)
            .map(|it| {
                it.iter()
                    .filter_map(Value::as_str)
                    .take(8)
                    .map(|it| it.chars().take(32).collect())
                    .collect()
            })
            .unwrap_or_default();
        let label = label.map_or_else(
            || {
                if platform {
                    "This device".to_owned()
                } else {
                    "Passkey".to_owned()
                }
            },
            |it| it.trim().chars().take(LABEL_CHARS_MAX).collect(),
        );
        Ok(NewPasskey {
            credential_id: URL_SAFE_NO_PAD.encode(&key.credential_id),
            label: crate::domain::text::visible(&label),
            spki: STANDARD.encode(&key.spki),
            spki_sha256: Digest::of(&key.spki),
            alg: key.alg,
            aaguid: key.aaguid,
            platform,
            transports,
            backup_eligible: key.flags.backup_eligible(),
            backup_state: key.flags.backup_state(),
            sign_count: key.sign_count,
            record: serde_json::to_vec(&passkey).map_err(|e| Error::Form(e.to_string()))?,
            attestation,
            hold_seconds,
            confirmed_by: Vec::new(),
        })
    }

    /// Starts a sign-in: nobody is named, the passkey says who it is.
    pub fn start_sign_in(&self) -> Result<(Value, DiscoverableAuthentication), Error> {
        let (options, state) = self
            .webauthn
            .start_discoverable_authentication()
            .map_err(not_verified)?;
        Ok((to_json(&options.public_key), state))
    }

    /// As `start_sign_in`, over a challenge of our own.
    pub fn start_sign_in_over(
        &self,
        challenge: &[u8; 32],
    ) -> Result<(Value, DiscoverableAuthentication), Error> {
        let (mut options, state) = self.start_sign_in()?;
        let text = URL_SAFE_NO_PAD.encode(challenge);
        options["challenge"] = json!(text);
        let mut layout = to_json(&state);
        // A state without it would check another challenge than the one that is signed.
        challenge_of(&layout)?;
        layout["ast"]["challenge"] = json!(text);
        let state = serde_json::from_value(layout).map_err(|e| Error::Settings(e.to_string()))?;
        Ok((options, state))
    }

    /// Credential id of an answer, base64url without padding, to find whose it is.
    pub fn credential_id(credential: &Value) -> Result<String, Error> {
        let response: PublicKeyCredential =
            serde_json::from_value(credential.clone()).map_err(|e| Error::Form(e.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode(&response.raw_id))
    }

    /// Checks the answer of a sign-in by a stored passkey.
    pub fn finish_sign_in(
        &self,
        state: DiscoverableAuthentication,
        credential: &Value,
        person: &PersonId,
        stored: &StoredPasskey,
        record: &[u8],
    ) -> Result<SignIn, Error> {
        let response: PublicKeyCredential =
            serde_json::from_value(credential.clone()).map_err(|e| Error::Form(e.to_string()))?;
        check_user_handle(&response, person)?;
        let challenge = challenge_of(&to_json(&state))?;
        let passkey = restored(stored, record)?;
        self.webauthn
            .finish_discoverable_authentication_v2(&response, state, &passkey)
            .map_err(not_verified)?;
        let assertion = self.verify_again(&response, stored, &challenge)?;
        Ok(SignIn {
            sign_count: assertion.sign_count,
        })
    }

    /// Starts an authentication by one of a person's passkeys over a challenge of our own.
    ///
    /// webauthn-rs makes its own challenge and has no setter; options and state are both rewritten, which a test pins.
    pub fn start_assertion(
        &self,
        held: &[(StoredPasskey, Vec<u8>)],
        challenge: &[u8; 32],
    ) -> Result<(Value, PasskeyAuthentication), Error> {
        let passkeys = held
            .iter()
            .map(|(stored, record)| restored(stored, record))
            .collect::<Result<Vec<_>, _>>()?;
        let (options, state) = self
            .webauthn
            .start_passkey_authentication(&passkeys)
            .map_err(not_verified)?;
        let mut options = to_json(&options.public_key);
        let text = URL_SAFE_NO_PAD.encode(challenge);
        options["challenge"] = json!(text);
        let mut layout = to_json(&state);
        match layout.pointer_mut("/ast/challenge") {
            Some(place) => *place = json!(text),
            None => {
                return Err(Error::Settings(
                    "webauthn-rs keeps its challenge elsewhere now".into(),
                ));
            }
        }
        let state = serde_json::from_value(layout).map_err(|e| Error::Settings(e.to_string()))?;
        Ok((options, state))
    }

    /// Checks the answer of an assertion over our challenge, twice.
    pub fn finish_assertion(
        &self,
        state: &PasskeyAuthentication,
        credential: &Value,
        challenge: &[u8; 32],
        nonce: [u8; 32],
        person: &PersonId,
        held: &[StoredPasskey],
    ) -> Result<CeremonyProof, Error> {
        let response: PublicKeyCredential =
            serde_json::from_value(credential.clone()).map_err(|e| Error::Form(e.to_string()))?;
        check_user_handle(&response, person)?;
        self.webauthn
            .finish_passkey_authentication(&response, state)
            .map_err(not_verified)?;
        let credential_id = URL_SAFE_NO_PAD.encode(&response.raw_id);
        let stored = held
            .iter()
            .find(|it| it.credential_id == credential_id)
            .ok_or_else(|| Error::NotVerified("the passkey belongs to nobody here".into()))?;
        let assertion = self.verify_again(&response, stored, challenge)?;
        Ok(CeremonyProof {
            credential_id,
            nonce,
            authenticator_data: response.response.authenticator_data.to_vec(),
            client_data_json: response.response.client_data_json.to_vec(),
            signature: response.response.signature.to_vec(),
            rp_id: self.id.clone(),
            origin: self.origin.clone(),
            sign_count: assertion.sign_count,
            backup_eligible: assertion.flags.backup_eligible(),
            backup_state: assertion.flags.backup_state(),
        })
    }

    fn verify_again(
        &self,
        response: &PublicKeyCredential,
        stored: &StoredPasskey,
        challenge: &[u8; 32],
    ) -> Result<crate::evidence::webauthn::Assertion, Error> {
        let spki = STANDARD
            .decode(&stored.spki)
            .map_err(|e| Error::Form(e.to_string()))?;
        verify_assertion(
            &WebauthnEvidence {
                rp_id: &self.id,
                origin: &self.origin,
                public_key_spki: &spki,
                authenticator_data: &response.response.authenticator_data,
                client_data_json: &response.response.client_data_json,
                signature: &response.response.signature,
                alg: stored.alg,
            },
            challenge,
        )
        .map_err(not_verified)
    }

    /// What a registration's client data must say besides what webauthn-rs looks at.
    fn check_client_data(&self, bytes: &[u8]) -> Result<(), Error> {
        let data: Value = serde_json::from_slice(bytes).map_err(|e| Error::Form(e.to_string()))?;
        let foreign =
            data.get("crossOrigin").is_some_and(|it| *it != json!(false)) || data.get("topOrigin").is_some();
        if foreign || data.get("origin").and_then(Value::as_str) != Some(&self.origin) {
            return Err(Error::NotVerified(
                "made for another origin or inside another page".into(),
            ));
        }
        Ok(())
    }
}

/// A passkey that says whose it is must name the person it is taken for.
fn check_user_handle(response: &PublicKeyCredential, person: &PersonId) -> Result<(), Error> {
    match response.get_user_unique_id() {
        Some(handle) if handle != user_handle(person).as_bytes() => {
            Err(Error::NotVerified("the passkey names another person".into()))
        }
        _ => Ok(()),
    }
}

/// The user handle of a person: the random bits of the id, so that it tells nothing.
fn user_handle(person: &PersonId) -> Uuid {
    let digits = person.as_str().strip_prefix(PersonId::PREFIX).unwrap_or_default();
    Uuid::parse_str(digits).expect("a person's id is its prefix and 32 hex digits")
}

/// The library's record of a passkey, with the counter as it was last seen.
fn restored(stored: &StoredPasskey, record: &[u8]) -> Result<Passkey, Error> {
    let mut value: Value = serde_json::from_slice(record).map_err(|e| Error::Form(e.to_string()))?;
    if let Some(counter) = value.pointer_mut("/cred/counter") {
        *counter = json!(stored.sign_count);
    }
    serde_json::from_value(value).map_err(|e| Error::Form(e.to_string()))
}

fn challenge_of(state: &Value) -> Result<[u8; 32], Error> {
    state
        .pointer("/ast/challenge")
        .and_then(Value::as_str)
        .and_then(|it| URL_SAFE_NO_PAD.decode(it).ok())
        .and_then(|it| it.try_into().ok())
        .ok_or_else(|| Error::Settings("webauthn-rs keeps its challenge elsewhere now".into()))
}

fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("WebAuthn options have string keys")
}

fn not_verified(error: impl std::fmt::Display) -> Error {
    Error::NotVerified(error.to_string())
}
