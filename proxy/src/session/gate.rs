//! Gates as a session asks for them: one for each write, or all at once, before the request is sent.

use std::sync::Arc;

use super::{Session, Step};
use crate::replication::{Begin, Effect, LaneId, Outcome, Shared, Slot};
use crate::upstream::{Hold, Upstream};

/// A gate that was granted to a session that waited; given back unless it is used.
pub(super) struct HeldGate {
    pub(super) gate: Option<(Slot, Arc<Shared>)>,
    /// The order the gate was granted in; of no use on another connection.
    pub(super) lane: LaneId,
    /// Whose gate it is; none for everything's.
    pub(super) key: Option<Box<[u8]>>,
}

impl HeldGate {
    fn used(mut self, lane: LaneId, key: Option<&[u8]>) -> Option<Slot> {
        let fits = self.lane == lane && self.key.as_deref() == key;
        self.gate.take_if(|_| fits).map(|(slot, _)| slot)
    }
}

impl Drop for HeldGate {
    fn drop(&mut self) {
        if let Some((slot, shared)) = self.gate.take() {
            let outcome =
                if slot == Slot::FLUSH { Outcome::Flush(false) } else { Outcome::Key(slot, Effect::None) };
            shared.complete(vec![outcome], 0);
        }
    }
}

impl Session {
    /// The gate for a write of `key`, which must be sent at once; `None` where nothing is replicated.
    pub(super) fn gate(&mut self, key: &[u8], upstream: &Upstream) -> Result<Option<Hold>, Step> {
        let Some(replication) = &self.context.replication else { return Ok(None) };
        if upstream.is_tunnel() {
            return Ok(None);
        }
        if upstream.is_own() && self.downstream.may_hold_up_answers() {
            return Err(Step::Idle);
        }
        let now_ms = self.context.wall_ms();
        let versioned = replication.is_versioned();
        if let Some(slot) = self.granted.take().and_then(|held| held.used(upstream.lane(), Some(key))) {
            let promised = versioned.then(|| replication.lock().promise(now_ms));
            return Ok(Some(Hold::of(slot, promised)));
        }
        let (begin, promised) = match versioned {
            true => replication.begin_promised(key, upstream.lane(), now_ms),
            false => (replication.begin(key, upstream.lane()), None),
        };
        match begin {
            Begin::Granted(slot) => Ok(Some(Hold::of(slot, promised))),
            Begin::Waiting(wait) => Err(Step::Gate(wait, upstream.lane(), Some(key.into()))),
        }
    }

    /// The gate of everything.
    pub(super) fn gate_of_all(&mut self, upstream: &Upstream) -> Result<bool, Step> {
        let Some(replication) = &self.context.replication else { return Ok(false) };
        if upstream.is_tunnel() {
            return Ok(false);
        }
        if upstream.is_own() && self.downstream.may_hold_up_answers() {
            return Err(Step::Idle);
        }
        if self.granted.take().and_then(|held| held.used(upstream.lane(), None)).is_some() {
            return Ok(true);
        }
        match replication.begin_flush() {
            Begin::Granted(_) => Ok(true),
            Begin::Waiting(wait) => Err(Step::Gate(wait, upstream.lane(), None)),
        }
    }
}
