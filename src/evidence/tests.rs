//! Tests of the evidence, with a software passkey, an appliance's keys and a small log made for them.

use crate::domain::facts::{FileChange, FileList, FileMode, FileStatus, RepoPath};
use crate::domain::ids::{Digest, PersonId, RequestId};
use crate::domain::policy::Method;
use crate::domain::request::Answer;
use crate::domain::time::Time;
use crate::evidence::credential::{
    Credential, CredentialInput, EvidenceInput, ForgeAccount, Issuer, PasskeyEvidence, Requester,
    RequesterKind, TotpEvidence, credential_id,
};
use crate::evidence::dsse;
use crate::evidence::dsse::{Envelope, PAYLOAD_TYPE, PublicKey, pae, sigstore_bundle};
use crate::evidence::intent::{Intent, ParsedIntent, challenge};
use crate::evidence::leaf;
use crate::evidence::outcome::{Obligation, Outcome, OutcomeInput};
use crate::evidence::strict;
use crate::evidence::strict::{Space, StrictError};
use crate::evidence::subject::{
    ActionDigest, ActionKind, ActionSubject, ChangeSubject, JobSubject, Subject, files_digest,
};
use crate::evidence::verify;
use crate::evidence::verify::{Expect, Journal, Report, Trust, Verified};
use crate::evidence::webauthn;
use crate::evidence::webauthn::{WebauthnError, WebauthnEvidence, attested, verify_assertion};
use crate::tlog::{Checkpoint, MemoryNodes, Proof, VerifierKey, inclusion_proof, leaf_hash, root};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::Signer as _;

pub(crate) const ORIGIN: &str = "https://sa.example:8443";
pub(crate) const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
const BASE: &str = "89abcdef0123456789abcdef0123456789abcdef";
const LOG: &str = "sa.example:8443/log/6f1d2c3b/1";
const DECIDED: &str = "2026-03-15T14:23:07.250Z";
const INSTANCE: &str = "urn:uuid:6f1d2c3b-0000-4000-8000-000000000001";

/// A passkey in software.
pub(crate) enum Passkey {
    Es256(p256::ecdsa::SigningKey),
    EdDsa(ed25519_dalek::SigningKey),
}

impl Passkey {
    pub(crate) fn es256(seed: u8) -> Self {
        Passkey::Es256(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    fn alg(&self) -> i64 {
        match self {
            Passkey::Es256(_) => webauthn::ES256,
            Passkey::EdDsa(_) => webauthn::EDDSA,
        }
    }

    fn spki(&self) -> Vec<u8> {
        match self {
            Passkey::Es256(key) => {
                let head = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
                let point = key.verifying_key().to_encoded_point(false);
                [hex::decode(head).unwrap(), point.as_bytes().to_vec()].concat()
            }
            Passkey::EdDsa(key) => dsse::spki_of_ed25519(key.verifying_key().as_bytes()),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Passkey::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Passkey::EdDsa(key) => key.sign(message).to_bytes().to_vec(),
        }
    }

    /// The COSE key as CTAP2 writes it.
    fn cose(&self) -> Vec<u8> {
        match self {
            Passkey::Es256(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                let mut bytes = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
                bytes.extend_from_slice(point.x().unwrap());
                bytes.extend_from_slice(&[0x22, 0x58, 0x20]);
                bytes.extend_from_slice(point.y().unwrap());
                bytes
            }
            Passkey::EdDsa(key) => {
                let mut bytes = vec![0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];
                bytes.extend_from_slice(key.verifying_key().as_bytes());
                bytes
            }
        }
    }
}

/// One answer of a passkey.
pub(crate) struct Answered {
    spki: Vec<u8>,
    alg: i64,
    auth: Vec<u8>,
    client: Vec<u8>,
    signature: Vec<u8>,
}

impl Answered {
    fn new(passkey: &Passkey, auth: Vec<u8>, client: Vec<u8>) -> Self {
        let signature = passkey.sign(&[auth.clone(), Digest::of(&client).0.to_vec()].concat());
        Answered {
            spki: passkey.spki(),
            alg: passkey.alg(),
            auth,
            client,
            signature,
        }
    }

    fn evidence(&self) -> WebauthnEvidence<'_> {
        WebauthnEvidence {
            rp_id: "sa.example",
            origin: ORIGIN,
            public_key_spki: &self.spki,
            authenticator_data: &self.auth,
            client_data_json: &self.client,
            signature: &self.signature,
            alg: self.alg,
        }
    }
}

fn auth_data(rp_id: &str, flags: u8) -> Vec<u8> {
    [&Digest::of(rp_id.as_bytes()).0[..], &[flags, 0, 0, 0, 7]].concat()
}

fn client_data(kind: &str, challenge: &[u8; 32], origin: &str, more: &str) -> Vec<u8> {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}"{more}}}"#).into_bytes()
}

/// An appliance, its log, and people with passkeys.
pub(crate) struct Material {
    key: ed25519_dalek::SigningKey,
    log: ed25519_dalek::SigningKey,
    pub(crate) nonce: [u8; 32],
    pub(crate) rules: Vec<String>,
}

impl Material {
    pub(crate) fn new() -> Self {
        Material {
            key: ed25519_dalek::SigningKey::from_bytes(&[7; 32]),
            log: ed25519_dalek::SigningKey::from_bytes(&[8; 32]),
            nonce: [9; 32],
            rules: vec!["Production deploys require passkey".into()],
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_raw(self.key.verifying_key().as_bytes()).unwrap()
    }

    pub(crate) fn log_key(&self) -> VerifierKey {
        VerifierKey::new(LOG, self.log.verifying_key().to_bytes()).unwrap()
    }

    pub(crate) fn subject(&self) -> Vec<u8> {
        ChangeSubject {
            forge: "gitlab",
            instance: "https://git.corp",
            project_id: "12345",
            project: "pay/api",
            change: "!142",
            source_project_id: "12345",
            source: "refs/heads/x",
            target: "refs/heads/main",
            head: HEAD,
            base: BASE,
            files_sha256: Digest::of(b"files"),
            files_count: 7,
            files_complete: true,
            author: "77",
            title_sha256: Digest::of("Zahlung \u{202e}fix".as_bytes()),
            bind_base: None,
            target_sha: None,
        }
        .to_bytes()
    }

    pub(crate) fn action(&self) -> Vec<u8> {
        ActionSubject {
            kind: ActionKind::Deployment,
            action: "deploy pay/api",
            environment: Some("production"),
            project: Some("pay/api"),
            digest: Some(ActionDigest::GitCommit(HEAD)),
            requester: "forge_account:77",
            claimed_sha256: Digest::of(b"{}"),
            job: None,
        }
        .to_bytes()
    }

    pub(crate) fn intent(&self, answer: Answer, person: u8, subject: &[u8]) -> Vec<u8> {
        let name = if person == 1 { "Alex Floyd" } else { "Kim Ötök" };
        Intent {
            request: &RequestId::from_random([5; 16]),
            decision: answer,
            subject,
            policy_sha256: Digest::of(b"policy"),
            rules: &self.rules,
            person: &PersonId::from_random([person; 16]),
            person_name: name,
            comment: "looks \"fine\" \\ to me \u{1f44d}",
            issued_at: "2026-03-15T14:23:00.000Z",
            expires_at: Some("2026-03-15T14:33:00.000Z"),
        }
        .to_bytes()
        .unwrap()
    }

    pub(crate) fn answered(&self, passkey: &Passkey, intent: &[u8]) -> Answered {
        let client = client_data(
            "webauthn.get",
            &challenge(&self.nonce, intent),
            ORIGIN,
            ",\"crossOrigin\":false",
        );
        Answered::new(passkey, auth_data("sa.example", 0x1d), client)
    }

    pub(crate) fn passkey_statement(&self, intent: &[u8], answered: &Answered, platform: bool) -> Vec<u8> {
        let evidence = EvidenceInput::Passkey(PasskeyEvidence {
            platform,
            rp_id: "sa.example",
            origin: ORIGIN,
            credential_id: b"passkey of a person",
            alg: answered.alg,
            public_key_spki: &answered.spki,
            nonce: &self.nonce,
            authenticator_data: &answered.auth,
            client_data_json: &answered.client,
            signature: &answered.signature,
            aaguid: "ee882879-721c-4913-9775-3dfcce97072a",
            transports: &["internal".into(), "hybrid".into()],
            backup_eligible: true,
            backup_state: true,
            enrolled_seq: 3,
            enrolled_leaf: Digest::of(b"enrolment"),
        });
        self.statement(intent, evidence)
    }

    pub(crate) fn statement(&self, intent: &[u8], evidence: EvidenceInput<'_>) -> Vec<u8> {
        CredentialInput {
            intent,
            git_tree: None,
            gate_uri: "https://git.corp/pay/api/-/merge_requests/142",
            requester: Requester {
                kind: RequesterKind::ForgeAccount,
                id: "77",
                name: "Robin",
            },
            account: Some(ForgeAccount {
                forge: "gitlab",
                instance: "https://git.corp",
                id: "81",
                proven: true,
            }),
            evidence,
            policy_name: "default",
            policy_version: 4,
            policy_opening_sha256: None,
            quorum: 2,
            requested_at: "2026-03-15T14:20:00.000Z",
            decided_at: DECIDED,
            issuer: self.issuer(),
            log_origin: LOG,
        }
        .statement_bytes()
        .unwrap()
    }

    fn issuer(&self) -> Issuer<'static> {
        Issuer {
            id: ORIGIN,
            instance: INSTANCE,
            version: "0.1.0",
        }
    }

