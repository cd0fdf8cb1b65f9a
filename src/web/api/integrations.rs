//! Connected forges and gated projects, for admins.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::facts::Account;
use crate::domain::gate::{Gate, Strength};
use crate::domain::governance::Governed;
use crate::domain::ids::{IntegrationId, ProjectId};
use crate::domain::policy::{Approver, BindBase, Method, Unattributed};
use crate::domain::project::{Enforcement, ForgeKind, Integration, Project, ProjectSettings};
use crate::domain::retention::RETENTION_DAYS;
use crate::domain::state::Read;
use crate::forge::bitbucket_cloud;
use crate::forge::github::Credentials;
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
use crate::web::reason::{Reason, Stated};
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
    base_url: Option<String>,
    ca_pem: Option<String>,
    /// GitLab and both Bitbuckets.
    token: Option<String>,
    /// Bitbucket Cloud: whose API token it is; left out for an access token.
    email: Option<String>,
    /// GitHub: the App's number, as number or text.
    app_id: Option<Value>,
    private_key: Option<String>,
    /// GitHub and both Bitbuckets: the one that stands in the forge's settings; without it one is made.
    webhook_secret: Option<String>,
    /// Bitbucket Cloud: an OAuth consumer's key. GitHub: taken as other clients send it; the number is enough.
    client_id: Option<String>,
    /// Bitbucket Cloud: an OAuth consumer's secret.
    client_secret: Option<String>,
    installation_id: Option<Value>,
}

impl IntegrationBody {
    /// Where the forge is.
    fn address(&self, kind: ForgeKind) -> Result<String, Problem> {
        let text = match (&self.base_url, kind) {
            (Some(text), _) => text.as_str(),
            (None, ForgeKind::Github) => GITHUB,
            (None, ForgeKind::BitbucketCloud) => BITBUCKET_CLOUD,
            (None, ForgeKind::Gitlab | ForgeKind::BitbucketDataCenter) => {
                let which = format!("{}'s address", kind.title());
                return Err(Problem::bad_field("base_url", which));
            }
        };
        bounded("base_url", text, 500)?;
        Ok(text.trim_end_matches('/').to_owned())
    }

    /// What the forge is called with, as it is sealed.
    fn credentials(&self, kind: ForgeKind) -> Result<Secret, Problem> {
        let taken: &[&str] = match kind {
            ForgeKind::Gitlab | ForgeKind::BitbucketDataCenter => &["token"],
            ForgeKind::Github => &["app_id", "private_key", "client_id", "installation_id"],
            ForgeKind::BitbucketCloud => &["token", "email", "client_id", "client_secret"],
        };
        for (field, given) in [
            ("token", self.token.is_some()),
            ("email", self.email.is_some()),
            ("app_id", self.app_id.is_some()),
            ("private_key", self.private_key.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("installation_id", self.installation_id.is_some()),
        ] {
            if given && !taken.contains(&field) {
                return Err(Problem::bad_field(field, "left out for this kind of forge"));
            }
        }
        match kind {
            ForgeKind::Gitlab | ForgeKind::BitbucketDataCenter => Ok(Secret::new(self.token()?)),
            ForgeKind::Github => self.app(),
            ForgeKind::BitbucketCloud => self.bitbucket_cloud(),
        }
    }

    fn token(&self) -> Result<&str, Problem> {
        let token = self
            .token
            .as_deref()
            .ok_or_else(|| Problem::bad_field("token", "an access token"))?;
        bounded("token", token, 2_000)?;
        Ok(token)
    }

    /// A GitHub App's.
    fn app(&self) -> Result<Secret, Problem> {
        let app_id = number(self.app_id.as_ref())
            .ok_or_else(|| Problem::bad_field("app_id", "the App's number, from its settings"))?;
        let private_key = self
            .private_key
            .as_deref()
            .ok_or_else(|| Problem::bad_field("private_key", "the App's private key, the whole PEM file"))?;
        bounded("private_key", private_key, 10_000)?;
        bounded("client_id", self.client_id.as_deref().unwrap_or("-"), 200)?;
        let installation_id = match &self.installation_id {
            None => None,
            Some(it) => Some(number(Some(it)).ok_or_else(|| {
                Problem::bad_field("installation_id", "an installation's number, or left out")
            })?),
        };
        let credentials = Credentials {
            app_id,
            private_key: private_key.to_owned().into(),
            installation_id,
        };
        credentials
            .check()
            .map_err(|e| Problem::invalid("private_key", e.to_string()))?;
        Ok(credentials.to_secret())
    }

    /// An access token, somebody's API token, or an OAuth consumer.
    fn bitbucket_cloud(&self) -> Result<Secret, Problem> {
        let credentials = match (&self.email, &self.client_id, &self.client_secret) {
            (None, None, None) => bitbucket_cloud::Credentials::Token {
                token: self.token()?.to_owned().into(),
            },
            (Some(email), None, None) => {
                bounded("email", email, 320)?;
                bitbucket_cloud::Credentials::User {
                    email: email.clone(),
                    token: self.token()?.to_owned().into(),
                }
            }
            (None, Some(id), Some(secret)) => {
                if self.token.is_some() {
                    return Err(Problem::bad_field("token", "left out with an OAuth consumer"));
                }
                bounded("client_id", id, 200)?;
                bounded("client_secret", secret, 500)?;
                bitbucket_cloud::Credentials::Consumer {
                    client_id: id.clone(),
                    client_secret: secret.clone().into(),
                }
            }
            (Some(_), ..) => {
                return Err(Problem::bad_field("email", "left out with an OAuth consumer"));
            }
            (None, None, _) => return Err(Problem::bad_field("client_id", "the OAuth consumer's key")),
            (None, _, None) => {
                return Err(Problem::bad_field("client_secret", "the OAuth consumer's secret"));
            }
        };
        Ok(credentials.to_secret())
    }

    /// The secret of its webhooks: given where the forge has one already, else made.
    fn hook_secret(&self, kind: ForgeKind) -> Result<Secret, Problem> {
        match (&self.webhook_secret, kind) {
            (Some(_), ForgeKind::Gitlab) => {
                Err(Problem::bad_field("webhook_secret", "left out: it is made here"))
            }
            (Some(text), _) => {
                bounded("webhook_secret", text, 500)?;
                let secret = Secret::new(text.clone());
                match HookSecret::read(secret.clone()) {
                    Some(_) => Ok(secret),
                    None => Err(Problem::bad_field("webhook_secret", "at least 16 characters")),
                }
            }
            (None, _) => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).map_err(Problem::internal)?;
                Ok(HookSecret::text_from_random(&bytes))
            }
        }
    }
}

