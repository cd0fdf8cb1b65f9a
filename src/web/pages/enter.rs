//! The ways in: setting up, enrolling by invitation, signing in, and where each person begins.

use crate::domain::people::{Person, Role};
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::set_up::addresses;
use crate::web::pages::{PageError, html, not_found};
use crate::web::session::Visitor;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

/// Longest `next` that is followed, in bytes.
const NEXT_BYTES_MAX: usize = 200;

#[derive(Template)]
#[template(path = "enter/setup.html")]
struct SetUpPage {
    frame: Frame,
    address: String,
    host: String,
    evaluation: bool,
    /// What the journal was begun with, where that was another address.
    first: Option<String>,
}

/// `GET /setup`: anybody, until somebody has claimed the appliance; then there is nothing here. The token is in the
/// fragment, which never reaches a server.
pub async fn show_setup(app: Data<App>) -> Result<HttpResponse, PageError> {
    if app.set_up()? {
        return Ok(not_found());
    }
    let (address, first) = addresses(&app)?;
    let host = url::Url::parse(&address).ok();
    Ok(html(&SetUpPage {
        frame: Frame::new(&app, None, Place::Elsewhere, t!("Set up")),
        host: host
            .and_then(|it| it.host_str().map(str::to_owned))
            .unwrap_or_default(),
        address,
        evaluation: app.evaluation(),
        first,
    }))
}

#[derive(Template)]
#[template(path = "enter/enrol.html")]
struct EnrolmentPage {
    frame: Frame,
}

/// `GET /enrol`: anybody with an invitation, whose token is in the fragment.
pub async fn show_enrolment(app: Data<App>) -> HttpResponse {
    html(&EnrolmentPage {
        frame: Frame::new(&app, None, Place::Elsewhere, t!("Join")),
    })
}

#[derive(Template)]
#[template(path = "enter/login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
}

/// What `GET /login` may be told.
#[derive(Debug, Default, Deserialize)]
pub struct LoginQuery {
    /// Where to go afterwards.
    next: Option<String>,
}

/// `GET /login`: anybody. Whoever is signed in goes on at once.
pub async fn show_login(
    app: Data<App>,
    visitor: Visitor,
    query: Option<Query<LoginQuery>>,
) -> Result<HttpResponse, PageError> {
    if !app.set_up()? {
        return Ok(see_other("/setup"));
    }
    let asked = query.and_then(|it| it.into_inner().next);
    let next = asked.as_deref().and_then(local_path).unwrap_or("/");
    if visitor.0.is_some() {
        return Ok(see_other(next));
    }
    let frame = Frame::new(&app, None, Place::Elsewhere, t!("Sign in"));
    Ok(html(&LoginPage {
        frame,
        next: next.to_owned(),
    }))
}

/// `GET /`: anybody; goes where this person begins.
pub async fn go_home(app: Data<App>, visitor: Visitor) -> Result<HttpResponse, PageError> {
    if !app.set_up()? {
        return Ok(see_other("/setup"));
    }
    Ok(see_other(match &visitor.0 {
        None => "/login",
        Some(person) => home_of(person),
    }))
}

fn home_of(person: &Person) -> &'static str {
    if person.has(Role::Admin) || (person.has(Role::Auditor) && !person.has(Role::Approver)) {
        "/dashboard"
    } else {
        "/a/"
    }
}

/// The path, if it is one of our own pages and can be read in no other way (no scheme, no host, no `..`).
fn local_path(next: &str) -> Option<&str> {
    const PAGES: [&str; 5] = ["/a/", "/dashboard", "/help", "/problems/", "/api/v1/credentials/"];
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/_-.?=&".contains(&c);
    let ours = PAGES.iter().any(|it| next.starts_with(it)) || next == "/";
    let odd = next.contains("//") || next.contains("..");
    (ours && !odd && next.len() <= NEXT_BYTES_MAX && next.bytes().all(plain)).then_some(next)
}

fn see_other(place: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, place))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_are_gone_to() {
        for good in [
            "/",
            "/a/",
            "/a/apr_00ff",
            "/dashboard/requests?status=pending",
            "/help",
        ] {
            assert_eq!(local_path(good), Some(good));
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a//evil.example",
            "/a/../x",
            "/a/%2f",
            "javascript:alert(1)",
            "/login",
            "/a/\r\nx: y",
            "/dashboard#@evil",
            "\t/a/",
        ] {
            assert_eq!(local_path(bad), None, "{bad:?}");
        }
    }
}
