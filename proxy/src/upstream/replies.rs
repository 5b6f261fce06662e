//! Replies on their way from memcached to the sessions that asked, and what they tell replication.

use std::rc::Rc;
use std::sync::Arc;

use memcloud_protocol::memcache::{binary, reply as text};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout};

use super::lookup::Missed;
use super::pending::Hold;
use super::reply::Piece;
use super::{Conversion, Pending, Quiet, Shape, State, Upstream, trim};
use crate::downstream::{Downstream, Form, HoldId};
use crate::replication::effect::cas_of_debug_line;
use crate::replication::{Effect, Outcome, Shared, Version};
use crate::worker::Acks;

/// What a batch of replies leaves behind.
#[derive(Default)]
pub(super) struct Batch {
    /// Sessions that were given something.
    pub(super) touched: Vec<Rc<Downstream>>,
    /// Writes whose outcome is known now.
    pub(super) outcomes: Vec<Outcome>,
    /// Keys that were changed by writes that held no gate.
    pub(super) marks: Vec<Marked>,
    /// Misses that a peer may fill.
    pub(super) missed: Vec<Missed>,
}

/// What a write that held no gate has changed.
pub(super) struct Marked {
    keys: Vec<Box<[u8]>>,
    effect: Effect,
    /// Its answer, if that waits for peers.
    answered: Option<Answered>,
}

/// An answer that waits until what it tells of is stamped, and then for peers.
pub(super) type Answered = (Rc<Downstream>, (HoldId, u32));

impl Batch {
    /// Tells replication. With `--ack peer` the answers wait for peers from here on.
    pub(super) fn report(&mut self, replication: &Arc<Shared>, acks: Option<&Rc<Acks>>, now_ms: u64) {
        if !self.outcomes.is_empty() {
            let newest = replication.complete(std::mem::take(&mut self.outcomes), now_ms);
            if let Some(acks) = acks {
                let now = Instant::now();
                for downstream in &self.touched {
                    if let Some(hold) = downstream.hold() {
                        acks.hold(downstream, hold, newest, now);
                    }
                }
            }
        }
        for Marked { keys, effect, answered } in self.marks.drain(..) {
            let marks: Vec<_> = keys
                .into_iter()
                .map(|key| spawn_local(Arc::clone(replication).mark(key, effect.clone())))
                .collect();
            if let Some(((downstream, hold), acks)) = answered.zip(acks) {
                spawn_local(hold_marked(Rc::clone(acks), marks, downstream, hold));
            }
        }
    }
}

/// Waits until marks are stamped, which somebody's gate may delay, and then for peers.
async fn hold_marked(
    acks: Rc<Acks>,
    marks: Vec<JoinHandle<Version>>,
    downstream: Rc<Downstream>,
    hold: (HoldId, u32),
) {
    let since = Instant::now();
    let all = async {
        let mut newest = Version::ZERO;
        for mark in marks {
            newest = newest.max(mark.await.unwrap_or_default());
        }
        newest
    };
    match timeout(acks.timeout(), all).await {
        Ok(newest) => acks.hold(&downstream, hold, newest, since),
        Err(_) => acks.too_late(&downstream, hold, since),
    }
    downstream.flush();
}

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
        done.downstream.replied(done.keys);
        let now = self.context.now_us();
        self.context.counters.duration_us(now.saturating_sub(done.asked_us), 1);
        self.context.counters.request(done.label.0, done.label.1);
        if self.is_tunnel() {
            self.context.counters.served_by_peer();
        }
        let answered = self.context.acks.is_some().then(|| done.end_wait()).flatten();
        if let Some(write) = done.write.take() {
            self.changed(&done.downstream);
            write.end(batch, answered);
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
            downstream.changing(-1);
        }
    }
}

impl super::Write {
    /// Reports the outcome to whoever holds the gate.
    pub(super) fn end(self, batch: &mut Batch, answered: Option<Answered>) {
        let effect = self.effect.unwrap_or(Effect::None);
        match self.hold {
            Hold::Key(slot) => batch.outcomes.push(Outcome::Key(slot, effect)),
            Hold::Promised(slot, version) => batch.outcomes.push(Outcome::Promised(slot, version, effect)),
            Hold::Afterwards(keys) if !matches!(effect, Effect::None) => {
                batch.marks.push(Marked { keys, effect, answered });
            }
            Hold::Afterwards(_) => {}
            Hold::Told(told) => *told.borrow_mut() = Some(effect),
            Hold::All => batch.outcomes.push(match effect {
                Effect::None => Outcome::Flush(false),
                Effect::Unknown => Outcome::FlushUnknown,
                Effect::Removed | Effect::Item { .. } => Outcome::Flush(true),
            }),
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

    /// The answer is complete. What is stamped only later makes a hold of its own.
    fn end_wait(&self) -> Option<Answered> {
        if !self.is_awaited() {
            return None;
        }
        let write = self.write.as_ref()?;
        let changed = !matches!(write.effect, None | Some(Effect::None));
        match (self.quiet, self.shape) {
            (Quiet::End, _) => self.downstream.part_of_write(changed),
            (_, Shape::UntilNoop) if self.downstream.is_silent() => self.downstream.cut_write(),
            _ => self.downstream.close_write(changed),
        }
        let afterwards = matches!(write.hold, Hold::Afterwards(_));
        let hold = afterwards.then(|| self.downstream.hold()).flatten()?;
        Some((Rc::clone(&self.downstream), hold))
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
        self.downstream.replied(self.keys);
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
