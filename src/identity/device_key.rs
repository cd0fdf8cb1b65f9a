//! A native client's own key. It signs a challenge once, so that a token somebody found reaches nobody's notices.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands before the challenge in what is signed, with a zero byte between.
pub const DEVICE_CHALLENGE_LABEL: &str = "signedapproval/device-challenge/v1";
/// SubjectPublicKeyInfo of a P-256 key up to its point (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// A P-256 public key of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// SubjectPublicKeyInfo, base64.
    spki: String,
    point: Vec<u8>,
}

impl DeviceKey {
    /// Reads SubjectPublicKeyInfo in base64.
    ///
    /// # Errors
    /// A sentence, when it is no P-256 key.
    pub fn parse(text: &str) -> Result<DeviceKey, &'static str> {
        const WRONG: &str = "a P-256 public key, SubjectPublicKeyInfo in base64";
        let der = STANDARD.decode(text).map_err(|_| WRONG)?;
        let point = der.strip_prefix(&SPKI_PREFIX[..]).ok_or(WRONG)?;
        if point.len() != POINT_BYTES || point[0] != 4 {
            return Err(WRONG);
        }
        Ok(DeviceKey {
            spki: text.to_owned(),
            point: point.to_vec(),
        })
    }

    /// SubjectPublicKeyInfo, base64.
    pub fn base64(&self) -> &str {
        &self.spki
    }

    /// Whether the key signed this challenge: ECDSA with SHA-256, ASN.1 DER, over label, zero byte, challenge.
    pub fn has_signed(&self, challenge: &[u8; 32], signature: &[u8]) -> bool {
        let signed = [DEVICE_CHALLENGE_LABEL.as_bytes(), b"\0", challenge].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
            .verify(&signed, signature)
            .is_ok()
    }
}
