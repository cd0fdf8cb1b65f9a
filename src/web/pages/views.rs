//! Saving, renaming and removing views of the list of requests: plain forms.

use crate::domain::command::Command;
use crate::domain::ids::ViewId;
use crate::domain::view::{View, views_of};
use crate::identity::random_id;
use crate::texts::t;
use crate::web::app::App;
use crate::web::body::{API_BYTES_MAX, read_bytes};
use crate::web::filters::Filters;
use crate::web::pages::policy_editor::see_other;
use crate::web::pages::requests::{Saving, refused};
use crate::web::pages::{PageError, only_dashboard};
use crate::web::session::SignedIn;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use url::form_urlencoded;

/// What was sent.
#[derive(Default)]
struct Form {
    /// The button: `save`, `rename` or `remove`.
    action: String,
    view: String,
    name: String,
    query: String,
    shared: bool,
}

impl Form {
    fn read(bytes: &[u8]) -> Self {
        let mut form = Form::default();
        for (name, value) in form_urlencoded::parse(bytes) {
            match name.as_ref() {
                "action" => form.action = value.into_owned(),
                "view" => form.view = value.into_owned(),
                "name" => form.name = value.into_owned(),
                "query" => form.query = value.into_owned(),
                "shared" => form.shared = true,
                _ => {}
            }
        }
        form
    }
}

/// `POST /dashboard/requests/views`: administrators and auditors, their own; administrators, the shared ones.
pub async fn change_views(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&who.0)?;
    let form = Form::read(&read_bytes(&request, payload, API_BYTES_MAX).await?);
    let filters = Filters::read(&form.query).0;
    let known: Option<View> = {
        let state = app.snapshot()?;
        let visible = views_of(&who.0.id, &state)?;
        visible.into_iter().find(|it| it.id.as_str() == form.view)
    };
    let command = match (form.action.as_str(), known) {
        ("save", _) if filters.is_empty() => {
            let saving = Saving {
                name: form.name,
                shared: form.shared,
                refused: t!("Filter the list first: a view is a filter under a name.").to_owned(),
                view: String::new(),
            };
            return refused(&app, &who.0, filters, saving);
        }
        ("save", _) => Command::SaveView {
            view: ViewId::from_random(random_id()),
            name: form.name.clone(),
            query: filters.address(),
            shared: form.shared,
        },
        ("rename", Some(view)) => Command::SaveView {
            view: view.id,
            name: form.name.clone(),
            query: view.query,
            shared: view.owner.is_none(),
        },
        ("remove", Some(view)) => Command::RemoveView { view: view.id },
        _ => return Err(PageError::Unknown),
    };
    match app.submit(who.actor(), command).await {
        Ok(_) => Ok(see_other(&match filters.is_empty() {
            true => "/dashboard/requests#views".to_owned(),
            false => format!("/dashboard/requests?{}#views", filters.address()),
        })),
        Err(problem) => {
            let saving = Saving {
                view: form.view,
                name: form.name,
                shared: form.shared,
                refused: problem.told_of_field(),
            };
            refused(&app, &who.0, filters, saving)
        }
    }
}
