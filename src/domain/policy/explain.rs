//! The trace of an evaluation: path → rules → obligation → which decision counted, or why not (policy rule 22).
//! It explains what the engine did and never decides anything itself.

use crate::domain::ids::PersonId;
use crate::domain::policy::evaluate::Obligation;
use crate::domain::policy::fill::{Candidate, Filled, may_fill};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a path contributes to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Require,
    Skip,
    /// No rule matches: the default rule alone.
    Default,
    /// The default rule is the word `block`.
    Block,
}

/// What keeps a path from being skipped, whatever a rule says (policy rules 4, 15 and 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    ControlFile,
    Symlink,
    Submodule,
    ModeChanged,
    ModeUnknown,
    NotUtf8,
    SuspiciousPath,
    FileListIncomplete,
    EmptyChange,
    TooCostly,
}

impl Doubt {
    /// All of them, in their order.
    pub const ALL: [Doubt; 10] = [
        Doubt::ControlFile,
        Doubt::Symlink,
        Doubt::Submodule,
        Doubt::ModeChanged,
        Doubt::ModeUnknown,
        Doubt::NotUtf8,
        Doubt::SuspiciousPath,
        Doubt::FileListIncomplete,
        Doubt::EmptyChange,
        Doubt::TooCostly,
    ];

    /// The beginning of a sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Doubt::ControlFile => "It is a control file of pipelines, ownership or git",
            Doubt::Symlink => "It is or was a symlink",
            Doubt::Submodule => "It is or was a submodule",
            Doubt::ModeChanged => "Its file mode changes",
            Doubt::ModeUnknown => "The forge does not tell its file mode",
            Doubt::NotUtf8 => "Its path is not valid UTF-8",
            Doubt::SuspiciousPath => "Its path is suspicious",
            Doubt::FileListIncomplete => "The file list is incomplete",
            Doubt::EmptyChange => "The change is empty",
            Doubt::TooCostly => "Judging this change path by path would take too long",
        }
    }
}

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEntry {
    /// The path, escaped for people; empty where the entry is about the request as a whole.
    pub path: String,
    /// Every rule that matches it, in the order of the document, overridden skips and break-glass rules included.
    pub matched: Names,
    pub effect: Effect,
    /// The obligations that it brings; `default` for the default rule.
    #[serde(default)]
    pub obligations: Names,
    /// What keeps it from being skipped.
    #[serde(default)]
    pub doubts: Vec<Doubt>,
    /// Sentences for people, where there is something to explain.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Names of rules. Most paths of a change share them, so they are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Arc<[String]>);

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Self {
        Names(names.into())
    }
}

impl std::ops::Deref for Names {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl Serialize for Names {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer).map(Names::from)
    }
}

/// How an obligation stands, and what became of each decision for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    pub rule: String,
    /// As `2 of 2 approvals`.
    pub sentence: String,
    /// Whose decisions fill a slot.
    pub counted: Vec<PersonId>,
    /// Whose do not, each with a sentence that says why.
    pub not_counted: Vec<(PersonId, String)>,
}

/// Tells for each obligation which decisions counted, and why the others did not.
/// `filled` must be the answer of `fill` to the same obligations and candidates.
pub fn stories(obligations: &[Obligation], filled: &[Filled], candidates: &[Candidate]) -> Vec<Story> {
    let story = |(obligation, filled): (&Obligation, &Filled)| {
        let mut seen = BTreeSet::new();
        let others = candidates.iter().filter(|c| !filled.persons.contains(&c.person));
        let not_counted = others.filter(|c| seen.insert(&c.person)).map(|candidate| {
            let why = match may_fill(candidate, obligation) {
                Err(why) => why.to_string(),
                Ok(()) if filled.met() => "The quorum was reached without this decision.".to_owned(),
                Ok(()) => "This decision counts for another rule, and the approvers must be other people."
                    .to_owned(),
            };
            (candidate.person.clone(), why)
        });
        Story {
            rule: obligation.rule.clone(),
            sentence: format!("{} of {} approvals", filled.persons.len(), filled.quorum),
            counted: filled.persons.clone(),
            not_counted: not_counted.collect(),
        }
    };
    obligations.iter().zip(filled).map(story).collect()
}

/// Why a path is judged as it is; `None` where the rules that match it say it all.
pub(crate) fn path_reason(doubts: &BTreeSet<Doubt>, weak: bool, no_skips: bool) -> Option<String> {
    if doubts.is_empty() {
        return None;
    }
    let facts: Vec<&str> = doubts.iter().map(|d| d.sentence()).collect();
    let said_facts = facts.join(". ");
    Some(if weak && no_skips {
        format!("{said_facts}: every require rule of the branch and the default rule apply.")
    } else if weak {
        format!(
            "{said_facts}: it can't be skipped, and every require rule of the branch and the default rule apply."
        )
    } else {
        format!(
            "{said_facts}: it can't be skipped, but a require rule names this very path, so only the rules that match it apply."
        )
    })
}

/// One sentence for each kind of doubt in a trace, with the first path and the number of paths.
pub(crate) fn doubts_in(trace: &[TraceEntry]) -> Vec<String> {
    let mut kinds: BTreeMap<Doubt, (&str, usize)> = BTreeMap::new();
    for entry in trace.iter().filter(|entry| !entry.path.is_empty()) {
        for doubt in entry.doubts.iter().filter(|d| **d != Doubt::FileListIncomplete) {
            kinds.entry(*doubt).or_insert((&entry.path, 0)).1 += 1;
        }
    }
    let sentence = |(doubt, (path, count)): (Doubt, (&str, usize))| {
        let (said_doubt, more) = (doubt.sentence(), count - 1);
        match more {
            0 => format!("`{path}` can't be skipped. {said_doubt}."),
            _ => format!("`{path}` and {more} more can't be skipped. {said_doubt}."),
        }
    };
    kinds.into_iter().map(sentence).collect()
}
