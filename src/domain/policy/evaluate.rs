//! What a policy demands of a change or an action (policy rules 1–4, 9, 13–16, 19–21).
//! Grants are narrow, demands are wide: where anything is doubtful, more is demanded, never less.

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::domain::ids::Digest;
use crate::domain::policy::document::{
    Approver, DEFAULT_RULE, DefaultRule, Document, Match, Method, Require, Rule, RuleEffect, RuleIndex,
};
use crate::domain::policy::explain::{self, Doubt, Effect, Names, TraceEntry};
use crate::domain::policy::glob::{BadGlob, Effort, NamePattern, PathGlob, PathView};
use crate::domain::policy::index::{Cut, Index, Place, Sense};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// How long a deployment or action waits when neither its policy nor its caller says, in seconds.
pub const ACTION_TTL: u64 = 600;

/// Files that steer pipelines, ownership or what git itself does: never skippable (rule 4).
pub const CONTROL_FILES: [&str; 15] = [
    ".gitlab-ci.yml",
    ".gitlab/ci/**",
    ".github/workflows/**",
    ".github/actions/**",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    ".circleci/**",
    ".drone.yml",
    ".woodpecker/**",
    ".forgejo/workflows/**",
    ".gitea/workflows/**",
    "CODEOWNERS",
    ".gitattributes",
    ".gitmodules",
];

/// The globs of control files, compiled.
#[derive(Clone, Debug)]
pub struct ControlFiles {
    globs: Vec<PathGlob>,
    index: Index,
}

impl ControlFiles {
    /// The built-in globs and those that settings add. An error names the glob that is bad.
    pub fn new<'a>(added: impl IntoIterator<Item = &'a str>) -> Result<Self, (String, BadGlob)> {
        let all = CONTROL_FILES.into_iter().chain(added);
        let compiled = all.map(|text| PathGlob::new(text).map_err(|bad| (text.to_owned(), bad)));
        let globs: Vec<PathGlob> = compiled.collect::<Result<_, _>>()?;
        let mut index = Index::new(Sense::Demand);
        for (at, glob) in globs.iter().enumerate() {
            let glob_at = u32::try_from(at).expect("few globs");
            index.add(
                Place {
                    owner: 0,
                    glob: glob_at,
                },
                glob,
            );
        }
        Ok(ControlFiles { globs, index })
    }

    /// All that a glob matches is control files.
    pub(crate) fn cover(&self, glob: &PathGlob) -> bool {
        self.globs.iter().any(|it| it.covers(glob))
    }

    /// Whether no rule skips that file.
    pub fn name(&self, path: &str) -> bool {
        self.hold(&PathView::new(&RepoPath::from(path)), &mut Effort::default())
    }

    /// A control file, or a file below a directory of that name; by exact bytes or in the folded form.
    pub(crate) fn hold(&self, path: &PathView, effort: &mut Effort) -> bool {
        self.globs.iter().any(|glob| glob.demands(path, effort))
    }
}

impl Default for ControlFiles {
    fn default() -> Self {
        ControlFiles::new([]).expect("the built-in globs are well formed")
    }
}

/// What a project's settings say about approvals that no rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectDefaults {
    /// `None`: passkey and biometric.
    #[serde(default)]
    pub methods: Option<Vec<Method>>,
    /// Persons; 0 counts as 1.
    pub quorum: u32,
    /// Empty: every person with the role.
    #[serde(default)]
    pub approvers: Vec<Approver>,
}

impl Default for ProjectDefaults {
    fn default() -> Self {
        ProjectDefaults {
            methods: None,
            quorum: 1,
            approvers: Vec::new(),
        }
    }
}

/// What a decision about a change is bound to besides its head (rule 11). A setting of the project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindBase {
    /// Void when the merge base changes.
    #[default]
    MergeBase,
    /// Void when the target branch moves at all.
    TargetSha,
    /// Void only with a new head or another target branch.
    None,
}

impl BindBase {
    /// All, the default first.
    pub const ALL: [BindBase; 3] = [BindBase::MergeBase, BindBase::TargetSha, BindBase::None];

    /// The word for it in settings and in evidence.
    pub fn name(self) -> &'static str {
        match self {
            BindBase::MergeBase => "merge_base",
            BindBase::TargetSha => "target_sha",
            BindBase::None => "none",
        }
    }
}

/// What happens to a change with a commit that maps to nobody (rule 7). A setting of the project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unattributed {
    /// Every obligation needs one more person.
    #[default]
    OneMore,
    /// It is blocked.
    Block,
}

/// A question to the engine: everything it may know.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// `None`: the default rule alone.
    pub policy: Option<&'a Document>,
    pub defaults: &'a ProjectDefaults,
    pub control_files: &'a ControlFiles,
    pub asked: Asked<'a>,
}

