//! `audit`: signed bundles of a period made by the running appliance, verified anywhere; and the log as a folder of tiles.

use crate::cli::host::{Failure, call, fetch};
use crate::cli::pinned::{public_key, shown, verifier_keys};
use crate::cli::verify::{NOT_VALID, UNREADABLE, USAGE, VALID};
use crate::cli::{FAILED, Files, OK, fail};
use crate::domain::text::visible;
use crate::evidence::bundle::verify::{BundleReport, bundle};
use crate::evidence::verify::Trust;
use crate::outbound::Method;
use crate::tlog::{Note, Tile};
use clap::Subcommand;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two questions how far an export is.
const POLL: Duration = Duration::from_millis(250);
/// Longest checkpoint, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 1024 * 1024;
/// Largest tile: 256 entries of the longest kind.
const TILE_BYTES_MAX: u64 = 256 * 65_537;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Make a signed bundle of a period, by the running appliance.
    Export {
        #[command(flatten)]
        files: Files,
        /// First instant of the period (RFC 3339) or its first day.
        #[arg(long, value_name = "TIME")]
        from: String,
        /// First instant behind the period, or the day behind it.
        #[arg(long, value_name = "TIME")]
        to: String,
        /// Only this project: a gated project's path or id, or the name a pipeline gave.
        #[arg(long, value_name = "P")]
        project: Option<String>,
        /// Only what this person (per_…) decided and did.
        #[arg(long, value_name = "ID")]
        person: Option<String>,
        /// Only requests that ended so: approved, rejected, expired, cancelled, superseded, skipped.
        #[arg(long, value_name = "WORD")]
        outcome: Option<String>,
        /// The file to write; never one that exists.
        #[arg(long, value_name = "FILE.zip")]
        out: PathBuf,
        /// Print JSON: id, sha256, bytes.
        #[arg(long)]
        json: bool,
    },
    /// Verify a bundle on this machine, with no server.
    ///
    /// Exit codes: 0 valid, 1 not valid, 2 usage, 3 the file can't be opened.
    Verify(VerifyArgs),
    /// Write the log as a folder of C2SP tlog-tiles; a folder from an earlier run is brought up to date.
    Tiles {
        #[command(flatten)]
        files: Files,
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// The bundle.
    #[arg(value_name = "BUNDLE.zip")]
    pub bundle: PathBuf,
    /// The appliance's public credential key. Take it, or its fingerprint, from somewhere else than the bundle.
    #[arg(long, value_name = "PUB.pem", required = true)]
    pub key: Vec<PathBuf>,
    /// The log's verifier key, or a file that holds one a line.
    #[arg(long, value_name = "VKEY", required = true)]
    pub log_key: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs an `audit` command.
pub fn run(command: &AuditCommand) -> u8 {
    match command {
        AuditCommand::Export {
            files,
            from,
            to,
            project,
            person,
            outcome,
            out,
            json,
        } => {
            let body = json!({
                "from": from, "to": to, "project": project, "person": person, "outcome": outcome,
            });
            match export(files, &body, out) {
                Ok(made) if *json => {
                    println!("{made}");
                    OK
                }
                Ok(made) => {
                    println!(
                        "{}: {} bytes, SHA-256 {}",
                        out.display(),
                        made["bytes"],
                        made["sha256"].as_str().unwrap_or_default()
                    );
                    OK
                }
                Err(failure) => fail(failure.code, &failure.message),
            }
        }
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Tiles { files, out } => match tiles(files, out) {
            Ok(size) => {
                println!("{}: {size} entries", out.display());
                OK
            }
            Err(failure) => fail(failure.code, &failure.message),
        },
    }
}

fn failed(message: impl Into<String>) -> Failure {
    Failure {
        code: FAILED,
        message: message.into(),
    }
}

fn export(files: &Files, body: &Value, out: &Path) -> Result<Value, Failure> {
    let cannot = |e: std::io::Error| failed(format!("{}: {e}", out.display()));
    // Made first, so that nobody waits for a bundle that then can't be kept; and never over something that is there.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .map_err(cannot)?;
    let made = fetched(files, body, BufWriter::new(file), out);
    if made.is_err() {
        let _ = std::fs::remove_file(out);
    }
    made
}

fn fetched(files: &Files, body: &Value, mut file: BufWriter<File>, out: &Path) -> Result<Value, Failure> {
    let cannot = |e: std::io::Error| failed(format!("{}: {e}", out.display()));
    let begun = call(files, Method::Post, "/local/audit/exports", Some(body))?;
    let path = format!(
        "/local/audit/exports/{}",
        begun["id"].as_str().unwrap_or_default()
    );
    let tell = std::io::stderr().is_terminal();
    let made = loop {
        let state = call(files, Method::Get, &path, None)?;
        match state["status"].as_str() {
            Some("done") => break state,
            Some("running") => {
                if tell {
                    let (done, total) = (
                        state["done"].as_u64().unwrap_or(0),
                        state["total"].as_u64().unwrap_or(1),
                    );
                    eprint!("\r{:3} %", done * 100 / total.max(1));
                }
                std::thread::sleep(POLL);
            }
            _ => {
                let reason = state["reason"].as_str().unwrap_or("the appliance gave no reason");
                return Err(failed(format!("the bundle was not made: {}", visible(reason))));
            }
        }
    };
    if tell {
        eprint!("\r      \r");
    }
    let mut bytes = 0;
    fetch(files, &format!("{path}/bundle"), u64::MAX, |piece| {
        bytes += piece.len() as u64;
        file.write_all(piece)
    })?;
    file.into_inner()
        .map_err(|e| cannot(e.into_error()))?
        .sync_all()
        .map_err(cannot)?;
    if made["bytes"] != json!(bytes) {
        return Err(failed(format!("the bundle broke off after {bytes} bytes")));
    }
    Ok(json!({ "id": made["id"], "sha256": made["sha256"], "bytes": made["bytes"] }))
}

fn verify(args: &VerifyArgs) -> u8 {
    match report(args) {
        Ok(report) => {
            let text = match args.json {
                true => json!(report).to_string() + "\n",
                false => told(&report),
            };
            // Whoever closed the pipe has stopped reading; the exit code still tells.
            let _ = std::io::stdout().write_all(text.as_bytes());
            if report.valid { VALID } else { NOT_VALID }
        }
        Err((code, message)) => {
            eprintln!("signedapproval audit verify: {message}");
            code
        }
    }
}

fn report(args: &VerifyArgs) -> Result<BundleReport, (u8, String)> {
    let mut keys = Vec::new();
    for path in &args.key {
        keys.push(public_key(path).map_err(|it| (USAGE, it))?);
    }
    let mut log_keys = Vec::new();
    for text in &args.log_key {
        log_keys.extend(verifier_keys(text).map_err(|it| (USAGE, it))?);
    }
    if keys.is_empty() || log_keys.is_empty() {
        return Err((USAGE, "a key and a log key are needed".into()));
    }
    let unreadable = |e: std::io::Error| (UNREADABLE, format!("{}: {e}", shown(&args.bundle)));
    let mut file = File::open(&args.bundle).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err((
            UNREADABLE,
            format!("{}: a folder, not a bundle", shown(&args.bundle)),
        ));
    }
    let trust = Trust {
        keys: &keys,
        log_keys: &log_keys,
    };
    bundle(&mut file, &trust).map_err(unreadable)
}

