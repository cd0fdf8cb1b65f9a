//! The token: finds it by its label, logs in, keeps a session as long as it lasts, and begins anew when it was lost.

use crate::agent::{ED25519, put_text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Labels of the keys that are served.
const SERVED: &[&str] = &["credential", "log"];

/// The curve, as PKCS#11 3.0 section 2.3.10 names it: a printable string. Some tokens want the object identifier.
const CURVE_BY_NAME: &[u8] = b"\x13\x0cedwards25519";
const CURVE_BY_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// Why the token does not do what it is asked.
#[derive(Debug)]
pub enum Failure {
    /// It refuses the PIN: whoever tries again locks it.
    Pin(String),
    /// It can't be reached, or does not do it now.
    Away(String),
}

/// The PIN, wiped when dropped.
pub struct Pin(AuthPin);

impl Pin {
    /// Reads it from a file that its owner alone can read.
    ///
    /// # Errors
    /// For people.
    pub fn read(path: &Path) -> Result<Pin, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(format!(
                "{}: its mode is {mode:04o}, so that others than its owner can use it; set it to 0600",
                path.display()
            ));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let pin = text.trim_end_matches(['\r', '\n']).to_owned();
        if pin.is_empty() {
            return Err(format!("{}: it is empty", path.display()));
        }
        Ok(Pin(AuthPin::new(pin.into())))
    }
}

/// One Ed25519 key of the token.
#[derive(Clone, Debug)]
pub struct Key {
    pub label: String,
    pub public: [u8; 32],
    handle: ObjectHandle,
}

impl Key {
    /// Its public key as the ssh-agent protocol writes it.
    pub fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put_text(&mut blob, ED25519);
        put_text(&mut blob, &self.public);
        blob
    }

    /// The public key as OpenSSH writes it; `ssh-keygen -l` makes the fingerprint of it.
    pub fn fingerprint(&self) -> String {
        format!("ssh-ed25519 {} {}", STANDARD.encode(self.blob()), self.label)
    }
}

/// A logged-in session and the keys it sees.
struct Open {
    session: Session,
    keys: Vec<Key>,
    /// Kept since the module is unloaded with it.
    context: Pkcs11,
}

/// The token, whether it is there or not.
pub struct Token {
    module: PathBuf,
    label: String,
    pin: Pin,
    open: Option<Open>,
}

impl Token {
    /// Nothing is opened yet.
    pub fn new(module: PathBuf, label: String, pin: Pin) -> Token {
        Token {
            module,
            label,
            pin,
            open: None,
        }
    }

    /// The keys that are served.
    ///
    /// # Errors
    /// See `Failure`.
    pub fn keys(&mut self) -> Result<Vec<Key>, Failure> {
        // An open session may be of a token that is gone: a look at it costs little.
        if let Some(open) = &self.open
            && open.session.get_session_info().is_err()
        {
            self.close();
        }
        Ok(self.opened()?.keys.clone())
    }

    /// A pure Ed25519 signature. A lost session is opened anew once.
    ///
    /// # Errors
    /// See `Failure`.
    pub fn sign(&mut self, key: &Key, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self.try_sign(key, message) {
            Ok(signature) => Ok(signature),
            Err(Failure::Away(_)) => {
                self.close();
                self.try_sign(key, message).inspect_err(|_| self.close())
            }
            Err(failure) => Err(failure),
        }
    }

    fn try_sign(&mut self, key: &Key, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let open = self.opened()?;
        let here = open
            .keys
            .iter()
            .find(|it| it.public == key.public)
            .ok_or_else(|| Failure::Away("the token no longer has the key".into()))?;
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let signature = open
            .session
            .sign(&mechanism, here.handle, message)
            .map_err(away)?;
        if signature.len() != 64 {
            return Err(Failure::Away(format!(
                "the token answers with {} bytes instead of a signature",
                signature.len()
            )));
        }
        Ok(signature)
    }

