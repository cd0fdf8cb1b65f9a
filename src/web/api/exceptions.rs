//! What went around the gate, or through it by the emergency way, and who has looked it over since.

use crate::domain::command::Command;
use crate::domain::governance::Exception;
use crate::domain::state::{Read, Table, decode};
use crate::web::api::page_size;
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::{Caller, SignedIn};
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionQuery {
    /// `open` or `reviewed`; absent: both.
    state: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/exceptions`: admins and auditors. Newest first; `after` is the id of the last one seen.
pub async fn list_exceptions(
    app: Data<App>,
    caller: Caller,
    query: Query<ExceptionQuery>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let limit = page_size(query.limit)?;
    let open = match query.state.as_deref() {
        None => None,
        Some("open") => Some(true),
        Some("reviewed") => Some(false),
        Some(_) => return Err(Problem::bad_field("state", "open or reviewed")),
    };
    let mut end = match &query.after {
        Some(text) => {
            let seq = text
                .parse()
                .map_err(|_| Problem::bad_field("after", "an exception's id"))?;
            Exception::row(seq).into_bytes()
        }
        None => vec![0xff],
    };
    let snapshot = app.snapshot()?;
    let (mut items, mut last, mut more) = (Vec::new(), None, true);
    while more && items.len() < limit {
        let rows = snapshot.scan_raw(Table::Exceptions, b"", &end, limit, true)?;
        more = rows.len() == limit;
        for (row, bytes) in rows {
            if items.len() == limit {
                more = true;
                break;
            }
            let it: Exception = decode(&bytes)?;
            end = row;
            last = Some(it.seq);
            if open.is_none_or(|open| open == it.review.is_none()) {
                items.push(shown(&it, &snapshot.leaves(it.seq, 1)?)?);
            }
        }
    }
    let next = last.filter(|_| more).map(|it| it.to_string());
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}

/// The journal's own entry, with its id and what became of it.
fn shown(it: &Exception, leaves: &[(u64, Vec<u8>)]) -> Result<Value, Problem> {
    let (_, leaf) = leaves
        .first()
        .ok_or_else(|| Problem::internal("an exception without its entry"))?;
    let mut entry: Value = serde_json::from_slice(leaf).map_err(Problem::internal)?;
    entry["id"] = json!(it.seq.to_string());
    entry["state"] = json!(if it.review.is_none() { "open" } else { "reviewed" });
    entry["review"] = match &it.review {
        Some(review) => json!({
            "by": { "id": review.by, "name": review.name }, "note": review.note, "at": review.at,
        }),
        None => Value::Null,
    };
    Ok(entry)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReviewBody {
    note: String,
}

/// `POST /api/v1/exceptions/{id}/review`: an admin or auditor who took no part in it.
pub async fn review_exception(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Caller::Person(who.0.clone()).audits()?;
    let (body, _) = read_json::<ReviewBody>(&request, payload).await?;
    let exception: u64 = id.parse().map_err(|_| Problem::not_found())?;
    let note = body.note;
    app.submit(who.actor(), Command::ReviewException { exception, note })
        .await?;
    let snapshot = app.snapshot()?;
    let record: Exception = snapshot
        .get(&Exception::row(exception))?
        .ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(shown(&record, &snapshot.leaves(exception, 1)?)?))
}
