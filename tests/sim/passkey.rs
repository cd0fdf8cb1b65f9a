//! A software passkey: makes genuine WebAuthn assertions with a P-256 key of its own. The same seed, the same bytes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use signedapproval::domain::command::{CeremonyProof, NewPasskey};
use signedapproval::domain::ids::Digest;
use signedapproval::evidence::intent::challenge;

/// The gate's host and its origin.
pub const RP_ID: &str = "gate.example.org";
pub const ORIGIN: &str = "https://gate.example.org";

/// DER of a SubjectPublicKeyInfo for P-256 up to the point (RFC 5480).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// User present, user verified.
const FLAGS: u8 = 0x05;

/// One person's passkey.
#[derive(Clone)]
pub struct Passkey {
    key: SigningKey,
    id: Vec<u8>,
}

impl Passkey {
    /// The passkey of this seed.
    pub fn of(seed: &str) -> Passkey {
        let key = SigningKey::from_slice(&Digest::of(seed.as_bytes()).0).expect("a hash is a key");
        Passkey {
            key,
            id: Digest::of(format!("id of {seed}").as_bytes()).0[..20].to_vec(),
        }
    }

    /// What an enrolment hands over.
    pub fn enrolment(&self) -> NewPasskey {
        let spki = self.spki();
        NewPasskey {
            credential_id: URL_SAFE_NO_PAD.encode(&self.id),
            label: "Laptop".into(),
            spki_sha256: Digest::of(&spki),
            spki: STANDARD.encode(spki),
            alg: -7,
            aaguid: "00000000-0000-0000-0000-000000000000".into(),
            platform: false,
            transports: vec!["usb".into()],
            backup_eligible: false,
            backup_state: false,
            sign_count: 0,
            record: format!("record of {}", hex::encode(&self.id)).into_bytes(),
            attestation: format!("attestation of {}", hex::encode(&self.id)).into_bytes(),
            hold_seconds: 0,
            confirmed_by: Vec::new(),
        }
    }

    /// A ceremony over these bytes.
    pub fn sign(&self, nonce: [u8; 32], intent: &[u8], sign_count: u32) -> CeremonyProof {
        let mut authenticator_data = Digest::of(RP_ID.as_bytes()).0.to_vec();
        authenticator_data.push(FLAGS);
        authenticator_data.extend_from_slice(&sign_count.to_be_bytes());
        let client_data_json = format!(
            r#"{{"type":"webauthn.get","challenge":"{}","origin":"{ORIGIN}","crossOrigin":false}}"#,
            URL_SAFE_NO_PAD.encode(challenge(&nonce, intent))
        )
        .into_bytes();
        let signed = [&authenticator_data[..], &Digest::of(&client_data_json).0].concat();
        let signature: Signature = self.key.sign(&signed);
        CeremonyProof {
            credential_id: URL_SAFE_NO_PAD.encode(&self.id),
            nonce,
            authenticator_data,
            client_data_json,
            signature: signature.to_der().as_bytes().to_vec(),
            rp_id: RP_ID.into(),
            origin: ORIGIN.into(),
            sign_count,
            backup_eligible: false,
            backup_state: false,
        }
    }

    fn spki(&self) -> Vec<u8> {
        let point = self.key.verifying_key().to_encoded_point(false);
        [&SPKI_HEAD[..], point.as_bytes()].concat()
    }
}
