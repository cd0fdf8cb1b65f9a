//! What a project's settings really enforce. On GitLab a commit status is a display: the gate is hard only where nobody
//! but our account can merge into or push to the gated branches.

use crate::domain::gate::{Finding, Strength};
use crate::domain::policy::NamePattern;
use crate::domain::text::{shortened, visible};
use crate::forge::gitlab::{GitLab, Limits, explained, project_number};
use crate::forge::{ForgeProject, Identity, Inspected};
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Roles, by GitLab's numbers.
const DEVELOPER: u32 = 30;
const MAINTAINER: u32 = 40;
const ADMINISTRATOR: u32 = 60;
/// How much of a list is read; more is told as unreadable.
/// Calls that looking at a project takes: itself, protected branches, members, hooks.
const INSPECT_CALLS: u32 = 4;
const LIMITS: Limits = Limits {
    pages: 20,
    bytes: 4 * 1024 * 1024,
};
/// People named in a finding.
const NAMED_MAX: usize = 3;
/// A token that ends within so many days is told of.
const TOKEN_DAYS: i64 = 14;

/// Whom a protected branch lets push or merge.
#[derive(Debug, Deserialize)]
struct Access {
    access_level: Option<u32>,
    user_id: Option<u64>,
    group_id: Option<u64>,
    deploy_key_id: Option<u64>,
    access_level_description: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ProtectedBranch {
    /// A branch, or a pattern in which `*` stands for anything.
    name: String,
    #[serde(default)]
    push_access_levels: Vec<Access>,
    #[serde(default)]
    merge_access_levels: Vec<Access>,
    #[serde(default)]
    allow_force_push: bool,
}

#[derive(Debug, Deserialize)]
struct Member {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    state: String,
    access_level: u32,
}

#[derive(Debug, Deserialize)]
struct Hook {
    url: String,
    #[serde(default)]
    push_events: bool,
    #[serde(default)]
    merge_requests_events: bool,
    /// `executable`, `temporarily_disabled` or `disabled`; absent before GitLab 15.
    alert_status: Option<String>,
}

/// Who besides our account gets through a list of accesses.
#[derive(Debug, Default)]
struct Others {
    developers: bool,
    maintainers: bool,
    /// Administrators of the installation, and whoever is named one by one.
    named: BTreeSet<String>,
}

impl Others {
    fn add(&mut self, list: &[Access], own: &str) {
        for it in list {
            let described = || {
                let words = it.access_level_description.as_deref().unwrap_or("somebody");
                shortened(&visible(words), 60)
            };
            match it {
                Access {
                    user_id: Some(id), ..
                } => {
                    if id.to_string() != own {
                        self.named.insert(described());
                    }
                }
                Access {
                    group_id: Some(_), ..
                } => {
                    self.named.insert(format!("the group {}", described()));
                }
                Access {
                    deploy_key_id: Some(_),
                    ..
                } => {
                    self.named.insert(format!("the deploy key {}", described()));
                }
                Access { access_level, .. } => match access_level.unwrap_or(0) {
                    0 => {}
                    1..=DEVELOPER => self.developers = true,
                    ADMINISTRATOR => {
                        self.named.insert("administrators of GitLab".to_owned());
                    }
                    _ => self.maintainers = true,
                },
            }
        }
    }

    /// The people behind it, as far as anybody is; `None` for nobody.
    fn words(&self, maintainers: &Maintainers) -> Option<String> {
        if self.developers {
            return Some("every Developer".to_owned());
        }
        let mut names: Vec<String> = self.named.iter().cloned().collect();
        if self.maintainers {
            match maintainers {
                Maintainers::Known(people) => names.extend(people.iter().cloned()),
                Maintainers::Unknown => names.push("every Maintainer".to_owned()),
            }
        }
        listed(&names)
    }
}

/// Everybody but our account with the role Maintainer or above.
enum Maintainers {
    Known(Vec<String>),
    Unknown,
}

impl GitLab {
    /// See [`crate::forge::Forge::inspect`].
    pub(crate) async fn inspect(&self, of: &Inspected<'_>) -> Result<Vec<Finding>, Error> {
        let id = project_number(of.forge_project_id)?;
        self.begin(INSPECT_CALLS)?;
        let (project, me) = (self.project(id).await?, self.me().await?);
        let mut found = Vec::new();
        account(&me, &project, of, &mut found);
        let rules = match self
            .pages::<ProtectedBranch>(&["projects", id, "protected_branches"], &[], LIMITS)
            .await
        {
            Ok(list) if list.whole => Some(list.items),
            Ok(_) => {
                found.push(unreadable("protected branches", "there are too many of them"));
                None
            }
            Err(bad) => {
                found.push(unreadable("protected branches", &explained(&bad.error)));
                None
            }
        };
        if let Some(rules) = rules {
            let maintainers = self.maintainers(id, &me, &mut found).await;
            branches(of, &project, &me, &rules, &maintainers, &mut found);
        }
        if project.access_level.is_none_or(|it| it >= MAINTAINER) {
            self.hooks(id, of, &mut found).await;
        }
        Ok(found)
    }

