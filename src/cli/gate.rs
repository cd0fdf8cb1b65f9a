//! `signedapproval gate`: what a pipeline runs before it deploys. It asks for an approval, waits, verifies the proof with
//! the key it was given, and only then ends with 0. It believes the server nothing that it can't check itself.

mod ask;
mod ci;
mod proof;
mod server;
#[cfg(test)]
mod tests;

use crate::cli::pinned;
use crate::domain::attention::code_of;
use crate::evidence::dsse::PublicKey;
use crate::tlog::VerifierKey;
use ask::Asked;
use ci::Ci;
use proof::Proven;
use serde_json::{Value, json};
use server::{Failure, Server};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Approved and the proof verified, or skipped by a rule.
const APPROVED: u8 = 0;
const REJECTED: u8 = 1;
const USAGE: u8 = 2;
const EXPIRED: u8 = 3;
/// Cancelled or superseded; also when the gate itself was told to stop.
const CANCELLED: u8 = 4;
const NOT_AUTHORISED: u8 = 5;
const UNREACHABLE: u8 = 6;
const NOT_PROVEN: u8 = 7;

/// Between two lines while it waits, so that no CI system takes the job for dead.
const HEARTBEAT: Duration = Duration::from_secs(45);
/// A request is over this long after its own end, whatever the server says.
const GRACE: Duration = Duration::from_secs(60);
/// Cancelling may not hold up a job that is being stopped.
const CANCEL_MAX: Duration = Duration::from_secs(5);

/// Ask for an approval and wait for it; go on only with a verified proof.
///
/// Settings come from the environment: SIGNEDAPPROVAL_URL, SIGNEDAPPROVAL_API_KEY, and SIGNEDAPPROVAL_TRUSTED_KEY (a file
/// or the PEM text itself). In GitLab CI, GitHub Actions, Bitbucket Pipelines and Jenkins commit, project and
/// environment are known.
///
/// Exit codes: 0 approved and the proof verified, or skipped by a rule; 1 rejected; 2 usage or settings; 3 expired;
/// 4 cancelled or superseded; 5 not authorised; 6 server unreachable; 7 the proof does not verify.
#[derive(Clone, Debug, clap::Args)]
pub struct GateArgs {
    /// What is to be approved, as the approver reads it.
    #[arg(long, value_name = "TEXT")]
    action: String,
    /// Full commit id; by default the CI's.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// Environment that is deployed to; by default the CI's.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// Project; by default the CI's path of the repository. `--project ""` names none.
    #[arg(long, value_name = "PATH")]
    project: Option<String>,
    /// Seconds to wait at the most, 1 to 86400; a policy may shorten it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    ttl: Option<u32>,
    /// Where to write the receipt: all proofs in one file, for `signedapproval verify`.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The appliance's public credential key, pinned; may be repeated.
    #[arg(long, value_name = "PUB.pem")]
    trusted_key: Vec<PathBuf>,
    /// The log's verifier key, pinned, or a file with one a line: then the log must hold every decision.
    #[arg(long, value_name = "VKEY")]
    log_key: Vec<String>,
    /// Address of the appliance.
    #[arg(long, value_name = "URL", env = "SIGNEDAPPROVAL_URL")]
    server: Option<String>,
    /// Certificates of a private authority that issued the appliance's own.
    #[arg(long, value_name = "CA.pem", env = "SIGNEDAPPROVAL_CA")]
    ca: Option<PathBuf>,
    /// Seconds the server may be away in a row before the gate gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    patience: u64,
    /// Print one JSON object at the end instead of lines for people (those go to stderr).
    #[arg(long)]
    json: bool,
}

/// Runs the gate and answers with its exit code.
pub fn run(args: &GateArgs) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::cli::fail(USAGE, &error),
    };
    let say = Say { json: args.json };
    let prepared = Prepared::from(args, &|name| std::env::var(name).ok());
    let mut prepared = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => return say.end(End::new(USAGE, "usage", reason), None, None),
    };
    prepared.ci.report_to = std::env::var_os("GITHUB_OUTPUT").filter(|_| prepared.ci.name == "github");
    runtime.block_on(async {
        let asked = tokio::select! {
            it = prepared.ask(&say) => it,
            () = stopped() => Err(End::new(CANCELLED, "cancelled", "Told to stop before anything was asked for certain.")),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(end) => return say.end(end, None, None),
        };
        let end = tokio::select! {
            it = prepared.wait_and_prove(&asked, &say) => it,
            () = stopped() => prepared.cancel(&asked).await,
        };
        prepared.report(&asked, &end);
        say.end(end, Some(&asked), prepared.receipt.as_deref())
    })
}

/// How it ended.
#[derive(Debug)]
struct End {
    code: u8,
    /// One word for programs.
    word: &'static str,
    /// One sentence for people.
    sentence: String,
}

