//! The outcome statement: what an approval request became, under which obligations, and which credentials filled them.
//! It carries the subject's exact bytes, so that an outcome without credentials (a skip) still says of what it speaks.

use crate::domain::ids::{Digest, RequestId};
use crate::evidence::credential::{
    ContentForm, DigestForm, Issuer, LogForm, Method, STATEMENT_TYPE, statement_parts,
};
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use crate::evidence::subject::Subject;
use serde::Serialize;

/// `predicateType` of an outcome.
pub const OUTCOME_TYPE: &str = "https://signedapproval.net/attestation/outcome/v1";

/// What a request became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Approved,
    Rejected,
    Expired,
    Cancelled,
    Superseded,
    Skipped,
}

impl Outcome {
    const ALL: [Outcome; 6] = [
        Outcome::Approved,
        Outcome::Rejected,
        Outcome::Expired,
        Outcome::Cancelled,
        Outcome::Superseded,
        Outcome::Skipped,
    ];

    /// The outcome's name; its event's type is `request.` and this.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Approved => "approved",
            Outcome::Rejected => "rejected",
            Outcome::Expired => "expired",
            Outcome::Cancelled => "cancelled",
            Outcome::Superseded => "superseded",
            Outcome::Skipped => "skipped",
        }
    }

    /// Reads an outcome by its name.
    pub fn parse(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// One obligation and the credentials that filled it. It comes from one rule (`default` for the default rule).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obligation {
    pub rule: String,
    /// Persons it needs.
    pub quorum: u64,
    pub methods: Vec<Method>,
    /// `crd_…`, in the order of decision.
    pub credentials: Vec<String>,
    /// The rule is another way through, for emergencies (policy rule 21).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// What an outcome statement is made from.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeInput<'a> {
    pub outcome: Outcome,
    pub request: &'a RequestId,
    /// The subject's exact bytes.
    pub subject: &'a [u8],
    /// Tree id of the head commit, where the forge gives it.
    pub git_tree: Option<&'a str>,
    pub policy_name: &'a str,
    pub policy_version: u64,
    pub policy_sha256: Digest,
    /// Names of the rules that judged: of a skip, those that allowed it.
    pub rules: &'a [String],
    pub obligations: &'a [Obligation],
    /// RFC 3339, UTC.
    pub decided_at: &'a str,
    /// RFC 3339, UTC; `None`: the outcome stands without limit.
    pub expires_at: Option<&'a str>,
    pub issuer: Issuer<'a>,
    pub log_origin: &'a str,
}

#[derive(Serialize)]
struct StatementForm<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [SubjectForm<'a>; 1],
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: PredicateForm<'a>,
}

#[derive(Serialize)]
struct SubjectForm<'a> {
    digest: DigestForm<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PredicateForm<'a> {
    outcome: Outcome,
    request: &'a str,
    policy: PolicyForm<'a>,
    obligations: &'a [Obligation],
    decided_at: &'a str,
    expires_at: Option<&'a str>,
    subject: ContentForm,
    issuer: Issuer<'a>,
    log: LogForm<'a>,
}

#[derive(Serialize)]
struct PolicyForm<'a> {
    name: &'a str,
    version: u64,
    sha256: Digest,
    rules: &'a [String],
}

impl OutcomeInput<'_> {
    /// The statement's bytes, made once: the payload of the envelope. Fails where the reader would refuse them.
    pub fn statement_bytes(&self) -> Result<Vec<u8>, StrictError> {
        let subject = Subject::parse(self.subject)?;
        let statement = StatementForm {
            kind: STATEMENT_TYPE,
            subject: [SubjectForm {
                digest: DigestForm::new(&subject.digest, self.git_tree),
            }],
            predicate_type: OUTCOME_TYPE,
            predicate: PredicateForm {
                outcome: self.outcome,
                request: self.request.as_str(),
                policy: PolicyForm {
                    name: self.policy_name,
                    version: self.policy_version,
                    sha256: self.policy_sha256,
                    rules: self.rules,
                },
                obligations: self.obligations,
                decided_at: self.decided_at,
                expires_at: self.expires_at,
                subject: ContentForm::new(self.subject),
                issuer: self.issuer,
                log: LogForm {
                    origin: self.log_origin,
                },
            },
        };
        let bytes = serde_json::to_vec(&statement).expect("texts, numbers and digests always serialise");
        OutcomeStatement::parse(&bytes)?;
        Ok(bytes)
    }
}

/// An outcome statement as it was read back. Reading it proves nothing: [`crate::evidence::verify`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeStatement {
    pub digests: Vec<(String, String)>,
    pub outcome: Outcome,
    pub request: String,
    pub policy_name: String,
    pub policy_version: u64,
    pub policy_sha256: Digest,
    pub rules: Vec<String>,
    pub obligations: Vec<Obligation>,
    pub decided_at: String,
    pub expires_at: Option<String>,
    /// The subject's exact bytes.
    pub subject: Vec<u8>,
    pub subject_sha256: Digest,
    pub log_origin: String,
}

impl OutcomeStatement {
    /// Reads a statement, as [`crate::evidence::credential::Credential::parse`] does.
    pub fn parse(statement: &[u8]) -> Result<OutcomeStatement, StrictError> {
        Self::read(&strict::parse(statement, Space::Refused)?)
    }

    /// As [`OutcomeStatement::parse`], of a statement that was read already.
    pub fn read(statement: &strict::Value<'_>) -> Result<OutcomeStatement, StrictError> {
        let (digests, predicate) = statement_parts(statement, OUTCOME_TYPE)?;
        let shape = |text: &str| StrictError::Shape(text.to_owned());
        let mut obligations = Vec::new();
        for value in predicate.list("obligations")? {
            let obligation = value.object("predicate.obligations")?;
            let methods = obligation.texts("methods")?;
            obligations.push(Obligation {
                rule: obligation.text("rule")?.to_owned(),
                quorum: obligation.count("quorum")?,
                methods: methods
                    .iter()
                    .map(|it| {
                        Method::parse(it)
                            .ok_or_else(|| shape("an obligation lists a method that is not known"))
                    })
                    .collect::<Result<_, _>>()?,
                credentials: obligation.texts("credentials")?,
                break_glass: match obligation.optional("break_glass") {
                    None => false,
                    Some(_) => obligation.boolean("break_glass")?,
                },
            });
        }
        let policy = predicate.object("policy")?;
        let subject = predicate.object("subject")?;
        let expires_at = predicate.text_or_null("expiresAt")?;
        if expires_at.is_some_and(|it| strict::time(it).is_none()) {
            return Err(shape("predicate.expiresAt is not an RFC 3339 time in UTC"));
        }
        Ok(OutcomeStatement {
            digests,
            outcome: Outcome::parse(predicate.text("outcome")?)
                .ok_or_else(|| shape("predicate.outcome is none that is known"))?,
            request: predicate.text("request")?.to_owned(),
            policy_name: policy.text("name")?.to_owned(),
            policy_version: policy.count("version")?,
            policy_sha256: policy.digest("sha256")?,
            rules: policy.texts("rules")?,
            obligations,
            decided_at: predicate.time("decidedAt")?.0.to_owned(),
            expires_at: expires_at.map(str::to_owned),
            subject: subject.bytes("content")?,
            subject_sha256: subject.digest("sha256")?,
            log_origin: predicate.object("log")?.text("origin")?.to_owned(),
        })
    }
}