/// What is to be judged.
#[derive(Clone, Debug)]
pub enum Asked<'a> {
    /// A change: a merge request or pull request.
    Change {
        /// The target branch, as a full ref `refs/heads/…`.
        branch: &'a str,
        /// What `project` patterns are matched against: the project's full path on its forge.
        project: Option<&'a str>,
        files: &'a FileList,
        /// The project's `branch_patterns`; `None` where the question is not asked (rule 20).
        branch_patterns: Option<&'a [NamePattern]>,
    },
    /// A deployment, or any other action sent to the API.
    Action {
        environment: Option<&'a str>,
        project: Option<&'a str>,
        /// The caller's own limit, in seconds.
        ttl_seconds: Option<u64>,
    },
}

/// What a policy makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All obligations must be filled.
    Require,
    /// Skipped by rules; this is never called an approval.
    Skip,
    /// Nothing opens it but another change, another policy or break-glass.
    Block,
    /// The branch is outside the project's `branch_patterns`: no request, no status.
    NotGated,
}

/// What one rule demands of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// The rule's name; `default` for the default rule.
    pub rule: String,
    /// Any of them; a stronger one satisfies a weaker.
    pub methods: Vec<Method>,
    /// Persons.
    pub quorum: u32,
    /// Seconds.
    #[serde(default)]
    pub ttl_max: Option<u64>,
    /// Empty: every person with the role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Approver>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub independent: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_author: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_contributor: bool,
    /// Whoever approves picks the two digits that the requester sees.
    #[serde(default, skip_serializing_if = "is_false")]
    pub match_code: bool,
    /// Only a passkey that can't be copied off its device counts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub device_bound: bool,
    /// Another way through (rule 21); never among `Evaluation::obligations`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub break_glass: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The engine's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    pub outcome: Outcome,
    /// ANDed (rule 5), in the order of the document, the default rule last. Also told when the outcome is `block`.
    pub obligations: Vec<Obligation>,
    /// Other ways through (rule 21), each on its own.
    #[serde(default)]
    pub break_glass: Vec<Obligation>,
    /// How long the request may wait and its approval be used, in seconds; `None` only for an uncapped change (rule 9).
    #[serde(default)]
    pub ttl: Option<u64>,
    /// Why, path by path, ordered by path.
    #[serde(default)]
    pub trace: Vec<TraceEntry>,
    /// The skip rules that were used, in the order of the document; empty unless the outcome is `skip`.
    #[serde(default)]
    pub skipped_by: Vec<String>,
    /// Sentences for people about the request as a whole.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The policy's digest; `None` without a policy.
    #[serde(default)]
    pub policy_sha256: Option<Digest>,
}

/// Judges a change or an action.
pub fn evaluate(question: &Question<'_>) -> Evaluation {
    let judge = Judge::new(question);
    match &question.asked {
        Asked::Change {
            branch,
            branch_patterns: Some(patterns),
            ..
        } if !patterns.iter().any(|p| p.matches_branch(branch)) => {
            let mut answer = judge.answer(None, Tally::default());
            answer.outcome = Outcome::NotGated;
            answer.reasons = vec!["The target branch is outside the project's branch patterns.".to_owned()];
            answer
        }
        Asked::Change {
            branch,
            project,
            files,
            ..
        } => judge.change(branch, *project, files),
        Asked::Action {
            environment,
            project,
            ttl_seconds,
        } => judge.action(*environment, *project, *ttl_seconds),
    }
}

