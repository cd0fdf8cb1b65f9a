//! `serve`: builds everything, passes it down, and waits for the end.

use crate::cli::door;
use crate::cli::door::{SetLevel, Way};
use crate::cli::host::socket_path;
use crate::cli::instance;
use crate::cli::instance::{Instance, Opening, write_private};
use crate::cli::keyring::{Backend, KEYS};
use crate::cli::monitors::Monitors;
use crate::cli::rollback;
use crate::cli::running;
use crate::cli::running::Boot;
use crate::cli::sealed::{SEALED, wait_for_passphrase};
use crate::cli::stop::Stop;
use crate::cli::supervise;
use crate::cli::{FAILED, MUST_RESTART, OK, USAGE, fail};
use crate::clock::{Clock, SystemClock};
use crate::config::{Flags, KeySettings, LogFormat, Settings, is_evaluation, load};
use crate::domain::command::Command;
use crate::domain::condition::Severity;
use crate::domain::event::{Actor, Event};
use crate::domain::time::Time;
use crate::effects::{
    Post, Surroundings, run_branches, run_callbacks, run_commits, run_conditions, run_deployments,
    run_erasures, run_inspector, run_intake, run_lock_read_back, run_locks, run_merges, run_notifier,
    run_queues, run_read_back, run_reconciler, run_sinks, run_statuses, run_witness,
};
use crate::engine::{
    BackupPlan, Backups, Begun, Engine, Room, run_backups, run_timers, watch_room, watch_store,
};
use crate::forge::Forges;
use crate::identity::{Ceremonies, Claims, RelyingParty, SettingsUp, new_token};
use crate::listen::{Front, Inherited};
use crate::outbound::{Client, Nearby};
use crate::sink::{About, Board, Requirement, Sinks};
use crate::store::Store;
use crate::texts::Languages;
use crate::web;
use crate::web::api::programs::Program;
use crate::web::app::{App, CallbackRules, Seal, SetUpToken};
use crate::web::exports::Exports;
use crate::web::idle::SessionUses;
use crate::web::limits::{Limits, Rates};
use crate::web::metrics::Metrics;
use crate::web::recent::Recent;
use crate::web::reports::Reports;
use crate::web::statistics::{Statistics, run_statistics};
use crate::web::waits::Waits;
use actix_web::web::Data;
use futures_util::future::select_all;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use tracing_subscriber::EnvFilter;

/// Folder of the data directory in which audit bundles are made.
const EXPORTS: &str = "exports";
/// Where the set-up link is written, for whoever has the data directory.
const SETUP_URL: &str = "setup-url";
/// Name of the systemd socket for plain http (`FileDescriptorName=`).
const REDIRECT_SOCKET: &str = "redirect";
/// The same for monitors.
const METRICS_SOCKET: &str = "metrics";
/// How long a set-up link works, in seconds. A restart makes a new one.
const SETUP_SECONDS: u64 = 30 * 60;
/// Answers that are kept until the journal grows.
const RECENT_MAX: usize = 4_096;
/// A new passkey decides after this long where nothing else is set: a day, in which a theft can be noticed.
const PASSKEY_HOLD_SECONDS: u64 = 24 * 3_600;

/// Arguments of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Settings file; by default /etc/signedapproval/config.toml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; by default ./signedapproval-data.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port to listen on; by default 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The address people and forges use. Permanent: every passkey belongs to its host name.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

