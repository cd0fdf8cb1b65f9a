//! A form that is refused keeps what was typed, and says what is wrong beside the field, where the focus then is. Skipped,
//! visibly, where chromium is not installed.

use serde_json::json;

use crate::browser::can_run;
use crate::pages::every_page::{ELSEWHERE, joined};
use crate::pages::{routes, texts};
use crate::phone::Scene;
use crate::phone::enrolled_browser;
use crate::support::appliance::Options;
use crate::support::browser::Browser;
use crate::support::gated::{Gated, Hook};
use crate::support::person::text;

/// Hides something: no name may.
const HIDDEN: &str = "Bea\u{200b}";

/// A form, what is typed into it, and the field that is refused.
struct Case {
    page: &'static str,
    /// The form.
    form: &'static str,
    fields: &'static [(&'static str, &'static str)],
    refused: &'static str,
    /// Part of what is said.
    says: &'static str,
}

const CASES: &[Case] = &[
    Case {
        page: "/dashboard/people",
        form: "#add form",
        fields: &[
            ("name", HIDDEN),
            ("email", "bea@example.com"),
            ("reason", "new here"),
        ],
        refused: "name",
        says: "No control or invisible characters",
    },
    Case {
        page: "/dashboard/people",
        form: "#add form",
        fields: &[("name", "Bea"), ("email", "bea@example.com"), ("reason", "   ")],
        refused: "reason",
        says: "",
    },
    Case {
        page: "/dashboard/groups",
        form: "form[data-to='/api/v1/groups']",
        fields: &[("name", HIDDEN), ("reason", "a test")],
        refused: "name",
        says: "invisible",
    },
    Case {
        page: "/dashboard/api-keys",
        form: "#add form",
        fields: &[("name", HIDDEN), ("projects", "group/app"), ("reason", "a test")],
        refused: "name",
        says: "invisible",
    },
    Case {
        page: "/dashboard/integrations/gitlab",
        form: "#connect form",
        fields: &[
            ("name", "Ours"),
            ("base_url", "http://gitlab.example"),
            ("token", "glpat-not-a-real-one"),
            ("reason", "a test"),
        ],
        refused: "base_url",
        says: "",
    },
    Case {
        page: "/dashboard/settings/log-sinks",
        form: "form:has(#hook-url)",
        fields: &[
            ("name", "Archive"),
            ("url", "https://user:secret@archive.example/"),
            ("reason", "a test"),
        ],
        refused: "url",
        says: "",
    },
    Case {
        page: "/dashboard/integrations/github",
        form: "#connect > form",
        fields: &[
            ("name", "Gate"),
            ("organization", "our company!"),
            ("base_url", "https://github.example"),
        ],
        refused: "organization",
        says: "as it stands in its address",
    },
];

/// The field that is refused, and what is wrong with how that is told.
const TOLD: &str = r##"
    const [form, fields] = arguments;
    const note = document.querySelector("#wrong");
    const field = document.querySelector("[aria-invalid=true]");
    const wrong = [];
    if (!note) return [["nothing is said beside a field"], "", ""];
    if (!field) return [["no field is marked"], "", note.textContent];
    if (document.activeElement !== field) wrong.push("the focus is elsewhere");
    if (!field.getAttribute("aria-describedby")?.split(" ").includes("wrong")) wrong.push("the field is not described by it");
    if (note.getAttribute("role") !== "alert") wrong.push("nobody is alerted");
    const [a, b] = [field.getBoundingClientRect(), note.getBoundingClientRect()];
    if (b.top < a.bottom - 1 || b.top > a.bottom + 24 || b.height < 10) wrong.push(`it stands ${b.top - a.bottom} below the field`);
    if (a.bottom > innerHeight || a.top < 0) wrong.push("the field is out of sight");
    if (note.textContent.includes("`")) wrong.push("it is said to a machine");
    for (const [name, typed] of fields) {
        const kept = document.querySelector(form).elements[name].value;
        if (kept !== typed) wrong.push(`${name} is ${kept}, no more ${typed}`);
    }
    return [wrong, field.name, note.textContent];
"##;

