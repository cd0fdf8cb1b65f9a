//! The pages of a server that is sealed, lacks entries, found something changed, or does less than all its work, where each text
//! from outside is an attack: no script of theirs runs and nothing of theirs is there. Skipped, visibly, where chromium is not
//! installed.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::browser::can_run;
use crate::degraded::{change_entry, wait_for_reasons};
use crate::pages::Visit;
use crate::pages::accessible::Axe;
use crate::pages::every_page::{Findings, joined};
use crate::pages::hostile::{cut, fit_for_names, marks, packed, payloads};
use crate::pages::texts;
use crate::rollback::{agree, copy, put_back, witnessed};
use crate::sinks::{add, up_to_date};
use crate::support::appliance::{Appliance, Options, Until};
use crate::support::browser::Browser;
use crate::support::person::{Person, text};
use crate::support::receivers::{Kind, Receiver};

const SOON: Duration = Duration::from_secs(30);

/// As a file's name takes it.
fn as_file(text: &str) -> String {
    text.replace('/', "\u{2215}")
}

async fn shown(browser: &Browser, css: &str) -> BTreeSet<String> {
    let script = "return [...document.querySelectorAll(arguments[0])]\
        .flatMap((it) => [...it.textContent.matchAll(/pwned=\\d\\d/g)].map(([mark]) => mark))";
    texts(&browser.script(script, &[json!(css)]).await)
        .into_iter()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_a_server_that_is_unwell_lets_an_attack_through() {
    let name = "no_page_of_a_server_that_is_unwell_lets_an_attack_through";
    if !can_run(name) {
        return;
    }
    let started = Instant::now();
    let axe = Axe::installed(name);
    let axe = axe.as_ref();
    let mut found = Findings::default();
    let names = packed(fit_for_names(), 190);
    let witness = as_file(&fit_for_names()[10]);
    // Where no backup can be made: there is a file.
    let blocked = as_file(&fit_for_names()[11]);
    let config = "[sinks]\ndirectory = \"{dir}\"\nstuck_after = \"1s\"\n[backup]\nevery = \"1h\"\n";
    let options = Options::default()
        .config(config)
        .env("SIGNEDAPPROVAL_SINKS__WITNESS", &format!("{{dir}}/{witness}"))
        .env("SIGNEDAPPROVAL_BACKUP__DIRECTORY", &format!("{{dir}}/{blocked}"));
    let mut appliance = Appliance::start(options).await;
    for it in [
        "the backup could not be made",
        "a call failed inside",
        "a log sink is stuck",
    ] {
        appliance.expect_error(it);
    }
    let ada = Person::set_up(&appliance, &names[0]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let waits = ci
        .open_request(&json!({"action": packed(payloads(), 250)[0], "ttl_seconds": 86_400}))
        .await;
    let kept = Receiver::start(Kind::Webhook);
    let keeper = json!({"kind": "webhook", "name": names[1], "url": kept.url(), "read_back": true});
    let keeper = add(&ada, &keeper).await;
    kept.with(|it| it.secret = text(&keeper, "signing_secret"));
    let file = text(
        &add(&ada, &json!({"kind": "file", "name": "File", "file": "f"})).await,
        "id",
    );
    let url = text(
        &ada.invite("Olga", &["admin", "auditor", "approver"]).await,
        "invite_url",
    );
    let browser = joined(&url).await;
    let base = appliance.base();

    // Log sinks that take nothing, by their names, and a backup that can't be made, by its place.
    let closed = Receiver::start(Kind::Hec {
        token: "another".into(),
        acknowledges: false,
    });
    let mut stuck = Vec::new();
    for name in packed(fit_for_names(), 180) {
        let made =
            json!({"kind": "splunk_hec", "name": format!("{name}."), "url": closed.url(), "token": "this"});
        stuck.push((text(&add(&ada, &made).await, "id"), name));
    }
    stuck.sort();
    let folder = appliance.dir().join(&blocked);
    let _gone = fs::remove_dir_all(&folder);
    fs::write(&folder, b"a file").expect("written");
    assert_eq!(ada.post("/api/v1/backups", &json!({})).await.status, 503);
    let places = [
        "/dashboard",
        "/dashboard/settings/general",
        "/dashboard/settings/log-sinks",
        "/dashboard/settings/diagnostics",
        "/dashboard/exceptions",
    ];
    let visits = |places: &[&str]| -> Vec<Visit> { places.iter().map(|it| Visit::of("", *it)).collect() };
    let mut seen = BTreeSet::new();
    for (at, (id, mine)) in stuck.iter().enumerate() {
        // Each in turn stands first among those that are named: the others went before it.
        let began = Instant::now();
        loop {
            browser.goto(&format!("{base}/dashboard")).await;
            let said = browser.text("main").await;
            if said.contains(&format!("take nothing: {mine}")) {
                break;
            }
            assert!(began.elapsed() < SOON, "{mine} is never named first: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        found.look(&browser, None, "overview, degraded", false).await;
        seen.extend(shown(&browser, "main").await);
        if at == 0 {
            found.visit(&browser, None, &base, &visits(&places)).await;
            // At the top of each page: what is said of the backup has no words from outside.
            let banner = browser.text(".evaluation[role=alert]").await;
            assert!(banner.contains("The newest backup could not be made"), "{banner}");
        }
        ada.delete(&format!("/api/v1/sinks/{id}")).await.expect(204);
    }
    let fit: BTreeSet<String> = marks();
    let hidden = 2;
    assert!(
        fit.difference(&seen).count() <= hidden,
        "never shown: {:?}",
        fit.difference(&seen)
    );

    // Something stored is not what was written.
    up_to_date(&ada, &file).await;
    up_to_date(&ada, &text(&keeper, "id")).await;
    let yesterday = appliance.dir().join("yesterday");
    appliance.stop().await;
    copy(appliance.data_dir(), &yesterday);
    appliance.restart().await;
    ada.create_group("lost", &[]).await;
    for id in [&file, &text(&keeper, "id")] {
        up_to_date(&ada, id).await;
    }
    witnessed(&appliance, &ada, &appliance.dir().join(&witness)).await;
    appliance.stop().await;
    change_entry(&appliance);
    appliance.expect_error("what is stored is not what was written");
    appliance.options.until = Until::Alive;
    appliance.restart().await;
    wait_for_reasons(&appliance, &["storage_damaged"]).await;
    let request = format!("/a/{waits}");
    found
        .visit(
            &browser,
            None,
            &base,
            &visits(&["/dashboard", "/a/", &request, "/dashboard/people"]),
        )
        .await;
    let said = browser.text("body").await;
    assert!(said.contains("journal entry 2"), "{said}");
    appliance.stop().await;

    // A journal that lacks entries, by what stands in files of any name, in a log sink and in the witness.
    put_back(&appliance, &yesterday);
    let directory = appliance.dir().to_owned();
    let jsonl = fs::read_dir(&directory)
        .expect("the directory")
        .map(|it| it.expect("an entry").path());
    let jsonl = jsonl
        .filter(|it| it.to_string_lossy().contains(".jsonl"))
        .max()
        .expect("the sink's file");
    for it in payloads() {
        fs::copy(&jsonl, directory.join(format!("{}.jsonl", as_file(&it)))).expect("copied");
    }
    appliance.expect_error("the journal does not fit the checkpoint");
    appliance.restart().await;
    assert_eq!(agree(&ada).await.expect(200)["confirmed"], 1);
    let evil: String = url::form_urlencoded::byte_serialize(payloads()[1].as_bytes()).collect();
    let odd = format!("/?{evil}#{evil}");
    found.visit(&browser, axe, &base, &visits(&["/"])).await;
    found
        .visit(&browser, None, &base, &visits(&[&odd, &format!("/{evil}")]))
        .await;
    browser.goto(&format!("{base}/")).await;
    let (places, who) = (
        shown(&browser, "main .rows").await,
        shown(&browser, "main > .notice").await,
    );
    assert!(
        marks().is_subset(&places),
        "never shown: {:?}",
        marks().difference(&places)
    );
    assert!(who.len() >= 2, "the name of whoever agreed: {who:?}");
    let said = browser.text("main .rows").await;
    assert!(
        said.contains("the log sink ") && said.contains(&witness),
        "{said}"
    );
    found.blocked(&browser).await;
    drop((browser, appliance));

    // Sealed: whoever comes has nothing but the address and what they type, and none of it comes back as anything else.
    let options = Options {
        public_url: "https://approvals.example".into(),
        until: Until::Alive,
        ..Options::default()
    };
    let mut appliance = Appliance::start(options).await;
    let base = appliance.base();
    let stranger = Browser::start().await;
    stranger.device(1280, 900, 1, false).await;
    let odd = format!("/unseal?{evil}#{evil}");
    found.visit(&stranger, axe, &base, &visits(&["/unseal"])).await;
    found.visit(&stranger, None, &base, &visits(&[&odd])).await;
    let typed = cut(&payloads().join(" "), 3_000);
    let type_it =
        "document.querySelectorAll('input[type=password]').forEach((it) => (it.value = arguments[0]))";
    stranger.script(type_it, &[json!(typed)]).await;
    stranger.click("form button").await;
    stranger.wait_for_text("The link is not the one").await;
    found
        .look(&stranger, None, "sealed, a first passphrase refused", false)
        .await;
    let link = fs::read_to_string(appliance.data_dir().join("unseal-url")).expect("the link");
    let token = link.split_once('#').expect("a token").1;
    let good = "correct horse battery staple";
    let chosen = json!({"passphrase": good, "again": good, "token": token});
    appliance.api().post("/api/v1/unseal", &chosen).await.expect(200);
    wait_for_reasons(&appliance, &[]).await;
    appliance.restart().await;
    wait_for_reasons(&appliance, &["sealed"]).await;
    found.visit(&stranger, axe, &base, &visits(&["/unseal"])).await;
    found
        .visit(&stranger, None, &base, &visits(&[&odd, &format!("/{evil}")]))
        .await;
    // A page that somebody kept the address of leads to the one there is.
    stranger.goto(&format!("{base}/dashboard/audit")).await;
    stranger.wait_for_text("This server is sealed").await;
    stranger.script(type_it, &[json!(typed)]).await;
    stranger.click("form button").await;
    stranger.wait_for_text("It does not open the keys").await;
    found.look(&stranger, None, "sealed, refused", false).await;
    found.blocked(&stranger).await;
    println!("{} looks, {:.1?}", found.pages, started.elapsed());
    found.assert_none();
}
