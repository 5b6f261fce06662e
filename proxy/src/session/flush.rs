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
        let Some(at_ms) = due_ms(delay, self.context.wall_seconds()) else { return Ok(When::Now) };
        if self.downstream.owed.in_flight() > 0 {
            return Err(Step::Idle);
        }
        replication.schedule_flush(at_ms, self.context.wall_ms());
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

/// When a flush with this delay is due; None: that is past. A moment early, as memcached's own takes effect a second before its time
/// (`oldest_live` in its sources): whoever has waited for as long as they said finds nothing.
fn due_ms(delay: i64, wall_s: u64) -> Option<u64> {
    match Expiry::from_exptime(delay, wall_s) {
        Expiry::At(at_s) => Some(at_s.saturating_mul(1000).saturating_sub(EARLY_MS)),
        _ => None,
    }
}

/// More than the tick at which the time is looked at, and what a flush takes.
const EARLY_MS: u64 = 500;

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

    /// Found by memcached's own testapp.c, which waits for two seconds sharp.
    #[test]
    fn it_is_over_when_its_time_has_come_and_not_at_once() {
        const WALL_S: u64 = 1_800_000_000;
        let due = due_ms(2, WALL_S).unwrap();
        for asked_ms in WALL_S * 1000..WALL_S * 1000 + 1000 {
            assert!((asked_ms + 500..=asked_ms + 1500).contains(&due), "{}", due - asked_ms);
        }
        assert_eq!(due_ms(2_592_001, WALL_S), None, "in 1970");
    }

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
