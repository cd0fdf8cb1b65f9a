//! The dashboard's first page: what is still to set up, how the appliance is doing, what waits, what was decided, what went
//! past the gate, and the last days in charts.

use crate::audit::chart::{Bar, Mark, Part, Stacked, Times};
use crate::audit::{AROUND, DayLine, ENDINGS, Figures};
use crate::domain::people::Role;
use crate::domain::request::{Request, Status};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use crate::texts::{Spoken, filters, t};
use crate::web::app::App;
use crate::web::pages::card::{Card, Places};
use crate::web::pages::deployments::{Stuck, stuck};
use crate::web::pages::exceptions::{ExceptionView, newest};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::{Moment, day_and_month};
use crate::web::pages::proposals::{Line, waiting as waiting_proposals};
use crate::web::pages::queue::broken_glass;
use crate::web::pages::reach::Reach;
use crate::web::pages::receipt::Teller;
use crate::web::pages::server::{ConditionView, beside_the_frame};
use crate::web::pages::set_up::{self, StepLine};
use crate::web::pages::signs::{Sign, signs};
use crate::web::pages::standing::People;
use crate::web::pages::waiting::{Measure, Waiting, measures};
use crate::web::pages::{PageError, html, only_dashboard};
use crate::web::session::Reader;
use crate::web::statistics::Told;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Cards in each list.
const CARDS_MAX: usize = 6;
/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Room for the bars of a chart, in SVG units: readable in half of a wide page and on a phone.
const ROOM: (f64, f64) = (330.0, 120.0);
/// Labels under a chart.
const LABELS: usize = 5;

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct OverviewPage {
    frame: Frame,
    /// What about the server itself needs somebody.
    conditions: Vec<ConditionView>,
    steps: Vec<StepLine>,
    steps_done: usize,
    approver: bool,
    signs: Vec<Sign>,
    waiting: Waiting,
    /// The oldest of them.
    oldest: Vec<Card>,
    exceptions: Vec<ExceptionView>,
    proposals: Vec<Line>,
    /// Emergencies that nobody has looked over yet.
    broken_glass: usize,
    /// Deployments that were decided and are not started.
    stuck: Vec<Stuck>,
    /// Approvers whom no message reaches.
    unreached: Vec<String>,
    days: Days,
}

/// What is known of the last days.
enum Days {
    Known(Box<Known>),
    /// So many of a hundred entries are counted.
    Counting(u64),
    Unreadable,
}

/// The last days in numbers.
struct Known {
    today: Vec<Ending>,
    decisions_today: u64,
    /// Requests that ended last.
    ended: Vec<Card>,
    /// Figures with a chart and its table: HTML of our own words and numbers. `None`: there is nothing to draw.
    endings: Option<String>,
    times: Option<String>,
    around: Option<String>,
    /// Decisions by method.
    methods: Vec<Measure>,
}

/// How many requests ended so.
struct Ending {
    look: &'static str,
    word: &'static str,
    count: u64,
}

/// `GET /dashboard`: administrators and auditors.
pub async fn show_overview(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let now = app.now();
    let (people, places) = (People::load(&state)?, Places::load(&state)?);
    let teller = Teller::new(&state)?;
    let cards = |list: &[Request]| -> Result<Vec<Card>, Fault> {
        list.iter()
            .map(|it| Card::of(it, &places, &people, &teller, now))
            .collect()
    };
    let waiting = Waiting::load(&state, CARDS_MAX, now)?;
    let days = match app.statistics.told(&app, &state) {
        Told::Figures(figures) => {
            let mut ended: Vec<Request> = Vec::new();
            for id in figures.newest.iter().take(CARDS_MAX) {
                ended.extend(state.get::<Request>(id.as_str())?);
            }
            Days::Known(Box::new(known(&figures, cards(&ended)?)))
        }
        Told::Counting(share) => Days::Counting(share),
        Told::Unreadable => Days::Unreadable,
    };
    let set_up = set_up::facts(&app, &state)?;
    let unreached = Reach::load(&state)?.unreached(&people);
    Ok(html(&OverviewPage {
        frame: Frame::new(&app, Some(&person), Place::Overview, t!("Overview")),
        conditions: beside_the_frame(&app)?,
        steps_done: set_up.done(),
        steps: set_up::lines(&set_up, None),
        approver: person.has(Role::Approver),
        signs: signs(&app, &state, &person, unreached.len())?,
        oldest: cards(&waiting.first)?,
        waiting,
        broken_glass: broken_glass(&state)?,
        exceptions: newest(&state, &places, &people, &person, true, CARDS_MAX)?,
        proposals: waiting_proposals(&state, &people)?,
        stuck: stuck(&state, &places, now)?,
        unreached,
        days,
    }))
}

