//! A software passkey and a software TOTP app, for tests: they answer the standard WebAuthn JSON forms as a browser
//! and its platform authenticator would, and can be told to lie. They use no server-side WebAuthn library, so that
//! the product is never checked against its own code. They never talk to the network.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::fmt;
use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::Signature;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;
use url::Url;

/// COSE algorithm identifier of ES256 (RFC 9053, section 2.1).
const ES256: i64 = -7;

/// Bits of the authenticator data's flags (WebAuthn Level 3, section 6.1).
const FLAG_UP: u8 = 0x01;
const FLAG_UV: u8 = 0x04;
const FLAG_BE: u8 = 0x08;
const FLAG_BS: u8 = 0x10;
const FLAG_AT: u8 = 0x40;

/// One discoverable ES256 credential with its private key.
#[derive(Clone)]
pub struct Passkey {
    /// The credential id, raw.
    pub id: Vec<u8>,
    /// The RP id it was made for.
    pub rp_id: String,
    /// The user handle the server gave at creation.
    pub user_handle: Vec<u8>,
    /// The user name the server gave at creation.
    pub user_name: String,
    /// The signature counter of the last answer; stays 0 for a synced passkey.
    pub counter: u32,
    /// Whether it can be found without its id: only if the server asked for that at creation.
    pub discoverable: bool,
    /// BE, for life.
    pub backup_eligible: bool,
    /// BS, as of now.
    pub backup_state: bool,
    /// Whether the counter goes up by one with each answer.
    pub counts: bool,
    key: SigningKey,
}

impl Passkey {
    /// The credential id as it stands in the JSON forms (base64url without padding).
    pub fn id_b64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.id)
    }

    /// The public key as SubjectPublicKeyInfo DER (RFC 5480).
    pub fn public_key_spki(&self) -> Vec<u8> {
        // SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING point }: constant but for the point.
        let mut der =
            hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").expect("constant hex");
        der.extend_from_slice(self.key.verifying_key().to_encoded_point(false).as_bytes());
        der
    }
}

/// One way in which an answer departs from the truth.
#[derive(Clone)]
pub enum Lie {
    /// The client data names this origin. `Origin("https://sa.example".into())` at `https://sa.example:8443`.
    Origin(String),
    /// The authenticator data carries the hash of this RP id.
    RpId(String),
    /// The UV bit is 0.
    NotVerified,
    /// The UP bit is 0.
    NotPresent,
    /// `crossOrigin` is true.
    CrossOrigin,
    /// `topOrigin` is present (and `crossOrigin` true, as browsers send the two).
    TopOrigin(String),
    /// `topOrigin` is present although `crossOrigin` is false.
    TopOriginAlone(String),
    /// `type` is this, for instance `webauthn.create` in an assertion.
    Type(String),
    /// The challenge is this, raw.
    Challenge(Vec<u8>),
    /// The signature counter is this. 1 after several answers is a regression.
    Counter(u32),
    /// One bit of the signature's last byte is flipped.
    FlippedSignature,
    /// The client data gets one more space after it was signed.
    AlteredClientData,
    /// The authenticator data's counter goes up by 256 after it was signed: only the signature tells.
    AlteredAuthenticatorData,
    /// BS is set although BE is not (WebAuthn Level 3, section 6.1.3 forbids it).
    BackedUpButNotEligible,
    /// The answer is that of another person's passkey, honest in itself.
    PasskeyOf(Box<Passkey>),
    /// The answer claims this credential id, but the own key signed.
    CredentialId(Vec<u8>),
    /// The answer claims this user handle.
    UserHandle(Vec<u8>),
    /// A registration whose public key is not a point of the curve.
    BrokenPublicKey,
}

/// Why a real authenticator, or the browser before it, would not have answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// An excluded credential is already here (`InvalidStateError`).
    Excluded,
    /// No credential fits the request (`NotAllowedError`).
    NoCredential,
    /// ES256 is not among the algorithms asked for (`NotSupportedError`).
    NoAlgorithm,
    /// The RP id is neither the origin's host nor a parent of it (`SecurityError`).
    ForeignRpId(String),
    /// The server wants user verification and this authenticator can't.
    CannotVerify,
}

impl Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Declined::Excluded => f.write_str("an excluded credential is already here"),
            Declined::NoCredential => f.write_str("no credential fits the request"),
            Declined::NoAlgorithm => f.write_str("ES256 is not among the algorithms asked for"),
            Declined::ForeignRpId(rp_id) => write!(f, "RP id {rp_id:?} does not belong to the origin"),
            Declined::CannotVerify => f.write_str("user verification wanted, not available"),
        }
    }
}

