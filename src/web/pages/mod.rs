//! The pages people see: rendered on the server, whole, from one snapshot. Forms and buttons go through the same API as
//! anybody else's program, or submit the same commands.

mod accounts;
mod api_keys;
pub mod audit;
mod away;
mod card;
mod codes;
mod deployments;
mod diagnostics;
mod diff;
mod enter;
mod exceptions;
mod files;
mod frame;
mod gate;
mod github;
mod groups;
mod help;
mod history;
mod impact;
mod integrations;
mod language;
mod moment;
mod notifications;
mod offline;
mod overview;
mod passkeys;
mod people;
mod phone;
mod policies;
mod policy_editor;
mod proposals;
mod queue;
mod reach;
pub mod receipt;
mod recovery;
mod reference;
mod request;
mod requests;
mod retention;
mod scripts;
mod sealed;
pub mod server;
mod set_up;
mod setting_up;
mod settings;
mod signs;
mod since;
mod sinks;
mod standing;
mod test_message;
mod views;
mod waiting;

pub use accounts::show_accounts;
pub use api_keys::show_api_keys;
pub use audit::{show_audit, show_period_report, show_verify};
pub use away::show_away;
pub use codes::show_codes;
pub use diagnostics::{check_now, show_diagnostics};
pub use enter::{go_home, show_enrolment, show_login, show_setup};
pub use exceptions::show_exceptions;
pub use github::{make_github_app, show_github_made};
pub use groups::show_groups;
pub use help::{show_help, show_problem};
pub use history::show_history;
pub use integrations::{show_bitbucket, show_github, show_gitlab, show_integrations};
pub use language::{choose_language, show_languages};
pub use notifications::show_notifications;
pub use offline::show_offline;
pub use overview::show_overview;
pub use passkeys::show_passkeys;
pub use people::show_people;
pub use phone::show_phone;
pub use policies::{show_policies, show_policy};
pub use policy_editor::{edit_policy, explain_draft, new_policy, show_editor};
pub use proposals::{show_proposal, show_proposals};
pub use queue::show_queue;
pub use recovery::show_recovery;
pub use reference::show_reference;
pub use request::show_request;
pub use requests::show_requests;
pub use retention::show_retention;
pub use sealed::show_sealed;
pub use set_up::{answer_step, go_on_setting_up, show_step};
pub use setting_up::show_gate;
pub use settings::{
    show_about, show_backup, show_general, show_security, show_settings, show_signing_keys, show_tls,
};
pub use sinks::show_sinks;
pub use views::change_views;

use crate::domain::people::{Person, Role};
use crate::domain::state::Fault;
use crate::domain::text::{shortened, visible};
use crate::store;
use crate::texts::{filters, said, t};
use crate::web::pages::frame::Frame;
use crate::web::problem::Problem;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use askama::Template;

/// A sentence in pieces: what stands between backticks is code (`true`).
pub(crate) fn told(text: &str) -> Vec<(bool, String)> {
    let text = said(text);
    let pieces = text.split('`').enumerate();
    pieces.map(|(at, it)| (at % 2 == 1, it.to_owned())).collect()
}

/// Why a page can't be shown. Its answer is a page as well, which tells nothing of what is inside (ASVS 13.4.6).
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// There is nothing by that address that this person may know of.
    #[error("not found")]
    Unknown,
    /// The person's roles do not include this page.
    #[error("for {0}")]
    NotForYou(&'static str),
    /// The server can't answer now.
    #[error("the server answered {0}")]
    Status(StatusCode),
}

impl From<Problem> for PageError {
    fn from(problem: Problem) -> Self {
        PageError::Status(problem.status_code())
    }
}

impl From<Fault> for PageError {
    fn from(fault: Fault) -> Self {
        tracing::error!(error = %fault, "a page could not be made");
        PageError::Status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<store::Error> for PageError {
    fn from(error: store::Error) -> Self {
        tracing::error!(error = %error, "a page could not be made");
        PageError::Status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<crate::audit::Error> for PageError {
    fn from(error: crate::audit::Error) -> Self {
        tracing::error!(error = %error, "a page could not be made");
        PageError::Status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        match self {
            PageError::Unknown => StatusCode::NOT_FOUND,
            PageError::NotForYou(_) => StatusCode::FORBIDDEN,
            PageError::Status(status) => *status,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        match self {
            PageError::Unknown => not_found(),
            PageError::NotForYou(whom) => {
                let detail = t!(
                    "This page is for {whom}. An administrator can change your roles.",
                    whom = whom
                );
                error_page(status, t!("You may not see this page"), &detail)
            }
            PageError::Status(_) if status.is_server_error() => error_page(
                status,
                t!("The server can’t answer just now"),
                t!(
                    "Nothing was changed. Try again in a moment; if it stays so, the server’s own log says why."
                ),
            ),
            PageError::Status(_) => error_page(
                status,
                t!("This did not work"),
                t!("Nothing was changed. Go back and try again."),
            ),
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    status: u16,
    title: String,
    detail: String,
}

/// What an error page says. Left with the answer, so that the one place that knows the server can say what it is.
#[derive(Clone)]
pub struct Said {
    status: StatusCode,
    title: String,
    detail: String,
}

impl Said {
    /// The same page, marked as an evaluation's like every other page.
    pub fn in_evaluation(&self) -> HttpResponse {
        let frame = Frame {
            evaluation: true,
            ..Frame::bare(&self.title)
        };
        self.page(frame)
    }

    fn page(&self, frame: Frame) -> HttpResponse {
        let page = ErrorPage {
            frame,
            status: self.status.as_u16(),
            title: self.title.clone(),
            detail: self.detail.clone(),
        };
        respond(self.status, &page)
    }
}

/// A page that says what went wrong. `detail` is a sentence for the person; it must hold no secret and no inner name.
pub fn error_page(status: StatusCode, title: &str, detail: &str) -> HttpResponse {
    let said = Said {
        status,
        title: title.to_owned(),
        detail: detail.to_owned(),
    };
    let mut response = said.page(Frame::bare(title));
    response.extensions_mut().insert(said);
    response
}

/// The one page for what is not there and for what is not yours, so that neither can be told from the other.
pub fn not_found() -> HttpResponse {
    error_page(
        StatusCode::NOT_FOUND,
        t!("There is nothing here"),
        t!("The link may be old or cut off, or it leads to something you may not see."),
    )
}

fn html(page: &impl Template) -> HttpResponse {
    respond(StatusCode::OK, page)
}

fn respond(status: StatusCode, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(body) => HttpResponse::build(status)
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(scripts::with_scripts(body)),
        Err(error) => {
            tracing::error!(error = %error, "a page could not be made");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// Text from outside, for people: nothing in it can hide, and it can't flood the page.
fn shown(text: &str, characters_max: usize) -> String {
    shortened(&visible(text), characters_max)
}

/// Lets through whoever holds one of `roles`.
fn only(person: &Person, roles: &[Role], whom: &'static str) -> Result<(), PageError> {
    if roles.iter().any(|it| person.has(*it)) {
        Ok(())
    } else {
        Err(PageError::NotForYou(whom))
    }
}

/// Those who read the dashboard.
fn only_dashboard(person: &Person) -> Result<(), PageError> {
    only(
        person,
        &[Role::Admin, Role::Auditor],
        t!("administrators and auditors"),
    )
}
