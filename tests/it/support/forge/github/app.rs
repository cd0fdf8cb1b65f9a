//! Tokens, installations and deliveries: what GitHub tells an App about itself.

use crate::support::forge::github::api::{Reply, Request, Who};
use crate::support::forge::github::shapes::{repository_json, time, user_json};
use crate::support::forge::github::state::{APP, Installation, SLUG, State, Token, User};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Who asks; a token that is none is refused, whatever it asks for.
pub fn who(state: &State, request: &Request) -> Result<Who, Reply> {
    let Some(authorization) = &request.authorization else {
        return Ok(Who::Nobody);
    };
    let bad = || Err(Reply::refused(401, "Bad credentials"));
    let Some(token) = authorization.strip_prefix("Bearer ") else {
        return bad();
    };
    if token.starts_with("ghs_") {
        let found = state.tokens.iter().find(|it| it.secret == token);
        return match found {
            Some(it) if !it.revoked && it.ends > Timestamp::now() => {
                let installation = state.installations.get(&it.installation);
                match installation {
                    Some(it) if it.suspended => {
                        Err(Reply::refused(403, "This installation has been suspended"))
                    }
                    Some(it) => Ok(Who::Installation(it.id)),
                    None => bad(),
                }
            }
            _ => bad(),
        };
    }
    if let Some(user) = state.personal.get(token) {
        return Ok(Who::Person(*user));
    }
    match jwt(state, token) {
        Ok(()) => Ok(Who::App),
        Err(message) => Err(Reply::refused(401, message)),
    }
}

fn jwt(state: &State, token: &str) -> Result<(), &'static str> {
    let undecoded = "A JSON web token could not be decoded";
    let (signed, signature) = token.rsplit_once('.').ok_or(undecoded)?;
    let (header, claims) = signed.split_once('.').ok_or(undecoded)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| undecoded)?;
    let part =
        |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let (header, claims) = (part(header).ok_or(undecoded)?, part(claims).ok_or(undecoded)?);
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &state.public_key)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| undecoded)?;
    if header["alg"] != "RS256" || claims["iss"].as_str() != Some(APP.to_string().as_str()) {
        return Err(undecoded);
    }
    let now = Timestamp::now().as_second();
    let (issued, ends) = (
        claims["iat"].as_i64().ok_or(undecoded)?,
        claims["exp"].as_i64().ok_or(undecoded)?,
    );
    if issued > now {
        return Err(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        );
    }
    if ends > now + 600 {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    if ends <= now {
        return Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        );
    }
    Ok(())
}

fn installation_json(it: &Installation) -> Value {
    json!({
        "id": it.id, "app_id": APP, "app_slug": SLUG, "account": {"login": it.account, "id": 1, "type": "Organization"},
        "suspended_at": it.suspended.then(|| time(Timestamp::now())), "permissions": it.permissions,
        "events": it.events, "repository_selection": "selected",
    })
}

pub fn answer(state: &mut State, request: &Request, segments: &[&str]) -> Reply {
    match (request.method.as_str(), segments) {
        ("GET", ["app"]) => Reply::ok(json!({
            "id": APP, "slug": SLUG, "name": "Gate", "owner": {"login": "org", "id": 1},
            "permissions": {"metadata": "read", "statuses": "write"}, "events": ["pull_request"],
        })),
        ("GET", ["app", "installations"]) => {
            let all = state.installations.values().map(installation_json).collect();
            Reply::page(request, state, all)
        }
        ("GET", ["app", "installations", id]) => {
            match id.parse().ok().and_then(|it| state.installations.get(&it)) {
                Some(it) => Reply::ok(installation_json(it)),
                None => Reply::not_found(),
            }
        }
        ("POST", ["app", "installations", id, "access_tokens"]) => mint(state, id),
        ("GET", ["app", "hook", "config"]) => Reply::ok(json!({
            "url": state.hook_url.clone().unwrap_or_default(), "content_type": "json", "insecure_ssl": "0",
            "secret": "********",
        })),
        ("GET", ["app", "hook", "deliveries"]) => {
            let all = state.deliveries.iter().rev().filter(|it| it.status != 0);
            let shown = all.map(|it| {
                json!({"id": it.id, "guid": it.guid, "status_code": it.status, "event": it.event,
                    "status": if it.status < 300 { "OK" } else { "Invalid HTTP Response" },
                    "redelivery": it.redelivery, "repository_id": it.repository, "action": it.payload["action"],
                    "delivered_at": time(Timestamp::now()), "duration": 0.1, "installation_id": 1})
            });
            Reply::ok(shown.take(100).collect())
        }
        ("GET", ["app", "hook", "deliveries", id]) => {
            let found = state.deliveries.iter().find(|it| it.id.to_string() == *id);
            found.map_or_else(Reply::not_found, |it| {
                Reply::ok(
                    json!({"id": it.id, "guid": it.guid, "request": {"headers": {}, "payload": it.payload}}),
                )
            })
        }
        ("POST", ["app", "hook", "deliveries", id, "attempts"]) => {
            let found = state
                .deliveries
                .iter()
                .find(|it| it.id.to_string() == *id)
                .cloned();
            let Some(mut again) = found else {
                return Reply::not_found();
            };
            // The same GUID, another delivery.
            again.id = state.fresh();
            again.redelivery = true;
            again.status = 0;
            state.raised.push(again.id);
            state.deliveries.push(again);
            Reply::new(202, json!({}))
        }
        ("GET", ["repos", owner, name, "installation"]) => {
            let id = state.named(owner, name);
            let found = state
                .installations
                .values()
                .find(|it| id.is_some_and(|id| it.repositories.contains(&id)));
            found.map_or_else(Reply::not_found, |it| Reply::ok(installation_json(it)))
        }
        _ => Reply::not_found(),
    }
}

