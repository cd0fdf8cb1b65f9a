//! A journal that is older than, or another one than, what stands outside the data directory is not gone on with.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::backups::{create, restore};
use crate::browser::can_run;
use crate::browser::shoot;
use crate::sinks::add;
use crate::sinks::up_to_date;
use crate::support::appliance::Answer;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::Until;
use crate::support::browser::Browser;
use crate::support::monitor::Monitor;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;
use crate::support::receivers::Kind;
use crate::support::receivers::Receiver;

const SOON: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(30);

pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(status.expect("cp starts").success());
}

pub fn put_back(appliance: &Appliance, copy_of: &Path) {
    fs::remove_dir_all(appliance.data_dir()).expect("removed");
    copy(copy_of, appliance.data_dir());
}

/// The second line of a checkpoint: how many entries it covers.
fn size_of(note: &str) -> u64 {
    note.lines().nth(1).unwrap_or_default().parse().unwrap_or(0)
}

/// Waits until the witness has every entry there is.
pub async fn witnessed(appliance: &Appliance, admin: &Person, path: &Path) -> String {
    let started = Instant::now();
    loop {
        let newest = admin.get("/.well-known/signedapproval/checkpoint").await.text();
        let note = fs::read_to_string(path).unwrap_or_default();
        if note == newest {
            return note;
        }
        assert!(
            started.elapsed() < SOON,
            "{note:?} is not {newest:?}\n{}",
            appliance.log()
        );
        tokio::time::sleep(POLL).await;
    }
}

pub async fn agree(who: &Person) -> Answer {
    let options = who
        .post("/api/v1/rollback/confirmation/options", &json!({}))
        .await;
    assert_eq!(options.status, 200, "{options:?}");
    let options = options.json();
    let credential = who.authenticator().get_lying(&options["publicKey"], &[]);
    let credential = credential.expect("the authenticator takes part");
    let body = json!({ "ceremony": options["ceremony"], "credential": credential });
    who.post("/api/v1/rollback/confirmation", &body).await
}

