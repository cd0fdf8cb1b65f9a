//! How long documents are kept, what could be erased by now, and what was.

use crate::audit::Erasable;
use crate::domain::governance::{Governed, Proposal, ProposalState};
use crate::domain::ids::{ProjectId, RequestId};
use crate::domain::people::Role;
use crate::domain::project::Project;
use crate::domain::request::Request;
use crate::domain::retention::{Erasure, ErasureScope, RETENTION_DAYS};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use crate::texts::{filters, t};
use crate::web::api::retention::{count, earlier};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

/// Longest text of others, in characters.
const TEXT_MAX: usize = 300;

#[derive(Template)]
#[template(path = "admin/retention.html")]
struct RetentionPage {
    frame: Frame,
    admin: bool,
    default_days: u32,
    projects: Vec<ProjectLine>,
    asked: Asked,
    /// What the form was filled in wrongly.
    problem: Option<String>,
    preview: Option<Preview>,
    /// Proposals that wait for a second admin: where, and what.
    waiting: Vec<(String, String)>,
    done: Vec<Done>,
}

struct ProjectLine {
    id: String,
    integration: String,
    path: String,
    days: u32,
}

/// What the form holds.
#[derive(Default)]
struct Asked {
    project: String,
    pipelines: String,
    request: String,
    before: String,
}

struct Preview {
    what: String,
    before: Moment,
    found: Erasable,
    size: String,
    first: Vec<(String, String, Option<Moment>)>,
    /// The scope's JSON members for the form.
    of: &'static str,
    member: &'static str,
    value: String,
}

struct Done {
    what: String,
    before: Moment,
    reason: String,
    by: String,
    at: Moment,
    requests: u64,
    documents: u64,
    ended: bool,
}

/// What the address asks for.
#[derive(Default, Deserialize)]
pub struct Ask {
    project: Option<String>,
    pipelines: Option<String>,
    request: Option<String>,
    before: Option<String>,
}

/// Whose documents an erasure means, for people.
///
/// # Errors
/// When the recorded state can't be read.
pub fn scope_words(scope: &ErasureScope, state: &impl Read) -> Result<String, Fault> {
    Ok(match scope {
        ErasureScope::Project { project } => {
            let record: Option<Project> = state.get(project.as_str())?;
            let path = record.map_or_else(|| project.to_string(), |it| shown(&it.path, TEXT_MAX));
            t!("requests of {path}", path = path)
        }
        ErasureScope::Pipelines {
            project_name: Some(name),
        } => t!(
            "requests that pipelines opened for {name}",
            name = shown(name, TEXT_MAX)
        ),
        ErasureScope::Pipelines { project_name: None } => {
            t!("requests that were opened for no project").to_owned()
        }
        ErasureScope::Request { request } => {
            let record: Option<Request> = state.get(request.as_str())?;
            let title = record.map_or_else(String::new, |it| format!(" “{}”", shown(&it.title, TEXT_MAX)));
            t!("request {request}{title}", request = request, title = title)
        }
    })
}

