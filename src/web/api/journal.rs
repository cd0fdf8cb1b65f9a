//! The journal, for admins and auditors.

use crate::web::api::page_size;
use crate::web::app::App;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use serde::Deserialize;
use serde_json::{Value, json};

/// Entries looked at for one page of a filtered list.
const SCANNED_MAX: u64 = 20_000;
/// Entries read at once.
const CHUNK: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalQuery {
    r#type: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/journal`: admins and auditors. Oldest first; `after` is the position of the last one seen.
pub async fn list_journal(
    app: Data<App>,
    caller: Caller,
    query: Query<JournalQuery>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let limit = page_size(query.limit)?;
    let from = match &query.after {
        Some(text) => {
            text.parse::<u64>()
                .map_err(|_| Problem::bad_field("after", "a position"))?
                + 1
        }
        None => 0,
    };
    let snapshot = app.snapshot()?;
    let (mut items, mut next_seq, mut more) = (Vec::new(), from, true);
    while more && items.len() < limit && next_seq - from < SCANNED_MAX {
        let entries = snapshot.leaves(next_seq, CHUNK)?;
        more = entries.len() == CHUNK;
        for (seq, leaf) in entries {
            if items.len() == limit {
                more = true;
                break;
            }
            next_seq = seq + 1;
            let entry: Value = serde_json::from_slice(&leaf).map_err(Problem::internal)?;
            if query.r#type.as_ref().is_none_or(|it| entry["type"] == **it) {
                items.push(entry);
            }
        }
    }
    let next = (more && next_seq > from).then(|| (next_seq - 1).to_string());
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}
