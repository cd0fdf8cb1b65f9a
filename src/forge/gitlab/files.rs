//! The changed files of a merge request: entries of GitLab's list as facts, and whether that list is whole.

use crate::domain::facts::FileChange;
use crate::domain::facts::FileList;
use crate::domain::facts::FileMode;
use crate::domain::facts::FileStatus;
use crate::domain::facts::RepoPath;
use crate::domain::text::shortened;
use crate::domain::text::visible;
use crate::forge::gitlab::merge_request::MergeRequest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::HashSet;

/// One entry of the list of changed files.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Diff {
    pub(super) old_path: String,
    pub(super) new_path: String,
    a_mode: Option<String>,
    b_mode: Option<String>,
    #[serde(default)]
    new_file: bool,
    #[serde(default)]
    renamed_file: bool,
    #[serde(default)]
    deleted_file: bool,
    #[serde(default)]
    collapsed: Option<bool>,
    #[serde(default)]
    too_large: Option<bool>,
    #[serde(default)]
    pub(super) diff: String,
}

impl Diff {
    /// The lines of the file that are removed and added and those around them, without the numbers of where they stand (as
    /// `git patch-id` reads a patch); `None` where the list leaves the text out, or it is not text.
    pub(super) fn patch(&self) -> Option<String> {
        self.is_told().then(|| {
            let lines = self.diff.split_terminator('\n');
            let lines: Vec<&str> = lines
                .map(|it| if it.starts_with("@@ ") { "@@" } else { it })
                .collect();
            lines.join("\n")
        })
    }

    /// The text of the change is there.
    fn is_told(&self) -> bool {
        let left_out = self.collapsed.unwrap_or(false) || self.too_large.unwrap_or(false);
        let kept = self.new_path == self.old_path && !self.new_file && !self.deleted_file;
        // A file that was only renamed or whose mode changed has no text; one that was rewritten has.
        let silent = kept && self.diff.is_empty() && self.a_mode == self.b_mode;
        !left_out && !silent && count_lines(&self.diff).is_some()
    }

    /// Both paths and modes.
    pub(super) fn sides(&self) -> (String, String, Option<String>, Option<String>) {
        (
            self.old_path.clone(),
            self.new_path.clone(),
            self.a_mode.clone(),
            self.b_mode.clone(),
        )
    }
}

/// Why the list of files cannot be trusted to be whole; `None` if GitLab's own count, its heads and every entry agree.
fn files_doubt(change: &MergeRequest, listed: &[Diff], whole: bool) -> Option<String> {
    let text = |reason: &str| Some(reason.to_owned());
    if !whole {
        return text("the change has more files than GitLab lists");
    }
    if change.is_preparing() {
        return text("GitLab is still preparing the change");
    }
    let head = change.diff_refs.as_ref().and_then(|it| it.head_sha.as_deref());
    if change.sha.as_deref() != head || head.is_none() {
        return text("GitLab has not compared the newest commit yet");
    }
    let Some(count) = &change.changes_count else {
        return text("GitLab does not tell how many files the change has");
    };
    let plain = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    match count.parse::<usize>() {
        Ok(count) if plain && count == listed.len() => {}
        Ok(count) if plain => {
            return Some(format!("GitLab counts {count} files and lists {}", listed.len()));
        }
        _ => {
            let count = shortened(&visible(count), 20);
            return Some(format!(
                "the change has more files than GitLab lists (it counts {count:?})"
            ));
        }
    }
    for diff in listed {
        if diff.old_path.contains('\u{fffd}') || diff.new_path.contains('\u{fffd}') {
            return text("a path is not UTF-8, and GitLab does not tell it exactly");
        }
        if diff.new_path.is_empty() || diff.old_path.is_empty() {
            return text("GitLab lists a file without a path");
        }
        let kinds = [diff.new_file, diff.deleted_file, diff.renamed_file];
        if kinds.into_iter().filter(|it| *it).count() > 1 {
            return text("GitLab says contradictory things about a file");
        }
    }
    None
}

pub(super) fn file_list(change: &MergeRequest, listed: Vec<Diff>, whole: bool) -> FileList {
    let incomplete = files_doubt(change, &listed, whole);
    FileList {
        files: joined(listed.iter().map(file).collect()),
        incomplete,
    }
}

