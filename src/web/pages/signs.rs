//! The strip of signs: how each part of the appliance is doing, in a word, and where to look.

use crate::domain::notice::{Chat, Device, NoticeSettings};
use crate::domain::people::{Person, Role};
use crate::domain::project::Integration;
use crate::domain::sink::Sink;
use crate::domain::state::Read;
use crate::domain::time::span;
use crate::engine::Condition;
use crate::listen::free_bytes;
use crate::store::Snapshot;
use crate::web::api::sinks::Lag;
use crate::web::app::App;
use crate::web::pages::PageError;
use crate::web::pages::moment::ago;

/// A certificate that runs out within this many seconds is marked.
const CERTIFICATE_SOON: u64 = 30 * 86_400;
/// A sink that is behind by more seconds than this is marked.
const SINK_LATE: u64 = 60;

/// One part of the appliance.
pub struct Sign {
    pub label: &'static str,
    pub word: String,
    /// `approved`, `pending`, `rejected`, or `none`: names colour and sign; the word says the same.
    pub look: &'static str,
    /// Where to look; `None` where this reader may not.
    pub href: Option<&'static str>,
}

fn sign(label: &'static str, look: &'static str, word: impl Into<String>, href: &'static str) -> Sign {
    Sign {
        label,
        word: word.into(),
        look,
        href: Some(href),
    }
}

/// All signs, in a fixed order.
pub fn signs(app: &App, state: &Snapshot, reader: &Person, unreached: usize) -> Result<Vec<Sign>, PageError> {
    Ok(vec![
        forges(app, state)?,
        sinks(app, state)?,
        messages(state, reader, unreached)?,
        keys(app),
        certificate(app),
        backup(app),
        disk(app),
        clock(app),
    ])
}

fn forges(app: &App, state: &Snapshot) -> Result<Sign, PageError> {
    const HREF: &str = "/dashboard/integrations";
    let mut all: Vec<Integration> = state.all()?;
    all.retain(|it| !it.removed);
    let silent = all.iter().filter_map(|it| app.forges.silent_for(&it.id));
    let (count, longest) = silent.fold((0, 0), |(count, longest), it| {
        (count + 1, longest.max(it.as_secs()))
    });
    Ok(match (all.len(), count) {
        (0, _) => sign("Forges", "none", "none connected", HREF),
        (1, 0) => sign("Forges", "approved", "answering", HREF),
        (many, 0) => sign("Forges", "approved", format!("all {many} answering"), HREF),
        (1, _) => sign(
            "Forges",
            "rejected",
            format!("no answer for {}", span(longest)),
            HREF,
        ),
        (many, _) => sign(
            "Forges",
            "rejected",
            format!("{count} of {many} silent, for {}", span(longest)),
            HREF,
        ),
    })
}

fn sinks(app: &App, state: &Snapshot) -> Result<Sign, PageError> {
    const HREF: &str = "/dashboard/settings/log-sinks";
    let mut all: Vec<Sink> = state.all()?;
    all.retain(|it| it.removed.is_none());
    let (mut failing, mut late) = (0, 0);
    for it in &all {
        let health = app.sinks.board.health(&it.id).unwrap_or_default();
        let lag = Lag::of(app, it, state, app.now())?;
        if it.stuck.is_some() || health.failing.is_some() {
            failing += 1;
        } else if lag.entries > 0 && lag.seconds > SINK_LATE {
            late += 1;
        }
    }
    Ok(match (all.len(), failing, late) {
        (0, ..) => sign("Log sinks", "none", "none set up", HREF),
        (1, 0, 0) => sign("Log sinks", "approved", "up to date", HREF),
        (many, 0, 0) => sign("Log sinks", "approved", format!("all {many} up to date"), HREF),
        (many, 0, _) => sign("Log sinks", "pending", format!("{late} of {many} behind"), HREF),
        (many, ..) => sign(
            "Log sinks",
            "rejected",
            format!("{failing} of {many} failing"),
            HREF,
        ),
    })
}

fn messages(state: &Snapshot, reader: &Person, unreached: usize) -> Result<Sign, PageError> {
    const LABEL: &str = "Notifications";
    let settings = NoticeSettings::load(state)?;
    let devices: Vec<Device> = state.all()?;
    let any =
        settings.mail.is_some() || devices.iter().any(Device::is_live) || !state.all::<Chat>()?.is_empty();
    let (look, word) = match (unreached, any) {
        (0, _) => ("approved", "reach every approver".to_owned()),
        (_, false) => ("pending", "reach nobody yet".to_owned()),
        (1, true) => ("pending", "one approver unreached".to_owned()),
        (many, true) => ("pending", format!("{many} approvers unreached")),
    };
    let href = "/dashboard/settings/notifications";
    Ok(Sign {
        label: LABEL,
        word,
        look,
        href: reader.has(Role::Admin).then_some(href),
    })
}

fn keys(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/signing-keys";
    let health = app.engine.health();
    match (health.has(Condition::SignerDown), health.backends().0) {
        (true, _) => sign("Signing keys", "rejected", "away", HREF),
        (false, "agent") => sign("Signing keys", "approved", "in reach, in an agent", HREF),
        (false, _) => sign("Signing keys", "approved", "in reach, in files", HREF),
    }
}

fn certificate(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/tls";
    const LABEL: &str = "Certificate";
    let Some(tls) = &app.front.tls else {
        return match app.front.for_proxies {
            true => sign(LABEL, "none", "a proxy’s", HREF),
            false => sign(LABEL, "none", "none: evaluation", HREF),
        };
    };
    let current = tls.current();
    let left = app.now().seconds_until(current.facts.not_after);
    match (left, current.self_signed) {
        (0, _) => sign(LABEL, "rejected", "has run out", HREF),
        (_, true) => sign(LABEL, "pending", "self-signed", HREF),
        (left, false) if left < CERTIFICATE_SOON => {
            sign(LABEL, "pending", format!("runs out in {}", span(left)), HREF)
        }
        (left, false) => sign(LABEL, "approved", format!("good for {}", span(left)), HREF),
    }
}

fn backup(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/backup";
    const LABEL: &str = "Backup";
    let health = app.engine.health();
    let newest = health.backup();
    match (
        health.has(Condition::BackupFailed),
        newest,
        app.backups.plan.is_some(),
    ) {
        (true, ..) => sign(LABEL, "rejected", "failed, tried again", HREF),
        (false, Some((at, _)), _) => sign(LABEL, "approved", ago(app.now(), at), HREF),
        (false, None, true) => sign(LABEL, "pending", "none since the start", HREF),
        (false, None, false) => sign(LABEL, "pending", "not scheduled", HREF),
    }
}

fn disk(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/general";
    let health = app.engine.health();
    if health.has(Condition::StorageDamaged) {
        return sign("Disk", "rejected", "something stored is damaged", HREF);
    }
    let free = bytes(free_bytes(&app.database_file()));
    match health.has(Condition::StorageFull) {
        true => sign("Disk", "rejected", format!("nearly full, {free} free"), HREF),
        false => sign("Disk", "approved", format!("{free} free"), HREF),
    }
}

fn clock(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/general";
    match app.engine.health().has(Condition::ClockUnsound) {
        true => sign("Clock", "rejected", "behind the journal", HREF),
        false => sign("Clock", "approved", "not behind the journal", HREF),
    }
}

/// A size for people, rounded down: there is at least so much.
pub fn bytes(count: u64) -> String {
    match count {
        0..=999_999 => format!("{} kB", count / 1_000),
        1_000_000..=999_999_999 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}
