//! Replies on their way from memcached to the sessions that asked. What they tell replication is gathered in `batch.rs`.

use std::rc::Rc;

use memcloud_protocol::memcache::{binary, reply as text};

use super::batch::Batch;
use super::pending::Hold;
use super::reply::Piece;
use super::{Conversion, Pending, Quiet, Shape, State, Upstream, trim};
use crate::downstream::{Downstream, Form};
use crate::replication::Effect;
use crate::replication::effect::cas_of_debug_line;

/// Bytes came that no reply explains.
#[derive(Debug)]
pub(super) struct OutOfStep(pub(super) &'static str);

impl Upstream {
    /// Hands on all that `input` holds, whole or in pieces, and says how much of it was used.
    pub(super) fn take_replies(&self, input: &[u8], batch: &mut Batch) -> Result<usize, OutOfStep> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        state.heard_us = self.context.now_us();
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let Some(front) = state.pending.front_mut() else {
                return self.unasked(rest).map(|()| input.len());
            };
            let (len, last) = match state.framer.next(front.shape, rest) {
                Piece::Incomplete => break,
                Piece::Malformed => return Err(OutOfStep("memcached said what no reply begins with")),
                Piece::Head { len, last } => {
                    if !state.begun {
                        self.begin_reply(front, &rest[..len]);
                    }
                    front.head(&rest[..len], last, &mut state.swallow, state.begun)?;
                    front.continue_lookup();
                    (len, last)
                }
                Piece::Data { len, last } => {
                    front.data(&rest[..len], last, state.swallow);
                    front.continue_lookup();
                    (len, last)
                }
            };
            if front.shape == Shape::UntilNoop {
                // Values that an odd line has touched: what they changed is known only behind them all.
                front.downstream.cut_long_write();
            }
            state.begun = true;
            used += len;
            if front.downstream.touch() {
                batch.touched.push(Rc::clone(&front.downstream));
            }
            if last {
                self.end_of_reply(state, batch);
            }
        }
        Ok(used)
    }

    /// What memcached says of itself: a refusal, before it closes. The owner of the connection may hear it.
    fn unasked(&self, bytes: &[u8]) -> Result<(), OutOfStep> {
        match &self.owner {
            Some(owner) => {
                owner.deliver(bytes);
                owner.finish();
                Ok(())
            }
            None => Err(OutOfStep("memcached spoke without being asked")),
        }
    }

    fn end_of_reply(&self, state: &mut State, batch: &mut Batch) {
        state.begun = false;
        state.swallow = false;
        let Some(mut done) = state.pending.pop_front() else { return };
        done.downstream.owed.replied(done.keys);
        let now = self.context.now_us();
        self.context.counters.duration_us(now.saturating_sub(done.asked_us), 1);
        self.context.counters.request(done.label.0, done.label.1);
        if self.is_tunnel() {
            self.context.counters.served_by_peer();
        }
        let waits = self.context.acks.is_some() && done.end_wait();
        if let Some(write) = done.write.take() {
            self.changed(&done.downstream);
            write.end(batch, waits.then_some(&done.downstream));
        }
        if done.lookup.is_some() || done.again.is_some() {
            batch.missed.extend(done.end_lookup(self));
        }
    }

    fn begin_reply(&self, front: &mut Pending, head: &[u8]) {
        if let Some(acks) = &self.context.acks {
            front.begin_wait(head, acks.may_fail());
        }
        front.begin_lookup();
    }

    /// A write of this session is answered, or never will be.
    pub(super) fn changed(&self, downstream: &Downstream) {
        if self.context.fills.is_some() {
            downstream.owed.changing(-1);
        }
    }
}

impl Pending {
    /// Whether its answer waits for peers. One that is never sent does not.
    fn is_awaited(&self) -> bool {
        let told = |write: &super::Write| matches!(write.hold, Hold::Told(_));
        self.write.as_ref().is_some_and(|write| !told(write)) && self.quiet != Quiet::Noreply
    }

    fn begin_wait(&self, head: &[u8], may_fail: bool) {
        if self.is_awaited() {
            self.downstream.open_write(may_fail.then(|| self.form(head)));
        }
    }

    fn form(&self, head: &[u8]) -> Form {
        let header = matches!(self.shape, Shape::Packet | Shape::Packets).then(|| binary::Header::read(head));
        match (header.flatten(), self.quiet) {
            (None, _) => Form::Text,
            (Some(header), Quiet::Packet(opcode)) => {
                Form::Packet { opcode: opcode.to_byte(), opaque: header.opaque }
            }
            (Some(header), _) => Form::Packet { opcode: header.opcode, opaque: header.opaque },
        }
    }

