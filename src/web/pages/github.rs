//! Making a GitHub App: what it will ask for, the form that leads to GitHub, and the page GitHub leads back to.

use crate::texts::{filters, t};
use crate::web::api::github_apps::{AppForm, AppWanted, begin_app};
use crate::web::app::App;
use crate::web::body::read_bytes;
use crate::web::headers::FormsTo;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::policy_editor::only_admin;
use crate::web::pages::{PageError, html};
use crate::web::session::SignedIn;
use actix_web::web::{Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

/// Largest form, in bytes: certificates are the longest part.
const FORM_BYTES_MAX: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "admin/github_app.html")]
struct AppPage {
    frame: Frame,
    /// What was typed, to be kept where it is refused.
    wanted: AppWanted,
    form: Option<AppForm>,
    /// The field that is refused, or none, and why; both empty where nothing is.
    wrong: (String, String),
}

#[derive(Template)]
#[template(path = "admin/github_made.html")]
struct MadePage {
    frame: Frame,
    code: String,
    state: String,
}

/// `POST /dashboard/integrations/github/app`: admins. The page whose form leads to GitHub.
pub async fn make_github_app(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, PageError> {
    only_admin(&who.0)?;
    let wanted = read_form(&read_bytes(&request, payload, FORM_BYTES_MAX).await?);
    let (form, wrong) = match begin_app(&app, who.0.id.as_str(), &wanted) {
        Ok(form) => (Some(form), nothing_wrong()),
        Err(problem) => (None, (problem.field().to_owned(), problem.told_of_field())),
    };
    let target = form.as_ref().and_then(|it| FormsTo::of(&it.action));
    let mut response = html(&AppPage {
        frame: Frame::new(&app, Some(&who.0), Place::Integrations, t!("Install GitHub App")),
        wanted,
        form,
        wrong,
    });
    if let Some(target) = target {
        response.extensions_mut().insert(target);
    }
    Ok(response)
}

/// What the form for a new App begins with.
pub(crate) fn new_app() -> AppWanted {
    AppWanted {
        name: "SignedApproval".to_owned(),
        base_url: "https://github.com".to_owned(),
        ..AppWanted::default()
    }
}

/// Of a form that nobody has sent yet: no field, and no reason.
pub(crate) fn nothing_wrong() -> (String, String) {
    (String::new(), String::new())
}

fn read_form(body: &[u8]) -> AppWanted {
    let mut wanted = AppWanted::default();
    for (name, value) in url::form_urlencoded::parse(body) {
        let field = match name.as_ref() {
            "name" => &mut wanted.name,
            "base_url" => &mut wanted.base_url,
            "organization" => &mut wanted.organization,
            "ca_pem" => &mut wanted.ca_pem,
            "merge" => {
                wanted.merge = true;
                continue;
            }
            "administer" => {
                wanted.administer = true;
                continue;
            }
            _ => continue,
        };
        *field = value.into_owned();
    }
    wanted
}

/// What GitHub leads back with.
#[derive(Debug, serde::Deserialize)]
pub struct Back {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
}

/// `GET /dashboard/integrations/github/made?code=…&state=…`: whoever GitHub leads here. A browser sends no session with such
/// a visit, so the page only holds what its form brings along; that needs the session.
pub async fn show_github_made(app: Data<App>, back: Query<Back>) -> Result<HttpResponse, PageError> {
    let Back { code, state } = back.into_inner();
    Ok(html(&MadePage {
        frame: Frame::new(&app, None, Place::Integrations, t!("Install GitHub App")),
        code: code.chars().take(200).collect(),
        state: state.chars().take(200).collect(),
    }))
}
