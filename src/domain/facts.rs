//! What an adapter found out about a change before a command exists. Nothing here is looked up later.

use crate::domain::ids::ProjectId;
use serde::{Deserialize, Serialize};

/// A path inside a repository, as raw bytes: forges do not promise UTF-8.
///
/// Serialised as a string where it is UTF-8, as `{"b64":"…"}` (standard alphabet, padded) where it is not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(pub Vec<u8>);

impl RepoPath {
    /// The path as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The path for people: control, bidi and invalid bytes are shown escaped, never raw.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        for chunk in self.0.utf8_chunks() {
            out.push_str(&crate::domain::text::visible(chunk.valid()));
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        out
    }
}

impl From<&str> for RepoPath {
    fn from(path: &str) -> Self {
        RepoPath(path.as_bytes().to_vec())
    }
}

impl std::fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathForm {
    Text(String),
    Raw { b64: String },
}

impl Serialize for RepoPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        match self.as_str() {
            Some(text) => PathForm::Text(text.to_owned()),
            None => PathForm::Raw {
                b64: base64::engine::general_purpose::STANDARD.encode(&self.0),
            },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        match PathForm::deserialize(deserializer)? {
            PathForm::Text(text) => Ok(RepoPath(text.into_bytes())),
            PathForm::Raw { b64 } => base64::engine::general_purpose::STANDARD
                .decode(b64)
                .map(RepoPath)
                .map_err(serde::de::Error::custom),
        }
    }
}

/// What happened to one file between base and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    Added,
    Modified,
    Deleted,
    Renamed,
    Copied,
    TypeChanged,
}

/// A git file mode: known, or not told by the forge's list. `Known(0)` means the file is absent on that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FileMode {
    /// e.g. `0o100644`; 0 where the file is absent on that side.
    Known(u32),
    /// The forge's list tells none and its tree was not read: such a file is never skippable (policy rule 4).
    Unknown(()),
}

impl FileMode {
    /// The file is absent on that side.
    pub const ABSENT: FileMode = FileMode::Known(0);
    /// The forge did not tell.
    pub const UNKNOWN: FileMode = FileMode::Unknown(());
}

/// One file of a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileChange {
    pub status: FileStatus,
    /// Absent for an added file.
    pub old_path: Option<RepoPath>,
    /// Absent for a deleted file.
    pub new_path: Option<RepoPath>,
    pub old_mode: FileMode,
    pub new_mode: FileMode,
    /// Lines added and removed, where the forge's list tells.
    #[serde(default)]
    pub lines: Option<(u32, u32)>,
}

/// The files of a change, and whether the list can be trusted to be whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    pub files: Vec<FileChange>,
    /// `None`: complete. Otherwise the reason, a sentence for people.
    pub incomplete: Option<String>,
}

/// An account on a forge. `id` is the forge's own stable number, as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    pub id: String,
    pub username: String,
    pub name: String,
}

/// How somebody took part in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Author,
    CommitAuthor,
    Committer,
    CoAuthor,
    Pusher,
}

/// Somebody who contributed to a change: a forge account where the forge tells, else a name and e-mail in a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contributor {
    pub part: Part,
    pub account: Option<Account>,
    pub name: String,
    /// Lower-cased; never proves anything, only widens the ban on self-approval (policy rule 7).
    pub email: Option<String>,
}

/// Where a change stands on its forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    Open,
    Closed,
    Merged,
}

/// Everything the rules may ask about a change, read from the forge's API (never from a webhook body).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFacts {
    pub project: ProjectId,
    /// The change's number within its project: GitLab's `iid`.
    pub number: u64,
    pub state: ChangeState,
    pub draft: bool,
    pub title: String,
    /// Page of the change on the forge.
    pub web_url: String,
    pub author: Account,
    /// Full ref, `refs/heads/…`.
    pub source: String,
    /// Numeric id of the project the source branch is in; another than the target's for a fork.
    pub source_project_id: String,
    /// Full ref, `refs/heads/…`.
    pub target: String,
    /// Full head commit id.
    pub head: String,
    /// Merge base of head and target; empty while the forge has not computed it.
    pub base: String,
    /// Head of the target branch, where the project binds approvals to it (policy rule 11).
    #[serde(default)]
    pub target_sha: Option<String>,
    pub files: FileList,
    /// Everyone who contributed, the author included.
    pub contributors: Vec<Contributor>,
    /// `None`: all commits were read. Otherwise why not.
    pub contributors_incomplete: Option<String>,
    pub commits: u32,
    /// Who merged it and as which commit, once it is merged.
    pub merged: Option<Merged>,
}

/// How a change landed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    pub by: Option<Account>,
    /// The commit on the target branch, where the forge tells.
    pub commit: Option<String>,
}
