//! Two documents side by side: what was taken out and what was put in, with a little of what stands around it.

use crate::texts::t;
use crate::web::pages::shown;
use similar::{ChangeTag, TextDiff};

/// Lines around a change.
const CONTEXT: usize = 3;
/// Longest line, in characters.
const LINE_MAX: usize = 1_000;
/// A document with a longer line than this, in bytes, was not written to be read by people: it is laid out anew.
const READABLE_MAX: usize = 160;
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
    /// Both texts were laid out anew: line numbers are those of this layout.
    pub anew: bool,
}

/// A document laid out anew, where it is JSON.
fn laid_out(text: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(text).ok();
    let pretty = value.and_then(|it| serde_json::to_string_pretty(&it).ok());
    pretty.map_or_else(|| String::from_utf8_lossy(text).into_owned(), |it| it + "\n")
}

/// Compares two texts line by line.
pub fn difference(old: &[u8], new: &[u8]) -> Difference {
    let long = |it: &[u8]| it.split(|it| *it == b'\n').any(|it| it.len() > READABLE_MAX);
    let anew = long(old) || long(new);
    let (old, new) = match anew {
        // Both or none, or everything would differ.
        true => (laid_out(old), laid_out(new)),
        false => (
            String::from_utf8_lossy(old).into_owned(),
            String::from_utf8_lossy(new).into_owned(),
        ),
    };
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let (mut lines, mut added, mut removed) = (Vec::new(), 0, 0);
    for (at, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if at > 0 {
            lines.push(gap());
        }
        for change in group.iter().flat_map(|it| diff.iter_changes(it)) {
            let (look, word, sign) = match change.tag() {
                ChangeTag::Insert => ("added", t!("added"), "+"),
                ChangeTag::Delete => ("removed", t!("removed"), "−"),
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
        anew,
    }
}

fn gap() -> DiffLine {
    DiffLine {
        look: "gap",
        word: t!("lines left out"),
        sign: "⋯",
        old: None,
        new: None,
        text: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_on_one_long_line_is_laid_out_before_it_is_compared() {
        let one = |quorum: u32| {
            let name = "n".repeat(200);
            format!(
                r#"{{"rules":[{{"name":"{name}","require":{{"method":["passkey"],"quorum":{quorum}}}}}]}}"#
            )
        };
        let told = difference(one(1).as_bytes(), one(2).as_bytes());
        assert!(told.anew);
        assert_eq!((told.added, told.removed), (1, 1));
        let changed: Vec<&str> = told
            .lines
            .iter()
            .filter(|it| it.look != "same")
            .map(|it| it.text.trim())
            .collect();
        assert_eq!(changed, [r#""quorum": 1"#, r#""quorum": 2"#]);
        let short = difference(b"{\n}\n", b"{ }\n");
        assert!(
            !short.anew && short.removed == 2,
            "written by hand, it stays as it is"
        );
    }
}
