//! The policy engine: which people must approve a change or an action, and whether they did.
//!
//! One engine serves the gate, the validator, the simulator, the command line and the pages. It reads no file, asks no
//! clock and looks nothing up: the facts are handed to it. The order of rules and of files never matters.

pub mod document;
pub mod evaluate;
pub mod explain;
pub mod fill;
pub mod fold;
pub mod glob;
mod index;
mod json;
pub mod lint;
pub mod question;
#[cfg(test)]
mod tests;
pub mod weaker;
pub mod words;

pub use crate::domain::policy::document::{
    Approver, DOCUMENT_BYTES_MAX, DefaultRule, Document, Match, Method, ParseError, Require, Rule, RuleEffect,
};
pub use crate::domain::policy::evaluate::{
    Asked, BindBase, ControlFiles, Evaluation, Obligation, Outcome, ProjectDefaults, Question, Unattributed,
    combine, evaluate,
};
pub use crate::domain::policy::explain::{Doubt, Effect, Story, TraceEntry, stories};
pub use crate::domain::policy::fill::{
    Candidate, Filled, Unsatisfiable, WhyNot, all_met, fill, may_fill, unsatisfiable,
};
pub use crate::domain::policy::glob::{NamePattern, PathGlob};
pub use crate::domain::policy::lint::{LintFacts, Warning, lint};
pub use crate::domain::policy::question::{BadQuestion, Hypothesis};
