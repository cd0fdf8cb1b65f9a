//! A storage with two faces: the live bytes a process reads back, and the durable bytes that a power cut leaves.
//! It counts every step towards the world and fails the ones it is told to; it never fails by itself.

use redb::{BackendError, StorageBackend};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk writes all or nothing, in bytes.
const SECTOR: usize = 512;

/// How a step fails. Each exists in two forms, as with any remote call: not done, and done without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The machine stops before the step.
    CrashBefore,
    /// The machine stops after the step, before anybody is told.
    CrashAfter,
    /// The step is not done and says so. A failed sync drops what it should have kept: the pages count as clean.
    ErrorUndone,
    /// The step is done and says that it failed.
    ErrorDone,
}

impl Failure {
    pub const ALL: [Failure; 4] = [
        Failure::CrashBefore,
        Failure::CrashAfter,
        Failure::ErrorUndone,
        Failure::ErrorDone,
    ];
}

/// What is left for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survival {
    /// Only the process died: everything written is there.
    Process,
    /// The power went: only what was synced is there.
    Synced,
    /// The power went while the disk was writing: any 512-byte sectors of what was not synced are there, by this seed.
    Torn(u64),
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    Write,
    Resize,
    Sync,
    /// A call to the forge.
    Contact,
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    DoneButFailed,
    Failed,
}

enum Unsynced {
    Write(u64, Vec<u8>),
    Resize(u64),
}

struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Writes that a failed sync was to keep: no later sync makes them durable.
    forsaken: Vec<Unsynced>,
    steps: Vec<StepKind>,
    /// Counted from 1.
    failures: VecDeque<(u64, Failure)>,
    next_call: Option<Failure>,
    n_failed: usize,
    down: bool,
    locked: bool,
    /// Handles of an earlier start touch nothing.
    start: u64,
}

/// The disk and the wire of one machine.
#[derive(Clone)]
pub struct Machine(Arc<Mutex<State>>);

impl Machine {
    /// A machine with an empty disk that fails these steps.
    pub fn new(failures: impl IntoIterator<Item = (u64, Failure)>) -> Machine {
        Machine(Arc::new(Mutex::new(State {
            live: Vec::new(),
            durable: Vec::new(),
            unsynced: Vec::new(),
            forsaken: Vec::new(),
            steps: Vec::new(),
            failures: failures.into_iter().collect(),
            next_call: None,
            n_failed: 0,
            down: false,
            locked: false,
            start: 0,
        })))
    }

    /// The disk as the running program sees it now.
    pub fn image(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    /// A machine whose disk holds these bytes already, and that never fails.
    pub fn with_image(image: Vec<u8>) -> Machine {
        let machine = Machine::new([]);
        {
            let mut state = machine.state();
            state.durable.clone_from(&image);
            state.live = image;
        }
        machine
    }

    /// A handle for the database.
    pub fn storage(&self) -> Storage {
        Storage {
            start: self.state().start,
            machine: self.clone(),
        }
    }

    /// Takes one step of a kind, for calls to the world outside.
    pub fn step(&self, kind: StepKind) -> Fate {
        self.state().step(kind)
    }

    /// The kinds of all steps so far, also those of earlier starts.
    pub fn steps(&self) -> Vec<StepKind> {
        self.state().steps.clone()
    }

    /// Whether the machine has stopped.
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// How many steps were made to fail.
    pub fn n_failed(&self) -> usize {
        self.state().n_failed
    }

    /// Also fails this step, counted from 1 over all starts.
    pub fn fail(&self, step: u64, failure: Failure) {
        self.state().failures.push_back((step, failure));
    }

    /// Fails nothing from here on.
    pub fn fail_no_more(&self) {
        self.state().failures.clear();
        self.state().next_call = None;
    }

    /// Also fails the next call to the forge.
    pub fn fail_next_call(&self, failure: Failure) {
        self.state().next_call = Some(failure);
    }

    /// Empties the disk.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.live.clear();
        state.durable.clear();
        state.unsynced.clear();
        state.forsaken.clear();
        state.locked = false;
        state.start += 1;
    }

    /// Starts again with what is left.
    pub fn restart(&self, survival: Survival) {
        let mut state = self.state();
        if survival != Survival::Process {
            let mut coin = Coin(match survival {
                Survival::Torn(seed) => seed | 1,
                Survival::Process | Survival::Synced => 0,
            });
            let lost = std::mem::take(&mut state.forsaken)
                .into_iter()
                .chain(std::mem::take(&mut state.unsynced));
            let mut image = std::mem::take(&mut state.durable);
            if coin.0 != 0 {
                for it in lost {
                    keep_some(&mut image, it, &mut coin);
                }
            }
            state.live = image;
        }
        state.durable = state.live.clone();
        state.unsynced.clear();
        state.forsaken.clear();
        state.down = false;
        state.locked = false;
        state.start += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no thread panics while it holds the machine")
    }
}

