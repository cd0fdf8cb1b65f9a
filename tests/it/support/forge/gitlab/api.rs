//! GitLab's REST API, version 4, over the fake's state: routes, rights and refusals in GitLab's words and order.
//! It never sleeps and opens no socket; `gitlab.rs` carries the bytes.

use jiff::Timestamp;
pub use percent::decode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::support::forge::gitlab::approvals;
use crate::support::forge::gitlab::checks;
use crate::support::forge::gitlab::deployments;
use crate::support::forge::gitlab::history;
use crate::support::forge::gitlab::hook_api;
use crate::support::forge::gitlab::jobs;
use crate::support::forge::gitlab::merging::MergeWish;
use crate::support::forge::gitlab::merging::Unmerged;
use crate::support::forge::gitlab::pipelines;
use crate::support::forge::gitlab::protections;
use crate::support::forge::gitlab::repository::FileDiff;
use crate::support::forge::gitlab::shapes;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MergeRequest;
use crate::support::forge::gitlab::state::REPORTER;
use crate::support::forge::gitlab::state::State;
use crate::support::forge::gitlab::state::Tier;
use crate::support::forge::gitlab::state::Token;

/// A request as it came, path below `/api/v4` and still percent-encoded.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub private_token: Option<String>,
    pub bearer: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The token the call bears, by whichever header.
    pub fn token(&self) -> Option<&str> {
        self.private_token.as_deref().or(self.bearer.as_deref())
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self {
            status,
            headers: Vec::new(),
            content_type: "application/json",
            body,
        }
    }

    /// `{"message": …}`.
    pub fn message(status: u16, text: &str) -> Self {
        Self::json(status, &json!({ "message": text }))
    }

    /// `{"error": …}`, as Grape's own checks answer.
    pub fn error(status: u16, text: &str) -> Self {
        Self::json(status, &json!({ "error": text }))
    }

    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: "application/json",
            body: Vec::new(),
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a route comes to: both sides are answers, the second one a refusal.
pub type Answer = Result<Reply, Reply>;

/// Answers a request.
pub fn answer(state: &mut State, request: &Request) -> Reply {
    route(state, request).unwrap_or_else(|refusal| refusal)
}

