//! A test message to whoever asks for it, by one way, and what came of it in plain words.

use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::notice::{Delivery, MailWhen, NoticeKind, NoticeSettings, Preferences, Sent, TestBy};
use crate::domain::people::Person;
use crate::store::Snapshot;
use crate::texts::{said, t};
use crate::web::app::App;
use crate::web::pages::{PageError, shown};
use crate::web::session::SignedIn;
use std::time::Duration;

/// How long the other side may take before the page is answered without it: a mail server's greeting can be slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest text of others, in characters.
const TEXT_MAX: usize = 300;

/// What came of a test.
pub struct Tried {
    pub lines: Vec<Line>,
}

impl Tried {
    /// Whether everything arrived.
    pub fn well(&self) -> bool {
        self.lines.iter().all(|it| it.well)
    }
}

/// One delivery, or why there was none.
pub struct Line {
    pub well: bool,
    pub words: String,
    /// Where it can be mended.
    pub href: Option<(&'static str, &'static str)>,
}

/// Sends it, and waits for what comes of it.
///
/// # Errors
/// When it can't be asked for.
pub async fn try_message(app: &App, who: &SignedIn, by: TestBy) -> Result<Tried, PageError> {
    if let Some(line) = no_way(&app.snapshot()?, &who.0, by)? {
        return Ok(Tried { lines: vec![line] });
    }
    let mut grown = app.engine.watch_size();
    let mut next = app.snapshot()?.size()?;
    app.submit(who.actor(), Command::AskTestNotice { by: Some(by) })
        .await?;
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(deliveries) = answer(app, &who.0, &mut next)? {
                return Ok::<_, PageError>(deliveries);
            }
            if grown.changed().await.is_err() {
                return Ok(Vec::new());
            }
        }
    });
    let lines = match told.await {
        Ok(deliveries) => deliveries?.iter().map(|it| line(it, by)).collect(),
        Err(_) => vec![Line {
            well: false,
            words: t!(
                "No answer within {n} s. It goes on being tried: what came of it stands below once it is known.",
                n = PATIENCE.as_secs()
            ),
            href: None,
        }],
    };
    Ok(Tried { lines })
}

/// What was recorded of this person's test since `next`.
fn answer(app: &App, person: &Person, next: &mut u64) -> Result<Option<Vec<Delivery>>, PageError> {
    let snapshot = app.snapshot()?;
    let mut found = None;
    snapshot.each_leaf(*next, usize::MAX, |seq, leaf| {
        *next = seq + 1;
        if let Event::NotificationSent {
            to,
            kind: NoticeKind::Test,
            deliveries,
            ..
        } = Snapshot::event(leaf)?
            && to == person.id.as_str()
        {
            found = Some(deliveries);
        }
        Ok::<_, crate::store::Error>(())
    })?;
    Ok(found)
}

/// Why nothing can go this way, where that is known beforehand.
fn no_way(state: &Snapshot, person: &Person, by: TestBy) -> Result<Option<Line>, PageError> {
    let no = |words: &str, href| {
        Some(Line {
            well: false,
            words: words.to_owned(),
            href: Some(href),
        })
    };
    let settings = ("/dashboard/settings/notifications", t!("Set it up"));
    let phone = ("/a/phone", t!("Your own messages"));
    Ok(match by {
        TestBy::Push => {
            let devices = state_devices(state, person)?;
            match devices {
                0 => no(
                    t!("No message was sent: no device of yours takes them yet."),
                    phone,
                ),
                _ => None,
            }
        }
        TestBy::Mail if NoticeSettings::load(state)?.mail.is_none() => {
            no(t!("No mail was sent: no mail server is set up."), settings)
        }
        TestBy::Mail if person.email.is_empty() => {
            no(t!("No mail was sent: you have no address here."), phone)
        }
        TestBy::Mail if Preferences::load(&person.id, state)?.mail == MailWhen::Never => no(
            t!("No mail was sent: you have turned mail off for yourself."),
            phone,
        ),
        TestBy::Mail => None,
    })
}

fn state_devices(state: &Snapshot, person: &Person) -> Result<usize, PageError> {
    use crate::domain::notice::Device;
    use crate::domain::state::Read;
    let devices = state.all::<Device>()?;
    Ok(devices
        .iter()
        .filter(|it| it.person == person.id && it.is_live())
        .count())
}

fn line(it: &Delivery, by: TestBy) -> Line {
    let why = it.reason.as_deref().unwrap_or(t!("it did not say why"));
    let why = said(why);
    let name = &it.name;
    let words = match (by, it.sent) {
        (TestBy::Push, Sent::Delivered) => {
            t!(
                "“{name}”: its push service took the message. It should be on that device now.",
                name = name
            )
        }
        (TestBy::Push, Sent::Later) => {
            t!(
                "“{name}”: not taken yet, and tried again: {why}.",
                name = name,
                why = why
            )
        }
        (TestBy::Push, Sent::Refused) => t!("“{name}”: refused: {why}.", name = name, why = why),
        (TestBy::Push, Sent::Gone) => t!(
            "“{name}”: no longer known there: {why}. Turn messages on there once more.",
            name = name,
            why = why
        ),
        (TestBy::Mail, Sent::Delivered) => {
            t!("The mail server took the message. It should be in your mailbox soon.").to_owned()
        }
        (TestBy::Mail, Sent::Later) => t!(
            "The mail was not taken yet, and is tried again: {why}.",
            why = why
        ),
        (TestBy::Mail, Sent::Refused | Sent::Gone) => t!("The mail was refused: {why}.", why = why),
    };
    Line {
        well: it.sent == Sent::Delivered,
        words: shown(&words, TEXT_MAX),
        href: None,
    }
}
