//! The appliance's keys as the journal names them: read at each use, since they change while it runs.

use crate::domain::keys::{active, all_keys, log_keys};
use crate::domain::state::{Fault, Read};
use crate::evidence::dsse::PublicKey;
use crate::evidence::keys::Entry;
use crate::tlog::VerifierKey;
use crate::web::problem::Problem;

/// The credential key that signs now.
pub fn credential_key(state: &impl Read) -> Result<PublicKey, Fault> {
    let keys = all_keys(state)?;
    let record =
        active(&keys, "credential").ok_or_else(|| Fault("the journal names no credential key".into()))?;
    Entry::of(record).public_key().map_err(|e| Fault(e.to_string()))
}

/// All credential keys there ever were, each counting for its own part of the journal.
pub fn credential_keys(state: &impl Read) -> Result<Vec<PublicKey>, Fault> {
    let keys = all_keys(state)?;
    keys.iter()
        .filter(|it| it.r#use == "credential")
        .map(|it| Entry::of(it).public_key().map_err(|e| Fault(e.to_string())))
        .collect()
}

/// The log's verifier keys, one an epoch, the newest first.
pub fn verifier_keys(state: &impl Read) -> Result<Vec<VerifierKey>, Problem> {
    let mut found = Vec::new();
    for (epoch, record) in log_keys(state)?.iter().rev() {
        let key = Entry::of(record).public_key().map_err(Problem::internal)?;
        let spki = key.spki();
        let raw = spki
            .last_chunk::<32>()
            .ok_or_else(|| Problem::internal("a short key"))?;
        found.push(VerifierKey::new(&epoch.origin, *raw).map_err(Problem::internal)?);
    }
    Ok(found)
}

/// The verifier key of the current epoch.
pub fn verifier_key(state: &impl Read) -> Result<VerifierKey, Problem> {
    verifier_keys(state)?
        .into_iter()
        .next()
        .ok_or_else(|| Problem::internal("the journal names no log key"))
}
