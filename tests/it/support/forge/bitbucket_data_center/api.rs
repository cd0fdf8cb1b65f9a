//! Who may ask what, and where it is answered. Every call is held against Atlassian's own description of its API.

use crate::support::forge::bitbucket_data_center::shapes::{repository_json, user_json};
use crate::support::forge::bitbucket_data_center::state::{Access, Call, State, Token};
use crate::support::forge::bitbucket_data_center::{pulls, repositories};
use crate::support::forge::description::Document;
use crate::support::forge::host::{Answer, Asked, Outgoing, Served};
use serde_json::{Value, json};
use std::sync::Arc;

/// A call as it came in, with its body read.
pub struct Request<'a> {
    asked: &'a Asked,
    pub method: &'a str,
    pub body: Value,
}

impl Request<'_> {
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.asked.parameter(name)
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
    /// Plain text instead of JSON.
    pub text: Option<String>,
}

impl Reply {
    pub fn new(status: u16, body: Value) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body,
            text: None,
        }
    }

    pub fn ok(body: Value) -> Self {
        Reply::new(200, body)
    }

    pub fn nothing() -> Self {
        Reply::new(204, Value::Null)
    }

    pub fn plain(text: String) -> Self {
        let mut reply = Reply::ok(Value::Null);
        reply.text = Some(text);
        reply
    }

    /// A refusal in Bitbucket's form.
    pub fn refused(status: u16, exception: &str, message: &str) -> Self {
        let error = json!({"context": null, "message": message, "exceptionName": format!("com.atlassian.bitbucket.{exception}")});
        Reply::new(status, json!({ "errors": [error] }))
    }

    pub fn not_found(what: &str) -> Self {
        Reply::refused(404, "NoSuchObjectException", &format!("{what} does not exist."))
    }

    pub fn forbidden() -> Self {
        Reply::refused(
            401,
            "AuthorisationException",
            "You are not permitted to access this resource",
        )
    }

    /// One page of a list.
    pub fn page(request: &Request<'_>, state: &State, items: Vec<Value>) -> Self {
        Reply::cut(request, state, items, None)
    }

    /// The same, where no more than `most` entries are ever told.
    pub fn cut(request: &Request<'_>, state: &State, mut items: Vec<Value>, most: Option<usize>) -> Self {
        let (start, limit) = (
            request.number("start", 0),
            request.number("limit", 25).clamp(1, state.page_max),
        );
        let all = items.len();
        items.truncate(most.unwrap_or(usize::MAX));
        let told = items.len();
        let shown: Vec<Value> = items.into_iter().skip(start).take(limit).collect();
        let next = start + shown.len();
        let more = next < told;
        let body = json!({
            "size": shown.len(), "limit": limit, "start": start, "isLastPage": next >= all, "values": shown,
            "nextPageStart": more.then_some(next),
        });
        Reply::ok(body)
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Served for State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        let request = Request {
            asked,
            method: &asked.method,
            body: serde_json::from_slice(&asked.body).unwrap_or(Value::Null),
        };
        let mut reply = answer(self, &request);
        let user = token(self, &request).and_then(|it| self.users.get(&it.user));
        if let Some(user) = user.filter(|_| reply.status != 401) {
            reply = reply
                .with("x-auserid", &user.id.to_string())
                .with("x-ausername", &user.name);
        }
        self.calls.push(Call {
            method: asked.method.clone(),
            path: asked.path.clone(),
            query: asked.query.clone(),
            body: request.body,
            status: reply.status,
        });
        let (content_type, body) = match (reply.text, reply.body) {
            (Some(text), _) => ("text/plain; charset=utf-8", text.into_bytes()),
            (None, Value::Null) => ("application/json; charset=utf-8", Vec::new()),
            (None, body) => ("application/json; charset=utf-8", body.to_string().into_bytes()),
        };
        Answer {
            status: reply.status,
            headers: reply.headers,
            content_type,
            body,
        }
    }

    fn outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.raised)
    }

    fn last_calls(&self) -> Vec<String> {
        let last = self.calls.iter().rev().take(25).rev();
        last.map(|it| {
            let (method, path, query) = (&it.method, &it.path, &it.query);
            format!("  {method} {path}?{query} {} -> {}", it.body, it.status)
        })
        .collect()
    }
}

