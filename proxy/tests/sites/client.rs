//! An app: one connection to its site's proxy, one request at a time, in one dialect; everything it was told goes into
//! the history.
//!
//! A value names the write that made it: `w17;` in front, or `17` millions where it is a number, so that what appends,
//! prepends and counts leaves the name readable.

mod dialect;

use std::cell::Cell;
use std::rc::Rc;

use memcloud_tests::history::{Deed, Event as Told, Mark};

use self::dialect::Reply;
use crate::network::{ActorId, End, Network, Place};
use crate::rng::Rng;

pub(crate) use dialect::Dialect;

/// What an app asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Get,
    /// Get, and remember the CAS.
    Gets,
    Set(Store),
    Add(Store),
    Replace(Store),
    /// With the CAS that was read last, if one was.
    Cas(Store, u64),
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    Increment(u64),
    Decrement(u64),
    Delete,
    Touch(u32),
    /// Get and touch.
    Gat(u32),
    /// `md I`; a plain get elsewhere.
    MarkStale,
    /// `mg N R`; a plain get elsewhere.
    Vivify,
    /// At once, or so many seconds from now.
    Flush(u32),
}

impl Request {
    fn can_be_quiet(&self) -> bool {
        !matches!(
            self,
            Self::Get
                | Self::Gets
                | Self::Gat(_)
                | Self::Touch(_)
                | Self::MarkStale
                | Self::Vivify
                | Self::Flush(_)
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) mark: Mark,
    pub(crate) value: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) exptime: u32,
}

/// What an app may do, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) keys: usize,
    /// Milliseconds from an answer to the next request, at the most.
    pub(crate) pause_ms: u64,
    pub(crate) flushes: bool,
    pub(crate) expiry: bool,
    pub(crate) deletes: bool,
}

/// What every client writes into.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Told>,
    /// The world's.
    now: Rc<Cell<u64>>,
    time: u64,
    marks: Mark,
    /// Requests that may change something.
    pub(crate) writes: u64,
    /// Requests answered.
    pub(crate) answered: u64,
    /// Requests whose answer never came, or was an error.
    pub(crate) failed: u64,
    /// The longest that anybody waited for an answer.
    pub(crate) slowest_ms: u64,
    /// When the last delayed flush is over.
    pub(crate) flushed_ms: u64,
}

impl History {
    pub(crate) fn new(now: Rc<Cell<u64>>) -> Self {
        Self { now, ..Self::default() }
    }

    /// Before or after everything else that happens: the world's time in nanoseconds, or a little more.
    pub(crate) fn tick(&mut self) -> u64 {
        self.time = (self.time + 1).max(self.now.get() * NANOS_PER_MS);
        self.time
    }

    fn mark(&mut self) -> Mark {
        self.marks += 1;
        self.marks
    }
}

