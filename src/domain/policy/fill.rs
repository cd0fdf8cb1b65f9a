//! Whose decisions fill which obligations (policy rules 5–8). Persons are counted, never credentials or accounts.

use crate::domain::ids::PersonId;
use crate::domain::policy::document::{Approver, Method};
use crate::domain::policy::evaluate::Obligation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Steps after which the search for an assignment of people to independent obligations gives up; it then
/// reports too few approvals, never too many.
const SEARCH_STEPS_MAX: usize = 200_000;

/// People beyond which that search is not tried: it goes as deep as there are unlike people.
const SEARCH_PEOPLE_MAX: usize = 2000;

/// A person who decided, or may decide, and what the obligations ask about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub person: PersonId,
    /// The person's own addresses, for `person:<e-mail>`; compared without regard to ASCII case.
    pub emails: Vec<String>,
    /// The method of the decision; for somebody who has not decided, the strongest they hold.
    pub method: Method,
    /// The same of a passkey that can't be copied off its device; `None`: it is no such one.
    pub device_bound: Option<Method>,
    /// Names of their groups.
    pub groups: BTreeSet<String>,
    /// They made the change or asked for the action (author, or owner of the API key).
    pub author: bool,
    /// They contributed to the change otherwise (commit author, committer, co-author, pusher).
    pub contributor: bool,
    /// Another reason why they may not decide now, a sentence for people.
    pub barred: Option<String>,
}

/// Why a person's decision does not count for an obligation: a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    #[error("{0}")]
    Barred(String),
    #[error("Whoever made a change, or asked for an action, may not approve it.")]
    Author,
    #[error("Whoever contributed to a change may not approve it.")]
    Contributor,
    #[error("The rule \"{rule}\" asks for one of: {}.", listed(approvers))]
    NotAnApprover { rule: String, approvers: Vec<Approver> },
    #[error(
        "The rule \"{rule}\" asks for a passkey that can’t be copied off its device, such as a security key."
    )]
    Synced { rule: String },
    #[error("The rule \"{rule}\" asks for {}, and {method} is weaker.", listed(methods))]
    WeakMethod {
        rule: String,
        methods: Vec<Method>,
        method: Method,
    },
}

impl WhyNot {
    /// It is a refusal of self-approval (rule 7).
    pub fn is_self_approval(&self) -> bool {
        matches!(self, WhyNot::Author | WhyNot::Contributor)
    }
}

fn listed(items: &[impl ToString]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Who fills an obligation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    pub rule: String,
    pub quorum: u32,
    /// At most `quorum` different persons, in the order of the candidates.
    pub persons: Vec<PersonId>,
}

impl Filled {
    /// The quorum is reached.
    pub fn met(&self) -> bool {
        self.persons.len() >= self.quorum as usize
    }
}

/// Every obligation is filled. No obligations at all are not an approval: then it is false.
pub fn all_met(filled: &[Filled]) -> bool {
    !filled.is_empty() && filled.iter().all(Filled::met)
}

/// An obligation that the eligible people can't fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsatisfiable {
    pub rule: String,
    pub quorum: u32,
    /// How many different persons could fill it.
    pub eligible: u32,
    /// A sentence for people.
    pub reason: String,
}

/// Whether a person's decision may fill a slot of an obligation.
///
/// `allow_author` admits whoever made the change, with their own commits; `allow_contributor` the others who
/// contributed, never the author.
pub fn may_fill(candidate: &Candidate, obligation: &Obligation) -> Result<(), WhyNot> {
    if let Some(reason) = &candidate.barred {
        return Err(WhyNot::Barred(reason.clone()));
    }
    if candidate.author && !obligation.allow_author {
        return Err(WhyNot::Author);
    }
    if candidate.contributor && !candidate.author && !obligation.allow_contributor {
        return Err(WhyNot::Contributor);
    }
    let is_listed = |approver: &Approver| match approver {
        Approver::Group(name) => candidate.groups.contains(name),
        Approver::Person(who) => {
            who == candidate.person.as_str() || candidate.emails.iter().any(|e| e.eq_ignore_ascii_case(who))
        }
    };
    let rule = || obligation.rule.clone();
    if !obligation.approvers.is_empty() && !obligation.approvers.iter().any(is_listed) {
        return Err(WhyNot::NotAnApprover {
            rule: rule(),
            approvers: obligation.approvers.clone(),
        });
    }
    let method = match (obligation.device_bound, candidate.device_bound) {
        (false, _) => candidate.method,
        (true, Some(method)) => method,
        (true, None) => return Err(WhyNot::Synced { rule: rule() }),
    };
    if !obligation.methods.iter().any(|listed| method.satisfies(*listed)) {
        return Err(WhyNot::WeakMethod {
            rule: rule(),
            methods: obligation.methods.clone(),
            method,
        });
    }
    Ok(())
}

