//! What a repository's settings really enforce. On Bitbucket whoever may read can write a build status, so only a branch
//! permission is a lock: all changes prevented, with nobody but our own account as an exception.

use crate::domain::gate::{Finding, Strength};
use crate::domain::project::Enforcement;
use crate::domain::text::{shortened, visible};
use crate::forge::Inspected;
use crate::forge::bitbucket_data_center::matcher::{Fits, Matcher};
use crate::forge::bitbucket_data_center::repository::{Me, Place};
use crate::forge::bitbucket_data_center::{BitbucketDataCenter, User, explained};
use crate::forge::git::short_ref;
use crate::forge::pages::{Limits, is_limit};
use crate::outbound::{Error, Method};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that looking at a project takes: who we are, itself, its branches, permissions, builds, merge checks, webhooks.
const INSPECT_CALLS: u32 = 9;
/// Gated branches looked at.
const BRANCHES_MAX: usize = 20;
const LIMITS: Limits = Limits {
    pages: 20,
    bytes: 8 * 1024 * 1024,
};
/// Names in one finding.
const NAMED_MAX: usize = 3;
/// What a webhook has to tell of.
const EVENTS: [&str; 6] = [
    "repo:refs_changed",
    "pr:opened",
    "pr:from_ref_updated",
    "pr:modified",
    "pr:merged",
    "pr:declined",
];

/// A branch permission.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Restriction {
    /// `read-only`, `pull-request-only`, `fast-forward-only` or `no-deletes`.
    #[serde(rename = "type")]
    kind: String,
    matcher: Matcher,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    access_keys: Vec<Value>,
}

/// A required build.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    build_parent_keys: Vec<String>,
    ref_matcher: Matcher,
    exempt_ref_matcher: Option<Matcher>,
}

#[derive(Clone, Debug, Deserialize)]
struct Webhook {
    #[serde(default)]
    url: String,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    events: Vec<String>,
}

/// What was read about a repository, as far as it holds its branches.
struct Held {
    /// `None`: we may not read them.
    restrictions: Option<Vec<Restriction>>,
    conditions: Vec<Condition>,
    /// The number of our account, as text.
    ours: String,
    /// We merge what is approved.
    merges: bool,
}

