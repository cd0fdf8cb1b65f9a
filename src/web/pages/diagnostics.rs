//! Where to look when something does not arrive: clocks, names, forges, webhooks, messages, and every host that is called. The
//! support bundle is in `web/support.rs`.

use crate::domain::ids::IntegrationId;
use crate::domain::notice::{Chat, NoticeSettings, Sent, TestBy};
use crate::domain::people::Role;
use crate::domain::project::{ForgeKind, Integration, Project, forge_project_row};
use crate::domain::sink::{Destination, Sink};
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;
use crate::forge::called_at;
use crate::store::Snapshot;
use crate::texts::{filters, fixed, t};
use crate::web::api::integrations::connected;
use crate::web::app::App;
use crate::web::body::{API_BYTES_MAX, read_bytes};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::policy_editor::only_admin;
use crate::web::pages::reach::Reach;
use crate::web::pages::signs::{Sign, signs};
use crate::web::pages::standing::People;
use crate::web::pages::test_message::{Tried, try_message};
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::{Reader, SignedIn};
use crate::web::support::{Traffic, skew};
use crate::web::words::span;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use url::{Url, form_urlencoded};

/// Longest text of others, in characters.
const TEXT_MAX: usize = 300;
/// Projects of one forge on the page.
const PROJECTS_MAX: usize = 100;
/// Clocks that differ by more seconds are marked: tokens and signatures begin to be refused.
const SKEW_MAX: i64 = 30;
/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "admin/diagnostics.html")]
struct DiagnosticsPage {
    frame: Frame,
    admin: bool,
    signs: Vec<Sign>,
    forges: Vec<ForgeLine>,
    checked: bool,
    /// What came of a test message just now.
    tried: Option<Tried>,
    messages: Vec<MessageLine>,
    hosts: Vec<HostLine>,
    /// Entries that were looked at.
    entries: u64,
}

/// One forge.
struct ForgeLine {
    name: String,
    place: String,
    clock: String,
    clock_odd: bool,
    webhook: Option<Moment>,
    projects: Vec<ProjectLine>,
    /// Projects that are not shown.
    more: usize,
    found: Vec<Found>,
}

/// One gated project, and when a webhook told of it last.
struct ProjectLine {
    path: String,
    href: &'static str,
    webhook: Option<Moment>,
}

/// What a look found just now.
#[derive(Clone)]
struct Found {
    well: bool,
    words: String,
}

/// One kind of channel and its newest delivery.
struct MessageLine {
    channel: &'static str,
    last: Option<Last>,
}

struct Last {
    at: Moment,
    well: bool,
    words: &'static str,
    /// What the other side said, in its own words.
    why: Option<String>,
}

/// A place that is called, and why.
struct HostLine {
    host: String,
    why: String,
}

/// `GET /dashboard/settings/diagnostics`: administrators and auditors.
pub async fn show_diagnostics(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    page(&app, &person, Looked::default())
}

/// What was looked at, or tried, at this moment.
#[derive(Default)]
struct Looked {
    forges: Option<BTreeMap<IntegrationId, Vec<Found>>>,
    tried: Option<Tried>,
}

