//! Keys that somebody pinned, and files that proofs are read from and written to.

use crate::domain::text::visible;
use crate::evidence::dsse::PublicKey;
use crate::tlog::VerifierKey;
use std::io::Write;
use std::path::Path;

/// Longest file of keys, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;
/// How a PEM block begins and ends.
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// A file's name, for people.
pub fn shown(path: &Path) -> String {
    visible(&path.display().to_string())
}

/// The one credential key in a PEM file.
pub fn public_key(path: &Path) -> Result<PublicKey, String> {
    let text = read(path)?;
    PublicKey::from_pem(&text).map_err(|e| format!("{}: {e}", shown(path)))
}

/// The credential keys in a text: the name of a file with one, or PEM blocks.
pub fn public_keys_in(text: &str) -> Result<Vec<PublicKey>, String> {
    if !text.contains(BEGIN) {
        return Ok(vec![public_key(Path::new(text.trim()))?]);
    }
    // What a CI variable holds may have lost its line breaks.
    text.split(BEGIN)
        .skip(1)
        .map(|block| {
            let inside = block.split(END).next().unwrap_or_default();
            let base64: String = inside.replace("\\n", "").split_whitespace().collect();
            PublicKey::from_pem(&format!("{BEGIN}\n{base64}\n{END}\n"))
                .map_err(|e| format!("SIGNEDAPPROVAL_TRUSTED_KEY: {e}"))
        })
        .collect()
}

/// A log's verifier key, or a file that holds one a line.
pub fn verifier_keys(text: &str) -> Result<Vec<VerifierKey>, String> {
    if let Ok(key) = VerifierKey::parse(text) {
        return Ok(vec![key]);
    }
    let lines = read(Path::new(text))?;
    let keys: Result<Vec<_>, _> = lines
        .lines()
        .filter(|it| !it.trim().is_empty())
        .map(VerifierKey::parse)
        .collect();
    match keys {
        Ok(keys) if !keys.is_empty() => Ok(keys),
        _ => Err(format!(
            "{}: no verifier key, or a line that is none",
            visible(text)
        )),
    }
}

/// That a file can be written there, without touching what stands there.
pub fn writable(path: &Path) -> Result<(), String> {
    let there = path.exists();
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", shown(path)))?;
    if !there {
        // It must not look like a receipt before there is one.
        std::fs::remove_file(path).map_err(|e| format!("{}: {e}", shown(path)))?;
    }
    Ok(())
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let name = path.file_name().and_then(|it| it.to_str()).unwrap_or("receipt");
    let beside = path.with_file_name(format!(".{name}.part"));
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|e| format!("{}: {e}", shown(path)))
}

fn read(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path)
        .map_err(|e| format!("{}: {e}", shown(path)))?
        .len();
    if length > BYTES_MAX {
        return Err(format!("{}: larger than {BYTES_MAX} bytes", shown(path)));
    }
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", shown(path)))
}
