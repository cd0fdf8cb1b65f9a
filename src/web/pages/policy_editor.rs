//! The editor of a policy: a plain form that works without script and never loses what was typed. Beside it, the same
//! engine as the gate explains what the document makes of a branch and paths.

use crate::domain::decide::{lint_facts, simulate};
use crate::domain::governance::{Governed, Proposal};
use crate::domain::ids::Digest;
use crate::domain::people::{Person, Role};
use crate::domain::policy::{DOCUMENT_BYTES_MAX, Document, Evaluation, Hypothesis, ParseError, lint};
use crate::domain::project::PolicyRecord;
use crate::domain::state::Read;
use crate::texts::{filters, in_this_language, said, t};
use crate::web::api::governance::{Change, govern};
use crate::web::api::policy_versions::{replayed, versions};
use crate::web::app::App;
use crate::web::body::read_bytes;
use crate::web::pages::diff::{Difference, difference};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::impact::ImpactView;
use crate::web::pages::policies::{Warned, governs, in_path};
use crate::web::pages::{PageError, error_page, html, only, respond, shown};
use crate::web::problem::Problem;
use crate::web::session::{Caller, Reader, SignedIn};
use crate::web::words;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

/// Largest form that is explained, in bytes: a document at its limit, percent-encoded, and some paths.
const FORM_BYTES_MAX: usize = 1024 * 1024;
/// Largest form that comes back to whoever sent it, in bytes: a document beyond its limit is refused, not lost.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most digests of earlier texts by which a browser knows its draft as saved.
const SAVED_MAX: usize = 50;
/// Shortest reason for a change, in characters.
const REASON_CHARS_MIN: usize = 3;
/// Most lines of the trace beside the editor.
const TRACE_MAX: usize = 200;
/// Most errors and warnings beside the editor.
const FOUND_MAX: usize = 50;
/// Longest text of others, in characters.
const TEXT_MAX: usize = 500;

/// What a new policy starts from.
const TEMPLATE: &str = r#"{
  "rules": [
    { "name": "Production code needs two people",
      "match": { "branch": "main", "paths": ["src/**", "deploy/**"] },
      "require": { "method": ["passkey", "biometric"], "quorum": 2 } },

    { "name": "Deployments to production",
      "match": { "environment": "production" },
      "require": { "method": ["passkey", "biometric"], "quorum": 1, "ttl_max": 900 } },

    { "name": "Docs need nobody",
      "match": { "branch": "main", "paths": ["docs/**"] },
      "action": "skip" }
  ],
  "default": { "method": ["passkey", "biometric"], "quorum": 1 }
}
"#;

#[derive(Template)]
#[template(path = "admin/policy_editor.html")]
struct EditorPage {
    frame: Frame,
    name: String,
    /// The name inside a path.
    path: String,
    /// The version that is edited; 0 for a new policy.
    version: u64,
    governs: String,
    form: Form,
    /// The text was sent and is not saved.
    unsaved: bool,
    /// Largest document, in bytes.
    bytes_max: usize,
    /// Digests of the texts that are versions or proposals already, with spaces between.
    saved: String,
    found: Found,
    /// Something stopped the saving.
    refused: Option<String>,
    /// It asks for less than what holds, so a passkey has to be put under it: under exactly this text, which is shown and can't
    /// be changed here. Without the editor's script the page has room for those of the ceremony.
    confirm: bool,
    /// Another version became active meanwhile: what differs between that and the text.
    outdated: Option<(u64, Difference)>,
}

#[derive(Template)]
#[template(path = "admin/policy_found.html")]
struct FoundPart {
    found: Found,
}

/// What was typed.
#[derive(Clone, Default)]
struct Form {
    document: String,
    reason: String,
    base: String,
    branch: String,
    environment: String,
    project: String,
    paths: String,
    /// The button: `check`, `compare` or `save`.
    action: String,
}

/// What the engine says of a document.
#[derive(Default)]
struct Found {
    errors: Vec<Wrong>,
    /// Errors that did not fit.
    errors_more: usize,
    warnings: Vec<Warned>,
    explained: Option<Explained>,
    /// The question beside the editor makes no sense.
    unclear: Option<String>,
    impact: Option<ImpactView>,
    /// The text can't be changed where this is shown.
    fixed: bool,
}

/// An error, with the line it is about.
struct Wrong {
    line: u32,
    key: String,
    reason: String,
    excerpt: String,
}

