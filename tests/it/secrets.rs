//! Secrets stay where they belong: after a day with every kind of forced error, no file, no log line and no answer holds
//! one.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::appliance::Answer;
use crate::support::gated::Gated;

fn all_files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            all_files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|it| it == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_log_or_answer_holds_a_secret_after_forced_errors() {
    let mut it = Gated::start().await;
    let mut answers: Vec<Answer> = Vec::new();
    let key = it.ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = it.appliance.api().with_key(&key);
    let invited = it.ada.invite("Dana", &["approver"]).await;
    let invitation = invited["invite_url"]
        .as_str()
        .and_then(|it| it.split_once('#'))
        .expect("a link")
        .1
        .to_owned();
    let passphrase = fs::read_to_string(it.appliance.data_dir().join("keys/passphrase")).expect("readable");
    let session = it.bea.session_cookie().expect("a session");
    let session = session.split_once('=').expect("a value").1.to_owned();
    let secrets = [
        ("the forge's token", it.token.clone()),
        ("the webhook's secret", it.integration.webhook_secret.clone()),
        ("an API key", key.clone()),
        ("a session", session),
        ("an invitation", invitation.clone()),
        ("the passphrase", passphrase.trim().to_owned()),
    ];
    for (what, secret) in &secrets {
        assert!(secret.len() >= 16, "{what} is worth looking for");
    }

    // The forge refuses, breaks and lies.
    let change = it.open("feature", "main");
    let request = it.pending(&change, "main").await;
    it.bea.approve(&request).await;
    it.expect_status(&change.head, "main", "success");
    let bodies = [
        json!({"kind": "gitlab", "name": "Other", "base_url": "http://127.0.0.1:9", "token": it.token}),
        json!({"kind": "gitlab", "name": it.token, "base_url": "ftp://x", "token": it.token}),
        json!({"kind": "gitlab", "name": "Other", "base_url": it.gitlab.base_url(), "token": format!("{}x", it.token)}),
        json!({"kind": "nothing", "token": it.token}),
    ];
    for body in bodies {
        answers.push(it.ada.post("/api/v1/integrations", &body).await);
    }
    // Bad calls with good secrets in them.
    answers.push(ci.post("/api/v1/approvals/request", &json!({"action": 5})).await);
    answers.push(ci.get("/api/v1/journal").await);
    answers.push(ci.get(&format!("/api/v1/approvals/{request}x")).await);
    answers.push(
        it.appliance
            .api()
            .with_key(&format!("{key}x"))
            .get("/api/v1/approvals")
            .await,
    );
    for body in [
        json!({"token": invitation, "name": ["wrong"]}),
        json!({"token": format!("{invitation}x")}),
        json!({"token": invitation, "surprise": true}),
    ] {
        answers.push(it.appliance.api().post("/api/v1/enrolment/options", &body).await);
    }
    let hook = it.integration.webhook_url.clone();
    for headers in [
        vec![
            ("x-gitlab-token", it.integration.webhook_secret.as_str()),
            ("x-gitlab-event", "Push Hook"),
        ],
        vec![
            ("x-gitlab-token", "wrong"),
            ("x-gitlab-event", "Merge Request Hook"),
        ],
    ] {
        answers.push(
            it.appliance
                .api()
                .send("POST", &hook, &headers, Some(b"{\"broken\":".to_vec()))
                .await,
        );
    }
    for path in [
        "/api/v1/integrations",
        "/api/v1/api-keys",
        "/api/v1/people",
        "/api/v1/me",
        "/dashboard",
        "/dashboard/integrations/gitlab",
        "/dashboard/api-keys",
        "/dashboard/people",
        "/dashboard/audit",
        "/api/v1/journal?limit=1000",
        "/dashboard/settings/backup",
        "/dashboard/settings/general",
        "/dashboard/settings/signing-keys",
        "/dashboard/settings/security",
        "/dashboard/set-up/signing-key",
    ] {
        answers.push(it.ada.get(path).await);
    }
    // A host that asks for what it must not, and a backup.
    let backup = it.appliance.dir().join("all.sabackup");
    let (_, out, err) = it
        .appliance
        .cli(&["backup", "create", backup.to_str().expect("UTF-8")])
        .await;
    let mut said = format!("{out}{err}");
    for arguments in [
        &["keys", "revoke", "x", "--reason", "y"][..],
        &["keys", "rotate"],
        &["config", "show"],
    ] {
        let (_, out, err) = it.appliance.cli(arguments).await;
        said.push_str(&out);
        said.push_str(&err);
    }
    // A start that fails with the right passphrase at hand.
    it.appliance.stop().await;
    let log = it.appliance.data_dir().join("keys/log.pem");
    let good = fs::read(&log).expect("readable");
    fs::write(
        &log,
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .expect("written");
    let failure = it.appliance.try_restart().await.expect_err("refused");
    assert!(!failure.log.is_empty());
    fs::write(&log, good).expect("written");
    it.appliance.restart().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    it.appliance.stop().await;

    let mut files = Vec::new();
    all_files(it.appliance.dir(), &mut files);
    assert!(files.len() >= 7, "{files:?}");
    for (what, secret) in &secrets {
        let forms = [secret.clone().into_bytes(), STANDARD.encode(secret).into_bytes()];
        for form in &forms {
            for path in &files {
                let allowed = *what == "the passphrase" && path.ends_with("keys/passphrase");
                let bytes = fs::read(path).expect("readable");
                assert!(
                    allowed || !holds(&bytes, form),
                    "{what} stands in {}",
                    path.display()
                );
            }
            for answer in &answers {
                assert!(
                    !holds(&answer.body, form),
                    "{what} stands in an answer: {answer:?}"
                );
            }
            assert!(!holds(said.as_bytes(), form), "{what} was printed");
        }
    }
    // The look itself finds what is there.
    let own = it.appliance.data_dir().join("keys/passphrase");
    assert!(holds(&fs::read(own).expect("readable"), secrets[5].1.as_bytes()));
}
