//! The receipt of one decision: the sentence, the numbers that identify it, and how anybody checks it without us.

use crate::domain::ids::PersonId;
use crate::domain::request::{Answer, Decision, Request};
use crate::domain::state::{Fault, Read};
use crate::evidence::credential::Credential;
use crate::evidence::dsse::{Envelope, PublicKey};
use crate::evidence::intent::ParsedIntent;
use crate::evidence::sentence::Signed;
use crate::texts::fixed;
use crate::web::keys::credential_keys;
use crate::web::pages::moment::Moment;
use crate::web::pages::shown;
use crate::web::pages::standing::method_words;
use crate::web::words;

/// One decision as its receipt.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub sentence: String,
    /// `crd_` and 64 hex digits.
    pub credential: String,
    pub key_id: String,
    pub verified: bool,
    /// Its credential was erased: only the journal's entry is left.
    pub erased: bool,
    pub approved: bool,
    /// `approval` or `rejection`, as it stands in what was signed.
    pub meaning: &'static str,
    pub by: String,
    /// The reader's own decision.
    pub own: bool,
    /// It went the emergency way.
    pub break_glass: bool,
    pub method: &'static str,
    pub at: Moment,
    pub comment: String,
    pub seq: u64,
}

/// Tells decisions in their one sentence, each checked against the appliance's key now.
pub struct Teller<'s, R> {
    keys: Vec<PublicKey>,
    state: &'s R,
}

impl<'s, R: Read> Teller<'s, R> {
    /// Reads the keys once for many decisions.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn new(state: &'s R) -> Result<Self, Fault> {
        Ok(Teller {
            keys: credential_keys(state)?,
            state,
        })
    }

    /// The sentences of a request's decisions, in their order.
    ///
    /// # Errors
    /// When a credential can't be read.
    pub fn sentences(&self, request: &Request, what: &str) -> Result<Vec<String>, Fault> {
        let told = request
            .decisions
            .iter()
            .map(|it| Ok(Receipt::of(&self.keys, self.state, request, it, what, &it.person)?.sentence));
        told.collect()
    }
}

impl Receipt {
    /// The receipts of a request's decisions, the reader's own first, else in their order, each checked against the appliance's key now.
    pub fn all(
        state: &impl Read,
        request: &Request,
        what: &str,
        reader: &PersonId,
    ) -> Result<Vec<Receipt>, Fault> {
        let keys = credential_keys(state)?;
        let mut receipts = Vec::with_capacity(request.decisions.len());
        for decision in &request.decisions {
            receipts.push(Receipt::of(&keys, state, request, decision, what, reader)?);
        }
        receipts.sort_by_key(|it| !it.own);
        Ok(receipts)
    }

    fn of(
        keys: &[PublicKey],
        state: &impl Read,
        request: &Request,
        decision: &Decision,
        what: &str,
        reader: &PersonId,
    ) -> Result<Receipt, Fault> {
        let file = state.blob(&decision.credential)?;
        let envelope = file.and_then(|it| Envelope::parse(&it).ok());
        let verified = envelope.as_ref().is_some_and(|it| {
            let key = keys.iter().find(|key| key.id() == it.keyid());
            // A key signs for its own part of the journal alone.
            key.is_some_and(|key| it.verify(key).is_ok() && key.counts_at(decision.seq))
        });
        let signature = envelope.as_ref().and_then(|it| it.signatures.first());
        let key_id = signature.map_or_else(String::new, |it| it.keyid.clone());
        let by = shown(&decision.name, 120);
        // As the signed subject calls it: the same words as in a bundle or on the command line.
        let signed = envelope
            .as_ref()
            .and_then(|it| Credential::parse(&it.payload).ok())
            .and_then(|it| ParsedIntent::parse(&it.intent).ok());
        let it = Signed {
            what: signed.as_ref().map_or(what, |it| &it.subject.name),
            answer: decision.answer,
            by: &decision.name,
            method: decision.method.name(),
            at: &decision.decided_at.to_the_second(),
            key_id: &key_id,
            verified,
        };
        let sentence = match request.erased_at {
            Some(at) => words::erased_sentence(&it, decision.seq, &at.to_the_second()),
            None => words::sentence(&it),
        };
        Ok(Receipt {
            sentence,
            credential: format!("crd_{}", decision.credential),
            key_id,
            verified,
            erased: request.erased_at.is_some(),
            approved: decision.answer == Answer::Approve,
            meaning: fixed(decision.answer.meaning()),
            by,
            own: decision.person == *reader,
            break_glass: decision.break_glass,
            method: method_words(decision.method),
            at: Moment::of(decision.decided_at),
            comment: shown(&decision.comment, 2000),
            seq: decision.seq,
        })
    }
}