fn route(state: &mut State, request: &Request) -> Answer {
    let method = request.method.as_str();
    let path = request.path.trim_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    let caller = authenticate(state, request)?;
    let scoped = |reading: &[&str]| scope(&caller, method, reading);
    match parts.as_slice() {
        ["version"] => only(method, "GET").and_then(|()| {
            scoped(&["read_api", "read_user"])?;
            Ok(Reply::json(
                200,
                &json!({"version": state.version, "revision": "4f9c2a1e7d0"}),
            ))
        }),
        ["metadata"] => only(method, "GET").and_then(|()| {
            scoped(&["read_api", "read_user"])?;
            let kas =
                json!({"enabled": false, "externalUrl": null, "externalK8sProxyUrl": null, "version": null});
            let enterprise = state.enterprise;
            let body = json!({
                "version": state.version, "revision": "4f9c2a1e7d0", "kas": kas, "enterprise": enterprise,
            });
            Ok(Reply::json(200, &body))
        }),
        ["personal_access_tokens", "self"] => {
            only(method, "GET").map(|()| Reply::json(200, &shapes::token(&caller)))
        }
        ["user"] => only(method, "GET").and_then(|()| {
            scoped(&["read_api", "read_user"])?;
            Ok(Reply::json(200, &shapes::user_self(state, caller.user)))
        }),
        ["users", rest @ ..] => only(method, "GET").and_then(|()| {
            scoped(&["read_api", "read_user"])?;
            users(state, request, rest)
        }),
        ["license"] => {
            scoped(&[])?;
            license(state, caller.user)
        }
        ["projects"] => only(method, "GET").and_then(|()| {
            scoped(&["read_api"])?;
            let mine = state
                .projects
                .values()
                .filter(|p| state.level(p.id, caller.user) > 0);
            let list: Vec<Value> = mine.map(|p| shapes::project(state, p, caller.user)).collect();
            page(state, request, &params(request)?, list)
        }),
        ["merge_requests"] => only(method, "GET").and_then(|()| {
            scoped(&["read_api"])?;
            let params = params(request)?;
            let scope = params.text("scope").unwrap_or_else(|| "created_by_me".to_owned());
            let seen = state
                .projects
                .values()
                .filter(|p| state.level(p.id, caller.user) >= REPORTER);
            let all = seen.flat_map(|p| p.merge_requests.values());
            let of = all.filter(|m| match scope.replace('-', "_").as_str() {
                "all" => true,
                "created_by_me" => m.author == caller.user,
                _ => false,
            });
            list_changes(state, request, &params, of.collect())
        }),
        ["hooks", rest @ ..] => {
            scoped(&["read_api"])?;
            let call = Call {
                request,
                params: params(request)?,
                user: caller.user,
                id: "",
            };
            hook_api::system_route(state, &call, rest)
        }
        ["projects", id, rest @ ..] => {
            scoped(&["read_api"])?;
            let params = params(request)?;
            let call = Call {
                request,
                params,
                user: caller.user,
                id,
            };
            project_route(state, &call, rest)
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// `/license`: only the enterprise edition has it, and only administrators read it.
fn license(state: &State, user: u64) -> Answer {
    if !state.enterprise {
        return Err(Reply::error(404, "404 Not Found"));
    }
    if !state.users.get(&user).is_some_and(|user| user.admin) {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    let plan = match state.tier {
        Tier::Free => return Ok(Reply::json(200, &Value::Null)),
        Tier::Premium => "premium",
        Tier::Ultimate => "ultimate",
    };
    let body = json!({"id": 1, "plan": plan, "expired": false, "expires_at": "2099-12-31"});
    Ok(Reply::json(200, &body))
}

/// Refuses as an instance does that lacks the route altogether, or has it but no licence for it.
pub fn licensed(state: &State, tier: Tier, without: Reply) -> Result<(), Reply> {
    if !state.enterprise {
        return Err(Reply::error(404, "404 Not Found"));
    }
    if state.has(tier) { Ok(()) } else { Err(without) }
}

/// A call below `/projects/:id`.
pub struct Call<'a> {
    pub request: &'a Request,
    pub params: Params,
    pub user: u64,
    pub id: &'a str,
}

impl Call<'_> {
    /// The project, if the caller may know of it; a former path moves the caller on.
    pub fn project(&self, state: &State) -> Result<u64, Reply> {
        let name = decode(self.id);
        let unknown = || Reply::message(404, "404 Project Not Found");
        let found = match name.parse::<u64>() {
            Ok(id) => state.projects.get(&id),
            Err(_) => state
                .projects
                .values()
                .find(|p| p.path.eq_ignore_ascii_case(&name)),
        };
        if let Some(project) = found {
            let seen = state.level(project.id, self.user) > 0;
            return if seen { Ok(project.id) } else { Err(unknown()) };
        }
        let moved = state
            .projects
            .values()
            .find(|p| p.former_paths.iter().any(|path| path == &name));
        let moved = moved
            .filter(|p| state.level(p.id, self.user) > 0)
            .ok_or_else(unknown)?;
        if self.request.method != "GET" {
            return Err(Reply::message(
                405,
                "Non GET methods are not allowed for moved projects",
            ));
        }
        let rest = self
            .request
            .path
            .trim_start_matches("/projects/")
            .trim_start_matches(self.id);
        let to = format!("{}/api/v4/projects/{}{rest}", state.base_url, moved.id);
        let text = format!("This resource has been moved permanently to {to}");
        Err(Reply::message(301, &text).with("Location", &to))
    }

    /// The project, if the caller's role there is at least this.
    pub fn project_as(&self, state: &State, level: u64) -> Result<u64, Reply> {
        let project = self.project(state)?;
        if state.level(project, self.user) < level {
            return Err(Reply::message(403, "403 Forbidden"));
        }
        Ok(project)
    }

    pub fn is(&self, method: &str) -> bool {
        self.request.method == method
    }
}

fn project_route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let method = call.request.method.as_str();
    match rest {
        [] if call.is("GET") => {
            let project = call.project(state)?;
            Ok(Reply::json(
                200,
                &shapes::project(state, state.project(project), call.user),
            ))
        }
        [] if call.is("PUT") => protections::edit_project(state, call),
        ["merge_requests", rest @ ..] => change_route(state, call, rest),
        ["repository", rest @ ..] => history::route(state, call, rest),
        ["statuses", sha] => {
            only(method, "POST").and_then(|()| pipelines::post_status(state, call, &decode(sha)))
        }
        ["pipelines", rest @ ..] => only(method, "GET").and_then(|()| pipelines::route(state, call, rest)),
        ["hooks", rest @ ..] => hook_api::route(state, call, rest),
        ["events"] => only(method, "GET").and_then(|()| history::events(state, call)),
        ["protected_branches", rest @ ..] => protections::route(state, call, rest),
        ["members", "all"] => only(method, "GET").and_then(|()| {
            let project = call.project_as(state, REPORTER)?;
            let list = state.project(project).members.iter().map(|(user, level)| {
                let mut body = shapes::user_basic(state, *user);
                body["access_level"] = json!(level);
                body
            });
            page(state, call.request, &call.params, list.collect())
        }),
        ["members", "all", user] | ["members", user] => only(method, "GET").and_then(|()| {
            let project = call.project_as(state, REPORTER)?;
            let user = int(user, "user_id")?;
            let level = state.project(project).members.get(&user).copied();
            let level = level.ok_or_else(|| Reply::message(404, "404 Not found"))?;
            let mut body = shapes::user_basic(state, user);
            body["access_level"] = json!(level);
            body["expires_at"] = Value::Null;
            Ok(Reply::json(200, &body))
        }),
        ["approval_rules", rest @ ..] => approvals::rules_route(state, call, rest),
        ["approvals"] => approvals::settings_route(state, call),
        ["external_status_checks", rest @ ..] => checks::route(state, call, rest),
        ["protected_environments", rest @ ..] => deployments::protected(state, call, rest),
        ["environments", rest @ ..] => deployments::environments(state, call, rest),
        ["deployments", rest @ ..] => deployments::route(state, call, rest),
        ["jobs", rest @ ..] => jobs::route(state, call, rest),
        [] => Err(method_not_allowed()),
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

pub fn method_not_allowed() -> Reply {
    Reply::error(405, "405 Not Allowed")
}

pub fn only(given: &str, wanted: &str) -> Result<(), Reply> {
    if given == wanted {
        Ok(())
    } else {
        Err(method_not_allowed().with("Allow", wanted))
    }
}

/// Finds the token, or answers 401 as GitLab does for none, a wrong, a revoked and an expired one.
fn authenticate(state: &State, request: &Request) -> Result<Token, Reply> {
    let secret = request
        .token()
        .ok_or_else(|| Reply::message(401, "401 Unauthorized"))?;
    let found = state.tokens.iter().find(|token| token.secret == secret);
    let token = found.ok_or_else(|| Reply::message(401, "401 Unauthorized"))?;
    let dead = |why: &str| Reply::json(401, &json!({"error": "invalid_token", "error_description": why}));
    if token.revoked {
        return Err(dead("Token was revoked. You have to re-authorize from the user."));
    }
    if token.expired {
        return Err(dead(
            "Token is expired. You can either do re-authorization or token refresh.",
        ));
    }
    Ok(token.clone())
}

/// `api` may all; the others only read, and only what is listed.
fn scope(token: &Token, method: &str, reading: &[&str]) -> Result<(), Reply> {
    let reads = method == "GET" || method == "HEAD";
    let enough = |scope: &String| scope == "api" || (reads && reading.contains(&scope.as_str()));
    if token.scopes.iter().any(enough) {
        return Ok(());
    }
    let wanted = if reads {
        format!("api {}", reading.join(" "))
    } else {
        "api".to_owned()
    };
    let body = json!({
        "error": "insufficient_scope",
        "error_description": "The request requires higher privileges than provided by the access token.",
        "scope": wanted.trim(),
    });
    Err(Reply::json(403, &body))
}

/// Query and body as one map; the body wins.
pub struct Params(pub Map<String, Value>);

impl Params {
    pub fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// A list of texts: an array, `name[]=a&name[]=b`, or `a,b`.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self.0.get(name)? {
            Value::Null => None,
            Value::Array(list) => Some(list.iter().map(text).collect()),
            one => Some(
                text(one)
                    .split(',')
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
        }
    }

    /// A list of numbers, as `texts`.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<u64>>, Reply> {
        let list = self.texts(name);
        list.map(|list| list.iter().map(|text| int(text, name)).collect())
            .transpose()
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Reply> {
        // GitLab's parameter types know these in every case; python-gitlab sends `True`.
        match self.text(name).map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("") => Ok(None),
            Some("true" | "1" | "t" | "yes" | "y" | "on") => Ok(Some(true)),
            Some("false" | "0" | "f" | "no" | "n" | "off") => Ok(Some(false)),
            Some(_) => Err(Reply::error(400, &format!("{name} is invalid"))),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, Reply> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => int(&text, name).map(Some),
        }
    }

    pub fn date(&self, name: &str) -> Result<Option<Timestamp>, Reply> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let day = format!("{text}T00:00:00Z");
        let parsed = text.parse::<Timestamp>().or_else(|_| day.parse());
        parsed
            .map(Some)
            .map_err(|_| Reply::error(400, &format!("{name} is invalid")))
    }

    /// One of the listed values, or none.
    pub fn choice(&self, name: &str, allowed: &[&str]) -> Result<Option<String>, Reply> {
        match self.text(name) {
            Some(given) if !allowed.contains(&given.as_str()) => {
                Err(Reply::error(400, &format!("{name} does not have a valid value")))
            }
            other => Ok(other),
        }
    }

    pub fn required(&self, name: &str) -> Result<String, Reply> {
        self.text(name)
            .ok_or_else(|| Reply::error(400, &format!("{name} is missing")))
    }
}

