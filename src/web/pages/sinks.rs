//! Where the journal is copied to, how far behind each place is, and what stands in the way.

use crate::domain::people::Role;
use crate::domain::sink::{Destination, Sink, SinkFormat, SyslogTransport};
use crate::domain::state::Read;
use crate::sink::Requirement;
use crate::texts::{filters, fixed, t};
use crate::web::api::sinks::Lag;
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use crate::web::words::span;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

/// Longest text on the page, in characters.
const TEXT_MAX: usize = 300;

#[derive(Template)]
#[template(path = "admin/sinks.html")]
struct SinksPage {
    frame: Frame,
    admin: bool,
    sinks: Vec<SinkView>,
    /// Files can be written.
    directory: bool,
    /// Seconds a decision waits for a sink, where it does.
    required: Option<u64>,
}

/// One sink.
struct SinkView {
    id: String,
    name: String,
    kind: &'static str,
    place: String,
    ocsf: bool,
    from: u64,
    state: &'static str,
    /// The look of its badge.
    look: &'static str,
    lag: String,
    stored: Option<Moment>,
    since: Option<Moment>,
    reason: Option<String>,
    withheld: u64,
    webhook: bool,
    destination: Destination,
}

/// `GET /dashboard/settings/log-sinks`: administrators; auditors see it without the forms.
pub async fn show_sinks(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let mut live: Vec<Sink> = state.all()?;
    live.retain(|it| it.removed.is_none());
    live.sort_by_key(|it| it.created_at);
    let mut sinks = Vec::new();
    for sink in &live {
        let health = app.sinks.board.health(&sink.id).unwrap_or_default();
        let lag = Lag::of(&app, sink, &state, app.now())?;
        let (word, look) = match (&health.failing, sink.stuck) {
            (_, Some(_)) => (t!("Stuck"), "rejected"),
            (Some(_), None) => (t!("Failing"), "pending"),
            (None, None) if lag.entries > 0 => (t!("Delivering"), "pending"),
            (None, None) => (t!("Up to date"), "approved"),
        };
        sinks.push(SinkView {
            id: sink.id.to_string(),
            name: shown(&sink.name, TEXT_MAX),
            kind: fixed(sink.destination.title()),
            place: shown(&sink.destination.place(), TEXT_MAX),
            ocsf: sink.format == SinkFormat::Ocsf,
            from: sink.from,
            state: word,
            look,
            lag: behind(lag),
            stored: health.stored_at.map(Moment::of),
            since: health.failing.as_ref().map(|it| Moment::of(it.0)),
            reason: health.failing.as_ref().map(|it| shown(&it.1, TEXT_MAX)),
            withheld: sink.withheld,
            webhook: matches!(sink.destination, Destination::Webhook { .. }),
            destination: sink.destination.clone(),
        });
    }
    Ok(html(&SinksPage {
        frame: Frame::new(&app, Some(&person), Place::LogSinks, t!("Log sinks")),
        admin: person.has(Role::Admin),
        sinks,
        directory: app.sinks.directory.is_some(),
        required: match app.require_sink {
            Requirement::None => None,
            Requirement::Any(limit) => Some(limit.as_secs()),
        },
    }))
}

fn behind(lag: Lag) -> String {
    match lag.entries {
        0 => t!("Has every entry").to_owned(),
        1 => t!("1 entry behind, {seconds} old", seconds = span(lag.seconds)),
        many => t!(
            "{many} entries behind, the oldest {seconds} old",
            many = many,
            seconds = span(lag.seconds)
        ),
    }
}
