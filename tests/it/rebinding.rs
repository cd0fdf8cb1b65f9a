//! A name that leads elsewhere each time it is asked for: what was checked is what is connected to. Skipped, visibly, where
//! the test may not give the appliance a name server of its own.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::sinks::add;
use crate::sinks::until;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::authority::Authority;
use crate::support::person::Person;
use crate::support::person::text;

/// Where the name server listens: port 53 is the only one a resolver asks.
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 53);
/// An address of nobody (RFC 7526), which no guard has a reason to refuse.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 88, 99, 77);

/// A name server that first says one thing and then the other.
struct Rebinding {
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rebinding {
    fn start() -> std::io::Result<Rebinding> {
        let socket = UdpSocket::bind((SERVER, 53))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (asked, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (asked.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut query = [0; 512];
            while !end.load(Ordering::Relaxed) {
                match socket.recv_from(&mut query) {
                    Ok((length, from)) => {
                        let answer = answer(&query[..length], &count);
                        let _gone = socket.send_to(&answer, from);
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Ok(Rebinding {
            asked,
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Rebinding {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure in there shows by what the test then lacks.
            let _ended = thread.join();
        }
    }
}

/// RFC 1035: one A record with no time to live, another address each time; no records of other types.
fn answer(query: &[u8], count: &AtomicUsize) -> Vec<u8> {
    let mut end = 12;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    let is_a = query[end + 1..end + 3] == [0, 1];
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    out.extend_from_slice(&query[12..end + 5]);
    if is_a {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let address = if before == 0 {
            ELSEWHERE
        } else {
            Ipv4Addr::LOCALHOST
        };
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        out.extend(address.octets());
    }
    out
}

fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    tried.is_ok_and(|it| it.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_whose_name_comes_to_lead_inside_is_never_connected_to() {
    let name = "a_sink_whose_name_comes_to_lead_inside_is_never_connected_to";
    let server = match Rebinding::start() {
        Ok(server) if may_mount() => server,
        _ => {
            eprintln!("SKIPPED {name}: it needs root, for port 53 and a mount namespace");
            return;
        }
    };
    // Not for evaluation, where this machine's own addresses may be called.
    let authority = Authority::new("tests");
    let issued = authority.issue("localhost", 80, 5);
    let appliance = Appliance::start(
        Options {
            public_url: "https://localhost:{port}".to_owned(),
            trusted_pem: Some(authority.pem.clone()),
            files: vec![
                ("tls.pem".to_owned(), issued.certificate.into_bytes()),
                ("tls.key".to_owned(), issued.key.into_bytes()),
            ],
            name_server: Some(SERVER),
            ..Options::default()
        }
        .config(
            "tls.certificate = \"{dir}/tls.pem\"\ntls.private_key = \"{dir}/tls.key\"\noutbound.allow_http = [\"rebind.test\"]\n",
        )
        .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple"),
    )
    .await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let inside = TcpListener::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("a socket of ours");
    let port = inside.local_addr().expect("bound").port();
    let web = json!({ "kind": "webhook", "name": "Web", "url": format!("http://rebind.test:{port}/x") });
    let syslog = json!({
        "kind": "syslog", "name": "Syslog", "host": "rebind.test", "port": port, "transport": "tcp",
    });
    for settings in [web, syslog] {
        let id = text(&add(&ada, &settings).await, "id");
        // Once the name leads inside, that is what is told, whatever it was when it was first asked for.
        let shown = until(&ada, &id, |it| {
            it["reason"]
                .as_str()
                .is_some_and(|it| it.contains("private network (127.0.0.1)"))
        })
        .await;
        assert_ne!(shown["state"], "up_to_date", "{shown}");
        let told = ada
            .post(&format!("/api/v1/sinks/{id}/test"), &json!({}))
            .await
            .expect(200);
        assert_eq!(told["stored"], false, "{told}");
        ada.delete(&format!("/api/v1/sinks/{id}")).await.expect(204);
    }
    assert!(
        server.asked.load(Ordering::Relaxed) >= 3,
        "the name was asked for again"
    );
    let came = inside.accept();
    assert!(
        came.as_ref().is_err_and(|it| it.kind() == ErrorKind::WouldBlock),
        "somebody connected: {came:?}"
    );
}
