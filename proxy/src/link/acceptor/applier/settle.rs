//! A batch is carried out: one write to memcached, all its answers, and then the replica is told.
//!
//! Promises that the gates of what was sent are given back once only, and when memcached can no longer carry it out:
//! after its answers, or when it has closed the connection.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::carried::{answered, deleted, key_and_tag};
use super::{Applier, Pending};
use crate::link::acceptor::packet;
use crate::link::commands;
use crate::link::local::Local;
use crate::link::message::{Decoded, decode};
use crate::replication::{Effect, PeerId, Shared, Slot, wall_clock_ms};

impl Applier {
    /// Carries the batch out and tells the replica. After an error the connection is of no use any more.
    pub(in crate::link) async fn settle(&mut self, input: &[u8]) -> io::Result<()> {
        let carried_out = self.carry_out(input).await;
        self.out.clear();
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
        match carried_out {
            Ok(()) => self.conclude(),
            Err(_) => {
                let slots = self.take_slots();
                self.bury(slots);
            }
        }
        carried_out
    }

    async fn carry_out(&mut self, input: &[u8]) -> io::Result<()> {
        self.local.write(&self.out).await?;
        let mut any_refused = false;
        for pending in &mut self.pending {
            let Pending::Apply(apply) = pending else { continue };
            let stored = if apply.packet {
                let local = match self.packets.take() {
                    Some(local) => local,
                    None => Local::connect_binary(&self.upstream.0, self.upstream.1).await?,
                };
                packet::apply(self.packets.insert(local), &input[apply.at..], apply.doubtful).await?
            } else {
                answered(&mut self.local, apply.verb, apply.answers).await?
            };
            apply.refused = !stored;
            any_refused |= apply.refused;
        }
        if any_refused { self.drop_refused(input).await } else { Ok(()) }
    }

    /// memcached has no room for an item (too large for it, out of memory): what is there now is older than what
    /// the peer has, so it must go. Unless the batch has since stored something newer.
    async fn drop_refused(&mut self, input: &[u8]) -> io::Result<()> {
        let mut deletes = Vec::new();
        let mut answers = 0;
        let mut later = HashSet::new();
        for pending in self.pending.iter().rev() {
            let Pending::Apply(apply) = pending else { continue };
            let Ok(Decoded::Message { message, .. }) = decode(&input[apply.at..]) else { continue };
            let Some((key, _)) = key_and_tag(&message) else { continue };
            if apply.refused {
                self.refused += 1;
                // A packet that was refused has deleted already.
                if !later.contains(key) && !apply.packet {
                    commands::delete(&mut deletes, key);
                    answers += 1;
                }
            }
            later.insert(key.to_vec());
        }
        self.local.write(&deletes).await?;
        for _ in 0..answers {
            deleted(&self.local.line().await?)?;
        }
        Ok(())
    }

    fn conclude(&mut self) {
        let now_ms = wall_clock_ms();
        let (from, pending) = (self.from, &mut self.pending);
        let (acked, dropped, states) = (&mut self.acked, &mut self.dropped, self.states.is_some());
        let owed = self.shared.with(|replica, woken| {
            let mut owed = false;
            for pending in pending.drain(..) {
                acked.count += u64::from(matches!(pending, Pending::Settled { .. } | Pending::Apply(_)));
                match pending {
                    Pending::Settled { refused } => acked.refused += u64::from(refused),
                    Pending::Mark { version, owed, loss, unfilled } => {
                        replica.heard_mark(from, version, owed, now_ms);
                        replica.heard_loss(from, loss);
                        replica.heard_filling(from, unfilled);
                    }
                    Pending::Goodbye { unfilled } => replica.heard_goodbye(from, unfilled),
                    Pending::Apply(apply) if apply.doubtful => {
                        *dropped += usize::from(states);
                        owed |= replica.complete(apply.slot, Effect::Removed, now_ms, woken);
                    }
                    Pending::Apply(apply) if states => {
                        replica.applied_state(apply.slot, apply.version, woken);
                    }
                    Pending::Apply(apply) => replica.applied(apply.slot, from, apply.version, woken),
                }
            }
            owed
        });
        if owed {
            self.shared.poke_all();
        }
    }

    /// Gives back the gates of a batch of which nothing was sent; the peer will send it again.
    pub(in crate::link::acceptor) fn abandon(&mut self) {
        let slots = self.take_slots();
        give_back(&self.shared, self.from, &slots);
    }

    fn take_slots(&mut self) -> Vec<Slot> {
        let slot = |pending| if let Pending::Apply(apply) = pending { Some(apply.slot) } else { None };
        self.pending.drain(..).filter_map(slot).collect()
    }

    /// Leaves memcached, and gives back these gates when it can no longer carry out what it was sent under them.
    /// The link need not wait for that: what the peer sends again waits at the gates.
    pub(super) fn bury(&mut self, slots: Vec<Slot>) {
        let (lines, packets) = (self.local.leave(), self.packets.as_mut().map(Local::leave));
        let (shared, from) = (Arc::clone(&self.shared), self.from);
        tokio::spawn(async move {
            lines.await;
            if let Some(packets) = packets {
                packets.await;
            }
            give_back(&shared, from, &slots);
        });
    }
}

/// Whoever drives this may be cut short in the middle of a batch.
impl Drop for Applier {
    fn drop(&mut self) {
        let slots = self.take_slots();
        if !slots.is_empty() {
            self.bury(slots);
        }
    }
}

fn give_back(shared: &Shared, from: PeerId, slots: &[Slot]) {
    shared.with(|replica, woken| slots.iter().for_each(|slot| replica.abandon(*slot, from, woken)));
}

/// A buffer that once held a huge value is not kept.
const OUT_BYTES_KEPT: usize = 1 << 20;
