//! The command line: one file a subcommand. It reads arguments and files, prints, and chooses the exit code.

mod admin;
mod audit;
mod backup;
mod config;
mod door;
mod gate;
mod host;
mod instance;
mod keyring;
mod keys;
mod manual;
mod monitors;
mod passphrase;
mod pinned;
mod policy;
mod rollback;
mod running;
mod sealed;
mod serve;
mod stop;
mod supervise;
mod verify;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Exit code of success.
pub const OK: u8 = 0;
/// Exit code of a failure that no other code names.
pub const FAILED: u8 = 1;
/// Exit code of wrong usage or settings.
pub const USAGE: u8 = 2;
/// Exit code when the running appliance can't be reached.
pub const UNREACHABLE: u8 = 6;
/// Exit code of `serve` when the journal could not be written: restart and look.
pub const MUST_RESTART: u8 = 70;

/// An approval gate whose approvals are signed by the approver's own passkey.
#[derive(Debug, Parser)]
#[command(name = "signedapproval", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance.
    ///
    /// With no configuration at all it serves http://localhost:8080 for evaluation, keeps its data in
    /// ./signedapproval-data and prints one set-up link.
    Serve(serve::ServeArgs),
    Gate(Box<gate::GateArgs>),
    Verify(verify::VerifyArgs),
    /// Administer the running appliance on its own host.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Signed bundles for auditors: export, verify; the log as tiles.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show the signing keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Write, check and restore backups.
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Check and explain policy documents, offline.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Check and show settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Ask the running appliance whether it is ready. Exit code 0 or 1.
    Healthcheck(host::Place),
    /// Print the completions of a shell.
    Completions(manual::CompletionsArgs),
    /// Write manual pages.
    Man(manual::ManArgs),
}

/// Where the running appliance keeps its data.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Files {
    /// Settings file; by default /etc/signedapproval/config.toml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; by default ./signedapproval-data.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs a subcommand and answers with the exit code.
pub fn run(arguments: Arguments) -> u8 {
    match arguments.command {
        Command::Serve(args) => serve::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Admin(command) => admin::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Keys(command) => keys::run(&command),
        Command::Backup(command) => backup::run(&command),
        Command::Policy(command) => policy::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Healthcheck(place) => host::healthcheck(&place),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

/// Prints an error for people and answers with the code.
fn fail(code: u8, error: &dyn std::fmt::Display) -> u8 {
    eprintln!("signedapproval: {error}");
    code
}
