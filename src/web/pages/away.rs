//! Out of office: who stands in for whom, and until when.

use crate::domain::governance::Delegation;
use crate::domain::people::{Person, Role};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Past delegations on the page.
const PAST_MAX: usize = 20;
/// Longest text of others, in characters.
const TEXT_MAX: usize = 200;
/// What the form proposes: a week, in seconds.
const PROPOSED_SECONDS: u64 = 7 * 86_400;

#[derive(Template)]
#[template(path = "approve/away.html")]
struct AwayPage {
    frame: Frame,
    approver: bool,
    admin: bool,
    own: Vec<Line>,
    others: Vec<Line>,
    past: Vec<Line>,
    /// Who may stand in for the reader.
    deputies: Vec<(String, String)>,
    /// Whom an administrator may find a deputy for.
    absent: Vec<(String, String)>,
    earliest: String,
    proposed: String,
}

/// One delegation in words.
struct Line {
    id: String,
    sentence: String,
    until: Moment,
    reason: String,
    by: String,
    may_end: bool,
}

/// `GET /a/away`: whoever is signed in and has a role.
pub async fn show_away(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    if person.roles.is_empty() {
        return Err(PageError::Unknown);
    }
    let state = app.snapshot()?;
    let (now, people) = (app.now(), People::load(&state)?);
    let admin = person.has(Role::Admin);
    let mut all: Vec<Delegation> = state.all()?;
    let mine = |it: &Delegation| it.from == person.id || it.to == person.id;
    all.retain(|it| admin || mine(it));
    all.sort_by_key(|it| std::cmp::Reverse(it.starts));
    let (live, past): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| now < it.until());
    let (own, others): (Vec<_>, Vec<_>) = live.into_iter().partition(mine);
    let view = |it: &Delegation| line(it, &person, &people, now);
    let approvers = people.sorted().into_iter().filter(|it| it.has(Role::Approver));
    let named: Vec<(String, String)> = approvers
        .map(|it| (it.id.to_string(), shown(&it.name, TEXT_MAX)))
        .collect();
    let day = |at: Time| at.to_the_second().chars().take(10).collect::<String>();
    let not_me = |list: &[(String, String)]| -> Vec<(String, String)> {
        let others = list.iter().filter(|(id, _)| *id != person.id.as_str());
        others.cloned().collect()
    };
    Ok(html(&AwayPage {
        frame: Frame::new(&app, Some(&person), Place::Away, t!("Out of office")),
        approver: person.has(Role::Approver),
        admin,
        own: own.iter().map(view).collect(),
        others: others.iter().map(view).collect(),
        past: past.iter().take(PAST_MAX).map(view).collect(),
        deputies: not_me(&named),
        absent: not_me(&named),
        earliest: day(now),
        proposed: day(now.plus_seconds(PROPOSED_SECONDS)),
    }))
}

fn line(it: &Delegation, reader: &Person, people: &People, now: Time) -> Line {
    let own = |id: &crate::domain::ids::PersonId| *id == reader.id;
    let (deputy, absent) = (people.name(&it.to), people.name(&it.from));
    let verb = match (it.starts > now, now < it.until()) {
        (true, _) => t!("will stand in"),
        (false, true) if own(&it.to) => t!("stand in"),
        (false, true) => t!("stands in"),
        (false, false) => t!("stood in"),
    };
    let deputy = if own(&it.to) { t!("You").to_owned() } else { deputy };
    let absent = if own(&it.from) {
        t!("you").to_owned()
    } else {
        absent
    };
    Line {
        id: it.id.to_string(),
        sentence: t!(
            "{deputy} {verb} for {absent}",
            deputy = deputy,
            verb = verb,
            absent = absent
        ),
        until: Moment::of(it.until()),
        reason: shown(&it.reason, TEXT_MAX),
        by: shown(&it.by, TEXT_MAX),
        may_end: now < it.until(),
    }
}
