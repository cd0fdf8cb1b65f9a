//! Webhooks as GitLab's API manages them: for Maintainers only, secrets never told back, history, resend and test.
//! Sending them is the task of `hooks.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::api::Answer;
use crate::support::forge::gitlab::api::Call;
use crate::support::forge::gitlab::api::Params;
use crate::support::forge::gitlab::api::Reply;
use crate::support::forge::gitlab::api::int;
use crate::support::forge::gitlab::api::method_not_allowed;
use crate::support::forge::gitlab::api::page;
use crate::support::forge::gitlab::hooks::fresh_uuid;
use crate::support::forge::gitlab::payloads;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::Attempt;
use crate::support::forge::gitlab::state::Delivery;
use crate::support::forge::gitlab::state::Hook;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::State;

/// What a change of a hook may name besides its events.
const HOOK_FIELDS: [&str; 6] = [
    "url",
    "token",
    "signing_token",
    "name",
    "description",
    "enable_ssl_verification",
];

/// What a hook of the instance may listen to.
const SYSTEM_EVENTS: [&str; 4] = [
    "push_events",
    "tag_push_events",
    "merge_requests_events",
    "repository_update_events",
];

fn unknown() -> Reply {
    Reply::message(404, "404 Not found")
}

pub fn route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let project = call.project_as(state, MAINTAINER)?;
    let [id, rest @ ..] = rest else {
        return match call.request.method.as_str() {
            "GET" => {
                let hooks = state.project(project).hooks.iter();
                let list = hooks.map(|hook| shapes::hook(project, hook)).collect();
                page(state, call.request, &call.params, list)
            }
            "POST" => {
                call.params.required("url")?;
                let mut hook = new_hook(state, "");
                // GitLab's default for a hook created by the API.
                hook.events.insert("push_events".to_owned());
                edit_hook(state, &mut hook, &call.params)?;
                let body = shapes::hook(project, &hook);
                state.project_mut(project).hooks.push(hook);
                Ok(Reply::json(201, &body))
            }
            _ => Err(method_not_allowed()),
        };
    };
    let id = int(id, "hook_id")?;
    let at = state
        .project(project)
        .hooks
        .iter()
        .position(|hook| hook.id == id)
        .ok_or_else(unknown)?;
    match (call.request.method.as_str(), rest) {
        ("GET", []) => Ok(Reply::json(
            200,
            &shapes::hook(project, &state.project(project).hooks[at]),
        )),
        ("PUT", []) => {
            let named = |name: &String| {
                shapes::HOOK_EVENTS.contains(&name.as_str()) || HOOK_FIELDS.contains(&name.as_str())
            };
            if !call.params.0.keys().any(named) {
                return Err(Reply::error(400, "No parameters provided"));
            }
            let mut hook = state.project(project).hooks[at].clone();
            edit_hook(state, &mut hook, &call.params)?;
            let body = shapes::hook(project, &hook);
            state.project_mut(project).hooks[at] = hook;
            Ok(Reply::json(200, &body))
        }
        ("DELETE", []) => {
            state.project_mut(project).hooks.remove(at);
            state.deliveries.retain(|_, delivery| delivery.hook != id);
            state
                .outbox
                .retain(|delivery| state.deliveries.contains_key(delivery));
            Ok(Reply::empty(204))
        }
        ("GET", ["events"]) if state.at_least(17, 3) => hook_events(state, call, id),
        ("POST", ["events", event, "resend"]) if state.at_least(17, 4) => {
            resend(state, call, project, id, event)
        }
        ("POST", ["test", trigger]) if state.at_least(16, 11) => test(state, call, project, at, trigger),
        ("GET" | "POST" | "PUT" | "DELETE", [_, ..]) => Err(Reply::error(404, "404 Not Found")),
        _ => Err(method_not_allowed()),
    }
}

