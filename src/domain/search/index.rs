//! What the index knows of a request, and how it is kept: by `apply`, in the transaction that records the event.

use crate::domain::policy::fold::nfkc_casefold;
use crate::domain::request::Request;
use crate::domain::search::BLOCK;
use crate::domain::search::set::Set;
use crate::domain::search::words::words;
use crate::domain::state::{Fault, Read, Table, Write};
use std::collections::BTreeSet;

/// Words of a title that are searched.
const TITLE_WORDS_MAX: usize = 48;
/// Words of a name, a branch or a path that are searched.
const NAME_WORDS_MAX: usize = 16;
/// Longest term that stands in a row as it is; a longer one is told by its digest.
const TERM_BYTES_MAX: usize = 80;
/// Row of the counter of requests.
const COUNTER: &[u8] = b"requests";

/// What kind a term is of: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Word = b'w',
    /// `!142`, and the same behind its project's path.
    Number = b'n',
    Status = b's',
    /// What is asked: a merge, a deployment.
    Asked = b'k',
    Project = b'p',
    Environment = b'e',
    /// Id of whoever asked.
    Requester = b'r',
    /// A word of their name.
    RequesterName = b'a',
    /// Id of a person who decided.
    Decider = b'd',
    Policy = b'y',
    Rule = b'u',
}

/// A term that is met whole, whatever its case.
pub fn exact(kind: Kind, text: &str) -> Vec<u8> {
    let folded = nfkc_casefold(text);
    let mut term = vec![kind as u8];
    if folded.len() <= TERM_BYTES_MAX {
        term.extend_from_slice(folded.as_bytes());
    } else {
        // No text that is short enough begins so.
        term.push(0);
        term.extend_from_slice(&crate::domain::ids::Digest::of(folded.as_bytes()).0);
    }
    term
}

/// A word, which is met by its beginning too.
pub fn word(kind: Kind, word: &str) -> Vec<u8> {
    [&[kind as u8], word.as_bytes()].concat()
}

/// The terms that may still change.
fn moving(request: &Request) -> BTreeSet<Vec<u8>> {
    let deciders = request.decisions.iter();
    let mut terms: BTreeSet<Vec<u8>> = deciders
        .map(|it| exact(Kind::Decider, it.person.as_str()))
        .collect();
    terms.insert(exact(Kind::Status, request.status.name()));
    terms
}

/// The terms that stay, unless the request is erased.
fn lasting(request: &Request) -> BTreeSet<Vec<u8>> {
    let mut terms = BTreeSet::new();
    let mut searched = |text: &str, most: usize| {
        let found: BTreeSet<String> = words(text).into_iter().take(most).collect();
        terms.extend(found.iter().map(|it| word(Kind::Word, it)));
    };
    searched(&request.title, TITLE_WORDS_MAX);
    searched(request.id.as_str(), NAME_WORDS_MAX);
    searched(request.requested_by(), NAME_WORDS_MAX);
    let branches = [&request.source, &request.target].into_iter().flatten();
    let names = [&request.project_name, &request.environment]
        .into_iter()
        .flatten();
    for text in branches.chain(names) {
        searched(text.strip_prefix("refs/heads/").unwrap_or(text), NAME_WORDS_MAX);
    }
    for commit in [&request.head, &request.about_commit].into_iter().flatten() {
        searched(commit, 1);
    }
    if let Some(change) = &request.change {
        searched(&change.number.to_string(), 1);
        let number = format!("!{}", change.number);
        terms.insert(exact(Kind::Number, &number));
        // `api!142` and `pay/api!142`.
        let path = request.project_name.as_deref().unwrap_or_default();
        let starts = path.match_indices('/').map(|(at, _)| at + 1).chain([0]);
        terms.extend(starts.map(|at| exact(Kind::Number, &format!("{}{number}", &path[at..]))));
    }
    terms.insert(exact(Kind::Asked, request.kind.name()));
    if let Some(project) = &request.project_name {
        terms.insert(exact(Kind::Project, project));
    }
    if let Some(environment) = &request.environment {
        terms.insert(exact(Kind::Environment, environment));
    }
    let (_, id, name) = request.requester.parts();
    if !id.is_empty() {
        terms.insert(exact(Kind::Requester, id));
    }
    let name = words(name).into_iter().take(NAME_WORDS_MAX);
    terms.extend(name.map(|it| word(Kind::RequesterName, &it)));
    terms.insert(exact(Kind::Policy, &request.policy.name));
    terms.extend(rules(request).map(|it| exact(Kind::Rule, it)));
    terms
}

