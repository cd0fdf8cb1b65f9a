//! Tells people that something waits for them. It follows the journal, works out who is to be told of what, and records what
//! became of each message. What waits is found again after a restart by what is recorded as told, so that it needs no place in
//! the journal for that; only alerts, which happen once, go by a cursor.

mod compose;
mod deliver;
mod desk;

pub use deliver::Post;

use crate::domain::command::{Command, NewNotice};
use crate::domain::event::Actor;
use crate::domain::ids::RequestId;
use crate::domain::notice::{
    Action, Counted, Due, Notice, NoticeKind, NoticeSettings, Preferences, Sent, TestBy, VAPID_SECRET, plan,
};
use crate::domain::people::{Person, Role};
use crate::domain::request::Request;
use crate::domain::state::{Read, Table, decode};
use crate::domain::time::Time;
use crate::effects::notify::desk::Desk;
use crate::effects::{Surroundings, Trouble};
use crate::engine::Submission;
use crate::notify::{Message, SigningKey};
use crate::store::Snapshot;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Name of its cursor.
const FOLLOWER: &str = "notifications";
/// Entries read in one go.
const ENTRIES_MAX: usize = 1_024;
/// How often what depends on time alone is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Everything that waits is looked at again this often, for whoever came to be asked by the passing of time (the end of an
/// absence, of a passkey's hold).
const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(60);
/// Messages on their way at once.
const IN_FLIGHT_MAX: usize = 64;
/// Alerts older than this are told nobody any more, in seconds.
const ALERT_SECONDS_MAX: u64 = 86_400;
/// The cursor is moved by itself after so many entries.
const CURSOR_ENTRIES: u64 = 512;
/// Waits before a message is tried again, unless the other side says longer. After the last it is given up.
const AGAIN_SECONDS: [u64; 6] = [5, 30, 120, 600, 1_800, 3_600];

/// How long the record of a message that went out waits for a busy writer, each time.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// Something to send to one addressee.
#[derive(Clone)]
struct Errand {
    to: String,
    requests: Vec<RequestId>,
    kind: NoticeKind,
    requester: Option<String>,
    message: Message,
    /// The one channel to try again, and how often it was tried.
    again: Option<(String, usize)>,
    /// Position of the alert that this is about.
    alert: Option<u64>,
    /// By this way alone.
    by: Option<TestBy>,
}

/// What came of it.
struct Finished {
    errand: Errand,
    /// Channels to try again, with the wait that was asked for.
    later: Vec<(String, Option<Duration>)>,
}