    /// Makes the key pairs that are missing: sensitive, never extractable. Answers with all of them.
    ///
    /// # Errors
    /// See `Failure`.
    pub fn generate(&mut self, labels: &[&str]) -> Result<Vec<String>, Failure> {
        let (slot, label) = (self.slot()?, self.label.clone());
        let known: Vec<String> = self.keys()?.into_iter().map(|it| it.label).collect();
        for (nth, wanted) in labels.iter().enumerate() {
            if known.iter().any(|it| it == wanted) {
                continue;
            }
            let open = self.opened()?;
            // Logged in already: the login belongs to the token, not to the session.
            let session = open.context.open_rw_session(slot).map_err(away)?;
            let id = vec![u8::try_from(nth + 1).unwrap_or(u8::MAX)];
            let private = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                Attribute::Label(wanted.as_bytes().to_vec()),
                Attribute::Id(id.clone()),
            ];
            let made = [CURVE_BY_NAME, CURVE_BY_OID].iter().map(|curve| {
                let public = [
                    Attribute::Token(true),
                    Attribute::Private(false),
                    Attribute::Verify(true),
                    Attribute::EcParams(curve.to_vec()),
                    Attribute::Label(wanted.as_bytes().to_vec()),
                    Attribute::Id(id.clone()),
                ];
                session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
            });
            let mut failed = None;
            for attempt in made {
                match attempt {
                    Ok(_) => {
                        failed = None;
                        break;
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(Failure::Away(format!(
                    "the token {label} makes no Ed25519 key: {error}"
                )));
            }
        }
        self.close();
        Ok(self.keys()?.iter().map(Key::fingerprint).collect())
    }

    fn slot(&mut self) -> Result<cryptoki::slot::Slot, Failure> {
        let label = self.label.clone();
        let open = self.opened()?;
        find_slot(&open.context, &label)
    }

    /// The open session, or a new one.
    fn opened(&mut self) -> Result<&Open, Failure> {
        if self.open.is_none() {
            self.open = Some(open(&self.module, &self.label, &self.pin)?);
        }
        self.open
            .as_ref()
            .ok_or_else(|| Failure::Away("the token is not open".into()))
    }

    /// Lets go of session and module, so that the next look begins anew: a module remembers which tokens it saw.
    fn close(&mut self) {
        if let Some(Open { session, context, .. }) = self.open.take() {
            drop(session);
            if let Err(error) = context.finalize() {
                eprintln!("signedapproval-pkcs11: the module does not let go: {error}");
            }
        }
    }
}

fn find_slot(context: &Pkcs11, label: &str) -> Result<cryptoki::slot::Slot, Failure> {
    let mut found = Vec::new();
    for slot in context.get_slots_with_token().map_err(away)? {
        let is_named = context
            .get_token_info(slot)
            .is_ok_and(|it| it.label().trim_end() == label);
        if is_named {
            found.push(slot);
        }
    }
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(Failure::Away(format!("there is no token {label:?}"))),
        _ => Err(Failure::Away(format!(
            "there are {} tokens {label:?}",
            found.len()
        ))),
    }
}

fn open(module: &Path, label: &str, pin: &Pin) -> Result<Open, Failure> {
    let context = Pkcs11::new(module).map_err(|e| Failure::Away(format!("{}: {e}", module.display())))?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(away(error)),
    }
    match log_in(&context, label, pin) {
        Ok((session, keys)) => Ok(Open {
            session,
            keys,
            context,
        }),
        Err(failure) => {
            // The next try is to look at the slots anew; that this one failed is what counts.
            let _ = context.finalize();
            Err(failure)
        }
    }
}

fn log_in(context: &Pkcs11, label: &str, pin: &Pin) -> Result<(Session, Vec<Key>), Failure> {
    let slot = find_slot(context, label)?;
    let session = context.open_ro_session(slot).map_err(away)?;
    match session.login(UserType::User, Some(&pin.0)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(Error::Pkcs11(
            why @ (RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLocked
            | RvError::PinLenRange
            | RvError::PinExpired),
            _,
        )) => {
            return Err(Failure::Pin(format!("the token {label} refuses the PIN: {why}")));
        }
        Err(error) => return Err(away(error)),
    }
    let keys = find_keys(&session)?;
    Ok((session, keys))
}

fn find_keys(session: &Session) -> Result<Vec<Key>, Failure> {
    let mut keys = Vec::new();
    for label in SERVED {
        let private = session
            .find_objects(&[
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::KeyType(KeyType::EC_EDWARDS),
                Attribute::Label(label.as_bytes().to_vec()),
            ])
            .map_err(away)?;
        for handle in private {
            if let Some(public) = public_of(session, handle)? {
                keys.push(Key {
                    label: (*label).to_owned(),
                    public,
                    handle,
                });
            }
        }
    }
    Ok(keys)
}

/// The public key of a private one: of the public object with the same id, or where the token keeps none, its own.
fn public_of(session: &Session, private: ObjectHandle) -> Result<Option<[u8; 32]>, Failure> {
    let mut places = Vec::new();
    for attribute in session
        .get_attributes(private, &[AttributeType::Id])
        .map_err(away)?
    {
        if let Attribute::Id(id) = attribute {
            let found = session.find_objects(&[
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::KeyType(KeyType::EC_EDWARDS),
                Attribute::Id(id),
            ]);
            places.extend(found.map_err(away)?);
        }
    }
    places.push(private);
    for place in places {
        // A private object without the attribute is no error.
        let Ok(attributes) = session.get_attributes(place, &[AttributeType::EcPoint]) else {
            continue;
        };
        for attribute in attributes {
            if let Attribute::EcPoint(point) = attribute
                && let Some(public) = raw_point(&point)
            {
                return Ok(Some(public));
            }
        }
    }
    Ok(None)
}

/// Tokens write an Edwards point raw, as a DER octet string or as a DER bit string.
fn raw_point(point: &[u8]) -> Option<[u8; 32]> {
    let raw = match point {
        [0x04, 0x20, rest @ ..] if rest.len() == 32 => rest,
        [0x03, 0x21, 0x00, rest @ ..] if rest.len() == 32 => rest,
        rest => rest,
    };
    raw.try_into().ok()
}

fn away(error: Error) -> Failure {
    Failure::Away(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_of_a_point_is_read() {
        let raw = [7; 32];
        assert_eq!(raw_point(&raw), Some(raw));
        assert_eq!(raw_point(&[&[0x04, 0x20][..], &raw].concat()), Some(raw));
        assert_eq!(raw_point(&[&[0x03, 0x21, 0x00][..], &raw].concat()), Some(raw));
        assert_eq!(raw_point(&raw[..31]), None);
        assert_eq!(raw_point(&[]), None);
    }
}
