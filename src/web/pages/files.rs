//! The files of a change, grouped by where in the repository they are, for somebody with a small screen.

use crate::domain::facts::{FileChange, FileStatus};
use crate::domain::policy::TraceEntry;
use crate::texts::{fixed, marked, t};
use std::collections::BTreeMap;

/// Most files a page lists. The rest is counted and on the forge.
const FILES_SHOWN_MAX: usize = 400;
/// The name of the area of files that are in no directory.
const TOP: &str = marked!("top level");
/// Width of the bar of added and removed lines, in SVG units.
const BAR: u32 = 60;

/// The files under one top-level directory.
#[derive(Clone, Debug)]
pub struct Area {
    pub name: String,
    pub count: usize,
    pub lines: Option<Lines>,
    pub files: Vec<FileLine>,
    /// Files that are not listed here.
    pub more: usize,
}

/// Lines added and removed, with a bar's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    pub added: u64,
    pub removed: u64,
    /// Width of the added part of the bar, in SVG units.
    pub added_width: u32,
    pub removed_width: u32,
}

/// One file.
#[derive(Clone, Debug)]
pub struct FileLine {
    /// `added`, `changed` and so on.
    pub word: &'static str,
    /// One letter for narrow places, as git writes it.
    pub letter: &'static str,
    pub path: String,
    /// Where a renamed or copied file comes from.
    pub from: Option<String>,
    pub lines: Option<Lines>,
    /// Rules that matched it.
    pub rules: Vec<String>,
    /// What is doubtful about it, a sentence.
    pub reason: Option<String>,
}

/// Groups files by area, the one with most files first.
pub fn areas(files: &[FileChange], trace: &[TraceEntry]) -> Vec<Area> {
    let traced: BTreeMap<&str, &TraceEntry> = trace.iter().map(|it| (it.path.as_str(), it)).collect();
    let mut groups: BTreeMap<String, Vec<&FileChange>> = BTreeMap::new();
    for file in files {
        groups.entry(area_of(file)).or_default().push(file);
    }
    let mut groups: Vec<(String, Vec<&FileChange>)> = groups.into_iter().collect();
    groups.sort_by(|(left, some), (right, others)| others.len().cmp(&some.len()).then(left.cmp(right)));

    // The busiest area has the full bar, so that bars compare.
    let sums: Vec<Option<(u64, u64)>> = groups.iter().map(|(_, files)| sum(files)).collect();
    let most = sums
        .iter()
        .flatten()
        .map(|(added, removed)| added + removed)
        .max()
        .unwrap_or(0);
    let mut left = FILES_SHOWN_MAX;
    groups
        .into_iter()
        .zip(sums)
        .map(|((name, files), sum)| {
            let listed = files.len().min(left);
            left -= listed;
            Area {
                name: if name == TOP { fixed(TOP).to_owned() } else { name },
                count: files.len(),
                lines: sum.map(|(added, removed)| bar(added, removed, most)),
                more: files.len() - listed,
                files: files
                    .into_iter()
                    .take(listed)
                    .map(|it| line(it, &traced))
                    .collect(),
            }
        })
        .collect()
}

/// Lines of all files together; `None` where the forge tells no numbers for some.
pub fn total(files: &[FileChange]) -> Option<Lines> {
    let (added, removed) = sum(&files.iter().collect::<Vec<_>>())?;
    Some(bar(added, removed, added + removed))
}

fn sum(files: &[&FileChange]) -> Option<(u64, u64)> {
    files.iter().try_fold((0, 0), |(added, removed), file| {
        let (plus, minus) = file.lines?;
        Some((added + u64::from(plus), removed + u64::from(minus)))
    })
}

fn bar(added: u64, removed: u64, most: u64) -> Lines {
    let width = |part: u64| {
        let full = part.saturating_mul(u64::from(BAR)).checked_div(most).unwrap_or(0);
        // What is there is seen, however little it is.
        u32::try_from(full).unwrap_or(BAR).max(u32::from(part > 0))
    };
    Lines {
        added,
        removed,
        added_width: width(added),
        removed_width: width(removed),
    }
}

