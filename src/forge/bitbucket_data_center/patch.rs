//! Modes and numbers of lines, from the raw diff of a pull request: Bitbucket's lists tell neither. Whatever is not found
//! here, or is not understood, stays unknown.

use crate::domain::facts::FileMode;
use std::collections::HashMap;

/// What a diff tells of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) old_mode: FileMode,
    pub(super) new_mode: FileMode,
    /// Lines added and removed; `None` for what is not text.
    pub(super) lines: Option<(u32, u32)>,
}

/// What a diff tells, by the path before and after.
#[derive(Debug, Default)]
pub(super) struct Patch(HashMap<(String, String), Told>);

impl Patch {
    pub(super) fn of(&self, old: &str, new: &str) -> Option<Told> {
        self.0.get(&(old.to_owned(), new.to_owned())).copied()
    }
}

/// One file while it is read.
#[derive(Default)]
struct Open {
    header: String,
    old: Option<String>,
    new: Option<String>,
    old_mode: Option<FileMode>,
    new_mode: Option<FileMode>,
    added: u32,
    removed: u32,
    binary: bool,
}

/// Reads a diff as git writes it. The text of files can't pass for a header: inside of a hunk lines are counted, and
/// everywhere else only git writes.
pub(super) fn read(diff: &[u8]) -> Patch {
    let mut found = HashMap::new();
    let mut open: Option<Open> = None;
    let (mut old_left, mut new_left) = (0u32, 0u32);
    for line in diff.split(|it| *it == b'\n') {
        if old_left > 0 || new_left > 0 {
            let Some(it) = &mut open else {
                return Patch::default();
            };
            match line.first() {
                Some(b'+') if new_left > 0 => {
                    new_left -= 1;
                    it.added = it.added.saturating_add(1);
                }
                Some(b'-') if old_left > 0 => {
                    old_left -= 1;
                    it.removed = it.removed.saturating_add(1);
                }
                Some(b'\\') => {}
                Some(b' ') | None if old_left > 0 && new_left > 0 => {
                    old_left -= 1;
                    new_left -= 1;
                }
                // Not a diff as git writes it: nothing of it is believed.
                _ => return Patch::default(),
            }
            continue;
        }
        let line = String::from_utf8_lossy(line);
        if let Some(header) = line.strip_prefix("diff --git ") {
            keep(open.take(), &mut found);
            open = Some(Open {
                header: header.to_owned(),
                ..Open::default()
            });
            continue;
        }
        let Some(it) = &mut open else { continue };
        if line.starts_with("@@ ") {
            let Some(counts) = hunk(&line) else {
                return Patch::default();
            };
            (old_left, new_left) = counts;
        } else if let Some(mode) = line.strip_prefix("old mode ") {
            it.old_mode = octal(mode);
        } else if let Some(mode) = line.strip_prefix("new mode ") {
            it.new_mode = octal(mode);
        } else if let Some(mode) = line.strip_prefix("new file mode ") {
            (it.old_mode, it.new_mode) = (Some(FileMode::ABSENT), octal(mode));
        } else if let Some(mode) = line.strip_prefix("deleted file mode ") {
            (it.old_mode, it.new_mode) = (octal(mode), Some(FileMode::ABSENT));
        } else if let Some(rest) = line.strip_prefix("index ") {
            // The mode stands there where it is the same on both sides.
            if let Some((_, mode)) = rest.split_once(' ') {
                (it.old_mode, it.new_mode) = (octal(mode), octal(mode));
            }
        } else if let Some(path) = line
            .strip_prefix("rename from ")
            .or(line.strip_prefix("copy from "))
        {
            it.old = unquoted(path, &[]);
        } else if let Some(path) = line.strip_prefix("rename to ").or(line.strip_prefix("copy to ")) {
            it.new = unquoted(path, &[]);
        } else if let Some(path) = line.strip_prefix("--- ") {
            it.old = it.old.take().or(unquoted(path, &["a/", "src://"]));
        } else if let Some(path) = line.strip_prefix("+++ ") {
            it.new = it.new.take().or(unquoted(path, &["b/", "dst://"]));
        } else if line.starts_with("Binary files ") || line.starts_with("GIT binary patch") {
            it.binary = true;
        }
    }
    if old_left > 0 || new_left > 0 {
        return Patch::default();
    }
    keep(open, &mut found);
    Patch(found)
}