impl BitbucketDataCenter {
    /// See [`crate::forge::Forge::inspect`].
    pub(crate) async fn inspect(&self, of: &Inspected<'_>) -> Result<Vec<Finding>, Error> {
        self.begin(INSPECT_CALLS)?;
        let me = self.who().await?;
        let place = self.place(of.forge_project_id).await?;
        let project = self.project(of.forge_project_id).await?;
        let merges = of.auto_merge || of.enforcement == Enforcement::MergeBroker;
        let mut found = about_us(&me, merges);
        if project.archived {
            found.push(Finding::new(
                "archived",
                Strength::Hard,
                "The repository is archived: nothing can be merged.",
            ));
        }
        self.look_at_hooks(of, &place, &mut found).await?;
        if merges {
            self.look_at_merge_checks(&place, &mut found).await?;
        }
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
                format!("More than {BRANCHES_MAX} branches are gated; the others are not looked at here."),
            ));
        }
        let held = self.held(&place, me.identity.account.id.clone(), merges).await?;
        let mut by_code: BTreeMap<(String, Strength, String), Vec<String>> = BTreeMap::new();
        for branch in branches.keys().take(BRANCHES_MAX) {
            for it in held.look_at(branch) {
                let names = by_code.entry((it.code, it.leaves, it.text)).or_default();
                names.push(visible(short_ref(branch)));
            }
        }
        // The same about several branches is one finding.
        for ((code, leaves, text), branches) in by_code {
            let (shown, more) = branches.split_at(branches.len().min(NAMED_MAX));
            let more = match more.len() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            let named = format!("{}{more}", shown.join(", "));
            found.push(Finding::new(&code, leaves, text.replace("BRANCH", &named)));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Branch permissions and required builds.
    async fn held(&self, place: &Place, ours: String, merges: bool) -> Result<Held, Error> {
        let restrictions = self
            .pages_of::<Restriction>("branch-permissions", place, &["restrictions"], &[], LIMITS)
            .await;
        let restrictions = match restrictions {
            Ok(listed) if listed.whole => Some(listed.items),
            Ok(_) => None,
            Err(bad) if matches!(bad.error.status(), Some(401 | 403 | 404)) => None,
            Err(bad) => return Err(bad.error),
        };
        let conditions = self
            .pages_of::<Condition>("required-builds", place, &["conditions"], &[], LIMITS)
            .await;
        let conditions = match conditions {
            Ok(listed) => listed.items,
            // Older than 7.14.
            Err(bad) if matches!(bad.error.status(), Some(401 | 403 | 404)) => Vec::new(),
            Err(bad) => return Err(bad.error),
        };
        Ok(Held {
            restrictions,
            conditions,
            ours,
            merges,
        })
    }

    /// Where the repository's webhooks lead.
    async fn look_at_hooks(
        &self,
        of: &Inspected<'_>,
        place: &Place,
        found: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        let mut hint = |code: &str, text: &str| found.push(Finding::new(code, Strength::Hard, text));
        let own = self.in_repository(Method::Get, "api", place, &["webhooks"])?;
        let project = self.call(
            Method::Get,
            &["api", "latest", "projects", &place.key, "webhooks"],
        )?;
        let mut hooks: Vec<Webhook> = Vec::new();
        let mut unread = false;
        for (call, decides) in [(own, true), (project, false)] {
            match self.fetch(call.query([("limit", "1000")])).await {
                Ok(reply) => hooks.extend(reply.json::<super::Page<Webhook>>()?.values),
                Err(error) if is_limit(&error) => return Err(error),
                Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => unread |= decides,
                Err(error) => return Err(error),
            }
        }
        let leads_here = |it: &&Webhook| it.url.trim_end_matches('/') == of.hook_url;
        match hooks.iter().find(leads_here) {
            None if unread => hint(
                "webhook_unread",
                "Bitbucket shows its webhooks only to admins of the repository. Without one this server looks by itself, \
                 within a minute.",
            ),
            None => hint(
                "webhook_missing",
                "No webhook leads here. Without it this server looks by itself, within a minute. To be told at once, create \
                 one in the repository's settings.",
            ),
            Some(it) if !it.active => hint(
                "webhook_inactive",
                "The webhook is switched off. Tick Active in the repository's settings, under Webhooks.",
            ),
            Some(it) if !EVENTS.iter().all(|event| it.events.iter().any(|it| it == event)) => hint(
                "webhook_events",
                "The webhook does not tell everything. Tick Push, and of pull requests Opened, Source branch updated, \
                 Modified, Merged, Declined and Deleted.",
            ),
            Some(_) => {}
        }
        Ok(())
    }

    /// What else Bitbucket asks for before it merges: this server's merges wait for it, too.
    async fn look_at_merge_checks(&self, place: &Place, found: &mut Vec<Finding>) -> Result<(), Error> {
        let settings: Value = match self.get(place, &["settings", "pull-requests"], &[]).await {
            Ok(it) => it,
            Err(error) if is_limit(&error) => return Err(error),
            Err(_) => return Ok(()),
        };
        let asked = merge_checks(&settings);
        if !asked.is_empty() {
            found.push(Finding::new(
                "merge_checks",
                Strength::Hard,
                format!(
                    "Bitbucket has merge checks of its own: {}. What is approved here waits for them as well.",
                    asked.join(", ")
                ),
            ));
        }
        Ok(())
    }
}

/// What our account and the version of Bitbucket allow.
fn about_us(me: &Me, merges: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if me.service && merges {
        found.push(Finding::new(
            "service_account",
            Strength::Hard,
            "The token is one of a project or repository. Bitbucket lets no such token merge, and no branch permission can \
             name it as an exception: connect with the token of a user of this server's own.",
        ));
    }
    let version = &me.identity.version;
    let mut numbers = version.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (1..7).contains(&major) || (major == 7 && minor < 14) {
        found.push(Finding::new(
            "old_version",
            Strength::None,
            format!(
                "Bitbucket {} is too old: build statuses and required builds of a repository came with 7.14.",
                shortened(&visible(version), 20)
            ),
        ));
    }
    found
}

/// The merge checks that are switched on, in words. Older versions write a number where newer ones write an object.
fn merge_checks(settings: &Value) -> Vec<String> {
    let count = |name: &str| -> u64 {
        let it = &settings[name];
        let number = |it: &Value| it.as_u64().or_else(|| it.as_str().and_then(|it| it.parse().ok()));
        match it["enabled"].as_bool() {
            Some(false) => 0,
            Some(true) => number(&it["count"]).unwrap_or(1),
            None => number(it).unwrap_or(0),
        }
    };
    let on = |name: &str| settings[name] == true;
    let mut asked = Vec::new();
    match count("requiredApprovers") {
        0 => {}
        1 => asked.push("an approval by a reviewer".to_owned()),
        many => asked.push(format!("{many} approvals by reviewers")),
    }
    if on("requiredAllApprovers") {
        asked.push("the approval of all reviewers".to_owned());
    }
    if on("requiredAllTasksComplete") {
        asked.push("all tasks done".to_owned());
    }
    match count("requiredSuccessfulBuilds") {
        0 => {}
        1 => asked.push("a successful build".to_owned()),
        many => asked.push(format!("{many} successful builds")),
    }
    asked
}

