//! Mutations of one peer, on their way into memcached: a batch at a time.
//!
//! ```text
//!   input ──fill──> offer to the replica ──> commands to memcached (one write)
//!                        │ held gate            │
//!                        ▼                      ▼
//!                  settle first, wait     all answers ──> applied, marks heard, counted ──> one ack
//! ```
//!
//! Within a batch everything keeps the order of the link, because one lane carries it. Before it waits for a gate
//! the batch is settled, so whoever holds that gate never waits for us. A command without an answer could be
//! carried out after a newer write and win over it. So when memcached is silent for too long, or says what nobody
//! understands, the link ends, but the gates of what was sent are given back only when memcached has closed
//! the connection too.

mod carried;
mod flush;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use self::carried::{Verb, encode, key_and_tag};
use super::super::commands;
use super::super::local::Local;
use super::super::message::{self, Ack, Decoded, Message, Tag, decode};
use super::super::state::LinkStopped;
use crate::config::Address;
use crate::replication::{
    Basis, Claim, LaneId, Loss, Memory, Offer, Origin, PeerId, Shared, Slot, Version, Wait, wall_clock_ms,
};

/// Applies what one inbound link brings.
pub(in crate::link) struct Applier {
    shared: Arc<Shared>,
    from: PeerId,
    /// The peer's name and ours: whose mutations may come.
    sites: [(String, Origin); 2],
    lane: LaneId,
    upstream: (Address, Duration),
    local: Local,
    /// For keys that no text can name; made when the first one comes.
    packets: Option<Local>,
    out: Vec<u8>,
    pending: Vec<Pending>,
    acked: Ack,
    /// Stores that memcached refused, and nobody has asked about.
    refused: u64,
    /// Keys that were deleted for states, and nobody has asked about.
    dropped: usize,
    /// What comes are states and not mutations; and those that were not taken.
    states: Option<Vec<Kept>>,
    /// Why these states are believed to be the newer ones.
    pub(in crate::link) basis: Basis,
    /// It is known that items came which are older than their mutations.
    said_again: bool,
}

/// A state that was not taken.
#[derive(Debug)]
pub(in crate::link) struct Kept {
    pub(in crate::link) key: Box<[u8]>,
    /// Why not.
    pub(in crate::link) offer: Offer,
}

impl Kept {
    /// The ledger has forgotten what would tell whether it is newer.
    pub(in crate::link) fn is_too_old(&self) -> bool {
        self.offer == Offer::TooOld
    }

    /// A write of the key was under way for too long.
    pub(in crate::link) fn is_held_up(&self) -> bool {
        self.offer == Offer::Waiting
    }
}

enum Pending {
    /// Nothing to do: superseded, a duplicate; or refused, because its clock is too far ahead.
    Settled {
        refused: bool,
    },
    Mark {
        version: Version,
        owed: u64,
        loss: Option<Loss>,
        unfilled: bool,
    },
    /// The peer stops, and we have everything of it.
    Goodbye {
        unfilled: bool,
    },
    Apply(Apply),
}

struct Apply {
    slot: Slot,
    version: Version,
    /// Where the message begins in the batch's input.
    at: usize,
    /// Answers memcached will give.
    answers: u8,
    verb: Verb,
    /// Its key has no text form: a packet applies it, after the batch's text.
    packet: bool,
    /// Its age cannot be judged: the key was deleted instead, and that is a mutation of our own.
    doubtful: bool,
    refused: bool,
}

/// Why a batch ends.
pub(in crate::link) enum Pause {
    /// The input holds no further whole message; the next one ends no earlier than `need` bytes from here.
    Hungry { need: usize },
    /// It is large enough.
    Full,
    /// The next message has to wait for its key's gate.
    Gate(Wait),
    /// A flush, which passes alone.
    Flush { version: Version, delay_s: u32 },
    /// The peer has said goodbye.
    Goodbye,
}

impl Applier {
    pub(in crate::link) fn new(
        shared: Arc<Shared>,
        from: PeerId,
        sites: [&str; 2],
        lane: LaneId,
        upstream: (Address, Duration),
        local: Local,
    ) -> Self {
        let sites = sites.map(|site| (site.to_owned(), Origin::of(site)));
        let (out, pending) = (Vec::new(), Vec::new());
        Self {
            shared,
            from,
            sites,
            lane,
            upstream,
            local,
            packets: None,
            out,
            pending,
            acked: Ack::default(),
            refused: 0,
            dropped: 0,
            states: None,
            basis: Basis::default(),
            said_again: false,
        }
    }

    /// What comes are states.
    pub(in crate::link) fn of_states(mut self) -> Self {
        self.states = Some(Vec::new());
        self
    }

