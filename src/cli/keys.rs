//! `keys`: which keys sign.

use crate::cli::host::call;
use crate::cli::{Files, OK, fail};
use crate::outbound::Method;
use clap::Subcommand;

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
}

/// Runs a `keys` command.
pub fn run(command: &KeysCommand) -> u8 {
    let KeysCommand::Show { files, json } = command;
    match call(files, Method::Get, "/local/keys", None) {
        Ok(shown) if *json => {
            println!("{shown}");
            OK
        }
        Ok(shown) => {
            println!("log origin  {}", shown["log_origin"].as_str().unwrap_or_default());
            println!("log key     {}", shown["log_vkey"].as_str().unwrap_or_default());
            for it in shown["keys"].as_array().into_iter().flatten() {
                let part = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
                println!("{:<11} {} ({})", part("use"), part("keyid"), part("backend"));
            }
            OK
        }
        Err(failure) => fail(failure.code, &failure.message),
    }
}
