//! Tests of webhooks, of paging, and of whole calls against a scripted server.

use crate::domain::facts::ChangeFacts;
use crate::domain::facts::ChangeState;
use crate::domain::facts::Part;
use crate::domain::ids::ProjectId;
use crate::domain::project::ForgeKind;
use crate::domain::request::GateState;
use crate::forge::Connection;
use crate::forge::Forge;
use crate::forge::Hint;
use crate::forge::HookEvent;
use crate::forge::HookRefusal;
use crate::forge::HookSecret;
use crate::forge::MergeOutcome;
use crate::forge::Pushed;
use crate::forge::StatusWrite;
use crate::forge::connect;
use crate::forge::gitlab::is_commit_id;
use crate::forge::gitlab::next_page;
use crate::forge::gitlab::webhook::parse;
use crate::forge::gitlab::webhook::verify;
use crate::outbound::Error;
use crate::outbound::Outcome;
use crate::outbound::Secret;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
const BASE: &str = "f123456789abcdef0123456789abcdef01234567";
const NOW: i64 = 1_795_341_600;

// ---------------------------------------------------------------------------------------------- webhooks

fn secret() -> HookSecret {
    HookSecret::read(HookSecret::text_from_random(&[7; 32])).expect("long enough")
}

fn verified(secret: &HookSecret, headers: &[(&str, &str)], body: &[u8]) -> bool {
    let header = |name: &str| {
        headers
            .iter()
            .find(|(it, _)| *it == name)
            .map(|(_, value)| (*value).to_owned())
    };
    verify(secret, &header, body, NOW).is_ok()
}

fn signed(secret: &HookSecret, id: &str, time: i64, body: &[u8]) -> String {
    let reference =
        standardwebhooks::Webhook::new(secret.token.expose()).expect("the reference takes our form");
    reference.sign(id, time, body).expect("signed")
}

#[test]
fn a_signature_of_the_reference_implementation_verifies() {
    let (secret, body) = (secret(), br#"{"object_kind":"push"}"#);
    let at = |time: i64| {
        let signature = signed(&secret, "msg_1", time, body);
        verified(
            &secret,
            &[
                ("webhook-id", "msg_1"),
                ("webhook-timestamp", &time.to_string()),
                ("webhook-signature", &signature),
            ],
            body,
        )
    };
    assert!(at(NOW) && at(NOW - 300) && at(NOW + 300));
    assert!(!at(NOW - 301) && !at(NOW + 301) && !at(0) && !at(i64::MIN) && !at(i64::MAX));
}

#[test]
fn a_wrong_signature_is_not_made_good_by_anything() {
    let (secret, body) = (secret(), b"{}");
    let time = NOW.to_string();
    let good = signed(&secret, "msg_1", NOW, body);
    let bad = good.replace("v1,", "v1,A");
    let token = secret.token.expose().to_owned();
    let with = |signature: &str, id: &str, time: &str, body: &[u8]| {
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", time),
            ("webhook-signature", signature),
            // The right token beside it must not help.
            ("x-gitlab-token", token.as_str()),
        ];
        verified(&secret, &headers, body)
    };
    assert!(with(&good, "msg_1", &time, body));
    assert!(with(&format!("{bad} {good}"), "msg_1", &time, body));
    assert!(with(&format!("v2,abc {good}"), "msg_1", &time, body));
    for (signature, id, when, text) in [
        (bad.as_str(), "msg_1", time.as_str(), &b"{}"[..]),
        ("", "msg_1", &time, b"{}"),
        ("v1,", "msg_1", &time, b"{}"),
        (&good.replace("v1,", "v2,"), "msg_1", &time, b"{}"),
        (&good.replace("v1,", "v1a,"), "msg_1", &time, b"{}"),
        (&good[..good.len() - 4], "msg_1", &time, b"{}"),
        (&good, "msg_2", &time, b"{}"),
        (&good, "msg_1", &(NOW + 1).to_string(), b"{}"),
        (&good, "msg_1", &format!("+{NOW}"), b"{}"),
        (&good, "msg_1", "", b"{}"),
        (&good, "msg_1", &time, b"{ }"),
    ] {
        assert!(!with(signature, id, when, text), "{signature} {id} {when}");
    }
    let other = HookSecret::read(HookSecret::text_from_random(&[8; 32])).expect("long enough");
    assert!(!with(&signed(&other, "msg_1", NOW, body), "msg_1", &time, body));
    let partial = [
        ("webhook-signature", good.as_str()),
        ("x-gitlab-token", token.as_str()),
    ];
    assert!(!verified(&secret, &partial, body));
    // A secret that is no signing key cannot verify a signature.
    let plain = HookSecret::read(Secret::new("sixteen letters!")).expect("long enough");
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", &time),
        ("webhook-signature", &good),
    ];
    assert!(!verified(&plain, &headers, body));
    assert!(verified(&plain, &[("x-gitlab-token", "sixteen letters!")], body));
}