/// What a policy makes of the question beside the editor.
struct Explained {
    outcome: String,
    look: &'static str,
    glass: Vec<String>,
    reasons: Vec<String>,
    lines: Vec<TraceLine>,
    more: usize,
}

struct TraceLine {
    path: String,
    rules: String,
    effect: String,
    reason: Option<String>,
}

impl Form {
    fn read(bytes: &[u8]) -> Form {
        let mut form = Form::default();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            // Browsers send line ends as CR LF; a document keeps those it was written with.
            let text = value.replace("\r\n", "\n");
            match name.as_ref() {
                "document" => form.document = text,
                "reason" => form.reason = text.trim().to_owned(),
                "base" => form.base = text,
                "branch" => form.branch = text.trim().to_owned(),
                "environment" => form.environment = text.trim().to_owned(),
                "project" => form.project = text.trim().to_owned(),
                "paths" => form.paths = text,
                "do" => form.action = text,
                _ => {}
            }
        }
        form
    }

    fn question(&self) -> Option<Result<Hypothesis, String>> {
        let project = Some(self.project.as_str()).filter(|it| !it.is_empty());
        let paths: Vec<String> = self
            .paths
            .lines()
            .map(|it| it.trim().to_owned())
            .filter(|it| !it.is_empty())
            .collect();
        let asked = match (self.branch.is_empty(), self.environment.is_empty()) {
            (true, true) => return None,
            (false, false) => return Some(Err(t!("Give a branch or an environment, not both.").to_owned())),
            (false, true) => Hypothesis::of_paths(&self.branch, project, &paths),
            (true, false) => Hypothesis::of_environment(&self.environment, project),
        };
        Some(asked.map_err(|e| format!("{}: {}", e.field, said(&e.reason))))
    }
}

/// Asks the engine all that the form asks. Off the threads that answer requests.
async fn found(app: &Data<App>, form: &Form) -> Result<(Found, Option<Document>), PageError> {
    let (app, form) = (app.clone(), form.clone());
    let work = in_this_language(move || -> Result<(Found, Option<Document>), PageError> {
        let document = match Document::parse(form.document.as_bytes()) {
            Ok(document) => document,
            Err(errors) => {
                let text: Vec<&str> = form.document.lines().collect();
                let told = errors.iter().take(FOUND_MAX).map(|it| wrong(it, &text));
                let found = Found {
                    errors: told.collect(),
                    errors_more: errors.len().saturating_sub(FOUND_MAX),
                    ..Found::default()
                };
                return Ok((found, None));
            }
        };
        let state = app.snapshot()?;
        let facts = lint_facts(app.now(), &state)?;
        let mut found = Found {
            warnings: lint(&document, &facts)
                .iter()
                .take(FOUND_MAX)
                .map(Warned::of)
                .collect(),
            ..Found::default()
        };
        match form.question() {
            Some(Ok(asked)) => found.explained = Some(explained(&simulate(&asked, Some(&document), &state)?)),
            Some(Err(unclear)) => found.unclear = Some(shown(&unclear, TEXT_MAX)),
            None => {}
        }
        Ok((found, Some(document)))
    });
    web::block(work)
        .await
        .map_err(|e| PageError::from(Problem::internal(e)))?
}

fn wrong(it: &ParseError, text: &[&str]) -> Wrong {
    let line = text.get((it.line as usize).saturating_sub(1)).unwrap_or(&"");
    Wrong {
        line: it.line,
        key: shown(&it.key, 100),
        reason: shown(&it.reason, TEXT_MAX),
        excerpt: shown(line.trim(), 120),
    }
}

fn explained(it: &Evaluation) -> Explained {
    use crate::domain::policy::Outcome;
    let glass = it.break_glass.iter();
    let lines = it.trace.iter().take(TRACE_MAX).map(|entry| TraceLine {
        path: match entry.path.as_str() {
            "" => t!("the request as a whole").to_owned(),
            path => shown(path, TEXT_MAX),
        },
        rules: {
            let names: Vec<String> = entry.matched.iter().map(|it| words::rule_name(it)).collect();
            names.join(", ")
        },
        effect: words::effect(entry.effect),
        reason: entry.reason.as_deref().map(|it| shown(it, TEXT_MAX)),
    });
    Explained {
        outcome: words::judged(it),
        look: match it.outcome {
            Outcome::Require => "pending",
            Outcome::Skip => "skipped",
            Outcome::Block => "rejected",
            Outcome::NotGated => "cancelled",
        },
        glass: glass
            .map(|it| {
                t!(
                    "{what} ({rule})",
                    what = words::obligation(it),
                    rule = words::rule_name(&it.rule)
                )
            })
            .collect(),
        reasons: it.reasons.iter().map(|it| shown(it, TEXT_MAX)).collect(),
        more: it.trace.len().saturating_sub(TRACE_MAX),
        lines: lines.collect(),
    }
}

