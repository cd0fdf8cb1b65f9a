//! What lasts and keeps the appliance from all of its work is told to everybody who has to know: monitors, the journal, pages.
//! Those of the disk and the clock are in `degraded`, the token's in `hsm`, the rollback in `rollback`.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::browser::{can_run, shoot};
use crate::support::appliance::{Appliance, Options, Until};
use crate::support::browser::Browser;
use crate::support::gated::{Gated, Hook};
use crate::support::monitor::{Monitor, is_over, journal_tells, page_says};
use crate::support::person::{Person, text};
use crate::support::receivers::{Kind, Receiver};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_sink_that_takes_nothing_is_told_until_it_does() {
    let settings = "[sinks]\nstuck_after = \"1s\"\nrequire = \"any\"\n";
    let (monitor, options) = Monitor::of(Options::default().config(settings));
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let mut receiver = Receiver::start(Kind::Datadog { key: "k".into() });
    let made = json!({ "kind": "datadog", "name": "Dog", "url": receiver.url(), "token": "k" });
    ada.post("/api/v1/sinks", &made).await.expect(201);
    appliance.expect_error("a log sink is stuck");
    receiver.stop();
    ada.create_group("something to send", &[]).await;
    // Decisions wait for a sink here, so the appliance is not ready without one.
    monitor.sees("sink_behind", "degraded").await;
    journal_tells(&ada, "sink_behind", 1, 0).await;
    page_says(&ada, "/dashboard", "Log sinks that take nothing: Dog").await;
    let ready = appliance.api().get("/readyz").await.expect(503);
    assert_eq!(ready["reasons"], json!(["sink_behind"]));
    // It lasts over a restart, and is not told twice.
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    monitor.sees("sink_behind", "degraded").await;
    receiver.go_on();
    is_over(&appliance, &monitor, &ada, "sink_behind").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_does_not_answer_is_told_until_it_does() {
    let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
    let (monitor, options) = Monitor::of(options);
    let it = Gated::start_in(options, Hook::Token, json!({})).await;
    let change = it.open("feature", "main");
    let request = it.pending(&change, "main").await;
    it.gitlab.go_away();
    monitor.sees("forge_unreachable", "warning").await;
    journal_tells(&it.ada, "forge_unreachable", 1, 0).await;
    page_says(&it.ada, "/dashboard", &it.gitlab.base_url()).await;
    // Approvals go on without it, and are told to it once it answers.
    let ready = it.appliance.api().get("/readyz").await.expect(200);
    assert_eq!(ready["warnings"], json!(["forge_unreachable"]));
    it.bea.approve(&request).await;
    it.gitlab.come_back();
    is_over(&it.appliance, &monitor, &it.ada, "forge_unreachable").await;
    it.expect_status_within(&change.head, "main", "success", Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_is_told_until_one_is_good_also_over_a_restart() {
    let (monitor, options) = Monitor::of(Options::default());
    let options = options
        .env("SIGNEDAPPROVAL_BACKUP__DIRECTORY", "{dir}/backups")
        .env("SIGNEDAPPROVAL_BACKUP__EVERY", "1h");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    // The first is made at the start; nothing is in its way.
    let started = std::time::Instant::now();
    while ada.journal("backup.written").await.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", appliance.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let folder = appliance.dir().join("backups");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"a file").unwrap();
    appliance.expect_error("the backup could not be made");
    appliance.expect_error("a call failed inside");
    assert_eq!(ada.post("/api/v1/backups", &json!({})).await.status, 503);
    monitor.sees("backup_failed", "warning").await;
    journal_tells(&ada, "backup_failed", 1, 0).await;
    page_says(&ada, "/dashboard", "The newest backup could not be made").await;
    appliance.restart().await;
    monitor.sees("backup_failed", "warning").await;
    fs::remove_file(&folder).unwrap();
    ada.post("/api/v1/backups", &json!({})).await.expect(201);
    is_over(&appliance, &monitor, &ada, "backup_failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_and_journal_are_told_that_a_start_waited_for_its_passphrase() {
    let (monitor, options) = Monitor::of(Options {
        public_url: "https://approvals.example".into(),
        until: Until::Alive,
        ..Options::default()
    });
    let mut appliance = Appliance::start(options).await;
    monitor.sees("sealed", "degraded").await;
    let passphrase = appliance.dir().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    let file = passphrase.to_str().unwrap().to_owned();
    // A file that others can read is refused before it is sent anywhere.
    let unseal = ["keys", "unseal", "--passphrase-file", &file];
    let (code, _, err) = appliance.cli(&unseal).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("0644"), "{err}");
    private(&passphrase);
    let (code, out, err) = appliance.cli(&unseal).await;
    assert_eq!(code, 0, "{out}{err}");
    monitor.no_longer_sees("sealed").await;
    let (code, _, err) = appliance.cli(&unseal).await;
    assert_eq!(code, 2, "it is not sealed any more: {err}");
    assert!(err.contains("not sealed"), "{err}");
    let ada = Person::set_up(&appliance, "Ada").await;
    journal_tells(&ada, "sealed", 1, 1).await;
    let told = ada.journal("condition.began").await;
    assert!(
        text(&told[0]["data"], "detail").contains("without its keys' passphrase"),
        "{told:?}"
    );
    appliance.stop().await;
}

fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What people see of it, on a desk and a phone, in the light and in the dark.
#[tokio::test(flavor = "multi_thread")]
async fn pages_say_what_is_wrong_on_every_screen() {
    if !can_run("pages_say_what_is_wrong_on_every_screen") {
        return;
    }
    let options = Options::default()
        .env("SIGNEDAPPROVAL_BACKUP__DIRECTORY", "{dir}/backups")
        .env("SIGNEDAPPROVAL_BACKUP__EVERY", "1h");
    let mut appliance = Appliance::start(options).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = ada.invite("Dora", &["admin", "approver"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    ada.post("/api/v1/backups", &json!({})).await.expect(201);
    browser
        .goto(&format!("{}/dashboard/settings/backup", appliance.public_url()))
        .await;
    browser.wait_for_text("The last good one").await;
    shoot(&browser, "backups").await;

    // More room than any disk has is asked for.
    appliance
        .options
        .environment
        .push(("SIGNEDAPPROVAL_STORAGE__RESERVE_MIB".into(), "1000000000".into()));
    appliance.options.until = Until::Alive;
    appliance.expect_error("the disk is nearly full");
    appliance.restart().await;
    for (path, name) in [("/", "degraded-queue"), ("/dashboard", "degraded-dashboard")] {
        page_says(&ada, "/dashboard", "MiB are free").await;
        browser.goto(&format!("{}{path}", appliance.public_url())).await;
        browser.wait_for_text("MiB are free").await;
        shoot(&browser, name).await;
    }
    assert!(browser.csp_violations().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sealed_page_is_whole_on_every_screen() {
    if !can_run("the_sealed_page_is_whole_on_every_screen") {
        return;
    }
    let options = Options {
        public_url: "https://approvals.example".into(),
        until: Until::Alive,
        ..Options::default()
    };
    let mut appliance = Appliance::start(options).await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    let link = fs::read_to_string(appliance.data_dir().join("unseal-url")).unwrap();
    let token = link.split_once('#').unwrap().1.to_owned();
    browser
        .goto(&format!("{}/unseal#{token}", appliance.base()))
        .await;
    browser.wait_for_text("Choose the passphrase").await;
    shoot(&browser, "unseal-first").await;
    let chosen = json!({
        "passphrase": "correct horse battery staple", "again": "correct horse battery staple", "token": token,
    });
    appliance.api().post("/api/v1/unseal", &chosen).await.expect(200);
    appliance.restart().await;
    browser.goto(&format!("{}/unseal", appliance.base())).await;
    browser.wait_for_text("This server is sealed").await;
    shoot(&browser, "unseal").await;
    assert!(browser.csp_violations().await.is_empty());
}
