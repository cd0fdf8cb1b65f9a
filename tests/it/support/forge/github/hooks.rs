//! Sends webhooks as GitHub does: signed over the body, never again by itself.

use crate::support::forge::github::Shared;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Something for the sender thread to do.
pub enum Errand {
    Deliver(u64),
    Stop,
}

/// `X-Hub-Signature-256` of a body.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// One after the other, in order.
pub fn run(shared: &Arc<Shared>, mut errands: UnboundedReceiver<Errand>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client for webhooks");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for webhooks");
    runtime.block_on(async {
        while let Some(Errand::Deliver(id)) = errands.recv().await {
            let planned = shared.read(|state| {
                let url = state.hook_url.clone().filter(|_| !state.silent)?;
                let delivery = state.deliveries.iter().find(|it| it.id == id)?.clone();
                Some((url, state.hook_secret.clone(), delivery))
            });
            let Some((url, secret, delivery)) = planned else {
                continue;
            };
            let body = delivery.payload.to_string().into_bytes();
            let call = client
                .post(url)
                .header("content-type", "application/json")
                .header("user-agent", "GitHub-Hookshot/fake")
                .header("x-github-event", &delivery.event)
                .header("x-github-delivery", &delivery.guid)
                .header("x-hub-signature-256", sign(&secret, &body))
                .body(body);
            let status = match call.send().await {
                Ok(answer) => answer.status().as_u16(),
                Err(_) => 502,
            };
            shared.change(|state| {
                if let Some(it) = state.deliveries.iter_mut().find(|it| it.id == id) {
                    it.status = status;
                }
            });
        }
    });
}
