//! What a random request is about: key, value, flags, expiry.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Dialect;
use crate::random::Rng;

/// A limited key space: counters first, then plain keys, then keys that no text line can carry.
#[derive(Clone, Debug)]
pub struct Space {
    keys: Arc<Vec<Vec<u8>>>,
    counters: usize,
    raw: usize,
}

impl Space {
    pub fn new(plain: usize, counters: usize, raw: usize) -> Self {
        let names = (0..counters).map(|number| format!("counter:{number}").into_bytes());
        let plain_names = (0..plain).map(|number| match number % 50 {
            // Some as long as a key may be.
            7 => format!("long:{number}:{}", "k".repeat(230)).into_bytes(),
            _ => format!("key:{number}").into_bytes(),
        });
        let raw_names =
            (0..raw).map(|number| [b"raw \0\x01\xff".as_slice(), number.to_string().as_bytes()].concat());
        Self { keys: Arc::new(names.chain(plain_names).chain(raw_names).collect()), counters, raw }
    }

    /// An index; keys that no classic line can carry only for the others.
    pub fn pick(&self, rng: &mut Rng, dialect: Dialect) -> usize {
        let usable = if dialect == Dialect::Classic { self.keys.len() - self.raw } else { self.keys.len() };
        // A few keys are hot: there the two sides meet most.
        let bound = if rng.chance(20) { usable.min(10) } else { usable };
        rng.below(bound as u64) as usize
    }

    pub fn key(&self, index: usize) -> &[u8] {
        &self.keys[index]
    }

    pub fn is_counter(&self, index: usize) -> bool {
        index < self.counters
    }

    pub fn is_raw(&self, index: usize) -> bool {
        index >= self.keys.len() - self.raw
    }

    /// The index of a key.
    pub fn index(&self, key: &[u8]) -> Option<usize> {
        self.keys.iter().position(|known| known == key)
    }
}

/// A value: a number for counters, else letters, often short, sometimes empty.
pub(super) fn value(space: &Space, key: usize, rng: &mut Rng, largest: u64) -> Vec<u8> {
    if space.is_counter(key) && rng.chance(90) {
        let number = if rng.chance(5) { u64::MAX - rng.below(5) } else { rng.below(2000) };
        return number.to_string().into_bytes();
    }
    let length = match rng.below(100) {
        0..10 => 0,
        10..65 => rng.between(1, 100),
        65..88 => rng.between(100, 2000),
        _ => rng.between(2000, 9216),
    };
    rng.letters(length.min(largest) as usize)
}

/// A short piece, for `append` and its kin.
pub(super) fn piece(space: &Space, key: usize, rng: &mut Rng) -> Vec<u8> {
    if space.is_counter(key) {
        b"1".to_vec()
    } else {
        let length = rng.below(60) as usize;
        rng.letters(length)
    }
}

pub(super) fn flags(rng: &mut Rng) -> u32 {
    match rng.below(10) {
        0..6 => 0,
        6..9 => rng.below(1000) as u32,
        _ => rng.draw() as u32,
    }
}

/// Exptime in all its readings: never, expired at once, relative, the thirty-day limit, absolute, absolute and past.
pub(super) fn exptime(rng: &mut Rng) -> i64 {
    match rng.below(100) {
        0..45 => 0,
        45..65 => rng.between(100, 5000) as i64,
        65..75 => rng.between(1, 4) as i64,
        75..80 => -(rng.between(1, 100) as i64),
        80..86 => THIRTY_DAYS,
        86..88 => THIRTY_DAYS + 1,
        88..96 => now() + rng.between(200, 5000) as i64,
        96..98 => now() + THIRTY_DAYS * 2,
        _ => now() - rng.between(1, 1000) as i64,
    }
}

/// The same for the binary dialect, which has no negative one.
pub(super) fn exptime_unsigned(rng: &mut Rng) -> u32 {
    u32::try_from(exptime(rng)).unwrap_or(1)
}

pub(super) fn delta(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0 => 0,
        1 => u64::MAX - rng.below(3),
        _ => rng.between(1, 500),
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs() as i64)
}

const THIRTY_DAYS: i64 = 30 * 24 * 3600;
