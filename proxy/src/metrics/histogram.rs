//! The durations of requests in fixed buckets, doubling from 8 µs to 17 s.
//!
//! Not the exporter's histogram: that one keeps every sample until the next scrape, eight bytes for each request
//! and a list that all workers push to. Here a sample is one addition, and the bucket is found by counting zeros.
//! Doubling keeps any quantile within a factor of two, which dashboards of latencies are read with anyway.

use std::fmt::Write as _;

/// Finite buckets and one for all that is longer.
pub(super) const BUCKETS: usize = (LAST_POWER - FIRST_POWER + 2) as usize;

/// The bucket of a duration: the first whose bound is not less.
pub(super) fn bucket_of(us: u64) -> usize {
    let power = u64::BITS - us.saturating_sub(1).leading_zeros();
    (power.clamp(FIRST_POWER, LAST_POWER + 1) - FIRST_POWER) as usize
}

/// Buckets as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Snapshot {
    /// Adds the buckets of one worker.
    pub(super) fn add(&mut self, counts: impl Iterator<Item = u64>, sum_us: u64) {
        for (total, count) in self.counts.iter_mut().zip(counts) {
            *total += count;
        }
        self.sum_us = self.sum_us.saturating_add(sum_us);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Prometheus text, each bucket with all below it.
    pub(super) fn render(&self, name: &str, help: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            let _ = match index + 1 {
                BUCKETS => writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {below}"),
                _ => writeln!(
                    out,
                    "{name}_bucket{{le=\"{}\"}} {below}",
                    seconds(1 << (FIRST_POWER as usize + index))
                ),
            };
        }
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {below}", seconds(self.sum_us));
    }
}

#[allow(clippy::cast_precision_loss, reason = "a sum of 2^53 µs is 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// 8 µs: nothing passes through two sockets in less.
const FIRST_POWER: u32 = 3;
/// 16.8 s: beyond the default of every time-out.
const LAST_POWER: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        for (us, bucket) in
            [(0, 0), (1, 0), (8, 0), (9, 1), (16, 1), (17, 2), (1 << 24, 21), ((1 << 24) + 1, 22)]
        {
            assert_eq!(bucket_of(us), bucket, "{us}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut counts = [0; BUCKETS];
        (counts[0], counts[1], counts[BUCKETS - 1]) = (2, 3, 1);
        let mut snapshot = Snapshot::default();
        snapshot.add(counts.into_iter(), 20_000_055);
        let mut text = String::new();
        snapshot.render("d", "h", &mut text);
        assert!(text.starts_with(
            "# HELP d h\n# TYPE d histogram\nd_bucket{le=\"0.000008\"} 2\nd_bucket{le=\"0.000016\"} 5\n"
        ));
        assert!(
            text.ends_with(
                "d_bucket{le=\"16.777216\"} 5\nd_bucket{le=\"+Inf\"} 6\nd_sum 20.000055\nd_count 6\n"
            ),
            "{text}"
        );
    }
}
