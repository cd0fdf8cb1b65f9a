//! DSSE v1 envelopes and the Ed25519 keys that sign them. Nothing here holds a private key or makes a signature.
//!
//! An envelope has exactly one form: one line of compact JSON, members in one order, canonical base64. Anything else
//! is refused, so that no byte of a file can be changed without notice, not even a blank.
//! Spec: <https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md>.

use crate::domain::ids::Digest;
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Payload type of credentials, outcomes and manifests.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Payload type of a key's introduction.
pub const KEY_INTRODUCTION: &str = "application/vnd.signedapproval.key+json";

/// DER of a SubjectPublicKeyInfo for Ed25519 up to the 32 key bytes (RFC 8410 section 4).
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why an envelope or a key was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    #[error(transparent)]
    Json(#[from] StrictError),
    #[error("the file is not in its one canonical form")]
    NotCanonical,
    #[error("the signature is not 64 bytes long")]
    SignatureLength,
    #[error("the envelope has {0} signatures, where it must have exactly {1}")]
    SignatureCount(usize, usize),
    #[error("the envelope names key {named}, not {trusted}")]
    OtherKey { named: String, trusted: String },
    #[error("the Ed25519 signature does not verify")]
    BadSignature,
    #[error("not an Ed25519 public key: {0}")]
    Key(&'static str),
}

/// The bytes that a DSSE signature covers.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {} {} ",
        payload_type.len(),
        payload_type,
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Lowercase hex SHA-256 of a SubjectPublicKeyInfo DER.
pub fn key_id(spki_der: &[u8]) -> String {
    Digest::of(spki_der).to_string()
}

/// SubjectPublicKeyInfo DER of a raw Ed25519 public key.
pub fn spki_of_ed25519(public: &[u8; 32]) -> Vec<u8> {
    [&ED25519_SPKI_PREFIX[..], public].concat()
}

/// An Ed25519 public key with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key: ed25519_dalek::VerifyingKey,
    id: String,
    /// The part of the journal it counts for, where its history is known: from a position until before another.
    counts: Option<(u64, Option<u64>)>,
}

impl PublicKey {
    /// From the 32 raw bytes. Points that are no point, or of small order, are refused.
    pub fn from_raw(public: &[u8; 32]) -> Result<PublicKey, DsseError> {
        let key =
            ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| DsseError::Key("no such point"))?;
        if key.is_weak() {
            return Err(DsseError::Key("a point of small order"));
        }
        Ok(PublicKey {
            key,
            id: key_id(&spki_of_ed25519(public)),
            counts: None,
        })
    }

    /// The same key, which counts for a part of the journal alone: from a position on, until before another.
    pub fn counting(mut self, from_seq: u64, until_seq: Option<u64>) -> PublicKey {
        self.counts = Some((from_seq, until_seq));
        self
    }

    /// Whether it counts for what stands at a position of the journal.
    pub fn counts_at(&self, seq: u64) -> bool {
        self.counts
            .is_none_or(|(from, until)| from <= seq && until.is_none_or(|it| seq < it))
    }

    /// The part of the journal it counts for, where its history is known.
    pub fn counts(&self) -> Option<(u64, Option<u64>)> {
        self.counts
    }

    /// From SubjectPublicKeyInfo DER.
    pub fn from_spki(der: &[u8]) -> Result<PublicKey, DsseError> {
        let raw = der
            .strip_prefix(&ED25519_SPKI_PREFIX)
            .and_then(|it| <&[u8; 32]>::try_from(it).ok());
        PublicKey::from_raw(raw.ok_or(DsseError::Key("not its SubjectPublicKeyInfo"))?)
    }

    /// From PEM text that holds exactly one `PUBLIC KEY` block.
    pub fn from_pem(text: &str) -> Result<PublicKey, DsseError> {
        let body = text
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|it| it.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or(DsseError::Key("not one PEM block `PUBLIC KEY`"))?;
        let base64: String = body.split_ascii_whitespace().collect();
        PublicKey::from_spki(&strict::base64(&base64).ok_or(DsseError::Key("not base64"))?)
    }

    /// SubjectPublicKeyInfo DER.
    pub fn spki(&self) -> Vec<u8> {
        spki_of_ed25519(self.key.as_bytes())
    }

    /// PEM text of the SubjectPublicKeyInfo, as openssl writes it.
    pub fn pem(&self) -> String {
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(self.spki())
        )
    }

    /// The key's id, 64 lowercase hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Verifies strictly: no small-order points, no second encoding of a signature (RFC 8032 section 5.1.7).
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), DsseError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key
            .verify_strict(message, &signature)
            .map_err(|_| DsseError::BadSignature)
    }
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub keyid: String,
    pub sig: [u8; 64],
}