/// The report for people.
pub fn told(report: &BundleReport) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let word = if check.ok { "ok  " } else { "FAIL" };
        out.push_str(&format!("  {word}  {}: {}\n", check.name, check.detail));
    }
    for limit in &report.not_shown {
        out.push_str(&format!("  not proved  {limit}\n"));
    }
    if let Some(verdict) = &report.verdict {
        out.push_str(&format!("{verdict}\n"));
    }
    out.push_str(if report.valid { "valid\n" } else { "NOT VALID\n" });
    out
}

/// Brings a folder of tiles up to date: tiles first, the checkpoint last, as c2sp.org/tlog-tiles asks of a log.
fn tiles(files: &Files, out: &Path) -> Result<u64, Failure> {
    let note = whole(files, "/local/log/checkpoint", CHECKPOINT_BYTES_MAX)?;
    let size = Note::parse(&note)
        .ok()
        .and_then(|it| it.text().lines().nth(1)?.parse::<u64>().ok())
        .ok_or_else(|| failed("the appliance's checkpoint can't be read"))?;
    for tile in Tile::of_tree(size) {
        let path = out.join(tile.to_string());
        if path.exists() {
            continue;
        }
        let content = whole(files, &format!("/local/log/{tile}"), TILE_BYTES_MAX)?;
        write(&path, &content)?;
    }
    write(&out.join("checkpoint"), &note)?;
    Ok(size)
}

fn whole(files: &Files, path: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    fetch(files, path, bytes_max, |piece| {
        content.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(content)
}

/// Writes a file whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| failed(format!("{}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    let half = path.with_extension("partial");
    std::fs::write(&half, content).map_err(cannot)?;
    std::fs::rename(&half, path).map_err(cannot)
}
