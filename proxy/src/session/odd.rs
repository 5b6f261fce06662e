//! Requests that are not plainly valid, and those that memcached takes only by themselves.
//!
//! How many answers an odd line has nobody can say beforehand. It goes up as it came, on the session's own connection,
//! with an `mn` behind it; all up to the answer of that is its own. What it may have changed is read again afterwards.

use std::rc::Rc;

use memcloud_protocol::memcache::text::{Command, Meta, Reach, Request};

use super::flush::{When, odd_delay};
use super::label::label;
use super::{Session, Step};
use crate::metrics::CommandName;
use crate::replication::effect::Intent;
use crate::upstream::{Hold, Quiet, Shape, Upstream, Write};

impl Session {
    /// A line whose answers cannot be counted: all up to that of the `mn` behind it are its own.
    pub(super) fn send_odd(
        &mut self,
        upstream: &Rc<Upstream>,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(), Step> {
        self.note_marks(request);
        if self.replicates() && matches!(request.reach(), Reach::Everything) {
            return self.send_odd_flush(upstream, request);
        }
        let write = self.write_of_odd(request);
        if request.line.first() == Some(&FIRST_BYTE_OF_BINARY) {
            // As the first byte of a fresh connection it would make that a binary one.
            let mut pending = self.owed(Shape::Line, CommandName::Other);
            pending.quiet = Quiet::Noreply;
            upstream.request(&[b"mn\r\n"], pending);
        }
        let mut pending = self.owed(Shape::UntilNoop, label(&request.command));
        pending.write = write;
        upstream.request(&[request.line, body, b"mn\r\n"], pending);
        Ok(())
    }

    fn write_of_odd(&self, request: &Request<'_>) -> Option<Box<Write>> {
        if !self.replicates() {
            return None;
        }
        let keys: Vec<Box<[u8]>> = match request.reach() {
            Reach::Nothing | Reach::Everything => return None,
            Reach::Key(key) => vec![key.as_ref().into()],
            Reach::Keys(keys) => keys.map(Into::into).collect(),
        };
        Some(Box::new(Write { hold: Hold::Afterwards(keys), intent: Intent::Odd, effect: None }))
    }

    /// memcached reads the delay of a `flush_all` however it is written.
    fn send_odd_flush(&mut self, upstream: &Rc<Upstream>, request: &Request<'_>) -> Result<(), Step> {
        let (delay, noreply) = odd_delay(request.line);
        let when = self.note_flush(delay)?;
        let mut pending = self.owed(Shape::UntilNoop, label(&request.command));
        let line = match when {
            When::Noted => {
                self.say_ok(noreply);
                return Ok(());
            }
            When::Refused => request.line,
            When::Now => {
                self.gate_of_all(upstream)?;
                pending.write =
                    Some(Box::new(Write { hold: Hold::All, intent: Intent::Flush, effect: None }));
                match (delay > 0, noreply) {
                    (false, _) => request.line,
                    (true, false) => b"flush_all\r\n",
                    (true, true) => b"flush_all noreply\r\n",
                }
            }
        };
        upstream.request(&[line, b"mn\r\n"], pending);
        Ok(())
    }

    /// Notices that stale marks come into use, however the line is written.
    pub(super) fn note_marks(&self, request: &Request<'_>) {
        let line = request.line.trim_ascii_start();
        let marks = line.starts_with(b"ms ") || line.starts_with(b"md ");
        if marks && line.windows(2).any(|pair| pair == b" I") {
            self.context.note_stale_marks();
        }
    }

    /// memcached refuses to dump or watch behind answers that it has not sent yet; on a connection of its own it
    /// sees that by itself.
    pub(super) fn stands_behind_answers(&self) -> bool {
        self.pipelined || self.own.is_none() && self.downstream.owed.in_flight() > 0 && !self.behind_get
    }

    pub(super) fn note_pipelined(&mut self) -> Step {
        self.pipelined = true;
        Step::Idle
    }

    pub(super) fn refuse_pipelined(&mut self, request: &Request<'_>) -> usize {
        self.pipelined = false;
        self.answered = true;
        let what: &[u8] = if matches!(request.command, Command::Watch) { b"watch" } else { b"metadump" };
        self.downstream.deliver(b"ERROR cannot pipeline other commands before ");
        self.downstream.deliver(what);
        self.downstream.deliver(b"\r\n");
        request.line.len()
    }
}

/// Some versions repeat a base64 key in its plain bytes (1.6.18 does for `ms`, `ma` and a touching `mg`): with a line
/// end in it the answer has more lines than one.
pub(super) fn reflects_any_bytes(meta: &Meta<'_>) -> bool {
    meta.is_base64() && meta.has(b'k') && meta.decoded_key().iter().any(|byte| matches!(byte, b'\r' | b'\n'))
}

/// See `protocol.txt` of the binary dialect: the magic byte of a request.
const FIRST_BYTE_OF_BINARY: u8 = 0x80;
