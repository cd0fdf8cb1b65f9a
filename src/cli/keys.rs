//! `keys`: which keys sign, and how others take over.

use crate::cli::host::{Failure, call};
use crate::cli::passphrase;
use crate::cli::{Files, OK, USAGE, fail};
use crate::outbound::Method;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show the signing keys of the running appliance and what its log is called.
    Show {
        #[command(flatten)]
        files: Files,
        /// Print JSON: log_origin, log_vkey, keys.
        #[arg(long)]
        json: bool,
    },
    /// Let the next keys take over, while the appliance runs.
    ///
    /// With `keys.backend = "file"` new keys are made; with "agent" the keys that the settings name take over. The old key
    /// introduces the new one, and everything it signed until now stays valid. A new log key opens a new epoch.
    Rotate {
        #[command(flatten)]
        files: Files,
        /// Which keys; by default `credential` and `log`. `data` seals all stored secrets anew.
        #[arg(long = "use", value_name = "USE")]
        uses: Vec<Which>,
        /// Print JSON, one object a key.
        #[arg(long)]
        json: bool,
    },
    /// Enter the passphrase of the keys, where the appliance was started without it and waits sealed.
    ///
    /// At a first start it is chosen now. It is asked for on the terminal; else it is the first line of standard input.
    Unseal {
        #[command(flatten)]
        files: Files,
        /// A file with the passphrase, readable by its owner alone.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Put the signing keys in files, and the data keys, under another passphrase, while the appliance runs.
    ///
    /// Both are asked for on the terminal; else they are the first two lines of standard input. Afterwards put the new one
    /// where the appliance reads it at its start. Backups made before open with the one of before.
    ChangePassphrase {
        #[command(flatten)]
        files: Files,
        /// A file with the passphrase until now.
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// A file with the new one.
        #[arg(long, value_name = "FILE")]
        to_file: Option<PathBuf>,
    },
    /// Revoke a key that somebody else may hold.
    ///
    /// Nothing counts that it signed at or after a position of the journal. If it still signs, the next key takes over
    /// without being introduced by it: hand its public key out anew. Requests it signed for since are taken back.
    Revoke {
        #[command(flatten)]
        files: Files,
        /// The key's id, as `keys show` prints it.
        #[arg(value_name = "KEYID")]
        keyid: String,
        /// The first journal position at which its signatures do not count; by default from now on.
        #[arg(long, value_name = "N")]
        from_seq: Option<u64>,
        /// Why. It stands in the journal.
        #[arg(long)]
        reason: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    Credential,
    Log,
    Data,
}

/// Runs a `keys` command.
pub fn run(command: &KeysCommand) -> u8 {
    match command {
        KeysCommand::Show { files, json } => match call(files, Method::Get, "/local/keys", None) {
            Ok(shown) => {
                show(&shown, *json);
                OK
            }
            Err(failure) => fail(failure.code, &failure.message),
        },
        KeysCommand::Rotate { files, uses, json } => {
            let all = [Which::Credential, Which::Log];
            let uses = if uses.is_empty() { &all[..] } else { uses };
            for which in uses {
                let name = which.to_possible_value().expect("no use is hidden");
                let body = json!({ "use": name.get_name() });
                match call(files, Method::Post, "/local/keys/rotate", Some(&body)) {
                    Ok(changed) => tell(&changed, name.get_name(), *json),
                    Err(failure) => return fail(failure.code, &failure.message),
                }
            }
            OK
        }
        KeysCommand::Unseal {
            files,
            passphrase_file,
        } => match unseal(files, passphrase_file.as_deref()) {
            Ok(()) => {
                println!("The passphrase opens the keys; the appliance goes on.");
                OK
            }
            Err(failure) => fail(failure.code, &failure.message),
        },
        KeysCommand::ChangePassphrase {
            files,
            from_file,
            to_file,
        } => match change(files, from_file.as_deref(), to_file.as_deref()) {
            Ok(()) => {
                println!("Keys and sealed secrets stand under the new passphrase.");
                println!(
                    "Put it where the appliance reads it at its start (with the packages: /etc/signedapproval/passphrase), \
                     and keep a copy somewhere else. Backups made before open with the old one: make a new one now."
                );
                OK
            }
            Err(failure) => fail(failure.code, &failure.message),
        },
        KeysCommand::Revoke {
            files,
            keyid,
            from_seq,
            reason,
            json,
        } => {
            let body = json!({ "keyid": keyid, "from_seq": from_seq, "reason": reason });
            match call(files, Method::Post, "/local/keys/revoke", Some(&body)) {
                Ok(changed) => {
                    tell(&changed, "", *json);
                    OK
                }
                Err(failure) => fail(failure.code, &failure.message),
            }
        }
    }
}

fn unseal(files: &Files, file: Option<&Path>) -> Result<(), Failure> {
    let asked = call(files, Method::Get, "/local/unseal", None).map_err(|it| match it.code {
        USAGE => Failure {
            code: USAGE,
            message: "the appliance is not sealed".into(),
        },
        _ => it,
    })?;
    let first = asked["first"].as_bool() == Some(true);
    let usage = |message: String| Failure { code: USAGE, message };
    let text = match first {
        true => passphrase::read_new("Choose the passphrase of the signing keys: ", file),
        false => passphrase::read("Passphrase of the signing keys: ", file),
    }
    .map_err(usage)?;
    let body = json!({ "passphrase": *text, "again": first.then_some(&*text) });
    call(files, Method::Post, "/local/unseal", Some(&body)).map(|_| ())
}

fn change(files: &Files, from: Option<&Path>, to: Option<&Path>) -> Result<(), Failure> {
    let usage = |message: String| Failure { code: USAGE, message };
    let from = passphrase::read("Passphrase until now: ", from).map_err(usage)?;
    let to = passphrase::read_new("New passphrase: ", to).map_err(usage)?;
    let body = json!({ "from": *from, "to": *to });
    call(files, Method::Post, "/local/keys/passphrase", Some(&body)).map(|_| ())
}

fn show(shown: &Value, as_json: bool) {
    if as_json {
        println!("{shown}");
        return;
    }
    println!("log origin  {}", shown["log_origin"].as_str().unwrap_or_default());
    println!("log key     {}", shown["log_vkey"].as_str().unwrap_or_default());
    for it in shown["keys"].as_array().into_iter().flatten() {
        let part = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
        let state = match (it["until_seq"].as_u64(), it["revoked"].as_str()) {
            (None, _) => format!("signs ({})", part("backend")),
            (Some(until), None) => format!("until entry {until}"),
            (Some(until), Some(_)) => format!("revoked from entry {until} on"),
        };
        println!("{:<11} {} {state}", part("use"), part("keyid"));
    }
}

fn tell(changed: &Value, name: &str, as_json: bool) {
    if as_json {
        println!("{changed}");
        return;
    }
    if name == "data" {
        println!("A new data key seals {} stored secrets.", changed["secrets"]);
    }
    if let Some(ended) = changed["ended"].as_str() {
        println!("{ended} no longer counts from entry {} on.", changed["from_seq"]);
    }
    if let Some(activated) = changed["activated"].as_str() {
        println!("{activated} signs from now on.");
    }
    match changed["taken_back"].as_u64() {
        Some(0) | None => {}
        Some(count) => println!("{count} requests that it had signed for were taken back."),
    }
}