/// `2026-11-28`, and `28 Nov` for an axis.
fn date(day: i64) -> (String, String) {
    let moment = Moment::of(Time(day.saturating_mul(DAY_MS)));
    let name: String = moment.iso.chars().take(10).collect();
    let label = day_and_month(&moment.iso).unwrap_or_else(|| name.clone());
    (name, label)
}

fn known(figures: &Figures, ended: Vec<Card>) -> Known {
    let bars = |counts: fn(&DayLine) -> Vec<u64>| -> Vec<Bar> {
        let bar = |it: &DayLine| {
            let (name, label) = date(it.day);
            Bar {
                name,
                label,
                counts: counts(it),
            }
        };
        figures.lines.iter().map(bar).collect()
    };
    // Nothing is drawn of nothing.
    let stacked = |caption: &str, about: &str, parts: &[Part], bars: &[Bar]| {
        let any = bars.iter().any(|it| it.counts.iter().any(|it| *it > 0));
        any.then(|| {
            Stacked {
                caption,
                about,
                first_column: t!("Day"),
                parts,
                bars,
                room: ROOM,
                broad: false,
                labels: LABELS,
            }
            .draw(&Spoken)
        })
    };
    let marks: Vec<Mark> = figures
        .lines
        .iter()
        .map(|it| {
            let (name, label) = date(it.day);
            Mark {
                name,
                label,
                times: it.times,
            }
        })
        .collect();
    let times = marks.iter().any(|it| it.times.is_some()).then(|| {
        Times {
            caption: t!("Time to decide"),
            about: t!("Median and nine of ten of the times from request to decision, by day; the numbers are in the table below"),
            marks: &marks,
            room: ROOM,
            labels: LABELS,
        }
        .draw(&Spoken)
    });
    let today = &figures.today;
    let withdrawn = today.ended(Status::Cancelled) + today.ended(Status::Superseded);
    let method = |(name, count): (&&'static str, &u64)| {
        let word = match *name {
            "totp" => t!("one-time code (this server’s word)"),
            other => other,
        };
        (word.to_owned(), *count)
    };
    Known {
        today: [
            ("approved", t!("Approved"), today.ended(Status::Approved)),
            ("rejected", t!("Rejected"), today.ended(Status::Rejected)),
            ("expired", t!("Expired"), today.ended(Status::Expired)),
            ("superseded", t!("Superseded or cancelled"), withdrawn),
            ("skipped", t!("Skipped by a rule"), today.ended(Status::Skipped)),
        ]
        .map(|(look, word, count)| Ending { look, word, count })
        .into(),
        decisions_today: figures.decisions_today,
        ended,
        endings: stacked(
            t!("Requests that ended"),
            t!("Bars of the requests that ended on each day, by outcome; the numbers are in the table below"),
            &ENDINGS,
            &bars(|it| it.endings.to_vec()),
        ),
        times,
        around: stacked(
            t!("Past the gate, and other exceptions"),
            t!("Bars of the exceptions of each day; the numbers are in the table below"),
            &AROUND,
            &bars(|it| it.around.to_vec()),
        ),
        methods: measures(figures.methods.iter().map(method)),
    }
}
