//! Public keys and the log's newest checkpoint, for anybody.

use crate::domain::ids::Digest;
use crate::domain::keys::all_keys;
use crate::domain::state::Read;
use crate::evidence::keys::{Entry, history};
use crate::web::app::App;
use crate::web::keys::verifier_keys;
use crate::web::problem::Problem;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

/// Length of an Ed25519 public key, at the end of its SubjectPublicKeyInfo.
const ED25519_BYTES: usize = 32;

/// `GET /.well-known/signedapproval/credential.pem`: anybody.
pub async fn get_credential_key(app: Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok()
        .content_type("application/x-pem-file")
        .body(app.credential_key()?.pem()))
}

/// `GET /.well-known/signedapproval/keys.json`: anybody. All keys with the part of the journal they count for.
pub async fn get_keys(app: Data<App>) -> Result<HttpResponse, Problem> {
    let entries: Vec<Entry> = all_keys(&app.snapshot()?)?.iter().map(Entry::of).collect();
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(history(&entries)))
}

/// `GET /.well-known/signedapproval/jwks.json`: anybody. The credential keys as a JWK set (RFC 8037).
pub async fn get_jwks(app: Data<App>) -> Result<HttpResponse, Problem> {
    let mut set = Vec::new();
    for key in all_keys(&app.snapshot()?)?
        .iter()
        .filter(|it| it.r#use == "credential")
    {
        let spki = STANDARD.decode(&key.spki).map_err(Problem::internal)?;
        let raw = &spki[spki.len().saturating_sub(ED25519_BYTES)..];
        set.push(json!({
            "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(raw), "kid": key.keyid,
            "use": "sig", "alg": "EdDSA",
        }));
    }
    Ok(HttpResponse::Ok()
        .content_type("application/jwk-set+json")
        .body(json!({ "keys": set }).to_string()))
}

/// `GET /.well-known/signedapproval/log.vkey`: anybody. The log's verifier keys (C2SP signed-note), one an epoch,
/// the newest first.
pub async fn get_log_key(app: Data<App>) -> Result<HttpResponse, Problem> {
    let lines = verifier_keys(&app.snapshot()?)?;
    let lines: String = lines.iter().map(|it| format!("{}\n", it.vkey())).collect();
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(lines))
}

/// `GET /.well-known/signedapproval/introductions/{sha256}`: anybody. The statement by which one key introduced the
/// next, as the key history names it.
pub async fn get_introduction(app: Data<App>, digest: Path<String>) -> Result<HttpResponse, Problem> {
    let digest = Digest::parse(&digest).ok_or_else(Problem::not_found)?;
    let snapshot = app.snapshot()?;
    // Other blobs are nobody's business here.
    let named = all_keys(&snapshot)?
        .iter()
        .any(|it| it.introduction == Some(digest));
    let file = if named { snapshot.blob(&digest)? } else { None };
    Ok(HttpResponse::Ok()
        .content_type("application/vnd.dsse.envelope.v1+json")
        .body(file.ok_or_else(Problem::not_found)?))
}

/// `GET /.well-known/signedapproval/checkpoint`: anybody. The newest signed checkpoint.
pub async fn get_checkpoint(app: Data<App>) -> Result<HttpResponse, Problem> {
    let (_, note) = app
        .snapshot()?
        .latest_checkpoint()?
        .ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(note))
}
