//! Forge accounts linked by proof: a code that the account writes where only it can, read back by the server's own token.

use serde_json::json;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::phone::enrolled_browser;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::PROJECT;
use crate::support::gated_github::GatedGitHub;
use crate::support::person::Person;
use crate::support::person::text;
use crate::support::problem::assert_problem;

async fn claim(it: &Gated, who: &Person, username: &str) -> String {
    let body = json!({"integration": it.integration.id, "username": username});
    let claimed = who.post("/api/v1/me/accounts/claim", &body).await.expect(201);
    assert_eq!(claimed["where"], "status message");
    text(&claimed, "code")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_linked_by_a_code_that_only_it_could_have_written() {
    let it = Gated::start().await;
    let bea_account = it.gitlab.add_user("bea", "Bea", "bea@example.test");
    let prove = "/api/v1/me/accounts";
    // The same e-mail address links nothing by itself.
    assert_eq!(it.bea.get(prove).await.json()["items"], json!([]));
    assert_problem!(it.bea.post(prove, &json!({})).await, 409, "ceremony-spent");

    let code = claim(&it, &it.bea, "@Bea").await;
    assert_problem!(it.bea.post(prove, &json!({})).await, 422, "invalid");
    // Somebody else's account that holds the code proves nothing about this one.
    it.gitlab.set_status_message(it.carl_account, &code);
    assert_problem!(it.bea.post(prove, &json!({})).await, 422, "invalid");
    // Nor does a code of another person's claim.
    let carls = claim(&it, &it.carl, "bea").await;
    assert_ne!(carls, code);
    it.gitlab
        .set_status_message(bea_account, &format!("Away. {code}"));
    assert_problem!(it.carl.post(prove, &json!({})).await, 422, "invalid");

    let linked = it.bea.post(prove, &json!({})).await.expect(201);
    assert_eq!(
        linked,
        json!({"integration": it.integration.id, "account_id": bea_account.to_string(), "proof": "proven"})
    );
    assert_problem!(it.bea.post(prove, &json!({})).await, 409, "ceremony-spent");
    let event = it.ada.journal("account.linked").await.pop().expect("one");
    assert_eq!(event["actor"]["name"], "Bea");
    assert_eq!(event["data"]["proven"], true);
    assert!(text(&event["data"], "proof").contains("status message of @bea"));
    // An admin's word does not make it less, and adds no entry.
    let again = it
        .ada
        .try_link_account(&it.bea.id(), &it.integration.id, &bea_account.to_string())
        .await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(it.bea.get(prove).await.json()["items"][0]["proof"], "proven");
    // One account is one person's, also for whoever gets hold of it later.
    it.gitlab.set_status_message(bea_account, &carls);
    assert_problem!(it.carl.post(prove, &json!({})).await, 409, "duplicate");

    // What the proof is for: Bea's own change is not hers to approve.
    it.gitlab.add_member(PROJECT, bea_account, DEVELOPER);
    it.gitlab.branch(PROJECT, "bea-works", "main");
    let head = it
        .gitlab
        .commit(PROJECT, "bea-works", &Gated::commit_of_carl("bea.rs"));
    let iid = it
        .gitlab
        .open_merge_request(PROJECT, "bea-works", "main", "Bea works", bea_account);
    let change = Change {
        iid,
        branch: "bea-works".into(),
        head,
    };
    let id = it.pending(&change, "main").await;
    assert_problem!(it.bea.decide(&id, "approve", None).await, 403, "self-approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_on_github_is_linked_by_a_code_in_its_own_profile() {
    let it = GatedGitHub::start().await;
    let bea_account = it.github.add_user("bea", "bea@example.test");
    let other = it.github.add_user("bea-2", "bea@example.test");
    let says = |account: u64, text: String| {
        it.github.change(|state| {
            state.users.get_mut(&account).expect("known").bio = Some(text);
        });
    };
    let path = "/api/v1/me/accounts/claim";
    let wanted = |username: &str| json!({"integration": it.integration.id, "username": username});
    for nobody in ["nobody-here", "../user", "gate[bot]", "a b"] {
        assert_problem!(it.bea.post(path, &wanted(nobody)).await, 422, "invalid");
    }
    let claimed = it.bea.post(path, &wanted("@Bea")).await.expect(201);
    assert_eq!(claimed["where"], "profile bio");
    assert_eq!(claimed["account"]["id"], bea_account.to_string());
    let code = text(&claimed, "code");
    let prove = "/api/v1/me/accounts";
    assert_problem!(it.bea.post(prove, &json!({})).await, 422, "invalid");
    // Another account of the same person's name and address proves nothing about this one.
    says(other, code.clone());
    let refused = it.bea.post(prove, &json!({})).await;
    assert_problem!(refused, 422, "invalid");
    assert!(refused.text().contains("profile bio of @bea"), "{refused:?}");
    // Nor does whoever took the user name over since.
    let named = |account: u64, login: &str| {
        it.github.change(|state| {
            state.users.get_mut(&account).expect("known").login = login.to_owned();
        });
    };
    named(bea_account, "bea-before");
    named(other, "bea");
    assert_problem!(it.bea.post(prove, &json!({})).await, 422, "forge-answer");
    named(other, "bea-2");
    named(bea_account, "bea");
    says(bea_account, format!("I write gates. {code}"));
    let linked = it.bea.post(prove, &json!({})).await.expect(201);
    assert_eq!(
        linked,
        json!({"integration": it.integration.id, "account_id": bea_account.to_string(), "proof": "proven"})
    );
    let event = it.ada.journal("account.linked").await.pop().expect("one");
    assert!(text(&event["data"], "proof").contains("profile bio of @bea"));
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_admin_asserted_the_person_proves() {
    let it = Gated::start().await;
    let accounts = it.carl.get("/api/v1/me/accounts").await.json();
    assert_eq!(accounts["items"][0]["proof"], "asserted");
    let code = claim(&it, &it.carl, "carl").await;
    it.gitlab.set_status_message(it.carl_account, &code);
    let linked = it.carl.post("/api/v1/me/accounts", &json!({})).await.expect(201);
    assert_eq!(linked["proof"], "proven");
    let accounts = it.carl.get("/api/v1/me/accounts").await.json();
    assert_eq!(accounts["items"].as_array().map(Vec::len), Some(1), "{accounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_makes_no_sense_says_why() {
    let it = Gated::start().await;
    let path = "/api/v1/me/accounts/claim";
    let known = &it.integration.id;
    for (body, status, kind) in [
        (
            json!({"integration": known, "username": "nobody-here"}),
            422,
            "invalid",
        ),
        (json!({"integration": known, "username": " "}), 422, "invalid"),
        (
            json!({"integration": known, "username": "a\u{0}b"}),
            422,
            "invalid",
        ),
        (
            json!({"integration": known, "username": "../../user"}),
            422,
            "invalid",
        ),
        (
            json!({"integration": known, "username": "x".repeat(300)}),
            400,
            "bad-request",
        ),
        (
            json!({"integration": "int_00000000000000000000000000000000", "username": "bea"}),
            422,
            "invalid",
        ),
        (json!({"integration": known}), 400, "bad-request"),
        (
            json!({"integration": known, "username": "bea", "email": "bea@example.test"}),
            400,
            "bad-request",
        ),
    ] {
        let answer = it.bea.post(path, &body).await;
        assert_problem!(answer, status, kind);
    }
    assert_eq!(it.appliance.api().post(path, &json!({})).await.status, 401);
    // A GitLab that does not answer links nobody.
    let code = claim(&it, &it.carl, "carl").await;
    it.gitlab.set_status_message(it.carl_account, &code);
    it.gitlab.fail("GET", "/users/*/status", 1, Trouble::Code(503));
    assert_problem!(
        it.carl.post("/api/v1/me/accounts", &json!({})).await,
        422,
        "forge-answer"
    );
    it.carl.post("/api/v1/me/accounts", &json!({})).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn proving_an_account_in_the_browser() {
    if !can_run("proving_an_account_in_the_browser") {
        return;
    }
    let it = Gated::start().await;
    let dana = it.gitlab.add_user("dana", "Dana Reyes", "dana@example.test");
    let url = text(&it.ada.invite("Dana Reyes", &["approver"]).await, "invite_url");
    let browser = enrolled_browser(&url).await;
    browser.goto(&format!("{}/a/accounts", it.appliance.base())).await;
    browser.fill("#username", "@dana").await;
    browser.click("[data-show=claim] button").await;
    browser
        .wait_until("!document.querySelector('#claim').hidden")
        .await;
    let code = browser.text("#claim-code").await;
    shoot(&browser, "accounts-claim").await;
    it.gitlab.set_status_message(dana, &code);
    browser.click("#claim form button").await;
    browser.wait_for_text("Proven").await;
    shoot(&browser, "accounts-proven").await;
    assert_clean(&browser, &it.appliance).await;
}
