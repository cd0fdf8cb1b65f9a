//! Warnings about a valid policy that probably does not mean what it says. A warning never changes a decision.

use crate::domain::facts::RepoPath;
use crate::domain::policy::document::{
    Approver, DEFAULT_RULE, DefaultRule, Document, Match, Method, Require, Rule, RuleEffect,
};
use crate::domain::policy::evaluate::{ControlFiles, Obligation};
use crate::domain::policy::fill::{Candidate, may_fill, unsatisfiable};
use crate::domain::policy::fold::nfkc_casefold;
use crate::domain::policy::glob::{Effort, NamePattern, PathGlob, PathView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How many sample files a warning names.
const SAMPLES_SHOWN: usize = 5;

/// What is known about the place where the policy is to hold. What is not known is not warned about.
#[derive(Clone, Debug, Default)]
pub struct LintFacts {
    /// Everybody who may approve, each with the strongest method they hold.
    pub people: Option<Vec<Candidate>>,
    /// The names of all groups.
    pub groups: Option<BTreeSet<String>>,
    /// How many admins have a passkey that may decide.
    pub admins: Option<usize>,
    /// Files of the repository, or some of them.
    pub sample_paths: Vec<RepoPath>,
}

/// Something to look at before the policy is saved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// The line the rule begins on; 1 for the default rule.
    pub line: u32,
    pub rule: String,
    /// A sentence for people.
    pub reason: String,
}

/// Looks a document over. Warnings stand in the order of lines.
pub fn lint(document: &Document, facts: &LintFacts) -> Vec<Warning> {
    let mut lint = Lint {
        facts,
        out: Vec::new(),
        line: 1,
        rule: DEFAULT_RULE.to_owned(),
    };
    if let Some(DefaultRule::Require(require)) = document.default_rule() {
        lint.people_of(require);
    }
    lint.admins(document.change_quorum());
    for (position, rule) in document.rules().iter().enumerate() {
        lint.line = rule.line;
        lint.rule.clone_from(&rule.name);
        lint.scope(rule);
        lint.letters(document, position);
        match &rule.effect {
            RuleEffect::Require(require) => {
                lint.people_of(require);
                if require.break_glass && require.approvers.is_empty() {
                    lint.say("Break-glass should have a group of its own: name its `approvers`.");
                }
                lint.needless_require(document, position, require);
            }
            RuleEffect::Skip => lint.skip(document, rule),
        }
    }
    lint.out.sort();
    lint.out
}

struct Lint<'a> {
    facts: &'a LintFacts,
    out: Vec<Warning>,
    line: u32,
    rule: String,
}

