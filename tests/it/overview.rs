//! The dashboard's first page: what waits and for how long, how each part is doing, the last days in numbers and charts. And,
//! by `SIGNEDAPPROVAL_OVERVIEW_FIGURES=100000` (requests), how fast it answers with a long journal.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use signedapproval::clock::Clock;
use signedapproval::domain::branch::Way;
use signedapproval::domain::command::{Command, OpenRequest};
use signedapproval::domain::event::{Actor, Event};
use signedapproval::domain::ids::{ApiKeyId, Digest, ProjectId, RequestId};
use signedapproval::domain::request::Requester;
use signedapproval::domain::time::Time;
use signedapproval::engine::{Submission, Writer, begin_instance};
use signedapproval::evidence::subject::{ActionKind, ActionSubject};
use signedapproval::signing::{FileSigner, Keys, open_key_file};
use signedapproval::store::Store;

use crate::browser::{assert_clean, can_run, shoot};
use crate::support::appliance::{Appliance, Options};
use crate::support::browser::Browser;
use crate::support::person::Person;

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// A clock that a hand moves.
struct HandClock(AtomicI64);

/// What ended a request.
type EndOf = fn(RequestId) -> Event;

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
}

/// The journal of an appliance that began long ago and is not running.
struct Past {
    clock: Arc<HandClock>,
    writer: Writer,
    opened: u64,
}

impl Past {
    /// Takes the place of a stopped appliance's journal, with its own keys.
    fn of(appliance: &Appliance, public_url: &str, from: i64) -> Past {
        let folder = appliance.data_dir().join("keys");
        let passphrase = fs::read_to_string(folder.join("passphrase")).expect("evaluation keeps it");
        let key = |name: &str| {
            let key = open_key_file(&folder.join(name), passphrase.trim_end()).expect("opens");
            Arc::new(FileSigner::new(key))
        };
        let keys = Keys {
            credential: key("credential.pem"),
            log: key("log.pem"),
        };
        let database = appliance.data_dir().join("journal.redb");
        fs::remove_file(&database).expect("it is stopped");
        let instance = "6f1c2a34-0b5d-4e6f-8a7b-9c0d1e2f3a4b";
        let store = Arc::new(Store::create(&database, instance).expect("made"));
        let clock = Arc::new(HandClock(AtomicI64::new(from)));
        let begun = begin_instance(store, keys, clock.clone(), public_url, instance, "test").expect("begins");
        Past {
            clock,
            writer: begun.writer,
            opened: 0,
        }
    }

    fn at(&self, time: i64) {
        self.clock.0.store(time, Ordering::SeqCst);
    }

    fn give(&mut self, commands: Vec<Command>) {
        let submission = |command| Submission {
            actor: Actor::System,
            command,
            secrets: Vec::new(),
            cursor: None,
        };
        let all = commands.into_iter().map(submission).collect();
        let (results, _) = self.writer.write(all).expect("written");
        results.into_iter().for_each(|it| drop(it.expect("recorded")));
    }

    fn request(&mut self, environment: Option<&str>) -> (RequestId, Command) {
        self.opened += 1;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.opened.to_be_bytes());
        let id = RequestId::from_random(random);
        let key = ApiKeyId::from_random([5; 16]);
        let (action, requester) = (format!("Deploy build {}", self.opened), format!("key:{key}"));
        let subject = ActionSubject {
            kind: match environment {
                Some(_) => ActionKind::Deployment,
                None => ActionKind::Action,
            },
            action: &action,
            environment,
            project: None,
            digest: None,
            requester: &requester,
            claimed_sha256: Digest::of(b""),
            job: None,
        };
        let subject = String::from_utf8(subject.to_bytes()).expect("JSON");
        let open = OpenRequest {
            id: id.clone(),
            environment: environment.map(str::to_owned),
            project: None,
            digest: None,
            claimed: None,
            // Without one it would be over before it is looked at.
            ttl_seconds: Some(6 * 86_400),
            requester: Requester::Key {
                id: key,
                name: "CI".into(),
            },
            owner: None,
            trial: false,
            subject,
            idempotency: None,
            callback_url: None,
            action,
        };
        (id, Command::OpenRequest(Box::new(open)))
    }

    /// Opens requests, and ends each after so many seconds as `how` says.
    fn ended(&mut self, opened: i64, all: &[(u64, EndOf)]) {
        self.at(opened);
        let (ids, commands): (Vec<_>, Vec<_>) = all.iter().map(|_| self.request(None)).unzip();
        self.give(commands);
        let mut events: Vec<(u64, Event)> = all.iter().zip(ids).map(|(it, id)| (it.0, (it.1)(id))).collect();
        events.sort_by_key(|it| it.0);
        for (seconds, event) in events {
            self.at(opened + i64::try_from(seconds).expect("short") * 1000);
            self.give(vec![Command::Record { events: vec![event] }]);
        }
    }
}