/// Runs the appliance until it is told to stop.
pub fn run(args: &ServeArgs) -> u8 {
    let flags = Flags {
        config: args.config.clone(),
        data_dir: args.data_dir.clone(),
        listen: args.listen.clone(),
        public_url: args.public_url.clone(),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let boot = Boot::of_this_start(&*clock);
    let settings = match load(&flags, std::env::vars()) {
        Ok(settings) => settings,
        Err(error) => return fail(USAGE, &error),
    };
    let log = start_log(&settings);
    if let Err(error) = keep_to_itself() {
        return fail(
            FAILED,
            &format!("the process can't be shut off from others: {error}"),
        );
    }
    let mut inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(error) => return fail(FAILED, &error),
    };
    let redirect = match inherited.named(REDIRECT_SOCKET) {
        Some(listener) => Some(listener),
        None => match settings.front.redirect_listen.map(bind).transpose() {
            Ok(listener) => listener,
            Err(error) => return fail(FAILED, &error),
        },
    };
    let metrics = match inherited.named(METRICS_SOCKET) {
        Some(listener) => Some(listener),
        None => match settings.front.metrics_listen.map(bind).transpose() {
            Ok(listener) => listener,
            Err(error) => return fail(FAILED, &error),
        },
    };
    let listener = match inherited.first().map_or_else(|| bind(settings.listen), Ok) {
        Ok(listener) => listener,
        Err(error) => return fail(FAILED, &error),
    };
    if inherited.left() > 0 {
        return fail(USAGE, &"systemd hands over more sockets than there are listeners");
    }
    let (public_url, way) = match door::way(&settings, &listener) {
        Ok(it) => it,
        Err(reason) => return fail(USAGE, &reason),
    };
    if redirect.is_some() && way == Way::Evaluation {
        return fail(
            USAGE,
            &"evaluation speaks plain http; there is nothing to redirect to",
        );
    }
    let evaluation = is_evaluation(&public_url);
    // Before anything is made: a certificate that can't be used must leave nothing behind.
    let mut front = match door::front(&settings, &public_url, &way, &clock) {
        Ok(front) => front,
        Err(error) => return fail(USAGE, &error),
    };
    let room = Room {
        data_dir: settings.data_dir.clone(),
        reserve: settings.storage_reserve,
    };
    room.before_opening();
    let open = |passphrase: Option<&str>| {
        instance::open(Opening {
            data_dir: &settings.data_dir,
            backend: backend(&settings.keys),
            passphrase,
            evaluation,
            public_url: &public_url,
            version: App::version(),
            clock: clock.clone(),
            boot,
        })
    };
    let mut opened = open(settings.passphrase.as_deref());
    let sealed = matches!(opened, Err(instance::Error::NoPassphrase));
    let sealed_since = sealed.then(|| clock.now());
    if way == Way::SelfSigned && (sealed || opened.is_ok()) {
        match door::self_signed(&settings, &public_url, &clock) {
            Ok(tls) => front.tls = Some(Arc::new(tls)),
            Err(error) => return fail(FAILED, &error),
        }
    }
    let front = Arc::new(front);
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return fail(FAILED, &format!("signals can't be listened for: {error}")),
    };
    if sealed {
        let monitors = Monitors {
            listener: metrics.as_ref(),
            token: settings.metrics_token.clone(),
            started: clock.now(),
        };
        let got = wait_for_passphrase(
            &settings,
            &public_url,
            front.clone(),
            &listener,
            &monitors,
            stop.clone().asked(),
        );
        opened = match got {
            Ok(Some(passphrase)) => open(Some(&passphrase)),
            Ok(None) => return OK,
            Err(error) => return fail(FAILED, &error),
        };
    }
    let instance = match opened {
        Ok(instance) => instance,
        Err(error) => return fail(FAILED, &error),
    };
    let sockets = Sockets {
        listener,
        redirect,
        metrics,
    };
    let data_dir = settings.data_dir.clone();
    let start = Start {
        flags,
        log,
        settings,
        public_url,
        evaluation,
        clock,
        front,
        room,
        sealed_since,
        stop,
    };
    boot.mark(&data_dir);
    let code = actix_web::rt::System::new().block_on(serve(start, instance, sockets));
    if code == OK {
        running::unmark(&data_dir);
    }
    code
}

/// No core file and no debugger of the same user: keys and secrets are in this process.
fn keep_to_itself() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn backend(keys: &KeySettings) -> Backend {
    match keys.clone() {
        KeySettings::File => Backend::File,
        KeySettings::Agent {
            socket,
            credential,
            log,
        } => Backend::Agent {
            socket,
            credential,
            log,
        },
    }
}

/// What `serve` is started with.
struct Start {
    flags: Flags,
    log: SetLevel,
    settings: Settings,
    public_url: String,
    evaluation: bool,
    clock: Arc<dyn Clock>,
    front: Arc<Front>,
    room: Room,
    /// It waited for its passphrase from then on.
    sealed_since: Option<Time>,
    stop: Stop,
}

