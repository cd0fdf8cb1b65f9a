//! Signed tokens (RFC 7519, ES256): for push services (RFC 8292, VAPID) and for Apple's (token-based connection).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// Why a key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no P-256 key in PKCS#8.
    #[error("not a P-256 private key in PKCS#8")]
    Key,
    /// It did not sign.
    #[error("the key did not sign")]
    Sign,
}

/// A P-256 key that signs tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// A new key, and its PKCS#8 form to be sealed.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<(SigningKey, Vec<u8>), TokenError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| TokenError::Key)?;
        let bytes = document.as_ref().to_vec();
        Ok((SigningKey::from_pkcs8(&bytes)?, bytes))
    }

    /// A key in PKCS#8, DER.
    ///
    /// # Errors
    /// When it is none, or of another curve.
    pub fn from_pkcs8(der: &[u8]) -> Result<SigningKey, TokenError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        pair.map(|pair| SigningKey { pair }).map_err(|_| TokenError::Key)
    }

    /// A key as Apple hands it out: PKCS#8 in PEM, a `.p8` file.
    ///
    /// # Errors
    /// As [`SigningKey::from_pkcs8`].
    pub fn from_pem(pem: &str) -> Result<SigningKey, TokenError> {
        let body: String = pem
            .lines()
            .map(str::trim)
            .filter(|it| !it.starts_with("-----"))
            .collect();
        let named = pem.contains("-----BEGIN PRIVATE KEY-----");
        let der = STANDARD
            .decode(body)
            .ok()
            .filter(|_| named)
            .ok_or(TokenError::Key)?;
        SigningKey::from_pkcs8(&der)
    }

    /// The public key: an uncompressed point in base64url, as browsers take it (`applicationServerKey`).
    pub fn public_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref())
    }

    /// A signed token.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn token(&self, header: &Value, claims: &Value) -> Result<String, TokenError> {
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| TokenError::Sign)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::signature::Verifier;
    use serde_json::json;

    #[test]
    fn another_implementation_verifies_a_token() {
        let (key, der) = SigningKey::generate().expect("a key");
        let again = SigningKey::from_pkcs8(&der).expect("the same key");
        assert_eq!(key.public_base64url(), again.public_base64url());
        let token = key
            .token(&json!({"alg": "ES256"}), &json!({"aud": "https://push.example"}))
            .expect("signed");
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let point = URL_SAFE_NO_PAD.decode(key.public_base64url()).expect("base64url");
        let public = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).expect("a point");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let signature = p256::ecdsa::Signature::from_slice(&signature).expect("64 bytes");
        public.verify(signed.as_bytes(), &signature).expect("it verifies");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "AAAA",
        ] {
            assert_eq!(SigningKey::from_pem(text).err(), Some(TokenError::Key), "{text}");
        }
        let (_, der) = SigningKey::generate().expect("a key");
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der)
        );
        assert!(SigningKey::from_pem(&pem).is_ok());
    }
}