/// `/hooks`: the instance's own, for administrators alone. They know four kinds of events.
pub fn system_route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    if !state.users.get(&call.user).is_some_and(|it| it.admin) {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    let shape = |hook: &Hook| {
        let mut out = json!({
            "id": hook.id, "url": hook.url, "name": hook.name, "description": hook.description,
            "created_at": shapes::date(hook.created_at), "enable_ssl_verification": hook.ssl_verification,
            "url_variables": [], "push_events_branch_filter": null, "branch_filter_strategy": "wildcard",
            "token_present": hook.token.is_some(), "signing_token_present": hook.signing_token.is_some(),
        });
        for kind in SYSTEM_EVENTS {
            out[kind] = json!(hook.events.contains(kind));
        }
        out
    };
    // System hooks are called at private addresses, by GitLab's default.
    let blocked = std::mem::replace(&mut state.block_local_hooks, false);
    let answer = match (call.request.method.as_str(), rest) {
        ("GET", []) => {
            let list = state.system_hooks.iter().map(shape).collect();
            page(state, call.request, &call.params, list)
        }
        ("POST", []) => call.params.required("url").and_then(|_| {
            let mut hook = new_hook(state, "");
            hook.events.insert("repository_update_events".to_owned());
            edit_hook(state, &mut hook, &call.params)?;
            hook.events.retain(|it| SYSTEM_EVENTS.contains(&it.as_str()));
            let body = shape(&hook);
            state.system_hooks.push(hook);
            Ok(Reply::json(201, &body))
        }),
        (method, [id]) => int(id, "hook_id").and_then(|id| {
            let at = state
                .system_hooks
                .iter()
                .position(|it| it.id == id)
                .ok_or_else(unknown)?;
            match method {
                "GET" => Ok(Reply::json(200, &shape(&state.system_hooks[at]))),
                "PUT" => {
                    let mut hook = state.system_hooks[at].clone();
                    edit_hook(state, &mut hook, &call.params)?;
                    hook.events.retain(|it| SYSTEM_EVENTS.contains(&it.as_str()));
                    let body = shape(&hook);
                    state.system_hooks[at] = hook;
                    Ok(Reply::json(200, &body))
                }
                "DELETE" => {
                    state.system_hooks.remove(at);
                    state.deliveries.retain(|_, delivery| delivery.hook != id);
                    state.outbox.retain(|it| state.deliveries.contains_key(it));
                    Ok(Reply::empty(204))
                }
                _ => Err(method_not_allowed()),
            }
        }),
        ("PUT" | "DELETE", []) => Err(method_not_allowed()),
        _ => Err(Reply::error(404, "404 Not Found")),
    };
    state.block_local_hooks = blocked;
    answer
}

/// What a caller may resend or test in a minute: one more is answered with 429.
const ASKED_IN_A_MINUTE: usize = 5;

/// Too many of these by this user in the last minute.
fn throttle(state: &State, call: &Call, end: &str) -> Result<(), Reply> {
    let minute = Duration::from_secs(60);
    let who = state.users.get(&call.user).map(|user| user.username.as_str());
    let same = state.calls.iter().filter(|c| {
        c.method == "POST" && c.path.contains("/hooks/") && c.path.contains(end) && c.user.as_deref() == who
    });
    // The call under way is among them.
    if same.filter(|c| c.at.elapsed() < minute).count() > ASKED_IN_A_MINUTE {
        let body = json!({"message": {"error": "This endpoint has been requested too many times. Try again later."}});
        return Err(Reply::json(429, &body));
    }
    Ok(())
}

/// Sends an entry of the history again, under its old key. The answer waits for the attempt, see `Shared::handle`.
fn resend(state: &mut State, call: &Call, project: u64, hook: u64, entry: &str) -> Answer {
    throttle(state, call, "/resend")?;
    let entry = int(entry, "hook_log_id")?;
    let of_hook = state
        .deliveries
        .values()
        .filter(|d| d.hook == hook && d.project == project);
    let found = of_hook
        .into_iter()
        .find(|d| d.attempts.iter().any(|attempt| attempt.log == entry));
    let id = found.map(|delivery| delivery.id).ok_or_else(unknown)?;
    state.outbox.push(id);
    state.awaited = Some(id);
    Ok(Reply::json(201, &json!({"response_status": null})))
}

