//! `admin`: local administration of the running appliance.

use crate::cli::host::call;
use crate::cli::{Files, OK, fail};
use crate::outbound::Method;
use crate::web::qr::qr_terminal;
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::IsTerminal;

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Invite a person: prints a one-time link to enrol a passkey.
    Invite {
        #[command(flatten)]
        files: Files,
        /// The person's name, as it will stand in every record.
        #[arg(long)]
        name: String,
        #[arg(long)]
        email: String,
        /// admin, approver, auditor; several separated by commas.
        #[arg(long, value_delimiter = ',', required = true)]
        role: Vec<String>,
        /// Print JSON: person, url, expires_at.
        #[arg(long)]
        json: bool,
        /// Print the link as a QR code too, as on a terminal.
        #[arg(long, conflicts_with = "json")]
        qr: bool,
    },
    /// Make a key for a pipeline or another program: printed once.
    ApiKey {
        #[command(subcommand)]
        command: ApiKeyCommand,
    },
    /// Agree to go on from a journal that lacks entries, where there are fewer than two administrators to do so.
    AcceptRollback {
        #[command(flatten)]
        files: Files,
    },
    /// End all passkeys of a person who lost them, and print a one-time link to enrol a new one.
    Recover {
        #[command(flatten)]
        files: Files,
        /// The person, by id or e-mail.
        person: String,
        /// Why, for the journal.
        #[arg(long, default_value = "")]
        reason: String,
        /// Print JSON: person, url, expires_at.
        #[arg(long)]
        json: bool,
        /// Print the link as a QR code too, as on a terminal.
        #[arg(long, conflicts_with = "json")]
        qr: bool,
    },
    /// List the people.
    People {
        #[command(flatten)]
        files: Files,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key.
    Create {
        #[command(flatten)]
        files: Files,
        #[arg(long)]
        name: String,
        /// request, audit, admin; several separated by commas.
        #[arg(long, value_delimiter = ',', required = true)]
        scope: Vec<String>,
        /// Bind the key to a project; may be repeated.
        #[arg(long)]
        project: Vec<String>,
        /// The person (id or e-mail) answerable for the key, who therefore can't approve what it asks.
        #[arg(long)]
        owner: Option<String>,
        /// RFC 3339 time after which the key counts no more; by default in a year, at most in two.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Print JSON: id, key, callback_secret, expires_at.
        #[arg(long)]
        json: bool,
    },
}

/// Runs an `admin` command.
pub fn run(command: &AdminCommand) -> u8 {
    match command {
        AdminCommand::Invite {
            files,
            name,
            email,
            role,
            json,
            qr,
        } => {
            let body = json!({ "name": name, "email": email, "roles": role });
            show(
                call(files, Method::Post, "/local/people", Some(&body)),
                *json,
                |made| {
                    format!(
                        "Give this link to {name}, over a channel you trust. It works once, until {}.\n\n  {}\n{}",
                        text(&made["expires_at"]),
                        text(&made["url"]),
                        code_of(&made["url"], *qr)
                    )
                },
            )
        }
        AdminCommand::AcceptRollback { files } => {
            match call(files, Method::Post, "/local/rollback", Some(&json!({}))) {
                Ok(_) => {
                    println!(
                        "Agreed. The administrators there are have to agree as well, at the appliance's address."
                    );
                    OK
                }
                Err(failure) => fail(failure.code, &failure.message),
            }
        }
        AdminCommand::ApiKey {
            command:
                ApiKeyCommand::Create {
                    files,
                    name,
                    scope,
                    project,
                    owner,
                    expires_at,
                    json,
                },
        } => {
            let body = json!({
                "name": name, "scopes": scope, "projects": project, "owner": owner, "expires_at": expires_at,
            });
            show(
                call(files, Method::Post, "/local/api-keys", Some(&body)),
                *json,
                |made| {
                    format!(
                        "{}\n\nThis is shown once. It expires {}.\n",
                        text(&made["key"]),
                        text(&made["expires_at"])
                    )
                },
            )
        }
        AdminCommand::Recover {
            files,
            person,
            reason,
            json,
            qr,
        } => {
            let body = json!({ "person": person, "reason": reason });
            show(
                call(files, Method::Post, "/local/recoveries", Some(&body)),
                *json,
                |made| {
                    format!(
                        "Their passkeys have ended. Give this link to them, over a channel you trust. It works once, until {}. \
                         The new passkey signs in at once and decides after the hold.\n\n  {}\n{}",
                        text(&made["expires_at"]),
                        text(&made["url"]),
                        code_of(&made["url"], *qr)
                    )
                },
            )
        }
        AdminCommand::People { files, json } => {
            show(call(files, Method::Get, "/local/people", None), *json, |made| {
                let mut lines = String::new();
                for it in made["items"].as_array().into_iter().flatten() {
                    let roles: Vec<&str> = it["roles"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                        .collect();
                    lines.push_str(&format!(
                        "{}  {} <{}>  {}  passkeys: {}{}\n",
                        text(&it["id"]),
                        text(&it["name"]),
                        text(&it["email"]),
                        roles.join(","),
                        it["passkeys"],
                        if it["active"] == json!(true) {
                            ""
                        } else {
                            "  (inactive)"
                        }
                    ));
                }
                lines
            })
        }
    }
}

fn show(
    answer: Result<Value, crate::cli::host::Failure>,
    as_json: bool,
    for_people: impl FnOnce(&Value) -> String,
) -> u8 {
    match answer {
        Ok(made) if as_json => {
            println!("{made}");
            OK
        }
        Ok(made) => {
            print!("{}", for_people(&made));
            OK
        }
        Err(failure) => fail(failure.code, &failure.message),
    }
}

/// A link as a QR code, where somebody looks at a terminal or asked for it. A link too long for a code is left as it is.
fn code_of(url: &Value, asked: bool) -> String {
    if !asked && !std::io::stdout().is_terminal() {
        return String::new();
    }
    qr_terminal(text(url)).map_or_else(|_| String::new(), |code| format!("\n{code}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
