//! How many connections there are, and which one goes when there is no room: never one whose request is being answered.

use futures_util::task::AtomicWaker;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// A connection this young is never closed to make room: it may just be shaking hands.
const YOUNG: Duration = Duration::from_secs(1);
/// Connections looked at when room is to be made. Bounds the work that a flood can cause.
const LOOKED_AT_MAX: usize = 4096;

/// The most connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    pub total: usize,
    /// From one IPv4 address or one IPv6 /64. Trusted proxies are not counted by address.
    pub per_address: usize,
}

/// What happened to connections since the start.
#[derive(Debug, Default)]
pub struct Tally {
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub evicted: AtomicU64,
    pub handshakes_failed: AtomicU64,
    pub strangers: AtomicU64,
    pub too_slow: AtomicU64,
}

impl Tally {
    pub(super) fn failed_handshakes(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused_strangers(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }
}

/// All connections of the public listeners.
pub struct Connections {
    caps: Mutex<Caps>,
    table: Mutex<Table>,
    pub tally: Tally,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By age.
    all: BTreeMap<u64, Arc<State>>,
    by_address: HashMap<IpAddr, BTreeMap<u64, Arc<State>>>,
}

/// One connection, as its stream and its requests see it.
struct State {
    since: Instant,
    /// Requests whose answer is not sent yet.
    serving: AtomicU32,
    /// Requests so far.
    served: AtomicU32,
    evicted: AtomicBool,
    waker: AtomicWaker,
}

/// A place in the table; dropping the last clone frees it.
#[derive(Clone)]
pub struct Entry(Arc<Held>);

struct Held {
    id: u64,
    /// `None` for a trusted proxy.
    bucket: Option<IpAddr>,
    state: Arc<State>,
    connections: Arc<Connections>,
}

/// A request that is being answered.
pub struct Serving(Entry);

impl Connections {
    /// No connections yet.
    pub fn new(caps: Caps) -> Arc<Connections> {
        Arc::new(Connections {
            caps: Mutex::new(caps),
            table: Mutex::new(Table::default()),
            tally: Tally::default(),
        })
    }

    /// New limits for connections to come.
    pub fn set_caps(&self, caps: Caps) {
        *lock(&self.caps) = caps;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.table).all.len()
    }

    /// A place for one more, if need be by closing an older one that waits.
    ///
    /// # Errors
    /// When there is no room and every other connection is at work.
    pub fn admit(self: &Arc<Self>, ip: IpAddr, trusted: bool) -> std::io::Result<Entry> {
        let caps = *lock(&self.caps);
        let bucket = (!trusted).then(|| bucket(ip));
        let now = Instant::now();
        let mut table = lock(&self.table);
        let here = bucket.and_then(|it| table.by_address.get(&it));
        let mut room = true;
        if here.is_some_and(|it| it.len() >= caps.per_address) {
            room = here.is_some_and(|it| self.make_room(it, now));
        } else if table.all.len() >= caps.total {
            room = self.make_room(&table.all, now);
        }
        if !room {
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let id = table.next;
        table.next += 1;
        let state = Arc::new(State {
            since: now,
            serving: AtomicU32::new(0),
            served: AtomicU32::new(0),
            evicted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        table.all.insert(id, state.clone());
        if let Some(bucket) = bucket {
            table
                .by_address
                .entry(bucket)
                .or_default()
                .insert(id, state.clone());
        }
        self.tally.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Entry(Arc::new(Held {
            id,
            bucket,
            state,
            connections: self.clone(),
        })))
    }

    /// Closes the oldest connection that never completed a request, or else the oldest that waits for its next one.
    fn make_room(&self, among: &BTreeMap<u64, Arc<State>>, now: Instant) -> bool {
        let waits = |it: &&Arc<State>| {
            it.serving.load(Ordering::Acquire) == 0
                && !it.evicted.load(Ordering::Acquire)
                && now.duration_since(it.since) >= YOUNG
        };
        let old = || among.values().take(LOOKED_AT_MAX).filter(waits);
        let chosen = old()
            .find(|it| it.served.load(Ordering::Acquire) == 0)
            .or_else(|| old().next());
        let Some(chosen) = chosen else {
            return false;
        };
        chosen.evicted.store(true, Ordering::Release);
        chosen.waker.wake();
        self.tally.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl Entry {
    /// Requests so far, and whether one is being answered.
    pub(super) fn progress(&self) -> (u32, bool) {
        let state = &self.0.state;
        (
            state.served.load(Ordering::Acquire),
            state.serving.load(Ordering::Acquire) > 0,
        )
    }

    /// Whether the connection has to go. The task is woken when that changes.
    pub(super) fn is_evicted(&self, context: &Context<'_>) -> bool {
        self.wake_by(context.waker());
        self.0.state.evicted.load(Ordering::Acquire)
    }

    fn wake_by(&self, waker: &Waker) {
        self.0.state.waker.register(waker);
    }

    /// Counts a connection that was closed for taking too long.
    pub(super) fn was_too_slow(&self) {
        self.0.connections.tally.too_slow.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks the connection as at work until the answer has been sent.
    pub fn serve(&self) -> Serving {
        let state = &self.0.state;
        state.serving.fetch_add(1, Ordering::AcqRel);
        state.served.fetch_add(1, Ordering::AcqRel);
        Serving(self.clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.state.serving.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = lock(&self.connections.table);
        table.all.remove(&self.id);
        if let Some(bucket) = self.bucket
            && let Some(here) = table.by_address.get_mut(&bucket)
        {
            here.remove(&self.id);
            if here.is_empty() {
                table.by_address.remove(&bucket);
            }
        }
    }
}

/// Who counts as one: an IPv4 address, or the IPv6 network of one customer.
fn bucket(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(it) => {
            let [a, b, c, d, ..] = it.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