    /// The envelope over any statement, signed by the appliance: also what a dishonest appliance could sign.
    pub(crate) fn signed(&self, statement: &[u8]) -> Vec<u8> {
        let sig = self.key.sign(&pae(PAYLOAD_TYPE, statement)).to_bytes();
        Envelope::build(PAYLOAD_TYPE, statement, self.public().id(), &sig)
    }

    /// A good credential of one person.
    pub(crate) fn credential(&self, answer: Answer, person: u8, subject: &[u8]) -> Vec<u8> {
        let intent = self.intent(answer, person, subject);
        let answered = self.answered(&Passkey::es256(person), &intent);
        self.signed(&self.passkey_statement(&intent, &answered, false))
    }

    pub(crate) fn totp(&self, step: u64) -> Vec<u8> {
        let intent = self.intent(Answer::Approve, 1, &self.subject());
        self.signed(&self.statement(
            &intent,
            EvidenceInput::Totp(TotpEvidence {
                step,
                period: 30,
                digits: 6,
            }),
        ))
    }

    pub(crate) fn outcome(&self, outcome: Outcome, obligations: &[Obligation], subject: &[u8]) -> Vec<u8> {
        let statement = OutcomeInput {
            outcome,
            request: &RequestId::from_random([5; 16]),
            subject,
            git_tree: None,
            policy_name: "default",
            policy_version: 4,
            policy_sha256: Digest::of(b"policy"),
            rules: &self.rules,
            obligations,
            decided_at: DECIDED,
            expires_at: Some("2026-03-15T14:33:00.000Z"),
            issuer: self.issuer(),
            log_origin: LOG,
        }
        .statement_bytes()
        .unwrap();
        self.signed(&statement)
    }

    pub(crate) fn obligation(&self, credentials: &[&[u8]]) -> Obligation {
        Obligation {
            rule: "Production deploys require passkey".into(),
            quorum: 2,
            methods: vec![Method::Passkey],
            credentials: credentials.iter().map(|it| credential_id(it)).collect(),
            break_glass: false,
        }
    }

    pub(crate) fn event(&self, kind: &str, time: &str, data: &serde_json::Value) -> Vec<u8> {
        let actor = serde_json::json!({"kind": "person"});
        leaf::encode(
            4,
            time,
            kind,
            &actor,
            &serde_json::json!({"kind": "request"}),
            data,
        )
        .unwrap()
    }

    pub(crate) fn decision_event(&self, file: &[u8], subject: &[u8]) -> Vec<u8> {
        let data = serde_json::json!({
            "request": RequestId::from_random([5; 16]), "person": PersonId::from_random([1; 16]),
            "decision": "approve", "method": "passkey", "subject_sha256": Digest::of(subject),
            "credential_sha256": Digest::of(file),
        });
        self.event("decision.recorded", "2026-03-15T14:23:07.251Z", &data)
    }

    /// A proof that `event` stands at position 4 of a log of 7.
    pub(crate) fn proof(&self, event: &[u8]) -> Vec<u8> {
        let leaves = (0..7_u8).map(|it| {
            if it == 4 {
                leaf_hash(event)
            } else {
                leaf_hash(&[it])
            }
        });
        let nodes = MemoryNodes::from_leaf_hashes(leaves);
        let checkpoint = Checkpoint::new(LOG, 7, root(7, &nodes).unwrap()).unwrap();
        let sig = self.log.sign(checkpoint.body().as_bytes()).to_bytes();
        let note = checkpoint
            .assemble(self.log.verifying_key().to_bytes(), &sig)
            .unwrap();
        Proof::new(4, inclusion_proof(4, 7, &nodes).unwrap(), &note)
            .unwrap()
            .encode()
            .into_bytes()
    }

    fn verify(&self, file: &[u8]) -> Report {
        self.verify_with(file, &Expect::default(), None).0
    }

    fn verify_with(
        &self,
        file: &[u8],
        expect: &Expect<'_>,
        journal: Option<&Journal<'_>>,
    ) -> (Report, Option<Verified>) {
        let keys = [self.public()];
        let log_keys = [self.log_key()];
        verify::document(
            file,
            &Trust {
                keys: &keys,
                log_keys: &log_keys,
            },
            expect,
            journal,
        )
    }
}

fn failed(report: &Report) -> Vec<&'static str> {
    report
        .checks
        .iter()
        .filter(|it| !it.ok)
        .map(|it| it.name)
        .collect()
}

