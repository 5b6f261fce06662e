//! What a session is owed, and whether it may ask for more.
//!
//! Promises that answers on their way are bounded in number, and in bytes by an estimate: nobody knows how large an answer
//! will be, so the largest of the recent ones stands for the next.

use std::cell::Cell;

/// Counts of one session. What waits for the app once it has come is counted elsewhere.
pub(crate) struct Owed {
    /// Requests without an answer.
    in_flight: Cell<u32>,
    /// Keys asked for by those; a retrieval may name many.
    keys_in_flight: Cell<u32>,
    /// Writes that are in flight, and that ever were; and misses that are being filled: counted with `--miss peer`.
    changes_in_flight: Cell<u32>,
    changes: Cell<u64>,
    fills: Cell<u32>,
    /// Bytes that fills bring.
    filling_bytes: Cell<usize>,
    /// The size of recent answers, for each key.
    reply_peak: Cell<u32>,
    /// What has come of the next one.
    reply_bytes: Cell<u32>,
    saw_large_reply: Cell<bool>,
}

impl Default for Owed {
    fn default() -> Self {
        Self {
            in_flight: Cell::new(0),
            keys_in_flight: Cell::new(0),
            changes_in_flight: Cell::new(0),
            changes: Cell::new(0),
            fills: Cell::new(0),
            filling_bytes: Cell::new(0),
            reply_peak: Cell::new(REPLY_ESTIMATE_AT_START),
            reply_bytes: Cell::new(0),
            saw_large_reply: Cell::new(false),
        }
    }
}

impl Owed {
    /// So many bytes have come of the answer that is next.
    pub(super) fn came(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.reply_bytes.set(self.reply_bytes.get().saturating_add(bytes));
    }

    /// Counts a request that will be answered by the upstream.
    pub(crate) fn asked(&self, keys: u32) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.keys_in_flight.set(self.keys_in_flight.get().saturating_add(keys));
    }

    /// Answers owed by the upstream.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether another request may be sent, as far as answers that are owed go: they are bounded in number and, by the
    /// size of the recent ones, in bytes. One may always, but for a miss that is being filled.
    pub(super) fn has_room(&self) -> bool {
        let in_flight = self.in_flight.get();
        let expected = u64::from(self.keys_in_flight.get()) * u64::from(self.reply_peak.get());
        self.fills.get() == 0 && (in_flight == 0 || in_flight < IN_FLIGHT_MAX && expected < REPLY_BYTES_MAX)
    }

    /// Whether the answer to so many keys, by what is known of their values, is too much to hold.
    pub(crate) fn is_too_much(&self, keys: usize) -> bool {
        keys as u64 * u64::from(self.reply_peak.get()) > REPLY_BYTES_AT_ONCE
    }

    /// Whether an answer was so large that the next ones are better streamed.
    pub(crate) fn saw_large_reply(&self) -> bool {
        self.saw_large_reply.get()
    }

    /// An answer is complete.
    pub(crate) fn replied(&self, keys: u32) {
        let size = self.reply_bytes.replace(0) / keys.max(1);
        let peak = self.reply_peak.get();
        if size > LARGE_REPLY {
            self.saw_large_reply.set(true);
        }
        // Rises at once, forgets slowly.
        self.reply_peak.set(size.max(peak - peak / 16).max(REPLY_ESTIMATE_MIN));
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.keys_in_flight.set(self.keys_in_flight.get().saturating_sub(keys));
    }

    /// One more write is in flight, or one less.
    pub(crate) fn changing(&self, change: i32) {
        self.changes_in_flight.set(self.changes_in_flight.get().saturating_add_signed(change));
        self.changes.set(self.changes.get() + u64::from(change > 0));
    }

    /// Writes that the session ever sent, if all of them are answered.
    pub(crate) fn changes(&self) -> Option<u64> {
        (self.changes_in_flight.get() == 0).then(|| self.changes.get())
    }

    /// One more is being filled, or one less.
    pub(crate) fn filling(&self, change: i32) {
        self.fills.set(self.fills.get().saturating_add_signed(change));
        if self.fills.get() == 0 {
            self.filling_bytes.set(0);
        }
    }

    /// Whether answers with so many bytes more may be held; if so they are counted. One may always.
    pub(crate) fn may_take(&self, bytes: usize) -> bool {
        let held = self.filling_bytes.get();
        let may = held == 0 || held.saturating_add(bytes) <= FILLING_BYTES_MAX;
        if may {
            self.filling_bytes.set(held.saturating_add(bytes));
        }
        may
    }
}

/// What one retrieval may bring, by estimate, on a shared connection.
const REPLY_BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;
/// Requests in flight at the most.
const IN_FLIGHT_MAX: u32 = 1024;
/// Values that come from peers for one session at a time: a batch of misses may bring any.
const FILLING_BYTES_MAX: usize = 1024 * 1024;
/// Requests in flight times the size of recent answers, at the most.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;
/// Nothing is known of a new session's values: 16 requests may be in flight at first.
const REPLY_ESTIMATE_AT_START: u32 = 64 * 1024;
/// Answers of this size are better streamed on a connection of the session's own.
const LARGE_REPLY: u32 = 32 * 1024;
const REPLY_ESTIMATE_MIN: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn replied(owed: &Owed, bytes: usize) {
        owed.asked(1);
        owed.came(bytes);
        owed.replied(1);
    }

    #[test]
    fn small_answers_are_bounded_in_number() {
        let owed = Owed::default();
        (0..200).for_each(|_| replied(&owed, 1));
        (1..IN_FLIGHT_MAX).for_each(|_| owed.asked(1));
        assert!(owed.has_room());
        owed.asked(1);
        assert!(!owed.has_room());
        owed.replied(1);
        assert!(owed.has_room());
    }

    #[test]
    fn unknown_and_large_answers_are_bounded_in_bytes() {
        let owed = Owed::default();
        let at_first = REPLY_BYTES_MAX / u64::from(REPLY_ESTIMATE_AT_START);
        (1..at_first).for_each(|_| owed.asked(1));
        assert!(owed.has_room());
        owed.asked(1);
        assert!(!owed.has_room());
        // One may always be sent, however large the answers are.
        let owed = Owed::default();
        replied(&owed, 64 << 20);
        assert!(owed.has_room() && owed.saw_large_reply() && owed.is_too_much(1));
        owed.asked(1);
        assert!(!owed.has_room());
    }

    #[test]
    fn fills_are_bounded_in_bytes() {
        let owed = Owed::default();
        owed.filling(1);
        assert!(!owed.has_room(), "what is asked meanwhile would overtake");
        assert!(owed.may_take(FILLING_BYTES_MAX * 2), "one may always");
        assert!(!owed.may_take(1));
        owed.filling(-1);
        assert!(owed.has_room());
        assert!(owed.may_take(FILLING_BYTES_MAX - 1) && owed.may_take(1) && !owed.may_take(1));
    }
}
