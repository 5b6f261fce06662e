//! What is said to control and when, and what its answers mean (pure). Time is an argument, in milliseconds from any beginning.
//!
//! ```text
//!                 answer                        404: forgotten there; 409: another has our place
//!   unregistered ───────► registered ──┐ ──────────────────────────────────────────────────────► unregistered
//!        ▲  register           │       │ heartbeat: every few seconds, and when clients are concerned
//!        └── backoff ◄─ no ────┘       └──► assignment: the peers
//! ```
//!
//! Whether control answers decides only when it is asked again; who the peers are changes by its answers alone.

use std::time::Duration;

use memcloud_protocol::registration::{AssignedPeer, Assignment, Heartbeat, Place, Register, Registered};

use super::client::Failure;
use super::shown::{Request, Shown, Standing, Tally};
use crate::backoff::Backoff;
use crate::peers::Glance;

/// What is to be said now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Say {
    Register(Register),
    Beat { replica: u64, heartbeat: Heartbeat },
}

/// The same without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Register,
    Beat,
}

/// What control has answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Registered(Registered),
    Assigned(Assignment),
}

/// What becomes of the peers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Peers {
    /// They stay.
    Keep,
    /// These and no others. `afresh`: what memcached holds is of another shard, or of none.
    Set { peers: Vec<AssignedPeer>, afresh: bool },
}

/// Where this replica stands, as far as it knows.
#[derive(Clone, Debug, Default, PartialEq)]
enum Known {
    /// Control has not said it in this life of the proxy.
    #[default]
    Nothing,
    /// In the pool, or it has lost its place: what its memcached holds is nobody's.
    Pool,
    At(Place),
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Machine {
    /// Our number, and what control knows of us.
    registered: Option<(u64, Register)>,
    known: Known,
    /// The sequence of the newest assignment, and when it came.
    newest: (u64, u64),
    due_ms: u64,
    every_ms: u64,
    backoff: Backoff,
    /// As it was said last.
    said: Option<Glance>,
    trouble: Option<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            registered: None,
            known: Known::default(),
            newest: (0, 0),
            due_ms: 0,
            every_ms: EVERY_MS,
            backoff: Backoff::new(BACKOFF_LEAST, BACKOFF_GREATEST),
            said: None,
            trouble: None,
        }
    }
}

impl Machine {
    /// It was there when it ended last.
    pub(super) fn recalling(place: Option<Place>) -> Self {
        Self { known: place.map_or(Known::Nothing, Known::At), ..Self::default() }
    }

    /// Whether something is due, or clients are concerned with what they have not heard.
    pub(super) fn has_something_to_say(&self, now_ms: u64, glance: &Glance) -> bool {
        let urgent =
            self.trouble.is_none() && self.registered.is_some() && self.said.as_ref() != Some(glance);
        urgent || now_ms >= self.due_ms
    }

    /// What is said now. `register` is there once memcached has said what it has.
    pub(super) fn next(
        &mut self,
        now_ms: u64,
        glance: &Glance,
        register: Option<Register>,
        heartbeat: Heartbeat,
    ) -> Option<Say> {
        let Some((replica, known)) = self.registered.clone() else {
            if register.is_none() {
                self.due_ms = now_ms + AGAIN_MS;
                self.trouble.get_or_insert_with(|| NO_MEMCACHED.to_owned());
            }
            return register.map(Say::Register);
        };
        match register {
            // The lease of the old address is given back first: one replica is not at two.
            Some(register) if has_moved(&register, &known) => {
                self.registered = None;
                Some(Say::Beat {
                    replica,
                    heartbeat: Heartbeat { stopping: true, ..heartbeat_of(&known, heartbeat) },
                })
            }
            Some(register) if register != known => Some(Say::Register(register)),
            _ => {
                self.said = Some(glance.clone());
                Some(Say::Beat { replica, heartbeat })
            }
        }
    }

    /// Control has answered.
    pub(super) fn answered(&mut self, now_ms: u64, say: Say, answer: Answer) -> Peers {
        self.trouble = None;
        self.backoff.reset();
        match (say, answer) {
            (Say::Register(register), Answer::Registered(Registered { replica, assignment })) => {
                // A heartbeat follows at once: before it nobody takes us for alive.
                (self.due_ms, self.said) = (now_ms, None);
                self.registered = Some((replica, register));
                self.newest = (0, now_ms);
                self.assigned(now_ms, assignment)
            }
            (Say::Beat { heartbeat, .. }, Answer::Assigned(assignment)) => {
                self.due_ms = if heartbeat.stopping { now_ms } else { now_ms + self.every_ms };
                if heartbeat.stopping { Peers::Keep } else { self.assigned(now_ms, assignment) }
            }
            // An answer to something else.
            (Say::Register(_) | Say::Beat { .. }, _) => {
                self.due_ms = now_ms + self.every_ms;
                Peers::Keep
            }
        }
    }