/// The demands of the policy at a request's opening and of the current one both hold (rule 13).
///
/// An obligation that another one of the same rule makes needless is left out; a skip or a break-glass rule must
/// be there in both. The trace is the current one.
pub fn combine(opening: &Evaluation, current: &Evaluation) -> Evaluation {
    let outcome = match (opening.outcome, current.outcome) {
        (Outcome::Block, _) | (_, Outcome::Block) => Outcome::Block,
        (Outcome::Require, _) | (_, Outcome::Require) => Outcome::Require,
        (Outcome::Skip, _) | (_, Outcome::Skip) => Outcome::Skip,
        (Outcome::NotGated, Outcome::NotGated) => Outcome::NotGated,
    };
    let mut obligations: Vec<Obligation> = Vec::new();
    for new in opening.obligations.iter().chain(&current.obligations) {
        if let Some(old) = obligations.iter_mut().find(|old| old.implies(new)) {
            old.ttl_max = shorter(old.ttl_max, new.ttl_max);
        } else if let Some(old) = obligations.iter_mut().find(|old| new.implies(old)) {
            let ttl_max = shorter(old.ttl_max, new.ttl_max);
            *old = Obligation {
                ttl_max,
                ..new.clone()
            };
        } else {
            obligations.push(new.clone());
        }
    }
    let both_ways = opening.break_glass.iter().filter_map(|old| {
        let new = current.break_glass.iter().find(|new| new.rule == old.rule)?;
        let stricter = if new.implies(old) {
            new
        } else {
            Some(old).filter(|old| old.implies(new))?
        };
        Some(Obligation {
            ttl_max: shorter(old.ttl_max, new.ttl_max),
            ..stricter.clone()
        })
    });
    let mut reasons = opening.reasons.clone();
    reasons.extend(
        current
            .reasons
            .iter()
            .filter(|r| !opening.reasons.contains(r))
            .cloned(),
    );
    let skipped = outcome == Outcome::Skip;
    Evaluation {
        outcome,
        obligations,
        break_glass: both_ways.collect(),
        ttl: shorter(opening.ttl, current.ttl),
        trace: current.trace.clone(),
        skipped_by: if skipped {
            current.skipped_by.clone()
        } else {
            Vec::new()
        },
        reasons,
        policy_sha256: current.policy_sha256,
    }
}

impl Evaluation {
    /// The answer for a change with commits that map to nobody (rule 7). A skipped change needs no approver, so
    /// `OneMore` leaves it skipped; `Block` does not.
    pub fn for_unattributed(mut self, setting: Unattributed) -> Evaluation {
        if self.outcome == Outcome::NotGated {
            return self;
        }
        match setting {
            Unattributed::Block => {
                self.outcome = Outcome::Block;
                self.skipped_by.clear();
                self.reasons
                    .push("A commit maps to nobody, and the project blocks such changes.".to_owned());
            }
            Unattributed::OneMore if self.outcome != Outcome::Skip => {
                for obligation in self.obligations.iter_mut().chain(&mut self.break_glass) {
                    obligation.quorum = obligation.quorum.saturating_add(1);
                }
                self.reasons
                    .push("A commit maps to nobody: one more approver is needed.".to_owned());
            }
            Unattributed::OneMore => self.reasons.push(
                "A commit maps to nobody. Rules that ask for nobody skip the change all the same; the project can block such \
                 changes instead."
                    .to_owned(),
            ),
        }
        self
    }
}

impl Obligation {
    pub(crate) fn of(name: &str, require: &Require) -> Self {
        Obligation {
            rule: name.to_owned(),
            methods: require.methods.clone(),
            quorum: require.quorum,
            ttl_max: require.ttl_max,
            approvers: require.approvers.clone(),
            independent: require.independent,
            allow_author: require.allow_author,
            allow_contributor: require.allow_contributor,
            match_code: require.match_code,
            device_bound: require.device_bound,
            break_glass: require.break_glass,
        }
    }

    /// Both come from the same rule, and whatever fills this one fills the other.
    pub(crate) fn implies(&self, other: &Obligation) -> bool {
        let fewer_people = other.approvers.is_empty()
            || (!self.approvers.is_empty() && self.approvers.iter().all(|a| other.approvers.contains(a)));
        self.rule == other.rule
            && self.break_glass == other.break_glass
            && fewer_people
            && self.quorum >= other.quorum
            && self.methods.iter().min() >= other.methods.iter().min()
            && (self.independent || !other.independent)
            && (!self.allow_author || other.allow_author)
            && (!self.allow_contributor || other.allow_contributor)
            && (self.match_code || !other.match_code)
            && (self.device_bound || !other.device_bound)
    }
}

