//! The commit graph of the fake GitLab: commits, trees, merge bases, diffs and three-way merges.
//! It never touches a disk and knows nothing of projects or people.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::Digest;
use sha2::Sha256;

/// A commit id: 40 hex digits. The fake derives it from SHA-256 of the commit, cut to git's usual length.
pub type Sha = String;

/// What GitLab writes for "no commit" in push events.
pub const NO_SHA: &str = "0000000000000000000000000000000000000000";

/// A name and an e-mail as git records them: whatever the writer typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub email: String,
}

impl Signature {
    pub fn new(name: &str, email: &str) -> Self {
        Self {
            name: name.to_owned(),
            email: email.to_owned(),
        }
    }
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Git's octal mode: `100644`, `100755`, `120000` (symlink), `160000` (submodule).
    pub mode: String,
    /// The text, the symlink's target, or the submodule's commit.
    pub content: Arc<str>,
}

/// A whole tree, by path.
pub type Tree = Arc<BTreeMap<String, Entry>>;

/// One edit of a tree, as a commit makes it.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Adds or modifies a regular file; an existing file keeps its mode.
    Write { path: String, content: String },
    /// Removes a path that must exist.
    Delete { path: String },
    /// Moves a path that must exist, content untouched.
    Rename { from: String, to: String },
    /// Sets the mode of a path that must exist.
    Mode { path: String, mode: String },
    /// Puts a symlink (mode 120000) at the path.
    Symlink { path: String, target: String },
    /// Puts a submodule (mode 160000) at the path.
    Submodule { path: String, commit: String },
}

impl Edit {
    pub fn write(path: &str, content: &str) -> Self {
        Self::Write {
            path: path.to_owned(),
            content: content.to_owned(),
        }
    }
    pub fn delete(path: &str) -> Self {
        Self::Delete {
            path: path.to_owned(),
        }
    }
    pub fn rename(from: &str, to: &str) -> Self {
        Self::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }
    pub fn mode(path: &str, mode: &str) -> Self {
        Self::Mode {
            path: path.to_owned(),
            mode: mode.to_owned(),
        }
    }
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::Symlink {
            path: path.to_owned(),
            target: target.to_owned(),
        }
    }
    pub fn submodule(path: &str, commit: &str) -> Self {
        Self::Submodule {
            path: path.to_owned(),
            commit: commit.to_owned(),
        }
    }
}

/// A commit to be made: who, what it says, what it edits.
#[derive(Clone, Debug)]
pub struct NewCommit {
    pub author: Signature,
    pub committer: Signature,
    pub message: String,
    pub edits: Vec<Edit>,
    /// A second parent, for a merge made by hand. Its tree is merged in first; `edits` then decide conflicts.
    pub merges: Option<Sha>,
}

impl NewCommit {
    /// A commit whose author is its committer.
    pub fn by(name: &str, email: &str, message: &str, edits: Vec<Edit>) -> Self {
        let who = Signature::new(name, email);
        Self {
            author: who.clone(),
            committer: who,
            message: message.to_owned(),
            edits,
            merges: None,
        }
    }

    /// The same commit, committed by another.
    pub fn committed_by(mut self, name: &str, email: &str) -> Self {
        self.committer = Signature::new(name, email);
        self
    }

    /// The same commit, with a second parent.
    pub fn merging(mut self, sha: &str) -> Self {
        self.merges = Some(sha.to_owned());
        self
    }
}

/// A stored commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub sha: Sha,
    pub parents: Vec<Sha>,
    pub author: Signature,
    pub committer: Signature,
    pub message: String,
    pub tree: Tree,
    pub at: Timestamp,
}

impl Commit {
    /// First line of the message.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or("")
    }

    /// The `Key: value` lines of the last paragraph, in order; git's rule, without its odder corners.
    pub fn trailers(&self) -> Vec<(String, String)> {
        let mut paragraphs = self.message.trim_end().split("\n\n");
        let (Some(_title), Some(last)) = (paragraphs.next(), paragraphs.last()) else {
            return Vec::new();
        };
        let pairs: Option<Vec<_>> = last
            .lines()
            .map(|line| {
                let (key, value) = line.split_once(": ")?;
                let token = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
                token.then(|| (key.to_owned(), value.trim().to_owned()))
            })
            .collect();
        pairs.unwrap_or_default()
    }
}

