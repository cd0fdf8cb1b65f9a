//! The policy in plain sentences, for pages and the command line. Texts from a document are made safe to look at here. Whoever asks
//! says in which language by a [`Speaker`].

use crate::domain::policy::document::DEFAULT_RULE;
use crate::domain::policy::document::{DefaultRule, Document, Match, Method, Require, Rule, RuleEffect};
use crate::domain::policy::evaluate::{Evaluation, Obligation, Outcome};
use crate::domain::policy::explain::Effect;
use crate::domain::policy::glob::{NamePattern, PathGlob};
use crate::domain::text::{Speaker, shortened, visible};
use crate::domain::time::span_in;

/// Longest text of a document in a sentence, in characters.
const TEXT_MAX: usize = 200;
/// Entries of a list that are named.
const NAMED_MAX: usize = 12;

fn shown(text: &str) -> String {
    shortened(&visible(text), TEXT_MAX)
}

/// The name of a rule, as it stands in a sentence.
pub fn rule_name(to: &impl Speaker, rule: &str) -> String {
    match rule {
        DEFAULT_RULE => to.say("the default rule", &[]),
        rule => to.say("“{rule}”", &[("rule", &shown(rule))]),
    }
}

/// What a method is called.
pub fn method(to: &impl Speaker, it: Method) -> String {
    match it {
        Method::Passkey => to.say("passkey", &[]),
        Method::Biometric => to.say("biometric", &[]),
        Method::Totp => to.say("totp", &[]),
    }
}

/// Methods, as `passkey or biometric`.
pub fn methods(to: &impl Speaker, list: &[Method]) -> String {
    let mut names = list.iter().map(|it| method(to, *it));
    let first = names.next().unwrap_or_default();
    names.fold(first, |some, last| {
        to.say("{some} or {last}", &[("some", &some), ("last", &last)])
    })
}

/// What one obligation asks, as `2 people of group:release by passkey`.
pub fn obligation(to: &impl Speaker, it: &Obligation) -> String {
    let methods = methods(to, &it.methods);
    let names: Vec<String> = it.approvers.iter().map(|it| shown(&it.to_string())).collect();
    let mut text = match names.is_empty() {
        true => to.say_counted(
            u64::from(it.quorum),
            "{n} person by {methods}",
            "{n} people by {methods}",
            &[("methods", &methods)],
        ),
        false => to.say_counted(
            u64::from(it.quorum),
            "{n} person of {approvers} by {methods}",
            "{n} people of {approvers} by {methods}",
            &[("approvers", &any_of(to, &names)), ("methods", &methods)],
        ),
    };
    for (holds, extra) in [
        (
            it.independent,
            to.say("other people than for the other rules", &[]),
        ),
        (it.allow_author, to.say("the author among them if they like", &[])),
        (
            it.allow_contributor,
            to.say("contributors among them if they like", &[]),
        ),
        (
            it.match_code,
            to.say("with the code that the requester sees", &[]),
        ),
        (
            it.device_bound,
            to.say("with a passkey that can’t leave its device", &[]),
        ),
    ] {
        if holds {
            text = to.say("{what}, {extra}", &[("what", &text), ("extra", &extra)]);
        }
    }
    text
}

/// What a policy makes of a request, in one sentence.
pub fn judged(to: &impl Speaker, it: &Evaluation) -> String {
    match it.outcome {
        Outcome::NotGated => to.say(
            "Not gated: the branch is outside the project's branch patterns.",
            &[],
        ),
        Outcome::Skip => {
            let rules: Vec<String> = it.skipped_by.iter().map(|it| rule_name(to, it)).collect();
            to.say(
                "No approval needed: skipped by {rules}.",
                &[("rules", &all_of(to, &rules))],
            )
        }
        Outcome::Block => to.say(
            "Blocked: no decision opens it, only another change or another policy.",
            &[],
        ),
        Outcome::Require => {
            let mut rules = it.obligations.iter().map(|it| {
                to.say(
                    "{what} ({rule})",
                    &[("what", &obligation(to, it)), ("rule", &rule_name(to, &it.rule))],
                )
            });
            let first = rules.next().unwrap_or_default();
            let rules = rules.fold(first, |some, last| {
                to.say("{some}, and {last}", &[("some", &some), ("last", &last)])
            });
            match it.ttl {
                Some(ttl) => to.say(
                    "Needs {rules}, within {time}.",
                    &[("rules", &rules), ("time", &span_in(to, ttl))],
                ),
                None => to.say("Needs {rules}.", &[("rules", &rules)]),
            }
        }
    }
}

