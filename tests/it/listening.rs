//! The public listener under bad manners: slow clients, too many of them, proxies that are believed and ones that are not.

use crate::support::appliance::{Appliance, Options, bare_command, free_port, new_dir};
use crate::support::authority::exchange;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(30);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn open(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

/// Sends a byte now and then until the other side has had enough, and says after how long.
async fn trickle(mut stream: TcpStream, byte: &[u8]) -> Duration {
    let started = Instant::now();
    let mut sink = [0; 4096];
    loop {
        assert!(started.elapsed() < SOON, "a slow client is kept");
        tokio::select! {
            read = stream.read(&mut sink) => if matches!(read, Ok(0) | Err(_)) { return started.elapsed() },
            () = tokio::time::sleep(Duration::from_millis(300)) => {
                if stream.write_all(byte).await.is_err() { return started.elapsed() }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_not_kept() {
    let appliance = Appliance::start(Options::default()).await;
    let port = appliance.port();
    let head = async {
        let mut stream = open(port).await;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
            .await
            .unwrap();
        trickle(stream, b"a").await
    };
    // The second head of a connection, after a good first request.
    let second_head = async {
        let mut stream = open(port).await;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
            .await
            .unwrap();
        trickle(stream, b"a").await
    };
    let body = async {
        let mut stream = open(port).await;
        let request = "POST /api/v1/session/options HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{";
        stream.write_all(request.as_bytes()).await.unwrap();
        trickle(stream, b" ").await
    };
    // A body that nobody reads.
    let unread = async {
        let mut stream = open(port).await;
        let request = "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        trickle(stream, b" ").await
    };
    let unread_chunks = async {
        let mut stream = open(port).await;
        let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        trickle(stream, b"1\r\na\r\n").await
    };
    let silent = async { trickle(open(port).await, b"").await };
    let idle = async {
        let mut stream = open(port).await;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let started = Instant::now();
        let mut sink = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut sink))
            .await
            .unwrap()
            .unwrap();
        started.elapsed()
    };
    // Asks for much and takes nothing.
    let unread_answers = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        let request = "GET /policy.schema.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
        let started = Instant::now();
        // The server stops reading where its answers are not taken, then ends it.
        let wrote = tokio::time::timeout(SOON * 2, async {
            loop {
                if stream.write_all(request.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        wrote.await.expect("who takes nothing is not kept");
        started.elapsed()
    };
    let (head, second_head, body, unread, unread_chunks, silent, idle, unread_answers) = tokio::join!(
        head,
        second_head,
        body,
        unread,
        unread_chunks,
        silent,
        idle,
        unread_answers
    );
    eprintln!(
        "ended after: head {head:?}, second head {second_head:?}, body {body:?}, unread {unread:?}, \
         unread chunks {unread_chunks:?}, silent {silent:?}, idle {idle:?}, unread answers {unread_answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_makes_room_for_who_works() {
    let config = "limits.connections = 20\nlimits.connections_per_address = 16\n";
    let appliance = Appliance::start(Options::default().config(config)).await;
    let port = appliance.port();
    // A request whose body is still on its way counts as work.
    let mut working = open(port).await;
    let begun = "POST /api/v1/session/options HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    working.write_all(begun.as_bytes()).await.unwrap();
    // The server has read the head once it says so.
    let mut told = [0; 25];
    working.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    working.write_all(b"{").await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(open(port).await);
    }
    // Until they are older than what may just be shaking hands.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for round in 0..16 {
        let mut stream = open(port).await;
        let answer = exchange(&mut stream, HEALTH, SOON).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "round {round}: {answer:?}");
        idle.push(open(port).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = exchange(&mut working, "}", SOON).await;
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "what works is left alone: {answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_have_a_limit() {
    let appliance = Appliance::start(Options::default()).await;
    let long = "a".repeat(15_000);
    let answer = appliance.api().with_header("x-long", &long).get("/healthz").await;
    assert_eq!(answer.status, 200);
    let long = "a".repeat(17_000);
    let answer = appliance.api().with_header("x-long", &long).get("/healthz").await;
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(answer.json()["type"], "/problems/headers-too-large");
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(answer.json()["instance"], format!("urn:uuid:{id}"));
    // Far beyond: the connection ends before the head does.
    let mut stream = open(appliance.port()).await;
    let head = format!(
        "GET /healthz HTTP/1.1\r\nX-Long: {}\r\n\r\n",
        "a".repeat(1_000_000)
    );
    let _cut_off = stream.write_all(head.as_bytes()).await;
    let answer = exchange(&mut stream, "", SOON).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

fn behind_a_proxy(trusted: &str) -> Options {
    Options {
        public_url: "https://sa.example".to_owned(),
        listen: "0.0.0.0:{port}".to_owned(),
        ..Options::default()
    }
    .config(&format!("proxy.trusted = [{trusted}]\nlog.level = \"debug\"\n"))
    .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed_and_nobody_else() {
    let appliance = Appliance::start(behind_a_proxy("\"127.0.0.0/8\"")).await;
    let api = appliance.api();
    let from = |it: &str| api.with_header("x-forwarded-for", it);
    let answer = from("6.6.6.6, 203.0.113.9").get("/help?1").await;
    assert_eq!(answer.status, 200);
    let id = answer.header("x-request-id").unwrap().to_owned();
    let log = appliance.log();
    let line = log
        .lines()
        .find(|it| it.contains(&id))
        .expect("a line for the request")
        .to_owned();
    assert!(
        line.contains("203.0.113.9") && !line.contains("6.6.6.6"),
        "{line}"
    );
    // What came to the proxy unencrypted.
    let plain = api.with_header("x-forwarded-proto", "http");
    let answer = plain.get("/help").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://sa.example/help"));
    let answer = plain.with_key("sa_x").get("/api/v1/me").await;
    assert_eq!(answer.json()["type"], "/problems/plain-http", "{answer:?}");
    let answer = api.with_header("x-forwarded-proto", "https").get("/help").await;
    assert_eq!(answer.status, 200);

    let appliance = Appliance::start(behind_a_proxy("\"198.51.100.7\"")).await;
    let api = appliance.api().with_header("x-forwarded-for", "203.0.113.9");
    let answer = api.with_header("x-forwarded-proto", "http").get("/help").await;
    assert_eq!(answer.status, 200, "nobody is asked who is not believed");
    let id = answer.header("x-request-id").unwrap().to_owned();
    let log = appliance.log();
    let line = log
        .lines()
        .find(|it| it.contains(&id))
        .expect("a line for the request")
        .to_owned();
    assert!(
        line.contains("127.0.0.1") && !line.contains("203.0.113.9"),
        "{line}"
    );
    let Some(ip) = other_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let mut stream = TcpStream::connect((ip, appliance.port())).await.unwrap();
    let answer = exchange(&mut stream, HEALTH, SOON).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_from_systemd_is_taken() {
    let tool = "systemd-socket-activate";
    let there = std::process::Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output();
    if !there.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: there is no {tool}");
        return;
    }
    let (dir, port) = (new_dir(), free_port());
    let program = bare_command(&dir).get_program().to_owned();
    let mut child = std::process::Command::new(tool)
        .args(["-l", &format!("127.0.0.1:{port}"), "-E", "HOME"])
        .arg(&program)
        .args(["serve", "--data-dir", "data", "--listen", "127.0.0.1:1"])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(fs::File::create(dir.join("out")).unwrap())
        .stderr(fs::File::create(dir.join("err")).unwrap())
        .spawn()
        .unwrap();
    // The first connection starts it; it waits in the socket until then, and is answered.
    let started = Instant::now();
    let answer = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(mut stream) => break exchange(&mut stream, HEALTH, SOON * 2).await,
            Err(_) => assert!(started.elapsed() < SOON, "nothing listens"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let said = fs::read_to_string(dir.join("out")).unwrap() + &fs::read_to_string(dir.join("err")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}: {said}");
    assert!(said.contains(&format!("http://localhost:{port}")), "{said}");
    fs::remove_dir_all(&dir).unwrap();
}