/// Where GitHub is, unless it is somebody's own.
pub(super) const GITHUB: &str = "https://github.com";
/// Bitbucket Cloud's API.
const BITBUCKET_CLOUD: &str = "https://api.bitbucket.org";

/// A positive number, or text that is one.
fn number(value: Option<&Value>) -> Option<u64> {
    let found = match value? {
        Value::Number(it) => it.as_u64(),
        Value::String(it) if it.len() <= 19 && it.bytes().all(|b| b.is_ascii_digit()) => it.parse().ok(),
        _ => None,
    };
    found.filter(|it| *it > 0)
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
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<IntegrationBody>(&request, payload).await?;
    let kind = kind(&body.kind)?;
    bounded("name", &body.name, 200)?;
    let base_url = body.address(kind)?;
    let (credentials, webhook_secret) = (body.credentials(kind)?, body.hook_secret(kind)?);
    let connection = Connection {
        kind,
        base_url: base_url.clone(),
        ca_pem: body.ca_pem.clone(),
    };
    let forge = app
        .forges
        .try_out(&connection, credentials.clone())
        .map_err(|e| Problem::invalid("base_url", e.to_string()))?;
    let identity = forge
        .identify()
        .await
        .map_err(|e| Problem::forge_answer(forge.explain(&e)))?;
    let integration = NewIntegration {
        id: IntegrationId::from_random(random_id()),
        connection,
        name: body.name,
        account: Some(identity.account.clone()).filter(|it| !it.id.is_empty()),
        credentials,
        webhook_secret: webhook_secret.clone(),
    };
    let mut made = integration.add(&app, &caller, reason).await?;
    made["webhook_secret"] = json!(webhook_secret.expose());
    made["version"] = json!(identity.version);
    made["token_scopes"] = json!(identity.scopes);
    made["token_expires_at"] = json!(identity.token_expires_at);
    Ok(HttpResponse::Created().json(made))
}

fn kind(word: &str) -> Result<ForgeKind, Problem> {
    let known = || ForgeKind::ALL.map(|it| format!("\"{}\"", it.name())).join(" or ");
    ForgeKind::parse(word).ok_or_else(|| Problem::bad_field("kind", known()))
}

/// A forge that is to be connected.
pub(super) struct NewIntegration {
    pub(super) id: IntegrationId,
    pub(super) connection: Connection,
    pub(super) name: String,
    /// Who we are there, where the forge tells already.
    pub(super) account: Option<Account>,
    pub(super) credentials: Secret,
    pub(super) webhook_secret: Secret,
}

