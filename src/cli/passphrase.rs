//! Passphrases of the keys: how one is read from whoever knows it, and how another takes its place.

use crate::cli::keyring::KEYS;
use crate::signing::{
    Passphrase, Rewrapped, Vault, check_private, open_key_file, sync_folder, write_key_file,
};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The keys under the coming passphrase, whole before anything is moved.
const NEXT: &str = "keys.next";
/// The keys under the one of before, until the others stand in their place.
const BEFORE: &str = "keys.before";
/// Longest passphrase that is read, in bytes.
const BYTES_MAX: u64 = 4_096;

/// Reads a passphrase: from a file, from standard input where that is no terminal, else by asking without an echo.
///
/// # Errors
/// For people.
pub fn read(prompt: &str, file: Option<&Path>) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    match file {
        Some(path) => {
            let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
            check_private(path).map_err(|e| e.to_string())?;
            let file = std::fs::File::open(path).map_err(|e| named(&e))?;
            file.take(BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(|e| named(&e))?;
        }
        None if isatty(std::io::stdin()) => ask(prompt, &mut text)?,
        None => {
            let input = std::io::stdin().lock();
            input
                .take(BYTES_MAX)
                .read_line(&mut text)
                .map_err(|e| format!("standard input: {e}"))?;
        }
    }
    let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    match text.is_empty() {
        true => Err("no passphrase was given".into()),
        false => Ok(text),
    }
}

/// As `read`, for one that is chosen: on a terminal it is asked for twice.
///
/// # Errors
/// For people, also when the two differ.
pub fn read_new(prompt: &str, file: Option<&Path>) -> Result<Zeroizing<String>, String> {
    let text = read(prompt, file)?;
    if file.is_none() && isatty(std::io::stdin()) && *read("The same once more: ", None)? != *text {
        return Err("the two are not the same".into());
    }
    Ok(text)
}

fn ask(prompt: &str, text: &mut String) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("the terminal: {e}");
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal).map_err(|e| failed(&e))?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    silent.local_modes |= LocalModes::ECHONL;
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|e| failed(&e))?;
    let read = terminal.lock().take(BYTES_MAX).read_line(text);
    tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(|e| failed(&e))?;
    read.map(|_| ()).map_err(|e| failed(&e))
}

/// Writes all key files anew under another passphrase, in a folder beside theirs, opens what it wrote, and only then puts the
/// one folder in the other's place. What was cut short is finished, or undone, by `finish` at the next start.
///
/// # Errors
/// For people; the files of before then still stand.
pub fn put_under(data_dir: &Path, vault: &Vault, from: &str, to: &str) -> Result<Rewrapped, String> {
    let (keys, next, before) = folders(data_dir);
    let words = |e: &dyn std::fmt::Display| e.to_string();
    clear(&next).map_err(|e| words(&e))?;
    clear(&before).map_err(|e| words(&e))?;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&next)
        .map_err(|e| words(&e))?;
    let made = (|| {
        let mut rewrapped = None;
        for entry in std::fs::read_dir(&keys).map_err(|e| words(&e))? {
            let path = entry.map_err(|e| words(&e))?.path();
            let name = path.file_name().unwrap_or_default();
            let copy = next.join(name);
            if path.extension().is_some_and(|it| it == "pem") {
                let key = open_key_file(&path, from).map_err(|e| words(&e))?;
                write_key_file(&copy, &key, Passphrase::Chosen(to)).map_err(|e| words(&e))?;
                open_key_file(&copy, to).map_err(|e| words(&e))?;
            } else if name == "data-key" {
                let under = Passphrase::Chosen(to);
                rewrapped = Some(vault.write_under(&copy, under).map_err(|e| words(&e))?);
                Vault::open_only(&copy, under, || None).map_err(|e| words(&e))?;
            } else {
                return Err(format!("{} is no key file of ours", path.display()));
            }
        }
        rewrapped.ok_or_else(|| "there is no file of data keys".to_owned())
    })();
    let moved = made.and_then(|rewrapped| {
        sync_folder(&next.join("data-key")).map_err(|e| words(&e))?;
        std::fs::rename(&keys, &before).map_err(|e| words(&e))?;
        match std::fs::rename(&next, &keys) {
            Ok(()) => Ok(rewrapped),
            Err(error) => {
                let back = std::fs::rename(&before, &keys);
                Err(back.err().unwrap_or(error).to_string())
            }
        }
    });
    if moved.is_ok() {
        sync_folder(&keys).map_err(|e| words(&e))?;
        if let Err(error) = clear(&before) {
            tracing::warn!(%error, "the key files under the passphrase of before could not be removed");
        }
    } else if let Err(error) = clear(&next) {
        tracing::warn!(%error, "what was written for another passphrase could not be removed");
    }
    moved
}

/// Whether a change of the passphrase was cut short in a data directory.
pub fn was_cut_short(data_dir: &Path) -> bool {
    let (_, next, before) = folders(data_dir);
    next.exists() || before.exists()
}

/// Ends a change that was cut short, of which nobody was told: where the keys had left their place and the others had not
/// taken it yet, they come back.
///
/// # Errors
/// When a folder can't be moved or removed.
pub fn finish(data_dir: &Path) -> std::io::Result<()> {
    let (keys, next, before) = folders(data_dir);
    if !keys.exists() {
        std::fs::rename(&before, &keys)?;
        sync_folder(&keys)?;
    }
    clear(&next)?;
    clear(&before)
}

fn folders(data_dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    (data_dir.join(KEYS), data_dir.join(NEXT), data_dir.join(BEFORE))
}

fn clear(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
