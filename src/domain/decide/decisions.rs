//! One person's decision: may they, does it count, and does it end the request.

use crate::domain::command::{Decide, Proof, Reply};
use crate::domain::decide::attention::code_matches;
use crate::domain::decide::codes;
use crate::domain::decide::judge::as_judged_now;
use crate::domain::decide::roster::{Means, Roster, decides_by_code};
use crate::domain::decide::{
    Decided, DecisionDraft, FilledBy, FilledObligation, OutcomeDraft, Plan, Step, Stop,
};
use crate::domain::event::Event;
use crate::domain::ids::PersonId;
use crate::domain::people::{Passkey, Person, Role};
use crate::domain::policy::{
    Candidate, Filled, Method, Obligation, Story, Unsatisfiable, WhyNot, all_met, fill, may_fill, stories,
    unsatisfiable, words,
};
use crate::domain::refusal::Refusal;
use crate::domain::request::{Answer, Opening, Request, Status};
use crate::domain::state::{Fault, Read, decode};
use crate::domain::text::English;
use crate::domain::time::Time;
use std::collections::BTreeSet;

/// What a person may do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eligibility {
    /// Rules the person's decision would count for.
    pub rules: Vec<String>,
    /// Those of them that lack somebody still.
    pub open: Vec<String>,
    /// Break-glass rules that would count the person's approval, if chosen.
    pub emergency: Vec<String>,
    /// Rules that a one-time code of the person's would count for.
    pub by_code: Vec<String>,
    /// Why no passkey of theirs may decide now, where a code may.
    pub no_passkey: Option<Refusal>,
    /// Why it would count for none of either.
    pub why_not: Option<Refusal>,
}

/// Whether, and for which rules, a person's decision would count now, by the strongest method they hold.
pub fn eligibility(request: &Request, person: &Person, roster: &Roster, now: Time) -> Eligibility {
    let no = |why_not| Eligibility {
        rules: Vec::new(),
        open: Vec::new(),
        emergency: Vec::new(),
        by_code: Vec::new(),
        no_passkey: None,
        why_not: Some(why_not),
    };
    if request.status != Status::Pending {
        return no(Refusal::AlreadyEnded {
            status: request.status.name(),
        });
    }
    if request.expires_at.is_some_and(|it| now >= it) {
        return no(Refusal::AlreadyEnded {
            status: Status::Expired.name(),
        });
    }
    if request.decided_by(&person.id) {
        return no(Refusal::AlreadyDecided);
    }
    if !person.has(Role::Approver) {
        return no(Refusal::NotEligible {
            why: "Only people with the role approver decide.".into(),
        });
    }
    let decides = |it: &Passkey| it.decides_from <= now;
    let no_passkey = (!person.live_passkeys().any(decides)).then(|| {
        let why = match person.live_passkeys().map(|it| it.decides_from).min() {
            Some(from) => format!(
                "Your passkey is new and may decide from {} on.",
                from.to_the_second()
            ),
            None => "You have no passkey.".into(),
        };
        Refusal::NotEligible { why }
    });
    let counts_by = |means| {
        counts_for(
            request,
            &roster.candidate(person, means, &request.involved, request.created_at, now),
        )
    };
    let by_code = match decides_by_code(person, now) {
        true => counts_by(Means::CODE).map_or_else(|_| Vec::new(), |it| it.rules),
        false => Vec::new(),
    };
    let means = match (Means::strongest(person, now), no_passkey.clone()) {
        // A code alone, and no rule takes it: the passkey is what is missing.
        (Some(Means::CODE), Some(why)) if by_code.is_empty() => return no(why),
        (Some(means), _) => means,
        (None, why) => return no(why.unwrap_or(Refusal::Unknown)),
    };
    match counts_by(means) {
        Ok(counts) => Eligibility {
            open: still_open(request, &counts.rules, roster, now),
            rules: counts.rules,
            emergency: counts.emergency,
            by_code,
            no_passkey,
            why_not: None,
        },
        Err(refusal) => no(refusal),
    }
}

/// Whether an eligible person may give this answer this way. Asked before the ceremony, and again when it is recorded:
/// everybody decides once, so an approval that can count nowhere must not use that up.
///
/// # Errors
/// When the answer could count nowhere, or break-glass is chosen without a reason or to reject.
pub fn may_answer(
    request: &Request,
    it: &Eligibility,
    answer: Answer,
    break_glass: bool,
    comment: &str,
) -> Result<(), Refusal> {
    if let (Some(why), Answer::Approve) = (&request.held, answer) {
        return Err(Refusal::NotAllowed { why: why.clone() });
    }
    if break_glass {
        return emergency(&it.emergency, answer, comment);
    }
    if it.rules.is_empty() {
        let named: Vec<String> = it
            .emergency
            .iter()
            .map(|it| words::rule_name(&English, it))
            .collect();
        let named = named.join(" and ");
        let why = match answer {
            Answer::Approve => format!(
                "Only the break-glass rule {named} counts your approval: choose the emergency way and say why, or leave \
                 it to the people whom the other rules ask."
            ),
            Answer::Reject => format!(
                "Only the break-glass rule {named} counts you, and nobody rejects by it. Whoever the other rules ask may \
                 reject."
            ),
        };
        return Err(Refusal::NotEligible { why });
    }
    if request.blocked && answer == Answer::Approve {
        return Err(Refusal::Blocked);
    }
    Ok(())
}

