//! A receipt: everything that shows one approval, in one file. `gate` writes it, `verify` reads it. The file itself is not
//! signed; what stands in it is.

use crate::domain::ids::RequestId;
use crate::evidence::strict;
use crate::evidence::strict::{Object, Space, StrictError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The `type` of every receipt.
pub const RECEIPT_TYPE: &str = "signedapproval/receipt";

/// Most credentials that a receipt holds: more than any quorum.
const CREDENTIALS_MAX: usize = 1_000;

/// One approval with its proofs. All bytes are those that were signed or hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub request: RequestId,
    /// The metadata the request was opened with; the subject names its digest.
    pub claimed: Vec<u8>,
    /// DSSE of the outcome statement.
    pub outcome: Vec<u8>,
    /// Those that the outcome names.
    pub credentials: Vec<Held>,
}

/// A credential with its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// DSSE of the credential.
    pub credential: Vec<u8>,
    /// The journal's leaf of the decision.
    pub event: Vec<u8>,
    /// A C2SP tlog-proof over that leaf.
    pub proof: Vec<u8>,
}

impl Receipt {
    /// The file: one line of compact JSON, binary members in base64.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let credentials: Vec<String> = self
            .credentials
            .iter()
            .map(|it| {
                format!(
                    r#"{{"credential":"{}","event":"{}","proof":"{}"}}"#,
                    text(&it.credential),
                    text(&it.event),
                    text(&it.proof)
                )
            })
            .collect();
        format!(
            "{{\"v\":1,\"type\":\"{RECEIPT_TYPE}\",\"request\":\"{}\",\"claimed\":\"{}\",\"outcome\":\"{}\",\"credentials\":[{}]}}\n",
            self.request,
            text(&self.claimed),
            text(&self.outcome),
            credentials.join(",")
        )
        .into_bytes()
    }

    /// Reads a receipt strictly. It verifies nothing.
    ///
    /// # Errors
    /// What is not as it should be, and where.
    pub fn parse(bytes: &[u8]) -> Result<Receipt, StrictError> {
        let shape = |text: &str| StrictError::Shape(text.into());
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let value = strict::parse(line, Space::Refused)?;
        let receipt = value.object("receipt")?;
        receipt.exactly(&["v", "type", "request", "claimed", "outcome", "credentials"])?;
        if receipt.text("type")? != RECEIPT_TYPE || receipt.count("v")? != 1 {
            return Err(shape("not a receipt of version 1"));
        }
        let list = receipt.list("credentials")?;
        if list.len() > CREDENTIALS_MAX {
            return Err(shape("a receipt with more credentials than there can be"));
        }
        let held = |it: &strict::Value<'_>| -> Result<Held, StrictError> {
            let it: Object<'_, '_> = it.object("receipt.credentials")?;
            it.exactly(&["credential", "event", "proof"])?;
            Ok(Held {
                credential: it.bytes("credential")?,
                event: it.bytes("event")?,
                proof: it.bytes("proof")?,
            })
        };
        Ok(Receipt {
            request: RequestId::parse(receipt.text("request")?)
                .ok_or_else(|| shape("receipt.request is not the id of a request"))?,
            claimed: receipt.bytes("claimed")?,
            outcome: receipt.bytes("outcome")?,
            credentials: list.iter().map(held).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn receipt(parts: &[Vec<u8>]) -> Receipt {
        let part = |nth: usize| parts.get(nth).cloned().unwrap_or_default();
        Receipt {
            request: RequestId::from_random([7; 16]),
            claimed: part(0),
            outcome: part(1),
            credentials: parts
                .get(2..)
                .unwrap_or_default()
                .chunks(3)
                .map(|it| Held {
                    credential: it[0].clone(),
                    event: it.get(1).cloned().unwrap_or_default(),
                    proof: it.get(2).cloned().unwrap_or_default(),
                })
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12)) {
            let receipt = receipt(&parts);
            prop_assert_eq!(Receipt::parse(&receipt.to_bytes()), Ok(receipt));
        }

        #[test]
        fn a_damaged_receipt_is_refused_or_another(at in 0..200_usize, flip in 1..=255_u8) {
            let receipt = receipt(&vec![vec![1, 2, 3]; 5]);
            let mut bytes = receipt.to_bytes();
            let at = at % (bytes.len() - 1);
            bytes[at] ^= flip;
            prop_assert!(Receipt::parse(&bytes).is_ok_and(|it| it != receipt) || Receipt::parse(&bytes).is_err());
        }
    }
}
