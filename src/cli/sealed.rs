//! A start without the passphrase: serves the page that takes it, and goes on with it.

use crate::cli::host::{SOCKET, socket_path};
use crate::cli::instance::{first_start, try_passphrase, write_private};
use crate::cli::monitors::Monitors;
use crate::cli::serve::languages;
use crate::config::Settings;
use crate::identity::new_token;
use crate::listen::Front;
use crate::web::sealed::{Sealed, serve_sealed, serve_sealed_host};
use actix_web::web::Data;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

/// Where the link for choosing the first passphrase is written, for whoever has the data directory.
pub const UNSEAL_URL: &str = "unseal-url";
/// What the state is called in `/readyz`, metrics and the journal.
pub const SEALED: &str = "sealed";

/// Waits until somebody enters the passphrase. `None`: it was told to stop.
///
/// # Errors
/// For people.
pub fn wait_for_passphrase(
    settings: &Settings,
    public_url: &str,
    front: Arc<Front>,
    listener: &TcpListener,
    monitors: &Monitors<'_>,
    stop: impl Future<Output = ()> + 'static,
) -> Result<Option<Zeroizing<String>>, String> {
    let (socket, socket_path) = admin_socket(&settings.data_dir)?;
    let data_dir = settings.data_dir.clone();
    let first = first_start(&data_dir);
    let mut token = None;
    if first {
        let made = new_token();
        let path = data_dir.join(UNSEAL_URL);
        let link = format!("{public_url}/unseal#{}", made.text.as_str());
        write_private(&path, link.as_bytes()).map_err(|e| e.to_string())?;
        token = Some(made.sha256.0);
        // Whoever has the link chooses: logs are read by more people than may.
        let where_to = match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            true => format!("at {link}"),
            false => format!("with the link in {}", path.display()),
        };
        println!(
            "This is the first start, and no passphrase for the signing keys is given. Choose one {where_to},\n\
             or on this machine by `signedapproval keys unseal --data-dir {}`.",
            data_dir.display()
        );
    } else {
        println!(
            "Sealed: nothing is decided until the passphrase of the keys is entered at {public_url}/unseal,\n\
             or on this machine by `signedapproval keys unseal --data-dir {}`.",
            data_dir.display()
        );
    }
    if let Some(tls) = front
        .tls
        .as_ref()
        .map(|it| it.current())
        .filter(|it| it.self_signed)
    {
        println!(
            "The certificate is of the server's own making; compare its SHA-256 before you enter anything: {}",
            tls.facts.sha256
        );
    }
    tracing::warn!("sealed: no passphrase of the signing keys was given at the start");
    let (opened, mut passphrase) = mpsc::channel(1);
    let sealed = Data::new(Sealed {
        languages: languages(settings)?,
        first,
        token,
        attempt: {
            let data_dir = data_dir.clone();
            Arc::new(move |text: &str| attempt(&data_dir, text))
        },
        opened,
        turn: Mutex::new(()),
        waiting: monitors.waiting(SEALED),
    });
    let listener = listener.try_clone().map_err(|e| e.to_string())?;
    let got = actix_web::rt::System::new().block_on(async move {
        let host = serve_sealed_host(sealed.clone(), socket).map_err(|e| e.to_string())?;
        let mut handles = vec![host.handle()];
        actix_web::rt::spawn(host);
        handles.extend(monitors.serve(sealed.waiting.clone())?);
        let server = serve_sealed(front, sealed, listener).map_err(|e| e.to_string())?;
        handles.push(server.handle());
        let serving = actix_web::rt::spawn(server);
        let got = tokio::select! {
            got = passphrase.recv() => got,
            () = stop => None,
            _ = serving => return Err("the listener failed".to_owned()),
        };
        futures_util::future::join_all(handles.iter().map(|it| it.stop(true))).await;
        Ok(got)
    });
    let _ = std::fs::remove_file(socket_path);
    got
}

/// The host's socket. While sealed, nothing else shows whether another process serves this directory.
fn admin_socket(data_dir: &Path) -> Result<(UnixListener, PathBuf), String> {
    let shown = data_dir.join(SOCKET);
    let words = |e: std::io::Error| format!("{}: {e}", shown.display());
    let (path, _directory) = socket_path(data_dir).map_err(words)?;
    if UnixStream::connect(&path).is_ok() {
        return Err(format!(
            "{}: another process serves this data directory",
            data_dir.display()
        ));
    }
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(words(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(words)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(words)?;
    Ok((listener, shown))
}

fn attempt(data_dir: &Path, passphrase: &str) -> Result<(), String> {
    try_passphrase(data_dir, passphrase).map_err(|e| e.to_string())
}