fn rules(request: &Request) -> impl Iterator<Item = &str> {
    let all = request.obligations.iter().chain(&request.break_glass);
    all.map(|it| it.rule.as_str())
}

/// All terms of a request.
pub fn terms(request: &Request) -> BTreeSet<Vec<u8>> {
    let mut terms = lasting(request);
    terms.extend(moving(request));
    terms
}

/// Key of the row of a term in a block.
pub fn row(block: u64, term: &[u8]) -> Vec<u8> {
    let block = u32::try_from(block).unwrap_or(u32::MAX);
    [&block.to_be_bytes(), term].concat()
}

/// How many requests there are.
pub fn count(state: &impl Read) -> Result<u64, Fault> {
    let row = state.get_raw(Table::Counters, COUNTER)?;
    Ok(row
        .and_then(|it| it.try_into().ok())
        .map_or(0, u64::from_be_bytes))
}

/// Numbers a request that was just opened, and puts it into the index.
///
/// # Errors
/// When it can't be written.
pub fn note_opened(request: &mut Request, state: &mut impl Write) -> Result<(), Fault> {
    request.ordinal = count(state)?;
    state.put_raw(Table::Counters, COUNTER, &(request.ordinal + 1).to_be_bytes())?;
    let row = request.ordinal.to_be_bytes();
    state.put_raw(Table::RequestNumbers, &row, request.id.as_str().as_bytes())?;
    for term in terms(request) {
        set(request.ordinal, &term, true, state)?;
    }
    let texts = [
        (Facet::Project, request.project_name.as_deref()),
        (Facet::Environment, request.environment.as_deref()),
        (Facet::Policy, Some(request.policy.name.as_str())),
    ];
    let texts = texts.into_iter().filter_map(|(facet, text)| Some((facet, text?)));
    for (facet, text) in texts.chain(rules(request).map(|it| (Facet::Rule, it))) {
        let key = value_row(facet, text);
        if state.get_raw(Table::RequestValues, &key)?.is_none() {
            state.put_raw(Table::RequestValues, &key, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Brings the index up to what a request became. Its number stays.
///
/// # Errors
/// When it can't be written.
pub fn note_changed(before: &Request, after: &Request, state: &mut impl Write) -> Result<(), Fault> {
    let erased = before.erased_at != after.erased_at;
    let (old, new) = match erased {
        true => (terms(before), terms(after)),
        false => (moving(before), moving(after)),
    };
    for term in old.difference(&new) {
        set(after.ordinal, term, false, state)?;
    }
    for term in new.difference(&old) {
        set(after.ordinal, term, true, state)?;
    }
    Ok(())
}

fn set(ordinal: u64, term: &[u8], has: bool, state: &mut impl Write) -> Result<(), Fault> {
    let row = row(ordinal / BLOCK, term);
    let mut set = match state.get_raw(Table::RequestIndex, &row)? {
        Some(bytes) => Set::decode(&bytes)?,
        None => Set::empty(),
    };
    let place = usize::try_from(ordinal % BLOCK).expect("a block's places fit");
    match has {
        true => set.insert(place),
        false => set.remove(place),
    }
    match set.is_empty() {
        true => state.delete_raw(Table::RequestIndex, &row),
        false => state.put_raw(Table::RequestIndex, &row, &set.encode()),
    }
}

/// What a list of requests is filtered by, where the values are not known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Facet {
    Project = b'p',
    Environment = b'e',
    Policy = b'y',
    Rule = b'u',
}

fn value_row(facet: Facet, text: &str) -> Vec<u8> {
    let mut row = exact(Kind::Word, text);
    row[0] = facet as u8;
    row
}

/// Values that requests have had, in the order of their text; at most `limit`.
///
/// # Errors
/// When they can't be read.
pub fn known_values(facet: Facet, limit: usize, state: &impl Read) -> Result<Vec<String>, Fault> {
    let (from, to) = ([facet as u8], [facet as u8 + 1]);
    let rows = state.scan_raw(Table::RequestValues, &from, &to, limit, false)?;
    let texts = rows.into_iter().map(|(_, text)| String::from_utf8(text));
    texts
        .collect::<Result<_, _>>()
        .map_err(|_| Fault("a damaged value of the index of requests".into()))
}
