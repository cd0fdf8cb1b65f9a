//! Passkey assertions, verified from stored bytes alone, and the public key inside an attestation object.
//! It runs no ceremony and keeps no state: whether a challenge was used before is not for this module to know.
//!
//! Spec: WebAuthn Level 3, sections 6.1 (authenticator data), 6.5.1 (attested credential data), 7.2 (verifying an
//! assertion); RFC 9052 and 9053 (COSE keys); RFC 8949 section 4.2 (the CBOR form read here).

use crate::domain::ids::Digest;
use crate::evidence::dsse::{DsseError, PublicKey, spki_of_ed25519};
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// COSE algorithm: ECDSA on P-256 with SHA-256.
pub const ES256: i64 = -7;
/// COSE algorithm: Ed25519.
pub const EDDSA: i64 = -8;
/// COSE algorithm: RSA PKCS#1 v1.5 with SHA-256.
pub const RS256: i64 = -257;

/// DER of a SubjectPublicKeyInfo for an uncompressed P-256 point, up to the point (RFC 5480 section 2).
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// DER of the AlgorithmIdentifier rsaEncryption with NULL parameters (RFC 3279 section 2.3.1).
const RSA_ALGORITHM: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// Why an assertion or an attestation object was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebauthnError {
    #[error("the client data can't be read: {0}")]
    ClientData(#[from] StrictError),
    #[error("the client data is of type `{0}`, not `webauthn.get`")]
    Type(String),
    #[error("the client data answers another challenge")]
    Challenge,
    #[error("the origin is `{found}`, not `{expected}`")]
    Origin { found: String, expected: String },
    #[error("the assertion was made inside a page of another origin")]
    CrossOrigin,
    #[error("the authenticator data is not well formed: {0}")]
    AuthenticatorData(&'static str),
    #[error("the authenticator answered for another relying party")]
    RelyingParty,
    #[error("the user was not present")]
    NotPresent,
    #[error("the user was not verified")]
    NotVerified,
    #[error("algorithm {0} is not one of -7, -8, -257")]
    Algorithm(i64),
    #[error("the public key is not the one form its algorithm has: {0}")]
    Key(&'static str),
    #[error("the passkey's signature is not in its one DER form")]
    SignatureForm,
    #[error("the passkey's signature does not verify")]
    BadSignature,
    #[error("the attestation object is not well formed: {0}")]
    Attestation(&'static str),
}

/// An assertion as it is stored, and what it must answer to.
#[derive(Clone, Debug)]
pub struct WebauthnEvidence<'a> {
    pub rp_id: &'a str,
    /// Compared exactly: scheme, host and port.
    pub origin: &'a str,
    pub public_key_spki: &'a [u8],
    pub authenticator_data: &'a [u8],
    pub client_data_json: &'a [u8],
    pub signature: &'a [u8],
    /// COSE algorithm.
    pub alg: i64,
}

/// The flags of authenticator data (section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// UP: somebody was there.
    pub fn user_present(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// UV: the authenticator verified who.
    pub fn user_verified(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// BE: the passkey may leave its device.
    pub fn backup_eligible(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// BS: the passkey is backed up now.
    pub fn backup_state(self) -> bool {
        self.0 & 0x10 != 0
    }

    fn attested_key(self) -> bool {
        self.0 & 0x40 != 0
    }

    fn extensions(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// What a verified assertion says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assertion {
    pub flags: Flags,
    /// 0 where the authenticator keeps no counter.
    pub sign_count: u32,
}

/// Verifies a stored assertion: type, challenge, exact origin, no foreign frame, relying party, user present and
/// verified, and the signature by the passkey.
pub fn verify_assertion(
    evidence: &WebauthnEvidence<'_>,
    expected_challenge: &[u8; 32],
) -> Result<Assertion, WebauthnError> {
    check_client_data(evidence, expected_challenge)?;
    let head = AuthenticatorData::parse(evidence.authenticator_data)?;
    if head.flags.attested_key() {
        return Err(WebauthnError::AuthenticatorData(
            "an assertion carries no attested key",
        ));
    }
    head.finish(head.rest)?;
    if head.rp_id_hash != Digest::of(evidence.rp_id.as_bytes()).0 {
        return Err(WebauthnError::RelyingParty);
    }
    if !head.flags.user_present() {
        return Err(WebauthnError::NotPresent);
    }
    if !head.flags.user_verified() {
        return Err(WebauthnError::NotVerified);
    }
    let message = [
        evidence.authenticator_data,
        &Digest::of(evidence.client_data_json).0,
    ]
    .concat();
    verify_signature(
        evidence.alg,
        evidence.public_key_spki,
        &message,
        evidence.signature,
    )?;
    Ok(Assertion {
        flags: head.flags,
        sign_count: head.sign_count,
    })
}

fn check_client_data(evidence: &WebauthnEvidence<'_>, challenge: &[u8; 32]) -> Result<(), WebauthnError> {
    // Browsers may add members of their own (section 5.8.1), so unknown ones are let pass; no known one may stand twice.
    let value = strict::parse(evidence.client_data_json, Space::Allowed)?;
    let client = value.object("clientData")?;
    let kind = client.text("type")?;
    if kind != "webauthn.get" {
        return Err(WebauthnError::Type(crate::domain::text::visible(kind)));
    }
    if client.text("challenge")? != URL_SAFE_NO_PAD.encode(challenge) {
        return Err(WebauthnError::Challenge);
    }
    let origin = client.text("origin")?;
    if origin != evidence.origin {
        let visible = crate::domain::text::visible;
        return Err(WebauthnError::Origin {
            found: visible(origin),
            expected: visible(evidence.origin),
        });
    }
    let framed = match client.optional("crossOrigin") {
        None => false,
        Some(_) => client.boolean("crossOrigin")?,
    };
    if framed || client.optional("topOrigin").is_some() {
        return Err(WebauthnError::CrossOrigin);
    }
    Ok(())
}

/// Verifies a passkey's signature by its COSE algorithm and SubjectPublicKeyInfo.
fn verify_signature(alg: i64, spki: &[u8], message: &[u8], signature: &[u8]) -> Result<(), WebauthnError> {
    match alg {
        ES256 => {
            let point = spki
                .strip_prefix(&P256_SPKI_PREFIX)
                .filter(|it| it.len() == 65 && it[0] == 0x04)
                .ok_or(WebauthnError::Key("not an uncompressed P-256 point"))?;
            if !is_strict_ecdsa_der(signature) {
                return Err(WebauthnError::SignatureForm);
            }
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, signature)
                .map_err(|_| WebauthnError::BadSignature)
        }
        EDDSA => {
            let key = PublicKey::from_spki(spki).map_err(|_| WebauthnError::Key("not an Ed25519 key"))?;
            let signature = signature.try_into().map_err(|_| WebauthnError::SignatureForm)?;
            key.verify(message, signature)
                .map_err(|_: DsseError| WebauthnError::BadSignature)
        }
        RS256 => {
            let pkcs1 = rsa_key_of(spki).ok_or(WebauthnError::Key("not an RSA key in its one DER form"))?;
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pkcs1)
                .verify(message, signature)
                .map_err(|_| WebauthnError::BadSignature)
        }
        other => Err(WebauthnError::Algorithm(other)),
    }
}

/// `SEQUENCE { INTEGER r, INTEGER s }` with the shortest lengths and numbers, both positive, nothing after.
fn is_strict_ecdsa_der(signature: &[u8]) -> bool {
    let Some((&[0x30, length], body)) = signature.split_first_chunk::<2>() else {
        return false;
    };
    if length >= 0x80 || usize::from(length) != body.len() {
        return false;
    }
    positive_integer(body)
        .and_then(positive_integer)
        .is_some_and(<[u8]>::is_empty)
}

/// Skips one positive DER INTEGER of at most 33 bytes and gives what follows.
fn positive_integer(der: &[u8]) -> Option<&[u8]> {
    let (&[0x02, length], rest) = der.split_first_chunk::<2>()? else {
        return None;
    };
    if length == 0 || length > 33 {
        return None;
    }
    let (number, rest) = rest.split_at_checked(usize::from(length))?;
    let padded = number[0] == 0;
    let shortest = !padded || number.get(1).is_some_and(|it| it & 0x80 != 0);
    (number[0] & 0x80 == 0 && shortest && (!padded || number.len() > 1)).then_some(rest)
}

/// The PKCS#1 key inside an RSA SubjectPublicKeyInfo, if the whole is in its one DER form.
fn rsa_key_of(spki: &[u8]) -> Option<&[u8]> {
    let body = der_body(0x30, spki)?;
    let bits = der_body(0x03, body.strip_prefix(&RSA_ALGORITHM)?)?;
    let pkcs1 = bits.strip_prefix(&[0])?;
    let numbers = der_body(0x30, pkcs1)?;
    let (modulus, rest) = der_unsigned(numbers)?;
    let (exponent, rest) = der_unsigned(rest)?;
    (rest.is_empty() && spki_of_rsa(modulus, exponent) == spki).then_some(pkcs1)
}

/// The body of a DER element that is `der` to its last byte.
fn der_body(tag: u8, der: &[u8]) -> Option<&[u8]> {
    let (body, rest) = der_element(tag, der)?;
    rest.is_empty().then_some(body)
}

/// One DER INTEGER as an unsigned number without padding, and what follows.
fn der_unsigned(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (number, rest) = der_element(0x02, der)?;
    Some((number.strip_prefix(&[0]).unwrap_or(number), rest))
}

/// Body of the first element and what follows it.
fn der_element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn der(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match body.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        byte @ 0x80..=0xff => bytes.extend([0x81, byte as u8]),
        long => {
            bytes.push(0x82);
            bytes.extend(
                u16::try_from(long)
                    .expect("an RSA key is far below 64 KiB")
                    .to_be_bytes(),
            );
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn der_integer(number: &[u8]) -> Vec<u8> {
    let padded = number.first().is_none_or(|it| it & 0x80 != 0);
    der(
        0x02,
        &if padded {
            [&[0], number].concat()
        } else {
            number.to_vec()
        },
    )
}

fn spki_of_rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let pkcs1 = der(0x30, &[der_integer(modulus), der_integer(exponent)].concat());
    der(
        0x30,
        &[&RSA_ALGORITHM[..], &der(0x03, &[&[0], &pkcs1[..]].concat())].concat(),
    )
}

/// Authenticator data up to its fixed part, and the bytes after it.
struct AuthenticatorData<'a> {
    rp_id_hash: [u8; 32],
    flags: Flags,
    sign_count: u32,
    rest: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, WebauthnError> {
        let short = WebauthnError::AuthenticatorData("shorter than 37 bytes");
        let (rp_id_hash, rest) = bytes.split_first_chunk::<32>().ok_or(short.clone())?;
        let (&[flags], rest) = rest.split_first_chunk::<1>().ok_or(short.clone())?;
        let (sign_count, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let flags = Flags(flags);
        if flags.backup_state() && !flags.backup_eligible() {
            return Err(WebauthnError::AuthenticatorData(
                "backed up, yet not eligible for backup",
            ));
        }
        Ok(AuthenticatorData {
            rp_id_hash: *rp_id_hash,
            flags,
            sign_count: u32::from_be_bytes(*sign_count),
            rest,
        })
    }

    /// Demands that `rest`, what follows all else, is the extensions' map, or nothing where there are none.
    fn finish(&self, rest: &[u8]) -> Result<(), WebauthnError> {
        let mut cbor = Cbor { bytes: rest };
        if self.flags.extensions() {
            match cbor.read(0) {
                Some(Item::Map(_)) => {}
                _ => return Err(WebauthnError::AuthenticatorData("the extensions are no CBOR map")),
            }
        }
        if cbor.bytes.is_empty() {
            Ok(())
        } else {
            Err(WebauthnError::AuthenticatorData("bytes left over at the end"))
        }
    }
}

/// What an attestation object says about a new passkey. The attestation statement itself is not judged here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedKey {
    /// Attestation statement format, e.g. `none` or `packed`.
    pub format: String,
    /// Model of the authenticator as a UUID in lowercase; all zeros where it does not tell.
    pub aaguid: String,
    pub credential_id: Vec<u8>,
    pub spki: Vec<u8>,
    /// COSE algorithm.
    pub alg: i64,
    pub rp_id_hash: [u8; 32],
    pub flags: Flags,
    pub sign_count: u32,
}

/// Reads the public key out of an attestation object, as the authenticator sent it.
pub fn attested(attestation_object: &[u8]) -> Result<AttestedKey, WebauthnError> {
    let mut cbor = Cbor {
        bytes: attestation_object,
    };
    let object = match cbor.read(0) {
        Some(Item::Map(members)) if cbor.bytes.is_empty() => members,
        _ => return Err(WebauthnError::Attestation("not one CBOR map")),
    };
    let member = |name: &str| {
        object
            .iter()
            .find(|(key, _)| matches!(key, Item::Text(it) if *it == name))
            .map(|(_, value)| value)
    };
    let (Some(Item::Text(format)), Some(Item::Map(_)), Some(Item::Bytes(data))) =
        (member("fmt"), member("attStmt"), member("authData"))
    else {
        return Err(WebauthnError::Attestation("fmt, attStmt or authData is missing"));
    };
    let head = AuthenticatorData::parse(data)?;
    if !head.flags.attested_key() {
        return Err(WebauthnError::Attestation("no attested key inside"));
    }
    let short = WebauthnError::Attestation("the attested key is cut short");
    let (aaguid, rest) = head.rest.split_first_chunk::<16>().ok_or(short.clone())?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(short.clone())?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > 1023 {
        return Err(WebauthnError::Attestation(
            "the credential id is not of 1 to 1023 bytes",
        ));
    }
    let (credential_id, rest) = rest.split_at_checked(length).ok_or(short)?;
    let mut cbor = Cbor { bytes: rest };
    let Some(Item::Map(key)) = cbor.read(0) else {
        return Err(WebauthnError::Attestation("the public key is no CBOR map"));
    };
    head.finish(cbor.bytes)?;
    let (alg, spki) = spki_of_cose(&key)?;
    Ok(AttestedKey {
        format: (*format).to_owned(),
        aaguid: uuid_text(aaguid),
        credential_id: credential_id.to_vec(),
        spki,
        alg,
        rp_id_hash: head.rp_id_hash,
        flags: head.flags,
        sign_count: head.sign_count,
    })
}

/// COSE key (RFC 9053 section 7) to algorithm and SubjectPublicKeyInfo DER.
fn spki_of_cose(key: &[(Item<'_>, Item<'_>)]) -> Result<(i64, Vec<u8>), WebauthnError> {
    let integer = |label: i64| match cose_member(key, label) {
        Some(Item::Integer(value)) => Some(*value),
        _ => None,
    };
    let bytes = |label: i64| match cose_member(key, label) {
        Some(Item::Bytes(value)) => Some(*value),
        _ => None,
    };
    let alg = integer(3).ok_or(WebauthnError::Key("no algorithm"))?;
    let spki = match (alg, integer(1), integer(-1)) {
        (ES256, Some(2), Some(1)) => {
            let (x, y) = (bytes(-2), bytes(-3));
            let (Some(x), Some(y)) = (x.filter(|it| it.len() == 32), y.filter(|it| it.len() == 32)) else {
                return Err(WebauthnError::Key("not a P-256 point"));
            };
            [&P256_SPKI_PREFIX[..], &[0x04], x, y].concat()
        }
        (EDDSA, Some(1), Some(6)) => {
            let raw = bytes(-2).and_then(|it| <&[u8; 32]>::try_from(it).ok());
            let raw = raw.ok_or(WebauthnError::Key("not an Ed25519 key"))?;
            PublicKey::from_raw(raw).map_err(|_| WebauthnError::Key("not a usable Ed25519 point"))?;
            spki_of_ed25519(raw)
        }
        (RS256, Some(3), None) => {
            let (Some(modulus), Some(exponent)) = (bytes(-1), bytes(-2)) else {
                return Err(WebauthnError::Key("no RSA numbers"));
            };
            let sized = (256..=1024).contains(&modulus.len()) && (1..=8).contains(&exponent.len());
            if !sized || modulus[0] == 0 || exponent[0] == 0 {
                return Err(WebauthnError::Key("RSA numbers out of range"));
            }
            spki_of_rsa(modulus, exponent)
        }
        (ES256 | EDDSA | RS256, _, _) => {
            return Err(WebauthnError::Key("type or curve is not the algorithm's"));
        }
        _ => return Err(WebauthnError::Algorithm(alg)),
    };
    Ok((alg, spki))
}

fn cose_member<'k, 'a>(key: &'k [(Item<'a>, Item<'a>)], label: i64) -> Option<&'k Item<'a>> {
    key.iter()
        .find(|(it, _)| *it == Item::Integer(label))
        .map(|(_, value)| value)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// A CBOR value. `Other` stands for simple values and floats, which nothing here asks for.
#[derive(Clone, Debug, PartialEq)]
enum Item<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    List(Vec<Item<'a>>),
    Map(Vec<(Item<'a>, Item<'a>)>),
    Other(u8, u64),
}

/// Reads CBOR in the form CTAP2 demands: definite and shortest lengths, no tags, no name twice, shallow.
struct Cbor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cbor<'a> {
    const DEPTH_MAX: usize = 8;

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(usize::try_from(length).ok()?)?;
        self.bytes = rest;
        Some(taken)
    }

    fn head(&mut self) -> Option<(u8, u8, u64)> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => return Some((major, info, u64::from(info))),
            24..=27 => 1_u64 << (info - 24),
            _ => return None,
        };
        let value = self
            .take(width)?
            .iter()
            .fold(0_u64, |sum, it| sum << 8 | u64::from(*it));
        // Floats (major 7) have no shorter form of the same kind; everything else must be as short as it can be.
        let floor = [24, 1 << 8, 1 << 16, 1 << 32][usize::from(info - 24)];
        (major == 7 || value >= floor).then_some((major, info, value))
    }

    fn read(&mut self, depth: usize) -> Option<Item<'a>> {
        if depth > Self::DEPTH_MAX {
            return None;
        }
        let (major, info, value) = self.head()?;
        Some(match major {
            0 => Item::Integer(i64::try_from(value).ok()?),
            1 => Item::Integer(-1 - i64::try_from(value).ok()?),
            2 => Item::Bytes(self.take(value)?),
            3 => Item::Text(std::str::from_utf8(self.take(value)?).ok()?),
            4 => {
                let mut items = Vec::new();
                for _ in 0..value {
                    items.push(self.read(depth + 1)?);
                }
                Item::List(items)
            }
            5 => {
                let mut members: Vec<(Item<'a>, Item<'a>)> = Vec::new();
                for _ in 0..value {
                    let key = self.read(depth + 1)?;
                    if !matches!(key, Item::Integer(_) | Item::Text(_))
                        || members.iter().any(|(it, _)| *it == key)
                    {
                        return None;
                    }
                    let value = self.read(depth + 1)?;
                    members.push((key, value));
                }
                Item::Map(members)
            }
            7 => Item::Other(info, value),
            _ => return None,
        })
    }
}
