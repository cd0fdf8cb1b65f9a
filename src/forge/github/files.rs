//! The files of a pull request. GitHub lists at most 3,000, and tells no modes: those come from the two trees.

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::forge::github::pull_request::PullRequest;
use serde::Deserialize;
use std::collections::HashMap;

/// Files GitHub lists of a pull request at most.
pub(super) const FILES_MAX: usize = 3_000;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Changed {
    pub(super) filename: String,
    pub(super) previous_filename: Option<String>,
    pub(super) status: String,
    /// The blob it is now.
    pub(super) sha: Option<String>,
    #[serde(default)]
    additions: Option<u32>,
    #[serde(default)]
    deletions: Option<u32>,
    pub(super) patch: Option<String>,
}

/// `GET /repos/{owner}/{repo}/git/trees/{tree}?recursive=1`.
#[derive(Deserialize)]
pub(super) struct Tree {
    tree: Vec<Entry>,
    truncated: bool,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    mode: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Modes by path; `None`: they are not known.
pub(super) struct Modes(Option<HashMap<String, FileMode>>);

impl Modes {
    pub(super) fn unknown() -> Self {
        Modes(None)
    }

    fn of(&self, path: &str) -> FileMode {
        let known = self.0.as_ref().and_then(|it| it.get(path).copied());
        known.unwrap_or(FileMode::UNKNOWN)
    }
}

impl From<Tree> for Modes {
    fn from(tree: Tree) -> Self {
        if tree.truncated {
            return Modes::unknown();
        }
        let files = tree.tree.into_iter().filter(|it| it.kind != "tree");
        let known = files.filter_map(|it| {
            let bits = u32::from_str_radix(&it.mode, 8).ok().filter(|it| *it != 0)?;
            Some((it.path, FileMode::Known(bits)))
        });
        Modes(Some(known.collect()))
    }
}

/// Why the list of files cannot be trusted to be whole.
fn doubt(change: &PullRequest, listed: &[Changed], whole: bool) -> Option<String> {
    let Some(count) = change.changed_files else {
        return Some("GitHub does not count the change's files".to_owned());
    };
    if listed.len() >= FILES_MAX || count >= FILES_MAX as u64 || !whole {
        return Some(format!("the change has {count} files, more than GitHub lists"));
    }
    if count != listed.len() as u64 {
        return Some(format!("GitHub counts {count} files and lists {}", listed.len()));
    }
    for it in listed {
        let paths = [Some(&it.filename), it.previous_filename.as_ref()];
        if paths.into_iter().flatten().any(|it| it.contains('\u{fffd}')) {
            return Some("a path is not UTF-8, and GitHub does not tell it exactly".to_owned());
        }
        if it.filename.is_empty() {
            return Some("GitHub lists a file without a path".to_owned());
        }
        if status(it).is_none() {
            return Some("GitHub says of a file what is not known here".to_owned());
        }
    }
    None
}

fn status(it: &Changed) -> Option<FileStatus> {
    Some(match it.status.as_str() {
        "added" => FileStatus::Added,
        "removed" => FileStatus::Deleted,
        "modified" | "unchanged" => FileStatus::Modified,
        "renamed" => FileStatus::Renamed,
        "copied" => FileStatus::Copied,
        "changed" => FileStatus::TypeChanged,
        _ => return None,
    })
}

/// The list as facts; `before` and `after`: the modes at the merge base and at the head.
pub(super) fn file_list(
    change: &PullRequest,
    listed: &[Changed],
    whole: bool,
    before: &Modes,
    after: &Modes,
) -> FileList {
    FileList {
        incomplete: doubt(change, listed, whole),
        files: listed.iter().map(|it| file(it, before, after)).collect(),
    }
}

fn file(it: &Changed, before: &Modes, after: &Modes) -> FileChange {
    // What is not known here leaves the list incomplete; both paths are judged.
    let status = status(it).unwrap_or(FileStatus::Modified);
    let old = it.previous_filename.as_deref().unwrap_or(&it.filename);
    let (old_path, old_mode) = match status {
        FileStatus::Added => (None, FileMode::ABSENT),
        _ => (Some(RepoPath::from(old)), before.of(old)),
    };
    let (new_path, new_mode) = match status {
        FileStatus::Deleted => (None, FileMode::ABSENT),
        _ => (Some(RepoPath::from(it.filename.as_str())), after.of(&it.filename)),
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
    // No text: binary, too large, or nothing but a mode.
    let told =
        it.patch.is_some() || it.additions.is_some_and(|it| it > 0) || it.deletions.is_some_and(|it| it > 0);
    FileChange {
        status,
        old_path,
        new_path,
        old_mode,
        new_mode,
        lines: it.additions.zip(it.deletions).filter(|_| told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";

    fn change(files: Option<u64>) -> PullRequest {
        serde_json::from_value(json!({
            "number": 3, "state": "open", "title": "t", "user": {"id": 1, "login": "a"}, "changed_files": files,
            "head": {"sha": HEAD, "ref": "topic", "repo": null}, "base": {"sha": HEAD, "ref": "main", "repo": null},
        }))
        .expect("a pull request")
    }

    fn changed(status: &str) -> Changed {
        serde_json::from_value(json!({
            "filename": "a", "status": status, "sha": HEAD, "additions": 1, "deletions": 2, "patch": "@@ -1 +1 @@"}))
        .expect("a file")
    }

    fn modes(entries: &[(&str, &str)], truncated: bool) -> Modes {
        let tree: Vec<_> = entries
            .iter()
            .map(|(path, mode)| json!({"path": path, "mode": mode, "type": "blob"}))
            .collect();
        let tree: Tree =
            serde_json::from_value(json!({"tree": tree, "truncated": truncated})).expect("a tree");
        tree.into()
    }

    #[test]
    fn a_list_is_whole_only_if_everything_agrees() {
        let one = [changed("modified")];
        assert_eq!(doubt(&change(Some(1)), &one, true), None);
        assert_eq!(doubt(&change(Some(0)), &[], true), None);
        assert!(doubt(&change(None), &one, true).is_some());
        assert!(doubt(&change(Some(2)), &one, true).is_some());
        assert!(doubt(&change(Some(1)), &one, false).is_some());
        let most = vec![changed("modified"); FILES_MAX];
        assert!(
            doubt(&change(Some(3_000)), &most, true).is_some(),
            "more are not shown"
        );
        assert_eq!(doubt(&change(Some(2_999)), &most[1..], true), None);
        let mut odd = changed("modified");
        odd.filename = "caf\u{fffd}".to_owned();
        assert!(doubt(&change(Some(1)), &[odd], true).is_some());
        assert!(doubt(&change(Some(1)), &[changed("teleported")], true).is_some());
    }

    #[test]
    fn modes_come_from_the_trees_and_are_unknown_without_them() {
        let (before, after) = (
            modes(&[("a", "100644"), ("b", "100644")], false),
            modes(&[("a", "120000")], false),
        );
        let link = file(&changed("modified"), &before, &after);
        assert_eq!(
            (link.status, link.old_mode, link.new_mode),
            (
                FileStatus::TypeChanged,
                FileMode::Known(0o100_644),
                FileMode::Known(0o120_000)
            )
        );
        let mut renamed = changed("renamed");
        renamed.previous_filename = Some("b".to_owned());
        let renamed = file(&renamed, &before, &after);
        assert_eq!(renamed.old_path, Some(RepoPath::from("b")));
        assert_eq!(renamed.old_mode, FileMode::Known(0o100_644));
        let cut = modes(&[("a", "100644")], true);
        let unsure = file(&changed("modified"), &before, &cut);
        assert_eq!(unsure.new_mode, FileMode::UNKNOWN);
        let gone = file(&changed("removed"), &before, &after);
        assert_eq!((gone.new_path, gone.new_mode), (None, FileMode::ABSENT));
    }
}
