//! What exactly is approved, as bytes: the file digest of a change, and the subject of a change or of an action.
//! It never decides whether a list of files is whole; it writes down what it is told.

use crate::domain::facts::{FileList, FileMode, FileStatus, RepoPath};
use crate::domain::ids::Digest;
use crate::evidence::strict;
use crate::evidence::strict::{Object, Space, StrictError};
use serde::Serialize;

/// `files_sha256`: SHA-256 over one record a file, sorted bytewise by (new path, old path).
///
/// A record is `S SP old_mode SP new_mode SP LEN:old_path SP LEN:new_path LF`. `S` is one of `A M D R C T`; a mode is
/// six octal digits, `000000` where the file is absent on that side, `------` where the forge does not tell;
/// `LEN` is the decimal byte length, 0 where the path is absent; paths are raw bytes.
pub fn files_digest(list: &FileList) -> Digest {
    let mut files: Vec<_> = list.files.iter().collect();
    let raw = |path: &Option<RepoPath>| path.as_ref().map_or_else(Vec::new, |it| it.0.clone());
    // The whole file is the last key, so that two entries with equal paths have one order too.
    files.sort_by(|a, b| {
        (raw(&a.new_path), raw(&a.old_path), *a).cmp(&(raw(&b.new_path), raw(&b.old_path), *b))
    });
    let mut bytes = Vec::new();
    for file in files {
        let status: &[u8] = match file.status {
            FileStatus::Added => b"A",
            FileStatus::Modified => b"M",
            FileStatus::Deleted => b"D",
            FileStatus::Renamed => b"R",
            FileStatus::Copied => b"C",
            FileStatus::TypeChanged => b"T",
        };
        bytes.extend_from_slice(status);
        bytes.extend_from_slice(format!(" {} {}", mode(file.old_mode), mode(file.new_mode)).as_bytes());
        for path in [&file.old_path, &file.new_path] {
            let path = path.as_ref().map_or(&[][..], |it| &it.0);
            bytes.extend_from_slice(format!(" {}:", path.len()).as_bytes());
            bytes.extend_from_slice(path);
        }
        bytes.push(b'\n');
    }
    Digest::of(&bytes)
}

fn mode(mode: FileMode) -> String {
    match mode {
        FileMode::Known(bits) => format!("{bits:06o}"),
        FileMode::Unknown(()) => "------".to_owned(),
    }
}

/// The subject of a change. Members stand in the order of the bytes.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename = "change")]
pub struct ChangeSubject<'a> {
    /// `gitlab`, `github`, `bitbucket` or `bitbucket_dc`.
    pub forge: &'a str,
    /// Web root of the forge.
    pub instance: &'a str,
    /// The forge's stable number of the project.
    pub project_id: &'a str,
    /// The project's path, for people.
    pub project: &'a str,
    /// `!42` on GitLab, `#42` elsewhere.
    pub change: &'a str,
    pub source_project_id: &'a str,
    /// Full ref.
    pub source: &'a str,
    /// Full ref.
    pub target: &'a str,
    /// Full head commit id.
    pub head: &'a str,
    /// Merge base; empty while the forge has not computed it.
    pub base: &'a str,
    pub files_sha256: Digest,
    pub files_count: u64,
    pub files_complete: bool,
    pub author: &'a str,
    pub title_sha256: Digest,
    /// What else voids the approval, where the project does not keep to the merge base: `target_sha` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_base: Option<&'a str>,
    /// Head of the target branch, where the approval is bound to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_sha: Option<&'a str>,
}

impl ChangeSubject<'_> {
    /// The subject's bytes, made once.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and digests always serialise")
    }
}

/// What kind of action a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    Deployment,
    Action,
}

/// The digest a caller gave for what is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ActionDigest<'a> {
    /// Full commit id, lowercase hex.
    GitCommit(&'a str),
    Sha256(Digest),
}

/// The subject of a deployment or any action. Members stand in the order of the bytes; absent ones are left out.
#[derive(Clone, Debug, Serialize)]
pub struct ActionSubject<'a> {
    pub kind: ActionKind,
    pub action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<ActionDigest<'a>>,
    /// `<kind>:<id>`, e.g. `key:key_…`.
    pub requester: &'a str,
    /// Digest of the metadata bytes as the caller sent them (of no bytes where there are none).
    pub claimed_sha256: Digest,
    /// The job on a forge that waits for the approval, as the forge told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSubject<'a>>,
}

/// The job on a forge that an approval of a deployment starts. Members stand in the order of the bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct JobSubject<'a> {
    /// As in [`ChangeSubject`].
    pub forge: &'a str,
    /// Web root of the forge.
    pub instance: &'a str,
    /// The forge's stable number of the project.
    pub project_id: &'a str,
    /// The forge's numbers, in decimal digits.
    pub job: &'a str,
    pub name: &'a str,
    pub pipeline: &'a str,
    pub deployment: &'a str,
    /// Full ref.
    #[serde(rename = "ref")]
    pub ref_name: &'a str,
    /// The environment's tier, where the forge tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'a str>,
    /// User name of whoever started the pipeline.
    pub triggered_by: &'a str,
}

impl ActionSubject<'_> {
    /// The subject's bytes, made once.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and digests always serialise")
    }
}

/// A subject as it was read back: the members that other evidence must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `change`, `deployment` or `action`.
    pub kind: String,
    /// `!142` of a change, the action's text otherwise: how people call it.
    pub name: String,
    pub project: Option<String>,
    pub environment: Option<String>,
    /// Of a change: full target ref.
    pub target: Option<String>,
    /// Of a change: merge base, if it was known.
    pub base: Option<String>,
    /// Of an action: who asked, `<kind>:<id>`.
    pub requester: Option<String>,
    /// Of an action: digest of what its requester sent as metadata.
    pub claimed_sha256: Option<Digest>,
    /// Name and value of the digest a statement about this subject must carry.
    pub digest: (String, String),
}