fn payload(file: &[u8]) -> Vec<u8> {
    Envelope::parse(file).unwrap().payload
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn a_good_credential_verifies_and_says_so_in_the_one_sentence() {
    let it = Material::new();
    let file = it.credential(Answer::Approve, 1, &it.subject());
    let report = it.verify(&file);
    assert!(report.valid, "{report:#?}");
    assert_eq!(verify::envelope(&file, &[it.public()]), report);
    assert_eq!(Envelope::parse(&file).unwrap().keyid(), it.public().id());
    let public = it.public();
    let key = &public.id()[..6];
    let sentence = format!(
        "!142 was approved by Alex Floyd via passkey at 2026-03-15T14:23:07Z, signed with Ed25519 key {key}…, \
         signature verified"
    );
    assert_eq!(report.verdict, Some(sentence));
    let names: Vec<_> = report.checks.iter().map(|it| it.name).collect();
    assert_eq!(
        names,
        [
            "envelope",
            "signature",
            "statement",
            "intent",
            "subject",
            "agreement",
            "method",
            "passkey",
            "times"
        ]
    );
    assert!(
        report
            .not_shown
            .iter()
            .any(|it| it.contains("inclusion in the log"))
    );
}

#[test]
fn every_changed_byte_of_a_credential_file_is_refused() {
    let it = Material::new();
    let file = it.credential(Answer::Approve, 1, &it.subject());
    let mut other = file.clone();
    for at in 0..file.len() {
        for byte in [
            file[at] ^ 0x01,
            file[at] ^ 0x20,
            file[at] ^ 0x80,
            b' ',
            b'A',
            b'=',
            0,
        ] {
            if byte != file[at] {
                other[at] = byte;
                assert!(!it.verify(&other).valid, "byte {at} as {byte:#x}");
            }
        }
        other[at] = file[at];
        let shorter = [&file[..at], &file[at + 1..]].concat();
        assert!(!it.verify(&shorter).valid, "byte {at} left out");
        let longer = [&file[..at], b" ", &file[at..]].concat();
        assert!(!it.verify(&longer).valid, "a blank before byte {at}");
    }
    assert!(it.verify(&other).valid);
}

#[test]
fn an_envelope_has_one_spelling() {
    let it = Material::new();
    let file = it.credential(Answer::Approve, 1, &it.subject());
    let text = String::from_utf8(file.clone()).unwrap();
    let sig = STANDARD.encode(Envelope::parse(&file).unwrap().signatures[0].sig);
    let body = text.trim_end_matches('}');
    for other in [
        format!("{text}\n"),
        format!(" {text}"),
        format!("\u{feff}{text}"),
        text.replace(",\"signatures\"", ", \"signatures\""),
        text.replace("payloadType", "payload\\u0054ype"),
        text.replace("application/vnd", "application\\/vnd"),
        text.replace(&sig, sig.trim_end_matches('=')),
        text.replace(&sig, &sig.replace('/', "_").replace('+', "-"))
            .replace("==\"", "=\""),
        format!("{body}}}],\"more\":1}}"),
        format!("{{\"payload\":\"\",{}", &text[1..]),
        text.replace("\"keyid\":", "\"KEYID\":"),
        text.replace(&it.public().id()[..8], &it.public().id()[..8].to_uppercase()),
    ] {
        if other != text {
            assert_eq!(failed(&it.verify(other.as_bytes())), ["envelope"], "{other}");
        }
    }
    let twice = text.replace(
        "\"signatures\":[",
        &format!(
            "\"signatures\":[{{\"keyid\":\"{}\",\"sig\":\"{sig}\"}},",
            it.public().id()
        ),
    );
    assert_eq!(failed(&it.verify(twice.as_bytes())), ["envelope"]);
    let none = [&text[..text.find('[').unwrap() + 1], "]}"].concat();
    assert_eq!(failed(&it.verify(none.as_bytes())), ["envelope"]);
}

#[test]
fn a_key_that_is_not_trusted_signs_for_nothing() {
    let it = Material::new();
    let other = Material {
        key: ed25519_dalek::SigningKey::from_bytes(&[1; 32]),
        ..Material::new()
    };
    let file = other.credential(Answer::Approve, 1, &it.subject());
    assert_eq!(failed(&it.verify(&file)), ["signature"]);
    // The right key id over a wrong signature is no better.
    let payload = payload(&file);
    let sig = Envelope::parse(&file).unwrap().signatures[0].sig;
    let file = Envelope::build(PAYLOAD_TYPE, &payload, it.public().id(), &sig);
    assert_eq!(failed(&it.verify(&file)), ["signature"]);
    // Nor is the right signature under another payload type.
    let sig = it.key.sign(&pae("text/plain", &payload)).to_bytes();
    let file = Envelope::build("text/plain", &payload, it.public().id(), &sig);
    assert_eq!(failed(&it.verify(&file)), ["envelope"]);
}

#[test]
fn whatever_stands_in_the_intent_and_outside_it_must_agree() {
    let it = Material::new();
    let statement = payload(&it.credential(Answer::Approve, 1, &it.subject()));
    let person = PersonId::from_random([1; 16]);
    let request = RequestId::from_random([5; 16]);
    for (from, to) in [
        ("\"decision\":\"approve\"", "\"decision\":\"reject\"".to_owned()),
        ("\"meaning\":\"approval\"", "\"meaning\":\"rejection\"".to_owned()),
        ("\"comment\":\"looks", "\"comment\":\"Looks".to_owned()),
        (request.as_str(), RequestId::from_random([6; 16]).to_string()),
        (person.as_str(), PersonId::from_random([2; 16]).to_string()),
        ("\"name\":\"Alex Floyd\"", "\"name\":\"Alex Ployd\"".to_owned()),
        (
            &Digest::of(b"policy").to_string(),
            Digest::of(b"other").to_string(),
        ),
        ("\"rules\":[\"Production", "\"rules\":[\"production".to_owned()),
        ("\"kind\":\"change\"", "\"kind\":\"action\"".to_owned()),
        (
            "\"targetRef\":\"refs/heads/main\"",
            "\"targetRef\":\"refs/heads/dev\"".to_owned(),
        ),
        ("\"targetRef\":\"refs/heads/main\",", String::new()),
        (BASE, HEAD.to_owned()),
        (
            "\"targetRef\"",
            "\"environment\":\"production\",\"targetRef\"".to_owned(),
        ),
        (
            &format!("\"digest\":{{\"gitCommit\":\"{HEAD}\"}}"),
            format!("\"digest\":{{\"gitCommit\":\"{BASE}\"}}"),
        ),
        (
            &format!("\"digest\":{{\"gitCommit\":\"{HEAD}\"}}"),
            format!("\"digest\":{{\"sha256\":\"{HEAD}\"}}"),
        ),
        (
            "\"challengeIssuedAt\":\"2026-03-15T14:23:00",
            "\"challengeIssuedAt\":\"2026-03-15T14:23:01".to_owned(),
        ),
    ] {
        let file = it.signed(&replaced(&statement, from, &to));
        assert_eq!(failed(&it.verify(&file)), ["agreement"], "{from} -> {to}");
    }
    // Of an action, the requester stands in the subject too.
    let statement = payload(&it.credential(Answer::Approve, 1, &it.action()));
    let file = it.signed(&replaced(
        &statement,
        "\"forge_account\",\"id\":\"77\"",
        "\"forge_account\",\"id\":\"78\"",
    ));
    assert_eq!(failed(&it.verify(&file)), ["agreement"]);
    let file = it.signed(&replaced(
        &statement,
        "\"environment\":\"production\"",
        "\"environment\":\"staging\"",
    ));
    assert_eq!(failed(&it.verify(&file)), ["agreement"]);
}

#[test]
fn a_passkeys_signature_can_not_be_moved_to_another_intent() {
    let it = Material::new();
    let intent = it.intent(Answer::Approve, 1, &it.subject());
    let answered = it.answered(&Passkey::es256(1), &intent);
    for other in [
        it.intent(Answer::Reject, 1, &it.subject()),
        it.intent(Answer::Approve, 2, &it.subject()),
        it.intent(Answer::Approve, 1, &it.action()),
        it.intent(Answer::Approve, 1, &replaced(&it.subject(), HEAD, BASE)),
    ] {
        let file = it.signed(&it.passkey_statement(&other, &answered, false));
        assert_eq!(failed(&it.verify(&file)), ["passkey"]);
    }
    let nonce = Material {
        nonce: [10; 32],
        ..Material::new()
    };
    let file = nonce.signed(&nonce.passkey_statement(&intent, &answered, false));
    assert_eq!(failed(&it.verify(&file)), ["passkey"]);
    // A passkey of one's own, put in place of the person's, is not caught here: the enrolment event does that,
    // and the report says that it was not looked at.
    let file = it.signed(&it.passkey_statement(&intent, &it.answered(&Passkey::es256(3), &intent), false));
    let report = it.verify(&file);
    assert!(report.valid && report.not_shown[0].contains("its enrolment is journal event 3"));
}

#[test]
fn a_damaged_intent_is_refused() {
    let it = Material::new();
    let intent = it.intent(Answer::Approve, 1, &it.subject());
    let answered = it.answered(&Passkey::es256(1), &intent);
    let statement = it.passkey_statement(&intent, &answered, false);
    let content = STANDARD.encode(&intent);
    for bad in [
        replaced(&intent, "\"v\":1", "\"v\":2"),
        replaced(&intent, "\"v\":1", "\"v\":1.0"),
        replaced(&intent, "{\"v\":1,", "{\"v\":1,\"v\":1,"),
        replaced(&intent, "{\"v\":1,", "{\"v\":1, "),
        replaced(&intent, "\"meaning\":\"approval\"", "\"meaning\":\"rejection\""),
        replaced(&intent, "\"files_count\":7", "\"files_count\":8"),
        replaced(&intent, "\"comment\":", "\"extra\":1,\"comment\":"),
        replaced(
            &intent,
            "\"issued_at\":\"2026-03-15T14:23:00.000Z\"",
            "\"issued_at\":\"15 March\"",
        ),
    ] {
        let mut other = replaced(&statement, &content, &STANDARD.encode(&bad));
        assert_eq!(failed(&it.verify(&it.signed(&other))), ["intent"], "digest");
        other = replaced(
            &other,
            &Digest::of(&intent).to_string(),
            &Digest::of(&bad).to_string(),
        );
        assert_eq!(
            failed(&it.verify(&it.signed(&other))),
            ["intent"],
            "{}",
            String::from_utf8_lossy(&bad)
        );
    }
}

#[test]
fn nothing_looks_stronger_than_it_is() {
    let it = Material::new();
    let good = it.totp(1_773_584_587 / 30);
    let report = it.verify(&good);
    assert!(report.valid, "{report:#?}");
    assert!(
        report
            .verdict
            .as_deref()
            .is_some_and(|it| it.contains(" via totp (server-attested) at "))
    );
    assert!(report.not_shown[0].contains("server-attested"));
    let totp = payload(&good);
    let statement = payload(&it.credential(Answer::Approve, 1, &it.subject()));
    for (bytes, from, to) in [
        (&totp, "server-attested", "approver-signed"),
        (&totp, "\"userVerified\":false", "\"userVerified\":true"),
        (
            &totp,
            "\"type\":\"totp\",\"grade\":\"server-attested\"",
            "\"type\":\"passkey\",\"grade\":\"approver-signed\"",
        ),
        (&statement, "approver-signed", "server-attested"),
        (&statement, "approver-signed", "policy-skip"),
        (&statement, "\"userVerified\":true", "\"userVerified\":false"),
        (
            &statement,
            "\"type\":\"passkey\",\"grade\":\"approver-signed\"",
            "\"type\":\"totp\",\"grade\":\"server-attested\"",
        ),
        (&statement, "\"authenticator\":{", "\"authenticators\":{"),
    ] {
        let failures = it.verify(&it.signed(&replaced(bytes, from, to)));
        assert!(
            failed(&failures).contains(&"method"),
            "{from} -> {to}: {failures:#?}"
        );
    }
    let lied = replaced(&statement, "\"backupState\":true", "\"backupState\":false");
    assert_eq!(failed(&it.verify(&it.signed(&lied))), ["passkey"]);
    let both = replaced(
        &statement,
        "\"evidence\":{",
        "\"evidence\":{\"totp\":{\"step\":1,\"period\":30,\"digits\":6},",
    );
    assert_eq!(failed(&it.verify(&it.signed(&both))), ["statement"]);
    let unknown = replaced(&statement, "\"type\":\"passkey\"", "\"type\":\"wink\"");
    assert_eq!(failed(&it.verify(&it.signed(&unknown))), ["statement"]);
}

#[test]
fn a_time_step_must_be_within_one_of_the_decision() {
    let it = Material::new();
    let now = 1_773_584_587 / 30;
    assert_eq!(Time::parse(DECIDED).map(|it| it.0 / 1000), Some(1_773_584_587));
    for step in [now - 1, now, now + 1] {
        assert!(it.verify(&it.totp(step)).valid);
    }
    for step in [0, now - 2, now + 2] {
        assert_eq!(failed(&it.verify(&it.totp(step))), ["totp"]);
    }
}

#[test]
fn a_decision_at_or_after_expiry_is_refused() {
    let it = Material::new();
    let statement = payload(&it.credential(Answer::Approve, 1, &it.subject()));
    for (decided, ok) in [
        ("14:32:59.999Z", true),
        ("14:33:00.000Z", false),
        ("14:22:00Z", false),
        ("14:22:59Z", true),
    ] {
        let other = replaced(&statement, DECIDED, &format!("2026-03-15T{decided}"));
        let report = it.verify(&it.signed(&other));
        assert_eq!(report.valid, ok, "{decided}: {report:#?}");
        assert!(ok || failed(&report) == ["times"]);
    }
    for decided in [
        "2026-03-15 14:23:07Z",
        "2026-03-15T14:23:07+00:00",
        "2026-03-15T14:23Z",
        "2026-02-30T14:23:07Z",
    ] {
        let other = replaced(&statement, DECIDED, decided);
        assert_eq!(failed(&it.verify(&it.signed(&other))), ["statement"], "{decided}");
    }
}

#[test]
fn rejections_biometrics_and_deployments_have_their_sentences() {
    let it = Material::new();
    let report = it.verify(&it.credential(Answer::Reject, 2, &it.action()));
    let verdict = report.verdict.unwrap();
    assert!(
        verdict.starts_with("deploy pay/api was rejected by Kim Ötök via passkey at "),
        "{verdict}"
    );
    let intent = it.intent(Answer::Approve, 1, &it.subject());
    let answered = it.answered(
        &Passkey::EdDsa(ed25519_dalek::SigningKey::from_bytes(&[4; 32])),
        &intent,
    );
    let report = it.verify(&it.signed(&it.passkey_statement(&intent, &answered, true)));
    assert!(report.verdict.unwrap().contains(" via biometric at "));
    assert!(report.not_shown.iter().any(|it| it.contains("device's PIN")));
}

#[test]
fn a_document_about_something_else_is_refused() {
    let it = Material::new();
    let file = it.credential(Answer::Approve, 1, &it.action());
    let request = RequestId::from_random([5; 16]);
    let good = Expect {
        commit: Some(HEAD),
        action: Some("deploy pay/api"),
        environment: Some("production"),
        project: Some("pay/api"),
        claimed: Some(Digest::of(b"{}")),
        request: Some(request.as_str()),
        at: None,
    };
    assert!(it.verify_with(&file, &good, None).0.valid);
    for bad in [
        Expect {
            claimed: Some(Digest::of(b"{ }")),
            ..good
        },
        Expect {
            commit: Some(BASE),
            ..good
        },
        Expect {
            action: Some("deploy"),
            ..good
        },
        Expect {
            environment: Some("staging"),
            ..good
        },
        Expect {
            project: Some("pay"),
            ..good
        },
        Expect {
            request: Some("apr_"),
            ..good
        },
    ] {
        let (report, document) = it.verify_with(&file, &bad, None);
        assert_eq!(failed(&report), ["expected"]);
        assert!(document.is_none() && report.verdict.is_none());
    }
    let change = it.credential(Answer::Approve, 1, &it.subject());
    // A change is no deployment, whatever its name: domain separation (a deploy credential never passes for another).
    let as_action = Expect {
        action: Some("!142"),
        ..Expect::default()
    };
    assert_eq!(failed(&it.verify_with(&change, &as_action, None).0), ["expected"]);
}

#[test]
fn event_and_proof_tie_a_credential_to_the_log() {
    let it = Material::new();
    let subject = it.subject();
    let file = it.credential(Answer::Approve, 1, &subject);
    let event = it.decision_event(&file, &subject);
    let proof = it.proof(&event);
    let with = |event: &[u8], proof: &[u8]| {
        it.verify_with(
            &file,
            &Expect::default(),
            Some(&Journal {
                event,
                proof: Some(proof),
            }),
        )
        .0
    };
    let report = with(&event, &proof);
    assert!(report.valid, "{report:#?}");
    assert!(
        report
            .checks
            .iter()
            .any(|it| it.name == "inclusion" && it.detail.contains("of 7 entries"))
    );

    for at in 0..event.len() {
        let mut other = event.clone();
        other[at] ^= 0x01;
        assert!(!with(&other, &proof).valid, "byte {at} of the event");
    }
    for at in 0..proof.len() {
        let mut other = proof.clone();
        other[at] ^= 0x01;
        assert!(!with(&event, &other).valid, "byte {at} of the proof");
    }
    let other_file = it.credential(Answer::Approve, 2, &subject);
    for (from, to) in [
        (Digest::of(&file).to_string(), Digest::of(&other_file).to_string()),
        (
            PersonId::from_random([1; 16]).to_string(),
            PersonId::from_random([2; 16]).to_string(),
        ),
        (
            RequestId::from_random([5; 16]).to_string(),
            RequestId::from_random([6; 16]).to_string(),
        ),
        ("\"approve\"".into(), "\"reject\"".into()),
        ("\"passkey\"".into(), "\"totp\"".into()),
        (Digest::of(&subject).to_string(), Digest::of(b"else").to_string()),
        ("decision.recorded".into(), "request.approved".into()),
        ("14:23:07.251Z".into(), "14:28:07.251Z".into()),
    ] {
        let event = replaced(&event, &from, &to);
        assert_eq!(
            failed(&with(&event, &it.proof(&event))),
            ["event"],
            "{from} -> {to}"
        );
    }
    let late = replaced(&event, "14:23:07.251Z", "14:28:07.250Z");
    assert!(with(&late, &it.proof(&late)).valid);
    let moved = replaced(&event, "\"seq\":4", "\"seq\":5");
    assert_eq!(failed(&with(&moved, &it.proof(&moved))), ["inclusion"]);

    let stranger = Material {
        log: ed25519_dalek::SigningKey::from_bytes(&[2; 32]),
        ..Material::new()
    };
    assert_eq!(failed(&with(&event, &stranger.proof(&event))), ["inclusion"]);
    let (keys, journal) = (
        [it.public()],
        Journal {
            event: &event,
            proof: Some(&proof),
        },
    );
    let (report, _) = verify::document(
        &file,
        &Trust {
            keys: &keys,
            log_keys: &[],
        },
        &Expect::default(),
        Some(&journal),
    );
    assert_eq!(failed(&report), ["inclusion"]);
    let alone = it
        .verify_with(
            &file,
            &Expect::default(),
            Some(&Journal {
                event: &event,
                proof: None,
            }),
        )
        .0;
    assert!(alone.valid && alone.not_shown.iter().any(|it| it.contains("no proof was given")));
    let log_keys = [it.log_key()];
    assert!(
        verify::event(
            &event,
            &proof,
            &Trust {
                keys: &[],
                log_keys: &log_keys
            }
        )
        .valid
    );
    assert!(
        !verify::event(
            &moved,
            &proof,
            &Trust {
                keys: &[],
                log_keys: &log_keys
            }
        )
        .valid
    );
}

#[test]
fn an_approval_needs_its_quorum_of_different_persons() {
    let it = Material::new();
    let subject = it.subject();
    let (one, two) = (
        it.credential(Answer::Approve, 1, &subject),
        it.credential(Answer::Approve, 2, &subject),
    );
    let (keys, log_keys) = ([it.public()], [it.log_key()]);
    let trust = Trust {
        keys: &keys,
        log_keys: &log_keys,
    };
    let approval =
        |outcome: &[u8], files: &[&[u8]]| verify::approval(outcome, files, &trust, &Expect::default());
    let outcome = it.outcome(Outcome::Approved, &[it.obligation(&[&one, &two])], &subject);

    let report = approval(&outcome, &[&one, &two]);
    assert!(report.valid, "{report:#?}");
    assert!(
        report
            .verdict
            .unwrap()
            .starts_with("!142 was approved at 2026-03-15T14:23:07Z, signed with ")
    );
    assert_eq!(failed(&approval(&outcome, &[&one])), ["quorum"]);
    assert_eq!(failed(&approval(&outcome, &[])), ["quorum"]);
    assert_eq!(failed(&approval(&one, &[&one, &two])), ["granted", "outcome"]);

    // The same person twice, by another signature.
    let again = {
        let intent = it.intent(Answer::Approve, 1, &subject);
        it.signed(&it.passkey_statement(&intent, &it.answered(&Passkey::es256(5), &intent), false))
    };
    let twice = it.outcome(Outcome::Approved, &[it.obligation(&[&one, &again])], &subject);
    assert_eq!(failed(&approval(&twice, &[&one, &again])), ["quorum"]);
    // A weaker method than the rule takes.
    let weak = it.totp(1_773_584_587 / 30);
    let weaker = it.outcome(Outcome::Approved, &[it.obligation(&[&two, &weak])], &subject);
    assert_eq!(failed(&approval(&weaker, &[&two, &weak])), ["quorum"]);
    // A rejection counted as an approval.
    let no = it.credential(Answer::Reject, 2, &subject);
    let counted = it.outcome(Outcome::Approved, &[it.obligation(&[&one, &no])], &subject);
    assert_eq!(failed(&approval(&counted, &[&one, &no])), ["named", "quorum"]);
    // Another subject; and an approval that the outcome did not need.
    let other = it.credential(Answer::Approve, 2, &it.action());
    let mixed = it.outcome(Outcome::Approved, &[it.obligation(&[&one, &other])], &subject);
    assert_eq!(failed(&approval(&mixed, &[&one, &other])), ["named"]);
    assert!(approval(&outcome, &[&one, &two, &again]).valid);

    let rejected = it.outcome(Outcome::Rejected, &[], &subject);
    assert!(it.verify(&rejected).valid);
    assert_eq!(failed(&approval(&rejected, &[&no])), ["granted"]);
    assert!(approval(&it.outcome(Outcome::Skipped, &[], &subject), &[]).valid);
    let late = Expect {
        at: Time::parse("2026-03-15T14:33:00Z"),
        ..Expect::default()
    };
    assert_eq!(
        failed(&verify::approval(&outcome, &[&one, &two], &trust, &late)),
        ["unexpired"]
    );
}

#[test]
fn an_outcome_contradicts_neither_itself_nor_its_event() {
    let it = Material::new();
    let subject = it.subject();
    let (one, two) = (
        it.credential(Answer::Approve, 1, &subject),
        it.credential(Answer::Approve, 2, &subject),
    );
    let good = it.obligation(&[&one, &two]);
    let glass = Obligation {
        rule: "glass".into(),
        break_glass: true,
        ..good.clone()
    };
    for bad in [
        vec![],
        vec![it.obligation(&[&one])],
        vec![it.obligation(&[&one, &one])],
        vec![good.clone(), good.clone()],
        vec![good.clone(), glass.clone()],
        vec![Obligation {
            quorum: 0,
            ..good.clone()
        }],
        vec![Obligation {
            methods: vec![],
            ..good.clone()
        }],
        vec![Obligation {
            credentials: vec!["crd_1".into(), "crd_2".into()],
            ..good.clone()
        }],
    ] {
        let report = it.verify(&it.outcome(Outcome::Approved, &bad, &subject));
        assert_eq!(failed(&report), ["obligations"], "{bad:?}");
    }
    let broken = it.verify(&it.outcome(Outcome::Approved, &[glass], &subject));
    assert!(broken.verdict.unwrap().contains("approved by break-glass"));
    assert_eq!(
        failed(&it.verify(&it.outcome(Outcome::Skipped, std::slice::from_ref(&good), &subject))),
        ["obligations"]
    );

    let outcome = it.outcome(Outcome::Approved, &[good], &subject);
    let statement = payload(&outcome);
    let content = STANDARD.encode(&subject);
    let swapped = replaced(
        &statement,
        &content,
        &STANDARD.encode(replaced(&subject, "!142", "!143")),
    );
    assert_eq!(failed(&it.verify(&it.signed(&swapped))), ["subject"]);
    let swapped = replaced(&statement, HEAD, BASE);
    assert_eq!(failed(&it.verify(&it.signed(&swapped))), ["subject"]);
    let expired = replaced(&statement, "14:33:00.000Z", "14:23:07.250Z");
    assert_eq!(failed(&it.verify(&it.signed(&expired))), ["times"]);

    let data = serde_json::json!({
        "request": RequestId::from_random([5; 16]), "outcome_sha256": Digest::of(&outcome), "expires_at": null,
    });
    let event = it.event("request.approved", DECIDED, &data);
    let check = |event: &[u8]| {
        let proof = it.proof(event);
        let journal = Journal {
            event,
            proof: Some(&proof),
        };
        it.verify_with(&outcome, &Expect::default(), Some(&journal)).0
    };
    assert!(check(&event).valid);
    assert_eq!(
        failed(&check(&replaced(&event, "request.approved", "request.rejected"))),
        ["event"]
    );
    assert_eq!(failed(&check(&replaced(&event, "apr_05", "apr_06"))), ["event"]);
}

#[test]
fn an_assertion_that_breaks_one_rule_is_refused() {
    let passkey = Passkey::es256(1);
    let expected = [3; 32];
    let good = client_data("webauthn.get", &expected, ORIGIN, "");
    let auth = auth_data("sa.example", 0x05);
    let verdict = |auth: &[u8], client: &[u8]| {
        verify_assertion(
            &Answered::new(&passkey, auth.to_vec(), client.to_vec()).evidence(),
            &expected,
        )
    };
    assert_eq!(verdict(&auth, &good).map(|it| it.sign_count), Ok(7));
    // Browsers may add members, and blanks do no harm in what they wrote.
    assert!(
        verdict(
            &auth,
            &client_data(
                "webauthn.get",
                &expected,
                ORIGIN,
                ", \"other_keys_can_be_added_here\":{}"
            )
        )
        .is_ok()
    );
    for origin in [
        "https://sa.example",
        "http://sa.example:8443",
        "https://x.sa.example:8443",
        "https://sa.example:8443/",
        "https://SA.example:8443",
        "null",
    ] {
        let client = client_data("webauthn.get", &expected, origin, "");
        assert!(
            matches!(verdict(&auth, &client), Err(WebauthnError::Origin { .. })),
            "{origin}"
        );
    }
    let other = |kind: &str, more: &str| client_data(kind, &expected, ORIGIN, more);
    assert!(matches!(
        verdict(&auth, &other("webauthn.create", "")),
        Err(WebauthnError::Type(_))
    ));
    assert!(matches!(
        verdict(&auth, &other("payment.get", "")),
        Err(WebauthnError::Type(_))
    ));
    assert_eq!(
        verdict(&auth, &other("webauthn.get", ",\"crossOrigin\":true")),
        Err(WebauthnError::CrossOrigin)
    );
    assert_eq!(
        verdict(
            &auth,
            &other(
                "webauthn.get",
                ",\"crossOrigin\":false,\"topOrigin\":\"https://sa.example:8443\""
            )
        ),
        Err(WebauthnError::CrossOrigin)
    );
    assert!(matches!(
        verdict(&auth, &other("webauthn.get", ",\"crossOrigin\":\"no\"")),
        Err(WebauthnError::ClientData(_))
    ));
    assert!(matches!(
        verdict(&auth, &other("webauthn.get", ",\"type\":\"webauthn.get\"")),
        Err(WebauthnError::ClientData(StrictError::Duplicate { .. }))
    ));
    assert_eq!(
        verdict(&auth, &client_data("webauthn.get", &[4; 32], ORIGIN, "")),
        Err(WebauthnError::Challenge)
    );
    assert_eq!(
        verdict(&auth_data("evil.example", 0x05), &good),
        Err(WebauthnError::RelyingParty)
    );
    assert_eq!(
        verdict(&auth_data("sa.example", 0x04), &good),
        Err(WebauthnError::NotPresent)
    );
    assert_eq!(
        verdict(&auth_data("sa.example", 0x01), &good),
        Err(WebauthnError::NotVerified)
    );
    for (flags, more) in [
        (0x15, &[][..]),
        (0x45, &[][..]),
        (0x85, &[][..]),
        (0x05, &[0xa0][..]),
        (0x85, &[0xa0, 0][..]),
        (0x85, &[0x80][..]),
    ] {
        let auth = [&auth_data("sa.example", flags)[..], more].concat();
        assert!(
            matches!(verdict(&auth, &good), Err(WebauthnError::AuthenticatorData(_))),
            "{flags:#x}"
        );
    }
    assert!(verdict(&[&auth_data("sa.example", 0x85)[..], &[0xa0]].concat(), &good).is_ok());
    for length in 0..37 {
        assert!(verdict(&auth[..length], &good).is_err());
    }
}

#[test]
fn every_changed_byte_of_an_assertion_is_refused() {
    let expected = [3; 32];
    let client = client_data("webauthn.get", &expected, ORIGIN, "");
    for passkey in [
        Passkey::es256(1),
        Passkey::EdDsa(ed25519_dalek::SigningKey::from_bytes(&[4; 32])),
    ] {
        let good = Answered::new(&passkey, auth_data("sa.example", 0x05), client.clone());
        assert!(verify_assertion(&good.evidence(), &expected).is_ok());
        let try_all = |bytes: &[u8], place: fn(&mut WebauthnEvidence<'_>, &'static [u8])| {
            for at in 0..bytes.len() {
                for flip in [0x01, 0x80] {
                    let mut other = bytes.to_vec();
                    other[at] ^= flip;
                    let mut evidence = good.evidence();
                    place(&mut evidence, other.leak());
                    assert!(verify_assertion(&evidence, &expected).is_err(), "byte {at}");
                }
            }
            let mut evidence = good.evidence();
            place(&mut evidence, [bytes, &[0]].concat().leak());
            assert!(verify_assertion(&evidence, &expected).is_err(), "one byte more");
        };
        try_all(&good.signature, |it, bytes| it.signature = bytes);
        try_all(&good.auth, |it, bytes| it.authenticator_data = bytes);
        try_all(&good.client, |it, bytes| it.client_data_json = bytes);
        try_all(&good.spki, |it, bytes| it.public_key_spki = bytes);
        for alg in [webauthn::ES256, webauthn::EDDSA, webauthn::RS256, -8000, 0, -35] {
            if alg != good.alg {
                assert!(
                    verify_assertion(
                        &WebauthnEvidence {
                            alg,
                            ..good.evidence()
                        },
                        &expected
                    )
                    .is_err()
                );
            }
        }
    }
}

#[test]
fn an_ecdsa_signature_has_one_der_form() {
    let expected = [3; 32];
    let client = client_data("webauthn.get", &expected, ORIGIN, "");
    let mut good = Answered::new(&Passkey::es256(1), auth_data("sa.example", 0x05), client);
    let der = good.signature.clone();
    let r_length = usize::from(der[3]);
    let (r, s) = (der[2..4 + r_length].to_vec(), der[4 + r_length..].to_vec());
    let padded = [&[0x02, r[1] + 1, 0x00], &r[2..]].concat();
    let length = (r.len() + s.len()) as u8;
    for other in [
        [&[0x30, 0x81, length][..], &r, &s].concat(),
        [&[0x30, length + 1][..], &padded, &s].concat(),
        [&[0x30, length + 1][..], &r, &s, &[0]].concat(),
        [&[0x30, length][..], &r, &s, &[0]].concat(),
        [&[0x31, length][..], &r, &s].concat(),
        [&[0x30, length - 2][..], &r[2..], &s].concat(),
        vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x01],
        vec![0x30, 0x04, 0x02, 0x00, 0x02, 0x00],
        vec![0x30, 0x06, 0x02, 0x01, 0x81, 0x02, 0x01, 0x01],
        vec![0x30, 0x80],
        vec![],
    ] {
        good.signature = other;
        let verdict = verify_assertion(&good.evidence(), &expected);
        assert_eq!(
            verdict,
            Err(WebauthnError::SignatureForm),
            "{}",
            hex::encode(&good.signature)
        );
    }
}