    /// Control says what we are for, asked or not.
    pub(super) fn assigned(&mut self, now_ms: u64, assignment: Assignment) -> Peers {
        let (newest, at_ms) = self.newest;
        // Of two processes of control one may be a moment behind; a store that was put back is so for longer.
        if self.registered.is_none() || assignment.sequence < newest && now_ms < at_ms + BEHIND_MS {
            return Peers::Keep;
        }
        self.newest = (assignment.sequence, now_ms);
        self.every_ms = (u64::from(assignment.heartbeat_seconds) * 1000).max(EVERY_LEAST_MS);
        let Some(place) = assignment.place else {
            self.known = Known::Pool;
            return Peers::Set { peers: Vec::new(), afresh: false };
        };
        let afresh = match &self.known {
            Known::Nothing => place.joining,
            Known::Pool => true,
            Known::At(known) => (known.appid, known.shard) != (place.appid, place.shard),
        };
        let peers = place.peers.clone();
        self.known = Known::At(place);
        Peers::Set { peers, afresh }
    }

    /// Control was not reached, or says no.
    pub(super) fn failed(&mut self, now_ms: u64, said: Said, failure: &Failure) -> Peers {
        self.trouble = Some(failure.to_string());
        self.said = None;
        self.due_ms = now_ms + u64::try_from(self.backoff.next_delay().as_millis()).unwrap_or(u64::MAX);
        match (said, failure.status()) {
            (Said::Beat, Some(404)) => {
                self.registered = None;
                Peers::Keep
            }
            // Another proxy has our place, and its peers are not ours.
            (Said::Beat, Some(409)) => {
                (self.registered, self.known) = (None, Known::Pool);
                Peers::Set { peers: Vec::new(), afresh: false }
            }
            _ => Peers::Keep,
        }
    }

    /// How long nothing is to be done; at most `most`.
    pub(super) fn wait(&self, now_ms: u64, most: Duration) -> Duration {
        Duration::from_millis(self.due_ms.saturating_sub(now_ms)).clamp(WAIT_LEAST, most)
    }

    /// Our number at control.
    pub(super) fn replica(&self) -> Option<u64> {
        self.registered.as_ref().map(|(replica, _)| *replica)
    }

    /// The place that is ours as far as is known.
    pub(super) fn place(&self) -> Option<&Place> {
        match &self.known {
            Known::At(place) => Some(place),
            Known::Nothing | Known::Pool => None,
        }
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn shown(&self, tally: &Tally) -> Shown {
        let standing = match (&self.known, &self.registered) {
            (Known::At(place), _) if place.joining => Standing::Joining,
            (Known::At(_), _) => Standing::Placed,
            (Known::Pool, Some(_)) => Standing::Pool,
            (Known::Nothing | Known::Pool, _) => Standing::Registering,
        };
        let place = self.place().map(|place| (place.appid.number(), place.shard.to_string()));
        let trouble = self.trouble.clone();
        Shown { standing, replica: self.replica(), place, trouble, tally: *tally, ..Shown::default() }
    }
}

impl Say {
    pub(super) fn said(&self) -> Said {
        match self {
            Self::Register(_) => Said::Register,
            Self::Beat { .. } => Said::Beat,
        }
    }
}

impl Said {
    pub(super) fn request(self) -> Request {
        match self {
            Self::Register => Request::Register,
            Self::Beat => Request::Heartbeat,
        }
    }
}

fn has_moved(now: &Register, known: &Register) -> bool {
    (&now.address, &now.peer_address) != (&known.address, &known.peer_address)
}

/// As it would have been said at the address that control knows.
fn heartbeat_of(known: &Register, heartbeat: Heartbeat) -> Heartbeat {
    Heartbeat { peer_address: Some(known.peer_address.clone()), ..heartbeat }
}

/// memcached is asked again.
const AGAIN_MS: u64 = 1_000;
const NO_MEMCACHED: &str = "memcached does not answer: control is told of this replica when it does";
/// Before control has said it: a third of its usual lease.
const EVERY_MS: u64 = 5_000;
const EVERY_LEAST_MS: u64 = 200;
/// Other processes of control see a decision within a second.
const BEHIND_MS: u64 = 10_000;
const BACKOFF_LEAST: Duration = Duration::from_millis(500);
/// Two thirds of the usual lease: who is back is heard of before it is taken for dead.
const BACKOFF_GREATEST: Duration = Duration::from_secs(10);
/// Nothing that is due is due again in the same moment.
const WAIT_LEAST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
