//! Time, as nanoseconds since the program asked first: plain numbers are cheap to keep with each
//! request and to give to tests.
#![expect(
    clippy::disallowed_types,
    reason = "no tokio here: a runtime between socket and clock would be measured too"
)]

use std::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
