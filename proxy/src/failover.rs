//! Who serves the apps of this site: its own memcached, or a peer while that one is down or still being filled.
//!
//! ```text
//!              down for 200 ms, refuses, or is being filled           the peer answers
//!   ┌─► Local ──────────────────────────────────────────► Seeking ───────────────────► Away ◄──────┐
//!   │     ▲                                                │   ▲   the peer is lost      │ │        │ not in time,
//!   │     │ nobody answers, but memcached is up: Cold ◄────┤   └─────────────────────────┘ │ up and │ or down again
//!   │     │      (serves as it is, asks again)             │                               │ whole  │
//!   │     └────────────── up ──────────── Stranded ◄───────┘                               ▼        │
//!   │                              (errors, asks again)                                 Returning ──┘
//!   └──────────────────────────────────── all that was written at the peer is here ───────┘
//! ```
//!
//! [`Machine`] decides, and has no clock and no socket: what is seen and what time it is are arguments. What it decides
//! is published as a [`Route`] through the [`Switch`]; workers follow it and report when nothing is owed any more on
//! the old route. So while a route changes, requests wait; they are never on two routes at once.
//!
//! Promises: an app that is led back reads what it wrote at the peer; a memcached that came back empty serves only when
//! it is full again, or when there is nobody else. Refuses to know how a peer is reached ([`Dial`]).

mod switch;
#[cfg(test)]
mod tests;

pub(crate) use switch::{Dial, Forsaken, Routed, Switch};

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the local memcached.
    Local,
    /// Nowhere for a moment: they wait.
    Changing,
    /// To this peer, by its place.
    Peer(usize),
    /// Nowhere: they are refused.
    Nobody,
}

/// What the machine goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// memcached answers.
    pub(crate) up: bool,
    /// Nobody listens at its address.
    pub(crate) refused: bool,
    /// It holds what it should: it is not being filled.
    pub(crate) whole: bool,
    /// The peer that serves has a link to us, and owes us little.
    pub(crate) linked: bool,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time has passed, or something else is seen.
    Tick,
    /// The peer that was asked for serves.
    Answers,
    /// It does not.
    Refuses,
    /// The peer that serves does not answer any more.
    Lost,
    /// Nothing is owed on the way to the peer, and all that was written there is here.
    Arrived,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Find out whether this peer serves.
    Probe(usize),
    /// See to it that all that was written at the peer arrives here.
    Gather,
}

/// Where the site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// memcached serves.
    Local {
        /// Since when it is not what it should be.
        bad_since_ms: Option<u64>,
    },
    /// Peers are asked, one after the other.
    Seeking { peer: usize },
    /// A peer serves.
    Away { peer: usize, back_after_ms: u64 },
    /// A peer has served, memcached is to serve again.
    Returning { peer: usize, until_ms: u64 },
    /// No peer serves; memcached does, although it is not full.
    Cold { peer: Option<usize>, again_ms: u64 },
    /// Nobody serves.
    Stranded { peer: Option<usize>, again_ms: u64 },
}

/// Decides who serves.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    peers: usize,
    state: State,
    since_ms: u64,
    failovers: u64,
}

impl Machine {
    /// For a site with so many peers, served by its memcached.
    pub(crate) fn new(peers: usize, now_ms: u64) -> Self {
        Self { peers, state: State::Local { bad_since_ms: None }, since_ms: now_ms, failovers: 0 }
    }

    /// There are so many places of peers now; one where nobody is refuses.
    pub(crate) fn has_places(&mut self, peers: usize) {
        self.peers = peers;
    }

    /// Where the site is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub(crate) fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// How often a peer has taken over.
    pub(crate) fn failovers(&self) -> u64 {
        self.failovers
    }

    /// Where requests go.
    pub(crate) fn route(&self) -> Route {
        match self.state {
            State::Local { .. } | State::Cold { .. } => Route::Local,
            State::Seeking { .. } | State::Returning { .. } => Route::Changing,
            State::Away { peer, .. } => Route::Peer(peer),
            State::Stranded { .. } => Route::Nobody,
        }
    }

    /// Takes a step.
    pub(crate) fn on(&mut self, event: Event, now_ms: u64, seen: Seen) -> Option<Command> {
        match self.state {
            State::Local { bad_since_ms } => self.at_home(bad_since_ms, now_ms, seen),
            State::Seeking { peer } => self.seek(peer, event, now_ms, seen),
            State::Away { peer, back_after_ms } => self.stay_away(peer, back_after_ms, event, now_ms, seen),
            State::Returning { peer, until_ms } => self.come_back(peer, until_ms, event, now_ms, seen),
            State::Cold { peer, again_ms } => self.get_warm(peer, again_ms, event, now_ms, seen),
            State::Stranded { peer, again_ms } => self.get_ashore(peer, again_ms, event, now_ms, seen),
        }
    }

    fn at_home(&mut self, bad_since_ms: Option<u64>, now_ms: u64, seen: Seen) -> Option<Command> {
        if seen.up && seen.whole {
            self.state = State::Local { bad_since_ms: None };
            return None;
        }
        let since = bad_since_ms.unwrap_or(now_ms);
        self.state = State::Local { bad_since_ms: Some(since) };
        // One that answers and is empty need not be waited for, nor one that nobody listens for.
        if seen.up || seen.refused || now_ms.saturating_sub(since) >= LEAVE_AFTER_MS {
            return self.begin_to_seek(now_ms);
        }
        None
    }

