//! What a repository's settings really enforce. On GitHub a required check is the lock itself, where the rules pin it to the
//! App: GitHub then takes nothing into the branch, by merge or push, without the App's own green status.

use crate::domain::gate::{Finding, Strength};
use crate::domain::text::{shortened, visible};
use crate::forge::Inspected;
use crate::forge::github::repository::Place;
use crate::forge::github::{By, GitHub, Limits, explained};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Calls that looking at a project takes: itself, the App, its branches, and two for each of those.
const INSPECT_CALLS: u32 = 6;
/// Gated branches looked at.
const BRANCHES_MAX: usize = 20;
const LIMITS: Limits = Limits {
    pages: 10,
    bytes: 4 * 1024 * 1024,
};
/// Names in one finding.
const NAMED_MAX: usize = 3;

/// A rule in force on a branch (`GET /repos/{owner}/{repo}/rules/branches/{branch}`), whatever ruleset it comes from.
#[derive(Clone, Debug, Deserialize)]
struct Rule {
    #[serde(rename = "type")]
    kind: String,
    ruleset_id: Option<u64>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    required_status_checks: Vec<RequiredCheck>,
    do_not_enforce_on_create: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct RequiredCheck {
    context: String,
    integration_id: Option<i64>,
}

/// A ruleset; who may bypass it is told only to whom may change it.
#[derive(Clone, Debug, Deserialize)]
struct Ruleset {
    #[serde(default)]
    name: String,
    bypass_actors: Option<Vec<BypassActor>>,
}

#[derive(Clone, Debug, Deserialize)]
struct BypassActor {
    #[serde(default)]
    actor_type: String,
    actor_id: Option<u64>,
}

/// A branch, with the classic protection as far as it is told to readers.
#[derive(Debug, Deserialize)]
struct Branch {
    #[serde(default)]
    protected: bool,
    protection: Option<Protection>,
}

#[derive(Debug, Deserialize)]
struct Protection {
    required_status_checks: Option<ClassicChecks>,
}

#[derive(Debug, Deserialize)]
struct ClassicChecks {
    /// `off`, `non_admins` or `everyone`.
    #[serde(default)]
    enforcement_level: String,
    #[serde(default)]
    contexts: Vec<String>,
    #[serde(default)]
    checks: Vec<ClassicCheck>,
}

#[derive(Debug, Deserialize)]
struct ClassicCheck {
    context: String,
    app_id: Option<i64>,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    permissions: HashMap<String, String>,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Deserialize)]
struct HookConfig {
    #[serde(default)]
    url: String,
    #[serde(default)]
    content_type: String,
}

/// One way in which a branch asks for our status.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lock {
    /// The App whose status counts; `None`: anybody's.
    pinned: Option<i64>,
    /// Who can go around it, in words.
    around: Vec<String>,
    /// Nobody told us whether somebody can.
    around_unknown: bool,
}

