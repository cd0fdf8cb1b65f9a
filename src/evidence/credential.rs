//! The credential: the appliance's signed statement of one person's decision, with the evidence that lets anybody check
//! it. Whatever stands both in the intent and outside it is copied from the intent, so a builder can't contradict it.

use crate::domain::ids::Digest;
pub use crate::domain::policy::Method;
use crate::domain::request::Answer;
use crate::evidence::intent::ParsedIntent;
use crate::evidence::strict;
use crate::evidence::strict::{Object, Space, StrictError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// `_type` of every statement (in-toto Statement v1).
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of a credential.
pub const APPROVAL_TYPE: &str = "https://signedapproval.net/attestation/approval/v1";

/// `crd_` and the lowercase hex SHA-256 of the file's bytes.
pub fn credential_id(file: &[u8]) -> String {
    format!("crd_{}", Digest::of(file))
}

/// What evidence of this method is worth: `approver-signed`, or `server-attested` where nothing binds the person.
pub fn grade(method: Method) -> &'static str {
    match method {
        Method::Totp => "server-attested",
        Method::Passkey | Method::Biometric => "approver-signed",
    }
}

/// Who asked.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Requester<'a> {
    pub kind: RequesterKind,
    pub id: &'a str,
    pub name: &'a str,
}

/// What kind of requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequesterKind {
    Person,
    Key,
    ForgeAccount,
}

/// The approver's account on the forge of a change.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ForgeAccount<'a> {
    pub forge: &'a str,
    pub instance: &'a str,
    /// The forge's stable number of the account.
    pub id: &'a str,
    /// Whether the person proved it; `false`: an admin asserted it.
    pub proven: bool,
}

/// The appliance that signs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Issuer<'a> {
    /// `public_url`.
    pub id: &'a str,
    /// `urn:uuid:…`.
    pub instance: &'a str,
    /// Version of the program.
    pub version: &'a str,
}

/// A passkey's assertion with what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct PasskeyEvidence<'a> {
    /// Enrolled as the platform authenticator of the person's own device: method `biometric`, else `passkey`.
    pub platform: bool,
    pub rp_id: &'a str,
    pub origin: &'a str,
    pub credential_id: &'a [u8],
    /// COSE algorithm.
    pub alg: i64,
    pub public_key_spki: &'a [u8],
    pub nonce: &'a [u8; 32],
    pub authenticator_data: &'a [u8],
    pub client_data_json: &'a [u8],
    pub signature: &'a [u8],
    /// UUID of the authenticator's model, from the stored attestation object.
    pub aaguid: &'a str,
    pub transports: &'a [String],
    /// BE and BS of this assertion's authenticator data.
    pub backup_eligible: bool,
    pub backup_state: bool,
    /// Journal position of the passkey's enrolment, and the digest of that leaf.
    pub enrolled_seq: u64,
    pub enrolled_leaf: Digest,
}

/// A one-time code's record. It binds nothing: the credential says so by its grade.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TotpEvidence {
    /// The time step that matched.
    pub step: u64,
    /// Seconds a step lasts.
    pub period: u64,
    pub digits: u64,
}

/// How the decision was proved.
#[derive(Clone, Copy, Debug)]
pub enum EvidenceInput<'a> {
    Passkey(PasskeyEvidence<'a>),
    Totp(TotpEvidence),
}

/// What a credential is made from, beside the intent.
#[derive(Clone, Copy, Debug)]
pub struct CredentialInput<'a> {
    /// The intent's exact bytes, as the person saw and signed them.
    pub intent: &'a [u8],
    /// Tree id of the head commit, where the forge gives it.
    pub git_tree: Option<&'a str>,
    /// Page of the change, or of the request.
    pub gate_uri: &'a str,
    pub requester: Requester<'a>,
    /// The approver's linked account on the forge, where there is one.
    pub account: Option<ForgeAccount<'a>>,
    pub evidence: EvidenceInput<'a>,
    pub policy_name: &'a str,
    pub policy_version: u64,
    /// The policy at the request's opening, where it was another than the intent's (policy rule 13).
    pub policy_opening_sha256: Option<Digest>,
    /// Persons the request needs.
    pub quorum: u64,
    /// RFC 3339, UTC.
    pub requested_at: &'a str,
    /// RFC 3339, UTC.
    pub decided_at: &'a str,
    pub issuer: Issuer<'a>,
    /// Origin of the log that holds the decision's event.
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

