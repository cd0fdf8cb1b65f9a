//! The strip of signs: how each part of the appliance is doing, in a word, and where to look.

use crate::domain::notice::{Chat, Device, NoticeSettings};
use crate::domain::people::{Person, Role};
use crate::domain::project::Integration;
use crate::domain::sink::Sink;
use crate::domain::state::Read;
use crate::engine::Condition;
use crate::listen::free_bytes;
use crate::store::Snapshot;
use crate::texts::t;
use crate::web::api::sinks::Lag;
use crate::web::app::App;
use crate::web::pages::PageError;
use crate::web::pages::moment::ago;
use crate::web::words::span;

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
        (0, _) => sign(t!("Forges"), "none", t!("none connected"), HREF),
        (1, 0) => sign(t!("Forges"), "approved", t!("answering"), HREF),
        (many, 0) => sign(
            t!("Forges"),
            "approved",
            t!("all {many} answering", many = many),
            HREF,
        ),
        (1, _) => sign(
            t!("Forges"),
            "rejected",
            t!("no answer for {longest}", longest = span(longest)),
            HREF,
        ),
        (many, _) => sign(
            t!("Forges"),
            "rejected",
            t!(
                "{count} of {many} silent, for {longest}",
                count = count,
                many = many,
                longest = span(longest)
            ),
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
        (0, ..) => sign(t!("Log sinks"), "none", t!("none set up"), HREF),
        (1, 0, 0) => sign(t!("Log sinks"), "approved", t!("up to date"), HREF),
        (many, 0, 0) => sign(
            t!("Log sinks"),
            "approved",
            t!("all {many} up to date", many = many),
            HREF,
        ),
        (many, 0, _) => sign(
            t!("Log sinks"),
            "pending",
            t!("{late} of {many} behind", late = late, many = many),
            HREF,
        ),
        (many, ..) => sign(
            t!("Log sinks"),
            "rejected",
            t!("{failing} of {many} failing", failing = failing, many = many),
            HREF,
        ),
    })
}

fn messages(state: &Snapshot, reader: &Person, unreached: usize) -> Result<Sign, PageError> {
    let label = t!("Notifications");
    let settings = NoticeSettings::load(state)?;
    let devices: Vec<Device> = state.all()?;
    let any =
        settings.mail.is_some() || devices.iter().any(Device::is_live) || !state.all::<Chat>()?.is_empty();
    let (look, word) = match (unreached, any) {
        (0, _) => ("approved", t!("reach every approver").to_owned()),
        (_, false) => ("pending", t!("reach nobody yet").to_owned()),
        (1, true) => ("pending", t!("one approver unreached").to_owned()),
        (many, true) => ("pending", t!("{many} approvers unreached", many = many)),
    };
    let href = "/dashboard/settings/notifications";
    Ok(Sign {
        label,
        word,
        look,
        href: reader.has(Role::Admin).then_some(href),
    })
}

fn keys(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/signing-keys";
    let health = app.engine.health();
    match (health.has(Condition::SignerDown), health.backends().0) {
        (true, _) => sign(t!("Signing keys"), "rejected", t!("away"), HREF),
        (false, "agent") => sign(t!("Signing keys"), "approved", t!("in reach, in an agent"), HREF),
        (false, _) => sign(t!("Signing keys"), "approved", t!("in reach, in files"), HREF),
    }
}

fn certificate(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/tls";
    let label = t!("Certificate");
    let Some(tls) = &app.front.tls else {
        return match app.front.for_proxies {
            true => sign(label, "none", t!("a proxy’s"), HREF),
            false => sign(label, "none", t!("none: evaluation"), HREF),
        };
    };
    let current = tls.current();
    let left = app.now().seconds_until(current.facts.not_after);
    match (left, current.self_signed) {
        (0, _) => sign(label, "rejected", t!("has run out"), HREF),
        (_, true) => sign(label, "pending", t!("self-signed"), HREF),
        (left, false) if left < CERTIFICATE_SOON => sign(
            label,
            "pending",
            t!("runs out in {left}", left = span(left)),
            HREF,
        ),
        (left, false) => sign(label, "approved", t!("good for {left}", left = span(left)), HREF),
    }
}

fn backup(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/backup";
    let label = t!("Backup");
    let health = app.engine.health();
    let newest = health.backup();
    match (
        health.has(Condition::BackupFailed),
        newest,
        app.backups.plan.is_some(),
    ) {
        (true, ..) => sign(label, "rejected", t!("failed, tried again"), HREF),
        (false, Some((at, _)), _) => sign(label, "approved", ago(app.now(), at), HREF),
        (false, None, true) => sign(label, "pending", t!("none since the start"), HREF),
        (false, None, false) => sign(label, "pending", t!("not scheduled"), HREF),
    }
}

fn disk(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/general";
    let health = app.engine.health();
    if health.has(Condition::StorageDamaged) {
        return sign(t!("Disk"), "rejected", t!("something stored is damaged"), HREF);
    }
    let free = bytes(free_bytes(&app.database_file()));
    match health.has(Condition::StorageFull) {
        true => sign(
            t!("Disk"),
            "rejected",
            t!("nearly full, {free} free", free = free),
            HREF,
        ),
        false => sign(t!("Disk"), "approved", t!("{free} free", free = free), HREF),
    }
}

fn clock(app: &App) -> Sign {
    const HREF: &str = "/dashboard/settings/general";
    match app.engine.health().has(Condition::ClockUnsound) {
        true => sign(t!("Clock"), "rejected", t!("behind the journal"), HREF),
        false => sign(t!("Clock"), "approved", t!("not behind the journal"), HREF),
    }
}

/// A size for people, rounded down: there is at least so much.
pub fn bytes(count: u64) -> String {
    match count {
        0..=999_999 => t!("{value} kB", value = count / 1_000),
        1_000_000..=999_999_999 => t!("{value} MB", value = count / 1_000_000),
        _ => t!("{value} GB", value = count / 1_000_000_000),
    }
}