pub fn params(request: &Request) -> Result<Params, Reply> {
    let mut out = Map::new();
    let mut add = |pairs: &str| {
        for (name, value) in url::form_urlencoded::parse(pairs.as_bytes()) {
            match name.strip_suffix("[]") {
                Some(list) => {
                    let list = out.entry(list.to_owned()).or_insert_with(|| json!([]));
                    if let Some(list) = list.as_array_mut() {
                        list.push(json!(value));
                    }
                }
                None => {
                    out.insert(name.into_owned(), json!(value));
                }
            }
        }
    };
    add(&request.query);
    if !request.body.is_empty() {
        let kind = request
            .content_type
            .as_deref()
            .unwrap_or("")
            .split(';')
            .next()
            .unwrap_or("")
            .trim();
        match kind {
            "application/json" => match serde_json::from_slice(&request.body) {
                Ok(Value::Object(body)) => out.extend(body),
                _ => return Err(Reply::error(400, "Problems parsing JSON")),
            },
            "application/x-www-form-urlencoded" => add(&String::from_utf8_lossy(&request.body)),
            other => {
                return Err(Reply::error(
                    415,
                    &format!("The provided content-type '{other}' is not supported."),
                ));
            }
        }
    }
    Ok(Params(out))
}

pub fn int(text: &str, name: &str) -> Result<u64, Reply> {
    text.parse()
        .map_err(|_| Reply::error(400, &format!("{name} is invalid")))
}

