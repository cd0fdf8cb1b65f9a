//! Approvals: what any tier has on a merge request, and the rules and settings of Premium.
//! The odd parts are GitLab's: who is no member is dropped from a rule in silence, and a rule nobody may fulfil is fulfilled.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::check_sha;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::licensed;
use crate::support::forge::gitlab::api::method_not_allowed;
use crate::support::forge::gitlab::api::only;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;

/// A rule of a project: how many of whom must approve a merge into which branches.
#[derive(Clone, Debug)]
pub struct ApprovalRule {
    pub id: u64,
    pub name: String,
    /// `regular`, or `any_approver` (of which a project has one).
    pub rule_type: String,
    pub required: usize,
    pub users: Vec<u64>,
    pub groups: Vec<u64>,
    /// Ids of protected branches; none: all branches.
    pub branches: Vec<u64>,
    pub all_protected: bool,
}

fn unknown() -> Reply {
    Reply::message(404, "404 Not found")
}

/// `/projects/:id/approval_rules/…`.
pub fn rules_route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let reads = call.is("GET");
    let project = call.project_as(state, REPORTER)?;
    licensed(state, Tier::Premium, Reply::message(404, "404 Not Found"))?;
    call.project_as(state, if reads { REPORTER } else { MAINTAINER })?;
    let [id, rest @ ..] = rest else {
        return match call.request.method.as_str() {
            "GET" => {
                let rules = state.project(project).approval_rules.iter();
                let list = rules.map(|rule| shown_rule(state, project, rule)).collect();
                page(state, call.request, &call.params, list)
            }
            "POST" => create_rule(state, call, project),
            _ => Err(method_not_allowed()),
        };
    };
    if !rest.is_empty() {
        return Err(Reply::error(404, "404 Not Found"));
    }
    let id = int(id, "approval_rule_id")?;
    let at = state
        .project(project)
        .approval_rules
        .iter()
        .position(|rule| rule.id == id);
    let at = at.ok_or_else(unknown)?;
    match call.request.method.as_str() {
        "GET" => Ok(Reply::json(
            200,
            &shown_rule(state, project, &state.project(project).approval_rules[at]),
        )),
        "PUT" => {
            let mut rule = state.project(project).approval_rules[at].clone();
            fill(state, call, project, &mut rule)?;
            let body = shown_rule(state, project, &rule);
            state.project_mut(project).approval_rules[at] = rule;
            state.run_auto_merges();
            Ok(Reply::json(200, &body))
        }
        "DELETE" => {
            state.project_mut(project).approval_rules.remove(at);
            state.run_auto_merges();
            Ok(Reply::empty(204))
        }
        _ => Err(method_not_allowed()),
    }
}

fn create_rule(state: &mut State, call: &Call, project: u64) -> Answer {
    let name = call.params.required("name")?;
    call.params.required("approvals_required")?;
    let rule_type = call.params.choice("rule_type", &["regular", "any_approver"])?;
    let mut rule = ApprovalRule {
        id: state.fresh_id(),
        name,
        rule_type: rule_type.unwrap_or_else(|| "regular".to_owned()),
        required: 0,
        users: Vec::new(),
        groups: Vec::new(),
        branches: Vec::new(),
        all_protected: false,
    };
    fill(state, call, project, &mut rule)?;
    let any = |kind: &str| kind == "any_approver";
    let rules = &state.project(project).approval_rules;
    if any(&rule.rule_type) && rules.iter().any(|old| any(&old.rule_type)) {
        let body = json!({"message": ["any-approver for the project already exists"]});
        return Err(Reply::json(400, &body));
    }
    let body = shown_rule(state, project, &rule);
    state.project_mut(project).approval_rules.push(rule);
    Ok(Reply::json(201, &body))
}

