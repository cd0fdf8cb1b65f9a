//! Who may ask what, and where it is answered. Every call is held against Bitbucket's own description of its API.

use crate::support::forge::bitbucket_cloud::state::{Call, State, Token};
use crate::support::forge::bitbucket_cloud::{pulls, settings, shapes};
use crate::support::forge::host::{Answer, Asked};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The scopes that a scope brings along (Bitbucket's "Scopes").
const IMPLIED: [(&str, &[&str]); 4] = [
    ("repository:write", &["repository"]),
    ("pullrequest", &["repository"]),
    (
        "pullrequest:write",
        &["pullrequest", "repository", "repository:write"],
    ),
    ("account:write", &["account"]),
];

/// Who calls, and what it may do.
#[derive(Clone, Debug, Default)]
pub struct Who {
    pub user: Option<String>,
    pub scopes: Vec<String>,
}

impl Who {
    pub fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|it| {
            it == scope
                || IMPLIED
                    .iter()
                    .any(|(has, brings)| has == it && brings.contains(&scope))
        })
    }
}

pub fn plain(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        content_type: "application/json; charset=utf-8",
        body: match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        },
    }
}

pub fn ok(body: Value) -> Answer {
    plain(200, &body)
}

/// A refusal in Bitbucket's form.
pub fn refused(status: u16, message: &str) -> Answer {
    plain(status, &json!({"type": "error", "error": {"message": message}}))
}

pub fn not_found() -> Answer {
    refused(404, "Resource not found")
}

/// One page of a list. `opaque`: pages are not numbered.
pub fn page(
    state: &State,
    asked: &Asked,
    items: Vec<Value>,
    most: usize,
    opaque: bool,
    size: Option<u64>,
) -> Answer {
    let wanted = asked.parameter("pagelen").map_or(Ok(10), |it| it.parse());
    let Ok(length) = wanted else {
        return refused(400, "Invalid pagelen");
    };
    if length == 0 || length > most {
        return refused(400, "Invalid pagelen");
    }
    let name = asked.parameter("page").unwrap_or_else(|| "1".to_owned());
    let number = match opaque {
        true => name.trim_start_matches("ctx-").trim_end_matches('='),
        false => name.as_str(),
    };
    let Ok(number) = number.parse::<usize>() else {
        return refused(400, "Invalid page");
    };
    let total = items.len();
    let shown: Vec<Value> = items
        .into_iter()
        .skip(length * (number.max(1) - 1))
        .take(length)
        .collect();
    let mut body = json!({"values": shown, "pagelen": length});
    if !opaque {
        body["page"] = json!(number);
        body["size"] = json!(size.unwrap_or(total as u64));
    }
    if total > length * number {
        let next = match opaque {
            true => format!("ctx-{}=", number + 1),
            false => (number + 1).to_string(),
        };
        let pair = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("page", &next)
            .finish();
        body["next"] = json!(format!(
            "{}{}?pagelen={length}&{pair}",
            state.base_url, asked.path
        ));
    }
    ok(body)
}

pub fn handle(state: &mut State, asked: &Asked) -> Answer {
    let answer = answer(state, asked);
    state.calls.push(Call {
        method: asked.method.clone(),
        path: asked.path.clone(),
        query: asked.query.clone(),
        body: serde_json::from_slice(&asked.body).unwrap_or(Value::Null),
        status: answer.status,
    });
    answer
}

