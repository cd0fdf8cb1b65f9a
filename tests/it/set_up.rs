//! Setting up step by step, over plain forms: where it goes on, what is refused, what opens a step again, and where the
//! settings say they come from.

use crate::support::appliance::Answer;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::person::Person;
use crate::support::person::text;

const ALL: [&str; 7] = [
    "passkey",
    "public-url",
    "tls",
    "signing-key",
    "forge",
    "policy",
    "approver",
];

/// What an admin says of a step, as a browser without any script sends it.
async fn say(who: &Person, origin: &str, step: &str, form: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let path = format!("/dashboard/set-up/{step}");
    who.send_bytes("POST", &path, &headers, Some(form.as_bytes().to_vec()))
        .await
}

/// Where the set-up goes on.
async fn goes_on(who: &Person) -> String {
    let answer = who.get("/dashboard/set-up").await;
    match answer.status {
        303 => answer.header("location").expect("a place").to_owned(),
        _ => answer.expect_page(),
    }
}

impl Answer {
    /// The page's first heading.
    fn expect_page(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let page = self.text();
        let (_, rest) = page.split_once("<h1>").expect("a heading");
        rest.split("</h1>").next().unwrap_or_default().to_owned()
    }
}

async fn fingerprint(who: &Person) -> String {
    let keys = who.get("/.well-known/signedapproval/keys.json").await.json();
    let keys = keys["keys"].as_array().expect("keys").clone();
    let mut signing = keys
        .iter()
        .filter(|it| it["use"] == "credential" && it["until_seq"].is_null());
    text(signing.next_back().expect("one signs"), "keyid")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_set_up_goes_on_where_it_was_left_and_says_what_is_wrong() {
    let mut appliance = Appliance::start(Options::default()).await;
    let claim = appliance.api().get("/setup").await.text();
    assert!(
        claim.contains(&appliance.public_url()) && claim.contains("Is this its address for good?"),
        "{claim}"
    );
    let ada = Person::set_up(&appliance, "Ada").await;
    let origin = appliance.origin();
    assert_eq!(goes_on(&ada).await, "/dashboard/set-up/public-url");
    for (at, step) in ALL.iter().enumerate() {
        let page = ada.get(&format!("/dashboard/set-up/{step}")).await.text();
        let label = format!("Step {} of 7 · 2 done", at + 1);
        assert!(page.contains(&label), "{step}: {page}");
    }
    // An address is refused for what it is, before anybody sets it.
    let odd = ada
        .get("/dashboard/set-up/public-url?address=https://192.0.2.7")
        .await
        .text();
    assert!(
        odd.contains("a host name, not an address: passkeys belong to names"),
        "{odd}"
    );
    let good = ada
        .get("/dashboard/set-up/public-url?address=https://approvals.example/")
        .await
        .text();
    assert!(good.contains("would do"), "{good}");

    assert_eq!(
        say(&ada, &origin, "public-url", "word=confirmed").await.status,
        303
    );
    // Nothing is to be done about TLS in an evaluation.
    assert_eq!(goes_on(&ada).await, "/dashboard/set-up/signing-key");
    let key = fingerprint(&ada).await;
    let card = ada.get("/dashboard/set-up/signing-key").await.text();
    assert!(card.contains(&format!("{} {}", &key[..4], &key[4..8])), "{card}");
    for typed in ["", "12345678", &key[..8], &key[58..]] {
        let refused = say(
            &ada,
            &origin,
            "signing-key",
            &format!("word=confirmed&typed={typed}"),
        )
        .await;
        assert_eq!(refused.status, 422, "{typed}");
        let page = refused.text();
        assert!(page.contains("Those are not the last 8 characters"), "{page}");
        assert!(
            page.contains(&format!("value=\"{typed}\"")),
            "what was typed stays: {page}"
        );
    }
    let end = key[56..].to_uppercase();
    let written = say(
        &ada,
        &origin,
        "signing-key",
        &format!("word=confirmed&typed={}+{}", &end[..4], &end[4..]),
    )
    .await;
    assert_eq!(written.status, 303, "{written:?}");
    assert_eq!(ada.journal("set_up.answered").await.len(), 2);

    // Put off is not done, and is passed over.
    assert_eq!(say(&ada, &origin, "forge", "word=later").await.status, 303);
    assert_eq!(goes_on(&ada).await, "/dashboard/set-up/policy");
    assert_eq!(say(&ada, &origin, "policy", "word=confirmed").await.status, 303);
    assert_eq!(goes_on(&ada).await, "/dashboard/set-up/approver");
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    assert_eq!(goes_on(&ada).await, "Set up, but for what you put off");
    let overview = ada.get("/dashboard").await.text();
    assert!(
        overview.contains("6 of 7") && overview.contains("Put off for now."),
        "{overview}"
    );
    assert_eq!(say(&ada, &origin, "forge", "word=not_needed").await.status, 303);
    assert_eq!(goes_on(&ada).await, "All set up");
    assert!(!ada.get("/dashboard").await.text().contains("Getting started"));

    // It survives a restart, and another key has to be written down anew.
    appliance.restart().await;
    assert_eq!(goes_on(&ada).await, "All set up");
    let (code, out, err) = appliance.cli(&["keys", "rotate", "--use", "credential"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(goes_on(&ada).await, "/dashboard/set-up/signing-key");
    let spent = say(
        &ada,
        &origin,
        "signing-key",
        &format!("word=confirmed&typed={end}"),
    )
    .await;
    assert_eq!(spent.status, 422, "the old key's end");

    // Only admins answer, only from here, and only what the step takes.
    assert_eq!(bea.get("/dashboard/set-up").await.status, 403);
    assert_eq!(say(&bea, &origin, "policy", "word=confirmed").await.status, 403);
    assert_eq!(
        say(&ada, "https://elsewhere.example", "policy", "word=later")
            .await
            .status,
        403
    );
    for (step, form) in [
        ("passkey", "word=later"),
        ("approver", "word=confirmed"),
        ("tls", "word=not_needed"),
    ] {
        let refused = say(&ada, &origin, step, form).await;
        assert_eq!(refused.status, 422, "{step} {form}: {refused:?}");
    }
    assert_eq!(say(&ada, &origin, "policy", "").await.status, 400);
    assert_eq!(ada.get("/dashboard/set-up/nothing").await.status, 404);
    appliance.assert_journal_verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_says_where_it_comes_from_and_that_it_is_read_only() {
    let config = "log.level = \"info\"\nsecurity.session_idle = \"45m\"\nbackup.keep = 3\n";
    let options = Options::default()
        .config(config)
        .env("SIGNEDAPPROVAL_LIMITS__CONNECTIONS", "900");
    let appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let ines = ada.bring_in(&appliance, "Ines", &["auditor"]).await;
    let all = ada.get("/api/v1/settings").await.expect(200);
    let pages = ["general", "tls", "signing-keys", "backup", "security"];
    let mut texts = Vec::new();
    for page in pages {
        let answer = ines.get(&format!("/dashboard/settings/{page}")).await;
        assert_eq!(answer.status, 200, "{page}");
        assert!(answer.text().contains("read-only here"), "{page}");
        texts.push(answer.text());
    }
    for it in all["items"].as_array().expect("settings") {
        let key = text(it, "key");
        let rows = texts
            .iter()
            .filter(|page| page.contains(&format!("<dt class=\"mono\">{key}")));
        assert_eq!(rows.count(), 1, "{key} stands on one page");
    }
    let (general, security, backup) = (&texts[0], &texts[4], &texts[3]);
    for (page, words) in [
        (general, "config.toml, line 1"),
        (
            general,
            "set by the environment variable SIGNEDAPPROVAL_LIMITS__CONNECTIONS",
        ),
        (general, "set by the flag --public-url"),
        (general, "the default: nothing sets it"),
        (security, "config.toml, line 2"),
        (security, "45m"),
        (backup, "config.toml, line 3"),
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    for page in ["log-sinks", "notifications", "retention"] {
        let shown = ada.get(&format!("/dashboard/settings/{page}")).await.text();
        assert!(shown.contains("is recorded in the journal"), "{page}");
    }
    let about = ines.get("/dashboard/settings/about").await.text();
    let program = appliance.api().get("/api/v1/cli").await.json();
    assert!(about.contains(&text(&program["items"][0], "sha256")), "{about}");
    assert!(about.contains("ed25519-dalek"), "{about}");
    let keys = ines.get("/dashboard/settings/signing-keys").await.text();
    assert!(
        !keys.contains("/api/v1/keys/rotate"),
        "an auditor changes no key: {keys}"
    );
    // What moved is found by its old address.
    for (old, new) in [("server", "general"), ("backups", "backup")] {
        let moved = ada.get(&format!("/dashboard/{old}")).await;
        assert_eq!(moved.status, 307, "{moved:?}");
        assert_eq!(
            moved.header("location"),
            Some(format!("/dashboard/settings/{new}").as_str())
        );
    }
    let outsider = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    assert_eq!(outsider.get("/dashboard/settings").await.status, 403);
}