/// Takes what a call gives into the rule.
fn fill(state: &State, call: &Call, project: u64, rule: &mut ApprovalRule) -> Result<(), Reply> {
    let params = &call.params;
    rule.name = params.text("name").unwrap_or(rule.name.clone());
    let twin = |old: &ApprovalRule| old.id != rule.id && old.name == rule.name;
    if state.project(project).approval_rules.iter().any(twin) {
        return Err(Reply::json(
            400,
            &json!({"message": {"name": ["has already been taken"]}}),
        ));
    }
    if let Some(required) = params.number("approvals_required")? {
        if required > 100 {
            let why = json!({"message": {"approvals_required": ["must be less than or equal to 100"]}});
            return Err(Reply::json(400, &why));
        }
        rule.required = usize::try_from(required).expect("at most 100");
    }
    if let Some(users) = params.numbers("user_ids")? {
        // Others are left out without a word.
        rule.users = users
            .into_iter()
            .filter(|user| state.level(project, *user) > 0)
            .collect();
    }
    if let Some(groups) = params.numbers("group_ids")? {
        rule.groups = groups
            .into_iter()
            .filter(|group| state.groups.contains_key(group))
            .collect();
    }
    if let Some(branches) = params.numbers("protected_branch_ids")? {
        let known = |id: &u64| state.project(project).protections.iter().any(|p| p.id == *id);
        rule.branches = branches.into_iter().filter(known).collect();
    }
    if let Some(all) = params.flag("applies_to_all_protected_branches")? {
        rule.all_protected = all;
        if all {
            rule.branches.clear();
        }
    }
    Ok(())
}

fn people(state: &State, users: impl IntoIterator<Item = u64>) -> Vec<Value> {
    let known = users.into_iter().filter(|user| state.users.contains_key(user));
    known.map(|user| shapes::user_basic(state, user)).collect()
}

fn groups(state: &State, rule: &ApprovalRule) -> Vec<Value> {
    let known = rule.groups.iter().filter_map(|id| state.groups.get(id));
    known
        .map(|group| json!({"id": group.id, "name": group.name, "full_path": group.name}))
        .collect()
}

fn shown_rule(state: &State, project: u64, rule: &ApprovalRule) -> Value {
    let protections = state.project(project).protections.iter();
    let covered = protections.filter(|p| rule.all_protected || rule.branches.contains(&p.id));
    json!({
        "id": rule.id,
        "name": rule.name,
        "rule_type": rule.rule_type,
        "report_type": null,
        "eligible_approvers": people(state, state.named_approvers(project, rule)),
        "approvals_required": rule.required,
        "users": people(state, rule.users.clone()),
        "groups": groups(state, rule),
        "contains_hidden_groups": false,
        "protected_branches": covered.map(|p| shapes::protection(state, p)).collect::<Vec<Value>>(),
        "applies_to_all_protected_branches": rule.all_protected,
    })
}

/// What `POST /projects/:id/approvals` can set.
const SETTINGS: [&str; 8] = [
    "approvals_before_merge",
    "reset_approvals_on_push",
    "selective_code_owner_removals",
    "disable_overriding_approvers_per_merge_request",
    "merge_requests_author_approval",
    "merge_requests_disable_committers_approval",
    "require_password_to_approve",
    "require_reauthentication_to_approve",
];

/// `/projects/:id/approvals`.
pub fn settings_route(state: &mut State, call: &Call) -> Answer {
    let project = call.project_as(state, REPORTER)?;
    licensed(state, Tier::Premium, Reply::message(404, "404 Not Found"))?;
    match call.request.method.as_str() {
        "GET" => Ok(Reply::json(200, &shown_settings(state, project))),
        "POST" => {
            let params = &call.params;
            if !SETTINGS.iter().any(|name| params.0.contains_key(*name)) {
                let text = format!(
                    "{} are missing, at least one parameter must be provided",
                    SETTINGS.join(", ")
                );
                return Err(Reply::error(400, &text));
            }
            call.project_as(state, MAINTAINER)?;
            let flags = SETTINGS.map(|name| {
                if name == SETTINGS[0] {
                    Ok(None)
                } else {
                    params.flag(name)
                }
            });
            let [_, reset, _, fixed, author, committers, password, again] = flags;
            let password = again?.or(password?);
            let (reset, fixed, author, committers) = (reset?, fixed?, author?, committers?);
            let settings = &mut state.project_mut(project).settings;
            let put = |field: &mut bool, given: Option<bool>| *field = given.unwrap_or(*field);
            put(&mut settings.reset_approvals_on_push, reset);
            put(
                &mut settings.disable_overriding_approvers_per_merge_request,
                fixed,
            );
            put(&mut settings.merge_requests_author_approval, author);
            put(
                &mut settings.merge_requests_disable_committers_approval,
                committers,
            );
            put(&mut settings.require_password_to_approve, password);
            Ok(Reply::json(201, &shown_settings(state, project)))
        }
        _ => Err(method_not_allowed()),
    }
}