fn mint(state: &mut State, id: &str) -> Reply {
    let Some(installation) = id
        .parse()
        .ok()
        .and_then(|it: u64| state.installations.get(&it))
        .cloned()
    else {
        return Reply::not_found();
    };
    if installation.suspended {
        return Reply::refused(403, "This installation has been suspended");
    }
    let number = state.fresh();
    // Much longer than they used to be.
    let secret = format!("ghs_{APP}_{number}.{}.{}", "x".repeat(400), "y".repeat(300));
    let ends = Timestamp::now() + SignedDuration::from_hours(1);
    state.tokens.push(Token {
        installation: installation.id,
        secret: secret.clone(),
        ends,
        revoked: false,
    });
    Reply::new(
        201,
        json!({"token": secret, "expires_at": time(ends), "permissions": installation.permissions,
            "repository_selection": "selected"}),
    )
}

/// A public profile.
pub fn user(state: &State, which: impl Fn(&User) -> bool) -> Reply {
    let found = state.users.values().find(|it| which(it));
    found.map_or_else(Reply::not_found, |it| {
        let mut profile = user_json(state, it.id);
        profile["name"] = json!(it.name);
        profile["bio"] = json!(it.bio);
        Reply::ok(profile)
    })
}

pub fn repositories(state: &State, request: &Request, installation: u64) -> Reply {
    let own = &state.installations[&installation].repositories;
    let all: Vec<Value> = own.iter().map(|it| repository_json(state, *it)).collect();
    let count = all.len();
    let mut page = Reply::page(request, state, all);
    page.body = json!({"total_count": count, "repositories": page.body});
    page
}

/// The page on which a person makes an App of a manifest, and agrees at once: it leads back with a code.
pub fn make(state: &mut State, request: &Request) -> Reply {
    let field = url::form_urlencoded::parse(&request.raw).find(|(name, _)| name == "manifest");
    let manifest: Option<Value> = field.and_then(|(_, text)| serde_json::from_str(&text).ok());
    let Some(manifest) = manifest else {
        return Reply::refused(400, "Invalid GitHub App configuration");
    };
    for needed in [
        "name",
        "url",
        "redirect_url",
        "default_permissions",
        "default_events",
    ] {
        if manifest[needed].is_null() {
            return Reply::refused(422, &format!("the manifest has no {needed}"));
        }
    }
    let code = format!("code{}", state.fresh());
    state.codes.push(code.clone());
    let back = manifest["redirect_url"].as_str().unwrap_or_default();
    let given = request.parameter("state").unwrap_or_default();
    Reply::new(302, Value::Null).with("location", &format!("{back}?code={code}&state={given}"))
}

/// Hands out the key of an App that somebody has just made: once.
pub fn convert(state: &mut State, code: &str) -> Reply {
    let before = state.codes.len();
    state.codes.retain(|it| it != code);
    if state.codes.len() == before {
        return Reply::not_found();
    }
    state.hook_secret = format!("made-by-github-{}", state.fresh());
    Reply::new(
        201,
        json!({
            "id": APP, "slug": SLUG, "node_id": "A_1", "client_id": "Iv1.abc", "client_secret": "never-kept",
            "webhook_secret": state.hook_secret, "pem": state.private_key(),
            "html_url": format!("{}/github-apps/{SLUG}", state.base_url), "owner": {"login": "org", "id": 1},
            "name": "Gate", "external_url": "", "permissions": {}, "events": [],
        }),
    )
}
