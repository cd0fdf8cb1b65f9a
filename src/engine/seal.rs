//! Turns drafts into signed evidence: a decision gets its credential, an outcome its statement.

use crate::domain::command::{CeremonyProof, Proof};
use crate::domain::decide::{DecisionDraft, FilledBy, OutcomeDraft, Step};
use crate::domain::event::{Event, UsedCode};
use crate::domain::ids::Digest;
use crate::domain::people::{Passkey, Person};
use crate::domain::policy::Method;
use crate::domain::project::{Integration, Project};
use crate::domain::request::{ChangeKey, Opening, Requester, Status};
use crate::domain::state::{Fault, Read, decode};
use crate::domain::time::Time;
use crate::domain::totp::{DIGITS, GRADE, PERIOD_SECONDS};
use crate::engine::Writer;
use crate::engine::writer::current_origin;
use crate::evidence::credential;
use crate::evidence::credential::{
    CredentialInput, EvidenceInput, ForgeAccount, Issuer, PasskeyEvidence, RequesterKind, TotpEvidence,
};
use crate::evidence::dsse::{Envelope, PAYLOAD_TYPE, key_id, pae, spki_of_ed25519};
use crate::evidence::outcome::{Obligation, Outcome, OutcomeInput};
use crate::signing::{SignError, sign_verified};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// A step with everything in it, ready to be written.
pub(super) enum Ready {
    Blob(Vec<u8>),
    Event(Box<Event>),
    Hint(ChangeKey),
    Unhint(ChangeKey, u64),
    Cursor(String, u64),
    Erase(Digest),
}

/// The steps to write, and the digest of the credential made among them.
pub(super) struct Prepared {
    pub steps: Vec<Ready>,
    pub credential: Option<Digest>,
}

