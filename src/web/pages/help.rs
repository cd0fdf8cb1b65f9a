//! Short explanations that work without a network, and the pages behind every error's `type`.

use crate::texts::{filters, fixed, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::{PageError, html};
use crate::web::problem;
use crate::web::session::Visitor;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;

#[derive(Template)]
#[template(path = "help/help.html")]
struct HelpPage {
    frame: Frame,
    public_url: String,
    problems: Vec<Problem>,
}

#[derive(Template)]
#[template(path = "help/problem.html")]
struct ProblemPage {
    frame: Frame,
    problem: Problem,
}

/// One type of error, explained.
struct Problem {
    /// The last part of its `type`.
    name: String,
    title: String,
    text: String,
}

/// `GET /help`: anybody.
pub async fn show_help(app: Data<App>, visitor: Visitor) -> HttpResponse {
    html(&HelpPage {
        frame: Frame::new(&app, visitor.0.as_ref(), Place::Help, t!("Help")),
        public_url: app.public_url().trim_end_matches('/').to_owned(),
        problems: problems(),
    })
}

/// `GET /problems/{type}`: anybody.
pub async fn show_problem(
    app: Data<App>,
    visitor: Visitor,
    name: Path<String>,
) -> Result<HttpResponse, PageError> {
    let problem = problems()
        .into_iter()
        .find(|it| it.name == *name)
        .ok_or(PageError::Unknown)?;
    let frame = Frame::new(&app, visitor.0.as_ref(), Place::Help, &problem.title);
    Ok(html(&ProblemPage { frame, problem }))
}

fn problems() -> Vec<Problem> {
    problem::catalogue()
        .into_iter()
        .map(|it| Problem {
            name: it.0.trim_start_matches("/problems/").to_owned(),
            title: fixed(it.1).to_owned(),
            text: it.2.to_owned(),
        })
        .collect()
}
