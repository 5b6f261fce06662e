//! A model of stock memcached: items with flags, expiry and CAS, stale and win marks, in all three dialects.
//!
//! It is as exact as a proxy and its apps can see: what 1.6.18 answers, and how it frames what is ill-formed; or 1.6.38,
//! which can be told the CAS of an item. It has no memory limit, hence evicts only when told to; and no LRU. One call
//! is one read of a socket: requests are carried out in the order in which they came, and answered at once.

mod binary;
mod meta;
mod text;

use std::collections::BTreeMap;

use crate::network::End;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) value: Vec<u8>,
    pub(crate) flags: u32,
    /// In its own seconds since 1970; 0 is never.
    pub(crate) expires: u64,
    pub(crate) cas: u64,
    pub(crate) stale: bool,
    pub(crate) won: bool,
}

/// What a store does when there is, or is not, an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// What came of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Yes(u64),
    No,
    Exists,
    NotFound,
}

/// Which memcached it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// 1.6.18, of Debian 12.
    Old,
    /// 1.6.38: a meta command may say which CAS its item shall have (flag `E`).
    New,
}

impl Server {
    fn version(self) -> &'static str {
        match self {
            Self::Old => "1.6.18",
            Self::New => "1.6.38",
        }
    }
}

#[derive(Debug, Default)]
struct Connection {
    input: Vec<u8>,
    /// The first byte has decided.
    is_binary: Option<bool>,
}

#[derive(Debug)]
pub(crate) struct Memcached {
    server: Server,
    items: BTreeMap<Vec<u8>, Item>,
    connections: BTreeMap<End, Connection>,
    cas: u64,
    pid: u32,
    started_s: u64,
    now_s: u64,
    now_ms: u64,
    flush_at_s: Option<u64>,
    /// Requests carried out, by their first word.
    pub(crate) flushes: u64,
}

/// What an answer is made of, and whether the connection ends behind it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) close: bool,
}

impl Answer {
    fn line(&mut self, line: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(line.as_ref());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

impl Memcached {
    pub(crate) fn new(server: Server, pid: u32, now_ms: u64) -> Self {
        let now_s = now_ms / 1000;
        Self {
            server,
            items: BTreeMap::new(),
            connections: BTreeMap::new(),
            cas: 0,
            pid,
            started_s: now_s,
            now_s,
            now_ms,
            flush_at_s: None,
            flushes: 0,
        }
    }

    pub(crate) fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.now_s = now_ms / 1000;
        if self.flush_at_s.is_some_and(|at| at <= self.now_s) {
            self.flush_at_s = None;
            self.items.clear();
        }
    }

    pub(crate) fn accept(&mut self, end: End) {
        self.connections.insert(end, Connection::default());
    }

    pub(crate) fn closed(&mut self, end: End) {
        self.connections.remove(&end);
    }

    pub(crate) fn connections(&self) -> Vec<End> {
        self.connections.keys().copied().collect()
    }

    pub(crate) fn read(&mut self, end: End, bytes: &[u8]) -> Answer {
        let mut answer = Answer::default();
        if bytes.is_empty() {
            return answer;
        }
        let Some(mut connection) = self.connections.remove(&end) else { return answer };
        connection.input.extend_from_slice(bytes);
        let first = connection.input[0];
        let is_binary = *connection.is_binary.get_or_insert(first == 0x80);
        let mut used = 0;
        while !answer.close && used < connection.input.len() {
            let rest = &connection.input[used..];
            let step = if is_binary { self.packet(rest, &mut answer) } else { self.line(rest, &mut answer) };
            match step {
                Some(len) => used += len,
                None => break,
            }
        }
        connection.input.drain(..used);
        self.connections.insert(end, connection);
        answer
    }

    /// Living items, with the milliseconds they have left.
    pub(crate) fn living(&self) -> BTreeMap<Vec<u8>, (Item, Option<u64>)> {
        let living = self.items.iter().filter(|(_, item)| self.lives(item));
        let left = |item: &Item| (item.expires > 0).then(|| item.expires * 1000 - self.now_ms);
        living.map(|(key, item)| (key.clone(), (item.clone(), left(item)))).collect()
    }

    /// Its memory is full.
    pub(crate) fn evict(&mut self, key: &[u8]) -> bool {
        self.items.remove(key).is_some()
    }

    // ---- what all dialects share

    fn lives(&self, item: &Item) -> bool {
        item.expires == 0 || item.expires > self.now_s
    }

    fn find(&mut self, key: &[u8]) -> Option<&mut Item> {
        let now_s = self.now_s;
        if self.items.get(key).is_some_and(|item| item.expires != 0 && item.expires <= now_s) {
            self.items.remove(key);
        }
        self.items.get_mut(key)
    }

    fn next_cas(&mut self) -> u64 {
        self.cas += 1;
        self.cas
    }

    /// An exptime of a request as an instant; in the past if it is negative.
    fn instant(&self, exptime: i64) -> u64 {
        match exptime {
            0 => 0,
            ..0 => 1,
            1..=MONTH_S => self.now_s + exptime as u64,
            _ => exptime as u64,
        }
    }

    /// The CAS of `new` is what it shall have; 0: the next of the counter.
    fn store(&mut self, key: &[u8], mode: Mode, compare: u64, new: Item) -> Stored {
        let told = new.cas;
        let held = self.find(key).cloned();
        if new.value.len() > ITEM_MAX {
            // The caller has asked first.
            return Stored::No;
        }
        match &held {
            None if compare != 0 => return Stored::NotFound,
            Some(held) if compare != 0 && compare != held.cas => return Stored::Exists,
            _ => {}
        }
        let item = match (mode, held) {
            (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => new,
            (Mode::Append, Some(held)) => {
                Item { value: [held.value, new.value].concat(), stale: false, won: false, ..held }
            }
            (Mode::Prepend, Some(held)) => {
                Item { value: [new.value, held.value].concat(), stale: false, won: false, ..held }
            }
            _ => return Stored::No,
        };
        let cas = if told == 0 { self.next_cas() } else { told };
        self.items.insert(key.to_vec(), Item { cas, ..item });
        Stored::Yes(cas)
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some() && self.items.remove(key).is_some()
    }

    /// The new number; None: there is no item; Some(None): it is no number. `told` is the CAS it shall have: forgotten
    /// when the number needs a digit more, as that makes a new item.
    fn count(&mut self, key: &[u8], delta: u64, up: bool, told: Option<u64>) -> Option<Option<u64>> {
        let next = self.cas + 1;
        let item = self.find(key)?;
        let text = std::str::from_utf8(&item.value).unwrap_or_default();
        let Ok(number) = text.trim_end().parse::<u64>() else { return Some(None) };
        let number = if up { number.wrapping_add(delta) } else { number.saturating_sub(delta) };
        let mut value = number.to_string().into_bytes();
        let told = told.filter(|_| value.len() <= item.value.len());
        // Fewer digits are padded in place.
        value.resize(value.len().max(item.value.len()), b' ');
        (item.value, item.cas) = (value, told.unwrap_or(next));
        (item.stale, item.won) = (false, false);
        if told.is_none() {
            self.cas = next;
        }
        Some(Some(number))
    }

    fn flush(&mut self, exptime: i64) {
        self.flushes += 1;
        if exptime <= 0 {
            self.flush_at_s = None;
            self.items.clear();
        } else {
            self.flush_at_s = Some(self.instant(exptime));
        }
    }
}

const MONTH_S: i64 = 30 * 24 * 3600;
/// The default `-I`, less what an item needs itself.
const ITEM_MAX: usize = (1 << 20) - 64;
const KEY_MAX: usize = 250;
