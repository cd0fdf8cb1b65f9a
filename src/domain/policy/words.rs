//! The policy in plain sentences, for pages and the command line. Texts from a document are made safe to look at here.

use crate::domain::policy::document::{DEFAULT_RULE, DefaultRule};
use crate::domain::policy::document::{Document, Match, Method, Require, Rule, RuleEffect};
use crate::domain::policy::evaluate::{Evaluation, Obligation, Outcome};
use crate::domain::policy::explain::Effect;
use crate::domain::text::{shortened, visible};
use crate::domain::time::span;

/// Longest text of a document in a sentence, in characters.
const TEXT_MAX: usize = 200;
/// Entries of a list that are named.
const NAMED_MAX: usize = 12;

fn shown(text: &str) -> String {
    shortened(&visible(text), TEXT_MAX)
}

/// The name of a rule, as it stands in a sentence.
pub fn rule_name(rule: &str) -> String {
    match rule {
        DEFAULT_RULE => "the default rule".to_owned(),
        rule => format!("“{}”", shown(rule)),
    }
}

/// Methods, as `passkey or biometric`.
pub fn methods(list: &[Method]) -> String {
    let names: Vec<&str> = list.iter().map(|it| it.name()).collect();
    names.join(" or ")
}

/// What one obligation asks, as `2 people of group:release by passkey`.
pub fn obligation(it: &Obligation) -> String {
    let mut text = match it.quorum {
        1 => "1 person".to_owned(),
        count => format!("{count} people"),
    };
    if !it.approvers.is_empty() {
        let names: Vec<String> = it.approvers.iter().map(|it| shown(&it.to_string())).collect();
        text += &format!(" of {}", listed(&names, "or"));
    }
    text += &format!(" by {}", methods(&it.methods));
    for (holds, words) in [
        (it.independent, ", other people than for the other rules"),
        (it.allow_author, ", the author among them if they like"),
        (it.allow_contributor, ", contributors among them if they like"),
        (it.match_code, ", with the code that the requester sees"),
        (it.device_bound, ", with a passkey that can’t leave its device"),
    ] {
        if holds {
            text += words;
        }
    }
    text
}

/// What a policy makes of a request, in one sentence.
pub fn judged(it: &Evaluation) -> String {
    match it.outcome {
        Outcome::NotGated => "Not gated: the branch is outside the project's branch patterns.".to_owned(),
        Outcome::Skip => {
            let rules: Vec<String> = it.skipped_by.iter().map(|it| rule_name(it)).collect();
            format!("No approval needed: skipped by {}.", listed(&rules, "and"))
        }
        Outcome::Block => "Blocked: no decision opens it, only another change or another policy.".to_owned(),
        Outcome::Require => {
            let rules: Vec<String> = it
                .obligations
                .iter()
                .map(|it| format!("{} ({})", obligation(it), rule_name(&it.rule)))
                .collect();
            let within = it
                .ttl
                .map_or_else(String::new, |it| format!(", within {}", span(it)));
            format!("Needs {}{within}.", rules.join(", and "))
        }
    }
}

/// The word for what a path contributes.
pub fn effect(it: Effect) -> &'static str {
    match it {
        Effect::Require => "needs approval",
        Effect::Skip => "skipped",
        Effect::Default => "default rule",
        Effect::Block => "blocked",
    }
}

/// A rule in one sentence.
pub fn rule(it: &Rule) -> String {
    let what = matched(&it.match_);
    match &it.effect {
        RuleEffect::Skip => format!("{what} need no approval."),
        RuleEffect::Require(require) => {
            let way = match require.break_glass {
                true => "can, in an emergency, go through with",
                false => "need",
            };
            format!("{what} {way} {}.", demanded(&it.name, require))
        }
    }
}

/// The default rule of a document in one sentence.
pub fn default_rule(document: &Document) -> String {
    match document.default_rule() {
        Some(DefaultRule::Block) => "What no rule matches is blocked.".to_owned(),
        Some(DefaultRule::Require(require)) => {
            format!("What no rule matches needs {}.", demanded(DEFAULT_RULE, require))
        }
        None => "What no rule matches needs 1 person by passkey or biometric, or as many as the project's settings say."
            .to_owned(),
    }
}

fn demanded(name: &str, require: &Require) -> String {
    let within = require
        .ttl_max
        .map_or_else(String::new, |it| format!(", within {}", span(it)));
    format!("{}{within}", obligation(&Obligation::of(name, require)))
}

fn matched(it: &Match) -> String {
    let names = |list: &[crate::domain::policy::NamePattern]| {
        let texts: Vec<String> = list.iter().map(|it| format!("`{}`", shown(it.text()))).collect();
        listed(&texts, "or")
    };
    let globs = |list: &[crate::domain::policy::PathGlob]| {
        let texts: Vec<String> = list.iter().map(|it| format!("`{}`", shown(it.text()))).collect();
        listed(&texts, "or")
    };
    let mut text = match (&it.branch, &it.environment) {
        (Some(branch), _) => format!("Changes to {}", names(branch)),
        (None, Some(environment)) => format!("Deployments to {}", names(environment)),
        (None, None) if it.paths.is_some() => "Changes".to_owned(),
        (None, None) => "Changes, deployments and actions".to_owned(),
    };
    if let Some(project) = &it.project {
        text += &format!(" of {}", names(project));
    }
    if let Some(paths) = &it.paths {
        text += &format!(" under {}", globs(paths));
    }
    if !it.exclude_paths.is_empty() {
        text += &format!(", but not {}", globs(&it.exclude_paths));
    }
    text
}

fn listed(names: &[String], word: &str) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let shown = &names[..names.len() - more];
    match (shown, more) {
        ([], _) => String::new(),
        ([one], 0) => one.clone(),
        ([first @ .., last], 0) => format!("{} {word} {last}", first.join(", ")),
        (some, more) => format!("{} {word} {more} more", some.join(", ")),
    }
}