fn shown_settings(state: &State, project: u64) -> Value {
    let settings = &state.project(project).settings;
    json!({
        "approvers": [],
        "approver_groups": [],
        "approvals_before_merge": 0,
        "reset_approvals_on_push": settings.reset_approvals_on_push,
        "selective_code_owner_removals": false,
        "disable_overriding_approvers_per_merge_request": settings.disable_overriding_approvers_per_merge_request,
        "merge_requests_author_approval": settings.merge_requests_author_approval,
        "merge_requests_disable_committers_approval": settings.merge_requests_disable_committers_approval,
        "require_password_to_approve": settings.require_password_to_approve,
        "require_reauthentication_to_approve": settings.require_password_to_approve,
    })
}

/// The part of `/projects/:id/merge_requests/:iid/…` that is about approvals.
pub fn change_route(state: &mut State, call: &Call, change: &MergeRequest, act: &str) -> Answer {
    let method = call.request.method.as_str();
    match act {
        "approvals" => only(method, "GET").map(|()| Reply::json(200, &shown(state, change, call.user))),
        "approval_state" => only(method, "GET").and_then(|()| {
            licensed(state, Tier::Free, Reply::message(404, "404 Not Found"))?;
            let rules = wrapped(state, change);
            let body = json!({"approval_rules_overwritten": false, "rules": rules});
            Ok(Reply::json(200, &body))
        }),
        "approval_rules" => only(method, "GET").and_then(|()| {
            licensed(state, Tier::Premium, Reply::message(404, "404 Not Found"))?;
            Ok(Reply::json(200, &json!(wrapped(state, change))))
        }),
        "approve" => only(method, "POST").and_then(|()| approve(state, call, change)),
        "unapprove" => only(method, "POST").and_then(|()| unapprove(state, call, change)),
        _ => only(method, "PUT").and_then(|()| reset(state, call, change)),
    }
}

/// In GitLab's order: who may not approve at all, another sha (409), and then who may not approve this one.
fn approve(state: &mut State, call: &Call, change: &MergeRequest) -> Answer {
    let (project, iid) = (change.project, change.iid);
    let unauthorized = || Reply::message(401, "401 Unauthorized");
    if !state.approver_by_role(change, call.user) {
        return Err(unauthorized());
    }
    check_sha(&call.params, change)?;
    let settings = &state.project(project).settings;
    let password = state.has(Tier::Premium)
        && settings.require_password_to_approve
        && call.params.text("approval_password").is_none();
    let twice = change.approvals.iter().any(|(user, _)| *user == call.user);
    if password || twice || change.state != "opened" || state.barred(change).contains(&call.user) {
        return Err(unauthorized());
    }
    state.approve(project, iid, call.user);
    Ok(Reply::json(
        201,
        &shown(state, state.change(project, iid), call.user),
    ))
}

fn unapprove(state: &mut State, call: &Call, change: &MergeRequest) -> Answer {
    let (project, iid) = (change.project, change.iid);
    if !change.approvals.iter().any(|(user, _)| *user == call.user) {
        return Err(Reply::message(404, "404 Not Found"));
    }
    let was = state.approved(project, iid);
    state
        .change_mut(project, iid)
        .approvals
        .retain(|(user, _)| *user != call.user);
    state.touch(project, iid);
    let action = if was { "unapproved" } else { "unapproval" };
    state.raise_change(project, iid, action, call.user, None, json!({}));
    Ok(Reply::json(
        201,
        &shown(state, state.change(project, iid), call.user),
    ))
}