impl GitHub {
    /// See [`crate::forge::Forge::inspect`].
    pub(crate) async fn inspect(&self, of: &Inspected<'_>) -> Result<Vec<Finding>, Error> {
        self.begin(INSPECT_CALLS)?;
        let place = self.place(of.forge_project_id).await?;
        let project = self.project(of.forge_project_id).await?;
        let mut found = Vec::new();
        if project.archived {
            found.push(Finding::new(
                "archived",
                Strength::Hard,
                "The repository is archived: nothing can be merged.",
            ));
        }
        self.look_at_app(of, &place, &mut found).await?;
        let branches = match self.branches(of.forge_project_id, of.branch_patterns).await {
            Ok(branches) => branches,
            Err(error) if super::is_limit(&error) => return Err(error),
            Err(error) => {
                found.push(Finding::new(
                    "branches_unread",
                    Strength::None,
                    format!("The gated branches can't be read: {}.", explained(&error)),
                ));
                return Ok(found);
            }
        };
        if branches.is_empty() {
            found.push(Finding::new(
                "no_branch",
                Strength::None,
                "The repository has none of the gated branches, so there is nothing that holds them.",
            ));
        }
        if branches.len() > BRANCHES_MAX {
            found.push(Finding::new(
                "many_branches",
                Strength::Soft,
                format!(
                    "More than {BRANCHES_MAX} branches are gated; only the first {BRANCHES_MAX} were looked at."
                ),
            ));
        }
        let mut rulesets: BTreeMap<u64, Option<Ruleset>> = BTreeMap::new();
        let mut by_code: BTreeMap<(String, Strength, String), Vec<String>> = BTreeMap::new();
        for branch in branches.keys().take(BRANCHES_MAX) {
            let name = super::short_ref(branch);
            for it in self.look_at_branch(&place, name, &mut rulesets).await? {
                let names = by_code.entry((it.code, it.leaves, it.text)).or_default();
                names.push(visible(name));
            }
        }
        // The same about several branches is one finding.
        for ((code, leaves, text), branches) in by_code {
            let (shown, more) = branches.split_at(branches.len().min(NAMED_MAX));
            let more = if more.is_empty() {
                String::new()
            } else {
                format!(" and {} more", more.len())
            };
            found.push(Finding::new(
                &code,
                leaves,
                text.replace("BRANCH", &format!("{}{more}", shown.join(", "))),
            ));
        }
        found.extend(self.look_at_environments(&place, of.environments).await?);
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What the installation lets the App do, and where its webhooks lead.
    async fn look_at_app(
        &self,
        of: &Inspected<'_>,
        place: &Place,
        found: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        let number = place.installation.to_string();
        let call = self.call(Method::Get, &["app", "installations", &number])?;
        let granted: Granted = self.fetch(By::App, call).await?.json()?;
        let may = |name: &str, write: bool| match granted.permissions.get(name).map(String::as_str) {
            Some("write" | "admin") => true,
            Some("read") => !write,
            _ => false,
        };
        let mut missing = Vec::new();
        let mut ask = |name: &'static str, write: bool, words: &'static str| {
            if !may(name, write) {
                missing.push(words);
            }
        };
        ask("statuses", true, "Commit statuses (read and write)");
        ask(
            "pull_requests",
            of.auto_merge,
            match of.auto_merge {
                true => "Pull requests (read and write)",
                false => "Pull requests (read)",
            },
        );
        ask(
            "contents",
            of.auto_merge,
            match of.auto_merge {
                true => "Contents (read and write)",
                false => "Contents (read)",
            },
        );
        if !of.environments.is_empty() {
            ask("deployments", true, "Deployments (read and write)");
            ask("actions", false, "Actions (read)");
        }
        if !missing.is_empty() {
            found.push(Finding::new(
                "permissions",
                Strength::None,
                format!(
                    "The App lacks permissions on this repository: {}. Set them in the App's settings, and have an owner \
                     accept them for the installation.",
                    missing.join(", ")
                ),
            ));
        }
        let config: HookConfig = match self
            .fetch(By::App, self.call(Method::Get, &["app", "hook", "config"])?)
            .await
        {
            Ok(reply) => reply.json()?,
            Err(error) if super::is_limit(&error) => return Err(error),
            Err(_) => HookConfig {
                url: String::new(),
                content_type: String::new(),
            },
        };
        let hint = |code: &str, text: &str| Finding::new(code, Strength::Hard, text);
        if config.url.trim_end_matches('/') != of.hook_url {
            found.push(hint(
                "webhook_missing",
                "The App's webhook does not lead here. Without it this server looks by itself, within a minute. To be told \
                 at once, set the webhook's URL and secret in the App's settings.",
            ));
        } else if config.content_type != "json" {
            found.push(hint(
                "webhook_form",
                "The App's webhook sends forms, which are refused. Set its content type to application/json in the App's \
                 settings.",
            ));
        } else if !granted.events.iter().any(|it| it == "pull_request") {
            found.push(hint(
                "webhook_events",
                "The App is not told of pull requests. Subscribe it to the events Pull request, Push and Status in its \
                 settings.",
            ));
        }
        Ok(())
    }

    /// What holds one branch. `BRANCH` stands for its name.
    async fn look_at_branch(
        &self,
        place: &Place,
        branch: &str,
        rulesets: &mut BTreeMap<u64, Option<Ruleset>>,
    ) -> Result<Vec<Finding>, Error> {
        let context = format!("signedapproval/{branch}");
        let rules = match self
            .pages::<Rule>(place, &["rules", "branches", branch], &[], LIMITS)
            .await
        {
            Ok(listed) => listed.items,
            Err(bad) if super::is_limit(&bad.error) => return Err(bad.error),
            // An older GitHub Enterprise Server, or a plan without rulesets.
            Err(bad) if matches!(bad.error.status(), Some(403 | 404)) => Vec::new(),
            Err(bad) => return Err(bad.error),
        };
        let shown: Branch = self.get(place, &["branches", branch], &[]).await?;
        let mut locks = Vec::new();
        let mut found = Vec::new();
        for rule in rules.iter().filter(|it| it.kind == "required_status_checks") {
            for check in &rule.parameters.required_status_checks {
                if !check.context.eq_ignore_ascii_case(&context) {
                    continue;
                }
                let (around, around_unknown) = self.around(place, rule, rulesets).await?;
                if rule.parameters.do_not_enforce_on_create {
                    found.push(Finding::new(
                        "not_on_create",
                        Strength::Soft,
                        "The rule for BRANCH is not enforced when the branch is created: whoever may delete and create it \
                         can go around the gate. Untick \"Do not require status checks on creation\".",
                    ));
                }
                locks.push(Lock {
                    pinned: check.integration_id.filter(|it| *it > 0),
                    around,
                    around_unknown,
                });
            }
        }
        locks.extend(classic(&shown, &context));
        let own = i64::try_from(self.app.id).unwrap_or(-1);
        found.extend(judged(&locks, own));
        let keeps_history = rules.iter().any(|it| it.kind == "non_fast_forward");
        if !locks.is_empty() && !keeps_history && !shown.protected {
            found.push(Finding::new(
                "force_push",
                Strength::Soft,
                "Whoever may write can push BRANCH by force, back to an older approved commit. Add the rule \"Block force \
                 pushes\".",
            ));
        }
        Ok(found)
    }

    /// Who can go around a rule; and whether that is not told.
    async fn around(
        &self,
        place: &Place,
        rule: &Rule,
        rulesets: &mut BTreeMap<u64, Option<Ruleset>>,
    ) -> Result<(Vec<String>, bool), Error> {
        let Some(id) = rule.ruleset_id else {
            return Ok((Vec::new(), true));
        };
        if let std::collections::btree_map::Entry::Vacant(entry) = rulesets.entry(id) {
            let number = id.to_string();
            let asked: Result<Ruleset, Error> = self
                .get(place, &["rulesets", &number], &[("includes_parents", "true")])
                .await;
            match asked {
                Ok(it) => drop(entry.insert(Some(it))),
                Err(error) if matches!(error.status(), Some(403 | 404)) => drop(entry.insert(None)),
                Err(error) => return Err(error),
            }
        }
        let Some(Some(ruleset)) = rulesets.get(&id) else {
            return Ok((Vec::new(), true));
        };
        let Some(actors) = &ruleset.bypass_actors else {
            return Ok((Vec::new(), true));
        };
        let name = shortened(&visible(&ruleset.name), 60);
        let mut words = BTreeSet::new();
        for it in actors {
            let own = it.actor_type == "Integration" && it.actor_id == Some(self.app.id);
            if !own {
                words.insert(format!("{} of the ruleset {name}", actor(it)));
            }
        }
        Ok((words.into_iter().collect(), false))
    }
}

fn actor(it: &BypassActor) -> String {
    let number = it.actor_id.map(|it| format!(" {it}")).unwrap_or_default();
    match it.actor_type.as_str() {
        "OrganizationAdmin" => "owners of the organization".to_owned(),
        "RepositoryRole" => format!("people with the repository role{number}"),
        "Team" => format!("the team{number}"),
        "Integration" => format!("the App{number}"),
        "DeployKey" => "deploy keys".to_owned(),
        _ => "others".to_owned(),
    }
}

/// How a classic protection asks for our status, as far as readers are told.
fn classic(branch: &Branch, context: &str) -> Option<Lock> {
    let checks = branch
        .protection
        .as_ref()
        .filter(|_| branch.protected)
        .and_then(|it| it.required_status_checks.as_ref())?;
    let pinned = checks
        .checks
        .iter()
        .find(|it| it.context.eq_ignore_ascii_case(context));
    let named = checks.contexts.iter().any(|it| it.eq_ignore_ascii_case(context));
    if checks.enforcement_level == "off" || (pinned.is_none() && !named) {
        return None;
    }
    Some(Lock {
        pinned: pinned.and_then(|it| it.app_id).filter(|it| *it > 0),
        around: match checks.enforcement_level.as_str() {
            "everyone" => Vec::new(),
            _ => vec!["administrators of the repository".to_owned()],
        },
        around_unknown: false,
    })
}

/// What the ways in which a branch asks for our status leave. All of them hold at once, so the strongest counts.
fn judged(locks: &[Lock], own: i64) -> Vec<Finding> {
    if locks.is_empty() {
        return vec![Finding::new(
            "not_required",
            Strength::None,
            "GitHub does not ask for this server's status on BRANCH: whoever may write can merge and push. Require the \
             check signedapproval/BRANCH there, with this App as its source.",
        )];
    }
    let ours: Vec<&Lock> = locks.iter().filter(|it| it.pinned == Some(own)).collect();
    if ours.is_empty() {
        let other = locks.iter().all(|it| it.pinned.is_some());
        return vec![match other {
            true => Finding::new(
                "other_source",
                Strength::None,
                "GitHub asks for the status of BRANCH from another App than the connected one, so this server's counts for \
                 nothing. Choose this App as the check's source.",
            ),
            false => Finding::new(
                "any_source",
                Strength::Soft,
                "GitHub takes the required status of BRANCH from anybody who may write. Choose this App as the check's \
                 source.",
            ),
        }];
    }
    if ours.iter().any(|it| it.around.is_empty() && !it.around_unknown) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let around: BTreeSet<&str> = ours
        .iter()
        .flat_map(|it| &it.around)
        .map(String::as_str)
        .collect();
    if !around.is_empty() {
        let named: Vec<&str> = around.iter().copied().take(NAMED_MAX).collect();
        found.push(Finding::new(
            "bypass",
            Strength::Soft,
            format!(
                "Some can go around the rule for BRANCH: {}. Take them off the bypass list, or let the protection include \
                 administrators.",
                named.join(", ")
            ),
        ));
    }
    if ours.iter().any(|it| it.around_unknown) {
        found.push(Finding::new(
            "bypass_unknown",
            Strength::Soft,
            "GitHub does not show the App who may bypass the ruleset of BRANCH. Give the App the permission Administration \
             (read and write), or use a classic branch protection that includes administrators.",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lock(pinned: Option<i64>, around: &[&str], around_unknown: bool) -> Lock {
        Lock {
            pinned,
            around: around.iter().map(|it| (*it).to_owned()).collect(),
            around_unknown,
        }
    }

    fn codes(locks: &[Lock]) -> Vec<(String, Strength)> {
        judged(locks, 7)
            .into_iter()
            .map(|it| (it.code, it.leaves))
            .collect()
    }

    #[test]
    fn only_a_check_pinned_to_the_app_that_nobody_bypasses_is_hard() {
        let one = |code: &str, leaves| vec![(code.to_owned(), leaves)];
        assert_eq!(codes(&[]), one("not_required", Strength::None));
        assert_eq!(
            codes(&[lock(None, &[], false)]),
            one("any_source", Strength::Soft)
        );
        assert_eq!(
            codes(&[lock(Some(8), &[], false)]),
            one("other_source", Strength::None)
        );
        assert_eq!(
            codes(&[lock(Some(8), &[], false), lock(None, &[], false)]),
            one("any_source", Strength::Soft)
        );
        assert_eq!(
            codes(&[lock(Some(7), &["x"], false)]),
            one("bypass", Strength::Soft)
        );
        assert_eq!(
            codes(&[lock(Some(7), &[], true)]),
            one("bypass_unknown", Strength::Soft)
        );
        assert_eq!(codes(&[lock(Some(7), &[], false)]), vec![]);
        // Two rules hold at once: one that nobody bypasses is enough.
        assert_eq!(
            codes(&[lock(Some(7), &["x"], false), lock(Some(7), &[], false)]),
            vec![]
        );
    }

    #[test]
    fn a_classic_protection_is_read_as_readers_are_shown_it() {
        let branch = |level: &str, app: Option<i64>| -> Branch {
            serde_json::from_value(json!({"protected": true, "protection": {"enabled": true,
                "required_status_checks": {"enforcement_level": level, "contexts": ["signedapproval/main"],
                    "checks": [{"context": "signedapproval/main", "app_id": app}]}}}))
            .expect("a branch")
        };
        let name = "signedapproval/main";
        assert_eq!(
            classic(&branch("everyone", Some(7)), name),
            Some(lock(Some(7), &[], false))
        );
        assert_eq!(
            classic(&branch("non_admins", Some(7)), name),
            Some(lock(Some(7), &["administrators of the repository"], false))
        );
        assert_eq!(
            classic(&branch("everyone", Some(-1)), name),
            Some(lock(None, &[], false))
        );
        assert_eq!(classic(&branch("off", Some(7)), name), None);
        assert_eq!(classic(&branch("everyone", Some(7)), "signedapproval/dev"), None);
    }
}
