//! The TLS side: what is agreed on, certificates in good and bad order, new ones while running, client certificates, and
//! plain http where https is spoken.

use crate::support::appliance::{
    Appliance, Options, Until, bare_command, free_port, http_client, new_dir, run, signal,
};
use crate::support::authority::{Authority, Issued, Offer, connect, exchange};
use crate::support::person::Person;
use crate::support::problem::assert_problem;
use rustls::{NamedGroup, ProtocolVersion};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const TLS_FILES: &str = "[tls]\ncertificate = \"{dir}/tls.pem\"\nprivate_key = \"{dir}/tls.key\"\n";

fn files(it: &Issued) -> Vec<(String, Vec<u8>)> {
    vec![
        ("tls.pem".to_owned(), it.certificate.clone().into_bytes()),
        ("tls.key".to_owned(), it.key.clone().into_bytes()),
    ]
}

/// An appliance with a certificate of `authority`, for real use.
pub fn options(authority: &Authority, more: &str) -> Options {
    Options {
        public_url: "https://localhost:{port}".to_owned(),
        trusted_pem: Some(authority.pem.clone()),
        files: files(&authority.localhost()),
        ..Options::default()
    }
    .config(&format!("{TLS_FILES}{more}"))
    .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple")
    .env("SIGNEDAPPROVAL_SECURITY__PASSKEY_HOLD", "0")
}

