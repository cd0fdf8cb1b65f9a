//! Sends webhooks as GitLab does: its headers, its token, its Standard Webhooks signature, no retry.
//! It follows no redirect and trusts no proxy setting of the machine.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::forge::gitlab::Shared;
use crate::support::forge::gitlab::checks::StatusCheck;
use crate::support::forge::gitlab::state::Attempt;
use crate::support::forge::gitlab::state::Hook;
use crate::support::forge::gitlab::state::State;

/// GitLab's default `webhook_timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A webhook request as bytes and headers, to be sent as it is or bent first.
#[derive(Clone, Debug)]
pub struct HookRequest {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HookRequest {
    /// Replaces or adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(present, _)| present.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Something for the sender thread to do.
pub enum Errand {
    /// Send a recorded delivery and record the attempt.
    Deliver(u64),
    /// Send this and report the attempt.
    Raw(HookRequest, std::sync::mpsc::Sender<Attempt>),
    Stop,
}

/// The Standard Webhooks signature of `{id}.{timestamp}.{body}`, as `v1,<base64>`.
pub fn sign(signing_token: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = signing_token
        .strip_prefix("whsec_")
        .expect("a signing token starts with whsec_");
    let key = STANDARD.decode(key).expect("a signing token is base64");
    assert_eq!(key.len(), 32, "a GitLab signing token is 32 bytes");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes any key");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The request of a recorded delivery, signed for the given time.
pub fn request(state: &State, delivery: u64, at: Timestamp) -> HookRequest {
    let delivery = state.deliveries.get(&delivery).expect("a recorded delivery");
    let record = state.project(delivery.project);
    if let Some(check) = record
        .status_checks
        .iter()
        .find(|check| check.id == delivery.hook)
    {
        return check_request(state, check, &delivery.body);
    }
    let hook = state
        .hook_of(delivery.project, delivery.hook)
        .expect("the delivery's hook still exists");
    // What a system hook sends names itself alone in its header.
    let system = state.system_hooks.iter().any(|it| it.id == hook.id);
    request_for(
        state,
        hook,
        if system { "System Hook" } else { &delivery.event },
        &delivery.key,
        &delivery.event_uuid,
        &delivery.body,
        at,
    )
}

/// The call of an external status check: no token, no delivery id, no time; a hex HMAC of the body where there is a secret.
fn check_request(state: &State, check: &StatusCheck, body: &str) -> HookRequest {
    let mut headers = vec![
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("User-Agent".to_owned(), format!("GitLab/{}", state.version)),
    ];
    if let Some(secret) = &check.secret {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
        mac.update(body.as_bytes());
        headers.push((
            "X-GitLab-Signature".to_owned(),
            hex::encode(mac.finalize().into_bytes()),
        ));
    }
    HookRequest {
        url: check.url.clone(),
        headers,
        body: body.as_bytes().to_vec(),
    }
}

/// A request to a hook with any event name and body, authentic in everything.
pub fn request_for(
    state: &State,
    hook: &Hook,
    event: &str,
    key: &str,
    event_uuid: &str,
    body: &str,
    at: Timestamp,
) -> HookRequest {
    let mut headers = vec![
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("User-Agent".to_owned(), format!("GitLab/{}", state.version)),
        ("Idempotency-Key".to_owned(), key.to_owned()),
        ("X-Gitlab-Event".to_owned(), event.to_owned()),
        ("X-Gitlab-Webhook-UUID".to_owned(), hook.uuid.clone()),
        ("X-Gitlab-Instance".to_owned(), state.base_url.clone()),
        ("X-Gitlab-Event-UUID".to_owned(), event_uuid.to_owned()),
    ];
    if let Some(token) = &hook.token {
        headers.push(("X-Gitlab-Token".to_owned(), token.clone()));
    }
    if let Some(signing) = &hook.signing_token {
        let seconds = at.as_second();
        headers.push(("webhook-id".to_owned(), key.to_owned()));
        headers.push(("webhook-timestamp".to_owned(), seconds.to_string()));
        headers.push((
            "webhook-signature".to_owned(),
            sign(signing, key, seconds, body.as_bytes()),
        ));
    }
    HookRequest {
        url: hook.url.clone(),
        headers,
        body: body.as_bytes().to_vec(),
    }
}

/// The sender thread: one errand at a time, in order, so that a run can be repeated.
pub fn run(shared: &Arc<Shared>, mut errands: UnboundedReceiver<Errand>) {
    // Another test may have installed a provider already; either is good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = |verify: bool| {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .tls_danger_accept_invalid_certs(!verify)
            .build()
            .expect("a client for webhooks")
    };
    let (strict, lenient) = (client(true), client(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for webhooks");
    runtime.block_on(async {
        while let Some(errand) = errands.recv().await {
            match errand {
                Errand::Stop => break,
                Errand::Raw(request, report) => {
                    // The asker may have given up waiting.
                    let _ = report.send(send(&lenient, request).await);
                }
                Errand::Deliver(id) => {
                    let planned = shared.read(|state| {
                        let delivery = state.deliveries.get(&id)?;
                        let record = state.projects.get(&delivery.project)?;
                        let hook = state.hook_of(delivery.project, delivery.hook);
                        let check = record.status_checks.iter().any(|check| check.id == delivery.hook);
                        let verify = match hook {
                            Some(hook) => hook.ssl_verification,
                            None if check => true,
                            None => return None,
                        };
                        Some((request(state, id, Timestamp::now()), verify))
                    });
                    let attempt = match planned {
                        Some((request, true)) => Some(send(&strict, request).await),
                        Some((request, false)) => Some(send(&lenient, request).await),
                        // The hook or the project was removed meanwhile.
                        None => None,
                    };
                    shared.change(|state| record(state, id, attempt));
                }
            }
        }
    });
}

async fn send(client: &reqwest::Client, request: HookRequest) -> Attempt {
    let at = Timestamp::now();
    let begun = Instant::now();
    let mut call = client.post(&request.url).body(request.body);
    for (name, value) in &request.headers {
        call = call.header(name, value);
    }
    let (status, error) = match call.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            match answer.bytes().await {
                Ok(_) => (Some(status), None),
                Err(error) => (Some(status), Some(error.to_string())),
            }
        }
        Err(error) => (None, Some(error.to_string())),
    };
    Attempt {
        log: 0,
        status,
        error,
        took: begun.elapsed(),
        at,
    }
}

/// Keeps the attempt, and GitLab's count of failures in a row (4 pause the hook, 40 end it, where the instance does that).
fn record(state: &mut State, delivery: u64, attempt: Option<Attempt>) {
    state.in_flight -= 1;
    let log = state.fresh_id();
    let (Some(mut attempt), Some(record)) = (attempt, state.deliveries.get_mut(&delivery)) else {
        return;
    };
    attempt.log = log;
    let good = attempt.status.is_some_and(|status| status < 400);
    record.attempts.push(attempt);
    let (project, hook) = (record.project, record.hook);
    let disable = state.auto_disable_hooks;
    let hooks = state.projects.get_mut(&project).map(|project| &mut project.hooks);
    let Some(hook) = hooks.and_then(|hooks| hooks.iter_mut().find(|h| h.id == hook)) else {
        return;
    };
    hook.failures = if good { 0 } else { hook.failures + 1 };
    if good {
        hook.alert_status = "executable".to_owned();
        hook.disabled_until = None;
    } else if disable {
        judge(hook);
    }
}

/// Pauses a hook that fails again and again: a minute at first, twice as long each time, a day at most.
fn judge(hook: &mut Hook) {
    let (status, until) = match hook.failures {
        0..4 => ("executable", None),
        failures @ 4..40 => {
            let minutes = 2_i64.saturating_pow(u32::try_from(failures - 4).unwrap_or(u32::MAX));
            let pause = jiff::SignedDuration::from_mins(minutes.min(24 * 60));
            ("temporarily_disabled", Some(Timestamp::now() + pause))
        }
        _ => ("disabled", None),
    };
    hook.alert_status = status.to_owned();
    hook.disabled_until = until;
}

/// A random-looking version 4 UUID: unique, not secret.
pub fn fresh_uuid() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let half = |salt: u64| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(salt);
        hasher.write_u64(count);
        hasher.finish()
    };
    let (a, b) = (half(1), half(2));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0x0fff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}