/// The listeners for the network.
struct Sockets {
    listener: TcpListener,
    redirect: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

fn bind(address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))
}

async fn serve(start: Start, instance: Instance, sockets: Sockets) -> u8 {
    let Start {
        flags,
        log,
        settings,
        public_url,
        evaluation,
        clock,
        front,
        room,
        sealed_since,
        stop,
    } = start;
    let Instance {
        store,
        begun,
        vault,
        is_new,
    } = instance;
    let relying_party =
        RelyingParty::new(&public_url).map(|it| it.only_models(settings.authenticators.clone()));
    let relying_party = match relying_party {
        Ok(relying_party) => relying_party,
        Err(error) => return fail(USAGE, &error),
    };
    if begun.new_epoch {
        tracing::warn!(%public_url, "the public URL is another than before: a new epoch of the log is opened");
    }
    let start_place = Beginning {
        store: &store,
        settings: &settings,
        clock: &clock,
        front: &front,
        listener: &sockets.listener,
        metrics: sockets.metrics.as_ref(),
        public_url: &public_url,
        evaluation,
        stop: &stop,
    };
    let mut allow_http = settings.allow_http.clone();
    if evaluation {
        allow_http.extend(["localhost", "127.0.0.1", "::1", "[::1]"].map(str::to_owned));
    }
    let mut private = settings.allow_private.clone();
    if evaluation {
        private.extend(["127.0.0.0/8", "::1"].map(str::to_owned));
    }
    let nearby = match Nearby::parse(&private) {
        Ok(nearby) => Arc::new(nearby),
        Err(reason) => return fail(USAGE, &format!("`outbound.allow_private`: {reason}")),
    };
    let unseal: crate::sink::Unseal = {
        let vault = vault.clone();
        Arc::new(move |name: &str, sealed: &[u8]| vault.unseal(name, sealed).ok())
    };
    let sinks = Arc::new(Sinks {
        about: About {
            instance: match store.read().and_then(|it| it.identity()) {
                Ok(identity) => identity.instance,
                Err(error) => return fail(FAILED, &error),
            },
            host: host_name(&public_url),
            version: App::version(),
        },
        allow_http: allow_http.clone(),
        nearby,
        directory: settings.sinks.directory.clone(),
        unseal: unseal.clone(),
        board: Board::default(),
    });
    let begun = match settled(begun, &start_place, &sinks).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return OK,
        Err(error) => return fail(FAILED, &error),
    };
    let engine = match Engine::start(begun.writer) {
        Ok(engine) => engine,
        Err(error) => return fail(FAILED, &error),
    };
    if let Some(since) = sealed_since
        && let Err(error) = engine.submit(Actor::System, was_sealed(since)).await
    {
        tracing::warn!(%error, "the journal does not tell that the server was sealed");
    }
    let seal: Seal = Arc::new(move |name: &str, secret: &[u8]| vault.seal(name, secret));
    let post = Arc::new(Post::new(seal.clone(), unseal.clone(), allow_http.clone()));
    let callbacks = CallbackRules {
        hosts: settings
            .callback_hosts
            .iter()
            .cloned()
            .chain(
                evaluation
                    .then(|| ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned))
                    .into_iter()
                    .flatten(),
            )
            .collect(),
        allow_http: allow_http.clone(),
    };
    let caller = match Client::new(None, &allow_http) {
        Ok(caller) => caller,
        Err(error) => return fail(FAILED, &error),
    };
    let forges = Arc::new(Forges::new(allow_http.clone(), unseal.clone()));
    let program = match Program::open() {
        Ok(program) => program,
        Err(error) => return fail(FAILED, &format!("the program's own file: {error}")),
    };
    let hold = settings
        .passkey_hold_seconds
        .unwrap_or(if evaluation { 0 } else { PASSKEY_HOLD_SECONDS });
    let exports = match Exports::new(&settings.data_dir.join(EXPORTS)) {
        Ok(exports) => exports,
        Err(error) => {
            return fail(
                FAILED,
                &format!("{}: {error}", settings.data_dir.join(EXPORTS).display()),
            );
        }
    };
    let backups = Arc::new(Backups {
        store: store.clone(),
        engine: engine.clone(),
        clock: clock.clone(),
        keys: settings.data_dir.join(KEYS),
        version: App::version().into(),
        plan: settings
            .backup
            .clone()
            .map(|(directory, every, keep)| BackupPlan {
                directory,
                every,
                keep,
            }),
        busy: tokio::sync::Mutex::default(),
    });
    let spoken = match languages(&settings) {
        Ok(spoken) => spoken,
        Err(error) => return fail(FAILED, &error),
    };
    let app = Data::new(App {
        exports,
        reports: Reports::default(),
        apps_begun: Default::default(),
        backups: backups.clone(),
        store: store.clone(),
        engine: engine.clone(),
        clock: clock.clone(),
        forges: forges.clone(),
        sinks: sinks.clone(),
        require_sink: settings.sinks.require.map_or(Requirement::None, Requirement::Any),
        relying_party,
        ceremonies: Ceremonies::default(),
        confirmations: Default::default(),
        seal: seal.clone(),
        unseal: unseal.clone(),
        generators: SettingsUp::default(),
        claims: Claims::default(),
        program,
        callbacks,
        waits: Waits::default(),
        recent_keys: Recent::new(RECENT_MAX),
        recent_requests: Recent::new(RECENT_MAX),
        limits: Limits::new(Rates {
            reads: settings.reads_per_minute,
            changes: settings.changes_per_minute,
        }),
        public_url: public_url.clone(),
        evaluation,
        languages: spoken,
        metrics: Metrics::new(settings.metrics_token.clone(), clock.now()),
        statistics: Statistics::default(),
        settings: RwLock::new(door::lines(&settings)),
        front: front.clone(),
        allow_http,
        passkey_hold_seconds: hold,
        session_uses: SessionUses::new(settings.session_idle_seconds, clock.now()),
        set_up_token: Mutex::new(None),
        strangers: Mutex::new((clock.now(), 0)),
        set_up_file: settings.data_dir.join(SETUP_URL),
    });
    let socket = match admin_socket(&settings.data_dir) {
        Ok(socket) => socket,
        Err(error) => {
            return fail(
                FAILED,
                &format!("{}: {error}", settings.data_dir.join("admin.sock").display()),
            );
        }
    };
    let servers = (|| {
        let server = web::serve(app.clone(), sockets.listener)?;
        let mut others = vec![web::serve_host(app.clone(), socket)?];
        if let Some(listener) = sockets.redirect {
            others.push(web::serve_redirect(app.clone(), listener)?);
        }
        if let Some(listener) = sockets.metrics {
            others.push(web::serve_metrics(app.clone(), listener)?);
        }
        Ok::<_, std::io::Error>((server, others))
    })();
    let (server, others) = match servers {
        Ok(servers) => servers,
        Err(error) => return fail(FAILED, &error),
    };
    if let Err(error) = offer_set_up(&app, &settings.data_dir) {
        return fail(FAILED, &error);
    }
    if evaluation {
        println!("SignedApproval serves {public_url} for evaluation: this machine only, plain http.");
        if is_new {
            println!(
                "Its keys' passphrase stands beside them in {}.",
                settings.data_dir.join("keys").display()
            );
        }
    } else {
        println!("SignedApproval serves {public_url}.");
        door::announce(&app.front, &settings);
    }
    let surroundings = Surroundings {
        store: store.clone(),
        engine: engine.clone(),
        clock: clock.clone(),
        forges,
        public_url,
        look_every: settings.look_every,
    };
    let watched = store.clone();
    let engine_of_timers = engine.clone();
    let (watched_engine, watched_store, watch_clock) = (engine.clone(), store.clone(), clock.clone());
    let followers = vec![
        actix_web::rt::spawn(async move {
            run_timers(store, clock, engine_of_timers).await;
            Ok(())
        }),
        actix_web::rt::spawn(async move {
            run_backups(backups).await;
            Ok(())
        }),
        actix_web::rt::spawn(async move {
            tokio::join!(
                watch_room(room, watched_engine.clone(), watch_clock.clone()),
                watch_store(watched_store, watched_engine, watch_clock),
            );
            Ok(())
        }),
        actix_web::rt::spawn(run_intake(surroundings.clone())),
        actix_web::rt::spawn(run_callbacks(surroundings.clone(), caller, unseal)),
        actix_web::rt::spawn(run_commits(surroundings.clone())),
        actix_web::rt::spawn(run_erasures(surroundings.clone())),
        actix_web::rt::spawn({
            let (app, surroundings) = (app.clone(), surroundings.clone());
            async move { Ok(app.waits.run(&surroundings.store, &surroundings.engine).await?) }
        }),
        actix_web::rt::spawn(run_statuses(surroundings.clone())),
        actix_web::rt::spawn(run_merges(surroundings.clone())),
        actix_web::rt::spawn(run_deployments(surroundings.clone())),
        actix_web::rt::spawn(run_inspector(surroundings.clone())),
        actix_web::rt::spawn(run_locks(surroundings.clone())),
        actix_web::rt::spawn(run_lock_read_back(surroundings.clone())),
        actix_web::rt::spawn(run_branches(surroundings.clone())),
        actix_web::rt::spawn(run_read_back(surroundings.clone())),
        actix_web::rt::spawn(run_queues(surroundings.clone())),
        actix_web::rt::spawn(run_conditions(
            surroundings.clone(),
            sinks.clone(),
            settings.sinks.require.is_some(),
        )),
        actix_web::rt::spawn(run_sinks(surroundings.clone(), sinks, settings.sinks.stuck_after)),
        actix_web::rt::spawn(run_witness(surroundings.clone(), settings.sinks.witness.clone())),
        actix_web::rt::spawn(run_notifier(surroundings.clone(), post)),
        actix_web::rt::spawn(run_reconciler(surroundings)),
    ];
    actix_web::rt::spawn(door::keep(app.clone(), log, flags, settings.clone()));
    actix_web::rt::spawn(supervise::watchdog(engine.clone(), watched));
    actix_web::rt::spawn(run_statistics(app.clone()));
    let mut handles = vec![server.handle()];
    for other in others {
        handles.push(other.handle());
        actix_web::rt::spawn(other);
    }
    let serving = actix_web::rt::spawn(server);
    supervise::ready(&app.public_url);
    let code = tokio::select! {
        () = stop.asked() => OK,
        () = engine.stopped() => MUST_RESTART,
        // None of them ever ends by itself. Without one, a green that should go would stay: better no server.
        (ended, ..) = select_all(followers) => {
            let why = match ended {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(%why, "a follower has stopped; so does the server");
            MUST_RESTART
        }
        _ = serving => FAILED,
    };
    supervise::stopping();
    // All at once: each gives its answers under way the same few seconds.
    futures_util::future::join_all(handles.iter().map(|it| it.stop(true))).await;
    let _ = std::fs::remove_file(settings.data_dir.join("admin.sock"));
    code
}