/// What one decision would count for.
struct Counts {
    rules: Vec<String>,
    emergency: Vec<String>,
}

/// Those of the rules that lack somebody still.
fn still_open(request: &Request, rules: &[String], roster: &Roster, now: Time) -> Vec<String> {
    let approvals: Vec<Candidate> = approvers(request, roster, now)
        .into_iter()
        .map(|(it, _)| it)
        .collect();
    let filled = fill(&request.obligations, &approvals);
    let lacks = |rule: &&String| filled.iter().any(|it| it.rule == **rule && !it.met());
    rules.iter().filter(lacks).cloned().collect()
}

fn counts_for(request: &Request, who: &Candidate) -> Result<Counts, Refusal> {
    let mut first: Option<WhyNot> = None;
    let mut among = |obligations: &[Obligation]| -> Vec<String> {
        let mut rules = Vec::new();
        for obligation in obligations {
            match may_fill(who, obligation) {
                Ok(()) => rules.push(obligation.rule.clone()),
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        rules
    };
    let counts = Counts {
        rules: among(&request.obligations),
        emergency: among(&request.break_glass),
    };
    match first {
        Some(why) if counts.rules.is_empty() && counts.emergency.is_empty() => Err(match &why {
            WhyNot::Author | WhyNot::Contributor => {
                let told = request.involved.get(&who.person).map(|it| it.why.clone());
                Refusal::SelfApproval {
                    why: told.unwrap_or_else(|| why.to_string()),
                }
            }
            WhyNot::WeakMethod { .. } | WhyNot::Synced { .. } => {
                Refusal::MethodNotAllowed { why: why.to_string() }
            }
            WhyNot::Barred(_) | WhyNot::NotAnApprover { .. } => Refusal::NotEligible { why: why.to_string() },
        }),
        _ => Ok(counts),
    }
}

pub(super) fn decide(it: Decide, now: Time, state: &impl Read) -> Decided {
    match it.proof {
        Proof::Passkey(_) => judge(it, now, state),
        Proof::Code { step } => codes::decide(it, step, now, state, judge),
    }
}

/// What a decision is given with, if that may decide by now.
fn means_given(proof: &Proof, person: &Person, now: Time) -> Result<Means, Stop> {
    let not_yet = |what: &str, from: Time| {
        let why = format!("{what} and may decide from {} on.", from.to_the_second());
        Refusal::NotEligible { why }
    };
    match proof {
        Proof::Passkey(proof) => {
            let mut held = person.live_passkeys();
            let passkey = held.find(|it| it.credential_id == proof.credential_id);
            let passkey = passkey.ok_or_else(|| Refusal::NotEligible {
                why: "This passkey counts no more.".into(),
            })?;
            match passkey.decides_from > now {
                true => Err(not_yet("This passkey is new", passkey.decides_from).into()),
                false => Ok(Means::of(passkey)),
            }
        }
        Proof::Code { .. } => match &person.totp {
            Some(it) if it.decides_from > now => {
                Err(not_yet("Your one-time codes are new", it.decides_from).into())
            }
            Some(_) => Ok(Means::CODE),
            None => Err(Refusal::Unknown.into()),
        },
    }
}

/// Everything about a decision but the one-time code it may come with.
fn judge(it: Decide, now: Time, state: &impl Read) -> Decided {
    let request: Request = state.get(it.request.as_str())?.ok_or(Refusal::Unknown)?;
    let person: Person = state.get(it.person.as_str())?.ok_or(Refusal::Unknown)?;
    let roster = Roster::load(state)?;
    let request = as_judged_now(request, state)?;
    // A new head supersedes the request; whoever was shown the old one learns it here, in the same transaction.
    // The same holds for the rules: what was signed must name the policy that is in force.
    if request.status == Status::Superseded
        || request.subject_sha256 != it.subject_sha256
        || request.policy.sha256 != it.policy_sha256
    {
        return Err(Refusal::StaleSubject.into());
    }
    if let Some(why) = eligibility(&request, &person, &roster, now).why_not {
        return Err(why.into());
    }
    let means = means_given(&it.proof, &person, now)?;
    let own = roster.candidate(&person, means, &request.involved, request.created_at, now);
    let counts = counts_for(&request, &own)?;
    let eligible = Eligibility {
        rules: counts.rules,
        open: Vec::new(),
        emergency: counts.emergency,
        by_code: Vec::new(),
        no_passkey: None,
        why_not: None,
    };
    may_answer(&request, &eligible, it.answer, it.break_glass, &it.comment)?;
    if !code_matches(&request, &it.person, it.answer, it.match_code, state)?? {
        return Err(Refusal::invalid("match_code", "This is not the code that the requester sees.").into());
    }

    let opening: Opening = {
        let blob = state.blob(&request.opening)?;
        decode(&blob.ok_or_else(|| Fault(format!("the opening of {} is missing", request.id)))?)?
    };
    let outcome = match it.answer {
        Answer::Reject => Some(rejected(&request)),
        Answer::Approve => approved(&request, own, it.break_glass, &roster, now),
    };
    let status = outcome.as_ref().map_or(Status::Pending, |it| it.status);
    let draft = DecisionDraft {
        request: Box::new(request),
        opening: Box::new(opening),
        person: it.person,
        answer: it.answer,
        method: means.method,
        comment: it.comment,
        break_glass: it.break_glass,
        intent: it.intent,
        challenge_issued_at: it.challenge_issued_at,
        proof: it.proof,
    };
    let emergency = outcome.as_ref().and_then(|it| emergency_exception(it, &draft));
    let mut steps = vec![Step::Decision(Box::new(draft))];
    steps.extend(outcome.map(|it| Step::Outcome(Box::new(it))));
    steps.extend(emergency);
    // The engine fills in the credential's digest, which exists only once it is signed.
    let reply = Reply::Decided {
        status,
        credential: crate::domain::ids::Digest([0; 32]),
    };
    Ok(Plan {
        steps,
        reply: Ok(reply),
    })
}

fn rejected(request: &Request) -> OutcomeDraft {
    OutcomeDraft {
        request: request.id.clone(),
        opening: request.opening,
        status: Status::Rejected,
        obligations: Vec::new(),
        expires_at: request.expires_at,
        reason: String::new(),
        skipped_by: Vec::new(),
    }
}

/// Whether a person may choose the emergency way (policy rule 21).
fn emergency(rules: &[String], answer: Answer, comment: &str) -> Result<(), Refusal> {
    if rules.is_empty() {
        let why = "No break-glass rule of this request counts your approval.".to_owned();
        return Err(Refusal::NotEligible { why });
    }
    if answer != Answer::Approve {
        return Err(Refusal::invalid(
            "break_glass",
            "Only an approval goes the emergency way.",
        ));
    }
    if comment.trim().is_empty() {
        return Err(Refusal::invalid(
            "comment",
            "Say why this can't wait: break-glass needs a reason.",
        ));
    }
    Ok(())
}

/// The event that tells of an approval by break-glass, if it is one.
fn emergency_exception(outcome: &OutcomeDraft, this: &DecisionDraft) -> Option<Step> {
    let through = outcome.obligations.iter().find(|it| it.break_glass)?;
    let earlier = this.request.decisions.iter();
    let earlier = earlier.filter(|it| through.by.contains(&FilledBy::Earlier(it.credential)));
    let approvers = earlier
        .map(|it| it.person.clone())
        .chain([this.person.clone()])
        .collect();
    Some(Step::event(Event::ExceptionBreakGlass {
        request: outcome.request.clone(),
        rule: through.rule.clone(),
        approvers,
    }))
}

/// Everyone who approved before and still may, judged anew: who lost the role, the group or the passkey since counts no
/// more. With each, whether they chose the emergency way.
fn approvers(request: &Request, roster: &Roster, now: Time) -> Vec<(Candidate, bool)> {
    let mut candidates = Vec::new();
    for decision in request.decisions.iter().filter(|it| it.answer == Answer::Approve) {
        let Some(person) = roster.person(&decision.person) else {
            continue;
        };
        let passkey_lives = decision
            .passkey
            .as_ref()
            .is_none_or(|id| person.live_passkeys().any(|it| it.credential_id == *id));
        // A lock means that somebody guessed, not that this one was guessed.
        let codes_live = person
            .totp
            .as_ref()
            .is_some_and(|it| it.added_at <= decision.decided_at);
        let proof_lives = passkey_lives && (decision.method != Method::Totp || codes_live);
        // What happened to somebody after the end takes nothing back.
        let counts = request.status != Status::Pending || (person.has(Role::Approver) && proof_lives);
        if counts {
            let with = decision
                .passkey
                .as_ref()
                .and_then(|id| person.passkeys.iter().find(|it| it.credential_id == *id));
            let bound = with.is_some_and(|it| !it.backup_eligible);
            let means = Means {
                method: decision.method,
                device_bound: bound.then_some(decision.method),
            };
            let candidate = roster.candidate(person, means, &request.involved, request.created_at, now);
            candidates.push((candidate, decision.break_glass));
        }
    }
    candidates
}

/// The outcome, if this approval is the one that was missing.
fn approved(
    request: &Request,
    own: Candidate,
    break_glass: bool,
    roster: &Roster,
    now: Time,
) -> Option<OutcomeDraft> {
    let this = own.person.clone();
    let mut candidates = approvers(request, roster, now);
    candidates.push((own, break_glass));
    let in_emergency: Vec<Candidate> = candidates
        .iter()
        .filter(|(_, it)| *it)
        .map(|(it, _)| it.clone())
        .collect();
    let candidates: Vec<Candidate> = candidates.into_iter().map(|(it, _)| it).collect();
    let named = |obligations: &[Obligation], candidates: &[Candidate]| -> Option<Vec<FilledObligation>> {
        let filled = fill(obligations, candidates);
        all_met(&filled).then(|| {
            obligations
                .iter()
                .zip(&filled)
                .map(|(obligation, filled)| FilledObligation {
                    rule: obligation.rule.clone(),
                    quorum: obligation.quorum,
                    methods: obligation.methods.clone(),
                    by: filled
                        .persons
                        .iter()
                        .filter_map(|it| filled_by(request, it, &this))
                        .collect(),
                    break_glass: obligation.break_glass,
                })
                .collect()
        })
    };
    let ordinary = if request.blocked {
        None
    } else {
        named(&request.obligations, &candidates)
    };
    // Break-glass counts only those who chose it and said why (policy rule 21).
    let through = ordinary.or_else(|| {
        request
            .break_glass
            .iter()
            .find_map(|it| named(std::slice::from_ref(it), &in_emergency))
    });
    through.map(|obligations| OutcomeDraft {
        request: request.id.clone(),
        opening: request.opening,
        status: Status::Approved,
        obligations,
        expires_at: request.ttl_seconds.map(|it| now.plus_seconds(it)),
        reason: String::new(),
        skipped_by: Vec::new(),
    })
}

fn filled_by(request: &Request, person: &PersonId, this: &PersonId) -> Option<FilledBy> {
    if person == this {
        return Some(FilledBy::ThisOne);
    }
    let earlier = request.decisions.iter().find(|it| it.person == *person);
    earlier.map(|it| FilledBy::Earlier(it.credential))
}

/// How each obligation of a request stands, in their order, and what became of every approval.
pub struct Standing {
    pub filled: Vec<Filled>,
    /// Why each decision counts, or does not.
    pub stories: Vec<Story>,
    /// The same of the emergency ways through.
    pub break_glass: Vec<Story>,
}

/// How far a request is; of one that has ended, how it stood then.
pub fn standing(request: &Request, roster: &Roster, now: Time) -> Standing {
    let now = request.decided_at.unwrap_or(now);
    let approvals = approvers(request, roster, now);
    let in_emergency: Vec<Candidate> = approvals
        .iter()
        .filter(|(_, it)| *it)
        .map(|(it, _)| it.clone())
        .collect();
    let candidates: Vec<Candidate> = approvals.into_iter().map(|(it, _)| it).collect();
    let filled = fill(&request.obligations, &candidates);
    let each = request.break_glass.iter().flat_map(|it| {
        let it = std::slice::from_ref(it);
        stories(it, &fill(it, &in_emergency), &in_emergency)
    });
    Standing {
        stories: stories(&request.obligations, &filled, &candidates),
        break_glass: each.collect(),
        filled,
    }
}

/// How far a waiting request is, for one line: by approvals where one rule asks, by rules where several do. Counts only
/// what counts.
pub fn progress(request: &Request, roster: &Roster, now: Time) -> String {
    let filled = standing(request, roster, now).filled;
    match filled.as_slice() {
        [only] => {
            let plural = if only.quorum == 1 { "" } else { "s" };
            format!("{} of {} approval{plural}", only.persons.len(), only.quorum)
        }
        several => {
            let met = several.iter().filter(|it| it.met()).count();
            let people: BTreeSet<&PersonId> = several.iter().flat_map(|it| &it.persons).collect();
            let so_far = match people.len() {
                0 => String::new(),
                1 => ", 1 approval so far".to_owned(),
                given => format!(", {given} approvals so far"),
            };
            format!("{met} of {} rules met{so_far}", several.len())
        }
    }
}

/// Which obligations of a waiting request the people there are can't fill (policy rule 6), so that nobody waits for what
/// can't happen.
pub fn hopeless(request: &Request, roster: &Roster, now: Time) -> Vec<Unsatisfiable> {
    if request.status != Status::Pending || request.blocked {
        return Vec::new();
    }
    unsatisfiable(
        &request.obligations,
        &roster.candidates(&request.involved, request.created_at, now),
    )
}
