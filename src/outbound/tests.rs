//! Tests of the client against small servers of their own, and of the pure parts.

use crate::outbound::Call;
use crate::outbound::Client;
use crate::outbound::Error;
use crate::outbound::Method;
use crate::outbound::Outcome;
use crate::outbound::Secret;
use crate::outbound::address::forbidden;
use crate::outbound::classify;
use crate::outbound::join;
use crate::outbound::local;
use crate::outbound::parse_base;
use crate::outbound::retry_after;
use crate::outbound::tls;
use crate::outbound::wait::rate_limit_reset;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use url::Url;

const DATE: Option<&str> = Some("Sun, 22 Nov 2026 10:00:00 GMT");

fn loopback() -> Vec<String> {
    vec!["127.0.0.1".to_owned(), "localhost".to_owned(), "::1".to_owned()]
}

/// Answers every request with the same bytes and keeps what was asked.
async fn server(answer: Vec<u8>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, kept) = (answer.clone(), kept.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).await.unwrap_or(0);
                kept.lock()
                    .expect("not poisoned")
                    .push(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(&answer).await;
            });
        }
    });
    (address, asked)
}

fn get(address: SocketAddr) -> Call {
    Call::new(
        Method::Get,
        Url::parse(&format!("http://{address}/x")).expect("a URL"),
    )
}