impl Held {
    /// What holds one branch, given as a full ref. `BRANCH` stands for its name.
    fn look_at(&self, branch: &str) -> Vec<Finding> {
        let name = short_ref(branch);
        let key = format!("signedapproval/{name}");
        let builds: Vec<&Condition> = self
            .conditions
            .iter()
            .filter(|it| it.ref_matcher.fits(branch) == Fits::Yes)
            .filter(|it| it.build_parent_keys.contains(&key))
            .collect();
        let Some(restrictions) = &self.restrictions else {
            let leaves = match builds.is_empty() {
                true => Strength::None,
                false => Strength::Soft,
            };
            return vec![Finding::new(
                "permissions_unread",
                leaves,
                "Bitbucket shows the branch permissions of BRANCH only to admins of the repository, so nobody knows who can \
                 merge and push there. Give this server's account and its token Admin on the repository.",
            )];
        };
        let of_kind = |kind: &'static str| -> Vec<&Restriction> {
            let all = restrictions.iter();
            all.filter(|it| it.kind == kind && it.matcher.fits(branch) == Fits::Yes)
                .collect()
        };
        let locks = of_kind("read-only");
        if locks.is_empty() {
            return self.without_lock(&builds, &of_kind("pull-request-only"));
        }
        let mut found = Vec::new();
        let others = self.others(&locks);
        if !others.is_empty() {
            found.push(Finding::new(
                "others_merge",
                Strength::Soft,
                format!(
                    "Others than this server can change BRANCH: {}. Take them off the exceptions of the branch permission \
                     Prevent all changes.",
                    named(&others)
                ),
            ));
        }
        let ours = |it: &Restriction| it.users.iter().any(|it| it.id.to_string() == self.ours);
        if self.merges && !locks.iter().all(|it| ours(it)) {
            found.push(Finding::new(
                "we_cannot_merge",
                Strength::Hard,
                "This server can't merge into BRANCH. Name its account as an exception of the branch permission Prevent all \
                 changes.",
            ));
        }
        if !self.merges && others.is_empty() {
            found.push(Finding::new(
                "nobody_merges",
                Strength::Hard,
                "Only this server could change BRANCH, and it is not asked to merge. Enforce the project by merge broker, or \
                 let it merge what is approved.",
            ));
        }
        found
    }

    /// A branch that nothing but a required build holds, if that.
    fn without_lock(&self, builds: &[&Condition], pull_requests: &[&Restriction]) -> Vec<Finding> {
        let way = "Make it hard: prevent all changes to it in the repository's branch permissions, with this server's account \
                   as the only exception, and enforce the project by merge broker";
        if builds.is_empty() {
            return vec![Finding::new(
                "not_required",
                Strength::None,
                format!(
                    "Nothing on Bitbucket holds BRANCH: neither a branch permission nor a required build signedapproval/BRANCH. \
                     {way}."
                ),
            )];
        }
        let mut found = vec![Finding::new(
            "any_source",
            Strength::Soft,
            format!(
                "Bitbucket requires the build of BRANCH, and takes it from anybody who may read the repository. A forged one is \
                 found and set back, not prevented. {way}."
            ),
        )];
        if builds.iter().all(|it| it.exempt_ref_matcher.is_some()) {
            found.push(Finding::new(
                "exempt_sources",
                Strength::Soft,
                "The required build of BRANCH exempts some source branches: whoever may push can name a branch like them. Take \
                 the exemption away.",
            ));
        }
        let others = self.others(pull_requests);
        if pull_requests.is_empty() {
            found.push(Finding::new(
                "others_push",
                Strength::Soft,
                "Whoever may write can push into BRANCH without a pull request. Add the branch permission Prevent changes \
                 without a pull request, without exceptions.",
            ));
        } else if !others.is_empty() {
            found.push(Finding::new(
                "others_push",
                Strength::Soft,
                format!(
                    "Some can push into BRANCH without a pull request: {}. Take them off the exceptions of that branch \
                     permission.",
                    named(&others)
                ),
            ));
        }
        found
    }

    /// Who is exempt from any of them, besides us. Which of several holds is not documented, so the weakest counts.
    fn others(&self, all: &[&Restriction]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for it in all {
            let users = it.users.iter().filter(|it| it.id.to_string() != self.ours);
            found.extend(users.map(|it| shortened(&visible(&it.name), 60)));
            found.extend(
                it.groups
                    .iter()
                    .map(|it| format!("the group {}", shortened(&visible(it), 60))),
            );
            if !it.access_keys.is_empty() {
                found.insert("access keys".to_owned());
            }
        }
        found
    }
}

