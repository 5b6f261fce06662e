//! What the proxy answers itself: `stats memcloud`.

use super::{Session, Step};

impl Session {
    /// Answers `stats memcloud`, in its turn; `len` is the length of the request's line.
    pub(super) fn stats_of_our_own(&mut self, len: usize) -> Result<usize, Step> {
        if self.downstream.owed.in_flight() > 0 {
            return Err(Step::Idle);
        }
        let text = (self.context.stats)();
        self.answered = true;
        self.downstream.deliver(text.as_bytes());
        Ok(len)
    }
}