/// `POST /dashboard/settings/diagnostics`: admins. The same page, after a look at each forge, its name and its API; or after a
/// test message to whoever asks, by push or by mail.
pub async fn check_now(
    app: Data<App>,
    who: SignedIn,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, PageError> {
    only_admin(&who.0)?;
    let form = read_bytes(&request, payload, API_BYTES_MAX).await?;
    let asked = form_urlencoded::parse(&form).find(|(name, _)| name == "test");
    let by = match asked.as_ref().map(|(_, value)| value.as_ref()) {
        Some("push") => Some(TestBy::Push),
        Some("mail") => Some(TestBy::Mail),
        _ => None,
    };
    if let Some(by) = by {
        let looked = Looked {
            tried: Some(try_message(&app, &who, by).await?),
            ..Looked::default()
        };
        return page(&app, &who.0, looked);
    }
    let mut forges: Vec<Integration> = app.snapshot()?.all()?;
    forges.retain(|it| !it.removed);
    let looks = forges.iter().map(|it| look(&app, it));
    let found = futures_util::future::join_all(looks).await;
    let looked = Looked {
        forges: Some(forges.iter().map(|it| it.id.clone()).zip(found).collect()),
        ..Looked::default()
    };
    page(&app, &who.0, looked)
}

/// Resolves a forge's name and asks it who we are.
async fn look(app: &App, forge: &Integration) -> Vec<Found> {
    let mut found = Vec::new();
    let mut tell = |well: bool, words: String| found.push(Found { well, words });
    let called = called_at(forge.kind, &forge.base_url, &app.allow_http).unwrap_or_default();
    if let Some((host, port)) = called.first().and_then(|it| host_and_port(it.as_str())) {
        let began = Instant::now();
        let plain = host.trim_matches(['[', ']']);
        let resolved = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((plain, port))).await;
        match resolved {
            Ok(Ok(addresses)) => match addresses.count() {
                0 => tell(false, t!("Its name has no address.").into()),
                1 => tell(
                    true,
                    t!(
                        "Its name leads to one address ({elapsed} ms).",
                        elapsed = began.elapsed().as_millis()
                    ),
                ),
                count => tell(
                    true,
                    t!(
                        "Its name leads to {count} addresses ({elapsed} ms).",
                        count = count,
                        elapsed = began.elapsed().as_millis()
                    ),
                ),
            },
            Ok(Err(_)) => tell(false, t!("Its name can’t be resolved.").into()),
            Err(_) => tell(false, t!("Its name was not resolved within 5 s.").into()),
        }
    }
    let Ok(connection) = connected(app, forge) else {
        tell(false, t!("Its stored token can’t be used.").into());
        return found;
    };
    let began = Instant::now();
    match connection.identify().await {
        Ok(_) => tell(
            true,
            t!(
                "Its API took our token ({elapsed} ms).",
                elapsed = began.elapsed().as_millis()
            ),
        ),
        Err(error) => tell(false, shown(&connection.explain(&error), TEXT_MAX)),
    }
    found
}

fn page(
    app: &App,
    person: &crate::domain::people::Person,
    looked: Looked,
) -> Result<HttpResponse, PageError> {
    let state = app.snapshot()?;
    let traffic = Traffic::read(&state)?;
    let unreached = Reach::load(&state)?.unreached(&People::load(&state)?).len();
    let mut forges: Vec<Integration> = state.all()?;
    forges.retain(|it| !it.removed);
    forges.sort_by_key(|it| it.created_at);
    let mut projects: Vec<Project> = state.all()?;
    projects.retain(|it| !it.removed);
    projects.sort_by(|a, b| a.path.cmp(&b.path));
    let checked = looked.forges.is_some();
    let found = looked.forges.unwrap_or_default();
    let forges = forges.iter().map(|it| {
        let skew = skew(app, &it.id);
        let own: Vec<&Project> = projects.iter().filter(|one| one.integration == it.id).collect();
        let line = |one: &&Project| project_line(one, it, &state);
        Ok::<_, PageError>(ForgeLine {
            projects: own
                .iter()
                .take(PROJECTS_MAX)
                .map(line)
                .collect::<Result<_, _>>()?,
            more: own.len().saturating_sub(PROJECTS_MAX),
            name: shown(&it.name, TEXT_MAX),
            place: shown(&it.base_url, TEXT_MAX),
            clock: clock_words(skew),
            clock_odd: skew.is_some_and(|it| it.abs() > SKEW_MAX),
            webhook: traffic.webhooks.get(&it.id).copied().map(Moment::of),
            found: found.get(&it.id).cloned().unwrap_or_default(),
        })
    });
    let forges = forges.collect::<Result<_, _>>()?;
    let messages = [
        ("device", t!("Push services")),
        ("mail", t!("Mail")),
        ("chat", t!("Chats")),
    ]
    .map(|(kind, channel)| MessageLine {
        channel,
        last: traffic.sent.get(kind).map(|(at, sent, reason)| Last {
            at: Moment::of(*at),
            well: *sent == Sent::Delivered,
            words: fixed(sent.word()),
            why: reason.as_deref().map(|it| shown(it, TEXT_MAX)),
        }),
    });
    Ok(html(&DiagnosticsPage {
        frame: Frame::new(app, Some(person), Place::Diagnostics, t!("Diagnostics")),
        admin: person.has(Role::Admin),
        signs: signs(app, &state, person, unreached)?,
        forges,
        checked,
        tried: looked.tried,
        messages: messages.into(),
        hosts: hosts(app, &state)?,
        entries: traffic.looked_at,
    }))
}

