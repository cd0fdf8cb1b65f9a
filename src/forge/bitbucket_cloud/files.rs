//! The files of a pull request, from Bitbucket's list of what changed (`diffstat`). It tells no modes: those come from the
//! difference itself.

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::forge::diff::Modes;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Changed {
    #[serde(default)]
    pub(super) status: String,
    lines_added: Option<u32>,
    lines_removed: Option<u32>,
    pub(super) old: Option<CommitFile>,
    pub(super) new: Option<CommitFile>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct CommitFile {
    pub(super) path: String,
}

/// Why the list of files cannot be trusted to be whole; `size`: how many Bitbucket counts, where it tells.
fn doubt(listed: &[Changed], whole: bool, size: Option<u64>) -> Option<String> {
    let count = listed.len();
    if !whole {
        return Some(format!(
            "the change has more than {count} files, more than are read"
        ));
    }
    if let Some(size) = size.filter(|it| *it != count as u64) {
        return Some(format!("Bitbucket counts {size} files and lists {count}"));
    }
    for it in listed {
        let Some(status) = status(it) else {
            return Some("Bitbucket says of a file what is not known here".to_owned());
        };
        let (old, new) = (it.old.as_ref(), it.new.as_ref());
        let told = match status {
            FileStatus::Added => new.is_some(),
            FileStatus::Deleted => old.is_some(),
            _ => old.is_some() && new.is_some(),
        };
        let mut paths = old.into_iter().chain(new);
        if !told || paths.clone().any(|it| it.path.is_empty()) {
            return Some("Bitbucket lists a file without a path".to_owned());
        }
        if paths.any(|it| it.path.contains('\u{fffd}')) {
            return Some("a path is not UTF-8, and Bitbucket does not tell it exactly".to_owned());
        }
    }
    None
}

fn status(it: &Changed) -> Option<FileStatus> {
    Some(match it.status.as_str() {
        "added" => FileStatus::Added,
        "removed" => FileStatus::Deleted,
        "modified" => FileStatus::Modified,
        "renamed" => FileStatus::Renamed,
        _ => return None,
    })
}

/// The list as facts; `modes`: `None` where they could not be read, and then no file is ever skipped.
pub(super) fn file_list(
    listed: &[Changed],
    whole: bool,
    size: Option<u64>,
    modes: Option<&Modes>,
) -> FileList {
    FileList {
        incomplete: doubt(listed, whole, size),
        files: listed.iter().filter_map(|it| file(it, modes)).collect(),
    }
}

/// `None` for an entry without any path, which leaves the list incomplete.
fn file(it: &Changed, modes: Option<&Modes>) -> Option<FileChange> {
    // What is not known here leaves the list incomplete; both paths are judged.
    let status = status(it).unwrap_or(FileStatus::Modified);
    let any = it.new.as_ref().or(it.old.as_ref())?.path.as_str();
    let old = it.old.as_ref().map_or(any, |it| it.path.as_str());
    let new = it.new.as_ref().map_or(any, |it| it.path.as_str());
    let mode = |is_old: bool, path: &str| {
        let known = modes.and_then(|it| {
            let side = if is_old { &it.old } else { &it.new };
            side.get(path.as_bytes()).copied()
        });
        known.map_or(FileMode::UNKNOWN, FileMode::Known)
    };
    let (old_path, old_mode) = match status {
        FileStatus::Added => (None, FileMode::ABSENT),
        _ => (Some(RepoPath::from(old)), mode(true, old)),
    };
    let (new_path, new_mode) = match status {
        FileStatus::Deleted => (None, FileMode::ABSENT),
        _ => (Some(RepoPath::from(new)), mode(false, new)),
    };
    // Git's own type bits: file, symlink, submodule.
    let kind = |mode| match mode {
        FileMode::Known(bits) if bits != 0 => Some(bits & 0o170_000),
        _ => None,
    };
    let status = match (status, kind(old_mode), kind(new_mode)) {
        (FileStatus::Modified, Some(old), Some(new)) if old != new => FileStatus::TypeChanged,
        (status, ..) => status,
    };
    Some(FileChange {
        status,
        old_path,
        new_path,
        old_mode,
        new_mode,
        // Bitbucket counts nothing in a binary file.
        lines: it
            .lines_added
            .zip(it.lines_removed)
            .filter(|(added, removed)| *added > 0 || *removed > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::diff;
    use serde_json::json;

    fn changed(status: &str, old: Option<&str>, new: Option<&str>) -> Changed {
        let path = |it: Option<&str>| it.map(|it| json!({"path": it, "type": "commit_file"}));
        serde_json::from_value(
            json!({"type": "diffstat", "status": status, "lines_added": 1, "lines_removed": 2,
            "old": path(old), "new": path(new)}),
        )
        .expect("a file")
    }

    #[test]
    fn a_list_is_whole_only_if_everything_agrees() {
        let one = [changed("modified", Some("a"), Some("a"))];
        assert_eq!(doubt(&one, true, Some(1)), None);
        assert_eq!(doubt(&one, true, None), None);
        assert!(doubt(&one, true, Some(2)).is_some());
        assert!(doubt(&one, false, Some(1)).is_some());
        for odd in [
            changed("merge conflict", Some("a"), Some("a")),
            changed("added", Some("a"), None),
            changed("renamed", Some("a"), None),
            changed("modified", Some("a\u{fffd}"), Some("a\u{fffd}")),
            changed("removed", None, None),
        ] {
            assert!(doubt(&[odd], true, None).is_some());
        }
    }

    #[test]
    fn modes_come_from_the_difference_and_are_unknown_without_it() {
        let text = b"diff --git a/a b/a\ndeleted file mode 100644\nindex 1..0\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\ndiff --git a/a b/a\nnew file mode 120000\nindex 0..2\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+y\n";
        let modes = Modes::of(&diff::read(text).expect("readable"));
        let entry = changed("modified", Some("a"), Some("a"));
        let link = file(&entry, Some(&modes)).expect("a file");
        assert_eq!(
            (link.status, link.old_mode, link.new_mode),
            (
                FileStatus::TypeChanged,
                FileMode::Known(0o100_644),
                FileMode::Known(0o120_000)
            )
        );
        let unsure = file(&entry, None).expect("a file");
        assert_eq!(
            (unsure.status, unsure.new_mode),
            (FileStatus::Modified, FileMode::UNKNOWN)
        );
        let renamed = file(&changed("renamed", Some("b"), Some("c")), Some(&modes)).expect("a file");
        assert_eq!(renamed.old_path, Some(RepoPath::from("b")));
        assert_eq!(renamed.new_mode, FileMode::UNKNOWN);
        let gone = file(&changed("removed", Some("a"), None), Some(&modes)).expect("a file");
        assert_eq!((gone.new_path, gone.new_mode), (None, FileMode::ABSENT));
    }
}
