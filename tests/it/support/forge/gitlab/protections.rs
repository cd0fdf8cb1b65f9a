//! Protected branches and the settings of a project as GitLab's API manages them, and the rights that follow from them.
//! Free knows one level for each act; Premium names users, groups and several levels.

use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Params;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::decode;
use crate::support::forge::gitlab::api::method_not_allowed;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::Access;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::Group;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::Protection;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;

/// Levels a protected branch may name: no one, Developers, Maintainers, administrators.
const LEVELS: [u64; 4] = [0, 30, 40, 60];

fn unknown() -> Reply {
    Reply::message(404, "404 Not found")
}

/// `/projects/:id/protected_branches/…`.
pub fn route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let reads = call.is("GET");
    let project = call.project_as(state, if reads { DEVELOPER } else { MAINTAINER })?;
    match rest {
        [] if reads => {
            let search = call.params.text("search");
            let rules = state.project(project).protections.iter();
            let found = rules.filter(|rule| {
                search
                    .as_ref()
                    .is_none_or(|text| rule.name.contains(text.as_str()))
            });
            let list = found.map(|rule| shapes::protection(state, rule)).collect();
            page(state, call.request, &call.params, list)
        }
        [] if call.is("POST") => protect(state, call, project),
        [name] => {
            let name = decode(name);
            let at = state
                .project(project)
                .protections
                .iter()
                .position(|rule| rule.name == name);
            let at = at.ok_or_else(unknown)?;
            match call.request.method.as_str() {
                "GET" => Ok(Reply::json(
                    200,
                    &shapes::protection(state, &state.project(project).protections[at]),
                )),
                "DELETE" => unprotect(state, call, project, at),
                "PATCH" => edit(state, call, project, at),
                _ => Err(method_not_allowed()),
            }
        }
        _ => Err(method_not_allowed()),
    }
}

/// The level of one act, if it was given and GitLab knows it.
fn level(params: &Params, name: &str) -> Result<Option<u64>, Reply> {
    let bad = || Reply::error(400, &format!("{name} does not have a valid value"));
    match params.number(name)? {
        Some(level) if !LEVELS.contains(&level) => Err(bad()),
        // Nobody at all can not be who unprotects.
        Some(0) if name == "unprotect_access_level" => Err(bad()),
        given => Ok(given),
    }
}

fn protect(state: &mut State, call: &Call, project: u64) -> Answer {
    let params = &call.params;
    let name = params.required("name")?;
    let levels = ["push", "merge", "unprotect"].map(|act| level(params, &format!("{act}_access_level")));
    let [push, merge, unprotect] = levels;
    let (push, merge, unprotect) = (push?, merge?, unprotect?);
    if state
        .project(project)
        .protections
        .iter()
        .any(|rule| rule.name == name)
    {
        return Err(Reply::message(
            409,
            &format!("Protected branch '{name}' already exists"),
        ));
    }
    let premium = state.has(Tier::Premium);
    let mut acts = Vec::new();
    for (act, given) in [("push", push), ("merge", merge), ("unprotect", unprotect)] {
        let mut list = Vec::new();
        merge_access(state, params, project, act, &mut list)?;
        // The default level stands in only where nobody is named.
        let role = given.or(list.is_empty().then_some(MAINTAINER));
        if let Some(role) = role.filter(|_| act != "unprotect" || (premium && given.is_some())) {
            let id = state.fresh_id();
            list.insert(
                0,
                Access {
                    id,
                    level: Some(role),
                    user: None,
                    group: None,
                },
            );
        }
        acts.push(list);
    }
    let unprotect = acts.pop().unwrap_or_default();
    let merge = acts.pop().unwrap_or_default();
    let rule = Protection {
        id: state.fresh_id(),
        name,
        push: acts.pop().unwrap_or_default(),
        merge,
        unprotect,
        allow_force_push: params.flag("allow_force_push")?.unwrap_or(false),
        code_owners: premium && params.flag("code_owner_approval_required")?.unwrap_or(false),
    };
    let body = shapes::protection(state, &rule);
    state.project_mut(project).protections.push(rule);
    Ok(Reply::json(201, &body))
}

fn edit(state: &mut State, call: &Call, project: u64, at: usize) -> Answer {
    let params = &call.params;
    let force = params.flag("allow_force_push")?;
    let owners = params
        .flag("code_owner_approval_required")?
        .filter(|_| state.has(Tier::Premium));
    let mut rule = state.project(project).protections[at].clone();
    merge_access(state, params, project, "push", &mut rule.push)?;
    merge_access(state, params, project, "merge", &mut rule.merge)?;
    merge_access(state, params, project, "unprotect", &mut rule.unprotect)?;
    rule.allow_force_push = force.unwrap_or(rule.allow_force_push);
    rule.code_owners = owners.unwrap_or(rule.code_owners);
    let body = shapes::protection(state, &rule);
    state.project_mut(project).protections[at] = rule;
    Ok(Reply::json(200, &body))
}

