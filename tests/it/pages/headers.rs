//! Our answers by the rules of Mozilla's HTTP Observatory (its published table: 100 to begin with, what is lacking costs,
//! and from 90 on what is done beyond that counts), over TLS, for every page.

use std::collections::BTreeMap;

use crate::pages::routes;
use crate::support::appliance::Answer;
use crate::support::appliance::Appliance;
use crate::support::authority::Authority;
use crate::support::person::Person;

/// Less than this in `Strict-Transport-Security` costs: six months, in seconds.
const SIX_MONTHS_SECONDS: u64 = 15_552_000;
/// Extra credit counts from here on.
const CREDIT_FROM: i32 = 90;

/// What each rule adds or takes, by its name.
type Marks = BTreeMap<&'static str, i32>;

fn policy(text: &str) -> BTreeMap<String, Vec<String>> {
    let directives = text.split(';').filter_map(|it| {
        let mut words = it.split_whitespace().map(str::to_lowercase);
        Some((words.next()?, words.collect()))
    });
    directives.collect()
}

fn content_security_policy(text: Option<&str>) -> i32 {
    let Some(text) = text else { return -25 };
    let policy = policy(text);
    let any = vec!["*".to_owned()];
    let of = |name: &str| policy.get(name).or(policy.get("default-src")).unwrap_or(&any);
    let broad = |it: &String| ["*", "http:", "https:", "ftp:"].contains(&it.as_str());
    let inline = |it: &String| it == "'unsafe-inline'" || it == "data:";
    let (scripts, styles) = (of("script-src"), of("style-src"));
    let open = |it: &String| broad(it) || inline(it);
    let plain = |list: &[String]| {
        list.iter()
            .any(|it| it.starts_with("http:") || it.starts_with("ftp:"))
    };
    let passive = ["img-src", "media-src"];
    let active = |(name, list): (&String, &Vec<String>)| !passive.contains(&name.as_str()) && plain(list);
    if scripts.iter().any(open) || of("object-src").iter().any(broad) || policy.iter().any(active) {
        return -20;
    }
    if scripts.iter().chain(styles).any(|it| it == "'unsafe-eval'") || passive.iter().any(|it| plain(of(it)))
    {
        return -10;
    }
    if styles.iter().any(open) {
        return 0;
    }
    match policy.get("default-src") {
        Some(list) if list == &["'none'"] => 10,
        _ => 5,
    }
}

/// Of all cookies, the worst.
fn cookies(lines: &[String]) -> i32 {
    let one = |line: &String| {
        let lower = line.to_lowercase();
        let has = |word: &str| lower.split(';').skip(1).any(|it| it.trim() == word);
        let same_site = has("samesite=strict") || has("samesite=lax");
        match (has("secure"), has("httponly"), same_site) {
            (false, ..) => -40,
            (_, false, _) => -30,
            (.., false) => 0,
            _ => 5,
        }
    };
    lines.iter().map(one).min().unwrap_or(0)
}

fn transport(text: Option<&str>) -> i32 {
    let text = text.unwrap_or_default().to_lowercase();
    let parts: Vec<&str> = text.split(';').map(str::trim).collect();
    let age = parts.iter().find_map(|it| it.strip_prefix("max-age="));
    match age.and_then(|it| it.parse::<u64>().ok()) {
        None => -20,
        Some(it) if it < SIX_MONTHS_SECONDS => -10,
        Some(_) if parts.contains(&"preload") && parts.contains(&"includesubdomains") => 5,
        Some(_) => 0,
    }
}

/// Scripts of a page: from elsewhere they need a digest.
fn scripts(page: &str) -> i32 {
    let mut worst = 0;
    for tag in page.split("<script").skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let elsewhere = tag.contains("src=\"//") || tag.contains("src=\"http");
        if elsewhere && !tag.contains("integrity=") {
            worst = worst.min(-50);
        }
    }
    worst
}