    /// The answer is complete. Says whether it may have to wait.
    fn end_wait(&self) -> bool {
        let Some(write) = self.write.as_ref().filter(|_| self.is_awaited()) else { return false };
        let changed = !matches!(write.effect, None | Some(Effect::None));
        match (self.quiet, self.shape) {
            (Quiet::End, _) => self.downstream.part_of_write(changed),
            (_, Shape::UntilNoop) if self.downstream.is_silent() => self.downstream.cut_write(),
            _ => self.downstream.close_write(changed),
        }
        true
    }

    fn head(&mut self, head: &[u8], last: bool, swallow: &mut bool, begun: bool) -> Result<(), OutOfStep> {
        if matches!(self.shape, Shape::Packet | Shape::Packets) {
            return self.packet_head(head, swallow);
        }
        let line = trim(head);
        if !begun {
            *swallow = self.quiet.hides(line);
        }
        if self.conversion.tells_a_version() && text::is_unknown_flag(line) {
            return Err(OutOfStep("memcached is not the one any more that takes versions"));
        }
        if let Some(write) = &mut self.write {
            write.intent.note(line, &mut write.effect);
        }
        if let Some(lookup) = &mut self.lookup {
            lookup.note(line);
        }
        if let Conversion::CasOf(cas) = &self.conversion {
            cas.set(cas_of_debug_line(line));
        }
        let hidden = *swallow
            || last && (self.shape == Shape::UntilNoop || self.quiet == Quiet::End && line == b"END");
        if hidden {
            return Ok(());
        }
        match &self.conversion {
            Conversion::None | Conversion::CasOf(_) | Conversion::Told => self.downstream.deliver(head),
            Conversion::Get { cas } => self.classic_head(line, *cas)?,
            Conversion::Stored => self.classic_line(text::classic_words(line).unwrap_or(line)),
            Conversion::Number if last => self.classic_line(text::classic_words(line).unwrap_or(line)),
            // The number follows as data, and that is all that is said in classic words.
            Conversion::Number => {}
        }
        Ok(())
    }

    fn classic_line(&self, line: &[u8]) {
        self.downstream.deliver(line);
        self.downstream.deliver(b"\r\n");
    }

    /// `VA 3 kfoo f7` as `VALUE foo 7 3`, `EN` as `END`; errors as they are.
    fn classic_head(&self, line: &[u8], cas: bool) -> Result<(), OutOfStep> {
        // A miss repeats the key, too.
        if line == b"EN" || line.starts_with(b"EN ") {
            self.downstream.deliver(b"END\r\n");
            return Ok(());
        }
        if !line.starts_with(b"VA ") {
            self.downstream.deliver(line);
            self.downstream.deliver(b"\r\n");
            return Ok(());
        }
        self.downstream
            .deliver_with(|out| text::write_value_line(line, cas, out))
            .map(drop)
            .map_err(|_| OutOfStep("memcached answered mg with flags that were not asked for"))
    }

    fn packet_head(&mut self, head: &[u8], swallow: &mut bool) -> Result<(), OutOfStep> {
        let Some(header) = binary::Header::read(head) else { return Err(OutOfStep("half a header")) };
        if let Some(write) = &mut self.write {
            write.intent.note_packet(&header, &mut write.effect);
        }
        if let Some(lookup) = &mut self.lookup {
            lookup.note_packet(&header);
        }
        let Quiet::Packet(opcode) = self.quiet else {
            self.downstream.deliver(head);
            return Ok(());
        };
        *swallow = opcode.quiet_hides(header.status_or_vbucket);
        if !*swallow {
            self.downstream.deliver(&[head[0], opcode.to_byte()]);
            self.downstream.deliver(&head[2..]);
        }
        Ok(())
    }

    fn data(&self, data: &[u8], last: bool, swallow: bool) {
        if swallow {
            return;
        }
        self.downstream.deliver(data);
        if last && matches!(self.conversion, Conversion::Get { .. }) {
            self.downstream.deliver(b"END\r\n");
        }
    }

    /// Answers in memcached's place, when it cannot.
    pub(super) fn refuse(&self, reason: &str) {
        if !matches!(self.quiet, Quiet::Noreply | Quiet::End) && self.again.is_none() {
            self.downstream.deliver(b"SERVER_ERROR ");
            self.downstream.deliver(reason.as_bytes());
            self.downstream.deliver(b"\r\n");
        }
        self.downstream.owed.replied(self.keys);
    }
}

impl Conversion {
    fn tells_a_version(&self) -> bool {
        matches!(self, Self::Stored | Self::Number | Self::Told)
    }
}

impl Quiet {
    fn hides(self, line: &[u8]) -> bool {
        match self {
            Self::No | Self::End | Self::Packet(_) => false,
            Self::Noreply => true,
            Self::Meta(verb) => verb.quiet_hides(&text::classify(line)),
        }
    }
}
