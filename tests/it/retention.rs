//! How long documents are kept, and their erasure afterwards: two admins, the tree as it was, bundles that say what is gone.

use std::fs;

use serde_json::Value;
use serde_json::json;
use signedapproval::signing::open_key_file;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::bundles::Files;
use crate::bundles::Scene;
use crate::bundles::pack;
use crate::bundles::resign;
use crate::bundles::unpack;
use crate::bundles::verify_py;
use crate::governance::confirm;
use crate::support::appliance::Appliance;
use crate::support::appliance::new_dir;
use crate::support::appliance::run;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// The newest entry of a type, once there is one.
async fn told(who: &Person, kind: &str) -> Value {
    let until = std::time::Instant::now() + SOON;
    loop {
        if let Some(last) = who.journal(kind).await.pop() {
            return last;
        }
        assert!(std::time::Instant::now() < until, "no {kind}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// `audit verify` of a bundle that has to hold; what it says.
async fn holds(scene: &Scene, name: &str) -> String {
    let (code, out) = scene.verify(name).await;
    assert_eq!(code, 0, "{name}: {out}");
    let (code, py) = verify_py(&scene.dir, name);
    assert_eq!(code, 0, "{name}: {py}");
    assert_eq!(
        out.contains("were erased, as the log's entries say"),
        py.contains("were erased, as the log's entries say"),
        "{out}{py}"
    );
    out
}

/// A bundle without its entries of erasures, signed by the appliance's own key all the same.
fn without_erasures(appliance: &Appliance, bundle: &[u8]) -> Vec<u8> {
    let keys = appliance.data_dir().join("keys");
    let passphrase = fs::read_to_string(keys.join("passphrase")).expect("evaluation keeps it");
    let key = open_key_file(&keys.join("credential.pem"), passphrase.trim()).expect("the key");
    let mut files: Files = unpack(bundle);
    files.retain(|(name, _)| !name.starts_with("erasures/"));
    resign(&mut files, &key);
    pack(&files)
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_go_after_their_time_when_two_admins_say_so_and_every_bundle_still_holds() {
    let mut scene = Scene::new().await;
    let ada = &scene.it.ada;
    let dora = ada.bring_in(&scene.it.appliance, "Dora", &["admin"]).await;
    let middle = jiff::Timestamp::now().to_string();
    let earlier = ["2000-01-01", middle.as_str()];
    let before = scene.export("before.zip", earlier, &[]).await;
    let credentials = ada
        .get(&format!("/api/v1/approvals/{}/credentials", scene.approved))
        .await;
    let credential = text(&credentials.expect(200)[0], "id");

    // Within the time of retention nothing goes, and nobody can say otherwise.
    let project = &scene.it.project;
    let whole = json!({ "scope": { "of": "project", "project": project } });
    let found = ada.post("/api/v1/erasures/preview", &whole).await.expect(200);
    assert_eq!(found["requests"], 0, "{found}");
    let reason = "Asked for by the works council.";
    let wanted = json!({ "scope": whole["scope"], "reason": reason });
    assert_problem!(ada.post("/api/v1/erasures", &wanted).await, 422, "invalid");
    let too_late = json!({ "scope": whole["scope"], "reason": reason, "before": middle });
    assert_problem!(ada.post("/api/v1/erasures", &too_late).await, 422, "invalid");
    let listed = ada.get("/api/v1/integrations").await;
    let integration = text(&items(&listed)[0], "id");
    let settings = format!("/api/v1/integrations/{integration}/projects/{project}");
    let shown = ada.get(&settings).await.expect(200);
    assert_eq!(shown["retention_days"], 400, "{shown}");
    let days = json!({ "days": 0, "reason": "A test bench keeps nothing." });
    ada.put(&format!("{settings}/retention"), &days).await.expect(200);
    let shown = ada.get(&settings).await.expect(200);
    assert_eq!(shown["retention_days"], 0, "{shown}");

    // What still gates a change, or waits, stays all the same.
    let found = ada.post("/api/v1/erasures/preview", &whole).await.expect(200);
    assert_eq!(
        (&found["requests"], &found["in_use"]),
        (&json!(0), &json!(2)),
        "{found}"
    );
    for branch in ["feature", "=cmd"] {
        let commit = Gated::commit_of_carl("more.rs");
        scene
            .it
            .gitlab
            .push(PROJECT, branch, scene.it.carl_account, &commit);
    }
    let gone = async |id: &str| {
        let one = json!({ "scope": { "of": "request", "request": id } });
        let found = ada.post("/api/v1/erasures/preview", &one).await.expect(200);
        found["requests"] == 1
    };
    let until = std::time::Instant::now() + SOON;
    while !(gone(&scene.approved).await && gone(&scene.rejected).await) {
        assert!(
            std::time::Instant::now() < until,
            "new heads leave the old requests behind"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    // One admin alone can't, not even with a passkey; nor a program.
    let origin = scene.it.appliance.origin();
    let silent = [("origin", origin.as_str()), ("x-reason", "")];
    let no_reason = json!({ "scope": whole["scope"], "reason": " " });
    let no_reason = ada
        .send_with("POST", "/api/v1/erasures", &silent, Some(&no_reason))
        .await;
    assert_problem!(no_reason, 422, "invalid");
    let waits = ada.post("/api/v1/erasures", &wanted).await.expect(202);
    let proposal = text(&waits, "proposal");
    assert_problem!(confirm(ada, &proposal, &[]).await, 403, "not-eligible");
    let page = dora.get(&format!("/dashboard/proposals/{proposal}")).await.text();
    assert!(
        page.contains("Erase the documents of requests of group/app"),
        "{page}"
    );
    assert_eq!(
        ada.get(&format!("/api/v1/credentials/{credential}")).await.status,
        200
    );
    confirm(&dora, &proposal, &[]).await.expect(200);
    let ended = told(ada, "erasure.ended").await;
    let erased = ada.journal("blob.erased").await;
    let of: Vec<String> = erased.iter().map(|it| text(&it["data"], "request")).collect();
    assert!(
        of.contains(&scene.approved) && of.contains(&scene.rejected),
        "{erased:#?}"
    );
    assert_eq!(ended["data"]["requests"], erased.len(), "{ended}");
    assert!(
        erased.iter().all(|it| it["data"]["reason"] == reason),
        "{erased:#?}"
    );
    let ordered = told(ada, "erasure.ordered").await;
    assert_eq!(ordered["data"]["by"], json!(["Ada", "Dora"]), "{ordered}");

    // What is asked for is told to be gone, and why.
    let answer = ada.get(&format!("/api/v1/credentials/{credential}")).await;
    assert_problem!(answer, 410, "erased");
    let outcome = ada
        .get(&format!("/api/v1/approvals/{}/outcome", scene.approved))
        .await;
    assert_problem!(outcome, 410, "erased");
    let left = ada
        .get(&format!("/api/v1/approvals/{}", scene.approved))
        .await
        .expect(200);
    assert_eq!(left["status"], "approved", "{left}");
    let left = left.to_string();
    assert!(left.contains("(erased)") && !left.contains("src/"), "{left}");
    let page = ada.get(&format!("/a/{}", scene.approved)).await.text();
    let page = page.replace("<bdi>", "").replace("</bdi>", "");
    assert!(page.contains("its credential was erased at"), "{page}");
    let again = ada.post("/api/v1/erasures/preview", &whole).await.expect(200);
    assert_eq!(again["requests"], 0, "{again}");

    // Bundles: one that begins and ends before the erasure, one of all, one of what came after.
    let now = jiff::Timestamp::now().to_string();
    let after = scene.export("after.zip", earlier, &[]).await;
    assert!(after != before, "documents are missing");
    let said = holds(&scene, "after.zip").await;
    assert!(said.contains("were erased, as the log's entries say"), "{said}");
    assert!(
        said.contains("that persons signed them: their documents were erased"),
        "{said}"
    );
    assert!(holds(&scene, "before.zip").await.contains("3 credentials"));
    let again = scene.export("again.zip", earlier, &[]).await;
    assert!(after == again, "two exports differ");
    scene.export("all.zip", ["2000-01-01", &now], &[]).await;
    holds(&scene, "all.zip").await;
    scene.export("later.zip", [&middle, &now], &[]).await;
    holds(&scene, "later.zip").await;
    scene
        .export("some.zip", earlier, &["--outcome", "approved"])
        .await;
    holds(&scene, "some.zip").await;
    let files = unpack(&after);
    let file = |name: &str| {
        let found = files.iter().find(|it| it.0 == name);
        String::from_utf8_lossy(&found.unwrap_or_else(|| panic!("{name}")).1).into_owned()
    };
    assert!(!files.iter().any(|it| it.0.contains(&credential)), "{credential}");
    let report = file("report.html");
    assert!(
        report.contains("Documents that were erased") && report.contains(reason),
        "{report}"
    );
    let csv = file("approvals.csv");
    let row = csv
        .lines()
        .find(|it| it.contains(&scene.approved))
        .expect("its row");
    assert!(
        row.contains("Bea") && row.contains("its credential was erased at"),
        "{row}"
    );

    // What is missing without such an entry fails, whoever signs the list.
    fs::write(
        scene.path("silent.zip"),
        without_erasures(&scene.it.appliance, &after),
    )
    .expect("written");
    let (code, out) = scene.verify("silent.zip").await;
    assert!(code == 1 && out.contains("is missing"), "{out}");
    let (code, out) = verify_py(&scene.dir, "silent.zip");
    assert!(code == 1 && out.contains("lacks a file"), "{out}");

    // All that was made from the journal is made anew from it, and says the same.
    let listed = ada.get("/api/v1/erasures").await.expect(200);
    let told = ada.get("/dashboard/settings/retention").await.text();
    assert!(told.contains(reason), "{told}");
    let backup = scene.path("one.sabackup");
    let backup = backup.to_str().expect("text").to_owned();
    let (code, out, err) = scene.it.appliance.cli(&["backup", "create", &backup]).await;
    assert_eq!(code, 0, "{out}{err}");
    scene.it.appliance.stop().await;
    let data = scene.it.appliance.data_dir().to_owned();
    let passphrase = fs::read_to_string(data.join("keys/passphrase")).expect("evaluation keeps it");
    let aside = new_dir();
    fs::rename(&data, aside.join("before")).expect("moved");
    let to = data.to_str().expect("text").to_owned();
    let arguments = ["backup", "restore", &backup, "--data-dir", &to];
    let (code, out, err) = run(scene.it.appliance.dir(), &arguments, &[]).await;
    assert_eq!(code, 0, "{out}{err}");
    scene.it.appliance.options = scene
        .it
        .appliance
        .options
        .clone()
        .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", &passphrase);
    scene.it.appliance.restart().await;
    scene.it.ada.sign_in().await;
    let after_restore = scene.it.ada.get("/api/v1/erasures").await.expect(200);
    assert_eq!(after_restore, listed);
    let left = scene
        .it
        .ada
        .get(&format!("/api/v1/approvals/{}", scene.approved))
        .await
        .expect(200);
    assert_eq!(left["status"], "approved", "{left}");
    scene.export("restored.zip", earlier, &[]).await;
    holds(&scene, "restored.zip").await;
    // The epoch that the restore began is part of what is verified, from before it to behind it.
    scene.export("over.zip", ["2000-01-01", "2100-01-01"], &[]).await;
    let log_key = scene
        .it
        .appliance
        .api()
        .get("/.well-known/signedapproval/log.vkey")
        .await;
    fs::write(scene.path("log.vkey"), &log_key.body).expect("written");
    holds(&scene, "over.zip").await;
    // Other tests' leftovers are theirs.
    fs::remove_dir_all(&aside).expect("removed");
}

/// What a page shows, in one line.
async fn read(browser: &Browser) -> String {
    let text = browser.text("main").await;
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_looked_at_and_proposed_in_the_browser_and_every_list_tells_decisions_in_their_sentence()
 {
    let name = "an_erasure_is_looked_at_and_proposed_in_the_browser_and_every_list_tells_decisions_in_their_sentence";
    if !can_run(name) {
        return;
    }
    let it = Gated::start_with(
        crate::support::gated::Hook::Token,
        json!({ "required_approval_count": 2 }),
    )
    .await;
    let first = it.open("feature", "main");
    let request = it.pending(&first, "main").await;
    it.bea.approve(&request).await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let invited = it.ada.invite("Dora", &["admin", "approver"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let decided = it.ada.journal("decision.recorded").await.pop().expect("one");
    let at: jiff::Timestamp = text(&decided, "time").parse().expect("a time");
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let begins = "!1 was approved by Bea via biometric at ";
    let url = |path: &str| format!("{}{path}", it.appliance.public_url());
    // While it waits for a second decision: the queue, the overview, the list of all requests.
    for path in ["/a/", "/dashboard", "/dashboard/requests", "/dashboard/audit"] {
        browser.goto(&url(path)).await;
        let page = read(&browser).await;
        let told = page.find(begins).map(|from| &page[from..]);
        let told = told.unwrap_or_else(|| panic!("{path}: {page}"));
        assert!(
            told.starts_with(&format!("{begins}{at}, signed with Ed25519 key ")),
            "{path}: {told}"
        );
        let sentence: String = told.chars().take(115).collect();
        assert!(
            sentence.contains("\u{2026}, signature verified"),
            "{path}: {told}"
        );
    }
    browser.goto(&url("/a/")).await;
    shoot(&browser, "queue-with-sentence").await;
    browser.goto(&url("/dashboard/requests")).await;
    shoot(&browser, "requests-with-sentence").await;

    // A new head leaves the old request behind, which stands in the history.
    let commit = Gated::commit_of_carl("more.rs");
    it.gitlab.push(PROJECT, "feature", it.carl_account, &commit);
    let until = std::time::Instant::now() + SOON;
    loop {
        let old = it
            .ada
            .get(&format!("/api/v1/approvals/{request}"))
            .await
            .expect(200);
        if old["status"] == "superseded" {
            break;
        }
        assert!(std::time::Instant::now() < until, "{old}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    browser.goto(&url("/a/history")).await;
    let page = read(&browser).await;
    assert!(
        page.contains(&format!("{begins}{at}, signed with Ed25519 key ")),
        "{page}"
    );
    shoot(&browser, "history-with-sentence").await;

    // Retention: looked at, shortened, previewed, proposed.
    browser.goto(&url("/dashboard/settings/retention")).await;
    shoot(&browser, "retention").await;
    let project = &it.project;
    browser.click(".kept details summary").await;
    browser.fill(&format!("[id='{project}-days']"), "0").await;
    browser
        .fill(&format!("[id='{project}-reason']"), "a test bench")
        .await;
    browser
        .click(&format!("form:has([id='{project}-days']) button"))
        .await;
    browser.wait_for_text("group/app: 0 days").await;
    browser
        .goto(&url(&format!(
            "/dashboard/settings/retention?project={project}&pipelines=&request=&before=#preview"
        )))
        .await;
    browser.wait_for_text("3 documents of 1 request").await;
    shoot(&browser, "retention-preview").await;
    browser.fill("#reason", "it is long over").await;
    browser.click("#preview .danger").await;
    browser.wait_for_text("Erase the documents of requests of").await;
    browser.wait_for_text("Requests whose documents go").await;
    shoot(&browser, "proposal-erasure").await;
    assert_clean(&browser, &it.appliance).await;
}
