//! `signedapproval verify`: checks credentials, outcomes, events and proofs on this machine, with no server.
//! It reads the files it is given and the keys it is told to trust, and nothing else.

mod spent;

use crate::cli::pinned::{self, shown};
use crate::clock::{Clock, SystemClock};
use crate::domain::text::visible;
use crate::domain::time::Time;
use crate::evidence::bundle::verify::bundle;
use crate::evidence::dsse::PublicKey;
use crate::evidence::keys;
use crate::evidence::outcome::Outcome;
use crate::evidence::receipt::{RECEIPT_TYPE, Receipt};
use crate::evidence::verify;
use crate::evidence::verify::{Body, Check, Expect, Journal, Report, Trust, Verified};
use crate::tlog::VerifierKey;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Everything verified.
pub const VALID: u8 = 0;
/// Something did not verify, damaged content included.
pub const NOT_VALID: u8 = 1;
/// The arguments make no sense.
pub const USAGE: u8 = 2;
/// A file can't be opened.
pub const UNREADABLE: u8 = 3;

/// No file that is verified here is longer, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Verify approval credentials and outcomes offline.
///
/// Exit codes: 0 valid, 1 not valid, 2 usage, 3 a file can't be opened.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Credentials and outcomes (.dsse.json), their events (.event.json) and proofs (.tlog-proof), which belong together
    /// when they share a base name; receipts of `signedapproval gate`; and audit bundles (.zip).
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// The appliance's public credential key. Take it, or its fingerprint, from somewhere else than the files.
    #[arg(long, value_name = "PUB.pem", required = true)]
    pub key: Vec<PathBuf>,

    /// The appliance's key history (`keys.json`, or a bundle's `keys/history.json`): each key then counts for its own part
    /// of the journal alone.
    #[arg(long, value_name = "KEYS.json")]
    pub key_history: Option<PathBuf>,

    /// A statement by which a trusted key introduced the next one. Needs the history.
    #[arg(long, value_name = "FILE", requires = "key_history")]
    pub introduction: Vec<PathBuf>,

    /// The log's verifier key, or a file that holds one a line. Needed to check a proof.
    #[arg(long, value_name = "VKEY")]
    pub log_key: Vec<String>,

    /// The full commit id that every document must be about.
    #[arg(long, value_name = "SHA")]
    pub commit: Option<String>,

    /// The environment that every document must be about.
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,

    /// The project, by its path, that every document must be about.
    #[arg(long, value_name = "PATH")]
    pub project: Option<String>,

    /// The action's exact text that every document must be about.
    #[arg(long, value_name = "TEXT")]
    pub action: Option<String>,

    /// `now` or an RFC 3339 time at which every outcome must still be good.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,

    /// A directory that remembers what was used: an approval that stands in it is not valid, and one that is valid is
    /// put there.
    #[arg(long, value_name = "DIR")]
    pub spent: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Verifies, prints, and answers with the exit code.
pub fn run(args: &VerifyArgs) -> u8 {
    let (code, text) = answer(args);
    // Whoever closed the pipe has stopped reading; the exit code still tells.
    let _ = match code {
        VALID | NOT_VALID => std::io::stdout().write_all(text.as_bytes()),
        _ => std::io::stderr().write_all(text.as_bytes()),
    };
    code
}

/// The exit code and what is to be printed.
fn answer(args: &VerifyArgs) -> (u8, String) {
    match verdict(args) {
        Ok(findings) => {
            let text = if args.json {
                findings.json()
            } else {
                findings.text()
            };
            (if findings.valid { VALID } else { NOT_VALID }, text)
        }
        Err(stop) => (stop.code, format!("signedapproval verify: {}\n", stop.message)),
    }
}

/// Why nothing was verified.
#[derive(Debug)]
struct Stop {
    code: u8,
    message: String,
}

impl Stop {
    fn usage(message: impl Into<String>) -> Self {
        Stop {
            code: USAGE,
            message: message.into(),
        }
    }
}

/// Files that share a base name.
#[derive(Default)]
struct Group {
    dsse: Option<(PathBuf, Vec<u8>)>,
    event: Option<(PathBuf, Vec<u8>)>,
    proof: Option<(PathBuf, Vec<u8>)>,
    receipt: Option<(PathBuf, Vec<u8>)>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    #[serde(flatten)]
    report: Report,
}

/// What is printed.
#[derive(Serialize)]
struct Findings {
    valid: bool,
    files: Vec<FileReport>,
    /// What outcomes and credentials say of each other.
    checks: Vec<Check>,
}