fn nothing() -> Digest {
    Digest::of(b"nothing")
}

fn approved(request: RequestId) -> Event {
    Event::RequestApproved {
        request,
        outcome_sha256: nothing(),
        expires_at: None,
    }
}

fn rejected(request: RequestId) -> Event {
    Event::RequestRejected {
        request,
        outcome_sha256: nothing(),
    }
}

fn expired(request: RequestId) -> Event {
    Event::RequestExpired {
        request,
        outcome_sha256: nothing(),
    }
}

fn bypass() -> Event {
    Event::ExceptionUnapprovedChange {
        project: ProjectId::from_random([3; 16]),
        way: Way::Pushed,
        change: None,
        head: "a".repeat(40),
        target: "refs/heads/main".into(),
        by: None,
        commit: None,
        before: None,
        commits: Vec::new(),
        reason: String::new(),
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Midnight, UTC, of this day.
fn midnight() -> i64 {
    now().div_euclid(DAY_MS) * DAY_MS
}

fn date(at: i64) -> String {
    Time(at).to_the_second()[..10].to_owned()
}

/// The page once everything is counted.
async fn counted(person: &Person) -> String {
    let began = Instant::now();
    loop {
        let page = person.get("/dashboard").await.text();
        if !page.contains("Counting…") {
            return page;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it is never counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_tells_what_waits_how_it_is_and_the_last_days_in_numbers() {
    let midnight = midnight();
    let day = |back: i64| midnight - back * DAY_MS;
    let mut appliance = Appliance::start(Options::default()).await;
    let public_url = appliance.public_url();
    appliance.stop().await;
    let mut past = Past::of(&appliance, &public_url, day(45));
    // Older than what is told.
    past.ended(day(40), &[(60, approved), (60, approved)]);
    for back in (2..30).rev() {
        // Within one day, so that no part of it lies on the next.
        past.ended(
            day(back) + HOUR_MS,
            &[(600, approved), (7_200, approved), (30, rejected)],
        );
        if back % 3 == 0 {
            past.ended(day(back) + 12 * HOUR_MS, &[(3_600, expired)]);
        }
        if back == 9 {
            past.give(vec![Command::Record {
                events: vec![bypass(), bypass()],
            }]);
        }
    }
    // Opened two days ago, so still waiting: as old as that.
    past.at(day(2) + 20 * HOUR_MS);
    let (_, waits) = past.request(Some("production"));
    let (_, also) = past.request(Some("staging <b>"));
    past.give(vec![waits, also]);
    drop(past);
    appliance.restart().await;

    let ada = Person::set_up(&appliance, "Ada").await;
    let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    for n in 0..6 {
        let request = ci.open_request(&json!({"action": format!("Today {n}")})).await;
        match n {
            0 => drop(bea.reject(&request, "No").await),
            _ => drop(bea.approve(&request).await),
        }
    }
    ci.open_request(&json!({"action": "Roll out", "environment": "production"}))
        .await;
    let page = counted(&ada).await;

    // Each day has its own numbers, and what was decided a moment ago is in them.
    for (at, cells) in [(day(2), [2, 1, 0, 0]), (day(3), [2, 1, 1, 0])] {
        let cells: String = cells.iter().map(|it| format!("<td>{it}</td>")).collect();
        let row = format!("<tr><td>{}</td>{cells}</tr>", date(at));
        assert!(page.contains(&row), "{row} is not in {page}");
    }
    let times = format!("<tr><td>{}</td><td>10 min</td><td>2 h</td></tr>", date(day(2)));
    assert!(page.contains(&times), "{times}");
    let around = format!("<tr><td>{}</td><td>2</td><td>0</td><td>0</td></tr>", date(day(9)));
    assert!(page.contains(&around), "{around}");
    assert!(!page.contains(&format!("<tr><td>{}</td>", date(day(40)))));
    // At midnight the days move on.
    if date(midnight) == date(now()) {
        for (at, cells) in [(day(29), [2, 1, 0, 0]), (day(0), [5, 1, 0, 0])] {
            let cells: String = cells.iter().map(|it| format!("<td>{it}</td>")).collect();
            let row = format!("<tr><td>{}</td>{cells}</tr>", date(at));
            assert!(page.contains(&row), "{row}");
        }
        assert!(page.contains("6 decisions by people today"));
    }
    // What waits, by age and place; text from outside stays text.
    for text in [
        "<h2 id=\"waiting-head\">Waiting <span class=\"dim\">3</span></h2>",
        "the oldest 1 day",
        "staging &#60;b&#62;",
        "production",
    ] {
        assert!(
            page.contains(text) || (text == "the oldest 1 day" && page.contains("the oldest 2 days")),
            "{text}: {page}"
        );
    }
    for sign in [
        "none connected",
        "none set up",
        "reach nobody yet",
        "in reach, in files",
        "not scheduled",
        " free",
        "not behind the journal",
    ] {
        assert!(page.contains(sign), "{sign}");
    }
    assert!(!page.contains("style="), "the policy for content forbids it");

    if !can_run("the_overview_tells_what_waits_how_it_is_and_the_last_days_in_numbers") {
        return;
    }
    let browser = Browser::start().await;
    browser.goto(&format!("{}/help", appliance.base())).await;
    let cookie = ada.session_cookie().expect("signed in");
    let (name, value) = cookie.split_once('=').expect("a cookie");
    browser
        .cdp(
            "Network.setCookie",
            &json!({"name": name, "value": value, "url": appliance.base(), "httpOnly": true, "sameSite": "Strict"}),
        )
        .await;
    browser.goto(&format!("{}/dashboard", appliance.base())).await;
    browser.wait_for_text("The last 30 days").await;
    shoot(&browser, "overview").await;
    let colours = browser
        .script(
            "return ['approved-bar', 'rejected-bar'].map((it) => getComputedStyle(document.querySelector('.charts figure rect.' + it)).fill)",
            &[],
        )
        .await;
    assert!(
        colours[0] != colours[1] && colours[0] != "rgb(0, 0, 0)",
        "{colours}"
    );
    browser
        .script(
            "document.querySelectorAll('.charts details').forEach((it) => { it.open = true; }); return 1",
            &[],
        )
        .await;
    shoot(&browser, "overview-tables").await;
    assert_clean(&browser, &appliance).await;
}

/// Fills a journal with requests that ended, some of them on every day, and says how long the page takes.
#[tokio::test(flavor = "multi_thread")]
async fn the_overview_answers_fast_with_a_long_journal() {
    let Some(requests) = std::env::var("SIGNEDAPPROVAL_OVERVIEW_FIGURES")
        .ok()
        .and_then(|it| it.parse::<usize>().ok())
    else {
        eprintln!("skipped: set SIGNEDAPPROVAL_OVERVIEW_FIGURES to a number of requests");
        return;
    };
    let midnight = midnight();
    let day = |back: i64| midnight - back * DAY_MS;
    let mut appliance = Appliance::start(Options::default()).await;
    let public_url = appliance.public_url();
    appliance.stop().await;
    let mut past = Past::of(&appliance, &public_url, day(30));
    let (groups, began) = (requests.div_ceil(250), Instant::now());
    for group in 0..groups {
        let share = i64::try_from(group).expect("few") * 28 * DAY_MS / i64::try_from(groups).expect("few");
        past.at(day(29) + share);
        let (ids, commands): (Vec<_>, Vec<_>) = (0..250).map(|_| past.request(Some("production"))).unzip();
        past.give(commands);
        past.at(day(29) + share + 60_000);
        // Of the last ones, 500 wait.
        if group + 2 < groups {
            let events = ids.into_iter().map(approved).collect();
            past.give(vec![Command::Record { events }]);
        }
    }
    drop(past);
    println!(
        "{requests} requests written in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    appliance.restart().await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let began = Instant::now();
    let page = counted(&ada).await;
    println!(
        "counted {:.1} s after the first look; the page has {} kB",
        began.elapsed().as_secs_f64(),
        page.len() / 1000
    );
    let mut took = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(ada.get("/dashboard").await.status, 200);
        took.push(began.elapsed());
    }
    took.sort();
    println!(
        "the page over loopback, 200 times: median {:?}, nine of ten within {:?}, at most {:?}",
        took[100], took[180], took[199]
    );
}
