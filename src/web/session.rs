//! Who is calling: a person by session cookie, a machine by key. Same answer for every way of not being allowed in.

use crate::domain::event::Actor;
use crate::domain::people::{ApiKey, Person, Role, Scope, Session};
use crate::domain::state::Read;
use crate::identity::hash_token;
use crate::listen::Peer;
use crate::web::app::App;
use crate::web::limits::Use;
use crate::web::problem::Problem;
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How long a session lasts, in seconds: a working day, so that a phone left somewhere is not a key for ever. It never
/// decides anything by itself.
pub const SESSION_SECONDS: u64 = 12 * 3_600;

/// Name of the session cookie. `__Host-` ties it to this origin over TLS; evaluation has no TLS.
pub fn cookie_name(app: &App) -> &'static str {
    if app.evaluation {
        "signedapproval-session"
    } else {
        "__Host-signedapproval-session"
    }
}

/// The cookie that opens a session.
pub fn session_cookie(app: &App, token: &str) -> Cookie<'static> {
    Cookie::build(cookie_name(app), token.to_owned())
        .path("/")
        .http_only(true)
        .secure(!app.evaluation)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(
            i64::try_from(SESSION_SECONDS).unwrap_or(i64::MAX),
        ))
        .finish()
}

/// The cookie that closes it.
pub fn no_session_cookie(app: &App) -> Cookie<'static> {
    let mut cookie = session_cookie(app, "");
    cookie.make_removal();
    cookie
}

/// The token in the session cookie.
pub fn session_token(app: &App, request: &HttpRequest) -> Option<String> {
    request
        .cookie(cookie_name(app))
        .map(|it| it.value().to_owned())
        .filter(|it| !it.is_empty())
}

/// A signed-in person.
#[derive(Clone, Debug)]
pub struct SignedIn(pub Person);

/// Whoever looks at a page: signed in or not.
pub struct Visitor(pub Option<Person>);

/// A signed-in reader of a page; anybody else is sent to the login page.
pub struct Reader(pub Person);

/// A machine's key or a signed-in person.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once a call, and lent from then on"
)]
pub enum Caller {
    Person(Person),
    Key(Arc<ApiKey>),
}

impl SignedIn {
    /// This person as the actor of a command.
    pub fn actor(&self) -> Actor {
        Actor::Person {
            id: self.0.id.clone(),
            name: self.0.name.clone(),
        }
    }
}

impl Caller {
    /// The caller as the actor of a command.
    pub fn actor(&self) -> Actor {
        match self {
            Caller::Person(it) => Actor::Person {
                id: it.id.clone(),
                name: it.name.clone(),
            },
            Caller::Key(it) => Actor::Key {
                id: it.id.clone(),
                name: it.name.clone(),
            },
        }
    }

    /// The person, unless it is a program.
    pub fn person(&self) -> Option<&Person> {
        match self {
            Caller::Person(it) => Some(it),
            Caller::Key(_) => None,
        }
    }

    /// Lets through admins and keys with the scope `admin` that are bound to no project.
    pub fn administers(&self) -> Result<(), Problem> {
        let may = match self {
            Caller::Person(it) => it.has(Role::Admin),
            Caller::Key(it) => it.projects.is_empty() && it.scopes.contains(&Scope::Admin),
        };
        if may {
            Ok(())
        } else {
            Err(Problem::forbidden(
                "This call is for admins and keys with the scope admin.",
            ))
        }
    }

    /// Lets through admins, auditors and keys with the scope `audit` or `admin` that are bound to no project.
    pub fn audits(&self) -> Result<(), Problem> {
        let may = match self {
            Caller::Person(it) => it.has(Role::Admin) || it.has(Role::Auditor),
            Caller::Key(it) => {
                it.projects.is_empty()
                    && (it.scopes.contains(&Scope::Audit) || it.scopes.contains(&Scope::Admin))
            }
        };
        if may {
            Ok(())
        } else {
            Err(Problem::forbidden("This call is for admins and auditors."))
        }
    }
}

fn person_of(request: &HttpRequest) -> Result<Option<Person>, Problem> {
    let app = request
        .app_data::<Data<App>>()
        .ok_or_else(|| Problem::internal("no app"))?;
    let Some(token) = session_token(app, request) else {
        return Ok(None);
    };
    let snapshot = app.snapshot()?;
    let Some(session) = snapshot.get::<Session>(&hash_token(&token).to_string())? else {
        return Ok(None);
    };
    let now = app.now();
    let used = |it: &Session| app.session_uses.note(&it.token_sha256, it.opened_at, now);
    if now >= session.expires_at || !used(&session) {
        return Ok(None);
    }
    Ok(snapshot
        .get::<Person>(session.person.as_str())?
        .filter(|it| it.active))
}