impl Writer {
    /// Signs whatever a plan's steps need. Nothing is written yet.
    pub(super) fn ready(
        &self,
        steps: Vec<Step>,
        now: Time,
        state: &impl Read,
    ) -> Result<Result<Prepared, SignError>, Fault> {
        let mut prepared = Prepared {
            steps: Vec::with_capacity(steps.len()),
            credential: None,
        };
        // What an earlier step of the same plan will store counts as stored.
        let mut fresh: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            match step {
                Step::Blob(bytes) => {
                    fresh.push(bytes.clone());
                    prepared.steps.push(Ready::Blob(bytes));
                }
                Step::Event(event) => prepared.steps.push(Ready::Event(event)),
                Step::Hint(change) => prepared.steps.push(Ready::Hint(change)),
                Step::Unhint(change, seen) => prepared.steps.push(Ready::Unhint(change, seen)),
                Step::Cursor(follower, next) => prepared.steps.push(Ready::Cursor(follower, next)),
                Step::Erase(digest) => prepared.steps.push(Ready::Erase(digest)),
                Step::Decision(draft) => {
                    let statement = self.credential_statement(&draft, now, state)?;
                    let file = match self.signed(&statement) {
                        Ok(file) => file,
                        Err(error) => return Ok(Err(error)),
                    };
                    let digest = Digest::of(&file);
                    prepared.credential = Some(digest);
                    prepared.steps.push(Ready::Blob(file));
                    prepared
                        .steps
                        .push(Ready::Event(Box::new(recorded(*draft, digest, state)?)));
                }
                Step::Outcome(draft) => {
                    let blob = match fresh.iter().find(|it| Digest::of(it) == draft.opening) {
                        Some(blob) => Some(blob.clone()),
                        None => state.blob(&draft.opening)?,
                    };
                    let blob =
                        blob.ok_or_else(|| Fault(format!("the opening of {} is missing", draft.request)))?;
                    let opening: Opening = decode(&blob)?;
                    let statement =
                        self.outcome_statement(&draft, &opening, prepared.credential, now, state)?;
                    let file = match self.signed(&statement) {
                        Ok(file) => file,
                        Err(error) => return Ok(Err(error)),
                    };
                    let digest = Digest::of(&file);
                    prepared.steps.push(Ready::Blob(file));
                    prepared.steps.push(Ready::Event(Box::new(ended(*draft, digest))));
                }
            }
        }
        Ok(Ok(prepared))
    }

    /// Signs a statement with the credential key: the envelope's bytes.
    pub(super) fn sign_statement(&self, statement: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signed(statement)
    }

    fn signed(&self, statement: &[u8]) -> Result<Vec<u8>, SignError> {
        let signer = &*self.keys.credential;
        let signature = sign_verified(signer, &pae(PAYLOAD_TYPE, statement))?;
        let keyid = key_id(&spki_of_ed25519(&signer.public_key()));
        Ok(Envelope::build(PAYLOAD_TYPE, statement, &keyid, &signature))
    }

    fn credential_statement(
        &self,
        draft: &DecisionDraft,
        now: Time,
        state: &impl Read,
    ) -> Result<Vec<u8>, Fault> {
        let person: Person = state
            .get(draft.person.as_str())?
            .ok_or_else(|| Fault(format!("{} is not recorded", draft.person)))?;
        let passkey = match &draft.proof {
            Proof::Passkey(proof) => Some((proof, HeldPasskey::of(&person, proof)?)),
            Proof::Code { .. } => None,
        };
        let origin = self.origin(state)?;
        let gate = Gate::of(
            &draft.opening,
            draft.request.id.as_str(),
            &self.issuer.public_url,
            state,
        )?;
        let linked = gate.integration.as_ref().and_then(|integration| {
            let account = person
                .accounts
                .iter()
                .find(|it| it.integration == integration.id)?;
            Some(ForgeAccount {
                forge: integration.kind.name(),
                instance: &integration.base_url,
                id: &account.account_id,
                proven: account.proven,
            })
        });
        let (_, id, name) = draft.request.requester.parts();
        let requested_at = draft.request.created_at.to_string();
        let decided_at = now.to_string();
        let instance = format!("urn:uuid:{}", self.issuer.instance);
        let needed = draft
            .request
            .obligations
            .iter()
            .map(|it| it.quorum)
            .max()
            .unwrap_or(1);
        let input = CredentialInput {
            intent: &draft.intent,
            git_tree: None,
            gate_uri: &gate.uri,
            requester: credential::Requester {
                kind: requester_kind(&draft.request.requester),
                id,
                name,
            },
            account: linked,
            evidence: match &passkey {
                Some((proof, held)) => EvidenceInput::Passkey(held.evidence(proof)),
                None => EvidenceInput::Totp(TotpEvidence {
                    step: used_step(&draft.proof)?,
                    period: PERIOD_SECONDS,
                    digits: DIGITS,
                }),
            },
            policy_name: &draft.request.policy.name,
            policy_version: draft.request.policy.version,
            policy_opening_sha256: (draft.opening.policy.sha256 != draft.request.policy.sha256)
                .then_some(draft.opening.policy.sha256),
            quorum: u64::from(needed),
            requested_at: &requested_at,
            decided_at: &decided_at,
            issuer: Issuer {
                id: &self.issuer.public_url,
                instance: &instance,
                version: &self.issuer.version,
            },
            log_origin: &origin,
        };
        input
            .statement_bytes()
            .map_err(|e| Fault(format!("credential: {e}")))
    }

    fn outcome_statement(
        &self,
        draft: &OutcomeDraft,
        opening: &Opening,
        this_one: Option<Digest>,
        now: Time,
        state: &impl Read,
    ) -> Result<Vec<u8>, Fault> {
        let mut obligations = Vec::new();
        for it in &draft.obligations {
            let mut credentials = Vec::new();
            for filled in &it.by {
                let digest = match filled {
                    FilledBy::Earlier(digest) => *digest,
                    FilledBy::ThisOne => this_one
                        .ok_or_else(|| Fault("an outcome names a credential that was not made".into()))?,
                };
                credentials.push(format!("crd_{digest}"));
            }
            obligations.push(Obligation {
                rule: it.rule.clone(),
                quorum: u64::from(it.quorum),
                methods: it.methods.iter().map(|it| method(*it)).collect(),
                credentials,
                break_glass: it.break_glass,
            });
        }
        let judged: Vec<String> = if draft.skipped_by.is_empty() {
            opening.obligations.iter().map(|it| it.rule.clone()).collect()
        } else {
            draft.skipped_by.clone()
        };
        let decided_at = now.to_string();
        let expires_at = draft.expires_at.map(|it| it.to_string());
        let instance = format!("urn:uuid:{}", self.issuer.instance);
        let input = OutcomeInput {
            outcome: outcome_of(draft.status)?,
            request: &draft.request,
            subject: opening.subject.as_bytes(),
            git_tree: None,
            policy_name: &opening.policy.name,
            policy_version: opening.policy.version,
            policy_sha256: opening.policy.sha256,
            rules: &judged,
            obligations: &obligations,
            decided_at: &decided_at,
            expires_at: expires_at.as_deref(),
            issuer: Issuer {
                id: &self.issuer.public_url,
                instance: &instance,
                version: &self.issuer.version,
            },
            log_origin: &self.origin(state)?,
        };
        input
            .statement_bytes()
            .map_err(|e| Fault(format!("outcome: {e}")))
    }

    fn origin(&self, state: &impl Read) -> Result<String, Fault> {
        Ok(current_origin(state)?.unwrap_or_else(|| self.issuer.log_origin.clone()))
    }
}

/// The passkey of a decision, as it is recorded.
struct HeldPasskey<'a> {
    passkey: &'a Passkey,
    spki: Vec<u8>,
    credential_id: Vec<u8>,
}

impl<'a> HeldPasskey<'a> {
    fn of(person: &'a Person, proof: &CeremonyProof) -> Result<Self, Fault> {
        let mut passkeys = person.passkeys.iter();
        let passkey = passkeys
            .find(|it| it.credential_id == proof.credential_id)
            .ok_or_else(|| Fault("the passkey of a decision is not recorded".into()))?;
        let spki = STANDARD
            .decode(&passkey.spki)
            .map_err(|e| Fault(format!("stored public key: {e}")))?;
        let credential_id = URL_SAFE_NO_PAD
            .decode(&passkey.credential_id)
            .map_err(|e| Fault(format!("stored credential id: {e}")))?;
        Ok(HeldPasskey {
            passkey,
            spki,
            credential_id,
        })
    }