async fn is_ready(appliance: &Appliance) {
    let started = Instant::now();
    loop {
        if let Ok(answer) = appliance.api().try_send("GET", "/readyz", &[], None).await
            && answer.status == 200
        {
            return;
        }
        assert!(started.elapsed() < SOON, "{}", appliance.log());
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_data_is_not_gone_on_with_until_two_admins_agree() {
    let options = Options::default().config("[sinks]\nwitness = \"{dir}/witness\"\n");
    let (monitor, options) = Monitor::of(options);
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let dora = ada.bring_in(&appliance, "Dora", &["admin"]).await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("Pipeline", &["request"], &[]).await;
    let pipeline = appliance.api().with_key(&key.key);
    let waits = pipeline
        .open_request(&json!({ "action": "deploy", "project": "a" }))
        .await;
    let granted = pipeline
        .open_request(&json!({ "action": "deploy", "project": "b" }))
        .await;
    bea.approve(&granted).await;
    let (witness, yesterday) = (appliance.dir().join("witness"), appliance.dir().join("yesterday"));
    appliance.stop().await;
    copy(appliance.data_dir(), &yesterday);
    appliance.restart().await;
    // What an older copy would undo: the approval was used, the other request was rejected.
    pipeline
        .post(&format!("/api/v1/approvals/{granted}/consume"), &json!({}))
        .await
        .expect(200);
    bea.reject(&waits, "no").await;
    let lost = witnessed(&appliance, &ada, &witness).await;
    appliance.stop().await;
    put_back(&appliance, &yesterday);
    let before = fs::read(appliance.data_dir().join("journal.redb")).unwrap();

    appliance.expect_error("the journal does not fit the checkpoint");
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    let readiness = appliance.api().get("/readyz").await.expect(503);
    assert_eq!(readiness["reasons"], json!(["rollback_suspected"]));
    monitor.sees("rollback_suspected", "degraded").await;
    for (method, path) in [
        ("GET", "/api/v1/journal"),
        ("POST", "/api/v1/session/options"),
        ("POST", "/hooks/gitlab/int_0"),
        ("GET", "/.well-known/signedapproval/checkpoint"),
    ] {
        let answer = ada.send(method, path, Some(&json!({}))).await;
        assert_problem!(answer, 503, "rollback-suspected");
    }
    let refused = pipeline
        .post(&format!("/api/v1/approvals/{granted}/consume"), &json!({}))
        .await;
    assert_problem!(refused, 503, "rollback-suspected");
    let page = appliance.api().get("/").await;
    assert_eq!(page.status, 503);
    let missing = size_of(&lost);
    assert!(
        page.text().contains("witness") && page.text().contains(&format!("checkpoint of {missing} entries"))
    );
    assert_eq!(appliance.api().get("/a/").await.header("location"), Some("/"));

    // An approver does not count, one admin is one, and the host has nothing to say where there are two.
    assert_problem!(agree(&bea).await, 401, "ceremony-failed");
    let (code, _, err) = appliance.cli(&["admin", "accept-rollback"]).await;
    assert_eq!(code, 2, "{err}");
    assert_eq!(agree(&ada).await.expect(200)["confirmed"], 1);
    assert_problem!(agree(&ada).await, 403, "not-allowed");
    let after = fs::read(appliance.data_dir().join("journal.redb")).unwrap();
    assert_eq!(before.len(), after.len(), "nothing was written");
    // A restart forgets who agreed, and asks anew.
    appliance.restart().await;
    assert_eq!(agree(&dora).await.expect(200)["confirmed"], 1);
    assert_eq!(agree(&ada).await.expect(200)["confirmed"], 2);
    is_ready(&appliance).await;

    monitor.no_longer_sees("rollback_suspected").await;

    // It goes on in a new epoch that says so; whatever was waiting or granted has ended; nobody is signed in any more.
    assert_problem!(ada.get("/api/v1/me").await, 401, "unauthenticated");
    ada.sign_in().await;
    let accepted = ada.journal("exception.rollback_accepted").await;
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0]["data"]["found"][0]["checkpoint"], json!(lost));
    let by: Vec<&Value> = accepted[0]["data"]["by"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(by, [&json!("Dora"), &json!("Ada")]);
    let epochs = ada.journal("epoch.opened").await;
    assert_eq!((epochs.len(), &epochs[1]["data"]["epoch"]), (2, &json!(2)));
    assert_eq!(epochs[1]["data"]["previous"], json!(lost));
    assert_eq!(pipeline.request(&waits).await["status"], "cancelled");
    let used = pipeline
        .post(&format!("/api/v1/approvals/{granted}/consume"), &json!({}))
        .await;
    assert_problem!(used, 409, "not-usable");
    // Neither of the two looks it over.
    dora.sign_in().await;
    let review = format!("/api/v1/exceptions/{}/review", accepted[0]["seq"]);
    for admin in [&ada, &dora] {
        assert_problem!(
            admin.post(&review, &json!({ "note": "fine" })).await,
            403,
            "not-eligible"
        );
    }

    // From here on the journal is the one the witness knows, and what was given up is not asked about again.
    let witnessed_now = witnessed(&appliance, &ada, &witness).await;
    assert!(witnessed_now.lines().next().unwrap().ends_with("/2"));
    appliance.options.until = Until::Ready;
    appliance.restart().await;
    fs::write(&witness, &lost).unwrap();
    appliance.restart().await;
    ada.get("/api/v1/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sinks_hold_shows_a_journal_with_other_entries() {
    let settings = "[sinks]\ndirectory = \"{dir}\"\n";
    let mut appliance = Appliance::start(Options::default().config(settings)).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let hook = Receiver::start(Kind::Webhook);
    let file = text(
        &add(
            &ada,
            &json!({ "kind": "file", "name": "File", "file": "journal", "format": "ocsf" }),
        )
        .await,
        "id",
    );
    let made = json!({ "kind": "webhook", "name": "Keeper", "url": hook.url(), "read_back": true });
    let made = add(&ada, &made).await;
    hook.with(|it| it.secret = text(&made, "signing_secret"));
    for id in [&file, &text(&made, "id")] {
        up_to_date(&ada, id).await;
    }
    let yesterday = appliance.dir().join("yesterday");
    appliance.stop().await;
    copy(appliance.data_dir(), &yesterday);
    appliance.restart().await;
    ada.create_group("lost", &[]).await;
    for id in [&file, &text(&made, "id")] {
        up_to_date(&ada, id).await;
    }
    let told = hook.with(|it| it.records.len());
    appliance.stop().await;
    // Somebody goes on with the older copy where nobody looks, until it is as long as what is known outside.
    put_back(&appliance, &yesterday);
    let (listen, written) = (hook, appliance.dir().join("journal.jsonl"));
    let (stored, config) = (fs::read(&written).unwrap(), appliance.options.config.take());
    let mut listen = listen;
    listen.stop();
    appliance.restart().await;
    for n in 0..3 {
        ada.create_group(&format!("other {n}"), &[]).await;
    }
    appliance.stop().await;
    listen.go_on();
    assert_eq!(listen.with(|it| it.records.len()), told);
    fs::write(&written, stored).unwrap();
    appliance.options.config = config;

    appliance.expect_error("the journal does not fit the checkpoint");
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    appliance.api().get("/readyz").await.expect(503);
    let page = appliance.api().get("/").await.text();
    for place in ["journal.jsonl", "the log sink Keeper", "entries here are others"] {
        assert!(page.contains(place), "{place}: {page}");
    }
    // One admin alone: the appliance's host has to agree as well.
    assert_eq!(agree(&ada).await.expect(200)["confirmed"], 1);
    appliance.api().get("/readyz").await.expect(503);
    let (code, out, err) = appliance.cli(&["admin", "accept-rollback"]).await;
    assert_eq!(code, 0, "{out}{err}");
    is_ready(&appliance).await;
    ada.sign_in().await;
    let accepted = ada.journal("exception.rollback_accepted").await;
    assert_eq!(accepted[0]["data"]["found"].as_array().unwrap().len(), 2);
    assert_eq!(accepted[0]["data"]["by"][1]["name"], "the appliance's host");
    // The sinks get the rest of it and hold a checkpoint of the new epoch; the next start has nothing to ask.
    for id in [&file, &text(&made, "id")] {
        up_to_date(&ada, id).await;
    }
    appliance.options.until = Until::Ready;
    appliance.restart().await;
}

/// A restored backup is a rollback that somebody knows of, and yet what a sink holds shows how much is lost. Restored twice, the
/// second time a sink knows the epoch that the first had opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_and_a_sink_that_holds_more_end_in_one_new_epoch() {
    let options = Options::default().config("[sinks]\ndirectory = \"{dir}\"\n");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let sink = json!({ "kind": "file", "name": "File", "file": "journal", "format": "journal" });
    let sink = text(&add(&ada, &sink).await, "id");
    let key = ada.create_api_key("Pipeline", &["request"], &[]).await;
    let pipeline = appliance.api().with_key(&key.key);
    let unused = pipeline.open_request(&json!({ "action": "deploy" })).await;
    bea.approve(&unused).await;
    let (file, made) = create(&appliance, "today.sabackup").await;
    let kept = made["entries"].as_u64().unwrap();

    for (restored, epoch) in [(1, 2), (2, 3)] {
        ada.create_group(&format!("lost {restored}"), &[]).await;
        up_to_date(&ada, &sink).await;
        let newest = ada.get("/.well-known/signedapproval/checkpoint").await.text();
        assert!(size_of(&newest) > kept);
        appliance.stop().await;
        if restored == 2 {
            fs::remove_dir_all(appliance.dir().join("before")).unwrap();
            fs::write(appliance.data_dir().join("keys/passphrase"), "").unwrap();
        }
        let passphrase = appliance.options.environment.clone();
        restore(&mut appliance, &file, &[]).await;
        if restored == 2 {
            // The restored directory has no file with it: the setting of the first restore still holds.
            appliance.options.environment = passphrase;
        }
        appliance.expect_error("the journal does not fit the checkpoint");
        appliance.options.until = Until::Alive;
        appliance.restart().await;
        let page = appliance.api().get("/").await.text();
        assert!(
            page.contains("journal.jsonl") && page.contains(&format!("checkpoint of {}", size_of(&newest)))
        );
        // A restart before anybody agreed forgets nothing of the restore.
        appliance.restart().await;
        agree(&ada).await.expect(200);
        let (code, out, err) = appliance.cli(&["admin", "accept-rollback"]).await;
        assert_eq!(code, 0, "{out}{err}");
        is_ready(&appliance).await;

        // Both are said, in one new epoch that nobody has seen, and what was under way is over.
        assert_problem!(ada.get("/api/v1/me").await, 401, "unauthenticated");
        ada.sign_in().await;
        let restores = ada.journal("backup.restored").await;
        assert_eq!(
            (restores.len(), &restores[0]["data"]["entries"]),
            (1, &made["entries"])
        );
        let accepted = ada.journal("exception.rollback_accepted").await;
        assert_eq!(accepted.len(), 1);
        assert_eq!(accepted[0]["data"]["found"][0]["checkpoint"], json!(newest));
        let epochs = ada.journal("epoch.opened").await;
        assert_eq!(epochs.len(), 2, "one more: {epochs:?}");
        assert_eq!(epochs[1]["data"]["epoch"], epoch);
        let own = ada.get("/.well-known/signedapproval/checkpoint").await.text();
        assert!(
            own.lines().next().unwrap().ends_with(&format!("/{epoch}")),
            "{own}"
        );
        let used = pipeline
            .post(&format!("/api/v1/approvals/{unused}/consume"), &json!({}))
            .await;
        assert_problem!(used, 409, "not-usable");
        up_to_date(&ada, &sink).await;
        // The next start has nothing to ask, and nothing of the restore to do again.
        appliance.options.until = Until::Ready;
        appliance.restart().await;
        assert_eq!(ada.journal("backup.restored").await.len(), 1);
        assert_eq!(ada.journal("epoch.opened").await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_log_says_nothing() {
    let options = Options::default().config("[sinks]\nwitness = \"{dir}/witness\"\n");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let witness = appliance.dir().join("witness");
    let own = witnessed(&appliance, &ada, &witness).await;
    for odd in [
        "",
        "hello\n",
        "elsewhere.example/log/00000000/1\n9\nAAAA\n\n- x\n",
        "a/log/b/c\n",
    ] {
        fs::write(&witness, odd).unwrap();
        appliance.restart().await;
        witnessed(&appliance, &ada, &witness).await;
    }
    // One of this log by a key that it does not know: only somebody who may write there could make it, or the journal lacks
    // the key. Neither is gone on with.
    appliance.stop().await;
    let mut lines: Vec<String> = own.lines().map(str::to_owned).collect();
    lines[1] = "4".to_owned();
    fs::write(&witness, lines.join("\n") + "\n").unwrap();
    appliance.expect_error("the journal does not fit the checkpoint");
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    appliance.api().get("/readyz").await.expect(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_admins_go_on_in_the_browser() {
    if !can_run("two_admins_go_on_in_the_browser") {
        return;
    }
    let options = Options::default().config("[sinks]\nwitness = \"{dir}/witness\"\n");
    let mut appliance = Appliance::start(options).await;
    let dora = Person::set_up(&appliance, "Dora").await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = dora.invite("Ada", &["admin"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let yesterday = appliance.dir().join("yesterday");
    appliance.stop().await;
    copy(appliance.data_dir(), &yesterday);
    appliance.restart().await;
    dora.create_group("lost", &[]).await;
    witnessed(&appliance, &dora, &appliance.dir().join("witness")).await;
    appliance.stop().await;
    put_back(&appliance, &yesterday);
    appliance.expect_error("the journal does not fit the checkpoint");
    appliance.options.until = Until::Alive;
    appliance.restart().await;

    assert_eq!(agree(&dora).await.expect(200)["confirmed"], 1);
    browser
        .goto(&format!("{}/dashboard", appliance.public_url()))
        .await;
    browser.wait_for_text("The journal lacks entries").await;
    browser.wait_for_text("Dora").await;
    shoot(&browser, "rollback").await;
    browser.click("[data-answer]").await;
    is_ready(&appliance).await;
    browser.goto(&format!("{}/login", appliance.public_url())).await;
    browser.click("[data-login] button").await;
    browser
        .wait_until("location.pathname.startsWith('/dashboard')")
        .await;
    assert!(browser.csp_violations().await.is_empty());
}
