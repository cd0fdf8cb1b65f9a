//! Whether GitHub asks the App before it deploys to a gated environment.

use crate::domain::gate::{Finding, Strength};
use crate::domain::policy::NamePattern;
use crate::domain::text::visible;
use crate::forge::github::GitHub;
use crate::forge::github::repository::Place;
use crate::outbound::Error;
use serde::Deserialize;

/// Environments looked at.
const ENVIRONMENTS_MAX: usize = 20;

#[derive(Deserialize)]
struct Environments {
    environments: Vec<Environment>,
}

#[derive(Deserialize)]
struct Environment {
    name: String,
    can_admins_bypass: Option<bool>,
}

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    custom_deployment_protection_rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    enabled: bool,
    app: RuleApp,
}

#[derive(Deserialize)]
struct RuleApp {
    id: u64,
}

impl GitHub {
    /// What holds the deployments to environments of these names or patterns.
    pub(super) async fn look_at_environments(
        &self,
        place: &Place,
        patterns: &[String],
    ) -> Result<Vec<Finding>, Error> {
        let patterns: Vec<NamePattern> = patterns
            .iter()
            .filter_map(|it| NamePattern::new(it).ok())
            .collect();
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let listed: Environments = self.get(place, &["environments"], &[("per_page", "100")]).await?;
        let mut gated = listed.environments;
        gated.retain(|it| patterns.iter().any(|pattern| pattern.matches(&it.name)));
        let mut found = Vec::new();
        if gated.is_empty() {
            found.push(Finding::new(
                "environment_missing",
                Strength::Soft,
                "The repository has none of the gated environments. A workflow that names one makes it, without any rule: \
                 make it in the settings first.",
            ));
        }
        for it in gated.iter().take(ENVIRONMENTS_MAX) {
            let name = visible(&it.name);
            let path = ["environments", it.name.as_str(), "deployment_protection_rules"];
            let rules: Rules = match self.get(place, &path, &[]).await {
                Ok(rules) => rules,
                Err(error) if matches!(error.status(), Some(403 | 404)) => {
                    found.push(Finding::new(
                        "environment_unread",
                        Strength::None,
                        format!(
                            "GitHub does not show the protection rules of {name}: the App needs the permission Actions \
                             (read), and a private repository needs GitHub Enterprise for them."
                        ),
                    ));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let asks = |rule: &Rule| rule.enabled && rule.app.id == self.app.id;
            if !rules.custom_deployment_protection_rules.iter().any(asks) {
                found.push(Finding::new(
                    "environment_open",
                    Strength::None,
                    format!(
                        "GitHub deploys to {name} without asking this server. Enable this App under Settings → \
                         Environments → {name} → Deployment protection rules."
                    ),
                ));
            } else if it.can_admins_bypass != Some(false) {
                found.push(Finding::new(
                    "environment_bypass",
                    Strength::Soft,
                    format!(
                        "Administrators can deploy to {name} past its rules. Untick \"Allow administrators to bypass \
                         configured protection rules\" there."
                    ),
                ));
            }
        }
        Ok(found)
    }
}
