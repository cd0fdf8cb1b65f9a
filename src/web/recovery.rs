//! What is served while a journal that lacks entries waits for admins: one page that says what was found, and the ceremony by
//! which an admin agrees to go on. Nothing is written before enough of them have, not even a sign-in.

use crate::clock::Clock;
use crate::domain::ids::{CeremonyId, PersonId};
use crate::domain::people::{Person, Role};
use crate::domain::rollback::{ADMINS_NEEDED, FoundCheckpoint};
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;
use crate::identity::{Ceremonies, Purpose, RelyingParty};
use crate::store::Store;
use crate::texts::Languages;
use crate::web::api::Empty;
use crate::web::assertion;
use crate::web::assets;
use crate::web::body::read_json;
use crate::web::pages::show_recovery;
use crate::web::problem::Problem;
use actix_web::http::header;
use actix_web::web::{Data, Payload, ServiceConfig, get, post, to};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// The `type` of what an admin signs. Another type than an approval's or a change's, with other members.
const INTENT_TYPE: &str = "signedapproval/rollback-intent";

/// Somebody who agreed: the person (`None`: the host), the name, and what was signed.
pub type Confirmed = (Option<PersonId>, String, Option<Vec<u8>>);

/// A journal that waits for admins.
pub struct Recovery {
    pub store: Arc<Store>,
    pub clock: Arc<dyn Clock>,
    pub relying_party: RelyingParty,
    pub ceremonies: Ceremonies,
    pub instance: String,
    /// Entries the journal has.
    pub size: u64,
    pub found: Vec<FoundCheckpoint>,
    pub evaluation: bool,
    pub languages: Languages,
    pub confirmed: Mutex<Vec<Confirmed>>,
    /// Told when enough have confirmed.
    pub enough: Notify,
}

impl Recovery {
    /// Admins whose passkeys may decide by now, as the journal knows them.
    pub fn admins(&self) -> Result<Vec<Person>, Problem> {
        let now = self.clock.now();
        let mut all: Vec<Person> = self.store.read()?.all()?;
        all.retain(|it| it.has(Role::Admin) && it.live_passkeys().any(|it| it.decides_from <= now));
        Ok(all)
    }

    /// Who has confirmed.
    pub fn confirmed(&self) -> MutexGuard<'_, Vec<Confirmed>> {
        self.confirmed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether the host may stand in for admins that are not there.
    pub fn host_may_confirm(&self) -> Result<bool, Problem> {
        Ok(self.admins()?.len() < ADMINS_NEEDED)
    }

    fn confirm(
        &self,
        person: Option<PersonId>,
        name: String,
        evidence: Option<Vec<u8>>,
    ) -> Result<usize, Problem> {
        let admins = self.admins()?.len();
        let mut confirmed = self.confirmed();
        if confirmed.iter().any(|it| it.0 == person) {
            return Err(Problem::not_allowed(
                "You have confirmed already; another administrator has to do the same.",
            ));
        }
        confirmed.push((person, name, evidence));
        let people = confirmed.iter().filter(|it| it.0.is_some()).count();
        let host = confirmed.iter().any(|it| it.0.is_none());
        // An instance with fewer admins than are needed has its host make up for all that are missing.
        if people >= ADMINS_NEEDED || (host && people >= admins.min(ADMINS_NEEDED)) {
            self.enough.notify_one();
        }
        Ok(confirmed.len())
    }

    fn intent(&self, now: Time) -> Vec<u8> {
        let found: Vec<Value> = self
            .found
            .iter()
            .map(|it| json!({ "place": it.place, "checkpoint": it.checkpoint }))
            .collect();
        json!({
            "v": 1,
            "type": INTENT_TYPE,
            "instance": self.instance,
            "journal_entries": self.size,
            "found": found,
            "issued_at": now,
        })
        .to_string()
        .into_bytes()
    }
}

/// What the public listener answers meanwhile.
pub fn public(config: &mut ServiceConfig) {
    config
        .route("/healthz", get().to(health))
        .route("/readyz", get().to(readiness))
        .route("/api/v1/rollback/confirmation/options", post().to(start))
        .route("/api/v1/rollback/confirmation", post().to(confirm))
        .route("/static/{file}", get().to(assets::serve_asset))
        .route("/favicon.ico", get().to(assets::serve_favicon))
        .route("/manifest.webmanifest", get().to(assets::serve_manifest))
        .route("/", get().to(show_recovery))
        .default_service(to(elsewhere));
}

/// What the Unix socket answers meanwhile.
pub fn on_the_host(config: &mut ServiceConfig) {
    config
        .route("/readyz", get().to(readiness))
        .route("/local/rollback", post().to(confirm_on_the_host))
        .default_service(to(elsewhere));
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn readiness() -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .json(json!({ "status": "not ready", "reasons": ["rollback_suspected"] }))
}

