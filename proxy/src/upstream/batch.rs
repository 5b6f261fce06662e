//! What the replies of one turn tell replication: outcomes of writes, marks of what was changed without a gate, doubts, and misses
//! that a peer may fill. Gathered while replies are read, reported once.

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::lookup::Missed;
use super::pending::Hold;
use super::{Write, graveyard};
use crate::downstream::{Downstream, HoldId};
use crate::replication::{Effect, Outcome, Shared, Slot, Version};
use crate::worker::{Acks, Context};

/// What a batch of replies leaves behind.
#[derive(Default)]
pub(super) struct Batch {
    /// Sessions that were given something.
    pub(super) touched: Vec<Rc<Downstream>>,
    /// Writes whose outcome is known now.
    pub(super) outcomes: Vec<Outcome>,
    /// Keys that were changed by writes that held no gate.
    pub(super) marks: Vec<Marked>,
    /// Gates of writes whose answers leave doubt. They are given back with the outcomes.
    doubted: Vec<Slot>,
    /// Misses that a peer may fill.
    pub(super) missed: Vec<Missed>,
}

/// What a write that held no gate has changed.
pub(super) struct Marked {
    keys: Vec<Box<[u8]>>,
    effect: Effect,
    /// Its answer, if that waits for peers.
    answered: Option<Answered>,
}

/// An answer that waits until what it tells of is stamped, and then for peers.
pub(super) type Answered = (Rc<Downstream>, (HoldId, u32));

impl Batch {
    /// Tells replication. With `--ack peer` the answers wait for peers from here on.
    pub(super) fn report(&mut self, context: &Rc<Context>, replication: &Arc<Shared>, now_ms: u64) {
        let acks = context.acks.as_ref();
        let doubted = self.foresee(replication);
        if !self.outcomes.is_empty() {
            let newest = replication.complete(std::mem::take(&mut self.outcomes), now_ms);
            if let Some(acks) = acks {
                let now = Instant::now();
                for downstream in &self.touched {
                    if let Some(hold) = downstream.hold() {
                        acks.hold(downstream, hold, newest, now);
                    }
                }
            }
        }
        for Marked { keys, effect, answered } in self.marks.drain(..) {
            let marks: Vec<_> = keys
                .into_iter()
                .map(|key| context.settle(Arc::clone(replication).mark(key, effect.clone())))
                .collect();
            if let Some(((downstream, hold), acks)) = answered.zip(acks) {
                context.settle(hold_marked(Rc::clone(acks), marks, downstream, hold));
            }
        }
        if !doubted.is_empty() {
            graveyard::drop_doubted(doubted, context, replication);
        }
    }

    /// Before a task is handed what is to be stamped, which may end before it has a gate; and before gates are given
    /// back. Answers with the keys of writes that are in doubt.
    fn foresee(&self, replication: &Shared) -> Vec<Box<[u8]>> {
        let marks: usize = self.marks.iter().map(|marked| marked.keys.len()).sum();
        if marks == 0 && self.doubted.is_empty() {
            return Vec::new();
        }
        let mut replica = replication.lock();
        replica.foresee(marks);
        replica.doubted(&self.doubted)
    }
}

/// Waits until marks are stamped, which somebody's gate may delay, and then for peers.
async fn hold_marked(
    acks: Rc<Acks>,
    marks: Vec<JoinHandle<Version>>,
    downstream: Rc<Downstream>,
    hold: (HoldId, u32),
) {
    let since = Instant::now();
    let all = async {
        let mut newest = Version::ZERO;
        for mark in marks {
            newest = newest.max(mark.await.unwrap_or_default());
        }
        newest
    };
    match timeout(acks.timeout(), all).await {
        Ok(newest) => acks.hold(&downstream, hold, newest, since),
        Err(_) => acks.too_late(&downstream, hold, since),
    }
    downstream.flush();
}

impl Write {
    /// Reports the outcome to whoever holds the gate. An answer that `waits` and tells of a change is held: at the end of
    /// the batch, or, if the change is stamped only later, from here on, by a hold of its own.
    pub(super) fn end(self, batch: &mut Batch, waits: Option<&Rc<Downstream>>) {
        let effect = self.effect.unwrap_or(Effect::None);
        match self.hold {
            Hold::Key(slot) if effect == Effect::Unknown => {
                batch.doubted.push(slot);
                batch.outcomes.push(Outcome::Key(slot, Effect::None));
            }
            Hold::Promised(slot, version) if effect == Effect::Unknown => {
                batch.doubted.push(slot);
                batch.outcomes.push(Outcome::Promised(slot, version, Effect::None));
            }
            Hold::Key(slot) => batch.outcomes.push(Outcome::Key(slot, effect)),
            Hold::Promised(slot, version) => batch.outcomes.push(Outcome::Promised(slot, version, effect)),
            Hold::Afterwards(keys) if !matches!(effect, Effect::None) => {
                // Made only where it is handed on: nobody else would release it.
                let answered = waits.and_then(|downstream| Some((Rc::clone(downstream), downstream.hold()?)));
                // Who held no gate cannot know that nobody has stored a removed item again since.
                let effect = if effect == Effect::Removed { Effect::Unknown } else { effect };
                batch.marks.push(Marked { keys, effect, answered });
            }
            Hold::Afterwards(_) => {}
            Hold::Told(told) => *told.borrow_mut() = Some(effect),
            Hold::All => batch.outcomes.push(match effect {
                Effect::None => Outcome::Flush(false),
                Effect::Unknown => Outcome::FlushUnknown,
                Effect::Removed | Effect::Item { .. } => Outcome::Flush(true),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::effect::{Intent, Refused};
    use crate::replication::{Begin, Bounds};

    fn written(hold: Hold, effect: Effect) -> Write {
        Write { hold, intent: Intent::Change(Refused::Kept), effect: Some(effect) }
    }

    fn slot(shared: &Arc<Shared>, key: &[u8]) -> Slot {
        match shared.begin(key, 1) {
            Begin::Granted(slot) => slot,
            Begin::Waiting(_) => panic!("nobody else is there"),
        }
    }

    #[test]
    fn a_write_in_doubt_is_not_stamped_but_dropped_once_its_gate_is_free() {
        let shared = Shared::new("a", 1, Bounds::default());
        let mut batch = Batch::default();
        let (plain, promised) = (slot(&shared, b"k"), slot(&shared, b"l"));
        let version = shared.lock().promise(1);
        written(Hold::Key(plain), Effect::Unknown).end(&mut batch, None);
        written(Hold::Promised(promised, version), Effect::Unknown).end(&mut batch, None);
        let keys = batch.foresee(&shared);
        assert_eq!(keys, [Box::from(&b"k"[..]), Box::from(&b"l"[..])]);
        shared.complete(batch.outcomes, 1);
        shared.lock().check_invariants();
        assert_eq!(shared.lock().counters().stamped, 0);
    }

    #[test]
    fn what_a_write_without_a_gate_removed_is_read_again() {
        let mut batch = Batch::default();
        written(Hold::Afterwards(vec![Box::from(&b"k"[..])]), Effect::Removed).end(&mut batch, None);
        assert_eq!(batch.marks[0].effect, Effect::Unknown);
    }
}