/// Sends a made-up event, whatever the hook listens to. A good answer wakes a paused hook, see `hooks::record`.
fn test(state: &mut State, call: &Call, project: u64, at: usize, trigger: &str) -> Answer {
    if !shapes::HOOK_EVENTS.contains(&trigger) {
        return Err(Reply::error(400, "trigger does not have a valid value"));
    }
    throttle(state, call, "/test/")?;
    let Some((event, body)) = sample(state, project, trigger, call.user) else {
        return Err(Reply::message(
            422,
            "Ensure the project has the data this event needs.",
        ));
    };
    let hook = &mut state.project_mut(project).hooks[at];
    let id = hook.id;
    let kept = std::mem::replace(&mut hook.events, BTreeSet::from(["test".to_owned()]));
    let alert = std::mem::replace(&mut hook.alert_status, "executable".to_owned());
    state.raise(project, event, "test", &body);
    let hook = &mut state.project_mut(project).hooks[at];
    (hook.events, hook.alert_status) = (kept, alert);
    state.awaited = state
        .deliveries
        .values()
        .rev()
        .find(|d| d.hook == id)
        .map(|d| d.id);
    Ok(Reply::json(201, &json!({"message": "201 Created"})))
}

/// What a test of this trigger sends, if the project has anything to make it of.
fn sample(state: &State, project: u64, trigger: &str, user: u64) -> Option<(&'static str, Value)> {
    let record = state.project(project);
    match trigger {
        "merge_requests_events" => {
            let iid = *record.merge_requests.keys().next_back()?;
            let body = payloads::merge_request_hook(state, project, iid, "open", user, None, json!({}));
            Some(("Merge Request Hook", body))
        }
        "push_events" => {
            let push = record.pushes.last()?;
            Some(("Push Hook", payloads::push_hook(state, project, push, &[], user)))
        }
        "pipeline_events" => {
            let pipeline = record.pipelines.last()?.id;
            Some((
                "Pipeline Hook",
                payloads::pipeline_hook(state, project, pipeline, user),
            ))
        }
        _ => None,
    }
}

/// The last seven days of a hook's attempts, newest first.
fn hook_events(state: &State, call: &Call, hook: u64) -> Answer {
    if call.params.number("per_page")?.is_some_and(|size| size > 20) {
        return Err(Reply::error(400, "per_page does not have a valid value"));
    }
    let wanted = call.params.texts("status").unwrap_or_default();
    let valid = |status: &String| {
        ["successful", "client_failure", "server_failure"].contains(&status.as_str())
            || status.parse::<u16>().is_ok_and(|code| (100..600).contains(&code))
    };
    if !wanted.iter().all(valid) {
        return Err(Reply::error(400, "status does not have a valid value"));
    }
    let matches = |code: Option<u16>, status: &str| match status {
        "successful" => code.is_some_and(|c| (200..300).contains(&c)),
        "client_failure" => code.is_some_and(|c| (400..500).contains(&c)),
        "server_failure" => code.is_none_or(|c| c >= 500),
        other => code.map(|code| code.to_string()).as_deref() == Some(other),
    };
    let oldest = Timestamp::now() - jiff::SignedDuration::from_hours(7 * 24);
    let of_hook = state.deliveries.values().filter(|d| d.hook == hook);
    let mut found: Vec<(&Delivery, &Attempt)> = of_hook
        .flat_map(|delivery| delivery.attempts.iter().map(move |attempt| (delivery, attempt)))
        .filter(|(_, attempt)| attempt.at >= oldest)
        .filter(|(_, attempt)| {
            wanted.is_empty() || wanted.iter().any(|status| matches(attempt.status, status))
        })
        .collect();
    found.sort_by_key(|(_, attempt)| std::cmp::Reverse(attempt.log));
    let list = found
        .into_iter()
        .map(|(delivery, attempt)| shapes::hook_event(state, delivery, attempt))
        .collect();
    page(state, call.request, &call.params, list)
}

