//! `backup`: writes, checks and restores backups.

use crate::cli::host::{call, fetch};
use crate::cli::keyring::KEYS;
use crate::cli::{FAILED, Files, OK, USAGE, fail};
use crate::domain::people::Person;
use crate::domain::request::{Request, Status};
use crate::domain::state::{Read as _, Record};
use crate::engine::rebuild;
use crate::outbound::Method;
use crate::signing::sync_folder;
use crate::store::{BackupError, Restored, Store, Summary, check_backup, restore_backup};
use crate::tlog::{Checkpoint, VerifierKey};
use clap::Subcommand;
use serde_json::json;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Write a backup of the running appliance, read it back and check all of it.
    ///
    /// It holds the journal, what its entries name, sealed secrets and the encrypted key files: everything but the
    /// passphrase. Keep that somewhere else.
    Create {
        /// The file to write. It must not exist.
        #[arg(value_name = "F")]
        file: PathBuf,
        #[command(flatten)]
        files: Files,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a backup: every entry against the tree, the tree against its signed checkpoint, every blob.
    Verify {
        #[arg(value_name = "F")]
        file: PathBuf,
        /// The log's verifier key, or a file with one a line; by default the checkpoint is checked with the log keys that
        /// the backup's own journal names.
        #[arg(long, value_name = "VKEY")]
        log_key: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Restore a backup into an empty directory.
    ///
    /// The first start there opens a new epoch of the log, cancels what waits for approval, takes unused approvals back
    /// and ends all sessions: what happened after the backup was made is not known.
    Restore {
        #[arg(value_name = "F")]
        file: PathBuf,
        /// The directory to restore into. It must be empty, or not exist.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The newest checkpoint of this log that you have from anywhere (a sink, an auditor): tells exactly how much is
        /// lost, and keeps the new epoch's number above all that were seen.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a `backup` command.
pub fn run(command: &BackupCommand) -> u8 {
    match command {
        BackupCommand::Create { file, files, json } => create(file, files, *json),
        BackupCommand::Verify { file, log_key, json } => match keys(log_key).map(|it| check(file, &it)) {
            Ok(Ok(summary)) => {
                show(&summary, file, *json);
                OK
            }
            Ok(Err(error)) => fail(FAILED, &format!("{}: {error}", file.display())),
            Err(error) => fail(USAGE, &error),
        },
        BackupCommand::Restore {
            file,
            data_dir,
            checkpoint,
            json,
        } => restore(file, data_dir, checkpoint.as_deref(), *json),
    }
}

fn create(file: &Path, files: &Files, json: bool) -> u8 {
    if file.exists() {
        return fail(
            USAGE,
            &format!("{}: it exists, and is not replaced", file.display()),
        );
    }
    let part = PathBuf::from(format!("{}.part", file.display()));
    let failed = |error: &dyn std::fmt::Display| {
        // Half a backup helps nobody; that it could not be made is what is told.
        let _ = std::fs::remove_file(&part);
        fail(FAILED, &format!("{}: {error}", file.display()))
    };
    let out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part);
    let mut out = match out {
        Ok(out) => out,
        Err(error) => return failed(&error),
    };
    if let Err(failure) = fetch(files, "/local/backup", u64::MAX, |piece| out.write_all(piece)) {
        let _ = std::fs::remove_file(&part);
        return fail(failure.code, &failure.message);
    }
    if let Err(error) = out.sync_all() {
        return failed(&error);
    }
    let summary = match check(&part, &[]) {
        Ok(summary) => summary,
        Err(error) => return failed(&error),
    };
    if let Err(error) = std::fs::rename(&part, file).and_then(|()| sync_folder(file)) {
        return failed(&error);
    }
    let name = file.file_name().map(|it| it.to_string_lossy().into_owned());
    let body = json!({
        "file": name, "head": summary.head, "bytes": summary.bytes, "sha256": summary.sha256,
    });
    if let Err(failure) = call(files, Method::Post, "/local/backups", Some(&body)) {
        eprintln!(
            "signedapproval: the backup is good, but the journal does not tell of it: {}",
            failure.message
        );
    }
    show(&summary, file, json);
    OK
}

fn check(file: &Path, log_keys: &[VerifierKey]) -> Result<Summary, BackupError> {
    check_backup(&mut std::fs::File::open(file)?, log_keys)
}

fn keys(texts: &[String]) -> Result<Vec<VerifierKey>, String> {
    let mut found = Vec::new();
    for text in texts {
        let lines = match VerifierKey::parse(text) {
            Ok(key) => {
                found.push(key);
                continue;
            }
            Err(_) => std::fs::read_to_string(text).map_err(|e| format!("{text}: {e}"))?,
        };
        for line in lines.lines().filter(|it| !it.trim().is_empty()) {
            found.push(VerifierKey::parse(line).map_err(|e| format!("{text}: {e}"))?);
        }
    }
    Ok(found)
}

fn show(summary: &Summary, file: &Path, as_json: bool) {
    if as_json {
        println!(
            "{}",
            json!({
                "file": file.display().to_string(), "instance": summary.head.instance,
                "version": summary.head.version, "created_at": summary.head.created_at,
                "entries": summary.head.entries, "covered": summary.covered, "newest": summary.newest,
                "root": summary.head.root, "blobs": summary.blobs, "secrets": summary.secrets,
                "key_files": summary.key_files, "bytes": summary.bytes, "sha256": summary.sha256,
            })
        );
        return;
    }
    println!("{} is whole.", file.display());
    println!(
        "made at        {} by version {}",
        summary.head.created_at, summary.head.version
    );
    println!("instance       {}", summary.head.instance);
    println!(
        "entries        {}, the newest of {}; {} covered by a signed checkpoint",
        summary.head.entries,
        summary.newest.as_deref().unwrap_or("-"),
        summary.covered
    );
    println!(
        "also           {} blobs, {} sealed secrets, {} key files",
        summary.blobs,
        summary.secrets,
        summary.key_files.len()
    );
    println!("sha256         {}", summary.sha256);
}

fn restore(file: &Path, data_dir: &Path, checkpoint: Option<&Path>, json: bool) -> u8 {
    let summary = match check(file, &[]) {
        Ok(summary) => summary,
        Err(error) => {
            return fail(
                FAILED,
                &format!("{}: {error}. Nothing was restored", file.display()),
            );
        }
    };
    let seen = match checkpoint.map(seen_checkpoint).transpose() {
        Ok(seen) => seen,
        Err(error) => return fail(USAGE, &error),
    };
    match std::fs::read_dir(data_dir).map(|mut it| it.next().is_none()) {
        Ok(true) => {}
        Ok(false) => {
            return fail(
                USAGE,
                &format!(
                    "{}: it is not empty. A backup is restored into an empty directory only",
                    data_dir.display()
                ),
            );
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return fail(FAILED, &format!("{}: {e}", data_dir.display())),
    }
    match put(file, data_dir, &summary, seen.as_ref()) {
        Ok(lost) => {
            tell(&summary, &lost, seen.as_ref(), data_dir, json);
            OK
        }
        Err(error) => fail(
            FAILED,
            &format!(
                "{}: {error}. Remove the directory before you try again",
                data_dir.display()
            ),
        ),
    }
}

fn seen_checkpoint(path: &Path) -> Result<Checkpoint, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    let body = text.split("\n\n").next().unwrap_or_default();
    Checkpoint::parse_body(&format!("{body}\n")).map_err(|e| failed(&e))
}

/// What a restore will cost.
struct Lost {
    /// Requests that wait, and approvals that were not used: the first start cancels them and takes them back.
    waiting: usize,
    unused: usize,
    people: usize,
}

fn put(
    file: &Path,
    data_dir: &Path,
    summary: &Summary,
    seen: Option<&Checkpoint>,
) -> Result<Lost, Box<dyn std::error::Error>> {
    let folder = |path: &Path| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    };
    folder(data_dir)?;
    folder(&data_dir.join(KEYS))?;
    let fresh = data_dir.join("journal.redb.new");
    let store = Store::create(&fresh, &summary.head.instance)?;
    let epoch = seen
        .and_then(|it| it.origin().rsplit('/').next()?.parse::<u32>().ok())
        .map_or(0, |it| it.saturating_add(1));
    let restored = Restored {
        created_at: summary.head.created_at.clone(),
        entries: summary.head.entries,
        epoch,
    };
    let key_files = restore_backup(&mut std::fs::File::open(file)?, &store, &restored)?;
    // What follows from the journal is made from it: that this works is a check of its own.
    rebuild(&store)?;
    for (name, bytes) in key_files {
        let path = data_dir.join(KEYS).join(name);
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        out.write_all(&bytes)?;
        out.sync_all()?;
    }
    let snapshot = store.read()?;
    if snapshot.root(snapshot.size()?)?.base64() != summary.head.root {
        return Err("the restored tree is not the one of the backup".into());
    }
    let mut lost = Lost {
        waiting: 0,
        unused: 0,
        people: snapshot.all::<Person>()?.len(),
    };
    let mut from = Vec::new();
    loop {
        let rows = snapshot.scan_raw(Request::TABLE, &from, &[0xff; 32], 1_000, false)?;
        let Some((last, _)) = rows.last() else { break };
        from = [last.as_slice(), &[0]].concat();
        for (_, row) in &rows {
            let request: Request = crate::domain::state::decode(row)?;
            lost.waiting += usize::from(request.status == Status::Pending);
            lost.unused += usize::from(
                request.status == Status::Approved && request.consumed_at.is_none() && !request.lapsed,
            );
        }
    }
    drop(snapshot);
    drop(store);
    // Only a whole database gets its name.
    std::fs::rename(&fresh, data_dir.join("journal.redb"))?;
    sync_folder(&data_dir.join("journal.redb"))?;
    Ok(lost)
}

fn tell(summary: &Summary, lost: &Lost, seen: Option<&Checkpoint>, data_dir: &Path, as_json: bool) {
    let missing = seen.map(|it| it.size().saturating_sub(summary.head.entries));
    if as_json {
        println!(
            "{}",
            json!({
                "data_dir": data_dir.display().to_string(), "entries": summary.head.entries,
                "newest": summary.newest, "lost_entries": missing, "waiting": lost.waiting,
                "unused_approvals": lost.unused, "people": lost.people,
            })
        );
        return;
    }
    println!(
        "Restored {} entries into {}.",
        summary.head.entries,
        data_dir.display()
    );
    println!(
        "Lost is what happened after {}{}.",
        summary.newest.as_deref().unwrap_or(&summary.head.created_at),
        missing.map_or(String::new(), |it| format!(": {it} entries of the journal"))
    );
    println!(
        "The first start opens a new epoch of the log, cancels {} waiting requests, looks at {} approvals and takes back \
         those that were not used, and ends all sessions.",
        lost.waiting, lost.unused
    );
    println!(
        "People, passkeys and API keys that were removed after the backup was made are back: look through all {} people \
         and the keys before anybody else does.",
        lost.people
    );
}