    fn evidence<'b>(&'b self, proof: &'b CeremonyProof) -> PasskeyEvidence<'b> {
        PasskeyEvidence {
            platform: self.passkey.platform,
            rp_id: &proof.rp_id,
            origin: &proof.origin,
            credential_id: &self.credential_id,
            alg: self.passkey.alg,
            public_key_spki: &self.spki,
            nonce: &proof.nonce,
            authenticator_data: &proof.authenticator_data,
            client_data_json: &proof.client_data_json,
            signature: &proof.signature,
            aaguid: &self.passkey.aaguid,
            transports: &self.passkey.transports,
            backup_eligible: proof.backup_eligible,
            backup_state: proof.backup_state,
            enrolled_seq: self.passkey.enrolled_seq,
            enrolled_leaf: self.passkey.enrolled_leaf,
        }
    }
}

/// The step of the code that a decision rests on.
fn used_step(proof: &Proof) -> Result<u64, Fault> {
    match proof {
        Proof::Code { step: Some(step) } => Ok(*step),
        Proof::Code { step: None } | Proof::Passkey(_) => Err(Fault("a decision without its proof".into())),
    }
}

/// Where a request is decided, for the credential's `gate`.
struct Gate {
    uri: String,
    integration: Option<Integration>,
}

impl Gate {
    fn of(opening: &Opening, id: &str, public_url: &str, state: &impl Read) -> Result<Gate, Fault> {
        let (of, uri) = match (&opening.change, &opening.deployment) {
            (Some(change), _) => {
                let facts = opening.facts.as_ref();
                (
                    &change.project,
                    facts.map_or_else(String::new, |it| it.web_url.clone()),
                )
            }
            (None, Some(facts)) => (&facts.key.project, facts.web_url.clone()),
            (None, None) => {
                return Ok(Gate {
                    uri: format!("{public_url}/a/{id}"),
                    integration: None,
                });
            }
        };
        let project: Project = state
            .get(of.as_str())?
            .ok_or_else(|| Fault(format!("{of} is not recorded")))?;
        Ok(Gate {
            uri,
            integration: state.get(project.integration.as_str())?,
        })
    }
}

fn recorded(draft: DecisionDraft, credential: Digest, state: &impl Read) -> Result<Event, Fault> {
    let person: Person = state
        .get(draft.person.as_str())?
        .ok_or_else(|| Fault(format!("{} is not recorded", draft.person)))?;
    let (credential_id, sign_count, code) = match &draft.proof {
        Proof::Passkey(it) => (Some(it.credential_id.clone()), Some(it.sign_count), None),
        code => {
            let code = UsedCode {
                grade: GRADE.to_owned(),
                step: used_step(code)?,
            };
            (None, None, Some(code))
        }
    };
    Ok(Event::DecisionRecorded {
        request: draft.request.id,
        person: draft.person,
        name: person.name,
        decision: draft.answer,
        method: draft.method,
        subject_sha256: draft.request.subject_sha256,
        credential_sha256: credential,
        credential_id,
        sign_count,
        comment: draft.comment,
        break_glass: draft.break_glass,
        code,
    })
}

fn ended(draft: OutcomeDraft, outcome_sha256: Digest) -> Event {
    let OutcomeDraft {
        request,
        status,
        reason,
        expires_at,
        skipped_by,
        ..
    } = draft;
    match status {
        Status::Approved => Event::RequestApproved {
            request,
            outcome_sha256,
            expires_at,
        },
        Status::Rejected => Event::RequestRejected {
            request,
            outcome_sha256,
        },
        Status::Expired => Event::RequestExpired {
            request,
            outcome_sha256,
        },
        Status::Superseded => Event::RequestSuperseded {
            request,
            outcome_sha256,
            reason,
        },
        Status::Skipped => Event::RequestSkipped {
            request,
            outcome_sha256,
            rules: skipped_by,
        },
        Status::Cancelled | Status::Pending => Event::RequestCancelled {
            request,
            outcome_sha256,
            reason,
        },
    }
}

fn outcome_of(status: Status) -> Result<Outcome, Fault> {
    Outcome::parse(status.name()).ok_or_else(|| Fault("a pending request has no outcome".into()))
}

fn method(method: Method) -> credential::Method {
    match method {
        Method::Totp => credential::Method::Totp,
        Method::Passkey => credential::Method::Passkey,
        Method::Biometric => credential::Method::Biometric,
    }
}

fn requester_kind(requester: &Requester) -> RequesterKind {
    match requester {
        Requester::Person { .. } => RequesterKind::Person,
        Requester::Key { .. } => RequesterKind::Key,
        Requester::ForgeAccount { .. } => RequesterKind::ForgeAccount,
    }
}