/// Cuts a list to the asked page, with GitLab's headers; totals are left out above 10,000.
pub fn page(state: &State, request: &Request, params: &Params, items: Vec<Value>) -> Answer {
    page_of(state, request, params, items.len(), |index| items[index].clone())
}

/// As `page`, for commits: GitLab does not count them, and a full page always promises a next one.
pub fn page_of_commits(state: &State, request: &Request, params: &Params, items: Vec<Value>) -> Answer {
    let size = params.number("per_page")?.unwrap_or(20).clamp(1, 100);
    let through = params.number("page")?.unwrap_or(1).max(1).saturating_mul(size);
    let through = usize::try_from(through).expect("64 bits");
    let seeming = if items.len() >= through {
        through + 1
    } else {
        items.len()
    };
    let reply = page_of(state, request, params, seeming, |index| items[index].clone())?;
    Ok(uncounted(reply))
}

/// As `page`, for lists GitLab does not count: no totals and no last page.
pub fn page_uncounted(state: &State, request: &Request, params: &Params, items: Vec<Value>) -> Answer {
    page(state, request, params, items).map(uncounted)
}

fn uncounted(mut reply: Reply) -> Reply {
    reply
        .headers
        .retain(|(name, _)| name != "X-Total" && name != "X-Total-Pages");
    for (name, value) in &mut reply.headers {
        if name == "Link" {
            let kept: Vec<&str> = value
                .split(", ")
                .filter(|link| !link.ends_with("rel=\"last\""))
                .collect();
            *value = kept.join(", ");
        }
    }
    reply
}