impl State {
    fn step(&mut self, kind: StepKind) -> Fate {
        if self.down {
            return Fate::Failed;
        }
        self.steps.push(kind);
        // A failure whose step went by while nobody looked is overdue: it strikes now.
        let due = self
            .failures
            .iter()
            .position(|(at, _)| *at <= self.steps.len() as u64);
        let called = if kind == StepKind::Contact {
            self.next_call.take()
        } else {
            None
        };
        let Some(failure) = due
            .and_then(|it| self.failures.remove(it))
            .map(|it| it.1)
            .or(called)
        else {
            return Fate::Done;
        };
        self.n_failed += 1;
        self.down = matches!(failure, Failure::CrashBefore | Failure::CrashAfter);
        match failure {
            Failure::CrashBefore | Failure::ErrorUndone => Fate::Failed,
            Failure::CrashAfter | Failure::ErrorDone => Fate::DoneButFailed,
        }
    }
}

/// Of a write that was under way, any sectors; of a resize, all or nothing.
fn keep_some(image: &mut Vec<u8>, it: Unsynced, coin: &mut Coin) {
    match it {
        Unsynced::Resize(len) => {
            if coin.toss() {
                image.resize(len as usize, 0);
            }
        }
        Unsynced::Write(offset, data) => {
            let mut at = offset as usize;
            let mut rest = &data[..];
            while !rest.is_empty() {
                let len = (SECTOR - at % SECTOR).min(rest.len());
                if coin.toss() {
                    if image.len() < at + len {
                        image.resize(at + len, 0);
                    }
                    image[at..at + len].copy_from_slice(&rest[..len]);
                }
                at += len;
                rest = &rest[len..];
            }
        }
    }
}

/// Seeded coin tosses (splitmix64), the same on every host.
pub struct Coin(pub u64);

impl Coin {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Heads or tails.
    pub fn toss(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The database's handle on the disk.
pub struct Storage {
    machine: Machine,
    start: u64,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

impl Storage {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.machine.state();
        if state.down || state.start != self.start {
            return Err(io::Error::other("the machine is down"));
        }
        Ok(state)
    }

    fn lock_whole(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !matches!(start, Bound::Unbounded | Bound::Included(0)) || end != Bound::Unbounded {
            return Err(BackendError::Unsupported);
        }
        let mut state = self.state()?;
        Ok(!std::mem::replace(&mut state.locked, true))
    }
}

fn told(fate: Fate) -> io::Result<()> {
    match fate {
        Fate::Done => Ok(()),
        Fate::Failed | Fate::DoneButFailed => Err(io::Error::other("made to fail")),
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let at = offset as usize;
        let bytes = state.live.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let fate = state.step(StepKind::Resize);
        if fate != Fate::Failed {
            state.live.resize(len as usize, 0);
            state.unsynced.push(Unsynced::Resize(len));
        }
        told(fate)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fate = state.step(StepKind::Sync);
        if fate != Fate::Failed {
            let mut image = std::mem::take(&mut state.durable);
            for it in std::mem::take(&mut state.unsynced) {
                match it {
                    Unsynced::Resize(len) => image.resize(len as usize, 0),
                    Unsynced::Write(offset, data) => {
                        let at = offset as usize;
                        // A write beyond a resize that was forsaken makes the file longer by itself.
                        if image.len() < at + data.len() {
                            image.resize(at + data.len(), 0);
                        }
                        image[at..at + data.len()].copy_from_slice(&data);
                    }
                }
            }
            state.durable = image;
        } else if !state.down {
            let lost = std::mem::take(&mut state.unsynced);
            state.forsaken.extend(lost);
        }
        told(fate)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let fate = state.step(StepKind::Write);
        if fate != Fate::Failed {
            let at = offset as usize;
            let Some(target) = state.live.get_mut(at..at + data.len()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            target.copy_from_slice(data);
            state.unsynced.push(Unsynced::Write(offset, data.to_vec()));
        }
        told(fate)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lock_whole(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lock_whole(start, end)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        // Of a machine that went down nothing is locked any more.
        if let Ok(mut state) = self.state() {
            state.locked = false;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        if let Ok(mut state) = self.state() {
            state.locked = false;
        }
        Ok(())
    }
}
