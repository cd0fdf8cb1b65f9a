//! The changed files of a pull request: entries of Bitbucket's comparison as facts, and whether that list is whole.

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::forge::diff::{FilePatch, Modes};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// One entry of `changes`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changed {
    /// The blob it is now, and the one it was.
    pub(super) content_id: Option<String>,
    path: Path,
    src_path: Option<Path>,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    node_type: String,
    executable: Option<bool>,
    src_executable: Option<bool>,
}

/// What the raw difference tells beside Bitbucket's list.
#[derive(Debug, Default)]
pub(super) struct Told {
    modes: Modes,
    /// Lines added and removed, by the path it has now, or had; `None` for what is not text, or stands there twice.
    lines: HashMap<Vec<u8>, Option<(u32, u32)>>,
}

impl Told {
    pub(super) fn of(patches: &[FilePatch]) -> Self {
        let mut lines: HashMap<Vec<u8>, Option<(u32, u32)>> = HashMap::new();
        for it in patches {
            let counted = Some(it.counted).filter(|_| !it.binary);
            if let Some(path) = it.new.as_ref().or(it.old.as_ref()) {
                lines
                    .entry(path.clone())
                    .and_modify(|it| *it = None)
                    .or_insert(counted);
            }
        }
        Told {
            modes: Modes::of(patches),
            lines,
        }
    }
}

/// A path. The documentation names only its parts; every version also writes it whole.
#[derive(Clone, Debug, Deserialize)]
struct Path {
    #[serde(rename = "toString")]
    whole: Option<String>,
    #[serde(default)]
    components: Vec<String>,
}

impl Path {
    fn text(&self) -> String {
        match &self.whole {
            Some(whole) => whole.clone(),
            None => self.components.join("/"),
        }
    }
}

impl Changed {
    /// The path it has now, or had.
    pub(super) fn path(&self) -> String {
        self.path.text()
    }

    /// What identifies the entry in a list: kind, path before, path after.
    pub(super) fn sides(&self) -> (String, String, String) {
        let old = self.src_path.as_ref().map_or_else(|| self.path(), Path::text);
        (self.kind.clone(), old, self.path())
    }

    /// Whether it is and was executable, and what it is.
    pub(super) fn modes(&self) -> (Option<bool>, Option<bool>, &str) {
        (self.src_executable, self.executable, &self.node_type)
    }

    fn status(&self) -> Option<FileStatus> {
        Some(match self.kind.as_str() {
            "ADD" => FileStatus::Added,
            "DELETE" => FileStatus::Deleted,
            "MODIFY" => FileStatus::Modified,
            "MOVE" => FileStatus::Renamed,
            "COPY" => FileStatus::Copied,
            _ => return None,
        })
    }
}

/// Why the list of files cannot be trusted to be whole.
fn doubt(listed: &[Changed], whole: bool) -> Option<String> {
    let text = |reason: &str| Some(reason.to_owned());
    if !whole {
        return Some(format!(
            "the change has more files than Bitbucket lists: its list ends after {}",
            listed.len()
        ));
    }
    let mut seen = HashSet::new();
    for it in listed {
        let (_, old, new) = it.sides();
        if old.contains('\u{fffd}') || new.contains('\u{fffd}') {
            return text("a path is not UTF-8, and Bitbucket does not tell it exactly");
        }
        if old.is_empty() || new.is_empty() {
            return text("Bitbucket lists a file without a path");
        }
        if it.status().is_none() {
            return text("Bitbucket says of a file what is not known here");
        }
        if !seen.insert(it.sides()) {
            return text("Bitbucket lists a file twice: its pages do not fit together");
        }
    }
    None
}

/// The list as facts.
pub(super) fn file_list(listed: &[Changed], whole: bool, told: &Told) -> FileList {
    FileList {
        incomplete: doubt(listed, whole),
        files: listed.iter().map(|it| file(it, told)).collect(),
    }
}

