//! `config`: checks and shows settings without starting anything.

use crate::cli::door;
use crate::cli::{Files, OK, USAGE, fail};
use crate::clock::{Clock, SystemClock};
use crate::config::{Flags, KEYS, Key, Kind, Settings, Value, load};
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the settings. Exit code 0 or 2.
    Check {
        #[command(flatten)]
        files: Files,
    },
    /// Show every setting.
    Show {
        #[command(flatten)]
        files: Files,
        /// Say where each value comes from.
        #[arg(long)]
        origin: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a `config` command.
pub fn run(command: &ConfigCommand) -> u8 {
    match command {
        ConfigCommand::Check { files } => match settings(files) {
            Ok(settings) => match door::check(&settings, SystemClock.now()) {
                Ok(()) => {
                    println!("The settings are in order.");
                    OK
                }
                Err(error) => fail(USAGE, &error),
            },
            Err(error) => fail(USAGE, &error),
        },
        ConfigCommand::Show { files, origin, json } => match settings(files) {
            Ok(settings) => {
                print(&settings, *origin, *json);
                OK
            }
            Err(error) => fail(USAGE, &error),
        },
    }
}

fn settings(files: &Files) -> Result<Settings, crate::config::Error> {
    let flags = Flags {
        config: files.config.clone(),
        data_dir: files.data_dir.clone(),
        ..Flags::default()
    };
    load(&flags, std::env::vars())
}

/// A setting's value for people; secrets are only said to be there.
pub(super) fn shown(key: &Key, value: &Value) -> String {
    match value {
        Value::Text(text) if key.kind == Kind::Secret && !text.is_empty() => "[secret]".to_owned(),
        Value::Text(text) => text.clone(),
        Value::List(items) => items.join(", "),
    }
}

fn print(settings: &Settings, with_origin: bool, as_json: bool) {
    let rows = KEYS.iter().filter_map(|key| {
        let (value, origin) = settings.origins.get(key.name)?;
        Some((key.name, shown(key, value), origin.clone()))
    });
    if as_json {
        let items: Vec<_> = rows
            .map(|(name, value, origin)| json!({ "key": name, "value": value, "origin": origin.to_string() }))
            .collect();
        println!("{}", json!({ "items": items }));
        return;
    }
    for (name, value, origin) in rows {
        let shown = if value.is_empty() { "(none)" } else { &value };
        if with_origin {
            println!("{name} = {shown}    # {origin}");
        } else {
            println!("{name} = {shown}");
        }
    }
}
