//! How the settings make the public listener, and how it changes while running: certificates, proxies and limits.

use crate::cli::{config, supervise};
use crate::clock::Clock;
use crate::config::{Flags, KEYS, Key, RELOADED, Settings, is_evaluation, load};
use crate::domain::command::Command;
use crate::domain::condition::{Reported, Severity};
use crate::domain::event::Actor;
use crate::domain::time::Time;
use crate::listen::certificate;
use crate::listen::certificate::Left;
use crate::listen::tls::{Looked, Source, Wanted, build};
use crate::listen::{Caps, Connections, Front, Proxies, Tls, raise_file_limit};
use crate::web::app::{App, SettingLine};
use actix_web::web::Data;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the certificate's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Open files that are no connections: the database, pipes, calls to forges.
const OTHER_FILES: u64 = 200;

/// First part of the names of conditions that are reported here.
const AREA: &str = "certificate";

/// Changes how much is logged.
pub type SetLevel = Box<dyn Fn(&str) -> Result<(), String>>;

/// How the public listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Plain http on loopback, for trying out.
    Evaluation,
    /// Plain http, for a TLS proxy on this machine or one in `proxy.trusted`.
    ForProxies,
    /// TLS with the certificate that is set.
    Tls,
    /// TLS with a certificate of our own making, until one is set.
    SelfSigned,
}

/// The URL people use and how the listener speaks, as the settings say or as follows from the address.
///
/// # Errors
/// What does not go together, and what to set.
pub fn way(settings: &Settings, listener: &TcpListener) -> Result<(String, Way), String> {
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    way_at(settings, address)
}

fn way_at(settings: &Settings, address: SocketAddr) -> Result<(String, Way), String> {
    let loopback = address.ip().is_loopback();
    match &settings.public_url {
        None if loopback => Ok((format!("http://localhost:{}", address.port()), Way::Evaluation)),
        None => {
            Err("listening beyond this machine needs `public_url`, the https address people will use".into())
        }
        Some(url) if is_evaluation(url) && !loopback => {
            Err("evaluation mode listens on loopback only: set `listen` to 127.0.0.1 or ::1".into())
        }
        Some(url) if is_evaluation(url) => Ok((url.clone(), Way::Evaluation)),
        Some(url) if settings.front.tls.is_some() => Ok((url.clone(), Way::Tls)),
        Some(url) if loopback || !settings.front.trusted_proxies.is_empty() => {
            Ok((url.clone(), Way::ForProxies))
        }
        Some(url) => Ok((url.clone(), Way::SelfSigned)),
    }
}

/// The host name of a public URL.
fn host(public_url: &str) -> String {
    let parsed = url::Url::parse(public_url).ok();
    parsed
        .and_then(|it| it.host_str().map(str::to_owned))
        .unwrap_or_default()
}

fn wanted(settings: &Settings, source: Source) -> Wanted {
    Wanted {
        source,
        only_tls13: settings.front.only_tls13,
        client_ca: settings.front.client_ca.clone(),
    }
}

fn from_files(settings: &Settings) -> Option<Wanted> {
    settings.front.tls.as_ref().map(|it| {
        let source = Source::Files {
            certificate: it.certificate.clone(),
            private_key: it.private_key.clone(),
        };
        wanted(settings, source)
    })
}

/// Checks what `config check` can check without starting: the certificate's files.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn check(settings: &Settings, now: Time) -> Result<(), certificate::Error> {
    match (from_files(settings), &settings.public_url) {
        (Some(wanted), Some(url)) => build(&wanted, &host(url), now).map(|_| ()),
        _ => Ok(()),
    }
}

fn caps(settings: &Settings) -> Caps {
    Caps {
        total: settings.front.connections,
        per_address: settings.front.connections_per_address,
    }
}

