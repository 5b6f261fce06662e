//! Which life of memcached is behind us: its `stats` say a process number and when it was started.
//!
//! Both together: in a container the number is the same each time. The start is `time` less `uptime`, which memcached
//! keeps by one clock, so it does not change when that memcached is stopped for a while or its machine's time jumps.

/// What `stats` says of a memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    pid: u64,
    started_s: u64,
    /// Items it holds.
    pub items: u64,
}

impl Incarnation {
    /// Reads the lines of an answer to `stats`, `END` or not. None: it says too little.
    pub fn of_stats<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut pid, mut time, mut uptime, mut items) = (None, None, None, None);
        for line in lines {
            let text = std::str::from_utf8(line).ok();
            let Some((name, value)) = text.and_then(|text| text.strip_prefix("STAT ")?.split_once(' '))
            else {
                continue;
            };
            let value: Option<u64> = value.parse().ok();
            match name {
                "pid" => pid = value,
                "time" => time = value,
                "uptime" => uptime = value,
                "curr_items" => items = value,
                _ => {}
            }
        }
        Some(Self { pid: pid?, started_s: time?.saturating_sub(uptime?), items: items? })
    }

    /// Whether this is the same process.
    pub fn is(&self, other: &Self) -> bool {
        (self.pid, self.started_s) == (other.pid, other.started_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(pid: u64, time: u64, uptime: u64) -> Incarnation {
        let text = format!(
            "STAT pid {pid}\nSTAT uptime {uptime}\nSTAT time {time}\nSTAT version 1.6.18\nSTAT curr_items 3\nEND"
        );
        Incarnation::of_stats(text.as_bytes().split(|byte| *byte == b'\n')).unwrap()
    }

    #[test]
    fn a_life_is_a_process_and_its_start() {
        let first = stats(1, 1000, 10);
        assert_eq!(first.items, 3);
        assert!(first.is(&stats(1, 2000, 1010)));
        assert!(!first.is(&stats(2, 1000, 10)));
        assert!(!first.is(&stats(1, 1005, 4)), "a container's next one");
        assert_eq!(Incarnation::of_stats([&b"STAT pid 1"[..], b"END"].into_iter()), None);
    }

    /// It may hold what was written in the moment before it was asked, and has lost all the same what was there before.
    #[test]
    fn one_that_began_after_us_began_empty() {
        use crate::replication::{Bounds, Shared};
        let found = |was_away: bool| {
            let shared = Shared::new("a", 1, Bounds::default());
            if was_away {
                shared.memcached_is_away();
            }
            assert!(!shared.memcached_seen(stats(1, 1000, 10), shared.writes()));
            let warming = shared.lock().warming();
            warming.is_some()
        };
        assert!(!found(false));
        assert!(found(true));
    }

    /// Apps write to a memcached that has started again before anybody has asked who it is. A copy over that makes nothing good
    /// that the giver had lost meanwhile.
    #[test]
    fn one_that_was_written_to_before_it_was_asked_is_touched() {
        use crate::replication::{Begin, Bounds, Effect, Marks, Outcome, Shared};
        let seen = |written: bool| {
            let shared = Shared::new("a", 1, Bounds::default());
            shared.memcached_seen(stats(1, 1000, 10), shared.writes());
            let (writes, empty) = (shared.writes(), Incarnation { items: 0, ..stats(2, 1000, 1) });
            if written {
                let Begin::Granted(slot) = shared.begin(b"k", 1) else { panic!("nobody else is there") };
                let effect = Effect::Item { payload: None, marks: Marks::default() };
                shared.complete(vec![Outcome::Key(slot, effect)], 1_000_000);
            }
            assert!(shared.memcached_seen(empty, writes));
            let replica = shared.lock();
            replica.is_untouched()
        };
        assert!(seen(false));
        assert!(!seen(true));
    }
}
