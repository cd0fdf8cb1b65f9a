//! The connected forges and the repositories gated in them.

use crate::domain::people::Role;
use crate::domain::project::{ForgeKind, Integration, PolicyRecord, Project, Stranger, forge_project_row};
use crate::domain::state::{Read, Table, decode};
use crate::forge::hook_url;
use crate::texts::{filters, said, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::gate::GateView;
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use crate::web::words;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest text of a setting on the page, in characters.
const TEXT_MAX: usize = 300;
/// Projects that are not gated, shown for each forge.
const STRANGERS_MAX: usize = 10;

#[derive(Template)]
#[template(path = "admin/integrations.html")]
struct IntegrationsPage {
    frame: Frame,
    forges: Vec<ForgeView>,
}

#[derive(Template)]
#[template(path = "admin/gitlab.html")]
struct GitlabPage {
    frame: Frame,
    admin: bool,
    forges: Vec<ForgeView>,
    public_url: String,
    policies: Vec<String>,
}

#[derive(Template)]
#[template(path = "admin/bitbucket.html")]
struct BitbucketPage {
    frame: Frame,
    admin: bool,
    forges: Vec<ForgeView>,
    policies: Vec<String>,
}

#[derive(Template)]
#[template(path = "admin/github.html")]
struct GithubPage {
    frame: Frame,
    admin: bool,
    forges: Vec<ForgeView>,
    policies: Vec<String>,
}

/// One connected forge.
struct ForgeView {
    id: String,
    /// Its kind's word.
    word: &'static str,
    /// The last part of its page's address.
    page: &'static str,
    kind: &'static str,
    /// What the forge calls a project: one, and several.
    noun: &'static str,
    nouns: &'static str,
    /// There are several ways of holding a change.
    has_modes: bool,
    /// Its gates can be set up from here.
    sets_up: bool,
    name: String,
    base_url: String,
    account: Option<String>,
    private_ca: bool,
    added: Moment,
    webhook_url: String,
    projects: Vec<ProjectView>,
    /// Projects that are not gated and whose webhooks lead here, the newest first.
    strangers: Vec<StrangerView>,
    /// How many more of them there are than are shown.
    more_strangers: usize,
}

/// A project that is not gated and whose webhooks lead here.
struct StrangerView {
    forge_id: String,
    /// When it was recorded last: once a day while webhooks come.
    at: Moment,
}

/// One gated repository.
struct ProjectView {
    id: String,
    path: String,
    url: Option<String>,
    forge_id: String,
    branches: String,
    environments: String,
    quorum: u32,
    auto_merge: bool,
    /// The mode, in words.
    enforcement: String,
    policy: Option<String>,
    methods: Option<String>,
    approvers: String,
    gate: GateView,
}

/// `GET /dashboard/integrations`: administrators and auditors.
pub async fn show_integrations(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    Ok(html(&IntegrationsPage {
        frame: Frame::new(&app, Some(&person), Place::Integrations, t!("Integrations")),
        forges: forges(&app, &state)?,
    }))
}

/// `GET /dashboard/integrations/gitlab`: administrators; auditors see it without the forms.
pub async fn show_gitlab(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    Ok(html(&GitlabPage {
        frame: Frame::new(&app, Some(&person), Place::Integrations, "GitLab"),
        admin: person.has(Role::Admin),
        forges: on_page(&app, &state, "gitlab")?,
        public_url: app.public_url().to_owned(),
        policies: policy_names(&state)?,
    }))
}

/// `GET /dashboard/integrations/github`: administrators; auditors see it without the forms.
pub async fn show_github(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    Ok(html(&GithubPage {
        frame: Frame::new(&app, Some(&person), Place::Integrations, "GitHub"),
        admin: person.has(Role::Admin),
        forges: on_page(&app, &state, "github")?,
        policies: policy_names(&state)?,
    }))
}

/// `GET /dashboard/integrations/bitbucket`, for Cloud and Data Center: administrators; auditors see it without the forms.
pub async fn show_bitbucket(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    Ok(html(&BitbucketPage {
        frame: Frame::new(&app, Some(&person), Place::Integrations, "Bitbucket"),
        admin: person.has(Role::Admin),
        forges: on_page(&app, &state, "bitbucket")?,
        policies: policy_names(&state)?,
    }))
}

/// The last part of the address of the page that shows a kind of forge.
fn page_of(kind: ForgeKind) -> &'static str {
    match kind {
        ForgeKind::Gitlab => "gitlab",
        ForgeKind::Github => "github",
        ForgeKind::BitbucketCloud | ForgeKind::BitbucketDataCenter => "bitbucket",
    }
}