impl End {
    fn new(code: u8, word: &'static str, sentence: impl Into<String>) -> End {
        End {
            code,
            word,
            sentence: sentence.into(),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        match failure {
            Failure::NotAuthorised(reason) => End::new(NOT_AUTHORISED, "not_authorised", reason),
            Failure::Refused(reason) => End::new(USAGE, "usage", reason),
            Failure::Unreachable(reason) => End::new(UNREACHABLE, "unreachable", reason),
        }
    }
}

/// Lines for people, on stdout or, with `--json`, on stderr.
struct Say {
    json: bool,
}

impl Say {
    fn line(&self, text: &str) {
        // Whoever closed the pipe has stopped reading; the exit code still tells.
        let _ = match self.json {
            true => writeln!(std::io::stderr(), "{text}"),
            false => {
                let mut out = std::io::stdout();
                writeln!(out, "{text}").and_then(|()| out.flush())
            }
        };
    }

    /// Says how it ended, and answers with the exit code.
    fn end(&self, end: End, asked: Option<&Asked>, receipt: Option<&std::path::Path>) -> u8 {
        let sentence = crate::domain::text::visible(&end.sentence);
        if self.json {
            let summary = json!({
                "outcome": end.word,
                "exit_code": end.code,
                "id": asked.map(|it| it.id.as_str()),
                "url": asked.map(|it| it.url.as_str()),
                "receipt": receipt.filter(|_| end.code == APPROVED).map(|it| it.display().to_string()),
                "detail": sentence,
            });
            let _ = writeln!(std::io::stdout(), "{summary}");
        }
        if end.code == APPROVED {
            self.line(&sentence);
        } else {
            let _ = writeln!(std::io::stderr(), "signedapproval gate: {sentence}");
        }
        end.code
    }
}

/// Everything that is settled before the first call.
struct Prepared {
    server: Server,
    keys: Vec<PublicKey>,
    log_keys: Vec<VerifierKey>,
    ci: Ci,
    action: String,
    commit: Option<String>,
    environment: Option<String>,
    project: Option<String>,
    ttl: Option<u32>,
    receipt: Option<PathBuf>,
}

impl Prepared {
    fn from(args: &GateArgs, environment: &dyn Fn(&str) -> Option<String>) -> Result<Prepared, String> {
        let given = |text: &Option<String>| text.clone().filter(|it| !it.is_empty());
        let ci = Ci::detect(environment);
        let commit = match given(&args.commit).or_else(|| ci.commit.clone()) {
            Some(text) if is_commit(&text) => Some(text.to_ascii_lowercase()),
            Some(text) => {
                return Err(format!(
                    "`{text}` is not a full commit id (40 or 64 hex digits); give one with --commit"
                ));
            }
            None => None,
        };
        let project = match &args.project {
            Some(text) => Some(text.clone()).filter(|it| !it.is_empty()),
            None => ci.project.clone(),
        };
        let mut keys = Vec::new();
        for path in &args.trusted_key {
            keys.push(pinned::public_key(path)?);
        }
        if keys.is_empty()
            && let Some(text) = environment("SIGNEDAPPROVAL_TRUSTED_KEY").filter(|it| !it.trim().is_empty())
        {
            keys.extend(pinned::public_keys_in(&text)?);
        }
        if keys.is_empty() {
            return Err(
                "no key to trust: give the appliance's public credential key with --trusted-key or \
                        SIGNEDAPPROVAL_TRUSTED_KEY. Take it once, over a channel you trust, from \
                        /.well-known/signedapproval/credential.pem or `signedapproval keys show`"
                    .into(),
            );
        }
        let mut log_keys = Vec::new();
        for text in &args.log_key {
            log_keys.extend(pinned::verifier_keys(text)?);
        }
        if let Some(path) = &args.receipt {
            // Better before people are asked than after.
            pinned::writable(path)?;
        }
        let key = environment("SIGNEDAPPROVAL_API_KEY").filter(|it| !it.trim().is_empty());
        let key = key.ok_or("set SIGNEDAPPROVAL_API_KEY to a key with the scope request")?;
        let server = given(&args.server).ok_or("name the appliance with --server or SIGNEDAPPROVAL_URL")?;
        let ca = match &args.ca {
            Some(path) => {
                Some(std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?)
            }
            None => None,
        };
        Ok(Prepared {
            server: Server::new(&server, &key, ca.as_deref(), Duration::from_secs(args.patience))?,
            keys,
            log_keys,
            action: args.action.clone(),
            commit,
            environment: given(&args.environment).or_else(|| ci.environment.clone()),
            project,
            ttl: args.ttl,
            receipt: args.receipt.clone(),
            ci,
        })
    }

    /// Opens the request and tells where it can be decided.
    async fn ask(&self, say: &Say) -> Result<Asked, End> {
        let what = self
            .commit
            .as_ref()
            .map_or_else(String::new, |it| format!(" of commit {it}"));
        say.line(&format!(
            "Asking {} to approve \"{}\"{what}{}{}",
            self.server.shown(),
            self.action,
            self.environment
                .as_ref()
                .map_or_else(String::new, |it| format!(" for environment {it}")),
            self.project
                .as_ref()
                .map_or_else(String::new, |it| format!(" of project {it}")),
        ));
        if self.commit.is_none() {
            say.line(
                "No commit is known here: the approval will cover the action alone. Give one with --commit.",
            );
        }
        let asked = Asked::open(self).await?;
        say.line(&format!("Decide it at {}", asked.url));
        say.line(&format!(
            "Match code {}: the approver's page shows the same, or asks for it.",
            code_of(&asked.id).code
        ));
        if let Some(until) = &asked.expires_at {
            say.line(&format!("It waits until {until}."));
        }
        Ok(asked)
    }