/// One file of a diff, in GitLab's words.
#[derive(Clone, Debug)]
pub struct FileDiff {
    pub old_path: String,
    pub new_path: String,
    pub a_mode: String,
    pub b_mode: String,
    pub new_file: bool,
    pub renamed_file: bool,
    pub deleted_file: bool,
    /// Unified hunks without the `diff --git` head, as GitLab's API gives them.
    pub text: String,
}

impl FileDiff {
    /// Changed lines, as GitLab counts them against its diff limit.
    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// All commits of the instance: forks share them, as GitLab's object pools do.
#[derive(Clone, Default)]
pub struct Objects {
    commits: HashMap<Sha, Arc<Commit>>,
    made: u64,
}

impl Objects {
    pub fn get(&self, sha: &str) -> Option<&Arc<Commit>> {
        self.commits.get(sha)
    }

    /// The one commit whose id begins so.
    pub fn named(&self, name: &str) -> Option<Sha> {
        let mut all = self.commits.keys().filter(|it| it.starts_with(name));
        let found = all.next().cloned();
        found.filter(|_| !name.is_empty() && all.next().is_none())
    }

    fn must(&self, sha: &str) -> &Arc<Commit> {
        self.commits
            .get(sha)
            .unwrap_or_else(|| panic!("no commit {sha} in the fake GitLab"))
    }

    /// Stores a commit on top of `parent` (none for a root commit).
    pub fn commit(&mut self, parent: Option<&str>, new: &NewCommit) -> Sha {
        let mut tree = parent
            .map(|sha| (*self.must(sha).tree).clone())
            .unwrap_or_default();
        let mut parents: Vec<Sha> = parent.map(str::to_owned).into_iter().collect();
        if let (Some(ours), Some(theirs)) = (parent, &new.merges) {
            tree = self.merged_tree(ours, theirs).0;
            parents.push(theirs.clone());
        }
        for edit in &new.edits {
            apply(&mut tree, edit);
        }
        self.store(parents, &new.author, &new.committer, &new.message, Arc::new(tree))
    }

    /// Stores a commit with a ready tree.
    pub fn store(
        &mut self,
        parents: Vec<Sha>,
        author: &Signature,
        committer: &Signature,
        message: &str,
        tree: Tree,
    ) -> Sha {
        self.made += 1;
        let at = Timestamp::now();
        let mut hash = Sha256::new();
        hash.update(format!(
            "{}|{parents:?}|{author:?}|{committer:?}|{message}|",
            self.made
        ));
        for (path, entry) in tree.iter() {
            hash.update(format!("{path}|{}|{}|", entry.mode, entry.content.len()));
            hash.update(entry.content.as_bytes());
        }
        let sha = hex::encode(hash.finalize())[..40].to_owned();
        let commit = Commit {
            sha: sha.clone(),
            parents,
            author: author.clone(),
            committer: committer.clone(),
            message: message.to_owned(),
            tree,
            at,
        };
        self.commits.insert(sha.clone(), Arc::new(commit));
        sha
    }

    /// The commit and everything it descends from.
    pub fn history(&self, sha: &str) -> HashSet<Sha> {
        let mut seen = HashSet::new();
        let mut todo = vec![sha.to_owned()];
        while let Some(next) = todo.pop() {
            if let Some(commit) = self.get(&next)
                && seen.insert(next)
            {
                todo.extend(commit.parents.iter().cloned());
            }
        }
        seen
    }

    pub fn is_ancestor(&self, older: &str, newer: &str) -> bool {
        self.history(newer).contains(older)
    }

    /// The best common ancestor; the newest one where several are equally good.
    pub fn merge_base(&self, a: &str, b: &str) -> Option<Sha> {
        let left = self.history(a);
        let common: Vec<Sha> = self
            .history(b)
            .into_iter()
            .filter(|sha| left.contains(sha))
            .collect();
        let mut inner = HashSet::new();
        for sha in &common {
            for parent in &self.must(sha).parents {
                inner.insert(parent.clone());
            }
        }
        common
            .into_iter()
            .filter(|sha| !inner.contains(sha))
            .max_by_key(|sha| (self.must(sha).at, sha.clone()))
    }

    /// Commits of `head` that `base` does not have, newest first.
    pub fn range(&self, base: Option<&str>, head: &str) -> Vec<Sha> {
        let known = base.map(|sha| self.history(sha)).unwrap_or_default();
        let fresh: HashSet<Sha> = self.history(head).difference(&known).cloned().collect();
        let mut ordered = Vec::new();
        let mut placed = HashSet::new();
        self.place(head, &fresh, &mut placed, &mut ordered);
        ordered.reverse();
        ordered
    }

