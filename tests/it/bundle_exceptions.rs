//! What went around the gate, weakened it or used the emergency way stands first in the report, in full in the events and
//! in the spreadsheet, and how strong each gate was stands beside it.

use std::fs;

use serde_json::Value;
use serde_json::json;

use crate::browser::can_run;
use crate::browser::shoot;
use crate::bundles::EVER;
use crate::bundles::unpack;
use crate::bundles::verify;
use crate::bundles::verify_py;
use crate::bypass::commit;
use crate::support::appliance::new_dir;
use crate::support::browser::Browser;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Gated;
use crate::support::gated::PROJECT;
use crate::support::person::Person;
use crate::support::person::text;

/// An approval by which the glass is broken.
async fn break_glass(who: &Person, request: &str, comment: &str) {
    let path = format!("/api/v1/approvals/{request}/decision");
    let wish = json!({ "decision": "approve", "comment": comment, "break_glass": true });
    let options = who.post(&format!("{path}/options"), &wish).await.expect(200);
    let signed = who.authenticator().get(&options["publicKey"]).expect("signed");
    let body = json!({ "ceremony": options["ceremony"], "credential": signed });
    who.post(&path, &body).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_out_of_the_ordinary_stands_first_and_beside_how_strong_the_gate_was() {
    let (mut it, mia) = Gated::with_mia(json!({"auto_merge": false})).await;
    let before = text(&it.look().await, "strength");
    let eve = it.gitlab.add_user("eve", "Eve", "eve@example.test");
    it.gitlab.add_member(PROJECT, eve, DEVELOPER);
    // A status under our name by somebody else, a push past the gate, and a merge that is not what was approved.
    let change = it.open("feature", "main");
    it.pending(&change, "main").await;
    it.gitlab.post_status(
        PROJECT,
        &change.head,
        eve,
        "signedapproval/main",
        "feature",
        "success",
    );
    it.told("status_forged", 1).await;
    let pushed = it
        .gitlab
        .push_anyway(PROJECT, "main", mia, &commit("Mia", "hotfix.rs"));
    it.seen("main", &pushed).await;
    let approved = it.approved("other", "main").await;
    let evil = vec![Edit::write("backdoor.rs", "open\n")];
    let merged = it
        .gitlab
        .push_evil_merge(PROJECT, "main", mia, &approved.head, evil);
    it.seen("main", &merged).await;
    it.told("unapproved_change", 2).await;
    // The protection is taken away, and put back.
    it.gitlab.unprotect(PROJECT, "main");
    text(&it.look().await, "strength");
    it.gitlab.protect(PROJECT, "main", 0, MAINTAINER, &[]);
    let last = text(&it.look().await, "strength");
    // And the emergency way.
    it.ada.create_group("oncall", &[&it.bea, &it.carl]).await;
    let policy = json!({ "rules": [
        { "name": "Four", "match": { "environment": "production" }, "require": { "method": ["passkey"], "quorum": 4 } },
        { "name": "Fire", "match": { "environment": "production" },
          "require": { "method": ["passkey"], "quorum": 2, "break_glass": true, "approvers": ["group:oncall"] } } ] });
    it.ada.put_policy("default", &policy).await;
    let key = it.ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = it.appliance.api().with_key(&key);
    let hotfix = ci
        .open_request(&json!({ "action": "Hotfix", "environment": "production" }))
        .await;
    break_glass(&it.bea, &hotfix, "the shop is down").await;
    break_glass(&it.carl, &hotfix, "the shop is down").await;
    // One of them is looked over.
    let open = it.exceptions("status_forged").await;
    let review = format!("/api/v1/exceptions/{}/review", text(&open[0], "id"));
    it.ada
        .post(&review, &json!({ "note": "Eve tried out a script" }))
        .await
        .expect(200);

    let dir = new_dir();
    let out = dir.join("all.zip");
    let told = out.to_str().expect("text");
    let export = [
        "audit", "export", "--from", EVER[0], "--to", EVER[1], "--out", told,
    ];
    let (code, said, err) = it.appliance.cli(&export).await;
    assert_eq!(code, 0, "{said}{err}");
    for name in ["credential.pem", "log.vkey"] {
        let path = format!("/.well-known/signedapproval/{name}");
        let answer = it.appliance.api().get(&path).await;
        fs::write(dir.join(name), &answer.body).expect("a writable directory");
    }
    let page = format!("/dashboard/audit/report?from={}&to={}", &today(0), &today(1));
    let page = String::from_utf8_lossy(&it.ada.get(&page).await.body).into_owned();
    it.appliance.kill9();

    let (code, out) = verify(&dir, "all.zip").await;
    assert_eq!(code, 0, "{out}");
    let (code, out) = verify_py(&dir, "all.zip");
    assert_eq!(code, 0, "{out}");

    let files = unpack(&fs::read(dir.join("all.zip")).expect("the bundle"));
    let get = |name: &str| {
        let found = files.iter().find(|it| it.0 == name);
        String::from_utf8_lossy(&found.unwrap_or_else(|| panic!("{name}")).1).into_owned()
    };
    let events: Vec<Value> = get("events.jsonl")
        .lines()
        .map(|it| serde_json::from_str(it).expect("JSON"))
        .collect();
    let count = |kind: &str| {
        let is = |it: &&Value| it["event"]["type"] == kind || it["type"] == kind;
        events.iter().filter(is).count()
    };
    for (kind, wanted) in [
        ("exception.status_forged", 1),
        ("exception.unapproved_change", 2),
        ("exception.protection_drift", 1),
        ("exception.break_glass", 1),
        ("exception.reviewed", 1),
    ] {
        assert_eq!(count(kind), wanted, "{kind} in events.jsonl");
    }
    let csv = get("approvals.csv");
    let rows: Vec<&str> = csv.lines().filter(|it| it.starts_with(&hotfix)).collect();
    assert_eq!(rows.len(), 2, "{csv}");
    assert!(rows.iter().all(|it| it.contains("break-glass")), "{rows:#?}");

    let report = get("report.html");
    for (where_, told) in [("the report", &report), ("the page", &page)] {
        let at = |words: &str| {
            told.find(words)
                .unwrap_or_else(|| panic!("{words:?} is not in {where_}:\n{told}"))
        };
        let gates = at("How strong the gates were");
        for words in [
            "Eve set our status for main of group/app to success",
            "Looked over by Ada",
            "Eve tried out a script",
            "Mia pushed to main of group/app directly, around the gate",
            "differs in backdoor.rs",
            &format!("The gate of group/app went from {before} to none"),
            "Rule Fire was used for",
        ] {
            assert!(at(words) < gates, "{words:?} stands behind the gates in {where_}");
        }
        let row = &told[gates..];
        let row = &row[row.find("<strong>group/app</strong>").expect("the project")..];
        let row = &row[..row.find("</div>").expect("its end")];
        assert!(
            row.contains(&format!(">{last}</span>")) && row.contains(">none</span>") && last != "none",
            "the last, the weakest, and why: {row}"
        );
    }
    let card = report.find(&format!("id=\"{hotfix}\"")).expect("the card");
    assert!(report.find("How strong the gates were").expect("said") < card);
    if can_run("the look at the report") {
        let path = dir.join("report.html");
        fs::write(&path, &report).expect("a writable directory");
        let browser = Browser::start().await;
        browser.offline(true).await;
        browser.goto(&format!("file://{}", path.display())).await;
        browser
            .wait_until("document.body.dataset.verification === 'valid'")
            .await;
        shoot(&browser, "report-exceptions").await;
    }
    // A directory left behind does no harm.
    let _removed = fs::remove_dir_all(&dir);
}

/// A day, so many days from now.
fn today(more: u64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let days = i64::try_from(now.as_secs() / 86_400 + more).expect("a day");
    signedapproval::domain::time::Time(days * 86_400_000).to_the_second()[..10].to_owned()
}
