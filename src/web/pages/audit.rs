//! For auditors: the journal's head and keys, bundles to take away, the timeline with its filters, the report of a period
//! with its sign-off.

use crate::audit::{Filter, Order, Sought, first_at};
use crate::domain::decide::REASON_CHARS_MAX;
use crate::domain::ids::{PersonId, RequestId};
use crate::domain::people::Role;
use crate::domain::project::Project;
use crate::domain::request::{Request, Status};
use crate::domain::review::JournalReview;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::evidence::leaf;
use crate::store::Snapshot;
use crate::texts::{filters, marked, t};
use crate::web::api::audit::{instant, percent};
use crate::web::app::App;
use crate::web::exports::State;
use crate::web::keys::credential_key;
use crate::web::pages::card::Places;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::receipt::{Receipt, Teller};
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::reports::Failure;
use crate::web::session::{Reader, Visitor};
use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

/// Entries on one page.
const PAGE: usize = 50;
/// Entries read for one page of a filtered timeline, at the most.
const READ_MAX: usize = 2_048;
/// Positions looked up at once.
const CHUNK: usize = 512;
/// Longest text of one entry on the page, in characters.
const ENTRY_MAX: usize = 4000;
/// Longest period of a report page, in days: more is what bundles are for.
const REPORT_DAYS_MAX: i64 = 400;
const DAY_MS: i64 = 86_400_000;

/// Families of events, for the filter: the beginning of their types, and the words.
const FAMILIES: [(&str, &str); 11] = [
    ("request.", marked!("Requests")),
    ("decision.", marked!("Decisions")),
    ("exception.", marked!("Exceptions")),
    ("person.", marked!("People")),
    ("passkey.", marked!("Passkeys")),
    ("session.", marked!("Sign-ins")),
    ("ceremony.", marked!("Refused ceremonies")),
    ("policy.", marked!("Policies")),
    ("project.", marked!("Projects")),
    ("key.", marked!("Signing keys")),
    ("export.", marked!("Exports")),
];

#[derive(Template)]
#[template(path = "admin/audit.html")]
struct AuditPage {
    frame: Frame,
    size: u64,
    covered: Option<u64>,
    root: String,
    checkpoint: Option<String>,
    credential_key: String,
    exports: Vec<ExportView>,
    projects: Vec<String>,
    people: Vec<(String, String)>,
    /// The first day of this quarter, and the day that ends a period which includes today.
    from: String,
    tomorrow: String,
    filter: FilterView,
    /// One request's story: its title and its receipts.
    story: Option<StoryView>,
    entries: Vec<Entry>,
    older: Option<u64>,
    first: bool,
    /// The filter in the links to further pages.
    link: String,
    /// Not all of the journal was looked at for this page.
    partial: bool,
    reviews: Vec<ReviewView>,
}

/// The timeline's filter as it is set.
struct FilterView {
    families: Vec<(&'static str, &'static str, bool)>,
    person: String,
    request: String,
    since: String,
    until: String,
}

struct StoryView {
    id: String,
    title: String,
    sentences: Vec<String>,
}

/// One export in the list.
struct ExportView {
    id: String,
    period: String,
    filter: String,
    by: String,
    at: Moment,
    percent: u64,
    running: bool,
    done: bool,
    size: String,
    sha256: String,
    reason: String,
}

/// A sign-off, for people.
struct ReviewView {
    by: String,
    at: Moment,
    period: String,
    through: u64,
    note: String,
}

/// One entry of the journal.
struct Entry {
    seq: u64,
    at: Moment,
    kind: String,
    who: String,
    about: String,
    href: Option<String>,
    /// Why it was done, where somebody said so.
    reason: String,
    /// Of a decision: its one sentence.
    sentence: String,
    exact: String,
}