    /// The commits on the way of first parents from `head` down to what `base` has, newest first.
    pub fn first_parents(&self, base: Option<&str>, head: &str) -> Vec<Sha> {
        let known = base.map(|sha| self.history(sha)).unwrap_or_default();
        let mut out = Vec::new();
        let mut next = Some(head.to_owned());
        while let Some(sha) = next.filter(|sha| !known.contains(sha)) {
            next = self.get(&sha).and_then(|commit| commit.parents.first().cloned());
            out.push(sha);
        }
        out
    }

    /// Parents before children, without recursion: histories may be thousands long.
    fn place(&self, head: &str, fresh: &HashSet<Sha>, placed: &mut HashSet<Sha>, out: &mut Vec<Sha>) {
        let mut stack = vec![(head.to_owned(), false)];
        while let Some((sha, parents_done)) = stack.pop() {
            if !fresh.contains(&sha) || placed.contains(&sha) {
                continue;
            }
            if parents_done {
                placed.insert(sha.clone());
                out.push(sha);
            } else {
                let parents = self.must(&sha).parents.clone();
                stack.push((sha, true));
                stack.extend(parents.into_iter().map(|parent| (parent, false)));
            }
        }
    }

    /// The merge of two commits and the paths in conflict (there `theirs` stands in the tree).
    pub fn merged_tree(&self, ours: &str, theirs: &str) -> (BTreeMap<String, Entry>, Vec<String>) {
        let base = self.merge_base(ours, theirs);
        self.merged_over(base.as_deref(), ours, theirs)
    }

    /// As `merged_tree`, over a base of the caller's choice (none: the empty tree), as a cherry-pick needs it.
    pub fn merged_over(
        &self,
        base: Option<&str>,
        ours: &str,
        theirs: &str,
    ) -> (BTreeMap<String, Entry>, Vec<String>) {
        let empty = Tree::default();
        let base = base.map_or(&empty, |sha| &self.must(sha).tree);
        let (left, right) = (&self.must(ours).tree, &self.must(theirs).tree);
        let paths: BTreeSet<&String> = base.keys().chain(left.keys()).chain(right.keys()).collect();
        let mut tree = BTreeMap::new();
        let mut conflicts = Vec::new();
        for path in paths {
            let (b, l, r) = (base.get(path), left.get(path), right.get(path));
            let chosen = if l == r || r == b {
                l
            } else if l == b {
                r
            } else {
                conflicts.push(path.clone());
                r
            };
            if let Some(entry) = chosen {
                tree.insert(path.clone(), entry.clone());
            }
        }
        (tree, conflicts)
    }

