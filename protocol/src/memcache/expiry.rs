//! Expiry: exptime's readings, turned into an instant on receipt.
//!
//! One number on the wire means four things: 0 never, a negative one gone at once, up to thirty days a distance
//! from now, above that a Unix time. A distance ages while it waits in a backlog, an instant does not; hence
//! [`Expiry`] is what is kept, and what is sent to another memcached is computed when it is sent.
//!
//! memcached counts whole seconds and its clock lags by up to one. Nothing here tries to be finer.

/// The longest exptime that is a distance: thirty days, inclusive.
pub const RELATIVE_MAX_S: i64 = 60 * 60 * 24 * 30;

/// When an item goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// It stays until it is evicted.
    Never,
    /// It goes at this Unix time, in seconds.
    At(u64),
    /// It is gone at once: a store with it leaves nothing.
    Past,
}

impl Expiry {
    /// The reading of a text command's exptime at the time `now_s`.
    pub fn from_exptime(exptime: i64, now_s: u64) -> Self {
        match exptime {
            0 => Self::Never,
            ..0 => Self::Past,
            1..=RELATIVE_MAX_S => Self::At(now_s.saturating_add(exptime.unsigned_abs())),
            _ if exptime.unsigned_abs() <= now_s => Self::Past,
            _ => Self::At(exptime.unsigned_abs()),
        }
    }

    /// The reading of a binary packet's expiration: the same rule, but nothing is negative.
    pub fn from_binary(expiration: u32, now_s: u64) -> Self {
        Self::from_exptime(i64::from(expiration), now_s)
    }

    /// The reading of the TTL that `mg … t` answers: seconds left, -1 for never.
    pub fn from_ttl_left(ttl_s: i64, now_s: u64) -> Self {
        match ttl_s {
            -1 => Self::Never,
            ..=0 => Self::Past,
            _ => Self::At(now_s.saturating_add(ttl_s.unsigned_abs())),
        }
    }

    /// The exptime that makes another memcached drop the item at the same instant, or nothing when it is gone
    /// already (the item is then to be deleted there).
    ///
    /// A distance where one can say it, because the two machines' clocks may differ; at least 1, for 0 would
    /// mean never. Text commands carry 32 signed bits, so an instant beyond 2038 (the binary dialect can name
    /// one) becomes 2038: a cache may forget early, never late.
    pub fn to_exptime(self, now_s: u64) -> Option<i64> {
        match self {
            Self::Never => Some(0),
            Self::Past => None,
            Self::At(at_s) => {
                let at_s = i64::try_from(at_s).unwrap_or(i64::MAX);
                let left_s = at_s.saturating_sub(i64::try_from(now_s).unwrap_or(i64::MAX));
                match left_s {
                    ..=0 => None,
                    1..=RELATIVE_MAX_S => Some(left_s),
                    _ => Some(at_s.min(i64::from(i32::MAX))),
                }
            }
        }
    }

    /// Whether the item is gone at the time `now_s`.
    pub fn is_past(self, now_s: u64) -> bool {
        match self {
            Self::Never => false,
            Self::At(at_s) => at_s <= now_s,
            Self::Past => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    #[test]
    fn the_four_readings() {
        for (exptime, expiry) in [
            (0, Expiry::Never),
            (-1, Expiry::Past),
            (i64::MIN, Expiry::Past),
            (1, Expiry::At(NOW_S + 1)),
            (2_592_000, Expiry::At(NOW_S + 2_592_000)),
            (2_592_001, Expiry::Past),
            (1_800_000_000, Expiry::Past),
            (1_800_000_001, Expiry::At(1_800_000_001)),
        ] {
            assert_eq!(Expiry::from_exptime(exptime, NOW_S), expiry, "{exptime}");
        }
        assert_eq!(
            Expiry::from_binary(u32::MAX, NOW_S),
            Expiry::At(u64::from(u32::MAX)),
            "nothing is negative"
        );
        assert_eq!(Expiry::from_binary(60, NOW_S), Expiry::At(NOW_S + 60));
    }

    #[test]
    fn ttl_left() {
        for (ttl_s, expiry) in
            [(-1, Expiry::Never), (0, Expiry::Past), (-2, Expiry::Past), (5, Expiry::At(NOW_S + 5))]
        {
            assert_eq!(Expiry::from_ttl_left(ttl_s, NOW_S), expiry, "{ttl_s}");
        }
        assert_eq!(Expiry::from_ttl_left(3_000_000, NOW_S), Expiry::At(NOW_S + 3_000_000), "never absolute");
    }

    #[test]
    fn what_is_sent() {
        for (expiry, exptime) in [
            (Expiry::Never, Some(0)),
            (Expiry::Past, None),
            (Expiry::At(NOW_S), None),
            (Expiry::At(NOW_S - 5), None),
            (Expiry::At(NOW_S + 1), Some(1)),
            (Expiry::At(NOW_S + 2_592_000), Some(2_592_000)),
            (Expiry::At(NOW_S + 2_592_001), Some(1_802_592_001)),
            (Expiry::At(u64::from(u32::MAX)), Some(i64::from(i32::MAX))),
            (Expiry::At(u64::MAX), Some(i64::from(i32::MAX))),
        ] {
            assert_eq!(expiry.to_exptime(NOW_S), exptime, "{expiry:?}");
        }
    }

    proptest::proptest! {
        /// A mirror that is told at once makes its item go when ours goes.
        #[test]
        fn what_is_sent_is_read_as_the_same_instant(exptime in i32::MIN.., now_s in 1_500_000_000u64..2_100_000_000) {
            let expiry = Expiry::from_exptime(i64::from(exptime), now_s);
            match expiry.to_exptime(now_s) {
                Some(sent) => proptest::prop_assert_eq!(Expiry::from_exptime(sent, now_s), expiry),
                None => proptest::prop_assert!(expiry.is_past(now_s)),
            }
        }
    }
}