/// The smaller of two limits, `None` being no limit.
fn shorter(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// Steps of glob matching after which a change is judged by every rule of its branch instead: a policy at its limits over
/// a change at its limits would hold up everybody else for many seconds. An ordinary policy stays a hundred times below.
const EFFORT_MAX: u64 = 20_000_000;

/// So many verdicts are looked through one by one; more are looked up.
const SCANNED_MAX: usize = 8;

/// What the paths bring that match the same rules.
struct Verdict {
    /// By position.
    rules: Vec<u32>,
    matched: Names,
    obligations: Names,
    effect: Effect,
}

/// A set of doubts, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Doubts(u16);

impl Doubts {
    fn insert(&mut self, doubt: Doubt) -> bool {
        self.0 |= 1 << doubt as u16;
        true
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn set(self) -> BTreeSet<Doubt> {
        Doubt::ALL
            .into_iter()
            .filter(|it| self.0 & (1 << *it as u16) != 0)
            .collect()
    }
}

impl std::ops::BitOrAssign for Doubts {
    fn bitor_assign(&mut self, other: Doubts) {
        self.0 |= other.0;
    }
}

/// Finds the rules that match a path, and what is doubtful about it. Keeps its memory from path to path.
struct Finder<'j, 'a> {
    judge: &'j Judge<'a>,
    here: &'j [usize],
    /// By position: the rule judges this change.
    active: Vec<bool>,
    /// By position: the last path that the rule was found for.
    marks: Vec<u32>,
    round: u32,
    cut: Cut,
    folded: Vec<u8>,
    folded_cut: Cut,
    found: Vec<u32>,
    effort: Effort,
}

impl<'j, 'a> Finder<'j, 'a> {
    fn new(judge: &'j Judge<'a>, here: &'j [usize]) -> Self {
        let mut active = vec![false; judge.rules.len()];
        for i in here {
            active[*i] = true;
        }
        Finder {
            judge,
            here,
            marks: vec![0; active.len()],
            active,
            round: 0,
            cut: Cut::default(),
            folded: Vec::new(),
            folded_cut: Cut::default(),
            found: Vec::new(),
            effort: Effort::limited(EFFORT_MAX),
        }
    }

    /// Leaves in `found` the rules that match a path, by their positions in order (rules 1 and 18); answers what is doubtful
    /// about the path itself (rule 4).
    fn look(&mut self, path: &RepoPath) -> Doubts {
        self.cut.at(&path.0);
        self.found.clear();
        if !self.cut.is_ascii() {
            return self.look_slowly(path);
        }
        let mut doubts = Doubts::default();
        if self.cut.is_odd() {
            doubts.insert(Doubt::SuspiciousPath);
        }
        let (folded, folded_cut): (&[u8], &Cut) = if self.cut.has_upper() {
            self.folded.clear();
            self.folded.extend(path.0.iter().map(u8::to_ascii_lowercase));
            self.folded_cut.at(&self.folded);
            (&self.folded, &self.folded_cut)
        } else {
            (&path.0, &self.cut)
        };
        let judge = self.judge;
        let mut view: Option<PathView> = None;
        let mut asked: Vec<Place> = Vec::new();
        let mut control = false;
        let files = &judge.control_files;
        files
            .index
            .find(folded, folded_cut, &mut self.effort, |place, ask| match ask {
                true => asked.push(place),
                false => control = true,
            });
        for place in asked.drain(..) {
            let view = view.get_or_insert_with(|| PathView::new(path));
            control = control || files.globs[place.glob as usize].demands(view, &mut self.effort);
        }
        if control {
            doubts.insert(Doubt::ControlFile);
        }
        let Some(index) = judge.index else {
            return doubts;
        };
        self.round += 1;
        let (active, marks, round, found) = (&self.active, &mut self.marks, self.round, &mut self.found);
        let mut mark = |owner: u32| {
            let at = owner as usize;
            if active[at] && marks[at] != round {
                marks[at] = round;
                found.push(owner);
            }
        };
        index.everywhere.iter().for_each(|it| mark(*it));
        let both = [
            (&index.demands, folded, folded_cut),
            (&index.grants, &path.0[..], &self.cut),
        ];
        for (senses, text, cut) in both {
            senses.find(text, cut, &mut self.effort, |place, ask| match ask {
                true if active[place.owner as usize] => asked.push(place),
                true => {}
                false => mark(place.owner),
            });
            let widely = std::ptr::eq(senses, &raw const index.demands);
            for place in asked.drain(..) {
                let view = view.get_or_insert_with(|| PathView::new(path));
                let globs = judge.rules[place.owner as usize].match_.paths.as_ref();
                let glob = &globs.expect("a rule in the index has globs")[place.glob as usize];
                let matches = match widely {
                    true => glob.demands(view, &mut self.effort),
                    false => glob.grants(view, &mut self.effort),
                };
                if matches {
                    mark(place.owner);
                }
            }
        }
        if index.leaves_out {
            let effort = &mut self.effort;
            self.found.retain(|owner| {
                let left_out = &judge.rules[*owner as usize].match_.exclude_paths;
                left_out.is_empty() || {
                    let view = view.get_or_insert_with(|| PathView::new(path));
                    !judge.leaves_out(*owner as usize, view, effort)
                }
            });
        }
        self.found.sort_unstable();
        doubts
    }

    /// Every glob is asked: folding may change how many characters a name has, which no index foresees.
    fn look_slowly(&mut self, path: &RepoPath) -> Doubts {
        let mut doubts = Doubts::default();
        match path.as_str() {
            None => drop(doubts.insert(Doubt::NotUtf8)),
            Some(text) => {
                let bad_segment = |s: &str| s.is_empty() || s.ends_with([' ', '.']);
                if text.contains(|c: char| c == '\\' || c.is_control()) || text.split('/').any(bad_segment) {
                    doubts.insert(Doubt::SuspiciousPath);
                }
            }
        }
        let view = PathView::new(path);
        if self.judge.control_files.hold(&view, &mut self.effort) {
            doubts.insert(Doubt::ControlFile);
        }
        for i in self.here {
            if self.judge.holds_for(*i, &view, &mut self.effort) {
                self.found.push(u32::try_from(*i).expect("few rules"));
            }
        }
        doubts
    }

    /// The path for people.
    fn shown(&self, path: &RepoPath) -> String {
        match path.as_str() {
            Some(text) if self.cut.is_printable() => text.to_owned(),
            _ => path.shown(),
        }
    }
}

/// What was found so far, by positions in the document.
#[derive(Default)]
struct Tally {
    required: BTreeSet<usize>,
    default: bool,
    skips: BTreeSet<usize>,
    break_glass: BTreeSet<usize>,
    trace: Vec<TraceEntry>,
    reasons: Vec<String>,
}

struct Judge<'a> {
    rules: &'a [Rule],
    index: Option<&'a RuleIndex>,
    /// `None`: block.
    default: Option<Obligation>,
    control_files: &'a ControlFiles,
    policy_sha256: Option<Digest>,
}

impl<'a> Judge<'a> {
    fn new(question: &Question<'a>) -> Self {
        let defaults = question.defaults;
        let own = question.policy.and_then(Document::default_rule);
        let default = match own {
            Some(DefaultRule::Block) => None,
            Some(DefaultRule::Require(require)) => {
                let mut obligation = Obligation::of(DEFAULT_RULE, require);
                obligation.quorum = require.quorum.max(defaults.quorum);
                if obligation.approvers.is_empty() {
                    obligation.approvers.clone_from(&defaults.approvers);
                }
                Some(obligation)
            }
            None => Some(built_in(defaults)),
        };
        Judge {
            rules: question.policy.map_or(&[], Document::rules),
            index: question.policy.map(Document::index),
            default,
            control_files: question.control_files,
            policy_sha256: question.policy.map(Document::sha256),
        }
    }

    fn change(&self, branch: &str, project: Option<&str>, files: &FileList) -> Evaluation {
        let here: Vec<usize> = (0..self.rules.len())
            .filter(|i| judges_change(&self.rules[*i].match_, branch, project))
            .collect();
        let demands: Vec<usize> = here.iter().copied().filter(|i| self.demand(*i)).collect();
        let mut tally = Tally::default();
        let mut gaps: Vec<String> = files.incomplete.iter().cloned().collect();
        let paths = paths_of(files, &mut gaps);
        gaps.dedup();
        let complete = gaps.is_empty();
        let mut glass: BTreeSet<usize> = here.iter().copied().filter(|i| self.is_break_glass(*i)).collect();
        if paths.is_empty() || !complete {
            glass.retain(|i| {
                self.rules[*i].match_.paths.is_none() && self.rules[*i].match_.exclude_paths.is_empty()
            });
        }
        if !complete {
            tally.required.extend(&demands);
            tally.default = true;
            let why = gaps.join("; ");
            tally.reasons.push(format!(
                "The file list is incomplete ({why}): every require rule of the branch and the default rule apply."
            ));
            let mut entry = self.entry(String::new(), &demands, &demands, true);
            entry.doubts = vec![Doubt::FileListIncomplete];
            entry.reason = Some(format!("{}: {why}.", Doubt::FileListIncomplete.sentence()));
            tally.trace.push(entry);
        } else if paths.is_empty() {
            tally.default = true;
            tally
                .reasons
                .push("The change is empty: the default rule applies.".to_owned());
            let mut entry = self.entry(String::new(), &[], &[], true);
            entry.doubts = vec![Doubt::EmptyChange];
            entry.reason = Some(format!("{}.", Doubt::EmptyChange.sentence()));
            tally.trace.push(entry);
        }
        let mut finder = Finder::new(self, &here);
        // What a path brings depends on the rules it matches alone, where nothing about it is doubtful; and most paths match
        // the same ones as the path before.
        let mut verdicts: Vec<Verdict> = Vec::new();
        let mut by_rules: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut last = 0;
        tally.trace.reserve(paths.len());
        for (path, modes) in paths {
            let mut doubts = finder.look(path);
            if finder.effort.is_spent() {
                return self.too_costly(&here, &demands);
            }
            doubts |= modes;
            if !complete {
                doubts.insert(Doubt::FileListIncomplete);
            }
            let matched: &[u32] = &finder.found;
            let plain = doubts.is_empty();
            if plain {
                let holds = |it: &Verdict| it.rules[..] == *matched;
                let known = match verdicts.get(last) {
                    Some(it) if holds(it) => Some(last),
                    _ if verdicts.len() <= SCANNED_MAX => verdicts.iter().position(holds),
                    _ => by_rules.get(matched).copied(),
                };
                if let Some(at) = known {
                    last = at;
                    let verdict = &verdicts[at];
                    tally.trace.push(TraceEntry {
                        path: finder.shown(path),
                        matched: verdict.matched.clone(),
                        effect: verdict.effect,
                        obligations: verdict.obligations.clone(),
                        doubts: Vec::new(),
                        reason: None,
                    });
                    continue;
                }
            }
            let rules: Vec<usize> = matched.iter().map(|it| *it as usize).collect();
            glass.retain(|i| rules.contains(i));
            let shown = finder.shown(path);
            self.judge_path(path, shown, &rules, &demands, doubts.set(), &mut tally);
            if plain {
                let entry = tally.trace.last().expect("a path has an entry");
                last = verdicts.len();
                verdicts.push(Verdict {
                    rules: matched.to_vec(),
                    matched: entry.matched.clone(),
                    obligations: entry.obligations.clone(),
                    effect: entry.effect,
                });
                if verdicts.len() > SCANNED_MAX {
                    by_rules.extend(
                        verdicts
                            .iter()
                            .enumerate()
                            .skip(by_rules.len())
                            .map(|(at, it)| (it.rules.clone(), at)),
                    );
                }
            }
        }
        tally.break_glass = glass;
        tally.reasons.extend(explain::doubts_in(&tally.trace));
        self.answer(None, tally)
    }

    /// Nobody can know what the paths match without holding everybody else up: everything that can be asked is.
    fn too_costly(&self, here: &[usize], demands: &[usize]) -> Evaluation {
        let mut entry = self.entry(String::new(), demands, demands, true);
        entry.doubts = vec![Doubt::TooCostly];
        entry.reason = Some(format!(
            "{}: its many paths and the policy’s globs need more than {EFFORT_MAX} steps.",
            Doubt::TooCostly.sentence()
        ));
        let reason = format!(
            "{}, by the policy’s globs: every require rule of the branch and the default rule apply.",
            Doubt::TooCostly.sentence()
        );
        let whole = |i: &usize| {
            let match_ = &self.rules[*i].match_;
            self.is_break_glass(*i) && match_.paths.is_none() && match_.exclude_paths.is_empty()
        };
        let tally = Tally {
            required: demands.iter().copied().collect(),
            default: true,
            break_glass: here.iter().copied().filter(whole).collect(),
            trace: vec![entry],
            reasons: vec![reason],
            ..Tally::default()
        };
        self.answer(None, tally)
    }

    /// One path of a change (rules 2, 4 and 15).
    fn judge_path(
        &self,
        path: &RepoPath,
        shown: String,
        matched: &[usize],
        demands: &[usize],
        doubts: BTreeSet<Doubt>,
        tally: &mut Tally,
    ) {
        let demanding: Vec<usize> = matched.iter().copied().filter(|i| self.demand(*i)).collect();
        let named = !doubts.is_empty() && demanding.iter().any(|i| self.names(*i, path));
        let weak = doubts.contains(&Doubt::FileListIncomplete) || (!doubts.is_empty() && !named);
        let skips = matched
            .iter()
            .filter(|i| self.rules[**i].effect == RuleEffect::Skip);
        let is_skip = skips.clone().next().is_some();
        let applied: &[usize] = if weak { demands } else { &demanding };
        let skipped = !weak && applied.is_empty() && is_skip;
        let default = weak || (applied.is_empty() && !skipped);
        tally.required.extend(applied);
        tally.default |= default;
        if skipped {
            tally.skips.extend(skips);
        }
        let mut entry = self.entry(shown, matched, applied, default);
        if skipped {
            entry.effect = Effect::Skip;
        }
        entry.reason = explain::path_reason(&doubts, weak, !is_skip);
        entry.doubts = doubts.into_iter().collect();
        tally.trace.push(entry);
    }

    fn action(
        &self,
        environment: Option<&str>,
        project: Option<&str>,
        ttl_seconds: Option<u64>,
    ) -> Evaluation {
        let matched: Vec<usize> = (0..self.rules.len())
            .filter(|i| judges_action(&self.rules[*i], environment, project))
            .collect();
        let applied: Vec<usize> = matched.iter().copied().filter(|i| self.demand(*i)).collect();
        let skips: Vec<usize> = matched
            .iter()
            .copied()
            .filter(|i| self.rules[*i].effect == RuleEffect::Skip)
            .collect();
        let skipped = applied.is_empty() && !skips.is_empty();
        let default = applied.is_empty() && !skipped;
        let mut entry = self.entry(String::new(), &matched, &applied, default);
        if skipped {
            entry.effect = Effect::Skip;
        }
        let tally = Tally {
            required: applied.into_iter().collect(),
            default,
            skips: if skipped {
                skips.into_iter().collect()
            } else {
                BTreeSet::new()
            },
            break_glass: matched.into_iter().filter(|i| self.is_break_glass(*i)).collect(),
            trace: vec![entry],
            reasons: Vec::new(),
        };
        let mut answer = self.answer(ttl_seconds, tally);
        answer.ttl = answer.ttl.or(Some(ACTION_TTL));
        answer
    }

    fn answer(&self, ttl_seconds: Option<u64>, tally: Tally) -> Evaluation {
        let of = |i: &usize| match &self.rules[*i].effect {
            RuleEffect::Require(require) => Some(Obligation::of(&self.rules[*i].name, require)),
            RuleEffect::Skip => None,
        };
        let mut obligations: Vec<Obligation> = tally.required.iter().filter_map(of).collect();
        let mut reasons = tally.reasons;
        let blocked = tally.default && self.default.is_none();
        if blocked {
            reasons.push("The policy blocks what no rule matches.".to_owned());
        }
        if tally.default {
            obligations.extend(self.default.clone());
        }
        let outcome = if blocked {
            Outcome::Block
        } else if !obligations.is_empty() {
            Outcome::Require
        } else {
            Outcome::Skip
        };
        let names = |set: &BTreeSet<usize>| set.iter().map(|i| self.rules[*i].name.clone()).collect();
        Evaluation {
            outcome,
            break_glass: tally.break_glass.iter().filter_map(of).collect(),
            ttl: obligations
                .iter()
                .filter_map(|o| o.ttl_max)
                .chain(ttl_seconds)
                .min(),
            obligations,
            skipped_by: if outcome == Outcome::Skip {
                names(&tally.skips)
            } else {
                Vec::new()
            },
            trace: tally.trace,
            reasons,
            policy_sha256: self.policy_sha256,
        }
    }

    fn entry(&self, path: String, matched: &[usize], applied: &[usize], default: bool) -> TraceEntry {
        let effect = if default && self.default.is_none() {
            Effect::Block
        } else if !applied.is_empty() {
            Effect::Require
        } else {
            Effect::Default
        };
        let matched = self.named(matched, false);
        let obligations = self.named(applied, default && self.default.is_some());
        TraceEntry {
            path,
            matched,
            effect,
            obligations,
            doubts: Vec::new(),
            reason: None,
        }
    }

    /// The names of rules by their positions, and of the default rule behind them.
    fn named(&self, rules: &[usize], default: bool) -> Names {
        match (self.index, rules, default) {
            (Some(index), [one], false) => index.alone[*one].clone(),
            (Some(index), [], true) => index.default_alone.clone(),
            _ => {
                let names = rules.iter().map(|i| self.rules[*i].name.clone());
                let names: Vec<String> = names.chain(default.then(|| DEFAULT_RULE.to_owned())).collect();
                names.into()
            }
        }
    }

    /// A require rule that is not break-glass.
    fn demand(&self, i: usize) -> bool {
        matches!(&self.rules[i].effect, RuleEffect::Require(r) if !r.break_glass)
    }

    fn is_break_glass(&self, i: usize) -> bool {
        matches!(&self.rules[i].effect, RuleEffect::Require(r) if r.break_glass)
    }

    /// The rule matches the path (rules 1 and 18): a demand widely, a skip or a break-glass rule narrowly.
    fn holds_for(&self, i: usize, path: &PathView, effort: &mut Effort) -> bool {
        let paths = &self.rules[i].match_.paths;
        let matches = paths.as_ref().is_none_or(|globs| {
            globs.iter().any(|glob| match self.demand(i) {
                true => glob.demands(path, effort),
                false => glob.grants(path, effort),
            })
        });
        matches && !self.leaves_out(i, path, effort)
    }

    /// The rule excludes the path: from a demand narrowly, from a grant widely.
    fn leaves_out(&self, i: usize, path: &PathView, effort: &mut Effort) -> bool {
        let globs = &self.rules[i].match_.exclude_paths;
        globs.iter().any(|glob| match self.demand(i) {
            true => glob.grants(path, effort),
            false => glob.demands(path, effort),
        })
    }

    fn names(&self, i: usize, path: &RepoPath) -> bool {
        self.rules[i]
            .match_
            .paths
            .iter()
            .flatten()
            .any(|glob| glob.names(path))
    }
}

/// The default rule where no policy says otherwise.
fn built_in(defaults: &ProjectDefaults) -> Obligation {
    let listed = defaults.methods.clone().filter(|methods| !methods.is_empty());
    Obligation {
        rule: DEFAULT_RULE.to_owned(),
        methods: listed.unwrap_or_else(|| vec![Method::Passkey, Method::Biometric]),
        quorum: defaults.quorum.max(1),
        ttl_max: None,
        approvers: defaults.approvers.clone(),
        independent: false,
        allow_author: false,
        allow_contributor: false,
        match_code: false,
        device_bound: false,
        break_glass: false,
    }
}

fn judges_change(match_: &Match, branch: &str, project: Option<&str>) -> bool {
    match_.environment.is_none()
        && match_
            .branch
            .as_ref()
            .is_none_or(|list| list.iter().any(|p| p.matches_branch(branch)))
        && named(match_.project.as_deref(), project)
}

/// Actions have no paths: a rule about paths does not judge them, and neither does a skip that leaves some paths out.
fn judges_action(rule: &Rule, environment: Option<&str>, project: Option<&str>) -> bool {
    let match_ = &rule.match_;
    let demand = matches!(&rule.effect, RuleEffect::Require(r) if !r.break_glass);
    match_.branch.is_none()
        && match_.paths.is_none()
        && (demand || match_.exclude_paths.is_empty())
        && named(match_.environment.as_deref(), environment)
        && named(match_.project.as_deref(), project)
}

fn named(patterns: Option<&[NamePattern]>, name: Option<&str>) -> bool {
    patterns.is_none_or(|list| name.is_some_and(|name| list.iter().any(|p| p.matches(name))))
}

/// Every path that is judged once, in order, with what its files' modes say. What should be there and is not, is a gap.
fn paths_of<'f>(files: &'f FileList, gaps: &mut Vec<String>) -> Vec<(&'f RepoPath, Doubts)> {
    let mut paths: Vec<(&RepoPath, Doubts)> = Vec::with_capacity(files.files.len());
    let mut sorted = true;
    for file in &files.files {
        let doubts = mode_doubts(file);
        let Some(judged) = judged_paths(file) else {
            gaps.push("a file is listed without its path".to_owned());
            continue;
        };
        for path in judged.into_iter().flatten() {
            match paths.last_mut() {
                Some((before, known)) if *before == path => *known |= doubts,
                before => {
                    sorted &= before.is_none_or(|(before, _)| *before < path);
                    paths.push((path, doubts));
                }
            }
        }
    }
    if !sorted {
        paths.sort_by(|a, b| a.0.cmp(b.0));
        paths.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 |= later.1;
            }
            same
        });
    }
    paths
}