/// The statement's subject digests. Shared with outcomes.
#[derive(Default, Serialize)]
pub(crate) struct DigestForm<'a> {
    #[serde(rename = "gitCommit", skip_serializing_if = "Option::is_none")]
    git_commit: Option<&'a str>,
    #[serde(rename = "gitTree", skip_serializing_if = "Option::is_none")]
    git_tree: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
}

impl<'a> DigestForm<'a> {
    pub(crate) fn new(digest: &'a (String, String), git_tree: Option<&'a str>) -> Self {
        match digest.0.as_str() {
            "gitCommit" => DigestForm {
                git_commit: Some(&digest.1),
                git_tree,
                sha256: None,
            },
            _ => DigestForm {
                git_commit: None,
                git_tree,
                sha256: Some(&digest.1),
            },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PredicateForm<'a> {
    decision: Answer,
    meaning: &'a str,
    comment: &'a str,
    request: &'a str,
    gate: GateForm<'a>,
    requester: Requester<'a>,
    approver: ApproverForm<'a>,
    method: MethodForm<'a>,
    policy: PolicyForm<'a>,
    times: TimesForm<'a>,
    intent: ContentForm,
    evidence: EvidenceForm<'a>,
    issuer: Issuer<'a>,
    log: LogForm<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GateForm<'a> {
    kind: &'a str,
    uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<BaseForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
}

#[derive(Serialize)]
struct BaseForm<'a> {
    digest: DigestForm<'a>,
}

#[derive(Serialize)]
struct ApproverForm<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<ForgeAccount<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MethodForm<'a> {
    #[serde(rename = "type")]
    kind: Method,
    grade: &'static str,
    user_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticator: Option<AuthenticatorForm<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticatorForm<'a> {
    aaguid: &'a str,
    backup_eligible: bool,
    backup_state: bool,
    transports: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyForm<'a> {
    name: &'a str,
    version: u64,
    sha256: Digest,
    rules: &'a [String],
    quorum: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opening_sha256: Option<Digest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimesForm<'a> {
    requested_at: &'a str,
    challenge_issued_at: &'a str,
    decided_at: &'a str,
}

/// Bytes and their digest. Shared with outcomes.
#[derive(Serialize)]
pub(crate) struct ContentForm {
    content: String,
    sha256: Digest,
}

