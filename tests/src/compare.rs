//! Item-by-item comparison of memcacheds, asked directly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::memcached::Memcached;
use crate::wait::eventually;

/// An item as memcached holds it. Items are equal whatever their CAS.
#[derive(Clone)]
pub struct Item {
    pub value: Vec<u8>,
    pub flags: u32,
    /// Seconds left; -1 is for ever.
    pub ttl: i64,
    /// Marked stale by `md I`.
    pub stale: bool,
    /// Told of what differs: the version, where versions are the CAS.
    pub cas: u64,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        same(self, other, 0)
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.value[..self.value.len().min(40)];
        write!(
            f,
            "{} B \"{}\" flags {} ttl {} cas {}",
            self.value.len(),
            start.escape_ascii(),
            self.flags,
            self.ttl,
            self.cas
        )?;
        if self.stale { write!(f, " stale") } else { Ok(()) }
    }
}

/// A key that is not the same everywhere: what each site holds.
#[derive(Clone)]
pub struct Difference {
    pub key: Vec<u8>,
    pub items: Vec<Option<Item>>,
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.key.escape_ascii(), self.items)
    }
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Keys looked at that at least one site holds.
    pub held: usize,
    pub different: Vec<Difference>,
    /// On some sites only, although it does not expire just now.
    pub one_sided: Vec<Difference>,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.different.is_empty() && self.one_sided.is_empty()
    }
}

/// Compares all keys that any of the memcacheds holds.
pub fn compare(memcacheds: &[&Memcached]) -> Comparison {
    compare_within(memcacheds, TTL_TOLERANCE)
}

/// The same; expiries may be so many seconds apart.
pub fn compare_within(memcacheds: &[&Memcached], seconds: i64) -> Comparison {
    let keys: BTreeSet<Vec<u8>> = memcacheds.iter().flat_map(|memcached| keys(memcached)).collect();
    let mut keys: Vec<Vec<u8>> = keys.into_iter().collect();
    let shots: Vec<_> = memcacheds.iter().map(|memcached| items(memcached, &keys)).collect();
    keys.retain(|key| shots.iter().any(|shot| shot.contains_key(key)));
    let mut result = Comparison { held: keys.len(), ..Comparison::default() };
    for key in keys {
        let items: Vec<Option<Item>> = shots.iter().map(|shot| shot.get(&key).cloned()).collect();
        let present: Vec<&Item> = items.iter().flatten().collect();
        let expiring = present.iter().all(|item| (0..=seconds).contains(&item.ttl));
        let equal = present.windows(2).all(|pair| same(pair[0], pair[1], seconds));
        if present.len() < items.len() && !expiring {
            result.one_sided.push(Difference { key, items });
        } else if !equal {
            result.different.push(Difference { key, items });
        }
    }
    result
}

fn same(one: &Item, other: &Item, seconds: i64) -> bool {
    let lasting = (one.ttl == -1) == (other.ttl == -1);
    let close = lasting && (one.ttl - other.ttl).abs() <= seconds;
    close && one.value == other.value && one.flags == other.flags && one.stale == other.stale
}

/// All keys of a memcached, by its own dump.
pub fn keys(memcached: &Memcached) -> Vec<Vec<u8>> {
    let text = eventually("the crawler is free", Duration::from_secs(10), || {
        let mut client = memcached.client();
        client.send("lru_crawler metadump hash\r\n").unwrap();
        let mut text = Vec::new();
        loop {
            let line = client.until(b"\n").expect("a line of a dump");
            match line.split(|&byte| byte.is_ascii_whitespace()).next() {
                // A dump's keys are after `key=`, so no key looks like an end.
                Some(b"END") => return Some(text),
                // Newer servers: while the hash table grows, and after an `OK`.
                Some(b"BUSY" | b"ERROR") => return None,
                _ => text.extend(line),
            }
        }
    });
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"key="));
    lines.map(|line| unescape(line.split(|&byte| byte == b' ').next().unwrap_or_default())).collect()
}

/// Undoes the dump's URI encoding.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Reads `keys`; those that are not there are left out.
pub fn items(memcached: &Memcached, keys: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Item> {
    let mut client = memcached.client();
    let mut found = BTreeMap::new();
    for batch in keys.chunks(100) {
        let requests = batch.iter().flat_map(|key| request(key));
        client.send(requests.collect::<Vec<u8>>()).unwrap();
        for key in batch {
            let line = client.line().expect("an answer to mg");
            let mut tokens = line.split_whitespace();
            if tokens.next() != Some("VA") {
                assert!(line.starts_with("EN"), "{}: {line}", key.escape_ascii());
                continue;
            }
            let length: usize = tokens.next().and_then(|text| text.parse().ok()).expect("a length");
            let value = client.take(length + 2).unwrap();
            let mut item = Item { value, flags: 0, ttl: 0, stale: false, cas: 0 };
            item.value.truncate(length);
            for token in tokens {
                match token.split_at(1) {
                    ("t", ttl) => item.ttl = ttl.parse().unwrap(),
                    ("f", flags) => item.flags = flags.parse().unwrap(),
                    ("c", cas) => item.cas = cas.parse().unwrap(),
                    ("X", _) => item.stale = true,
                    _ => {}
                }
            }
            found.insert(key.clone(), item);
        }
    }
    found
}

/// Base64 only where a text line cannot carry the key: memcached bounds the encoded form by 250 bytes as well.
fn request(key: &[u8]) -> Vec<u8> {
    let plain = key.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    let (name, flag) = if plain { (key.to_vec(), "") } else { (base64(key).into_bytes(), " b") };
    [b"mg ", name.as_slice(), flag.as_bytes(), b" t f c v u\r\n"].concat()
}

/// Standard base64 with padding, as meta commands take it for keys.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// Seconds by which two sites may disagree: each memcached counts whole seconds, late by up to one.
const TTL_TOLERANCE: i64 = 2;