    /// States that were not taken since this was last asked.
    pub(in crate::link) fn take_kept(&mut self) -> Vec<Kept> {
        self.states.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Keys that were dropped for states since this was last asked.
    pub(in crate::link) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    /// What is settled since hello.
    pub(super) fn acked(&self) -> Ack {
        self.acked
    }

    /// Stores that memcached refused since this was last asked.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Takes whole messages off `input` until something makes it pause; answers the bytes taken. `granted` is the
    /// slot for which the first message has waited. [`settle`](Self::settle) must follow with the same input.
    pub(in crate::link) fn fill(
        &mut self,
        input: &[u8],
        mut granted: Option<Slot>,
    ) -> Result<(usize, Pause), LinkStopped> {
        let mut at = 0;
        loop {
            if self.pending.len() >= BATCH_MESSAGES_MAX || self.out.len() >= BATCH_BYTES_MAX {
                return Ok((at, Pause::Full));
            }
            let (message, used) = match decode(&input[at..]).map_err(LinkStopped::Malformed)? {
                Decoded::Incomplete { need } => return Ok((at, Pause::Hungry { need })),
                Decoded::Message { message, used } => (message, used),
            };
            match message {
                Message::Mark { tag, owed, loss, unfilled } => {
                    let version = self.version(tag)?;
                    self.pending.push(Pending::Mark { version, owed, loss, unfilled });
                }
                Message::Memory(memory) => {
                    let memory = self.memory(memory)?;
                    self.shared.lock().heard_memory(self.from, memory);
                    self.shared.resync_may_be_due();
                }
                Message::Goodbye { unfilled } => {
                    self.pending.push(Pending::Goodbye { unfilled });
                    return Ok((at + used, Pause::Goodbye));
                }
                Message::Flush { delay_s, tag } => {
                    return Ok((at + used, Pause::Flush { version: self.version(tag)?, delay_s }));
                }
                Message::Server { takes_versions } => {
                    self.shared.note_memcached_of(self.from, takes_versions);
                }
                Message::Hello(_) | Message::Refused(_) | Message::Ack(_) => {
                    return Err(LinkStopped::OutOfTurn);
                }
                mutation => {
                    if let Some(wait) = self.admit(&mutation, at, granted.take())? {
                        return Ok((at, Pause::Gate(wait)));
                    }
                }
            }
            at += used;
        }
    }

    /// Leaves out the state at the front of `input`, whose key's gate is not free; answers its bytes.
    pub(in crate::link) fn leave_out(&mut self, input: &[u8]) -> Result<usize, LinkStopped> {
        let Decoded::Message { message, used } = decode(input).map_err(LinkStopped::Malformed)? else {
            return Err(LinkStopped::OutOfTurn);
        };
        let (Some((key, _)), Some(kept)) = (key_and_tag(&message), &mut self.states) else {
            return Err(LinkStopped::OutOfTurn);
        };
        kept.push(Kept { key: key.into(), offer: Offer::Waiting });
        Ok(used)
    }

    /// Offers one mutation of a key to the replica, and encodes what it says. Answers a wait if it has to.
    fn admit(
        &mut self,
        mutation: &Message<'_>,
        at: usize,
        granted: Option<Slot>,
    ) -> Result<Option<Wait>, LinkStopped> {
        let Some((key, tag)) = key_and_tag(mutation) else { return Err(LinkStopped::OutOfTurn) };
        let version = self.version(tag)?;
        let item = match mutation {
            Message::Item(item) => item.cas.filter(|cas| Version::is_reading(*cas)),
            _ => None,
        };
        let claim = Claim { version, item, basis: self.basis };
        if !self.said_again && self.states.is_none() && item.is_some_and(|cas| cas < version.time()) {
            self.shared.lock().note_said_again();
            self.said_again = true;
        }
        let mut receiver = None;
        let offer = match granted {
            Some(slot) => self.shared.with(|replica, woken| match self.states {
                None => replica.reoffer(slot, self.from, version, woken),
                Some(_) => replica.reoffer_state(slot, self.from, claim, woken),
            }),
            None => {
                let (from, lane, now_ms) = (self.from, self.lane, wall_clock_ms());
                let waiter = || {
                    let (sender, waiting) = tokio::sync::oneshot::channel();
                    receiver = Some(waiting);
                    sender
                };
                let mut replica = self.shared.lock();
                match self.states {
                    None => replica.offer(from, key, version, lane, now_ms, waiter),
                    Some(_) => replica.offer_state(from, key, claim, lane, now_ms, waiter),
                }
            }
        };
        let (slot, doubtful) = match (offer, receiver) {
            (Offer::Waiting, Some(receiver)) => return Ok(Some(self.shared.wait(receiver))),
            (Offer::Apply(slot), _) => (slot, false),
            (Offer::Drop(slot), _) => (slot, true),
            (offer, _) => {
                self.pending.push(Pending::Settled { refused: offer == Offer::Skewed });
                if let Some(kept) = &mut self.states {
                    kept.push(Kept { key: key.into(), offer });
                }
                return Ok(None);
            }
        };
        if matches!(mutation, Message::Item(item) if item.stale) {
            // Before the mark is there: from now on nobody here reads with `mg` on the quiet.
            self.shared.note_stale_marks();
        }
        let packet = !commands::is_speakable(key);
        let (verb, answers) = match (packet, doubtful) {
            (true, _) => (Verb::Delete, 0),
            (false, true) => {
                commands::delete(&mut self.out, key);
                (Verb::Delete, 1)
            }
            (false, false) => encode(&mut self.out, mutation, self.shared.is_versioned()),
        };
        let apply = Apply { slot, version, at, answers, verb, packet, doubtful, refused: false };
        self.pending.push(Pending::Apply(apply));
        Ok(None)
    }

    fn memory(&self, memory: message::Memory<'_>) -> Result<Memory, LinkStopped> {
        Ok(match memory {
            message::Memory::None => Memory::None,
            message::Memory::Clean => Memory::Clean,
            message::Memory::Unfilled => Memory::Unfilled,
            message::Memory::Killed { until, unfilled } => {
                Memory::Killed { until: self.version(until)?, unfilled }
            }
        })
    }

    fn version(&self, tag: Tag<'_>) -> Result<Version, LinkStopped> {
        let known = self.sites.iter().find(|(site, _)| site == tag.site);
        known.map(|(_, origin)| Version::new(tag.time, *origin)).ok_or(LinkStopped::ForeignOrigin)
    }
}

/// Bounds of a batch: one write to memcached, whose answers (a few bytes each) fit into any socket's buffer, so
/// that neither side waits for the other to read.
const BATCH_MESSAGES_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 256 << 10;