/// An envelope as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub payload_type: String,
    pub payload: Vec<u8>,
    pub signatures: Vec<Signature>,
}

#[derive(Serialize)]
struct EnvelopeForm<'a> {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: &'a str,
    signatures: Vec<SignatureForm<'a>>,
}

#[derive(Serialize)]
struct SignatureForm<'a> {
    keyid: &'a str,
    sig: String,
}

impl Envelope {
    /// The file's bytes for one signature over [`pae`]: one line, no final newline.
    pub fn build(payload_type: &str, payload: &[u8], keyid: &str, sig: &[u8; 64]) -> Vec<u8> {
        Envelope {
            payload_type: payload_type.to_owned(),
            payload: payload.to_vec(),
            signatures: vec![Signature {
                keyid: keyid.to_owned(),
                sig: *sig,
            }],
        }
        .to_bytes()
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let form = EnvelopeForm {
            payload: STANDARD.encode(&self.payload),
            payload_type: &self.payload_type,
            signatures: self
                .signatures
                .iter()
                .map(|it| SignatureForm {
                    keyid: &it.keyid,
                    sig: STANDARD.encode(it.sig),
                })
                .collect(),
        };
        serde_json::to_vec(&form).expect("texts always serialise")
    }

    /// Reads a file. Refuses whatever is not byte for byte what [`Envelope::to_bytes`] makes.
    pub fn parse(bytes: &[u8]) -> Result<Envelope, DsseError> {
        let value = strict::parse(bytes, Space::Refused)?;
        let form = value.object("envelope")?;
        form.exactly(&["payload", "payloadType", "signatures"])?;
        let mut signatures = Vec::new();
        for value in form.list("signatures")? {
            let signature = value.object("signature")?;
            signature.exactly(&["keyid", "sig"])?;
            signatures.push(Signature {
                keyid: signature.digest("keyid")?.to_string(),
                sig: signature
                    .bytes("sig")?
                    .try_into()
                    .map_err(|_| DsseError::SignatureLength)?,
            });
        }
        if signatures.is_empty() {
            return Err(DsseError::SignatureCount(0, 1));
        }
        let envelope = Envelope {
            payload_type: form.text("payloadType")?.to_owned(),
            payload: form.bytes("payload")?,
            signatures,
        };
        // The one test that leaves no second spelling: escapes, padding, order and blanks all show here.
        if envelope.to_bytes() == bytes {
            Ok(envelope)
        } else {
            Err(DsseError::NotCanonical)
        }
    }

    /// The key id that the first signature names; empty where there is none.
    pub fn keyid(&self) -> &str {
        self.signatures.first().map_or("", |it| it.keyid.as_str())
    }

    /// Verifies that the envelope has exactly one signature, by `key`.
    pub fn verify(&self, key: &PublicKey) -> Result<(), DsseError> {
        self.verify_all(std::slice::from_ref(key))
    }

    /// Verifies that the envelope has exactly one signature by each of `keys`, in their order, and no other.
    pub fn verify_all(&self, keys: &[PublicKey]) -> Result<(), DsseError> {
        if self.signatures.len() != keys.len() || keys.is_empty() {
            return Err(DsseError::SignatureCount(self.signatures.len(), keys.len()));
        }
        let message = pae(&self.payload_type, &self.payload);
        for (signature, key) in self.signatures.iter().zip(keys) {
            if signature.keyid != key.id() {
                let named = signature.keyid.clone();
                return Err(DsseError::OtherKey {
                    named,
                    trusted: key.id().to_owned(),
                });
            }
            key.verify(&message, &signature.sig)?;
        }
        Ok(())
    }
}

/// The same envelope wrapped as a Sigstore bundle v0.3, for verifiers that take nothing else. `dsse` stands in it verbatim.
pub fn sigstore_bundle(dsse: &[u8], keyid: &str) -> Result<Vec<u8>, DsseError> {
    Envelope::parse(dsse)?;
    Digest::parse(keyid).ok_or(DsseError::Key("the key id is not 64 lowercase hex digits"))?;
    Ok(sigstore_wrapping(dsse, keyid))
}

/// As [`sigstore_bundle`], of an envelope and a key's id that are known to be right.
pub(super) fn sigstore_wrapping(dsse: &[u8], keyid: &str) -> Vec<u8> {
    let mut bytes = format!(
        "{{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":\
         {{\"publicKey\":{{\"hint\":\"{keyid}\"}},\"tlogEntries\":[]}},\"dsseEnvelope\":"
    )
    .into_bytes();
    bytes.extend_from_slice(dsse);
    bytes.push(b'}');
    bytes
}
