//! The kernel's figures for a process.

use std::fs;
use std::time::Duration;

/// The processor time that this process or another one has used, from `/proc`.
#[derive(Clone, Copy, Default)]
pub struct Process {
    pub user: Duration,
    pub system: Duration,
}

impl Process {
    pub fn this() -> Self {
        Self::of(std::process::id())
    }

    pub fn of(id: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("Linux");
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .expect("a name")
            .1
            .split_whitespace()
            .collect();
        // Linux counts in hundredths of a second, independently of its own clock rate.
        let time =
            |field: &str| Duration::from_millis(field.parse::<u64>().expect("a number") * 10);
        Self {
            user: time(fields[11]),
            system: time(fields[12]),
        }
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }

    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// Returns the resident memory of this process in bytes.
pub fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        * 1024
}