#[derive(Debug)]
enum State {
    /// Not connected; tries again then.
    Down {
        until: u64,
    },
    Connecting,
    Idle {
        until: u64,
    },
    Waiting {
        key: usize,
        begin: u64,
        request: Request,
        /// Nothing is said of it: what is answered is the request behind it.
        quiet: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Client {
    id: ActorId,
    pub(crate) site: Place,
    dialect: Dialect,
    habits: Habits,
    end: Option<End>,
    input: Vec<u8>,
    state: State,
    cas: Option<(usize, u64)>,
    rng: Rng,
    writes: bool,
    /// Keys to be written once, before anything else.
    cold: Vec<usize>,
}

impl Client {
    pub(crate) fn new(id: ActorId, site: Place, dialect: Dialect, habits: Habits, rng: Rng) -> Self {
        let state = State::Down { until: 0 };
        Self {
            id,
            site,
            dialect,
            habits,
            end: None,
            input: Vec::new(),
            state,
            cas: None,
            rng,
            writes: true,
            cold: Vec::new(),
        }
    }

    /// Writes these first, each until that is acknowledged.
    pub(crate) fn write_first(&mut self, keys: Vec<usize>) {
        self.cold = keys;
    }

    /// From now on it only reads, and every key in turn if so told.
    pub(crate) fn only_read(&mut self) {
        self.writes = false;
    }

    /// The opposite.
    pub(crate) fn write_again(&mut self) {
        self.writes = true;
    }

    /// A write is on its way whose outcome is not known yet.
    pub(crate) fn is_waiting_for_write(&self) -> bool {
        !self.cold.is_empty()
            || matches!(&self.state, State::Waiting { request, .. } if !matches!(request, Request::Get | Request::Gets))
    }

    // ---- what happens to it

    pub(crate) fn tick(&mut self, now: u64, network: &Network, history: &mut History) {
        match self.state {
            State::Down { until } if until <= now => {
                network.dial(self.site, &format!("p{}:11211", self.site), Some(self.id));
                self.state = State::Connecting;
            }
            State::Idle { until } if until <= now => self.ask(network, history),
            _ => {}
        }
    }

    pub(crate) fn connected(&mut self, end: End, now: u64) {
        self.end = Some(end);
        self.input.clear();
        self.state = State::Idle { until: now };
    }

    pub(crate) fn refused(&mut self, now: u64) {
        self.state = State::Down { until: now + RETRY_MS };
    }

    pub(crate) fn came(&mut self, end: End, now: u64, network: &Network, history: &mut History) {
        if self.end != Some(end) {
            return;
        }
        let came = network.take(end);
        self.input.extend(came.bytes);
        let mut lost_count = false;
        while let State::Waiting { quiet, .. } = self.state {
            let reply =
                if quiet { self.dialect.silence(&self.input) } else { self.dialect.reply(&self.input) };
            let Some((used, reply)) = reply else { break };
            self.input.drain(..used);
            lost_count |= quiet && reply == Reply::Error;
            self.answered(reply, now, history);
        }
        if came.over || lost_count {
            network.close(end);
            self.end = None;
            if let State::Waiting { key, begin, request, .. } = &self.state {
                let (key, begin, request) = (*key, *begin, request.clone());
                self.note(key, begin, &request, None, history);
            }
            self.state = State::Down { until: now + RETRY_MS };
        }
    }

    fn ask(&mut self, network: &Network, history: &mut History) {
        let Some(end) = self.end else { return };
        let (key, request) = match self.cold.last() {
            Some(key) => (*key, Request::Set(Store { exptime: 0, ..self.store(*key, history) })),
            None => {
                let key = self.rng.index(self.habits.keys);
                (key, self.choose(key, history))
            }
        };
        let quiet = self.cold.is_empty() && request.can_be_quiet() && self.rng.chance(QUIET_PER_MILLE);
        history.writes += u64::from(!matches!(request, Request::Get | Request::Gets));
        let begin = history.tick();
        let mut bytes = Vec::new();
        self.dialect.encode(&mut bytes, &name(key), &request, quiet);
        network.send(end, &bytes);
        self.state = State::Waiting { key, begin, request, quiet };
    }

    fn answered(&mut self, reply: Reply, now: u64, history: &mut History) {
        let idle = State::Idle { until: now + self.rng.below(self.habits.pause_ms + 1) };
        let State::Waiting { key, begin, request, .. } = std::mem::replace(&mut self.state, idle) else {
            return;
        };
        if let (Request::Gets, Reply::Value { cas, .. }) = (&request, &reply) {
            self.cas = Some((key, *cas));
        }
        history.slowest_ms = history.slowest_ms.max(now - begin / NANOS_PER_MS);
        if reply == Reply::Done {
            self.cold.retain(|cold| *cold != key);
        }
        self.note(key, begin, &request, Some(&reply), history);
    }

    fn note(
        &mut self,
        key: usize,
        begin: u64,
        request: &Request,
        reply: Option<&Reply>,
        history: &mut History,
    ) {
        let end = history.tick();
        let sound = reply.filter(|reply| **reply != Reply::Error);
        *(if sound.is_some() { &mut history.answered } else { &mut history.failed }) += 1;
        let acknowledged = sound.is_some_and(|reply| *reply != Reply::Silence);
        let refused = matches!(sound, Some(Reply::No));
        let deed = match request {
            Request::Set(store) | Request::Add(store) | Request::Replace(store) | Request::Cas(store, _) => {
                (!refused).then_some(Deed::Write { mark: store.mark, acknowledged })
            }
            Request::Delete => Some(Deed::Delete { acknowledged }),
            Request::Flush(delay_s) if *delay_s > 0 => {
                let flushed_ms = history.now.get() + (u64::from(*delay_s) + FLUSH_SPREAD_S) * 1000;
                history.flushed_ms = history.flushed_ms.max(flushed_ms);
                None
            }
            Request::Flush(_) => {
                let site = self.site;
                let all = (0..self.habits.keys).map(|key| Told {
                    site,
                    key,
                    begin,
                    end,
                    deed: Deed::Delete { acknowledged },
                });
                history.events.extend(all);
                None
            }
            _ => match sound {
                Some(Reply::Value { value, .. }) => mark_of(value).map(|mark| Deed::Read(Some(mark))),
                _ => None,
            },
        };
        if Kind::of(key) == Kind::Register {
            history.events.extend(deed.map(|deed| Told { site: self.site, key, begin, end, deed }));
        }
    }

    fn choose(&mut self, key: usize, history: &mut History) -> Request {
        if !self.writes {
            return Request::Get;
        }
        let dice = self.rng.below(1000);
        if self.habits.flushes && dice == 999 {
            return Request::Flush([0, 0, 1, 3][self.rng.index(4)]);
        }
        match (Kind::of(key), dice) {
            (_, 0..300) => Request::Get,
            (_, 300..340) => Request::Gets,
            (_, 340..540) => Request::Set(self.store(key, history)),
            (_, 540..590) => Request::Add(self.store(key, history)),
            (_, 590..620) => Request::Replace(self.store(key, history)),
            (_, 620..660) => match self.cas {
                Some((of, cas)) if of == key => Request::Cas(self.store(key, history), cas),
                _ => Request::Gets,
            },
            (_, 660..740) if self.habits.deletes => Request::Delete,
            (Kind::Register, _) => Request::Get,
            (Kind::Counter, 740..840) => Request::Increment(self.rng.below(9)),
            (Kind::Counter, 840..900) => Request::Decrement(self.rng.below(9)),
            (Kind::Text, 740..820) => Request::Append(format!("a{};", history.mark()).into_bytes()),
            (Kind::Text, 820..900) => Request::Prepend(format!("p{};", history.mark()).into_bytes()),
            (_, 900..940) if self.habits.expiry => Request::Touch(self.exptime()),
            (_, 940..965) if self.habits.expiry => Request::Gat(self.exptime()),
            (_, 965..980) => Request::MarkStale,
            (_, 980..990) => Request::Vivify,
            _ => Request::Get,
        }
    }

    fn exptime(&mut self) -> u32 {
        match self.rng.below(4) {
            0 => 3 + self.rng.below(20) as u32,
            1 => 100 + self.rng.below(1000) as u32,
            _ => 0,
        }
    }

    fn store(&mut self, key: usize, history: &mut History) -> Store {
        let mark = history.mark();
        let value = if Kind::of(key) == Kind::Counter {
            (mark * MILLION + MILLION / 2).to_string().into_bytes()
        } else {
            let mut value = format!("w{mark};").into_bytes();
            let padding = [0, 0, 10, 300, 5000][self.rng.index(5)];
            value.resize(value.len() + padding, b'.');
            value
        };
        let exptime = if self.habits.expiry { self.exptime() } else { 0 };
        Store { mark, value, flags: self.rng.below(3) as u32, exptime }
    }
}

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Written and deleted only: what a read shows tells which write it saw.
    Register,
    /// Grows, is touched, goes stale: each of that makes a new state with an old name.
    Text,
    Counter,
}

impl Kind {
    fn of(key: usize) -> Self {
        [Self::Register, Self::Text, Self::Counter][key % 3]
    }
}

pub(crate) fn name(key: usize) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

/// Which write a value is of. A vivified item has no value.
pub(crate) fn mark_of(value: &[u8]) -> Option<Mark> {
    let text = String::from_utf8_lossy(value);
    if let Ok(number) = text.trim_end().parse::<u64>() {
        return Some(number / MILLION);
    }
    text.split(';').find_map(|word| word.strip_prefix('w')?.parse().ok())
}

const RETRY_MS: u64 = 50;
/// Of requests that have a quiet form.
const QUIET_PER_MILLE: u64 = 80;
/// Clocks of memcacheds count seconds, and a peer that heard of a flush from one that is gone by then runs it itself,
/// 5 seconds after it was due.
const FLUSH_SPREAD_S: u64 = 8;
pub(crate) const NANOS_PER_MS: u64 = 1_000_000;
const MILLION: u64 = 1_000_000;
