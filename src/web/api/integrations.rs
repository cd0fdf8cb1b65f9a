//! Connected forges and gated projects, for admins.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::gate::{Gate, Strength};
use crate::domain::governance::Governed;
use crate::domain::ids::{IntegrationId, ProjectId};
use crate::domain::policy::{Approver, BindBase, Method, Unattributed};
use crate::domain::project::{Enforcement, ForgeKind, Integration, Project, ProjectSettings};
use crate::domain::state::Read;
use crate::forge::{Connection, Forge, HookSecret, Inspected, hook_secret_name, hook_url, token_name};
use crate::identity::random_id;
use crate::outbound;
use crate::outbound::Secret;
use crate::store::Snapshot;
use crate::web::api::bounded;
use crate::web::api::governance::{Change, govern};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::Caller;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntegrationBody {
    kind: String,
    name: String,
    base_url: String,
    ca_pem: Option<String>,
    token: String,
}

fn shown(app: &App, it: &Integration) -> Value {
    json!({
        "id": it.id, "kind": it.kind, "name": it.name, "base_url": it.base_url,
        "ca_pem": it.ca_pem.is_some(),
        "account": it.account.as_ref().map(|a| json!({ "id": a.id, "username": a.username, "name": a.name })),
        "webhook_url": webhook_url(app, it),
        "created_at": it.created_at,
    })
}

fn webhook_url(app: &App, it: &Integration) -> String {
    format!("{}/hooks/{}/{}", app.public_url, it.kind.name(), it.id)
}

