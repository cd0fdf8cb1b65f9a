//! Reads a difference as git writes it (git-diff(1), "Generating patch text with -p"): modes, and the lines of each file.
//! Neither Bitbucket's list of changed files tells them.

use crate::domain::ids::Digest;
use crate::outbound::Error;
use std::collections::HashMap;

/// What stands before paths: git's own, and what Data Center configures.
const OLD: [&[u8]; 2] = [b"a/", b"src://"];
const NEW: [&[u8]; 2] = [b"b/", b"dst://"];

/// What a difference says of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FilePatch {
    /// Path before; `None` where the file did not exist.
    pub(super) old: Option<Vec<u8>>,
    pub(super) new: Option<Vec<u8>>,
    /// Git's mode bits, as far as they are told.
    pub(super) old_mode: Option<u32>,
    pub(super) new_mode: Option<u32>,
    /// Its content is not shown.
    pub(super) binary: bool,
    /// Lines added and removed.
    pub(super) counted: (u32, u32),
    /// Over its lines, without their numbers: those move with what else came in.
    pub(super) lines: Option<Digest>,
}

/// Modes by path, before and after.
#[derive(Debug, Default)]
pub(super) struct Modes {
    pub(super) old: HashMap<Vec<u8>, u32>,
    pub(super) new: HashMap<Vec<u8>, u32>,
}

impl Modes {
    /// As told by a difference. One file that changes its type stands there twice, as removed and as added.
    pub(super) fn of(patches: &[FilePatch]) -> Self {
        let mut modes = Modes::default();
        for it in patches {
            if let (Some(path), Some(mode)) = (&it.old, it.old_mode) {
                modes.old.insert(path.clone(), mode);
            }
            if let (Some(path), Some(mode)) = (&it.new, it.new_mode) {
                modes.new.insert(path.clone(), mode);
            }
        }
        modes
    }
}

/// A file of which the lines are being read.
#[derive(Default)]
struct Reading {
    patch: FilePatch,
    /// `a/… b/…` of its first line.
    header: Vec<u8>,
    /// The old and the new name were told by lines of their own.
    named: (bool, bool),
    added: bool,
    removed: bool,
    lines: Vec<u8>,
}

impl Reading {
    fn done(mut self) -> Result<FilePatch, Error> {
        if let Some(path) = same_twice(&self.header) {
            if !self.named.0 {
                self.patch.old = Some(path.clone());
            }
            if !self.named.1 {
                self.patch.new = Some(path);
            }
        }
        if self.added {
            self.patch.old = None;
        }
        if self.removed {
            self.patch.new = None;
        }
        if self.patch.old.is_none() && self.patch.new.is_none() {
            return Err(odd("a file without a name"));
        }
        if !self.lines.is_empty() {
            self.patch.lines = Some(Digest::of(&self.lines));
        }
        Ok(self.patch)
    }
}

fn odd(what: &str) -> Error {
    Error::NotJson(format!("a difference that can't be read: {what}"))
}

/// All files of a difference.
///
/// # Errors
/// `NotJson` for anything that git does not write.
pub(super) fn read(text: &[u8]) -> Result<Vec<FilePatch>, Error> {
    let mut found = Vec::new();
    let mut now: Option<Reading> = None;
    // Lines of the present hunk that are still to come: before, after.
    let mut left = (0_u64, 0_u64);
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    if body.is_empty() {
        return Ok(found);
    }
    for line in body.split(|b| *b == b'\n') {
        if left != (0, 0) {
            let it = now.as_mut().ok_or_else(|| odd("lines of no file"))?;
            let (old, new) = match line.first() {
                Some(b' ') | None => (1, 1),
                Some(b'-') => (1, 0),
                Some(b'+') => (0, 1),
                Some(b'\\') => (0, 0),
                Some(_) => return Err(odd("a line that is neither old nor new")),
            };
            left = (
                left.0
                    .checked_sub(old)
                    .ok_or_else(|| odd("more lines than told"))?,
                left.1
                    .checked_sub(new)
                    .ok_or_else(|| odd("more lines than told"))?,
            );
            let counted = &mut it.patch.counted;
            match (old, new) {
                (0, 1) => counted.0 = counted.0.saturating_add(1),
                (1, 0) => counted.1 = counted.1.saturating_add(1),
                _ => {}
            }
            it.lines.extend_from_slice(line);
            it.lines.push(b'\n');
            continue;
        }
        if let Some(header) = line.strip_prefix(b"diff --git ") {
            found.extend(now.take().map(Reading::done).transpose()?);
            now = Some(Reading {
                header: header.to_vec(),
                ..Reading::default()
            });
            continue;
        }
        let it = now.as_mut().ok_or_else(|| odd("lines of no file"))?;
        if line.starts_with(b"@@ ") {
            left = counts(line)?;
            it.lines.extend_from_slice(b"@@\n");
        } else if line.starts_with(b"\\") {
            it.lines.extend_from_slice(line);
            it.lines.push(b'\n');
        } else {
            header(it, line)?;
        }
    }
    if left != (0, 0) {
        return Err(odd("it ends within a file"));
    }
    found.extend(now.take().map(Reading::done).transpose()?);
    Ok(found)
}

