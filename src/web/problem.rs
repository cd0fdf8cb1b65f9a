//! Every error an API caller can meet, as an RFC 9457 problem document. The only place that knows both an error and a
//! status code. What is inside never leaves: 5xx details go to the log.

use crate::domain::refusal::Refusal;
use crate::domain::state::Fault;
use crate::engine;
use crate::engine::Condition;
use crate::store;
use crate::texts::{fixed, said, t};
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde_json::json;

/// A kind of problem: its path under `/problems/`, status, title, and a paragraph for whoever meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProblemType {
    pub slug: &'static str,
    pub status: u16,
    pub title: &'static str,
    pub paragraph: &'static str,
}

macro_rules! problem_types {
    ($($name:ident = $slug:literal, $status:literal, $title:literal, $paragraph:literal;)*) => {
        $(const $name: ProblemType =
            ProblemType { slug: $slug, status: $status, title: $title, paragraph: $paragraph };)*
        const ALL: &[ProblemType] = &[$($name),*];
    };
}

problem_types! {
    BAD_REQUEST = "bad-request", 400, "The request is not well formed",
        "The body is not JSON, a member is missing, unknown or of the wrong type, or a value is out of its bounds. `field` names the member and `detail` says what it should be.";
    UNAUTHENTICATED = "unauthenticated", 401, "Sign in or send a key",
        "The call needs a session cookie or `Authorization: Bearer sa_…`, and there was none that counts: it may be wrong, revoked or out of time.";
    CEREMONY_FAILED = "ceremony-failed", 401, "The passkey or code was not verified",
        "The answer of the passkey does not prove what was asked, or the one-time code is wrong or was used before. The try is used up and recorded; start again from the page.";
    WEBHOOK_UNVERIFIED = "webhook-unverified", 401, "The webhook does not verify",
        "The token or signature is missing or not the integration's. Set the secret in the forge's webhook settings to the one this appliance gave.";
    FORBIDDEN = "forbidden", 403, "Not allowed",
        "You are signed in, but your roles or your key's scopes do not include this call.";
    CROSS_ORIGIN = "cross-origin", 403, "The call came from another site",
        "A call with a session cookie that changes something must come from this appliance's own pages (`Origin` or `Sec-Fetch-Site`).";
    PLAIN_HTTP = "plain-http", 403, "Use https",
        "The call came by plain http, unencrypted. Nothing was done. A key or password in it was readable on the network: revoke it and make a new one.";
    SELF_APPROVAL = "self-approval", 403, "Nobody approves their own change",
        "Whoever wrote, committed, pushed or asked for what is to be approved can't approve it. Somebody else has to look.";
    NOT_ELIGIBLE = "not-eligible", 403, "You can't decide this request",
        "The rules of this request name other people, or you lack the role, or your passkey is too new. The request page says who can.";
    METHOD_NOT_ALLOWED_BY_RULE = "method-not-allowed", 403, "This method is not accepted here",
        "The rules of this request accept other ways to prove who you are than the one you used.";
    BLOCKED = "blocked", 403, "Blocked by policy",
        "A rule of the policy blocks this. No decision opens it; only another change or another policy does.";
    NOT_ALLOWED = "not-allowed", 403, "This can't be done here",
        "The rules forbid exactly this, for the reason in `detail`.";
    PASSKEY_NEEDED = "passkey-needed", 403, "Confirm this with your passkey",
        "This change could open a gate or give somebody what opens one, so a session alone does not make it. Confirm exactly this call with a passkey (`/api/v1/me/confirmations`), then send it again with `X-Confirmation`. The pages do so by themselves.";
    NOT_FOUND = "not-found", 404, "There is nothing here",
        "There is nothing by that id or path that you may know of. Foreign and unknown ids get the same answer.";
    WRONG_METHOD = "wrong-method", 405, "The path exists, the method does not",
        "This path takes other HTTP methods; `Allow` lists them.";
    ERASED = "erased", 410, "The document was erased",
        "It was kept as long as its project asks, and then two admins had it erased. The journal's entry that `detail` names says when and why; the digest stays in the entries.";
    ALREADY_DECIDED = "already-decided", 409, "You have decided already",
        "One person counts once in a request, however many passkeys they hold.";
    ALREADY_ENDED = "already-ended", 409, "The request has its outcome",
        "The request was decided, expired, cancelled or superseded before this call.";
    STALE_SUBJECT = "stale-subject", 409, "The change moved on",
        "New commits came, or the target changed, while you were deciding. Look at what it is now and decide anew.";
    OUTDATED = "outdated", 409, "Somebody else changed it meanwhile",
        "What you started from is no longer what holds. Look at it as it is now, and change that.";
    CEREMONY_SPENT = "ceremony-spent", 409, "This ceremony is used up",
        "A ceremony is used once and lives 120 seconds. Start again from the page.";
    LINK_SPENT = "link-spent", 409, "This link is used up",
        "A set-up link or an invitation works once and for a limited time. Ask an admin for a new one.";
    IDEMPOTENCY_CONFLICT = "idempotency-conflict", 409, "The Idempotency-Key was used for another body",
        "The same key with the same body gives the same request; with another body it is a mistake.";
    DUPLICATE = "duplicate", 409, "It exists already",
        "Something by that name or id exists. `detail` says what.";
    NOT_USABLE = "not-usable", 409, "The approval can't be used",
        "Only an approved request that is in time and unused can be consumed, once.";
    TOO_LARGE = "too-large", 413, "The body is too large",
        "API bodies have at most 64 KiB, webhooks at most 1 MiB.";
    HEADERS_TOO_LARGE = "headers-too-large", 431, "The headers are too large",
        "All headers of a request together have at most 16 KiB.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "Send JSON",
        "The body must be JSON with `Content-Type: application/json`.";
    INVALID = "invalid", 422, "A value can't be accepted",
        "The request is well formed, but a value breaks a rule. `field` names it and `detail` says why.";
    FORGE_ANSWER = "forge-answer", 422, "The forge does not accept this connection",
        "The forge was asked with the settings you gave and did not answer as it should. `detail` holds what it said.";
    TOO_MANY = "too-many", 429, "Too much at once",
        "Try again after the time in `Retry-After`.";
    INTERNAL = "internal", 500, "The server made a mistake",
        "Nothing was changed. The server's log has the details under the id in `instance`.";
    BUSY = "busy", 503, "The server is busy",
        "Too much waits to be written. Nothing happened; try again after the time in `Retry-After`.";
    SEALED = "sealed", 503, "The signing key can't be used",
        "Without its key the appliance records no decision. Nothing was decided; an admin has to make the key available.";
    SINK_REQUIRED = "sink-required", 503, "No log sink has stored it",
        "The settings ask that a log sink stores each decision before it is made, and none did in time. Nothing was decided; try again once a sink takes entries (Dashboard → Settings → Log sinks).";
    ROLLBACK_SUSPECTED = "rollback-suspected", 503, "The journal lacks entries",
        "A checkpoint that stands outside the data directory covers more than the journal holds, or other entries. Nothing is read or written by this call until the right data is put back or two administrators go on without the lost entries.";
    CLOCK_UNSOUND = "clock-unsound", 503, "The server's clock is wrong",
        "The clock stands behind the journal. Decisions are refused until it is right again; nothing was decided.";
    STORAGE_FULL = "storage-full", 503, "The server's disk is nearly full",
        "What people ask is refused, so that what keeps the gate safe can still be recorded. Nothing happened.";
    READ_ONLY = "read-only", 503, "The server records nothing now",
        "Something stored is not what it should be. Reading works; nothing is decided until an administrator has dealt with it.";
    WRONG_PASSPHRASE = "wrong-passphrase", 403, "The passphrase is not the right one",
        "The server stays sealed. The next attempt is looked at two seconds later.";
    NO_BACKUP = "no-backup", 503, "The backup could not be made",
        "What was written is not a whole backup, or there is no place for one. Older backups are as they were.";
    KEYS_STAY = "keys-stay", 409, "The keys can't be changed so",
        "A key that was to follow could not be made or found. Nothing was changed; the key that signs still does.";
    STOPPED = "stopped", 503, "The journal can't be written",
        "The server is stopping because it can't write. Whether the last call was recorded is seen after the restart.";
}