/// What the journal is told once it can be: the server stood sealed until now.
fn was_sealed(since: Time) -> Command {
    let condition = SEALED.to_owned();
    Command::Record {
        events: vec![
            Event::ConditionBegan {
                condition: condition.clone(),
                severity: Severity::Degraded,
                detail: format!("The server was started without its keys' passphrase at {since}."),
            },
            Event::ConditionEnded { condition },
        ],
    }
}

/// What a start has by the time it looks whether the journal may be gone on with.
struct Beginning<'a> {
    store: &'a Arc<Store>,
    settings: &'a Settings,
    clock: &'a Arc<dyn Clock>,
    front: &'a Arc<Front>,
    listener: &'a TcpListener,
    metrics: Option<&'a TcpListener>,
    public_url: &'a str,
    evaluation: bool,
    stop: &'a Stop,
}

/// What pages can speak: what is compiled in, and the operator's own.
///
/// # Errors
/// Which file is wrong and why.
pub(super) fn languages(settings: &Settings) -> Result<Languages, String> {
    let built_in = Languages::built_in()?;
    match &settings.languages {
        Some(directory) => built_in.with_directory(directory),
        None => Ok(built_in),
    }
}

/// Goes on with the journal if it fits the checkpoints outside the data directory, or once enough admins say so. `None`: it was
/// told to stop meanwhile.
async fn settled(mut begun: Begun, at: &Beginning<'_>, sinks: &Sinks) -> Result<Option<Begun>, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    let found = rollback::look(at.store, &at.settings.sinks, sinks, &**at.clock)
        .await
        .map_err(|e| words(&e))?;
    if found.is_empty() {
        begun.go_on().map_err(|e| words(&e))?;
        return Ok(Some(begun));
    }
    let data_dir = &at.settings.data_dir;
    let socket =
        admin_socket(data_dir).map_err(|e| format!("{}: {e}", data_dir.join("admin.sock").display()))?;
    let place = rollback::Place {
        front: at.front.clone(),
        listener: at.listener,
        socket,
        socket_path: &data_dir.join("admin.sock"),
        public_url: at.public_url,
        evaluation: at.evaluation,
        languages: languages(at.settings)?,
        monitors: Monitors {
            listener: at.metrics,
            token: at.settings.metrics_token.clone(),
            started: at.clock.now(),
        },
    };
    let agreed = rollback::wait(
        at.store.clone(),
        at.clock.clone(),
        &found,
        place,
        at.stop.clone().asked(),
    )
    .await?;
    let Some(confirmed) = agreed else {
        return Ok(None);
    };
    begun
        .accept_rollback(at.public_url, found, confirmed)
        .map_err(|e| words(&e))?;
    Ok(Some(begun))
}

