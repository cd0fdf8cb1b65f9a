//! The ssh-agent protocol, as far as the appliance speaks it: which keys there are, and a signature.

use crate::permitted::Permitted;
use crate::token::{Failure, Token};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
pub const ED25519: &[u8] = b"ssh-ed25519";

/// Longest message, in bytes: OpenSSH's own limit.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A connection on which nothing is asked for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Answers what is asked on one connection until it ends.
///
/// # Errors
/// `Pin` alone: then the process must end rather than try again.
pub fn answer(mut stream: UnixStream, token: &Mutex<Token>, permitted: &Permitted) -> Result<(), Failure> {
    let timed = stream
        .set_read_timeout(Some(IDLE_MAX))
        .and_then(|()| stream.set_write_timeout(Some(IDLE_MAX)));
    if timed.is_err() {
        return Ok(());
    }
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return Ok(());
        }
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > MESSAGE_BYTES_MAX {
            return Ok(());
        }
        let mut request = vec![0; length];
        if stream.read_exact(&mut request).is_err() {
            return Ok(());
        }
        let reply = {
            let mut token = token.lock().unwrap_or_else(PoisonError::into_inner);
            match reply(&request, &mut token, permitted) {
                Ok(reply) => reply,
                Err(Failure::Away(why)) => {
                    eprintln!("signedapproval-pkcs11: {why}");
                    vec![FAILURE]
                }
                Err(failure) => return Err(failure),
            }
        };
        let mut framed = Vec::new();
        put_text(&mut framed, &reply);
        if stream.write_all(&framed).is_err() {
            return Ok(());
        }
    }
}

fn reply(request: &[u8], token: &mut Token, permitted: &Permitted) -> Result<Vec<u8>, Failure> {
    match request.split_first() {
        Some((&REQUEST_IDENTITIES, [])) => {
            let keys = token.keys()?;
            let mut out = vec![IDENTITIES_ANSWER];
            out.extend_from_slice(&u32::try_from(keys.len()).unwrap_or(0).to_be_bytes());
            for key in keys {
                put_text(&mut out, &key.blob());
                put_text(&mut out, key.label.as_bytes());
            }
            Ok(out)
        }
        Some((&SIGN_REQUEST, rest)) => {
            let mut fields = Fields(rest);
            let (Some(blob), Some(message)) = (fields.text(), fields.text()) else {
                return Ok(vec![FAILURE]);
            };
            let keys = token.keys()?;
            let Some(key) = keys.into_iter().find(|it| it.blob() == blob) else {
                return Err(Failure::Away(
                    "the token does not have the key that is asked for".into(),
                ));
            };
            if !permitted.allows(&key.label, message) {
                eprintln!(
                    "signedapproval-pkcs11: refused to sign {} bytes with the key {}: neither a statement nor a \
                     checkpoint of this log",
                    message.len(),
                    key.label
                );
                return Ok(vec![FAILURE]);
            }
            let signature = token.sign(&key, message)?;
            let mut inner = Vec::new();
            put_text(&mut inner, ED25519);
            put_text(&mut inner, &signature);
            let mut out = vec![SIGN_RESPONSE];
            put_text(&mut out, &inner);
            Ok(out)
        }
        _ => Ok(vec![FAILURE]),
    }
}

/// Appends a length-prefixed text.
pub fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn text(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let text = rest.get(..length)?;
        self.0 = &rest[length..];
        Some(text)
    }
}
