//! What is served while the signing keys can't be opened: a page that takes their passphrase, and nothing else. It says
//! that nothing is decided meanwhile.

use crate::listen::Front;
use crate::web::body::read_json;
use crate::web::pages::show_sealed;
use crate::web::problem::Problem;
use crate::web::{assets, headers, listen, routes};
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::{Data, Payload, get, post, to};
use actix_web::{App as Actix, HttpRequest, HttpResponse, http::header};
use serde::Deserialize;
use serde_json::json;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

/// After a wrong passphrase the next is looked at this much later, whoever sends it: guessing has to be slow.
const AFTER_WRONG: Duration = Duration::from_secs(2);
/// A first passphrase that somebody chooses has at least so many characters.
pub const FIRST_CHARS_MIN: usize = 12;

/// Whether a passphrase is the right one; it may take a while.
pub type Try = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What the sealed server works with.
pub struct Sealed {
    /// There are no keys yet: the passphrase is chosen now, by whoever has the link from the host.
    pub first: bool,
    /// SHA-256 of the token in that link.
    pub token: Option<[u8; 32]>,
    pub attempt: Try,
    /// Takes the right one.
    pub opened: mpsc::Sender<Zeroizing<String>>,
    /// One attempt at a time.
    pub turn: Mutex<()>,
}

/// Serves the page until it has taken the right passphrase.
///
/// # Errors
/// When the listener can't be used.
pub fn serve_sealed(
    front: Arc<Front>,
    sealed: Data<Sealed>,
    listener: TcpListener,
) -> std::io::Result<Server> {
    listen("sealed", front, listener, move || {
        Actix::new()
            .app_data(sealed.clone())
            .configure(routes::parsing)
            .wrap(from_fn(headers::guard))
            .route("/healthz", get().to(get_health))
            .route("/readyz", get().to(get_readiness))
            .route("/unseal", get().to(show_page))
            .route("/", get().to(go_to_page))
            .route("/api/v1/unseal", post().to(unseal))
            .route("/static/{file}", get().to(assets::serve_asset))
            .default_service(to(nothing_else))
    })
}

async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn get_readiness() -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "reasons": ["sealed"] }))
}

async fn go_to_page() -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/unseal"))
        .finish()
}

async fn show_page(sealed: Data<Sealed>) -> HttpResponse {
    show_sealed(sealed.first, FIRST_CHARS_MIN)
}

async fn nothing_else() -> Result<HttpResponse, Problem> {
    Err(Problem::sealed(
        "This server is sealed: an administrator has to enter the passphrase of its keys. Nothing is decided meanwhile.",
    ))
}

/// What `POST /api/v1/unseal` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnsealBody {
    passphrase: String,
    /// The first passphrase is chosen twice.
    again: Option<String>,
    /// The token of the link from the host, for the first.
    token: Option<String>,
}

/// `POST /api/v1/unseal`: whoever knows the passphrase. For a first start: whoever has the link from the host.
async fn unseal(
    sealed: Data<Sealed>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<UnsealBody>(&request, payload).await?;
    let passphrase = Zeroizing::new(body.passphrase);
    let _turn = sealed.turn.lock().await;
    if let Some(expected) = &sealed.token {
        use sha2::Digest as _;
        use subtle::ConstantTimeEq as _;
        let given = sha2::Sha256::digest(body.token.unwrap_or_default().as_bytes());
        if !bool::from(given[..].ct_eq(&expected[..])) {
            tokio::time::sleep(AFTER_WRONG).await;
            let why = "The link is not the one that was written on the host.";
            return Err(Problem::wrong_passphrase(why));
        }
        if passphrase.chars().count() < FIRST_CHARS_MIN {
            let why =
                format!("At least {FIRST_CHARS_MIN} characters: it is all that protects the keys' files.");
            return Err(Problem::invalid("passphrase", why));
        }
        if body.again.map(Zeroizing::new).is_none_or(|it| *it != *passphrase) {
            return Err(Problem::invalid("again", "The two are not the same."));
        }
    }
    let attempt = sealed.attempt.clone();
    let tried = tokio::task::spawn_blocking(move || attempt(&passphrase).map(|()| passphrase))
        .await
        .map_err(Problem::internal)?;
    match tried {
        Ok(passphrase) => {
            // Whoever was second finds it opened.
            let _ = sealed.opened.try_send(passphrase);
            Ok(HttpResponse::Ok().json(json!({})))
        }
        Err(why) => {
            tracing::warn!(%why, "an attempt to unseal failed");
            tokio::time::sleep(AFTER_WRONG).await;
            Err(Problem::wrong_passphrase(
                "It does not open the keys of this server.",
            ))
        }
    }
}
