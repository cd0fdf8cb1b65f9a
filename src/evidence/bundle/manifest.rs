//! The signed statement about a bundle: which files, which period, which part of the journal.

use crate::domain::ids::Digest;
use crate::evidence::credential::STATEMENT_TYPE;
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use serde::Serialize;
use std::collections::BTreeMap;

/// `predicateType` of a bundle's manifest.
pub const BUNDLE_TYPE: &str = "https://signedapproval.net/attestation/audit-bundle/v1";

/// What a bundle was asked for, besides its period. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FilterForm {
    /// A gated project's path or id, or the name a pipeline gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// A person's id: requests they decided, and what they did themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// `approved`, `rejected`, …: requests that ended so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl FilterForm {
    /// Nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == FilterForm::default()
    }
}

/// Period and part of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeForm {
    /// RFC 3339, inclusive.
    pub from: String,
    /// RFC 3339, exclusive.
    pub to: String,
    /// Entries of the log that `checkpoint-from` covers: the first one in `events.jsonl`.
    pub from_seq: u64,
    /// Entries of the log that `checkpoint-to` covers: one more than the last in `events.jsonl`.
    pub to_seq: u64,
}

/// The manifest's predicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Predicate {
    pub range: RangeForm,
    pub filter: FilterForm,
    /// How many events of each type stand in full.
    pub counts: BTreeMap<String, u64>,
    /// The text of `checkpoint-to`.
    pub checkpoint: String,
    pub generator: Generator,
}

/// What made the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Generator {
    pub version: String,
}

/// One file and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub sha256: Digest,
}

/// A manifest: files and predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub files: Vec<File>,
    pub predicate: Predicate,
}

#[derive(Serialize)]
struct StatementForm<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    subject: Vec<SubjectForm<'a>>,
    #[serde(rename = "predicateType")]
    predicate_type: &'a str,
    predicate: &'a Predicate,
}

#[derive(Serialize)]
struct SubjectForm<'a> {
    name: &'a str,
    digest: DigestForm,
}

#[derive(Serialize)]
struct DigestForm {
    sha256: Digest,
}

impl Manifest {
    /// The statement's bytes, made once: the payload of the envelope.
    pub fn statement_bytes(&self) -> Vec<u8> {
        let form = StatementForm {
            kind: STATEMENT_TYPE,
            subject: self
                .files
                .iter()
                .map(|it| SubjectForm {
                    name: &it.name,
                    digest: DigestForm { sha256: it.sha256 },
                })
                .collect(),
            predicate_type: BUNDLE_TYPE,
            predicate: &self.predicate,
        };
        serde_json::to_vec(&form).expect("texts, numbers and digests always serialise")
    }

    /// Reads a statement. Members of the predicate that are not known are passed over; the rest must be as it was made.
    pub fn parse(statement: &[u8]) -> Result<Manifest, StrictError> {
        let shape = |text: &str| StrictError::Shape(text.to_owned());
        let value = strict::parse(statement, Space::Refused)?;
        let statement = value.object("statement")?;
        statement.exactly(&["_type", "subject", "predicateType", "predicate"])?;
        if statement.text("_type")? != STATEMENT_TYPE {
            return Err(shape("not an in-toto Statement v1"));
        }
        if statement.text("predicateType")? != BUNDLE_TYPE {
            return Err(shape("the statement is not about an audit bundle"));
        }
        let mut files = Vec::new();
        for value in statement.list("subject")? {
            let subject = value.object("statement.subject")?;
            subject.exactly(&["name", "digest"])?;
            let digest = subject.object("digest")?;
            digest.exactly(&["sha256"])?;
            files.push(File {
                name: subject.text("name")?.to_owned(),
                sha256: digest.digest("sha256")?,
            });
        }
        let predicate = statement.object("predicate")?;
        let range = predicate.object("range")?;
        let filter = predicate.object("filter")?;
        filter.exactly_with(
            &["project", "person", "outcome"],
            &["project", "person", "outcome"],
        )?;
        let text = |name: &str| -> Result<Option<String>, StrictError> {
            Ok(filter.optional_text(name)?.map(str::to_owned))
        };
        let mut counts = BTreeMap::new();
        let told = predicate.object("counts")?;
        for name in told.names() {
            counts.insert(name.to_owned(), told.count(name)?);
        }
        Ok(Manifest {
            files,
            predicate: Predicate {
                range: RangeForm {
                    from: range.time("from")?.0.to_owned(),
                    to: range.time("to")?.0.to_owned(),
                    from_seq: range.count("fromSeq")?,
                    to_seq: range.count("toSeq")?,
                },
                filter: FilterForm {
                    project: text("project")?,
                    person: text("person")?,
                    outcome: text("outcome")?,
                },
                counts,
                checkpoint: predicate.text("checkpoint")?.to_owned(),
                generator: Generator {
                    version: predicate.object("generator")?.text("version")?.to_owned(),
                },
            },
        })
    }
}