/// Finds who fills what. One person fills at most one slot of an obligation; whoever fills an `independent` one
/// fills none of another rule. If all obligations can be filled together, the answer fills them all; if not, it
/// is a valid part. Answers stand in the order of the obligations.
pub fn fill(obligations: &[Obligation], candidates: &[Candidate]) -> Vec<Filled> {
    Board::new(obligations, candidates).filled()
}

/// Which obligations the eligible people can't fill, however they decide. `people` are all who may decide, each
/// with the strongest method they hold.
pub fn unsatisfiable(obligations: &[Obligation], people: &[Candidate]) -> Vec<Unsatisfiable> {
    let board = Board::new(obligations, people);
    let report = |i: usize, reason: String| Unsatisfiable {
        rule: obligations[i].rule.clone(),
        quorum: obligations[i].quorum,
        eligible: board.eligible(i),
        reason,
    };
    let mut out = Vec::new();
    for (i, obligation) in obligations.iter().enumerate() {
        let (quorum, eligible) = (obligation.quorum, board.eligible(i));
        if eligible < quorum {
            let rule = &obligation.rule;
            let reason = format!("The rule \"{rule}\" needs {quorum} approvers, and {eligible} can fill it.");
            out.push(report(i, reason));
        }
    }
    if out.is_empty() && board.search() == Search::Impossible {
        for (i, obligation) in obligations.iter().enumerate().filter(|(_, o)| o.independent) {
            let rule = &obligation.rule;
            let reason = format!(
                "The rule \"{rule}\" needs other people than the other rules do, and there are too few for all."
            );
            out.push(report(i, reason));
        }
    }
    out
}

