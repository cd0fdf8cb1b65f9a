//! The page on which somebody chooses the language of their pages. It needs no session: whoever can't read the page for signing
//! in needs it most.

use crate::texts::filters;
use crate::texts::{Language, spoken, t};
use crate::web::app::App;
use crate::web::language::COOKIE;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::{PageError, html};
use crate::web::session::{Visitor, check_not_foreign};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::header;
use actix_web::web::{Data, Form};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

/// How long a choice is remembered.
const REMEMBERED: Duration = Duration::days(365);

#[derive(Template)]
#[template(path = "enter/language.html")]
struct LanguagePage {
    frame: Frame,
    choices: Vec<Choice>,
    /// Nothing was chosen: the browser says which.
    by_browser: bool,
}

/// A language somebody may choose.
struct Choice {
    tag: &'static str,
    name: &'static str,
    current: bool,
}

/// `GET /language`: anybody.
pub async fn show_languages(app: Data<App>, visitor: Visitor, request: HttpRequest) -> HttpResponse {
    let cookie = request.cookie(COOKIE);
    let chosen = cookie.and_then(|it| app.languages.tagged(it.value()));
    let choice = |it: &'static Language| Choice {
        tag: &it.tag,
        name: &it.name,
        current: chosen.flatten().is_some_and(|chosen| chosen.tag == it.tag),
    };
    let english = Choice {
        tag: "en",
        name: "English",
        current: matches!(chosen, Some(None)),
    };
    // What is spoken is named, also where it is not offered.
    let hidden = spoken().filter(|it| it.hidden);
    let mut choices = vec![english];
    choices.extend(app.languages.offered().chain(hidden).map(choice));
    html(&LanguagePage {
        frame: Frame::new(&app, visitor.0.as_ref(), Place::Elsewhere, t!("Language")),
        choices,
        by_browser: chosen.is_none(),
    })
}

/// What `POST /language` takes.
#[derive(Debug, Deserialize)]
pub struct Chosen {
    /// A tag, or nothing: as the browser says.
    language: String,
}

/// `POST /language`: anybody. Remembers the choice and goes to where everybody begins.
pub async fn choose_language(
    app: Data<App>,
    request: HttpRequest,
    form: Form<Chosen>,
) -> Result<HttpResponse, PageError> {
    check_not_foreign(&request)?;
    let known = app.languages.tagged(&form.language).is_some();
    let mut cookie = Cookie::build(
        COOKIE,
        if known {
            form.language.clone()
        } else {
            String::new()
        },
    )
    .path("/")
    .http_only(true)
    .secure(!app.evaluation())
    .same_site(SameSite::Lax)
    .max_age(REMEMBERED)
    .finish();
    if !known {
        cookie.make_removal();
    }
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/language"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(cookie)
        .finish())
}
