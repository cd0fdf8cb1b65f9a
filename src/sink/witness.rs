//! Checkpoints that stand outside the data directory: the witness file, and the ends of the files that sinks write. What is
//! found is only text; whether it is a checkpoint of this log is for others to say.

use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A checkpoint is some hundred bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// How much of a file's end is looked through for its newest checkpoint: far more than lies between two.
const TAIL_BYTES: u64 = 16 * 1024 * 1024;
/// Files of the directory that are looked at, the newest first.
const FILES_MAX: usize = 50;

/// Puts the newest checkpoint into the witness file, whole or not at all.
///
/// # Errors
/// When it can't be written.
pub fn keep(path: &Path, note: &str) -> std::io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o640)
        .open(&fresh)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The checkpoint in the witness file; `None` where there is no such file yet.
///
/// # Errors
/// When it is there and can't be read.
pub fn kept(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(NOTE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// The newest checkpoint in each file of JSON lines in a directory, whatever rotation has called the file.
///
/// # Errors
/// When the directory or a file in it can't be read.
pub fn newest_in(directory: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let named = entry.file_name().to_string_lossy().contains(".jsonl");
        let meta = entry.metadata()?;
        if named && meta.is_file() {
            files.push((meta.modified()?, entry.path()));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    let mut found = Vec::new();
    for (_, path) in files.into_iter().take(FILES_MAX) {
        if let Some(note) = last_checkpoint(&path)? {
            found.push((path, note));
        }
    }
    Ok(found)
}

fn last_checkpoint(path: &Path) -> std::io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    for line in tail.rsplit(|it| *it == b'\n') {
        // Most lines are entries: they are passed over without being read.
        if !line.windows(12).any(|it| it == b"\"checkpoint\"") {
            continue;
        }
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let record = if value["type"] == "checkpoint" {
            &value
        } else {
            &value["unmapped"]
        };
        if record["type"] == "checkpoint"
            && let Some(note) = record["checkpoint"].as_str()
        {
            return Ok(Some(note.to_owned()));
        }
    }
    Ok(None)
}