/// Host name of a URL, without its port.
fn host_name(public_url: &str) -> String {
    let url = url::Url::parse(public_url).ok();
    url.and_then(|it| it.host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The host's socket, for this user alone.
fn admin_socket(data_dir: &Path) -> std::io::Result<UnixListener> {
    let (path, _directory) = socket_path(data_dir)?;
    // The database's lock is held by now, so a socket that is there belongs to a process that is gone.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Makes and prints the set-up link while nobody is enrolled.
fn offer_set_up(app: &App, data_dir: &Path) -> Result<(), String> {
    let path = data_dir.join(SETUP_URL);
    if app.set_up().map_err(|e| e.to_string())? {
        let _ = std::fs::remove_file(&path);
        return Ok(());
    }
    let token = new_token();
    let url = format!("{}/setup#{}", app.public_url, token.text.as_str());
    write_private(&path, url.as_bytes()).map_err(|e| e.to_string())?;
    let expires_at = app.now().plus_seconds(SETUP_SECONDS);
    *app.set_up_token
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(SetUpToken {
        sha256: token.sha256,
        expires_at,
    });
    // Logs are read by more people than may become admins: away from a terminal and from evaluation, only the path.
    if app.evaluation || std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        println!("Set it up within 30 minutes: {url}");
    } else {
        println!("Set it up within 30 minutes with the link in {}", path.display());
    }
    Ok(())
}

/// Failed ceremonies stand in the journal with their reason, and what is no HTTP has its answer; the libraries' own lines
/// would let any caller write errors into the log.
fn start_log(settings: &Settings) -> SetLevel {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr);
    let filter_now = filter(&settings.log_level);
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| eprintln!("signedapproval: no log: {error}");
    match settings.log_format {
        LogFormat::Json => {
            let builder = builder.json().with_env_filter(filter_now).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().unwrap_or_else(failed);
            Box::new(move |level| handle.reload(filter(level)).map_err(|e| e.to_string()))
        }
        LogFormat::Text => {
            let builder = builder
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_env_filter(filter_now)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().unwrap_or_else(failed);
            Box::new(move |level| handle.reload(filter(level)).map_err(|e| e.to_string()))
        }
    }
}

/// The level for our own lines, with the libraries' as they should be. `SIGNEDAPPROVAL_LOG` goes before all of it.
fn filter(level: &str) -> EnvFilter {
    let all = format!("{level},actix_server=warn,actix_http=off,webauthn_rs=off,webauthn_rs_core=off");
    EnvFilter::try_from_env("SIGNEDAPPROVAL_LOG").unwrap_or_else(|_| EnvFilter::new(all))
}
