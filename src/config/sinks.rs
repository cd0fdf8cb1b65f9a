//! Settings of log sinks that no page may change: where files go, and what is asked of sinks.

use crate::config::{Error, seconds};
use std::path::PathBuf;
use std::time::Duration;

/// Longest time a decision waits for a sink: a person holds the phone.
const REQUIRE_WAIT_SECONDS_MAX: u64 = 30;
/// Longest time a sink may fail before it is called stuck.
const STUCK_AFTER_SECONDS_MAX: u64 = 7 * 86_400;

/// Settings of log sinks, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// Where files of JSON lines go; `None`: nowhere.
    pub directory: Option<PathBuf>,
    /// Where the newest checkpoint is kept, outside the data directory.
    pub witness: Option<PathBuf>,
    /// How long a decision waits for a sink that has stored it; `None`: no decision needs one.
    pub require: Option<Duration>,
    /// A sink that fails for longer is stuck.
    pub stuck_after: Duration,
}

impl SinkSettings {
    pub(super) fn read(
        text: &impl Fn(&str) -> Option<String>,
        bad: &impl Fn(&'static str, &str) -> Error,
    ) -> Result<SinkSettings, Error> {
        let time = |key: &'static str, max: u64, words: &str| {
            text(key)
                .and_then(|it| seconds(&it))
                .filter(|it| (1..=max).contains(it))
                .map(Duration::from_secs)
                .ok_or_else(|| bad(key, words))
        };
        let wait = time(
            "sinks.require_wait",
            REQUIRE_WAIT_SECONDS_MAX,
            "a time from \"1s\" to \"30s\"",
        )?;
        let require = match text("sinks.require").as_deref() {
            Some("none") => None,
            Some("any") => Some(wait),
            _ => return Err(bad("sinks.require", "\"none\" or \"any\"")),
        };
        Ok(SinkSettings {
            directory: text("sinks.directory").map(PathBuf::from),
            witness: text("sinks.witness").map(PathBuf::from),
            require,
            stuck_after: time(
                "sinks.stuck_after",
                STUCK_AFTER_SECONDS_MAX,
                "a time from \"1s\" to \"7d\"",
            )?,
        })
    }
}
