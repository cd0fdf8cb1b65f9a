//! The HTTP client: one place that makes connections. It never follows a redirect, never reads more than a call allows, and
//! never lets a secret that it sent come back in an error.

use crate::outbound::Error;
use crate::outbound::Nearby;
use crate::outbound::Secret;
use crate::outbound::address;
use crate::outbound::wait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use url::Url;

/// Time to make a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the whole call, body included, unless the call says otherwise.
const WHOLE: Duration = Duration::from_secs(20);
/// Bytes of an answer, unless the call says otherwise.
const CAP: u64 = 1024 * 1024;
/// Bytes read of an answer other than 2xx: enough for any message.
const REFUSAL_CAP: usize = 64 * 1024;
/// Characters of such an answer that an error keeps, for an adapter to read its words from.
const EXCERPT: usize = 1000;
const USER_AGENT: &str = concat!("SignedApproval/", env!("CARGO_PKG_VERSION"));

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One call, described before it is made.
#[derive(Clone)]
pub struct Call {
    method: Method,
    url: Url,
    headers: Vec<(String, String)>,
    secret_headers: Vec<(String, Secret)>,
    /// What must not be seen in an excerpt of the answer.
    unseen: Vec<Secret>,
    body: Option<Vec<u8>>,
    cap: u64,
    limit: Duration,
}

impl Call {
    /// A call without body, with the default limits: 20 seconds, 1 MiB.
    pub fn new(method: Method, url: Url) -> Self {
        Call {
            method,
            url,
            headers: Vec::new(),
            secret_headers: Vec::new(),
            unseen: Vec::new(),
            body: None,
            cap: CAP,
            limit: WHOLE,
        }
    }

    /// Adds query parameters.
    pub fn query<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header whose value is, or holds, a credential.
    pub fn secret_header(mut self, name: &str, value: Secret) -> Self {
        self.unseen.push(value.clone());
        self.secret_headers.push((name.to_owned(), value));
        self
    }

    /// Adds `Authorization: Bearer …` (RFC 6750).
    pub fn bearer(mut self, token: &Secret) -> Self {
        self.unseen.push(token.clone());
        self.secret_header("authorization", Secret::new(format!("Bearer {}", token.expose())))
    }

    /// Keeps `secret` out of errors about this call: for one that stands in the body.
    pub fn unseen(mut self, secret: Secret) -> Self {
        self.unseen.push(secret);
        self
    }

    /// Sets a JSON body.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string().into_bytes())
    }

    /// Sets a body of any type.
    pub fn body(mut self, content_type: &str, bytes: Vec<u8>) -> Self {
        self.headers
            .push(("content-type".to_owned(), content_type.to_owned()));
        self.body = Some(bytes);
        self
    }

    /// The most bytes of a 2xx answer that are read.
    pub fn cap(mut self, bytes: u64) -> Self {
        self.cap = bytes;
        self
    }

    /// The time for the whole call.
    pub fn limit(mut self, time: Duration) -> Self {
        self.limit = time;
        self
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// At most the call's cap for 2xx, at most 64 KiB otherwise.
    pub body: Vec<u8>,
    headers: reqwest::header::HeaderMap,
    unseen: Vec<Secret>,
}

impl Reply {
    /// A header's value, if there is one that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads the body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // serde's words may quote the input, which may quote a secret.
            Error::NotJson(self.redacted(&error.to_string()))
        })
    }

    /// The reply itself if it is 2xx, else what it says as an error.
    pub fn accepted(self) -> Result<Reply, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(Error::Status {
            code: self.status,
            retry_after: self.told_wait(),
            excerpt: self.excerpt(),
        })
    }

    /// How long the other side asks us to wait: `Retry-After`, else the reset time of a used-up rate limit.
    pub fn told_wait(&self) -> Option<Duration> {
        let date = self.header("date");
        let reset = |prefix: &str| {
            let remaining = self.header(&format!("{prefix}ratelimit-remaining"));
            wait::rate_limit_reset(remaining, self.header(&format!("{prefix}ratelimit-reset")), date)
        };
        wait::retry_after(self.header("retry-after"), date)
            .or_else(|| reset(""))
            .or_else(|| reset("x-"))
    }

    /// The beginning of the body for a person to read, in one line, without secrets.
    fn excerpt(&self) -> String {
        if (300..400).contains(&self.status) {
            let place = self.header("location").unwrap_or("nowhere");
            // Only where it leads, never its query: that may hold a token.
            let place = place.split(['?', '#']).next().unwrap_or_default();
            return shown(&format!(
                "a redirect to {}; check the base URL",
                self.redacted(place)
            ));
        }
        let text = String::from_utf8_lossy(&self.body);
        if text.trim_start().starts_with('<') {
            return "an HTML page".to_owned();
        }
        shown(&self.redacted(&text))
    }

    fn redacted(&self, text: &str) -> String {
        redacted(text, &self.unseen)
    }
}

