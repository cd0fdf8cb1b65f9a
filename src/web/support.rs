//! Facts for whoever is asked for help: a bundle that names nobody, and what the journal's newest entries tell of what came and
//! was sent.

use crate::domain::condition::Condition;
use crate::domain::event::Event;
use crate::domain::ids::IntegrationId;
use crate::domain::notice::Sent;
use crate::domain::people::Role;
use crate::domain::project::Integration;
use crate::domain::sink::Sink;
use crate::domain::state::{Read, Table};
use crate::domain::time::Time;
use crate::listen::{free_bytes, process};
use crate::store::Snapshot;
use crate::web::api::sinks::Lag;
use crate::web::app::App;
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use actix_web::web::Data;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Newest entries of the journal that are looked at.
const ENTRIES_MAX: u64 = 2_000;

/// What the newest entries tell of what came and what was sent.
#[derive(Default)]
pub struct Traffic {
    pub webhooks: BTreeMap<IntegrationId, Time>,
    /// By the channel's first word: when, whether it was taken, and why not.
    pub sent: BTreeMap<String, (Time, Sent, Option<String>)>,
    /// Entries by type.
    pub types: BTreeMap<String, u64>,
    pub looked_at: u64,
}

impl Traffic {
    /// Reads them.
    pub fn read(state: &Snapshot) -> Result<Traffic, Problem> {
        let size = state.size()?;
        let mut traffic = Traffic {
            looked_at: size.min(ENTRIES_MAX),
            ..Traffic::default()
        };
        for (_, leaf) in state.leaves(size - traffic.looked_at, traffic.looked_at as usize)? {
            #[derive(serde::Deserialize)]
            struct Entry<'a> {
                r#type: &'a str,
                time: Time,
            }
            let Ok(entry) = serde_json::from_slice::<Entry<'_>>(&leaf) else {
                continue;
            };
            *traffic.types.entry(entry.r#type.to_owned()).or_insert(0) += 1;
            if !matches!(entry.r#type, "hook.received" | "notification.sent") {
                continue;
            }
            match Snapshot::event(&leaf)? {
                Event::HookReceived { integration, .. } => {
                    traffic.webhooks.insert(integration, entry.time);
                }
                Event::NotificationSent { deliveries, .. } => {
                    for it in deliveries {
                        let kind = it.channel.split('/').next().unwrap_or_default().to_owned();
                        traffic.sent.insert(kind, (entry.time, it.sent, it.reason));
                    }
                }
                _ => {}
            }
        }
        Ok(traffic)
    }
}

/// Seconds by which a forge's clock is ahead of ours.
pub fn skew(app: &App, forge: &IntegrationId) -> Option<i64> {
    let there = app.forges.time_there(forge)?;
    Some((there.0 - app.now().0).div_euclid(1000))
}

/// `GET /dashboard/settings/diagnostics/bundle`: admins. Facts for whoever is asked for help; nobody’s name is in it.
pub async fn get_support_bundle(app: Data<App>, who: SignedIn) -> Result<HttpResponse, Problem> {
    if !who.0.has(Role::Admin) {
        return Err(Problem::forbidden("Support bundles are for administrators."));
    }
    let state = app.snapshot()?;
    let bundle = serde_json::to_vec_pretty(&bundle(&app, &state)?).map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((
            CONTENT_DISPOSITION,
            "attachment; filename=\"signedapproval-support.json\"",
        ))
        .body(bundle))
}