/// People against obligations. People are split into pools: one for each rule with an independent obligation, and
/// pool 0 for all other rules; a person in a pool fills only that pool's obligations.
struct Board<'a> {
    obligations: &'a [Obligation],
    /// Each person once, in the order of the candidates, with the obligations they may fill.
    people: Vec<(&'a PersonId, Vec<bool>)>,
    /// The pool of each obligation.
    pool: Vec<usize>,
    pools: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Search {
    /// The pool of each person; `None`: not needed.
    Found(Vec<Option<usize>>),
    Impossible,
    GaveUp,
}

impl<'a> Board<'a> {
    fn new(obligations: &'a [Obligation], candidates: &'a [Candidate]) -> Self {
        let mut people: Vec<(&PersonId, Vec<bool>)> = Vec::new();
        let mut position: BTreeMap<&PersonId, usize> = BTreeMap::new();
        for candidate in candidates {
            let may: Vec<bool> = obligations
                .iter()
                .map(|o| may_fill(candidate, o).is_ok())
                .collect();
            match position.get(&candidate.person) {
                None => {
                    position.insert(&candidate.person, people.len());
                    people.push((&candidate.person, may));
                }
                // Told twice, a person may do what both tell: the narrower reading.
                Some(at) => people[*at]
                    .1
                    .iter_mut()
                    .zip(may)
                    .for_each(|(old, new)| *old &= new),
            }
        }
        let mut apart: BTreeMap<&str, usize> = BTreeMap::new();
        for obligation in obligations.iter().filter(|o| o.independent) {
            let next = apart.len() + 1;
            apart.entry(&obligation.rule).or_insert(next);
        }
        let pool = obligations
            .iter()
            .map(|o| apart.get(o.rule.as_str()).copied().unwrap_or(0))
            .collect();
        Board {
            obligations,
            people,
            pool,
            pools: apart.len() + 1,
        }
    }

    fn eligible(&self, obligation: usize) -> u32 {
        let count = self.people.iter().filter(|(_, may)| may[obligation]).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn filled(&self) -> Vec<Filled> {
        let pools = match self.search() {
            Search::Found(pools) => pools,
            Search::Impossible | Search::GaveUp => self.greedy(),
        };
        let of = |(i, obligation): (usize, &Obligation)| {
            let able = self
                .people
                .iter()
                .zip(&pools)
                .filter(|((_, may), pool)| may[i] && **pool == Some(self.pool[i]));
            let persons = able.map(|((person, _), _)| (*person).clone());
            Filled {
                rule: obligation.rule.clone(),
                quorum: obligation.quorum,
                persons: persons.take(obligation.quorum as usize).collect(),
            }
        };
        self.obligations.iter().enumerate().map(of).collect()
    }

    fn needs(&self) -> Vec<u32> {
        self.obligations.iter().map(|o| o.quorum).collect()
    }

    /// Searches for pools that fill everything: exhaustive, with what failed before remembered.
    fn search(&self) -> Search {
        if self.pools == 1 {
            let possible =
                (0..self.obligations.len()).all(|i| self.eligible(i) >= self.obligations[i].quorum);
            return if possible {
                Search::Found(vec![Some(0); self.people.len()])
            } else {
                Search::Impossible
            };
        }
        if (0..self.obligations.len()).any(|i| self.eligible(i) < self.obligations[i].quorum) {
            return Search::Impossible;
        }
        // People who may fill the same obligations are alike. Side by side, they make alike states that are met once,
        // and more of them than all slots together are never needed.
        let slots: usize = self.obligations.iter().map(|o| o.quorum as usize).sum();
        let mut alike: BTreeMap<(usize, &[bool]), Vec<usize>> = BTreeMap::new();
        for (at, (_, may)) in self.people.iter().enumerate() {
            let breadth = may.iter().filter(|m| **m).count();
            if breadth > 0 {
                let same = alike.entry((breadth, may)).or_default();
                if same.len() < slots {
                    same.push(at);
                }
            }
        }
        let order: Vec<usize> = alike.into_values().flatten().collect();
        if order.len() > SEARCH_PEOPLE_MAX {
            return Search::GaveUp;
        }
        // How many of the people from a position on may fill each obligation.
        let mut left = vec![vec![0u32; self.obligations.len()]; order.len() + 1];
        for at in (0..order.len()).rev() {
            let may = &self.people[order[at]].1;
            left[at] = left[at + 1]
                .iter()
                .zip(may)
                .map(|(after, able)| after + u32::from(*able))
                .collect();
        }
        let mut descent = Descent {
            board: self,
            order: &order,
            left: &left,
            failed: HashSet::new(),
            pools: vec![None; self.people.len()],
            steps: 0,
        };
        if descent.down(0, &self.needs()) {
            Search::Found(descent.pools)
        } else if descent.steps >= SEARCH_STEPS_MAX {
            Search::GaveUp
        } else {
            Search::Impossible
        }
    }

    /// The needs after a person joined a pool; `None` where that helps nothing.
    fn after(&self, person: usize, pool: usize, needs: &[u32]) -> Option<Vec<u32>> {
        let may = &self.people[person].1;
        let mut next = needs.to_vec();
        for i in (0..next.len()).filter(|i| may[*i] && self.pool[*i] == pool) {
            next[i] = next[i].saturating_sub(1);
        }
        (next != needs).then_some(next)
    }

    /// A valid part for when not everything can be filled: each person in turn goes where they help most.
    fn greedy(&self) -> Vec<Option<usize>> {
        let mut needs = self.needs();
        let mut pools = vec![None; self.people.len()];
        for (person, pool) in pools.iter_mut().enumerate() {
            let sum = |needs: &[u32]| needs.iter().map(|n| u64::from(*n)).sum::<u64>();
            let choices = (0..self.pools).filter_map(|p| Some((p, self.after(person, p, &needs)?)));
            if let Some((chosen, next)) = choices.min_by_key(|(p, next)| (sum(next), *p)) {
                *pool = Some(chosen);
                needs = next;
            }
        }
        pools
    }
}

struct Descent<'a> {
    board: &'a Board<'a>,
    order: &'a [usize],
    left: &'a [Vec<u32>],
    failed: HashSet<(usize, Vec<u32>)>,
    pools: Vec<Option<usize>>,
    steps: usize,
}

impl Descent<'_> {
    /// Places the people from a position on; true if all needs are met.
    fn down(&mut self, at: usize, needs: &[u32]) -> bool {
        if needs.iter().all(|n| *n == 0) {
            return true;
        }
        if self.left[at].iter().zip(needs).any(|(left, need)| left < need) {
            return false;
        }
        self.steps += 1;
        if self.steps >= SEARCH_STEPS_MAX || self.failed.contains(&(at, needs.to_vec())) {
            return false;
        }
        let person = self.order[at];
        // Pool 0 last: whoever can serve apart does so first, since pool 0's people serve many obligations at once.
        for pool in (0..self.board.pools).rev() {
            if let Some(next) = self.board.after(person, pool, needs) {
                self.pools[person] = Some(pool);
                if self.down(at + 1, &next) {
                    return true;
                }
            }
        }
        self.pools[person] = None;
        if self.down(at + 1, needs) {
            return true;
        }
        self.failed.insert((at, needs.to_vec()));
        false
    }
}
