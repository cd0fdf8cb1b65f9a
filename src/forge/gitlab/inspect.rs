//! What a project's settings really enforce. On GitLab a commit status is a display: the gate is hard only where nobody
//! but our account can merge into or push to the gated branches.

use crate::domain::gate::{Finding, Strength};
use crate::domain::policy::NamePattern;
use crate::domain::project::Enforcement;
use crate::domain::text::{shortened, visible};
use crate::forge::gitlab::{GitLab, Limits, explained, project_number};
use crate::forge::{ForgeProject, Identity, Inspected};
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Roles, by GitLab's numbers.
const DEVELOPER: u32 = 30;
pub(super) const MAINTAINER: u32 = 40;
const ADMINISTRATOR: u32 = 60;
/// How much of a list is read; more is told as unreadable.
/// Calls that looking at a project takes: itself, protected branches, members, hooks.
const INSPECT_CALLS: u32 = 4;
pub(super) const LIMITS: Limits = Limits {
    pages: 20,
    bytes: 4 * 1024 * 1024,
};
/// People named in a finding.
const NAMED_MAX: usize = 3;
/// A token that ends within so many days is told of.
const TOKEN_DAYS: i64 = 14;

/// Whom a protected branch lets push or merge.
#[derive(Debug, Deserialize)]
pub(super) struct Access {
    access_level: Option<u32>,
    user_id: Option<u64>,
    group_id: Option<u64>,
    deploy_key_id: Option<u64>,
    access_level_description: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProtectedBranch {
    /// A branch, or a pattern in which `*` stands for anything.
    pub(super) name: String,
    #[serde(default)]
    pub(super) push_access_levels: Vec<Access>,
    #[serde(default)]
    pub(super) merge_access_levels: Vec<Access>,
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
    #[serde(default)]
    pipeline_events: bool,
    #[serde(default)]
    job_events: bool,
    /// `executable`, `temporarily_disabled` or `disabled`; absent before GitLab 15.
    alert_status: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ApprovalRule {
    #[serde(default)]
    approvals_required: u32,
    #[serde(default)]
    users: Vec<Numbered>,
    #[serde(default)]
    groups: Vec<Numbered>,
    #[serde(default)]
    protected_branches: Vec<Named>,
    #[serde(default)]
    applies_to_all_protected_branches: bool,
}

impl ApprovalRule {
    /// Nobody but this account can fill it.
    fn is_only(&self, account: &str) -> bool {
        let [only] = self.users.as_slice() else {
            return false;
        };
        self.approvals_required > 0 && self.groups.is_empty() && only.id.to_string() == account
    }
}

#[derive(Debug, Deserialize)]
struct Numbered {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct ApprovalSettings {
    #[serde(default)]
    reset_approvals_on_push: bool,
    #[serde(default)]
    disable_overriding_approvers_per_merge_request: bool,
    #[serde(default)]
    merge_requests_disable_committers_approval: bool,
}

#[derive(Debug, Deserialize)]
struct ExternalCheck {
    #[serde(default)]
    external_url: String,
}

/// Who besides our account gets through a list of accesses.
#[derive(Debug, Default)]
pub(super) struct Others {
    developers: bool,
    maintainers: bool,
    /// Administrators of the installation, and whoever is named one by one.
    named: BTreeSet<String>,
}

impl Others {
    pub(super) fn add(&mut self, list: &[Access], own: &str) {
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
    pub(super) fn words(&self, maintainers: &Maintainers) -> Option<String> {
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
pub(super) enum Maintainers {
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
        let held = match of.enforcement {
            Enforcement::BotApproval => {
                self.held_by_approval(id, of, &me, rules.as_deref(), &mut found)
                    .await
            }
            Enforcement::ExternalStatusCheck => {
                self.external_check(id, of, &project, &mut found).await;
                BTreeSet::new()
            }
            Enforcement::MergeBroker | Enforcement::CommitStatus => BTreeSet::new(),
        };
        if let Some(rules) = rules {
            let maintainers = self.maintainers(id, &me, &mut found).await;
            let asked = Asked {
                of,
                project: &project,
                me: &me,
                held: &held,
            };
            branches(&asked, &rules, &maintainers, &mut found);
            self.environments(of, &project, &me, &rules, &maintainers, &mut found)
                .await;
        }
        if project.access_level.is_none_or(|it| it >= MAINTAINER) {
            self.hooks(id, of, &mut found).await;
        }
        Ok(found)
    }

    /// The patterns whose branches take nothing without our account's approval, as far as GitLab's approval rules go;
    /// what is missing for that is found.
    async fn held_by_approval(
        &self,
        id: &str,
        of: &Inspected<'_>,
        me: &Identity,
        branches: Option<&[ProtectedBranch]>,
        found: &mut Vec<Finding>,
    ) -> BTreeSet<String> {
        let mut missing = |code: &str, text: &str| found.push(Finding::new(code, Strength::Soft, text));
        let rules = self
            .pages::<ApprovalRule>(&["projects", id, "approval_rules"], &[], LIMITS)
            .await;
        let settings = self
            .get::<ApprovalSettings>(&["projects", id, "approvals"], &[])
            .await;
        let (rules, settings) = match (rules, settings) {
            (Ok(rules), Ok(settings)) if rules.whole => (rules.items, settings),
            _ => {
                missing(
                    "approvals_unreadable",
                    "The approval rules can't be read: they need GitLab Premium, and the token's account the role \
                     Maintainer. Without them nothing waits for this server's approval.",
                );
                return BTreeSet::new();
            }
        };
        let ours: Vec<&ApprovalRule> = rules.iter().filter(|it| it.is_only(&me.account.id)).collect();
        let branches = branches.unwrap_or_default();
        let covered = |pattern: &String| {
            ours.iter().any(|rule| {
                rule.applies_to_all_protected_branches
                    || rule.protected_branches.iter().any(|it| covers(&it.name, pattern))
                    // A rule that names no branch counts for all, protected or not.
                    || (rule.protected_branches.is_empty() && branches.iter().any(|it| covers(&it.name, pattern)))
            })
        };
        let mut held: BTreeSet<String> = of
            .branch_patterns
            .iter()
            .filter(|it| covered(it))
            .cloned()
            .collect();
        for pattern in of.branch_patterns.iter().filter(|it| !held.contains(*it)) {
            let branch = shortened(&visible(pattern), 80);
            missing(
                "approval_rule_missing",
                &format!(
                    "No approval rule makes `{branch}` wait for this server's account, and for it alone."
                ),
            );
        }
        let mut sound = true;
        for (holds, code, text) in [
            (
                settings.reset_approvals_on_push,
                "approvals_kept",
                "An approval outlives a push: \"Remove all approvals when commits are added\" is off.",
            ),
            (
                settings.disable_overriding_approvers_per_merge_request,
                "approvals_overridden",
                "Whoever opens a merge request may change its approval rules: \"Prevent editing approval rules in merge \
                 requests\" is off.",
            ),
            (
                !settings.merge_requests_disable_committers_approval,
                "approval_void",
                "A commit that names this server's account as its committer takes away the one who may approve, and GitLab \
                 calls a rule that nobody may fill fulfilled: switch off \"Prevent approvals by users who add commits\". \
                 This server keeps committers from approving by itself.",
            ),
            (
                // GitLab closed the gap of some seconds between a push and the end of its approvals in 16.0 (issue 383776).
                version_of(&me.version).is_some_and(|it| it >= (16, 0)),
                "approval_window",
                "This GitLab is older than 16.0, or hides its version: for some seconds after a push it still counts the \
                 approval of the commit before.",
            ),
        ] {
            if !holds {
                sound = false;
                missing(code, text);
            }
        }
        if !sound {
            held.clear();
        }
        held
    }

    /// What keeps our external status check from counting; at best it is a display that GitLab waits for.
    async fn external_check(
        &self,
        id: &str,
        of: &Inspected<'_>,
        project: &ForgeProject,
        found: &mut Vec<Finding>,
    ) {
        let mut soft = |code: &str, text: &str| found.push(Finding::new(code, Strength::Soft, text));
        let list = self
            .pages::<ExternalCheck>(&["projects", id, "external_status_checks"], &[], LIMITS)
            .await;
        match list {
            Ok(list) if list.items.iter().any(|it| it.external_url == of.hook_url) => {}
            Ok(_) => soft(
                "check_missing",
                "No external status check of the project leads here, so none is waited for.",
            ),
            Err(_) => soft(
                "checks_unreadable",
                "The external status checks can't be read: they need GitLab Ultimate, and the token's account the role \
                 Maintainer.",
            ),
        }
        if !project.merge_needs_checks {
            soft(
                "check_not_needed",
                "GitLab merges without it: \"Status checks must succeed\" is off.",
            );
        }
        soft(
            "check_is_display",
            "Every Developer of the project may answer an external status check as passed. Such a merge is found and \
             reported, not prevented.",
        );
    }

    pub(super) async fn maintainers(&self, id: &str, me: &Identity, found: &mut Vec<Finding>) -> Maintainers {
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
            if self.system_hook_leads(of.hook_url).await {
                return;
            }
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
        } else if !of.environments.is_empty() && !own.iter().any(|it| it.pipeline_events || it.job_events) {
            found.push(note(
                "webhook_no_pipelines",
                "The webhook tells neither of pipelines nor of jobs: deployments that wait are seen within 25 seconds \
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

/// What branches are judged by.
struct Asked<'a> {
    of: &'a Inspected<'a>,
    project: &'a ForgeProject,
    me: &'a Identity,
    /// Patterns whose branches take nothing without our account's approval.
    held: &'a BTreeSet<String>,
}

/// Who can merge into and push to the gated branches.
fn branches(
    asked: &Asked<'_>,
    rules: &[ProtectedBranch],
    maintainers: &Maintainers,
    found: &mut Vec<Finding>,
) {
    let Asked {
        of,
        project,
        me,
        held,
    } = asked;
    let (mut others_merge, mut only_we) = (false, true);
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
        if let Some(said_who) = push.words(maintainers) {
            let leaves = if push.developers {
                Strength::None
            } else {
                Strength::Soft
            };
            found.push(Finding::new(
                "others_push",
                leaves,
                match force {
                    true => format!(
                        "{said_who} can push to {branch} directly, by force too. Set \"Allowed to push and merge\" to No one."
                    ),
                    false => format!(
                        "{said_who} can push to {branch} directly. Set \"Allowed to push and merge\" to No one."
                    ),
                },
            ));
        }
        let who = merge.words(maintainers);
        only_we &= who.is_none();
        if let Some(said_who) = who.filter(|_| !held.contains(pattern)) {
            others_merge = true;
            let held = !merge.developers || project.merge_needs_pipeline;
            let leaves = if held { Strength::Soft } else { Strength::None };
            found.push(Finding::new(
                "others_merge",
                leaves,
                format!(
                    "{said_who} can merge into {branch} in GitLab. Let nobody merge but this server's account: \"Allowed to \
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
    } else if only_we && !of.auto_merge {
        found.push(Finding::new(
            "nobody_merges",
            Strength::Hard,
            "Only this server's account can merge, and the project is not set to merge what is approved: approved changes \
             stay open.",
        ));
    }
}

pub(super) fn unreadable(what: &str, why: &str) -> Finding {
    Finding::new(
        "settings_unreadable",
        Strength::None,
        format!("The {what} can't be read, so nobody knows what holds the gate: {why}."),
    )
}

/// A rule takes in every branch that a pattern names. Both know `*` for anything.
pub(super) fn covers(rule: &str, pattern: &str) -> bool {
    // A `*` of the pattern is taken as a letter: only a `*` of the rule stands for it. GitLab's rules know `*` alone.
    let other_wildcards = pattern.contains(['?', '[', '{']);
    rule == pattern || (!other_wildcards && stars(rule, pattern))
}

/// A rule and a pattern have a branch in common, or may have one.
pub(super) fn overlaps(rule: &str, pattern: &str) -> bool {
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

pub(super) fn listed(names: &[String]) -> Option<String> {
    let more = names.len().saturating_sub(NAMED_MAX);
    let shown = &names[..names.len() - more];
    match (shown, more) {
        ([], _) => None,
        ([one], 0) => Some(one.clone()),
        ([first @ .., last], 0) => Some(format!("{} and {last}", first.join(", "))),
        (some, more) => Some(format!("{} and {more} more", some.join(", "))),
    }
}

/// Major and minor of a version as `17.4.1-ee`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
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