fn area_of(file: &FileChange) -> String {
    let Some(path) = file.new_path.as_ref().or(file.old_path.as_ref()) else {
        return TOP.to_owned();
    };
    match path.shown().split_once('/') {
        Some((area, _)) => format!("{area}/"),
        None => TOP.to_owned(),
    }
}

fn line(file: &FileChange, traced: &BTreeMap<&str, &TraceEntry>) -> FileLine {
    let (word, letter) = match file.status {
        FileStatus::Added => (t!("added"), "A"),
        FileStatus::Modified => (t!("changed"), "M"),
        FileStatus::Deleted => (t!("deleted"), "D"),
        FileStatus::Renamed => (t!("renamed"), "R"),
        FileStatus::Copied => (t!("copied"), "C"),
        FileStatus::TypeChanged => (t!("another type"), "T"),
    };
    let old = file.old_path.as_ref().map(|it| it.shown());
    let new = file.new_path.as_ref().map(|it| it.shown());
    let from = old
        .clone()
        .filter(|_| matches!(file.status, FileStatus::Renamed | FileStatus::Copied));
    let path = new.or(old).unwrap_or_default();
    let mut rules: Vec<String> = Vec::new();
    let mut reason = None;
    for entry in [Some(&path), from.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|it| traced.get(it.as_str()))
    {
        for rule in entry
            .matched
            .iter()
            .filter(|it| !rules.contains(it))
            .cloned()
            .collect::<Vec<_>>()
        {
            rules.push(rule);
        }
        reason = reason.or_else(|| entry.reason.clone());
    }
    let lines = file.lines.map(|(plus, minus)| {
        bar(
            u64::from(plus),
            u64::from(minus),
            u64::from(plus) + u64::from(minus),
        )
    });
    FileLine {
        word,
        letter,
        path,
        from,
        lines,
        rules,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::facts::{FileMode, RepoPath};

    fn file(path: &str, lines: Option<(u32, u32)>) -> FileChange {
        FileChange {
            status: FileStatus::Modified,
            old_path: Some(RepoPath::from(path)),
            new_path: Some(RepoPath::from(path)),
            old_mode: FileMode::Known(0o100_644),
            new_mode: FileMode::Known(0o100_644),
            lines,
        }
    }

    #[test]
    fn files_stand_under_their_top_level_directory() {
        let files = [
            file("src/a/b.rs", Some((3, 1))),
            file("README.md", Some((1, 0))),
            file("src/c.rs", Some((0, 2))),
        ];
        let areas = areas(&files, &[]);
        let names: Vec<(&str, usize)> = areas.iter().map(|it| (it.name.as_str(), it.count)).collect();
        assert_eq!(names, [("src/", 2), (TOP, 1)]);
        assert_eq!(
            areas[0].lines,
            Some(Lines {
                added: 3,
                removed: 3,
                added_width: 30,
                removed_width: 30
            })
        );
    }

    #[test]
    fn a_sum_with_an_unknown_part_is_not_told() {
        let files = [file("src/a.rs", Some((3, 1))), file("src/b.rs", None)];
        assert_eq!(areas(&files, &[])[0].lines, None);
        assert_eq!(total(&files), None);
    }

    #[test]
    fn a_long_list_is_cut_and_the_rest_counted() {
        let files: Vec<FileChange> = (0..500).map(|it| file(&format!("src/{it}.rs"), None)).collect();
        let areas = areas(&files, &[]);
        assert_eq!(
            (areas[0].count, areas[0].files.len(), areas[0].more),
            (500, FILES_SHOWN_MAX, 100)
        );
    }

    #[test]
    fn a_path_cannot_hide_what_it_is() {
        let areas = areas(&[file("src\u{202e}/x.rs", None)], &[]);
        assert_eq!(areas[0].name, "src\\u{202e}/");
    }
}
