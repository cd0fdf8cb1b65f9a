//! Talking to the running appliance over its Unix socket.

use crate::cli::{FAILED, Files, OK, UNREACHABLE, USAGE, fail};
use crate::config::{Flags, load};
use crate::outbound::{Call, Client, Method, local};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "admin.sock";

/// Longest path of a Unix socket that every kernel takes, in bytes (`sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Time to fetch a bundle: hours, for the largest over a slow disk.
const FETCH_MAX: Duration = Duration::from_secs(6 * 3_600);

/// Which appliance.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    #[command(flatten)]
    files: Files,
}

/// Why the appliance gave no answer.
pub struct Failure {
    pub code: u8,
    pub message: String,
}

/// The socket's path, through a short alias where the real one is too long for a socket address. The directory handle
/// must live as long as the path is used.
pub fn socket_path(data_dir: &Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    let path = data_dir.join(SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let directory = std::fs::File::open(data_dir)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    Ok((
        PathBuf::from(format!("/proc/self/fd/{number}/{SOCKET}")),
        Some(directory),
    ))
}

/// Calls the appliance of `files`.
pub fn call(files: &Files, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    reach(files, path, async |client, url, shown| {
        let mut request = Call::new(method, url).limit(Duration::from_secs(20));
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = client.send(request).await.map_err(|_| nobody(shown))?;
        let status = reply.status;
        let value: Value = reply.json().unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let detail = value["detail"].as_str().unwrap_or("the appliance refused");
        Err(refused(status, detail))
    })
}

/// Reads an answer of at most `bytes_max` piece by piece.
pub fn fetch(
    files: &Files,
    path: &str,
    bytes_max: u64,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), Failure> {
    reach(files, path, async |client, url, shown| {
        let request = Call::new(Method::Get, url).limit(FETCH_MAX).cap(bytes_max);
        let mut reading = client.open(request).await.map_err(|_| nobody(shown))?;
        if !(200..300).contains(&reading.status) {
            return Err(refused(reading.status, "the appliance refused"));
        }
        let broken = |message: String| Failure {
            code: FAILED,
            message,
        };
        while let Some(piece) = reading.piece().await.map_err(|e| broken(e.to_string()))? {
            each(&piece).map_err(|e| broken(e.to_string()))?;
        }
        Ok(())
    })
}

fn nobody(shown: &Path) -> Failure {
    Failure {
        code: UNREACHABLE,
        message: format!(
            "no appliance answers at {}; is `signedapproval serve` running?",
            shown.display()
        ),
    }
}

fn refused(status: u16, detail: &str) -> Failure {
    Failure {
        code: if status >= 500 { FAILED } else { USAGE },
        message: detail.to_owned(),
    }
}

/// Finds the socket and lets `ask` speak through it.
fn reach<T>(
    files: &Files,
    path: &str,
    ask: impl AsyncFnOnce(Client, url::Url, &Path) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let usage = |message: String| Failure { code: USAGE, message };
    let flags = Flags {
        config: files.config.clone(),
        data_dir: files.data_dir.clone(),
        ..Flags::default()
    };
    let settings = load(&flags, std::env::vars()).map_err(|e| usage(e.to_string()))?;
    let unreachable = |message: String| Failure {
        code: UNREACHABLE,
        message,
    };
    let shown = settings.data_dir.join(SOCKET);
    let (socket, _directory) = socket_path(&settings.data_dir)
        .map_err(|e| unreachable(format!("{}: {e}", settings.data_dir.display())))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| unreachable(e.to_string()))?;
    runtime.block_on(async {
        let client = local(&socket).map_err(|e| unreachable(e.to_string()))?;
        let url = format!("http://localhost{path}");
        let url = url::Url::parse(&url).map_err(|e| usage(e.to_string()))?;
        ask(client, url, &shown).await
    })
}

/// `healthcheck`.
pub fn healthcheck(place: &Place) -> u8 {
    match call(&place.files, Method::Get, "/readyz", None) {
        Ok(_) => {
            println!("ready");
            OK
        }
        Err(failure) => fail(FAILED, &failure.message),
    }
}