pub(super) fn only_admin(person: &Person) -> Result<(), PageError> {
    only(person, &[Role::Admin], t!("administrators"))
}

fn checked_name(name: &str) -> Result<(), PageError> {
    let length = name.chars().count();
    match (1..=200).contains(&length) && shown(name, 200) == name {
        true => Ok(()),
        false => Err(PageError::Unknown),
    }
}

fn page(
    app: &App,
    person: &Person,
    name: &str,
    record: Option<&PolicyRecord>,
    form: Form,
    found: Found,
) -> Result<EditorPage, PageError> {
    let state = app.snapshot()?;
    let versions = versions(&state, name)?.into_iter().rev().map(|it| it.document);
    let proposals = state.all::<Proposal>()?.into_iter().rev();
    let proposed = proposals.filter_map(|it| match it.change {
        Governed::Policy { name: of, document } if of == name => Some(document),
        _ => None,
    });
    let saved: Vec<String> = versions
        .take(SAVED_MAX)
        .chain(proposed.take(SAVED_MAX))
        .map(|it| it.to_string())
        .collect();
    Ok(EditorPage {
        unsaved: !form.action.is_empty(),
        bytes_max: DOCUMENT_BYTES_MAX,
        saved: saved.join(" "),
        frame: Frame::new(
            app,
            Some(person),
            Place::Policies,
            &t!("Edit {name}", name = shown(name, 60)),
        ),
        name: shown(name, 200),
        path: in_path(name),
        version: record.map_or(0, |it| it.version),
        governs: governs(name, &state)?,
        form,
        found,
        refused: None,
        confirm: false,
        outdated: None,
    })
}

/// `GET /dashboard/policies/{name}/edit`: admins.
pub async fn show_editor(
    app: Data<App>,
    Reader(person): Reader,
    name: Path<String>,
) -> Result<HttpResponse, PageError> {
    only_admin(&person)?;
    checked_name(&name)?;
    let state = app.snapshot()?;
    let record: Option<PolicyRecord> = state.get(&name)?;
    let mut form = Form {
        branch: "main".to_owned(),
        paths: "src/a.rs\n".to_owned(),
        ..Form::default()
    };
    match &record {
        Some(record) => {
            let bytes = state.blob(&record.document)?.unwrap_or_default();
            form.document = String::from_utf8_lossy(&bytes).into_owned();
            form.base = record.document.to_string();
        }
        None => form.document = TEMPLATE.to_owned(),
    }
    let (found, _) = found(&app, &form).await?;
    Ok(html(&page(&app, &person, &name, record.as_ref(), form, found)?))
}