fn keep(open: Option<Open>, found: &mut HashMap<(String, String), Told>) {
    let Some(it) = open else { return };
    let same = same_path(&it.header);
    let (old, new) = match (it.old, it.new) {
        (Some(old), Some(new)) => (old, new),
        // A file that is not there on one side is named by the other.
        (Some(one), None) | (None, Some(one)) => (one.clone(), one),
        (None, None) => match same {
            Some(path) => (path.clone(), path),
            None => return,
        },
    };
    let told = Told {
        old_mode: it.old_mode.unwrap_or(FileMode::UNKNOWN),
        new_mode: it.new_mode.unwrap_or(FileMode::UNKNOWN),
        lines: (!it.binary).then_some((it.added, it.removed)),
    };
    // Named twice: nobody knows which of them counts.
    let unknown = Told {
        old_mode: FileMode::UNKNOWN,
        new_mode: FileMode::UNKNOWN,
        lines: None,
    };
    found
        .entry((old, new))
        .and_modify(|it| *it = unknown)
        .or_insert(told);
}

/// The path of a header without any of the lines below it that name one: then it is the same on both sides.
fn same_path(header: &str) -> Option<String> {
    for (old, new) in [("a/", "b/"), ("src://", "dst://")] {
        if let (Some(rest), false) = (header.strip_prefix(old), header.starts_with('"')) {
            let size = rest.len().checked_sub(1 + new.len())?;
            let half = size.checked_div(2).filter(|_| size.is_multiple_of(2))?;
            let (one, other) = (rest.get(..half)?, rest.get(half..)?);
            let other = other.strip_prefix(' ')?.strip_prefix(new)?;
            return (one == other).then(|| one.to_owned());
        }
    }
    let (one, other) = header.split_once("\" \"")?;
    let one = unquoted(&format!("{one}\""), &["a/", "src://"])?;
    let other = unquoted(&format!("\"{other}"), &["b/", "dst://"])?;
    (one == other).then_some(one)
}

/// A path as git writes it: in quotes, with escapes, where it holds anything odd. `None` for `/dev/null`, for what is not
/// UTF-8, and without one of the prefixes.
fn unquoted(text: &str, prefixes: &[&str]) -> Option<String> {
    let text = text.trim_end_matches(['\t', '\r']);
    if text == "/dev/null" {
        return None;
    }
    let plain = match text.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
        None => text.to_owned(),
        Some(inner) => {
            let mut bytes = Vec::new();
            let mut rest = inner.bytes();
            while let Some(b) = rest.next() {
                if b != b'\\' {
                    bytes.push(b);
                    continue;
                }
                bytes.push(match rest.next()? {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    digit @ b'0'..=b'3' => {
                        let mut value = digit - b'0';
                        for _ in 0..2 {
                            let next = rest.next().filter(|it| (b'0'..=b'7').contains(it))?;
                            value = value.wrapping_mul(8).wrapping_add(next - b'0');
                        }
                        value
                    }
                    other @ (b'"' | b'\\') => other,
                    _ => return None,
                });
            }
            String::from_utf8(bytes).ok()?
        }
    };
    if prefixes.is_empty() {
        return Some(plain);
    }
    prefixes
        .iter()
        .find_map(|it| plain.strip_prefix(it))
        .map(str::to_owned)
}

