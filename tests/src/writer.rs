//! Random writers: every mutating command of every dialect, in small pipelines, on a limited key space.

mod binary;
mod choice;
mod classic;
mod meta;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::random::Rng;

pub use choice::Space;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Classic,
    Meta,
    Binary,
}

/// What one writer shall do.
#[derive(Clone, Debug)]
pub struct Order {
    /// For the history: whose writer this is.
    pub name: String,
    pub address: String,
    pub dialect: Dialect,
    pub space: Space,
    pub largest_value: u64,
    /// A `flush_all` about every so often, at once or delayed by up to [`LONGEST_FLUSH_DELAY`].
    pub flush_every: Option<Duration>,
    /// From then on no more, so that there is something left to compare.
    pub flush_until: Instant,
    /// The site may refuse connections, break them and fall silent: it is tried again until the end.
    pub through_faults: bool,
}

/// One thing a writer did to one key (all keys: a flush).
#[derive(Clone, Debug)]
pub struct Deed {
    pub at: Instant,
    pub who: String,
    pub key: Option<usize>,
    pub what: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: u64,
    pub flushes: u64,
    pub server_errors: Vec<String>,
    pub reconnects: u64,
    pub history: VecDeque<Deed>,
}

/// A delayed flush comes this late at most; whoever compares waits for that long first.
pub const LONGEST_FLUSH_DELAY: Duration = Duration::from_secs(2);

/// Shared by the writers of a run.
#[derive(Debug, Default)]
pub struct Signals {
    pub stop: AtomicBool,
    pub requests: AtomicU64,
}

/// Writes until told to stop. A connection that ends is opened again.
pub fn run(order: &Order, mut rng: Rng, signals: &Signals) -> Tally {
    let mut tally = Tally::default();
    let mut writer = Writer { order, known_cas: HashMap::new(), next_flush: None };
    let mut connection = None;
    while !signals.stop.load(Ordering::Relaxed) {
        let client = match &mut connection {
            Some(client) => client,
            None => match order.connect() {
                Some(client) => connection.insert(client),
                // Paced: a site that is down refuses at once.
                None => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            },
        };
        let before = tally.requests;
        if let Err(error) = writer.batch(client, &mut rng, &mut tally) {
            assert!(order.through_faults || crate::client::closed(&error), "{}: {error}", order.name);
            tally.reconnects += 1;
            connection = None;
        }
        signals.requests.fetch_add(tally.requests - before, Ordering::Relaxed);
    }
    tally
}

impl Order {
    fn connect(&self) -> Option<Client> {
        if !self.through_faults {
            return Some(Client::to(&self.address));
        }
        let mut client = Client::connect(&self.address).ok()?;
        client.set_patience(AMID_FAULTS);
        Some(client)
    }
}

impl Tally {
    /// An answer that a client of a healthy site never gets. The first ones are enough to look at.
    fn note_server_error(&mut self, text: String) {
        if self.server_errors.len() < SERVER_ERRORS {
            self.server_errors.push(text);
        }
    }
}

struct Writer<'a> {
    order: &'a Order,
    known_cas: HashMap<usize, u64>,
    next_flush: Option<Instant>,
}

impl Writer<'_> {
    /// One pipeline: several requests, a barrier, all answers.
    fn batch(&mut self, client: &mut Client, rng: &mut Rng, tally: &mut Tally) -> io::Result<()> {
        let mut bytes = Vec::new();
        let count = rng.between(1, 16);
        for _ in 0..count {
            let key = self.order.space.pick(rng, self.order.dialect);
            let largest = self.order.largest_value;
            let what = match self.order.dialect {
                Dialect::Classic => {
                    classic::request(&self.order.space, key, rng, largest, self.cas(key), &mut bytes)
                }
                Dialect::Meta => {
                    meta::request(&self.order.space, key, rng, largest, self.cas(key), &mut bytes)
                }
                Dialect::Binary => {
                    binary::request(&self.order.space, key, rng, largest, self.cas(key), &mut bytes)
                }
            };
            self.note(Some(key), what, tally);
        }
        if self.flush_is_due(rng) {
            let delay = if rng.chance(50) { rng.between(1, LONGEST_FLUSH_DELAY.as_secs()) } else { 0 };
            match self.order.dialect {
                Dialect::Binary => binary::flush(delay as u32, rng, &mut bytes),
                Dialect::Classic | Dialect::Meta => classic::flush(delay, rng, &mut bytes),
            }
            tally.flushes += 1;
            self.note(None, format!("flush_all {delay}"), tally);
        }
        tally.requests += count;
        let learn = self.order.space.pick(rng, self.order.dialect);
        let learned = match self.order.dialect {
            Dialect::Classic => classic::exchange(client, bytes, &self.order.space, learn, tally)?,
            Dialect::Meta => meta::exchange(client, bytes, &self.order.space, learn, tally)?,
            Dialect::Binary => binary::exchange(client, bytes, &self.order.space, learn, tally)?,
        };
        self.known_cas.extend(learned.map(|cas| (learn, cas)));
        Ok(())
    }

    /// A CAS number that was once right for this key, perhaps still.
    fn cas(&self, key: usize) -> Option<u64> {
        self.known_cas.get(&key).copied()
    }

    fn flush_is_due(&mut self, rng: &mut Rng) -> bool {
        let Some(every) = self.order.flush_every else { return false };
        let soon = || Instant::now() + every.mul_f64(0.5);
        let now = Instant::now();
        let due = *self.next_flush.get_or_insert_with(soon) <= now && now < self.order.flush_until;
        if due {
            self.next_flush = Some(Instant::now() + every.mul_f64(0.5 + rng.below(100) as f64 / 100.0));
        }
        due
    }

    fn note(&self, key: Option<usize>, what: String, tally: &mut Tally) {
        if tally.history.len() == HISTORY {
            tally.history.pop_front();
        }
        tally.history.push_back(Deed { at: Instant::now(), who: self.order.name.clone(), key, what });
    }
}

/// The last deeds on a key, oldest first, flushes included: what to look at when sites differ.
pub fn story(tallies: &[Tally], space: &Space, key: &[u8], last: usize) -> String {
    let index = space.index(key);
    // A `gat` of two keys is filed under its first.
    let named =
        |deed: &Deed| deed.what.starts_with("gat") && deed.what.split(' ').any(|word| word.as_bytes() == key);
    let all = tallies.iter().flat_map(|tally| &tally.history);
    let mut deeds: Vec<&Deed> =
        all.filter(|deed| deed.key.is_none() || deed.key == index || named(deed)).collect();
    deeds.sort_by_key(|deed| deed.at);
    let Some(end) = deeds.last().map(|deed| deed.at) else { return String::new() };
    let lines = deeds.iter().rev().take(last).rev().map(|deed| {
        let before = end.duration_since(deed.at).as_secs_f64();
        format!("    {before:9.4} s before the last: {:12} {}\n", deed.who, deed.what)
    });
    lines.collect()
}

/// How long a writer waits for a site that may be frozen.
const AMID_FAULTS: Duration = Duration::from_secs(3);
/// Server errors kept for each writer.
const SERVER_ERRORS: usize = 1000;
/// Deeds kept for each writer.
const HISTORY: usize = 100_000;