/// Tells people, for ever.
pub async fn run_notifier(at: Surroundings, post: Arc<Post>) -> Result<(), Trouble> {
    make_key(&at, &post).await?;
    let mut grown = at.engine.watch_size();
    let mut next = at.store.read()?.cursor(FOLLOWER)?;
    let mut saved = next;
    let mut desk = Desk::new(&at.public_url);
    // Alerts that are not recorded yet, by position: how many messages of each.
    let mut alerts: BTreeMap<u64, usize> = BTreeMap::new();
    let mut again: Vec<(tokio::time::Instant, Errand)> = Vec::new();
    let mut on_the_way: JoinSet<Result<Finished, (Errand, Trouble)>> = JoinSet::new();
    // Messages of an addressee that are on their way: until all are recorded, the caps are not known.
    let mut busy: HashMap<String, usize> = HashMap::new();
    let mut looked_at_all: Option<tokio::time::Instant> = None;
    loop {
        {
            let snapshot = at.store.read()?;
            let now = at.clock.now();
            let settings = NoticeSettings::load(&snapshot)?;
            let told_at_once = follow(&at, &snapshot, &mut next, &mut desk, now)?;
            if desk.all || looked_at_all.is_none_or(|it| it.elapsed() >= LOOK_AT_ALL_EVERY) {
                desk.touch_all(&snapshot)?;
                looked_at_all = Some(tokio::time::Instant::now());
            }
            desk.look(&snapshot, &settings, now)?;
            for errand in desk.interrupted.drain(..) {
                again.push((tokio::time::Instant::now(), errand));
            }
            // Alerts wait for nothing.
            for errand in told_at_once {
                if let Some(seq) = errand.alert {
                    *alerts.entry(seq).or_default() += 1;
                }
                set_out(&at, &post, errand, &mut on_the_way);
            }
            let ready = tokio::time::Instant::now();
            for idx in (0..again.len()).rev() {
                if again[idx].0 <= ready && on_the_way.len() < IN_FLIGHT_MAX {
                    let (_, errand) = again.swap_remove(idx);
                    if still_wanted(&errand, &snapshot)? {
                        set_out(&at, &post, errand, &mut on_the_way);
                    }
                }
            }
            for to in desk.addressees() {
                if on_the_way.len() >= IN_FLIGHT_MAX || busy.contains_key(&to) {
                    continue;
                }
                if let Some(errands) = errands(&at, &desk, &to, &snapshot, &settings, now)?
                    && !errands.is_empty()
                {
                    busy.insert(to, errands.len());
                    for errand in errands {
                        set_out(&at, &post, errand, &mut on_the_way);
                    }
                }
            }
        }
        let settled = alerts.first_key_value().map_or(next, |(seq, _)| *seq);
        if settled.saturating_sub(saved) >= CURSOR_ENTRIES {
            save_cursor(&at, settled).await?;
            saved = settled;
        }
        tokio::select! {
            Some(ended) = on_the_way.join_next() => {
                match ended.map_err(|e| Trouble::Forge(e.to_string()))? {
                    Ok(Finished { errand, later }) => {
                        desk.told(&errand.to, &errand.requests);
                        free(&mut busy, &errand);
                        for (channel, wait) in later {
                            let tried = errand.again.as_ref().map_or(0, |(_, tried)| *tried);
                            let own = AGAIN_SECONDS.get(tried).copied().unwrap_or(3_600);
                            let wait = wait.unwrap_or_default().max(Duration::from_secs(own));
                            let errand = Errand { again: Some((channel, tried + 1)), ..errand.clone() };
                            again.push((tokio::time::Instant::now() + wait, errand));
                        }
                        if let Some(seq) = errand.alert.filter(|_| errand.again.is_none()) {
                            let left = alerts.get(&seq).copied().unwrap_or(0);
                            if left > 1 {
                                alerts.insert(seq, left - 1);
                            } else {
                                alerts.remove(&seq);
                                // At once: a restart must not tell it again.
                                saved = alerts.first_key_value().map_or(next, |(seq, _)| *seq);
                                save_cursor(&at, saved).await?;
                            }
                        }
                    }
                    Err((errand, error)) => {
                        tracing::warn!(%error, to = %errand.to, "a message could not be recorded");
                        free(&mut busy, &errand);
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                }
            }
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// One message less on its way to its addressee. Alerts and further tries hold nothing up.
fn free(busy: &mut HashMap<String, usize>, errand: &Errand) {
    if errand.alert.is_some() || errand.again.is_some() {
        return;
    }
    match busy.get_mut(&errand.to) {
        Some(left) if *left > 1 => *left -= 1,
        _ => {
            busy.remove(&errand.to);
        }
    }
}

/// The key that signs for push services, made once.
async fn make_key(at: &Surroundings, post: &Post) -> Result<(), Trouble> {
    if at.store.read()?.secret(VAPID_SECRET)?.is_some() {
        return Ok(());
    }
    let (key, pkcs8) = SigningKey::generate().map_err(|e| Trouble::Forge(e.to_string()))?;
    let submission = Submission {
        actor: Actor::System,
        command: Command::MakePushKey {
            public_key: key.public_base64url(),
        },
        secrets: vec![(VAPID_SECRET.to_owned(), (post.seal)(VAPID_SECRET, &pkcs8))],
        cursor: None,
    };
    at.engine.submit_with(submission).await?;
    Ok(())
}

/// Reads on in the journal: what changes who is to be told, and the alerts among it.
fn follow(
    at: &Surroundings,
    snapshot: &Snapshot,
    next: &mut u64,
    desk: &mut Desk,
    now: Time,
) -> Result<Vec<Errand>, Trouble> {
    let mut errands = Vec::new();
    loop {
        let leaves = snapshot.leaves(*next, ENTRIES_MAX)?;
        let Some((last, _)) = leaves.last() else {
            return Ok(errands);
        };
        let last = *last;
        for (seq, leaf) in leaves {
            let event = Snapshot::event(&leaf)?;
            desk.hear(&event);
            let Some(alert) = compose::alert(&event, &at.public_url, snapshot)? else {
                continue;
            };
            let made = crate::evidence::leaf::parse(&leaf)
                .ok()
                .and_then(|it| Time::parse(&it.time));
            if made.is_none_or(|it| it.seconds_until(now) > ALERT_SECONDS_MAX) {
                continue;
            }
            errands.extend(recipients(&alert.to, snapshot)?.into_iter().map(|to| Errand {
                to,
                requests: Vec::new(),
                kind: alert.kind,
                requester: None,
                message: alert.message.clone(),
                again: None,
                alert: Some(seq),
                by: alert.by,
            }));
        }
        *next = last + 1;
    }
}

fn recipients(to: &compose::Recipients, snapshot: &Snapshot) -> Result<Vec<String>, Trouble> {
    Ok(match to {
        compose::Recipients::One(person) => vec![person.to_string()],
        compose::Recipients::Admins => admins(snapshot)?,
        compose::Recipients::OneAndAdmins(person) => {
            let mut all = admins(snapshot)?;
            all.retain(|it| *it != person.as_str());
            all.push(person.to_string());
            all
        }
    })
}

fn admins(snapshot: &Snapshot) -> Result<Vec<String>, Trouble> {
    let people = snapshot.all::<Person>()?;
    let admins = people.into_iter().filter(|it| it.has(Role::Admin));
    Ok(admins.map(|it| it.id.to_string()).collect())
}

/// The messages one addressee is sent now; `None` while they are to be left alone.
fn errands(
    at: &Surroundings,
    desk: &Desk,
    to: &str,
    snapshot: &Snapshot,
    settings: &NoticeSettings,
    now: Time,
) -> Result<Option<Vec<Errand>>, Trouble> {
    if let Some(person) = crate::domain::ids::PersonId::parse(to) {
        let quiet = Preferences::load(&person, snapshot)?.quiet;
        if quiet.is_some_and(|it| it.until(now).is_some()) {
            return Ok(None);
        }
        if deliver::channels(to, settings, snapshot)?.is_empty() {
            return Ok(None);
        }
    }
    let due = desk.due(to);
    let past: Vec<Counted> = snapshot
        .with_prefix(Table::NoticeTimes, format!("{to}\0").as_bytes())?
        .iter()
        .map(|(_, bytes)| decode(bytes))
        .collect::<Result<_, _>>()?;
    let waiting = desk.waiting(to);
    let mut errands = Vec::new();
    for action in plan(&due, &past, settings, now) {
        let (kind, requester, of): (NoticeKind, Option<String>, Vec<Due>) = match action {
            Action::One(it) => (it.kind, Some(it.requester.clone()), vec![it]),
            Action::Digest(all) => (NoticeKind::Digest, None, all),
        };
        let Some(message) = compose::message(&of, kind, waiting, &at.public_url, settings, snapshot, now)?
        else {
            continue;
        };
        errands.push(Errand {
            to: to.to_owned(),
            requests: of.into_iter().map(|it| it.request).collect(),
            kind,
            requester,
            message,
            again: None,
            alert: None,
            by: None,
        });
    }
    Ok(Some(errands))
}

/// Whether a message that is to be tried again is about anything still.
fn still_wanted(errand: &Errand, snapshot: &Snapshot) -> Result<bool, Trouble> {
    if errand.requests.is_empty() {
        return Ok(true);
    }
    for id in &errand.requests {
        let request: Option<Request> = snapshot.get(id.as_str())?;
        if request.is_some_and(|it| it.status == crate::domain::request::Status::Pending) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn set_out(
    at: &Surroundings,
    post: &Arc<Post>,
    errand: Errand,
    on_the_way: &mut JoinSet<Result<Finished, (Errand, Trouble)>>,
) {
    let (at, post) = (at.clone(), post.clone());
    on_the_way.spawn(async move {
        match run(&at, &post, &errand).await {
            Ok(later) => Ok(Finished { errand, later }),
            Err(error) => Err((errand, error)),
        }
    });
}

/// Sends one message by all channels, or by the one that is tried again, and records what came of it.
async fn run(
    at: &Surroundings,
    post: &Post,
    errand: &Errand,
) -> Result<Vec<(String, Option<Duration>)>, Trouble> {
    let only = errand.again.as_ref().map(|(channel, _)| channel.as_str());
    let (mut channels, settings) = {
        let snapshot = at.store.read()?;
        let settings = NoticeSettings::load(&snapshot)?;
        (deliver::channels(&errand.to, &settings, &snapshot)?, settings)
    };
    channels.retain(|it| errand.by.is_none_or(|by| it.is_by(by)));
    let mut told =
        deliver::deliver(at, post, &settings, channels, only, &errand.message, errand.kind).await?;
    let last = errand
        .again
        .as_ref()
        .is_some_and(|(_, tried)| *tried >= AGAIN_SECONDS.len());
    let mut later = Vec::new();
    for it in &mut told {
        if it.delivery.sent != Sent::Later {
            continue;
        }
        if last {
            it.delivery.sent = Sent::Refused;
            it.delivery.reason = it
                .delivery
                .reason
                .take()
                .map(|why| format!("Given up after {} tries: {why}", AGAIN_SECONDS.len() + 1));
        } else {
            later.push((it.delivery.channel.clone(), it.after));
        }
    }
    // That something is tried again is recorded once; after that, how it ended.
    let news = errand.again.is_none() || told.iter().any(|it| it.delivery.sent != Sent::Later);
    if news && (errand.again.is_none() || !told.is_empty()) {
        let notice = NewNotice {
            to: errand.to.clone(),
            requests: errand.requests.clone(),
            kind: errand.kind,
            requester: errand.requester.clone(),
            again: errand.again.is_some(),
            deliveries: told.into_iter().map(|it| it.delivery).collect(),
        };
        // It went out: sending it once more because the writer is busy would be a flood of our own.
        loop {
            let command = Command::RecordNotice(notice.clone());
            match at.engine.submit(Actor::System, command).await {
                Err(crate::engine::Error::Busy | crate::engine::Error::Sealed(_)) => {
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
    }
    Ok(later)
}

async fn save_cursor(at: &Surroundings, next: u64) -> Result<(), Trouble> {
    let submission = Submission {
        actor: Actor::System,
        command: Command::Record { events: Vec::new() },
        secrets: Vec::new(),
        cursor: Some((FOLLOWER, next)),
    };
    at.engine.submit_with(submission).await?;
    Ok(())
}

/// What one addressee has been told of one request.
fn notice_of(request: &RequestId, to: &str, snapshot: &Snapshot) -> Result<Option<Notice>, Trouble> {
    Ok(snapshot.get(&Notice::row(request, to))?)
}