impl Lint<'_> {
    fn say(&mut self, reason: impl Into<String>) {
        self.out.push(Warning {
            line: self.line,
            rule: self.rule.clone(),
            reason: reason.into(),
        });
    }

    /// Once it holds, nobody could change it any more.
    fn admins(&mut self, quorum: u32) {
        let Some(admins) = self.facts.admins else { return };
        if quorum > 1 && admins < quorum as usize {
            self.out.push(Warning {
                line: self.line,
                rule: "change_quorum".to_owned(),
                reason: format!(
                    "It asks for {quorum} admins, and {admins} have a passkey that may decide: once this holds, nothing \
                     that it governs can be changed before there are enough."
                ),
            });
        }
    }

    /// Groups that are unknown, methods that nobody holds, quorums that can't be reached.
    fn people_of(&mut self, require: &Require) {
        if let Some(groups) = &self.facts.groups {
            for approver in &require.approvers {
                if let Approver::Group(name) = approver
                    && !groups.contains(name)
                {
                    self.say(format!("There is no group \"{name}\"."));
                }
            }
        }
        let Some(people) = &self.facts.people else {
            return;
        };
        let obligation = Obligation::of(&self.rule, require);
        let unlimited = Obligation {
            methods: Method::ALL.to_vec(),
            ..obligation.clone()
        };
        let listed: Vec<&Candidate> = people
            .iter()
            .filter(|p| may_fill(p, &unlimited).is_ok())
            .collect();
        for method in &require.methods {
            if !listed.is_empty() && !listed.iter().any(|p| p.method.satisfies(*method)) {
                self.say(format!(
                    "Nobody who may approve holds {method}, or anything stronger."
                ));
            }
        }
        for missing in unsatisfiable(&[obligation], people) {
            self.say(missing.reason);
        }
    }

    /// Names and patterns that look like something else than they are.
    fn letters(&mut self, document: &Document, position: usize) {
        let rule = &document.rules()[position];
        let Match {
            branch,
            environment,
            project,
            paths,
            exclude_paths,
        } = &rule.match_;
        let patterns = [branch, environment, project].into_iter().flatten().flatten();
        let globs = paths.iter().flatten().chain(exclude_paths);
        let mut texts = vec![rule.name.clone()];
        texts.extend(patterns.map(|it| it.text().to_owned()));
        texts.extend(globs.map(|it| it.text().to_owned()));
        if let RuleEffect::Require(require) = &rule.effect {
            texts.extend(require.approvers.iter().map(ToString::to_string));
        }
        for text in &texts {
            let shown = crate::domain::text::visible(text);
            if shown != *text {
                self.say(format!(
                    "`{shown}` holds characters that can't be seen, or that turn their neighbours round."
                ));
            } else if mixes_alphabets(text) {
                self.say(format!(
                    "`{shown}` mixes Latin letters with those of another alphabet that look like them."
                ));
            }
        }
        let folded = nfkc_casefold(&rule.name);
        let mut earlier = document.rules()[..position].iter();
        if let Some(twin) = earlier.find(|it| nfkc_casefold(&it.name) == folded) {
            let twin = crate::domain::text::visible(&twin.name);
            self.say(format!(
                "Its name is easily taken for that of the rule \"{twin}\"."
            ));
        }
    }

    /// Patterns that can match nothing.
    fn scope(&mut self, rule: &Rule) {
        let Match {
            branch,
            environment,
            paths,
            exclude_paths,
            ..
        } = &rule.match_;
        if environment.is_some() && paths.is_some() {
            self.say("It never matches: deployments have no paths, and it judges nothing else.");
        }
        for pattern in branch.iter().flatten().map(NamePattern::text) {
            let other_ref = pattern.starts_with("refs/") && !pattern.starts_with("refs/heads/");
            if other_ref || pattern.starts_with('/') || pattern.trim() != pattern {
                self.say(format!(
                    "No branch is named like `{}`.",
                    crate::domain::text::visible(pattern)
                ));
            }
        }
        for glob in paths.iter().flatten().filter(|glob| exclude_paths.contains(glob)) {
            self.say(format!(
                "`{}` stands in `paths` and in `exclude_paths`.",
                glob.text()
            ));
        }
    }

    /// A require rule that another one makes needless.
    fn needless_require(&mut self, document: &Document, position: usize, require: &Require) {
        let rule = &document.rules()[position];
        if require.break_glass || require.independent {
            return;
        }
        let own = Obligation::of("", require);
        for (other_position, other) in document.rules().iter().enumerate() {
            let RuleEffect::Require(theirs) = &other.effect else {
                continue;
            };
            let theirs = Obligation::of("", theirs);
            let same = theirs.implies(&own) && own.implies(&theirs) && own.ttl_max == theirs.ttl_max;
            let stricter_ttl = own
                .ttl_max
                .is_none_or(|own| theirs.ttl_max.is_some_and(|t| t <= own));
            if other_position != position
                && theirs.implies(&own)
                && stricter_ttl
                && covers(&other.match_, &rule.match_)
                // Of two that say the same, the later one is told.
                && !(same && covers(&rule.match_, &other.match_) && other_position > position)
            {
                self.say(format!("It adds nothing to the rule \"{}\".", other.name));
            }
        }
    }

    fn skip(&mut self, document: &Document, rule: &Rule) {
        let match_ = &rule.match_;
        let demands: Vec<&Rule> = document
            .rules()
            .iter()
            .filter(|r| matches!(&r.effect, RuleEffect::Require(require) if !require.break_glass))
            .collect();
        if let Some(other) = demands.iter().find(|other| covers(&other.match_, match_)) {
            self.say(format!(
                "It never skips anything: \"{}\" demands approval for all that it matches.",
                other.name
            ));
        }
        if match_ == &Match::default() {
            self.say("It skips every change, deployment and action that no other rule matches.");
        }
        let control = ControlFiles::default();
        for glob in match_.paths.iter().flatten() {
            let text = crate::domain::text::visible(glob.text());
            let alone = Match {
                paths: Some(vec![glob.clone()]),
                ..match_.clone()
            };
            if match_.paths.as_ref().is_some_and(|paths| paths.len() > 1)
                && let Some(other) = demands.iter().find(|other| covers(&other.match_, &alone))
            {
                self.say(format!(
                    "`{text}` never skips anything: \"{}\" demands approval for it.",
                    other.name
                ));
            }
            if glob.named_path().is_none() && control.cover(glob) {
                self.say(format!(
                    "`{text}` matches nothing but control files, and those are never skipped."
                ));
            }
            if let Some(path) = glob.named_path() {
                if control.hold(&PathView::new(&path), &mut Effort::default()) {
                    self.say(format!(
                        "`{text}` is a control file, and those are never skipped."
                    ));
                } else if !path.0.contains(&b'.') {
                    self.say(format!(
                        "`{text}` skips a file of that name only; write `{text}/**` for a folder."
                    ));
                }
            }
            if glob.is_slashless() {
                let samples = self.would_skip(match_, glob);
                self.say(format!("`{text}` has no `/` and matches at any depth{samples}."));
            }
        }
    }

    /// The sample files in folders that a glob without `/` skips, as the end of a sentence.
    fn would_skip(&self, match_: &Match, glob: &PathGlob) -> String {
        let mut effort = Effort::default();
        let mut found: Vec<String> = Vec::new();
        let mut more = 0;
        for path in self.facts.sample_paths.iter().filter(|p| p.0.contains(&b'/')) {
            let view = PathView::new(path);
            let skipped = glob.grants(&view, &mut effort)
                && !match_.exclude_paths.iter().any(|g| g.demands(&view, &mut effort));
            if skipped && found.len() < SAMPLES_SHOWN {
                found.push(format!("`{}`", path.shown()));
            } else {
                more += usize::from(skipped);
            }
        }
        match (found.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(", as {}", found.join(", ")),
            (false, _) => format!(", as {} and {more} more", found.join(", ")),
        }
    }
}

