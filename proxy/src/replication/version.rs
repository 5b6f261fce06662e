//! The order of mutations: a hybrid logical clock reading and the site where it was taken.
//!
//! ```text
//!   63                        20 19       10 9        0
//!   ┌───────────────────────────┬───────────┬──────────┐
//!   │ milliseconds since 1970   │  counter  │   node   │      and, beside it, the origin
//!   └───────────────────────────┴───────────┴──────────┘
//! ```
//!
//! A version says *when* in a clock reading of 64 bits, and *where* in the hash of a site's name. Two mutations never
//! carry the same version, so "newer" has one answer on every site. The reading alone is unique in a shard as well, as
//! long as no two of its sites share a node number (ten bits of the hash): where memcached can be told which CAS an
//! item shall have, the reading is that CAS. Until the year 2248 its highest bit is clear, for clients that read a CAS
//! as a signed number.

use std::fmt;

/// A site, as it appears in versions: 32 bits of its name's hash.
///
/// The hash is a stable function of the name (FNV-1a), because both ends of a link compute it. Two sites of one
/// shard whose names hash alike refuse each other at hello.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Origin(u32);

impl Origin {
    /// The origin of the site with this name.
    pub fn of(site: &str) -> Self {
        let hash =
            site.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME));
        Self(hash)
    }

    /// The hash, for a wire.
    pub const fn hash(self) -> u32 {
        self.0
    }

    /// The origin with this hash.
    pub const fn of_hash(hash: u32) -> Self {
        Self(hash)
    }

    /// What of a site goes into its clock readings: ten bits of the hash.
    pub const fn node(self) -> u16 {
        ((self.0 ^ self.0 >> NODE_BITS ^ self.0 >> (2 * NODE_BITS) ^ self.0 >> (3 * NODE_BITS)) as u16)
            & NODE_MASK
    }
}

/// Where a mutation stands in the order of all mutations of a shard.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Version {
    time: u64,
    origin: Origin,
}

impl Version {
    /// Older than every mutation; what is known of a key that nobody wrote.
    pub const ZERO: Self = Self { time: 0, origin: Origin(0) };

    /// Newer than every mutation.
    pub(super) const MAX: Self = Self { time: u64::MAX, origin: Origin(u32::MAX) };

    /// A version from its two halves; `time` is a clock reading.
    pub const fn new(time: u64, origin: Origin) -> Self {
        Self { time, origin }
    }

    /// The version of a link token: `time` in hexadecimal, and the origin of the site named beside it.
    pub fn from_wire(time_hex: &[u8], origin: Origin) -> Option<Self> {
        if time_hex.is_empty() || time_hex.len() > 16 {
            return None;
        }
        let mut time = 0_u64;
        for byte in time_hex {
            time = time << 4 | u64::from(char::from(*byte).to_digit(16)?);
        }
        Some(Self { time, origin })
    }

    /// The half that goes on the wire as a number; the site's name goes beside it.
    pub fn to_wire(self) -> WireTime {
        WireTime(self.time)
    }

    /// The raw clock reading.
    pub const fn time(self) -> u64 {
        self.time
    }

    /// The site that stamped it.
    pub const fn origin(self) -> Origin {
        self.origin
    }

    /// Milliseconds since the Unix epoch, by the clock of its site.
    pub const fn millis(self) -> u64 {
        self.time >> BELOW_MILLIS_BITS
    }

    /// Whether a CAS can be a clock reading, and not the number of a server's own counter.
    pub const fn is_reading(cas: u64) -> bool {
        LEAST_READING <= cas && cas < 1 << 63
    }

    /// A version this much later, of the same site.
    pub(super) const fn later_by(self, ms: u64) -> Self {
        Self { time: self.time.saturating_add(ms << BELOW_MILLIS_BITS), origin: self.origin }
    }

    /// A version this much earlier, of the same site.
    pub(super) const fn earlier_by(self, ms: u64) -> Self {
        Self { time: self.time.saturating_sub(ms << BELOW_MILLIS_BITS), origin: self.origin }
    }

    /// A version just older than any with this clock reading.
    pub(super) const fn before(self) -> Self {
        Self { time: self.time.saturating_sub(1), origin: Origin(u32::MAX) }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}@{:x}", self.time, self.origin.0)
    }
}

/// A clock reading as it is written in a tag: hexadecimal, without leading zeros.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct WireTime(u64);

impl fmt::Display for WireTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

const NODE_BITS: u32 = 10;
const COUNTER_BITS: u32 = 10;
const NODE_MASK: u16 = (1 << NODE_BITS) - 1;
/// A clock reading shifted right by these is in milliseconds.
pub(super) const BELOW_MILLIS_BITS: u32 = COUNTER_BITS + NODE_BITS;
/// No clock of a site is set to before 2020, and no counter of a server comes as far as that.
const LEAST_READING: u64 = 1_577_836_800_000 << BELOW_MILLIS_BITS;
/// What a reading grows by from one stamp of a site to the next at least.
pub(super) const STEP: u64 = 1 << NODE_BITS;
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn origins_are_the_published_hash() {
        // FNV-1a's own test vectors: the function is part of the wire format.
        assert_eq!(Origin::of(""), Origin(0x811c_9dc5));
        assert_eq!(Origin::of("a"), Origin(0xe40c_292c));
        assert_eq!(Origin::of("foobar"), Origin(0xbf9c_f968));
        assert_eq!(
            [Origin::of(""), Origin::of("a"), Origin::of("b")].map(Origin::node),
            [0x2f1, 0x065, 0x09d]
        );
    }

    #[test]
    fn readings_of_our_time_are_positive_as_signed_numbers() {
        let year_2247 = 8_741_000_000_000_u64;
        assert!(year_2247 << BELOW_MILLIS_BITS < 1 << 63);
        assert_eq!(Version::new(year_2247 << BELOW_MILLIS_BITS | 0xf_ffff, Origin(7)).millis(), year_2247);
    }

    #[test]
    fn the_wire_form_is_strict() {
        let a = Origin::of("a");
        assert_eq!(Version::from_wire(b"", a), None);
        assert_eq!(Version::from_wire(b"+1", a), None);
        assert_eq!(Version::from_wire(b"12345678901234567", a), None);
        assert_eq!(Version::from_wire(b"fF", a), Some(Version::new(255, a)));
    }

    proptest! {
        #[test]
        fn the_wire_form_round_trips(time: u64, site in "[a-z]{1,8}") {
            let version = Version::new(time, Origin::of(&site));
            let text = version.to_wire().to_string();
            prop_assert_eq!(Version::from_wire(text.as_bytes(), Origin::of(&site)), Some(version));
        }

        #[test]
        fn before_is_below_every_origin(time in 1_u64.., site in "[a-z]{1,8}") {
            let version = Version::new(time, Origin::of(&site));
            prop_assert!(version.before() < Version::new(time, Origin(0)));
            prop_assert!(version.before() >= Version::new(time - 1, Origin::of(&site)));
        }
    }
}
