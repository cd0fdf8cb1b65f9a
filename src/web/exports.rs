//! Audit bundles being made, and those ready to be fetched. They lie in a folder of the data directory and go with the
//! process: whoever wants one again gets the same bytes.

use crate::audit;
use crate::audit::{Export, Order};
use crate::domain::command::Command;
use crate::domain::event::{Actor, Event};
use crate::domain::ids::{Digest, ExportId};
use crate::domain::time::Time;
use crate::identity::random_id;
use crate::web::app::App;
use crate::web::problem::Problem;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, web};
use sha2::Digest as _;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bundles made at the same time: each takes a core and reads the whole period.
const RUNNING_MAX: usize = 2;
/// Bundles that are verified at the same time.
const UPLOADS_MAX: usize = 2;
/// Finished bundles that are kept; the oldest go first.
const KEPT_MAX: usize = 10;
/// Bytes of a bundle sent at once.
const PIECE: usize = 1 << 18;

/// How an export stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Done { sha256: Digest, bytes: u64 },
    Failed(String),
}

/// One bundle, being made or made.
pub struct Job {
    pub id: ExportId,
    pub order: Order,
    pub at: Time,
    /// Who asked, in words.
    pub by: String,
    pub done: AtomicU64,
    pub total: AtomicU64,
    state: Mutex<State>,
    called_off: AtomicBool,
    path: PathBuf,
}

impl Job {
    /// How it stands.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It is made anew when it is wanted again; a file that stays is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A bundle that somebody sent.
pub struct Upload {
    pub file: File,
    /// Counts those at work.
    _turn: Arc<()>,
}

/// All of them.
pub struct Exports {
    dir: PathBuf,
    uploads: Arc<()>,
    jobs: Mutex<BTreeMap<ExportId, Arc<Job>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exports {
    /// Bundles in `dir`, which is emptied: what lies there belongs to a process that is gone.
    ///
    /// # Errors
    /// When the folder can't be made or emptied.
    pub fn new(dir: &Path) -> std::io::Result<Self> {
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(dir)?;
        Ok(Exports {
            dir: dir.to_owned(),
            uploads: Arc::new(()),
            jobs: Mutex::new(BTreeMap::new()),
        })
    }

    /// The newest first.
    pub fn all(&self) -> Vec<Arc<Job>> {
        let mut all: Vec<Arc<Job>> = lock(&self.jobs).values().cloned().collect();
        all.sort_by_key(|it| std::cmp::Reverse(it.at));
        all
    }

    /// One of them.
    pub fn find(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let id = ExportId::parse(id).ok_or_else(Problem::not_found)?;
        lock(&self.jobs).get(&id).cloned().ok_or_else(Problem::not_found)
    }

    /// Calls one off, or throws it away.
    pub fn remove(&self, id: &str) -> Result<(), Problem> {
        let job = self.find(id)?;
        job.called_off.store(true, Ordering::Relaxed);
        lock(&self.jobs).remove(&job.id);
        Ok(())
    }

    /// A file for a bundle that somebody sends to be verified; it goes with what is returned.
    ///
    /// # Errors
    /// `too-many` when others are being verified.
    pub fn upload(&self) -> Result<Upload, Problem> {
        let held = Arc::strong_count(&self.uploads);
        if held > UPLOADS_MAX {
            return Err(Problem::too_many(
                "Other bundles are being verified. Try again in a moment.",
            ));
        }
        let path = self
            .dir
            .join(format!("{}.upload", ExportId::from_random(random_id())));
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Problem::internal)?;
        // Open and without a name: it is gone with its last handle.
        std::fs::remove_file(&path).map_err(Problem::internal)?;
        Ok(Upload {
            file,
            _turn: self.uploads.clone(),
        })
    }

