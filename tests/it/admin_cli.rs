//! The command line on the appliance's own host, as an operator types it: exit codes, JSON, files and their rights.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::new_dir;
use crate::support::appliance::run;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

fn parsed(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("no JSON: {e}: {out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_made_on_the_host_enrols_a_person() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let arguments = [
        "admin",
        "invite",
        "--name",
        "Bea",
        "--email",
        "bea@example.test",
        "--role",
        "approver,auditor",
        "--json",
    ];
    let (code, out, err) = appliance.cli(&arguments).await;
    assert_eq!(code, 0, "{out}{err}");
    let made = parsed(&out);
    let mut members: Vec<&String> = made.as_object().expect("an object").keys().collect();
    members.sort();
    assert_eq!(members, ["expires_at", "person", "url"]);
    let url = text(&made, "url");
    assert!(
        url.starts_with(&format!("{}/enrol#", appliance.public_url())),
        "{url}"
    );
    let bea = Person::enrol(&appliance, "Bea", &url).await;
    assert_eq!(bea.id(), made["person"]);
    let mut roles = bea.roles();
    roles.sort();
    assert_eq!(roles, ["approver", "auditor"]);

    let arguments = [
        "admin",
        "invite",
        "--name",
        "Cleo",
        "--email",
        "cleo@example.test",
        "--role",
        "approver",
    ];
    let (code, out, err) = appliance.cli(&arguments).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("/enrol#"), "{out}");
    assert!(!out.contains('█'), "no code unasked where nobody looks: {out}");
    let (code, out, err) = appliance.cli(&[&arguments[..], &["--qr"]].concat()).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("/enrol#") && out.lines().filter(|it| it.contains('█')).count() > 15,
        "{out}"
    );
    // Who has no passkey yet is invited again and stays one person; who has one is not.
    let (code, again, err) = appliance.cli(&arguments).await;
    assert_eq!(code, 0, "{err}");
    assert_ne!(out, again, "the link is a new one");
    assert_eq!(ada.journal("person.created").await.len(), 3, "Ada, Bea, Cleo");
    let enrolled = [
        "admin",
        "invite",
        "--name",
        "Bea",
        "--email",
        "BEA@example.test",
        "--role",
        "admin",
    ];
    let (code, out, err) = appliance.cli(&enrolled).await;
    assert_ne!(code, 0, "an e-mail is one person's: {out}{err}");
    for wrong in [["--role", "emperor"], ["--role", ""]] {
        let arguments = [
            &["admin", "invite", "--name", "D", "--email", "d@example.test"][..],
            &wrong,
        ]
        .concat();
        let (code, out, err) = appliance.cli(&arguments).await;
        assert_eq!(code, 2, "{wrong:?}: {out}{err}");
    }

    let (code, out, err) = appliance.cli(&["admin", "people", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    for name in ["Ada", "Bea", "Cleo"] {
        assert!(out.contains(name), "{out}");
    }
    parsed(&out);
    let (code, out, _) = appliance.cli(&["admin", "people"]).await;
    assert_eq!(code, 0);
    assert!(out.contains(&ada.id()) && out.contains(&bea.id()), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_on_the_host_works_and_its_owner_cannot_approve() {
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let owner = bea.id();
    let arguments = [
        "admin", "api-key", "create", "--name", "CI", "--scope", "request", "--owner", &owner, "--json",
    ];
    let (code, out, err) = appliance.cli(&arguments).await;
    assert_eq!(code, 0, "{out}{err}");
    let made = parsed(&out);
    let mut members: Vec<&String> = made.as_object().expect("an object").keys().collect();
    members.sort();
    assert_eq!(members, ["callback_secret", "expires_at", "id", "key"]);
    let key = text(&made, "key");
    assert!(key.starts_with("sa_"), "{key}");
    let ci = appliance.api().with_key(&key);
    let id = ci.open_request(&json!({"action": "a"})).await;
    assert_problem!(bea.decide(&id, "approve", None).await, 403, "self-approval");
    ada.approve(&id).await;
    assert!(!appliance.log().contains(&key), "the key stands in no log");
    let bytes = files_of(&appliance);
    assert!(!contains(&bytes, key.as_bytes()), "a key is stored hashed");

    let bad = [
        "admin",
        "api-key",
        "create",
        "--name",
        "CI",
        "--scope",
        "everything",
    ];
    let (code, _, _) = appliance.cli(&bad).await;
    assert_eq!(code, 2);
    let nobody = [
        "admin",
        "api-key",
        "create",
        "--name",
        "CI",
        "--scope",
        "request",
        "--owner",
        "nobody@example.test",
    ];
    let (code, _, _) = appliance.cli(&nobody).await;
    assert_ne!(code, 0);
}

fn files_of(appliance: &Appliance) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(appliance.data_dir())
        .expect("a data directory")
        .flatten()
    {
        if entry.file_type().is_ok_and(|it| it.is_file()) {
            all.extend(fs::read(entry.path()).expect("readable"));
        }
    }
    all
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|it| it == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_stands_in_the_data_in_clear() {
    let it = crate::support::gated::Gated::start().await;
    let all = files_of(&it.appliance);
    assert!(all.len() > 4096, "the data directory has data");
    for secret in [&it.token, &it.integration.webhook_secret] {
        assert!(
            !contains(&all, secret.as_bytes()),
            "a forge secret stands there in clear"
        );
    }
    let cookie = it.ada.session_cookie().expect("signed in");
    let token = cookie.split_once('=').expect("a cookie").1;
    assert!(
        !contains(&all, token.as_bytes()),
        "a session token stands there in clear"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_shown_without_their_secrets() {
    let appliance = Appliance::start(Options::default()).await;
    let (code, out, err) = appliance.cli(&["keys", "show", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let shown = parsed(&out);
    let origin = text(&shown, "log_origin");
    assert!(
        origin.starts_with(&format!("localhost:{}/log/", appliance.port())),
        "{origin}"
    );
    let keys = shown["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 2, "{shown}");
    for key in keys {
        assert_eq!(text(key, "keyid").len(), 64, "{shown}");
        assert_eq!(key["backend"], "file", "{shown}");
    }
    assert_ne!(keys[0]["keyid"], keys[1]["keyid"], "two keys");
    for word in ["PRIVATE", "passphrase", "secret"] {
        assert!(!out.contains(word), "{out}");
    }
    let pem = appliance
        .api()
        .get("/.well-known/signedapproval/keys.json")
        .await
        .expect(200);
    for key in keys {
        assert!(
            pem["keys"]
                .as_array()
                .expect("keys")
                .iter()
                .any(|it| it["keyid"] == key["keyid"]),
            "published: {key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_secret_is_for_the_owner_alone() {
    let appliance = Appliance::start(Options::default()).await;
    let url = appliance.setup_url();
    assert!(
        url.starts_with(&format!("{}/setup#", appliance.public_url())),
        "{url}"
    );
    let token = url.split_once('#').expect("a fragment").1;
    assert!(token.len() >= 32, "a token that nobody guesses");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(
        mode(appliance.data_dir()),
        0o700,
        "nobody else looks into the data directory"
    );
    let keys = appliance.data_dir().join("keys");
    assert_eq!(mode(&keys) & 0o077, 0, "nor into the keys");
    let files: Vec<_> = fs::read_dir(&keys)
        .expect("keys")
        .flatten()
        .map(|it| it.path())
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        let content = fs::read(&file).expect("readable");
        assert!(
            !contains(&content, b"BEGIN PRIVATE KEY"),
            "{} is not encrypted",
            file.display()
        );
    }
    let again = fs::read_to_string(appliance.data_dir().join("setup-url")).expect("readable");
    assert_eq!(again.trim(), url);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_says_what_it_is() {
    let appliance = Appliance::start(Options::default()).await;
    let log = appliance.log();
    assert!(
        log.contains(&appliance.setup_url()),
        "the set-up link is printed: {log}"
    );
    assert_eq!(log.matches("/setup#").count(), 1, "once: {log}");
    assert!(log.to_lowercase().contains("evaluation"), "{log}");
    let page = appliance.api().get("/help").await.text();
    assert!(page.contains("Evaluation:"), "{page}");
    let nowhere = appliance.api().get("/nowhere").await;
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.text().contains("Evaluation:"), "{}", nowhere.text());
    let secure = Options {
        public_url: "https://sa.example".to_owned(),
        ..Options::default()
    };
    // A real address wants TLS or a proxy; whatever it answers, it never calls itself an evaluation.
    match Appliance::try_start(Options {
        until: crate::support::appliance::Until::Alive,
        ..secure
    })
    .await
    {
        Ok(real) => {
            assert!(!real.api().get("/help").await.text().contains("Evaluation:"));
            real.expect_error("");
        }
        Err(failure) => assert!(failure.code.is_some_and(|it| it != 0), "{failure:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_a_foreign_name_is_refused() {
    let options = Options {
        public_url: "http://sa.example".to_owned(),
        ..Options::default()
    };
    let Err(failure) = Appliance::try_start(options).await else {
        panic!("it serves passkeys over plain http")
    };
    assert!(failure.code.is_some_and(|it| it != 0), "{failure:?}");
    assert!(
        failure.log.contains("public_url") || failure.log.contains("http"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_tells_by_its_exit_code() {
    let mut appliance = Appliance::start(Options::default()).await;
    let (code, out, err) = appliance.cli(&["healthcheck"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(appliance.api().get("/healthz").await.status, 200);
    assert_eq!(appliance.api().get("/readyz").await.status, 200);
    appliance.kill9();
    let (code, _, err) = appliance.cli(&["healthcheck"]).await;
    assert_eq!(code, 1, "{err}");
    let (code, _, err) = appliance.cli(&["admin", "people"]).await;
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("serve"), "it says what to do: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_and_shown_with_their_origin() {
    let dir = new_dir();
    let file = dir.join("config.toml");
    let path = file.to_str().expect("UTF-8");
    let check = |text: &str| {
        fs::write(&file, text).expect("writable");
        run(&dir, &["config", "check", "--config", path], &[])
    };
    let (code, out, err) = check("public_url = \"https://sa.example\"\n\n[log]\nformat = \"json\"\n").await;
    assert_eq!(code, 0, "{out}{err}");
    for (what, text, line) in [
        (
            "unknown key",
            "public_url = \"https://sa.example\"\n\nsurprise = 1\n",
            "3",
        ),
        (
            "unknown section key",
            "[log]\nformat = \"json\"\ncolour = \"red\"\n",
            "3",
        ),
        (
            "wrong type",
            "public_url = \"https://sa.example\"\nlisten = 7\n",
            "2",
        ),
        (
            "no TOML",
            "public_url = \"https://sa.example\"\nlisten = = 7\n",
            "2",
        ),
    ] {
        let (code, out, err) = check(text).await;
        assert_eq!(code, 2, "{what}: {out}{err}");
        assert!(err.contains(line), "{what} names line {line}: {err}");
    }
    let (code, _, err) = check("[log]\nformat = \"loud\"\n").await;
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = check("public_url = \"ftp://sa.example\"\n").await;
    assert_eq!(code, 2, "{err}");
    let secret = "[keys]\npassphrase = \"hunter2hunter2\"\n";
    let (code, out, err) = check(secret).await;
    assert_eq!(code, 2, "secrets never stand in the file: {out}{err}");
    assert!(!err.contains("hunter2"), "{err}");

    fs::write(&file, "public_url = \"https://sa.example\"\n").expect("writable");
    let environment = [
        ("SIGNEDAPPROVAL_LOG__FORMAT", "json"),
        ("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple"),
    ];
    let arguments = ["config", "show", "--origin", "--config", path];
    let (code, out, err) = run(&dir, &arguments, &environment).await;
    assert_eq!(code, 0, "{out}{err}");
    let line = |name: &str| {
        out.lines()
            .find(|it| it.starts_with(name))
            .unwrap_or_else(|| panic!("no {name} in {out}"))
            .to_owned()
    };
    assert!(
        line("public_url").contains("https://sa.example") && line("public_url").contains("config.toml"),
        "{out}"
    );
    assert!(line("log.format").contains("json"), "{out}");
    assert!(line("log.format").contains("SIGNEDAPPROVAL_LOG__FORMAT"), "{out}");
    assert!(!out.contains("correct horse"), "{out}");
    let (code, _, err) = run(&dir, &["config", "check"], &[("SIGNEDAPPROVAL_SURPRISE", "1")]).await;
    assert_eq!(code, 2, "an unknown setting in the environment: {err}");
    fs::remove_dir_all(&dir).expect("the test's own directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subcommand_explains_itself() {
    let dir = new_dir();
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["verify", "--help"],
        &["admin", "--help"],
        &["admin", "invite", "--help"],
        &["admin", "api-key", "create", "--help"],
        &["admin", "people", "--help"],
        &["keys", "show", "--help"],
        &["config", "check", "--help"],
        &["config", "show", "--help"],
        &["healthcheck", "--help"],
        &["--version"],
    ] {
        let (code, out, err) = run(&dir, arguments, &[]).await;
        assert_eq!(code, 0, "{arguments:?}: {err}");
        assert!(!out.trim().is_empty(), "{arguments:?}");
    }
    let (code, _, _) = run(&dir, &["surprise"], &[]).await;
    assert_eq!(code, 2);
    fs::remove_dir_all(&dir).expect("the test's own directory");
}
