//! All requests, for administrators and auditors: searched, filtered, and as views that were saved.

use crate::domain::people::{ApiKey, Person, Role};
use crate::domain::project::PolicyRecord;
use crate::domain::request::{Kind, Status};
use crate::domain::search::{Facet, Found, More, find, known_values};
use crate::domain::state::Read;
use crate::domain::view::{NAME_CHARS_MAX, View, views_of};
use crate::texts::{filters, said, t};
use crate::web::app::App;
use crate::web::filters::{Filters, Wrong};
use crate::web::pages::card::{Card, Places};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::receipt::Teller;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, respond, shown};
use crate::web::session::Reader;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

/// Requests on one page.
const PAGE: usize = 50;
/// Values that a field suggests.
const SUGGESTED_MAX: usize = 200;
/// Longest value of a filter as it is repeated, in characters.
const VALUE_MAX: usize = 60;
/// Where the list is.
const HERE: &str = "/dashboard/requests";

#[derive(Template)]
#[template(path = "admin/requests.html")]
struct RequestsPage {
    frame: Frame,
    filters: Filters,
    wrong: Option<Wrong>,
    statuses: Vec<Choice>,
    kinds: Vec<Choice>,
    deciders: Vec<Choice>,
    policies: Vec<Choice>,
    suggestions: Vec<Suggestions>,
    /// A filter of the folded ones is set.
    unfolded: bool,
    chips: Vec<Chip>,
    cards: Vec<Card>,
    /// Where the list goes on.
    older: Option<String>,
    /// How far back was looked, where it would have cost too much to look further.
    stopped: Option<Moment>,
    /// The list begins with the newest.
    first: bool,
    views: Vec<ViewLine>,
    saving: Saving,
    admin: bool,
    name_max: usize,
}

impl RequestsPage {
    fn is_wrong(&self, field: &str) -> bool {
        self.wrong.as_ref().is_some_and(|it| it.field == field)
    }

