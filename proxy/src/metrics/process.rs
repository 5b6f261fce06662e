//! What the process itself takes, under the names that every Prometheus client uses. From `/proc`; where there is
//! none, nothing is shown.
//!
//! Written as text because a recorder's counters are whole numbers, and seconds of CPU time are not.

use std::fmt::Write as _;
use std::fs;

/// CPU time, memory and descriptors.
pub(super) fn render(out: &mut String) {
    let mut show = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    };
    let read = |path: &str| fs::read_to_string(path).ok();
    let cpu = read("/proc/self/stat").as_deref().and_then(cpu_seconds);
    show("process_cpu_seconds_total", "counter", "CPU time of this process.", cpu);
    let memory = read("/proc/self/status").as_deref().and_then(resident_bytes);
    show("process_resident_memory_bytes", "gauge", "Memory that this process keeps.", memory);
    // One of them is the directory being read.
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1));
    show(
        "process_open_fds",
        "gauge",
        "Open file descriptors.",
        descriptors.map(|count| super::float(count as u64)),
    );
}

/// Fields 14 and 15 of proc(5)'s `stat`, counted behind the name, which may hold blanks and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(super::float(user.checked_add(system)?) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(super::float(kib) * 1024.0)
}

/// Linux shows 100 to user space on every platform that Rust's first tier knows.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
