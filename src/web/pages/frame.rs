//! What stands around every page: title, navigation, banner, and where style and script are.

use crate::domain::people::{Person, Role};
use crate::engine::Condition;
use crate::texts::{said, spoken, t};
use crate::web::app::App;
use crate::web::assets;
use crate::web::pages::{set_up, shown};

/// Longest name of a person in the navigation, in characters.
const NAME_MAX: usize = 60;

/// Which entry of the navigation is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// None of them.
    Elsewhere,
    Queue,
    History,
    Phone,
    Passkeys,
    Away,
    Overview,
    Requests,
    Policies,
    Integrations,
    People,
    Groups,
    ApiKeys,
    Audit,
    /// The index of the settings; the pages of each part follow.
    Settings,
    General,
    Tls,
    SigningKeys,
    LogSinks,
    Notifications,
    Backup,
    Security,
    Retention,
    Diagnostics,
    About,
    SetUp,
    Help,
}

/// One entry of the navigation.
#[derive(Clone, Debug)]
pub struct Entry {
    pub href: &'static str,
    pub label: &'static str,
    pub current: bool,
    /// The heading that begins with this entry.
    pub heading: Option<&'static str>,
}

/// Longest detail of a condition, in characters.
const DETAIL_MAX: usize = 300;

/// The frame of one page.
#[derive(Clone, Debug)]
pub struct Frame {
    pub title: String,
    /// The language of the page and which way it is written.
    pub lang: &'static str,
    pub dir: &'static str,
    /// Whether there is more than one language to choose from.
    pub languages: bool,
    pub evaluation: bool,
    /// What keeps the server from doing all its work: a title and what was seen.
    pub standing: Vec<(&'static str, String)>,
    /// The certificate is one of our own making.
    pub self_signed: bool,
    /// The signed-in person's name.
    pub who: Option<String>,
    /// The main navigation.
    pub nav: Vec<Entry>,
    /// The dashboard's own navigation; empty elsewhere.
    pub side: Vec<Entry>,
    /// While the server is being set up: how many steps are done, and how many there are.
    pub set_up: Option<(usize, usize)>,
    /// Told to people who are signed in only (ASVS 13.4.6).
    pub version: Option<&'static str>,
    pub style: String,
    pub icon: String,
    pub touch_icon: String,
}

impl Frame {
    /// The frame of a page for `person`, or for somebody who is not signed in.
    pub fn new(app: &App, person: Option<&Person>, place: Place, title: &str) -> Self {
        let mut frame = Frame::bare(title);
        frame.evaluation = app.evaluation();
        frame.self_signed = app.self_signed();
        frame.languages = spoken().is_some() || app.languages.offered().next().is_some();
        if let Some(person) = person {
            frame.standing = app
                .engine
                .health()
                .standing()
                .into_iter()
                .map(|it| {
                    (
                        words_of(it.condition),
                        said(&shown(&it.detail, DETAIL_MAX)).into_owned(),
                    )
                })
                .collect();
            frame.who = Some(shown(&person.name, NAME_MAX));
            frame.version = Some(App::version());
            frame.nav = main_entries(person, place);
            frame.side = dashboard_entries(place);
            if !frame.side.is_empty() && place != Place::SetUp && person.has(Role::Admin) {
                frame.set_up = set_up::progress(app);
            }
        }
        frame
    }

