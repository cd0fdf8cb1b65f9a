//! Proofs, as bytes: whoever holds them needs nothing of us to check them.

use crate::domain::ids::{Digest, RequestId};
use crate::domain::request::Request;
use crate::domain::retention::Erased;
use crate::domain::state::{Read, Table, decode};
use crate::evidence::dsse::{Envelope, sigstore_bundle};
use crate::evidence::verify;
use crate::evidence::verify::{Expect, Journal, Trust};
use crate::store::Snapshot;
use crate::tlog::Proof;
use crate::web::api::approvals::visible_request;
use crate::web::app::App;
use crate::web::body::{API_BYTES_MAX, read_bytes};
use crate::web::keys::{credential_keys, verifier_keys};
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::http::header;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

/// An outcome is recorded this close behind what brought it about: in the same command.
const OUTCOME_ENTRIES_MAX: usize = 8;

/// `GET /api/v1/approvals/{id}/credentials`: whoever may see the request.
pub async fn list_credentials(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let request = visible_request(&app.snapshot()?, &caller, &id)?;
    let items: Vec<_> = request
        .decisions
        .iter()
        .map(|it| {
            json!({
                "id": format!("crd_{}", it.credential),
                "decision": it.answer.name(),
                "approver": { "id": it.person, "name": it.name },
                "method": it.method,
                "grade": it.method.grade(),
                "decided_at": it.decided_at,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(items))
}

/// `GET /api/v1/approvals/{id}/outcome`: the outcome's DSSE bytes.
pub async fn get_outcome(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let request = visible_request(&snapshot, &caller, &id)?;
    let digest = request.outcome.ok_or_else(Problem::not_found)?;
    let file = file_of(&snapshot, &digest)?;
    Ok(download(
        file,
        "application/vnd.dsse.envelope.v1+json",
        &format!("{}.dsse.json", request.id),
    ))
}

/// `GET /api/v1/credentials/{crd}`: the DSSE bytes.
pub async fn get_credential(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let (digest, _) = find(&snapshot, &caller, &id)?;
    let file = file_of(&snapshot, &digest)?;
    Ok(download(
        file,
        "application/vnd.dsse.envelope.v1+json",
        &format!("{id}.dsse.json"),
    ))
}

/// `GET /api/v1/credentials/{crd}/event`: the exact journal leaf.
pub async fn get_credential_event(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let (_, seq) = find(&snapshot, &caller, &id)?;
    let leaf = snapshot
        .leaf(seq)?
        .ok_or_else(|| Problem::internal("an entry is missing"))?;
    Ok(download(leaf, "application/json", &format!("{id}.event.json")))
}

/// `GET /api/v1/credentials/{crd}/proof`: a C2SP tlog-proof over that leaf.
pub async fn get_credential_proof(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let (_, seq) = find(&snapshot, &caller, &id)?;
    let (size, checkpoint) = snapshot
        .latest_checkpoint()?
        .filter(|(size, _)| *size > seq)
        .ok_or_else(|| Problem::internal("no checkpoint covers a decision"))?;
    let hashes = snapshot.inclusion_proof(seq, size)?;
    let proof = Proof::new(seq, hashes, &checkpoint).map_err(Problem::internal)?;
    Ok(download(
        proof.encode().into_bytes(),
        "text/plain; charset=utf-8",
        &format!("{id}.tlog-proof"),
    ))
}

/// `GET /api/v1/credentials/{crd}/bundle.sigstore.json`: the same credential as a Sigstore bundle.
pub async fn get_credential_sigstore(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let snapshot = app.snapshot()?;
    let (digest, _) = find(&snapshot, &caller, &id)?;
    let file = file_of(&snapshot, &digest)?;
    let envelope = Envelope::parse(&file).map_err(Problem::internal)?;
    let signature = envelope
        .signatures
        .first()
        .ok_or_else(|| Problem::internal("an unsigned credential"))?;
    let bundle = sigstore_bundle(&file, &signature.keyid).map_err(Problem::internal)?;
    Ok(download(
        bundle,
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        &format!("{id}.sigstore.json"),
    ))
}

/// `POST /api/v1/verify`: anybody. A DSSE body in, every check with its result out.
pub async fn verify_envelope(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let bytes = read_bytes(&request, payload, API_BYTES_MAX).await?;
    let snapshot = app.snapshot()?;
    let keys = credential_keys(&snapshot)?;
    let log_keys = verifier_keys(&snapshot)?;
    let trust = Trust {
        keys: &keys,
        log_keys: &log_keys,
    };
    // Where the journal holds it, its place shows whether its key counted there.
    let place = place_of(&snapshot, &bytes)?;
    let journal = place.as_ref().map(|(event, proof)| Journal {
        event,
        proof: Some(proof.as_bytes()),
    });
    let (report, _) = verify::document(&bytes, &trust, &Expect::default(), journal.as_ref());
    Ok(HttpResponse::Ok().json(report))
}

/// The journal's entry of a credential or outcome, and the proof that the log holds it.
fn place_of(snapshot: &Snapshot, file: &[u8]) -> Result<Option<(Vec<u8>, String)>, Problem> {
    let digest = Digest::of(file);
    let seq = match snapshot.get_raw(Table::Credentials, &digest.0)? {
        Some(row) => Some(decode::<(RequestId, u64)>(&row)?.1),
        None => outcome_place(snapshot, file, digest)?,
    };
    let covering = snapshot.latest_checkpoint()?;
    let (Some(seq), Some((size, checkpoint))) = (seq, covering) else {
        return Ok(None);
    };
    let Some(leaf) = snapshot.leaf(seq)?.filter(|_| seq < size) else {
        return Ok(None);
    };
    let hashes = snapshot.inclusion_proof(seq, size)?;
    let proof = Proof::new(seq, hashes, &checkpoint).map_err(Problem::internal)?;
    Ok(Some((leaf, proof.encode())))
}

/// Where the journal tells of an outcome: the last event that changed its request, or shortly before.
fn outcome_place(snapshot: &Snapshot, file: &[u8], digest: Digest) -> Result<Option<u64>, Problem> {
    let Some(id) = verify::request_of(file) else {
        return Ok(None);
    };
    let Some(request) = snapshot.get::<Request>(&id)? else {
        return Ok(None);
    };
    if request.outcome != Some(digest) {
        return Ok(None);
    }
    let named = |leaf: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(leaf)
            .is_ok_and(|it| it["data"]["outcome_sha256"] == digest.to_string())
    };
    let decided = request.decisions.iter().map(|it| it.seq).max();
    let from = decided.unwrap_or(request.seq);
    for (seq, leaf) in snapshot.leaves(from, OUTCOME_ENTRIES_MAX)? {
        if seq > request.changed_seq {
            break;
        }
        if named(&leaf) {
            return Ok(Some(seq));
        }
    }
    Ok(snapshot
        .leaf(request.changed_seq)?
        .filter(|it| named(it))
        .map(|_| request.changed_seq))
}

fn find(snapshot: &Snapshot, caller: &Caller, id: &str) -> Result<(Digest, u64), Problem> {
    let digest = id
        .strip_prefix("crd_")
        .and_then(Digest::parse)
        .ok_or_else(Problem::not_found)?;
    let row = snapshot
        .get_raw(Table::Credentials, &digest.0)?
        .ok_or_else(Problem::not_found)?;
    let (request, seq): (RequestId, u64) = decode(&row)?;
    let request: Request = visible_request(snapshot, caller, request.as_str())?;
    if request.decisions.iter().any(|it| it.credential == digest) {
        Ok((digest, seq))
    } else {
        Err(Problem::not_found())
    }
}

fn file_of(snapshot: &Snapshot, digest: &Digest) -> Result<Vec<u8>, Problem> {
    if let Some(file) = snapshot.blob(digest)? {
        return Ok(file);
    }
    match Erased::of(digest, snapshot)? {
        Some(erased) => Err(Problem::erased(erased.seq)),
        None => Err(Problem::internal("a credential or outcome is missing")),
    }
}

fn download(bytes: Vec<u8>, kind: &str, name: &str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, kind))
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ))
        .body(bytes)
}