    async fn maintainers(&self, id: &str, me: &Identity, found: &mut Vec<Finding>) -> Maintainers {
        let list = self
            .pages::<Member>(&["projects", id, "members", "all"], &[], LIMITS)
            .await;
        let why = match list {
            Ok(list) if list.whole => {
                let others = list.items.into_iter().filter(|it| {
                    let active = it.state.is_empty() || it.state == "active";
                    it.access_level >= MAINTAINER && active && it.id.to_string() != me.account.id
                });
                let names: BTreeSet<String> = others
                    .map(|it| {
                        let name = if it.name.is_empty() {
                            &it.username
                        } else {
                            &it.name
                        };
                        shortened(&visible(name), 60)
                    })
                    .collect();
                return Maintainers::Known(names.into_iter().collect());
            }
            Ok(_) => "there are too many of them".to_owned(),
            Err(bad) => explained(&bad.error),
        };
        found.push(Finding::new(
            "members_unreadable",
            Strength::Hard,
            format!("The members can't be read, so every Maintainer counts as somebody: {why}."),
        ));
        Maintainers::Unknown
    }

    async fn hooks(&self, id: &str, of: &Inspected<'_>, found: &mut Vec<Finding>) {
        let list = match self.pages::<Hook>(&["projects", id, "hooks"], &[], LIMITS).await {
            Ok(list) => list.items,
            // A token that may not see them; what is lost by it is seconds.
            Err(_) => return,
        };
        let own: Vec<&Hook> = list.iter().filter(|it| it.url == of.hook_url).collect();
        let note = |code: &str, text: &str| Finding::new(code, Strength::Hard, text);
        if own.is_empty() {
            found.push(note(
                "webhook_missing",
                "No webhook of the project leads here: unless one of its group or of the installation does, changes are \
                 seen within a minute instead of at once.",
            ));
        } else if own
            .iter()
            .all(|it| it.alert_status.as_deref().is_some_and(|it| it != "executable"))
        {
            found.push(note(
                "webhook_disabled",
                "GitLab has disabled the webhook after failures: changes are seen within a minute instead of at once. \
                 Test it in GitLab under Settings → Webhooks, which enables it again.",
            ));
        } else if !own.iter().any(|it| it.push_events && it.merge_requests_events) {
            found.push(note(
                "webhook_incomplete",
                "The webhook does not tell of both merge requests and pushes: some changes are seen within a minute \
                 instead of at once.",
            ));
        }
    }
}

/// What our own token and account can do.
fn account(me: &Identity, project: &ForgeProject, of: &Inspected<'_>, found: &mut Vec<Finding>) {
    if !me.scopes.is_empty() && !me.scopes.iter().any(|it| it == "api") {
        found.push(Finding::new(
            "token_scope",
            Strength::None,
            "The token has not the scope api: it can neither set a status nor merge.",
        ));
    }
    match project.access_level {
        Some(level) if level < DEVELOPER => found.push(Finding::new(
            "account_role",
            Strength::None,
            "The token's account is not even Developer of the project: it can't set a status.",
        )),
        Some(level) if level < MAINTAINER && of.auto_merge => found.push(Finding::new(
            "account_role",
            Strength::Hard,
            "The token's account is not Maintainer: unless a protected branch names it under \"Allowed to merge\", it can't \
             merge what is approved.",
        )),
        _ => {}
    }
    if let Some(day) = &me.token_expires_at
        && days_between(of.today, day).is_some_and(|it| it <= TOKEN_DAYS)
    {
        found.push(Finding::new(
            "token_expires",
            Strength::Hard,
            format!("The token ends on {}. Make a new one in time.", visible(day)),
        ));
    }
}

/// Who can merge into and push to the gated branches.
fn branches(
    of: &Inspected<'_>,
    project: &ForgeProject,
    me: &Identity,
    rules: &[ProtectedBranch],
    maintainers: &Maintainers,
    found: &mut Vec<Finding>,
) {
    let mut others_merge = false;
    for pattern in of.branch_patterns {
        let branch = format!("`{}`", shortened(&visible(pattern), 80));
        if !rules.iter().any(|it| covers(&it.name, pattern)) {
            others_merge = true;
            found.push(Finding::new(
                "unprotected",
                Strength::None,
                format!("{branch} is not protected: every Developer can push to it and merge into it."),
            ));
            continue;
        }
        // Of several rules for one branch, GitLab lets through whoever any of them lets through.
        let (mut push, mut merge, mut force) = (Others::default(), Others::default(), false);
        for rule in rules.iter().filter(|it| overlaps(&it.name, pattern)) {
            push.add(&rule.push_access_levels, &me.account.id);
            merge.add(&rule.merge_access_levels, &me.account.id);
            force |= rule.allow_force_push;
        }
        if let Some(who) = push.words(maintainers) {
            let leaves = if push.developers {
                Strength::None
            } else {
                Strength::Soft
            };
            let forcing = if force { ", by force too" } else { "" };
            found.push(Finding::new(
                "others_push",
                leaves,
                format!(
                    "{who} can push to {branch} directly{forcing}. Set \"Allowed to push and merge\" to No one."
                ),
            ));
        }
        if let Some(who) = merge.words(maintainers) {
            others_merge = true;
            let held = !merge.developers || project.merge_needs_pipeline;
            let leaves = if held { Strength::Soft } else { Strength::None };
            found.push(Finding::new(
                "others_merge",
                leaves,
                format!(
                    "{who} can merge into {branch} in GitLab. Let nobody merge but this server's account: \"Allowed to \
                     merge\", and no other Maintainers where the tier can't name one account."
                ),
            ));
        }
    }
    if others_merge {
        found.push(Finding::new(
            "status_is_display",
            Strength::Soft,
            "A commit status is a display: every Developer can post one under the same name, and a merge request pipeline \
             can stand in front of it. Such a merge is found and reported, not prevented.",
        ));
        if !project.merge_needs_pipeline {
            found.push(Finding::new(
                "pipeline_not_needed",
                Strength::Soft,
                "GitLab merges while the status is pending or failed: \"Pipelines must succeed\" is off.",
            ));
        }
        if project.merge_on_skipped_pipeline {
            found.push(Finding::new(
                "skipped_pipelines",
                Strength::Soft,
                "\"Skipped pipelines are considered successful\" is on: a commit message with [skip ci] opens the way.",
            ));
        }
    } else if !of.auto_merge {
        found.push(Finding::new(
            "nobody_merges",
            Strength::Hard,
            "Only this server's account can merge, and the project is not set to merge what is approved: approved changes \
             stay open.",
        ));
    }
}

fn unreadable(what: &str, why: &str) -> Finding {
    Finding::new(
        "settings_unreadable",
        Strength::None,
        format!("The {what} can't be read, so nobody knows what holds the gate: {why}."),
    )
}

/// A rule takes in every branch that a pattern names. Both know `*` for anything.
fn covers(rule: &str, pattern: &str) -> bool {
    // A `*` of the pattern is taken as a letter: only a `*` of the rule stands for it. GitLab's rules know `*` alone.
    let other_wildcards = pattern.contains(['?', '[', '{']);
    rule == pattern || (!other_wildcards && stars(rule, pattern))
}

/// A rule and a pattern have a branch in common, or may have one.
fn overlaps(rule: &str, pattern: &str) -> bool {
    if covers(rule, pattern) {
        return true;
    }
    match rule.contains('*') {
        false => NamePattern::new(pattern).is_ok_and(|it| it.matches(rule)),
        true => {
            let lead = |text: &str| {
                text.split(['*', '?', '[', '{'])
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            let (own, theirs) = (lead(rule), lead(pattern));
            pattern.contains(['*', '?', '[', '{']) && (own.starts_with(&theirs) || theirs.starts_with(&own))
        }
    }
}

/// `*` stands for anything, `/` included, as in GitLab's protected branches.
fn stars(rule: &str, text: &str) -> bool {
    let mut parts = rule.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn listed(names: &[String]) -> Option<String> {
    let more = names.len().saturating_sub(NAMED_MAX);
    let shown = &names[..names.len() - more];
    match (shown, more) {
        ([], _) => None,
        ([one], 0) => Some(one.clone()),
        ([first @ .., last], 0) => Some(format!("{} and {last}", first.join(", "))),
        (some, more) => Some(format!("{} and {more} more", some.join(", "))),
    }
}

/// Days from one `YYYY-MM-DD` to another.
fn days_between(from: &str, to: &str) -> Option<i64> {
    let day = |text: &str| text.parse::<jiff::civil::Date>().ok();
    let span = day(from)?.until(day(to)?).ok()?;
    Some(i64::from(span.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_what_its_stars_stand_for() {
        for (rule, pattern, covered) in [
            ("main", "main", true),
            ("main", "Main", false),
            ("*", "main", true),
            ("*", "release/*", true),
            ("release/*", "release/*", true),
            ("release/*", "release/1.0", true),
            ("release/*", "release", false),
            ("release/1.0", "release/*", false),
            ("release/*-stable", "release/*", false),
            ("*-stable", "release/1-stable", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("release/*", "release/{a,b}", false),
        ] {
            assert_eq!(covers(rule, pattern), covered, "{rule} {pattern}");
        }
    }

    #[test]
    fn rules_overlap_where_a_branch_may_be_in_both() {
        for (rule, pattern, common) in [
            ("release/1.0", "release/*", true),
            ("release/*-stable", "release/*", true),
            ("hotfix/*", "release/*", false),
            ("*", "main", true),
            ("main", "release/*", false),
            ("rel*", "release/*", true),
            ("release/*-stable", "release/1.0", false),
        ] {
            assert_eq!(overlaps(rule, pattern), common, "{rule} {pattern}");
        }
    }

    #[test]
    fn days_are_counted_over_months() {
        assert_eq!(days_between("2026-11-23", "2026-12-07"), Some(14));
        assert_eq!(days_between("2026-11-23", "2027-11-23"), Some(365));
        assert_eq!(days_between("2026-11-23", "2026-11-20"), Some(-3));
        assert_eq!(days_between("today", "2026-11-20"), None);
    }
}