/// `GET /api/v1/integrations`: admins and auditors.
pub async fn list_integrations(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let all: Vec<Integration> = app.snapshot()?.all()?;
    let items: Vec<_> = all
        .iter()
        .filter(|it| !it.removed)
        .map(|it| shown(&app, it))
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/integrations/{id}`: admins and auditors.
pub async fn get_integration(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    Ok(HttpResponse::Ok().json(shown(&app, &find(&app, &id)?)))
}

/// `POST /api/v1/integrations`: admins. The forge is called once with the token before anything is stored.
pub async fn add_integration(
    app: Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let (body, _) = read_json::<IntegrationBody>(&request, payload).await?;
    let kind = match body.kind.as_str() {
        "gitlab" => ForgeKind::Gitlab,
        "github" | "bitbucket" | "bitbucket_dc" => {
            return Err(Problem::invalid("kind", "this version connects to gitlab only"));
        }
        _ => return Err(Problem::bad_field("kind", "\"gitlab\"")),
    };
    bounded("name", &body.name, 200)?;
    bounded("base_url", &body.base_url, 500)?;
    bounded("token", &body.token, 500)?;
    let base_url = body.base_url.trim_end_matches('/').to_owned();
    let connection = Connection {
        kind,
        base_url: base_url.clone(),
        ca_pem: body.ca_pem.clone(),
    };
    let forge = app
        .forges
        .try_out(&connection, Secret::new(body.token.clone()))
        .map_err(|e| Problem::invalid("base_url", e.to_string()))?;
    let identity = forge
        .identify()
        .await
        .map_err(|e| Problem::forge_answer(forge.explain(&e)))?;
    let integration = IntegrationId::from_random(random_id());
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(Problem::internal)?;
    let webhook_secret = HookSecret::text_from_random(&bytes);
    let seal = |name: String, secret: &str| {
        let sealed = (app.seal)(&name, secret.as_bytes());
        (name, sealed)
    };
    let secrets = vec![
        seal(token_name(&integration), &body.token),
        seal(hook_secret_name(&integration), webhook_secret.expose()),
    ];
    let command = Command::AddIntegration {
        integration: integration.clone(),
        kind,
        name: body.name,
        base_url,
        ca_pem: body.ca_pem,
        account: Some(identity.account.clone()),
    };
    app.submit_with_secrets(caller.actor(), command, secrets).await?;
    let mut made = shown(&app, &find(&app, integration.as_str())?);
    made["webhook_secret"] = json!(webhook_secret.expose());
    made["version"] = json!(identity.version);
    made["token_scopes"] = json!(identity.scopes);
    made["token_expires_at"] = json!(identity.token_expires_at);
    Ok(HttpResponse::Created().json(made))
}

/// `DELETE /api/v1/integrations/{id}`: admins. Its projects are no longer gated.
pub async fn remove_integration(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let integration = find(&app, &id)?.id;
    app.submit(caller.actor(), Command::RemoveIntegration { integration })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(crate) fn find(app: &App, id: &str) -> Result<Integration, Problem> {
    let id = IntegrationId::parse(id).ok_or_else(Problem::not_found)?;
    let found: Option<Integration> = app.snapshot()?.get(id.as_str())?;
    found.filter(|it| !it.removed).ok_or_else(Problem::not_found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectBody {
    project_id: Option<Value>,
    branch_patterns: Vec<String>,
    required_approval_count: Option<u32>,
    quorum: Option<u32>,
    auto_merge: Option<bool>,
    policy: Option<String>,
    #[serde(default)]
    approvers: Vec<String>,
    methods: Option<Vec<String>>,
    enforcement: Option<String>,
    #[serde(default)]
    bind_base: BindBase,
    #[serde(default)]
    unattributed: Unattributed,
    #[serde(default)]
    control_files: Vec<String>,
    #[serde(default)]
    environments: Vec<String>,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

impl ProjectBody {
    fn settings(self, forge_project_id: String) -> Result<ProjectSettings, Problem> {
        let quorum = match (self.required_approval_count, self.quorum) {
            (Some(a), Some(b)) if a != b => {
                return Err(Problem::bad_field(
                    "quorum",
                    "the same as required_approval_count, or left out",
                ));
            }
            (a, b) => a.or(b).unwrap_or(1),
        };
        let (enforcement, auto_merge) = enforced(self.enforcement.as_deref(), self.auto_merge)?;
        let approvers = self
            .approvers
            .iter()
            .map(|it| {
                // A bare person id is the short form of `person:…`.
                let text = if it.starts_with("per_") {
                    format!("person:{it}")
                } else {
                    it.clone()
                };
                Approver::parse(&text)
                    .ok_or_else(|| Problem::bad_field("approvers", "group:NAME or person:ID-OR-EMAIL"))
            })
            .collect::<Result<_, _>>()?;
        let methods = self
            .methods
            .map(|names| {
                names
                    .iter()
                    .map(|it| {
                        Method::parse(it)
                            .ok_or_else(|| Problem::bad_field("methods", "any of passkey, biometric, totp"))
                    })
                    .collect::<Result<Vec<_>, _>>()
            })
            .transpose()?;
        Ok(ProjectSettings {
            forge_project_id,
            branch_patterns: self.branch_patterns,
            quorum,
            auto_merge,
            enforcement,
            policy: self.policy,
            approvers,
            methods,
            bind_base: self.bind_base,
            unattributed: self.unattributed,
            control_files: self.control_files,
            environments: self.environments,
        })
    }
}

/// The mode, and whether our account merges. Whoever leaves the mode out and wants us to merge wants the broker.
fn enforced(mode: Option<&str>, auto_merge: Option<bool>) -> Result<(Enforcement, bool), Problem> {
    let mode = match mode {
        None if auto_merge == Some(true) => Enforcement::MergeBroker,
        None => Enforcement::CommitStatus,
        Some(text) => Enforcement::parse(text).ok_or_else(|| {
            let known = Enforcement::ALL.map(Enforcement::name).join(", ");
            Problem::bad_field("enforcement", format!("one of {known}"))
        })?,
    };
    match (mode, auto_merge) {
        (Enforcement::MergeBroker, Some(false)) => Err(Problem::invalid(
            "auto_merge",
            "with \"merge_broker\" nobody else merges, so this server must: leave it out, or true",
        )),
        (Enforcement::MergeBroker, _) => Ok((mode, true)),
        (_, merge) => Ok((mode, merge.unwrap_or(false))),
    }
}

fn forge_project_id(value: Option<&Value>) -> Result<String, Problem> {
    let reason = "the project's number on GitLab (Settings → General)";
    match value {
        Some(Value::Number(number)) => number
            .as_u64()
            .filter(|it| *it > 0)
            .map(|it| it.to_string())
            .ok_or_else(|| Problem::bad_field("project_id", reason)),
        Some(Value::String(text))
            if !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Ok(text.clone())
        }
        _ => Err(Problem::bad_field("project_id", reason)),
    }
}

/// How strong the gate of a project was found to be. What nobody has looked at counts as nothing.
pub(super) fn gate(it: &Project, state: &Snapshot) -> Result<Value, Problem> {
    let gate: Option<Gate> = state.get(it.id.as_str())?;
    Ok(json!({
        "strength": gate.as_ref().map_or(Strength::None, |it| it.strength),
        "reasons": Gate::reasons(gate.as_ref()),
        "findings": gate.as_ref().map_or(&[][..], |it| &it.findings),
        "checked_at": gate.as_ref().map(|it| it.checked_at),
    }))
}

fn project_shown(it: &Project, state: &Snapshot) -> Result<Value, Problem> {
    Ok(json!({
        "id": it.id,
        "integration": it.integration,
        "project_id": it.settings.forge_project_id.parse::<u64>().map_or_else(|_| json!(it.settings.forge_project_id), |n| json!(n)),
        "path": it.path,
        "web_url": it.web_url,
        "branch_patterns": it.settings.branch_patterns,
        "required_approval_count": it.settings.quorum,
        "auto_merge": it.settings.auto_merge,
        "policy": it.settings.policy,
        "approvers": it.settings.approvers,
        "methods": it.settings.methods,
        "bind_base": it.settings.bind_base,
        "unattributed": it.settings.unattributed,
        "control_files": it.settings.control_files,
        "environments": it.settings.environments,
        "enforcement": it.settings.enforcement,
        "gate": gate(it, state)?,
    }))
}

/// `GET /api/v1/integrations/{id}/projects`: admins and auditors.
pub async fn list_projects(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let integration = find(&app, &id)?;
    let snapshot = app.snapshot()?;
    let items: Vec<Value> = snapshot
        .all::<Project>()?
        .iter()
        .filter(|it| !it.removed && it.integration == integration.id)
        .map(|it| project_shown(it, &snapshot))
        .collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/integrations/{id}/projects/{pid}`: admins and auditors.
pub async fn get_project(
    app: Data<App>,
    caller: Caller,
    ids: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let found = find_project(&app, &ids.0, &ids.1)?;
    Ok(HttpResponse::Ok().json(project_shown(&found, &app.snapshot()?)?))
}

/// `POST /api/v1/integrations/{id}/projects`: admins. The forge is asked whether there is such a project.
pub async fn add_project(
    app: Data<App>,
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let integration = find(&app, &id)?;
    let (body, _) = read_json::<ProjectBody>(&request, payload).await?;
    let forge_project_id = forge_project_id(body.project_id.as_ref())?;
    let settings = body.settings(forge_project_id.clone())?;
    let forge = connected(&app, &integration)?;
    let told = forge.project(&forge_project_id).await.map_err(|e| match e {
        outbound::Error::Status { code: 404, .. } => Problem::invalid(
            "project_id",
            "GitLab shows no such project to the token of this integration",
        ),
        e => Problem::forge_answer(forge.explain(&e)),
    })?;
    let project = ProjectId::from_random(random_id());
    let command = Command::AddProject {
        project: project.clone(),
        integration: integration.id.clone(),
        path: told.path,
        web_url: told.web_url,
        settings,
    };
    app.submit(caller.actor(), command).await?;
    let made = find_project(&app, integration.id.as_str(), project.as_str())?;
    Ok(HttpResponse::Created().json(project_shown(&made, &app.snapshot()?)?))
}

/// `POST /api/v1/integrations/{id}/projects/{pid}/check`: admins. Looks at once at what the forge's settings enforce.
pub async fn check_gate(
    app: Data<App>,
    caller: Caller,
    ids: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let (integration, project) = (find(&app, &ids.0)?, find_project(&app, &ids.0, &ids.1)?);
    look_now(&app, &integration, &project).await?;
    Ok(HttpResponse::Ok().json(project_shown(&project, &app.snapshot()?)?))
}

/// Looks at what the forge's settings enforce, and records it.
pub(super) async fn look_now(app: &App, integration: &Integration, project: &Project) -> Result<(), Problem> {
    let forge = connected(app, integration)?;
    let (hook_url, now) = (hook_url(app.public_url(), integration), app.now().to_the_second());
    let found = forge
        .inspect(&Inspected::of(&project.settings, &hook_url, &now))
        .await;
    let findings = found.map_err(|e| Problem::forge_answer(forge.explain(&e)))?;
    let command = Command::RecordGate {
        project: project.id.clone(),
        findings,
    };
    // What was found is a fact, not the caller's doing.
    app.submit(Actor::System, command).await?;
    Ok(())
}

/// `PUT /api/v1/integrations/{id}/projects/{pid}`: admins. Counts for requests opened from now on.
pub async fn change_project(
    app: Data<App>,
    caller: Caller,
    ids: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let before = find_project(&app, &ids.0, &ids.1)?;
    let (body, _) = read_json::<ProjectBody>(&request, payload).await?;
    let forge_project_id = match &body.project_id {
        Some(value) => forge_project_id(Some(value))?,
        None => before.settings.forge_project_id.clone(),
    };
    let reason = body.reason.clone();
    let settings = body.settings(forge_project_id)?;
    let project = before.id;
    let change = Governed::Project { project, settings };
    if let Some(waits) = govern(&app, caller.actor(), Change::of(change, reason)).await? {
        return Ok(waits.answer());
    }
    let found = find_project(&app, &ids.0, &ids.1)?;
    Ok(HttpResponse::Ok().json(project_shown(&found, &app.snapshot()?)?))
}

/// `DELETE /api/v1/integrations/{id}/projects/{pid}`: admins.
pub async fn remove_project(
    app: Data<App>,
    caller: Caller,
    ids: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let project = find_project(&app, &ids.0, &ids.1)?.id;
    let change = Governed::ProjectRemoval { project };
    if let Some(waits) = govern(&app, caller.actor(), Change::of(change, String::new())).await? {
        return Ok(waits.answer());
    }
    Ok(HttpResponse::NoContent().finish())
}

pub(crate) fn find_project(app: &App, integration: &str, id: &str) -> Result<Project, Problem> {
    let integration = find(app, integration)?;
    let id = ProjectId::parse(id).ok_or_else(Problem::not_found)?;
    let found: Option<Project> = app.snapshot()?.get(id.as_str())?;
    found
        .filter(|it| !it.removed && it.integration == integration.id)
        .ok_or_else(Problem::not_found)
}

pub(crate) fn connected(app: &App, integration: &Integration) -> Result<Forge, Problem> {
    let sealed = app.snapshot()?.secret(&token_name(&integration.id))?;
    let sealed = sealed.ok_or_else(|| Problem::internal("an integration without a token"))?;
    app.forges.of(integration, &sealed).map_err(Problem::internal)
}
