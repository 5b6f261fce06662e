//! The virtual network: connections between places, with delays, cuts and stalls, in virtual milliseconds.
//!
//! A place is a machine: one site's memcached, proxy and apps are at the same place, a millisecond apart; places are
//! further from one another. Bytes keep their order and are never lost while both ends live, as with TCP: what comes
//! upon a cut waits in front of it. Every end is either a stream that a proxy holds, or an *actor*: a memcached or a
//! client, which are plain state machines that the world calls when something has come for them.

mod wires;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use self::wires::{Dial, Door, Packet, State};
use crate::rng::Rng;

pub(crate) type Place = usize;
pub(crate) type ConnectionId = u64;
pub(crate) type ActorId = usize;

/// What an actor has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its dialing has succeeded.
    Connected(ActorId, End),
    /// Its dialing has failed.
    Refused(ActorId),
    /// Somebody has dialed it.
    Accepted(ActorId, End),
    /// Bytes, or the end of them.
    Came(ActorId, End),
}

/// One end of a connection; side 0 has dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) connection: ConnectionId,
    pub(crate) side: usize,
}

/// What has come to an end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) bytes: Vec<u8>,
    /// Nothing more will come.
    pub(crate) over: bool,
}

/// The network, shared by everything on it. All of it is on one thread; the lock only makes streams `Send`.
#[derive(Clone, Debug)]
pub(crate) struct Network(Arc<Mutex<State>>);

impl Network {
    pub(crate) fn new(places: usize, rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            rng,
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            doors: BTreeMap::new(),
            next: 1,
            delay: vec![vec![(1, 0); places]; places],
            cut: vec![vec![false; places]; places],
            trace: DefaultHasher::new(),
            segments: 0,
            wakers: Vec::new(),
            events: Vec::new(),
        })))
    }

    pub(crate) fn set_delay(&self, from: Place, to: Place, least: u64, more: u64) {
        self.lock().delay[from][to] = (least.max(1), more);
    }

    pub(crate) fn set_cut(&self, from: Place, to: Place, cut: bool) {
        self.lock().cut[from][to] = cut;
    }

    /// Every connection between two places is broken.
    pub(crate) fn reset(&self, one: Place, other: Place) {
        let mut state = self.lock();
        let between = state
            .connections
            .iter()
            .filter(|(_, connection)| connection.places == [one, other] || connection.places == [other, one]);
        let ids: Vec<ConnectionId> = between.map(|(id, _)| *id).collect();
        for connection in ids {
            for side in 0..2 {
                state.send(End { connection, side }, Packet::Reset);
            }
        }
    }

    /// A number that is the same for two runs if the same bytes came at the same time in the same order.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let state = self.lock();
        (state.trace.finish(), state.segments)
    }

    /// Delivers what is due, wakes whoever waits for it, and says which actors have something to look at.
    pub(crate) fn advance(&self, now: u64) -> Vec<Event> {
        let mut state = self.lock();
        state.now = now;
        state.deliver();
        state.dial();
        let events = std::mem::take(&mut state.events);
        self.wake(state);
        events
    }

    // ---- for both kinds of ends

    pub(crate) fn dial(&self, from: Place, address: &str, actor: Option<ActorId>) -> u64 {
        let mut state = self.lock();
        let id = state.next();
        let places = [from, place_of(address)];
        let due = state.now + state.delay(places[0], places[1]);
        let address = address.to_owned();
        state.dials.insert(id, Dial { places, address, actor, due, answer: None, done: false, waker: None });
        id
    }

    /// False: somebody listens there already.
    pub(crate) fn listen(&self, address: &str, actor: Option<ActorId>) -> bool {
        let mut state = self.lock();
        let free = !state.doors.contains_key(address);
        if free {
            state.doors.insert(address.to_owned(), Door { actor, ..Door::default() });
        }
        free
    }

    pub(crate) fn unlisten(&self, address: &str) {
        let mut state = self.lock();
        let Some(door) = state.doors.remove(address) else { return };
        for end in door.queue {
            state.close(end, true);
        }
        self.wake(state);
    }

    pub(crate) fn close(&self, end: End) {
        let mut state = self.lock();
        state.close(end, false);
        self.wake(state);
    }

    // ---- for actors

    /// Takes what has come.
    pub(crate) fn take(&self, end: End) -> Came {
        let mut state = self.lock();
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Came { bytes: Vec::new(), over: true };
        };
        let half = &mut connection.towards[end.side];
        let bytes = half.ready.drain(..).collect();
        let over = half.fin || half.reset;
        let writer = half.writer.take();
        state.wakers.extend(writer);
        self.wake(state);
        Came { bytes, over }
    }

    pub(crate) fn send(&self, end: End, bytes: &[u8]) {
        let mut state = self.lock();
        state.send(end, Packet::Bytes(bytes.to_vec()));
    }

    // ---- for streams

    pub(crate) fn poll_dial(&self, dial: u64, waker: &Waker) -> Poll<io::Result<End>> {
        let mut state = self.lock();
        let Some(found) = state.dials.get_mut(&dial) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        if !found.done {
            found.waker = Some(waker.clone());
            return Poll::Pending;
        }
        let answer = found.answer.flatten();
        state.dials.remove(&dial);
        Poll::Ready(match answer {
            Some(connection) => Ok(End { connection, side: 0 }),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        })
    }

    /// Nobody waits for it any more.
    pub(crate) fn give_up_dial(&self, dial: u64) {
        let mut state = self.lock();
        let Some(found) = state.dials.remove(&dial) else { return };
        if let Some(Some(connection)) = found.answer {
            state.close(End { connection, side: 0 }, false);
        }
        self.wake(state);
    }

    pub(crate) fn poll_accept(&self, address: &str, waker: &Waker) -> Poll<End> {
        let mut state = self.lock();
        let Some(door) = state.doors.get_mut(address) else { return Poll::Pending };
        match door.queue.pop_front() {
            Some(end) => Poll::Ready(end),
            None => {
                door.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_read(&self, end: End, waker: &Waker, room: usize) -> Poll<io::Result<Vec<u8>>> {
        let mut state = self.lock();
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let half = &mut connection.towards[end.side];
        if !half.ready.is_empty() {
            let len = room.min(half.ready.len());
            let bytes = half.ready.drain(..len).collect();
            let writer = half.writer.take();
            state.wakers.extend(writer);
            self.wake(state);
            return Poll::Ready(Ok(bytes));
        }
        if half.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if half.fin {
            return Poll::Ready(Ok(Vec::new()));
        }
        half.reader = Some(waker.clone());
        Poll::Pending
    }

    pub(crate) fn poll_write(&self, end: End, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let half = &mut connection.towards[1 - end.side];
        if half.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW_BYTES.saturating_sub(half.flight_bytes + half.ready.len());
        if room == 0 && !connection.towards[end.side].reset {
            connection.towards[1 - end.side].writer = Some(waker.clone());
            return Poll::Pending;
        }
        if connection.towards[end.side].reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let len = room.min(bytes.len());
        state.send(end, Packet::Bytes(bytes[..len].to_vec()));
        Poll::Ready(Ok(len))
    }

    pub(crate) fn shutdown(&self, end: End) {
        let mut state = self.lock();
        state.send(end, Packet::Fin);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes without the lock: a waker may be the last of its task.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Addresses are `p0:7000`: the number behind the letter is the place.
fn place_of(address: &str) -> Place {
    address.split(':').next().and_then(|host| host[1..].parse().ok()).expect("an address of the simulation")
}

/// What a sender may have on its way and unread, as with a socket's buffers.
const WINDOW_BYTES: usize = 64 << 10;
