//! People, their roles, their passkeys and their accounts on the forges.

use crate::domain::people::{Person, Role};
use crate::domain::project::Integration;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::reach::Reach;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest name, address or label on the page, in characters.
const TEXT_MAX: usize = 120;

#[derive(Template)]
#[template(path = "admin/people.html")]
struct PeoplePage {
    frame: Frame,
    admin: bool,
    people: Vec<PersonView>,
    groups: Vec<(String, String)>,
    /// Id and name of each connected forge.
    forges: Vec<(String, String)>,
    /// Where the form's last button leads.
    invite_done: &'static str,
    /// Roles can be chosen.
    invite_roles: bool,
}

impl PeoplePage {
    /// Somebody else has passkeys that could be lost.
    fn others_have_passkeys(&self) -> bool {
        self.people.iter().any(|it| !it.own && !it.passkeys.is_empty())
    }

    /// Somebody has not used the invitation.
    fn invited_still(&self) -> bool {
        self.people.iter().any(|it| it.passkeys.is_empty())
    }
}

/// One person.
struct PersonView {
    id: String,
    name: String,
    email: String,
    roles: Vec<&'static str>,
    active: bool,
    own: bool,
    passkeys: Vec<PasskeyView>,
    accounts: Vec<AccountView>,
    approver: bool,
    /// What reaches them.
    reached_by: Vec<String>,
}

/// One passkey.
struct PasskeyView {
    label: String,
    kind: &'static str,
    synced: bool,
    added: Moment,
    /// While it may not decide yet.
    decides_from: Option<Moment>,
}

/// One linked account.
struct AccountView {
    forge: String,
    id: String,
    proven: bool,
}

/// `GET /dashboard/people`: administrators; auditors see it without the forms.
pub async fn show_people(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let now = app.now();
    let everybody = People::load(&state)?;
    let reach = Reach::load(&state)?;
    let forges: Vec<Integration> = state
        .all::<Integration>()?
        .into_iter()
        .filter(|it| !it.removed)
        .collect();
    let mut groups: Vec<(String, String)> = Vec::new();
    for group in everybody.groups() {
        let members = group
            .members
            .iter()
            .map(|it| everybody.name(it))
            .collect::<Vec<_>>()
            .join(", ");
        groups.push((shown(&group.name, TEXT_MAX), members));
    }
    Ok(html(&PeoplePage {
        frame: Frame::new(&app, Some(&person), Place::People, t!("People")),
        invite_done: "/dashboard/people",
        invite_roles: true,
        admin: person.has(Role::Admin),
        people: everybody
            .sorted()
            .into_iter()
            .map(|it| view(it, &person, &forges, &reach, now))
            .collect(),
        groups,
        forges: forges
            .iter()
            .map(|it| (it.id.to_string(), shown(&it.name, TEXT_MAX)))
            .collect(),
    }))
}

fn view(person: &Person, reader: &Person, forges: &[Integration], reach: &Reach, now: Time) -> PersonView {
    let passkeys = person.live_passkeys().map(|it| PasskeyView {
        label: if it.label.is_empty() {
            t!("Passkey").to_owned()
        } else {
            shown(&it.label, TEXT_MAX)
        },
        kind: if it.platform {
            t!("on the device itself")
        } else {
            t!("security key or phone")
        },
        synced: it.backup_eligible,
        added: Moment::of(it.added_at),
        decides_from: Some(it.decides_from).filter(|it| *it > now).map(Moment::of),
    });
    let accounts = person.accounts.iter().map(|it| AccountView {
        forge: match forges.iter().find(|forge| forge.id == it.integration) {
            Some(forge) => shown(&forge.name, TEXT_MAX),
            None => t!("a removed integration").to_owned(),
        },
        id: shown(&it.account_id, TEXT_MAX),
        proven: it.proven,
    });
    PersonView {
        id: person.id.to_string(),
        name: shown(&person.name, TEXT_MAX),
        email: shown(&person.email, TEXT_MAX),
        roles: person.roles.iter().map(|it| it.name()).collect(),
        active: person.active,
        own: person.id == reader.id,
        passkeys: passkeys.collect(),
        accounts: accounts.collect(),
        approver: person.has(Role::Approver),
        reached_by: reach.of(person),
    }
}