/// Writes a file as careful tools do: beside it, then renamed, for its owner alone.
fn put(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&fresh, path).unwrap();
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_modern_and_http_is_1_1() {
    let authority = Authority::new("tests");
    let appliance = Appliance::start(options(&authority, "")).await;
    let port = appliance.port();

    let offer = Offer {
        alpn: vec![b"h2", b"http/1.1"],
        ..Offer::default()
    };
    let mut stream = connect(port, &authority.pem, &offer).await.unwrap();
    let agreed = stream.get_ref().1;
    assert_eq!(agreed.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(agreed.alpn_protocol(), Some(&b"http/1.1"[..]), "never h2");
    let group = agreed.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let answer = exchange(&mut stream, HEALTH, SOON).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let lower = answer.to_lowercase();
    assert!(
        lower.contains("strict-transport-security: max-age=31536000"),
        "{answer}"
    );
    assert!(lower.contains("x-request-id: "), "{answer}");

    let offer = Offer {
        only_tls12: true,
        ..Offer::default()
    };
    let mut stream = connect(port, &authority.pem, &offer).await.unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );
    assert!(
        exchange(&mut stream, HEALTH, SOON)
            .await
            .starts_with("HTTP/1.1 200")
    );

    let offer = Offer {
        alpn: vec![b"h2"],
        ..Offer::default()
    };
    let refused = connect(port, &authority.pem, &offer)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");

    // The preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
    let mut stream = connect(port, &authority.pem, &Offer::default()).await.unwrap();
    let answer = exchange(&mut stream, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SOON).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") || answer.is_empty(),
        "{answer}"
    );

    // Old versions and old suites, by a client that has them.
    for old in ["-tls1_1", "-tls1"] {
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{port} {old} -cipher ALL:@SECLEVEL=0 </dev/null 2>&1"
        );
        let ran = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(!ran.status.success() && said.contains("alert"), "{old}: {said}");
    }

    // Whoever speaks plain http here is told so.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let answer = exchange(&mut plain, HEALTH, SOON).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("https://localhost"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_3_alone_where_it_is_asked_for() {
    let authority = Authority::new("tests");
    let appliance = Appliance::start(options(&authority, "minimum_version = \"1.3\"\n")).await;
    let offer = Offer {
        only_tls12: true,
        ..Offer::default()
    };
    let refused = connect(appliance.port(), &authority.pem, &offer)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_and_no_long_poll_is_dropped() {
    let old = Authority::new("old");
    let appliance = Appliance::start(options(&old, "")).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let ci = appliance.api().with_key(&key);
    let id = ci
        .open_request(&json!({"action": "Deploy", "ttl_seconds": 600}))
        .await;

    let mut poll = connect(appliance.port(), &old.pem, &Offer::default())
        .await
        .unwrap();
    let request = format!(
        "GET /api/v1/approvals/{id}?wait=60 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    let polling = tokio::spawn(async move { exchange(&mut poll, &request, SOON).await });

    // Half of a change first: what cannot be used changes nothing, and is told.
    let new = Authority::new("new");
    let issued = new.localhost();
    put(&appliance.dir().join("tls.pem"), &issued.certificate);
    signal(appliance.pid(), "HUP");
    appliance.expect_error("can't be used");
    until("the refusal", || {
        appliance.log().contains("not the private key of the certificate")
    })
    .await;
    assert!(
        connect(appliance.port(), &old.pem, &Offer::default())
            .await
            .is_ok()
    );

    put(&appliance.dir().join("tls.key"), &issued.key);
    signal(appliance.pid(), "HUP");
    until("the change", || {
        appliance
            .log()
            .contains("new connections get another certificate")
    })
    .await;
    assert!(
        connect(appliance.port(), &new.pem, &Offer::default())
            .await
            .is_ok()
    );
    assert!(
        connect(appliance.port(), &old.pem, &Offer::default())
            .await
            .is_err()
    );

    assert!(!polling.is_finished(), "it still waits");
    let cancelled = ci
        .post(&format!("/api/v1/approvals/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(
        cancelled.status, 200,
        "over the connection from before: {cancelled:?}"
    );
    let answer = polling.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"cancelled\""),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_noticed_without_being_told() {
    let old = Authority::new("old");
    let appliance = Appliance::start(options(&old, "")).await;
    let new = Authority::new("new");
    let issued = new.localhost();
    put(&appliance.dir().join("tls.key"), &issued.key);
    appliance.expect_error("can't be used");
    put(&appliance.dir().join("tls.pem"), &issued.certificate);
    until("the change", || {
        appliance
            .log()
            .contains("new connections get another certificate")
    })
    .await;
    assert!(
        connect(appliance.port(), &new.pem, &Offer::default())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_is_not_in_order_is_refused_and_nothing_is_made() {
    let authority = Authority::new("tests");
    let good = authority.localhost();
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let cases: Vec<(&str, Issued, &str)> = vec![
        ("expired", authority.issue("localhost", 90, -1), "expired at"),
        (
            "not yet valid",
            authority.issue("localhost", -2, 90),
            "not valid before",
        ),
        (
            "a certificate cut off",
            Issued {
                certificate: half(&good.certificate),
                ..good.clone()
            },
            "tls.pem",
        ),
        (
            "a key cut off",
            Issued {
                key: half(&good.key),
                ..good.clone()
            },
            "tls.key",
        ),
        (
            "the key of another",
            Issued {
                key: authority.localhost().key,
                ..good.clone()
            },
            "not the private key of the certificate",
        ),
        (
            "an empty file",
            Issued {
                certificate: String::new(),
                ..good.clone()
            },
            "no certificate in it",
        ),
        (
            "a key instead of a certificate",
            Issued {
                certificate: good.key.clone(),
                ..good.clone()
            },
            "no certificate in it",
        ),
    ];
    let dir = new_dir();
    let arguments = ["serve", "--config", "config.toml", "--data-dir", "data"];
    let config = TLS_FILES.replace("{dir}", &dir.display().to_string());
    let config = format!("public_url = \"https://localhost:8443\"\nlisten = \"127.0.0.1:0\"\n{config}");
    fs::write(dir.join("config.toml"), &config).unwrap();
    let env = [("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple")];
    let check = ["config", "check", "--config", "config.toml"];
    for (what, issued, reason) in cases {
        put(&dir.join("tls.pem"), &issued.certificate);
        put(&dir.join("tls.key"), &issued.key);
        for arguments in [&arguments[..], &check[..]] {
            let (code, out, err) = run(&dir, arguments, &env).await;
            assert_eq!(code, 2, "{what}: {out}{err}");
            assert!(err.contains(reason), "{what}: {err}");
            let body: String = issued.key.lines().skip(1).take(1).collect();
            assert!(!err.contains(&body) || body.is_empty(), "{what}: the key is told");
        }
        assert!(!dir.join("data").exists(), "{what}: nothing is made");
    }
    put(&dir.join("tls.pem"), &good.certificate);
    put(&dir.join("tls.key"), &good.key);
    for mode in [0o644, 0o660, 0o604] {
        fs::set_permissions(dir.join("tls.key"), fs::Permissions::from_mode(mode)).unwrap();
        let (code, _, err) = run(&dir, &arguments, &env).await;
        assert!(
            code == 2 && err.contains("tls.key") && err.contains("chmod"),
            "{mode:o}: {code} {err}"
        );
    }
    fs::set_permissions(dir.join("tls.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let (code, out, err) = run(&dir, &check, &env).await;
    assert_eq!(code, 0, "a group may read it: {out}{err}");
    fs::remove_file(dir.join("tls.key")).unwrap();
    let (code, _, err) = run(&dir, &check, &env).await;
    assert!(code == 2 && err.contains("tls.key"), "{err}");
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_it_makes_one_and_everything_says_so() {
    let dir = new_dir();
    let port = free_port();
    let start = || {
        bare_command(&dir)
            .args(["serve", "--data-dir", "data"])
            .args(["--listen", &format!("0.0.0.0:{port}")])
            .args(["--public-url", &format!("https://localhost:{port}")])
            .env("SIGNEDAPPROVAL_KEYS__PASSPHRASE", "correct horse battery staple")
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.join("out")).unwrap())
            .stderr(fs::File::create(dir.join("err")).unwrap())
            .spawn()
            .unwrap()
    };
    let pem = dir.join("data/tls/self-signed.pem");
    let ready = || fs::read_to_string(dir.join("out")).unwrap().contains("Set it up");
    let mut child = start();
    until("ready", ready).await;
    let said = fs::read_to_string(dir.join("out")).unwrap();
    assert!(
        said.contains("SELF-SIGNED") && said.contains("tls.certificate"),
        "{said}"
    );
    let key_mode = fs::metadata(dir.join("data/tls/self-signed.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(key_mode & 0o777, 0o600);
    let made = fs::read_to_string(&pem).unwrap();
    let client = http_client(Some(&made));
    let page = client
        .get(format!("https://localhost:{port}/help"))
        .send()
        .await
        .unwrap();
    assert!(
        !page.headers().contains_key("strict-transport-security"),
        "nobody could get rid of it"
    );
    let page = page.text().await.unwrap();
    assert!(
        page.contains("Self-signed certificate:") && page.contains("tls.certificate"),
        "{page}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    // The same one again: people may have checked its fingerprint.
    let mut child = start();
    until("ready again", ready).await;
    assert_eq!(fs::read_to_string(&pem).unwrap(), made);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_leads_to_https_and_carries_no_key() {
    let authority = Authority::new("tests");
    let redirect = free_port();
    let more = format!("redirect_listen = \"127.0.0.1:{redirect}\"\n");
    let appliance = Appliance::start(options(&authority, &more)).await;
    let client = http_client(None);
    let at = |path: &str| format!("http://localhost:{redirect}{path}");
    let answer = client.get(at("/a/apr_1?x=1&y=%20")).send().await.unwrap();
    assert_eq!(answer.status(), 308);
    let to = answer.headers()["location"].to_str().unwrap();
    assert_eq!(to, format!("{}/a/apr_1?x=1&y=%20", appliance.public_url()));
    assert!(
        !answer.headers().contains_key("strict-transport-security"),
        "RFC 6797, section 7.2"
    );
    let answer = client.get(at("//evil.example/%2e%2e")).send().await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap();
    assert!(to.starts_with(&format!("{}/", appliance.public_url())), "{to}");
    for request in [
        client
            .get(at("/api/v1/me"))
            .header("authorization", "Bearer sa_x"),
        client.post(at("/api/v1/approvals/request")).body("{}"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403);
        let problem: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["type"], "/problems/plain-http", "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_need_a_client_certificate() {
    let authority = Authority::new("tests");
    let callers = Authority::new("callers");
    let strangers = Authority::new("strangers");
    let mut options = options(
        &authority,
        "client_ca = \"{dir}/callers.pem\"\nclient_certificate = \"required\"\n",
    );
    options = options.env("SIGNEDAPPROVAL_LOG", "info,signedapproval::web::observe=debug");
    options
        .files
        .push(("callers.pem".to_owned(), callers.pem.clone().into_bytes()));
    let appliance = Appliance::start(options).await;
    // People have passkeys and need no certificate.
    let ada = Person::set_up(&appliance, "Ada").await;
    let key = ada.create_api_key("CI", &["request"], &[]).await.key;
    let refused = appliance.api().with_key(&key).get("/api/v1/approvals").await;
    assert_problem!(refused, 401, "unauthenticated");
    assert!(refused.text().contains("client certificate"), "{refused:?}");

    let request = format!(
        "GET /api/v1/approvals HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    let issued = callers.issue("ci.example", 1, 80);
    let offer = Offer {
        certificate: Some(&issued),
        ..Offer::default()
    };
    let mut stream = connect(appliance.port(), &authority.pem, &offer).await.unwrap();
    let answer = exchange(&mut stream, &request, SOON).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("the caller's name in the log", || {
        appliance.log().contains("CN=ci.example")
    })
    .await;

    for (what, issued) in [
        ("of a foreign authority", strangers.issue("ci.example", 1, 80)),
        ("expired", callers.issue("ci.example", 90, -1)),
    ] {
        let offer = Offer {
            certificate: Some(&issued),
            ..Offer::default()
        };
        // With TLS 1.3 the client has done its part before the server says no.
        if let Ok(mut stream) = connect(appliance.port(), &authority.pem, &offer).await {
            let mut answer = String::new();
            if stream.write_all(request.as_bytes()).await.is_ok() {
                answer = exchange(&mut stream, "", SOON).await;
            }
            assert_eq!(answer, "", "{what}");
        }
    }

    // A certificate opens nothing by itself.
    let offer = Offer {
        certificate: Some(&issued),
        ..Offer::default()
    };
    let mut stream = connect(appliance.port(), &authority.pem, &offer).await.unwrap();
    let request = request.replace(&key, "sa_0000");
    let answer = exchange(&mut stream, &request, SOON).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_read_anew_or_not_at_all() {
    let authority = Authority::new("tests");
    let appliance = Appliance::start(options(&authority, "")).await;
    let file = appliance.dir().join("config.toml");
    let before = fs::read_to_string(&file).unwrap();
    let offer = Offer {
        only_tls12: true,
        ..Offer::default()
    };
    // Half a file: an error that names the line, and everything stays.
    fs::write(&file, format!("{before}minimum_version = \"1.")).unwrap();
    signal(appliance.pid(), "HUP");
    appliance.expect_error("the settings can't be read anew");
    until("the refusal", || {
        appliance.log().contains("the settings can't be read anew")
    })
    .await;
    assert!(appliance.log().contains("config.toml"), "{}", appliance.log());
    assert!(connect(appliance.port(), &authority.pem, &offer).await.is_ok());

    fs::write(
        &file,
        format!("log.format = \"json\"\n{before}minimum_version = \"1.3\"\n"),
    )
    .unwrap();
    signal(appliance.pid(), "HUP");
    until("the change", || {
        appliance.log().contains("the settings were read anew")
    })
    .await;
    assert!(connect(appliance.port(), &authority.pem, &offer).await.is_err());
    assert!(
        connect(appliance.port(), &authority.pem, &Offer::default())
            .await
            .is_ok()
    );
    let log = appliance.log();
    let line = log.lines().find(|it| it.contains("counts after a restart"));
    assert!(line.is_some_and(|it| it.contains("log.format")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_is_refused_with_the_setting() {
    let dir = new_dir();
    let cases = [
        ("[tls]\ncertificate = \"/x.pem\"\n", "tls.private_key"),
        ("[tls]\nprivate_key = \"/x.key\"\n", "tls.certificate"),
        (
            "public_url = \"http://localhost:1\"\n[tls]\ncertificate = \"/x\"\nprivate_key = \"/y\"\n",
            "https://",
        ),
        ("[tls]\nminimum_version = \"1.1\"\n", "tls.minimum_version"),
        ("[tls]\nclient_certificate = \"required\"\n", "tls.client_ca"),
        ("[tls]\nredirect_listen = \"0.0.0.0:80\"\n", "tls.redirect_listen"),
        ("proxy.trusted = [\"10.0.0.0/33\"]\n", "proxy.trusted"),
        ("proxy.trusted = [\"0.0.0.0/0\"]\n", "the whole Internet"),
        ("limits.connections = 3\n", "limits.connections"),
        ("limits.connections = \"many\"\n", "limits.connections"),
    ];
    for (text, reason) in cases {
        fs::write(dir.join("config.toml"), text).unwrap();
        let (code, out, err) = run(&dir, &["config", "check", "--config", "config.toml"], &[]).await;
        assert_eq!(code, 2, "{text}: {out}");
        assert!(err.contains(reason), "{text}: {err}");
    }
    let text = "limits.connections = 500\nproxy.trusted = [\"10.0.0.0/8\", \"192.0.2.7\"]\n";
    fs::write(dir.join("config.toml"), text).unwrap();
    let (code, out, err) = run(&dir, &["config", "check", "--config", "config.toml"], &[]).await;
    assert_eq!(code, 0, "{out}{err}");
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_is_served_and_told() {
    let authority = Authority::new("tests");
    let mut options = options(&authority, "");
    options.public_url = "https://approvals.example:{port}".to_owned();
    options.until = Until::Alive;
    let appliance = Appliance::start(options).await;
    assert!(
        appliance.log().contains("not for the host of the public URL"),
        "{}",
        appliance.log()
    );
}
