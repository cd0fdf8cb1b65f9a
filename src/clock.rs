//! Where the time comes from. The one call to the system's clock in the program.

use crate::domain::time::Time;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> Time;
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A host set before 1970 reads as the epoch itself: the journal then refuses decisions until it is mended.
        Time(since.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX)))
    }
}