    fn seek(&mut self, peer: usize, event: Event, now_ms: u64, seen: Seen) -> Option<Command> {
        match event {
            Event::Answers => self.leave_for(peer, now_ms),
            Event::Refuses if peer + 1 < self.peers => {
                self.state = State::Seeking { peer: peer + 1 };
                return Some(Command::Probe(peer + 1));
            }
            Event::Refuses => self.settle_for_less(now_ms, seen),
            Event::Tick | Event::Lost | Event::Arrived => {}
        }
        None
    }

    fn stay_away(
        &mut self,
        peer: usize,
        back_after_ms: u64,
        event: Event,
        now_ms: u64,
        seen: Seen,
    ) -> Option<Command> {
        if event == Event::Lost {
            return self.begin_to_seek(now_ms);
        }
        if !(seen.up && seen.whole && seen.linked) || now_ms < back_after_ms {
            return None;
        }
        self.enter(State::Returning { peer, until_ms: now_ms + RETURN_WITHIN_MS }, now_ms);
        Some(Command::Gather)
    }

    fn come_back(
        &mut self,
        peer: usize,
        until_ms: u64,
        event: Event,
        now_ms: u64,
        seen: Seen,
    ) -> Option<Command> {
        let good = seen.up && seen.whole;
        match event {
            Event::Lost => return self.begin_to_seek(now_ms),
            Event::Arrived if good => self.enter(State::Local { bad_since_ms: None }, now_ms),
            _ if !good || now_ms >= until_ms => {
                self.enter(State::Away { peer, back_after_ms: now_ms + AGAIN_AFTER_MS }, now_ms);
            }
            _ => {}
        }
        None
    }

    fn get_warm(
        &mut self,
        asked: Option<usize>,
        again_ms: u64,
        event: Event,
        now_ms: u64,
        seen: Seen,
    ) -> Option<Command> {
        if !seen.up || seen.whole {
            self.enter(State::Local { bad_since_ms: None }, now_ms);
            return None;
        }
        match (event, asked) {
            // The route has to be quiet before a peer serves, so it is asked once more.
            (Event::Answers, Some(peer)) => {
                self.enter(State::Seeking { peer }, now_ms);
                Some(Command::Probe(peer))
            }
            _ => self
                .ask_around(asked, again_ms, event, now_ms, |peer, again_ms| State::Cold { peer, again_ms }),
        }
    }

    fn get_ashore(
        &mut self,
        asked: Option<usize>,
        again_ms: u64,
        event: Event,
        now_ms: u64,
        seen: Seen,
    ) -> Option<Command> {
        match (event, asked) {
            (Event::Answers, Some(peer)) => {
                self.leave_for(peer, now_ms);
                None
            }
            _ if seen.up => {
                self.settle_for_less(now_ms, seen);
                None
            }
            _ => self.ask_around(asked, again_ms, event, now_ms, |peer, again_ms| State::Stranded {
                peer,
                again_ms,
            }),
        }
    }

    /// Asks the peers in their order, and again after a while.
    fn ask_around(
        &mut self,
        asked: Option<usize>,
        again_ms: u64,
        event: Event,
        now_ms: u64,
        state: impl Fn(Option<usize>, u64) -> State,
    ) -> Option<Command> {
        let next = match (asked, event) {
            (Some(peer), Event::Refuses) if peer + 1 < self.peers => peer + 1,
            (Some(_), Event::Refuses) => {
                self.state = state(None, now_ms + AGAIN_AFTER_MS);
                return None;
            }
            (None, _) if now_ms >= again_ms => 0,
            _ => return None,
        };
        self.state = state(Some(next), again_ms);
        Some(Command::Probe(next))
    }

    fn begin_to_seek(&mut self, now_ms: u64) -> Option<Command> {
        self.enter(State::Seeking { peer: 0 }, now_ms);
        Some(Command::Probe(0))
    }

    fn leave_for(&mut self, peer: usize, now_ms: u64) {
        self.failovers += 1;
        self.enter(State::Away { peer, back_after_ms: now_ms }, now_ms);
    }

    /// No peer serves.
    fn settle_for_less(&mut self, now_ms: u64, seen: Seen) {
        let again_ms = now_ms + AGAIN_AFTER_MS;
        let state = match (seen.up, seen.whole) {
            (true, true) => State::Local { bad_since_ms: None },
            (true, false) => State::Cold { peer: None, again_ms },
            (false, _) => State::Stranded { peer: None, again_ms },
        };
        self.enter(state, now_ms);
    }

    fn enter(&mut self, state: State, now_ms: u64) {
        self.state = state;
        self.since_ms = now_ms;
    }
}

impl State {
    /// The word in `/status`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Local { .. } => "local",
            Self::Seeking { .. } => "seeking",
            Self::Away { .. } => "away",
            Self::Returning { .. } => "returning",
            Self::Cold { .. } => "cold",
            Self::Stranded { .. } => "stranded",
        }
    }

    /// The peer that serves, or has served up to now.
    pub(crate) fn peer(self) -> Option<usize> {
        match self {
            Self::Away { peer, .. } | Self::Returning { peer, .. } => Some(peer),
            _ => None,
        }
    }
}

/// A connection that broke is made again within this; whoever is down longer is down.
const LEAVE_AFTER_MS: u64 = 200;
/// Requests wait meanwhile. A peer that owes nothing needs a tenth of a second.
const RETURN_WITHIN_MS: u64 = 1000;
/// Between two attempts at what has just failed.
const AGAIN_AFTER_MS: u64 = 1000;