/// The paths of a file that are judged (rule 14); `None` where one that should be there is not.
fn judged_paths(file: &FileChange) -> Option<[Option<&RepoPath>; 2]> {
    let (old, new) = (file.old_path.as_ref(), file.new_path.as_ref());
    match file.status {
        FileStatus::Copied => new.map(|path| [Some(path), None]),
        FileStatus::Renamed => Some([Some(old?), Some(new?)]),
        FileStatus::Added | FileStatus::Modified | FileStatus::Deleted | FileStatus::TypeChanged => {
            (old.is_some() || new.is_some()).then_some([old, new])
        }
    }
}

/// Why a file may not be skipped because of its modes (rule 4).
fn mode_doubts(file: &FileChange) -> Doubts {
    let mut doubts = Doubts::default();
    let (old, new) = (file.old_mode, file.new_mode);
    let sides: &[FileMode] = match file.status {
        FileStatus::Added | FileStatus::Copied => &[new],
        FileStatus::Deleted => &[old],
        FileStatus::Modified | FileStatus::Renamed | FileStatus::TypeChanged => &[old, new],
    };
    if file.status == FileStatus::TypeChanged {
        doubts.insert(Doubt::ModeChanged);
    }
    if let (FileMode::Known(old), FileMode::Known(new)) = (old, new)
        && old != new
        && old != 0
        && new != 0
    {
        doubts.insert(Doubt::ModeChanged);
    }
    // A symlink or submodule counts on whichever side it stands, whatever the status says.
    for mode in [old, new] {
        if let FileMode::Known(mode) = mode {
            match mode & 0o170_000 {
                0o120_000 => doubts.insert(Doubt::Symlink),
                0o160_000 => doubts.insert(Doubt::Submodule),
                _ => false,
            };
        }
    }
    for side in sides {
        match side {
            FileMode::Unknown(()) => doubts.insert(Doubt::ModeUnknown),
            FileMode::Known(mode) => match mode & 0o170_000 {
                0o100_000 | 0o120_000 | 0o160_000 => false,
                // Absent where it should be there, or nothing that git keeps as a file.
                _ => doubts.insert(Doubt::ModeUnknown),
            },
        };
    }
    doubts
}
