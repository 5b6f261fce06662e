//! Clients that write down what they did and saw: one request at a time, each with its begin and its end.
//!
//! The keys are theirs alone, and every value is written once in a whole run: it carries its [`Mark`], and an appended piece
//! carries one of its own, so the last mark in a value names the write that made it what it is. What an answer leaves
//! open (a connection that broke, `SERVER_ERROR`) is noted as unacknowledged. Reads without an answer are not noted.

mod ask;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::history::{Deed, Event, Mark, Time};
use crate::random::Rng;
use crate::writer::Dialect;

/// The clock and the marks of one run, shared by all its witnesses.
#[derive(Debug)]
pub struct Desk {
    began: Instant,
    marks: AtomicU64,
    pub stop: AtomicBool,
}

/// Who asks whom about which keys.
#[derive(Clone, Debug)]
pub struct Witness {
    pub site: usize,
    pub address: String,
    pub dialect: Dialect,
    /// The numbers of the keys.
    pub keys: std::ops::Range<usize>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { began: Instant::now(), marks: AtomicU64::new(1), stop: AtomicBool::new(false) }
    }
}

impl Desk {
    pub fn now(&self) -> Time {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(Time::MAX)
    }

    fn mark(&self) -> Mark {
        self.marks.fetch_add(1, Ordering::Relaxed)
    }
}

/// What is asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Set,
    Add,
    Replace,
    Append,
    Cas,
    Delete,
    Get,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Carried out; a deletion of what was not there as well.
    Done,
    /// Refused, and nothing has changed.
    Refused,
    /// A value, with its CAS where it was asked for.
    Saw(Vec<u8>, u64),
    Missed,
    /// Nobody can say.
    Unsound,
}

impl Witness {
    /// Asks at random until the desk is closed.
    pub fn run(&self, desk: &Desk, mut rng: Rng) -> Vec<Event> {
        let mut events = Vec::new();
        let mut client = None;
        while !desk.stop.load(Ordering::Relaxed) {
            let key = self.keys.start + rng.below(self.keys.len() as u64) as usize;
            let verb = match rng.below(100) {
                0..18 => Verb::Set,
                18..23 => Verb::Add,
                23..28 => Verb::Replace,
                28..33 => Verb::Append,
                33..40 => Verb::Cas,
                40..50 => Verb::Delete,
                _ => Verb::Get,
            };
            if self.turn(desk, &mut client, verb, key, &mut rng, &mut events).is_err() {
                client = None;
            }
            // Paced, not synchronised: many short turns with others' in between.
            std::thread::sleep(Duration::from_micros(rng.below(2 * PACE_MICROS)));
        }
        events
    }

    /// Reads every key once. What cannot be asked ends the test: this is for a calm.
    pub fn read_all(&self, desk: &Desk) -> Vec<Event> {
        let mut events = Vec::new();
        let mut client = Some(Client::to(&self.address));
        for key in self.keys.clone() {
            let asked = self.turn(desk, &mut client, Verb::Get, key, &mut Rng::new(0), &mut events);
            asked.unwrap_or_else(|error| panic!("no read in a calm at {}: {error}", self.address));
        }
        events
    }

    /// One request and what it is worth; an error means that the connection is.
    fn turn(
        &self,
        desk: &Desk,
        client: &mut Option<Client>,
        verb: Verb,
        key: usize,
        rng: &mut Rng,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let client = match client {
            Some(client) => client,
            None => client.insert(connect(&self.address)?),
        };
        let mut note = |begin: Time, deed: Deed| {
            events.push(Event { site: self.site, key, begin, end: desk.now(), deed });
        };
        let name = key_name(key);
        let mut cas = 0;
        if matches!(verb, Verb::Get | Verb::Cas) {
            let begin = desk.now();
            match ask::ask(client, self.dialect, Verb::Get, &name, &[], 0)? {
                Answer::Saw(value, token) => {
                    note(begin, Deed::Read(Some(mark_of(&value))));
                    cas = token;
                }
                Answer::Missed => note(begin, Deed::Read(None)),
                _ => return Ok(()),
            }
            if verb == Verb::Get || cas == 0 {
                return Ok(());
            }
        }
        let mark = desk.mark();
        let value = if verb == Verb::Delete { Vec::new() } else { value(mark, verb, rng) };
        let begin = desk.now();
        let answer = ask::ask(client, self.dialect, verb, &name, &value, cas);
        let acknowledged = matches!(answer, Ok(Answer::Done));
        match (&answer, verb) {
            (Ok(Answer::Refused), _) => {}
            (_, Verb::Delete) => note(begin, Deed::Delete { acknowledged }),
            _ => note(begin, Deed::Write { mark, acknowledged }),
        }
        answer.map(|_| ())
    }
}

fn connect(address: &str) -> io::Result<Client> {
    let mut client = Client::connect(address)?;
    client.set_patience(PATIENCE);
    Ok(client)
}

/// The name of a key in memcached.
pub fn key_name(key: usize) -> String {
    format!("witness:{key}")
}

/// `w`, the mark, and dots up to some length.
fn value(mark: Mark, verb: Verb, rng: &mut Rng) -> Vec<u8> {
    let mut value = format!("w{mark:016x}").into_bytes();
    let dots = match rng.below(10) {
        _ if verb == Verb::Append => rng.below(20),
        0 => rng.between(1000, 4000),
        _ => rng.below(100),
    };
    value.resize(value.len() + dots as usize, b'.');
    value
}

/// The last mark in a value; 0, which nobody writes, if it has none.
fn mark_of(value: &[u8]) -> Mark {
    let last = value.iter().rposition(|&byte| byte == b'w');
    let digits = last.and_then(|at| std::str::from_utf8(value.get(at + 1..at + 17)?).ok());
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Half of the longest pause between two requests of one witness.
const PACE_MICROS: u64 = 1500;
/// A frozen site is left after this long.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_names_the_value() {
        let mut rng = Rng::new(1);
        let mut whole = value(7, Verb::Set, &mut rng);
        assert_eq!(mark_of(&whole), 7);
        whole.extend(value(8, Verb::Append, &mut rng));
        assert_eq!(mark_of(&whole), 8);
        assert_eq!(mark_of(b"else"), 0);
        assert_eq!(mark_of(b"w12"), 0);
    }
}
