//! What is on its way: packets in flight on each connection, dialings, doors, and the moment at which each arrives.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash};
use std::task::Waker;

use super::{ActorId, ConnectionId, End, Event, Place};
use crate::rng::Rng;

#[derive(Debug)]
pub(super) enum Packet {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// One direction of a connection, named by the side that it leads to.
#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) flight: VecDeque<(u64, Packet)>,
    pub(super) flight_bytes: usize,
    pub(super) ready: VecDeque<u8>,
    pub(super) fin: bool,
    pub(super) reset: bool,
    /// The reader has closed.
    pub(super) closed: bool,
    /// The writer has said that nothing more will come.
    pub(super) shut: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) actor: Option<ActorId>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) places: [Place; 2],
    pub(super) towards: [Half; 2],
}

#[derive(Debug)]
pub(super) struct Dial {
    pub(super) places: [Place; 2],
    pub(super) address: String,
    pub(super) actor: Option<ActorId>,
    pub(super) due: u64,
    /// The other side has answered: with a connection, or not.
    pub(super) answer: Option<Option<ConnectionId>>,
    pub(super) done: bool,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub(super) struct Door {
    pub(super) actor: Option<ActorId>,
    pub(super) queue: VecDeque<End>,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) dials: BTreeMap<u64, Dial>,
    pub(super) doors: BTreeMap<String, Door>,
    pub(super) next: u64,
    /// From one place to another: the least delay, and what chance adds.
    pub(super) delay: Vec<Vec<(u64, u64)>>,
    pub(super) cut: Vec<Vec<bool>>,
    pub(super) trace: DefaultHasher,
    pub(super) segments: u64,
    pub(super) wakers: Vec<Waker>,
    /// Said again each time somebody asks.
    pub(super) events: Vec<Event>,
}

impl State {
    pub(super) fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn delay(&mut self, from: Place, to: Place) -> u64 {
        let (least, more) = self.delay[from][to];
        least + if more > 0 { self.rng.below(more + 1) } else { 0 }
    }

    pub(super) fn send(&mut self, from: End, packet: Packet) {
        let Some(connection) = self.connections.get(&from.connection) else { return };
        let (here, there) = (connection.places[from.side], connection.places[1 - from.side]);
        let mut parts = vec![packet];
        // Now and then what was written at once comes in two pieces.
        if let Packet::Bytes(bytes) = &mut parts[0]
            && bytes.len() > 1
            && self.rng.chance(SPLIT_PER_MILLE)
        {
            let at = 1 + self.rng.index(bytes.len() - 1);
            let rest = bytes.split_off(at);
            parts.push(Packet::Bytes(rest));
        }
        for part in parts {
            let due = self.now + self.delay(here, there);
            let Some(connection) = self.connections.get_mut(&from.connection) else { return };
            let half = &mut connection.towards[1 - from.side];
            let due = half.flight.back().map_or(due, |(last, _)| due.max(*last));
            match &part {
                Packet::Bytes(bytes) => half.flight_bytes += bytes.len(),
                Packet::Fin if half.shut => return,
                Packet::Fin | Packet::Reset => half.shut = true,
            }
            half.flight.push_back((due, part));
        }
    }

    pub(super) fn close(&mut self, end: End, rudely: bool) {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let half = &mut connection.towards[end.side];
        half.closed = true;
        (half.reader, half.actor) = (None, None);
        let unread = !half.ready.is_empty();
        half.ready.clear();
        let writer = half.writer.take();
        connection.towards[1 - end.side].writer = None;
        self.wakers.extend(writer);
        // Closing over unread bytes resets, as the kernel does.
        self.send(end, if unread || rudely { Packet::Reset } else { Packet::Fin });
    }

