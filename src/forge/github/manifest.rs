//! Making the App by a manifest: GitHub's page asks an owner, and hands out the App's key once.
//!
//! Source: "Registering a GitHub App from a manifest" of GitHub's documentation.

use crate::forge::Connection;
use crate::forge::github::{Credentials, dressed, roots};
use crate::outbound::{self, Call, Client, Error, Method, Secret};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// What an App is to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Merge what is approved.
    pub merge: bool,
    /// See who may bypass a ruleset.
    pub administer: bool,
}

/// What GitHub hands out once.
#[derive(Debug)]
pub struct Converted {
    pub credentials: Credentials,
    pub webhook_secret: Secret,
    /// Page of the App; it is installed from there.
    pub html_url: String,
    pub slug: String,
    /// The account that owns it.
    pub owner: String,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    slug: String,
    html_url: String,
    webhook_secret: Option<String>,
    pem: String,
    owner: Option<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    login: String,
}

/// The manifest of an App whose webhooks lead to `hook_url`, and which GitHub's page leads back to `redirect_url`.
pub fn manifest(name: &str, public_url: &str, hook_url: &str, redirect_url: &str, wishes: Wishes) -> Value {
    let access = |write: bool| if write { "write" } else { "read" };
    let mut permissions = json!({
        "metadata": "read", "statuses": "write", "merge_queues": "read", "actions": "read", "deployments": "write", "pull_requests": access(wishes.merge), "contents": access(wishes.merge),
    });
    if wishes.administer {
        permissions["administration"] = json!("write");
    }
    json!({
        "name": name,
        "url": public_url,
        "hook_attributes": { "url": hook_url, "active": true },
        "redirect_url": redirect_url,
        "setup_url": format!("{}/dashboard/integrations/github", public_url.trim_end_matches('/')),
        "public": false,
        "default_permissions": permissions,
        "default_events": ["pull_request", "push", "status", "merge_group", "deployment_protection_rule"],
    })
}

/// Takes the App's key for the code that GitHub's page came back with. A code is good once, for an hour.
///
/// # Errors
/// Any [`Error`]; `Status` 404 for a code that GitHub does not know (any more).
pub async fn convert(connection: &Connection, code: &str, allow_http: &[String]) -> Result<Converted, Error> {
    let (api, _) = roots(&connection.base_url, allow_http)?;
    let client = Client::new(connection.ca_pem.as_deref(), allow_http)?;
    if !is_code(code) {
        return Err(Error::Refused("this is not a code of GitHub's".to_owned()));
    }
    let url = outbound::join(&api, &["app-manifests", code, "conversions"])?;
    let call = dressed(Call::new(Method::Post, url)).unseen(Secret::new(code));
    let answer: Answer = client.fetch(call).await?.json()?;
    Ok(Converted {
        credentials: Credentials {
            app_id: answer.id,
            private_key: Zeroizing::new(answer.pem),
            installation_id: None,
        },
        webhook_secret: Secret::new(
            answer
                .webhook_secret
                .ok_or_else(|| Error::NotJson("GitHub made the App without a webhook secret".to_owned()))?,
        ),
        html_url: answer.html_url,
        slug: answer.slug,
        owner: answer.owner.map(|it| it.login).unwrap_or_default(),
    })
}

/// A code as GitHub makes them: letters, digits and a few marks, as it may stand in a path.
fn is_code(code: &str) -> bool {
    !code.is_empty()
        && code.len() <= 200
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_asks_for_no_more_than_it_was_told_to() {
        let made = |merge, administer| {
            let wishes = Wishes { merge, administer };
            manifest(
                "Gate",
                "https://gate.example",
                "https://gate.example/h",
                "https://gate.example/r",
                wishes,
            )
        };
        let small = made(false, false);
        assert_eq!(small["default_permissions"]["contents"], "read");
        assert_eq!(small["default_permissions"]["administration"], Value::Null);
        assert_eq!(small["public"], false);
        let large = made(true, true);
        assert_eq!(large["default_permissions"]["contents"], "write");
        assert_eq!(large["default_permissions"]["administration"], "write");
    }

    #[test]
    fn a_code_can_be_no_path() {
        assert!(is_code("a180b1a3d263c81bc6441d7b990bae27d4c10679"));
        for odd in ["", "..", "a/b", "a?b", "a b", &"a".repeat(201)] {
            assert!(!is_code(odd), "{odd}");
        }
    }
}
