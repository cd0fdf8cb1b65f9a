//! A start without the passphrase: serves the page that takes it, and goes on with it.

use crate::cli::instance::{first_start, try_passphrase, write_private};
use crate::config::Settings;
use crate::identity::new_token;
use crate::listen::Front;
use crate::web::sealed::{Sealed, serve_sealed};
use actix_web::web::Data;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

/// Where the link for choosing the first passphrase is written, for whoever has the data directory.
pub const UNSEAL_URL: &str = "unseal-url";

/// Waits until somebody enters the passphrase. `None`: it was told to stop.
///
/// # Errors
/// For people.
pub fn wait_for_passphrase(
    settings: &Settings,
    public_url: &str,
    front: Arc<Front>,
    listener: &TcpListener,
    stop: impl Future<Output = ()> + 'static,
) -> Result<Option<Zeroizing<String>>, String> {
    let data_dir = settings.data_dir.clone();
    let first = first_start(&data_dir);
    let mut token = None;
    if first {
        let made = new_token();
        let path = data_dir.join(UNSEAL_URL);
        let link = format!("{public_url}/unseal#{}", made.text.as_str());
        write_private(&path, link.as_bytes()).map_err(|e| e.to_string())?;
        token = Some(made.sha256.0);
        println!(
            "No passphrase is given: choose one with the link in {}.",
            path.display()
        );
    } else {
        println!(
            "Sealed: nothing is decided until the passphrase of the keys is entered at {public_url}/unseal."
        );
    }
    tracing::warn!("sealed: no passphrase of the signing keys was given at the start");
    let (opened, mut passphrase) = mpsc::channel(1);
    let sealed = Data::new(Sealed {
        first,
        token,
        attempt: {
            let data_dir = data_dir.clone();
            Arc::new(move |text: &str| attempt(&data_dir, text))
        },
        opened,
        turn: Mutex::new(()),
    });
    let listener = listener.try_clone().map_err(|e| e.to_string())?;
    actix_web::rt::System::new().block_on(async move {
        let server = serve_sealed(front, sealed, listener).map_err(|e| e.to_string())?;
        let handle = server.handle();
        let serving = actix_web::rt::spawn(server);
        let got = tokio::select! {
            got = passphrase.recv() => got,
            () = stop => None,
            _ = serving => return Err("the listener failed".to_owned()),
        };
        handle.stop(true).await;
        Ok(got)
    })
}

fn attempt(data_dir: &Path, passphrase: &str) -> Result<(), String> {
    try_passphrase(data_dir, passphrase).map_err(|e| e.to_string())
}
