//! The hybrid logical clock: wall time where it may, one more than the last reading where it must.
//!
//! A stamp is greater than every version this clock gave or was shown, so a write made after another one was
//! *seen* is newer than it, whatever the wall clocks of two sites say. A version from too far in the future is
//! not merged: one bad clock would otherwise win for ever, and drag every other clock along.

use super::version::{COUNTER_BITS, Origin, Version};

/// The clock of one site.
#[derive(Debug)]
pub struct Clock {
    origin: Origin,
    last: u64,
    skew_ms_max: u64,
}

/// A version lies further ahead than `max_clock_skew_ms` and was not merged.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct TooFarAhead;

impl Clock {
    /// The clock of `site`, which believes versions up to `skew_ms_max` ahead of its wall time.
    pub fn new(site: &str, skew_ms_max: u64) -> Self {
        Self { origin: Origin::of(site), last: 0, skew_ms_max }
    }

    /// The site this clock stamps for.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// A version greater than any given or seen before.
    pub fn stamp(&mut self, now_ms: u64) -> Version {
        self.last = (self.last + 1).max(now_ms << COUNTER_BITS);
        Version::new(self.last, self.origin)
    }

    /// The newest time given or seen, as our own.
    pub fn latest(&self) -> Version {
        Version::new(self.last, self.origin)
    }

    /// Whether a version lies further ahead than is believed.
    pub fn is_too_far_ahead(&self, version: Version, now_ms: u64) -> bool {
        version.millis() > now_ms.saturating_add(self.skew_ms_max)
    }

    /// Takes note of a version from elsewhere, so that later stamps are greater.
    pub fn observe(&mut self, version: Version, now_ms: u64) -> Result<(), TooFarAhead> {
        if self.is_too_far_ahead(version, now_ms) {
            return Err(TooFarAhead);
        }
        self.last = self.last.max(version.time());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_far_future_is_not_merged() {
        let mut clock = Clock::new("a", 60_000);
        let far = Version::new(160_001 << COUNTER_BITS, Origin::of("b"));
        assert_eq!(clock.observe(far, 100_000), Err(TooFarAhead));
        assert_eq!(clock.stamp(100_000).millis(), 100_000);
        assert_eq!(clock.observe(far, 100_001), Ok(()));
        assert!(clock.stamp(100_001) > far);
    }

    proptest! {
        #[test]
        fn stamps_rise_over_everything_seen(steps in prop::collection::vec((any::<bool>(), 0_u64..100_000), 1..200)) {
            let mut clock = Clock::new("a", u64::MAX >> COUNTER_BITS);
            let mut greatest = Version::ZERO;
            for (stamp, ms) in steps {
                if stamp {
                    let version = clock.stamp(ms);
                    prop_assert!(version > greatest);
                    prop_assert!(version.millis() >= ms);
                    greatest = version;
                } else {
                    let seen = Version::new(ms << COUNTER_BITS | 7, Origin::of("b"));
                    prop_assert_eq!(clock.observe(seen, ms), Ok(()));
                    greatest = greatest.max(seen);
                }
            }
        }
    }
}
