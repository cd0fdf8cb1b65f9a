//! Proofs: what can be downloaded, and that it convinces without the appliance: the command line offline, openssl alone.
//! Not one byte of a credential can be changed.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;
use signedapproval::evidence::dsse::PublicKey;
use signedapproval::evidence::verify;
use signedapproval::evidence::verify::Expect;
use signedapproval::evidence::verify::Trust;

use crate::support::appliance::new_dir;
use crate::support::appliance::run;
use crate::support::gated::Gated;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// An approved change and an approved action, with their files saved as an auditor would.
struct Scene {
    it: Gated,
    dir: PathBuf,
    /// Credential ids: of the change, of the action.
    credentials: Vec<String>,
    /// Request ids, in the same order.
    requests: Vec<String>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _removed = fs::remove_dir_all(&self.dir);
    }
}

impl Scene {
    async fn new() -> Scene {
        let it = Gated::start().await;
        let change = it.open("feature", "main");
        let first = it.pending(&change, "main").await;
        let key = it.ada.create_api_key("CI", &["request"], &[]).await.key;
        let ci = it.appliance.api().with_key(&key);
        let second = ci
            .open_request(
                &json!({"action": "Deploy \u{e9}\u{1f600} \"now\"", "metadata": {"commit": change.head}}),
            )
            .await;
        let mut credentials = vec![it.bea.approve(&first).await];
        credentials.push(it.bea.approve(&second).await);
        let dir = new_dir();
        let scene = Scene {
            it,
            dir,
            credentials,
            requests: vec![first, second],
        };
        for id in &scene.credentials {
            let base = format!("/api/v1/credentials/{id}");
            scene.save(&base, &format!("{id}.dsse.json")).await;
            scene
                .save(&format!("{base}/event"), &format!("{id}.event.json"))
                .await;
            scene
                .save(&format!("{base}/proof"), &format!("{id}.tlog-proof"))
                .await;
            scene
                .save(
                    &format!("{base}/bundle.sigstore.json"),
                    &format!("{id}.sigstore.json"),
                )
                .await;
        }
        for id in &scene.requests {
            scene
                .save(
                    &format!("/api/v1/approvals/{id}/outcome"),
                    &format!("{id}.dsse.json"),
                )
                .await;
        }
        for name in [
            "credential.pem",
            "log.vkey",
            "keys.json",
            "jwks.json",
            "checkpoint",
        ] {
            let answer = scene
                .it
                .appliance
                .api()
                .get(&format!("/.well-known/signedapproval/{name}"))
                .await;
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            fs::write(scene.dir.join(name), &answer.body).expect("a writable directory");
        }
        scene
    }