/// `text` with every secret in it replaced.
fn redacted(text: &str, unseen: &[Secret]) -> String {
    let mut text = text.to_owned();
    for secret in unseen.iter().filter(|it| it.expose().len() >= 4) {
        text = text.replace(secret.expose(), "[secret]");
    }
    text
}

/// One line without control characters, shortened.
fn shown(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = line.trim();
    let mut out: String = line.chars().take(EXCERPT).collect();
    if line.chars().count() > EXCERPT {
        out.push('…');
    }
    out
}

/// An answer whose body is read piece by piece.
pub struct Reading {
    pub status: u16,
    response: reqwest::Response,
    host: String,
    cap: u64,
    taken: u64,
    unseen: Vec<Secret>,
}

impl Reading {
    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// `TooLarge` beyond the call's cap, `Timeout`, `Unreachable` if the connection breaks.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let piece = self
            .response
            .chunk()
            .await
            .map_err(|error| told(error, &self.host, &self.unseen))?;
        let Some(piece) = piece else { return Ok(None) };
        self.taken = self.taken.saturating_add(piece.len() as u64);
        if self.taken > self.cap {
            return Err(Error::TooLarge {
                host: self.host.clone(),
                cap: self.cap,
            });
        }
        Ok(Some(piece.into()))
    }

    /// A header's value, if there is one that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Reads to the end.
    async fn reply(mut self) -> Result<Reply, Error> {
        let mut body = Vec::new();
        if (200..300).contains(&self.status) {
            if self
                .response
                .content_length()
                .is_some_and(|length| length > self.cap)
            {
                return Err(Error::TooLarge {
                    host: self.host,
                    cap: self.cap,
                });
            }
            while let Some(piece) = self.piece().await? {
                body.extend_from_slice(&piece);
            }
        } else {
            // A refusal is judged by its status: what breaks off or overflows behind it changes nothing.
            self.cap = u64::MAX;
            while let Ok(Some(piece)) = self.piece().await {
                body.extend_from_slice(&piece);
                if body.len() > REFUSAL_CAP {
                    body.truncate(REFUSAL_CAP);
                    break;
                }
            }
        }
        Ok(Reply {
            status: self.status,
            body,
            headers: self.response.headers().clone(),
            unseen: self.unseen,
        })
    }
}

/// Which URLs a client calls.
#[derive(Clone)]
enum Reach {
    /// https, and http to the hosts listed.
    Network {
        allow_http: Vec<String>,
        /// Private networks are refused but for these.
        nearby: Option<Arc<Nearby>>,
    },
    /// `http://localhost/…`, answered behind a Unix socket.
    Socket,
}

/// Makes calls. Cheap to clone; connections are kept and shared.
#[derive(Clone)]
pub struct Client {
    /// For https, by the proxy of the environment (`HTTPS_PROXY`, `NO_PROXY`) where one is set.
    secure: reqwest::Client,
    /// For plain http, which is for hosts nearby: never by a proxy.
    plain: reqwest::Client,
    reach: Reach,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that trusts the system's and Mozilla's roots and those of `ca_pem` (one or more certificates), and calls plain
    /// http only on the hosts of `allow_http`.
    ///
    /// # Errors
    /// `Refused` if `ca_pem` holds no certificate or a broken one.
    pub fn new(ca_pem: Option<&str>, allow_http: &[String]) -> Result<Client, Error> {
        Client::with(ca_pem, allow_http, None)
    }