/// A platform authenticator and the browser in front of it, at one origin.
#[derive(Clone)]
pub struct Authenticator {
    /// The origin the browser is at, as it stands in the client data (`http://localhost:8080`).
    pub origin: String,
    /// Authenticator model; zeros say nothing, as many platforms do.
    pub aaguid: [u8; 16],
    /// New passkeys are synced to other devices: BE and BS 1, the counter stays 0.
    pub synced: bool,
    /// Whether the person can be verified (fingerprint, PIN). If not, UV is 0 in every answer.
    pub user_verified: bool,
    /// `platform` or `cross-platform`.
    pub attachment: &'static str,
    passkeys: Vec<Passkey>,
}

impl Authenticator {
    /// A device-bound platform authenticator: BE and BS 0, the counter goes up.
    pub fn device_bound(origin: &str) -> Authenticator {
        Authenticator {
            origin: origin.to_owned(),
            aaguid: [0; 16],
            synced: false,
            user_verified: true,
            attachment: "platform",
            passkeys: Vec::new(),
        }
    }

    /// A synced platform authenticator: BE and BS 1, the counter stays 0.
    pub fn synced(origin: &str) -> Authenticator {
        Authenticator {
            synced: true,
            ..Self::device_bound(origin)
        }
    }

    /// All credentials, oldest first.
    pub fn passkeys(&self) -> &[Passkey] {
        &self.passkeys
    }

    /// The newest credential. Panics if there is none.
    pub fn passkey(&self) -> &Passkey {
        self.passkeys.last().expect("the authenticator holds a passkey")
    }

    /// Takes over a credential, for instance of a second device or of another person.
    pub fn import(&mut self, passkey: Passkey) {
        self.passkeys.push(passkey);
    }

    /// Forgets a credential by its raw id.
    pub fn forget(&mut self, id: &[u8]) {
        self.passkeys.retain(|it| it.id != id);
    }

    /// Creates a credential: `PublicKeyCredentialCreationOptionsJSON` to `RegistrationResponseJSON`.
    pub fn create(&mut self, options: &Value) -> Result<Value, Declined> {
        self.create_lying(options, &[])
    }

    /// As [`Self::create`], with lies. The credential is kept even so.
    pub fn create_lying(&mut self, options: &Value, lies: &[Lie]) -> Result<Value, Declined> {
        let rp_id = match options["rp"]["id"].as_str() {
            Some(it) => it.to_owned(),
            None => host(&self.origin),
        };
        self.check_rp_id(&rp_id)?;
        let algorithms = options["pubKeyCredParams"]
            .as_array()
            .expect("pubKeyCredParams is a list");
        if !algorithms
            .iter()
            .any(|it| it["type"] == "public-key" && it["alg"] == ES256)
        {
            return Err(Declined::NoAlgorithm);
        }
        let excluded = listed_ids(&options["excludeCredentials"]);
        if self
            .passkeys
            .iter()
            .any(|it| it.rp_id == rp_id && excluded.contains(&it.id))
        {
            return Err(Declined::Excluded);
        }
        if options["authenticatorSelection"]["userVerification"] == "required" && !self.user_verified {
            return Err(Declined::CannotVerify);
        }

        // An authenticator with little room keeps what it must: a server that wants to find its users by their passkeys
        // has to say so.
        let selection = &options["authenticatorSelection"];
        let discoverable = ["required", "preferred"]
            .map(Value::from)
            .contains(&selection["residentKey"])
            || selection["requireResidentKey"] == true;
        let mut passkey = Passkey {
            id: random::<32>().to_vec(),
            rp_id,
            user_handle: from_b64url(&options["user"]["id"], "user.id"),
            user_name: options["user"]["name"]
                .as_str()
                .expect("user.name is text")
                .to_owned(),
            counter: u32::from(!self.synced),
            discoverable,
            backup_eligible: self.synced,
            backup_state: self.synced,
            counts: !self.synced,
            key: random_key(),
        };
        for lie in lies {
            match lie {
                Lie::CredentialId(id) => passkey.id = id.clone(),
                Lie::Counter(counter) => passkey.counter = *counter,
                _ => {}
            }
        }
        let client_data = self.client_data("webauthn.create", options, lies);

        let point = passkey.key.verifying_key().to_encoded_point(false);
        let x = point.x().expect("an uncompressed point has x").to_vec();
        let mut y = point.y().expect("an uncompressed point has y").to_vec();
        if lies.iter().any(|it| matches!(it, Lie::BrokenPublicKey)) {
            // For one x only y and p-y are on the curve, so this neighbour is not.
            y[31] ^= 0x02;
        }
        let mut auth_data = self.auth_data_head(&passkey, FLAG_AT, lies);
        auth_data.extend_from_slice(&self.aaguid);
        let id_len = u16::try_from(passkey.id.len()).expect("a credential id is at most 1023 bytes");
        auth_data.extend_from_slice(&id_len.to_be_bytes());
        auth_data.extend_from_slice(&passkey.id);
        auth_data.extend_from_slice(&cose_key(&x, &y));

        // {"fmt":"none","attStmt":{},"authData":h'…'}, in CTAP2's canonical order: shorter keys first.
        let mut attestation = vec![0xa3];
        cbor_text(&mut attestation, "fmt");
        cbor_text(&mut attestation, "none");
        cbor_text(&mut attestation, "attStmt");
        attestation.push(0xa0);
        cbor_text(&mut attestation, "authData");
        cbor_bytes(&mut attestation, &auth_data);

        let extensions = match options["extensions"]["credProps"].as_bool() {
            Some(true) => json!({"credProps": {"rk": discoverable}}),
            _ => json!({}),
        };
        let transports = match self.attachment {
            "platform" if self.synced => json!(["hybrid", "internal"]),
            "platform" => json!(["internal"]),
            _ => json!(["usb"]),
        };
        let answer = json!({
            "id": passkey.id_b64url(),
            "rawId": passkey.id_b64url(),
            "type": "public-key",
            "authenticatorAttachment": self.attachment,
            "clientExtensionResults": extensions,
            "response": {
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "attestationObject": URL_SAFE_NO_PAD.encode(attestation),
                "authenticatorData": URL_SAFE_NO_PAD.encode(auth_data),
                "publicKey": URL_SAFE_NO_PAD.encode(passkey.public_key_spki()),
                "publicKeyAlgorithm": ES256,
                "transports": transports,
            },
        });
        self.passkeys.push(passkey);
        Ok(answer)
    }

