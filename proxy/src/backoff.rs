//! How long to wait before the next attempt: doubling, with jitter, bounded.

use std::time::Duration;

use crate::chance::chance;

/// Delays that grow from a least to a greatest one.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    greatest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `least`, never exceeds `greatest`.
    #[must_use]
    pub fn new(least: Duration, greatest: Duration) -> Self {
        Self { least, greatest, next: least }
    }

    /// Half of the current delay for certain, the other half by chance; then doubles.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.greatest);
        let share = u32::try_from(chance() % 1024).unwrap_or(0);
        delay / 2 + delay / 2 * share / 1024
    }

    /// The attempt succeeded: the next failure starts over.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        for bound in [10, 20, 40, 80, 100, 100] {
            let delay = backoff.next_delay();
            assert!(
                delay <= Duration::from_millis(bound) && delay >= Duration::from_millis(bound / 2),
                "{delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(10));
    }
}