fn mode(text: Option<&str>) -> FileMode {
    let octal =
        text.filter(|it| (1..=6).contains(&it.len()) && it.bytes().all(|b| (b'0'..=b'7').contains(&b)));
    octal
        .and_then(|it| u32::from_str_radix(it, 8).ok())
        .map_or(FileMode::UNKNOWN, FileMode::Known)
}

/// The mode of a file on a side where it exists: there, an absent mode is an unknown one.
fn present(text: Option<&str>) -> FileMode {
    match mode(text) {
        FileMode::ABSENT => FileMode::UNKNOWN,
        known => known,
    }
}

/// File, symlink or submodule: the type bits of a mode.
fn kind(mode: FileMode) -> Option<u32> {
    match mode {
        FileMode::Known(bits) if bits != 0 => Some(bits & 0o170_000),
        _ => None,
    }
}

fn type_changed(old: FileMode, new: FileMode) -> bool {
    matches!((kind(old), kind(new)), (Some(old), Some(new)) if old != new)
}

/// One entry as a fact. GitLab looks for renames and never for copies, so two paths in an entry are a rename, of which both
/// are judged, whatever its flag says.
fn file(diff: &Diff) -> FileChange {
    let old_path = Some(RepoPath::from(diff.old_path.as_str()));
    let new_path = Some(RepoPath::from(diff.new_path.as_str()));
    let (a, b) = (diff.a_mode.as_deref(), diff.b_mode.as_deref());
    let lines = lines(diff);
    let one_path = diff.old_path == diff.new_path;
    if diff.new_file && !diff.deleted_file && one_path {
        let (old_mode, new_mode) = (FileMode::ABSENT, present(b));
        return FileChange {
            status: FileStatus::Added,
            old_path: None,
            new_path,
            old_mode,
            new_mode,
            lines,
        };
    }
    if diff.deleted_file && !diff.new_file && one_path {
        let (old_mode, new_mode) = (present(a), FileMode::ABSENT);
        return FileChange {
            status: FileStatus::Deleted,
            old_path,
            new_path: None,
            old_mode,
            new_mode,
            lines,
        };
    }
    let (old_mode, new_mode) = (present(a), present(b));
    let status = if !one_path || diff.renamed_file {
        FileStatus::Renamed
    } else if type_changed(old_mode, new_mode) {
        FileStatus::TypeChanged
    } else {
        FileStatus::Modified
    };
    FileChange {
        status,
        old_path,
        new_path,
        old_mode,
        new_mode,
        lines,
    }
}

/// git writes a change of type as a deletion and an addition of the same path; here it is one change.
fn joined(files: Vec<FileChange>) -> Vec<FileChange> {
    let mut added: BTreeMap<RepoPath, usize> = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        if let (FileStatus::Added, Some(path)) = (file.status, &file.new_path) {
            added.insert(path.clone(), at);
        }
    }
    let mut gone = HashSet::new();
    let mut out = files.clone();
    for (at, file) in files.iter().enumerate() {
        let (FileStatus::Deleted, Some(path)) = (file.status, &file.old_path) else {
            continue;
        };
        let Some(other) = added.get(path).copied() else {
            continue;
        };
        let addition = &files[other];
        if !type_changed(file.old_mode, addition.new_mode) || !gone.insert(other) {
            continue;
        }
        let lines = match (file.lines, addition.lines) {
            (Some((a, b)), Some((c, d))) => Some((a.saturating_add(c), b.saturating_add(d))),
            _ => None,
        };
        out[at] = FileChange {
            status: FileStatus::TypeChanged,
            old_path: file.old_path.clone(),
            new_path: addition.new_path.clone(),
            old_mode: file.old_mode,
            new_mode: addition.new_mode,
            lines,
        };
    }
    let mut at = 0;
    out.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
    out
}

/// Lines added and removed; `None` where the text is left out, binary or not a diff.
fn lines(diff: &Diff) -> Option<(u32, u32)> {
    if diff.collapsed.unwrap_or(false) || diff.too_large.unwrap_or(false) {
        return None;
    }
    count_lines(&diff.diff)
}

