//! `signedapproval-pkcs11`: serves the Ed25519 keys of a PKCS#11 token over the ssh-agent protocol, to an appliance that
//! can't load a vendor's module itself. It signs what the appliance signs and nothing else.

mod agent;
mod permitted;
mod token;

use clap::Parser;
use permitted::Permitted;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use token::{Failure, Pin, Token};

/// Could not start.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// The token refuses the PIN. Trying again would only lock it, so a service manager must not start it again by itself.
const PIN_REFUSED: u8 = 5;

/// Connections served at once: the appliance uses one a signature.
const CONNECTIONS_MAX: usize = 16;

/// Serves the Ed25519 keys labelled `credential` and `log` of a PKCS#11 token over the ssh-agent protocol.
///
/// The key `credential` signs DSSE statements, the key `log` checkpoints of the configured log; either introduces the key
/// that follows it. Everything else is refused. Exit codes: 1 could not start, 2 usage, 5 the token refuses the PIN.
#[derive(Debug, Parser)]
#[command(name = "signedapproval-pkcs11", version)]
struct Arguments {
    /// The vendor's PKCS#11 module.
    #[arg(long, value_name = "SO")]
    module: PathBuf,
    /// Label of the token.
    #[arg(long, value_name = "LABEL")]
    token: String,
    /// File with the PIN, which its owner alone can read.
    #[arg(long, value_name = "F")]
    pin_file: PathBuf,
    /// Unix socket to listen on; the appliance's user must be able to reach it.
    #[arg(long, value_name = "S", required_unless_present = "generate")]
    socket: Option<PathBuf>,
    /// How the first line of a checkpoint must begin: `<host>/log/`.
    #[arg(long, value_name = "PREFIX", required_unless_present = "generate")]
    origin: Option<String>,
    /// Make the keys that the token lacks, print their fingerprints and end.
    #[arg(long)]
    generate: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Whoever closed the pipe has stopped reading; the exit code still tells.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("signedapproval-pkcs11: {message}");
            ExitCode::from(code)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), (u8, String)> {
    keep_to_itself().map_err(|e| (FAILED, format!("the process can't be shut off: {e}")))?;
    let pin = Pin::read(&arguments.pin_file).map_err(|e| (USAGE, e))?;
    let mut token = Token::new(arguments.module, arguments.token, pin);
    if arguments.generate {
        let made = token.generate(&["credential", "log"]).map_err(told)?;
        for line in made {
            println!("{line}");
        }
        return Ok(());
    }
    let (Some(socket), Some(origin)) = (arguments.socket, arguments.origin) else {
        return Err((USAGE, "--socket and --origin are needed".into()));
    };
    let permitted = Permitted::new(&origin).map_err(|e| (USAGE, e))?;
    match token.keys() {
        Ok(keys) if keys.is_empty() => {
            eprintln!(
                "signedapproval-pkcs11: the token has no Ed25519 key labelled `credential` or `log` yet"
            );
        }
        Ok(keys) => {
            for key in keys {
                eprintln!(
                    "signedapproval-pkcs11: serves {} {}",
                    key.label,
                    key.fingerprint()
                );
            }
        }
        // It may come later; a refused PIN may not be tried again.
        Err(Failure::Away(why)) => eprintln!("signedapproval-pkcs11: the token is away: {why}"),
        Err(failure) => return Err(told(failure)),
    }
    let listener = listen(&socket).map_err(|e| (FAILED, format!("{}: {e}", socket.display())))?;
    serve(&listener, Arc::new(Mutex::new(token)), Arc::new(permitted))
}

fn told(failure: Failure) -> (u8, String) {
    match failure {
        Failure::Pin(why) => (PIN_REFUSED, why),
        Failure::Away(why) => (FAILED, why),
    }
}

/// No core file and no debugger of the same user: the PIN is in this process.
fn keep_to_itself() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    match std::fs::symlink_metadata(socket) {
        // Left by a process that is gone. A living one answers.
        Ok(meta) if meta.file_type().is_socket() => {
            if UnixStream::connect(socket).is_ok() {
                return Err(std::io::Error::other("another process listens there"));
            }
            std::fs::remove_file(socket)?;
        }
        Ok(_) => return Err(std::io::Error::other("something else than a socket is there")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(socket)?;
    // The owner and the group; the appliance's user is in it.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn serve(
    listener: &UnixListener,
    token: Arc<Mutex<Token>>,
    permitted: Arc<Permitted>,
) -> Result<(), (u8, String)> {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream.map_err(|e| (FAILED, e.to_string()))?;
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (token, permitted, open) = (token.clone(), permitted.clone(), open.clone());
        std::thread::spawn(move || {
            let ended = agent::answer(stream, &token, &permitted);
            open.fetch_sub(1, Ordering::SeqCst);
            if let Err(Failure::Pin(why)) = ended {
                eprintln!("signedapproval-pkcs11: {why}");
                std::process::exit(i32::from(PIN_REFUSED));
            }
        });
    }
    Ok(())
}