impl Subject {
    /// Reads a subject's bytes strictly: known members only, in their order.
    pub fn parse(bytes: &[u8]) -> Result<Subject, StrictError> {
        let value = strict::parse(bytes, Space::Refused)?;
        let subject = value.object("subject")?;
        let kind = subject.text("kind")?.to_owned();
        match kind.as_str() {
            "change" => Subject::parse_change(&subject, kind),
            "deployment" | "action" => Subject::parse_action(&subject, kind, bytes),
            _ => Err(StrictError::Shape("subject.kind is none that is known".into())),
        }
    }

    fn parse_change(subject: &Object<'_, '_>, kind: String) -> Result<Subject, StrictError> {
        subject.exactly_with(
            &[
                "kind",
                "forge",
                "instance",
                "project_id",
                "project",
                "change",
                "source_project_id",
                "source",
                "target",
                "head",
                "base",
                "files_sha256",
                "files_count",
                "files_complete",
                "author",
                "title_sha256",
                "bind_base",
                "target_sha",
            ],
            &["bind_base", "target_sha"],
        )?;
        match (
            subject.optional_text("bind_base")?,
            subject.optional("target_sha"),
        ) {
            (Some("target_sha"), Some(_)) => drop(commit(subject, "target_sha")?),
            (None | Some("none"), None) => {}
            _ => {
                let what = "subject.bind_base and subject.target_sha do not belong together";
                return Err(StrictError::Shape(what.into()));
            }
        }
        for name in [
            "forge",
            "instance",
            "project_id",
            "source_project_id",
            "source",
            "author",
        ] {
            subject.text(name)?;
        }
        subject.digest("files_sha256")?;
        subject.count("files_count")?;
        subject.boolean("files_complete")?;
        subject.digest("title_sha256")?;
        let base = subject.text("base")?;
        if !base.is_empty() {
            commit(subject, "base")?;
        }
        Ok(Subject {
            kind,
            name: subject.text("change")?.to_owned(),
            project: Some(subject.text("project")?.to_owned()),
            environment: None,
            target: Some(subject.text("target")?.to_owned()),
            base: (!base.is_empty()).then(|| base.to_owned()),
            requester: None,
            claimed_sha256: None,
            digest: ("gitCommit".into(), commit(subject, "head")?),
        })
    }

    /// A job on a forge: a deployment to an environment, of a commit.
    fn check_job(subject: &Object<'_, '_>, job: &Object<'_, '_>) -> Result<(), StrictError> {
        job.exactly_with(
            &[
                "forge",
                "instance",
                "project_id",
                "job",
                "name",
                "pipeline",
                "deployment",
                "ref",
                "tier",
                "triggered_by",
            ],
            &["tier"],
        )?;
        for name in ["forge", "instance", "name", "ref", "triggered_by"] {
            job.text(name)?;
        }
        job.optional_text("tier")?;
        for name in ["project_id", "job", "pipeline", "deployment"] {
            let text = job.text(name)?;
            if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
                return Err(StrictError::Shape(format!("{} is not a number", job.path(name))));
            }
        }
        let whole = subject.text("kind")? == "deployment"
            && ["environment", "project", "digest"]
                .iter()
                .all(|it| subject.optional(it).is_some());
        match whole {
            true => Ok(()),
            false => Err(StrictError::Shape(
                "subject.job belongs to a deployment of a commit of a project to an environment".into(),
            )),
        }
    }

    fn parse_action(subject: &Object<'_, '_>, kind: String, bytes: &[u8]) -> Result<Subject, StrictError> {
        subject.exactly_with(
            &[
                "kind",
                "action",
                "environment",
                "project",
                "digest",
                "requester",
                "claimed_sha256",
                "job",
            ],
            &["environment", "project", "digest", "job"],
        )?;
        let claimed_sha256 = subject.digest("claimed_sha256")?;
        if let Some(job) = subject.optional("job") {
            Subject::check_job(subject, &job.object("subject.job")?)?;
        }
        let digest = match subject.optional("digest") {
            None => ("sha256".into(), Digest::of(bytes).to_string()),
            Some(value) => {
                let digest = value.object("subject.digest")?;
                if digest.optional("gitCommit").is_some() {
                    digest.exactly(&["gitCommit"])?;
                    ("gitCommit".into(), commit(&digest, "gitCommit")?)
                } else {
                    digest.exactly(&["sha256"])?;
                    ("sha256".into(), digest.digest("sha256")?.to_string())
                }
            }
        };
        Ok(Subject {
            kind,
            name: subject.text("action")?.to_owned(),
            project: subject.optional_text("project")?.map(str::to_owned),
            environment: subject.optional_text("environment")?.map(str::to_owned),
            target: None,
            base: None,
            requester: Some(subject.text("requester")?.to_owned()),
            claimed_sha256: Some(claimed_sha256),
            digest,
        })
    }
}

/// A full commit id, SHA-1 or SHA-256, in lowercase hex.
fn commit(object: &Object<'_, '_>, name: &str) -> Result<String, StrictError> {
    let text = object.text(name)?;
    let hex = text
        .bytes()
        .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
    if hex && (text.len() == 40 || text.len() == 64) {
        return Ok(text.to_owned());
    }
    Err(StrictError::Shape(format!(
        "{} is not a full commit id",
        object.path(name)
    )))
}