/// Counts by the numbers in the hunk headers, so that a removed line `-- x` is not taken for a file header.
fn count_lines(text: &str) -> Option<(u32, u32)> {
    let (mut added, mut removed) = (0u32, 0u32);
    let (mut old_left, mut new_left) = (0u32, 0u32);
    let mut hunks = 0;
    for line in text.split_terminator('\n') {
        if old_left == 0 && new_left == 0 {
            if line.starts_with("@@ ") {
                (old_left, new_left) = hunk(line)?;
                hunks += 1;
            }
            // Between hunks: the file header, or "\ No newline at end of file".
            continue;
        }
        match line.as_bytes().first() {
            Some(b'+') => {
                new_left = new_left.checked_sub(1)?;
                added += 1;
            }
            Some(b'-') => {
                old_left = old_left.checked_sub(1)?;
                removed += 1;
            }
            Some(b'\\') => {}
            // Some writers leave out the blank of an empty context line.
            Some(b' ') | None => {
                old_left = old_left.checked_sub(1)?;
                new_left = new_left.checked_sub(1)?;
            }
            _ => return None,
        }
    }
    let whole = old_left == 0 && new_left == 0;
    (whole && (hunks > 0 || text.is_empty())).then_some((added, removed))
}

/// The line counts of `@@ -a,b +c,d @@`; a count that is left out is 1.
fn hunk(line: &str) -> Option<(u32, u32)> {
    let mut parts = line.strip_prefix("@@ -")?.split(' ');
    let count = |range: &str| {
        range
            .split_once(',')
            .map_or(Some(1), |(_, count)| count.parse().ok())
    };
    let old = count(parts.next()?)?;
    let new = count(parts.next()?.strip_prefix('+')?)?;
    Some((old, new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
    const BASE: &str = "f123456789abcdef0123456789abcdef01234567";

    fn change(fields: Value) -> MergeRequest {
        let mut all = json!({
            "iid": 3, "project_id": 7, "target_project_id": 7, "source_project_id": 7, "state": "opened", "title": "t",
            "web_url": "https://h/x", "author": {"id": 1, "username": "a", "name": "A"}, "source_branch": "topic",
            "target_branch": "main", "sha": HEAD, "changes_count": "1", "prepared_at": "2026-01-01T00:00:00Z",
            "detailed_merge_status": "mergeable",
            "diff_refs": {"base_sha": BASE, "start_sha": BASE, "head_sha": HEAD},
        });
        for (name, value) in fields.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a merge request")
    }

    fn diff(fields: Value) -> Diff {
        let mut all =
            json!({"old_path": "a", "new_path": "a", "a_mode": "100644", "b_mode": "100644", "diff": ""});
        for (name, value) in fields.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a diff")
    }

    fn doubt(fields: Value, listed: usize) -> Option<String> {
        files_doubt(&change(fields), &vec![diff(json!({})); listed], true)
    }

    #[test]
    fn a_list_is_whole_only_if_everything_agrees() {
        assert_eq!(doubt(json!({}), 1), None);
        assert_eq!(doubt(json!({"changes_count": "0"}), 0), None);
        // A GitLab that knows no `prepared_at`.
        let mut older = serde_json::Map::new();
        older.insert("merge_status".to_owned(), json!("can_be_merged"));
        assert_eq!(doubt(Value::Object(older), 1), None);
        for (fields, listed) in [
            (json!({}), 0),
            (json!({}), 2),
            (json!({"changes_count": "1+"}), 1),
            (json!({"changes_count": "1000+"}), 1000),
            (json!({"changes_count": "+1"}), 1),
            (json!({"changes_count": " 1"}), 1),
            (json!({"changes_count": ""}), 1),
            (json!({"changes_count": "99999999999999999999999"}), 1),
            (json!({"changes_count": null}), 1),
            (json!({"prepared_at": null}), 1),
            (json!({"detailed_merge_status": "preparing"}), 1),
            (json!({"sha": BASE}), 1),
            (json!({"diff_refs": null}), 1),
            (
                json!({"diff_refs": {"base_sha": null, "head_sha": null}, "sha": null}),
                1,
            ),
        ] {
            assert!(
                doubt(fields.clone(), listed).is_some(),
                "{fields} with {listed} listed"
            );
        }
        assert!(files_doubt(&change(json!({})), &[diff(json!({}))], false).is_some());
        for odd in [
            json!({"new_path": "caf\u{fffd}"}),
            json!({"old_path": "caf\u{fffd}"}),
            json!({"new_path": ""}),
            json!({"new_file": true, "deleted_file": true}),
        ] {
            assert!(
                files_doubt(&change(json!({})), &[diff(odd.clone())], true).is_some(),
                "{odd}"
            );
        }
    }

    #[test]
    fn entries_become_facts() {
        let added = file(&diff(json!({"new_file": true, "a_mode": "0"})));
        assert_eq!(
            (added.status, added.old_path, added.old_mode),
            (FileStatus::Added, None, FileMode::ABSENT)
        );
        assert_eq!(added.new_mode, FileMode::Known(0o100_644));
        let deleted = file(&diff(json!({"deleted_file": true, "b_mode": "0"})));
        assert_eq!(
            (deleted.status, deleted.new_path, deleted.new_mode),
            (FileStatus::Deleted, None, FileMode::ABSENT)
        );
        let renamed = file(&diff(json!({"renamed_file": true, "new_path": "b"})));
        assert_eq!(
            (renamed.status, renamed.old_path),
            (FileStatus::Renamed, Some(RepoPath::from("a")))
        );
        // Two paths are both judged, even if no flag or the wrong one says so.
        for odd in [
            json!({"new_path": "b"}),
            json!({"new_path": "b", "new_file": true}),
        ] {
            let odd = file(&diff(odd));
            assert_eq!((odd.status, odd.old_path.is_some()), (FileStatus::Renamed, true));
        }
        let link = file(&diff(json!({"b_mode": "120000"})));
        assert_eq!(
            (link.status, link.new_mode),
            (FileStatus::TypeChanged, FileMode::Known(0o120_000))
        );
        let executable = file(&diff(json!({"b_mode": "100755"})));
        assert_eq!(executable.status, FileStatus::Modified);
        for bad in [
            json!(null),
            json!(""),
            json!("0"),
            json!("9"),
            json!("1006444"),
            json!("-1"),
        ] {
            assert_eq!(
                file(&diff(json!({"b_mode": bad}))).new_mode,
                FileMode::UNKNOWN,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_deletion_and_an_addition_of_another_type_are_one_change() {
        let text = "@@ -1 +0,0 @@\n-x\n";
        let parts = [
            json!({"deleted_file": true, "b_mode": "0", "diff": text}),
            json!({"old_path": "z", "new_path": "z"}),
            json!({"new_file": true, "a_mode": "0", "b_mode": "120000", "diff": "@@ -0,0 +1 @@\n+y\n"}),
        ];
        let list = file_list(
            &change(json!({"changes_count": "3"})),
            parts.map(diff).to_vec(),
            true,
        );
        assert_eq!(list.incomplete, None);
        assert_eq!(list.files.len(), 2);
        assert_eq!(
            (list.files[0].status, list.files[0].lines),
            (FileStatus::TypeChanged, Some((1, 1)))
        );
        assert_eq!(list.files[0].new_mode, FileMode::Known(0o120_000));
        // The same type is no change of type: both entries stay.
        let same = [
            json!({"deleted_file": true, "b_mode": "0"}),
            json!({"new_file": true, "a_mode": "0", "b_mode": "100644"}),
        ];
        assert_eq!(
            file_list(
                &change(json!({"changes_count": "2"})),
                same.map(diff).to_vec(),
                true
            )
            .files
            .len(),
            2
        );
    }

    #[test]
    fn lines_are_counted_by_hunks() {
        assert_eq!(count_lines(""), Some((0, 0)));
        assert_eq!(count_lines("@@ -1,2 +1,3 @@ fn\n a\n-b\n+c\n+d\n"), Some((2, 1)));
        assert_eq!(
            count_lines("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"),
            Some((1, 1))
        );
        // A removed line that looks like a header, an added one that looks like a hunk.
        assert_eq!(
            count_lines("@@ -1,2 +1,2 @@\n--- a\n-b\n+++ c\n+@@ -9,9 +9,9 @@\n"),
            Some((2, 2))
        );
        assert_eq!(
            count_lines("@@ -1 +0,0 @@\n-a\n@@ -9,0 +8 @@\n+b\n"),
            Some((1, 1))
        );
        assert_eq!(count_lines("Binary files a/x and b/x differ\n"), None);
        assert_eq!(count_lines("@@ -1,5 +1,5 @@\n-a\n"), None);
        assert_eq!(count_lines("@@ -1 +1,4294967295 @@\n"), None);
        assert_eq!(count_lines("@@ nonsense\n+a\n"), None);
        assert_eq!(lines(&diff(json!({"collapsed": true}))), None);
        assert_eq!(lines(&diff(json!({"too_large": true, "collapsed": null}))), None);
    }
}