fn verdict(args: &VerifyArgs) -> Result<Findings, Stop> {
    let (bundles, files): (Vec<PathBuf>, Vec<PathBuf>) = args
        .files
        .iter()
        .cloned()
        .partition(|it| it.extension().is_some_and(|it| it == "zip"));
    let groups = groups(&files)?;
    let keys = args
        .key
        .iter()
        .map(|it| public_key(it))
        .collect::<Result<Vec<_>, _>>()?;
    let keys = match &args.key_history {
        None => keys,
        Some(path) => believed(&keys, path, &args.introduction)?,
    };
    let mut log_keys = Vec::new();
    for text in &args.log_key {
        log_keys.extend(pinned_log_keys(text)?);
    }
    if log_keys.is_empty() && groups.values().any(|it| it.proof.is_some()) {
        return Err(Stop::usage("a .tlog-proof can't be checked without --log-key"));
    }
    if log_keys.is_empty() && !bundles.is_empty() {
        return Err(Stop::usage("a bundle can't be checked without --log-key"));
    }
    let trust = Trust {
        keys: &keys,
        log_keys: &log_keys,
    };
    let at = match args.at.as_deref() {
        None => None,
        Some("now") => Some(SystemClock.now()),
        Some(text) => {
            Some(Time::parse(text).ok_or_else(|| Stop::usage("--at takes `now` or an RFC 3339 time"))?)
        }
    };
    let expect = Expect {
        commit: args.commit.as_deref(),
        action: args.action.as_deref(),
        at,
        environment: args.environment.as_deref(),
        project: args.project.as_deref(),
        ..Expect::default()
    };
    let mut files = Vec::new();
    let mut verified = Vec::new();
    for group in groups.values() {
        let (path, report, document) = group.verify(&trust, &expect)?;
        files.push(FileReport {
            file: shown(path),
            report,
        });
        verified.extend(document);
    }
    for path in &bundles {
        files.push(FileReport {
            file: shown(path),
            report: bundle_report(path, &trust)?,
        });
    }
    let mut checks = across(&verified);
    let mut valid = files.iter().all(|it| it.report.valid) && checks.iter().all(|it| it.ok);
    if let Some(directory) = args.spent.as_deref().filter(|_| valid) {
        let unused = spent::spend(directory, &usable(&groups, &verified)).map_err(|message| Stop {
            code: UNREADABLE,
            message,
        })?;
        valid = unused.ok;
        checks.push(unused);
    }
    Ok(Findings { valid, files, checks })
}

impl Group {
    fn verify(
        &self,
        trust: &Trust<'_>,
        expect: &Expect<'_>,
    ) -> Result<(&Path, Report, Option<Verified>), Stop> {
        if let Some((path, bytes)) = &self.receipt {
            return Ok((path, verify::receipt(bytes, trust, expect), None));
        }
        let proof = self.proof.as_ref().map(|(_, bytes)| bytes.as_slice());
        match (&self.dsse, &self.event) {
            (Some((path, file)), event) => {
                if event.is_none() && proof.is_some() {
                    return Err(Stop::usage(format!(
                        "{}: its proof needs its .event.json too",
                        shown(path)
                    )));
                }
                let journal = event.as_ref().map(|(_, event)| Journal { event, proof });
                let (report, document) = verify::document(file, trust, expect, journal.as_ref());
                Ok((path, report, document))
            }
            (None, Some((path, event))) => match proof {
                Some(proof) => Ok((path, verify::event(event, proof, trust), None)),
                None => Err(Stop::usage(format!(
                    "{}: an event without its proof shows nothing",
                    shown(path)
                ))),
            },
            (None, None) => Err(Stop::usage("a proof needs the .event.json of the same base name")),
        }
    }
}

/// The requests that outcomes and receipts are about.
fn usable(groups: &BTreeMap<PathBuf, Group>, verified: &[Verified]) -> Vec<String> {
    let outcomes = verified.iter().filter(|it| {
        matches!(&it.body, Body::Outcome { outcome, .. }
            if matches!(outcome.outcome, Outcome::Approved | Outcome::Skipped))
    });
    let receipts = groups.values().filter_map(|it| {
        let (_, bytes) = it.receipt.as_ref()?;
        Some(Receipt::parse(bytes).ok()?.request.to_string())
    });
    let all: BTreeSet<String> = outcomes
        .map(|it| it.request().to_owned())
        .chain(receipts)
        .collect();
    all.into_iter().collect()
}

/// A whole bundle in the form of one file's report.
fn bundle_report(path: &Path, trust: &Trust<'_>) -> Result<Report, Stop> {
    let cannot = |e: std::io::Error| Stop {
        code: UNREADABLE,
        message: format!("{}: {e}", shown(path)),
    };
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    let report = bundle(&mut file, trust).map_err(cannot)?;
    Ok(Report {
        valid: report.valid,
        checks: report.checks,
        not_shown: report.not_shown,
        verdict: report.verdict,
    })
}

