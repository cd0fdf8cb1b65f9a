//! What a repository's settings really enforce. On Bitbucket Cloud the lock is who may merge and push: the branch
//! restrictions `restrict_merges` and `push`. Merge checks count builds without asking whose they are, and only warn without
//! Premium.

use crate::domain::gate::{Finding, Strength};
use crate::domain::text::{shortened, visible};
use crate::forge::Inspected;
use crate::forge::bitbucket_cloud::{BitbucketCloud, explained};
use crate::forge::git::short_ref;
use crate::forge::pages::{Limits, is_limit};
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that looking at a project takes: itself, the account, branches, restrictions, branching model, webhooks.
const INSPECT_CALLS: u32 = 6;
/// Gated branches looked at.
const BRANCHES_MAX: usize = 20;
const LIMITS: Limits = Limits {
    pages: 10,
    bytes: 8 * 1024 * 1024,
};
/// Names in one finding.
const NAMED_MAX: usize = 3;
/// What a webhook is to tell of.
const EVENTS: [&str; 5] = [
    "repo:push",
    "pullrequest:created",
    "pullrequest:updated",
    "pullrequest:fulfilled",
    "pullrequest:rejected",
];

#[derive(Clone, Debug, Deserialize)]
struct Restriction {
    kind: String,
    #[serde(default)]
    branch_match_kind: String,
    pattern: Option<String>,
    #[serde(default)]
    branch_type: Option<String>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    groups: Vec<Named>,
}

/// A user or a group, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    uuid: Option<String>,
    display_name: Option<String>,
    name: Option<String>,
    slug: Option<String>,
}

impl Named {
    fn words(&self) -> String {
        let name = self
            .display_name
            .as_ref()
            .or(self.name.as_ref())
            .or(self.slug.as_ref());
        shortened(&visible(name.map_or("somebody", |it| it)), 60)
    }
}

/// `GET …/effective-branching-model`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Model {
    development: Option<Role>,
    production: Option<Role>,
    branch_types: Vec<Kind>,
}

#[derive(Clone, Debug, Deserialize)]
struct Role {
    branch: Option<RoleBranch>,
}

