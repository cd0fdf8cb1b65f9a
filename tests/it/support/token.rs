//! A SoftHSM token in a directory of its own, the HSM helper over it, and OpenSSH's agent.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use signedapproval::signing::Identity;
use signedapproval::signing::agent_identities;

use crate::support::appliance::new_dir;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PIN: &str = "271828";
const START_MAX: Duration = Duration::from_secs(20);

/// Where the helper is. It is a program of its own, built by its feature alone; a fresh build costs nothing.
pub fn helper_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_signedapproval"))
            .parent()
            .and_then(Path::parent)
            .expect("a target directory");
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--locked",
                "--features",
                "pkcs11",
                "--bin",
                "signedapproval-pkcs11",
            ])
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        target.join("debug/signedapproval-pkcs11")
    })
}

/// A token that is not yet served.
pub struct Token {
    pub dir: PathBuf,
}

impl Token {
    /// Makes the token `sa` with its PIN in a private file.
    pub fn new() -> Token {
        let token = Token { dir: new_dir() };
        fs::create_dir(token.dir.join("tokens")).expect("a directory");
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            token.dir.join("tokens").display()
        );
        fs::write(token.dir.join("softhsm.conf"), conf).expect("a file");
        token.pin("pin", PIN, 0o600);
        let arguments = [
            "--init-token",
            "--free",
            "--label",
            "sa",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ];
        token.run("softhsm2-util", &arguments);
        token
    }

    /// Writes a PIN file.
    pub fn pin(&self, name: &str, pin: &str, mode: u32) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, format!("{pin}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }

    /// Runs a tool over the token's configuration; it must succeed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.dir.join("softhsm.conf"))
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        output
    }

    /// A public key of the token, as another program reads it from there: PEM.
    pub fn public_key(&self, id: &str) -> PathBuf {
        let path = self.dir.join(format!("{id}.pem"));
        let to = path.to_str().expect("UTF-8");
        let arguments = [
            "--module",
            MODULE,
            "--token-label",
            "sa",
            "--read-object",
            "--type",
            "pubkey",
            "--id",
            id,
            "--output-file",
            to,
        ];
        self.run("pkcs11-tool", &arguments);
        path
    }

    /// Makes one more Ed25519 key with another program.
    pub fn make_key(&self, label: &str, id: &str) {
        let arguments = [
            "--module",
            MODULE,
            "--token-label",
            "sa",
            "--login",
            "--pin",
            PIN,
            "--keypairgen",
            "--key-type",
            "EC:edwards25519",
            "--label",
            label,
            "--id",
            id,
        ];
        self.run("pkcs11-tool", &arguments);
    }

    /// Takes the token out, or puts it back.
    pub fn set_present(&self, present: bool) {
        let (here, gone) = (self.dir.join("tokens"), self.dir.join("gone"));
        let (from, to) = if present { (&gone, &here) } else { (&here, &gone) };
        fs::rename(from, to).expect("the token moves");
    }

    /// Where the helper listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// The helper's command line, but for `--socket` and `--origin`.
    pub fn helper(&self, pin: &Path) -> Command {
        let mut command = Command::new(helper_binary());
        command
            .env("SOFTHSM2_CONF", self.dir.join("softhsm.conf"))
            .args(["--module", MODULE, "--token", "sa", "--pin-file"])
            .arg(pin);
        command
    }

    /// Makes the two keys by the helper itself.
    pub fn generate(&self) -> String {
        let output = self
            .helper(&self.dir.join("pin"))
            .arg("--generate")
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts the helper and waits until it listens.
    pub fn serve(&self, origin: &str) -> Agent {
        let log = fs::File::create(self.dir.join("helper.log")).expect("a file");
        let child = self
            .helper(&self.dir.join("pin"))
            .arg("--socket")
            .arg(self.socket())
            .args(["--origin", origin])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the helper starts");
        Agent::wait(child, self.socket())
    }

    /// What the helper has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("helper.log")).unwrap_or_default()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the helper said:\n{}", self.log());
        }
        // A directory left behind does no harm.
        let _removed = fs::remove_dir_all(&self.dir);
    }
}

/// A running agent. Dropping it kills the process.
pub struct Agent {
    child: Child,
    pub socket: PathBuf,
}

impl Agent {
    fn wait(child: Child, socket: PathBuf) -> Agent {
        let agent = Agent { child, socket };
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&agent.socket).is_err() {
            assert!(
                started.elapsed() < START_MAX,
                "no agent at {}",
                agent.socket.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        agent
    }

    /// OpenSSH's own agent, with fresh Ed25519 keys of these comments.
    pub fn of_openssh(dir: &Path, comments: &[&str]) -> Agent {
        let socket = dir.join("ssh-agent.sock");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent starts");
        let agent = Agent::wait(child, socket);
        for (nth, comment) in comments.iter().enumerate() {
            let key = dir.join(format!("ssh-key-{nth}"));
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
                .arg(&key)
                .status();
            assert!(made.expect("ssh-keygen runs").success());
            let added = Command::new("ssh-add")
                .arg("-q")
                .arg(&key)
                .env("SSH_AUTH_SOCK", &agent.socket)
                .status();
            assert!(added.expect("ssh-add runs").success());
        }
        agent
    }

    /// Its keys.
    pub fn identities(&self) -> Vec<Identity> {
        agent_identities(&self.socket).expect("the agent answers")
    }

    /// The key of this comment.
    pub fn identity(&self, comment: &str) -> Identity {
        let found = self.identities().into_iter().find(|it| it.comment == comment);
        found.unwrap_or_else(|| panic!("no key {comment}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = fs::remove_file(&self.socket);
    }
}