/// One of the lines between a file's first line and its content.
fn header(it: &mut Reading, line: &[u8]) -> Result<(), Error> {
    let after = |prefix: &str| line.strip_prefix(prefix.as_bytes());
    let patch = &mut it.patch;
    if let Some(bits) = after("old mode ") {
        patch.old_mode = Some(mode(bits)?);
    } else if let Some(bits) = after("new mode ") {
        patch.new_mode = Some(mode(bits)?);
    } else if let Some(bits) = after("new file mode ") {
        patch.new_mode = Some(mode(bits)?);
        it.added = true;
    } else if let Some(bits) = after("deleted file mode ") {
        patch.old_mode = Some(mode(bits)?);
        it.removed = true;
    } else if let Some(path) = after("rename from ").or_else(|| after("copy from ")) {
        patch.old = Some(unquoted(path)?);
        it.named.0 = true;
    } else if let Some(path) = after("rename to ").or_else(|| after("copy to ")) {
        patch.new = Some(unquoted(path)?);
        it.named.1 = true;
    } else if let Some(blobs) = after("index ") {
        if let Some(at) = blobs.iter().position(|b| *b == b' ') {
            let bits = mode(&blobs[at + 1..])?;
            (patch.old_mode, patch.new_mode) = (Some(bits), Some(bits));
        }
    } else if let Some(path) = after("--- ") {
        if let Some(path) = side(path, &OLD)? {
            patch.old = Some(path);
            it.named.0 = true;
        }
    } else if let Some(path) = after("+++ ") {
        if let Some(path) = side(path, &NEW)? {
            patch.new = Some(path);
            it.named.1 = true;
        }
    } else if line.starts_with(b"Binary files ") || line.starts_with(b"GIT binary patch") {
        patch.binary = true;
    } else if !patch.binary
        && !line.starts_with(b"similarity index ")
        && !line.starts_with(b"dissimilarity index ")
        && !line.is_empty()
    {
        return Err(odd("a line that git does not write there"));
    }
    Ok(())
}

/// `@@ -1,2 +3,4 @@ …`: how many lines before and after.
fn counts(line: &[u8]) -> Result<(u64, u64), Error> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split(' ').skip(1);
    let mut count = |sign: char| {
        let range = words.next()?.strip_prefix(sign)?;
        match range.split_once(',') {
            Some((_, count)) => count.parse().ok(),
            None => range.parse::<u64>().ok().map(|_| 1),
        }
    };
    count('-')
        .zip(count('+'))
        .ok_or_else(|| odd("lines without numbers"))
}

fn mode(bits: &[u8]) -> Result<u32, Error> {
    std::str::from_utf8(bits)
        .ok()
        .and_then(|it| u32::from_str_radix(it, 8).ok())
        .filter(|it| *it != 0)
        .ok_or_else(|| odd("a mode that is none"))
}

/// The path of a `---` or `+++` line; `None` for a file that does not exist there.
fn side(text: &[u8], prefixes: &[&[u8]]) -> Result<Option<Vec<u8>>, Error> {
    // Git puts a tab behind a path with blanks.
    let path = unquoted(text.strip_suffix(b"\t").unwrap_or(text))?;
    if path == b"/dev/null" {
        return Ok(None);
    }
    let path = without(&path, prefixes).ok_or_else(|| odd("a path without its side"))?;
    Ok(Some(path.to_vec()))
}

/// The path of `a/PATH b/PATH`, where it is the same on both sides.
fn same_twice(header: &[u8]) -> Option<Vec<u8>> {
    let half = header.len().checked_sub(1)? / 2;
    let (old, new) = (&header[..half], header.get(half + 1..)?);
    if header.get(half) != Some(&b' ') {
        return None;
    }
    let (old, new) = (unquoted(old).ok()?, unquoted(new).ok()?);
    let old = without(&old, &OLD)?;
    (Some(old) == without(&new, &NEW)).then(|| old.to_vec())
}

/// The path behind the prefix that names its side.
fn without<'a>(path: &'a [u8], prefixes: &[&[u8]]) -> Option<&'a [u8]> {
    prefixes.iter().find_map(|it| path.strip_prefix(*it))
}

