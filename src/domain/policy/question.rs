//! A question that somebody asks of a policy, without a change or a deployment behind it: read strictly, and answered by
//! the same engine as the gate. The simulator, the command line, the pages and the test vectors ask this way.

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::domain::policy::document::Document;
use crate::domain::policy::evaluate::{Asked, ControlFiles, Evaluation, ProjectDefaults, Question, evaluate};
use crate::domain::policy::glob::NamePattern;
use crate::domain::text::{shortened, visible};
use base64::Engine as _;
use serde::Deserialize;

/// Most files of a question.
pub const FILES_MAX: usize = 10_000;
/// Longest path, in bytes: what Linux takes.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Longest branch, environment or project, in characters.
const NAME_CHARS_MAX: usize = 255;
/// Most branch patterns.
const PATTERNS_MAX: usize = 100;
/// Most characters of a question that a refusal repeats.
const ECHO_CHARS_MAX: usize = 300;
/// An ordinary file.
const REGULAR: FileMode = FileMode::Known(0o100_644);

/// What is wrong with a question, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadQuestion {
    /// As `change.files[2].status`.
    pub field: String,
    /// A sentence part for people.
    pub reason: String,
}

impl BadQuestion {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        BadQuestion {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// A change or a deployment that need not exist.
#[derive(Clone, Debug)]
pub struct Hypothesis {
    /// A full ref for a change; `None` for a deployment or an action.
    branch: Option<String>,
    environment: Option<String>,
    project: Option<String>,
    branch_patterns: Option<Vec<NamePattern>>,
    files: FileList,
    ttl_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    branch: Option<String>,
    /// `null` stands for an action without an environment.
    #[serde(default, deserialize_with = "told")]
    environment: Option<Option<String>>,
    project: Option<String>,
    branch_patterns: Option<Vec<String>>,
    complete: Option<bool>,
    files: Option<Vec<FileForm>>,
    paths: Option<Vec<String>>,
    ttl_seconds: Option<u64>,
}

/// A reader's words, which repeat what they stumbled over.
fn echoed(words: &str) -> String {
    visible(&shortened(words, ECHO_CHARS_MAX))
}

/// Tells a member that is null from one that is absent.
fn told<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    status: String,
    old_path: Option<String>,
    new_path: Option<String>,
    old_path_b64: Option<String>,
    new_path_b64: Option<String>,
    old_mode: Option<String>,
    new_mode: Option<String>,
}

impl Hypothesis {
    /// Reads the `change` of the simulator.
    ///
    /// # Errors
    /// Names the field and the reason.
    pub fn parse(json: &[u8]) -> Result<Self, BadQuestion> {
        let form: Form =
            serde_json::from_slice(json).map_err(|e| BadQuestion::new("change", echoed(&e.to_string())))?;
        if form.environment.is_some() {
            let idle = [
                ("branch", form.branch.is_some()),
                ("branch_patterns", form.branch_patterns.is_some()),
                ("complete", form.complete.is_some()),
                ("files", form.files.is_some()),
                ("paths", form.paths.is_some()),
            ];
            if let Some((field, _)) = idle.into_iter().find(|(_, there)| *there) {
                let reason = "does not go with `environment`: deployments have neither branch nor files";
                return Err(BadQuestion::new(format!("change.{field}"), reason));
            }
        } else if form.ttl_seconds.is_some() {
            let reason = "goes with `environment` only: a change has no time limit of its own";
            return Err(BadQuestion::new("change.ttl_seconds", reason));
        }
        let files = match (form.files, form.paths) {
            (Some(_), Some(_)) => {
                let reason = "is short for ordinary files; give either `paths` or `files`";
                return Err(BadQuestion::new("change.paths", reason));
            }
            (Some(files), None) => files
                .into_iter()
                .enumerate()
                .map(|(at, it)| file(at, it))
                .collect::<Result<_, _>>()?,
            (None, Some(paths)) => {
                let paths = paths.into_iter().enumerate();
                paths
                    .map(|(at, it)| modified(&format!("change.paths[{at}]"), it))
                    .collect::<Result<_, _>>()?
            }
            (None, None) => Vec::new(),
        };
        let complete = form.complete.unwrap_or(true);
        let list = FileList {
            files,
            incomplete: (!complete).then(|| "the question says so".to_owned()),
        };
        let patterns = form
            .branch_patterns
            .map(|list| branch_patterns(&list))
            .transpose()?;
        if form.branch.is_none() && form.environment.is_none() {
            return Err(BadQuestion::new(
                "change.branch",
                "is missing; or give `environment`",
            ));
        }
        Hypothesis {
            branch: None,
            environment: form.environment.flatten(),
            project: form.project,
            branch_patterns: patterns,
            files: list,
            ttl_seconds: form.ttl_seconds,
        }
        .with_branch(form.branch)
        .checked()
    }

    /// A change of ordinary files to a branch.
    ///
    /// # Errors
    /// As [`Hypothesis::parse`].
    pub fn of_paths(branch: &str, project: Option<&str>, paths: &[String]) -> Result<Self, BadQuestion> {
        let files = paths.iter().enumerate();
        let files = files.map(|(at, it)| modified(&format!("paths[{at}]"), it.clone()));
        Hypothesis {
            branch: None,
            environment: None,
            project: project.map(str::to_owned),
            branch_patterns: None,
            files: FileList {
                files: files.collect::<Result<_, _>>()?,
                incomplete: None,
            },
            ttl_seconds: None,
        }
        .with_branch(Some(branch.to_owned()))
        .checked()
    }

