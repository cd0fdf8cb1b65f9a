//! What holds the deployments of a project: who can start its jobs in GitLab without being asked here.

use crate::domain::gate::{Finding, Strength};
use crate::domain::policy::{ControlFiles, NamePattern};
use crate::domain::text::{shortened, visible};
use crate::forge::gitlab::inspect::{
    Access, LIMITS, Maintainers, Others, ProtectedBranch, overlaps, unreadable,
};
use crate::forge::gitlab::{GitLab, explained};
use crate::forge::{ForgeProject, Identity, Inspected};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct ProtectedEnvironment {
    name: String,
    #[serde(default)]
    deploy_access_levels: Vec<Access>,
    #[serde(default)]
    approval_rules: Vec<ApprovalRule>,
}

#[derive(Debug, Deserialize)]
struct ApprovalRule {
    user_id: Option<u64>,
    #[serde(default)]
    required_approvals: u32,
}

impl GitLab {
    /// Adds what keeps the gate of a project's environments from being hard; nothing for a project without any.
    pub(super) async fn environments(
        &self,
        of: &Inspected<'_>,
        project: &ForgeProject,
        me: &Identity,
        branches: &[ProtectedBranch],
        maintainers: &Maintainers,
        found: &mut Vec<Finding>,
    ) {
        if of.environments.is_empty() {
            return;
        }
        let path = ["projects", project.id.as_str(), "protected_environments"];
        let protected = match self.pages::<ProtectedEnvironment>(&path, &[], LIMITS).await {
            Ok(list) => list.items,
            // GitLab Free has none.
            Err(bad) if bad.error.status() == Some(404) => Vec::new(),
            Err(bad) => {
                found.push(unreadable("protected environments", &explained(&bad.error)));
                Vec::new()
            }
        };
        for environment in of.environments {
            let rule = protected.iter().find(|it| it.name == *environment);
            found.extend(match rule {
                Some(rule) => held_by(rule, me, maintainers),
                None => Some(unheld(environment, of, me, branches, maintainers)),
            });
        }
        found.extend(pipeline_file(of, project));
    }
}

/// A protected environment: it holds where GitLab waits for our account's approval, or nobody else may deploy.
fn held_by(rule: &ProtectedEnvironment, me: &Identity, maintainers: &Maintainers) -> Option<Finding> {
    let asks_us = rule
        .approval_rules
        .iter()
        .any(|it| it.required_approvals > 0 && it.user_id.is_some_and(|id| id.to_string() == me.account.id));
    if asks_us {
        return None;
    }
    let mut others = Others::default();
    others.add(&rule.deploy_access_levels, &me.account.id);
    let said_who = others.words(maintainers)?;
    Some(Finding::new(
        "others_deploy",
        Strength::Soft,
        format!(
            "{said_who} can start deployments to {} in GitLab without an approval from here. Add an approval rule that names this \
             server's account to the protected environment.",
            name(&rule.name)
        ),
    ))
}

/// An environment that GitLab does not protect.
fn unheld(
    environment: &str,
    of: &Inspected<'_>,
    me: &Identity,
    branches: &[ProtectedBranch],
    maintainers: &Maintainers,
) -> Finding {
    let mut others = Others::default();
    let gated = |rule: &&ProtectedBranch| of.branch_patterns.iter().any(|it| overlaps(&rule.name, it));
    for rule in branches.iter().filter(gated) {
        others.add(&rule.push_access_levels, &me.account.id);
        others.add(&rule.merge_access_levels, &me.account.id);
    }
    let environment = name(environment);
    Finding::new(
        "environment_unprotected",
        Strength::Soft,
        match others.words(maintainers) {
            Some(said_who) => format!(
                "GitLab does not protect the environment {environment}: {said_who} can start its jobs on the gated branches, and \
                 every Developer can start a job that names it on a branch of their own. That is found and reported, not \
                 prevented. On Premium protect it, with an approval rule that names this server's account; on any edition keep \
                 what the deployment needs in protected CI/CD variables, which jobs of other branches do not get."
            ),
            None => format!(
                "GitLab does not protect the environment {environment}: every Developer can start a job that names it on a \
                 branch of their own. That is found and reported, not prevented. On Premium protect it, with an approval rule \
                 that names this server's account; on any edition keep what the deployment needs in protected CI/CD variables, \
                 which jobs of other branches do not get."
            ),
        },
    )
}

/// Where the pipelines are written, if changing that needs no approval.
fn pipeline_file(of: &Inspected<'_>, project: &ForgeProject) -> Option<Finding> {
    let soft = |code: &str, text: String| Some(Finding::new(code, Strength::Soft, text));
    let file = project.ci_config.as_deref().unwrap_or(".gitlab-ci.yml");
    if file.contains('@') || file.contains("://") {
        return soft(
            "pipeline_elsewhere",
            format!(
                "The pipelines are written in {}, which is not under this project's gate: whoever can change it can take the \
                 waiting out of a deployment.",
                name(file)
            ),
        );
    }
    let own = ControlFiles::new(of.control_files.iter().map(String::as_str)).ok();
    if !own.is_some_and(|it| it.name(file)) {
        return soft(
            "pipeline_file_skippable",
            format!(
                "The pipelines are written in {}, which a rule of the policy may skip. Add it to the project's control files.",
                name(file)
            ),
        );
    }
    let default = project.default_branch.as_deref()?;
    let gated = of
        .branch_patterns
        .iter()
        .any(|it| NamePattern::new(it).is_ok_and(|it| it.matches(default)));
    if gated {
        return None;
    }
    soft(
        "pipeline_branch_not_gated",
        format!(
            "The default branch {} is not gated: its pipelines can be changed without an approval.",
            name(default)
        ),
    )
}

fn name(text: &str) -> String {
    format!("`{}`", shortened(&visible(text), 80))
}
