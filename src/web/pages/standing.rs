//! How a request stands with the people: who may decide it, whose approvals count so far. Reads the same rules as the
//! gate; decides nothing.

use crate::domain::decide::{Roster, Standing, eligibility, hopeless, progress, standing};
use crate::domain::ids::PersonId;
use crate::domain::people::{Group, Person, Role};
use crate::domain::policy::{Approver, Method, Obligation};
use crate::domain::request::{Request, Status};
use crate::domain::state::{Fault, Read};
use crate::domain::time::Time;
use crate::texts::{said, t};
use crate::web::pages::shown;
use crate::web::words::{methods, rule_name};

/// Longest name of a person on a page, in characters.
const NAME_MAX: usize = 80;

/// Everybody, with their groups.
pub struct People {
    roster: Roster,
}

/// Whether a person's decision would count.
pub struct Chance {
    /// For which rules.
    pub rules: Vec<String>,
    /// For which of them somebody is missing still.
    pub open: Vec<String>,
    /// For which break-glass rules, if chosen.
    pub emergency: Vec<String>,
    /// For which rules by a one-time code.
    pub by_code: Vec<String>,
    /// Why no passkey of theirs may decide now, where a code may.
    pub no_passkey: Option<String>,
    /// Why for none.
    pub why_not: Option<String>,
}

impl People {
    /// Reads everybody. People and groups stay few.
    pub fn load(state: &impl Read) -> Result<Self, Fault> {
        Ok(People {
            roster: Roster::load(state)?,
        })
    }

    /// All groups.
    pub fn groups(&self) -> &[Group] {
        self.roster.groups()
    }

    /// In the order of their names.
    pub fn sorted(&self) -> Vec<&Person> {
        let mut people: Vec<&Person> = self.roster.people().collect();
        people.sort_by_key(|it| it.name.to_lowercase());
        people
    }

    /// A person's name as pages show it.
    pub fn name(&self, id: &PersonId) -> String {
        self.roster
            .person(id)
            .map_or_else(|| id.to_string(), |it| shown(&it.name, NAME_MAX))
    }

    /// Whom a rule names, in words: a person by name, a group as a group.
    pub fn approver(&self, approver: &Approver) -> String {
        match approver {
            Approver::Group(name) => t!("group {name}", name = shown(name, NAME_MAX)),
            Approver::Person(who) => {
                let person = self
                    .roster
                    .people()
                    .find(|it| it.id.as_str() == who || it.email.eq_ignore_ascii_case(who));
                person.map_or_else(|| shown(who, NAME_MAX), |it| shown(&it.name, NAME_MAX))
            }
        }
    }

    /// Whether this person's decision would count now.
    pub fn chance(&self, request: &Request, person: &Person, now: Time) -> Chance {
        let told = eligibility(request, person, &self.roster, now);
        Chance {
            rules: told.rules,
            open: told.open,
            emergency: told.emergency,
            by_code: told.by_code,
            no_passkey: told.no_passkey.map(|it| said(&it.to_string()).into_owned()),
            why_not: told.why_not.map(|it| said(&it.to_string()).into_owned()),
        }
    }

    /// Why somebody is asked: for each rule that lacks somebody still, what makes them one of those it names.
    pub fn why_asked(&self, request: &Request, person: &Person, open: &[String], now: Time) -> Vec<String> {
        let absent: Vec<&Person> = self.roster.stands_in_for(&person.id, now).collect();
        let is = |who: &str, it: &Person| it.id.as_str() == who || it.email.eq_ignore_ascii_case(who);
        let within = |group: &str, it: &Person| {
            let mut groups = self.roster.groups().iter();
            groups.any(|at| at.name == group && at.members.contains(&it.id))
        };
        let reason = |approver: &Approver| -> Option<String> {
            let (own, of_absent): (bool, Option<&&Person>) = match approver {
                Approver::Person(who) => (is(who, person), absent.iter().find(|it| is(who, it))),
                Approver::Group(name) => (within(name, person), absent.iter().find(|it| within(name, it))),
            };
            let called = match approver {
                Approver::Person(_) => t!("names you").to_owned(),
                Approver::Group(name) => {
                    t!(
                        "asks the group {name}, which you are in",
                        name = shown(name, NAME_MAX)
                    )
                }
            };
            match (own, of_absent) {
                (true, _) => Some(called),
                (false, Some(it)) => Some(t!(
                    "asks {name}, for whom you stand in",
                    name = shown(&it.name, NAME_MAX)
                )),
                (false, None) => None,
            }
        };
        let obligations = request.obligations.iter().filter(|it| open.contains(&it.rule));
        obligations
            .map(|it| {
                let why = it.approvers.iter().find_map(reason);
                let why = why.unwrap_or_else(|| t!("asks everybody with the role approver").to_owned());
                match it.rule.as_str() {
                    "default" => t!("The default rule {why}.", why = why),
                    name => t!("The rule {name} {why}.", name = rule_name(name), why = why),
                }
            })
            .collect()
    }

    /// Names of everybody but one whose approval would still bring a rule further, and of those who can only break glass.
    pub fn who_may_decide(&self, request: &Request, but: &PersonId, now: Time) -> (Vec<String>, Vec<String>) {
        let (mut ordinary, mut emergency) = (Vec::new(), Vec::new());
        for other in self.sorted() {
            if other.id == *but || !other.has(Role::Approver) {
                continue;
            }
            let chance = self.chance(request, other, now);
            if !chance.open.is_empty() {
                ordinary.push(shown(&other.name, NAME_MAX));
            } else if !chance.emergency.is_empty() {
                emergency.push(shown(&other.name, NAME_MAX));
            }
        }
        (ordinary, emergency)
    }

    /// Whose approvals fill which obligation so far, and why the others do not.
    pub fn standing(&self, request: &Request, now: Time) -> Standing {
        standing(request, &self.roster, now)
    }

    /// Which rules of a waiting request nobody can fill, in sentences.
    pub fn hopeless(&self, request: &Request, now: Time) -> Vec<String> {
        let rules = hopeless(request, &self.roster, now);
        rules
            .iter()
            .map(|it| said(&shown(&it.reason, 500)).into_owned())
            .collect()
    }

    /// Whom a person stood in for at that time, by name.
    pub fn stood_in_for(&self, person: &PersonId, at: Time) -> Vec<String> {
        let absent = self.roster.stands_in_for(person, at);
        absent.map(|it| shown(&it.name, NAME_MAX)).collect()
    }

    /// How far a waiting request is, as `1 of 2 approvals`.
    pub fn progress(&self, request: &Request, now: Time) -> Option<String> {
        (request.status == Status::Pending).then(|| said(&progress(request, &self.roster, now)).into_owned())
    }
}

/// How a person proves an approval, in words that promise no more than was checked.
pub fn method_words(method: Method) -> &'static str {
    match method {
        Method::Totp => t!("one-time code, server-attested: nothing binds it to the content"),
        Method::Passkey => t!("passkey"),
        Method::Biometric => t!("passkey of the device itself (biometric or device PIN)"),
    }
}

/// What an obligation takes, as `passkey or biometric`.
pub fn methods_taken(obligation: &Obligation) -> String {
    methods(&obligation.methods)
}
