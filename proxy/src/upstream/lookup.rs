//! Reads that a peer may fill: `--miss peer`.
//!
//! ```text
//!   answer: a miss ──► held in the session's Out ──► Fills::ask ──► told in time, the key is here ──► read once more,
//!                                 │                                                                    in its place
//!                                 └──────────────── nobody to ask, too late, not there either ──► the miss, as it was
//! ```
//!
//! The answer of the second read is memcached's own, so flags, CAS, dialect and format are what they would have been. Later
//! answers of the session wait behind it, and no request of the session goes up meanwhile.
//!
//! A miss stays a miss where it is right as it is: behind it the session has already sent a write, which a second read would
//! show too early; or the values that come are more than a session may hold.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use memcloud_protocol::memcache::{binary, reply};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Pending, Upstream};
use crate::downstream::HoldId;
use crate::fill::Landing;

/// What is known of a read that may be filled.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// As it went up.
    request: Box<[u8]>,
    /// Keys that the answer has not come to.
    rest: VecDeque<Box<[u8]>>,
    missing: Vec<Box<[u8]>>,
    /// The answer ended as a miss or as a list of hits, and not with an error.
    ended: bool,
    /// Where the answer begins.
    start: u64,
}

/// A miss whose keys are on their way.
pub(super) struct Missed {
    lookup: Lookup,
    landings: Vec<oneshot::Receiver<Landing>>,
    hold: HoldId,
    again: Pending,
    /// Writes that the session had sent by then.
    changes: u64,
}

impl Lookup {
    pub(crate) fn new<'k>(request: &[&[u8]], keys: impl Iterator<Item = &'k [u8]>) -> Box<Self> {
        Box::new(Self {
            request: request.concat().into(),
            rest: keys.map(Box::from).collect(),
            missing: Vec::new(),
            ended: false,
            start: 0,
        })
    }

    /// The answer may have several lines: the first ones must not leave before the last one has come.
    pub(super) fn has_several(&self) -> bool {
        self.rest.len() > 1
    }

    pub(super) fn set_start(&mut self, start: u64) {
        self.start = start;
    }

    /// Takes a line of the answer.
    pub(super) fn note(&mut self, line: &[u8]) {
        match reply::classify(line) {
            reply::Line::Value { .. } => {
                self.found(line.split(|byte| *byte == b' ').nth(1).unwrap_or_default())
            }
            reply::Line::End | reply::Line::En => self.end(),
            _ => self.rest.clear(),
        }
    }

    /// Takes the head of a binary answer.
    pub(super) fn note_packet(&mut self, header: &binary::Header) {
        match header.status_or_vbucket {
            binary::status::KEY_NOT_FOUND => self.end(),
            _ => self.rest.clear(),
        }
    }

    /// memcached answers keys in the order in which they were asked.
    fn found(&mut self, key: &[u8]) {
        while let Some(asked) = self.rest.pop_front().filter(|asked| **asked != *key) {
            self.missing.push(asked);
        }
    }

    fn end(&mut self) {
        self.missing.extend(self.rest.drain(..));
        self.ended = true;
    }

    fn is_miss(&self) -> bool {
        self.ended && !self.missing.is_empty()
    }
}

impl Pending {
    /// The answer begins.
    pub(super) fn begin_lookup(&mut self) {
        if self.again.is_some() {
            self.downstream.receive_aside();
        }
        let Some(lookup) = &mut self.lookup else { return };
        lookup.set_start(self.downstream.position());
        if lookup.has_several() {
            self.downstream.open_write(None);
        }
    }

    /// A part of the answer has been delivered. Nobody waits with very much of it.
    pub(super) fn continue_lookup(&mut self) {
        let start = self.lookup.as_ref().map(|lookup| lookup.start);
        if start.is_some_and(|start| self.downstream.position() - start > HELD_BYTES_MAX) {
            self.lookup = None;
            self.downstream.cut_write();
        }
    }

    /// The answer is complete: what it missed is asked for.
    pub(super) fn end_lookup(mut self, upstream: &Upstream) -> Option<Missed> {
        if let Some(hold) = self.again {
            self.downstream.take_place(hold);
            self.downstream.owed.filling(-1);
        }
        let lookup = self.lookup.take()?;
        self.downstream.cut_write();
        let fills = upstream.context.fills.as_ref()?;
        // A write behind it would show too early.
        let changes = self.downstream.owed.changes()?;
        if !lookup.is_miss() || self.downstream.end().is_some() {
            return None;
        }
        let landings: Vec<_> = lookup.missing.iter().filter_map(|key| fills.ask(key)).collect();
        if landings.is_empty() {
            return None;
        }
        let hold = self.downstream.hold_from(lookup.start);
        self.downstream.owed.filling(1);
        Some(Missed { landings, hold, again: Self { again: Some(hold), ..self }, lookup: *lookup, changes })
    }

