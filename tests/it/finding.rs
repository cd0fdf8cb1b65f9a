//! Finding requests: by words, filters and time, page by page, by API and page alike; views that are saved; and a list that
//! stays fresh while it is looked at.

use std::collections::BTreeSet;

use serde_json::json;

use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::appliance::Answer;
use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::gated::Gated;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

const PAGE: &str = "/dashboard/requests";

/// The requests that a page lists, in its order.
fn listed(page: &str) -> Vec<String> {
    let cards = page.split("class=\"card-link\" href=\"/a/").skip(1);
    cards
        .map(|it| it.split('"').next().expect("an id").to_owned())
        .collect()
}

/// What the API and the page answer to the same filters: the same.
async fn found(api: &Api, person: &Person, query: &str) -> BTreeSet<String> {
    let told = items(&api.get(&format!("/api/v1/approvals?{query}")).await);
    let told: Vec<String> = told.iter().map(|it| text(it, "id")).collect();
    let page = person.get(&format!("{PAGE}?{query}")).await;
    assert_eq!(page.status, 200, "{query}: {page:?}");
    assert_eq!(listed(&page.text()), told, "page and API differ about {query}");
    told.into_iter().collect()
}

/// A plain form, as a browser without any script sends it.
async fn send(who: &Person, origin: &str, form: &[(&str, &str)]) -> Answer {
    let headers = [
        ("origin", origin),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let path = "/dashboard/requests/views";
    who.send_bytes("POST", path, &headers, Some(body.finish().into_bytes()))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_found_by_every_word_and_filter_that_leads_to_it() {
    let it = Gated::start().await;
    let change = it.open_with(
        "fix/Straße-42",
        "main",
        "Retry the card payments",
        &Gated::commit_of_carl("card.rs"),
    );
    let merge = it.pending(&change, "main").await;
    let key = it.ada.create_api_key("Night robot", &["request"], &[]).await.key;
    let ci = it.appliance.api().with_key(&key);
    let deploy = ci
        .open_request(
            &json!({"action": "Deploy card service 4.2", "environment": "Production", "project": "shop/api",
            "metadata": {"commit": "0123456789abcdef0123456789abcdef01234567"}}),
        )
        .await;
    let other = ci.open_request(&json!({"action": "Rotate the keys"})).await;
    it.bea.approve(&deploy).await;
    ci.post(&format!("/api/v1/approvals/{other}/cancel"), &json!({}))
        .await
        .expect(200);
    let (number, head) = (change.iid, change.head.to_string());
    let (bea, robot) = (
        it.bea.id(),
        text(&it.ada.get("/api/v1/api-keys").await.json()["items"][0], "id"),
    );
    assert!(robot.starts_with("key_"));
    let foreign = ci.get(&format!("/api/v1/approvals/{merge}")).await;
    assert_eq!(foreign.status, 404, "a key sees its own alone");
    let all = [&merge, &deploy, &other];
    let cases: Vec<(String, Vec<&String>)> = vec![
        (String::new(), all.to_vec()),
        (format!("q=%21{number}"), vec![&merge]),
        (format!("q=%23{number}"), vec![&merge]),
        (format!("q=group/app%21{number}"), vec![&merge]),
        (format!("q=app%21{number}"), vec![&merge]),
        ("q=other%211".into(), vec![]),
        ("q=group/app".into(), vec![&merge]),
        ("q=RETRY+pay".into(), vec![&merge]),
        ("q=card".into(), vec![&merge, &deploy]),
        ("q=card+4.2".into(), vec![&deploy]),
        ("q=fix/STRASSE".into(), vec![&merge]),
        (format!("q={}", &head[..9]), vec![&merge]),
        ("q=0123456789AB".into(), vec![&deploy]),
        (format!("q={other}"), vec![&other]),
        (format!("q={}", &deploy[..20]), vec![&deploy]),
        ("q=night+rob".into(), vec![&deploy, &other]),
        ("q=carl".into(), vec![&merge]),
        ("q=nothing+of+this".into(), vec![]),
        ("status=approved".into(), vec![&deploy]),
        ("status=cancelled&q=rotate".into(), vec![&other]),
        ("kind=change".into(), vec![&merge]),
        ("kind=deployment&environment=production".into(), vec![&deploy]),
        ("project=GROUP/APP".into(), vec![&merge]),
        ("project=group".into(), vec![]),
        ("requester=robot".into(), vec![&deploy, &other]),
        (format!("decided_by={bea}"), vec![&deploy]),
        ("policy=built-in".into(), all.to_vec()),
        ("rule=default&kind=action".into(), vec![&other]),
        ("since=2020-01-01&until=2020-12-31".into(), vec![]),
        ("since=2020-01-01".into(), all.to_vec()),
        ("environment=".into(), all.to_vec()),
    ];
    for (query, wanted) in cases {
        let wanted: BTreeSet<String> = wanted.into_iter().cloned().collect();
        assert_eq!(found(&it.auditor, &it.ada, &query).await, wanted, "{query}");
    }
    // A key finds what it may see and nothing else.
    let own = items(&ci.get("/api/v1/approvals?q=card").await);
    assert_eq!(own.len(), 1);
    assert_eq!(text(&own[0], "id"), deploy);
    // What makes no sense is said beside its field, with what was typed.
    for (query, field) in [
        ("status=done", "status"),
        ("since=soon&q=card", "since"),
        ("decided_by=Ada", "decided_by"),
    ] {
        let answer = it.auditor.get(&format!("/api/v1/approvals?{query}")).await;
        assert_problem!(answer, 400, "bad-request");
        assert_eq!(answer.json()["field"], field);
        let page = it.ada.get(&format!("{PAGE}?{query}")).await;
        assert_eq!(page.status, 400, "{query}");
        assert!(listed(&page.text()).is_empty(), "{query}");
    }
    let page = it.ada.get(&format!("{PAGE}?since=soon&q=card")).await.text();
    assert!(
        page.contains("id=\"wrong-since\"") && page.contains("value=\"card\""),
        "{page}"
    );
    let strange = it.auditor.get("/api/v1/approvals?colour=red").await;
    assert_problem!(strange, 400, "bad-request");
    assert_eq!(it.bea.get(PAGE).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_read_page_by_page_and_a_view_of_it_is_saved() {
    let appliance = Appliance::start(Options::default().config("limits.changes_per_minute = \"0\"\n")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let eve = ada.bring_in(&appliance, "Eve", &["auditor"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let mut made = Vec::new();
    for n in 0..57 {
        let environment = if n % 10 == 3 { "staging" } else { "production" };
        let body = json!({"action": format!("Deploy build {n}"), "environment": environment});
        made.push(ci.open_request(&body).await);
    }
    let first = ada.get(&format!("{PAGE}?q=deploy")).await.text();
    let older = first
        .split("href=\"")
        .find(|it| it.starts_with(PAGE) && it.contains("before="))
        .expect("a link");
    let older = older.split('"').next().expect("its end").replace("&#38;", "&");
    assert!(older.contains("q=deploy"), "{older}");
    let second = ada.get(&older).await.text();
    let mut read = listed(&first);
    assert_eq!(read.len(), 50);
    read.extend(listed(&second));
    read.reverse();
    assert_eq!(read, made, "each once, the newest first");
    assert!(!second.contains("before="), "there is no third page");
    assert!(
        second.contains("Newest") && !second.contains("data-live"),
        "only the newest are kept fresh"
    );

    // Saved by a plain form, seen by whom it is for.
    let origin = appliance.origin();
    let staging = "environment=staging";
    let save = |name: &'static str, shared: bool| {
        let mut form = vec![("action", "save"), ("name", name), ("query", staging)];
        form.extend(shared.then_some(("shared", "on")));
        form
    };
    let told = send(&eve, &origin, &save("Eve’s staging", false)).await;
    assert_eq!(told.status, 303, "{told:?}");
    assert_eq!(
        told.header("location"),
        Some("/dashboard/requests?environment=staging#views")
    );
    let refused = send(&eve, &origin, &save("For all", true)).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(
        refused.text().contains("Administrators share views.")
            && refused.text().contains("value=\"For all\"")
    );
    send(&ada, &origin, &save("<b>Staging</b>", true)).await;
    let twice = send(&ada, &origin, &save("<b>Staging</b>", true)).await;
    assert_eq!(twice.status, 422);
    assert!(
        twice.text().contains("There is a view by this name."),
        "{}",
        twice.text()
    );
    let (of_ada, of_eve) = (ada.get(PAGE).await.text(), eve.get(PAGE).await.text());
    let shared = "<bdi>&#60;b&#62;Staging&#60;/b&#62;</bdi> <span class=\"dim\">shared</span>";
    assert!(of_ada.contains(shared) && of_eve.contains(shared), "{of_ada}");
    assert!(of_eve.contains("Eve’s staging") && !of_ada.contains("Eve’s staging"));
    assert_eq!(
        listed(&eve.get(&format!("{PAGE}?{staging}")).await.text()).len(),
        6
    );

    // Renamed and removed by whoever may; nobody touches another's.
    let id = |page: &str, name: &str| -> String {
        let form = page
            .split("name=\"view\" value=\"")
            .skip(1)
            .find(|it| it.contains(name))
            .expect(name);
        form.split('"').next().expect("its end").to_owned()
    };
    let own = id(&of_eve, "Eve’s staging");
    assert!(!of_eve.contains("name=\"view\" value=\"vew_") || !of_eve.contains(&id(&of_ada, "Staging")));
    let foreign = [("action", "remove"), ("view", own.as_str()), ("query", "")];
    assert_eq!(send(&ada, &origin, &foreign).await.status, 404);
    let rename = [
        ("action", "rename"),
        ("view", own.as_str()),
        ("name", "Trial runs"),
        ("query", ""),
    ];
    assert_eq!(send(&eve, &origin, &rename).await.status, 303);
    assert!(eve.get(PAGE).await.text().contains("Trial runs"));
    let common = id(&of_ada, "Staging");
    let remove = [("action", "remove"), ("view", common.as_str()), ("query", "")];
    let refused = send(&eve, &origin, &remove).await;
    assert!(refused.status == 422 || refused.status == 403, "{refused:?}");
    assert_eq!(send(&ada, &origin, &remove).await.status, 303);
    assert!(!eve.get(PAGE).await.text().contains("Staging"));
    let journal = ada.journal("view.saved").await;
    assert_eq!(journal.len(), 3, "{journal:#?}");
    assert_eq!(ada.journal("view.removed").await.len(), 1);
    let stranger = send(&eve, "https://evil.example", &rename).await;
    assert!(stranger.status == 403, "{stranger:?}");
}

/// Pretends that the page was away and comes back: then it asks at once.
const COMES_BACK: &str = "document.dispatchEvent(new Event('visibilitychange'))";

#[tokio::test(flavor = "multi_thread")]
async fn an_open_list_is_kept_fresh_and_nothing_moves_under_a_hand() {
    if !can_run("an_open_list_is_kept_fresh_and_nothing_moves_under_a_hand") {
        return;
    }
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    ci.open_request(&json!({"action": "The first", "environment": "production"}))
        .await;
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let url = text(
        &ada.invite("Dana Reyes", &["admin", "approver"]).await,
        "invite_url",
    );
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;

    browser.goto(&format!("{}{PAGE}", appliance.base())).await;
    browser.wait_for_text("The first").await;
    ci.open_request(&json!({"action": "The second"})).await;
    browser.script(COMES_BACK, &[]).await;
    browser.wait_for_text("The second").await;
    browser
        .wait_until("/^Updated \\d/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    // The focus in the content, as somebody types or goes through the list: nothing is put in its place.
    browser
        .script("document.querySelector('.card-link').focus()", &[])
        .await;
    ci.open_request(&json!({"action": "The third"})).await;
    browser.script(COMES_BACK, &[]).await;
    browser
        .wait_until("/^Newer at/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    let page = browser.text("main").await;
    assert!(!page.contains("The third"), "{page}");
    let held = browser
        .script("return document.activeElement.className", &[])
        .await;
    assert_eq!(held, "card-link");
    browser.script("document.activeElement.blur()", &[]).await;
    browser.wait_for_text("The third").await;
    // The pointer on a link: the same.
    let (x, y) = {
        let at = browser
            .script(
                "const it = document.querySelector('.card-link').getBoundingClientRect(); \
                 return [it.x + it.width / 2, it.y + it.height / 2]",
                &[],
            )
            .await;
        (at[0].clone(), at[1].clone())
    };
    let to = |x: serde_json::Value, y: serde_json::Value| json!({"type": "mouseMoved", "x": x, "y": y});
    browser.cdp("Input.dispatchMouseEvent", &to(x, y)).await;
    ci.open_request(&json!({"action": "The fourth"})).await;
    browser.script(COMES_BACK, &[]).await;
    browser
        .wait_until("/^Newer at/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    assert!(!browser.text("main").await.contains("The fourth"));
    browser
        .cdp("Input.dispatchMouseEvent", &to(json!(2), json!(2)))
        .await;
    browser.wait_for_text("The fourth").await;
    // A finger on a link: what it came down on is still there, and is what opens when it is taken away.
    browser.device(390, 844, 1, true).await;
    let found = browser
        .script(
            "const it = document.querySelector('.card-link'); it.scrollIntoView({ block: 'center' }); window.under = it; \
             const { x, y, width, height } = it.getBoundingClientRect(); return [x + width / 2, y + height / 2, it.pathname]",
            &[],
        )
        .await;
    let finger = |kind: &str, points: serde_json::Value| json!({"type": kind, "touchPoints": points});
    let down = finger("touchStart", json!([{"x": found[0], "y": found[1]}]));
    browser.cdp("Input.dispatchTouchEvent", &down).await;
    ci.open_request(&json!({"action": "The finger’s"})).await;
    browser.script(COMES_BACK, &[]).await;
    browser
        .wait_until("/^Newer at/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    // Longer than any movement holds.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(browser.script("return window.under.isConnected", &[]).await, true);
    assert!(!browser.text("main").await.contains("The finger"));
    let up = finger("touchEnd", json!([]));
    browser.cdp("Input.dispatchTouchEvent", &up).await;
    browser
        .wait_until(&format!("location.pathname === {}", found[2]))
        .await;
    browser.device(1280, 900, 1, false).await;
    browser.goto(&format!("{}{PAGE}", appliance.base())).await;
    // While keys are pressed, or text is selected to be copied: the same.
    ci.open_request(&json!({"action": "The key’s"})).await;
    let key = "dispatchEvent(new KeyboardEvent('keydown', { key: 'Tab' }))";
    browser
        .script(
            &format!("window.keys = setInterval(() => {key}, 200); {key}; {COMES_BACK}"),
            &[],
        )
        .await;
    browser
        .wait_until("/^Newer at/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    assert!(!browser.text("main").await.contains("The key"));
    browser.script("clearInterval(window.keys)", &[]).await;
    browser.wait_for_text("The key’s").await;
    ci.open_request(&json!({"action": "The selection’s"})).await;
    browser
        .script(
            "getSelection().selectAllChildren(document.querySelector('.card-link'))",
            &[],
        )
        .await;
    browser.script(COMES_BACK, &[]).await;
    browser
        .wait_until("/^Newer at/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!browser.text("main").await.contains("The selection"));
    browser.script("getSelection().removeAllRanges()", &[]).await;
    browser.wait_for_text("The selection’s").await;
    // Nobody is told aloud of a list that changes by itself.
    let aloud = browser
        .script(
            "return document.querySelectorAll('main [aria-live], main [role=status]').length",
            &[],
        )
        .await;
    assert_eq!(aloud, 0);

    browser.goto(&format!("{}/dashboard", appliance.base())).await;
    let waiting = "document.querySelector('#waiting-head').innerText.replace(/\\D/g, '')";
    browser.wait_until(&format!("{waiting} === '7'")).await;
    ci.open_request(&json!({"action": "The fifth"})).await;
    browser.script(COMES_BACK, &[]).await;
    browser.wait_until(&format!("{waiting} === '8'")).await;
    // Signed out elsewhere: it says so instead of showing another page's parts.
    let gone = browser
        .script_async(
            "const it = await fetch('/api/v1/session', { method: 'DELETE' }); return it.status",
            &[],
        )
        .await;
    assert_eq!(gone, 204);
    browser.script(COMES_BACK, &[]).await;
    browser
        .wait_until("/load the page again/.test(document.querySelector('[data-updated]').textContent)")
        .await;
    assert!(browser.text("main").await.contains("The first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_requests_is_searched_in_the_browser() {
    if !can_run("the_list_of_requests_is_searched_in_the_browser") {
        return;
    }
    let it = Gated::start().await;
    let change = it.open_with(
        "retry-cards",
        "main",
        "Retry the card payments",
        &Gated::commit_of_carl("a.rs"),
    );
    it.pending(&change, "main").await;
    let key = it.ada.create_api_key("Night robot", &["request"], &[]).await.key;
    let ci = it.appliance.api().with_key(&key);
    for n in 0..6 {
        let body = json!({"action": format!("Deploy card service 4.{n}"), "environment": "production", "project": "shop/api"});
        let id = ci.open_request(&body).await;
        if n > 2 {
            it.bea.approve(&id).await;
        }
    }
    let browser = Browser::start().await;
    browser.device(1280, 900, 1, false).await;
    browser.add_authenticator().await;
    let url = text(
        &it.ada.invite("Dana Reyes", &["admin", "approver"]).await,
        "invite_url",
    );
    browser.goto(&url).await;
    browser.click("[data-enrol] button").await;
    browser.wait_until("location.pathname === '/a/'").await;
    let base = it.appliance.base();
    browser.goto(&format!("{base}{PAGE}")).await;
    shoot(&browser, "requests").await;
    // Words that no id or commit begins with by chance.
    browser.fill("#q", "card service").await;
    browser.click(".search button").await;
    browser.wait_until("location.search.includes('q=card')").await;
    browser
        .wait_until("document.querySelectorAll('.card').length === 6")
        .await;
    browser.click(".search summary").await;
    browser.fill("#environment", "production").await;
    browser.click(".search details button").await;
    browser
        .wait_until("location.search.includes('environment=production')")
        .await;
    shoot(&browser, "requests-filtered").await;
    browser.click(".views summary").await;
    browser.fill("#view-name", "Cards to production").await;
    browser.click(".view-form [name=shared]").await;
    browser.click("button[value=save]").await;
    browser
        .wait_until("document.querySelector('.view-list [aria-current]')")
        .await;
    browser
        .script(
            "document.querySelectorAll('details').forEach((it) => (it.open = true))",
            &[],
        )
        .await;
    shoot(&browser, "requests-views").await;
    browser
        .goto(&format!("{base}{PAGE}?q=none+such&since=2020-01-01"))
        .await;
    shoot(&browser, "requests-none").await;
    browser.goto(&format!("{base}{PAGE}?kind=nonsense")).await;
    shoot(&browser, "requests-wrong").await;
}
