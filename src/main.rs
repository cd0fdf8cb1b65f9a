//! Parses the arguments, calls the command line, chooses the exit code.

use clap::Parser;
use signedapproval::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run(cli::Arguments::parse()))
}
