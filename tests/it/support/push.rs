//! Push services of our own: a browser's (RFC 8030, TLS) that checks what the standards ask of a sender, and Apple's (HTTP/2)
//! that checks its token. Both answer what a test tells them to.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::Signature;
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// One request that a push service took.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub at: Instant,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub status: u16,
}

/// What to answer on a path: status, `Retry-After`, body.
#[derive(Clone, Debug)]
pub struct Answering {
    pub status: u16,
    pub retry_after: Option<u32>,
    pub body: String,
}

impl Answering {
    pub fn status(status: u16) -> Answering {
        Answering {
            status,
            retry_after: None,
            body: String::new(),
        }
    }
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Vec<Pushed>>,
    answers: Mutex<HashMap<String, Answering>>,
    /// What a sender did wrong.
    wrong: Mutex<Vec<String>>,
    audience: Mutex<String>,
}

/// A push service on a port of this machine.
pub struct PushService {
    shared: Arc<Shared>,
    port: u16,
    /// What a sender has to trust.
    pub ca_pem: String,
}

/// A TLS server's settings for `localhost` and the CA that signed them.
fn tls(alpn: &[&[u8]]) -> (Arc<ServerConfig>, String) {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "Push test CA");
    let ca_key = KeyPair::generate().expect("a key");
    let ca_certificate = ca.self_signed(&ca_key).expect("signed");
    let ca_pem = ca_certificate.pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = own.signed_by(&key, &issuer).expect("signed");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    (Arc::new(config), ca_pem)
}