/// `POST /dashboard/policies/{name}/edit`: admins. Checks, compares or saves; the text comes back as it was.
pub async fn edit_policy(
    app: Data<App>,
    who: Result<SignedIn, Problem>,
    name: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, PageError> {
    let who = match who {
        Ok(who) => who,
        Err(problem) => return Ok(signed_out(&problem)),
    };
    only_admin(&who.0)?;
    checked_name(&name)?;
    let sent = match read_bytes(&request, payload, KEPT_BYTES_MAX).await {
        Ok(sent) => sent,
        Err(problem) if problem.status_code() == StatusCode::PAYLOAD_TOO_LARGE => return Ok(too_large()),
        Err(problem) => return Err(problem.into()),
    };
    let form = Form::read(&sent);
    let record: Option<PolicyRecord> = app.snapshot()?.get(&name)?;
    if form.document.len() > DOCUMENT_BYTES_MAX {
        let length = form.document.len();
        let mut shown = page(&app, &who.0, &name, record.as_ref(), form, Found::default())?;
        shown.refused = Some(t!(
            "The document has {length} bytes, and a policy may have {document_bytes_max}. Your text is below, as it was.",
            length = length,
            document_bytes_max = DOCUMENT_BYTES_MAX
        ));
        return Ok(respond(StatusCode::PAYLOAD_TOO_LARGE, &shown));
    }
    let (mut found, document) = found(&app, &form).await?;
    let mut refused = None;
    let mut confirm = false;
    let mut outdated = None;
    match (form.action.as_str(), document) {
        ("compare", Some(document)) => {
            found.impact = Some(ImpactView::of(&replayed(&app, name.clone(), document).await?));
        }
        ("save", Some(_)) => {
            let active = record
                .as_ref()
                .map(|it| it.document.to_string())
                .unwrap_or_default();
            if form.reason.chars().count() < REASON_CHARS_MIN {
                refused =
                    Some(t!("Say why: the reason stands in the journal beside the new version.").to_owned());
            } else if active != form.base {
                let state = app.snapshot()?;
                let theirs = match &record {
                    Some(it) => state.blob(&it.document)?.unwrap_or_default(),
                    None => Vec::new(),
                };
                let version = record.as_ref().map_or(0, |it| it.version);
                outdated = Some((version, difference(&theirs, form.document.as_bytes())));
            } else {
                match save(&app, &who, &name, &form).await {
                    Ok(place) => return Ok(see_other(&place)),
                    Err(problem) => {
                        confirm = problem.wants_passkey();
                        refused = Some(problem.told());
                    }
                }
            }
        }
        _ => {}
    }
    let mut shown = page(&app, &who.0, &name, record.as_ref(), form, found)?;
    shown.refused = refused;
    (shown.confirm, shown.found.fixed) = (confirm, confirm);
    if let Some((version, difference)) = outdated {
        // From here on the text is a change to what holds now.
        shown.form.base = record.map(|it| it.document.to_string()).unwrap_or_default();
        shown.outdated = Some((version, difference));
    }
    Ok(html(&shown))
}

/// Saves, and tells where to go then.
async fn save(app: &App, who: &SignedIn, name: &str, form: &Form) -> Result<String, Problem> {
    Caller::Person(who.0.clone()).administers()?;
    let change = Change {
        change: Governed::Policy {
            name: name.to_owned(),
            document: Digest::of(form.document.as_bytes()),
        },
        document: Some(form.document.clone().into_bytes()),
        expected: Digest::parse(&form.base),
        reason: form.reason.clone(),
    };
    Ok(match govern(app, who.actor(), change).await? {
        Some(waits) => format!("/dashboard/proposals/{}", waits.0),
        None => format!("/dashboard/policies/{}", in_path(name)),
    })
}

pub(super) fn see_other(place: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header(("Location", place))
        .finish()
}

/// Even the text can't come back: the browser has it still.
fn too_large() -> HttpResponse {
    let detail = t!(
        "Nothing was saved: a policy may have {document_bytes_max} bytes, and this was more than {kept_bytes_max}. Go \
         back: your text is still there.",
        document_bytes_max = DOCUMENT_BYTES_MAX,
        kept_bytes_max = KEPT_BYTES_MAX
    );
    error_page(
        StatusCode::PAYLOAD_TOO_LARGE,
        t!("This text is too large for a policy"),
        &detail,
    )
}

/// The session ended while somebody was writing: nothing is lost that a script could keep.
fn signed_out(problem: &Problem) -> HttpResponse {
    let status = actix_web::ResponseError::status_code(problem);
    let detail = t!(
        "Nothing was saved. Sign in again in another tab, then go back: your text is still there, and this \
                  browser keeps a draft of it as well."
    );
    match status {
        StatusCode::UNAUTHORIZED => error_page(status, t!("You are signed out"), detail),
        _ => error_page(
            status,
            t!("This did not work"),
            t!("Nothing was saved. Go back and try again."),
        ),
    }
}

/// `POST /dashboard/explain-policy`: admins. The part of the page beside the editor, for its script.
pub async fn explain_draft(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, PageError> {
    only_admin(&who.0)?;
    let form = Form::read(&read_bytes(&request, payload, FORM_BYTES_MAX).await?);
    let (found, _) = found(&app, &form).await?;
    Ok(html(&FoundPart { found }))
}

/// What `GET /dashboard/new-policy` is told.
#[derive(Debug, serde::Deserialize)]
pub struct NewQuery {
    name: Option<String>,
}

/// `GET /dashboard/new-policy?name=…`: admins. Leads to the editor of that name.
pub async fn new_policy(
    Reader(person): Reader,
    query: web::Query<NewQuery>,
) -> Result<HttpResponse, PageError> {
    only_admin(&person)?;
    let name = query.name.as_deref().unwrap_or_default().trim();
    match checked_name(name) {
        Ok(()) => Ok(see_other(&format!("/dashboard/policies/{}/edit", in_path(name)))),
        Err(_) => Ok(error_page(
            StatusCode::BAD_REQUEST,
            t!("A policy needs a name"),
            t!("Go back and give it 1 to 200 visible characters, such as “default” or “payments”."),
        )),
    }
}