    /// As [`Client::new`], for URLs that somebody may point anywhere: private networks are refused unless `nearby` has them.
    /// Behind a proxy (`HTTPS_PROXY`) names are the proxy's to look up, and so is this.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn guarded(
        ca_pem: Option<&str>,
        allow_http: &[String],
        nearby: Arc<Nearby>,
    ) -> Result<Client, Error> {
        Client::with(ca_pem, allow_http, Some(nearby))
    }

    fn with(
        ca_pem: Option<&str>,
        allow_http: &[String],
        nearby: Option<Arc<Nearby>>,
    ) -> Result<Client, Error> {
        let secure = build(builder(ca_pem, nearby.clone())?.https_only(true).http1_only())?;
        let plain = build(builder(None, nearby.clone())?.no_proxy())?;
        Ok(Client {
            secure,
            plain,
            reach: Reach::Network {
                allow_http: allow_http.to_vec(),
                nearby,
            },
        })
    }

    /// As [`Client::new`], for a service that speaks HTTP/2 alone.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn http2(ca_pem: Option<&str>, allow_http: &[String]) -> Result<Client, Error> {
        let secure = build(builder(ca_pem, None)?.https_only(true).http2_prior_knowledge())?;
        let plain = build(builder(None, None)?.no_proxy().http2_prior_knowledge())?;
        Ok(Client {
            secure,
            plain,
            reach: Reach::Network {
                allow_http: allow_http.to_vec(),
                nearby: None,
            },
        })
    }

    /// Makes a call and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Every [`Error`] but `Status` and `NotJson`.
    pub async fn send(&self, call: Call) -> Result<Reply, Error> {
        let limit = call.limit;
        let host = call.url.host_str().unwrap_or_default().to_owned();
        // reqwest's own limit covers connecting and the body; this one also covers the waits in between.
        match tokio::time::timeout(limit, async { self.open(call).await?.reply().await }).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { host }),
        }
    }

    /// Makes a call that must be answered with 2xx.
    ///
    /// # Errors
    /// As [`Client::send`], and `Status` for any other answer.
    pub async fn fetch(&self, call: Call) -> Result<Reply, Error> {
        self.send(call).await?.accepted()
    }

    /// Makes a call and leaves the body to be read piece by piece, whatever the status.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn open(&self, call: Call) -> Result<Reading, Error> {
        let inner = match &self.reach {
            Reach::Network { allow_http, nearby } => {
                address::permit(&call.url, allow_http)?;
                if let (Some(nearby), Some(literal)) = (nearby, address::literal(&call.url)) {
                    nearby.permit(&literal.to_string(), literal)?;
                }
                if call.url.scheme() == "https" {
                    &self.secure
                } else {
                    &self.plain
                }
            }
            Reach::Socket if call.url.scheme() == "http" && call.url.host_str() == Some("localhost") => {
                &self.plain
            }
            Reach::Socket => {
                return Err(Error::Refused(
                    "the socket only serves http://localhost".to_owned(),
                ));
            }
        };
        let host = call.url.host_str().unwrap_or_default().to_owned();
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = inner.request(method, call.url).timeout(call.limit);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        for (name, value) in &call.secret_headers {
            let mut value = reqwest::header::HeaderValue::from_str(value.expose()).map_err(|_| {
                Error::Refused("a credential holds characters that no header may hold".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            request = request.body(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| told(error, &host, &call.unseen))?;
        let status = response.status().as_u16();
        Ok(Reading {
            status,
            response,
            host,
            cap: call.cap,
            taken: 0,
            unseen: call.unseen,
        })
    }
}

/// A client whose every call goes to the Unix socket at `path`; its URLs are `http://localhost/…`.
///
/// # Errors
/// `Refused` if the client cannot be made.
pub fn local(path: &Path) -> Result<Client, Error> {
    let plain = build(builder(None, None)?.no_proxy().unix_socket(path.to_path_buf()))?;
    Ok(Client {
        secure: plain.clone(),
        plain,
        reach: Reach::Socket,
    })
}

/// The TLS settings of every connection this product opens: aws-lc-rs, TLS 1.2 and 1.3, the system's roots, Mozilla's, and those
/// of `ca_pem`. For protocols that are not HTTP, too.
///
/// # Errors
/// `Refused` if `ca_pem` holds no certificate or a broken one.
pub fn tls(ca_pem: Option<&str>) -> Result<Arc<rustls::ClientConfig>, Error> {
    static SHARED: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let Some(pem) = ca_pem.map(str::trim).filter(|it| !it.is_empty()) else {
        return Ok(SHARED.get_or_init(|| config(roots().clone())).clone());
    };
    Ok(config(trusted(Some(pem))?))
}

/// As [`tls`], for a server that asks who we are: the certificates and the private key in PEM (PKCS#8, PKCS#1 or SEC1).
///
/// # Errors
/// `Refused` if one of them can't be read, or the key is not the certificate's.
pub fn tls_as(
    ca_pem: Option<&str>,
    certificate_pem: &str,
    key_pem: &Secret,
) -> Result<Arc<rustls::ClientConfig>, Error> {
    let refused = |reason: &str| Error::Refused(format!("the client certificate cannot be used: {reason}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| refused("this is not PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.expose().as_bytes())
        .map_err(|_| refused("its private key is not PEM"))?;
    if chain.is_empty() {
        return Err(refused("there is none in the text"));
    }
    let config = config_builder(trusted(ca_pem)?)
        .with_client_auth_cert(chain, key)
        .map_err(|_| refused("certificate and private key do not fit together"))?;
    Ok(Arc::new(config))
}

/// The system's roots, Mozilla's, and those of `ca_pem`.
fn trusted(ca_pem: Option<&str>) -> Result<rustls::RootCertStore, Error> {
    let Some(pem) = ca_pem.map(str::trim).filter(|it| !it.is_empty()) else {
        return Ok(roots().clone());
    };
    let refused = |reason: &str| Error::Refused(format!("the CA certificates cannot be used: {reason}"));
    let mut store = roots().clone();
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| refused("this is not PEM"))?;
        store
            .add(certificate)
            .map_err(|_| refused("one of them is not a certificate"))?;
        count += 1;
    }
    if count == 0 {
        return Err(refused("there is none in the text"));
    }
    Ok(store)
}

/// The system's roots and Mozilla's, read once.
fn roots() -> &'static rustls::RootCertStore {
    static ROOTS: OnceLock<rustls::RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut store = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let found = rustls_native_certs::load_native_certs();
        let (_, unread) = store.add_parsable_certificates(found.certs);
        if unread > 0 || !found.errors.is_empty() {
            tracing::warn!(
                unread,
                errors = found.errors.len(),
                "some of the system's root certificates were left out"
            );
        }
        store
    })
}

