//! Who the token is, what it may do in a project, and what the installation is licensed for.

use crate::forge::ForgeProject;
use crate::forge::Identity;
use crate::forge::Tier;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::User;
use crate::forge::gitlab::page_url;
use crate::forge::gitlab::project_number;
use crate::outbound::Error;
use serde::Deserialize;

#[derive(Deserialize)]
struct TokenInfo {
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    version: String,
    enterprise: Option<bool>,
}

#[derive(Deserialize)]
struct Licence {
    plan: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    id: u64,
    path_with_namespace: String,
    #[serde(default)]
    web_url: String,
    default_branch: Option<String>,
    #[serde(default)]
    archived: bool,
    permissions: Option<Permissions>,
    #[serde(default)]
    only_allow_merge_if_pipeline_succeeds: Option<bool>,
    #[serde(default)]
    allow_merge_on_skipped_pipeline: Option<bool>,
    /// Ultimate only.
    #[serde(default)]
    only_allow_merge_if_all_status_checks_passed: Option<bool>,
    #[serde(default)]
    ci_config_path: Option<String>,
}

#[derive(Deserialize)]
struct Permissions {
    project_access: Option<Access>,
    group_access: Option<Access>,
}

#[derive(Deserialize)]
struct Access {
    access_level: u32,
}

impl GitLab {
    /// Who the token is. Only the account is needed; what a GitLab does not tell is left unknown.
    pub(crate) async fn identify(&self) -> Result<Identity, Error> {
        let user: User = self.get(&["user"], &[]).await?;
        let token: Option<TokenInfo> = self.get(&["personal_access_tokens", "self"], &[]).await.ok();
        let metadata: Option<Metadata> = match self.get(&["metadata"], &[]).await {
            Ok(found) => Some(found),
            Err(_) => self.get(&["version"], &[]).await.ok(),
        };
        // Only an administrator's token may see the licence.
        let licence: Option<Licence> = self.get(&["license"], &[]).await.ok();
        let enterprise = metadata.as_ref().and_then(|it| it.enterprise);
        let tier = match (licence.and_then(|it| it.plan).as_deref(), enterprise) {
            (Some("premium"), _) => Tier::Premium,
            (Some("ultimate"), _) => Tier::Ultimate,
            (_, Some(false)) => Tier::Free,
            _ => Tier::Unknown,
        };
        let (scopes, token_expires_at) = token.map(|it| (it.scopes, it.expires_at)).unwrap_or_default();
        let version = metadata.map(|it| it.version).unwrap_or_default();
        Ok(Identity {
            account: user.into(),
            scopes,
            token_expires_at,
            version,
            tier,
        })
    }

    /// A project by number or path.
    pub(crate) async fn project(&self, forge_project_id: &str) -> Result<ForgeProject, Error> {
        let id = forge_project_id.trim();
        let sound = !id.is_empty() && id.len() <= 1024 && !id.chars().any(char::is_control);
        if !sound {
            return Err(Error::Refused(
                "a GitLab project is named by its number or its path".to_owned(),
            ));
        }
        let project: Project = self.get(&["projects", id], &[]).await?;
        let access = project.permissions.map(|it| {
            let levels = [it.project_access, it.group_access];
            levels
                .into_iter()
                .flatten()
                .map(|it| it.access_level)
                .max()
                .unwrap_or(0)
        });
        Ok(ForgeProject {
            id: project.id.to_string(),
            path: project.path_with_namespace,
            web_url: page_url(&project.web_url),
            default_branch: project.default_branch,
            archived: project.archived,
            access_level: access,
            merge_needs_pipeline: project.only_allow_merge_if_pipeline_succeeds.unwrap_or(false),
            merge_on_skipped_pipeline: project.allow_merge_on_skipped_pipeline.unwrap_or(false),
            merge_needs_checks: project
                .only_allow_merge_if_all_status_checks_passed
                .unwrap_or(false),
            ci_config: project.ci_config_path.filter(|it| !it.is_empty()),
        })
    }

    /// The licence, by which of the licensed parts of a project answer.
    pub(crate) async fn tier(&self, forge_project_id: &str) -> Tier {
        let Ok(project) = project_number(forge_project_id) else {
            return Tier::Unknown;
        };
        let answers = async |part: &str| -> Option<bool> {
            match self
                .get::<serde_json::Value>(&["projects", project, part], &[])
                .await
            {
                Ok(_) => Some(true),
                Err(error) if matches!(error.status(), Some(401..=404)) => Some(false),
                Err(_) => None,
            }
        };
        // Without this the refusals below may only mean that the token may not see the project.
        if self.project(project).await.is_err() {
            return Tier::Unknown;
        }
        match (
            answers("external_status_checks").await,
            answers("approval_rules").await,
        ) {
            (Some(true), _) => Tier::Ultimate,
            (Some(false), Some(true)) => Tier::Premium,
            (Some(false), Some(false)) => Tier::Free,
            _ => Tier::Unknown,
        }
    }
}