    /// Answers an assertion: `PublicKeyCredentialRequestOptionsJSON` to `AuthenticationResponseJSON`.
    /// The newest held credential of the allow list answers; with an empty list the newest discoverable one of the RP.
    pub fn get(&mut self, options: &Value) -> Result<Value, Declined> {
        self.get_lying(options, &[])
    }

    /// As [`Self::get`], with lies.
    pub fn get_lying(&mut self, options: &Value, lies: &[Lie]) -> Result<Value, Declined> {
        let rp_id = match options["rpId"].as_str() {
            Some(it) => it.to_owned(),
            None => host(&self.origin),
        };
        self.check_rp_id(&rp_id)?;
        if options["userVerification"] == "required" && !self.user_verified {
            return Err(Declined::CannotVerify);
        }
        let mut passkey = match lies.iter().find_map(|it| {
            if let Lie::PasskeyOf(other) = it {
                Some(other)
            } else {
                None
            }
        }) {
            Some(other) => other.as_ref().clone(),
            None => {
                let passkey = self.choose(&rp_id, &listed_ids(&options["allowCredentials"]))?;
                passkey.counter += u32::from(passkey.counts);
                passkey.clone()
            }
        };
        for lie in lies {
            match lie {
                Lie::CredentialId(id) => passkey.id = id.clone(),
                Lie::UserHandle(handle) => passkey.user_handle = handle.clone(),
                Lie::Counter(counter) => passkey.counter = *counter,
                // The other device has counted on as well.
                Lie::PasskeyOf(_) => passkey.counter += u32::from(passkey.counts),
                _ => {}
            }
        }

        let mut client_data = self.client_data("webauthn.get", options, lies).into_bytes();
        let mut auth_data = self.auth_data_head(&passkey, 0, lies);
        let mut signed = auth_data.clone();
        signed.extend_from_slice(&Sha256::digest(&client_data));
        let signature: Signature = passkey.key.sign(&signed);
        let mut signature = signature.to_der().as_bytes().to_vec();
        for lie in lies {
            match lie {
                // The last byte belongs to s: the DER stays well-formed, the signature is another one.
                Lie::FlippedSignature => *signature.last_mut().expect("a signature has bytes") ^= 0x01,
                Lie::AlteredClientData => client_data.push(b' '),
                Lie::AlteredAuthenticatorData => auth_data[35] ^= 0x01,
                _ => {}
            }
        }
        Ok(json!({
            "id": passkey.id_b64url(),
            "rawId": passkey.id_b64url(),
            "type": "public-key",
            "authenticatorAttachment": self.attachment,
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "authenticatorData": URL_SAFE_NO_PAD.encode(auth_data),
                "signature": URL_SAFE_NO_PAD.encode(signature),
                "userHandle": URL_SAFE_NO_PAD.encode(&passkey.user_handle),
            },
        }))
    }

    fn choose(&mut self, rp_id: &str, allowed: &[Vec<u8>]) -> Result<&mut Passkey, Declined> {
        let held = |it: &&mut Passkey| {
            it.rp_id == rp_id
                && if allowed.is_empty() {
                    it.discoverable
                } else {
                    allowed.contains(&it.id)
                }
        };
        self.passkeys
            .iter_mut()
            .rev()
            .find(held)
            .ok_or(Declined::NoCredential)
    }

    /// What a browser checks before it asks the authenticator (WebAuthn Level 3, section 5.1.3, step 8).
    fn check_rp_id(&self, rp_id: &str) -> Result<(), Declined> {
        let host = host(&self.origin);
        if host == rp_id || host.ends_with(&format!(".{rp_id}")) {
            return Ok(());
        }
        Err(Declined::ForeignRpId(rp_id.to_owned()))
    }

    /// The client data with the members, order and spacing of WebAuthn Level 3, section 5.8.1.1.
    fn client_data(&self, kind: &str, options: &Value, lies: &[Lie]) -> String {
        let mut kind = kind.to_owned();
        let mut challenge = options["challenge"]
            .as_str()
            .expect("the options hold a challenge")
            .to_owned();
        // A browser decodes and encodes: padding or the other alphabet would not survive.
        challenge = URL_SAFE_NO_PAD.encode(from_b64url(&Value::String(challenge), "challenge"));
        let mut origin = self.origin.clone();
        let mut cross_origin = false;
        let mut top_origin = None;
        for lie in lies {
            match lie {
                Lie::Type(it) => kind = it.clone(),
                Lie::Challenge(it) => challenge = URL_SAFE_NO_PAD.encode(it),
                Lie::Origin(it) => origin = it.clone(),
                Lie::CrossOrigin => cross_origin = true,
                Lie::TopOrigin(it) => {
                    cross_origin = true;
                    top_origin = Some(it.clone());
                }
                Lie::TopOriginAlone(it) => top_origin = Some(it.clone()),
                _ => {}
            }
        }
        let mut text = format!(
            r#"{{"type":{},"challenge":{},"origin":{},"crossOrigin":{cross_origin}"#,
            Value::String(kind),
            Value::String(challenge),
            Value::String(origin),
        );
        if let Some(it) = top_origin {
            text.push_str(&format!(r#","topOrigin":{}"#, Value::String(it)));
        }
        text.push('}');
        text
    }

    /// RP id hash, flags and counter (WebAuthn Level 3, section 6.1).
    fn auth_data_head(&self, passkey: &Passkey, more_flags: u8, lies: &[Lie]) -> Vec<u8> {
        let mut rp_id = &passkey.rp_id;
        let mut flags = FLAG_UP | more_flags;
        flags |= if self.user_verified { FLAG_UV } else { 0 };
        flags |= if passkey.backup_eligible { FLAG_BE } else { 0 };
        flags |= if passkey.backup_state { FLAG_BS } else { 0 };
        for lie in lies {
            match lie {
                Lie::RpId(it) => rp_id = it,
                Lie::NotVerified => flags &= !FLAG_UV,
                Lie::NotPresent => flags &= !FLAG_UP,
                Lie::BackedUpButNotEligible => flags = (flags & !FLAG_BE) | FLAG_BS,
                _ => {}
            }
        }
        let mut data = Sha256::digest(rp_id.as_bytes()).to_vec();
        data.push(flags);
        data.extend_from_slice(&passkey.counter.to_be_bytes());
        data
    }
}

/// A TOTP app with one secret (RFC 6238, SHA-1 as every app understands it).
#[derive(Clone)]
pub struct Totp {
    secret: Vec<u8>,
    /// Seconds of one step.
    pub period_s: u64,
    /// Digits of one code.
    pub digits: u32,
}

impl Totp {
    /// Reads `otpauth://totp/…?secret=…` as an app would scan it. Panics on what an app would refuse.
    pub fn from_otpauth_url(text: &str) -> Totp {
        let url = Url::parse(text).expect("the otpauth URL parses");
        assert_eq!(
            (url.scheme(), url.host_str()),
            ("otpauth", Some("totp")),
            "{text}"
        );
        let query = |name: &str| {
            url.query_pairs()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        assert!(
            query("algorithm").is_none_or(|it| it.eq_ignore_ascii_case("SHA1")),
            "many apps ignore `algorithm` and count with SHA-1"
        );
        let number = |name: &str, absent: u64| query(name).map_or(absent, |it| it.parse().expect("a number"));
        Totp {
            secret: from_base32(&query("secret").expect("the otpauth URL has a secret")),
            period_s: number("period", 30),
            digits: u32::try_from(number("digits", 6)).expect("a few digits"),
        }
    }

    /// A TOTP app that holds this secret, with 6 digits every 30 seconds.
    pub fn from_secret(secret: &[u8]) -> Totp {
        Totp {
            secret: secret.to_vec(),
            period_s: 30,
            digits: 6,
        }
    }

    /// The secret itself.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The code of the step that holds this Unix time in seconds.
    pub fn code_at(&self, unix_s: u64) -> String {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.secret);
        let tag = aws_lc_rs::hmac::sign(&key, &(unix_s / self.period_s).to_be_bytes());
        let tag = tag.as_ref();
        // RFC 4226, section 5.3: dynamic truncation.
        let at = usize::from(tag[19] & 0x0f);
        let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
        let digits = self.digits as usize;
        format!("{:0digits$}", u64::from(number) % 10u64.pow(self.digits))
    }

    /// The code of now.
    pub fn code(&self) -> String {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        self.code_at(since.as_secs())
    }

    /// A code that no step near now has.
    pub fn wrong_code(&self) -> String {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let near: Vec<String> = (0..=8)
            .map(|it| self.code_at(since.as_secs() + it * self.period_s - 4 * self.period_s))
            .collect();
        let digits = self.digits as usize;
        (0..100u32)
            .map(|it| format!("{:0digits$}", it * 7919 + 1))
            .find(|it| !near.contains(it))
            .expect("nine codes do not cover a hundred numbers")
    }
}

fn host(origin: &str) -> String {
    Url::parse(origin)
        .expect("an origin is a URL")
        .host_str()
        .expect("an origin has a host")
        .to_owned()
}

/// The raw ids of a `PublicKeyCredentialDescriptorJSON` list that may be absent.
fn listed_ids(list: &Value) -> Vec<Vec<u8>> {
    let Some(list) = list.as_array() else {
        return Vec::new();
    };
    list.iter()
        .map(|it| from_b64url(&it["id"], "credential id"))
        .collect()
}

/// Strict: a browser's `parseCreationOptionsFromJSON` takes base64url without padding only.
fn from_b64url(text: &Value, what: &str) -> Vec<u8> {
    let text = text
        .as_str()
        .unwrap_or_else(|| panic!("{what} is text in the options, not {text}"));
    URL_SAFE_NO_PAD
        .decode(text)
        .unwrap_or_else(|e| panic!("{what} {text:?} is not base64url without padding: {e}"))
}

/// RFC 4648, section 6; padding and lower case are tolerated as apps do.
fn from_base32(text: &str) -> Vec<u8> {
    let mut bits = 0u32;
    let mut n_bits = 0;
    let mut bytes = Vec::new();
    for char in text.trim_end_matches('=').to_ascii_uppercase().bytes() {
        let at = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
            .iter()
            .position(|it| *it == char)
            .expect("a base32 letter");
        bits = (bits << 5 | at as u32) & 0xfff;
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
        }
    }
    bytes
}

