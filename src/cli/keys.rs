//! `keys`: which keys sign, and how others take over.

use crate::cli::host::call;
use crate::cli::{Files, OK, fail};
use crate::outbound::Method;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

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
