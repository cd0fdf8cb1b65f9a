//! The reference of the API, made from the same description as the OpenAPI document, without a script.

use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::openapi::{Content, Operation, areas, members, operation_id, refusal_words};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::html;
use crate::web::session::Visitor;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

#[derive(Template)]
#[template(path = "help/reference.html")]
struct ReferencePage {
    frame: Frame,
    public_url: String,
    areas: Vec<AreaView>,
    refusals: Vec<(u16, &'static str)>,
}

struct AreaView {
    anchor: String,
    name: &'static str,
    about: &'static str,
    operations: Vec<OperationView>,
}

struct OperationView {
    anchor: String,
    method: String,
    path: &'static str,
    title: &'static str,
    who: &'static str,
    about: &'static str,
    parameters: Vec<Line>,
    body: Vec<Line>,
    /// What the body is, where it has no members of its own to list.
    body_kind: Option<&'static str>,
    answers: Vec<(u16, &'static str)>,
    fields: Vec<Line>,
    refusals: Vec<u16>,
}

/// One parameter or member.
struct Line {
    name: String,
    needed: bool,
    kind: String,
    about: String,
}

/// `GET /help/api`: anybody.
pub async fn show_reference(app: Data<App>, visitor: Visitor) -> HttpResponse {
    html(&ReferencePage {
        frame: Frame::new(&app, visitor.0.as_ref(), Place::Help, t!("API reference")),
        public_url: app.public_url().trim_end_matches('/').to_owned(),
        areas: areas()
            .iter()
            .map(|it| AreaView {
                anchor: it.name.to_ascii_lowercase().replace(' ', "-"),
                name: it.name,
                about: it.about,
                operations: it.operations.iter().map(view).collect(),
            })
            .collect(),
        refusals: [400, 401, 403, 404, 409, 413, 415, 422, 429, 503]
            .map(|it| (it, refusal_words(it)))
            .to_vec(),
    })
}

fn view(it: &Operation) -> OperationView {
    let of_path = it.path_parameters().into_iter().map(|name| Line {
        name: name.to_owned(),
        needed: true,
        kind: t!("text, in the path").into(),
        about: String::new(),
    });
    let others = it.parameters.iter().map(|parameter| Line {
        name: parameter.name.to_owned(),
        needed: parameter.required,
        kind: t!(
            "{schema}, in the {place}",
            schema = crate::web::openapi::kind_of(&parameter.schema),
            place = parameter.place
        ),
        about: parameter.about.to_owned(),
    });
    let body = lines(&it.body);
    let body_kind = match (&it.body, body.is_empty()) {
        (Content::Nothing, _) | (_, false) => None,
        (Content::Json(_), true) => Some("JSON"),
        (Content::Other(kind), true) => Some(*kind),
    };
    OperationView {
        anchor: operation_id(it),
        method: it.method.to_ascii_uppercase(),
        path: it.path,
        title: it.title,
        who: it.who.words(),
        about: it.about,
        parameters: of_path.chain(others).collect(),
        body,
        body_kind,
        answers: it.answers.iter().map(|it| (it.status, it.about)).collect(),
        fields: it
            .answers
            .first()
            .map(|it| lines(&it.content))
            .unwrap_or_default(),
        refusals: it.all_refusals(),
    }
}

fn lines(content: &Content) -> Vec<Line> {
    let Content::Json(schema) = content else {
        return Vec::new();
    };
    members(schema)
        .into_iter()
        .map(|(name, needed, kind, about)| Line {
            name,
            needed,
            kind,
            about,
        })
        .collect()
}
