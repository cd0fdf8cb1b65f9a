//! Backups: made and listed by administrators, streamed to the host's own command line.

use crate::domain::event::Actor;
use crate::store::{Head, Summary};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;
use std::io::Write;
use tokio::sync::mpsc;

/// Pieces of a backup that wait for whoever reads it.
const PIECES_MAX: usize = 8;
/// Length of a piece, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// `GET /api/v1/backups`: administrators. What the planned directory holds.
pub async fn list_backups(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let kept = app.backups.list().map_err(Problem::internal)?;
    let items: Vec<_> = kept
        .iter()
        .map(|it| json!({ "file": it.file, "bytes": it.bytes }))
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `POST /api/v1/backups`: administrators. Makes one now, in the planned directory; answers once it is read back and good.
pub async fn make_backup(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let _ = read_json::<Nothing>(&request, payload).await?;
    let (file, summary) = app
        .backups
        .make(caller.actor())
        .await
        .map_err(|why| Problem::no_backup(format!("{why}.")))?;
    Ok(HttpResponse::Created().json(json!({
        "file": file, "entries": summary.head.entries, "bytes": summary.bytes, "sha256": summary.sha256,
    })))
}

/// `GET /local/backup`: the host. The backup itself, as a stream; a stream that breaks off has no end record.
pub async fn stream_backup(app: Data<App>) -> HttpResponse {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(PIECES_MAX);
    let backups = app.backups.clone();
    std::thread::spawn(move || {
        let mut out = Pieces {
            sender,
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        if let Err(error) = backups.write(&mut out) {
            tracing::warn!(%error, "a backup was not finished");
            let _ = out
                .sender
                .blocking_send(Err(std::io::Error::other(error.to_string())));
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|it| (it, receiver))
    });
    HttpResponse::Ok()
        .content_type("application/octet-stream")
        .streaming(Box::pin(pieces))
}

/// What `POST /local/backups` takes: what the command line found in the file it wrote.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeBody {
    file: String,
    head: Head,
    bytes: u64,
    sha256: String,
}

/// `POST /local/backups`: the host. Records a backup that the command line wrote and found good.
pub async fn record_backup(
    app: Data<App>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<MadeBody>(&request, payload).await?;
    let summary = Summary {
        head: body.head,
        newest: None,
        covered: 0,
        blobs: 0,
        secrets: 0,
        key_files: Vec::new(),
        bytes: body.bytes,
        sha256: body.sha256,
    };
    let now = app.now();
    app.engine.health().set_backup(now, summary.head.entries);
    app.backups
        .record(Actor::Host, &body.file, &summary)
        .await
        .map_err(Problem::no_backup)?;
    Ok(HttpResponse::Ok().json(json!({})))
}

/// Hands bytes on in pieces, and waits while nobody takes them.
struct Pieces {
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| std::io::Error::other("nobody reads the backup any more"))
    }
}