/// Every problem type: path, title, paragraph. For the pages under `/problems/` and the documentation.
pub fn catalogue() -> Vec<(&'static str, &'static str, &'static str)> {
    ALL.iter().map(|it| (it.slug, it.title, it.paragraph)).collect()
}

/// Every problem type with its status, for the snapshot that pins them.
pub fn types() -> &'static [ProblemType] {
    ALL
}

/// One occurrence of a problem. Boxed, since it travels in every `Result` and is rare.
#[derive(Clone, Debug)]
pub struct Problem(Box<Occurrence>);

#[derive(Clone, Debug)]
struct Occurrence {
    kind: ProblemType,
    detail: String,
    field: Option<String>,
    errors: Option<serde_json::Value>,
    /// Names this occurrence, in the answer and in the log.
    instance: uuid::Uuid,
    retry_after_seconds: Option<u64>,
    /// Methods the path takes.
    allow: Option<String>,
    /// On a page, answered as a redirect to the login page and back to this place.
    next: Option<String>,
}

impl Problem {
    /// What went wrong, as a sentence for the page that asked.
    pub fn told(&self) -> String {
        let sentence = crate::domain::text::visible(&self.0.detail);
        match sentence.is_empty() {
            true => t!("The server refused it.").to_owned(),
            false => said(&sentence).into_owned(),
        }
    }