fn token<'a>(state: &'a State, request: &Request<'_>) -> Option<&'a Token> {
    let text = request.asked.header("authorization")?.strip_prefix("Bearer ")?;
    state.tokens.get(text).filter(|it| !it.revoked)
}

fn answer(state: &mut State, request: &Request<'_>) -> Reply {
    let fault = state.faults.iter_mut().find(|it| {
        it.left > 0
            && (it.method.is_empty() || it.method == request.method)
            && request.asked.path.contains(&it.path)
    });
    if let Some(fault) = fault {
        fault.left -= 1;
        let mut reply = Reply::new(fault.status, fault.body.clone());
        reply.headers.clone_from(&fault.headers);
        return reply;
    }
    let asked = request.asked;
    let Some(path) = asked.path.strip_prefix("/bitbucket/rest/") else {
        return Reply::not_found("This page");
    };
    let ours = asked
        .header("user-agent")
        .is_some_and(|it| it.starts_with("SignedApproval/"));
    if ours
        && let Some(document) = self::document(state)
        && let Err(violation) = document.check(request.method, path, &asked.query, &asked.body)
    {
        state.violations.push(violation);
    }
    let no_check = asked.header("x-atlassian-token") == Some("no-check");
    if request.method != "GET" && !no_check && request.body.is_null() {
        return Reply::refused(403, "XsrfException", "XSRF check failed");
    }
    // Behind `bitbucket` and `rest`.
    let decoded: Vec<String> = asked.segments().split_off(2);
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let who = token(state, request).cloned();
    if who.is_none() && request.asked.header("authorization").is_some() {
        return Reply::refused(
            401,
            "auth.TokenAuthenticationException",
            "The access token is invalid or has expired.",
        );
    }
    if request.method == "GET" && segments == ["api", "latest", "application-properties"] {
        let (version, build) = (&state.version, "9004001");
        return Reply::ok(json!({"version": version, "buildNumber": build, "displayName": "Bitbucket"}));
    }
    let Some(who) = who else {
        return Reply::refused(
            401,
            "AuthenticationException",
            "Authentication failed. Please check your credentials.",
        );
    };
    match (request.method, segments.as_slice()) {
        ("GET", ["api", "latest", "users"]) => {
            if state.users[&who.user].service {
                return Reply::forbidden();
            }
            let filter = request.parameter("filter").unwrap_or_default().to_lowercase();
            let people = state.users.values().filter(|it| !it.service);
            let fitting = people.filter(|it| {
                [&it.name, &it.display, &it.email]
                    .iter()
                    .any(|it| it.to_lowercase().contains(&filter))
            });
            let list = fitting.map(|it| user_json(state, it.id)).collect();
            Reply::page(request, state, list)
        }
        ("GET", ["api", "latest", "repos"]) => {
            let seen = state
                .repositories
                .keys()
                .filter(|it| state.access(&who, **it).is_some());
            let list = seen.map(|it| repository_json(state, *it)).collect();
            Reply::page(request, state, list)
        }
        ("POST", ["build-status", "latest", "commits", "stats"]) => repositories::stats(state, &request.body),
        ("GET", ["api", "latest", "projects", _, "webhooks"]) => Reply::forbidden(),
        (_, [api, "latest", "projects", key, "repos", slug, rest @ ..]) => {
            let Some(id) = state.named(key, slug) else {
                return Reply::not_found(&format!("Repository {key}/{slug}"));
            };
            let Some(access) = state.access(&who, id) else {
                return Reply::forbidden();
            };
            let by = Caller {
                user: who.user,
                access,
            };
            repositories::answer(state, request, api, by, id, rest)
                .or_else(|| pulls::answer(state, request, api, by, id, rest))
                .unwrap_or_else(|| Reply::not_found("This page"))
        }
        _ => Reply::not_found("This page"),
    }
}

fn document(state: &State) -> Option<Arc<Document>> {
    state.document.clone()
}

/// Who asks about a repository.
#[derive(Clone, Copy)]
pub struct Caller {
    pub user: u64,
    pub access: Access,
}