fn octal(text: &str) -> Option<FileMode> {
    let text = text.trim();
    let plain = text.len() == 6 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(text, 8).ok().filter(|it| plain && *it != 0)?;
    Some(FileMode::Known(bits))
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
    use proptest::prelude::*;

    const FILE: FileMode = FileMode::Known(0o100_644);

    #[test]
    fn every_kind_of_change_is_told() {
        let patch = read(
            b"diff --git a/one b/one\nindex 1111111..2222222 100644\n--- a/one\n+++ b/one\n@@ -1 +1,2 @@ fn\n-x\n+y\n+z\n\
              diff --git src://new dst://new\nnew file mode 120000\nindex 0000000..3\n--- /dev/null\n+++ dst://new\n@@ -0,0 +1 @@\n+one\n\\ No newline at end of file\n\
              diff --git a/gone b/gone\ndeleted file mode 100755\nindex 3..0\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n--- a/old\n\
              diff --git a/from b/to\nsimilarity index 90%\nrename from from\nrename to to\nindex 4..5 100644\n--- a/from\n+++ b/to\n@@ -1 +1 @@\n-a\n+b\n\
              diff --git a/moved b/elsewhere\nsimilarity index 100%\nrename from moved\nrename to elsewhere\n\
              diff --git a/run b/run\nold mode 100644\nnew mode 100755\n\
              diff --git \"a/caf\\303\\251\" \"b/caf\\303\\251\"\nnew file mode 100644\nindex 0..6\n\
              diff --git a/pic b/pic\nindex 7..8 100644\nBinary files a/pic and b/pic differ\n",
        );
        let of = |old: &str, new: &str| {
            let it = patch
                .of(old, new)
                .unwrap_or_else(|| panic!("{old} {new}: {patch:?}"));
            (it.old_mode, it.new_mode, it.lines)
        };
        assert_eq!(of("one", "one"), (FILE, FILE, Some((2, 1))));
        assert_eq!(
            of("new", "new"),
            (FileMode::ABSENT, FileMode::Known(0o120_000), Some((1, 0)))
        );
        assert_eq!(
            of("gone", "gone"),
            (FileMode::Known(0o100_755), FileMode::ABSENT, Some((0, 1)))
        );
        assert_eq!(of("from", "to"), (FILE, FILE, Some((1, 1))));
        assert_eq!(
            of("moved", "elsewhere"),
            (FileMode::UNKNOWN, FileMode::UNKNOWN, Some((0, 0)))
        );
        assert_eq!(of("run", "run"), (FILE, FileMode::Known(0o100_755), Some((0, 0))));
        assert_eq!(of("café", "café"), (FileMode::ABSENT, FILE, Some((0, 0))));
        assert_eq!(of("pic", "pic"), (FILE, FILE, None));
    }

    #[test]
    fn the_text_of_a_file_is_never_taken_for_a_header() {
        let inside = "@@ -0,0 +1,3 @@\n+diff --git a/x b/x\n+index 1..2 100644\n+new mode 100644\n";
        let diff = format!(
            "diff --git a/link b/link\nnew file mode 120000\nindex 0..1\n--- /dev/null\n+++ b/link\n{inside}"
        );
        let patch = read(diff.as_bytes());
        assert_eq!(patch.0.len(), 1, "{patch:?}");
        assert_eq!(
            patch.of("link", "link").expect("it").new_mode,
            FileMode::Known(0o120_000)
        );
        // A hunk that is shorter than it says, or longer: nothing is believed.
        assert!(
            read(b"diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n-a\n+b\n")
                .0
                .is_empty()
        );
        assert!(
            read(b"diff --git a/x b/x\nindex 1..2 100644\n@@ -1 +1 @@\nzzz\n")
                .0
                .is_empty()
        );
        // The same file twice: unknown.
        let twice = read(b"diff --git a/x b/x\nindex 1..2 100644\ndiff --git a/x b/x\nindex 1..2 100644\n");
        assert_eq!(twice.of("x", "x").expect("it").new_mode, FileMode::UNKNOWN);
    }

    proptest! {
        #[test]
        fn no_text_panics(diff in any::<Vec<u8>>(), line in "[ -~]{0,60}") {
            let _ = read(&diff);
            let _ = read(format!("diff --git {line}\n@@ {line}\n--- {line}\n+++ {line}\nindex {line}\n").as_bytes());
        }

        #[test]
        fn added_text_is_counted_and_not_read(lines in proptest::collection::vec("[ -~]{0,40}", 1..20)) {
            let text: String = lines.iter().map(|it| format!("+{it}\n")).collect();
            let count = u32::try_from(lines.len()).expect("small");
            let diff = format!("diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1,{count} @@\n{text}");
            let patch = read(diff.as_bytes());
            let told = patch.of("x", "x").expect("it");
            prop_assert_eq!((told.new_mode, told.lines), (FileMode::Known(0o120_000), Some((count, 0))));
            prop_assert_eq!(patch.0.len(), 1);
        }
    }
}
