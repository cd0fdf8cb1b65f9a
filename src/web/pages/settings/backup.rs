//! Backups: whether there are any, how good they are, and how one is brought back.

use crate::domain::people::Role;
use crate::engine::Condition;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::moment::Moment;
use crate::web::pages::settings::{BACKUP, SettingView, of};
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::problem::Problem;
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

#[derive(Template)]
#[template(path = "settings/backup.html")]
struct BackupPage {
    frame: Frame,
    admin: bool,
    /// Directory and schedule, where one is set.
    plan: Option<(String, String, usize)>,
    /// When the newest good one was written since the start, and its entries.
    newest: Option<(Moment, u64)>,
    failed: Option<String>,
    kept: Vec<(String, String)>,
    settings: Vec<SettingView>,
}

/// `GET /dashboard/settings/backup`: administrators and auditors.
pub async fn show_backup(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let health = app.engine.health();
    let kept = app.backups.list().map_err(Problem::internal)?;
    let standing = health.standing();
    let failed = standing
        .iter()
        .find(|it| it.condition == Condition::BackupFailed)
        .map(|it| shown(&it.detail, 300));
    let plan = app.backups.plan.as_ref().map(|it| {
        (
            shown(&it.directory.display().to_string(), 300),
            every(it.every.as_secs()),
            it.keep,
        )
    });
    Ok(html(&BackupPage {
        frame: Frame::new(&app, Some(&person), Place::Backup, t!("Backup")),
        settings: of(&app, BACKUP),
        admin: person.has(Role::Admin),
        plan,
        newest: health.backup().map(|(at, entries)| (Moment::of(at), entries)),
        failed,
        kept: kept
            .iter()
            .map(|it| (shown(&it.file, 120), size(it.bytes)))
            .collect(),
    }))
}

fn every(seconds: u64) -> String {
    match seconds {
        86_400 => t!("once a day").into(),
        it if it % 86_400 == 0 => t!("every {value} days", value = it / 86_400),
        3_600 => t!("once an hour").into(),
        it if it % 3_600 == 0 => t!("every {value} hours", value = it / 3_600),
        it if it % 60 == 0 => t!("every {value} minutes", value = it / 60),
        it => t!("every {it} seconds", it = it),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=999_999 => t!("{bytes} kB", bytes = bytes.div_ceil(1_000)),
        1_000_000..=999_999_999 => t!("{bytes} MB", bytes = bytes.div_ceil(1_000_000)),
        _ => t!("{bytes} GB", bytes = bytes.div_ceil(1_000_000_000)),
    }
}