/// Made once with openssl: an RSA key of 2048 bits and its signature over the assertion below.
const RSA_SPKI: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApmpIDXY/zUS0KM3xqSxXHsCpDaQ5zkLHSMN4Q2li/x/qt4vgD2E16QEY\
    TT+hzJes3nvHBzK0k1ZQAS6N8bY/LVG42sGrsJKebfpsY6MnOsjZkVxq16KV+Zng1mGo1lvJikpWS5HAbDMtvlPyzoGeOsqVFIa7\
    qzU5J5ABm1xNFRuScNvl2Xr76UdklKtDL+tJtVQQQNlyUUbQvY8aaOAEa+QkdecbH9BLUfpDuA9/9t6zouep5OFcKnQY140517v6\
    W0g9N2RWGiRMI1u85gdw0j75jRB2vIfAGtXND9/LL9Icr0SBi0m/VYKvp+5iCKpXTgX1vk3dwVkrB6K06v8bvwIDAQAB";
const RSA_SIGNATURE: &str = "m0LbgxJHnwaE1RwHsnMZeDb5Tt2UgkYjnFOcfp8OReafkLgqwbOFa/YCMgnz64qeGq00fyGRi9q+nkKiDpu1ksWPei/vhUgj0ny0\
    bjW2gv+NHsk2Gh0XpsNDpxIzRakjD5m2ZN0R7mKLU78s/jp9wnMfJe2q0esG9S5AIWpcgurM7PxzgTGD2sdFUPPuvwIJ6w3XdpPp\
    x/sj4gSt9VhNP5lJJKbdQ9LcxwMTArj6sp1DtWy8FH+3NSycoRQZcrnNdS1kkv7wGWQKfFdLYGwCi1HciSdqjrHiQh3JFyMaYb7K\
    EdavSOyW/lcp3RYkQS5SjG1XgqJJvN/Dzo8unZXx4g==";

