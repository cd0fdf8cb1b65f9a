//! Two documents side by side: what was taken out and what was put in, with a little of what stands around it.

use crate::web::pages::shown;
use similar::{ChangeTag, TextDiff};

/// Lines around a change.
const CONTEXT: usize = 3;
/// Longest line, in characters.
const LINE_MAX: usize = 1_000;
/// Most lines on a page.
const LINES_MAX: usize = 4_000;

/// One line of a difference.
pub struct DiffLine {
    /// `added`, `removed`, `same`, or `gap` where lines that are equal were left out.
    pub look: &'static str,
    /// For people who can't see colours, and for those who hear the page.
    pub word: &'static str,
    pub sign: &'static str,
    pub old: Option<usize>,
    pub new: Option<usize>,
    pub text: String,
}

/// What differs, and how much was left out for being too long.
pub struct Difference {
    pub lines: Vec<DiffLine>,
    pub added: usize,
    pub removed: usize,
    pub cut: bool,
}

/// Compares two texts line by line.
pub fn difference(old: &[u8], new: &[u8]) -> Difference {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let (mut lines, mut added, mut removed) = (Vec::new(), 0, 0);
    for (at, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if at > 0 {
            lines.push(gap());
        }
        for change in group.iter().flat_map(|it| diff.iter_changes(it)) {
            let (look, word, sign) = match change.tag() {
                ChangeTag::Insert => ("added", "added", "+"),
                ChangeTag::Delete => ("removed", "removed", "−"),
                ChangeTag::Equal => ("same", "", ""),
            };
            added += usize::from(change.tag() == ChangeTag::Insert);
            removed += usize::from(change.tag() == ChangeTag::Delete);
            lines.push(DiffLine {
                look,
                word,
                sign,
                old: change.old_index().map(|it| it + 1),
                new: change.new_index().map(|it| it + 1),
                text: shown(change.value().trim_end_matches(['\n', '\r']), LINE_MAX),
            });
        }
    }
    let cut = lines.len() > LINES_MAX;
    lines.truncate(LINES_MAX);
    Difference {
        lines,
        added,
        removed,
        cut,
    }
}

fn gap() -> DiffLine {
    DiffLine {
        look: "gap",
        word: "lines left out",
        sign: "⋯",
        old: None,
        new: None,
        text: String::new(),
    }
}
