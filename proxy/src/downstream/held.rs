//! Answers that may not leave yet: those that wait for peers, and misses that a peer may fill. `out` keeps them in their
//! places; here is what the upstream says of them.

use super::{Downstream, Form, HoldId};

impl Downstream {
    // ---- with `--ack peer`: answers to writes wait until peers have them

    /// An answer to a write begins, or its next part does. With a form it can be replaced by an error.
    pub(crate) fn open_write(&self, form: Option<Form>) {
        self.out.borrow_mut().open(form);
    }

    /// A part of it is complete, more comes.
    pub(crate) fn part_of_write(&self, changed: bool) {
        self.out.borrow_mut().part(changed);
    }

    /// It is complete, and told of a change or not.
    pub(crate) fn close_write(&self, changed: bool) {
        self.out.borrow_mut().close(changed);
    }

    /// The same, if it is longer than what should wait for its end.
    pub(crate) fn cut_long_write(&self) {
        let mut out = self.out.borrow_mut();
        if out.is_long() {
            out.cut();
        }
    }

    /// It has no bytes so far.
    pub(crate) fn is_silent(&self) -> bool {
        self.out.borrow().is_silent()
    }

    /// No more comes of it.
    pub(crate) fn cut_write(&self) {
        self.out.borrow_mut().cut();
    }

    /// Holds the answers of writes that were completed since the last hold, and all behind them; says how many.
    pub(crate) fn hold(&self) -> Option<(HoldId, u32)> {
        self.out.borrow_mut().hold()
    }

    /// A hold is over; what it held leaves with the next flush, or errors in its place.
    pub(crate) fn release(&self, hold: HoldId, failed: Option<&'static str>) {
        self.out.borrow_mut().release(hold, failed);
    }

    // ---- with `--miss peer`: see `upstream/lookup.rs`

    /// Where the next answer begins.
    pub(crate) fn position(&self) -> u64 {
        self.out.borrow().end()
    }

    /// Holds the last answer, which begins there.
    pub(crate) fn hold_from(&self, start: u64) -> HoldId {
        self.out.borrow_mut().hold_from(start)
    }

    /// The answer that begins now is to take the place of another one.
    pub(crate) fn receive_aside(&self) {
        self.out.borrow_mut().set_aside();
    }

    /// No more comes of it.
    pub(crate) fn drop_aside(&self) {
        self.out.borrow_mut().drop_aside();
    }

    /// It is complete.
    pub(crate) fn take_place(&self, hold: HoldId) {
        self.out.borrow_mut().replace(hold);
    }
}