/// Every field of every form of the page, refused in turn by an answer as the server gives it: what is typed stays, and what is
/// wrong is said beside the field, which has the focus. Answers what is wrong, and how many forms and fields there were.
const SWEEP: &str = r##"
    const wrong = [];
    let [forms, fields] = [0, 0];
    document.querySelectorAll("details").forEach((it) => (it.open = true));
    const state = (form) => JSON.stringify([...form.elements].filter((it) => it.name).map((it) => [it.name, it.value, it.checked]));
    const seen = (it) => it.checkVisibility({ visibilityProperty: true });
    const real = window.fetch;
    for (const form of document.querySelectorAll("main form[data-form]")) {
        if (!seen(form)) continue;
        forms++;
        const asked = new Set();
        for (const field of form.elements) {
            const { name, type } = field;
            if (!name || asked.has(name) || !seen(field) || /hidden|submit|button|fieldset/.test(type)) continue;
            asked.add(name);
            fields++;
            const where = `${form.dataset.to} ${name}`;
            for (const it of form.elements) {
                if (/^(text|url|password|search|textarea)$/.test(it.type) && !it.readOnly && !it.inputMode) it.value ||= "typed";
            }
            const before = state(form);
            const answer = { field: name === "reason" ? "X-Reason" : name, detail: "`x`: This is not taken." };
            window.fetch = async () => new Response(JSON.stringify(answer), { status: 422 });
            form.onsubmit();
            for (let n = 0; n < 50 && form.ariaBusy !== "false"; n++) await new Promise((done) => setTimeout(done, 2));
            window.fetch = real;
            const note = document.querySelector("#wrong");
            if (!note) { wrong.push(`${where}: nothing is said beside it`); continue; }
            if (note.textContent !== "This is not taken.") wrong.push(`${where}: ${note.textContent}`);
            if (note.getAttribute("role") !== "alert") wrong.push(`${where}: nobody is alerted`);
            const at = document.activeElement;
            if (at.name !== name || at.form !== form) wrong.push(`${where}: the focus is at ${at.outerHTML.slice(0, 80)}`);
            if (at.ariaInvalid !== "true") wrong.push(`${where}: it is not marked`);
            if (!at.getAttribute("aria-describedby")?.split(" ").includes("wrong")) wrong.push(`${where}: it is not described`);
            const [a, b] = [(/checkbox|radio/.test(type) && field.closest("fieldset") || field).getBoundingClientRect(), note.getBoundingClientRect()];
            const gap = b.top - (a.bottom > b.bottom - 1 ? b.top : a.bottom);
            if (gap < -1 || gap > 24 || b.height < 10) wrong.push(`${where}: it is said ${gap} below`);
            if (state(form) !== before) wrong.push(`${where}: what was typed is gone`);
            if (document.querySelectorAll("#wrong, [aria-invalid=true]").length > 2 + form.querySelectorAll("[aria-invalid=true]").length) wrong.push(`${where}: more is marked`);
        }
    }
    return [wrong, forms, fields];
"##;

async fn refused(browser: &Browser, base: &str, case: &Case) -> Vec<String> {
    browser.goto(&format!("{base}{}", case.page)).await;
    browser
        .script(
            "document.querySelectorAll('details').forEach((it) => (it.open = true))",
            &[],
        )
        .await;
    for (name, typed) in case.fields {
        browser
            .fill(&format!("{} [name='{name}']", case.form), typed)
            .await;
    }
    browser
        .click(&format!("{} button:not([type=button])", case.form))
        .await;
    browser
        .wait_until("document.querySelector('#wrong, [data-error]:not(:empty)')?.textContent")
        .await;
    let found = browser
        .script(TOLD, &[json!(case.form), json!(case.fields)])
        .await;
    let mut wrong = texts(&found[0]);
    let (field, said) = (found[1].as_str().unwrap_or(""), found[2].as_str().unwrap_or(""));
    if field != case.refused || !said.contains(case.says) || said.len() < 8 {
        wrong.push(format!("{field:?} is refused: {said:?}"));
    }
    if !wrong.is_empty() {
        wrong.push(format!("the page says {:?}", browser.text("main").await));
    }
    wrong
        .iter_mut()
        .for_each(|it| *it = format!("{} {}: {it}", case.page, case.refused));
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_form_keeps_its_input_and_says_what_is_wrong_beside_the_field() {
    let name = "a_refused_form_keeps_its_input_and_says_what_is_wrong_beside_the_field";
    if !can_run(name) {
        return;
    }
    let it = Scene::new().await;
    let base = it.appliance.base();
    let waiting = it.request("Deploy").await;
    let url = text(
        &it.ada.invite("Dana Reyes", &["approver", "admin"]).await,
        "invite_url",
    );
    let browser = enrolled_browser(&url).await;
    browser.device(1280, 900, 1, false).await;
    let mut wrong = Vec::new();
    for case in CASES {
        wrong.extend(refused(&browser, &base, case).await);
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));

    // Once more, and right: nothing of the refusal is left, and it is taken.
    browser.goto(&format!("{base}/dashboard/people")).await;
    browser.fill("#name", HIDDEN).await;
    browser.fill("#email", "eve@example.com").await;
    browser.click("#add form button").await;
    browser.element("#wrong").await;
    browser.fill("#name", "Eve").await;
    browser.click("#add form button").await;
    browser
        .wait_until("!document.querySelector('#invited').hidden")
        .await;
    assert!(browser.find("#wrong, [aria-invalid]").await.is_none());
    // What no field is to blame for stands at the form's end, and nothing is lost either.
    browser.goto(&format!("{base}/dashboard/groups")).await;
    for _ in 0..2 {
        browser.fill("#name", "release").await;
        browser.click("form[data-to='/api/v1/groups'] button").await;
        browser
            .wait_until(
                "document.querySelector('.rows') && (document.querySelector('#name').value === '' \
                 || [...document.querySelectorAll('[data-error]')].some((it) => it.textContent))",
            )
            .await;
    }
    let said = browser.text("form[data-to='/api/v1/groups'] [data-error]").await;
    assert!(said.contains("release") && said.contains("exists"), "{said}");
    // A decision that lacks its reason.
    browser.goto(&format!("{base}/a/{waiting}")).await;
    browser.click("[data-answer=reject]").await;
    browser.wait_for_text("this needs a comment").await;
    let found = browser.script(TOLD, &[json!("[data-decide]"), json!([])]).await;
    assert_eq!(found[0], json!([]), "{found}");
    assert_eq!(found[1], "comment");
}