    /// A passkey under this very call is missing, and nothing else.
    pub fn wants_passkey(&self) -> bool {
        self.0.kind == PASSKEY_NEEDED
    }

    /// The member it is about; empty where it is about none.
    pub fn field(&self) -> &str {
        self.0.field.as_deref().unwrap_or_default()
    }

    /// As [`Self::told`], for the place beside the field, which needs not be named there.
    pub fn told_of_field(&self) -> String {
        let named = format!("`{}`: ", self.field());
        let sentence = crate::domain::text::visible(&self.0.detail);
        match sentence.strip_prefix(&named) {
            Some(it) => said(it).into_owned(),
            None => self.told(),
        }
    }

    fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Problem(Box::new(Occurrence {
            kind,
            detail: detail.into(),
            field: None,
            errors: None,
            instance: crate::web::observe::current_id(),
            retry_after_seconds: None,
            allow: None,
            next: None,
        }))
    }

    fn about(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    fn after_seconds(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// More than may go on at once.
    pub fn too_many(detail: impl Into<String>) -> Self {
        Problem::new(TOO_MANY, detail).after_seconds(30)
    }

    /// The keys are shut: nothing is answered but the page that opens them.
    pub fn sealed(detail: impl Into<String>) -> Self {
        Problem::new(SEALED, detail)
    }

    /// The passphrase, or the link to choose it with, is another.
    pub fn wrong_passphrase(detail: impl Into<String>) -> Self {
        Problem::new(WRONG_PASSPHRASE, detail)
    }

    /// There is no good backup to show for it.
    pub fn no_backup(detail: impl Into<String>) -> Self {
        Problem::new(NO_BACKUP, detail)
    }

    /// A body or parameter that is not well formed.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(BAD_REQUEST, detail)
    }

    /// A member that is not well formed.
    pub fn bad_field(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Problem::new(BAD_REQUEST, format!("`{field}`: {reason}")).about(field)
    }

    /// A well-formed value that breaks a rule.
    pub fn invalid(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Problem::new(INVALID, format!("`{field}`: {reason}")).about(field)
    }

    /// No credentials, or none that count.
    pub fn unauthenticated() -> Self {
        Problem::new(
            UNAUTHENTICATED,
            "Send a session cookie or Authorization: Bearer sa_….",
        )
    }

    /// A page that nobody signed in may see: goes to the login page.
    pub fn log_in_first(next: String) -> Self {
        let mut problem = Problem::unauthenticated();
        problem.0.next = Some(next);
        problem
    }

    /// A ceremony whose answer does not verify.
    pub fn ceremony_failed() -> Self {
        Problem::new(
            CEREMONY_FAILED,
            "The passkey's answer was not verified. Start again.",
        )
    }

    /// A document that was erased, as the journal's entry at this position says.
    pub fn erased(seq: u64) -> Problem {
        Problem::new(
            ERASED,
            format!("Entry {seq} of the journal says that it was erased, and why."),
        )
    }

    /// A ceremony that is used up, unknown or too old.
    pub fn ceremony_spent() -> Self {
        Problem::new(
            CEREMONY_SPENT,
            "This ceremony has been used or has run out. Start again.",
        )
    }

    /// A webhook that does not verify.
    pub fn webhook_unverified(detail: impl Into<String>) -> Self {
        Problem::new(WEBHOOK_UNVERIFIED, detail)
    }

    /// No log sink has stored what is to be decided.
    pub fn sink_required(seconds: u64) -> Self {
        let detail = format!("No log sink stored it within {seconds} s, so nothing was decided.");
        Problem::new(SINK_REQUIRED, detail).after_seconds(30)
    }

    /// The journal lacks entries and waits for admins.
    pub fn rollback_suspected() -> Self {
        let detail = "The journal is older than, or another one than, what was told to others. Administrators have to decide.";
        Problem::new(ROLLBACK_SUSPECTED, detail).after_seconds(300)
    }

    /// What the rules forbid.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Problem::new(NOT_ALLOWED, detail)
    }

    /// A role or scope is missing.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Problem::new(FORBIDDEN, detail)
    }

    /// The call came from another site.
    pub fn cross_origin() -> Self {
        Problem::new(CROSS_ORIGIN, "Send Origin with this appliance's own address.")
    }

    /// Headers over their limit.
    pub fn headers_too_large(bytes_max: usize) -> Self {
        Problem::new(
            HEADERS_TOO_LARGE,
            format!("The headers have more than {bytes_max} bytes."),
        )
    }

    /// The call came unencrypted.
    pub fn plain_http(public_url: &str) -> Self {
        Problem::new(PLAIN_HTTP, format!("Call {public_url} instead."))
    }

    /// A key without the certificate it needs.
    pub fn no_client_certificate() -> Self {
        Problem::new(
            UNAUTHENTICATED,
            "Calls with an API key need a client certificate here (tls.client_certificate).",
        )
    }

    /// Nothing by that id.
    pub fn not_found() -> Self {
        Problem::new(NOT_FOUND, "There is nothing here by that id or path.")
    }

    /// The path takes other methods: those of `allow`.
    pub fn wrong_method(allow: &str) -> Self {
        let mut problem = Problem::new(WRONG_METHOD, format!("This path takes {allow}."));
        problem.0.allow = Some(allow.to_owned());
        problem
    }

    /// A body over its limit.
    pub fn too_large(bytes_max: usize) -> Self {
        Problem::new(TOO_LARGE, format!("The body has more than {bytes_max} bytes."))
    }

    /// A body that is not JSON by its own word.
    pub fn unsupported_media_type() -> Self {
        Problem::new(UNSUPPORTED_MEDIA_TYPE, "Send application/json.")
    }

    /// Too much at once; try again after so many seconds.
    pub fn too_often(detail: &str, seconds: u64) -> Self {
        Problem::new(TOO_MANY, detail).after_seconds(seconds)
    }

    /// The forge does not answer as it should.
    pub fn forge_answer(detail: impl Into<String>) -> Self {
        Problem::new(FORGE_ANSWER, detail)
    }

    /// Something inside failed; `cause` goes to the log only.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let problem = Problem::new(INTERNAL, "Something failed inside. Nothing was changed.");
        tracing::error!(error = %cause, instance = %problem.0.instance, "a call failed inside");
        problem
    }

    /// The same problem with every single error in it.
    pub fn with_errors(mut self, errors: serde_json::Value) -> Self {
        self.0.errors = Some(errors);
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.kind.slug, self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        if let Some(next) = &self.0.next {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("next", next)
                .finish();
            return HttpResponse::SeeOther()
                .insert_header((header::LOCATION, format!("/login?{query}")))
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .finish();
        }
        // English for programs; what a script of our own pages asked is shown to somebody as it comes (`web/language.rs`).
        let mut document = json!({
            "type": format!("/problems/{}", self.0.kind.slug),
            "title": fixed(self.0.kind.title),
            "status": self.0.kind.status,
            "detail": said(&self.0.detail),
            "instance": format!("urn:uuid:{}", self.0.instance),
        });
        if let Some(field) = &self.0.field {
            document["field"] = json!(field);
        }
        if let Some(errors) = &self.0.errors {
            document["errors"] = errors.clone();
        }
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.0.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(allow) = &self.0.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        if self.0.kind == UNAUTHENTICATED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.body(document.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Unknown => Problem::not_found(),
            Refusal::SelfApproval { .. } => Problem::new(SELF_APPROVAL, detail),
            Refusal::NotEligible { .. } => Problem::new(NOT_ELIGIBLE, detail),
            Refusal::AlreadyDecided => Problem::new(ALREADY_DECIDED, detail),
            Refusal::AlreadyEnded { .. } => Problem::new(ALREADY_ENDED, detail),
            Refusal::StaleSubject => Problem::new(STALE_SUBJECT, detail),
            Refusal::MethodNotAllowed { .. } => Problem::new(METHOD_NOT_ALLOWED_BY_RULE, detail),
            Refusal::WrongCode => Problem::new(CEREMONY_FAILED, detail),
            Refusal::TooManyCodes { seconds, .. } => Problem::new(TOO_MANY, detail).after_seconds(seconds),
            Refusal::Blocked => Problem::new(BLOCKED, detail),
            Refusal::NotUsable { .. } => Problem::new(NOT_USABLE, detail),
            Refusal::IdempotencyConflict => Problem::new(IDEMPOTENCY_CONFLICT, detail),
            Refusal::LinkSpent => Problem::new(LINK_SPENT, detail),
            Refusal::Duplicate { .. } => Problem::new(DUPLICATE, detail),
            Refusal::Invalid { field, reason } => Problem::invalid(&field, reason),
            Refusal::PasskeyNeeded { .. } => Problem::new(PASSKEY_NEEDED, detail),
            Refusal::NotAllowed { .. } => Problem::new(NOT_ALLOWED, detail),
            Refusal::Outdated { .. } => Problem::new(OUTDATED, detail),
            Refusal::TooManyWaiting { .. } => Problem::new(TOO_MANY, detail).after_seconds(60),
        }
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        match error {
            engine::Error::Refused(refusal) => refusal.into(),
            engine::Error::Busy => Problem::new(BUSY, "Nothing happened; try again.").after_seconds(1),
            engine::Error::Sealed(cause) => {
                tracing::warn!(%cause, "the signing key can't be used");
                Problem::new(SEALED, "Nothing was decided.")
            }
            engine::Error::ClockUnsound => Problem::new(CLOCK_UNSOUND, "Nothing was decided."),
            engine::Error::ReadOnly(Condition::StorageFull) => Problem::new(
                STORAGE_FULL,
                "Nothing happened; an administrator has to make room.",
            )
            .after_seconds(60),
            engine::Error::ReadOnly(_) => Problem::new(
                READ_ONLY,
                "Nothing happened; an administrator has to look at the server.",
            ),
            engine::Error::Keys(why) => Problem::new(KEYS_STAY, format!("Nothing was changed: {why}.")),
            engine::Error::Stopped => Problem::new(STOPPED, "Look again after the restart."),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Problem::internal(error)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Problem::internal(fault)
    }
}

/// What no route answers: a page for people, a problem for programs.
pub async fn nothing_here(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    if path.starts_with("/api/") || path.starts_with("/hooks/") || path.starts_with("/.well-known/") {
        return Problem::not_found().error_response();
    }
    crate::web::pages::not_found()
}
