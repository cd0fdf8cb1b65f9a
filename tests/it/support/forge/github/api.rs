//! Who may ask what, and where it is answered. Every call is held against GitHub's own description of its API.

use crate::support::forge::github::state::{Call, State};
use crate::support::forge::github::{app, graph, pulls};
use serde_json::{Value, json};

/// A call as it came in.
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub authorization: Option<String>,
    pub accept: Option<String>,
    pub version: Option<String>,
    pub agent: Option<String>,
    pub if_none_match: Option<String>,
    pub body: Value,
    pub raw: Vec<u8>,
}

impl Request {
    pub fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    pub fn number(&self, name: &str, otherwise: usize) -> usize {
        self.parameter(name)
            .and_then(|it| it.parse().ok())
            .unwrap_or(otherwise)
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Reply {
    pub fn new(status: u16, body: Value) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body,
        }
    }

    pub fn ok(body: Value) -> Self {
        Reply::new(200, body)
    }

    /// A refusal in GitHub's form.
    pub fn refused(status: u16, message: &str) -> Self {
        let body = json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string()});
        Reply::new(status, body)
    }

    pub fn not_found() -> Self {
        Reply::refused(404, "Not Found")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One page of a list, with `Link` where it goes on.
    pub fn page(request: &Request, state: &State, items: Vec<Value>) -> Self {
        let (size, page) = (
            request.number("per_page", 30).clamp(1, 100),
            request.number("page", 1),
        );
        let more = items.len() > size * page;
        let shown: Vec<Value> = items.into_iter().skip(size * (page - 1)).take(size).collect();
        let reply = Reply::ok(Value::Array(shown));
        match more {
            true => {
                let next = format!("{}{}?page={}", state.base_url, request.path, page + 1);
                reply.with("link", &format!("<{next}>; rel=\"next\", <{next}>; rel=\"last\""))
            }
            false => reply,
        }
    }
}

/// Who a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Nobody,
    App,
    Installation(u64),
    Person(u64),
}

pub fn handle(state: &mut State, request: &Request) -> Reply {
    let reply = answer(state, request);
    state.calls.push(Call {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        body: request.body.clone(),
        status: reply.status,
    });
    reply
}

fn answer(state: &mut State, request: &Request) -> Reply {
    let fault = state.faults.iter_mut().find(|it| {
        it.left > 0
            && (it.method.is_empty() || it.method == request.method)
            && request.path.contains(&it.path)
    });
    if let Some(fault) = fault {
        fault.left -= 1;
        let mut reply = Reply::new(fault.status, fault.body.clone());
        reply.headers.clone_from(&fault.headers);
        return reply;
    }
    if request.method == "POST" && request.path.ends_with("/settings/apps/new") {
        return app::make(state, request);
    }
    let graphql = request.path == "/api/graphql";
    let Some(path) = request
        .path
        .strip_prefix("/api/v3/")
        .or(graphql.then_some("graphql"))
    else {
        return Reply::not_found();
    };
    if request.agent.as_deref().unwrap_or_default().is_empty() {
        return Reply::refused(403, "Request forbidden by administrative rules.");
    }
    let ours = request
        .agent
        .as_deref()
        .is_some_and(|it| it.starts_with("SignedApproval/"));
    if ours
        && (request.accept.as_deref() != Some("application/vnd.github+json")
            || request.version.as_deref() != Some("2022-11-28"))
    {
        let (method, path) = (&request.method, &request.path);
        state
            .violations
            .push(format!("{method} {path} without Accept or API version"));
    }
    let who = match app::who(state, request) {
        Ok(who) => who,
        Err(reply) => return reply,
    };
    if let Some(document) = state.document.clone().filter(|_| ours && !graphql)
        && let Err(violation) = document.check(&request.method, path, &request.query, &request.raw)
    {
        state.violations.push(violation);
    }
    let decoded: Vec<String> = path
        .split('/')
        .map(|it| {
            let pair = format!("p={}", it.replace('+', "%2B"));
            url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        })
        .collect();
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    if graphql {
        return graph::answer(state, who, &request.body);
    }
    match (segments.as_slice(), who) {
        (["meta"], _) => {
            Reply::ok(json!({"installed_version": "3.19.1", "verifiable_password_authentication": false}))
        }
        (["app-manifests", code, "conversions"], _) if request.method == "POST" => app::convert(state, code),
        (["app", ..], Who::App) | (["repos", _, _, "installation"], Who::App) => {
            app::answer(state, request, &segments)
        }
        (["app", ..], _) => Reply::refused(401, "A JSON web token could not be decoded"),
        (["users", login], Who::Installation(_)) => {
            app::user(state, |it| it.login.eq_ignore_ascii_case(login))
        }
        (["installation", "repositories"], Who::Installation(id)) => app::repositories(state, request, id),
        (["repos", owner, name, rest @ ..], who) => match state.named(owner, name) {
            Some(id) if pulls::may_see(state, who, id) => pulls::answer(state, request, who, id, rest),
            _ => Reply::not_found(),
        },
        _ => Reply::not_found(),
    }
}