impl PushService {
    /// A browser's push service, https.
    pub async fn start() -> PushService {
        let (config, ca_pem) = tls(&[b"http/1.1"]);
        let (service, listener) = PushService::listening(ca_pem).await;
        let acceptor = TlsAcceptor::from(config);
        let shared = service.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve_one(stream, shared).await;
                    }
                });
            }
        });
        service
    }

    /// Apple's, https with HTTP/2.
    pub async fn apple() -> PushService {
        let (config, ca_pem) = tls(&[b"h2"]);
        let (service, listener) = PushService::listening(ca_pem).await;
        let acceptor = TlsAcceptor::from(config);
        let shared = service.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let Ok(mut connection) = h2::server::handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let shared = shared.clone();
                        tokio::spawn(serve_apple(request, respond, shared));
                    }
                });
            }
        });
        service
    }

    async fn listening(ca_pem: String) -> (PushService, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        *shared.audience.lock().expect("no panic") = format!("https://localhost:{port}");
        let service = PushService { shared, port, ca_pem };
        (service, listener)
    }

    /// `https://localhost:PORT`.
    pub fn base(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The endpoint of a subscription.
    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/push/{name}", self.base())
    }

    /// Answers so from now on.
    pub fn answer(&self, name: &str, answer: Answering) {
        self.shared
            .answers
            .lock()
            .expect("no panic")
            .insert(name.to_owned(), answer);
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<Pushed> {
        self.shared.taken.lock().expect("no panic").clone()
    }

    /// Waits for that many requests. Panics if they do not come.
    pub async fn wait_for(&self, count: usize) -> Vec<Pushed> {
        let started = Instant::now();
        loop {
            let taken = self.taken();
            if taken.len() >= count {
                return taken;
            }
            assert!(
                started.elapsed() < SOON,
                "{} of {count} came: {taken:#?}, wrong: {:?}",
                taken.len(),
                self.shared.wrong.lock().expect("no panic")
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Panics if a sender did anything that the standards forbid.
    pub fn assert_correct(&self) {
        let wrong = self.shared.wrong.lock().expect("no panic");
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

async fn serve_one(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => buffer.extend_from_slice(&piece[..read]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let mut lines = head.lines();
        let path = lines
            .next()
            .and_then(|it| it.split(' ').nth(1))
            .unwrap_or_default()
            .to_owned();
        let headers: HashMap<String, String> = lines
            .filter_map(|it| it.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let length: usize = headers
            .get("content-length")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        while buffer.len() < head_end + length {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => buffer.extend_from_slice(&piece[..read]),
            }
        }
        let body = buffer[head_end..head_end + length].to_vec();
        buffer.drain(..head_end + length);
        check_push(&headers, &body, &shared);
        let answer = take(&path, headers, body, &shared, 201);
        let retry = answer
            .retry_after
            .map_or_else(String::new, |it| format!("Retry-After: {it}\r\n"));
        let text = format!(
            "HTTP/1.1 {} X\r\n{retry}Content-Length: {}\r\n\r\n{}",
            answer.status,
            answer.body.len(),
            answer.body
        );
        if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn take(
    path: &str,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    shared: &Shared,
    good: u16,
) -> Answering {
    let name = path.rsplit('/').next().unwrap_or_default();
    let answers = shared.answers.lock().expect("no panic");
    let answer = answers
        .get(name)
        .cloned()
        .unwrap_or_else(|| Answering::status(good));
    drop(answers);
    shared.taken.lock().expect("no panic").push(Pushed {
        at: Instant::now(),
        path: path.to_owned(),
        headers,
        body,
        status: answer.status,
    });
    answer
}

/// The claims of a token, if its signature is the key's.
fn claims(token: &str, public: &[u8]) -> Result<Value, String> {
    let (signed, signature) = token.rsplit_once('.').ok_or("no token")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|e| e.to_string())?;
    let signature = Signature::from_slice(&signature).map_err(|e| e.to_string())?;
    let key = VerifyingKey::from_sec1_bytes(public).map_err(|e| e.to_string())?;
    key.verify(signed.as_bytes(), &signature)
        .map_err(|e| e.to_string())?;
    let claims = signed.split('.').nth(1).ok_or("no claims")?;
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|e| e.to_string())?;
    serde_json::from_slice(&claims).map_err(|e| e.to_string())
}

/// RFC 8030, 8188, 8291 and 8292, as a strict push service would read them.
fn check_push(headers: &HashMap<String, String>, body: &[u8], shared: &Shared) {
    let mut wrong = Vec::new();
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    if header("content-encoding") != "aes128gcm" {
        wrong.push(format!("content-encoding {:?}", header("content-encoding")));
    }
    if !header("ttl").parse::<u64>().is_ok_and(|it| it <= 86_400) {
        wrong.push(format!("ttl {:?}", header("ttl")));
    }
    if header("urgency") != "high" {
        wrong.push(format!("urgency {:?}", header("urgency")));
    }
    let topic = header("topic");
    let is_topic = topic.len() <= 32
        && !topic.is_empty()
        && topic
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_');
    if !is_topic {
        wrong.push(format!("topic {topic:?}"));
    }
    if body.len() > 4_096 || body.len() < 86 || body[20] != 65 {
        wrong.push(format!("a body of {} bytes", body.len()));
    }
    match header("authorization").strip_prefix("vapid ") {
        None => wrong.push(format!("authorization {:?}", header("authorization"))),
        Some(rest) => {
            let part = |name: &str| {
                rest.split(',')
                    .find_map(|it| it.trim().strip_prefix(&format!("{name}=")).map(str::to_owned))
                    .unwrap_or_default()
            };
            let key = URL_SAFE_NO_PAD.decode(part("k")).unwrap_or_default();
            match claims(&part("t"), &key) {
                Err(error) => wrong.push(format!("the signature: {error}")),
                Ok(claims) => {
                    let now = jiff::Timestamp::now().as_second();
                    if claims["aud"] != *shared.audience.lock().expect("no panic") {
                        wrong.push(format!("aud {}", claims["aud"]));
                    }
                    let exp = claims["exp"].as_i64().unwrap_or_default();
                    if exp <= now || exp > now + 86_400 {
                        wrong.push(format!("exp {exp}, now {now}"));
                    }
                    let sub = claims["sub"].as_str().unwrap_or_default();
                    if !sub.starts_with("mailto:")
                        && !sub.starts_with("https://")
                        && !sub.starts_with("http://localhost")
                    {
                        wrong.push(format!("sub {sub:?}"));
                    }
                }
            }
        }
    }
    shared.wrong.lock().expect("no panic").extend(wrong);
}

async fn serve_apple(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    shared: Arc<Shared>,
) {
    let path = request.uri().path().to_owned();
    let headers: HashMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let mut stream = request.into_body();
    let mut body = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        let _flow = stream.flow_control().release_capacity(piece.len());
        body.extend_from_slice(&piece);
    }
    let answer = take(&path, headers, body, &shared, 200);
    let mut response = http::Response::builder().status(answer.status);
    if let Some(seconds) = answer.retry_after {
        response = response.header("retry-after", seconds.to_string());
    }
    let response = response.body(()).expect("a response");
    if let Ok(mut send) = respond.send_response(response, answer.body.is_empty())
        && !answer.body.is_empty()
    {
        let _sent = send.send_data(bytes::Bytes::from(answer.body), true);
    }
}

/// A key as Apple hands it out (`.p8`), and its public half.
pub fn apple_key() -> (String, Vec<u8>) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let der = key.serialize_der();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    (pem, key.public_key_raw().to_vec())
}

/// The claims of Apple's bearer token, verified.
pub fn apple_claims(pushed: &Pushed, public: &[u8]) -> Value {
    let header = pushed.headers.get("authorization").expect("a token");
    let token = header
        .strip_prefix("bearer ")
        .or_else(|| header.strip_prefix("Bearer "))
        .expect("a bearer token");
    claims(token, public).expect("the team's key signed it")
}

/// A browser's subscription at this endpoint: its JSON form and its private key.
pub struct Subscriber {
    pub json: Value,
    secret: p256::SecretKey,
    auth: [u8; 16],
}

impl Subscriber {
    pub fn new(endpoint: &str) -> Subscriber {
        let bits = |len: usize| {
            let mut out = vec![0; len];
            getrandom::fill(&mut out).expect("random numbers");
            out
        };
        let secret = loop {
            if let Ok(secret) = p256::SecretKey::from_slice(&bits(32)) {
                break secret;
            }
        };
        let auth: [u8; 16] = bits(16).try_into().expect("16 bytes");
        let public = p256::EncodedPoint::from(secret.public_key());
        let json = serde_json::json!({
            "endpoint": endpoint, "expirationTime": null,
            "keys": {"p256dh": URL_SAFE_NO_PAD.encode(public.as_bytes()), "auth": URL_SAFE_NO_PAD.encode(auth)},
        });
        Subscriber { json, secret, auth }
    }

    /// The message, decrypted by an implementation of its own (RFC 8291, section 3).
    pub fn read(&self, body: &[u8]) -> Value {
        use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        use hkdf::Hkdf;
        use sha2::Sha256;
        let (salt, rest) = body.split_at(16);
        let sender = &rest[5..70];
        let mut sealed = rest[70..].to_vec();
        let theirs = p256::PublicKey::from_sec1_bytes(sender).expect("a point");
        let shared = p256::ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), theirs.as_affine());
        let own = p256::EncodedPoint::from(self.secret.public_key());
        let info = [b"WebPush: info\0".as_slice(), own.as_bytes(), sender].concat();
        let (mut keying, mut key, mut nonce) = ([0; 32], [0; 16], [0; 12]);
        Hkdf::<Sha256>::new(Some(&self.auth), shared.raw_secret_bytes())
            .expand(&info, &mut keying)
            .expect("32 bytes");
        let derived = Hkdf::<Sha256>::new(Some(salt), &keying);
        derived
            .expand(b"Content-Encoding: aes128gcm\0", &mut key)
            .expect("16 bytes");
        derived
            .expand(b"Content-Encoding: nonce\0", &mut nonce)
            .expect("12 bytes");
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).expect("a key"));
        let plain = cipher
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .expect("it decrypts");
        let end = plain.iter().rposition(|it| *it != 0).expect("a delimiter");
        assert_eq!(plain[end], 2, "the delimiter of a last record");
        serde_json::from_slice(&plain[..end]).expect("JSON")
    }
}