#[derive(Clone, Debug, Deserialize)]
struct RoleBranch {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Kind {
    kind: String,
    prefix: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Hook {
    #[serde(default)]
    url: String,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    secret_set: Option<bool>,
}

impl BitbucketCloud {
    /// See [`crate::forge::Forge::inspect`].
    pub(crate) async fn inspect(&self, of: &Inspected<'_>) -> Result<Vec<Finding>, Error> {
        self.begin(INSPECT_CALLS)?;
        // The repository itself must be readable.
        self.project(of.forge_project_id).await?;
        let me = self.identify().await?;
        let mut found = Vec::new();
        found.extend(scopes_missing(&me.scopes, of.auto_merge));
        found.extend(self.look_at_hooks(of).await?);
        let branches = match self.branches(of.forge_project_id, of.branch_patterns).await {
            Ok(branches) => branches,
            Err(error) if is_limit(&error) => return Err(error),
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
        let (restrictions, model) = match self.restrictions(of.forge_project_id).await {
            Ok(both) => both,
            Err(error) if is_limit(&error) || error.status() == Some(401) => return Err(error),
            Err(error) => {
                found.push(Finding::new(
                    "restrictions_unread",
                    Strength::None,
                    format!(
                        "The branch restrictions can't be read, so nobody knows whether anything holds the branches: {}. \
                         Give the token or consumer the scope to administer repositories.",
                        explained(&error)
                    ),
                ));
                return Ok(found);
            }
        };
        let ours = Some(me.account.id.as_str()).filter(|it| !it.is_empty() && self.auth.is_user());
        let mut by_code: BTreeMap<(String, Strength, String), Vec<String>> = BTreeMap::new();
        for branch in branches.keys().take(BRANCHES_MAX) {
            let name = short_ref(branch);
            let on_it: Vec<&Restriction> = restrictions
                .iter()
                .filter(|it| it.is_about(name, &model))
                .collect();
            for it in judged(&on_it, ours, of.auto_merge) {
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
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn restrictions(&self, repository: &str) -> Result<(Vec<Restriction>, Model), Error> {
        let query = [("pagelen", "100")];
        let (listed, _) = self
            .pages::<Restriction>(repository, &["branch-restrictions"], &query, LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "there are more branch restrictions than can be read".to_owned(),
            ));
        }
        let by_model = listed
            .items
            .iter()
            .any(|it| it.branch_match_kind == "branching_model");
        let model = match by_model {
            true => self.get(repository, &["effective-branching-model"], &[]).await?,
            false => Model::default(),
        };
        Ok((listed.items, model))
    }

    /// Where the repository's webhooks lead. Not being told costs time, never a decision.
    async fn look_at_hooks(&self, of: &Inspected<'_>) -> Result<Option<Finding>, Error> {
        let query = [("pagelen", "100")];
        let listed = self
            .pages::<Hook>(of.forge_project_id, &["hooks"], &query, LIMITS)
            .await;
        let hooks = match listed {
            Ok((listed, _)) => listed.items,
            Err(bad) if is_limit(&bad.error) => return Err(bad.error),
            // Without the scope for webhooks nobody knows, and nothing depends on it.
            Err(_) => return Ok(None),
        };
        Ok(hook_finding(&hooks, of.hook_url))
    }
}

fn hook_finding(hooks: &[Hook], url: &str) -> Option<Finding> {
    let hint = |code: &str, text: &str| Some(Finding::new(code, Strength::Hard, text));
    let Some(hook) = hooks.iter().find(|it| it.url.trim_end_matches('/') == url) else {
        return hint(
            "webhook_missing",
            "No webhook of the repository leads here; one of the workspace is not seen from here. Without any this server \
             looks by itself, within a minute. To be told at once, add one under Repository settings → Webhooks.",
        );
    };
    if !hook.active {
        return hint(
            "webhook_disabled",
            "The repository's webhook is switched off. Until it is on again this server looks by itself, within a minute.",
        );
    }
    if hook.secret_set == Some(false) {
        return hint(
            "webhook_secret",
            "The repository's webhook has no secret, so its calls are refused. Set the secret that was shown when Bitbucket \
             was connected.",
        );
    }
    if EVENTS.iter().any(|it| !hook.events.iter().any(|has| has == it)) {
        return hint(
            "webhook_events",
            "The repository's webhook does not tell of everything. Choose for it: repository push; pull request created, \
             updated, merged and declined; build status created and updated.",
        );
    }
    None
}

/// What the token may not do, where Bitbucket tells its scopes: those of OAuth and access tokens (`pullrequest:write`), or
/// those of API tokens (`write:pullrequest:bitbucket`).
fn scopes_missing(scopes: &[String], merges: bool) -> Option<Finding> {
    if scopes.is_empty() {
        return None;
    }
    let has = |wanted: &[&str]| wanted.iter().any(|it| scopes.iter().any(|has| has == it));
    let mut missing = Vec::new();
    if !has(&[
        "repository",
        "repository:write",
        "pullrequest",
        "pullrequest:write",
        "read:repository:bitbucket",
    ]) {
        missing.push("read repositories");
    }
    if !has(&["pullrequest", "pullrequest:write", "read:pullrequest:bitbucket"]) {
        missing.push("read pull requests");
    }
    if merges && !has(&["pullrequest:write", "write:pullrequest:bitbucket"]) {
        missing.push("write pull requests");
    }
    (!missing.is_empty()).then(|| {
        Finding::new(
            "scopes",
            Strength::None,
            format!(
                "The token or consumer lacks scopes: {}. Make one that has them, and connect again.",
                missing.join(", ")
            ),
        )
    })
}

impl Restriction {
    /// Whether it is about a branch. Where Bitbucket's own rule is not known for certain, it is not: a restriction that is
    /// believed to hold and does not would be worse than one that is not seen.
    fn is_about(&self, branch: &str, model: &Model) -> bool {
        match self.branch_match_kind.as_str() {
            "glob" => {
                let pattern = self.pattern.as_deref().unwrap_or_default();
                glob(pattern.as_bytes(), branch.as_bytes())
            }
            "branching_model" => {
                let role = |it: &Option<Role>| {
                    let name = it.as_ref().and_then(|it| it.branch.as_ref());
                    name.is_some_and(|it| it.name == branch)
                };
                match self.branch_type.as_deref() {
                    Some("development") => role(&model.development),
                    Some("production") => role(&model.production),
                    Some(kind) => model
                        .branch_types
                        .iter()
                        .any(|it| it.kind == kind && !it.prefix.is_empty() && branch.starts_with(&it.prefix)),
                    None => false,
                }
            }
            _ => false,
        }
    }
}

/// `**` is anything, `*` anything without a slash, `?` one character; all else is itself.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Reached after so much of the pattern: each prefix of the text.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let deep = pattern[at..].starts_with(b"**");
        let mut next = vec![false; text.len() + 1];
        if pattern[at] == b'*' {
            let mut on = false;
            for end in 0..=text.len() {
                if end > 0 && text[end - 1] == b'/' && !deep {
                    on = false;
                }
                on |= reached[end];
                next[end] = on;
            }
        } else {
            for end in 1..=text.len() {
                let fits = pattern[at] == text[end - 1] || (pattern[at] == b'?' && text[end - 1] != b'/');
                next[end] = reached[end - 1] && fits;
            }
        }
        reached = next;
        at += if deep { 2 } else { 1 };
    }
    reached[text.len()]
}

/// What the restrictions on a branch leave; `ours`: our account, where it is one that restrictions can name. `BRANCH` stands
/// for its name.
fn judged(on_it: &[&Restriction], ours: Option<&str>, merges: bool) -> Vec<Finding> {
    let of =
        |kind: &str| -> Vec<&Restriction> { on_it.iter().copied().filter(|it| it.kind == kind).collect() };
    let (push, merge) = (of("push"), of("restrict_merges"));
    let mut found = Vec::new();
    // Of several restrictions on one branch each may let somebody through.
    let others = |rules: &[&Restriction]| -> BTreeSet<String> {
        rules
            .iter()
            .flat_map(|it| {
                let users = it
                    .users
                    .iter()
                    .filter(|it| ours.is_none() || it.uuid.as_deref() != ours);
                let groups = it.groups.iter().map(|it| format!("the group {}", it.words()));
                users.map(Named::words).chain(groups).collect::<Vec<_>>()
            })
            .collect()
    };
    let named = |words: &BTreeSet<String>| {
        let shown: Vec<&str> = words.iter().map(String::as_str).take(NAMED_MAX).collect();
        let more = words.len().saturating_sub(NAMED_MAX);
        match more {
            0 => shown.join(", "),
            _ => format!("{} and {more} more", shown.join(", ")),
        }
    };
    let checked = !of("require_passing_builds_to_merge").is_empty();
    let enforced = !of("enforce_merge_checks").is_empty();
    if push.is_empty() {
        found.push(Finding::new(
            "anyone_pushes",
            Strength::None,
            "Whoever may write can push to BRANCH, past any pull request. Restrict it under Repository settings → Branch \
             restrictions: write access for nobody.",
        ));
    } else {
        let others = others(&push);
        if !others.is_empty() {
            found.push(Finding::new(
                "others_push",
                Strength::Soft,
                format!(
                    "Some can push to BRANCH, past any pull request: {}. Leave write access to nobody.",
                    named(&others)
                ),
            ));
        }
    }
    match (merge.is_empty(), checked, enforced) {
        (true, true, true) => found.push(Finding::new(
            "builds_counted",
            Strength::Soft,
            "Whoever may write can merge into BRANCH once enough builds are green, and Bitbucket does not ask whose builds \
             they are. Give \"Merge via pull request\" to this server's account alone.",
        )),
        (true, true, false) => found.push(Finding::new(
            "checks_warn",
            Strength::Soft,
            "Whoever may write can merge into BRANCH: its merge checks only warn (enforcing them takes Premium). Give \
             \"Merge via pull request\" to this server's account alone.",
        )),
        (true, false, _) => found.push(Finding::new(
            "anyone_merges",
            Strength::None,
            "Whoever may write can merge into BRANCH, approved or not. Give \"Merge via pull request\" to this server's \
             account alone, under Repository settings → Branch restrictions.",
        )),
        (false, ..) => {
            let others = others(&merge);
            if !others.is_empty() {
                found.push(Finding::new(
                    "others_merge",
                    Strength::Soft,
                    format!(
                        "Others can merge into BRANCH, approved or not: {}. Give \"Merge via pull request\" to this server's \
                         account alone.",
                        named(&others)
                    ),
                ));
            }
            let we_may = ours.is_some_and(|ours| {
                merge
                    .iter()
                    .all(|it| it.users.iter().any(|it| it.uuid.as_deref() == Some(ours)))
            });
            if merges && !we_may {
                found.push(Finding::new(
                    "cannot_merge",
                    Strength::Hard,
                    match ours {
                        Some(_) => {
                            "This server is to merge into BRANCH and may not: name its account under \"Merge via pull \
                             request\" there."
                        }
                        None => {
                            "This server is to merge into BRANCH and may not: a branch restriction can name no access token \
                             and no OAuth consumer. Connect with the API token of a user of its own, and name that user there."
                        }
                    },
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const OURS: &str = "{ours}";

    fn rule(kind: &str, users: &[&str], groups: &[&str]) -> Restriction {
        let users: Vec<_> = users
            .iter()
            .map(|it| json!({"uuid": it, "display_name": it}))
            .collect();
        let groups: Vec<_> = groups.iter().map(|it| json!({"name": it, "slug": it})).collect();
        serde_json::from_value(
            json!({"kind": kind, "branch_match_kind": "glob", "pattern": "main",
            "users": users, "groups": groups}),
        )
        .expect("a restriction")
    }

    fn codes(rules: &[Restriction], ours: Option<&str>) -> Vec<(String, Strength)> {
        let all: Vec<&Restriction> = rules.iter().collect();
        judged(&all, ours, true)
            .into_iter()
            .map(|it| (it.code, it.leaves))
            .collect()
    }

    #[test]
    fn only_a_branch_that_our_account_alone_merges_into_is_hard() {
        use Strength::{Hard, None as No, Soft};
        let all = |codes: &[(&str, Strength)]| -> Vec<(String, Strength)> {
            codes.iter().map(|(code, it)| ((*code).to_owned(), *it)).collect()
        };
        let ours = Some(OURS);
        let (shut, us) = (rule("push", &[], &[]), rule("restrict_merges", &[OURS], &[]));
        assert_eq!(
            codes(&[], ours),
            all(&[("anyone_pushes", No), ("anyone_merges", No)])
        );
        assert_eq!(codes(&[shut.clone(), us.clone()], ours), vec![]);
        assert_eq!(
            codes(std::slice::from_ref(&us), ours),
            all(&[("anyone_pushes", No)])
        );
        assert_eq!(
            codes(std::slice::from_ref(&shut), ours),
            all(&[("anyone_merges", No)])
        );
        let builds = rule("require_passing_builds_to_merge", &[], &[]);
        assert_eq!(
            codes(&[shut.clone(), builds.clone()], ours),
            all(&[("checks_warn", Soft)])
        );
        let enforced = rule("enforce_merge_checks", &[], &[]);
        assert_eq!(
            codes(&[shut.clone(), builds, enforced], ours),
            all(&[("builds_counted", Soft)])
        );
        let two = rule("restrict_merges", &[OURS, "{mia}"], &[]);
        assert_eq!(codes(&[shut.clone(), two], ours), all(&[("others_merge", Soft)]));
        let group = rule("restrict_merges", &[OURS], &["team"]);
        assert_eq!(
            codes(&[shut.clone(), us.clone(), group], ours),
            all(&[("others_merge", Soft)])
        );
        let pushes = rule("push", &["{mia}"], &[]);
        assert_eq!(codes(&[pushes, us.clone()], ours), all(&[("others_push", Soft)]));
        // A token that no restriction can name merges nothing there.
        let nobody = rule("restrict_merges", &[], &[]);
        assert_eq!(
            codes(&[shut.clone(), nobody], None),
            all(&[("cannot_merge", Hard)])
        );
        assert_eq!(
            codes(&[shut, us], None),
            all(&[("others_merge", Soft), ("cannot_merge", Hard)])
        );
    }

    #[test]
    fn a_restriction_is_about_the_branches_it_names() {
        let model: Model = serde_json::from_value(json!({"development": {"branch": {"name": "main"}},
            "production": null, "branch_types": [{"kind": "release", "prefix": "release/"}]}))
        .expect("a model");
        let by_model = |kind: &str, branch: &str| {
            let it: Restriction =
                serde_json::from_value(json!({"kind": "push", "branch_match_kind": "branching_model",
                "branch_type": kind, "pattern": ""}))
                .expect("a restriction");
            it.is_about(branch, &model)
        };
        assert!(by_model("development", "main") && !by_model("production", "main"));
        assert!(by_model("release", "release/1") && !by_model("hotfix", "release/1"));
        for (pattern, branch, expected) in [
            ("main", "main", true),
            ("main", "main2", false),
            ("*", "main", true),
            ("*", "release/1", false),
            ("**", "release/1", true),
            ("release/*", "release/1", true),
            ("release/*", "release/1/2", false),
            ("release/**", "release/1/2", true),
            ("v?", "v1", true),
            ("v?", "v/", false),
            ("", "", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), branch.as_bytes()),
                expected,
                "{pattern} {branch}"
            );
        }
    }

    #[test]
    fn scopes_of_both_kinds_are_read() {
        let missing = |scopes: &[&str], merges| {
            let scopes: Vec<String> = scopes.iter().map(|it| (*it).to_owned()).collect();
            scopes_missing(&scopes, merges).map(|it| it.text)
        };
        assert_eq!(missing(&[], true), None, "not told");
        assert_eq!(missing(&["pullrequest:write"], true), None);
        assert_eq!(missing(&["pullrequest"], false), None);
        assert!(missing(&["pullrequest"], true).is_some_and(|it| it.contains("write pull requests")));
        let api = [
            "read:repository:bitbucket",
            "read:pullrequest:bitbucket",
            "write:pullrequest:bitbucket",
        ];
        assert_eq!(missing(&api, true), None);
        assert!(
            missing(&["webhook"], false)
                .is_some_and(|it| it.contains("read repositories, read pull requests"))
        );
    }

    #[test]
    fn what_is_wrong_with_a_webhook_is_said() {
        let url = "https://gate.test/hooks/bitbucket/int_1";
        let hook = |active: bool, secret: bool, events: &[&str]| -> Hook {
            serde_json::from_value(
                json!({"url": url, "active": active, "secret_set": secret, "events": events}),
            )
            .expect("a webhook")
        };
        let code = |hooks: &[Hook]| hook_finding(hooks, url).map(|it| it.code);
        assert_eq!(code(&[]).as_deref(), Some("webhook_missing"));
        assert_eq!(
            code(&[hook(false, true, &EVENTS)]).as_deref(),
            Some("webhook_disabled")
        );
        assert_eq!(
            code(&[hook(true, false, &EVENTS)]).as_deref(),
            Some("webhook_secret")
        );
        assert_eq!(
            code(&[hook(true, true, &EVENTS[1..])]).as_deref(),
            Some("webhook_events")
        );
        assert_eq!(code(&[hook(true, true, &EVENTS)]), None);
    }

    proptest! {
        #[test]
        fn a_literal_pattern_is_itself(name in "[a-z/._-]{0,30}") {
            prop_assert!(glob(name.as_bytes(), name.as_bytes()));
            prop_assert!(glob(b"**", name.as_bytes()));
        }
    }
}