pub fn page_of(
    state: &State,
    request: &Request,
    params: &Params,
    total: usize,
    item: impl Fn(usize) -> Value,
) -> Answer {
    let positive = |name: &str, default: u64| match params.number(name)? {
        Some(0) => Err(Reply::error(400, &format!("{name} does not have a valid value"))),
        given => Ok(usize::try_from(given.unwrap_or(default)).expect("64 bits")),
    };
    let (number, size) = (positive("page", 1)?, positive("per_page", 20)?.min(100));
    let last = total.div_ceil(size).max(1);
    let from = number.saturating_sub(1).saturating_mul(size).min(total);
    let body: Vec<Value> = (from..(from + size).min(total)).map(item).collect();
    let link = |number: usize, rel: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in url::form_urlencoded::parse(request.query.as_bytes()) {
            if name != "page" && name != "per_page" {
                query.append_pair(&name, &value);
            }
        }
        query
            .append_pair("page", &number.to_string())
            .append_pair("per_page", &size.to_string());
        format!(
            "<{}/api/v4{}?{}>; rel=\"{rel}\"",
            state.base_url,
            request.path,
            query.finish()
        )
    };
    let (previous, next) = (
        (number > 1).then(|| number - 1),
        (number < last).then_some(number + 1),
    );
    let mut links: Vec<String> = Vec::new();
    links.extend(previous.map(|number| link(number, "prev")));
    links.extend(next.map(|number| link(number, "next")));
    links.push(link(1, "first"));
    let counted = total <= 10_000;
    if counted {
        links.push(link(last, "last"));
    }
    let shown = |number: Option<usize>| number.map_or(String::new(), |number| number.to_string());
    let mut reply = Reply::json(200, &json!(body))
        .with("X-Page", &number.to_string())
        .with("X-Per-Page", &size.to_string())
        .with("X-Next-Page", &shown(next))
        .with("X-Prev-Page", &shown(previous))
        .with("Link", &links.join(", "));
    if counted {
        reply = reply
            .with("X-Total", &total.to_string())
            .with("X-Total-Pages", &last.to_string());
    }
    Ok(reply)
}