impl NewIntegration {
    /// Records it, its secrets sealed; answers how it is shown.
    pub(super) async fn add(self, app: &App, caller: &Caller, reason: Reason) -> Result<Value, Problem> {
        let seal = |name: String, secret: &Secret| {
            let sealed = (app.seal)(&name, secret.expose().as_bytes());
            (name, sealed)
        };
        let secrets = vec![
            seal(token_name(&self.id), &self.credentials),
            seal(hook_secret_name(&self.id), &self.webhook_secret),
        ];
        let command = Command::AddIntegration {
            integration: self.id.clone(),
            kind: self.connection.kind,
            name: self.name,
            base_url: self.connection.base_url,
            ca_pem: self.connection.ca_pem,
            account: self.account,
        };
        app.submit_with_secrets(caller.actor(), reason.of(command), secrets)
            .await?;
        Ok(shown(app, &find(app, self.id.as_str())?))
    }
}

/// `DELETE /api/v1/integrations/{id}`: admins. Its projects are no longer gated.
pub async fn remove_integration(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let integration = find(&app, &id)?.id;
    app.submit(
        caller.actor(),
        reason.of(Command::RemoveIntegration { integration }),
    )
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
    /// GitHub, Bitbucket Cloud and Data Center: where the repository is, in place of its number.
    owner: Option<String>,
    workspace: Option<String>,
    project_key: Option<String>,
    repository: Option<String>,
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
    retention_days: Option<u32>,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

impl ProjectBody {
    /// What the forge is asked for: the number, or where the repository is and its name.
    fn asked(&self, kind: ForgeKind) -> Result<Option<String>, Problem> {
        for (field, given) in [
            ("owner", &self.owner),
            ("workspace", &self.workspace),
            ("project_key", &self.project_key),
        ] {
            if given.is_some() && place_field(kind) != Some(field) {
                return Err(Problem::bad_field(field, "left out for this kind of forge"));
            }
        }
        let place = self
            .owner
            .as_ref()
            .or(self.workspace.as_ref())
            .or(self.project_key.as_ref());
        match (&self.project_id, place, &self.repository, place_field(kind)) {
            (Some(value), None, None, _) => forge_project_id(value, kind).map(Some),
            (None, None, None, _) => Ok(None),
            (None, Some(place), Some(repository), Some(field)) => {
                for (field, text) in [(field, place), ("repository", repository)] {
                    bounded(field, text, 200)?;
                    if text.contains('/') {
                        return Err(Problem::bad_field(field, "a name without a slash"));
                    }
                }
                Ok(Some(format!("{place}/{repository}")))
            }
            (_, _, _, Some(field)) => Err(Problem::bad_field(
                "repository",
                format!("{field} and repository, or project_id alone"),
            )),
            (_, _, _, None) => Err(Problem::bad_field(
                "repository",
                "left out: GitLab has project_id",
            )),
        }
    }

    /// `days`: how long documents are kept where the body does not say.
    fn settings(
        self,
        kind: ForgeKind,
        forge_project_id: String,
        days: u32,
    ) -> Result<ProjectSettings, Problem> {
        let quorum = match (self.required_approval_count, self.quorum) {
            (Some(a), Some(b)) if a != b => {
                return Err(Problem::bad_field(
                    "quorum",
                    "the same as required_approval_count, or left out",
                ));
            }
            (a, b) => a.or(b).unwrap_or(1),
        };
        let (enforcement, auto_merge) = enforced(kind, self.enforcement.as_deref(), self.auto_merge)?;
        if !self.environments.is_empty() && !kind.holds_deployments() {
            return Err(Problem::bad_field(
                "environments",
                "left out: Bitbucket holds no deployments; let the pipeline ask with signedapproval gate",
            ));
        }
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
            // A full ref means the branch; forges name it short.
            branch_patterns: self
                .branch_patterns
                .into_iter()
                .map(|it| it.strip_prefix("refs/heads/").map_or(it.clone(), str::to_owned))
                .collect(),
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
            retention_days: self.retention_days.unwrap_or(days),
        })
    }
}

