//! The program itself, for runners: the file that serves here also has `gate` and `verify` in it.

use crate::web::app::App;
use crate::web::problem::Problem;
use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Path};
use futures_util::stream::unfold;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};

/// Where Linux keeps the running program, also after the file was replaced by an upgrade.
const OWN: &str = "/proc/self/exe";
/// Bytes read in one go.
const PIECE: usize = 256 * 1024;
/// Downloads at once. A pipeline keeps what it fetched; more than these at a time is a mistake or an attack.
const AT_ONCE: usize = 32;
/// Seconds after which the next download may be tried.
const COME_BACK_SECONDS: u64 = 5;

/// The running program's own file.
pub struct Program {
    file: Arc<File>,
    size: u64,
    sha256: OnceCell<String>,
    places: Arc<Semaphore>,
}

impl Program {
    /// Opens the running program's file.
    ///
    /// # Errors
    /// The system does not show it.
    pub fn open() -> std::io::Result<Program> {
        let file = File::open(OWN)?;
        Ok(Program {
            size: file.metadata()?.len(),
            file: Arc::new(file),
            sha256: OnceCell::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// `signedapproval-linux-x86_64`: what it runs on.
    pub fn name() -> String {
        format!(
            "signedapproval-{}-{}",
            std::env::consts::OS,
            std::env::consts::ARCH
        )
    }

    /// The file's SHA-256 in hex, counted once.
    pub async fn sha256(&self) -> Result<&str, Problem> {
        let counted = self.sha256.get_or_try_init(|| async {
            let (file, size) = (self.file.clone(), self.size);
            let counted = actix_web::web::block(move || {
                let (mut hasher, mut at) = (Sha256::new(), 0);
                while at < size {
                    let piece = read(&file, at)?;
                    hasher.update(&piece);
                    at += piece.len() as u64;
                }
                Ok::<_, std::io::Error>(hex::encode(hasher.finalize()))
            });
            counted
                .await
                .map_err(Problem::internal)?
                .map_err(Problem::internal)
        });
        Ok(counted.await?)
    }
}

/// A piece from an offset on; an error where the file has become shorter.
fn read(file: &File, at: u64) -> std::io::Result<Vec<u8>> {
    let mut piece = vec![0; PIECE];
    let length = file.read_at(&mut piece, at)?;
    if length == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(length);
    Ok(piece)
}

/// `GET /api/v1/cli`: anybody. What there is, with checksums.
pub async fn list_programs(app: Data<App>) -> Result<HttpResponse, Problem> {
    let name = Program::name();
    let item = json!({
        "name": name,
        "version": App::version(),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "size": app.program.size,
        "sha256": app.program.sha256().await?,
        "url": format!("{}/api/v1/cli/{name}", app.public_url),
    });
    Ok(HttpResponse::Ok().json(json!({ "items": [item], "next": null })))
}

/// `GET /api/v1/cli/{name}/sha256`: anybody. As `sha256sum -c` reads it.
pub async fn get_checksum(app: Data<App>, name: Path<String>) -> Result<HttpResponse, Problem> {
    if *name != Program::name() {
        return Err(Problem::not_found());
    }
    let line = format!("{}  {name}\n", app.program.sha256().await?);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(line))
}

/// `GET /api/v1/cli/{name}`: anybody. The file, byte for byte.
pub async fn get_program(app: Data<App>, name: Path<String>) -> Result<HttpResponse, Problem> {
    if *name != Program::name() {
        return Err(Problem::not_found());
    }
    let place = app.program.places.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::too_often("Too many downloads at once.", COME_BACK_SECONDS))?;
    let (file, size) = (app.program.file.clone(), app.program.size);
    let pieces = unfold((file, 0, place), move |(file, at, place)| async move {
        if at >= size {
            return None;
        }
        let reader = file.clone();
        let piece = match actix_web::web::block(move || read(&reader, at)).await {
            Ok(Ok(piece)) => piece,
            // The connection breaks off: the announced length tells the other side.
            Ok(Err(error)) => return Some((Err(error), (file, size, place))),
            Err(_) => return Some((Err(std::io::ErrorKind::Interrupted.into()), (file, size, place))),
        };
        let next = at + piece.len() as u64;
        Some((Ok(Bytes::from(piece)), (file, next, place)))
    });
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ))
        .body(SizedStream::new(size, Box::pin(pieces))))
}