#[test]
fn a_token_is_compared_whole() {
    let secret = secret();
    let token = secret.token.expose();
    assert!(verified(&secret, &[("x-gitlab-token", token)], b"{}"));
    for bad in [
        "",
        &token[..token.len() - 1],
        &format!("{token} "),
        &token["whsec_".len()..],
        &token.to_uppercase(),
    ] {
        assert!(!verified(&secret, &[("x-gitlab-token", bad)], b"{}"), "{bad}");
    }
    assert!(!verified(&secret, &[], b"{}"));
    assert!(HookSecret::read(Secret::new("")).is_none());
    assert!(HookSecret::read(Secret::new("short")).is_none());
    assert!(!format!("{secret:?}").contains(&token["whsec_".len()..]));
}

fn hint(headers: &[(&str, &str)], body: &Value) -> Result<Hint, HookRefusal> {
    let header = |name: &str| {
        headers
            .iter()
            .find(|(it, _)| *it == name)
            .map(|(_, value)| (*value).to_owned())
    };
    parse(&header, body.to_string().as_bytes())
}

#[test]
fn hooks_name_their_change() {
    let merge_request = json!({
        "object_kind": "merge_request", "project": {"id": 7}, "user": {"id": 1},
        "object_attributes": {"iid": 42, "target_project_id": 7, "action": "update"}});
    let read = hint(
        &[("idempotency-key", "d-1"), ("webhook-id", "d-2")],
        &merge_request,
    )
    .expect("a hint");
    let expected = Hint {
        delivery: "d-1".to_owned(),
        event: HookEvent::Change,
        forge_project_id: "7".to_owned(),
        change: Some(42),
        pushed: None,
    };
    assert_eq!(read, expected);
    assert_eq!(
        hint(&[("webhook-id", "d-2")], &merge_request)
            .expect("a hint")
            .delivery,
        "d-2"
    );
    // Without an id of its own: the same for a repetition, another for another event.
    let by_uuid = |uuid| {
        hint(&[("x-gitlab-event-uuid", uuid)], &merge_request)
            .expect("a hint")
            .delivery
    };
    assert_eq!(by_uuid("a"), by_uuid("a"));
    assert_ne!(by_uuid("a"), by_uuid("b"));
    let long = "x".repeat(5000);
    assert!(
        hint(&[("idempotency-key", &long)], &merge_request)
            .expect("a hint")
            .delivery
            .len()
            < 100
    );

    let pipeline = json!({"object_kind": "pipeline", "project": {"id": 9}, "object_attributes": {"id": 1},
        "merge_request": {"iid": 3, "target_project_id": 7}});
    let read = hint(&[], &pipeline).expect("a hint");
    assert_eq!(
        (read.event, read.forge_project_id.as_str(), read.change),
        (HookEvent::Pipeline, "7", Some(3))
    );
    let deployment = json!({"object_kind": "deployment", "project": {"id": 9}, "ref": "main"});
    assert_eq!(hint(&[], &deployment).expect("a hint").event.word(), "deployment");
}