/// A hook that listens to nothing yet.
pub fn new_hook(state: &mut State, url: &str) -> Hook {
    Hook {
        id: state.fresh_id(),
        uuid: fresh_uuid(),
        url: url.to_owned(),
        token: None,
        signing_token: None,
        ssl_verification: true,
        events: BTreeSet::new(),
        failures: 0,
        alert_status: "executable".to_owned(),
        disabled_until: None,
        name: None,
        description: None,
        created_at: Timestamp::now(),
    }
}

fn edit_hook(state: &State, hook: &mut Hook, params: &Params) -> Result<(), Reply> {
    use base64::Engine as _;
    if let Some(address) = params.text("url") {
        let good = url::Url::parse(&address).is_ok_and(|parsed| matches!(parsed.scheme(), "http" | "https"));
        // GitLab answers the same for no address and for one its settings forbid.
        if !good || (state.block_local_hooks && is_local(&address)) {
            return Err(Reply::error(422, "Invalid url given"));
        }
        hook.url = address;
    }
    if let Some(token) = params.text("token") {
        hook.token = (!token.is_empty()).then_some(token);
    }
    // Silently ignored by instances that do not know it.
    if let Some(signing) = params.text("signing_token").filter(|_| state.at_least(19, 0)) {
        let key = signing
            .strip_prefix("whsec_")
            .map(|key| base64::engine::general_purpose::STANDARD.decode(key));
        if !matches!(key, Some(Ok(key)) if key.len() == 32) {
            return Err(Reply::json(
                422,
                &json!({"message": {"signing_token": ["is invalid"]}}),
            ));
        }
        hook.signing_token = Some(signing);
    }
    hook.name = params.text("name").or(hook.name.take());
    hook.description = params.text("description").or(hook.description.take());
    hook.ssl_verification = params
        .flag("enable_ssl_verification")?
        .unwrap_or(hook.ssl_verification);
    for kind in shapes::HOOK_EVENTS {
        match params.flag(kind)? {
            Some(true) => {
                hook.events.insert(kind.to_owned());
            }
            Some(false) => {
                hook.events.remove(kind);
            }
            None => {}
        }
    }
    Ok(())
}

/// An address GitLab forbids while requests to the local network are not allowed.
fn is_local(address: &str) -> bool {
    let Ok(parsed) = url::Url::parse(address) else {
        return false;
    };
    match parsed.host() {
        Some(url::Host::Ipv4(ip)) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
        }
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Webhooks as an administrator and time treat them.
impl FakeGitLab {
    /// Whether the instance refuses hooks to local addresses, as self-managed ones do by default.
    pub fn block_local_hooks(&self, block: bool) {
        self.change_state(|state| state.block_local_hooks = block);
    }

    /// Pauses a hook until that time, or ends it (none) until a test of it succeeds. Its events are lost meanwhile.
    pub fn disable_hook(&self, project: u64, hook: u64, until: Option<Timestamp>) {
        self.change_state(|state| {
            let mut hooks = state.project_mut(project).hooks.iter_mut();
            let hook = hooks.find(|it| it.id == hook).expect("a registered hook");
            let status = if until.is_some() {
                "temporarily_disabled"
            } else {
                "disabled"
            };
            hook.alert_status = status.to_owned();
            hook.disabled_until = until;
            hook.failures = if until.is_some() { 4 } else { 40 };
        });
    }

    /// Makes the instance pause hooks that fail, as GitLab.com does: after 4 failures in a row, for good after 40.
    pub fn pause_failing_hooks(&self, pause: bool) {
        self.change_state(|state| state.auto_disable_hooks = pause);
    }
}
