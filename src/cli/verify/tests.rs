//! Tests of the `verify` command on real files, and of the recipe in `docs/verify-without-us.md`.

use crate::cli::verify::{NOT_VALID, UNREADABLE, USAGE, VALID, VerifyArgs, answer, verdict};
use crate::domain::request::Answer;
use crate::evidence::credential::EvidenceInput;
use crate::evidence::credential::TotpEvidence;
use crate::evidence::outcome::Outcome;
use crate::evidence::tests::{HEAD, Material};
use std::path::{Path, PathBuf};

/// A directory of its own that goes away again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("signedapproval-verify-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn args(files: &[&Path], key: &Path) -> VerifyArgs {
    VerifyArgs {
        files: files.iter().map(|it| it.to_path_buf()).collect(),
        key: vec![key.to_path_buf()],
        key_history: None,
        introduction: Vec::new(),
        log_key: Vec::new(),
        commit: None,
        environment: None,
        project: None,
        action: None,
        at: None,
        spent: None,
        json: false,
    }
}

fn code(args: &VerifyArgs) -> u8 {
    answer(args).0
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let (it, folder) = (Material::new(), Folder::new("codes"));
    let subject = it.subject();
    let file = it.credential(Answer::Approve, 1, &subject);
    let event = it.decision_event(&file, &subject);
    let credential = folder.write("c.dsse.json", &file);
    let event_path = folder.write("c.event.json", &event);
    let proof = folder.write("c.tlog-proof", &it.proof(&event));
    let key = folder.write("pub.pem", it.public().pem().as_bytes());
    let vkey = folder.write("log.vkey", format!("{}\n", it.log_key().vkey()).as_bytes());

    assert_eq!(code(&args(&[&credential], &key)), VALID);
    let mut all = args(&[&proof, &credential, &event_path], &key);
    assert_eq!(code(&all), USAGE, "a proof without the log key");
    for log_key in [it.log_key().vkey(), vkey.display().to_string()] {
        all.log_key = vec![log_key];
        assert_eq!(code(&all), VALID);
    }
    let text = verdict(&all).unwrap().text();
    assert!(text.contains(
        "\n!142 was approved by Alex Floyd via passkey at 2026-03-15T14:23:07Z, signed with Ed25519 key "
    ));
    assert!(
        text.contains("  ok    inclusion: ") && text.ends_with("\nvalid\n"),
        "{text}"
    );
    all.files.remove(1);
    assert_eq!(code(&all), VALID, "an event with its proof");
    all.files.pop();
    assert_eq!(code(&all), USAGE, "a proof alone");
    all.files = vec![credential.clone(), proof];
    assert_eq!(code(&all), USAGE, "a proof without its event");
    assert_eq!(code(&args(&[&event_path], &key)), USAGE, "an event alone");

    let mut wrong = args(&[&credential], &key);
    wrong.commit = Some(HEAD.into());
    assert_eq!(code(&wrong), VALID);
    wrong.commit = Some(HEAD.replace('0', "1"));
    assert_eq!(code(&wrong), NOT_VALID);
    let damaged = folder.write("d.dsse.json", &[&file[..], b"\n"].concat());
    assert_eq!(code(&args(&[&credential, &damaged], &key)), NOT_VALID);
    assert_eq!(code(&args(&[&folder.0.join("gone.dsse.json")], &key)), UNREADABLE);
    assert_eq!(
        code(&args(&[&folder.0], &key)),
        USAGE,
        "a directory has none of the endings"
    );
    assert_eq!(
        code(&args(&[&credential], &folder.0.join("gone.pem"))),
        UNREADABLE
    );
    assert_eq!(code(&args(&[&credential], &credential)), USAGE, "no PEM");
    // A bundle needs a log key, too.
    assert_eq!(code(&args(&[&folder.write("b.zip", b"PK")], &key)), USAGE);
    assert_eq!(code(&args(&[&folder.write("c.json", &file)], &key)), USAGE);
    let mut bad_log = args(&[&credential], &key);
    bad_log.log_key = vec!["sa.example/log+00000000+AAAA".into()];
    assert_eq!(code(&bad_log), USAGE);
}