/// Only bots of the project may wipe what others gave.
fn reset(state: &mut State, call: &Call, change: &MergeRequest) -> Answer {
    let bot = state.users.get(&call.user).is_some_and(|user| user.bot);
    if !bot || change.state == "merged" || state.level(change.project, call.user) < DEVELOPER {
        return Err(Reply::message(401, "401 Unauthorized"));
    }
    state.change_mut(change.project, change.iid).approvals.clear();
    state.touch(change.project, change.iid);
    Ok(Reply::empty(202))
}

/// `…/approvals` and the answer of `…/approve`.
fn shown(state: &State, change: &MergeRequest, user: u64) -> Value {
    let mut body = shapes::approvals(state, change);
    let rules = state.rules_of(change);
    let open: Vec<Value> = rules
        .iter()
        .filter(|rule| !state.fulfilled(change, rule))
        .map(|rule| json!({"id": rule.id, "name": rule.name, "rule_type": rule.rule_type}))
        .collect();
    let required: usize = rules.iter().map(|rule| rule.required).sum();
    let left: usize = rules.iter().map(|rule| state.missing(change, rule)).sum();
    if !rules.is_empty() {
        body["approvals_required"] = json!(required);
        body["approvals_left"] = json!(left);
    }
    let has = change.approvals.iter().any(|(who, _)| *who == user);
    let may = !has
        && change.state == "opened"
        && state.approver_by_role(change, user)
        && !state.barred(change).contains(&user);
    body["user_has_approved"] = json!(has);
    body["user_can_approve"] = json!(may);
    body["has_approval_rules"] = json!(!rules.is_empty());
    body["approval_rules_left"] = json!(open);
    body["require_password_to_approve"] =
        json!(state.has(Tier::Premium) && state.project(change.project).settings.require_password_to_approve);
    body["merge_request_approvers_available"] = json!(state.has(Tier::Premium));
    body["multiple_approval_rules_available"] = json!(state.has(Tier::Premium));
    body
}

/// The rules as they stand for one merge request.
fn wrapped(state: &State, change: &MergeRequest) -> Vec<Value> {
    let one = |rule: &ApprovalRule| {
        let able = state.able(change, rule);
        let given = change
            .approvals
            .iter()
            .map(|(user, _)| *user)
            .filter(|user| able.contains(user));
        json!({
            "id": rule.id,
            "name": rule.name,
            "rule_type": rule.rule_type,
            "report_type": null,
            "section": null,
            "eligible_approvers": people(state, able.clone()),
            "approvals_required": rule.required,
            "users": people(state, rule.users.clone()),
            "groups": groups(state, rule),
            "contains_hidden_groups": false,
            "source_rule": null,
            "overridden": false,
            "code_owner": false,
            "approved_by": people(state, given),
            "approved": state.fulfilled(change, rule),
        })
    };
    state.rules_of(change).into_iter().map(one).collect()
}

/// The rules of approvals.
impl State {
    /// Whom a rule names and the project knows.
    fn named_approvers(&self, project: u64, rule: &ApprovalRule) -> BTreeSet<u64> {
        let of_groups = rule
            .groups
            .iter()
            .filter_map(|id| self.groups.get(id))
            .flat_map(|group| &group.members);
        let named: BTreeSet<u64> = rule.users.iter().chain(of_groups).copied().collect();
        if rule.rule_type == "any_approver" {
            return self
                .project(project)
                .members
                .iter()
                .filter(|(_, level)| **level >= DEVELOPER)
                .map(|(user, _)| *user)
                .collect();
        }
        named
            .into_iter()
            .filter(|user| self.level(project, *user) > 0)
            .collect()
    }