fn users(state: &State, request: &Request, rest: &[&str]) -> Answer {
    match rest {
        [] => {
            let params = params(request)?;
            let (name, search) = (params.text("username"), params.text("search"));
            let found = state.users.values().filter(|user| {
                name.as_ref()
                    .is_none_or(|name| user.username.eq_ignore_ascii_case(name))
                    && search.as_ref().is_none_or(|text| {
                        user.email == *text
                            || user.username.contains(text.as_str())
                            || user.name.contains(text.as_str())
                    })
            });
            let list = found.map(|user| shapes::user_basic(state, user.id)).collect();
            page(state, request, &params, list)
        }
        [id] => {
            let id = int(id, "id")?;
            if !state.users.contains_key(&id) {
                return Err(Reply::message(404, "404 User Not Found"));
            }
            Ok(Reply::json(200, &shapes::user_public(state, id)))
        }
        [id, "status"] => {
            let id = int(id, "id")?;
            let Some(user) = state.users.get(&id) else {
                return Err(Reply::message(404, "404 User Not Found"));
            };
            Ok(Reply::json(200, &shapes::user_status(user)))
        }
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

fn change_route(state: &mut State, call: &Call, rest: &[&str]) -> Answer {
    let method = call.request.method.as_str();
    let [iid, rest @ ..] = rest else {
        if call.is("POST") {
            return open_change(state, call);
        }
        return only(method, "GET").and_then(|()| {
            let project = call.project_as(state, REPORTER)?;
            let all = state.project(project).merge_requests.values().collect();
            list_changes(state, call.request, &call.params, all)
        });
    };
    let iid = int(iid, "merge_request_iid")?;
    let project = call.project_as(state, REPORTER)?;
    let found = state.project(project).merge_requests.get(&iid).cloned();
    let change = found.ok_or_else(|| Reply::message(404, "404 Not found"))?;
    let paged = |list: Vec<Value>| page(state, call.request, &call.params, list);
    match rest {
        [] if call.is("PUT") => edit_change(state, call, &change),
        [] => only(method, "GET").map(|()| {
            let mut body = shapes::change(state, &change, call.user);
            if call.params.text("include_rebase_in_progress").as_deref() == Some("true") {
                body["rebase_in_progress"] = json!(false);
            }
            Reply::json(200, &body)
        }),
        ["diffs"] => only(method, "GET").and_then(|()| {
            let count = if change.prepared_at.is_some() {
                change.diff.files.len()
            } else {
                0
            };
            page_of(state, call.request, &call.params, count, |index| {
                shapes::file(&change, index)
            })
        }),
        ["changes"] => only(method, "GET").map(|()| {
            let mut body = shapes::change(state, &change, call.user);
            let files: Vec<Value> = (0..change.diff.files.len())
                .map(|index| shapes::file(&change, index))
                .collect();
            body["changes"] = json!(files);
            body["overflow"] = json!(change.diff.overflow);
            Reply::json(200, &body)
        }),
        ["raw_diffs"] => only(method, "GET").map(|()| {
            let files = state.objects.diff(Some(&change.diff.base), &change.diff.head);
            let body: String = files.iter().map(raw).collect();
            Reply {
                status: 200,
                headers: Vec::new(),
                content_type: "text/plain",
                body: body.into_bytes(),
            }
        }),
        ["commits"] => only(method, "GET").and_then(|()| {
            let commits = change
                .diff
                .commits
                .iter()
                .filter_map(|sha| state.objects.get(sha));
            paged(
                commits
                    .map(|commit| shapes::commit(state, project, commit, false))
                    .collect(),
            )
        }),
        ["pipelines"] => only(method, "GET").and_then(|()| {
            let mut found = state.change_pipelines(project, iid);
            found.sort_by_key(|pipeline| std::cmp::Reverse(pipeline.id));
            paged(
                found
                    .into_iter()
                    .map(|pipeline| shapes::pipeline(state, pipeline))
                    .collect(),
            )
        }),
        ["rebase"] => only(method, "PUT").and_then(|()| rebase(state, call, &change)),
        ["merge"] => only(method, "PUT").and_then(|()| merge(state, call, project, &change)),
        [
            act @ ("approvals" | "approval_state" | "approval_rules" | "approve" | "unapprove"
            | "reset_approvals"),
        ] => approvals::change_route(state, call, &change, act),
        ["status_checks" | "status_check_responses", ..] => checks::change_route(state, call, &change, rest),
        _ => Err(Reply::error(404, "404 Not Found")),
    }
}

/// One file as `git diff` prints it; paths outside ASCII are quoted as git does.
fn raw(file: &FileDiff) -> String {
    let quoted = |side: &str, path: &str| {
        let plain = path
            .bytes()
            .all(|b| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\');
        if plain {
            return format!("{side}/{path}");
        }
        let escaped: String = path
            .bytes()
            .map(|b| match b {
                b'"' | b'\\' => format!("\\{}", b as char),
                b' '..0x7f => (b as char).to_string(),
                _ => format!("\\{b:03o}"),
            })
            .collect();
        format!("\"{side}/{escaped}\"")
    };
    let (old, new) = (quoted("a", &file.old_path), quoted("b", &file.new_path));
    let mut out = format!("diff --git {old} {new}\n");
    if file.new_file {
        out += &format!("new file mode {}\n", file.b_mode);
    } else if file.deleted_file {
        out += &format!("deleted file mode {}\n", file.a_mode);
    } else if file.a_mode != file.b_mode {
        out += &format!("old mode {}\nnew mode {}\n", file.a_mode, file.b_mode);
    }
    if file.renamed_file {
        let bare = |text: String, side: &str| text.replacen(&format!("{side}/"), "", 1);
        out += &format!(
            "rename from {}\nrename to {}\n",
            bare(old.clone(), "a"),
            bare(new.clone(), "b")
        );
    }
    if !file.text.is_empty() {
        let before = if file.new_file { "/dev/null" } else { &old };
        let after = if file.deleted_file { "/dev/null" } else { &new };
        out += &format!("--- {before}\n+++ {after}\n{}", file.text);
    }
    out
}

/// Filters, sorts and pages the merge requests a list is about.
fn list_changes(state: &State, request: &Request, params: &Params, of: Vec<&MergeRequest>) -> Answer {
    let wanted = params.choice("state", &["opened", "closed", "locked", "merged", "all"])?;
    let wanted = wanted.filter(|state| state != "all");
    params.choice(
        "scope",
        &[
            "created-by-me",
            "assigned-to-me",
            "created_by_me",
            "assigned_to_me",
            "reviews_for_me",
            "all",
        ],
    )?;
    let keys = [
        "created_at",
        "updated_at",
        "title",
        "merged_at",
        "priority",
        "label_priority",
        "popularity",
    ];
    let order = params
        .choice("order_by", &keys)?
        .unwrap_or_else(|| "created_at".to_owned());
    let sort = params
        .choice("sort", &["asc", "desc"])?
        .unwrap_or_else(|| "desc".to_owned());
    let (after, before) = (params.date("updated_after")?, params.date("updated_before")?);
    let (created_after, created_before) = (params.date("created_after")?, params.date("created_before")?);
    let (source, target) = (params.text("source_branch"), params.text("target_branch"));
    let (author, draft) = (params.number("author_id")?, params.choice("wip", &["yes", "no"])?);
    let iids: Option<Vec<u64>> = match params.0.get("iids") {
        None => None,
        Some(Value::Array(list)) => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(
                list.iter()
                    .map(|value| int(&text(value), "iids"))
                    .collect::<Result<_, _>>()?,
            )
        }
        Some(_) => return Err(Reply::error(400, "iids is invalid")),
    };
    let mut found: Vec<&MergeRequest> = of
        .into_iter()
        .filter(|m| wanted.as_ref().is_none_or(|state| &m.state == state))
        .filter(|m| after.is_none_or(|at| m.updated_at >= at) && before.is_none_or(|at| m.updated_at <= at))
        .filter(|m| {
            created_after.is_none_or(|at| m.created_at >= at)
                && created_before.is_none_or(|at| m.created_at <= at)
        })
        .filter(|m| source.as_ref().is_none_or(|name| &m.source_branch == name))
        .filter(|m| target.as_ref().is_none_or(|name| &m.target_branch == name))
        .filter(|m| author.is_none_or(|id| m.author == id))
        .filter(|m| draft.as_ref().is_none_or(|wanted| m.draft() == (wanted == "yes")))
        .filter(|m| iids.as_ref().is_none_or(|iids| iids.contains(&m.iid)))
        .collect();
    match order.as_str() {
        "updated_at" => found.sort_by_key(|m| (m.updated_at, m.id)),
        "title" => found.sort_by(|a, b| (&a.title, a.id).cmp(&(&b.title, b.id))),
        "merged_at" => found.sort_by_key(|m| (m.merged_at, m.id)),
        _ => found.sort_by_key(|m| (m.created_at, m.id)),
    }
    if sort == "desc" {
        found.reverse();
    }
    page_of(state, request, params, found.len(), |index| {
        shapes::change_in_list(state, found[index])
    })
}

/// `PUT …/merge`, in the order GitLab checks: right (401), mergeable (405), conflict (422), then the sha (409).
fn merge(state: &mut State, call: &Call, project: u64, change: &MergeRequest) -> Answer {
    let params = &call.params;
    let wish = MergeWish {
        squash: params.flag("squash")?,
        message: params.text("merge_commit_message"),
        squash_message: params.text("squash_commit_message"),
        remove_source: params.flag("should_remove_source_branch")?.unwrap_or(false),
    };
    let auto = params
        .flag("auto_merge")?
        .or(params.flag("merge_when_pipeline_succeeds")?)
        .unwrap_or(false);
    if !state.may_merge_into(project, &change.target_branch, call.user) {
        return Err(Reply::message(401, "401 Unauthorized"));
    }
    let status = state.detailed_status(project, change.iid);
    let later = auto && status == "ci_still_running";
    match status.as_str() {
        "mergeable" | "conflict" => {}
        _ if later => {}
        _ => return Err(Reply::message(405, "405 Method Not Allowed")),
    }
    if status == "conflict" {
        return Err(Reply::message(422, "Branch cannot be merged"));
    }
    check_sha(params, change)?;
    if later {
        state.change_mut(project, change.iid).auto_merge = Some((call.user, change.head.clone()));
        state.touch(project, change.iid);
        state.raise_change(project, change.iid, "update", call.user, None, json!({}));
    } else {
        match state.merge(project, change.iid, call.user, &wish) {
            Ok(()) => {}
            Err(Unmerged::NotMergeable(_)) => return Err(Reply::message(405, "405 Method Not Allowed")),
            Err(Unmerged::Conflict) => return Err(Reply::message(422, "Branch cannot be merged")),
        }
    }
    Ok(Reply::json(
        200,
        &shapes::change(state, state.change(project, change.iid), call.user),
    ))
}

/// `POST …/merge_requests`, within the project.
fn open_change(state: &mut State, call: &Call) -> Answer {
    let params = &call.params;
    let (source, target) = (
        params.required("source_branch")?,
        params.required("target_branch")?,
    );
    let title = params.required("title")?;
    let project = call.project_as(state, DEVELOPER)?;
    let refuse = |code: u16, why: String| Err(Reply::json(code, &json!({"message": [why]})));
    if source == target {
        return refuse(
            422,
            "You can't use same project/branch for source and target".to_owned(),
        );
    }
    for (side, name) in [("Source", &source), ("Target", &target)] {
        if state.branch(project, name).is_none() {
            return refuse(409, format!("{side} branch \"{name}\" does not exist"));
        }
    }
    let mut all = state.project(project).merge_requests.values();
    let twin = all.find(|m| m.state == "opened" && m.source_branch == source && m.target_branch == target);
    if let Some(twin) = twin {
        let why = format!(
            "Another open merge request already exists for this source branch: !{}",
            twin.iid
        );
        return refuse(409, why);
    }
    let iid = state.open_change(project, (project, &source), &target, &title, call.user);
    let change = state.change(project, iid);
    Ok(Reply::json(201, &shapes::change(state, change, call.user)))
}

/// `PUT …/merge_requests/:iid`: title, target and state; by its author or a Developer.
fn edit_change(state: &mut State, call: &Call, change: &MergeRequest) -> Answer {
    let params = &call.params;
    let event = params.choice("state_event", &["close", "reopen"])?;
    let (title, target) = (params.text("title"), params.text("target_branch"));
    if event.is_none() && title.is_none() && target.is_none() {
        let known = "assignee_id, description, labels, state_event, target_branch, title";
        let text = format!("{known} are missing, at least one parameter must be provided");
        return Err(Reply::error(400, &text));
    }
    if state.level(change.project, call.user) < DEVELOPER && change.author != call.user {
        return Err(Reply::message(403, "403 Forbidden"));
    }
    let (project, iid) = (change.project, change.iid);
    if let Some(title) = title {
        state.retitle(project, iid, &title, call.user);
    }
    if let Some(target) = target.filter(|target| *target != change.target_branch) {
        if state.branch(project, &target).is_none() {
            return Err(Reply::json(
                409,
                &json!({"message": ["Target branch does not exist"]}),
            ));
        }
        state.retarget(project, iid, &target, call.user);
    }
    match (event.as_deref(), change.state.as_str()) {
        (Some("close"), "opened") => state.close(project, iid, call.user),
        (Some("reopen"), "closed") => state.reopen(project, iid, call.user),
        _ => {}
    }
    let change = state.change(project, iid);
    Ok(Reply::json(200, &shapes::change(state, change, call.user)))
}

/// `PUT …/rebase`: done at once here, but told as under way, which is all GitLab's answer says.
fn rebase(state: &mut State, call: &Call, change: &MergeRequest) -> Answer {
    let source = (change.source_project, change.source_branch.as_str());
    let refuse = |why: &str| Err(Reply::message(403, &format!("403 Forbidden - {why}")));
    if change.state != "opened" {
        return Err(Reply::message(405, "405 Method Not Allowed"));
    }
    if !state.projects.contains_key(&source.0) || state.branch(source.0, source.1).is_none() {
        return refuse("Source branch does not exist");
    }
    if !state.may_push_to(source.0, source.1, call.user) {
        return refuse("Cannot push to source branch");
    }
    let rules = state.protections(source.0, source.1);
    if !rules.is_empty() && !rules.iter().any(|rule| rule.allow_force_push) {
        return refuse("Source branch is protected from force push");
    }
    state.rebase(change.project, change.iid, call.user);
    Ok(Reply::json(202, &json!({"rebase_in_progress": true})))
}

pub fn check_sha(params: &Params, change: &MergeRequest) -> Result<(), Reply> {
    match params.text("sha") {
        Some(sha) if sha != change.head => Err(Reply::message(
            409,
            &format!("SHA does not match HEAD of source branch: {}", change.head),
        )),
        _ => Ok(()),
    }
}

mod percent {
    //! Decodes one path segment.

    /// `%2F` and the like; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(segment: &str) -> String {
        let bytes = segment.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let digits = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    at += 3;
                }
                None => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}
