//! JSON lines in a file of the directory that the operator has named. Appended and synced; opened anew for each batch, so
//! that whatever rotates files needs to tell nobody.

use crate::outbound::Error;
use crate::sink::{Record, Sent};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What every file's name ends with.
pub(super) const ENDING: &str = "jsonl";
/// Longest name without the ending.
const NAME_MAX: usize = 64;
/// A torn last line is looked for this far back: longer than any line.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// The name if a file may bear it: small letters, digits, `-`, `_` and dots inside.
pub fn checked_file_name(name: &str) -> Option<&str> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    (plain && begins && name.len() <= NAME_MAX && !name.contains("..")).then_some(name)
}

/// A file.
pub struct JsonLines {
    path: PathBuf,
}

impl JsonLines {
    pub(super) fn new(directory: &Path, name: &str) -> Result<JsonLines, Error> {
        let name = checked_file_name(name)
            .ok_or_else(|| Error::Refused("the file's name has characters it may not have".into()))?;
        Ok(JsonLines {
            path: directory.join(format!("{name}.{ENDING}")),
        })
    }

    pub(super) async fn send(&self, records: &[Record]) -> Sent {
        let path = self.path.clone();
        let mut bytes = Vec::with_capacity(records.iter().map(|it| it.json.len() + 1).sum());
        for record in records {
            bytes.extend_from_slice(&record.json);
            bytes.push(b'\n');
        }
        let written = tokio::task::spawn_blocking(move || append(&path, &bytes)).await;
        match written {
            Ok(Ok(())) => Sent::Stored,
            Ok(Err(error)) => Sent::Later {
                after: None,
                reason: format!("the file can't be written: {error}"),
            },
            Err(_) => Sent::Later {
                after: None,
                reason: "the file can't be written".to_owned(),
            },
        }
    }
}

fn append(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A link could lead anywhere the appliance may write.
    match std::fs::symlink_metadata(path) {
        Ok(it) if !it.is_file() => {
            return Err(std::io::Error::other("there is something else than a file"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let fresh = !path.exists();
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o640)
        .open(path)?;
    let whole = whole_lines(&mut file)?;
    if whole < file.metadata()?.len() {
        // What a crash left of a line was never acknowledged; it comes again, whole.
        file.set_len(whole)?;
    }
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // The disk may be full: no half a line stays behind, as far as that is possible.
        let _ = file.set_len(whole);
        return Err(error);
    }
    if fresh && let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The length up to the last line end.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LINE_BYTES_MAX);
    let mut last = [0];
    if length == 0 {
        return Ok(0);
    }
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == [b'\n'] {
        return Ok(length);
    }
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(LINE_BYTES_MAX).read_to_end(&mut tail)?;
    match tail.iter().rposition(|it| *it == b'\n') {
        Some(at) => Ok(from + at as u64 + 1),
        None if from == 0 => Ok(0),
        None => Err(std::io::Error::other("the file is not one of JSON lines")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        for good in ["journal", "a.b-c_d", "0"] {
            assert_eq!(checked_file_name(good), Some(good));
        }
        for bad in [
            "",
            ".hidden",
            "a/b",
            "..",
            "a..b",
            "A",
            "ä",
            "a b",
            &"a".repeat(65),
        ] {
            assert_eq!(checked_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_torn_line_is_taken_away_and_a_link_is_not_followed() {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("randomness");
        let directory = std::env::temp_dir().join(format!("sink-{}", hex::encode(random)));
        std::fs::create_dir(&directory).expect("a directory");
        let path = directory.join("x.jsonl");
        std::fs::write(&path, "{\"seq\":0}\n{\"se").expect("written");
        append(&path, b"{\"seq\":1}\n").expect("appended");
        assert_eq!(
            std::fs::read_to_string(&path).expect("read"),
            "{\"seq\":0}\n{\"seq\":1}\n"
        );
        std::fs::write(&path, "{\"seq").expect("written");
        append(&path, b"{\"seq\":0}\n").expect("appended");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{\"seq\":0}\n");
        let link = directory.join("y.jsonl");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(append(&link, b"{}\n").is_err());
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