/// `GET /dashboard/settings/retention`: admins; auditors see it without the forms.
pub async fn show_retention(
    app: Data<App>,
    Reader(person): Reader,
    Query(ask): Query<Ask>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let mut projects: Vec<Project> = state.all()?;
    projects.sort_by(|a, b| a.path.cmp(&b.path));
    let mut erasures: Vec<Erasure> = state.all()?;
    erasures.sort_by_key(|it| std::cmp::Reverse(it.seq));
    let (mut preview, mut problem) = (None, None);
    match asked(&ask, &projects, app.now()) {
        Ok(None) => {}
        Err(why) => problem = Some(why.to_owned()),
        Ok(Some((scope, before))) => {
            let what = scope_words(&scope, &state)?;
            let found = count(&app, scope.clone(), before).await?;
            preview = Some(Preview::of(&scope, what, before, found));
        }
    }
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let mut waiting = Vec::new();
    for proposal in state.all::<Proposal>()? {
        if let (Governed::Erasure { scope, .. }, ProposalState::Open) = (&proposal.change, proposal.state) {
            waiting.push((proposal.id.to_string(), scope_words(scope, &state)?));
        }
    }
    let mut done = Vec::new();
    for it in &erasures {
        done.push(Done {
            what: scope_words(&it.scope, &state)?,
            before: Moment::of(it.before),
            reason: shown(&it.reason, TEXT_MAX),
            by: shown(&it.by.join(", "), TEXT_MAX),
            at: Moment::of(it.ordered_at),
            requests: it.requests,
            documents: it.documents,
            ended: it.ended_at.is_some(),
        });
    }
    Ok(html(&RetentionPage {
        frame: Frame::new(&app, Some(&person), Place::Retention, t!("Retention")),
        admin: person.has(Role::Admin),
        default_days: RETENTION_DAYS,
        projects: projects
            .iter()
            .map(|it| ProjectLine {
                id: it.id.to_string(),
                integration: match it.removed {
                    true => String::new(),
                    false => it.integration.to_string(),
                },
                path: shown(&it.path, TEXT_MAX),
                days: it.settings.retention_days,
            })
            .collect(),
        asked: Asked {
            project: text(&ask.project),
            pipelines: text(&ask.pipelines),
            request: text(&ask.request),
            before: text(&ask.before),
        },
        problem,
        preview,
        waiting,
        done,
    }))
}

impl Preview {
    fn of(scope: &ErasureScope, what: String, before: Time, found: Erasable) -> Preview {
        let (of, member, value) = match scope {
            ErasureScope::Project { project } => ("project", "project", project.to_string()),
            ErasureScope::Pipelines { project_name } => (
                "pipelines",
                "project_name",
                project_name.clone().unwrap_or_default(),
            ),
            ErasureScope::Request { request } => ("request", "request", request.to_string()),
        };
        let first = found.first.iter().map(|it| {
            (
                it.id.clone(),
                shown(&it.title, TEXT_MAX),
                it.ended_at.map(Moment::of),
            )
        });
        Preview {
            what,
            before: Moment::of(before),
            size: match found.bytes {
                it @ 0..=999_999 => t!("{value} kB", value = it.div_ceil(1_000)),
                it => t!("{value} MB", value = it.div_ceil(1_000_000)),
            },
            first: first.collect(),
            found,
            of,
            member,
            value,
        }
    }
}

/// What the form asks for; `None`: nothing yet.
fn asked(ask: &Ask, projects: &[Project], now: Time) -> Result<Option<(ErasureScope, Time)>, &'static str> {
    let text = |it: &Option<String>| {
        it.as_deref()
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
    };
    let before = match text(&ask.before) {
        None => None,
        Some(day) => {
            Some(Time::parse(&format!("{day}T00:00:00.000Z")).ok_or(t!("Give a day as 2026-03-01."))?)
        }
    };
    if let Some(id) = text(&ask.request) {
        let request =
            RequestId::parse(&id).ok_or(t!("A request’s id begins with apr_ and stands in its address."))?;
        return Ok(Some((ErasureScope::Request { request }, now)));
    }
    if let Some(id) = text(&ask.project) {
        let project = ProjectId::parse(&id).ok_or(t!("There is no such project."))?;
        let record = projects.iter().find(|it| it.id == project);
        let days = record
            .ok_or(t!("There is no such project."))?
            .settings
            .retention_days;
        let latest = earlier(now, days);
        return Ok(Some((
            ErasureScope::Project { project },
            before.unwrap_or(latest),
        )));
    }
    if ask.pipelines.is_some() && ask.project.is_some() {
        let project_name = text(&ask.pipelines);
        let latest = earlier(now, RETENTION_DAYS);
        let scope = ErasureScope::Pipelines { project_name };
        return Ok(Some((scope, before.unwrap_or(latest))));
    }
    Ok(None)
}