fn file(it: &Changed, told: &Told) -> FileChange {
    // What is not known here leaves the list incomplete; both paths are judged.
    let status = it.status().unwrap_or(FileStatus::Modified);
    let (_, old, new) = it.sides();
    let mode = |side: &HashMap<Vec<u8>, u32>, path: &str| {
        let known = side.get(path.as_bytes()).copied();
        known.map_or(FileMode::UNKNOWN, FileMode::Known)
    };
    let mut old_mode = mode(&told.modes.old, &old);
    let mut new_mode = mode(&told.modes.new, &new);
    let lines = told.lines.get(new.as_bytes()).copied().flatten();
    match status {
        FileStatus::Added => old_mode = FileMode::ABSENT,
        FileStatus::Deleted => new_mode = FileMode::ABSENT,
        _ => {}
    }
    // Where the two tell different things of the same file, neither is believed.
    let fits = |mode: FileMode, executable: Option<bool>| match (mode, executable) {
        (FileMode::Known(bits), Some(executable)) if bits & 0o170_000 == 0o100_000 => {
            (bits & 0o111 != 0) == executable
        }
        _ => true,
    };
    let (before, after) = match status {
        FileStatus::Deleted => (it.src_executable, None),
        _ => (it.src_executable, it.executable),
    };
    if !fits(old_mode, before) {
        old_mode = FileMode::UNKNOWN;
    }
    if !fits(new_mode, after) {
        new_mode = FileMode::UNKNOWN;
    }
    if it.node_type == "SUBMODULE" {
        let submodule = FileMode::Known(0o160_000);
        match status {
            FileStatus::Deleted => old_mode = submodule,
            _ => new_mode = submodule,
        }
    }
    // Git's own type bits: file, symlink, submodule.
    let kind = |mode| match mode {
        FileMode::Known(bits) if bits != 0 => Some(bits & 0o170_000),
        _ => None,
    };
    let status = match (status, kind(old_mode), kind(new_mode)) {
        (FileStatus::Modified, Some(old), Some(new)) if old != new => FileStatus::TypeChanged,
        (status, ..) => status,
    };
    FileChange {
        status,
        old_path: (status != FileStatus::Added).then(|| RepoPath::from(old.as_str())),
        new_path: (status != FileStatus::Deleted).then(|| RepoPath::from(new.as_str())),
        old_mode,
        new_mode,
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::diff::read;
    use serde_json::{Value, json};

    fn changed(fields: Value) -> Changed {
        let mut all = json!({"contentId": "1", "path": {"toString": "a", "components": ["a"]}, "type": "MODIFY",
            "nodeType": "FILE", "executable": false, "srcExecutable": false});
        for (name, value) in fields.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a change")
    }

    #[test]
    fn a_list_is_whole_only_if_everything_agrees() {
        let one = [changed(json!({}))];
        assert_eq!(doubt(&one, true), None);
        assert_eq!(doubt(&[], true), None);
        assert!(doubt(&one, false).is_some_and(|it| it.contains("more files than Bitbucket lists")));
        let twice = [changed(json!({})), changed(json!({}))];
        assert!(doubt(&twice, true).is_some_and(|it| it.contains("twice")));
        for odd in [
            json!({"path": {"toString": "caf\u{fffd}"}}),
            json!({"path": {"components": []}}),
            json!({"type": "UNKNOWN"}),
            json!({"type": "MOVE", "srcPath": {"toString": ""}}),
        ] {
            assert!(doubt(&[changed(odd.clone())], true).is_some(), "{odd}");
        }
    }

    #[test]
    fn entries_become_facts() {
        let none = Told::default();
        let unknown = file(&changed(json!({})), &none);
        assert_eq!(
            (unknown.old_mode, unknown.new_mode),
            (FileMode::UNKNOWN, FileMode::UNKNOWN)
        );
        let moved = changed(
            json!({"type": "MOVE", "srcPath": {"components": ["x", "b"]}, "path": {"components": ["y", "a"]}}),
        );
        let moved = file(&moved, &none);
        assert_eq!(moved.status, FileStatus::Renamed);
        assert_eq!(moved.old_path, Some(RepoPath::from("x/b")));
        assert_eq!(moved.new_path, Some(RepoPath::from("y/a")));
        let added = file(&changed(json!({"type": "ADD"})), &none);
        assert_eq!((added.old_path, added.old_mode), (None, FileMode::ABSENT));
        let gone = file(&changed(json!({"type": "DELETE"})), &none);
        assert_eq!((gone.new_path, gone.new_mode), (None, FileMode::ABSENT));
        let submodule = file(&changed(json!({"nodeType": "SUBMODULE"})), &none);
        assert_eq!(submodule.new_mode, FileMode::Known(0o160_000));
    }

    #[test]
    fn modes_come_from_the_diff_and_only_where_both_agree() {
        let of = |text: &[u8]| Told::of(&read(text).expect("a difference"));
        let patch = of(b"diff --git a/a b/a\nindex 1..2 100644\n");
        let plain = file(&changed(json!({})), &patch);
        assert_eq!(plain.new_mode, FileMode::Known(0o100_644));
        let odd = file(&changed(json!({"executable": true})), &patch);
        assert_eq!(odd.new_mode, FileMode::UNKNOWN);
        let link = of(b"diff --git a/a b/a\nold mode 100644\nnew mode 120000\nindex 1..2\n");
        let link = file(&changed(json!({})), &link);
        assert_eq!(
            (link.status, link.new_mode),
            (FileStatus::TypeChanged, FileMode::Known(0o120_000))
        );
    }
}
