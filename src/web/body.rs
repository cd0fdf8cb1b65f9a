//! Request bodies: bounded, JSON only, strict. Read after the caller is known, so that strangers learn nothing from it.

use crate::domain::text::{shortened, visible};
use crate::web::problem::Problem;
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Largest API body.
pub const API_BYTES_MAX: usize = 64 * 1024;
/// Largest webhook body.
pub const WEBHOOK_BYTES_MAX: usize = 1024 * 1024;
/// A body has to arrive within this; actix's own limit covers only the head.
const BODY_SECONDS_MAX: u64 = 10;
/// Deepest nesting of a body: more than any call needs, far below what could hurt a parser.
const DEPTH_MAX: usize = 32;

/// Reads a whole body of at most `bytes_max`.
pub async fn read_bytes(
    request: &HttpRequest,
    mut payload: web::Payload,
    bytes_max: usize,
) -> Result<Vec<u8>, Problem> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok()?.parse().ok());
    if announced.is_some_and(|it: u64| it > bytes_max as u64) {
        return Err(Problem::too_large(bytes_max));
    }
    let whole = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Problem::bad_request("The body broke off."))?;
            if bytes.len() + chunk.len() > bytes_max {
                return Err(Problem::too_large(bytes_max));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(Duration::from_secs(BODY_SECONDS_MAX), whole)
        .await
        .unwrap_or_else(|_| Err(Problem::bad_request("The body came too slowly.")))
}

/// Reads a JSON body of at most 64 KiB and keeps its bytes.
pub async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(T, Vec<u8>), Problem> {
    let bytes = read_bytes(request, payload, API_BYTES_MAX).await?;
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type());
    }
    Ok((parse(&bytes)?, bytes))
}

/// Parses JSON: no duplicate or unknown members where the type says so, bounded depth. An error names the member.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check_depth(bytes)?;
    // serde also takes a list for a struct, member by member; this API takes objects only.
    if bytes.iter().find(|it| !it.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::bad_request("The body must be a JSON object."));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        // It repeats what it stumbled over.
        let text = visible(&shortened(&e.to_string(), 300));
        let field = text.split('`').nth(1).map(str::to_owned);
        match (field, text.split(" at line ").next()) {
            (Some(field), Some(reason)) => Problem::bad_field(&field, reason),
            (None, Some(reason)) => Problem::bad_request(reason),
            _ => Problem::bad_request("Not the JSON this call takes."),
        }
    })
}

fn check_depth(bytes: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Problem::bad_request(format!(
                "Nested deeper than {DEPTH_MAX} levels."
            )));
        }
    }
    Ok(())
}
