//! Signed notes and verifier keys (c2sp.org/signed-note, Ed25519 only): reads, checks and puts together. It never
//! signs, and holds no private key.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::tlog::hash::{hex_bytes, hex_text, sha256};

/// The signature type of plain Ed25519 over the note's text.
const ED25519: u8 = 0x01;
/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// A note's size limit. The specification asks for room for 16 signatures of about 5 kB each.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// How many signature lines a note may have. The specification asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;

/// Why a note or a verifier key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("the note is too long")]
    TooLong,
    /// Not UTF-8, or with a control character other than newline.
    #[error("the note is not plain text")]
    NotText,
    /// No empty line between text and signatures, no signature, or no newline at the end.
    #[error("the note has no signatures after an empty line")]
    NoSignatures,
    /// More signature lines than [`SIGNATURES_MAX`].
    #[error("the note has too many signatures")]
    TooManySignatures,
    /// A line after the empty line is no signature line.
    #[error("signature line {0} is malformed")]
    MalformedSignature(usize),
    /// Two different keys share the name and the id of a signature.
    #[error("two keys share one name and id")]
    AmbiguousKey,
    /// The signature of a known key does not hold.
    #[error("a known key's signature does not hold")]
    BadSignature,
    /// No known key has signed.
    #[error("no known key has signed")]
    UnknownSigner,
    /// The key's name is empty or has a space, a plus or a control character.
    #[error("the key's name is malformed")]
    BadName,
    /// The verifier key's text does not have its three parts, or they do not fit together.
    #[error("the verifier key is malformed")]
    MalformedKey,
    /// The 32 bytes are no Ed25519 public key, or one of those under which anybody can sign.
    #[error("the public key is not usable")]
    BadKey,
    /// The text to be signed is not one a note can carry.
    #[error("the text cannot be signed as a note")]
    BadText,
}

/// A public key that signs notes, with the name it does so under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

impl VerifierKey {
    /// A key from its name and its 32 bytes (RFC 8032). Refuses names no note can carry, and weak keys.
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(NoteError::BadName);
        }
        match VerifyingKey::from_bytes(&key) {
            Ok(point) if !point.is_weak() => Ok(Self {
                name: name.to_owned(),
                key,
            }),
            _ => Err(NoteError::BadKey),
        }
    }

    /// Reads the text `<name>+<8 hex>+<base64(0x01 || key)>`; accepts only what [`VerifierKey::vkey`] writes.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        // A name has no plus, but base64 may have some.
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::MalformedKey);
        };
        let material = BASE64_STANDARD
            .decode(material)
            .map_err(|_| NoteError::MalformedKey)?;
        let key = match material.split_first() {
            Some((&ED25519, key)) => key.try_into().map_err(|_| NoteError::MalformedKey)?,
            _ => return Err(NoteError::MalformedKey),
        };
        let verifier = Self::new(name, key)?;
        if hex_bytes(id) == Some(verifier.id()) {
            Ok(verifier)
        } else {
            Err(NoteError::MalformedKey)
        }
    }

    /// The key as text, without newline.
    pub fn vkey(&self) -> String {
        let material = [&[ED25519], self.key.as_slice()].concat();
        format!(
            "{}+{}+{}",
            self.name,
            hex_text(&self.id()),
            BASE64_STANDARD.encode(material)
        )
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the public key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The key id: the first four bytes of SHA-256(name || "\n" || 0x01 || key). A hint, not a fingerprint.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, &self.key)
    }

    /// Whether this is the key's signature over the text (RFC 8032, strict: one signature has one form).
    fn accepts(&self, text: &str, signature: &[u8]) -> bool {
        match (
            VerifyingKey::from_bytes(&self.key),
            Signature::from_slice(signature),
        ) {
            (Ok(key), Ok(signature)) => key.verify_strict(text.as_bytes(), &signature).is_ok(),
            _ => false,
        }
    }
}

/// The id of an Ed25519 key under a name.
pub fn key_id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[ED25519], key]).0;
    [a, b, c, d]
}

/// The line a signature stands on: `— <name> <base64(key id || signature)>` and a newline.
pub fn note_signature_line(name: &str, key: &[u8; 32], signature: &[u8; 64]) -> String {
    SignatureLine {
        name: name.to_owned(),
        key_id: key_id(name, key),
        signature: signature.to_vec(),
    }
    .to_text()
}

/// Puts a note together from its text and one signature over the text's bytes, and checks the signature first.
pub fn assemble(text: &str, key: &VerifierKey, signature: &[u8; 64]) -> Result<String, NoteError> {
    if !is_note_text(text) {
        return Err(NoteError::BadText);
    }
    if !key.accepts(text, signature) {
        return Err(NoteError::BadSignature);
    }
    Ok(format!(
        "{text}\n{}",
        note_signature_line(key.name(), key.key(), signature)
    ))
}

/// One signature line of a note, of any signature type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub key_id: [u8; 4],
    /// What follows the id, as the signature's type has it; for Ed25519 64 bytes.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// Reads a line without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let decoded = BASE64_STANDARD.decode(encoded).ok()?;
        let (key_id, signature) = decoded.split_first_chunk()?;
        let well_formed = is_key_name(name) && !signature.is_empty();
        well_formed.then(|| Self {
            name: name.to_owned(),
            key_id: *key_id,
            signature: signature.to_owned(),
        })
    }

    fn to_text(&self) -> String {
        let encoded = BASE64_STANDARD.encode([self.key_id.as_slice(), &self.signature].concat());
        format!("{SIGNATURE_PREFIX}{} {encoded}\n", self.name)
    }
}

/// A note as it was read. Nothing in it may be believed before [`Note::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note: text that ends in a newline, an empty line, one or more signature lines, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if !is_plain(whole) {
            return Err(NoteError::NotText);
        }
        // The text may have empty lines of its own: the last one separates.
        let (before, lines) = whole.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (idx, line) in lines.split('\n').enumerate() {
            if idx == SIGNATURES_MAX {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(SignatureLine::parse(line).ok_or(NoteError::MalformedSignature(idx + 1))?);
        }
        Ok(Self {
            text: format!("{before}\n"),
            signatures,
        })
    }

    /// The signed text, its last newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in their order.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// The note's bytes; those it was read from.
    pub fn encode(&self) -> String {
        let lines: String = self.signatures.iter().map(SignatureLine::to_text).collect();
        format!("{}\n{lines}", self.text)
    }

    /// Checks the signatures and tells which of the keys have signed: at least one.
    ///
    /// Lines of unknown keys are passed over, as the specification demands. One bad signature of a known key refuses
    /// the whole note.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signers: Vec<&VerifierKey> = Vec::new();
        for line in &self.signatures {
            let mut known = keys
                .iter()
                .filter(|key| key.name == line.name && key.id() == line.key_id);
            let Some(key) = known.next() else { continue };
            if known.any(|other| other != key) {
                return Err(NoteError::AmbiguousKey);
            }
            if !key.accepts(&self.text, &line.signature) {
                return Err(NoteError::BadSignature);
            }
            if !signers.contains(&key) {
                signers.push(key);
            }
        }
        if signers.is_empty() {
            Err(NoteError::UnknownSigner)
        } else {
            Ok(signers)
        }
    }
}

/// Whether a key may bear the name: not empty, no Unicode space, no plus, no control character.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c < ' ')
}

/// Whether the text can be that of a note.
fn is_note_text(text: &str) -> bool {
    text.ends_with('\n') && is_plain(text)
}

/// No control character other than newline.
fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c < ' ' && c != '\n')
}