impl ContentForm {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        ContentForm {
            content: STANDARD.encode(bytes),
            sha256: Digest::of(bytes),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum EvidenceForm<'a> {
    Webauthn(WebauthnForm<'a>),
    Totp(TotpEvidence),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebauthnForm<'a> {
    rp_id: &'a str,
    origin: &'a str,
    credential_id: String,
    alg: i64,
    public_key_spki: String,
    nonce: String,
    authenticator_data: String,
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    signature: String,
    enrolment: EnrolmentForm,
}

#[derive(Serialize)]
struct EnrolmentForm {
    event: u64,
    sha256: Digest,
}

/// The log's origin. Shared with outcomes.
#[derive(Serialize)]
pub(crate) struct LogForm<'a> {
    pub(crate) origin: &'a str,
}

impl CredentialInput<'_> {
    /// The statement's bytes, made once: the payload of the envelope. Fails where the reader would refuse them.
    pub fn statement_bytes(&self) -> Result<Vec<u8>, StrictError> {
        let intent = ParsedIntent::parse(self.intent)?;
        let subject = &intent.subject;
        let base = subject.base.clone().map(|it| ("gitCommit".to_owned(), it));
        let (kind, authenticator, evidence) = self.method_forms();
        let statement = StatementForm {
            kind: STATEMENT_TYPE,
            subject: [SubjectForm {
                digest: DigestForm::new(&subject.digest, self.git_tree),
            }],
            predicate_type: APPROVAL_TYPE,
            predicate: PredicateForm {
                decision: intent.decision,
                meaning: &intent.meaning,
                comment: &intent.comment,
                request: intent.request.as_str(),
                gate: GateForm {
                    kind: &subject.kind,
                    uri: self.gate_uri,
                    target_ref: subject.target.as_deref(),
                    base: base.as_ref().map(|it| BaseForm {
                        digest: DigestForm::new(it, None),
                    }),
                    environment: subject.environment.as_deref(),
                },
                requester: self.requester,
                approver: ApproverForm {
                    id: intent.person.as_str(),
                    name: &intent.person_name,
                    account: self.account,
                },
                method: MethodForm {
                    kind,
                    grade: grade(kind),
                    user_verified: kind != Method::Totp,
                    authenticator,
                },
                policy: PolicyForm {
                    name: self.policy_name,
                    version: self.policy_version,
                    sha256: intent.policy_sha256,
                    rules: &intent.rules,
                    quorum: self.quorum,
                    opening_sha256: self.policy_opening_sha256,
                },
                times: TimesForm {
                    requested_at: self.requested_at,
                    challenge_issued_at: &intent.issued_at,
                    decided_at: self.decided_at,
                },
                intent: ContentForm::new(self.intent),
                evidence,
                issuer: self.issuer,
                log: LogForm {
                    origin: self.log_origin,
                },
            },
        };
        let bytes = serde_json::to_vec(&statement).expect("texts, numbers and digests always serialise");
        Credential::parse(&bytes)?;
        Ok(bytes)
    }

    fn method_forms(&self) -> (Method, Option<AuthenticatorForm<'_>>, EvidenceForm<'_>) {
        match &self.evidence {
            EvidenceInput::Totp(totp) => (Method::Totp, None, EvidenceForm::Totp(*totp)),
            EvidenceInput::Passkey(it) => {
                let authenticator = AuthenticatorForm {
                    aaguid: it.aaguid,
                    backup_eligible: it.backup_eligible,
                    backup_state: it.backup_state,
                    transports: it.transports,
                };
                let form = WebauthnForm {
                    rp_id: it.rp_id,
                    origin: it.origin,
                    credential_id: STANDARD.encode(it.credential_id),
                    alg: it.alg,
                    public_key_spki: STANDARD.encode(it.public_key_spki),
                    nonce: STANDARD.encode(it.nonce),
                    authenticator_data: STANDARD.encode(it.authenticator_data),
                    client_data_json: STANDARD.encode(it.client_data_json),
                    signature: STANDARD.encode(it.signature),
                    enrolment: EnrolmentForm {
                        event: it.enrolled_seq,
                        sha256: it.enrolled_leaf,
                    },
                };
                let method = if it.platform {
                    Method::Biometric
                } else {
                    Method::Passkey
                };
                (method, Some(authenticator), EvidenceForm::Webauthn(form))
            }
        }
    }
}

/// A credential's statement as it was read back. Reading it proves nothing: [`crate::evidence::verify`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub digests: Vec<(String, String)>,
    pub decision: Answer,
    pub meaning: String,
    pub comment: String,
    pub request: String,
    pub gate: Gate,
    pub requester_kind: String,
    pub requester_id: String,
    pub requester_name: String,
    pub approver_id: String,
    pub approver_name: String,
    pub method: Method,
    pub grade: String,
    pub user_verified: bool,
    pub authenticator: Option<Authenticator>,
    pub policy_name: String,
    pub policy_version: u64,
    pub policy_sha256: Digest,
    pub policy_rules: Vec<String>,
    pub quorum: u64,
    pub requested_at: String,
    pub challenge_issued_at: String,
    pub decided_at: String,
    /// The intent's exact bytes.
    pub intent: Vec<u8>,
    pub intent_sha256: Digest,
    pub evidence: Evidence,
    pub issuer_id: String,
    pub issuer_instance: String,
    pub log_origin: String,
}