    /// Waits for the outcome, and proves an approval.
    async fn wait_and_prove(&self, asked: &Asked, say: &Say) -> End {
        match self.wait(asked, say).await {
            Ok(status) if status == "approved" || status == "skipped" => {
                match proof::prove(self, asked).await {
                    Ok(Proven { verdict, skipped }) => {
                        if skipped {
                            say.line(
                                "A rule of the policy asks for nobody here: this is a skip, not an approval.",
                            );
                        }
                        End::new(APPROVED, if skipped { "skipped" } else { "approved" }, verdict)
                    }
                    Err(end) => end,
                }
            }
            Ok(status) => match status.as_str() {
                "rejected" => End::new(REJECTED, "rejected", "Rejected by an approver."),
                "expired" => End::new(EXPIRED, "expired", "Nobody approved it in time."),
                "superseded" => End::new(CANCELLED, "superseded", "Another request took its place."),
                "cancelled" => End::new(CANCELLED, "cancelled", "The request was cancelled."),
                other => End::new(
                    NOT_PROVEN,
                    "not_proven",
                    format!("The server gave a status that means nothing here: `{other}`."),
                ),
            },
            Err(end) => end,
        }
    }

    /// Long polls until there is an outcome; a line a minute.
    async fn wait(&self, asked: &Asked, say: &Say) -> Result<String, End> {
        let started = Instant::now();
        let mut said = Instant::now();
        let mut progress = String::new();
        if asked.status != "pending" {
            return Ok(asked.status.clone());
        }
        loop {
            let shown = self.server.look(&asked.id, true).await?;
            let status = shown["status"].as_str().unwrap_or_default().to_owned();
            if status != "pending" {
                return Ok(status);
            }
            // The server's clock told the end; how long that is from now was measured when it was asked.
            if asked.lifetime.is_some_and(|it| started.elapsed() > it + GRACE) {
                let _ = tokio::time::timeout(CANCEL_MAX, self.server.cancel(&asked.id)).await;
                return Err(End::new(
                    EXPIRED,
                    "expired",
                    "Its time has passed, and the server still calls it pending: given up.",
                ));
            }
            let now = standing(&shown);
            if now != progress || said.elapsed() >= HEARTBEAT {
                say.line(&format!("Waiting for {}: {now}", spell(started.elapsed())));
                (said, progress) = (Instant::now(), now);
            }
        }
    }

    /// Takes the request back, since nobody waits for it any more.
    async fn cancel(&self, asked: &Asked) -> End {
        let cancelled = tokio::time::timeout(CANCEL_MAX, self.server.cancel(&asked.id)).await;
        let sentence = match cancelled {
            Ok(Ok(())) => "Told to stop: the request was cancelled.".to_owned(),
            Ok(Err(failure)) => format!(
                "Told to stop; the request could not be cancelled: {}",
                End::from(failure).sentence
            ),
            Err(_) => "Told to stop; the server did not answer in time to cancel the request.".to_owned(),
        };
        End::new(CANCELLED, "cancelled", sentence)
    }

    /// Tells later steps of a GitHub job how it went.
    fn report(&self, asked: &Asked, end: &End) {
        let Some(path) = &self.ci.report_to else { return };
        let receipt = self.receipt.as_ref().filter(|_| end.code == APPROVED);
        let lines = format!(
            "approval-id={}\napproval-url={}\noutcome={}\nreceipt={}\n",
            asked.id,
            asked.url,
            end.word,
            receipt.map_or_else(String::new, |it| it.display().to_string()),
        );
        let written = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(lines.as_bytes()));
        if let Err(error) = written {
            let _ = writeln!(
                std::io::stderr(),
                "signedapproval gate: the step's outputs: {error}"
            );
        }
    }
}

/// Where the request stands, in a few words.
fn standing(shown: &Value) -> String {
    let count = |it: &Value, name: &str| it[name].as_u64().unwrap_or(0);
    let obligations: Vec<String> = shown["obligations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| {
            format!(
                "{} of {} for rule {}",
                count(it, "approved"),
                count(it, "quorum"),
                crate::domain::text::visible(it["rule"].as_str().unwrap_or("?"))
            )
        })
        .collect();
    match obligations.is_empty() {
        true => "nobody has approved it yet".to_owned(),
        false => format!("approved by {}", obligations.join(", ")),
    }
}

fn spell(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Ends when the CI system, or somebody at a terminal, tells the gate to stop.
async fn stopped() {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hang_up.recv() => {}
    }
}