/// What `GET /dashboard/audit` may be told.
#[derive(Debug, Default, Deserialize)]
pub struct AuditQuery {
    before: Option<u64>,
    /// The beginning of an event's type.
    kind: Option<String>,
    person: Option<String>,
    request: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

/// A filter that lets some entries through.
#[derive(Default)]
struct Wanted {
    kind: Option<String>,
    person: Option<PersonId>,
    request: Option<RequestId>,
    since: Option<Time>,
    until: Option<Time>,
}

impl AuditQuery {
    fn wanted(&self) -> Wanted {
        let given = |it: &Option<String>| it.clone().filter(|it| !it.trim().is_empty());
        let time = |it: &Option<String>| given(it).and_then(|it| instant("since", &it).ok());
        Wanted {
            kind: given(&self.kind).filter(|it| FAMILIES.iter().any(|(family, _)| family == it)),
            person: given(&self.person).and_then(|it| PersonId::parse(&it)),
            request: given(&self.request).and_then(|it| RequestId::parse(it.trim())),
            since: time(&self.since),
            until: time(&self.until),
        }
    }
}

impl Wanted {
    fn link(&self) -> String {
        let mut link = String::from("/dashboard/audit?");
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                link.push_str(&format!("{name}={value}&"));
            }
        };
        add("kind", self.kind.clone());
        add("person", self.person.as_ref().map(ToString::to_string));
        add("request", self.request.as_ref().map(ToString::to_string));
        add("since", self.since.map(day));
        add("until", self.until.map(day));
        link
    }

    /// What an entry has to be about, for where to look.
    fn sought(&self) -> Sought {
        let family = self.kind.as_deref().map(|it| it.trim_end_matches('.'));
        let person = self.person.as_ref().map(ToString::to_string);
        Sought {
            family: family.map(str::to_owned),
            ids: person
                .into_iter()
                .chain(self.request.as_ref().map(ToString::to_string))
                .collect(),
        }
    }

    /// Whether an entry of the period is meant.
    fn lets_through(&self, entry: &Value) -> bool {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let kind = self
            .kind
            .as_ref()
            .is_none_or(|it| text("/type").starts_with(it.as_str()));
        let person = self.person.as_ref().is_none_or(|it| {
            [text("/actor/id"), text("/data/person"), text("/object/id")].contains(&it.as_str())
        });
        let request = self
            .request
            .as_ref()
            .is_none_or(|it| [text("/data/request"), text("/object/id")].contains(&it.as_str()));
        kind && person && request
    }
}

fn day(time: Time) -> String {
    time.to_the_second()[..10].to_owned()
}

/// `GET /dashboard/audit`: administrators and auditors.
pub async fn show_audit(
    app: Data<App>,
    Reader(person): Reader,
    query: Option<Query<AuditQuery>>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let query = query.map(Query::into_inner).unwrap_or_default();
    let wanted = query.wanted();
    let (size, latest) = (state.size()?, state.latest_checkpoint()?);
    let found = find(&app, &state, &wanted, query.before.unwrap_or(size).min(size))?;
    let people = People::load(&state)?;
    let story = match &wanted.request {
        Some(id) => story(&state, id, &person.id)?,
        None => None,
    };
    let mut projects: Vec<String> = state
        .all::<Project>()?
        .into_iter()
        .map(|it| shown(&it.path, 200))
        .collect();
    projects.sort();
    projects.dedup();
    let now = app.now();
    let kept = |it: &Option<String>| it.as_deref().map_or_else(String::new, |it| shown(it, 60));
    Ok(html(&AuditPage {
        frame: Frame::new(&app, Some(&person), Place::Audit, t!("Audit")),
        root: state.root(size)?.base64(),
        size,
        covered: latest.as_ref().map(|(covered, _)| *covered),
        checkpoint: latest.map(|(_, note)| shown_lines(&note)),
        credential_key: credential_key(&state)?.id().to_owned(),
        exports: app
            .exports
            .all()
            .iter()
            .map(|it| export_view(it, &people))
            .collect(),
        projects,
        people: people
            .sorted()
            .into_iter()
            .map(|it| (it.id.to_string(), shown(&it.name, 100)))
            .collect(),
        from: quarter(now),
        tomorrow: day(Time(now.0 + DAY_MS)),
        filter: FilterView {
            families: FAMILIES
                .iter()
                .map(|(family, words)| (*family, *words, wanted.kind.as_deref() == Some(*family)))
                .collect(),
            person: wanted
                .person
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            request: kept(&query.request),
            since: kept(&query.since),
            until: kept(&query.until),
        },
        story,
        entries: found.entries,
        older: found.older,
        first: query.before.is_none(),
        link: wanted.link(),
        partial: found.partial,
        reviews: reviews(&state)?,
    }))
}