    /// What is wrong with a field, to stand beside it. HTML of our own words alone.
    fn why_wrong(&self, field: &str) -> String {
        let wrong = self.wrong.as_ref().filter(|it| it.field == field);
        wrong.map_or_else(String::new, |it| {
            let sentence = t!("This is {reason}.", reason = said(&it.reason));
            format!(r#"<p class="error" id="wrong-{}">{sentence}</p>"#, it.field)
        })
    }

    /// The list from its beginning.
    fn newest(&self) -> String {
        match self.filters.address() {
            own if own.is_empty() => HERE.to_owned(),
            own => format!("{HERE}?{own}"),
        }
    }
}

/// One value that can be chosen.
struct Choice {
    value: String,
    /// Where a choice is a link.
    href: String,
    label: String,
    chosen: bool,
}

/// The values a field suggests.
struct Suggestions {
    id: &'static str,
    values: Vec<String>,
}

/// A filter that is set, and the list without it.
struct Chip {
    label: &'static str,
    value: String,
    href: String,
}

/// One saved view.
struct ViewLine {
    id: String,
    name: String,
    href: String,
    shared: bool,
    current: bool,
    changeable: bool,
}

/// What was typed to save the view, or to rename one, and why it was refused.
#[derive(Default)]
pub struct Saving {
    /// The view that was to be renamed; empty: a new one.
    pub view: String,
    pub name: String,
    pub shared: bool,
    pub refused: String,
}

/// `GET /dashboard/requests`: administrators and auditors.
pub async fn show_requests(
    app: Data<App>,
    Reader(person): Reader,
    request: HttpRequest,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let (filters, others) = Filters::read(request.query_string());
    let before = others.iter().rev().find(|(name, _)| name == "before");
    let before = before.and_then(|(_, value)| value.parse().ok());
    let page = page(&app, &person, filters, before, Saving::default())?;
    Ok(match page.wrong {
        None => html(&page),
        Some(_) => respond(StatusCode::BAD_REQUEST, &page),
    })
}

/// The list again, with what was refused beside the form.
pub fn refused(
    app: &App,
    person: &Person,
    filters: Filters,
    saving: Saving,
) -> Result<HttpResponse, PageError> {
    let page = page(app, person, filters, None, saving)?;
    Ok(respond(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

fn page(
    app: &App,
    person: &Person,
    filters: Filters,
    before: Option<u64>,
    saving: Saving,
) -> Result<RequestsPage, PageError> {
    let state = app.snapshot()?;
    let now = app.now();
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let teller = Teller::new(&state)?;
    let (found, wrong) = match filters.query() {
        Ok(query) => (find(&state, &query, before, PAGE, |_| true)?, None),
        Err(wrong) => {
            let none = Found {
                requests: Vec::new(),
                more: More::No,
            };
            (none, Some(wrong))
        }
    };
    let cards = found.requests.iter();
    let cards = cards.map(|it| Card::of(it, &places, &people, &teller, now));
    let further = |before: u64| match filters.address() {
        own if own.is_empty() => format!("{HERE}?before={before}"),
        own => format!("{HERE}?{own}&before={before}"),
    };
    let admin = person.has(Role::Admin);
    let current = filters.address();
    let views = views_of(&person.id, &state)?.into_iter().map(|it| ViewLine {
        changeable: it.owner.is_some() || admin,
        ..view_line(&it, &current)
    });
    let folded = [
        "project",
        "requester",
        "decided_by",
        "policy",
        "rule",
        "since",
        "until",
        "kind",
    ];
    Ok(RequestsPage {
        frame: Frame::new(app, Some(person), Place::Requests, t!("Requests")),
        cards: cards.collect::<Result<_, _>>()?,
        older: found.more.before().map(further),
        stopped: match found.more {
            More::Stopped { back_to, .. } => Some(Moment::of(back_to)),
            More::No | More::Yes { .. } => None,
        },
        first: before.is_none(),
        statuses: statuses(&filters),
        kinds: kinds(&filters),
        deciders: deciders(&filters, &people),
        policies: policies(&filters, &state)?,
        suggestions: suggestions(&state)?,
        unfolded: folded.iter().any(|it| !filters.get(it).is_empty()),
        chips: chips(&filters, &people),
        views: views.collect(),
        saving,
        admin,
        name_max: NAME_CHARS_MAX,
        wrong,
        filters,
    })
}

fn view_line(view: &View, current: &str) -> ViewLine {
    // What stands in the journal is read as filters again, so that it leads nowhere else.
    let query = Filters::read(&view.query).0.address();
    ViewLine {
        id: view.id.to_string(),
        name: shown(&view.name, NAME_CHARS_MAX),
        current: query == current && !current.is_empty(),
        href: format!("{HERE}?{query}"),
        shared: view.owner.is_none(),
        changeable: false,
    }
}

fn choice(filters: &Filters, name: &'static str, value: &str, label: &str) -> Choice {
    let address = filters.with(name, value).address();
    Choice {
        value: value.to_owned(),
        href: match address.is_empty() {
            true => HERE.to_owned(),
            false => format!("{HERE}?{address}"),
        },
        label: label.to_owned(),
        chosen: filters.get(name) == value,
    }
}

/// The word for a status in a list.
fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => t!("Waiting"),
        Status::Approved => t!("Approved"),
        Status::Rejected => t!("Rejected"),
        Status::Expired => t!("Expired"),
        Status::Cancelled => t!("Cancelled"),
        Status::Superseded => t!("Superseded"),
        Status::Skipped => t!("Skipped"),
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Change => t!("Merge or pull request"),
        Kind::Deployment => t!("Deployment"),
        Kind::Action => t!("Other action"),
    }
}

fn statuses(filters: &Filters) -> Vec<Choice> {
    let all = [choice(filters, "status", "", t!("All"))];
    let one = |it: Status| choice(filters, "status", it.name(), word(it));
    all.into_iter().chain(Status::ALL.into_iter().map(one)).collect()
}

fn kinds(filters: &Filters) -> Vec<Choice> {
    let one = |it: Kind| choice(filters, "kind", it.name(), kind_word(it));
    Kind::ALL.into_iter().map(one).collect()
}

fn deciders(filters: &Filters, people: &People) -> Vec<Choice> {
    let people = people.sorted().into_iter();
    let people = people.filter(|it| it.has(Role::Approver) || it.id.as_str() == filters.get("decided_by"));
    people
        .map(|it| choice(filters, "decided_by", it.id.as_str(), &people_name(it)))
        .collect()
}

fn people_name(person: &Person) -> String {
    shown(&person.name, VALUE_MAX)
}

fn policies(filters: &Filters, state: &impl Read) -> Result<Vec<Choice>, PageError> {
    let mut names = known_values(Facet::Policy, SUGGESTED_MAX, state)?;
    names.extend(state.all::<PolicyRecord>()?.into_iter().map(|it| it.name));
    names.push(filters.get("policy").to_owned());
    names.retain(|it| !it.is_empty());
    names.sort();
    names.dedup();
    let one = |it: String| choice(filters, "policy", &it, &shown(&it, VALUE_MAX));
    Ok(names.into_iter().map(one).collect())
}

/// What the fields suggest: values that requests have had, and the names of those who ask most.
fn suggestions(state: &impl Read) -> Result<Vec<Suggestions>, PageError> {
    let facets = [
        ("projects", Facet::Project),
        ("environments", Facet::Environment),
        ("rules", Facet::Rule),
    ];
    let mut all = Vec::new();
    for (id, facet) in facets {
        let values = known_values(facet, SUGGESTED_MAX, state)?;
        all.push(Suggestions { id, values });
    }
    let keys = state.all::<ApiKey>()?.into_iter().filter(|it| !it.revoked);
    let mut values: Vec<String> = keys.map(|it| it.name).collect();
    values.sort();
    values.dedup();
    values.truncate(SUGGESTED_MAX);
    all.push(Suggestions {
        id: "requesters",
        values,
    });
    for it in &mut all {
        // A value that can't be shown as it is can't be picked either.
        it.values.retain(|it| crate::domain::text::visible(it) == *it);
    }
    Ok(all)
}

fn chips(filters: &Filters, people: &People) -> Vec<Chip> {
    let label = |name| match name {
        "q" => t!("Words"),
        "kind" => t!("Kind"),
        "project" => t!("Project"),
        "environment" => t!("Environment"),
        "requester" => t!("Asked by"),
        "decided_by" => t!("Decided by"),
        "policy" => t!("Policy"),
        "rule" => t!("Rule"),
        "since" => t!("Opened from"),
        _ => t!("Opened until"),
    };
    let set = filters.set().filter(|(name, _)| *name != "status");
    set.map(|(name, value)| {
        let person = people.sorted().into_iter();
        let mut person = person.filter(|it| name == "decided_by" && it.id.as_str() == value);
        let kind = Kind::parse(value).filter(|_| name == "kind");
        Chip {
            label: label(name),
            value: match (person.next(), kind) {
                (Some(it), _) => people_name(it),
                (None, Some(it)) => kind_word(it).to_owned(),
                (None, None) => shown(value, VALUE_MAX),
            },
            href: choice(filters, name, "", "").href,
        }
    })
    .collect()
}
