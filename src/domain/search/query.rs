//! What is asked of the index.

use crate::domain::ids::{ApiKeyId, PersonId};
use crate::domain::people::ApiKey;
use crate::domain::request::{Kind as RequestKind, Status};
use crate::domain::search::index::{Kind, exact, word};
use crate::domain::search::words::{WORD_CHARS_MAX, words};
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// Words of one question that are looked at. More are refused, never left out.
pub const WORDS_MAX: usize = 12;

/// One thing that must hold of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// It has one of these terms.
    Any(Vec<Vec<u8>>),
    /// It has a term that begins so.
    Begins(Vec<u8>),
    /// Nothing fits.
    Never,
}

/// A question: all clauses hold, and the request was opened in the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub clauses: Vec<Clause>,
    /// Opened at this time or later.
    pub since: Option<Time>,
    /// Opened before this time.
    pub until: Option<Time>,
}

impl Query {
    /// Only those with this status.
    pub fn status(&mut self, status: Status) {
        self.one(Kind::Status, status.name());
    }

    /// Only those of this kind.
    pub fn kind(&mut self, kind: RequestKind) {
        self.one(Kind::Asked, kind.name());
    }

    /// Only those of the project with this path or name.
    pub fn project(&mut self, name: &str) {
        self.one(Kind::Project, name);
    }

    /// Only those with this environment.
    pub fn environment(&mut self, name: &str) {
        self.one(Kind::Environment, name);
    }

    /// Only those judged by this policy.
    pub fn policy(&mut self, name: &str) {
        self.one(Kind::Policy, name);
    }

    /// Only those with an obligation, or a way through in an emergency, by this rule.
    pub fn rule(&mut self, name: &str) {
        self.one(Kind::Rule, name);
    }

    /// Only those this person has decided.
    pub fn decided_by(&mut self, person: &PersonId) {
        self.one(Kind::Decider, person.as_str());
    }

    /// Only those that this one asked for: an id, or words of the name.
    pub fn requester(&mut self, text: &str) {
        let text = text.trim();
        if PersonId::parse(text).is_some() || ApiKeyId::parse(text).is_some() {
            self.one(Kind::Requester, text);
        } else {
            self.all_words(Kind::RequesterName, text);
        }
    }

    /// Only those a key may see that is not let see all: its own, and where it is for `wide` reading, its projects'.
    pub fn seen_by(&mut self, key: &ApiKey, wide: bool) {
        if wide && key.projects.is_empty() {
            return;
        }
        let mut any = vec![exact(Kind::Requester, key.id.as_str())];
        if wide {
            any.extend(key.projects.iter().map(|it| exact(Kind::Project, it)));
        }
        self.clauses.push(Clause::Any(any));
    }

    /// Only those that all words lead to: `!142` and `group/app!142` are the number of a change, all else is met by its
    /// beginning.
    pub fn search(&mut self, text: &str) {
        for piece in text.split_whitespace() {
            match numbered(piece) {
                Some(term) => self.clauses.push(Clause::Any(vec![term])),
                None => self.all_words(Kind::Word, piece),
            }
        }
    }

    /// Whether more words are asked for than are looked at.
    pub fn is_too_long(&self) -> bool {
        let words = self.clauses.iter().filter(|it| matches!(it, Clause::Begins(_)));
        words.count() > WORDS_MAX
    }

    /// Whether all of it holds of a request with these terms: what the index must answer.
    #[cfg(test)]
    pub fn fits(&self, request: &crate::domain::request::Request, terms: &BTreeSet<Vec<u8>>) -> bool {
        self.since.is_none_or(|it| request.created_at >= it)
            && self.until.is_none_or(|it| request.created_at < it)
            && holds(&self.clauses, terms)
    }

    fn one(&mut self, kind: Kind, text: &str) {
        self.clauses.push(Clause::Any(vec![exact(kind, text)]));
    }

    fn all_words(&mut self, kind: Kind, text: &str) {
        let words = words(text);
        if words.is_empty() {
            // Signs alone lead nowhere.
            self.clauses.push(Clause::Never);
        }
        for it in words {
            let begins = Clause::Begins(word(kind, &it));
            if !self.clauses.contains(&begins) {
                self.clauses.push(begins);
            }
        }
    }
}

/// Whether all clauses hold of a request with these terms.
pub fn holds(clauses: &[Clause], terms: &BTreeSet<Vec<u8>>) -> bool {
    clauses.iter().all(|clause| match clause {
        Clause::Any(any) => any.iter().any(|it| terms.contains(it)),
        Clause::Begins(begin) => terms
            .range(begin.clone()..)
            .next()
            .is_some_and(|it| it.starts_with(begin)),
        Clause::Never => false,
    })
}

/// `!142`, `#142`, `group/app!142`: the term of that number.
fn numbered(piece: &str) -> Option<Vec<u8>> {
    let (path, number) = piece.rsplit_once(['!', '#'])?;
    let digits =
        !number.is_empty() && number.len() <= WORD_CHARS_MAX && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    Some(exact(
        Kind::Number,
        &format!("{}!{number}", path.trim_matches('/')),
    ))
}