/// Each outcome against the credentials of its request that were given.
fn across(verified: &[Verified]) -> Vec<Check> {
    let mut checks = Vec::new();
    for outcome in verified
        .iter()
        .filter(|it| matches!(it.body, Body::Outcome { .. }))
    {
        let credentials: Vec<&Verified> = verified
            .iter()
            .filter(|it| matches!(it.body, Body::Credential { .. }) && it.request() == outcome.request())
            .collect();
        if !credentials.is_empty() {
            checks.extend(verify::together(outcome, &credentials, false));
        }
    }
    checks
}

/// Reads the files and puts together those that share a base name.
fn groups(files: &[PathBuf]) -> Result<BTreeMap<PathBuf, Group>, Stop> {
    let mut groups: BTreeMap<PathBuf, Group> = BTreeMap::new();
    for path in files {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let ending = [".dsse.json", ".event.json", ".tlog-proof"]
            .into_iter()
            .find(|it| name.ends_with(it));
        let Some(ending) = ending else {
            let bytes = if name.ends_with(".json") {
                read(path)?
            } else {
                Vec::new()
            };
            if name.ends_with(".receipt.json") || bytes.starts_with(receipt_head().as_bytes()) {
                let group = groups.entry(path.clone()).or_default();
                group.receipt = Some((path.clone(), bytes));
                continue;
            }
            let message = "is none of .dsse.json, .event.json, .tlog-proof, and no receipt";
            return Err(Stop::usage(format!("{}: {message}", shown(path))));
        };
        let bytes = read(path)?;
        let group = groups
            .entry(path.with_file_name(&name[..name.len() - ending.len()]))
            .or_default();
        let place = match ending {
            ".dsse.json" => &mut group.dsse,
            ".event.json" => &mut group.event,
            _ => &mut group.proof,
        };
        *place = Some((path.clone(), bytes));
    }
    Ok(groups)
}

fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    let cannot = |e: std::io::Error| Stop {
        code: UNREADABLE,
        message: format!("{}: {e}", shown(path)),
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{}: larger than {FILE_BYTES_MAX} bytes", shown(path));
        return Err(Stop {
            code: NOT_VALID,
            message,
        });
    }
    Ok(bytes)
}

fn public_key(path: &Path) -> Result<PublicKey, Stop> {
    let bytes = read(path)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| Stop::usage(format!("{}: not PEM text", shown(path))))?;
    PublicKey::from_pem(text).map_err(|e| Stop::usage(format!("{}: {e}", shown(path))))
}

/// The trusted keys and those they introduced, each with its part of the journal.
fn believed(pinned: &[PublicKey], history: &Path, introductions: &[PathBuf]) -> Result<Vec<PublicKey>, Stop> {
    let not_valid = |path: &Path, why: String| Stop {
        code: NOT_VALID,
        message: format!("{}: {}", shown(path), visible(&why)),
    };
    let entries = keys::parse_history(&read(history)?).map_err(|e| not_valid(history, e.to_string()))?;
    let introductions = introductions
        .iter()
        .map(|it| read(it))
        .collect::<Result<Vec<_>, _>>()?;
    keys::believed(pinned, &entries, &introductions).map_err(|e| not_valid(history, e.to_string()))
}

/// `--log-key` is the key's own text, or the name of a file with one a line.
fn pinned_log_keys(text: &str) -> Result<Vec<VerifierKey>, Stop> {
    // A key's text always has a plus sign in it; what is neither a key nor a file is most likely a mistyped key.
    let path = Path::new(text);
    if VerifierKey::parse(text).is_err() {
        if text.contains('+') && !path.exists() {
            return Err(Stop::usage("--log-key is not a verifier key"));
        }
        read(path)?;
    }
    pinned::verifier_keys(text).map_err(Stop::usage)
}

/// How a receipt begins.
fn receipt_head() -> String {
    format!("{{\"v\":1,\"type\":\"{RECEIPT_TYPE}\"")
}

impl Findings {
    fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("texts and truths always serialise");
        text.push('\n');
        text
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for FileReport { file, report } in &self.files {
            let word = if report.valid { "valid" } else { "NOT VALID" };
            out.push_str(&format!("{file}: {word}\n"));
            if let Some(verdict) = &report.verdict {
                out.push_str(&format!("{verdict}\n"));
            }
            lines(&report.checks, &mut out);
            for limit in &report.not_shown {
                out.push_str(&format!("  not shown  {limit}\n"));
            }
        }
        if !self.checks.is_empty() {
            out.push_str("together:\n");
            lines(&self.checks, &mut out);
        }
        out.push_str(if self.valid { "valid\n" } else { "NOT VALID\n" });
        out
    }
}

fn lines(checks: &[Check], out: &mut String) {
    for check in checks {
        let word = if check.ok { "ok  " } else { "FAIL" };
        out.push_str(&format!("  {word}  {}: {}\n", check.name, check.detail));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