/// The listener's front door, but for a certificate of our own making, which needs the data directory.
///
/// # Errors
/// Names the certificate's file and what is wrong with it.
pub fn front(
    settings: &Settings,
    public_url: &str,
    way: &Way,
    clock: &Arc<dyn Clock>,
) -> Result<Front, certificate::Error> {
    let tls = match from_files(settings) {
        Some(wanted) => Some(Arc::new(Tls::open(wanted, &host(public_url), clock.clone())?)),
        None => None,
    };
    let files = raise_file_limit();
    if files < settings.front.connections as u64 + OTHER_FILES {
        tracing::warn!(
            open_files_max = files,
            connections_max = settings.front.connections,
            "fewer files may be open than `limits.connections` allows connections; raise LimitNOFILE"
        );
    }
    Ok(Front {
        tls,
        proxies: Arc::new(Proxies::new(settings.front.trusted_proxies.clone())),
        connections: Connections::new(caps(settings)),
        public_url: public_url.to_owned(),
        for_proxies: *way == Way::ForProxies,
        keys_need_certificate: AtomicBool::new(settings.front.keys_need_certificate),
    })
}

/// TLS with a certificate of our own making.
///
/// # Errors
/// When it can't be written.
pub fn self_signed(
    settings: &Settings,
    public_url: &str,
    clock: &Arc<dyn Clock>,
) -> Result<Tls, certificate::Error> {
    let source = Source::SelfSigned {
        data_dir: settings.data_dir.clone(),
    };
    Tls::open(wanted(settings, source), &host(public_url), clock.clone())
}

/// Says at the start what people have to know of the listener.
pub fn announce(front: &Front, settings: &Settings) {
    let Some(tls) = &front.tls else {
        println!("It speaks plain http, for a TLS proxy in front of it.");
        return;
    };
    let current = tls.current();
    if current.self_signed {
        let path = crate::listen::self_signed::paths(&settings.data_dir).0;
        println!(
            "Its certificate is SELF-SIGNED ({}): browsers warn, and passkeys can't be made, until you set tls.certificate and tls.private_key.",
            path.display()
        );
        println!("SHA-256 of the certificate: {}", current.facts.sha256);
        tracing::warn!("the certificate is self-signed; set tls.certificate and tls.private_key");
    }
    if !current.facts.names_host {
        tracing::warn!(
            names = current.facts.names.join(", "),
            public_url = front.public_url,
            "the certificate is not for the host of the public URL"
        );
    }
}

/// All settings for people to look at.
pub fn lines(settings: &Settings) -> Vec<SettingLine> {
    let line = |key: &'static Key| {
        let (value, origin) = settings.origins.get(key.name)?;
        Some(SettingLine {
            key: key.name,
            value: config::shown(key, value),
            origin: origin.to_string(),
            reloaded: RELOADED.contains(&key.name),
        })
    };
    KEYS.iter().filter_map(line).collect()
}

/// Keeps the front door up to date: looks at the certificate's files, says in the journal what about them needs somebody,
/// and reads the settings anew on SIGHUP.
pub async fn keep(app: Data<App>, log: SetLevel, flags: Flags, mut settings: Settings) {
    let front = app.front.clone();
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("signals can't be listened for");
        return;
    };
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reported = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if let Some(tls) = front.tls.clone() {
                    // Files may be on a slow disk, and nobody should wait for them.
                    let looked = tokio::task::spawn_blocking(move || tls.look()).await;
                    tell(&front, looked.unwrap_or(Looked::Same));
                }
            }
            received = hangup.recv() => {
                if received.is_none() {
                    return;
                }
                supervise::reloading();
                if let Some(new) = reload(&front, &flags, &settings) {
                    if let Err(error) = log(&new.log_level) {
                        tracing::error!(error, "the log's level can't be changed");
                    }
                    *app.settings.write().unwrap_or_else(PoisonError::into_inner) = lines(&new);
                    settings = new;
                    tracing::info!("the settings were read anew");
                }
                supervise::ready(&app.public_url);
            }
        }
        let now = conditions(&front, app.now());
        if reported.as_ref() != Some(&now) {
            let command = Command::ReportConditions {
                area: AREA,
                now: now.clone(),
            };
            match app.engine.submit(Actor::System, command).await {
                Ok(_) => reported = Some(now),
                Err(error) => tracing::warn!(%error, "the certificate's state could not be recorded"),
            }
        }
    }
}

