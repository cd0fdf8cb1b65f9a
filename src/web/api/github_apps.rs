//! Making a GitHub App by its manifest: what is asked for on our page, and the key that GitHub hands out once.

use crate::domain::ids::IntegrationId;
use crate::domain::project::ForgeKind;
use crate::domain::time::Time;
use crate::forge::Connection;
use crate::forge::github::{Wishes, convert, manifest};
use crate::identity::random_id;
use crate::outbound::{self, Secret};
use crate::web::api::bounded;
use crate::web::api::integrations::{GITHUB, NewIntegration};
use crate::web::app::App;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::Caller;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// GitHub takes an hour for all steps.
const LIVES_SECONDS: i64 = 3600;
/// Apps that are being made at once.
const PENDING_MAX: usize = 100;

/// An App that somebody is making.
#[derive(Clone, Debug)]
struct Begun {
    integration: IntegrationId,
    connection: Connection,
    name: String,
    /// Who began; nobody else may finish.
    by: String,
    ends: Time,
}

/// The Apps that are being made, by the state that leads back to them. In memory: a restart makes somebody begin anew.
#[derive(Debug, Default)]
pub struct AppsBegun(Mutex<HashMap<String, Begun>>);

impl AppsBegun {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an admin wants an App for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppWanted {
    pub name: String,
    #[serde(default)]
    pub base_url: String,
    /// Empty: the App belongs to the person's own account.
    #[serde(default)]
    pub organization: String,
    #[serde(default)]
    pub ca_pem: String,
    #[serde(default)]
    pub merge: bool,
    #[serde(default)]
    pub administer: bool,
}

/// What is to be sent to GitHub's page, as a form.
#[derive(Debug)]
pub struct AppForm {
    /// Where the form goes, on GitHub.
    pub action: String,
    /// Its one field.
    pub manifest: String,
}

/// Begins to make an App; `by` is the person's id.
///
/// # Errors
/// A problem that names the field.
pub fn begin_app(app: &App, by: &str, wanted: &AppWanted) -> Result<AppForm, Problem> {
    let name = wanted.name.trim();
    // GitHub takes no longer one.
    bounded("name", name, 34)?;
    let base_url = match wanted.base_url.trim().trim_end_matches('/') {
        "" => GITHUB,
        given => given,
    };
    let base = outbound::parse_base(base_url, &app.allow_http)
        .map_err(|e| Problem::invalid("base_url", e.to_string()))?;
    let organization = wanted.organization.trim();
    let sound = |it: &str| {
        it.len() <= 39
            && it
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !sound(organization) {
        return Err(Problem::bad_field(
            "organization",
            "the organization's name as it stands in its address",
        ));
    }
    let integration = IntegrationId::from_random(random_id());
    let state = hex::encode(random_id());
    let path: &[&str] = match organization {
        "" => &["settings", "apps", "new"],
        it => &["organizations", it, "settings", "apps", "new"],
    };
    let mut action = outbound::join(&base, path).map_err(|e| Problem::invalid("base_url", e.to_string()))?;
    action.query_pairs_mut().append_pair("state", &state);
    let public = app.public_url.trim_end_matches('/');
    let hook_url = format!("{public}/hooks/github/{integration}");
    let back = format!("{public}/dashboard/integrations/github/made");
    let wishes = Wishes {
        merge: wanted.merge,
        administer: wanted.administer,
    };
    let manifest = manifest(name, public, &hook_url, &back, wishes).to_string();
    let now = app.now();
    let mut begun = app.apps_begun.lock();
    begun.retain(|_, it| it.ends > now);
    if begun.len() >= PENDING_MAX {
        return Err(Problem::invalid(
            "name",
            "too many Apps are being made just now; try again in an hour",
        ));
    }
    let entry = Begun {
        integration,
        connection: Connection {
            kind: ForgeKind::Github,
            base_url: base_url.to_owned(),
            ca_pem: Some(wanted.ca_pem.trim().to_owned()).filter(|it| !it.is_empty()),
        },
        name: name.to_owned(),
        by: by.to_owned(),
        ends: now.plus_seconds(LIVES_SECONDS.unsigned_abs()),
    };
    begun.insert(state, entry);
    Ok(AppForm {
        action: action.to_string(),
        manifest,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeBody {
    code: Zeroizing<String>,
    state: String,
}

/// `POST /api/v1/integrations/github/apps`: the admin who began. Takes the key of an App that GitHub has just made.
pub async fn finish_app(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let (body, _) = read_json::<MadeBody>(&request, payload).await?;
    let now = app.now();
    // Taken out before anything else: a state is good once.
    let begun = app.apps_begun.lock().remove(&body.state);
    let by = caller.person().map(|it| it.id.to_string());
    let begun = begun
        .filter(|it| it.ends > now && Some(&it.by) == by.as_ref())
        .ok_or_else(|| {
            Problem::bad_field(
                "state",
                "that of an App which you began to make here within the last hour",
            )
        })?;
    let made = convert(&begun.connection, &body.code, &app.allow_http)
        .await
        .map_err(|e| Problem::forge_answer(format!("GitHub does not hand out the App's key: {e}")))?;
    let install_url = format!("{}/installations/new", made.html_url.trim_end_matches('/'));
    let credentials: Secret = made.credentials.to_secret();
    let integration = NewIntegration {
        id: begun.integration,
        connection: begun.connection,
        name: begun.name,
        // It acts as nobody before it is installed.
        account: None,
        credentials,
        webhook_secret: made.webhook_secret,
    };
    let mut shown = integration.add(&app, &caller, reason).await?;
    shown["app"] = json!({ "id": made.credentials.app_id, "slug": made.slug, "owner": made.owner, "url": made.html_url });
    shown["install_url"] = json!(install_url);
    Ok(HttpResponse::Created().json(shown))
}
