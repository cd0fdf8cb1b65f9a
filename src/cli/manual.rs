//! `man` and `completions`: what packages bring along, made from the same definition as `--help`.

use crate::cli::{Arguments, FAILED, OK, fail};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::PathBuf;

/// Arguments of `man`.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArgs {
    /// Existing directory for the manual pages, one for each subcommand.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the manual pages.
pub fn man(args: &ManArgs) -> u8 {
    match clap_mangen::generate_to(Arguments::command(), &args.directory) {
        Ok(()) => OK,
        Err(error) => fail(FAILED, &format!("{}: {error}", args.directory.display())),
    }
}

/// Prints the shell's completions.
pub fn completions(args: &CompletionsArgs) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "signedapproval", &mut text);
    match std::io::Write::write_all(&mut std::io::stdout(), &text) {
        Ok(()) => OK,
        Err(error) => fail(FAILED, &error),
    }
}