fn config(store: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    Arc::new(config_builder(store).with_no_client_auth())
}

fn config_builder(
    store: rustls::RootCertStore,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs offers TLS 1.2 and 1.3")
        .with_root_certificates(store)
}

/// What all clients have in common.
fn builder(ca_pem: Option<&str>, nearby: Option<Arc<Nearby>>) -> Result<reqwest::ClientBuilder, Error> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls(ca_pem)?.as_ref().clone())
        .dns_resolver(address::GuardedResolver(nearby))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(USER_AGENT))
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Error> {
    builder
        .build()
        .map_err(|error| Error::Refused(format!("the HTTP client cannot be made: {}", error.without_url())))
}

/// A transport failure in our words. The library's own text names the URL, so only its causes are taken.
fn told(error: reqwest::Error, host: &str, unseen: &[Secret]) -> Error {
    let host = host.to_owned();
    if error.is_timeout() {
        return Error::Timeout { host };
    }
    let building = error.is_builder();
    let mut reason = String::new();
    let mut cause = std::error::Error::source(&error);
    while let Some(it) = cause {
        if let Some(forbidden) = it.downcast_ref::<address::ForbiddenAddress>() {
            return Error::Refused(forbidden.to_string());
        }
        reason = it.to_string();
        cause = it.source();
    }
    if reason.is_empty() {
        reason = "the connection failed".to_owned();
    }
    if reason.contains("UnknownIssuer") {
        reason.push_str("; if a private authority issued it, add that authority's certificate here");
    }
    let reason = shown(&redacted(&reason, unseen));
    if building {
        Error::Refused(reason)
    } else {
        Error::Unreachable { host, reason }
    }
}

/// A random time below `most`, so that many who wait do not come back at once.
pub fn jitter(most: Duration) -> Duration {
    let mut bytes = [0; 8];
    // Without randomness everybody waits the longest: correct, only less even.
    if getrandom::fill(&mut bytes).is_err() {
        return most;
    }
    let share = (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64;
    most.mul_f64(share)
}