#[test]
fn pushes_tell_what_moved() {
    let zeros = "0".repeat(40);
    let mut push = json!({"object_kind": "push", "event_name": "push", "project_id": 7, "ref": "refs/heads/main",
        "before": zeros, "after": HEAD, "user_id": 5});
    let expected = Pushed {
        ref_name: "refs/heads/main".into(),
        before: zeros,
        after: HEAD.into(),
        user_id: "5".into(),
    };
    assert_eq!(hint(&[], &push).expect("a hint").pushed, Some(expected.clone()));
    // The same by a system hook.
    let system = [("x-gitlab-event", "System Hook")];
    assert_eq!(hint(&system, &push).expect("a hint").pushed, Some(expected));
    for (field, bad) in [
        ("after", json!("abc")),
        ("ref", json!("main")),
        ("before", json!(null)),
        ("user_id", json!(null)),
    ] {
        let good = push[field].take();
        push[field] = bad;
        assert!(
            matches!(hint(&[], &push), Err(HookRefusal::Unreadable(_))),
            "{field}"
        );
        push[field] = good;
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_unknown_is_nothing() {
    for bad in [
        json!({}),
        json!([]),
        json!({"event_name": "push"}),
        json!({"object_kind": "merge_request"}),
        json!({"object_kind": "merge_request", "project": {"id": 1}, "object_attributes": {}}),
        json!({"object_kind": "merge_request", "project": {"id": "1"}, "object_attributes": {"iid": 1}}),
        json!({"object_kind": "pipeline"}),
        json!({"object_kind": 5}),
    ] {
        assert!(
            matches!(hint(&[], &bad), Err(HookRefusal::Unreadable(_))),
            "{bad}"
        );
    }
    let header = |_: &str| None;
    assert!(matches!(
        parse(&header, b"\xff\xfe"),
        Err(HookRefusal::Unreadable(_))
    ));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        parse(&header, deep.as_bytes()),
        Err(HookRefusal::Unreadable(_))
    ));
    let wiki = hint(&[], &json!({"object_kind": "wiki_page", "project": {"id": 7}})).expect("a hint");
    assert_eq!(
        (wiki.event, wiki.change, wiki.pushed),
        (HookEvent::Other("wiki_page".to_owned()), None, None)
    );
    let created = hint(
        &[("x-gitlab-event", "System Hook")],
        &json!({"event_name": "user_create", "user_id": 4}),
    );
    assert_eq!(created.expect("a hint").forge_project_id, "");
}

// ---------------------------------------------------------------------------------------------- paging

#[test]
fn pages_follow_numbers_only() {
    assert_eq!(next_page(1, Some("2"), None, 0), Ok(Some(2)));
    assert_eq!(next_page(1, Some(""), None, 100), Ok(None));
    assert_eq!(
        next_page(1, Some(" "), Some("<https://evil/>; rel=\"next\""), 100),
        Ok(None)
    );
    for bad in ["1", "0", "3", "-1", "x"] {
        assert!(next_page(1, Some(bad), None, 100).is_err(), "{bad}");
    }
    assert_eq!(
        next_page(
            2,
            None,
            Some("<https://evil/>; rel=\"first\", <https://evil/>; rel=\"next\""),
            3
        ),
        Ok(Some(3))
    );
    assert_eq!(
        next_page(2, None, Some("<https://evil/>; rel=\"first\""), 100),
        Ok(None)
    );
    assert_eq!(next_page(2, None, None, 100), Ok(Some(3)));
    assert_eq!(next_page(2, None, None, 99), Ok(None));
}

#[test]
fn commit_ids_are_full() {
    assert!(is_commit_id(HEAD) && is_commit_id(&"a".repeat(64)));
    for bad in [
        "",
        &HEAD[1..],
        &HEAD.to_uppercase(),
        &"g".repeat(40),
        &"a".repeat(41),
    ] {
        assert!(!is_commit_id(bad), "{bad}");
    }
}