/// `predicate.gate` as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    pub kind: String,
    pub uri: String,
    pub target_ref: Option<String>,
    pub base: Option<String>,
    pub environment: Option<String>,
}

/// `predicate.method.authenticator` as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticator {
    pub aaguid: String,
    pub backup_eligible: bool,
    pub backup_state: bool,
    pub transports: Vec<String>,
}

/// `predicate.evidence` as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    Webauthn(Box<Webauthn>),
    Totp { step: u64, period: u64, digits: u64 },
}

/// `predicate.evidence.webauthn` as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webauthn {
    pub rp_id: String,
    pub origin: String,
    pub credential_id: Vec<u8>,
    pub alg: i64,
    pub public_key_spki: Vec<u8>,
    pub nonce: [u8; 32],
    pub authenticator_data: Vec<u8>,
    pub client_data_json: Vec<u8>,
    pub signature: Vec<u8>,
    pub enrolment_event: u64,
    pub enrolment_sha256: Digest,
}

impl Credential {
    /// Reads a statement. Members that are not known are passed over inside the predicate (in-toto's rule for later
    /// versions); those that are must be there, once, and of their type.
    pub fn parse(statement: &[u8]) -> Result<Credential, StrictError> {
        Self::read(&strict::parse(statement, Space::Refused)?)
    }

    /// As [`Credential::parse`], of a statement that was read already.
    pub fn read(statement: &strict::Value<'_>) -> Result<Credential, StrictError> {
        let (digests, predicate) = statement_parts(statement, APPROVAL_TYPE)?;
        let shape = |text: &str| StrictError::Shape(text.to_owned());
        let requester = predicate.object("requester")?;
        let requester_kind = requester.text("kind")?;
        if !matches!(requester_kind, "person" | "key" | "forge_account") {
            return Err(shape("predicate.requester.kind is none that is known"));
        }
        let approver = predicate.object("approver")?;
        let method = predicate.object("method")?;
        let authenticator = match method.optional("authenticator") {
            None => None,
            Some(value) => {
                let it = value.object("predicate.method.authenticator")?;
                Some(Authenticator {
                    aaguid: it.text("aaguid")?.to_owned(),
                    backup_eligible: it.boolean("backupEligible")?,
                    backup_state: it.boolean("backupState")?,
                    transports: it.texts("transports")?,
                })
            }
        };
        let policy = predicate.object("policy")?;
        let times = predicate.object("times")?;
        let intent = predicate.object("intent")?;
        let issuer = predicate.object("issuer")?;
        Ok(Credential {
            digests,
            decision: Answer::parse(predicate.text("decision")?)
                .ok_or_else(|| shape("predicate.decision is neither approve nor reject"))?,
            meaning: predicate.text("meaning")?.to_owned(),
            comment: predicate.text("comment")?.to_owned(),
            request: predicate.text("request")?.to_owned(),
            gate: parse_gate(&predicate)?,
            requester_kind: requester_kind.to_owned(),
            requester_id: requester.text("id")?.to_owned(),
            requester_name: requester.text("name")?.to_owned(),
            approver_id: approver.text("id")?.to_owned(),
            approver_name: approver.text("name")?.to_owned(),
            method: Method::parse(method.text("type")?)
                .ok_or_else(|| shape("predicate.method.type is none that is known"))?,
            grade: method.text("grade")?.to_owned(),
            user_verified: method.boolean("userVerified")?,
            authenticator,
            policy_name: policy.text("name")?.to_owned(),
            policy_version: policy.count("version")?,
            policy_sha256: policy.digest("sha256")?,
            policy_rules: policy.texts("rules")?,
            quorum: policy.count("quorum")?,
            requested_at: times.time("requestedAt")?.0.to_owned(),
            challenge_issued_at: times.time("challengeIssuedAt")?.0.to_owned(),
            decided_at: times.time("decidedAt")?.0.to_owned(),
            intent: intent.bytes("content")?,
            intent_sha256: intent.digest("sha256")?,
            evidence: parse_evidence(&predicate)?,
            issuer_id: issuer.text("id")?.to_owned(),
            issuer_instance: issuer.text("instance")?.to_owned(),
            log_origin: predicate.object("log")?.text("origin")?.to_owned(),
        })
    }
}