    /// The diff from `base` (none: the empty tree) to `head`, in path order.
    pub fn diff(&self, base: Option<&str>, head: &str) -> Vec<FileDiff> {
        let empty = Tree::default();
        let old = base.map_or(&empty, |sha| &self.must(sha).tree);
        diff_trees(old, &self.must(head).tree)
    }
}

fn apply(tree: &mut BTreeMap<String, Entry>, edit: &Edit) {
    match edit {
        Edit::Write { path, content } => {
            let mode = tree
                .get(path)
                .map_or("100644".to_owned(), |entry| entry.mode.clone());
            let mode = if mode.starts_with("100") {
                mode
            } else {
                "100644".to_owned()
            };
            tree.insert(
                path.clone(),
                Entry {
                    mode,
                    content: content.as_str().into(),
                },
            );
        }
        Edit::Delete { path } => {
            assert!(tree.remove(path).is_some(), "delete of a missing path: {path}");
        }
        Edit::Rename { from, to } => {
            let entry = tree
                .remove(from)
                .unwrap_or_else(|| panic!("rename of a missing path: {from}"));
            tree.insert(to.clone(), entry);
        }
        Edit::Mode { path, mode } => {
            let entry = tree
                .get_mut(path)
                .unwrap_or_else(|| panic!("chmod of a missing path: {path}"));
            entry.mode = mode.clone();
        }
        Edit::Symlink { path, target } => {
            tree.insert(
                path.clone(),
                Entry {
                    mode: "120000".to_owned(),
                    content: target.as_str().into(),
                },
            );
        }
        Edit::Submodule { path, commit } => {
            tree.insert(
                path.clone(),
                Entry {
                    mode: "160000".to_owned(),
                    content: commit.as_str().into(),
                },
            );
        }
    }
}

/// Added and removed paths are paired into renames when their content is at least half alike, as git does by default.
/// A change of type (file to symlink, say) is a removal and an addition of one path, as GitLab lists it.
fn diff_trees(old: &Tree, new: &Tree) -> Vec<FileDiff> {
    let mut out = Vec::new();
    let mut removed: Vec<(&String, &Entry)> = Vec::new();
    let mut added: Vec<(&String, &Entry)> = Vec::new();
    for (path, before) in old.iter() {
        match new.get(path) {
            None => removed.push((path, before)),
            Some(after) if after == before => {}
            Some(after) if kind(after) != kind(before) => {
                out.push(one(path, path, Some(before), None));
                out.push(one(path, path, None, Some(after)));
            }
            Some(after) => out.push(one(path, path, Some(before), Some(after))),
        }
    }
    added.extend(new.iter().filter(|(path, _)| !old.contains_key(*path)));
    for (path, after) in added {
        let same = removed.iter().position(|(_, before)| *before == after);
        // Git compares unequal contents only below its rename limit.
        let near = || {
            if removed.len() > 400 {
                return None;
            }
            let alike =
                |(_, before): &(&String, &Entry)| kind(before) == kind(after) && half_alike(before, after);
            removed.iter().position(alike)
        };
        match same.or_else(near) {
            Some(at) => {
                let (from, before) = removed.remove(at);
                let mut file = one(from, path, Some(before), Some(after));
                file.renamed_file = true;
                out.push(file);
            }
            None => out.push(one(path, path, None, Some(after))),
        }
    }
    out.extend(
        removed
            .into_iter()
            .map(|(path, before)| one(path, path, Some(before), None)),
    );
    out.sort_by(|a, b| (&a.new_path, a.new_file).cmp(&(&b.new_path, b.new_file)));
    out
}

fn kind(entry: &Entry) -> &str {
    &entry.mode[..3]
}

fn half_alike(before: &Entry, after: &Entry) -> bool {
    let lines: HashSet<&str> = before.content.lines().collect();
    let kept: usize = after
        .content
        .lines()
        .filter(|line| lines.contains(line))
        .map(str::len)
        .sum();
    let larger = before.content.len().max(after.content.len());
    larger > 0 && kept * 2 >= larger
}

fn one(old_path: &str, new_path: &str, before: Option<&Entry>, after: Option<&Entry>) -> FileDiff {
    let mode = |entry: Option<&Entry>| entry.map_or("0".to_owned(), |entry| entry.mode.clone());
    let text = |entry: Option<&Entry>| entry.map_or_else(|| Arc::from(""), shown);
    FileDiff {
        old_path: old_path.to_owned(),
        new_path: new_path.to_owned(),
        a_mode: mode(before),
        b_mode: mode(after),
        new_file: before.is_none(),
        renamed_file: false,
        deleted_file: after.is_none(),
        text: hunk(&text(before), &text(after)),
    }
}

fn shown(entry: &Entry) -> Arc<str> {
    if entry.mode == "160000" {
        format!("Subproject commit {}\n", entry.content).into()
    } else {
        entry.content.clone()
    }
}

/// One hunk that covers every changed line, with up to three lines of context.
fn hunk(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (
        old.split_inclusive('\n').collect(),
        new.split_inclusive('\n').collect(),
    );
    let shorter = a.len().min(b.len());
    let head = (0..shorter).take_while(|&i| a[i] == b[i]).count();
    let tail = (0..shorter - head)
        .take_while(|&i| a[a.len() - 1 - i] == b[b.len() - 1 - i])
        .count();
    let (lead, trail) = (head.min(3), tail.min(3));
    let (from, old_end, new_end) = (head - lead, a.len() - tail, b.len() - tail);
    let start = |lines: usize, from: usize| if lines == 0 { 0 } else { from + 1 };
    let (old_len, new_len) = (old_end + trail - from, new_end + trail - from);
    let mut out = format!(
        "@@ -{},{old_len} +{},{new_len} @@\n",
        start(old_len, from),
        start(new_len, from)
    );
    let mut push = |sign: char, line: &str| {
        let _ = write!(out, "{sign}{line}");
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    };
    a[from..head].iter().for_each(|line| push(' ', line));
    a[head..old_end].iter().for_each(|line| push('-', line));
    b[head..new_end].iter().for_each(|line| push('+', line));
    a[old_end..old_end + trail]
        .iter()
        .for_each(|line| push(' ', line));
    out
}
