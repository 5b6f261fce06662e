//! The hybrid logical clock: wall time where it may, one more than the last reading where it must.
//!
//! A stamp is greater than every version this clock gave or was shown, so a write made after another one was
//! *seen* is newer than it, whatever the wall clocks of two sites say. A version from too far in the future is
//! not merged: one bad clock would otherwise win for ever, and drag every other clock along.
//!
//! The lowest bits of a stamp are the site's node number, so no two sites give the same reading.

use super::version::{BELOW_MILLIS_BITS, Origin, STEP, Version};

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
    /// From now on it believes versions so far ahead.
    pub(super) fn believe(&mut self, skew_ms_max: u64) {
        self.skew_ms_max = skew_ms_max;
    }

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
        let least = (self.last + 1).max(now_ms << BELOW_MILLIS_BITS);
        let ours = least & !(STEP - 1) | u64::from(self.origin.node());
        self.last = if ours < least { ours + STEP } else { ours };
        Version::new(self.last, self.origin)
    }

    /// The newest time given or seen, as our own.
    pub fn latest(&self) -> Version {
        Version::new(self.last, self.origin)
    }

    /// A time that no later stamp is older than.
    pub fn time(&self, now_ms: u64) -> u64 {
        self.last.max(now_ms << BELOW_MILLIS_BITS)
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
        let far = Version::new(160_001 << BELOW_MILLIS_BITS, Origin::of("b"));
        assert_eq!(clock.observe(far, 100_000), Err(TooFarAhead));
        assert_eq!(clock.stamp(100_000).millis(), 100_000);
        assert_eq!(clock.observe(far, 100_001), Ok(()));
        assert!(clock.stamp(100_001) > far);
    }

    #[test]
    fn a_stamp_is_the_smallest_reading_of_its_site_above_all_that_was_seen() {
        let (mut clock, node) = (Clock::new("a", 60_000), u64::from(Origin::of("a").node()));
        let (now_ms, base) = (100_000, 100_000 << BELOW_MILLIS_BITS);
        assert_eq!(clock.stamp(now_ms).time(), base | node);
        for (seen, next) in [(base | node, STEP), (base + STEP, STEP), (base + STEP + node + 1, 2 * STEP)] {
            let mut clock = Clock::new("a", 60_000);
            clock.observe(Version::new(seen, Origin::of("b")), now_ms).unwrap();
            assert_eq!(clock.stamp(now_ms).time(), (base + next) | node);
        }
        // More than a thousand in a millisecond borrow from the next one.
        let last = (0..2000).map(|_| clock.stamp(now_ms)).last();
        assert_eq!(last.map(Version::millis), Some(now_ms + 1));
    }

    #[test]
    fn no_two_sites_give_one_reading() {
        let mut clocks = ["a", "b", "c"].map(|site| Clock::new(site, 60_000));
        let mut readings = std::collections::HashSet::new();
        for now_ms in [5, 5, 5, 4, 6] {
            for clock in &mut clocks {
                assert!(readings.insert(clock.stamp(now_ms).time()));
            }
        }
    }

    proptest! {
        #[test]
        fn stamps_rise_over_everything_seen(steps in prop::collection::vec((any::<bool>(), 0_u64..100_000, 0_u64..1 << 20), 1..200)) {
            let mut clock = Clock::new("a", u64::MAX >> BELOW_MILLIS_BITS);
            let mut greatest = Version::ZERO;
            for (stamp, ms, low) in steps {
                if stamp {
                    let version = clock.stamp(ms);
                    prop_assert!(version > greatest);
                    prop_assert!(version.millis() >= ms);
                    prop_assert_eq!(version.time() % STEP, u64::from(Origin::of("a").node()));
                    greatest = version;
                } else {
                    let seen = Version::new(ms << BELOW_MILLIS_BITS | low, Origin::of("b"));
                    prop_assert_eq!(clock.observe(seen, ms), Ok(()));
                    greatest = greatest.max(seen);
                }
            }
        }
    }
}
