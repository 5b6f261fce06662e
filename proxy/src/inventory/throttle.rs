//! A pace: so many bytes a second, however unevenly they are asked for.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket, kept as the moment at which what was taken will have been paid for.
#[derive(Clone, Debug)]
pub struct Throttle {
    bytes_per_s: u64,
    paid_at: Option<Instant>,
}

impl Throttle {
    /// At most so many bytes a second; 0: no bound.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, paid_at: None }
    }

    /// Takes `bytes` and says how long to wait before going on. What was not used of the last `BURST` may be
    /// used now.
    #[must_use = "whoever takes has to wait"]
    pub fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        let price = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let price = Duration::from_nanos(u64::try_from(price).unwrap_or(u64::MAX).min(PRICE_MAX_NS));
        let unused = now.checked_sub(BURST).unwrap_or(now);
        let begin = self.paid_at.map_or(unused, |paid_at| paid_at.max(unused));
        self.paid_at = Some(begin + price);
        begin.saturating_duration_since(now)
    }

    /// Takes `bytes` and waits.
    pub async fn pace(&mut self, bytes: u64) {
        let wait = self.take(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// A timer is not finer than a millisecond; without some slack it would set the pace.
const BURST: Duration = Duration::from_millis(20);
/// An hour: what no rate that makes sense asks for.
const PRICE_MAX_NS: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Whatever is asked for whenever: over any stretch no more is let through than the rate, a burst and one taking.
        #[test]
        fn the_rate_holds(
            rate in 1_u64..1_000_000_000,
            asked in proptest::collection::vec((0_u64..1_000_000, 0_u64..100_000), 1..200),
        ) {
            let began = Instant::now();
            let mut throttle = Throttle::new(rate);
            let mut now = began;
            let mut given: Vec<(Instant, u64)> = Vec::new();
            for (bytes, idle_us) in asked {
                now += Duration::from_micros(idle_us);
                now += throttle.take(bytes, now);
                given.push((now, bytes));
            }
            for first in 0..given.len() {
                let mut sum = 0;
                for &(at, bytes) in &given[first..] {
                    let stretch = (at - given[first].0 + BURST).as_secs_f64();
                    // Prices are cut to nanoseconds, and one byte each may be lost by that.
                    let slack = (given.len() + 1) as f64 * (1.0 + rate as f64 / 1e9);
                    proptest::prop_assert!(sum as f64 <= rate as f64 * stretch + slack);
                    sum += bytes;
                }
            }
        }

        /// Nobody who asks for less than the rate waits.
        #[test]
        fn less_than_the_rate_passes(rate in 1_000_u64..1_000_000_000, steps in 1_usize..100) {
            let mut throttle = Throttle::new(rate);
            let mut now = Instant::now();
            for _ in 0..steps {
                proptest::prop_assert_eq!(throttle.take(rate / 1_000, now), Duration::ZERO);
                now += Duration::from_millis(1);
            }
        }
    }

    #[test]
    fn no_bound_and_absurd_ones() {
        let now = Instant::now();
        assert_eq!(Throttle::new(0).take(u64::MAX, now), Duration::ZERO);
        let mut slow = Throttle::new(1);
        assert_eq!(slow.take(u64::MAX, now), Duration::ZERO, "the first is not held up");
        assert!(slow.take(1, now) <= Duration::from_nanos(PRICE_MAX_NS));
    }
}
