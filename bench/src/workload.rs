//! What is asked: keys, values, the mix, and how a request looks on the wire.
//!
//! A value says which key it belongs to: its first 32 bytes are the key, its length and its flags follow from the
//! key's number. So a reply can be checked without remembering what was stored.

use std::io::Write;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::reply::{Expected, Kind};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    Text,
    Meta,
}

#[derive(Debug)]
pub(crate) struct Workload {
    keys: Vec<[u8; KEY_BYTES]>,
    value_bytes: Vec<u32>,
    dialect: Dialect,
    order: Order,
    gets_percent: u64,
    multiget: u32,
    filler: Vec<u8>,
}

#[derive(Debug)]
enum Order {
    /// Every key in turn: to load the store.
    InTurn { next: u32 },
    /// Any key, each as likely as its share of `table`.
    Random { state: u64, table: Vec<u32> },
}

impl Workload {
    /// Sets each key in turn.
    pub(crate) fn filling(keys: u32, sizes: &Sizes, dialect: Dialect) -> Self {
        let value_bytes: Vec<u32> = (0..keys).map(|key| sizes.of(key)).collect();
        let largest = value_bytes.iter().max().map_or(0, |&bytes| bytes as usize);
        Self {
            keys: (0..keys).map(key_text).collect(),
            value_bytes,
            dialect,
            order: Order::InTurn { next: 0 },
            gets_percent: 0,
            multiget: 1,
            filler: (b'a'..=b'z').cycle().take(largest).collect(),
        }
    }

    /// The same keys, mixed at random.
    pub(crate) fn mixed(mut self, gets_percent: u8, multiget: u32, zipf: f64, seed: u64) -> Self {
        let table = if zipf > 0.0 { zipf_table(self.keys.len(), zipf) } else { Vec::new() };
        self.order = Order::Random { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, table };
        self.gets_percent = gets_percent.into();
        self.multiget = multiget;
        self
    }

    /// Chooses the next request, appends it to `out` and says what must come back.
    pub(crate) fn encode_next(&mut self, out: &mut Vec<u8>, due_ns: u64) -> Expected {
        let (key, is_get) = self.choose();
        let kind = match (self.dialect, is_get) {
            (Dialect::Text, true) => Kind::TextGet,
            (Dialect::Text, false) => Kind::TextSet,
            (Dialect::Meta, true) => Kind::MetaGet,
            (Dialect::Meta, false) => Kind::MetaSet,
        };
        let keys = if is_get { self.multiget } else { 1 };
        match kind {
            Kind::TextGet => self.encode_get(out, key, keys),
            Kind::MetaGet => {
                out.extend_from_slice(b"mg ");
                out.extend_from_slice(self.key(key));
                out.extend_from_slice(b" k f v\r\n");
            }
            Kind::TextSet | Kind::MetaSet => self.encode_set(out, key, kind),
        }
        Expected { kind, key, keys, due_ns }
    }

    pub(crate) fn key(&self, key: u32) -> &[u8; KEY_BYTES] {
        &self.keys[key as usize]
    }

    pub(crate) fn key_after(&self, key: u32) -> u32 {
        if key as usize + 1 == self.keys.len() { 0 } else { key + 1 }
    }

    pub(crate) fn value_bytes(&self, key: u32) -> usize {
        self.value_bytes[key as usize] as usize
    }

    /// The part of a value that is checked.
    pub(crate) fn first_bytes(&self, key: u32) -> &[u8] {
        &self.key(key)[..self.value_bytes(key).min(KEY_BYTES)]
    }

    /// The number stored with a key's value, different for neighbours.
    pub(crate) fn flags(key: u32) -> u32 {
        key % 60_000
    }

    fn choose(&mut self) -> (u32, bool) {
        let keys = self.keys.len() as u64;
        match &mut self.order {
            Order::InTurn { next } => {
                let key = *next;
                *next = if u64::from(key) + 1 == keys { 0 } else { key + 1 };
                (key, false)
            }
            Order::Random { state, table } => {
                // xorshift64: the upper half is even enough to choose keys by.
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let (high, low) = (*state >> 32, *state & 0xFFFF);
                let key = match table.len() as u64 {
                    0 => (high * keys) >> 32,
                    entries => table[((high * entries) >> 32) as usize].into(),
                };
                (u32::try_from(key).unwrap_or(0), (low * 100) >> 16 < self.gets_percent)
            }
        }
    }

