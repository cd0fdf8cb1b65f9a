//! Message encryption for Web Push (RFC 8291) with the content coding `aes128gcm` (RFC 8188): only the browser that made
//! the subscription can read what is sent, not the push service in between.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Octets of a P-256 point, uncompressed.
const POINT_BYTES: usize = 65;
/// Octets of the authentication secret (RFC 8291, section 3.2).
const AUTH_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// The one record's size: the most a push service has to take (RFC 8030, section 7.2).
const RECORD_BYTES: u32 = 4_096;
/// Octets of plain text that fit into the one record with header, delimiter and tag.
pub(super) const PLAIN_BYTES_MAX: usize =
    RECORD_BYTES as usize - SALT_BYTES - 4 - 1 - POINT_BYTES - TAG_BYTES - 1;
/// Plain texts are padded to a multiple of this, so that their length tells nothing of a title.
const PAD_BYTES: usize = 512;

/// The browser's half of a subscription's keys.
#[derive(Clone)]
pub struct Subscription {
    /// The browser's public key, an uncompressed P-256 point.
    public: [u8; POINT_BYTES],
    auth: Zeroizing<[u8; AUTH_BYTES]>,
}

/// Why a subscription's keys can't be used, or a message not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// `p256dh` is no uncompressed P-256 point in base64url.
    #[error("p256dh is not an uncompressed P-256 point in base64url")]
    Key,
    /// `auth` is not 16 octets in base64url.
    #[error("auth is not 16 bytes in base64url")]
    Auth,
    /// The message is too long for one record.
    #[error("the message is longer than a push message may be")]
    TooLong,
}

impl Subscription {
    /// Reads the `keys` of a `PushSubscription` in its JSON form.
    ///
    /// # Errors
    /// When either is not of the form it has to have; a point off the curve counts as such.
    pub fn parse(p256dh: &str, auth: &str) -> Result<Subscription, SubscriptionError> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        let public: [u8; POINT_BYTES] = decode(p256dh)
            .ok()
            .and_then(|it| it.try_into().ok())
            .filter(|it: &[u8; POINT_BYTES]| it[0] == 4)
            .ok_or(SubscriptionError::Key)?;
        let auth = decode(auth)
            .ok()
            .and_then(|it| it.try_into().ok())
            .ok_or(SubscriptionError::Auth)?;
        let it = Subscription {
            public,
            auth: Zeroizing::new(auth),
        };
        // Agreeing once with a key of our own shows whether the point lies on the curve.
        let probe = PrivateKey::generate(&ECDH_P256).map_err(|_| SubscriptionError::Key)?;
        it.shared(&probe)?;
        Ok(it)
    }

    /// The message as the body of the request to the push service.
    ///
    /// # Errors
    /// `TooLong` for more than 3,993 bytes.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, SubscriptionError> {
        let own = PrivateKey::generate(&ECDH_P256).map_err(|_| SubscriptionError::Key)?;
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).expect("the system's random numbers never run out");
        let padded = (plain.len() + 1).next_multiple_of(PAD_BYTES) - 1;
        self.encrypt_with(
            &own,
            salt,
            plain,
            padded.clamp(plain.len(), PLAIN_BYTES_MAX.max(plain.len())),
        )
    }

    fn shared(&self, own: &PrivateKey) -> Result<Zeroizing<Vec<u8>>, SubscriptionError> {
        let theirs = UnparsedPublicKey::new(&ECDH_P256, &self.public);
        agree(own, theirs, SubscriptionError::Key, |it| {
            Ok(Zeroizing::new(it.to_vec()))
        })
    }

    fn encrypt_with(
        &self,
        own: &PrivateKey,
        salt: [u8; SALT_BYTES],
        plain: &[u8],
        padded_to: usize,
    ) -> Result<Vec<u8>, SubscriptionError> {
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(SubscriptionError::TooLong);
        }
        let own_public = own.compute_public_key().map_err(|_| SubscriptionError::Key)?;
        let own_public = own_public.as_ref();
        let shared = self.shared(own)?;

        let mut keying = Zeroizing::new([0; 32]);
        let info = [b"WebPush: info\0".as_slice(), &self.public, own_public].concat();
        Hkdf::<Sha256>::new(Some(&*self.auth), &shared)
            .expand(&info, &mut *keying)
            .expect("32 bytes are within HKDF's limit");
        let derived = Hkdf::<Sha256>::new(Some(&salt), &*keying);
        let (mut key, mut nonce) = (Zeroizing::new([0; 16]), [0; 12]);
        derived
            .expand(b"Content-Encoding: aes128gcm\0", &mut *key)
            .expect("16 bytes are within HKDF's limit");
        derived
            .expand(b"Content-Encoding: nonce\0", &mut nonce)
            .expect("12 bytes are within HKDF's limit");

        // The delimiter of the last record, then padding of zeros.
        let mut sealed = plain.to_vec();
        sealed.push(2);
        sealed.resize(padded_to + 1, 0);
        let cipher = UnboundKey::new(&AES_128_GCM, &*key).map_err(|_| SubscriptionError::Key)?;
        LessSafeKey::new(cipher)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(|_| SubscriptionError::TooLong)?;

        let mut body = salt.to_vec();
        body.extend_from_slice(&RECORD_BYTES.to_be_bytes());
        body.push(u8::try_from(own_public.len()).map_err(|_| SubscriptionError::Key)?);
        body.extend_from_slice(own_public);
        body.extend_from_slice(&sealed);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    const UA_PUBLIC: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    #[test]
    fn rfc_8291_appendix_a() {
        let subscription = Subscription::parse(UA_PUBLIC, AUTH).expect("a subscription");
        let own =
            PrivateKey::from_private_key(&ECDH_P256, &bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
                .expect("a key");
        let plain = b"When I grow up, I want to be a watermelon";
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().expect("16 bytes");
        let body = subscription
            .encrypt_with(&own, salt, plain, plain.len())
            .expect("encrypted");
        assert_eq!(
            URL_SAFE_NO_PAD.encode(body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    proptest! {
        #[test]
        fn the_length_tells_only_which_half_kilobyte(len in 0_usize..=PLAIN_BYTES_MAX) {
            let subscription = Subscription::parse(UA_PUBLIC, AUTH).expect("a subscription");
            let body = subscription.encrypt(&vec![b'x'; len]).expect("encrypted");
            prop_assert!(body.len() <= RECORD_BYTES as usize);
            let sealed = body.len() - SALT_BYTES - 5 - POINT_BYTES - TAG_BYTES;
            prop_assert!(sealed.is_multiple_of(PAD_BYTES) || sealed == PLAIN_BYTES_MAX + 1);
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let off_the_curve = URL_SAFE_NO_PAD.encode([&[4_u8][..], &[7; 64]].concat());
        for (p256dh, auth, error) in [
            ("", AUTH, SubscriptionError::Key),
            ("AAAA", AUTH, SubscriptionError::Key),
            (&off_the_curve, AUTH, SubscriptionError::Key),
            (UA_PUBLIC, "AAAA", SubscriptionError::Auth),
            (UA_PUBLIC, "!", SubscriptionError::Auth),
        ] {
            assert_eq!(
                Subscription::parse(p256dh, auth).err(),
                Some(error),
                "{p256dh} {auth}"
            );
        }
    }

    #[test]
    fn a_message_too_long_for_one_record_is_refused() {
        let subscription = Subscription::parse(UA_PUBLIC, AUTH).expect("a subscription");
        let long = vec![b'x'; PLAIN_BYTES_MAX + 1];
        assert_eq!(subscription.encrypt(&long), Err(SubscriptionError::TooLong));
    }
}
