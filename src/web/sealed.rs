//! What is served while the signing keys can't be opened: a page that takes their passphrase, and nothing else. It says
//! that nothing is decided meanwhile.

use crate::listen::Front;
use crate::texts::Languages;
use crate::web::api::health::get_health;
use crate::web::body::read_json;
use crate::web::metrics::{Waiting, get_waiting_readiness};
use crate::web::pages::show_sealed;
use crate::web::problem::Problem;
use crate::web::{SHUTDOWN_SECONDS, assets, headers, language, listen, routes};
use actix_web::dev::Server;
use actix_web::http::{Method, header};
use actix_web::middleware::from_fn;
use actix_web::web::{Data, Payload, get, post, to};
use actix_web::{App as Actix, HttpRequest, HttpResponse, HttpServer};
use serde::Deserialize;
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, mpsc};
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
    /// What monitors are told.
    pub waiting: Data<Waiting>,
    pub languages: Languages,
}

/// Serves the host's own socket meanwhile.
///
/// # Errors
/// When the socket can't be used.
pub fn serve_sealed_host(sealed: Data<Sealed>, socket: UnixListener) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        Actix::new()
            .app_data(sealed.clone())
            .app_data(sealed.waiting.clone())
            .configure(routes::parsing)
            .route("/readyz", get().to(get_waiting_readiness))
            .route("/local/unseal", get().to(get_unseal_locally))
            .route("/local/unseal", post().to(unseal_locally))
            .default_service(to(nothing_else))
    })
    .workers(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals()
    .listen_uds(socket)?;
    Ok(server.run())
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
    listen("sealed", front, listener, None, move || {
        Actix::new()
            .app_data(sealed.clone())
            .app_data(sealed.waiting.clone())
            .configure(routes::parsing)
            .wrap(from_fn(headers::guard))
            .wrap(from_fn(language::speak))
            .route("/healthz", get().to(get_health))
            .route("/readyz", get().to(get_waiting_readiness))
            .route("/unseal", get().to(show_page))
            .route("/", get().to(go_to_page))
            .route("/api/v1/unseal", post().to(unseal))
            .route("/static/{file}", get().to(assets::serve_asset))
            .default_service(to(nothing_else))
    })
}

async fn go_to_page() -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/unseal"))
        .finish()
}

async fn show_page(sealed: Data<Sealed>) -> HttpResponse {
    show_sealed(sealed.first, FIRST_CHARS_MIN)
}

/// Whoever opens a page comes to the one there is; everything else gets a problem.
async fn nothing_else(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let accept = request.headers().get(header::ACCEPT);
    let page = accept.is_some_and(|it| it.as_bytes().starts_with(b"text/html"));
    if page && request.method() == Method::GET {
        return Ok(go_to_page().await);
    }
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
    let turn = sealed.turn.lock().await;
    if let Some(expected) = &sealed.token {
        use sha2::Digest as _;
        use subtle::ConstantTimeEq as _;
        let given = sha2::Sha256::digest(body.token.as_deref().unwrap_or_default().as_bytes());
        if !bool::from(given[..].ct_eq(&expected[..])) {
            tokio::time::sleep(AFTER_WRONG).await;
            let why = "The link is not the one that was written on the host.";
            return Err(Problem::wrong_passphrase(why));
        }
    }
    open(&sealed, body, turn).await
}

/// `GET /local/unseal`: the host. Whether the passphrase is to be chosen now, and how long it has to be.
async fn get_unseal_locally(sealed: Data<Sealed>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "first": sealed.first, "characters_min": FIRST_CHARS_MIN }))
}

/// `POST /local/unseal`: the host, which has the link of a first start anyway.
async fn unseal_locally(
    sealed: Data<Sealed>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<UnsealBody>(&request, payload).await?;
    let turn = sealed.turn.lock().await;
    open(&sealed, body, turn).await
}

/// Tries a passphrase, in its turn.
async fn open(sealed: &Sealed, body: UnsealBody, _turn: MutexGuard<'_, ()>) -> Result<HttpResponse, Problem> {
    let passphrase = Zeroizing::new(body.passphrase);
    let again = body.again.map(Zeroizing::new);
    if sealed.first {
        if passphrase.chars().count() < FIRST_CHARS_MIN {
            let why =
                format!("At least {FIRST_CHARS_MIN} characters: it is all that protects the keys' files.");
            return Err(Problem::invalid("passphrase", why));
        }
        if again.is_none_or(|it| *it != *passphrase) {
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