fn marks(answer: &Answer, set_cookies: &[String]) -> Marks {
    let header = |name: &str| answer.header(name);
    let framed = policy(header("content-security-policy").unwrap_or_default());
    let frames = match (framed.contains_key("frame-ancestors"), header("x-frame-options")) {
        (true, _) => 5,
        (_, Some("DENY" | "SAMEORIGIN")) => 5,
        _ => -20,
    };
    let referrer = match header("referrer-policy") {
        Some("no-referrer" | "same-origin" | "strict-origin" | "strict-origin-when-cross-origin") => 5,
        None => 0,
        Some(_) => -5,
    };
    let resource = match header("cross-origin-resource-policy") {
        Some("same-origin" | "same-site") => 10,
        Some("cross-origin") | None => 0,
        Some(_) => -5,
    };
    Marks::from([
        (
            "content security policy",
            content_security_policy(header("content-security-policy")),
        ),
        ("cookies", cookies(set_cookies)),
        (
            "cross-origin sharing",
            if header("access-control-allow-origin").is_some() {
                -50
            } else {
                0
            },
        ),
        ("cross-origin resource policy", resource),
        ("framing", frames),
        ("referrer policy", referrer),
        (
            "strict transport security",
            transport(header("strict-transport-security")),
        ),
        ("subresource integrity", scripts(&answer.text())),
        (
            "content type options",
            if header("x-content-type-options") == Some("nosniff") {
                0
            } else {
                -5
            },
        ),
    ])
}

/// First what is lacking, then, for whoever is good enough, the extra credit.
fn score(marks: &Marks) -> i32 {
    let base = 100 + marks.values().filter(|it| **it < 0).sum::<i32>();
    let credit: i32 = marks.values().filter(|it| **it > 0).sum();
    if base >= CREDIT_FROM {
        base + credit
    } else {
        base.max(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_scores_135_by_the_observatorys_rules() {
    let authority = Authority::new("tests");
    let appliance = Appliance::start(crate::tls::options(&authority, "")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    // The cookie there is, as it is set when somebody signs in.
    let options = ada.post("/api/v1/session/options", &serde_json::json!({})).await;
    let options = options.expect(200);
    let credential = ada.authenticator().get(&options["publicKey"]).expect("it signs");
    let body = serde_json::json!({"ceremony": options["ceremony"], "credential": credential});
    let opened = ada.post("/api/v1/session", &body).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    let cookies: Vec<String> = opened
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|it| it.to_str().expect("ASCII").to_owned())
        .collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert!(cookies[0].starts_with("__Host-"), "{cookies:?}");

    let mut paths: Vec<String> = routes()
        .iter()
        .filter_map(|it| it.strip_prefix("GET "))
        .filter(|it| !it.contains('{'))
        .map(str::to_owned)
        .collect();
    let more = [
        "/a/x",
        "/nothing",
        "/problems/invalid",
        "/static/app.js",
        "/static/app.css",
        "/api/v1/me",
        "/sw.js",
    ];
    paths.extend(more.map(str::to_owned));
    for path in &paths {
        let answer = ada.get(path).await;
        let marks = marks(&answer, &cookies);
        let score = score(&marks);
        if path == "/login" || path == "/dashboard" {
            println!("{path}: {score}, 100 and {marks:?}");
        }
        assert!(score >= 120, "{path}: {score}, {marks:?}");
        // Data gets a policy of its own, without anything that could be loaded.
        assert_eq!(score, 135, "{path}: {marks:?}");
        // Beyond those rules: a page is alone in its browsing context group.
        let page = answer
            .header("content-type")
            .is_some_and(|it| it.starts_with("text/html"));
        if page {
            assert_eq!(
                answer.header("cross-origin-opener-policy"),
                Some("same-origin"),
                "{path}"
            );
        }
    }

    // The rules bite.
    for (loose, worth) in [
        (None, -25),
        (Some("default-src 'none'; script-src 'unsafe-inline'"), -20),
        (Some("default-src 'none'; script-src https:"), -20),
        (Some("script-src 'self'"), -20),
        (Some("default-src 'self'; script-src 'unsafe-eval'"), -10),
        (Some("default-src 'self'; style-src 'unsafe-inline'"), 0),
        (Some("default-src 'self'"), 5),
        (Some("default-src 'none'"), 10),
    ] {
        assert_eq!(content_security_policy(loose), worth, "{loose:?}");
    }
    let loose = |it: &str| crate::pages::headers::cookies(&[it.to_owned()]);
    assert_eq!(loose("a=b; HttpOnly; SameSite=Strict"), -40);
    assert_eq!(loose("a=b; Secure; SameSite=Strict"), -30);
    assert_eq!(loose("a=b; Secure; HttpOnly"), 0);
    assert_eq!((transport(None), transport(Some("max-age=60"))), (-20, -10));
    assert_eq!(scripts("<script src=\"https://cdn.example/a.js\"></script>"), -50);
}