// ---------------------------------------------------------------------------------------------- whole calls

/// Method, path with query, body, whole head.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    body: Value,
    head: String,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn ok(body: Value) -> Answer {
    Answer {
        status: 200,
        headers: Vec::new(),
        body: body.to_string(),
    }
}

fn no(status: u16, message: &str) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: json!({ "message": message }).to_string(),
    }
}

type Script = Arc<dyn Fn(&Asked, usize) -> Answer + Send + Sync>;

/// A server that answers by `script` (which is told how often that path was asked before), and what it was asked.
async fn forge(
    script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
) -> (Forge, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let (script, kept): (Script, _) = (Arc::new(script), asked.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, script.clone(), kept.clone()));
        }
    });
    let connection = Connection {
        kind: ForgeKind::Gitlab,
        base_url: format!("http://{address}/gitlab/"),
        ca_pem: None,
    };
    let forge = connect(
        &connection,
        Secret::new("glpat-0123456789"),
        &["127.0.0.1".to_owned()],
    )
    .expect("a forge");
    (forge, asked)
}

async fn answer(mut stream: tokio::net::TcpStream, script: Script, kept: Arc<Mutex<Vec<Asked>>>) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        let Ok(length @ 1..) = stream.read(&mut piece).await else {
            return;
        };
        bytes.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let body = serde_json::from_str(&body).unwrap_or(Value::Null);
    let asked = Asked {
        method,
        path,
        body,
        head,
    };
    let before = {
        let mut kept = kept.lock().expect("not poisoned");
        let before = kept.iter().filter(|it| it.path == asked.path).count();
        kept.push(asked.clone());
        before
    };
    let answer = script(&asked, before);
    let mut text = format!(
        "HTTP/1.1 {} X\r\ncontent-length: {}\r\nconnection: close\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&answer.body);
    let _ = stream.write_all(text.as_bytes()).await;
}

const MR: &str = "/gitlab/api/v4/projects/7/merge_requests/3";

fn merge_request(head: &str, count: &str) -> Value {
    json!({
        "iid": 3, "project_id": 7, "target_project_id": 7, "source_project_id": 7, "state": "opened",
        "title": "A change", "web_url": "javascript:alert(1)", "author": {"id": 1, "username": "ann", "name": "Ann"},
        "source_branch": "topic", "target_branch": "main", "sha": head, "changes_count": count,
        "prepared_at": "2026-01-01T00:00:00Z", "detailed_merge_status": "mergeable",
        "diff_refs": {"base_sha": BASE, "start_sha": BASE, "head_sha": head},
    })
}

fn diff(path: &str) -> Value {
    json!({"old_path": path, "new_path": path, "a_mode": "100644", "b_mode": "100644", "new_file": false,
        "renamed_file": false, "deleted_file": false, "collapsed": false, "too_large": false,
        "diff": "@@ -1 +1 @@\n-a\n+b\n"})
}

/// Page 1 and 2 of 150 files, a commit, a push: a change without any fault.
fn sound(asked: &Asked) -> Answer {
    let page = |number: u32| asked.path.contains(&format!("page={number}&"));
    let files = |from: u32, to: u32| {
        json!(
            (from..to)
                .map(|it| diff(&format!("src/{it}")))
                .collect::<Vec<_>>()
        )
    };
    let path = asked.path.split('?').next().unwrap_or_default();
    match path.strip_prefix(MR) {
        Some("") => ok(merge_request(HEAD, "150")),
        Some("/diffs") if page(1) => Answer {
            headers: vec![("x-next-page", "2".to_owned())],
            ..ok(files(0, 100))
        },
        Some("/diffs") if page(2) => Answer {
            headers: vec![("x-next-page", String::new())],
            ..ok(files(100, 150))
        },
        Some("/commits") => ok(
            json!([{"id": HEAD, "message": "x", "author_name": "Ann", "author_email": "ann@x.org",
            "committer_name": "Ann", "committer_email": "ann@x.org"}]),
        ),
        None if path == "/gitlab/api/v4/projects/7/events" => {
            ok(json!([{"author": {"id": 2, "username": "bob", "name": "Bob"},
                "push_data": {"action": "created", "ref_type": "branch", "ref": "topic", "ref_count": null}}]))
        }
        _ => no(404, "404 Not found"),
    }
}