    fn add(&self, job: Arc<Job>) -> Result<(), Problem> {
        let mut jobs = lock(&self.jobs);
        let running = jobs.values().filter(|it| it.state() == State::Running).count();
        if running >= RUNNING_MAX {
            return Err(Problem::too_many(format!(
                "{running} bundles are being made already. Wait for one of them, or call it off."
            )));
        }
        let mut finished: Vec<(Time, ExportId)> = jobs
            .values()
            .filter(|it| it.state() != State::Running)
            .map(|it| (it.at, it.id.clone()))
            .collect();
        finished.sort();
        for (_, id) in finished.iter().take(finished.len().saturating_sub(KEPT_MAX - 1)) {
            jobs.remove(id);
        }
        jobs.insert(job.id.clone(), job);
        Ok(())
    }
}

/// Records the wish and starts to make the bundle.
pub async fn start(app: &Data<App>, actor: Actor, order: Order) -> Result<Arc<Job>, Problem> {
    if order.from >= order.to {
        return Err(Problem::invalid("to", "It must be later than `from`."));
    }
    match audit::range(order.from, order.to, &app.snapshot()?) {
        Err(audit::Error::Empty) => {
            return Err(Problem::invalid(
                "to",
                "The journal has no entry before it, so there is nothing to export.",
            ));
        }
        Err(error) => return Err(Problem::internal(error)),
        Ok(_) => {}
    }
    let id = ExportId::from_random(random_id());
    let job = Arc::new(Job {
        path: app.exports.dir.join(format!("{id}.zip")),
        id,
        at: app.now(),
        by: match &actor {
            Actor::Person { name, .. } => name.clone(),
            Actor::Key { name, .. } => format!("key {name}"),
            _ => "the host".to_owned(),
        },
        order: order.clone(),
        done: AtomicU64::new(0),
        total: AtomicU64::new(1),
        state: Mutex::new(State::Running),
        called_off: AtomicBool::new(false),
    });
    app.exports.add(job.clone())?;
    let asked = Event::ExportRequested {
        export: job.id.clone(),
        from: order.from,
        to: order.to,
        only_project: order.filter.project.clone(),
        only_person: order.filter.person.clone(),
        only_outcome: order.filter.outcome,
    };
    let recorded = app
        .submit(actor.clone(), Command::Record { events: vec![asked] })
        .await;
    if let Err(problem) = recorded {
        let _ = app.exports.remove(job.id.as_str());
        return Err(problem);
    }
    let (app, making) = (app.clone(), job.clone());
    actix_web::rt::spawn(async move {
        let (inner, working) = (app.clone(), making.clone());
        let made = web::block(move || make(&inner, &working)).await;
        let state = match made {
            Ok(Ok((made, sha256, bytes))) => {
                let event = Event::ExportMade {
                    export: making.id.clone(),
                    bundle_sha256: sha256,
                    bytes,
                    events: made.events,
                    credentials: made.credentials,
                    outcomes: made.outcomes,
                };
                match app.submit(actor, Command::Record { events: vec![event] }).await {
                    Ok(_) => State::Done { sha256, bytes },
                    // What is not in the journal is not handed out.
                    Err(problem) => State::Failed(problem.told()),
                }
            }
            Ok(Err(error)) => {
                if !matches!(error, audit::Error::CalledOff) {
                    tracing::error!(%error, export = %making.id, "a bundle could not be made");
                }
                State::Failed(failure(&error))
            }
            Err(error) => {
                tracing::error!(%error, export = %making.id, "a bundle could not be made");
                State::Failed("The server made a mistake; its log says which.".into())
            }
        };
        *lock(&making.state) = state;
    });
    Ok(job)
}

/// What people are told; what is inside stays in the log.
fn failure(error: &audit::Error) -> String {
    match error {
        audit::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            "There is no room left in the data directory.".into()
        }
        audit::Error::Io(e) if e.kind() == std::io::ErrorKind::Other => visible_sentence(&e.to_string()),
        audit::Error::Io(_) => "The bundle can’t be written into the data directory.".into(),
        audit::Error::Store(_) => "The journal can’t be read; the server’s log says why.".into(),
        other => visible_sentence(&other.to_string()),
    }
}

fn visible_sentence(text: &str) -> String {
    let mut text = crate::domain::text::visible(text);
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text + "."
}

fn make(app: &App, job: &Job) -> Result<(audit::Made, Digest, u64), audit::Error> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&job.path)?;
    let sign = |statement: &[u8]| app.engine.sign_blocking(statement).map_err(|e| e.to_string());
    let mut told = |done: u64, total: u64| {
        job.total.store(total.max(1), Ordering::Relaxed);
        job.done.store(done.min(total), Ordering::Relaxed);
        !job.called_off.load(Ordering::Relaxed)
    };
    let export = Export {
        store: &app.store,
        order: &job.order,
        public_url: &app.public_url,
        version: App::version(),
        sign: &sign,
        told: &mut told,
    };
    let (mut out, made) = audit::export(export, BufWriter::with_capacity(1 << 18, file))?;
    out.flush()?;
    drop(out);
    let mut file = File::open(&job.path)?;
    let (mut sha256, mut buffer, mut bytes) = (Sha256::new(), vec![0; PIECE], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sha256.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok((made, Digest(sha256.finalize().into()), bytes))
}

/// A finished bundle as a download, piece by piece.
pub fn download(job: &Arc<Job>) -> Result<HttpResponse, Problem> {
    let State::Done { bytes, sha256 } = job.state() else {
        return Err(Problem::not_found());
    };
    let file = File::open(&job.path).map_err(Problem::internal)?;
    let day = |time: Time| time.to_the_second()[..10].to_owned();
    let name = format!(
        "signedapproval-{}-to-{}.zip",
        day(job.order.from),
        day(job.order.to)
    );
    // The job is held until the last piece, so that its file stays.
    let pieces = futures_util::stream::unfold((Some(file), job.clone()), |(file, job)| async move {
        let mut file = file?;
        let read = web::block(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((file, piece))
        })
        .await;
        match read {
            Ok(Ok((_, piece))) if piece.is_empty() => None,
            Ok(Ok((file, piece))) => Some((Ok(Bytes::from(piece)), (Some(file), job))),
            Ok(Err(error)) => Some((Err(error), (None, job))),
            Err(_) => Some((Err(std::io::Error::other("the read was broken off")), (None, job))),
        }
    });
    Ok(HttpResponse::Ok()
        .insert_header((actix_web::http::header::CONTENT_TYPE, "application/zip"))
        .insert_header((
            actix_web::http::header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ))
        .insert_header(("Repr-Digest", repr_digest(&sha256)))
        .no_chunking(bytes)
        .streaming(Box::pin(pieces)))
}

/// RFC 9530.
fn repr_digest(sha256: &Digest) -> String {
    use base64::Engine;
    format!(
        "sha-256=:{}:",
        base64::engine::general_purpose::STANDARD.encode(sha256.0)
    )
}
