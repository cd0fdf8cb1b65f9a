//! Public keys and the log's newest checkpoint, for anybody.

use crate::domain::apply::{KEY_PREFIX, KeyRecord};
use crate::domain::state::{Read, Table, decode};
use crate::web::app::App;
use crate::web::problem::Problem;
use actix_web::HttpResponse;
use actix_web::web::Data;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Length of an Ed25519 public key, at the end of its SubjectPublicKeyInfo.
const ED25519_BYTES: usize = 32;

/// `GET /.well-known/signedapproval/credential.pem`: anybody.
pub async fn get_credential_key(app: Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/x-pem-file")
        .body(app.credential_key().pem())
}

fn keys(app: &App) -> Result<Vec<KeyRecord>, Problem> {
    let rows = app.snapshot()?.with_prefix(Table::Counters, KEY_PREFIX)?;
    Ok(rows
        .iter()
        .map(|(_, row)| decode(row))
        .collect::<Result<_, _>>()?)
}

/// `GET /.well-known/signedapproval/keys.json`: anybody. All keys with the part of the journal they count for.
pub async fn get_keys(app: Data<App>) -> Result<HttpResponse, Problem> {
    let keys: Vec<Value> = keys(&app)?
        .iter()
        .map(|it| {
            json!({
                "keyid": it.keyid, "use": it.r#use, "spki": it.spki, "from_seq": it.from_seq,
                "until_seq": null, "from": it.from, "until": null, "introduction": null,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "keys": keys })))
}

/// `GET /.well-known/signedapproval/jwks.json`: anybody. The credential keys as a JWK set (RFC 8037).
pub async fn get_jwks(app: Data<App>) -> Result<HttpResponse, Problem> {
    let mut set = Vec::new();
    for key in keys(&app)?.iter().filter(|it| it.r#use == "credential") {
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

/// `GET /.well-known/signedapproval/log.vkey`: anybody. The log's verifier key of this epoch (C2SP signed-note).
pub async fn get_log_key(app: Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(format!("{}\n", app.log_key.vkey()))
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
