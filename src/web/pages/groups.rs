//! Groups of people, and which rules name them.

use crate::domain::people::Role;
use crate::domain::policy::{Approver, Document};
use crate::domain::project::{PolicyRecord, Project};
use crate::domain::state::Read;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest text of others, in characters.
const TEXT_MAX: usize = 200;

#[derive(Template)]
#[template(path = "admin/groups.html")]
struct GroupsPage {
    frame: Frame,
    admin: bool,
    groups: Vec<GroupView>,
    /// Everybody, for a new group.
    people: Vec<Member>,
}

struct GroupView {
    id: String,
    name: String,
    members: String,
    /// Policies and projects that name it.
    named_by: String,
    everybody: Vec<Member>,
}

/// A person, and whether they are in.
struct Member {
    id: String,
    name: String,
    /// They may not approve, so being in helps no rule.
    hint: &'static str,
    is_in: bool,
}

/// `GET /dashboard/groups`: administrators; auditors see it without the forms.
pub async fn show_groups(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let people = People::load(&state)?;
    let members = |is_in: &dyn Fn(&crate::domain::ids::PersonId) -> bool| -> Vec<Member> {
        let all = people
            .sorted()
            .into_iter()
            .filter(|it| it.active || is_in(&it.id));
        all.map(|it| Member {
            id: it.id.to_string(),
            name: shown(&it.name, TEXT_MAX),
            hint: match (it.active, it.has(Role::Approver)) {
                (false, _) => "inactive",
                (true, false) => t!("not an approver"),
                (true, true) => "",
            },
            is_in: is_in(&it.id),
        })
        .collect()
    };
    let mut groups = Vec::new();
    for group in people.groups() {
        let names: Vec<String> = group.members.iter().map(|it| people.name(it)).collect();
        groups.push(GroupView {
            id: group.id.to_string(),
            name: shown(&group.name, TEXT_MAX),
            members: names.join(", "),
            named_by: named_by(&group.name, &state)?,
            everybody: members(&|it| group.members.contains(it)),
        });
    }
    groups.sort_by_key(|it| it.name.to_lowercase());
    Ok(html(&GroupsPage {
        frame: Frame::new(&app, Some(&person), Place::Groups, t!("Groups")),
        admin: person.has(Role::Admin),
        groups,
        people: members(&|_| false),
    }))
}

fn named_by(group: &str, state: &impl Read) -> Result<String, PageError> {
    let named = |it: &Approver| matches!(it, Approver::Group(name) if name == group);
    let mut users = Vec::new();
    for record in state.all::<PolicyRecord>()? {
        let bytes = state.blob(&record.document)?.unwrap_or_default();
        let names_it = Document::parse(&bytes).is_ok_and(|it| it.approvers().any(|(_, _, it)| named(it)));
        if names_it {
            users.push(t!("policy {name}", name = shown(&record.name, TEXT_MAX)));
        }
    }
    let projects = state.all::<Project>()?.into_iter();
    let projects = projects.filter(|it| !it.removed && it.settings.approvers.iter().any(named));
    users.extend(projects.map(|it| t!("project {path}", path = shown(&it.path, TEXT_MAX))));
    Ok(users.join(", "))
}