fn on_page(app: &App, state: &impl Read, page: &str) -> Result<Vec<ForgeView>, PageError> {
    let mut all = forges(app, state)?;
    all.retain(|it| it.page == page);
    Ok(all)
}

fn policy_names(state: &impl Read) -> Result<Vec<String>, PageError> {
    let policies: Vec<PolicyRecord> = state.all()?;
    Ok(policies.into_iter().map(|it| shown(&it.name, TEXT_MAX)).collect())
}

fn forges(app: &App, state: &impl Read) -> Result<Vec<ForgeView>, PageError> {
    let projects: Vec<Project> = state
        .all::<Project>()?
        .into_iter()
        .filter(|it| !it.removed)
        .collect();
    let mut forges: Vec<Integration> = state
        .all::<Integration>()?
        .into_iter()
        .filter(|it| !it.removed)
        .collect();
    forges.sort_by_key(|it| it.created_at);
    forges
        .iter()
        .map(|it| forge_view(app, it, &projects, state))
        .collect()
}

fn forge_view(
    app: &App,
    forge: &Integration,
    projects: &[Project],
    state: &impl Read,
) -> Result<ForgeView, PageError> {
    let mut own: Vec<&Project> = projects.iter().filter(|it| it.integration == forge.id).collect();
    own.sort_by(|left, right| left.path.cmp(&right.path));
    let rows = state.with_prefix(Table::Strangers, forge_project_row(&forge.id, "").as_bytes())?;
    let mut strangers: Vec<Stranger> = rows
        .iter()
        .map(|(_, row)| decode(row))
        .collect::<Result<_, _>>()?;
    strangers.sort_by_key(|it| std::cmp::Reverse(it.at));
    let is_gitlab = forge.kind == ForgeKind::Gitlab;
    Ok(ForgeView {
        id: forge.id.to_string(),
        word: forge.kind.name(),
        page: page_of(forge.kind),
        kind: forge.kind.title(),
        noun: if is_gitlab {
            t!("Project")
        } else {
            t!("Repository")
        },
        nouns: if is_gitlab {
            t!("Projects")
        } else {
            t!("Repositories")
        },
        has_modes: forge.kind.enforcements().len() > 1,
        sets_up: is_gitlab,
        name: shown(&forge.name, TEXT_MAX),
        base_url: shown(&forge.base_url, TEXT_MAX),
        account: forge
            .account
            .as_ref()
            .map(|it| format!("@{}", shown(&it.username, TEXT_MAX))),
        private_ca: forge.ca_pem.is_some(),
        added: Moment::of(forge.created_at),
        webhook_url: hook_url(app.public_url(), forge),
        projects: own
            .into_iter()
            .map(|it| project_view(it, state))
            .collect::<Result<_, _>>()?,
        more_strangers: strangers.len().saturating_sub(STRANGERS_MAX),
        strangers: strangers
            .iter()
            .take(STRANGERS_MAX)
            .map(|it| StrangerView {
                forge_id: shown(&it.forge_project_id, TEXT_MAX),
                at: Moment::of(it.at),
            })
            .collect(),
    })
}

fn project_view(project: &Project, state: &impl Read) -> Result<ProjectView, PageError> {
    let settings = &project.settings;
    let methods = settings.methods.as_ref();
    Ok(ProjectView {
        id: project.id.to_string(),
        path: shown(&project.path, TEXT_MAX),
        url: Some(&project.web_url)
            .filter(|it| it.starts_with("https://") || it.starts_with("http://"))
            .cloned(),
        forge_id: shown(&settings.forge_project_id, TEXT_MAX),
        branches: listed(&settings.branch_patterns),
        environments: listed(&settings.environments),
        quorum: settings.quorum,
        auto_merge: settings.auto_merge,
        enforcement: said(&settings.enforcement.name().replace('_', " ")).into_owned(),
        policy: settings.policy.as_deref().map(|it| shown(it, TEXT_MAX)),
        methods: methods.map(|it| words::methods(it)),
        approvers: listed(&settings.approvers),
        gate: GateView::of(project, state)?,
    })
}

fn listed(items: &[impl ToString]) -> String {
    items
        .iter()
        .map(|it| shown(&it.to_string(), TEXT_MAX))
        .collect::<Vec<_>>()
        .join(", ")
}
