//! The mark of a running appliance in its data directory: by it a start tells a power cut from a program that was killed.

use crate::cli::instance::write_private;
use crate::clock::Clock;
use std::path::Path;

/// Stands while the appliance runs, with the moment the machine booted, in seconds since 1970.
const RUNNING: &str = "running";
/// Two moments of a boot that are further apart are two boots, or the clock was set: either way all is checked. In seconds.
const SAME_BOOT: u64 = 60;
/// The unit of `starttime` for programs, whatever the kernel's own is (`USER_HZ`, proc_pid_stat(5)).
const TICKS_A_SECOND: i64 = 100;

/// The boot of the machine this process runs in.
#[derive(Clone, Copy, Debug)]
pub struct Boot(Option<i64>);

impl Boot {
    /// To be asked at the very start: what is known is when the process began, and its age is taken for nothing. From the
    /// process's own file, since a hardened unit sees no other of `/proc`.
    pub fn of_this_start(clock: &dyn Clock) -> Boot {
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        let ticks = stat.and_then(|it| ticks_at_start(&it));
        Boot(ticks.map(|it| clock.now().0 / 1000 - it / TICKS_A_SECOND))
    }

    /// Whether the machine went down, or the disk came to another one, while an appliance ran from this directory. What the
    /// kernel held of a killed program is still written, but what a disk held of a dead machine may be lost.
    pub fn is_another(self, data_dir: &Path) -> bool {
        match std::fs::read_to_string(data_dir.join(RUNNING)) {
            Ok(marked) => {
                let marked: Option<i64> = marked.trim().parse().ok();
                let apart = marked.zip(self.0).map(|(then, now)| then.abs_diff(now));
                apart.is_none_or(|it| it > SAME_BOOT)
            }
            // No mark: stopped as asked, or written by a version that set none.
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Sets the mark. Without it the next start only checks less, so a failure stops nothing.
    pub fn mark(self, data_dir: &Path) {
        let Some(moment) = self.0 else { return };
        if let Err(error) = write_private(&data_dir.join(RUNNING), moment.to_string().as_bytes()) {
            tracing::warn!(%error, "it could not be marked that the appliance runs");
        }
    }
}

/// Takes the mark away: it stopped as asked.
pub fn unmark(data_dir: &Path) {
    match std::fs::remove_file(data_dir.join(RUNNING)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the mark of a running appliance could not be removed");
        }
        _ => {}
    }
}

/// `starttime`, the 22nd field: ticks from the boot to the start of the process. The second field is a name in brackets that may
/// hold blanks and brackets.
fn ticks_at_start(stat: &str) -> Option<i64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn the_start_is_read_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|it| it.to_string()).collect();
        let stat = format!("7 (a) b) (c) {}", fields.join(" "));
        assert_eq!(ticks_at_start(&stat), Some(22));
        assert_eq!(ticks_at_start("7 (a"), None);
    }

    #[test]
    fn a_mark_of_another_boot_or_of_nonsense_means_that_the_machine_went_down() {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).expect("random");
        let dir = std::env::temp_dir().join(format!("sa-running-{}", hex::encode(bits)));
        std::fs::create_dir(&dir).expect("made");
        let boot = Boot::of_this_start(&SystemClock);
        assert!(!boot.is_another(&dir), "stopped as asked");
        boot.mark(&dir);
        assert!(!boot.is_another(&dir), "killed");
        let marked: i64 = std::fs::read_to_string(dir.join(RUNNING))
            .expect("readable")
            .parse()
            .expect("a number");
        for other in [(marked - 3_600).to_string(), String::new(), "x".into()] {
            std::fs::write(dir.join(RUNNING), &other).expect("written");
            assert!(boot.is_another(&dir), "{other}");
        }
        assert!(Boot(None).is_another(&dir), "a boot that is not known");
        unmark(&dir);
        unmark(&dir);
        assert!(!boot.is_another(&dir));
        std::fs::remove_dir(&dir).expect("removed");
    }
}
