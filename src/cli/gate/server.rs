//! The calls to the appliance, each repeated until it is answered or patience ends. What comes back is believed nothing.

use crate::domain::ids::RequestId;
use crate::domain::text::{shortened, visible};
use crate::outbound::{Call, Client, Error, Method, Reply, Secret, jitter, join, parse_base};
use serde_json::Value;
use std::time::{Duration, Instant};
use url::Url;

/// Seconds that a long poll asks for: below the 60 at which many proxies cut a quiet connection.
const POLL_SECONDS: u64 = 50;
const CALL_MAX: Duration = Duration::from_secs(20);
/// First and longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A server that answers long polls at once is not asked more often than this.
const POLLS_APART: Duration = Duration::from_millis(300);
/// Longest answer, in bytes: a request with everything in it.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// 401, 403 or 404.
    NotAuthorised(String),
    /// Any other 4xx.
    Refused(String),
    /// No answer within the patience, or only 5xx.
    Unreachable(String),
}

/// The appliance.
pub struct Server {
    client: Client,
    base: Url,
    key: Secret,
    patience: Duration,
}

impl Server {
    /// The appliance at `url`: https, or http on this machine.
    pub fn new(url: &str, key: &str, ca_pem: Option<&str>, patience: Duration) -> Result<Server, String> {
        let nearby = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let base = parse_base(url, &nearby).map_err(|e| format!("--server: {e}"))?;
        let client = Client::new(ca_pem, &nearby).map_err(|e| e.to_string())?;
        Ok(Server {
            client,
            base,
            key: Secret::new(key.trim()),
            patience,
        })
    }

    /// The address, for people.
    pub fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// Opens a request. `nonce` makes a repetition the same request.
    pub async fn open(&self, nonce: &str, body: String) -> Result<Value, Failure> {
        let call = self
            .call(Method::Post, &["api", "v1", "approvals", "request"])?
            .header("idempotency-key", nonce)
            .body("application/json", body.into_bytes());
        self.json(call, self.patience).await
    }

    /// The request as it stands; with `wait`, once it has changed or after a while.
    pub async fn look(&self, id: &RequestId, wait: bool) -> Result<Value, Failure> {
        let mut call = self.call(Method::Get, &["api", "v1", "approvals", id.as_str()])?;
        let started = Instant::now();
        if wait {
            call = call
                .query([("wait", POLL_SECONDS.to_string().as_str())])
                .limit(CALL_MAX + Duration::from_secs(POLL_SECONDS));
        }
        let shown = self.json(call, self.patience).await?;
        if wait && shown["status"] == "pending" {
            tokio::time::sleep(POLLS_APART.saturating_sub(started.elapsed())).await;
        }
        Ok(shown)
    }

    /// Cancels a request, with one try: whoever calls this is being stopped.
    pub async fn cancel(&self, id: &RequestId) -> Result<(), Failure> {
        let call = self.call(Method::Post, &["api", "v1", "approvals", id.as_str(), "cancel"])?;
        self.send(call, Duration::ZERO).await.map(drop)
    }

    /// Spends the approval; `false` where somebody else has, or it is too late.
    pub async fn consume(&self, id: &RequestId, nonce: &str) -> Result<bool, Failure> {
        let call = self
            .call(Method::Post, &["api", "v1", "approvals", id.as_str(), "consume"])?
            .header("idempotency-key", nonce);
        match self.send(call, self.patience).await {
            Ok(_) => Ok(true),
            Err(Failure::Refused(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Bytes of a proof.
    pub async fn file(&self, segments: &[&str]) -> Result<Vec<u8>, Failure> {
        let path = [&["api", "v1"], segments].concat();
        Ok(self
            .send(self.call(Method::Get, &path)?, self.patience)
            .await?
            .body)
    }

    fn call(&self, method: Method, segments: &[&str]) -> Result<Call, Failure> {
        let url = join(&self.base, segments).map_err(|e| Failure::Refused(e.to_string()))?;
        Ok(Call::new(method, url)
            .bearer(&self.key)
            .limit(CALL_MAX)
            .cap(ANSWER_BYTES_MAX))
    }

    async fn json(&self, call: Call, patience: Duration) -> Result<Value, Failure> {
        let reply = self.send(call, patience).await?;
        reply
            .json()
            .map_err(|_| Failure::Unreachable("What answers there is not an appliance.".into()))
    }

    /// Makes a call until it is answered with 2xx or 4xx. Every call here may be repeated.
    async fn send(&self, call: Call, patience: Duration) -> Result<Reply, Failure> {
        let started = Instant::now();
        let mut pause = PAUSE;
        loop {
            let (asked_for, reason) = match self.client.send(call.clone()).await {
                Ok(reply) if (200..300).contains(&reply.status) => return Ok(reply),
                Ok(reply) => {
                    let told = told(&reply);
                    match reply.status {
                        401 | 403 | 404 => return Err(Failure::NotAuthorised(told)),
                        408 | 429 | 500.. => (reply.told_wait(), told),
                        _ => return Err(Failure::Refused(told)),
                    }
                }
                Err(Error::Refused(reason)) => return Err(Failure::Refused(reason)),
                Err(error) => (None, error.to_string()),
            };
            let wait = asked_for.unwrap_or_default().max(pause / 2 + jitter(pause / 2));
            if started.elapsed() + wait > patience {
                return Err(Failure::Unreachable(format!(
                    "{} gave no usable answer for {} s: {reason}",
                    self.shown(),
                    started.elapsed().as_secs()
                )));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What a refusal says: the sentence of its problem document.
fn told(reply: &Reply) -> String {
    let problem: Value = reply.json().unwrap_or(Value::Null);
    let detail = problem["detail"].as_str().unwrap_or("no reason was given");
    format!(
        "The server answered {}: {}",
        reply.status,
        shortened(&visible(detail), 500)
    )
}
