//! `flush_all` where there are peers. At once it goes up, with all gates held. With a delay it is a note in the replica,
//! and answered here: memcached keeps one time for the last flush and for the next, so a schedule would bring back what
//! the last flush has removed. One that memcached would refuse still goes there, for it to say so.

use memcloud_protocol::memcache::Dialect;
use memcloud_protocol::memcache::binary::{Header, MAGIC_RESPONSE};
use memcloud_protocol::memcache::expiry::Expiry;

use super::{Session, Step};
use crate::metrics::CommandName;

/// What becomes of a `flush_all`.
pub(super) enum When {
    /// It goes up, and takes effect there. Without a delay: one that names a moment of the past may not be given to
    /// memcached, which reads it as never if that was before its start.
    Now,
    /// The replica has it.
    Noted,
    /// memcached is the one to refuse it: it does not flush, or wants to know first who asks.
    Refused,
}

impl Session {
    /// Notes a flush that has a delay. Only where there is a replica, and when its answer is the next one to be given.
    pub(super) fn note_flush(&mut self, delay: i64) -> Result<When, Step> {
        let Some(replication) = self.context.replication.as_ref().filter(|_| self.replicates()) else {
            return Ok(When::Now);
        };
        if delay <= 0 {
            return Ok(When::Now);
        }
        if self.must_ask() {
            return Err(Step::Capability);
        }
        let capability = self.context.capability.get();
        if capability.refuses_flush || capability.authentication || capability.binary_only {
            return Ok(When::Refused);
        }
        let Expiry::At(at_s) = Expiry::from_exptime(delay, self.context.wall_seconds()) else {
            return Ok(When::Now);
        };
        if self.downstream.owed.in_flight() > 0 {
            return Err(Step::Idle);
        }
        replication.schedule_flush(at_s.saturating_mul(1000), self.context.wall_ms());
        self.context.counters.request(self.dialect.unwrap_or(Dialect::Text), CommandName::FlushAll);
        Ok(When::Noted)
    }

    /// What memcached says of a flush to come.
    pub(super) fn say_ok(&mut self, noreply: bool) {
        if !noreply {
            self.answered = true;
            self.downstream.deliver(b"OK\r\n");
        }
    }

    /// The same in the binary dialect.
    pub(super) fn say_success(&mut self, request: &Header) {
        self.answered = true;
        let header = Header { magic: MAGIC_RESPONSE, ..without_body(request) };
        self.downstream.deliver_with(|out| header.write(out));
    }
}

/// A `flush` without extras, or its answer.
pub(super) fn without_body(request: &Header) -> Header {
    Header { key_len: 0, extras_len: 0, data_type: 0, status_or_vbucket: 0, body_len: 0, cas: 0, ..*request }
}

/// The delay of a `flush_all` that is oddly written, and whether it wants no answer. Blanks alone part its words, and
/// more than three are an error.
pub(super) fn odd_delay(line: &[u8]) -> (i64, bool) {
    let mut words = line.trim_ascii_end().split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let (_, delay, last, more) = (words.next(), words.next(), words.next(), words.next());
    let delay = delay.and_then(|word| std::str::from_utf8(word).ok()?.parse::<i32>().ok());
    let delay = delay.filter(|_| more.is_none()).unwrap_or(0);
    (delay.into(), last == Some(b"noreply"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_of_odd_lines() {
        for (line, delay, noreply) in [
            ("flush_all  30\r\n", 30, false),
            (" flush_all 30 \n", 30, false),
            ("flush_all +30  noreply\r\n", 30, true),
            ("flush_all 30 x\r\n", 30, false),
            ("flush_all 30 x y\r\n", 0, false),
            ("flush_all  -1\r\n", -1, false),
            ("flush_all  noreply\r\n", 0, false),
            ("flush_all x 30\r\n", 0, false),
            ("flush_all 30x\r\n", 0, false),
            ("flush_all 2147483648\r\n", 0, false),
            ("flush_all\t30\r\n", 0, false),
        ] {
            assert_eq!(odd_delay(line.as_bytes()), (delay, noreply), "{line:?}");
        }
    }
}