    /// A deployment.
    ///
    /// # Errors
    /// As [`Hypothesis::parse`].
    pub fn of_environment(environment: &str, project: Option<&str>) -> Result<Self, BadQuestion> {
        Hypothesis {
            branch: None,
            environment: Some(environment.to_owned()),
            project: project.map(str::to_owned),
            branch_patterns: None,
            files: FileList {
                files: Vec::new(),
                incomplete: None,
            },
            ttl_seconds: None,
        }
        .checked()
    }

    fn with_branch(mut self, branch: Option<String>) -> Self {
        self.branch = branch.map(|it| match it.starts_with("refs/") {
            true => it,
            false => format!("refs/heads/{it}"),
        });
        self
    }

    fn checked(self) -> Result<Self, BadQuestion> {
        if self.files.files.len() > FILES_MAX {
            return Err(BadQuestion::new(
                "change.files",
                format!("holds more than {FILES_MAX} files"),
            ));
        }
        for (field, text) in [
            ("branch", &self.branch),
            ("environment", &self.environment),
            ("project", &self.project),
        ] {
            let Some(text) = text else { continue };
            let name = text.strip_prefix("refs/heads/").unwrap_or(text);
            if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
                let reason = format!("must have 1 to {NAME_CHARS_MAX} characters");
                return Err(BadQuestion::new(format!("change.{field}"), reason));
            }
        }
        Ok(self)
    }

    /// The project it is about, as `project` patterns match it.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The engine's answer.
    pub fn judged_by(
        &self,
        policy: Option<&Document>,
        defaults: &ProjectDefaults,
        control_files: &ControlFiles,
    ) -> Evaluation {
        let asked = match (&self.branch, &self.environment) {
            (Some(branch), _) => Asked::Change {
                branch,
                project: self.project(),
                files: &self.files,
                branch_patterns: self.branch_patterns.as_deref(),
            },
            (None, environment) => Asked::Action {
                environment: environment.as_deref(),
                project: self.project(),
                ttl_seconds: self.ttl_seconds,
            },
        };
        evaluate(&Question {
            policy,
            defaults,
            control_files,
            asked,
        })
    }
}

fn branch_patterns(list: &[String]) -> Result<Vec<NamePattern>, BadQuestion> {
    if list.len() > PATTERNS_MAX {
        let reason = format!("holds more than {PATTERNS_MAX} patterns");
        return Err(BadQuestion::new("change.branch_patterns", reason));
    }
    let each = list.iter().enumerate();
    each.map(|(at, it)| {
        NamePattern::new(it)
            .map_err(|bad| BadQuestion::new(format!("change.branch_patterns[{at}]"), format!("it {bad}")))
    })
    .collect()
}

fn modified(field: &str, path: String) -> Result<FileChange, BadQuestion> {
    let path = checked_path(field, path.into_bytes())?;
    Ok(FileChange {
        status: FileStatus::Modified,
        old_path: Some(path.clone()),
        new_path: Some(path),
        old_mode: REGULAR,
        new_mode: REGULAR,
        lines: None,
    })
}

fn checked_path(field: &str, path: Vec<u8>) -> Result<RepoPath, BadQuestion> {
    match path.len() {
        1..=PATH_BYTES_MAX => Ok(RepoPath(path)),
        _ => Err(BadQuestion::new(
            field,
            format!("must have 1 to {PATH_BYTES_MAX} bytes"),
        )),
    }
}

fn file(at: usize, it: FileForm) -> Result<FileChange, BadQuestion> {
    let field = |name: &str| format!("change.files[{at}].{name}");
    let status = match it.status.as_str() {
        "added" => FileStatus::Added,
        "modified" => FileStatus::Modified,
        "deleted" => FileStatus::Deleted,
        "renamed" => FileStatus::Renamed,
        "copied" => FileStatus::Copied,
        "type_changed" => FileStatus::TypeChanged,
        _ => {
            let reason = "must be added, modified, deleted, renamed, copied or type_changed";
            return Err(BadQuestion::new(field("status"), reason));
        }
    };
    let path = |name: &str, text: Option<String>, coded: Option<String>| match (text, coded) {
        (Some(_), Some(_)) => Err(BadQuestion::new(
            field(name),
            "stands twice, as text and as base64",
        )),
        (Some(text), None) => checked_path(&field(name), text.into_bytes()).map(Some),
        (None, Some(coded)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(coded);
            let bytes = bytes.map_err(|_| {
                BadQuestion::new(field(&format!("{name}_b64")), "must be base64 with padding")
            })?;
            checked_path(&field(name), bytes).map(Some)
        }
        (None, None) => Ok(None),
    };
    let mode = |name: &str, text: Option<String>| match text {
        None => Ok(FileMode::UNKNOWN),
        Some(text) if text.len() == 6 && text.bytes().all(|b| (b'0'..=b'7').contains(&b)) => {
            u32::from_str_radix(&text, 8)
                .map(FileMode::Known)
                .map_err(|_| BadQuestion::new(field(name), "must be six octal digits"))
        }
        Some(_) => Err(BadQuestion::new(
            field(name),
            "must be six octal digits, as \"100644\"",
        )),
    };
    Ok(FileChange {
        status,
        old_path: path("old_path", it.old_path, it.old_path_b64)?,
        new_path: path("new_path", it.new_path, it.new_path_b64)?,
        old_mode: mode("old_mode", it.old_mode)?,
        new_mode: mode("new_mode", it.new_mode)?,
        lines: None,
    })
}