fn bundle(app: &App, state: &Snapshot) -> Result<Value, Problem> {
    let now = app.now();
    let traffic = Traffic::read(state)?;
    let settings = app
        .settings
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let settings: Vec<Value> = settings
        .iter()
        .map(|it| {
            // An origin may be a path below somebody's home: its first word is enough.
            let origin = it.origin.split([' ', ':']).next().unwrap_or_default();
            json!({ "key": it.key, "value": redacted(&it.value), "origin": redacted(origin) })
        })
        .collect();
    // Details name sinks, forges and paths: what it is and since when must do.
    let conditions: Vec<Value> = app
        .conditions()?
        .into_iter()
        .map(|it: Condition| json!({ "name": it.name, "severity": it.severity, "since": it.since }))
        .collect();
    let mut counts = Map::new();
    for table in Table::ALL {
        counts.insert(table.name().to_owned(), state.count(*table)?.into());
    }
    let mut forges = Vec::new();
    for it in state.all::<Integration>()?.iter().filter(|it| !it.removed) {
        forges.push(json!({
            "kind": it.kind.name(),
            "private_ca": it.ca_pem.is_some(),
            "silent_seconds": app.forges.silent_for(&it.id).map(|it| it.as_secs()),
            "clock_ahead_seconds": skew(app, &it.id),
            "webhook_seconds_ago": traffic.webhooks.get(&it.id).map(|it| it.seconds_until(now)),
        }));
    }
    let mut sinks = Vec::new();
    for it in state.all::<Sink>()?.iter().filter(|it| it.removed.is_none()) {
        let health = app.sinks.board.health(&it.id).unwrap_or_default();
        let lag = Lag::of(app, it, state, now)?;
        sinks.push(json!({
            "kind": it.destination.kind(),
            "behind_entries": lag.entries,
            "failing_seconds": health.failing.map(|it| it.0.seconds_until(now)),
            "failures": health.failures,
            "withheld": it.withheld,
        }));
    }
    let messages: Map<String, Value> = traffic
        .sent
        .iter()
        .map(|(kind, (at, sent, _))| {
            let last = json!({ "seconds_ago": at.seconds_until(now), "result": sent.word() });
            (kind.clone(), last)
        })
        .collect();
    let followers: Map<String, Value> = state
        .cursors()?
        .into_iter()
        // A sink's follower has its id in its name; sinks have their own list.
        .filter(|(name, _)| !name.contains('/'))
        .map(|(name, next)| (name, next.into()))
        .collect();
    let health = app.engine.health();
    let own = process();
    let certificate = app.front.tls.as_ref().map(|tls| {
        let current = tls.current();
        json!({ "not_after": current.facts.not_after, "self_signed": current.self_signed })
    });
    Ok(json!({
        "signedapproval": App::version(),
        "made_at": now,
        "evaluation": app.evaluation(),
        "settings": settings,
        "conditions": conditions,
        "keys": { "credential": health.backends().0, "log": health.backends().1 },
        "backup": { "scheduled": app.backups.plan.is_some(), "newest_at": health.backup().map(|it| it.0) },
        "compared_since_start": health.is_compared(),
        "certificate": certificate,
        "behind_proxy": app.front.for_proxies,
        "journal": {
            "entries": state.size()?,
            "newest_entries_looked_at": traffic.looked_at,
            "types_of_these": traffic.types,
            "followers_next": followers,
        },
        "rows": counts,
        "forges": forges,
        "log_sinks": sinks,
        "messages": messages,
        "host": {
            "free_bytes": free_bytes(&app.database_file()),
            "database_bytes": std::fs::metadata(app.database_file()).map_or(0, |it| it.len()),
            "resident_bytes": own.resident_bytes,
            "open_files": own.open_files,
            "open_files_max": own.open_files_max,
            "threads": own.threads,
            "connections": app.front.connections.count(),
            "writer_queue": app.engine.queued(),
        },
    }))
}

/// A setting's value where it is a number, a time, a size or one word of ours; else only whether there is one. Hosts, paths,
/// addresses and names are nobody's business who helps.
fn redacted(value: &str) -> &str {
    const WORDS: [&str; 18] = [
        "true",
        "false",
        "any",
        "none",
        "json",
        "text",
        "error",
        "warn",
        "info",
        "debug",
        "trace",
        "file",
        "agent",
        "default",
        "environment",
        "env",
        "flag",
        "flags",
    ];
    let measure = value.len() <= 12
        && value.starts_with(|c: char| c.is_ascii_digit())
        && value.chars().all(|c| c.is_ascii_alphanumeric());
    match value {
        "" => "",
        it if measure || WORDS.contains(&it) => it,
        _ => "(set)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_times_sizes_and_our_own_words_are_told() {
        for told in ["", "10s", "1800", "64MiB", "any", "json"] {
            assert_eq!(redacted(told), told);
        }
        for kept in [
            "ada",
            "/home/ada",
            "gitlab.example",
            "127.0.0.1:8080",
            "10.0.0.0/8",
            "a@b",
            "1 2",
            "0123456789abcdef",
        ] {
            assert_eq!(redacted(kept), "(set)", "{kept}");
        }
    }
}
