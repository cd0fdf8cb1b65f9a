//! `signedapproval policy`: checks and explains a policy document on this machine, with no server.

use crate::cli::{FAILED, OK, USAGE};
use crate::domain::facts::RepoPath;
use crate::domain::policy::{
    ControlFiles, Document, Evaluation, Hypothesis, LintFacts, ParseError, ProjectDefaults, lint, words,
};
use crate::domain::text::English;
use crate::domain::text::visible;
use serde_json::json;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A file can't be opened.
const UNREADABLE: u8 = 3;
/// No file that is read here is longer, in bytes; the document's own limit is lower and says so.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Subcommands of `policy`.
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Check a policy document, and warn of what probably does not mean what it says.
    ///
    /// Exit codes: 0 valid, 1 not valid, 2 usage, 3 the file can't be opened.
    Check(CheckArgs),
    /// Explain what a policy makes of a change or a deployment, path by path.
    ///
    /// Exit codes: 0 explained, 1 the document is not valid, 2 usage, 3 a file can't be opened.
    Explain(ExplainArgs),
}

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The document; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Files of the repository, one a line, as `git ls-files` prints them; `-` for standard input. A warning about a glob
    /// without `/` then names those it would skip.
    #[arg(long, value_name = "FILE")]
    paths: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("asked").required(true).args(["branch", "environment", "change"]))]
pub struct ExplainArgs {
    /// The document; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Target branch of a change.
    #[arg(long, requires = "path")]
    branch: Option<String>,
    /// A path that the change modifies; may be given more than once.
    #[arg(long, value_name = "PATH", requires = "branch")]
    path: Vec<String>,
    /// Environment of a deployment.
    #[arg(long)]
    environment: Option<String>,
    /// A change as the simulator takes it: a file with `{"branch","complete","files":[…]}`.
    #[arg(long, value_name = "CHANGE.json")]
    change: Option<PathBuf>,
    /// The project's path on its forge, for rules that name projects.
    #[arg(long, conflicts_with = "change")]
    project: Option<String>,
    /// Print the simulator's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Why nothing was answered.
struct Stop {
    code: u8,
    message: String,
}

/// Runs the subcommand and answers with the exit code.
pub fn run(command: &PolicyCommand) -> u8 {
    let answer = match command {
        PolicyCommand::Check(args) => check(args),
        PolicyCommand::Explain(args) => explain(args),
    };
    match answer {
        Ok((code, text)) => {
            // Whoever closed the pipe has stopped reading; the exit code still tells.
            let _ = std::io::stdout().write_all(text.as_bytes());
            code
        }
        Err(stop) => {
            eprint!("{}", stop.message);
            stop.code
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    let told = |e: std::io::Error| Stop {
        code: UNREADABLE,
        message: format!("signedapproval policy: {}: {e}\n", path.display()),
    };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(told)?;
    } else {
        let file = std::fs::File::open(path).map_err(told)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(told)?;
    }
    Ok(bytes)
}

/// The errors of a document, one a line, as compilers print them.
fn errors(path: &Path, errors: &[ParseError]) -> String {
    let mut text = String::new();
    for it in errors {
        let key = match it.key.is_empty() {
            true => String::new(),
            false => format!("{}: ", it.key),
        };
        text += &format!("{}:{}: {key}{}\n", path.display(), it.line, it.reason);
    }
    text
}

fn check(args: &CheckArgs) -> Result<(u8, String), Stop> {
    let bytes = read(&args.file)?;
    let sample_paths = match &args.paths {
        Some(paths) if paths == Path::new("-") && args.file == Path::new("-") => {
            return Err(Stop {
                code: USAGE,
                message: "signedapproval policy check: standard input is one of the two files\n".to_owned(),
            });
        }
        Some(paths) => {
            let listed = read(paths)?;
            let lines = listed.split(|it| *it == b'\n').filter(|it| !it.is_empty());
            lines.map(|it| RepoPath(it.to_vec())).collect()
        }
        None => Vec::new(),
    };
    let (code, value, text) = match Document::parse(&bytes) {
        Err(found) => {
            let text = errors(&args.file, &found);
            (FAILED, json!({ "valid": false, "errors": found }), text)
        }
        Ok(document) => {
            let facts = LintFacts {
                sample_paths,
                ..LintFacts::default()
            };
            let warnings = lint(&document, &facts);
            let mut text = String::new();
            for it in &warnings {
                let rule = visible(&it.rule);
                text += &format!(
                    "{}:{}: warning: {rule}: {}\n",
                    args.file.display(),
                    it.line,
                    it.reason
                );
            }
            text += &format!(
                "{}: valid, {} rules, sha256 {}\n",
                args.file.display(),
                document.rules().len(),
                document.sha256()
            );
            let sha256 = document.sha256();
            (
                OK,
                json!({ "valid": true, "sha256": sha256, "warnings": warnings }),
                text,
            )
        }
    };
    Ok((code, if args.json { format!("{value:#}\n") } else { text }))
}

fn explain(args: &ExplainArgs) -> Result<(u8, String), Stop> {
    let usage = |message: String| Stop {
        code: USAGE,
        message: format!("signedapproval policy explain: {message}\n"),
    };
    let project = args.project.as_deref();
    let asked = match (&args.branch, &args.environment, &args.change) {
        (Some(branch), _, _) => Hypothesis::of_paths(branch, project, &args.path),
        (_, Some(environment), _) => Hypothesis::of_environment(environment, project),
        (_, _, Some(change)) => Hypothesis::parse(&read(change)?),
        (None, None, None) => return Err(usage("give --branch, --environment or --change".to_owned())),
    };
    let asked = asked.map_err(|e| usage(e.to_string()))?;
    let bytes = read(&args.file)?;
    let document = Document::parse(&bytes).map_err(|found| Stop {
        code: FAILED,
        message: errors(&args.file, &found),
    })?;
    let answer = asked.judged_by(
        Some(&document),
        &ProjectDefaults::default(),
        &ControlFiles::default(),
    );
    let text = match args.json {
        true => serde_json::to_string_pretty(&answer).expect("an evaluation has text keys only") + "\n",
        false => told(&answer),
    };
    Ok((OK, text))
}

fn told(it: &Evaluation) -> String {
    let mut text = format!("{}\n", words::judged(&English, it));
    for glass in &it.break_glass {
        text += &format!(
            "In an emergency: {} ({}).\n",
            words::obligation(&English, glass),
            words::rule_name(&English, &glass.rule)
        );
    }
    for reason in &it.reasons {
        text += &format!("{reason}\n");
    }
    if !it.trace.is_empty() {
        text += "\n";
    }
    for entry in &it.trace {
        let path = match entry.path.as_str() {
            "" => "the request as a whole",
            path => path,
        };
        let matched: Vec<String> = entry
            .matched
            .iter()
            .map(|it| words::rule_name(&English, it))
            .collect();
        let matched = match matched.is_empty() {
            true => "no rule".to_owned(),
            false => matched.join(", "),
        };
        text += &format!(
            "{path}\n  matches {matched}: {}\n",
            words::effect(&English, entry.effect)
        );
        if let Some(reason) = &entry.reason {
            text += &format!("  {reason}\n");
        }
    }
    text
}
