//! CPU time of other processes, from `/proc`.
//!
//! `schedstat` of each thread is the same figure as utime + stime of `stat`, in nanoseconds instead of
//! ticks of 10 ms, which are too coarse for a light load of one second. Kernels without it give ticks.

use std::fs;

use anyhow::Context;

/// A process whose CPU is reported under a name.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl Watched {
    /// User and system time of all its threads so far.
    pub(crate) fn spent_ns(&self) -> anyhow::Result<u64> {
        process_ns(&self.pid.to_string()).with_context(|| format!("CPU of {}, pid {}", self.name, self.pid))
    }
}

/// The generator's own.
pub(crate) fn own_ns() -> anyhow::Result<u64> {
    process_ns("self")
}

impl std::str::FromStr for Watched {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, pid) = text.split_once('=').context("expected name=pid")?;
        Ok(Self { name: name.to_owned(), pid: pid.parse().context("expected a process id after =")? })
    }
}

fn process_ns(process: &str) -> anyhow::Result<u64> {
    match threads_ns(process) {
        Some(total) if total > 0 => Ok(total),
        _ => {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            let ticks = ticks(&stat).context("unreadable stat")?;
            Ok(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
        }
    }
}

fn threads_ns(process: &str) -> Option<u64> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        // A thread may end between the listing and the reading.
        let Ok(line) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        total += line.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(total)
}

/// utime + stime: fields 14 and 15, counted behind the name, which may itself hold blanks.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 700 55 0 0 20";
        assert_eq!(ticks(stat), Some(755));
        assert_eq!(ticks("42 (cut"), None);
    }

    #[test]
    fn own_cpu_grows_with_work() {
        let before = own_ns().unwrap();
        let mut sum = 0_u64;
        while own_ns().unwrap() < before + 20_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }

    #[test]
    fn a_watched_process_is_name_and_pid() {
        let watched: Watched = "proxy=12".parse().unwrap();
        assert_eq!((watched.name.as_str(), watched.pid), ("proxy", 12));
        assert!("proxy".parse::<Watched>().is_err());
        assert!("proxy=x".parse::<Watched>().is_err());
    }
}