#[test]
fn rsa_passkeys_verify_too() {
    let expected: [u8; 32] = std::array::from_fn(|it| it as u8);
    let client = client_data(
        "webauthn.get",
        &expected,
        "https://sa.example",
        ",\"crossOrigin\":false",
    );
    let (spki, signature) = (
        STANDARD.decode(RSA_SPKI).unwrap(),
        STANDARD.decode(RSA_SIGNATURE).unwrap(),
    );
    let auth = auth_data("sa.example", 0x05);
    let evidence = WebauthnEvidence {
        rp_id: "sa.example",
        origin: "https://sa.example",
        public_key_spki: &spki,
        authenticator_data: &auth,
        client_data_json: &client,
        signature: &signature,
        alg: webauthn::RS256,
    };
    assert!(verify_assertion(&evidence, &expected).is_ok());
    for at in 0..spki.len() {
        let mut other = spki.clone();
        other[at] ^= 1;
        assert!(
            verify_assertion(
                &WebauthnEvidence {
                    public_key_spki: &other,
                    ..evidence.clone()
                },
                &expected
            )
            .is_err()
        );
    }
    // The key inside an attestation object gives the same SubjectPublicKeyInfo.
    let modulus = &spki[33..33 + 256];
    let cose = [
        &[0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59, 0x01, 0x00][..],
        modulus,
        &[0x21, 0x43, 1, 0, 1],
    ]
    .concat();
    let object = attestation_object(&cose, 0x45, &[]);
    let key = attested(&object).unwrap();
    assert_eq!((key.alg, key.spki), (webauthn::RS256, spki));
}