    pub(super) fn deliver(&mut self) {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            for side in 0..2 {
                self.deliver_to(End { connection: id, side });
            }
            let over = self.connections[&id].towards.iter().all(|half| half.closed && half.flight.is_empty());
            if over {
                self.connections.remove(&id);
            }
        }
    }

    fn deliver_to(&mut self, end: End) {
        let mut touched = false;
        loop {
            let Some(connection) = self.connections.get_mut(&end.connection) else { return };
            let (from, to) = (connection.places[1 - end.side], connection.places[end.side]);
            let half = &mut connection.towards[end.side];
            if self.cut[from][to] || half.flight.front().is_none_or(|(due, _)| *due > self.now) {
                break;
            }
            let Some((_, packet)) = half.flight.pop_front() else { break };
            self.segments += 1;
            (self.now, end.connection, end.side).hash(&mut self.trace);
            match packet {
                Packet::Bytes(bytes) => {
                    half.flight_bytes -= bytes.len();
                    bytes.hash(&mut self.trace);
                    if half.closed {
                        // Nobody is there any more.
                        if !connection.towards[1 - end.side].shut {
                            self.send(end, Packet::Reset);
                        }
                        continue;
                    }
                    half.ready.extend(bytes);
                }
                Packet::Fin => half.fin = true,
                Packet::Reset => {
                    half.reset = true;
                    let writer = connection.towards[1 - end.side].writer.take();
                    self.wakers.extend(writer);
                }
            }
            touched = true;
        }
        if touched && let Some(connection) = self.connections.get_mut(&end.connection) {
            let half = &mut connection.towards[end.side];
            self.wakers.extend(half.reader.take());
            self.events.extend(half.actor.map(|actor| Event::Came(actor, end)));
        }
    }

    pub(super) fn dial(&mut self) {
        let ids: Vec<u64> = self.dials.keys().copied().collect();
        for id in ids {
            let dial = &self.dials[&id];
            let [from, to] = dial.places;
            let (arrived, is_cut) = (
                dial.answer.is_some(),
                if dial.answer.is_some() { self.cut[to][from] } else { self.cut[from][to] },
            );
            if dial.done || dial.due > self.now || is_cut {
                continue;
            }
            if arrived { self.answered(id) } else { self.knock(id) }
        }
    }

    /// The dialing has come to the door.
    fn knock(&mut self, id: u64) {
        let dial = &self.dials[&id];
        let (places, actor) = (dial.places, dial.actor);
        let open = self.doors.contains_key(&dial.address);
        let address = dial.address.clone();
        let connection = open.then(|| self.next());
        if let Some(connection) = connection
            && let Some(door) = self.doors.get_mut(&address)
        {
            let towards = [Half { actor, ..Half::default() }, Half { actor: door.actor, ..Half::default() }];
            self.connections.insert(connection, Connection { places, towards });
            let end = End { connection, side: 1 };
            match door.actor {
                Some(actor) => self.events.push(Event::Accepted(actor, end)),
                None => {
                    door.queue.push_back(end);
                    self.wakers.extend(door.waker.take());
                }
            }
        }
        let due = self.now + self.delay(places[1], places[0]);
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.answer = Some(connection);
            dial.due = due;
        }
    }

    /// The answer to a dialing has come.
    fn answered(&mut self, id: u64) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        dial.done = true;
        self.wakers.extend(dial.waker.take());
        let Some(actor) = dial.actor else { return };
        let connection = dial.answer.flatten();
        self.dials.remove(&id);
        let Some(connection) = connection else { return self.events.push(Event::Refused(actor)) };
        let end = End { connection, side: 0 };
        self.events.push(Event::Connected(actor, end));
        // The other side may have spoken, or died, before its answer came: with two delays either may be first.
        let half = self.connections.get(&connection).map(|connection| &connection.towards[0]);
        if half.is_none_or(|half| !half.ready.is_empty() || half.fin || half.reset) {
            self.events.push(Event::Came(actor, end));
        }
    }
}

const SPLIT_PER_MILLE: u64 = 60;