/// COSE_Key of an EC2 key on P-256 for ES256 (RFC 9053, section 7.1), in CTAP2's canonical order.
fn cose_key(x: &[u8], y: &[u8]) -> Vec<u8> {
    // {1: 2, 3: -7, -1: 1, -2: x, -3: y}
    let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21];
    cbor_bytes(&mut key, x);
    key.push(0x22);
    cbor_bytes(&mut key, y);
    key
}

fn cbor_head(out: &mut Vec<u8>, major: u8, len: usize) {
    let major = major << 5;
    match len {
        0..=23 => out.push(major | len as u8),
        24..=255 => out.extend_from_slice(&[major | 24, len as u8]),
        _ => {
            out.push(major | 25);
            out.extend_from_slice(
                &u16::try_from(len)
                    .expect("nothing here is longer than 65,535")
                    .to_be_bytes(),
            );
        }
    }
}

fn cbor_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    cbor_head(out, 2, bytes.len());
    out.extend_from_slice(bytes);
}

fn cbor_text(out: &mut Vec<u8>, text: &str) {
    cbor_head(out, 3, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

fn random_key() -> SigningKey {
    // All but about 2^-32 of the 32-byte strings are keys.
    loop {
        if let Ok(key) = SigningKey::from_slice(&random::<32>()) {
            return key;
        }
    }
}