fn attestation_object(cose: &[u8], flags: u8, extensions: &[u8]) -> Vec<u8> {
    let mut auth = auth_data("sa.example", flags);
    auth.extend_from_slice(&hex::decode("ee882879721c491397753dfcce97072a").unwrap());
    auth.extend_from_slice(&[0, 4, 1, 2, 3, 4]);
    auth.extend_from_slice(cose);
    auth.extend_from_slice(extensions);
    let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData".to_vec();
    match u8::try_from(auth.len()) {
        Ok(length) => object.extend_from_slice(&[0x58, length]),
        Err(_) => object.extend_from_slice(&[&[0x59][..], &(auth.len() as u16).to_be_bytes()].concat()),
    }
    object.extend_from_slice(&auth);
    object
}

#[test]
fn an_attestation_object_gives_the_passkeys_public_key() {
    for passkey in [
        Passkey::es256(1),
        Passkey::EdDsa(ed25519_dalek::SigningKey::from_bytes(&[4; 32])),
    ] {
        let cose = passkey.cose();
        let object = attestation_object(&cose, 0xdd, b"\xa1\x6bcredProtect\x02");
        let key = attested(&object).unwrap();
        assert_eq!((key.spki, key.alg), (passkey.spki(), passkey.alg()));
        assert_eq!(key.aaguid, "ee882879-721c-4913-9775-3dfcce97072a");
        assert_eq!(
            (key.credential_id, key.format.as_str(), key.sign_count),
            (vec![1, 2, 3, 4], "none", 7)
        );
        assert!(key.flags.user_present() && key.flags.user_verified() && key.flags.backup_eligible());
        assert_eq!(key.rp_id_hash, Digest::of(b"sa.example").0);

        for length in 0..object.len() {
            assert!(attested(&object[..length]).is_err(), "cut at {length}");
        }
        assert!(attested(&[&object[..], &[0]].concat()).is_err());
        // Announced extensions that are missing, present ones that were not announced, no key at all.
        assert!(attested(&attestation_object(&cose, 0xc5, &[])).is_err());
        assert!(attested(&attestation_object(&cose, 0x45, &[0xa0])).is_err());
        assert!(attested(&attestation_object(&cose, 0x05, &[])).is_err());
        // Longer than needed, indefinite, twice, of another curve, of another algorithm.
        let mut longer = cose.clone();
        longer.splice(1..2, [0x18, 0x01]);
        let mut twice = cose.clone();
        twice[0] += 1;
        twice.extend_from_slice(&[0x03, 0x26]);
        for (at, byte) in [(0, 0xbf), (4, 0x28), (6, 0x02), (2, 0x03)] {
            let mut other = cose.clone();
            other[at] = byte;
            assert!(attested(&attestation_object(&other, 0x45, &[])).is_err(), "{at}");
        }
        assert!(attested(&attestation_object(&longer, 0x45, &[])).is_err());
        assert!(attested(&attestation_object(&twice, 0x45, &[])).is_err());
    }
    // Deep nesting is refused, not followed.
    assert!(attested(&[0x81; 100_000]).is_err());
}

