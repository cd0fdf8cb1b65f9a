//! Setting a new server up: seven steps, and which of them are done. One pure function over facts says so, for the wizard,
//! the checklist on the overview and the navigation alike.

use crate::domain::gate::{Gate, Strength};
use crate::domain::ids::PersonId;
use crate::domain::keys::{active, all_keys};
use crate::domain::people::{Person, Role};
use crate::domain::project::{Integration, PolicyRecord, Project};
use crate::domain::state::{Fault, Read, Table, decode};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// Rows of what admins said of a step begin so; the step's name follows.
pub const PREFIX: &[u8] = b"set-up/";
/// People who can approve before a gate is of any use: nobody approves their own change.
pub const APPROVERS_MIN: usize = 2;
/// How many characters of a fingerprint are typed to show that it was written down.
pub const FINGERPRINT_END: usize = 8;

/// One step of setting up, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetUpStep {
    /// The first admin holds a passkey.
    Passkey,
    /// The address that everything is bound to was looked at.
    PublicUrl,
    /// Browsers trust the connection.
    Tls,
    /// The fingerprint of the credential key stands somewhere else than here.
    SigningKey,
    /// A forge is connected, and a repository's gate holds.
    Forge,
    /// Somebody chose what needs whose approval.
    Policy,
    /// There is somebody to approve the first one's changes.
    Approver,
}

impl SetUpStep {
    /// All of them, in order.
    pub const ALL: [SetUpStep; 7] = [
        SetUpStep::Passkey,
        SetUpStep::PublicUrl,
        SetUpStep::Tls,
        SetUpStep::SigningKey,
        SetUpStep::Forge,
        SetUpStep::Policy,
        SetUpStep::Approver,
    ];

    /// Its name in addresses.
    pub fn name(self) -> &'static str {
        match self {
            SetUpStep::Passkey => "passkey",
            SetUpStep::PublicUrl => "public-url",
            SetUpStep::Tls => "tls",
            SetUpStep::SigningKey => "signing-key",
            SetUpStep::Forge => "forge",
            SetUpStep::Policy => "policy",
            SetUpStep::Approver => "approver",
        }
    }

    /// Reads the word of [`SetUpStep::name`].
    pub fn parse(text: &str) -> Option<SetUpStep> {
        Self::ALL.into_iter().find(|it| it.name() == text)
    }

    /// Its place, from 1.
    pub fn number(self) -> usize {
        Self::ALL.iter().position(|it| *it == self).map_or(0, |it| it + 1)
    }

    /// What an admin may say of it.
    pub fn takes(self, word: SetUpWord) -> bool {
        match (self, word) {
            // Whoever reads the wizard has done it.
            (SetUpStep::Passkey, _) => false,
            (_, SetUpWord::Later) => true,
            (SetUpStep::PublicUrl | SetUpStep::SigningKey | SetUpStep::Policy, SetUpWord::Confirmed) => true,
            // Where only pipelines ask there is no forge.
            (SetUpStep::Forge, SetUpWord::NotNeeded) => true,
            (_, SetUpWord::Confirmed | SetUpWord::NotNeeded) => false,
        }
    }
}

/// What an admin says of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetUpWord {
    /// It is right as it stands.
    Confirmed,
    /// Not now: the list goes on to show it.
    Later,
    /// It is not needed here.
    NotNeeded,
}

impl SetUpWord {
    /// Reads the word as forms send it.
    pub fn parse(text: &str) -> Option<SetUpWord> {
        match text {
            "confirmed" => Some(SetUpWord::Confirmed),
            "later" => Some(SetUpWord::Later),
            "not_needed" => Some(SetUpWord::NotNeeded),
            _ => None,
        }
    }
}

/// What an admin said of a step, and of what exactly: another address or key has to be looked at anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUpAnswer {
    pub step: SetUpStep,
    pub word: SetUpWord,
    /// The public URL, the key's id; empty where it is about nothing that could change.
    pub of: String,
    pub person: PersonId,
    pub name: String,
    pub at: Time,
}

impl SetUpAnswer {
    /// Row of a step's answer.
    pub fn row(step: SetUpStep) -> Vec<u8> {
        [PREFIX, step.name().as_bytes()].concat()
    }
}

