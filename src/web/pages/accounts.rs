//! A person's accounts on the forges, and proving that another one is theirs.

use crate::domain::project::Integration;
use crate::domain::state::Read;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::{PageError, html, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest name of a forge, in characters.
const NAME_MAX: usize = 100;

#[derive(Template)]
#[template(path = "approve/accounts.html")]
struct AccountsPage {
    frame: Frame,
    accounts: Vec<AccountView>,
    /// Id and name of each connected forge.
    forges: Vec<(String, String)>,
}

struct AccountView {
    forge: String,
    id: String,
    proven: bool,
}

/// `GET /a/accounts`: everybody who is signed in.
pub async fn show_accounts(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    let integrations: Vec<Integration> = app.snapshot()?.all()?;
    let named = |it: &Integration| format!("{} ({})", shown(&it.name, NAME_MAX), it.kind.title());
    Ok(html(&AccountsPage {
        frame: Frame::new(&app, Some(&person), Place::Passkeys, t!("Accounts on forges")),
        accounts: person
            .accounts
            .iter()
            .map(|account| AccountView {
                forge: integrations
                    .iter()
                    .find(|it| it.id == account.integration)
                    .map_or_else(|| account.integration.to_string(), named),
                id: shown(&account.account_id, 64),
                proven: account.proven,
            })
            .collect(),
        forges: integrations
            .iter()
            .filter(|it| !it.removed && it.kind.proves_accounts())
            .map(|it| (it.id.to_string(), named(it)))
            .collect(),
    }))
}
