//! One-time codes: enrolling a generator, ending it, and whether a code is looked at, right and new, before anything is
//! decided by it. What a code costs is recorded in the very transaction that refuses it, so no crash gives a try back.

use crate::domain::command::Decide;
use crate::domain::decide::governance::policies;
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::{Event, RefusedCode};
use crate::domain::ids::{PersonId, RequestId};
use crate::domain::people::Person;
use crate::domain::policy::{DefaultRule, Method, RuleEffect, words};
use crate::domain::project::Project;
use crate::domain::refusal::Refusal;
use crate::domain::state::{Fault, Read};
use crate::domain::text::English;
use crate::domain::time::Time;
use crate::domain::totp::{DIGITS, Generator, PERIOD_SECONDS, SKEW_STEPS, WRONG_IN_A_ROW_MAX, step_at};

pub(super) fn enrol(
    person: PersonId,
    step: u64,
    hold_seconds: u64,
    confirmed_by: Vec<String>,
    now: Time,
    state: &impl Read,
) -> Decided {
    let record: Person = state
        .get::<Person>(person.as_str())?
        .filter(|it| it.active)
        .ok_or(Refusal::Unknown)?;
    let confirmed = match confirmed_by.as_slice() {
        // By the invitation that enrolled their passkey just before; whoever has none signs in nowhere.
        [] => record.live_passkeys().next().is_some(),
        ids => ids
            .iter()
            .all(|id| record.live_passkeys().any(|it| it.credential_id == *id)),
    };
    if !confirmed {
        let why = "A generator of one-time codes must be confirmed with a passkey you hold.";
        return Err(Refusal::NotAllowed { why: why.into() }.into());
    }
    // Between the look at the code and now the clock went on.
    if step_at(now).abs_diff(step) > SKEW_STEPS {
        return Err(Refusal::WrongCode.into());
    }
    let mut steps = Vec::new();
    if record.totp.is_some() {
        steps.push(revoked(&person, "another took its place"));
    }
    steps.push(Step::event(Event::TotpEnrolled {
        person,
        name: record.name,
        confirmed_by,
        step,
        period: PERIOD_SECONDS,
        digits: DIGITS,
        decides_from: now.plus_seconds(hold_seconds),
    }));
    Ok(Plan::done(steps))
}

pub(super) fn revoke(person: PersonId, reason: &str, state: &impl Read) -> Decided {
    let record: Person = state.get(person.as_str())?.ok_or(Refusal::Unknown)?;
    if record.totp.is_none() {
        return Err(Refusal::Unknown.into());
    }
    Ok(Plan::done(vec![revoked(&person, reason)]))
}

/// The step that ends a person's generator.
pub(super) fn revoked(person: &PersonId, reason: &str) -> Step {
    Step::event(Event::TotpRevoked {
        person: person.clone(),
        reason: reason.to_owned(),
    })
}

/// What takes one-time codes at all, in words: rules of policies, and projects that list them.
///
/// # Errors
/// When the recorded state can't be read.
pub fn deciding_codes(state: &impl Read) -> Result<Vec<String>, Fault> {
    let takes = |methods: &[Method]| methods.contains(&Method::Totp);
    let mut all = Vec::new();
    for (name, document) in policies(state)? {
        for rule in document.rules() {
            if matches!(&rule.effect, RuleEffect::Require(it) if takes(&it.methods)) {
                all.push(format!(
                    "rule {} of the policy {name}",
                    words::rule_name(&English, &rule.name)
                ));
            }
        }
        if matches!(document.default_rule(), Some(DefaultRule::Require(it)) if takes(&it.methods)) {
            all.push(format!("the default rule of the policy {name}"));
        }
    }
    let projects = state.all::<Project>()?;
    let listed = projects
        .iter()
        .filter(|it| !it.removed && it.settings.methods.as_deref().is_some_and(takes));
    all.extend(listed.map(|it| format!("the project {}", it.path)));
    Ok(all)
}

/// A decision by a code, with `judge` for everything that is not about the code.
///
/// A wrong code is counted and recorded; a right one is never taken twice, also where the decision is refused.
pub(super) fn decide<S: Read>(
    it: Decide,
    step: Option<u64>,
    now: Time,
    state: &S,
    judge: impl Fn(Decide, Time, &S) -> Decided,
) -> Decided {
    let person: Person = state.get(it.person.as_str())?.ok_or(Refusal::Unknown)?;
    let generator = looked_at(&person, now)?;
    let request = it.request.clone();
    let Some(step) = step.filter(|step| generator.takes(*step, now)) else {
        let mut steps = vec![refused(
            &person.id,
            request,
            None,
            "a wrong or used one-time code",
        )];
        let wrong = generator.wrong_in_a_row + 1;
        if wrong >= WRONG_IN_A_ROW_MAX {
            steps.push(Step::event(Event::TotpLocked {
                person: person.id,
                name: person.name,
                wrong,
            }));
        }
        return Ok(Plan {
            steps,
            reply: Err(Refusal::WrongCode),
        });
    };
    match judge(it, now, state) {
        Err(Stop::Refused(refusal)) => Ok(Plan {
            steps: vec![refused(&person.id, request, Some(step), &refusal.to_string())],
            reply: Err(refusal),
        }),
        other => other,
    }
}

/// The person's generator, if a code of it is looked at now.
fn looked_at(person: &Person, now: Time) -> Result<&Generator, Refusal> {
    let Some(it) = &person.totp else {
        let why = "You have set up no one-time codes. Use your passkey.".to_owned();
        return Err(Refusal::MethodNotAllowed { why });
    };
    if it.locked_at.is_some() {
        let why = "Your one-time codes are locked: too many in a row were wrong. Use your passkey, or set them up anew."
            .to_owned();
        return Err(Refusal::MethodNotAllowed { why });
    }
    match it.shut_until(now) {
        Some(until) => Err(Refusal::TooManyCodes {
            until: until.to_the_second(),
            seconds: now.seconds_until(until).max(1),
        }),
        None => Ok(it),
    }
}

fn refused(person: &PersonId, request: RequestId, burnt_step: Option<u64>, reason: &str) -> Step {
    Step::event(Event::CeremonyRefused {
        person: Some(person.clone()),
        request: Some(request),
        reason: crate::domain::text::shortened(reason, 300),
        code: Some(RefusedCode { burnt_step }),
    })
}