/// A page of the timeline.
#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    older: Option<u64>,
    partial: bool,
}

fn find(app: &App, state: &Snapshot, wanted: &Wanted, end: u64) -> Result<Found, PageError> {
    let first = wanted.since.map_or(Ok(0), |it| first_at(it, state))?;
    let until = wanted.until.map_or(Ok(end), |it| first_at(it, state))?;
    let (teller, places) = (Teller::new(state)?, Places::load(state)?);
    let sought = wanted.sought();
    let mut found = Found::default();
    let (mut next, mut read) = (end.min(until), 0);
    while next > first {
        let marked = match sought.is_empty() {
            true => None,
            false => app.statistics.newest(state, &sought, first, next, CHUNK),
        };
        let (positions, below) = match marked {
            Some(marked) if marked.len() < CHUNK => (marked, first),
            Some(marked) => {
                let below = marked.last().copied().unwrap_or(first);
                (marked, below)
            }
            // One after the other: all are meant, or where not to look is not known yet.
            None => {
                let below = next.saturating_sub(CHUNK as u64).max(first);
                ((below..next).rev().collect(), below)
            }
        };
        for seq in positions {
            let leaf = state.leaf(seq)?.unwrap_or_default();
            if !sought.is_empty() && !wanted.lets_through(&serde_json::from_slice(&leaf).unwrap_or_default())
            {
                continue;
            }
            if found.entries.len() == PAGE {
                found.older = Some(seq + 1);
                return Ok(found);
            }
            let sentence = told(state, &places, &teller, seq, &leaf)?;
            found.entries.push(entry(seq, &leaf, sentence));
        }
        (next, read) = (below, read + CHUNK);
        if read >= READ_MAX && next > first {
            found.older = Some(next);
            found.partial = true;
            return Ok(found);
        }
    }
    Ok(found)
}