/// Latin letters beside Greek or Cyrillic ones in one word.
fn mixes_alphabets(text: &str) -> bool {
    text.split(|c: char| !c.is_alphabetic()).any(|word| {
        let latin = word.chars().any(|it| it.is_ascii_alphabetic());
        let other = word
            .chars()
            .any(|it| matches!(it, '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}'));
        latin && other
    })
}

/// Whatever the inner match takes, the outer one takes too, as far as can be told.
fn covers(outer: &Match, inner: &Match) -> bool {
    let paths = match (&outer.paths, &inner.paths) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner.iter().all(|glob| outer.iter().any(|it| it.covers(glob))),
    };
    paths
        && outer
            .exclude_paths
            .iter()
            .all(|glob| inner.exclude_paths.contains(glob))
        && covers_names(outer.branch.as_deref(), inner.branch.as_deref())
        && covers_names(outer.environment.as_deref(), inner.environment.as_deref())
        && covers_names(outer.project.as_deref(), inner.project.as_deref())
}

fn covers_names(outer: Option<&[NamePattern]>, inner: Option<&[NamePattern]>) -> bool {
    let (Some(outer), Some(inner)) = (outer, inner) else {
        return outer.is_none();
    };
    let covered = |pattern: &NamePattern| {
        let plain = !pattern.text().contains(['*', '?', '[', '{']);
        outer.iter().any(|o| {
            o == pattern || o.text().bytes().all(|b| b == b'*') || (plain && o.matches(pattern.text()))
        })
    };
    inner.iter().all(covered)
}