/// The mode, and whether our account merges. Whoever leaves the mode out and wants us to merge wants the broker.
fn enforced(
    kind: ForgeKind,
    mode: Option<&str>,
    auto_merge: Option<bool>,
) -> Result<(Enforcement, bool), Problem> {
    let possible = kind.enforcements();
    let mode = match mode {
        None if auto_merge == Some(true) && possible.contains(&Enforcement::MergeBroker) => {
            Enforcement::MergeBroker
        }
        None => Enforcement::CommitStatus,
        Some(text) => Enforcement::parse(text)
            .filter(|it| possible.contains(it))
            .ok_or_else(|| {
                let known: Vec<&str> = possible.iter().map(|it| it.name()).collect();
                Problem::bad_field("enforcement", format!("one of {}", known.join(", ")))
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

/// The word for where a repository is, beside its name; `None` where its number alone names it.
fn place_field(kind: ForgeKind) -> Option<&'static str> {
    match kind {
        ForgeKind::Gitlab => None,
        ForgeKind::Github => Some("owner"),
        ForgeKind::BitbucketCloud => Some("workspace"),
        ForgeKind::BitbucketDataCenter => Some("project_key"),
    }
}

fn forge_project_id(value: &Value, kind: ForgeKind) -> Result<String, Problem> {
    let reason = match kind {
        ForgeKind::Gitlab => "the project's number on GitLab (Settings → General)",
        ForgeKind::Github => "the repository's number on GitHub",
        ForgeKind::BitbucketCloud => "the repository's UUID on Bitbucket, in braces",
        ForgeKind::BitbucketDataCenter => "the repository's number on Bitbucket",
    };
    let found = match kind {
        ForgeKind::BitbucketCloud => value
            .as_str()
            .filter(|it| bitbucket_cloud::is_uuid(it))
            .map(str::to_owned),
        _ => number(Some(value)).map(|it| it.to_string()),
    };
    found.ok_or_else(|| Problem::bad_field("project_id", reason))
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
        "retention_days": it.settings.retention_days,
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
    stated: Stated,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let integration = find(&app, &id)?;
    let (body, _) = read_json::<ProjectBody>(&request, payload).await?;
    let reason = stated.or(body.reason.clone())?;
    let kind = integration.kind;
    let (field, which) = match place_field(kind) {
        None => (
            "project_id",
            "the project's number on GitLab (Settings → General)".to_owned(),
        ),
        Some(place) => (
            "repository",
            format!("{place} and repository, or project_id alone"),
        ),
    };
    let asked = body
        .asked(kind)?
        .ok_or_else(|| Problem::bad_field(field, which))?;
    // What is wrong with the settings is told before the forge is asked.
    let mut settings = body.settings(kind, asked.clone(), RETENTION_DAYS)?;
    let forge = connected(&app, &integration)?;
    let told = forge.project(&asked).await.map_err(|e| match e {
        outbound::Error::Status { code: 404, .. } => Problem::invalid(
            field,
            match kind {
                ForgeKind::Gitlab => "GitLab shows no such project to the token of this integration",
                ForgeKind::Github => "GitHub shows no such repository to the App: install the App on it",
                ForgeKind::BitbucketCloud => {
                    "Bitbucket shows no such repository to this integration: look at its name, and at what the token or \
                     consumer belongs to"
                }
                ForgeKind::BitbucketDataCenter => {
                    "Bitbucket shows no such repository to the token of this integration"
                }
            },
        ),
        e => Problem::forge_answer(forge.explain(&e)),
    })?;
    settings.forge_project_id = told.id;
    let project = ProjectId::from_random(random_id());
    let command = Command::AddProject {
        project: project.clone(),
        integration: integration.id.clone(),
        path: told.path,
        web_url: told.web_url,
        settings,
    };
    app.submit(caller.actor(), reason.of(command)).await?;
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
    stated: Stated,
    ids: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let kind = find(&app, &ids.0)?.kind;
    let before = find_project(&app, &ids.0, &ids.1)?;
    let (body, _) = read_json::<ProjectBody>(&request, payload).await?;
    let forge_project_id = match &body.project_id {
        Some(value) => forge_project_id(value, kind)?,
        // A repository is not changed for another one by its name.
        None => before.settings.forge_project_id.clone(),
    };
    let reason = stated.or(body.reason.clone())?;
    let settings = body.settings(kind, forge_project_id, before.settings.retention_days)?;
    let project = before.id;
    let change = Governed::Project { project, settings };
    if let Some(waits) = govern(&app, caller.actor(), Change::of(change, reason.text())).await? {
        return Ok(waits.answer());
    }
    let found = find_project(&app, &ids.0, &ids.1)?;
    Ok(HttpResponse::Ok().json(project_shown(&found, &app.snapshot()?)?))
}

/// `DELETE /api/v1/integrations/{id}/projects/{pid}`: admins.
pub async fn remove_project(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    ids: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let project = find_project(&app, &ids.0, &ids.1)?.id;
    let change = Governed::ProjectRemoval { project };
    if let Some(waits) = govern(&app, caller.actor(), Change::of(change, reason.text())).await? {
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