/// An entry's sentence, if it is a decision's; else empty.
fn told(
    state: &Snapshot,
    places: &Places,
    teller: &Teller<'_, Snapshot>,
    seq: u64,
    bytes: &[u8],
) -> Result<String, PageError> {
    #[derive(Deserialize)]
    struct Outline {
        r#type: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        request: Option<RequestId>,
    }
    let outline: Option<Outline> = serde_json::from_slice(bytes).ok();
    let decision = outline.filter(|it| it.r#type == "decision.recorded");
    let Some(id) = decision.and_then(|it| it.data.request) else {
        return Ok(String::new());
    };
    let request: Option<Request> = state.get(id.as_str())?;
    let Some(mut request) = request else {
        return Ok(String::new());
    };
    request.decisions.retain(|it| it.seq == seq);
    let what = places.called(&request);
    let mut sentences = teller.sentences(&request, &what)?;
    Ok(sentences.pop().unwrap_or_default())
}

/// The decisions of one request in their sentences.
fn story(state: &Snapshot, id: &RequestId, reader: &PersonId) -> Result<Option<StoryView>, PageError> {
    let record: Option<Request> = state.get(id.as_str())?;
    let Some(record) = record else { return Ok(None) };
    let what = Places::load(state)?.called(&record);
    Ok(Some(StoryView {
        id: id.to_string(),
        title: format!("{what} {}", shown(&record.title, 200)),
        sentences: Receipt::all(state, &record, &what, reader)?
            .into_iter()
            .map(|it| it.sentence)
            .collect(),
    }))
}

fn export_view(job: &std::sync::Arc<crate::web::exports::Job>, people: &People) -> ExportView {
    let state = job.state();
    let filter = &job.order.filter;
    let mut words = Vec::new();
    if let Some(project) = &filter.project {
        words.push(shown(project, 100));
    }
    if let Some(person) = &filter.person {
        words.push(people.name(person));
    }
    if let Some(outcome) = filter.outcome {
        words.push(outcome.name().to_owned());
    }
    ExportView {
        id: job.id.to_string(),
        period: t!(
            "{from} to before {to}",
            from = job.order.from.to_the_second(),
            to = job.order.to.to_the_second()
        ),
        filter: words.join(", "),
        by: shown(&job.by, 100),
        at: Moment::of(job.at),
        percent: percent(job),
        running: state == State::Running,
        done: matches!(state, State::Done { .. }),
        size: match &state {
            State::Done { bytes, .. } if *bytes < 1_000_000 => t!("{bytes} kB", bytes = bytes.div_ceil(1000)),
            State::Done { bytes, .. } => t!(
                "{whole}.{tenth} MB",
                whole = bytes / 1_000_000,
                tenth = bytes / 100_000 % 10
            ),
            _ => String::new(),
        },
        sha256: match &state {
            State::Done { sha256, .. } => sha256.to_string(),
            _ => String::new(),
        },
        reason: match state {
            State::Failed(reason) => shown(&reason, 300),
            _ => String::new(),
        },
    }
}

fn reviews(state: &Snapshot) -> Result<Vec<ReviewView>, PageError> {
    let mut all = JournalReview::all(state)?;
    all.reverse();
    all.truncate(20);
    Ok(all
        .into_iter()
        .map(|it| ReviewView {
            by: shown(&it.name, 100),
            at: Moment::of(it.at),
            period: t!("{from} to before {to}", from = day(it.from), to = day(it.to)),
            through: it.through,
            note: shown(&it.note, 2000),
        })
        .collect())
}

/// The first day of the quarter an instant lies in.
fn quarter(now: Time) -> String {
    let today = day(now);
    let month: u32 = today.get(5..7).and_then(|it| it.parse().ok()).unwrap_or(1);
    format!("{}-{:02}-01", &today[..4], (month - 1) / 3 * 3 + 1)
}

/// A note's lines, each made safe to look at.
fn shown_lines(note: &str) -> String {
    note.lines()
        .map(|it| shown(it, ENTRY_MAX))
        .collect::<Vec<_>>()
        .join("\n")
}

fn entry(seq: u64, bytes: &[u8], sentence: String) -> Entry {
    let exact = shown(&String::from_utf8_lossy(bytes), ENTRY_MAX);
    let Ok(leaf) = leaf::parse(bytes) else {
        let kind = t!("an entry that can’t be read").to_owned();
        return Entry {
            seq,
            at: Moment::of(Time(0)),
            kind,
            who: String::new(),
            about: String::new(),
            href: None,
            reason: String::new(),
            sentence: String::new(),
            exact,
        };
    };
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |pointer: &str| {
        json.pointer(pointer)
            .and_then(|it| it.as_str())
            .map(|it| shown(it, 120))
    };
    let who = match text("/actor/kind").as_deref() {
        Some("person") => text("/actor/name").unwrap_or_else(|| t!("a person").to_owned()),
        Some("key") => t!("key {name}", name = text("/actor/name").unwrap_or_default()),
        Some("forge") => t!("the forge").to_owned(),
        Some("host") => t!("the host").to_owned(),
        _ => t!("this server").to_owned(),
    };
    let about = text("/object/id").unwrap_or_default();
    let request = text("/data/request").filter(|it| it.starts_with("apr_"));
    let href = request.or_else(|| about.starts_with("apr_").then(|| about.clone()));
    Entry {
        seq,
        at: Moment::of(Time::parse(&leaf.time).unwrap_or(Time(0))),
        kind: shown(&leaf.kind, 60),
        who,
        about,
        href,
        reason: json
            .pointer("/data/reason")
            .and_then(|it| it.as_str())
            .map_or_else(String::new, |it| shown(it, REASON_CHARS_MAX)),
        sentence,
        exact,
    }
}

#[derive(Template)]
#[template(path = "admin/audit_report.html")]
struct ReportPage<'a> {
    frame: Frame,
    from: String,
    to: String,
    project: String,
    projects: Vec<String>,
    /// Made by `audit`, every text from outside escaped there.
    body: Option<&'a str>,
    /// How far it is, in percent, until it is there.
    making: Option<u64>,
    /// Where the journal has grown since: when it was begun, how many entries there were, and how many are now.
    grown: Option<(Moment, u64, u64)>,
    problem: Option<String>,
    may_review: bool,
    reviews: Vec<ReviewView>,
}

impl ReportPage<'_> {
    /// This page's address.
    fn link(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("from", &self.from).append_pair("to", &self.to);
        if !self.project.is_empty() {
            query.append_pair("project", &self.project);
        }
        format!("/dashboard/audit/report?{}", query.finish())
    }
}