fn project_line(project: &Project, forge: &Integration, state: &Snapshot) -> Result<ProjectLine, PageError> {
    let row = forge_project_row(&project.integration, &project.settings.forge_project_id);
    let at = state.get_raw(Table::LastHooks, row.as_bytes())?;
    let at = at.and_then(|it| it.try_into().ok()).map(i64::from_be_bytes);
    Ok(ProjectLine {
        path: shown(&project.path, TEXT_MAX),
        href: match forge.kind {
            ForgeKind::Gitlab => "/dashboard/integrations/gitlab",
            ForgeKind::Github => "/dashboard/integrations/github",
            ForgeKind::BitbucketCloud | ForgeKind::BitbucketDataCenter => "/dashboard/integrations/bitbucket",
        },
        webhook: at.map(|it| Moment::of(Time(it))),
    })
}

fn clock_words(skew: Option<i64>) -> String {
    match skew {
        None => t!("unknown: it has answered nothing yet").to_owned(),
        // Its answers tell whole seconds, and were under way.
        Some(-2..=2) => t!("the same as ours, within 2 s").to_owned(),
        Some(ahead @ 3..) => t!("{ahead} ahead of ours", ahead = span(ahead.unsigned_abs())),
        Some(behind) => t!("{behind} behind ours", behind = span(behind.unsigned_abs())),
    }
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// Every host that the settings let this server call, as `host:port`, and why. A firewall has to let these through.
fn hosts(app: &App, state: &Snapshot) -> Result<Vec<HostLine>, PageError> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |place: String, why: String| {
        let reasons = all.entry(shown(&place, TEXT_MAX)).or_default();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    };
    let of_url = |url: &str| {
        host_and_port(url).map_or_else(|| url.to_owned(), |(host, port)| format!("{host}:{port}"))
    };
    for it in state.all::<Integration>()?.iter().filter(|it| !it.removed) {
        let called = called_at(it.kind, &it.base_url, &app.allow_http).unwrap_or_default();
        for url in called {
            add(of_url(url.as_str()), it.kind.title().to_owned());
        }
    }
    for it in state.all::<Sink>()?.iter().filter(|it| it.removed.is_none()) {
        let why = t!("log sink “{name}”", name = shown(&it.name, 80));
        match &it.destination {
            Destination::Syslog { host, port, .. } => add(format!("{host}:{port}"), why),
            Destination::File { .. } => {}
            Destination::Webhook { url, .. }
            | Destination::SplunkHec { url, .. }
            | Destination::Datadog { url, .. } => add(of_url(url), why),
        }
    }
    let settings = NoticeSettings::load(state)?;
    for it in &settings.push_hosts {
        add(
            format!("{it}:443"),
            t!("web push, once a browser of somebody’s has subscribed there").into(),
        );
    }
    if let Some(it) = &settings.mail {
        add(format!("{}:{}", it.host, it.port), t!("mail").into());
    }
    if let Some(it) = &settings.apns {
        add(of_url(&it.base_url), t!("Apple’s push service").into());
    }
    for it in state.all::<Chat>()? {
        let place = match it.host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => it.host.clone(),
            _ => format!("{}:443", it.host),
        };
        add(place, t!("chat “{name}”", name = shown(&it.name, 80)));
    }
    for it in &app.callbacks.hosts {
        add(it.clone(), t!("callbacks that pipelines ask for").into());
    }
    let line = |(host, why): (String, Vec<String>)| HostLine {
        host,
        why: why.join("; "),
    };
    Ok(all.into_iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_told_by_how_much_they_differ() {
        assert_eq!(clock_words(Some(-1)), "the same as ours, within 2 s");
        assert_eq!(clock_words(Some(120)), "2 min ahead of ours");
        assert_eq!(clock_words(Some(-7_200)), "2 h behind ours");
        assert!(clock_words(None).starts_with("unknown"));
    }
}