async fn change(forge: &Forge) -> Result<ChangeFacts, Error> {
    forge.change(&ProjectId::from_random([1; 16]), "7", 3).await
}

#[tokio::test]
async fn a_change_is_read_whole() {
    let (forge, asked) = forge(|asked, _| sound(asked)).await;
    let facts = change(&forge).await.expect("facts");
    assert_eq!((facts.state, facts.files.files.len()), (ChangeState::Open, 150));
    assert_eq!(
        (facts.files.incomplete, facts.contributors_incomplete),
        (None, None)
    );
    assert_eq!(facts.files.files[149].lines, Some((1, 1)));
    assert_eq!((facts.head.as_str(), facts.base.as_str()), (HEAD, BASE));
    assert_eq!(
        (facts.source.as_str(), facts.target.as_str()),
        ("refs/heads/topic", "refs/heads/main")
    );
    // Nothing that a link may not lead to.
    assert_eq!(facts.web_url, "");
    let pusher = facts
        .contributors
        .iter()
        .find(|it| it.part == Part::Pusher)
        .expect("a pusher");
    assert_eq!(pusher.account.as_ref().map(|it| it.id.as_str()), Some("2"));
    let asked = asked.lock().expect("not poisoned");
    assert!(
        asked
            .iter()
            .all(|it| it.head.contains("private-token: glpat-0123456789\r\n") && it.method == "GET")
    );
}

#[tokio::test]
async fn a_page_that_fails_leaves_the_list_incomplete() {
    for part in ["/diffs?page=2&", "/commits?", "/events?"] {
        let (forge, asked) = forge(move |asked, _| {
            if asked.path.contains(part) {
                no(502, "Bad gateway")
            } else {
                sound(asked)
            }
        })
        .await;
        let facts = change(&forge).await.expect("facts");
        let reason = if part.contains("diffs") {
            facts.files.incomplete
        } else {
            facts.contributors_incomplete
        };
        assert!(
            reason.as_ref().is_some_and(|it| it.contains("502")),
            "{part}: {reason:?}"
        );
        let tries = asked
            .lock()
            .expect("not poisoned")
            .iter()
            .filter(|it| it.path.contains(part))
            .count();
        assert_eq!(tries, 3, "{part}");
    }
}

#[tokio::test]
async fn a_passing_fault_is_got_over() {
    let (forge, _) = forge(|asked, before| {
        if asked.path.contains("/diffs?page=2&") && before < 2 {
            no(502, "Bad gateway")
        } else {
            sound(asked)
        }
    })
    .await;
    assert_eq!(change(&forge).await.expect("facts").files.incomplete, None);
}