fn unprotect(state: &mut State, call: &Call, project: u64, at: usize) -> Answer {
    let rule = &state.project(project).protections[at];
    let named = state.has(Tier::Premium) && !rule.unprotect.is_empty();
    if named
        && !rule
            .unprotect
            .iter()
            .any(|access| state.admits(project, access, call.user))
    {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    state.project_mut(project).protections.remove(at);
    Ok(Reply::empty(204))
}

/// Takes `allowed_to_<act>` into a list: an entry with an `id` changes or (`_destroy`) removes that one, others are added
/// to what is there, also a second level beside the first. Users and groups need Premium and access to the project.
fn merge_access(
    state: &mut State,
    params: &Params,
    project: u64,
    act: &str,
    list: &mut Vec<Access>,
) -> Result<(), Reply> {
    let field = format!("allowed_to_{act}");
    let entries = match params.0.get(&field) {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(entries)) => entries.clone(),
        Some(_) => return Err(Reply::error(400, &format!("{field} is invalid"))),
    };
    let invalid = |what: &str| {
        let name = format!("{}{}", act[..1].to_uppercase(), &act[1..]);
        Reply::json(422, &json!({"message": [format!("{name} access levels {what}")]}))
    };
    for entry in entries {
        let number = |name: &str| entry[name].as_u64();
        let access = Access {
            id: number("id").unwrap_or_else(|| state.fresh_id()),
            level: number("access_level"),
            user: number("user_id"),
            group: number("group_id"),
        };
        if access.level.is_some_and(|level| !LEVELS.contains(&level)) {
            return Err(Reply::error(
                400,
                &format!("{field}[access_level] does not have a valid value"),
            ));
        }
        if let Some(id) = number("id") {
            let there = list.iter().position(|old| old.id == id).ok_or_else(unknown)?;
            if entry["_destroy"].as_bool() == Some(true) {
                list.remove(there);
            } else {
                list[there] = access;
            }
            continue;
        }
        let names = access.user.is_some() || access.group.is_some();
        if names && !state.has(Tier::Premium) {
            return Err(invalid(if access.user.is_some() {
                "user must be blank"
            } else {
                "group must be blank"
            }));
        }
        if access
            .user
            .is_some_and(|user| state.level(project, user) < DEVELOPER)
        {
            return Err(invalid("user is not a member of the project"));
        }
        if access
            .group
            .is_some_and(|group| !state.groups.contains_key(&group))
        {
            return Err(invalid("group does not have access to the project"));
        }
        if !names && access.level.is_none() {
            return Err(invalid("access level can't be blank"));
        }
        list.push(access);
    }
    Ok(())
}

/// Everything `PUT /projects/:id` can set here.
const SETTINGS: [&str; 6] = [
    "only_allow_merge_if_pipeline_succeeds",
    "allow_merge_on_skipped_pipeline",
    "only_allow_merge_if_all_discussions_are_resolved",
    "only_allow_merge_if_all_status_checks_passed",
    "merge_method",
    "squash_option",
];

/// `PUT /projects/:id`. What the licence lacks is ignored, as GitLab does.
pub fn edit_project(state: &mut State, call: &Call) -> Answer {
    let params = &call.params;
    if !SETTINGS.iter().any(|name| params.0.contains_key(*name)) {
        let text = format!(
            "{} are missing, at least one parameter must be provided",
            SETTINGS.join(", ")
        );
        return Err(Reply::error(400, &text));
    }
    let pipeline = params.flag("only_allow_merge_if_pipeline_succeeds")?;
    let skipped = params.flag("allow_merge_on_skipped_pipeline")?;
    let discussions = params.flag("only_allow_merge_if_all_discussions_are_resolved")?;
    let checks = params.flag("only_allow_merge_if_all_status_checks_passed")?;
    let merge_method = params.choice("merge_method", &["merge", "rebase_merge", "ff"])?;
    let squash_option = params.choice("squash_option", &["never", "always", "default_on", "default_off"])?;
    let project = call.project_as(state, MAINTAINER)?;
    let checks = checks.filter(|_| state.has(Tier::Ultimate));
    let settings = &mut state.project_mut(project).settings;
    let put = |field: &mut bool, given: Option<bool>| *field = given.unwrap_or(*field);
    put(&mut settings.only_allow_merge_if_pipeline_succeeds, pipeline);
    put(&mut settings.allow_merge_on_skipped_pipeline, skipped);
    put(
        &mut settings.only_allow_merge_if_all_discussions_are_resolved,
        discussions,
    );
    put(&mut settings.only_allow_merge_if_all_status_checks_passed, checks);
    settings.merge_method = merge_method.unwrap_or(settings.merge_method.clone());
    settings.squash_option = squash_option.unwrap_or(settings.squash_option.clone());
    state.run_auto_merges();
    Ok(Reply::json(
        200,
        &shapes::project(state, state.project(project), call.user),
    ))
}

impl State {
    /// Entries for a level and users, as the test side names them.
    pub fn access_to(&mut self, level: Option<u64>, users: &[u64]) -> Vec<Access> {
        let role = level.map(|level| Access {
            id: 0,
            level: Some(level),
            user: None,
            group: None,
        });
        let named = users.iter().map(|user| Access {
            id: 0,
            level: None,
            user: Some(*user),
            group: None,
        });
        let mut list: Vec<Access> = role.into_iter().chain(named).collect();
        for access in &mut list {
            access.id = self.fresh_id();
        }
        list
    }

    /// Whether the entry lets the user in. Level 0 lets nobody in, 60 only administrators.
    pub fn admits(&self, project: u64, access: &Access, user: u64) -> bool {
        let named = access.user == Some(user);
        let of_group = access.group.and_then(|group| self.groups.get(&group));
        let grouped = of_group.is_some_and(|group| group.members.contains(&user));
        let by_role = access.user.is_none()
            && access.group.is_none()
            && match access.level {
                None | Some(0) => false,
                Some(60) => self.users.get(&user).is_some_and(|user| user.admin),
                Some(level) => self.level(project, user) >= level,
            };
        named || grouped || by_role
    }
}

impl FakeGitLab {
    /// A group with members, to be named in rules; the answer is its id.
    pub fn add_group(&self, name: &str, members: &[u64]) -> u64 {
        self.change_state(|state| {
            let id = state.fresh_id();
            let group = Group {
                id,
                name: name.to_owned(),
                members: members.iter().copied().collect(),
            };
            state.groups.insert(id, group);
            id
        })
    }
}
