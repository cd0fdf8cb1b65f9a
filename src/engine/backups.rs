//! Backups on a schedule: written while everything goes on, read back and checked before they count, the oldest removed.

use crate::clock::Clock;
use crate::domain::command::Command;
use crate::domain::event::{Actor, Event};
use crate::domain::time::Time;
use crate::engine::{Condition, Engine};
use crate::signing::sync_folder;
use crate::store::{BackupError, KeyFile, Store, Summary, check_backup, write_backup};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How every backup's name ends.
const ENDING: &str = ".sabackup";
/// After a backup that failed the next is tried this much later, however long the schedule's step is.
const RETRY: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(20);

/// Where backups go, how often, and how many are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub directory: PathBuf,
    pub every: Duration,
    pub keep: usize,
}

/// Makes backups of one appliance.
pub struct Backups {
    pub store: Arc<Store>,
    pub engine: Engine,
    pub clock: Arc<dyn Clock>,
    /// The folder of the encrypted key files.
    pub keys: PathBuf,
    pub version: String,
    /// `None`: only when somebody asks for one on the host.
    pub plan: Option<Plan>,
    /// One at a time.
    pub busy: tokio::sync::Mutex<()>,
}

/// A backup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub file: String,
    pub bytes: u64,
}

impl Backups {
    /// The key files that belong to the journal. A passphrase beside them is not among them: whoever has a backup must not
    /// have everything.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn key_files(&self) -> std::io::Result<Vec<KeyFile>> {
        let mut files = Vec::new();
        for name in [
            "credential.pem",
            "credential-next.pem",
            "log.pem",
            "log-next.pem",
            "data-key",
        ] {
            match std::fs::read(self.keys.join(name)) {
                Ok(bytes) => files.push((name.to_owned(), bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(files)
    }

    /// Writes a backup of this moment to `out`. Everything goes on meanwhile.
    ///
    /// # Errors
    /// See `BackupError`.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), BackupError> {
        // Files and view must name the same keys: where one took over in between, both are read again.
        let (files, snapshot) = loop {
            let files = self.key_files()?;
            let snapshot = self.store.read()?;
            if self.key_files()? == files {
                break (files, snapshot);
            }
        };
        write_backup(&snapshot, &files, &self.version, self.clock.now(), out)?;
        Ok(())
    }

    /// Makes one in the planned directory, checks it, records it and removes what is more than is kept.
    ///
    /// # Errors
    /// For people.
    pub async fn make(self: &Arc<Self>, actor: Actor) -> Result<(String, Summary), String> {
        let _one = self.busy.lock().await;
        let plan = self
            .plan
            .clone()
            .ok_or("no `backup.directory` is set: there is no place for it")?;
        let this = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || this.make_file(&plan))
            .await
            .map_err(|e| e.to_string())?;
        let now = self.clock.now();
        let health = self.engine.health();
        match made {
            Ok((file, summary)) => {
                health.set(Condition::BackupFailed, None, now);
                health.set_backup(now, summary.head.entries);
                self.record(actor, &file, &summary).await?;
                Ok((file, summary))
            }
            Err(error) => {
                tracing::error!(%error, "the backup could not be made");
                health.set(Condition::BackupFailed, Some(error.to_string()), now);
                Err(error.to_string())
            }
        }
    }

    /// Records a backup that was written and found good.
    ///
    /// # Errors
    /// For people.
    pub async fn record(&self, actor: Actor, file: &str, summary: &Summary) -> Result<(), String> {
        let event = Event::BackupWritten {
            file: file.to_owned(),
            entries: summary.head.entries,
            bytes: summary.bytes,
            sha256: summary.sha256.clone(),
        };
        let command = Command::Record { events: vec![event] };
        self.engine
            .submit(actor, command)
            .await
            .map(|_| ())
            .map_err(|e| e.to_string())
    }

    fn make_file(&self, plan: &Plan) -> Result<(String, Summary), BackupError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&plan.directory)?;
        let now = self.clock.now().to_string().replace([':', '.'], "-");
        let name = format!("{}{now}{ENDING}", self.beginning()?);
        let path = plan.directory.join(&name);
        let part = plan.directory.join(format!("{name}.part"));
        let done: Result<Summary, BackupError> = (|| {
            write_checked(&part, |out| self.write(out))?;
            let summary = check_backup(&mut std::fs::File::open(&part)?, &[])?;
            std::fs::rename(&part, &path)?;
            sync_folder(&path)?;
            Ok(summary)
        })();
        if done.is_err() {
            // Half a backup helps nobody; that it could not be made is what is told.
            let _ = std::fs::remove_file(&part);
        }
        let summary = done?;
        self.retire(plan)?;
        Ok((name, summary))
    }

    /// How the names of this instance's backups begin.
    fn beginning(&self) -> Result<String, BackupError> {
        let identity = self.store.read()?.identity()?;
        Ok(format!(
            "signedapproval-{}-",
            &identity.instance[..8.min(identity.instance.len())]
        ))
    }

    /// This instance's backups in the planned directory, the newest first.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn list(&self) -> Result<Vec<Kept>, BackupError> {
        let Some(plan) = &self.plan else {
            return Ok(Vec::new());
        };
        let beginning = self.beginning()?;
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&plan.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(e.into()),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&beginning) && name.ends_with(ENDING) {
                found.push(Kept {
                    file: name,
                    bytes: entry.metadata()?.len(),
                });
            }
        }
        // The time in the name sorts as text.
        found.sort_by(|a, b| b.file.cmp(&a.file));
        Ok(found)
    }

    fn retire(&self, plan: &Plan) -> Result<(), BackupError> {
        for old in self.list()?.into_iter().skip(plan.keep.max(1)) {
            std::fs::remove_file(plan.directory.join(old.file))?;
        }
        Ok(())
    }

    /// When the newest backup there is was made, by its name.
    fn newest(&self) -> Option<Time> {
        let kept = self.list().ok()?.into_iter().next()?;
        let text = kept
            .file
            .strip_suffix(ENDING)?
            .get(self.beginning().ok()?.len()..)?
            .to_owned();
        let (date, time) = text.split_once('T')?;
        let mut parts = time.trim_end_matches('Z').split('-');
        let (h, m, s, ms) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Time::parse(&format!("{date}T{h}:{m}:{s}.{ms}Z"))
    }
}

/// Writes a private file that is not there yet, durable when this returns.
fn write_checked(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let _ = std::fs::remove_file(path);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    write(&mut out)?;
    out.into_inner()
        .map_err(|e| BackupError::Io(e.into_error()))?
        .sync_all()?;
    Ok(())
}

/// Makes backups as planned, for ever. One that is overdue at the start is made then.
pub async fn run_backups(backups: Arc<Backups>) {
    let Some(plan) = backups.plan.clone() else {
        return std::future::pending().await;
    };
    let every = u64::try_from(plan.every.as_millis()).unwrap_or(u64::MAX);
    let mut not_before: Option<std::time::Instant> = None;
    loop {
        let now = backups.clock.now();
        let due = backups
            .newest()
            .is_none_or(|it| now.0.saturating_sub(it.0).unsigned_abs() >= every);
        let may = not_before.is_none_or(|it| std::time::Instant::now() >= it);
        if due && may && backups.make(Actor::System).await.is_err() {
            not_before = Some(std::time::Instant::now() + RETRY);
        }
        tokio::time::sleep(LOOK.min(plan.every)).await;
    }
}
