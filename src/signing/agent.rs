//! Keys in an agent: a Unix socket that speaks the ssh-agent protocol (RFC draft-ietf-sshm-ssh-agent), of which two
//! questions are asked: which keys it has, and a signature. OpenSSH's own agent answers it, and so does
//! `signedapproval-pkcs11` for a hardware token.

use crate::signing::{SignError, Signer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const ED25519: &[u8] = b"ssh-ed25519";

/// An agent on this machine answers at once, a hardware token in well under a second; after this long it is away.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest message either way, in bytes: OpenSSH's own limit.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// One Ed25519 key that an agent has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub public_key: [u8; 32],
    /// What the agent calls it; for a token the key's label.
    pub comment: String,
}

impl Identity {
    /// The fingerprint as OpenSSH writes it: `SHA256:` and base64 without padding.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(key_blob(&self.public_key));
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }

    /// Whether `name` is its fingerprint or its comment.
    pub fn is_called(&self, name: &str) -> bool {
        self.comment == name || self.fingerprint() == name
    }
}

/// The Ed25519 keys that the agent at `socket` has, in its order. Keys of other kinds are passed over.
///
/// # Errors
/// Why there is no answer, for people.
pub fn agent_identities(socket: &Path) -> Result<Vec<Identity>, String> {
    let answer = ask(socket, &[REQUEST_IDENTITIES])?;
    let mut rest = Fields(
        answer
            .strip_prefix(&[IDENTITIES_ANSWER])
            .ok_or_else(|| refused(&answer))?,
    );
    let count = rest.number().ok_or_else(garbled)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let blob = rest.text().ok_or_else(garbled)?;
        let comment = rest.text().ok_or_else(garbled)?;
        let mut parts = Fields(blob);
        if parts.text() == Some(ED25519)
            && let Some(Ok(public_key)) = parts.text().map(TryInto::try_into)
        {
            found.push(Identity {
                public_key,
                comment: String::from_utf8_lossy(comment).into_owned(),
            });
        }
    }
    Ok(found)
}

/// A key in an agent. Each signature is one connection, so that an agent may come and go.
pub struct AgentSigner {
    socket: PathBuf,
    public_key: [u8; 32],
}

impl AgentSigner {
    /// A key that the agent at `socket` has, or should have.
    pub fn new(socket: &Path, public_key: [u8; 32]) -> AgentSigner {
        AgentSigner {
            socket: socket.to_owned(),
            public_key,
        }
    }
}

impl Signer for AgentSigner {
    fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    fn backend(&self) -> &'static str {
        "agent"
    }

    fn check(&self) -> Result<(), SignError> {
        let keys = agent_identities(&self.socket).map_err(SignError::Away)?;
        match keys.iter().any(|it| it.public_key == self.public_key) {
            true => Ok(()),
            false => Err(SignError::Away(format!(
                "the agent at {} does not have the key now",
                self.socket.display()
            ))),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let mut request = vec![SIGN_REQUEST];
        put_text(&mut request, &key_blob(&self.public_key));
        put_text(&mut request, message);
        request.extend_from_slice(&0u32.to_be_bytes());
        let answer = ask(&self.socket, &request).map_err(SignError::Away)?;
        let signature = answer
            .strip_prefix(&[SIGN_RESPONSE])
            .ok_or_else(|| SignError::Away(refused(&answer)))?;
        let parsed = (|| {
            let mut parts = Fields(Fields(signature).text()?);
            (parts.text()? == ED25519).then_some(())?;
            <[u8; 64]>::try_from(parts.text()?).ok()
        })();
        parsed.ok_or_else(|| SignError::Away(garbled()))
    }
}

fn key_blob(public_key: &[u8; 32]) -> Vec<u8> {
    let mut blob = Vec::new();
    put_text(&mut blob, ED25519);
    put_text(&mut blob, public_key);
    blob
}

fn ask(socket: &Path, request: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("the agent at {}: {e}", socket.display());
    if request.len() > MESSAGE_BYTES_MAX {
        return Err("more than an agent takes".into());
    }
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    stream.set_write_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let mut framed = Vec::new();
    put_text(&mut framed, request);
    stream.write_all(&framed).map_err(failed)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(garbled());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).map_err(failed)?;
    Ok(answer)
}

fn refused(answer: &[u8]) -> String {
    match answer.first() {
        Some(5) => "the agent refuses: it does not have the key, or its token is away".into(),
        _ => garbled(),
    }
}

fn garbled() -> String {
    "the agent's answer can't be understood".into()
}

fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("messages are far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads numbers and length-prefixed texts one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let text = self.0.get(..length)?;
        self.0 = &self.0[length..];
        Some(text)
    }
}