#[test]
fn the_signed_bytes_are_the_specified_ones() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    let nonce: [u8; 32] = std::array::from_fn(|it| it as u8);
    assert_eq!(
        hex::encode(challenge(&nonce, b"{\"v\":1}")),
        "c0a8636ace8058dabd2060050ab126876135240d95144970fdc8cad3e6c72df2"
    );
    let it = Material::new();
    let intent = String::from_utf8(it.intent(Answer::Approve, 1, &it.subject())).unwrap();
    let subject = String::from_utf8(it.subject()).unwrap();
    let start = format!(
        "{{\"v\":1,\"type\":\"signedapproval/intent\",\"request\":\"{}\",\"decision\":\"approve\",\"meaning\":\"approval\",\
         \"subject\":{subject},\"subject_sha256\":\"{}\",\"policy_sha256\":",
        RequestId::from_random([5; 16]),
        Digest::of(subject.as_bytes()),
    );
    assert!(intent.starts_with(&start), "{intent}");
    assert!(intent.ends_with(
        ",\"issued_at\":\"2026-03-15T14:23:00.000Z\",\"expires_at\":\"2026-03-15T14:33:00.000Z\"}"
    ));
    assert!(subject.starts_with(
        "{\"kind\":\"change\",\"forge\":\"gitlab\",\"instance\":\"https://git.corp\",\"project_id\":\"12345\",\
         \"project\":\"pay/api\",\"change\":\"!142\",\"source_project_id\":\"12345\",\"source\":\"refs/heads/x\",\
         \"target\":\"refs/heads/main\",\"head\":\""
    ));
    let action = String::from_utf8(it.action()).unwrap();
    assert!(action.starts_with(
        "{\"kind\":\"deployment\",\"action\":\"deploy pay/api\",\"environment\":\"production\",\"project\":\"pay/api\",\
         \"digest\":{\"gitCommit\":\""
    ));
    let parsed = ParsedIntent::parse(intent.as_bytes()).unwrap();
    assert_eq!(parsed.subject_bytes, subject.as_bytes());
    assert_eq!(parsed.comment, "looks \"fine\" \\ to me \u{1f44d}");
}