    fn encode_get(&self, out: &mut Vec<u8>, first: u32, keys: u32) {
        out.extend_from_slice(b"get");
        let mut key = first;
        for _ in 0..keys {
            out.push(b' ');
            out.extend_from_slice(self.key(key));
            key = self.key_after(key);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn encode_set(&self, out: &mut Vec<u8>, key: u32, kind: Kind) {
        let (bytes, flags) = (self.value_bytes(key), Self::flags(key));
        let meta = kind == Kind::MetaSet;
        out.extend_from_slice(if meta { b"ms " } else { b"set " });
        out.extend_from_slice(self.key(key));
        let written =
            if meta { write!(out, " {bytes} F{flags} k\r\n") } else { write!(out, " {flags} 0 {bytes}\r\n") };
        debug_assert!(written.is_ok(), "writing to a Vec does not fail");
        let first = self.first_bytes(key);
        out.extend_from_slice(first);
        out.extend_from_slice(&self.filler[first.len()..bytes]);
        out.extend_from_slice(b"\r\n");
    }
}

/// Value sizes by weight.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    by_weight: Vec<(u32, u32)>,
    total: u32,
}

impl Sizes {
    /// The size of a key's value: always the same, spread over the keys by weight.
    fn of(&self, key: u32) -> u32 {
        let mut place = (key.wrapping_mul(2_654_435_761) >> 8) % self.total;
        for &(bytes, weight) in &self.by_weight {
            if place < weight {
                return bytes;
            }
            place -= weight;
        }
        0
    }
}

impl std::str::FromStr for Sizes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut by_weight = Vec::new();
        for part in text.split(',') {
            let (bytes, weight) = part.split_once(':').unwrap_or((part, "1"));
            let bytes: u32 = bytes.parse().context("expected a size in bytes")?;
            let weight: u32 = weight.parse().context("expected a weight after :")?;
            ensure!(bytes <= VALUE_BYTES_MAX, "a value is at most {VALUE_BYTES_MAX} bytes");
            ensure!((1..=1_000_000).contains(&weight), "a weight is between 1 and a million");
            by_weight.push((bytes, weight));
        }
        ensure!(by_weight.len() <= 100, "at most 100 sizes");
        let total = by_weight.iter().map(|&(_, weight)| weight).sum();
        Ok(Self { by_weight, total })
    }
}

fn key_text(key: u32) -> [u8; KEY_BYTES] {
    let mut text = *b"memcloud-bench:00000000000000000";
    let mut rest = key;
    for digit in text.iter_mut().rev().take(10) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    text
}

/// Key numbers, each as often as Zipf's law gives it a share: a draw is one look-up.
fn zipf_table(keys: usize, exponent: f64) -> Vec<u32> {
    #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^52")]
    let weights: Vec<f64> = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let (mut table, mut key, mut passed) = (Vec::with_capacity(ZIPF_ENTRIES), 0, weights[0]);
    for entry in 0..ZIPF_ENTRIES {
        #[expect(clippy::cast_precision_loss, reason = "entries are few")]
        let place = (entry as f64 + 0.5) / ZIPF_ENTRIES as f64 * total;
        while passed < place && key + 1 < keys {
            key += 1;
            passed += weights[key];
        }
        table.push(u32::try_from(key).unwrap_or(0));
    }
    table
}

pub(crate) const KEY_BYTES: usize = 32;
const VALUE_BYTES_MAX: u32 = 64 << 20;
const ZIPF_ENTRIES: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Sizes {
        text.parse().unwrap()
    }

    #[test]
    fn filling_sets_each_key_once_in_turn() {
        let mut workload = Workload::filling(3, &sizes("40"), Dialect::Text);
        let mut out = Vec::new();
        let asked: Vec<u32> = (0..4).map(|_| workload.encode_next(&mut out, 0).key).collect();
        assert_eq!(asked, [0, 1, 2, 0]);
        let first =
            b"set memcloud-bench:00000000000000000 0 0 40\r\nmemcloud-bench:00000000000000000ghijklmn\r\n";
        assert!(out.starts_with(first), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn a_multiget_goes_round_at_the_end_of_the_keys() {
        let workload = Workload::filling(3, &sizes("1"), Dialect::Text);
        let mut out = Vec::new();
        workload.encode_get(&mut out, 2, 2);
        assert_eq!(out, b"get memcloud-bench:00000000000000002 memcloud-bench:00000000000000000\r\n");
    }

    #[test]
    fn the_mix_is_near_what_was_asked() {
        let mut workload = Workload::filling(100, &sizes("10"), Dialect::Meta).mixed(90, 1, 0.0, 7);
        let (mut out, mut gets, mut seen) = (Vec::new(), 0, [0_u32; 100]);
        for _ in 0..20_000 {
            out.clear();
            let expected = workload.encode_next(&mut out, 0);
            gets += u32::from(expected.kind == Kind::MetaGet);
            seen[expected.key as usize] += 1;
        }
        assert!((17_700..18_300).contains(&gets), "{gets}");
        assert!(seen.iter().all(|&times| (120..300).contains(&times)), "{seen:?}");
    }

    #[test]
    fn zipf_prefers_the_first_keys() {
        let table = zipf_table(1_000, 1.0);
        let share = |key| table.iter().filter(|&&entry| entry == key).count();
        let (first, second) = (share(0), share(1));
        assert!(first > ZIPF_ENTRIES / 10 && (first / 2).abs_diff(second) <= 2, "{first} {second}");
        assert!(share(999) > 0);
    }

    #[test]
    fn sizes_follow_their_weights_and_bad_ones_are_refused() {
        let mixed = sizes("100:9,1024:1");
        let large = (0..10_000).filter(|&key| mixed.of(key) == 1024).count();
        assert!((900..1_100).contains(&large), "{large}");
        for bad in ["", "x", "100:0", "100:x", "999999999999", "67108865"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }
}