    async fn save(&self, path: &str, name: &str) {
        let answer = self.it.auditor.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        fs::write(self.dir.join(name), &answer.body).expect("a writable directory");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn key(&self) -> PublicKey {
        let pem = String::from_utf8(self.bytes("credential.pem")).expect("PEM is text");
        PublicKey::from_pem(&pem).expect("a public key")
    }

    /// `signedapproval verify` in this directory, with the saved keys.
    async fn verify(&self, files: &[&str], more: &[&str]) -> (i32, String, String) {
        let mut arguments = vec!["verify"];
        arguments.extend_from_slice(files);
        arguments.extend(["--key", "credential.pem", "--log-key", "log.vkey"]);
        arguments.extend_from_slice(more);
        run(&self.dir, &arguments, &[]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_have_the_published_form() {
    let it = Scene::new().await;
    for (nth, id) in it.credentials.iter().enumerate() {
        let file = it.bytes(&format!("{id}.dsse.json"));
        assert_eq!(
            format!("crd_{}", hex::encode(Sha256::digest(&file))),
            *id,
            "the id is the file's digest"
        );
        assert!(!file.ends_with(b"\n"), "one line, no final newline");
        let envelope = it.json(&format!("{id}.dsse.json"));
        assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
        assert_eq!(envelope["signatures"].as_array().map(Vec::len), Some(1));
        let statement = STANDARD
            .decode(text(&envelope, "payload"))
            .expect("standard base64");
        let statement: Value = serde_json::from_slice(&statement).expect("JSON");
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(
            statement["predicateType"],
            "https://signedapproval.net/attestation/approval/v1"
        );
        let predicate = &statement["predicate"];
        assert_eq!(predicate["decision"], "approve");
        assert_eq!(predicate["request"], it.requests[nth]);
        assert_eq!(predicate["approver"]["id"], it.it.bea.id());
        assert_eq!(predicate["method"]["grade"], "approver-signed");
        assert_eq!(predicate["method"]["userVerified"], true);
        assert_eq!(predicate["issuer"]["id"], it.it.appliance.public_url());

        let event = it.bytes(&format!("{id}.event.json"));
        let leaf: Value = serde_json::from_slice(&event).expect("JSON");
        assert_eq!(leaf["type"], "decision.recorded");
        assert_eq!(leaf["data"]["credential_sha256"], id.trim_start_matches("crd_"));
        assert!(leaf["seq"].is_u64() && !event.contains(&b'\n'));
        let proof = String::from_utf8(it.bytes(&format!("{id}.tlog-proof"))).expect("text");
        assert!(proof.starts_with("c2sp.org/tlog-proof@v1\n"), "{proof}");
        let sigstore = it.json(&format!("{id}.sigstore.json"));
        assert_eq!(
            sigstore["mediaType"],
            "application/vnd.dev.sigstore.bundle.v0.3+json"
        );
        assert_eq!(sigstore["dsseEnvelope"]["payload"], envelope["payload"]);
    }
    for (nth, id) in it.requests.iter().enumerate() {
        let envelope = it.json(&format!("{id}.dsse.json"));
        let statement = STANDARD
            .decode(text(&envelope, "payload"))
            .expect("standard base64");
        let statement: Value = serde_json::from_slice(&statement).expect("JSON");
        assert_eq!(
            statement["predicateType"],
            "https://signedapproval.net/attestation/outcome/v1"
        );
        assert_eq!(statement["predicate"]["outcome"], "approved");
        assert_eq!(
            statement["predicate"]["obligations"][0]["credentials"],
            json!([it.credentials[nth]])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_keys_agree_with_each_other() {
    let it = Scene::new().await;
    let pem = String::from_utf8(it.bytes("credential.pem")).expect("text");
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
    let body: String = pem.lines().filter(|it| !it.starts_with("-----")).collect();
    let spki = STANDARD.decode(body).expect("base64");
    let keyid = hex::encode(Sha256::digest(&spki));
    let envelope = it.json(&format!("{}.dsse.json", it.credentials[0]));
    assert_eq!(envelope["signatures"][0]["keyid"], keyid);
    let keys = it.json("keys.json");
    let all = keys["keys"].as_array().expect("keys");
    let current: Vec<&Value> = all
        .iter()
        .filter(|it| it["use"] == "credential" && it["until_seq"].is_null())
        .collect();
    assert_eq!(current.len(), 1, "{keys}");
    assert_eq!(current[0]["keyid"], keyid);
    assert!(all.iter().any(|it| it["use"] == "log"), "{keys}");
    let jwks = it.json("jwks.json");
    assert_eq!(jwks["keys"][0]["kty"], "OKP", "{jwks}");
    assert_eq!(jwks["keys"][0]["crv"], "Ed25519", "{jwks}");
    assert!(jwks["keys"][0]["d"].is_null(), "a private key is published");

    let vkey = String::from_utf8(it.bytes("log.vkey")).expect("text");
    let origin = vkey
        .lines()
        .next()
        .and_then(|it| it.split('+').next())
        .expect("a name")
        .to_owned();
    let host = it.it.appliance.public_url().replace("http://", "");
    assert!(origin.starts_with(&format!("{host}/log/")), "{vkey}");
    assert!(origin.ends_with("/1"), "the first epoch: {vkey}");
    let checkpoint = String::from_utf8(it.bytes("checkpoint")).expect("text");
    let mut lines = checkpoint.lines();
    assert_eq!(lines.next(), Some(origin.as_str()));
    let size: usize = lines.next().and_then(|it| it.parse().ok()).expect("a size");
    assert!(
        size > 0 && size <= it.it.ada.journal("").await.len(),
        "{checkpoint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_accepts_what_was_saved_with_no_appliance_left() {
    let mut it = Scene::new().await;
    it.it.appliance.kill9();
    for (nth, id) in it.credentials.clone().iter().enumerate() {
        let outcome = format!("{}.dsse.json", it.requests[nth]);
        let files = [
            format!("{id}.dsse.json"),
            format!("{id}.event.json"),
            format!("{id}.tlog-proof"),
        ];
        let all = [&files[0][..], &files[1], &files[2], &outcome];
        for some in [&all[..1], &all[..3], &all[..4]] {
            let (code, out, err) = it.verify(some, &[]).await;
            assert_eq!(code, 0, "{some:?}: {out}{err}");
        }
        let (code, out, err) = it.verify(&all, &["--json"]).await;
        assert_eq!(code, 0, "{out}{err}");
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        assert_eq!(told["valid"], true, "{told}");
    }
    let head = it.it.gitlab.head(crate::support::gated::PROJECT, "feature");
    let file = format!("{}.dsse.json", it.credentials[0]);
    let (code, out, err) = it.verify(&[&file], &["--commit", &head]).await;
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, _) = it.verify(&[&file], &["--commit", &"0".repeat(40)]).await;
    assert_eq!(code, 1, "another commit");
    let (code, _, _) = it.verify(&["missing.dsse.json"], &[]).await;
    assert_eq!(code, 3, "a file that is not there");
    let (code, _, _) = run(&it.dir, &["verify", &file], &[]).await;
    assert_eq!(code, 2, "no key");
    // One's event with the other's credential.
    let (one, two) = (&it.credentials[0], &it.credentials[1]);
    fs::copy(
        it.dir.join(format!("{two}.event.json")),
        it.dir.join(format!("{one}.event.json")),
    )
    .expect("a copy");
    let event = format!("{one}.event.json");
    let (code, out, err) = it.verify(&[&file, &event], &[]).await;
    assert_eq!(code, 1, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_credential_can_be_changed() {
    let it = Scene::new().await;
    let key = it.key();
    let trust = Trust {
        keys: std::slice::from_ref(&key),
        log_keys: &[],
    };
    let valid = |file: &[u8]| verify::document(file, &trust, &Expect::default(), None).0.valid;
    let names: Vec<String> = it
        .credentials
        .iter()
        .chain(&it.requests)
        .map(|id| format!("{id}.dsse.json"))
        .collect();
    for name in names {
        let file = it.bytes(&name);
        assert!(valid(&file), "{name}");
        for at in 0..file.len() {
            for bit in [0x01, 0x20, 0x80] {
                let mut bent = file.clone();
                bent[at] ^= bit;
                assert!(
                    !valid(&bent),
                    "{name} is valid with byte {at} flipped by {bit:#x}"
                );
            }
        }
        for cut in [0, 1, file.len() / 2, file.len() - 1] {
            assert!(!valid(&file[..cut]), "{name} is valid when cut at {cut}");
        }
        for more in [&b"\n"[..], b" ", b"\0", b"{}"] {
            assert!(
                !valid(&[&file, more].concat()),
                "{name} is valid with {more:?} behind it"
            );
        }
        assert!(
            !valid(&[b" ", &file[..]].concat()),
            "{name} is valid with a space before it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_refuses_changed_files() {
    let it = Scene::new().await;
    let id = it.credentials[0].clone();
    let names = [
        format!("{id}.dsse.json"),
        format!("{id}.event.json"),
        format!("{id}.tlog-proof"),
    ];
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        let file = it.bytes(name);
        for nth in 0..6 {
            let at = file.len() * nth / 6;
            let mut bent = file.clone();
            bent[at] ^= 0x01;
            fs::write(it.dir.join(name), &bent).expect("a writable directory");
            let (code, out, err) = it.verify(&all, &[]).await;
            assert_eq!(code, 1, "{name} with byte {at} flipped: {out}{err}");
        }
        fs::write(it.dir.join(name), &file).expect("a writable directory");
    }
    let (code, out, err) = it.verify(&all, &[]).await;
    assert_eq!(code, 0, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_appliance_says_the_same_of_a_file_as_the_command_line() {
    let it = Scene::new().await;
    let api = it.it.appliance.api();
    let file = it.bytes(&format!("{}.dsse.json", it.credentials[0]));
    let post = |body: Vec<u8>| {
        let api = api.clone();
        async move {
            api.send(
                "POST",
                "/api/v1/verify",
                &[("content-type", "application/json")],
                Some(body),
            )
            .await
        }
    };
    let told = post(file.clone()).await.expect(200);
    assert_eq!(told["valid"], true, "{told}");
    let checks = told["checks"].as_array().expect("checks");
    assert!(checks.len() > 3, "{told}");
    for check in checks {
        assert!(
            check["name"].is_string() && check["detail"].is_string(),
            "{check}"
        );
        assert_eq!(check["ok"], true, "{check}");
    }
    let mut bent = file.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    let told = post(bent).await.expect(200);
    assert_eq!(told["valid"], false, "{told}");
    assert!(
        told["checks"]
            .as_array()
            .expect("checks")
            .iter()
            .any(|it| it["ok"] == false),
        "{told}"
    );
    let told = post(b"nonsense".to_vec()).await.expect(200);
    assert_eq!(told["valid"], false, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_without_us_works_as_it_stands_in_the_docs() {
    for tool in ["bash", "jq", "openssl", "od", "base64"] {
        if Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .is_ok_and(|it| !it.status.success())
        {
            eprintln!("SKIPPED: {tool} is not installed");
            return;
        }
    }
    let it = Scene::new().await;
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify-without-us.md");
    let recipe = fs::read_to_string(&recipe).expect("the recipe");
    let blocks: Vec<&str> = recipe
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block ends"))
        .collect();
    assert!(blocks.len() >= 6, "the recipe has {} blocks", blocks.len());
    let follow = |dir: &Path| -> Result<(), String> {
        for block in &blocks {
            let output = Command::new("bash")
                .args(["-c", block])
                .current_dir(dir)
                .output()
                .expect("bash starts");
            if !output.status.success() {
                return Err(format!("{block}\n{output:?}"));
            }
        }
        Ok(())
    };
    let prepare = |id: &str, name: &str, content: &[u8]| {
        let dir = it.dir.join(name);
        fs::create_dir(&dir).expect("a new directory");
        fs::write(dir.join("c.dsse.json"), content).expect("writable");
        fs::copy(it.dir.join("credential.pem"), dir.join("pub.pem")).expect("a copy");
        fs::copy(it.dir.join(format!("{id}.event.json")), dir.join("c.event.json")).expect("a copy");
        dir
    };
    for (nth, id) in it.credentials.iter().enumerate() {
        let file = it.bytes(&format!("{id}.dsse.json"));
        follow(&prepare(id, &format!("good-{nth}"), &file)).unwrap_or_else(|e| panic!("{e}"));
        let mut envelope: Value = serde_json::from_slice(&file).expect("JSON");
        let payload = STANDARD.decode(text(&envelope, "payload")).expect("base64");
        let payload = String::from_utf8(payload).expect("text");
        let forged = payload.replace(&it.it.bea.id(), &it.it.ada.id());
        assert_ne!(payload, forged);
        envelope["payload"] = json!(STANDARD.encode(forged));
        let dir = prepare(id, &format!("forged-{nth}"), envelope.to_string().as_bytes());
        assert!(
            follow(&dir).is_err(),
            "a forged credential goes through the recipe"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_for_those_who_may_see_the_request() {
    let it = Scene::new().await;
    let stranger = it.it.ada.create_api_key("Other", &["request"], &[]).await.key;
    let stranger = it.it.appliance.api().with_key(&stranger);
    let nobody = it.it.appliance.api();
    for end in ["", "/event", "/proof", "/bundle.sigstore.json"] {
        let path = format!("/api/v1/credentials/{}{end}", it.credentials[0]);
        assert_problem!(stranger.get(&path).await, 404, "not-found");
        assert_problem!(nobody.get(&path).await, 401, "unauthenticated");
        assert_eq!(it.it.carl.get(&path).await.status, 200, "{end}");
    }
    let pending = it.it.open("later", "main");
    let id = it.it.pending(&pending, "main").await;
    assert_problem!(
        it.it
            .auditor
            .get(&format!("/api/v1/approvals/{id}/outcome"))
            .await,
        404,
        "not-found"
    );
    let none = it
        .it
        .auditor
        .get(&format!("/api/v1/approvals/{id}/credentials"))
        .await
        .expect(200);
    assert_eq!(none, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_stays_good_while_the_journal_grows() {
    let it = Scene::new().await;
    let id = it.credentials[0].clone();
    let before = it.bytes(&format!("{id}.dsse.json"));
    for nth in 0..5 {
        it.it
            .ada
            .create_api_key(&format!("k{nth}"), &["request"], &[])
            .await;
    }
    it.save(&format!("/api/v1/credentials/{id}"), &format!("{id}.dsse.json"))
        .await;
    assert_eq!(
        before,
        it.bytes(&format!("{id}.dsse.json")),
        "bytes are made once"
    );
    let names = [
        format!("{id}.dsse.json"),
        format!("{id}.event.json"),
        format!("{id}.tlog-proof"),
    ];
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(it.verify(&all, &[]).await.0, 0, "the old proof");
    it.save(
        &format!("/api/v1/credentials/{id}/proof"),
        &format!("{id}.tlog-proof"),
    )
    .await;
    let (code, out, err) = it.verify(&all, &[]).await;
    assert_eq!(code, 0, "the new proof: {out}{err}");
}