#[test]
fn a_job_on_a_forge_is_part_of_what_is_signed_and_read_strictly() {
    let it = Material::new();
    let job = JobSubject {
        forge: "gitlab",
        instance: "https://git.corp.example",
        project_id: "12",
        job: "5",
        name: "deploy \u{202e}x",
        pipeline: "9",
        deployment: "3",
        ref_name: "refs/heads/main",
        tier: Some("production"),
        triggered_by: "carl",
    };
    let subject = |job: JobSubject<'_>, environment: Option<&str>| {
        ActionSubject {
            kind: ActionKind::Deployment,
            action: "Deploy pay/api to production: start job deploy of pipeline 9",
            environment,
            project: Some("pay/api"),
            digest: Some(ActionDigest::GitCommit(HEAD)),
            requester: "forge_account:77",
            claimed_sha256: Digest::of(b""),
            job: Some(job),
        }
        .to_bytes()
    };
    let bytes = subject(job, Some("production"));
    let read = Subject::parse(&bytes).unwrap();
    assert_eq!(read.digest, ("gitCommit".to_owned(), HEAD.to_owned()));
    assert_eq!(read.environment.as_deref(), Some("production"));
    // Another job is another subject, though everything else agrees.
    let other = subject(JobSubject { job: "6", ..job }, Some("production"));
    assert_ne!(Digest::of(&bytes), Digest::of(&other));
    for wrong in [
        subject(JobSubject { job: "5a", ..job }, Some("production")),
        subject(JobSubject { pipeline: "", ..job }, Some("production")),
        subject(job, None),
    ] {
        assert!(
            Subject::parse(&wrong).is_err(),
            "{}",
            String::from_utf8_lossy(&wrong)
        );
    }
    let text = String::from_utf8(bytes.clone()).unwrap();
    for wrong in [
        text.replace("\"tier\":\"production\",", "\"tier\":null,"),
        text.replace("\"pipeline\":\"9\",", ""),
        text.replace("\"pipeline\":\"9\"", "\"pipeline\":\"9\",\"more\":\"1\""),
        text.replace("\"kind\":\"deployment\"", "\"kind\":\"action\""),
    ] {
        assert_ne!(wrong, text);
        assert!(Subject::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let file = it.credential(Answer::Approve, 1, &bytes);
    assert!(it.verify(&file).valid);
    for (right, expect) in [
        (
            true,
            Expect {
                commit: Some(HEAD),
                environment: Some("production"),
                ..Expect::default()
            },
        ),
        (
            false,
            Expect {
                commit: Some(HEAD),
                environment: Some("staging"),
                ..Expect::default()
            },
        ),
        (
            false,
            Expect {
                project: Some("pay/web"),
                ..Expect::default()
            },
        ),
    ] {
        assert_eq!(it.verify_with(&file, &expect, None).0.valid, right, "{expect:?}");
    }
}

#[test]
fn an_action_without_a_digest_is_named_by_its_subject() {
    let it = Material::new();
    let subject = ActionSubject {
        kind: ActionKind::Action,
        action: "rotate the \u{202e}keys",
        environment: None,
        project: None,
        digest: None,
        requester: "forge_account:77",
        claimed_sha256: Digest::of(b""),
        job: None,
    }
    .to_bytes();
    let file = it.credential(Answer::Approve, 1, &subject);
    let digests = Credential::parse(&payload(&file)).unwrap().digests;
    assert_eq!(digests, [("sha256".to_owned(), Digest::of(&subject).to_string())]);
    let report = it.verify(&file);
    assert!(
        report
            .verdict
            .unwrap()
            .starts_with("rotate the \\u{202e}keys was approved by ")
    );
    let commit = Expect {
        commit: Some(HEAD),
        ..Expect::default()
    };
    assert_eq!(failed(&it.verify_with(&file, &commit, None).0), ["expected"]);
}

#[test]
fn the_file_digest_is_over_sorted_records_of_raw_paths() {
    let file = |status, old: Option<&[u8]>, new: Option<&[u8]>, old_mode, new_mode| FileChange {
        status,
        old_path: old.map(|it| RepoPath(it.to_vec())),
        new_path: new.map(|it| RepoPath(it.to_vec())),
        old_mode,
        new_mode,
        lines: None,
    };
    let mode = FileMode::Known;
    let mut files = vec![
        file(
            FileStatus::Modified,
            Some(b"\xff/x"),
            Some(b"\xff/x"),
            mode(0o120_000),
            mode(0o160_000),
        ),
        file(
            FileStatus::Renamed,
            Some(b"src/k.rs"),
            Some(b"docs/k.md"),
            FileMode::UNKNOWN,
            mode(0o100_755),
        ),
        file(
            FileStatus::Added,
            None,
            Some(b"docs/a.md"),
            FileMode::ABSENT,
            mode(0o100_644),
        ),
        file(
            FileStatus::Deleted,
            Some(b"old.txt"),
            None,
            mode(0o100_644),
            FileMode::ABSENT,
        ),
    ];
    let records = b"D 100644 000000 7:old.txt 0:\nA 000000 100644 0: 9:docs/a.md\n\
        R ------ 100755 8:src/k.rs 9:docs/k.md\nM 120000 160000 3:\xff/x 3:\xff/x\n";
    let digest = files_digest(&FileList {
        files: files.clone(),
        incomplete: None,
    });
    assert_eq!(digest, Digest::of(records));
    files.reverse();
    assert_eq!(
        files_digest(&FileList {
            files,
            incomplete: Some("cut".into())
        }),
        digest
    );
}

#[test]
fn a_leaf_is_compact_bounded_and_strict() {
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let empty = raw("{}");
    let bytes = leaf::encode(
        0,
        "2026-03-15T14:23:07Z",
        "instance.created",
        &empty,
        &empty,
        &raw("{\"b\":1,\"a\":2}"),
    )
    .unwrap();
    assert_eq!(
        bytes,
        b"{\"v\":1,\"seq\":0,\"time\":\"2026-03-15T14:23:07Z\",\"type\":\"instance.created\",\"actor\":{},\"object\":{},\"data\":{\"b\":1,\"a\":2}}"
    );
    assert_eq!(leaf::parse(&bytes).unwrap().data.bytes, b"{\"b\":1,\"a\":2}");
    let with = |data: &str| leaf::encode(0, "2026-03-15T14:23:07Z", "x", &empty, &empty, &raw(data));
    let frame = with("{\"a\":\"\"}").unwrap().len();
    let fill = |length: usize| with(&format!("{{\"a\":\"{}\"}}", "x".repeat(length - frame)));
    assert_eq!(fill(65_535).unwrap().len(), 65_535);
    assert_eq!(fill(65_536), Err(leaf::LeafError::TooLong(65_536)));
    for bad in [
        "{\"a\":1.5}",
        "{\"a\":1,\"a\":1}",
        "{ }",
        "[]",
        "{\"a\":9007199254740992}",
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
    assert!(leaf::encode(0, "yesterday", "x", &empty, &empty, &empty).is_err());
    assert!(leaf::encode(u64::MAX, "2026-03-15T14:23:07Z", "x", &empty, &empty, &empty).is_err());
}

#[test]
fn the_strict_reader_has_one_reading() {
    for good in [
        "null",
        "[]",
        "{}",
        "[1,-1,0,9007199254740991,-9007199254740991]",
        r#""\ud83d\ude00\u0041\/""#,
        r#"{"a":{"a":[]}}"#,
    ] {
        assert_eq!(
            strict::parse(good.as_bytes(), Space::Refused).unwrap().bytes,
            good.as_bytes()
        );
    }
    for bad in [
        "",
        "[",
        "]",
        "{",
        "nul",
        "nulll",
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "01",
        "-0",
        "-",
        "+1",
        "1.0",
        "1e3",
        "1E3",
        ".5",
        "9007199254740992",
        "-9007199254740992",
        "99999999999999999999",
        "\"\n\"",
        "\"\\x\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\u12\"",
        "\"",
        "'a'",
        "[1 ,2]",
        " 1",
        "1 ",
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":1}",
        "NaN",
        "1 1",
        "\u{feff}1",
        "/**/1",
    ] {
        assert!(strict::parse(bad.as_bytes(), Space::Refused).is_err(), "{bad}");
    }
    assert!(strict::parse(b" { \"a\" : [ 1 , 2 ] }\n", Space::Allowed).is_ok());
    assert!(strict::parse(b"\"\xff\"", Space::Allowed).is_err());
    assert_eq!(
        strict::parse(&[b'['; 100_000], Space::Allowed),
        Err(StrictError::Depth)
    );
}

#[test]
fn keys_have_one_form_each() {
    let it = Material::new();
    let key = it.public();
    assert_eq!(PublicKey::from_pem(&key.pem()), Ok(key.clone()));
    assert_eq!(
        PublicKey::from_pem(&key.pem().replace('\n', "\r\n")),
        Ok(key.clone())
    );
    assert_eq!(key.id(), dsse::key_id(&key.spki()));
    let private = key.pem().replace("PUBLIC", "PRIVATE");
    for bad in [
        "",
        &private,
        &key.pem()[5..],
        &(key.pem() + &key.pem()),
        &key.pem().replace("MCow", "MCov"),
    ] {
        assert!(PublicKey::from_pem(bad).is_err(), "{bad}");
    }
    // Small-order points would let one signature fit every message.
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(PublicKey::from_raw(&identity).is_err());
    assert!(PublicKey::from_raw(&[0; 32]).is_err());
}

#[test]
fn a_key_introduction_bears_both_signatures() {
    let (old, new) = (
        Material::new(),
        Material {
            key: ed25519_dalek::SigningKey::from_bytes(&[1; 32]),
            ..Material::new()
        },
    );
    let message = pae(dsse::KEY_INTRODUCTION, b"{}");
    let signature = |it: &Material| dsse::Signature {
        keyid: it.public().id().to_owned(),
        sig: it.key.sign(&message).to_bytes(),
    };
    let envelope = Envelope {
        payload_type: dsse::KEY_INTRODUCTION.into(),
        payload: b"{}".to_vec(),
        signatures: vec![signature(&old), signature(&new)],
    };
    let envelope = Envelope::parse(&envelope.to_bytes()).unwrap();
    assert!(envelope.verify_all(&[old.public(), new.public()]).is_ok());
    assert!(envelope.verify_all(&[new.public(), old.public()]).is_err());
    assert!(envelope.verify_all(&[old.public()]).is_err());
    assert!(envelope.verify(&old.public()).is_err());
    assert!(envelope.verify_all(&[]).is_err());
}

#[test]
fn the_sigstore_form_holds_the_envelope_verbatim() {
    let it = Material::new();
    let file = it.credential(Answer::Approve, 1, &it.subject());
    let bundle = sigstore_bundle(&file, it.public().id()).unwrap();
    let value = strict::parse(&bundle, Space::Refused).unwrap();
    let bundle = value.object("bundle").unwrap();
    assert_eq!(bundle.member("dsseEnvelope").unwrap().bytes, file);
    assert_eq!(
        bundle.text("mediaType").unwrap(),
        "application/vnd.dev.sigstore.bundle.v0.3+json"
    );
    assert!(sigstore_bundle(b"{}", it.public().id()).is_err());
    assert!(sigstore_bundle(&file, "\"").is_err());
}