/// The secret that a call shows as its key. `None`: it shows none at all.
fn shown_secret(headers: &HeaderMap) -> Option<Result<&str, Problem>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let secret = value.to_str().ok().and_then(|it| {
        let (scheme, secret) = it.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    Some(
        secret
            .filter(|it| it.starts_with("sa_"))
            .ok_or_else(Problem::unauthenticated),
    )
}

/// Whether keys alone don't count on this connection.
fn lacks_certificate(app: &App, certified: bool) -> bool {
    !certified && app.front.keys_need_certificate.load(Ordering::Relaxed)
}

fn is_live(app: &App, key: &ApiKey) -> bool {
    !key.revoked && app.now() < key.expires_at
}

/// The key of a call, if it was looked up since the journal grew and counts. `None` says nothing about the key. Nothing is taken
/// from its limit: whoever answers the call does that.
pub fn known_key(app: &App, headers: &HeaderMap, certified: bool) -> Option<Arc<ApiKey>> {
    let secret = shown_secret(headers)?.ok()?;
    if lacks_certificate(app, certified) {
        return None;
    }
    let key = app.recent_keys.get(app.engine.size(), &hash_token(secret))?;
    is_live(app, &key).then_some(key)
}

fn key_of(request: &HttpRequest) -> Result<Option<Arc<ApiKey>>, Problem> {
    let app = request
        .app_data::<Data<App>>()
        .ok_or_else(|| Problem::internal("no app"))?;
    let Some(secret) = shown_secret(request.headers()) else {
        return Ok(None);
    };
    let secret = secret?;
    let certified = request
        .conn_data::<Peer>()
        .is_some_and(|it| it.certificate.is_some());
    if lacks_certificate(app, certified) {
        return Err(Problem::no_client_certificate());
    }
    let digest = hash_token(secret);
    let size = app.engine.size();
    let found = match app.recent_keys.get(size, &digest) {
        Some(key) => Some(key),
        None => {
            let found = app.snapshot()?.get::<ApiKey>(&digest.to_string())?.map(Arc::new);
            if let Some(key) = &found {
                app.recent_keys.put(size, digest, key.clone());
            }
            found
        }
    };
    let live = found.filter(|it| is_live(app, it));
    let key = live.ok_or_else(Problem::unauthenticated)?;
    let what = match *request.method() {
        Method::GET | Method::HEAD => Use::Read,
        _ => Use::Change,
    };
    app.limits.take(&key.id, what, Instant::now())?;
    Ok(Some(key))
}

/// A call with a cookie that changes something must come from our own pages. `SameSite` alone would let through other
/// ports of the same host.
fn check_origin(request: &HttpRequest) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let app = request
        .app_data::<Data<App>>()
        .ok_or_else(|| Problem::internal("no app"))?;
    let value = |name: &str| request.headers().get(name).map(|it| it.to_str().unwrap_or("?"));
    let own = match (value("origin"), value("sec-fetch-site")) {
        // A plain form of a page that sends no referrer says "null" (Fetch, "append a request Origin header"); where it
        // comes from then stands in the header that no page can write.
        (Some("null"), Some(site)) => site == "same-origin",
        (Some(origin), _) => origin == app.relying_party.origin(),
        (None, Some(site)) => site == "same-origin",
        (None, None) => false,
    };
    if own { Ok(()) } else { Err(Problem::cross_origin()) }
}

/// Whether a call comes from our own pages or from no browser at all, for the calls that need no session.
pub fn check_not_foreign(request: &HttpRequest) -> Result<(), Problem> {
    let value = |name: &str| request.headers().contains_key(name);
    if value("origin") || value("sec-fetch-site") {
        check_origin(request)
    } else {
        Ok(())
    }
}

fn signed_in(request: &HttpRequest) -> Result<SignedIn, Problem> {
    let person = person_of(request)?.ok_or_else(Problem::unauthenticated)?;
    check_origin(request)?;
    Ok(SignedIn(person))
}

impl FromRequest for SignedIn {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(signed_in(request))
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(match key_of(request) {
            Ok(Some(key)) => Ok(Caller::Key(key)),
            Ok(None) => signed_in(request).map(|it| Caller::Person(it.0)),
            Err(problem) => Err(problem),
        })
    }
}

impl FromRequest for Visitor {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(person_of(request).map(Visitor))
    }
}

impl FromRequest for Reader {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let next = request
            .uri()
            .path_and_query()
            .map_or("/", |it| it.as_str())
            .to_owned();
        ready(match person_of(request) {
            Ok(Some(person)) => Ok(Reader(person)),
            Ok(None) => Err(Problem::log_in_first(next)),
            Err(problem) => Err(problem),
        })
    }
}