/// How connections are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain http on this machine alone.
    Evaluation,
    /// A proxy in front speaks TLS.
    Proxy,
    /// A certificate from files; it counts while it is for the public URL's host and in time.
    Files { counts: bool },
    /// A certificate of our own making, for which nobody vouches.
    SelfSigned,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Done,
    /// Somebody put it off.
    Later,
    Open,
}

/// All that says how far the setting up is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUpFacts {
    /// Active admins with a passkey.
    pub admins: usize,
    pub public_url: String,
    pub transport: Transport,
    /// Id of the credential key that signs now.
    pub credential_key: String,
    pub forges: usize,
    pub projects: usize,
    /// Projects whose gate was looked at and holds at least softly.
    pub holding: usize,
    pub policies: usize,
    /// Active approvers with a passkey.
    pub approvers: usize,
    /// What was said of each step, newest only.
    pub answers: Vec<SetUpAnswer>,
}

impl SetUpFacts {
    /// Reads them; what the record can't know is handed in.
    ///
    /// # Errors
    /// When the recorded state can't be read.
    pub fn load(public_url: &str, transport: Transport, state: &impl Read) -> Result<Self, Fault> {
        let mut people = state.all::<Person>()?;
        people.retain(|it| it.active && it.live_passkeys().next().is_some());
        let with = |role: Role| people.iter().filter(|it| it.has(role)).count();
        let forges = state.all::<Integration>()?;
        let mut projects = state.all::<Project>()?;
        projects.retain(|it| !it.removed);
        let mut holding = 0;
        for it in &projects {
            let gate: Option<Gate> = state.get(it.id.as_str())?;
            holding += usize::from(gate.is_some_and(|it| it.strength > Strength::None));
        }
        let rows = state.with_prefix(Table::Counters, PREFIX)?;
        let keys = all_keys(state)?;
        Ok(SetUpFacts {
            admins: with(Role::Admin),
            public_url: public_url.to_owned(),
            transport,
            credential_key: active(&keys, "credential").map_or_else(String::new, |it| it.keyid.clone()),
            forges: forges.iter().filter(|it| !it.removed).count(),
            projects: projects.len(),
            holding,
            policies: state.all::<PolicyRecord>()?.len(),
            approvers: with(Role::Approver),
            answers: rows
                .iter()
                .map(|(_, row)| decode(row))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What a step's answer is about, as things are now.
    pub fn subject(&self, step: SetUpStep) -> &str {
        match step {
            SetUpStep::PublicUrl => &self.public_url,
            SetUpStep::SigningKey => &self.credential_key,
            _ => "",
        }
    }

    /// What was said of a step, where it is still about the same.
    pub fn answer(&self, step: SetUpStep) -> Option<&SetUpAnswer> {
        let mut all = self.answers.iter();
        all.find(|it| it.step == step && it.of == self.subject(step))
    }

    /// How far a step is.
    pub fn standing(&self, step: SetUpStep) -> Standing {
        let word = self.answer(step).map(|it| it.word);
        let by_itself = match step {
            SetUpStep::Passkey => self.admins > 0,
            // Only a person can say that these are right.
            SetUpStep::PublicUrl | SetUpStep::SigningKey => false,
            SetUpStep::Tls => matches!(
                self.transport,
                Transport::Evaluation | Transport::Proxy | Transport::Files { counts: true }
            ),
            SetUpStep::Forge => self.holding > 0,
            SetUpStep::Policy => self.policies > 0,
            SetUpStep::Approver => self.approvers >= APPROVERS_MIN,
        };
        match word {
            _ if by_itself => Standing::Done,
            Some(SetUpWord::Confirmed | SetUpWord::NotNeeded) => Standing::Done,
            Some(SetUpWord::Later) => Standing::Later,
            None => Standing::Open,
        }
    }

    /// How many steps are done.
    pub fn done(&self) -> usize {
        let all = SetUpStep::ALL.into_iter();
        all.filter(|it| self.standing(*it) == Standing::Done).count()
    }

    /// The first step that nobody has done or put off.
    pub fn first_open(&self) -> Option<SetUpStep> {
        let mut all = SetUpStep::ALL.into_iter();
        all.find(|it| self.standing(*it) == Standing::Open)
    }
}

/// Whether what somebody typed is the end of a fingerprint, however they wrote it.
pub fn ends_like(fingerprint: &str, typed: &str) -> bool {
    let typed: String = typed.chars().filter(|it| !it.is_whitespace()).collect();
    typed.len() >= FINGERPRINT_END && fingerprint.ends_with(&typed.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SetUpFacts {
        SetUpFacts {
            admins: 1,
            public_url: "https://approvals.example".into(),
            transport: Transport::SelfSigned,
            credential_key: "00ff".repeat(16),
            forges: 0,
            projects: 0,
            holding: 0,
            policies: 0,
            approvers: 1,
            answers: Vec::new(),
        }
    }

    fn said(facts: &SetUpFacts, step: SetUpStep, word: SetUpWord) -> SetUpFacts {
        let mut facts = facts.clone();
        facts.answers.retain(|it| it.step != step);
        facts.answers.push(SetUpAnswer {
            step,
            word,
            of: facts.subject(step).to_owned(),
            person: PersonId::from_random([7; 16]),
            name: "Ada".into(),
            at: Time(1),
        });
        facts
    }

    #[test]
    fn the_first_open_step_is_where_it_goes_on() {
        let mut it = facts();
        assert_eq!((it.done(), it.first_open()), (1, Some(SetUpStep::PublicUrl)));
        it = said(&it, SetUpStep::PublicUrl, SetUpWord::Confirmed);
        assert_eq!(it.first_open(), Some(SetUpStep::Tls));
        // What is put off is passed over, and is not done.
        it = said(&it, SetUpStep::Tls, SetUpWord::Later);
        assert_eq!((it.done(), it.first_open()), (2, Some(SetUpStep::SigningKey)));
        assert_eq!(it.standing(SetUpStep::Tls), Standing::Later);
        it.transport = Transport::Files { counts: true };
        assert_eq!(it.standing(SetUpStep::Tls), Standing::Done);
        it.transport = Transport::Files { counts: false };
        assert_eq!(it.standing(SetUpStep::Tls), Standing::Later);
        it = said(&it, SetUpStep::SigningKey, SetUpWord::Confirmed);
        it.holding = 1;
        it = said(&it, SetUpStep::Policy, SetUpWord::Confirmed);
        it.approvers = 2;
        it.transport = Transport::Proxy;
        assert_eq!((it.done(), it.first_open()), (7, None));
    }

    #[test]
    fn another_address_or_key_has_to_be_looked_at_anew() {
        let mut it = said(&facts(), SetUpStep::PublicUrl, SetUpWord::Confirmed);
        it = said(&it, SetUpStep::SigningKey, SetUpWord::Confirmed);
        assert_eq!(it.standing(SetUpStep::SigningKey), Standing::Done);
        it.credential_key = "11".repeat(32);
        assert_eq!(it.standing(SetUpStep::SigningKey), Standing::Open);
        it.public_url = "https://other.example".into();
        assert_eq!(it.standing(SetUpStep::PublicUrl), Standing::Open);
    }

    #[test]
    fn a_forge_that_holds_nothing_is_not_set_up() {
        let mut it = facts();
        (it.forges, it.projects) = (1, 1);
        assert_eq!(it.standing(SetUpStep::Forge), Standing::Open);
        let not_needed = said(&it, SetUpStep::Forge, SetUpWord::NotNeeded);
        assert_eq!(not_needed.standing(SetUpStep::Forge), Standing::Done);
        it.holding = 1;
        assert_eq!(it.standing(SetUpStep::Forge), Standing::Done);
    }

    #[test]
    fn the_end_of_a_fingerprint_is_typed_in_any_way() {
        let fingerprint = "0123456789abcdef";
        for good in ["89abcdef", "89AB CDEF", " 6789abcdef "] {
            assert!(ends_like(fingerprint, good), "{good}");
        }
        for bad in ["", "abcdef", "89abcdee", "01234567"] {
            assert!(!ends_like(fingerprint, bad), "{bad}");
        }
    }

    #[test]
    fn names_lead_back_to_their_steps() {
        for (at, it) in SetUpStep::ALL.into_iter().enumerate() {
            assert_eq!(SetUpStep::parse(it.name()), Some(it));
            assert_eq!(it.number(), at + 1);
        }
    }
}
