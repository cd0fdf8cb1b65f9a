//! How a request is brought before people: who has seen it, who says that they did not expect it, and the two digits that
//! make somebody look at where it comes from.

use crate::domain::ids::{Digest, PersonId, RequestId};
use crate::domain::policy::Obligation;
use crate::domain::project::Project;
use crate::domain::request::{Request, Requester};
use crate::domain::state::{Fault, Read, Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// What one person did with one request besides deciding it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    pub request: RequestId,
    pub person: PersonId,
    /// When it was on their screen for the first time.
    pub seen_at: Option<Time>,
    /// They picked another code than the requester sees: they can't approve it any more.
    pub missed_code: bool,
}

impl Look {
    /// Key of the row.
    pub fn row(request: &RequestId, person: &PersonId) -> String {
        format!("{request}\0{person}")
    }

    /// What is recorded, or nothing yet.
    ///
    /// # Errors
    /// When the recorded state can't be read.
    pub fn of(request: &RequestId, person: &PersonId, state: &impl Read) -> Result<Look, Fault> {
        Ok(state.get(&Look::row(request, person))?.unwrap_or_else(|| Look {
            request: request.clone(),
            person: person.clone(),
            seen_at: None,
            missed_code: false,
        }))
    }
}

impl Record for Look {
    const TABLE: Table = Table::Looks;
    fn key(&self) -> String {
        Look::row(&self.request, &self.person)
    }
}

/// The two digits that the requester sees, and what the approver picks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchCode {
    /// 10 to 99.
    pub code: u8,
    /// Three different ones, the code among them, in an order that tells nothing.
    pub choices: [u8; 3],
}

/// The code of a request, where one of its rules asks for it. It follows from the request's random id: it proves nothing to
/// the server, it makes a person look at where the request comes from.
pub fn match_code(request: &Request) -> Option<MatchCode> {
    code_for(
        &request.id,
        request.obligations.iter().chain(&request.break_glass),
    )
}

/// As [`match_code`], of a request that is about to be made.
pub fn code_for<'a>(
    request: &RequestId,
    rules: impl IntoIterator<Item = &'a Obligation>,
) -> Option<MatchCode> {
    rules
        .into_iter()
        .any(|it| it.match_code)
        .then(|| code_of(request))
}

/// The code of a request, whether a rule asks for it or not: both sides make it from the id.
pub fn code_of(request: &RequestId) -> MatchCode {
    let bits = Digest::of(format!("signedapproval/match-code/v1\0{request}").as_bytes()).0;
    let two_digits = |bit: u8| 10 + bit % 90;
    let code = two_digits(bits[0]);
    let mut others = bits[2..].iter().map(|it| two_digits(*it));
    let first = others.by_ref().find(|it| *it != code).unwrap_or(code ^ 1);
    let second = others.find(|it| *it != code && *it != first).unwrap_or(code ^ 2);
    let mut choices = [code, first, second];
    choices.rotate_left(usize::from(bits[1] % 3));
    MatchCode { code, choices }
}

/// Who asks, as a row of the table of reported requesters; `None` for somebody who tries the gate out. A key is itself
/// everywhere, an account only on its own forge.
///
/// # Errors
/// When the recorded state can't be read.
pub fn requester_row(request: &Request, state: &impl Read) -> Result<Option<String>, Fault> {
    Ok(match (&request.requester, request.gated_project()) {
        (Requester::Key { id, .. }, _) => Some(key_row(id.as_str())),
        (Requester::ForgeAccount { id, .. }, Some(project)) => {
            let project: Option<Project> = state.get(project.as_str())?;
            project.map(|it| format!("account/{}/{id}", it.integration))
        }
        (Requester::ForgeAccount { .. }, None) | (Requester::Person { .. }, _) => None,
    })
}

/// A machine caller's row in the table of reported requesters.
pub fn key_row(key: &str) -> String {
    format!("key/{key}")
}

/// Whether a requester was reported, and nobody has looked that over yet.
///
/// # Errors
/// When the recorded state can't be read.
pub fn is_reported(row: &str, state: &impl Read) -> Result<bool, Fault> {
    Ok(state.get_raw(Table::Reported, row.as_bytes())?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn three_different_codes_of_two_digits_hold_the_right_one(bits: [u8; 16]) {
            let it = code_of(&RequestId::from_random(bits));
            prop_assert!(it.choices.contains(&it.code));
            prop_assert!(it.choices.iter().all(|it| (10..=99).contains(it)));
            let mut sorted = it.choices;
            sorted.sort_unstable();
            prop_assert!(sorted.windows(2).all(|it| it[0] != it[1]));
        }
    }

    #[test]
    fn the_right_code_stands_in_every_place_about_as_often() {
        let mut places = [0; 3];
        for seed in 0..3_000_u32 {
            let mut bits = [0; 16];
            bits[..4].copy_from_slice(&seed.to_be_bytes());
            let it = code_of(&RequestId::from_random(bits));
            places[it
                .choices
                .iter()
                .position(|at| *at == it.code)
                .expect("among them")] += 1;
        }
        assert!(places.iter().all(|it| (850..1150).contains(it)), "{places:?}");
    }
}