/// The subject digests and the predicate of a statement of the wanted type.
pub(crate) fn statement_parts<'v, 'a>(
    value: &'v strict::Value<'a>,
    predicate_type: &str,
) -> Result<(Vec<(String, String)>, Object<'v, 'a>), StrictError> {
    let statement = value.object("statement")?;
    statement.exactly(&["_type", "subject", "predicateType", "predicate"])?;
    if statement.text("_type")? != STATEMENT_TYPE {
        return Err(StrictError::Shape("not an in-toto Statement v1".into()));
    }
    if statement.text("predicateType")? != predicate_type {
        return Err(StrictError::Shape(
            "the statement is of another predicate type".into(),
        ));
    }
    let [subject] = statement.list("subject")? else {
        return Err(StrictError::Shape(
            "the statement has not exactly one subject".into(),
        ));
    };
    let subject = subject.object("statement.subject")?;
    subject.exactly(&["digest"])?;
    let digest = subject.object("digest")?;
    digest.exactly_with(
        &["gitCommit", "gitTree", "sha256"],
        &["gitCommit", "gitTree", "sha256"],
    )?;
    let mut digests = Vec::new();
    for name in ["gitCommit", "gitTree", "sha256"] {
        if let Some(value) = digest.optional_text(name)? {
            digests.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok((digests, statement.object("predicate")?))
}

fn parse_gate(predicate: &Object<'_, '_>) -> Result<Gate, StrictError> {
    let gate = predicate.object("gate")?;
    let base = match gate.optional("base") {
        None => None,
        Some(_) => Some(
            gate.object("base")?
                .object("digest")?
                .text("gitCommit")?
                .to_owned(),
        ),
    };
    Ok(Gate {
        kind: gate.text("kind")?.to_owned(),
        uri: gate.text("uri")?.to_owned(),
        target_ref: gate.optional_text("targetRef")?.map(str::to_owned),
        base,
        environment: gate.optional_text("environment")?.map(str::to_owned),
    })
}

fn parse_evidence(predicate: &Object<'_, '_>) -> Result<Evidence, StrictError> {
    let evidence = predicate.object("evidence")?;
    if evidence.optional("totp").is_some() {
        evidence.exactly(&["totp"])?;
        let totp = evidence.object("totp")?;
        return Ok(Evidence::Totp {
            step: totp.count("step")?,
            period: totp.count("period")?,
            digits: totp.count("digits")?,
        });
    }
    evidence.exactly(&["webauthn"])?;
    let webauthn = evidence.object("webauthn")?;
    let enrolment = webauthn.object("enrolment")?;
    Ok(Evidence::Webauthn(Box::new(Webauthn {
        rp_id: webauthn.text("rpId")?.to_owned(),
        origin: webauthn.text("origin")?.to_owned(),
        credential_id: webauthn.bytes("credentialId")?,
        alg: webauthn.integer("alg")?,
        public_key_spki: webauthn.bytes("publicKeySpki")?,
        nonce: webauthn
            .bytes("nonce")?
            .try_into()
            .map_err(|_| StrictError::Shape("the nonce is not 32 bytes long".into()))?,
        authenticator_data: webauthn.bytes("authenticatorData")?,
        client_data_json: webauthn.bytes("clientDataJSON")?,
        signature: webauthn.bytes("signature")?,
        enrolment_event: enrolment.count("event")?,
        enrolment_sha256: enrolment.digest("sha256")?,
    })))
}