#[test]
fn outcomes_and_credentials_are_held_against_each_other() {
    let (it, folder) = (Material::new(), Folder::new("outcome"));
    let subject = it.subject();
    let files = [
        it.credential(Answer::Approve, 1, &subject),
        it.credential(Answer::Approve, 2, &subject),
    ];
    let outcome = it.outcome(
        Outcome::Approved,
        &[it.obligation(&[&files[0], &files[1]])],
        &subject,
    );
    let key = folder.write("pub.pem", it.public().pem().as_bytes());
    let outcome = folder.write("o.dsse.json", &outcome);
    let one = folder.write("1.dsse.json", &files[0]);
    let two = folder.write("2.dsse.json", &files[1]);
    let totp = EvidenceInput::Totp(TotpEvidence {
        step: 1_773_584_587 / 30,
        period: 30,
        digits: 6,
    });
    let intent = it.intent(Answer::Approve, 1, &subject);
    let stranger = folder.write("3.dsse.json", &it.signed(&it.statement(&intent, totp)));

    let both = verdict(&args(&[&outcome, &one, &two], &key)).unwrap();
    assert!(
        both.valid
            && both
                .checks
                .iter()
                .any(|it| it.name == "quorum" && it.detail.contains("2 of 2"))
    );
    assert!(verdict(&args(&[&outcome, &one], &key)).unwrap().valid);
    assert_eq!(code(&args(&[&stranger], &key)), VALID);
    // Given before the quorum was met, and not needed for it.
    let beside = verdict(&args(&[&outcome, &one, &two, &stranger], &key)).unwrap();
    assert!(
        beside.valid
            && beside
                .checks
                .iter()
                .any(|it| it.detail.contains("did not count it"))
    );
    let json: serde_json::Value = serde_json::from_str(&both.json()).unwrap();
    assert_eq!(json["valid"], true);
    assert_eq!(json["files"].as_array().map(Vec::len), Some(3));
    assert!(json["files"][0]["checks"][0]["name"].is_string() && json["files"][0]["file"].is_string());
}

/// The fenced `sh` blocks of the page, in order.
fn recipe() -> Vec<String> {
    let page = include_str!("../../../docs/verify-without-us.md");
    page.split("```sh\n")
        .skip(1)
        .map(|it| it.split("\n```").next().unwrap().to_owned())
        .collect()
}

/// Runs the recipe over `c.dsse.json` in a folder; the number of the first block that fails.
fn follow(folder: &Folder, file: &[u8], key: &str) -> Option<usize> {
    folder.write("c.dsse.json", file);
    folder.write("pub.pem", key.as_bytes());
    recipe().iter().position(|block| {
        let output = std::process::Command::new("bash")
            .args(["-c", block])
            .current_dir(&folder.0)
            .output()
            .unwrap();
        !output.status.success()
    })
}

#[test]
fn the_printed_recipe_accepts_what_is_good_and_nothing_else() {
    let (it, folder) = (Material::new(), Folder::new("recipe"));
    let missing = ["jq", "openssl"].into_iter().find(|tool| {
        std::process::Command::new(tool)
            .arg(if *tool == "jq" { "--version" } else { "version" })
            .output()
            .is_err()
    });
    assert!(missing.is_none(), "the recipe needs {missing:?} on this machine");
    let key = it.public().pem();
    assert_eq!(recipe().len(), 9);
    for file in [
        it.credential(Answer::Approve, 1, &it.subject()),
        it.credential(Answer::Reject, 2, &it.action()),
    ] {
        assert_eq!(follow(&folder, &file, &key), None);
    }
    let file = it.credential(Answer::Approve, 1, &it.subject());
    folder.write("c.event.json", &it.decision_event(&file, &it.subject()));
    assert_eq!(follow(&folder, &file, &key), None);
    assert_eq!(
        follow(&folder, &it.credential(Answer::Approve, 2, &it.subject()), &key),
        Some(8),
        "another's event"
    );
    let mut damaged = file.clone();
    damaged[40] ^= 1;
    assert_eq!(follow(&folder, &damaged, &key), Some(0));
    // What only a dishonest appliance could make: an intent that the passkey never signed.
    let other = it.intent(Answer::Approve, 1, &it.action());
    let signed = it.intent(Answer::Approve, 1, &it.subject());
    let answered = it.answered(&crate::evidence::tests::Passkey::es256(1), &signed);
    let moved = it.signed(&it.passkey_statement(&other, &answered, false));
    assert_eq!(follow(&folder, &moved, &key), Some(5), "the challenge");
}