/// Programs get a problem, people the page.
async fn elsewhere(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    let program = ["/api/", "/hooks/", "/.well-known/", "/local/"]
        .iter()
        .any(|it| path.starts_with(it));
    if program || request.method() != "GET" {
        return Problem::rollback_suspected().error_response();
    }
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

/// Browsers say where a call comes from; a program that does not is none that a page could have sent.
fn from_our_own_page(request: &HttpRequest, recovery: &Recovery) -> Result<(), Problem> {
    let header = |name: &str| request.headers().get(name).map(|it| it.as_bytes().to_vec());
    let own = recovery.relying_party.origin().as_bytes();
    let same_origin = header("sec-fetch-site").is_none_or(|it| it == b"same-origin");
    match header("origin") {
        Some(origin) if origin != own && origin != b"null" => Err(Problem::cross_origin()),
        _ if !same_origin => Err(Problem::cross_origin()),
        _ => Ok(()),
    }
}

/// `POST /api/v1/rollback/confirmation/options`: anybody; the passkey will say who it is.
async fn start(
    recovery: Data<Recovery>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    from_our_own_page(&request, &recovery)?;
    read_json::<Empty>(&request, payload).await?;
    let now = recovery.clock.now();
    let intent = recovery.intent(now);
    let (bound, shown) = assertion::over(intent, |it| recovery.relying_party.start_sign_in_over(it))?;
    let purpose = Purpose::Rollback {
        intent: bound.intent,
        nonce: bound.nonce,
        challenge: bound.challenge,
        state: bound.state,
    };
    Ok(shown.begin(&recovery.ceremonies, purpose, now))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmationBody {
    ceremony: String,
    credential: Value,
}

/// `POST /api/v1/rollback/confirmation`: an admin whose passkey may decide.
async fn confirm(
    recovery: Data<Recovery>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    from_our_own_page(&request, &recovery)?;
    let (body, _) = read_json::<ConfirmationBody>(&request, payload).await?;
    let ceremony = CeremonyId::parse(&body.ceremony).ok_or_else(Problem::ceremony_spent)?;
    let Some(Purpose::Rollback {
        intent,
        nonce,
        challenge: _,
        state,
    }) = recovery.ceremonies.take(&ceremony, recovery.clock.now())
    else {
        return Err(Problem::ceremony_spent());
    };
    let credential_id = RelyingParty::credential_id(&body.credential)
        .map_err(|_| Problem::bad_field("credential", "not a WebAuthn AuthenticationResponseJSON"))?;
    let (person, passkey, record) = {
        let snapshot = recovery.store.read()?;
        let owner = snapshot.get_raw(Table::PasskeyOwners, credential_id.as_bytes())?;
        let owner = owner.and_then(|it| PersonId::parse(std::str::from_utf8(&it).ok()?));
        let admins = recovery.admins()?;
        let person = admins.into_iter().find(|it| Some(&it.id) == owner.as_ref());
        let now = recovery.clock.now();
        let passkey = person.as_ref().and_then(|it| {
            it.live_passkeys()
                .find(|it| it.credential_id == credential_id && it.decides_from <= now)
                .cloned()
        });
        // A stranger, somebody else and a wrong answer look the same from outside.
        let (Some(person), Some(passkey)) = (person, passkey) else {
            return Err(Problem::ceremony_failed());
        };
        let record = snapshot.blob(&passkey.record)?;
        let record = record.ok_or_else(|| Problem::internal("a passkey's record is missing"))?;
        (person, passkey, record)
    };
    recovery
        .relying_party
        .finish_sign_in(*state, &body.credential, &person.id, &passkey, &record)
        .map_err(|_| Problem::ceremony_failed())?;
    let evidence = json!({
        "v": 1,
        "intent": STANDARD.encode(&intent),
        "nonce": STANDARD.encode(nonce),
        "credential": body.credential,
    });
    tracing::warn!(person = %person.id, "an administrator agreed to go on from a journal that lacks entries");
    let count = recovery.confirm(
        Some(person.id),
        person.name,
        Some(evidence.to_string().into_bytes()),
    )?;
    Ok(HttpResponse::Ok().json(json!({ "confirmed": count, "needed": ADMINS_NEEDED })))
}

/// `POST /local/rollback`: the host, where there are fewer admins than are needed.
async fn confirm_on_the_host(
    recovery: Data<Recovery>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    read_json::<Empty>(&request, payload).await?;
    if !recovery.host_may_confirm()? {
        return Err(Problem::not_allowed(
            "There are two administrators or more; two of them have to confirm with their passkeys.",
        ));
    }
    let count = recovery.confirm(None, "the appliance's host".to_owned(), None)?;
    Ok(HttpResponse::Ok().json(json!({ "confirmed": count })))
}
