//! A language that the operator adds as a file: it is offered, chosen and spoken, with its own forms for numbers, in the pages and in
//! what their scripts say; what it lacks is English, and what programs are told stays so. Skipped, visibly, where chromium is not
//! installed.

use serde_json::json;

use crate::browser::can_run;
use crate::phone::Scene;
use crate::phone::enrolled_browser;
use crate::support::appliance::Options;
use crate::support::person::text;

/// A few texts in German. Its file is named by its tag, in the directory of `languages.directory`.
const GERMAN: &str = r##"
[language]
name = "Deutsch"
direction = "ltr"
plural = "n != 1"

[texts]
"Queue" = "Warteschlange"
"History" = "Verlauf"
"Language" = "Sprache"
"Use this language" = "Diese Sprache verwenden"
"Reject" = "Ablehnen"
"{n} decisions wait for you" = ["Eine Entscheidung wartet auf dich", "{n} Entscheidungen warten auf dich"]
"until {utc}" = "bis {utc}"
"{day} Nov" = "{day}. November"
"{day_and_month} {year}, {time} UTC" = "{day_and_month} {year}, {time} Uhr UTC"
"{time} left" = "noch {time}"
"Say why: this needs a comment." = "Sag, warum: ohne Kommentar geht das nicht."
"An approval may wait for you" = "Vielleicht wartet eine Freigabe auf dich"
"There is nothing here" = "Hier ist nichts"
"##;

#[tokio::test(flavor = "multi_thread")]
async fn a_language_that_is_added_as_a_file_is_offered_and_spoken() {
    let name = "a_language_that_is_added_as_a_file_is_offered_and_spoken";
    if !can_run(name) {
        return;
    }
    let it = Scene::start(Options {
        files: vec![("de.toml".to_owned(), GERMAN.into())],
        environment: vec![(
            "SIGNEDAPPROVAL_LANGUAGES__DIRECTORY".to_owned(),
            "{dir}".to_owned(),
        )],
        ..Options::default()
    })
    .await;
    let base = it.appliance.base();
    let first = it.request("Deploy api 4.2 to production").await;
    let browser = enrolled_browser(&text(&it.ada.invite("Dana", &["approver"]).await, "invite_url")).await;

    // Until somebody chooses it nothing is different but the way there.
    assert_eq!(browser.text("h1").await, "One decision waits for you");
    browser.click("footer a[href='/language']").await;
    browser.wait_until("location.pathname === '/language'").await;
    let offered = browser
        .script(
            "return [...document.querySelectorAll('fieldset label')].map((it) => it.innerText.trim())",
            &[],
        )
        .await;
    assert_eq!(offered, json!(["As the browser asks", "English", "Deutsch"]));
    browser.click("input[value='de']").await;
    browser.click("form[action='/language'] button").await;
    browser.wait_until("document.documentElement.lang === 'de'").await;
    assert_eq!(browser.text("h1").await, "Sprache");
    // What has no translation yet is English.
    assert!(browser.text("main").await.contains("As the browser asks"));

    browser.goto(&format!("{base}/a/")).await;
    assert_eq!(browser.text("h1").await, "Eine Entscheidung wartet auf dich");
    let nav = browser.text(".main-nav").await;
    assert!(nav.contains("Warteschlange") && nav.contains("Verlauf"), "{nav}");
    it.request("Deploy api 4.3 to production").await;
    browser.goto(&format!("{base}/a/")).await;
    assert_eq!(browser.text("h1").await, "2 Entscheidungen warten auf dich");
    // The script's own words, and a month with its day.
    browser
        .wait_until("/^noch \\d+:\\d\\d$/.test(document.querySelector('.countdown').textContent)")
        .await;

    // What a script says about a form.
    browser.goto(&format!("{base}/a/{first}")).await;
    browser.click("[data-answer='reject']:not([data-code])").await;
    browser.wait_until("document.querySelector('#wrong')").await;
    assert_eq!(
        browser.text("#wrong").await,
        "Sag, warum: ohne Kommentar geht das nicht."
    );
    drop(browser);

    // Without script: by what the browser asks for. A number has its form, a time its order.
    let api = it.appliance.api();
    let ask = |path: &str, language: &str| {
        let request = reqwest::Client::new()
            .get(format!("{base}{path}"))
            .header("accept-language", language);
        async move {
            let answer = request.send().await.expect("an answer");
            let spoken = answer
                .headers()
                .get("content-language")
                .map(|it| it.to_str().expect("text").to_owned());
            (spoken, answer.text().await.expect("text"))
        }
    };
    let (spoken, page) = ask("/language", "de-AT, en;q=0.5").await;
    assert_eq!(spoken.as_deref(), Some("de"));
    assert!(
        page.contains("<html lang=\"de\">") && page.contains("Diese Sprache verwenden"),
        "{page}"
    );
    let (spoken, page) = ask("/language", "fr").await;
    assert_eq!(spoken, None);
    assert!(page.contains("<html lang=\"en\">"), "{page}");
    let (_, worker) = ask("/sw.js", "de").await;
    assert!(
        worker.contains("\"waits\":\"Vielleicht wartet eine Freigabe auf dich\""),
        "{worker}"
    );
    // Programs get English, whatever they ask for.
    let refused = api.get("/api/v1/nothing").await;
    assert_eq!(refused.json()["title"], "There is nothing here");
}