    /// Who may not approve this one: its author and its committers, where the project says so.
    pub fn barred(&self, change: &MergeRequest) -> BTreeSet<u64> {
        let mut barred = BTreeSet::new();
        if !self.has(Tier::Premium) {
            return barred;
        }
        let settings = &self.project(change.project).settings;
        if !settings.merge_requests_author_approval {
            barred.insert(change.author);
        }
        if settings.merge_requests_disable_committers_approval {
            let commits = change.diff.commits.iter().filter_map(|sha| self.objects.get(sha));
            let emails: BTreeSet<&str> = commits.map(|commit| commit.committer.email.as_str()).collect();
            let committers = self
                .users
                .values()
                .filter(|user| emails.contains(user.email.as_str()));
            barred.extend(committers.map(|user| user.id));
        }
        barred
    }

    /// Developers approve; with rules also those of lower role whom a rule names.
    fn approver_by_role(&self, change: &MergeRequest, user: u64) -> bool {
        let named = |rule: &&ApprovalRule| self.named_approvers(change.project, rule).contains(&user);
        self.level(change.project, user) >= DEVELOPER || self.rules_of(change).iter().any(named)
    }

    /// The rules that hold for the merge request's target branch.
    pub fn rules_of(&self, change: &MergeRequest) -> Vec<&ApprovalRule> {
        if !self.has(Tier::Premium) {
            return Vec::new();
        }
        let guarding: Vec<u64> = self
            .protections(change.project, &change.target_branch)
            .iter()
            .map(|p| p.id)
            .collect();
        let holds = |rule: &&ApprovalRule| {
            if rule.all_protected {
                !guarding.is_empty()
            } else {
                rule.branches.is_empty() || rule.branches.iter().any(|id| guarding.contains(id))
            }
        };
        self.project(change.project)
            .approval_rules
            .iter()
            .filter(holds)
            .collect()
    }

    /// Whose approval counts for the rule.
    fn able(&self, change: &MergeRequest, rule: &ApprovalRule) -> BTreeSet<u64> {
        let barred = self.barred(change);
        self.named_approvers(change.project, rule)
            .difference(&barred)
            .copied()
            .collect()
    }

    /// How many approvals the rule still waits for. One that nobody can fulfil waits for none.
    fn missing(&self, change: &MergeRequest, rule: &ApprovalRule) -> usize {
        let able = self.able(change, rule);
        if able.is_empty() && rule.rule_type != "any_approver" {
            return 0;
        }
        let given = change
            .approvals
            .iter()
            .filter(|(user, _)| able.contains(user))
            .count();
        rule.required.saturating_sub(given)
    }

    pub fn fulfilled(&self, change: &MergeRequest, rule: &ApprovalRule) -> bool {
        self.missing(change, rule) == 0
    }

    /// Whether the approvals the project asks for are there.
    pub fn approved(&self, project: u64, iid: u64) -> bool {
        let change = self.change(project, iid);
        let settings = &self.project(project).settings;
        let counts = |user: &u64| settings.approvers.is_empty() || settings.approvers.contains(user);
        let given = change.approvals.iter().filter(|(user, _)| counts(user)).count();
        given >= settings.approvals_required
            && self
                .rules_of(change)
                .iter()
                .all(|rule| self.fulfilled(change, rule))
    }

    /// Stores an approval and tells it: `approved` when nothing more is missing.
    pub fn approve(&mut self, project: u64, iid: u64, user: u64) {
        self.change_mut(project, iid)
            .approvals
            .push((user, Timestamp::now()));
        self.touch(project, iid);
        let action = if self.approved(project, iid) {
            "approved"
        } else {
            "approval"
        };
        self.raise_change(project, iid, action, user, None, json!({}));
        self.run_auto_merges();
    }

    /// After a push: Premium takes approvals back where the project says so, and tells it as an act of the system.
    pub fn reset_approvals(&mut self, project: u64, iid: u64, user: u64) {
        let wanted = self.has(Tier::Premium) && self.project(project).settings.reset_approvals_on_push;
        if !wanted || self.change(project, iid).approvals.is_empty() {
            return;
        }
        let was = self.approved(project, iid);
        self.change_mut(project, iid).approvals.clear();
        let action = if was { "unapproved" } else { "unapproval" };
        self.raise_system_change(project, iid, action, user, "approvals_reset_on_push");
    }
}
