//! Policies: which there are, what each says in plain sentences, how it came to be, and what differs between versions.

use crate::domain::decide::lint_facts;
use crate::domain::people::{Person, Role};
use crate::domain::policy::{Document, RuleEffect, Warning, lint};
use crate::domain::project::{PolicyRecord, Project};
use crate::domain::state::Read;
use crate::texts::{filters, said, t};
use crate::web::api::policy_versions::versions;
use crate::web::app::App;
use crate::web::pages::diff::{Difference, difference};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::proposals;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use crate::web::words::{self, all_of};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use askama::Template;
use serde::Deserialize;

/// The policy that governs what names none.
const DEFAULT_POLICY: &str = "default";
/// Longest text of others, in characters.
const TEXT_MAX: usize = 500;

#[derive(Template)]
#[template(path = "admin/policies.html")]
struct PoliciesPage {
    frame: Frame,
    admin: bool,
    policies: Vec<PolicyLine>,
    /// A policy named `default` exists; else the built-in rule governs.
    has_default: bool,
    proposals: Vec<proposals::Line>,
}

/// One policy in the list.
struct PolicyLine {
    name: String,
    /// The name inside a path.
    path: String,
    version: u64,
    rules: usize,
    since: Moment,
    by: String,
    reason: String,
    governs: String,
}

#[derive(Template)]
#[template(path = "admin/policy.html")]
struct PolicyPage {
    frame: Frame,
    admin: bool,
    line: PolicyLine,
    sha256: String,
    change_quorum: u32,
    sentences: Vec<Sentence>,
    default: String,
    warnings: Vec<Warned>,
    lines: Vec<String>,
    versions: Vec<VersionLine>,
    /// The two versions that are compared, and what differs.
    compared: Option<(u64, u64, Difference)>,
}

/// A rule in words.
struct Sentence {
    name: String,
    text: String,
    /// The line it begins on.
    line: u32,
    kind: &'static str,
}

/// Something to look at.
pub struct Warned {
    pub line: u32,
    pub rule: String,
    pub reason: String,
}

/// One version in the history.
struct VersionLine {
    version: u64,
    at: Moment,
    by: String,
    reason: String,
    current: bool,
}

impl Warned {
    /// A warning for people.
    pub fn of(it: &Warning) -> Self {
        Warned {
            line: it.line,
            rule: words::rule_name(&it.rule),
            reason: said(&shown(&it.reason, TEXT_MAX)).into_owned(),
        }
    }
}

/// What a policy governs, in words.
pub fn governs(name: &str, state: &impl Read) -> Result<String, PageError> {
    let projects = state.all::<Project>()?;
    let mut paths: Vec<String> = projects
        .iter()
        .filter(|it| !it.removed && it.settings.policy.as_deref().unwrap_or(DEFAULT_POLICY) == name)
        .map(|it| shown(&it.path, TEXT_MAX))
        .collect();
    if name == DEFAULT_POLICY {
        paths.insert(0, t!("deployments and actions").to_owned());
    }
    Ok(match paths.is_empty() {
        true => t!("nothing yet: no project names it").to_owned(),
        false => paths.join(", "),
    })
}

/// A name inside a path.
pub fn in_path(name: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    encoded.replace('+', "%20")
}

fn parsed(record: &PolicyRecord, state: &impl Read) -> Result<(Vec<u8>, Document), PageError> {
    let bytes = state.blob(&record.document)?.unwrap_or_default();
    let document = Document::parse(&bytes).map_err(|_| {
        tracing::error!(policy = %record.name, "a policy's document is damaged");
        PageError::Status(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    Ok((bytes, document))
}

fn line(record: &PolicyRecord, document: &Document, state: &impl Read) -> Result<PolicyLine, PageError> {
    Ok(PolicyLine {
        name: shown(&record.name, TEXT_MAX),
        path: in_path(&record.name),
        version: record.version,
        rules: document.rules().len(),
        since: Moment::of(record.activated_at),
        by: shown(&all_of(&record.by), TEXT_MAX),
        reason: shown(&record.reason, TEXT_MAX),
        governs: governs(&record.name, state)?,
    })
}

/// `GET /dashboard/policies`: admins and auditors.
pub async fn show_policies(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let records: Vec<PolicyRecord> = state.all()?;
    let mut policies = Vec::new();
    for record in &records {
        policies.push(line(record, &parsed(record, &state)?.1, &state)?);
    }
    Ok(html(&PoliciesPage {
        frame: Frame::new(&app, Some(&person), Place::Policies, t!("Policies")),
        admin: person.has(Role::Admin),
        has_default: records.iter().any(|it| it.name == DEFAULT_POLICY),
        policies,
        proposals: proposals::waiting(&state, &People::load(&state)?)?,
    }))
}

/// What `GET /dashboard/policies/{name}` may be told: two versions to compare.
#[derive(Debug, Default, Deserialize)]
pub struct CompareQuery {
    from: Option<u64>,
    to: Option<u64>,
}

/// `GET /dashboard/policies/{name}`: admins and auditors.
pub async fn show_policy(
    app: Data<App>,
    Reader(person): Reader,
    name: Path<String>,
    query: Option<Query<CompareQuery>>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let record: PolicyRecord = state.get(&name)?.ok_or(PageError::Unknown)?;
    Ok(html(&page(&app, &state, &person, &record, query.as_deref())?))
}

fn page(
    app: &App,
    state: &impl Read,
    person: &Person,
    record: &PolicyRecord,
    query: Option<&CompareQuery>,
) -> Result<PolicyPage, PageError> {
    let (bytes, document) = parsed(record, state)?;
    let all = versions(state, &record.name)?;
    let text = |version: u64| -> Result<Vec<u8>, PageError> {
        let found = all
            .iter()
            .find(|it| it.version == version)
            .ok_or(PageError::Unknown)?;
        Ok(state.blob(&found.document)?.unwrap_or_default())
    };
    let compared = match query.and_then(|it| it.from.zip(it.to)) {
        Some((from, to)) => Some((from, to, difference(&text(from)?, &text(to)?))),
        None => None,
    };
    let sentences = document.rules().iter().map(|it| Sentence {
        name: shown(&it.name, TEXT_MAX),
        text: words::rule(it),
        line: it.line,
        kind: match &it.effect {
            RuleEffect::Skip => "skip",
            RuleEffect::Require(require) if require.break_glass => "glass",
            RuleEffect::Require(_) => "require",
        },
    });
    Ok(PolicyPage {
        frame: Frame::new(app, Some(person), Place::Policies, &shown(&record.name, 60)),
        admin: person.has(Role::Admin),
        sha256: record.document.to_string(),
        change_quorum: document.change_quorum(),
        sentences: sentences.collect(),
        default: words::default_rule(&document),
        warnings: lint(&document, &lint_facts(app.now(), state)?)
            .iter()
            .map(Warned::of)
            .collect(),
        lines: String::from_utf8_lossy(&bytes)
            .lines()
            .map(|it| shown(it, 1_000))
            .collect(),
        versions: all
            .iter()
            .rev()
            .map(|it| VersionLine {
                version: it.version,
                at: Moment::of(it.activated_at),
                by: shown(&all_of(&it.by), TEXT_MAX),
                reason: shown(&it.reason, TEXT_MAX),
                current: it.version == record.version,
            })
            .collect(),
        compared,
        line: line(record, &document, state)?,
    })
}