    /// No second answer comes: the first one stands.
    pub(super) fn end_again(&self, hold: HoldId) {
        self.downstream.release(hold, None);
        self.downstream.owed.filling(-1);
    }
}

impl Missed {
    /// Waits for the keys, then reads once more.
    pub(super) async fn fill(self, upstream: Rc<Upstream>) {
        let Self { lookup, landings, hold, mut again, changes } = self;
        let patience = upstream.context.fills.as_ref().map_or(Duration::ZERO, |fills| fills.timeout());
        let deadline = Instant::now() + patience;
        let (mut here, mut bytes) = (false, 0);
        for landing in landings {
            let landed = timeout_at(deadline, landing).await;
            if let Ok(Ok(Landing::Here { bytes: more } | Landing::Known { bytes: more })) = landed {
                here = true;
                bytes += more;
            }
        }
        let downstream = Rc::clone(&again.downstream);
        let usable = upstream.down_reason().is_none() && downstream.end().is_none();
        let as_then = downstream.owed.changes() == Some(changes);
        if here && usable && as_then && downstream.owed.may_take(bytes) {
            again.asked_us = upstream.context.turn();
            upstream.request(&[&lookup.request], again);
        } else {
            again.end_again(hold);
            downstream.flush();
        }
    }
}

/// An answer of several keys that grows beyond this leaves as it is.
const HELD_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use memcloud_protocol::memcache::Dialect;

    use super::*;
    use crate::metrics::CommandName;
    use crate::upstream::{Conversion, Label, Quiet, Shape};
    use crate::worker::bare;

    fn lookup(keys: &[&str]) -> Box<Lookup> {
        Lookup::new(&[b"get ", b"a b\r\n"], keys.iter().map(|key| key.as_bytes()))
    }

    fn missing(lookup: &Lookup) -> Vec<&str> {
        lookup.missing.iter().map(|key| std::str::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn keys_without_a_value_are_missing() {
        let mut of = lookup(&["a", "b", "c", "d"]);
        of.note(b"VALUE b 0 1");
        of.note(b"VALUE c 0 1 77");
        assert!(!of.is_miss(), "it has not ended");
        of.note(b"END");
        assert!(of.is_miss());
        assert_eq!(missing(&of), ["a", "d"]);
    }

    #[test]
    fn a_key_asked_for_twice_is_found_twice() {
        let mut of = lookup(&["a", "b", "a"]);
        of.note(b"VALUE a 0 1");
        of.note(b"VALUE a 0 1");
        of.note(b"END");
        assert_eq!(missing(&of), ["b"]);
    }

    #[test]
    fn hits_and_errors_are_no_misses() {
        for line in [&b"VA 1 kx"[..], b"HD", b"SERVER_ERROR out of memory", b"CLIENT_ERROR bad"] {
            let mut of = lookup(&["a"]);
            of.note(line);
            assert!(!of.is_miss(), "{}", line.escape_ascii());
        }
        for line in [&b"EN"[..], b"END"] {
            let mut of = lookup(&["a"]);
            of.note(line);
            assert!(of.is_miss());
        }
    }

    #[tokio::test]
    async fn an_answer_that_grows_too_long_leaves_as_it_is() {
        let context = bare::context(usize::MAX);
        let (downstream, app) = bare::app(&context);
        let mut pending = Pending {
            downstream: Rc::clone(&downstream),
            shape: Shape::Values,
            quiet: Quiet::No,
            conversion: Conversion::None,
            label: Label(Dialect::Text, CommandName::Get),
            write: None,
            lookup: Some(lookup(&["a", "b"])),
            again: None,
            keys: 2,
            open: false,
            asked_us: 0,
        };
        let left = || matches!(app.try_read(&mut [0; 4096]), Ok(1..));
        pending.begin_lookup();
        let held = usize::try_from(HELD_BYTES_MAX).unwrap();
        (0..held / 4096).for_each(|_| downstream.deliver(&[b'v'; 4096]));
        pending.continue_lookup();
        downstream.flush();
        assert!(pending.lookup.is_some() && !left(), "all of it waits for its end");
        downstream.deliver(b"v");
        pending.continue_lookup();
        downstream.flush();
        assert!(pending.lookup.is_none());
        app.readable().await.unwrap();
        assert!(left());
    }
}