    /// A frame that knows neither person nor server, for errors.
    pub fn bare(title: &str) -> Self {
        let language = spoken();
        Frame {
            title: title.to_owned(),
            lang: language.map_or("en", |it| it.tag.as_str()),
            dir: language.map_or("ltr", |it| it.direction.as_str()),
            languages: false,
            evaluation: false,
            self_signed: false,
            standing: Vec::new(),
            who: None,
            nav: Vec::new(),
            side: Vec::new(),
            set_up: None,
            version: None,
            style: assets::url("app.css"),
            icon: assets::url("icon.svg"),
            touch_icon: assets::url("icon-180.png"),
        }
    }
}

fn main_entries(person: &Person, place: Place) -> Vec<Entry> {
    let entry = |href, label, current| Entry {
        href,
        label,
        current,
        heading: None,
    };
    let dashboard = dashboard_entries(place);
    let mut entries = vec![
        entry("/a/", t!("Queue"), place == Place::Queue),
        entry("/a/history", t!("History"), place == Place::History),
        entry("/a/phone", t!("Phone"), place == Place::Phone),
        entry("/a/passkeys", t!("Passkeys"), place == Place::Passkeys),
        entry("/a/away", t!("Away"), place == Place::Away),
    ];
    if person.has(Role::Admin) || person.has(Role::Auditor) {
        entries.push(entry("/dashboard", t!("Dashboard"), !dashboard.is_empty()));
    }
    entries.push(entry("/help", t!("Help"), place == Place::Help));
    entries
}

fn dashboard_entries(place: Place) -> Vec<Entry> {
    let main = [
        ("/dashboard", t!("Overview"), Place::Overview),
        ("/dashboard/requests", t!("Requests"), Place::Requests),
        ("/dashboard/policies", t!("Policies"), Place::Policies),
        ("/dashboard/integrations", t!("Integrations"), Place::Integrations),
        ("/dashboard/people", t!("People"), Place::People),
        ("/dashboard/groups", t!("Groups"), Place::Groups),
        ("/dashboard/api-keys", t!("API keys"), Place::ApiKeys),
        ("/dashboard/audit", t!("Audit"), Place::Audit),
    ];
    // Among themselves only: everywhere else one entry leads to all of them.
    let settings = [
        ("/dashboard/settings", t!("All settings"), Place::Settings),
        ("/dashboard/settings/general", t!("General"), Place::General),
        ("/dashboard/settings/tls", "TLS", Place::Tls),
        (
            "/dashboard/settings/signing-keys",
            t!("Signing keys"),
            Place::SigningKeys,
        ),
        ("/dashboard/settings/log-sinks", t!("Log sinks"), Place::LogSinks),
        (
            "/dashboard/settings/notifications",
            t!("Notifications"),
            Place::Notifications,
        ),
        ("/dashboard/settings/backup", t!("Backup"), Place::Backup),
        ("/dashboard/settings/security", t!("Security"), Place::Security),
        ("/dashboard/settings/retention", t!("Retention"), Place::Retention),
        (
            "/dashboard/settings/diagnostics",
            t!("Diagnostics"),
            Place::Diagnostics,
        ),
        ("/dashboard/settings/about", t!("About"), Place::About),
        ("/dashboard/set-up", t!("Set-up"), Place::SetUp),
    ];
    let entry = |heading, (href, label, it): (_, _, Place)| Entry {
        href,
        label,
        current: it == place,
        heading,
    };
    let among_settings = place != Place::SetUp && settings.iter().any(|(_, _, it)| *it == place);
    if !among_settings && place != Place::SetUp && !main.iter().any(|(_, _, it)| *it == place) {
        return Vec::new();
    }
    let mut entries: Vec<Entry> = main.into_iter().map(|it| entry(None, it)).collect();
    if among_settings {
        let headed = |it: (_, _, Place)| entry((it.2 == Place::Settings).then_some(t!("Settings")), it);
        entries.extend(settings.into_iter().map(headed));
    } else {
        entries.push(entry(
            None,
            ("/dashboard/settings", t!("Settings"), Place::Settings),
        ));
        if place == Place::SetUp {
            entries.push(entry(None, ("/dashboard/set-up", t!("Set-up"), Place::SetUp)));
        }
    }
    entries
}

/// A condition for the people it concerns.
fn words_of(condition: Condition) -> &'static str {
    match condition {
        Condition::SignerDown => t!("The signing key is away: nothing is decided until it is back"),
        Condition::StorageFull => t!("The disk is nearly full: nothing new is taken until there is room"),
        Condition::ClockUnsound => t!("The server’s clock is wrong: nothing is decided until it is right"),
        Condition::RollbackSuspected => t!("This may be an older state of the journal: nothing is decided"),
        Condition::StorageDamaged => {
            t!("Something stored is damaged: nothing is decided any more. Restore a backup")
        }
        Condition::BackupFailed => t!("The newest backup could not be made"),
    }
}