#[tokio::test]
async fn a_rate_limit_is_told_and_not_tried_against() {
    let (forge, asked) = forge(|asked, _| {
        if asked.path.contains("/diffs") {
            let headers = vec![("retry-after", "30".to_owned())];
            return Answer {
                status: 429,
                headers,
                body: "Retry later".to_owned(),
            };
        }
        sound(asked)
    })
    .await;
    let error = change(&forge).await.expect_err("a limit");
    assert!(
        matches!(error, Error::Status { code: 429, retry_after: Some(it), .. } if it.as_secs() == 30),
        "{error:?}"
    );
    assert_eq!(
        asked
            .lock()
            .expect("not poisoned")
            .iter()
            .filter(|it| it.path.contains("/diffs"))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_change_that_moves_is_read_again() {
    // The head moves once, during the first reading.
    let (once, _) = forge(|asked, before| match asked.path.as_str() {
        MR if before == 0 => ok(merge_request(BASE, "150")),
        _ => sound(asked),
    })
    .await;
    let facts = change(&once).await.expect("facts");
    assert_eq!((facts.head.as_str(), facts.files.incomplete), (HEAD, None));
    // It moves every time.
    let (always, _) = forge(|asked, before| match asked.path.as_str() {
        MR => ok(merge_request(&format!("{before:040}"), "150")),
        _ => sound(asked),
    })
    .await;
    let facts = change(&always).await.expect("facts");
    assert!(facts.files.incomplete.is_some() && facts.contributors_incomplete.is_some());
}

#[tokio::test]
async fn a_change_being_prepared_is_waited_for() {
    let unprepared = || {
        let mut all = merge_request(HEAD, "150");
        all["changes_count"] = json!(null);
        all["prepared_at"] = json!(null);
        all
    };
    let (soon, _) = forge(move |asked, before| match asked.path.as_str() {
        MR if before == 0 => ok(unprepared()),
        _ => sound(asked),
    })
    .await;
    assert_eq!(change(&soon).await.expect("facts").files.incomplete, None);
    let (never, _) = forge(move |asked, _| match asked.path.as_str() {
        MR => ok(unprepared()),
        _ => sound(asked),
    })
    .await;
    assert!(change(&never).await.expect("facts").files.incomplete.is_some());
}

#[tokio::test]
async fn another_merge_request_is_not_taken() {
    let (forge, _) = forge(|asked, _| match asked.path.as_str() {
        MR => {
            let mut other = merge_request(HEAD, "150");
            other["target_project_id"] = json!(8);
            ok(other)
        }
        _ => sound(asked),
    })
    .await;
    assert!(matches!(change(&forge).await, Err(Error::NotJson(_))));
    assert!(matches!(
        forge.change(&ProjectId::from_random([1; 16]), "7/../8", 3).await,
        Err(Error::Refused(_))
    ));
}

#[tokio::test]
async fn open_changes_are_all_or_nothing() {
    let page = |asked: &Asked, fail: bool| {
        let item = |iid: u64| {
            let mut all = merge_request(HEAD, "1");
            all["iid"] = json!(iid);
            all
        };
        if asked.path.contains("page=1&") {
            return Answer {
                headers: vec![("x-next-page", "2".to_owned())],
                ..ok(json!([item(1), item(2)]))
            };
        }
        if fail {
            no(500, "no")
        } else {
            ok(json!([item(2), item(9)]))
        }
    };
    let (good, asked) = forge(move |asked, _| page(asked, false)).await;
    let numbers: Vec<u64> = good
        .open_changes("7")
        .await
        .expect("a list")
        .iter()
        .map(|it| it.number)
        .collect();
    assert_eq!(numbers, [1, 2, 9]);
    assert!(
        asked.lock().expect("not poisoned")[0]
            .path
            .contains("state=opened")
    );
    let (bad, _) = forge(move |asked, _| page(asked, true)).await;
    assert!(bad.open_changes("7").await.is_err());
}

fn write(state: GateState) -> StatusWrite {
    StatusWrite {
        forge_project_id: "7".to_owned(),
        sha: HEAD.to_owned(),
        ref_name: "refs/heads/topic".to_owned(),
        name: "signedapproval/main".to_owned(),
        state,
        description: "d".repeat(300),
        target_url: "https://appliance.example/a/apr_1".to_owned(),
        insist: false,
    }
}

fn taken(asked: &Asked) -> Answer {
    let body = &asked.body;
    ok(json!({"id": 1, "sha": HEAD, "ref": body["ref"], "name": body["name"], "status": body["state"]}))
}

#[tokio::test]
async fn a_status_names_its_pipeline() {
    let commit = json!({"id": HEAD, "last_pipeline": {"id": 77, "sha": HEAD, "ref": "topic"}});
    // The pipeline appears at the second look.
    let (forge, asked) = forge(move |asked, before| match asked.method.as_str() {
        "GET" if before == 0 => ok(json!({"id": HEAD, "last_pipeline": null})),
        "GET" => ok(commit.clone()),
        _ => taken(asked),
    })
    .await;
    assert_eq!(
        forge.set_status(&write(GateState::Pending), &|| true).await,
        Outcome::Delivered(())
    );
    let asked = asked.lock().expect("not poisoned");
    let post = asked.last().expect("a post");
    assert_eq!(post.path, format!("/gitlab/api/v4/projects/7/statuses/{HEAD}"));
    assert_eq!(
        (post.body["pipeline_id"].as_u64(), post.body["ref"].as_str()),
        (Some(77), Some("topic"))
    );
    assert_eq!(
        post.body["description"].as_str().map(|it| it.chars().count()),
        Some(255)
    );
    assert_eq!(post.body["state"], "pending");
}

#[tokio::test]
async fn a_status_does_without_its_pipeline() {
    let commit =
        json!({"id": HEAD, "last_pipeline": {"id": 77, "sha": HEAD, "ref": "refs/merge-requests/3/head"}});
    let (forge, asked) = forge(move |asked, _| match asked.method.as_str() {
        "GET" => ok(commit.clone()),
        _ if asked.body["pipeline_id"].is_u64() => {
            no(404, "404 Pipeline for pipeline_id, sha and ref Not Found")
        }
        _ => taken(asked),
    })
    .await;
    assert_eq!(
        forge.set_status(&write(GateState::Success), &|| true).await,
        Outcome::Delivered(())
    );
    let asked = asked.lock().expect("not poisoned");
    let posts: Vec<_> = asked
        .iter()
        .filter(|it| it.method == "POST")
        .map(|it| it.body["ref"].as_str())
        .collect();
    assert_eq!(posts, [None, Some("topic")]);
}

#[tokio::test]
async fn a_status_that_was_not_taken_is_not_delivered() {
    let (lies, _) = forge(|asked, _| match asked.method.as_str() {
        "GET" => no(404, "no"),
        _ => ok(
            json!({"id": 1, "sha": HEAD, "ref": "topic", "name": "signedapproval/main", "status": "pending"}),
        ),
    })
    .await;
    assert!(matches!(
        lies.set_status(&write(GateState::Success), &|| true).await,
        Outcome::Retry { .. }
    ));
    let (portal, _) = forge(|_, _| Answer {
        status: 200,
        headers: Vec::new(),
        body: "<html>log in</html>".to_owned(),
    })
    .await;
    assert!(matches!(
        portal.set_status(&write(GateState::Success), &|| true).await,
        Outcome::Retry { .. }
    ));
    let (again, _) = forge(|asked, _| match asked.method.as_str() {
        "GET" => no(404, "no"),
        _ => no(
            400,
            "Cannot transition status via :success from :success (Reason(s): x)",
        ),
    })
    .await;
    assert_eq!(
        again.set_status(&write(GateState::Success), &|| true).await,
        Outcome::Delivered(())
    );
    let mut long = write(GateState::Success);
    long.name = "x".repeat(256);
    assert!(matches!(
        again.set_status(&long, &|| true).await,
        Outcome::Rejected { .. }
    ));
}

#[tokio::test]
async fn a_merge_is_pinned_and_never_asked_again() {
    let open = || ok(merge_request(HEAD, "1"));
    let (moved, asked) = forge(move |asked, _| match asked.method.as_str() {
        "PUT" => no(409, "SHA does not match HEAD of source branch"),
        _ => open(),
    })
    .await;
    assert_eq!(
        moved.merge("7", 3, HEAD, "refs/heads/main").await,
        MergeOutcome::HeadMoved
    );
    {
        let asked = asked.lock().expect("not poisoned");
        // The target is looked at right before: GitLab compares the head alone.
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", MR));
        assert_eq!(
            (asked[1].method.as_str(), &asked[1].body),
            ("PUT", &json!({ "sha": HEAD }))
        );
        assert_eq!(asked[1].path, format!("{MR}/merge"));
    }
    let merged = || {
        let mut all = merge_request(HEAD, "1");
        all["state"] = json!("merged");
        all["merge_commit_sha"] = json!(BASE);
        all
    };
    let (done, _) = forge(move |_, _| ok(merged())).await;
    assert_eq!(
        done.merge("7", 3, HEAD, "refs/heads/main").await,
        MergeOutcome::Merged {
            commit: Some(BASE.to_owned())
        }
    );
    // Pointed at another branch at the last moment: not asked for at all.
    let (elsewhere, asked) = forge(move |_, _| ok(merged())).await;
    assert_eq!(
        elsewhere.merge("7", 3, HEAD, "refs/heads/dev").await,
        MergeOutcome::HeadMoved
    );
    assert!(
        asked
            .lock()
            .expect("not poisoned")
            .iter()
            .all(|it| it.method == "GET")
    );
    // An answer was lost, the merge was not: the second attempt finds it done.
    let by = move |user: u64| {
        forge(
            move |asked, _| match (asked.method.as_str(), asked.path.ends_with("/user")) {
                ("PUT", _) => no(405, "405 Method Not Allowed"),
                (_, true) => ok(json!({"id": 9, "username": "gate"})),
                _ => {
                    let mut all = merged();
                    all["merge_user"] = json!({"id": user, "username": "u"});
                    ok(all)
                }
            },
        )
    };
    // Somebody else was quicker: their merge is not booked as ours.
    let (theirs, _) = by(8).await;
    assert_eq!(
        theirs.merge("7", 3, HEAD, "refs/heads/main").await,
        MergeOutcome::Merged { commit: None }
    );
    let (already, _) = by(9).await;
    assert_eq!(
        already.merge("7", 3, HEAD, "refs/heads/main").await,
        MergeOutcome::Merged {
            commit: Some(BASE.to_owned())
        }
    );
    let (waits, _) = forge(move |asked, _| match asked.method.as_str() {
        "PUT" => no(405, "405 Method Not Allowed"),
        _ => {
            let mut all = merge_request(HEAD, "1");
            all["detailed_merge_status"] = json!("ci_must_pass");
            ok(all)
        }
    })
    .await;
    assert!(matches!(
        waits.merge("7", 3, HEAD, "refs/heads/main").await,
        MergeOutcome::NotReady { .. }
    ));
    let (down, _) = forge(|_, _| no(503, "no")).await;
    assert!(matches!(
        down.merge("7", 3, HEAD, "refs/heads/main").await,
        MergeOutcome::Retry { .. }
    ));
    assert!(matches!(
        waits.merge("7", 3, "main", "refs/heads/main").await,
        MergeOutcome::Denied { .. }
    ));
}

#[tokio::test]
async fn a_refused_token_is_explained() {
    let (forge, _) = forge(|_, _| no(401, "401 Unauthorized")).await;
    let error = forge.identify().await.expect_err("401");
    let expected = "GitLab does not accept the token: it is wrong, expired or revoked (401) (GitLab says: 401 Unauthorized)";
    assert_eq!(forge.explain(&error), expected);
}

#[tokio::test]
async fn the_token_is_identified() {
    let (forge, _) = forge(|asked, _| match asked.path.as_str() {
        "/gitlab/api/v4/user" => ok(json!({"id": 5, "username": "project_7_bot_x", "name": "Bot"})),
        "/gitlab/api/v4/personal_access_tokens/self" => {
            ok(json!({"scopes": ["api"], "expires_at": "2027-01-01"}))
        }
        "/gitlab/api/v4/version" => ok(json!({"version": "18.6.0", "revision": "x"})),
        _ => no(404, "404 Not found"),
    })
    .await;
    let identity = forge.identify().await.expect("an identity");
    assert_eq!(
        (identity.account.id.as_str(), identity.version.as_str()),
        ("5", "18.6.0")
    );
    assert_eq!(
        (identity.scopes, identity.token_expires_at.as_deref()),
        (vec!["api".to_owned()], Some("2027-01-01"))
    );
}
