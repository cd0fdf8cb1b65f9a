//! What the kernel says of this process (`proc(5)`).

use rustix::process::{Resource, getrlimit};

/// Figures of this process. 0 where the kernel does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_files: u64,
    pub open_files_max: u64,
    pub threads: u64,
    pub cpu_seconds: f64,
}

/// Figures of this process at this moment.
pub fn process() -> Process {
    let mut it = Process {
        open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64),
        ..Process::default()
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold anything; what follows it has no more brackets.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // Numbers as in proc(5), where the state behind the name is field 3.
    let field = |number: usize| {
        fields
            .get(number - 3)
            .and_then(|it| it.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let ticks = whole(rustix::param::clock_ticks_per_second());
    it.cpu_seconds = (field(14) + field(15)) / ticks;
    it.threads = fields.get(17).and_then(|it| it.parse().ok()).unwrap_or(0);
    it.virtual_bytes = fields.get(20).and_then(|it| it.parse().ok()).unwrap_or(0);
    let pages: u64 = fields.get(21).and_then(|it| it.parse().ok()).unwrap_or(0);
    it.resident_bytes = pages.saturating_mul(rustix::param::page_size() as u64);
    it
}

/// Free space, for this user, on the file system of a file; 0 where the kernel does not say.
pub fn free_bytes(file: &std::path::Path) -> u64 {
    rustix::fs::statvfs(file).map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize))
}

fn whole(value: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "ticks a second are few")]
    let value = value as f64;
    value
}