/// Whatever form there is, in a company that has one of everything.
#[tokio::test(flavor = "multi_thread")]
async fn every_form_keeps_what_was_typed_and_tells_beside_each_of_its_fields_what_is_wrong() {
    let name = "every_form_keeps_what_was_typed_and_tells_beside_each_of_its_fields_what_is_wrong";
    if !can_run(name) {
        return;
    }
    let options = Options::default().config("[sinks]\ndirectory = \"{dir}\"\n");
    let it = Gated::start_in(options, Hook::Token, json!({"environments": ["*"]})).await;
    let (ada, base) = (&it.ada, it.appliance.base());
    ada.create_group("release", &[&it.bea]).await;
    for body in [
        json!({"name": "File", "kind": "file", "file": "journal"}),
        json!({"name": "Hook", "kind": "webhook", "url": "http://127.0.0.1:9/"}),
    ] {
        ada.post("/api/v1/sinks", &body).await.expect(201);
    }
    let chat =
        json!({"name": "Room", "kind": "slack", "audience": "everyone", "url": "https://chat.invalid/"});
    ada.post("/api/v1/chats", &chat).await.expect(201);
    let change = it.open("feature", "main");
    let waiting = it.pending(&change, "main").await;
    let url = text(
        &ada.invite("Olga", &["admin", "auditor", "approver"]).await,
        "invite_url",
    );
    let browser = joined(&url).await;
    let mut paths: Vec<String> = routes()
        .into_iter()
        .filter_map(|it| it.strip_prefix("GET ").map(str::to_owned))
        .filter(|it| !it.contains('{') && !ELSEWHERE.contains(&format!("GET {it}").as_str()))
        .collect();
    paths.push(format!("/a/{waiting}"));
    paths.push(format!("/dashboard/integrations/gitlab/{}/gate", it.project));
    paths.push(format!(
        "/dashboard/integrations/gitlab/{}/gate?enforcement=merge_broker",
        it.project
    ));
    let (mut wrong, mut forms, mut fields) = (Vec::new(), 0, 0);
    for path in &paths {
        browser.goto(&format!("{base}{path}")).await;
        browser
            .wait_until(
                "document.readyState === 'complete' \
                 && [...document.querySelectorAll('main form[data-form]')].every((it) => it.onsubmit)",
            )
            .await;
        let found = browser.script_async(SWEEP, &[]).await;
        wrong.extend(texts(&found[0]).into_iter().map(|it| format!("{path}: {it}")));
        forms += found[1].as_u64().expect("a number");
        fields += found[2].as_u64().expect("a number");
    }
    println!("{forms} forms, {fields} fields on {} pages", paths.len());
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(forms >= 40 && fields >= 120, "{forms} forms, {fields} fields");
}