/// What about the certificate needs somebody.
fn conditions(front: &Front, now: Time) -> Vec<Reported> {
    let Some(tls) = &front.tls else {
        return Vec::new();
    };
    let current = tls.current();
    let facts = &current.facts;
    let until = facts.not_after.to_the_second();
    let mut found = Vec::new();
    let mut add = |name, severity, detail: String| {
        found.push(Reported {
            name,
            severity,
            detail,
        });
    };
    if current.self_signed {
        let detail = "The certificate is of this server's own making. Browsers warn, and passkeys can't be made. Set tls.certificate and tls.private_key.";
        add("certificate.self_signed", Severity::Warning, detail.to_owned());
    }
    match facts.left(now) {
        Left::Enough => {}
        // It makes itself anew in time.
        Left::Little | Left::VeryLittle if current.self_signed => {}
        Left::Little => {
            let detail = format!(
                "The certificate runs out at {until}. Put a new one in place; it is taken without a restart."
            );
            add("certificate.expiring", Severity::Warning, detail);
        }
        Left::VeryLittle => {
            let detail = format!(
                "The certificate runs out very soon, at {until}. After that nobody can connect, and a restart is refused."
            );
            add("certificate.expiring", Severity::Warning, detail);
        }
        Left::Nothing => {
            let detail = format!(
                "The certificate ran out at {until}. Nobody can connect any more, and a restart is refused."
            );
            add("certificate.expired", Severity::Degraded, detail);
        }
    }
    if !facts.names_host {
        let detail = format!(
            "The certificate is for {}, not for the host of {}.",
            facts.names.join(", "),
            front.public_url
        );
        add("certificate.other_host", Severity::Warning, detail);
    }
    if let Some(reason) = tls.refused()
        && facts.left(now) != Left::Nothing
    {
        let detail = format!("The certificate's files can't be used; what was in use stays. {reason}");
        add("certificate.refused", Severity::Warning, detail);
    }
    found
}

/// Reads the settings anew and puts into force what can be. Anything wrong: nothing changes.
fn reload(front: &Front, flags: &Flags, old: &Settings) -> Option<Settings> {
    let new = match load(flags, std::env::vars()) {
        Ok(new) => new,
        Err(error) => {
            // It may show the line it stumbled over; one record is one line.
            let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            tracing::error!(error, "the settings can't be read anew; nothing was changed");
            return None;
        }
    };
    if new.front.tls.is_some() != old.front.tls.is_some() {
        tracing::error!("setting or unsetting `tls.certificate` needs a restart; nothing was changed");
        return None;
    }
    if let Some(tls) = &front.tls {
        let source = Source::SelfSigned {
            data_dir: old.data_dir.clone(),
        };
        let wanted = from_files(&new).unwrap_or_else(|| wanted(&new, source));
        let looked = tls.change(wanted);
        let refused = matches!(looked, Looked::Refused(_)) || tls.refused().is_some();
        tell(front, looked);
        if refused {
            tracing::error!(
                "the settings were read anew, but the certificate can't be used; nothing was changed"
            );
            return None;
        }
    }
    front.proxies.replace(new.front.trusted_proxies.clone());
    front.connections.set_caps(caps(&new));
    front
        .keys_need_certificate
        .store(new.front.keys_need_certificate, Ordering::Relaxed);
    for (key, (value, _)) in &new.origins {
        let before = old.origins.get(key).map(|(it, _)| it);
        if before != Some(value) && !RELOADED.contains(key) {
            tracing::warn!(key, "this setting counts after a restart");
        }
    }
    Some(new)
}

fn tell(front: &Front, looked: Looked) {
    match looked {
        Looked::Same => {}
        Looked::Replaced => {
            if let Some(tls) = &front.tls {
                let facts = &tls.current().facts;
                tracing::info!(
                    subject = facts.subject,
                    not_after = %facts.not_after,
                    sha256 = %facts.sha256,
                    "new connections get another certificate"
                );
            }
        }
        Looked::Refused(reason) => {
            tracing::error!(
                reason,
                "the certificate's files can't be used; what was in use stays"
            );
        }
    }
}