/// What `GET /dashboard/audit/report` may be told.
#[derive(Debug, Default, Deserialize)]
pub struct ReportQuery {
    from: Option<String>,
    to: Option<String>,
    project: Option<String>,
    /// Entries of the journal that it has to know of.
    size: Option<u64>,
}

/// `GET /dashboard/audit/report`: administrators and auditors. A period in numbers, with its exceptions and changes of
/// access; and the sign-off of whoever reviewed it.
pub async fn show_period_report(
    app: Data<App>,
    Reader(person): Reader,
    query: Option<Query<ReportQuery>>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let query = query.map(Query::into_inner).unwrap_or_default();
    let now = app.now();
    let given = |it: Option<String>| it.filter(|it| !it.trim().is_empty());
    let from = given(query.from).unwrap_or_else(|| quarter(now));
    let to = given(query.to).unwrap_or_else(|| day(Time(now.0 + DAY_MS)));
    let project = given(query.project);
    let period = (instant("from", &from).ok(), instant("to", &to).ok());
    let order = match period {
        (Some(from), Some(to)) if from < to && to.0 - from.0 <= REPORT_DAYS_MAX * DAY_MS => Ok(Order {
            from,
            to,
            filter: Filter {
                project: project.clone(),
                ..Filter::default()
            },
        }),
        (Some(from), Some(to)) if from < to => Err(t!(
            "This page shows at most {report_days_max} days. Export a bundle for a longer period.",
            report_days_max = REPORT_DAYS_MAX
        )),
        _ => Err(t!("Give two days, the first before the second.").to_owned()),
    };
    let report = match order {
        Err(problem) => Err(problem),
        Ok(order) => {
            let report = app.reports.of(&app, order, query.size.unwrap_or(0)).await;
            report.map_err(no_report)
        }
    };
    let state = app.snapshot()?;
    let mut projects: Vec<String> = state
        .all::<Project>()?
        .into_iter()
        .map(|it| shown(&it.path, 200))
        .collect();
    projects.sort();
    projects.dedup();
    let size = state.size()?;
    let (mut body, mut making, mut grown, mut problem) = (None, None, None, None);
    match &report {
        Err(told) => problem = Some(told.clone()),
        Ok(report) => match report.made() {
            None => making = Some(report.percent()),
            Some(Err(failure)) => problem = Some(no_report(failure)),
            Some(Ok(made)) => {
                body = Some(made);
                grown = (report.size < size).then(|| (Moment::of(report.at), report.size, size));
            }
        },
    }
    Ok(html(&ReportPage {
        frame: Frame::new(&app, Some(&person), Place::Audit, t!("Period report")),
        from: shown(&from, 40),
        to: shown(&to, 40),
        project: project.map_or_else(String::new, |it| shown(&it, 200)),
        projects,
        may_review: body.is_some() && (person.has(Role::Auditor) || person.has(Role::Admin)),
        body,
        making,
        grown,
        problem,
        reviews: reviews(&state)?,
    }))
}

fn no_report(failure: Failure) -> String {
    let told = match failure {
        Failure::Empty => t!("The journal has nothing before that day."),
        Failure::Busy => t!("Other reports are being made. Try again in a moment."),
        Failure::Broken => t!("The report could not be made; the server’s log says why."),
    };
    told.to_owned()
}

#[derive(Template)]
#[template(path = "verify.html")]
struct VerifyPage {
    frame: Frame,
    /// Bundles are verified for people who are signed in.
    signed_in: bool,
}

/// `GET /verify`: anybody. Drop a credential, an outcome or a bundle, and see what holds.
pub async fn show_verify(app: Data<App>, Visitor(person): Visitor) -> HttpResponse {
    html(&VerifyPage {
        frame: Frame::new(&app, person.as_ref(), Place::Elsewhere, t!("Verify")),
        signed_in: person.is_some(),
    })
}

/// The outcomes a filter offers.
pub fn outcomes() -> [Status; 6] {
    [
        Status::Approved,
        Status::Rejected,
        Status::Expired,
        Status::Cancelled,
        Status::Superseded,
        Status::Skipped,
    ]
}