/// A path without git's quotes (git-config(1), `core.quotePath`).
fn unquoted(text: &[u8]) -> Result<Vec<u8>, Error> {
    let Some(inner) = text.strip_prefix(b"\"") else {
        return Ok(text.to_vec());
    };
    let inner = inner
        .strip_suffix(b"\"")
        .ok_or_else(|| odd("a quote without an end"))?;
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(b) = rest.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let escaped = rest
            .next()
            .ok_or_else(|| odd("a quote that ends in the middle"))?;
        out.push(match escaped {
            b'a' => 7,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' => 12,
            b'r' => b'\r',
            b'"' | b'\\' => escaped,
            b'0'..=b'3' => {
                let mut value = u32::from(escaped - b'0');
                for _ in 0..2 {
                    let digit = rest.next().filter(|it| (b'0'..=b'7').contains(it));
                    let digit = digit.ok_or_else(|| odd("a quote that is none"))?;
                    value = value * 8 + u32::from(digit - b'0');
                }
                u8::try_from(value).map_err(|_| odd("a quote that is none"))?
            }
            _ => return Err(odd("a quote that is none")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> FilePatch {
        let mut all = read(text.as_bytes()).expect("readable");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn sides(it: &FilePatch) -> (Option<&str>, Option<&str>) {
        let text = |it: &Option<Vec<u8>>| {
            it.clone()
                .map(|it| String::from_utf8(it).expect("UTF-8").leak() as &str)
        };
        (text(&it.old), text(&it.new))
    }

    #[test]
    fn every_kind_of_change_is_read() {
        let it = one(
            "diff --git a/x y b/x y\nindex 1..2 100644\n--- a/x y\t\n+++ b/x y\t\n@@ -1 +1 @@\n-diff --git a/q b/q\n+@@ -1 +1 @@\n",
        );
        assert_eq!(sides(&it), (Some("x y"), Some("x y")));
        assert_eq!((it.old_mode, it.new_mode), (Some(0o100_644), Some(0o100_644)));
        let it = one(
            "diff --git a/new b/new\nnew file mode 120000\nindex 0..2\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+to\n\\ No newline at end of file\n",
        );
        assert_eq!((sides(&it), it.new_mode), ((None, Some("new")), Some(0o120_000)));
        let it = one("diff --git a/empty b/empty\ndeleted file mode 100644\nindex 0..0\n");
        assert_eq!(
            (sides(&it), it.old_mode),
            ((Some("empty"), None), Some(0o100_644))
        );
        let it = one("diff --git a/old b/neu\nsimilarity index 100%\nrename from old\nrename to neu\n");
        assert_eq!((sides(&it), it.old_mode), ((Some("old"), Some("neu")), None));
        let it = one("diff --git a/run b/run\nold mode 100644\nnew mode 100755\n");
        assert_eq!(sides(&it), (Some("run"), Some("run")));
        assert_eq!((it.old_mode, it.new_mode), (Some(0o100_644), Some(0o100_755)));
        let it =
            one("diff --git a/p.png b/p.png\nindex 1..2 100644\nBinary files a/p.png and b/p.png differ\n");
        assert!(it.binary && it.lines.is_none());
        let it =
            one("diff --git \"a/caf\\303\\251\" \"b/caf\\303\\251\"\nold mode 100644\nnew mode 100755\n");
        assert_eq!(sides(&it), (Some("café"), Some("café")));
        assert!(read(b"").expect("nothing").is_empty());
    }

    #[test]
    fn the_numbers_of_lines_do_not_count_and_all_else_does() {
        let lines = |at: u32, text: &str| {
            one(&format!(
                "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n@@ -{at} +{at} @@ fn x\n-a\n+{text}\n"
            ))
            .lines
        };
        assert_eq!(lines(1, "b"), lines(9, "b"));
        assert_ne!(lines(1, "b"), lines(1, "c"));
    }

    #[test]
    fn what_git_does_not_write_is_refused() {
        for odd in [
            "nonsense",
            "@@ -1 +1 @@\n-a\n+b",
            "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1 @@\n-a\n+b\n",
            "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n*b\n",
            "diff --git a/f b/g\n",
            "diff --git a/f b/f\nold mode 9\n",
            "diff --git a/f b/f\n--- \"a/\\9\"\n",
        ] {
            assert!(read(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn lines_are_counted_and_data_centers_prefixes_known() {
        let it = one(
            "diff --git src://a b dst://a b\nindex 1..2 100644\n--- src://a b\n+++ dst://a b\n@@ -1,2 +1,3 @@\n x\n--- y\n++++ z\n+w\n",
        );
        assert_eq!(sides(&it), (Some("a b"), Some("a b")));
        assert_eq!(it.counted, (2, 1));
        let moded = one("diff --git src://x dst://x\nold mode 100644\nnew mode 120000\n");
        assert_eq!(
            (sides(&moded), moded.new_mode),
            ((Some("x"), Some("x")), Some(0o120_000))
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&text);
            let whole = [b"diff --git a/f b/f\n".as_slice(), &text].concat();
            let _ = read(&whole);
        }
    }
}