fn answer(state: &mut State, asked: &Asked) -> Answer {
    let fault = state.faults.iter_mut().find(|it| {
        it.left > 0 && (it.method.is_empty() || it.method == asked.method) && asked.path.contains(&it.path)
    });
    if let Some(fault) = fault {
        fault.left -= 1;
        let mut answer = plain(fault.status, &fault.body);
        answer.headers.clone_from(&fault.headers);
        return answer;
    }
    if asked.path == "/site/oauth2/access_token" {
        return exchange(state, asked);
    }
    let Some(path) = asked.path.strip_prefix("/2.0/") else {
        return not_found();
    };
    let who = match who(state, asked) {
        Ok(who) => who,
        Err(answer) => return answer,
    };
    let ours = asked
        .header("user-agent")
        .is_some_and(|it| it.starts_with("SignedApproval/"));
    if let Some(document) = state.document.clone().filter(|_| ours)
        && let Err(violation) = document.check(&asked.method, path, &asked.query, &asked.body)
    {
        state.violations.push(violation);
    }
    let segments = asked.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).skip(1).collect();
    let mut answer = match segments.as_slice() {
        ["user"] => match (&who.user, who.may("account")) {
            (Some(uuid), true) => ok(shapes::user_json(state, uuid)),
            _ => lacking(&who, "account"),
        },
        ["repositories", workspace, name, rest @ ..] => match state.named(workspace, name) {
            Some(id) => {
                let needed = needed(&asked.method, rest);
                match who.may(needed) {
                    true => route(state, asked, &who, &id, rest),
                    false => lacking(&who, needed),
                }
            }
            None => not_found(),
        },
        _ => not_found(),
    };
    answer
        .headers
        .push(("x-oauth-scopes".to_owned(), who.scopes.join(", ")));
    answer
}

/// The scope that a call needs, as Bitbucket's document has it.
fn needed(method: &str, rest: &[&str]) -> &'static str {
    match (method, rest) {
        ("GET", ["branch-restrictions", ..]) => "repository:admin",
        ("GET", ["hooks", ..]) => "webhook",
        ("POST", ["pullrequests", _, "merge"]) => "pullrequest:write",
        (_, ["pullrequests", ..]) => "pullrequest",
        _ => "repository",
    }
}

fn lacking(who: &Who, needed: &str) -> Answer {
    let message = "Your credentials lack one or more required privilege scopes.";
    let detail = json!({"required": [needed], "granted": who.scopes});
    plain(
        403,
        &json!({"type": "error", "error": {"message": message, "detail": detail}}),
    )
}

fn route(state: &mut State, asked: &Asked, who: &Who, id: &str, rest: &[&str]) -> Answer {
    match (asked.method.as_str(), rest) {
        ("GET", []) => ok(shapes::repository_json(state, id)),
        (_, ["branch-restrictions" | "hooks" | "effective-branching-model", ..]) => {
            settings::answer(state, asked, id, rest)
        }
        _ => pulls::answer(state, asked, who, id, rest),
    }
}

/// Who calls, by its token.
fn who(state: &State, asked: &Asked) -> Result<Who, Answer> {
    let nobody = || {
        Err(refused(
            401,
            "Token is invalid or not supported for this endpoint.",
        ))
    };
    let Some(proof) = asked.header("authorization") else {
        return nobody();
    };
    let of = |it: &Token| {
        Ok(Who {
            user: it.user.clone(),
            scopes: it.scopes.clone(),
        })
    };
    let valid = |secret: &str| {
        let mut all = state.tokens.iter();
        all.find(|it| it.secret == secret && !it.revoked)
    };
    if let Some(token) = proof.strip_prefix("Bearer ") {
        return valid(token).map_or_else(nobody, of);
    }
    let Some((email, secret)) = basic(proof) else {
        return nobody();
    };
    let Some(token) = valid(&secret) else {
        return nobody();
    };
    let owner = token.user.as_ref().and_then(|it| state.users.get(it));
    match owner.is_some_and(|it| it.email == email) {
        true => of(token),
        false => nobody(),
    }
}

fn basic(proof: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(proof.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// A consumer's way to a token (RFC 6749, section 4.4).
fn exchange(state: &mut State, asked: &Asked) -> Answer {
    let given = asked.header("authorization").and_then(basic);
    let consumer = state.consumer.clone();
    let Some(consumer) = consumer.filter(|it| given.as_ref() == Some(&(it.id.clone(), it.secret.clone())))
    else {
        return plain(
            400,
            &json!({"error": "invalid_grant", "error_description": "no such consumer"}),
        );
    };
    if asked.body != b"grant_type=client_credentials" {
        return plain(400, &json!({"error": "unsupported_grant_type"}));
    }
    let secret = format!("consumer-token-{}", state.fresh());
    let body = json!({"access_token": secret, "token_type": "bearer", "expires_in": 7200,
        "scopes": consumer.scopes.join(" "), "refresh_token": "none-of-this-is-used"});
    state.tokens.push(Token {
        secret,
        user: None,
        scopes: consumer.scopes,
        revoked: false,
    });
    ok(body)
}