fn client() -> Client {
    Client::new(None, &loopback()).expect("a client")
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn waits_are_read_in_both_forms() {
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(retry_after(Some("7"), None), seconds(7));
    assert_eq!(retry_after(Some(" 0 "), None), seconds(0));
    assert_eq!(retry_after(Some("99999999999999999999999"), None), seconds(86400));
    assert_eq!(
        retry_after(Some("Sun, 22 Nov 2026 10:01:30 GMT"), DATE),
        seconds(90)
    );
    assert_eq!(
        retry_after(Some("Sun, 22 Nov 2026 09:00:00 GMT"), DATE),
        seconds(0)
    );
    assert_eq!(
        retry_after(Some("Mon, 22 Nov 2027 09:00:00 GMT"), DATE),
        seconds(86400)
    );
    for odd in ["", "-1", "1.5", "soon", "Sun, 99 Nov 2026 10:00:00 GMT"] {
        assert_eq!(retry_after(Some(odd), DATE), None, "{odd}");
    }
    assert_eq!(retry_after(Some("Sun, 22 Nov 2026 10:01:30 GMT"), None), None);
    assert_eq!(retry_after(None, DATE), None);
    assert_eq!(rate_limit_reset(Some("0"), Some("1795341630"), DATE), seconds(30));
    assert_eq!(rate_limit_reset(Some("3"), Some("1795341630"), DATE), None);
}

#[test]
fn a_status_means_one_thing() {
    let kind = |code, wait| match classify(code, wait) {
        Outcome::Delivered(()) => 'd',
        Outcome::Retry { .. } => 'r',
        Outcome::Rejected { .. } => 'x',
    };
    assert!([200, 201, 204].iter().all(|it| kind(*it, None) == 'd'));
    assert!(
        [408, 423, 425, 429, 500, 502, 503, 504, 555]
            .iter()
            .all(|it| kind(*it, None) == 'r')
    );
    assert!(
        [301, 302, 307, 400, 401, 403, 404, 405, 409, 410, 413, 422]
            .iter()
            .all(|it| kind(*it, None) == 'x')
    );
    let wait = Some(Duration::from_secs(60));
    assert_eq!(kind(403, wait), 'r');
    assert!(matches!(classify(429, wait), Outcome::Retry { after, .. } if after == wait));
    let unclear = Error::NotJson("x".to_owned());
    assert!(unclear.may_pass());
    assert!(!Error::Refused("x".to_owned()).may_pass());
}

#[test]
fn a_base_url_keeps_its_path() {
    let base = parse_base("https://h.example/gitlab/", &[]).expect("a base");
    let joined = join(&base, &["api", "v4", "projects", "group/proj ä?#"]).expect("a URL");
    assert_eq!(
        joined.as_str(),
        "https://h.example/gitlab/api/v4/projects/group%2Fproj%20%C3%A4%3F%23"
    );
    for bad in ["", ".", ".."] {
        assert!(join(&base, &["projects", bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn only_some_urls_are_called() {
    let list = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        "forge.lan:8080".to_owned(),
    ];
    for good in [
        "https://h.example",
        "https://10.0.0.5/gitlab",
        "http://localhost:8080",
        "http://LOCALHOST",
        "http://127.0.0.1:1",
        "http://[::1]:3000/x",
        "http://forge.lan:8080",
    ] {
        assert!(parse_base(good, &list).is_ok(), "{good}");
    }
    for bad in [
        "http://h.example",
        "http://forge.lan:8081",
        "http://localhost.example",
        "https://u@h.example",
        "https://u:p@h.example",
        "https://h.example/?q",
        "https://h.example/#f",
        "ftp://h.example",
        "file:///etc/passwd",
        "data:text/plain,x",
        "https://169.254.169.254",
        "https://[fe80::1]",
        "https://[::ffff:169.254.169.254]",
        "https://0.0.0.0",
        "https://2852039166/",
        "not a url",
        "",
    ] {
        assert!(matches!(parse_base(bad, &list), Err(Error::Refused(_))), "{bad}");
    }
    for open in [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "::1",
        "fd00::1",
        "2001:db8::1",
    ] {
        assert!(!forbidden(open.parse().expect("an address")), "{open}");
    }
    for shut in [
        "169.254.1.1",
        "100.100.100.200",
        "fd00:ec2::254",
        "224.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "::",
        "ff02::1",
    ] {
        assert!(forbidden(shut.parse().expect("an address")), "{shut}");
    }
}

#[test]
fn certificates_must_be_certificates() {
    assert!(tls(None).is_ok());
    assert!(tls(Some(" \n")).is_ok());
    for bad in [
        "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n",
    ] {
        assert!(matches!(tls(Some(bad)), Err(Error::Refused(_))), "{bad}");
    }
}

#[test]
fn a_secret_does_not_show() {
    let secret = Secret::new("glpat-abc");
    assert_eq!(format!("{secret:?}"), "[secret]");
    assert_eq!(secret.expose(), "glpat-abc");
}

#[tokio::test]
async fn what_was_sent_never_comes_back_in_an_error() {
    let token = Secret::new("glpat-0123456789");
    let (address, asked) = server(answer(
        "403 Forbidden",
        "{\"message\":\"no glpat-0123456789\u{7} here\"}",
    ))
    .await;
    let error = client()
        .fetch(get(address).bearer(&token))
        .await
        .expect_err("403");
    assert!(asked.lock().expect("not poisoned")[0].contains("authorization: Bearer glpat-0123456789\r\n"));
    let Error::Status {
        code: 403, excerpt, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(excerpt, "{\"message\":\"no [secret]  here\"}");
    let (address, _) = server(answer("200 OK", "\"glpat-0123456789\"")).await;
    let reply = client()
        .fetch(get(address).secret_header("private-token", token.clone()))
        .await
        .expect("200");
    let error = reply.json::<u32>().expect_err("a text is no number");
    assert!(
        !format!("{error} {error:?} {reply:?}").contains("glpat-"),
        "{error} {reply:?}"
    );
    let refused = client()
        .fetch(get(address).secret_header("private-token", Secret::new("a\nb")))
        .await;
    assert!(matches!(refused, Err(Error::Refused(_))));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (other, reached) = server(answer("200 OK", "{}")).await;
    let head = format!("302 Found\r\nlocation: http://{other}/y?token=abc");
    let (address, _) = server(answer(&head, "")).await;
    let error = client()
        .fetch(get(address).bearer(&Secret::new("glpat-0123456789")))
        .await
        .expect_err("302");
    assert!(matches!(
        error.clone().into_outcome::<()>(),
        Outcome::Rejected { .. }
    ));
    assert!(
        error.to_string().contains("redirect") && !error.to_string().contains("token=abc"),
        "{error}"
    );
    assert!(reached.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn answers_have_a_limit_in_size_and_time() {
    let (address, _) = server(answer("200 OK", &"x".repeat(4096))).await;
    let whole = client().send(get(address).cap(4096)).await.expect("it fits");
    assert_eq!(whole.body.len(), 4096);
    assert!(matches!(
        client().send(get(address).cap(4095)).await,
        Err(Error::TooLarge { cap: 4095, .. })
    ));
    // Without a length, by chunks.
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n{}\r\n0\r\n\r\n",
        "x".repeat(4096)
    );
    let (address, _) = server(chunked.into_bytes()).await;
    assert!(matches!(
        client().send(get(address).cap(4095)).await,
        Err(Error::TooLarge { .. })
    ));
    // A body that is cut off, or never comes.
    let (address, _) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()).await;
    assert!(matches!(
        client().send(get(address)).await,
        Err(Error::Unreachable { .. })
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let late = client()
        .send(get(address).limit(Duration::from_millis(100)))
        .await;
    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
    drop(listener);
    let gone = client().send(get(address)).await.expect_err("nobody is there");
    assert!(
        matches!(gone, Error::Unreachable { .. }) && gone.may_pass(),
        "{gone:?}"
    );
    // A refusal stays one, however long its body.
    let (address, _) = server(answer("422 No", &"y".repeat(200_000))).await;
    let refused = client().fetch(get(address).cap(10)).await.expect_err("422");
    assert!(
        matches!(refused, Error::Status { code: 422, .. }) && refused.to_string().len() < 300,
        "{refused}"
    );
}

#[tokio::test]
async fn a_wait_and_a_page_are_told() {
    let head = "503 Busy\r\nretry-after: 12";
    let (address, _) = server(answer(head, "<html>sorry</html>")).await;
    let error = client().fetch(get(address)).await.expect_err("503");
    let wait = Some(Duration::from_secs(12));
    assert_eq!(
        error,
        Error::Status {
            code: 503,
            retry_after: wait,
            excerpt: "an HTML page".to_owned()
        }
    );
}

#[tokio::test]
async fn names_are_resolved() {
    let (address, _) = server(answer("200 OK", "{}")).await;
    let url = Url::parse(&format!("http://localhost:{}/x", address.port())).expect("a URL");
    assert_eq!(
        client()
            .send(Call::new(Method::Get, url))
            .await
            .expect("an answer")
            .status,
        200
    );
    let nowhere = Url::parse("https://nowhere.invalid/x").expect("a URL");
    let error = client()
        .send(Call::new(Method::Get, nowhere))
        .await
        .expect_err("no such name");
    assert!(
        matches!(error, Error::Unreachable { .. } | Error::Timeout { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn plain_http_needs_leave() {
    let (address, asked) = server(answer("200 OK", "{}")).await;
    let strict = Client::new(None, &[]).expect("a client");
    assert!(matches!(strict.send(get(address)).await, Err(Error::Refused(_))));
    assert!(asked.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn a_unix_socket_answers() {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("randomness");
    let path = std::env::temp_dir().join(format!("outbound-{}.sock", hex::encode(random)));
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer("200 OK", "{\"here\":true}")).await;
        }
    });
    let here = local(&path).expect("a client");
    let call =
        |url: &str| Call::new(Method::Post, Url::parse(url).expect("a URL")).json(&serde_json::json!({}));
    let reply = here
        .fetch(call("http://localhost/admin"))
        .await
        .expect("an answer");
    assert!(reply.json::<serde_json::Value>().expect("JSON")["here"] == true);
    assert!(matches!(
        here.fetch(call("http://elsewhere/admin")).await,
        Err(Error::Refused(_))
    ));
    std::fs::remove_file(&path).expect("it was there");
}
