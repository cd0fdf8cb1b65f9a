//! What changed since the reader last looked at a change, or since somebody approved it: against an earlier request of the
//! same change.

use crate::domain::attention::Look;
use crate::domain::facts::{ChangeFacts, FileChange, FileStatus, RepoPath};
use crate::domain::ids::{PersonId, RequestId};
use crate::domain::project::Project;
use crate::domain::request::{Answer, Opening, Request, change_row};
use crate::domain::state::{Fault, Read, Table, decode};
use crate::domain::time::Time;
use crate::texts::t;
use crate::web::pages::moment::Moment;
use crate::web::pages::shown;
use std::collections::BTreeMap;

/// Earlier requests of a change that are looked at, newest first.
const EARLIER_MAX: usize = 50;
/// Most files that are named.
const FILES_MAX: usize = 30;
/// Digits of a commit id in running text.
const COMMIT_DIGITS: usize = 10;

/// What changed since an earlier request.
#[derive(Clone, Debug)]
pub struct Since {
    /// `Since you last looked`.
    pub headline: String,
    pub at: Moment,
    pub earlier: String,
    /// Sentences: the head, the target, the base.
    pub moves: Vec<String>,
    pub files: Vec<SinceFile>,
    pub files_more: usize,
    /// Where the forge shows the difference.
    pub compare: Option<String>,
    /// What was decided about the earlier one and counts no more.
    pub void: Vec<Void>,
}

/// A file that is in the change now and was not, or the other way round, or is longer or shorter.
#[derive(Clone, Debug)]
pub struct SinceFile {
    pub word: &'static str,
    pub path: String,
}

/// A decision about an earlier head.
#[derive(Clone, Debug)]
pub struct Void {
    pub name: String,
    pub word: &'static str,
    pub at: Moment,
}

/// What to compare a request with, and the comparison; `None` where nothing came before it, or it is no change.
pub fn since(
    request: &Request,
    facts: Option<&ChangeFacts>,
    project: Option<&Project>,
    reader: &PersonId,
    state: &impl Read,
) -> Result<Option<Since>, Fault> {
    let (Some(facts), Some(key)) = (facts, &request.change) else {
        return Ok(None);
    };
    let prefix = format!("{}\0", change_row(key));
    let mut end = prefix.clone().into_bytes();
    end.extend_from_slice(&[0xff; 8]);
    let rows = state.scan_raw(Table::ChangeRequests, prefix.as_bytes(), &end, EARLIER_MAX, true)?;
    let mut newest: Option<Request> = None;
    let mut chosen: Option<(Request, String, Time)> = None;
    for (_, id) in rows {
        let Some(id) = std::str::from_utf8(&id).ok().and_then(RequestId::parse) else {
            continue;
        };
        let Some(earlier) = state.get::<Request>(id.as_str())? else {
            continue;
        };
        if earlier.seq >= request.seq {
            continue;
        }
        if let Some(seen) = looked(&earlier, reader, state)? {
            chosen = Some((earlier, t!("Since you last looked").to_owned(), seen));
            break;
        }
        let approved = earlier.decisions.iter().rfind(|it| it.answer == Answer::Approve);
        if let (Some(it), None) = (approved, &chosen) {
            let headline = t!("Since {name} approved", name = shown(&it.name, 80));
            chosen = Some((earlier.clone(), headline, it.decided_at));
        }
        newest.get_or_insert(earlier);
    }
    let chosen = chosen.or_else(|| {
        let it = newest?;
        let at = it.created_at;
        Some((it, t!("Since it was asked before").to_owned(), at))
    });
    let Some((earlier, headline, at)) = chosen else {
        return Ok(None);
    };
    let Some(blob) = state.blob(&earlier.opening)? else {
        return Ok(None);
    };
    let opening: Opening = decode(&blob)?;
    let Some(before) = opening.facts else {
        return Ok(None);
    };
    let mut files = differing(&before.files.files, &facts.files.files);
    let files_more = files.len().saturating_sub(FILES_MAX);
    files.truncate(FILES_MAX);
    let compare = project
        .filter(|_| before.head != facts.head)
        .filter(|it| it.web_url.starts_with("https://") || it.web_url.starts_with("http://"))
        .map(|it| {
            format!(
                "{}/-/compare/{}...{}",
                it.web_url.trim_end_matches('/'),
                before.head,
                facts.head
            )
        });
    Ok(Some(Since {
        headline,
        at: Moment::of(at),
        moves: moves(&before, facts),
        files,
        files_more,
        compare,
        void: earlier
            .decisions
            .iter()
            .map(|it| Void {
                name: shown(&it.name, 80),
                word: match it.answer {
                    Answer::Approve => t!("approved"),
                    Answer::Reject => t!("rejected"),
                },
                at: Moment::of(it.decided_at),
            })
            .collect(),
        earlier: earlier.id.to_string(),
    }))
}

/// When the reader saw or decided a request.
fn looked(request: &Request, reader: &PersonId, state: &impl Read) -> Result<Option<Time>, Fault> {
    let decided = request.decisions.iter().find(|it| it.person == *reader);
    let seen = Look::of(&request.id, reader, state)?.seen_at;
    Ok(decided.map(|it| it.decided_at).or(seen))
}

fn moves(before: &ChangeFacts, now: &ChangeFacts) -> Vec<String> {
    let short = |id: &str| shown(id.get(..COMMIT_DIGITS).unwrap_or(id), COMMIT_DIGITS);
    let branch = |name: &str| shown(name.strip_prefix("refs/heads/").unwrap_or(name), 100);
    let mut said = Vec::new();
    if before.head != now.head {
        said.push(t!(
            "The head moved from {before} to {now}.",
            before = short(&before.head),
            now = short(&now.head)
        ));
    }
    if before.target != now.target {
        said.push(t!(
            "The target changed from {before} to {now}.",
            before = branch(&before.target),
            now = branch(&now.target)
        ));
    }
    if before.base != now.base && !before.base.is_empty() && !now.base.is_empty() {
        said.push(t!(
            "The merge base moved from {before} to {now}.",
            before = short(&before.base),
            now = short(&now.base)
        ));
    }
    if before.commits != now.commits {
        said.push(t!(
            "It has {now} commits now, and had {before}.",
            now = now.commits,
            before = before.commits
        ));
    }
    if before.title != now.title {
        said.push(t!(
            "The title was “{before}”.",
            before = shown(&before.title, 160)
        ));
    }
    if said.is_empty() {
        said.push(t!("The same commit was asked before.").to_owned());
    }
    said
}

fn path_of(it: &FileChange) -> Option<&RepoPath> {
    it.new_path.as_ref().or(it.old_path.as_ref())
}

fn differing(before: &[FileChange], now: &[FileChange]) -> Vec<SinceFile> {
    let index = |list: &'_ [FileChange]| -> BTreeMap<RepoPath, (FileStatus, Option<(u32, u32)>)> {
        list.iter()
            .filter_map(|it| Some((path_of(it)?.clone(), (it.status, it.lines))))
            .collect()
    };
    let (old, new) = (index(before), index(now));
    let mut found = Vec::new();
    for (path, what) in &new {
        let word = match old.get(path) {
            None => t!("new in the change"),
            Some(was) if was != what => t!("changed differently"),
            Some(_) => continue,
        };
        found.push(SinceFile {
            word,
            path: path.shown(),
        });
    }
    for path in old.keys().filter(|it| !new.contains_key(*it)) {
        found.push(SinceFile {
            word: t!("no longer in it"),
            path: path.shown(),
        });
    }
    found
}
