//! The journal as a C2SP tlog-tiles tree: checkpoint, hash tiles and entry bundles, for admins, auditors and keys with the
//! scope `audit`. Nothing beyond the newest signed checkpoint is served.

use crate::store::Snapshot;
use crate::tlog::tile::{Tile, TileKind, encode_bundle, tile_data};
use crate::web::app::App;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};

/// `GET /log/checkpoint`: admins and auditors.
pub async fn get_log_checkpoint(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    checkpoint(&app)
}

/// `GET /log/tile/{path}`: admins and auditors. `0/x001/234`, `entries/005.p/17` and the like.
pub async fn get_log_tile(
    app: Data<App>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    tile(&app, &path)
}

/// `GET /local/log/checkpoint`: the host.
pub async fn get_log_checkpoint_locally(app: Data<App>) -> Result<HttpResponse, Problem> {
    checkpoint(&app)
}

/// `GET /local/log/tile/{path}`: the host.
pub async fn get_log_tile_locally(app: Data<App>, path: Path<String>) -> Result<HttpResponse, Problem> {
    tile(&app, &path)
}

fn checkpoint(app: &App) -> Result<HttpResponse, Problem> {
    let newest = app.snapshot()?.latest_checkpoint()?;
    let (_, note) = newest.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(note))
}

fn tile(app: &App, path: &str) -> Result<HttpResponse, Problem> {
    let tile = Tile::parse(&format!("tile/{path}")).map_err(|_| Problem::not_found())?;
    let snapshot = app.snapshot()?;
    let covered = snapshot.latest_checkpoint()?.map_or(0, |(size, _)| size);
    if tile.width() > tile.width_at(covered) {
        return Err(Problem::not_found());
    }
    let content = content(&tile, &snapshot)?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(content))
}

fn content(tile: &Tile, snapshot: &Snapshot) -> Result<Vec<u8>, Problem> {
    match tile.kind() {
        TileKind::Hashes(level) => {
            tile_data(level, tile.index(), tile.width(), snapshot).map_err(Problem::internal)
        }
        TileKind::Entries => {
            let entries = tile.entries().ok_or_else(Problem::not_found)?;
            let leaves = snapshot.leaves(*entries.start(), usize::from(tile.width()))?;
            encode_bundle(leaves.iter().map(|(_, leaf)| leaf)).map_err(Problem::internal)
        }
    }
}