/// The word for what a path contributes.
pub fn effect(to: &impl Speaker, it: Effect) -> String {
    match it {
        Effect::Require => to.say("needs approval", &[]),
        Effect::Skip => to.say("skipped", &[]),
        Effect::Default => to.say("default rule", &[]),
        Effect::Block => to.say("blocked", &[]),
    }
}

/// A rule in one sentence.
pub fn rule(to: &impl Speaker, it: &Rule) -> String {
    let what = matched(to, &it.match_);
    match &it.effect {
        RuleEffect::Skip => to.say("{what} need no approval.", &[("what", &what)]),
        RuleEffect::Require(require) if require.break_glass => to.say(
            "{what} can, in an emergency, go through with {whom}.",
            &[("what", &what), ("whom", &demanded(to, &it.name, require))],
        ),
        RuleEffect::Require(require) => to.say(
            "{what} need {whom}.",
            &[("what", &what), ("whom", &demanded(to, &it.name, require))],
        ),
    }
}

/// The default rule of a document in one sentence.
pub fn default_rule(to: &impl Speaker, document: &Document) -> String {
    match document.default_rule() {
        Some(DefaultRule::Block) => to.say("What no rule matches is blocked.", &[]),
        Some(DefaultRule::Require(require)) => {
            to.say("What no rule matches needs {whom}.", &[("whom", &demanded(to, DEFAULT_RULE, require))])
        }
        None => to.say("What no rule matches needs 1 person by passkey or biometric, or as many as the project's settings say.", &[]),
    }
}

fn demanded(to: &impl Speaker, name: &str, require: &Require) -> String {
    let whom = obligation(to, &Obligation::of(name, require));
    match require.ttl_max {
        Some(ttl) => to.say(
            "{what}, within {time}",
            &[("what", &whom), ("time", &span_in(to, ttl))],
        ),
        None => whom,
    }
}

fn matched(to: &impl Speaker, it: &Match) -> String {
    let names = |list: &[NamePattern]| {
        let texts: Vec<String> = list.iter().map(|it| format!("`{}`", shown(it.text()))).collect();
        any_of(to, &texts)
    };
    let globs = |list: &[PathGlob]| {
        let texts: Vec<String> = list.iter().map(|it| format!("`{}`", shown(it.text()))).collect();
        any_of(to, &texts)
    };
    let mut text = match (&it.branch, &it.environment) {
        (Some(branch), _) => to.say("Changes to {names}", &[("names", &names(branch))]),
        (None, Some(environment)) => to.say("Deployments to {names}", &[("names", &names(environment))]),
        (None, None) if it.paths.is_some() => to.say("Changes", &[]),
        (None, None) => to.say("Changes, deployments and actions", &[]),
    };
    if let Some(project) = &it.project {
        text = to.say(
            "{what} of {names}",
            &[("what", &text), ("names", &names(project))],
        );
    }
    if let Some(paths) = &it.paths {
        text = to.say(
            "{what} under {paths}",
            &[("what", &text), ("paths", &globs(paths))],
        );
    }
    if !it.exclude_paths.is_empty() {
        text = to.say(
            "{what}, but not {paths}",
            &[("what", &text), ("paths", &globs(&it.exclude_paths))],
        );
    }
    text
}

/// A list of which each will do.
fn any_of(to: &impl Speaker, names: &[String]) -> String {
    let (shown, more) = cut(names);
    match (shown, more) {
        ([], _) => String::new(),
        ([one], 0) => one.clone(),
        ([first @ .., last], 0) => to.say(
            "{some} or {last}",
            &[("some", &first.join(", ")), ("last", &last)],
        ),
        (some, more) => to.say("{some} or {n} more", &[("some", &some.join(", ")), ("n", &more)]),
    }
}

/// A list of which all are meant.
pub fn all_of(to: &impl Speaker, names: &[String]) -> String {
    let (shown, more) = cut(names);
    match (shown, more) {
        ([], _) => String::new(),
        ([one], 0) => one.clone(),
        ([first @ .., last], 0) => to.say(
            "{some} and {last}",
            &[("some", &first.join(", ")), ("last", &last)],
        ),
        (some, more) => to.say("{some} and {n} more", &[("some", &some.join(", ")), ("n", &more)]),
    }
}

fn cut(names: &[String]) -> (&[String], usize) {
    let more = names.len().saturating_sub(NAMED_MAX);
    (&names[..names.len() - more], more)
}