fn named(all: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = all.iter().map(String::as_str).take(NAMED_MAX).collect();
    match all.len().saturating_sub(NAMED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MAIN: &str = "refs/heads/main";

    fn restriction(kind: &str, users: &[u64], groups: &[&str]) -> Value {
        let users: Vec<Value> = users
            .iter()
            .map(|it| json!({"id": it, "name": format!("u{it}")}))
            .collect();
        json!({"id": 1, "type": kind, "users": users, "groups": groups, "accessKeys": [],
            "matcher": {"id": MAIN, "displayId": "main", "type": {"id": "BRANCH", "name": "Branch"}}})
    }

    fn condition(key: &str) -> Value {
        json!({"id": 1, "buildParentKeys": [key], "refMatcher": {"id": MAIN, "type": {"id": "BRANCH"}}})
    }

    fn codes(
        restrictions: Option<Vec<Value>>,
        conditions: Vec<Value>,
        merges: bool,
    ) -> Vec<(String, Strength)> {
        let held = Held {
            restrictions: restrictions.map(|it| serde_json::from_value(json!(it)).expect("restrictions")),
            conditions: serde_json::from_value(json!(conditions)).expect("conditions"),
            ours: "7".to_owned(),
            merges,
        };
        held.look_at(MAIN)
            .into_iter()
            .map(|it| (it.code, it.leaves))
            .collect()
    }

    #[test]
    fn only_a_branch_that_nobody_else_may_change_is_hard() {
        let locked = |users: &[u64], groups: &[&str]| Some(vec![restriction("read-only", users, groups)]);
        let one = |code: &str, leaves| vec![(code.to_owned(), leaves)];
        assert_eq!(codes(locked(&[7], &[]), vec![], true), vec![]);
        assert_eq!(
            codes(locked(&[7, 8], &[]), vec![], true),
            one("others_merge", Strength::Soft)
        );
        assert_eq!(
            codes(locked(&[7], &["devs"]), vec![], true),
            one("others_merge", Strength::Soft)
        );
        assert_eq!(
            codes(locked(&[], &[]), vec![], true),
            one("we_cannot_merge", Strength::Hard)
        );
        assert_eq!(
            codes(locked(&[7], &[]), vec![], false),
            one("nobody_merges", Strength::Hard)
        );
        let keys = json!({"id": 1, "type": "read-only", "users": [{"id": 7, "name": "us"}], "accessKeys": [{"key": {}}],
            "matcher": {"id": MAIN, "type": {"id": "BRANCH"}}});
        assert_eq!(
            codes(Some(vec![keys]), vec![], true),
            one("others_merge", Strength::Soft)
        );
        // Which of two holds is not known: the weaker one counts.
        let two = vec![
            restriction("read-only", &[7], &[]),
            restriction("read-only", &[7, 8], &[]),
        ];
        assert_eq!(
            codes(Some(two), vec![], true),
            one("others_merge", Strength::Soft)
        );
    }

    #[test]
    fn a_required_build_alone_is_soft_and_nothing_is_none() {
        let build = || vec![condition("signedapproval/main")];
        let names = |found: Vec<(String, Strength)>| found.into_iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(
            codes(Some(vec![]), vec![], true),
            vec![("not_required".to_owned(), Strength::None)]
        );
        let other = codes(Some(vec![]), vec![condition("signedapproval/dev")], true);
        assert_eq!(other, vec![("not_required".to_owned(), Strength::None)]);
        assert_eq!(
            names(codes(Some(vec![]), build(), true)),
            ["any_source", "others_push"]
        );
        let only = Some(vec![restriction("pull-request-only", &[], &[])]);
        assert_eq!(
            codes(only, build(), true),
            vec![("any_source".to_owned(), Strength::Soft)]
        );
        let most = Some(vec![restriction("pull-request-only", &[], &["admins"])]);
        assert_eq!(names(codes(most, build(), true)), ["any_source", "others_push"]);
        let mut exempt = condition("signedapproval/main");
        exempt["exemptRefMatcher"] = json!({"id": "hotfix/*", "type": {"id": "PATTERN"}});
        assert!(names(codes(Some(vec![]), vec![exempt], true)).contains(&"exempt_sources".to_owned()));
        assert_eq!(
            codes(None, vec![], true),
            vec![("permissions_unread".to_owned(), Strength::None)]
        );
        assert_eq!(
            codes(None, build(), true),
            vec![("permissions_unread".to_owned(), Strength::Soft)]
        );
    }

    #[test]
    fn merge_checks_of_every_version_are_read() {
        assert!(merge_checks(&json!({"requiredApprovers": 0, "requiredAllTasksComplete": false})).is_empty());
        let old = merge_checks(&json!({"requiredApprovers": 2, "requiredAllTasksComplete": true}));
        assert_eq!(old, ["2 approvals by reviewers", "all tasks done"]);
        let new = merge_checks(&json!({"requiredApprovers": {"enabled": true, "count": "1"},
            "requiredSuccessfulBuilds": {"enabled": false, "count": "3"}, "requiredAllApprovers": true}));
        assert_eq!(
            new,
            ["an approval by a reviewer", "the approval of all reviewers"]
        );
    }
}
