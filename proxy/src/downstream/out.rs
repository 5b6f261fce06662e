//! Bytes on their way to the app, and up to where they may leave.
//!
//! ```text
//!      sent │ may leave            │ held
//!   ────────┼──────────────────────┼───────────┬────────────┬──────
//!           │  END  VALUE…  STORED │ STORED    │ END STORED │ END …
//!                                  ▲ hold 7    ▲ hold 8
//! ```
//!
//! Without `--ack peer` nothing is ever held. With it, the answers of one batch that belong to writes make a *hold*: from
//! the first of them on nothing leaves until it is released. A hold is released for good, or failed: then each answer of
//! its writes gives way to an error, and what stands behind them keeps its place. Holds may be released in any order; bytes leave
//! in the order in which they came.
//!
//! Positions count all bytes that ever went this way, so that they stay right when the buffer moves.

use std::collections::VecDeque;

use memcloud_protocol::memcache::binary;

/// What waits for the app.
#[derive(Default)]
pub(super) struct Out {
    bytes: Vec<u8>,
    sent: usize,
    /// The position of the first of `bytes`.
    base: u64,
    held: Option<Box<Held>>,
}

/// One of a session's holds, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldId(u64);

/// How an answer is to be replaced, should it come to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line.
    Text,
    /// A packet under this opcode, with this opaque.
    Packet { opcode: u8, opaque: u32 },
}

#[derive(Default)]
struct Held {
    /// Answers to writes since the last hold.
    gathered: Hold,
    /// An answer to a write that is not complete.
    open: Option<Open>,
    holds: VecDeque<Hold>,
    /// The number of the first of `holds`.
    first: u64,
    /// Writes whose answers are held.
    writes: u32,
    /// Some of `holds` have failed and are not settled.
    failed: bool,
}

#[derive(Default)]
struct Hold {
    start: Option<u64>,
    writes: u32,
    answers: Vec<Answer>,
    state: State,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Held,
    Released,
    Failed(&'static str),
}

#[derive(Clone, Copy)]
struct Open {
    start: u64,
    form: Option<Form>,
    /// A part of it changed something.
    changed: bool,
}

#[derive(Clone, Copy)]
struct Answer {
    start: u64,
    end: u64,
    form: Form,
}

impl Out {
    pub(super) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    pub(super) fn set_buffer(&mut self, buffer: Vec<u8>) {
        self.bytes = buffer;
    }

    /// Where the next bytes go.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What may leave now.
    pub(super) fn waiting(&self) -> &[u8] {
        let end = match self.limit() {
            Some(limit) => usize::try_from(limit - self.base).unwrap_or(usize::MAX).min(self.bytes.len()),
            None => self.bytes.len(),
        };
        &self.bytes[self.sent..end]
    }

    /// All that is not sent, held or not.
    pub(super) fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// So many have left.
    pub(super) fn left(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Gives back the memory of what was sent, while the rest waits.
    pub(super) fn compact(&mut self, least: usize) {
        if self.sent >= least && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.base += self.sent as u64;
            self.sent = 0;
        }
    }

    /// The buffer, when all of it was sent.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if self.unsent() > 0 || !self.has_buffer() {
            return None;
        }
        self.base += self.sent as u64;
        self.sent = 0;
        Some(std::mem::take(&mut self.bytes))
    }

    /// An answer to a write begins, or its next part does. With a `form` it can fail.
    pub(super) fn open(&mut self, form: Option<Form>) {
        let start = self.end();
        let held = self.held.get_or_insert_default();
        held.open.get_or_insert(Open { start, form, changed: false });
    }

    /// A part of the answer is complete; more of it comes.
    pub(super) fn part(&mut self, changed: bool) {
        if let Some(open) = self.held.as_mut().and_then(|held| held.open.as_mut()) {
            open.changed |= changed;
        }
    }

    /// The answer is complete. If it tells of a change it is held from now on.
    pub(super) fn close(&mut self, changed: bool) {
        let end = self.end();
        let Some(held) = &mut self.held else { return };
        let Some(open) = held.open.take() else { return };
        if !open.changed && !changed {
            return;
        }
        let gathered = &mut held.gathered;
        gathered.start.get_or_insert(open.start);
        gathered.writes += 1;
        held.writes += 1;
        gathered.answers.extend(open.form.map(|form| Answer { start: open.start, end, form }));
    }

    /// No more comes of an answer that was begun.
    pub(super) fn cut(&mut self) {
        if let Some(held) = &mut self.held {
            held.open = None;
        }
    }

    /// Makes a hold of the answers that were completed since the last one, and says how many they are.
    pub(super) fn hold(&mut self) -> Option<(HoldId, u32)> {
        let held = self.held.as_mut()?;
        held.gathered.start?;
        let hold = std::mem::take(&mut held.gathered);
        let writes = hold.writes;
        held.holds.push_back(hold);
        Some((HoldId(held.first + held.holds.len() as u64 - 1), writes))
    }

    /// A hold is over. With a sentence its writes have failed: see [`Out::settle`].
    pub(super) fn release(&mut self, id: HoldId, failed: Option<&'static str>) {
        let Some(held) = &mut self.held else { return };
        let index = id.0.checked_sub(held.first).and_then(|index| usize::try_from(index).ok());
        let Some(hold) = index.and_then(|index| held.holds.get_mut(index)) else { return };
        hold.state = failed.map_or(State::Released, State::Failed);
        held.failed |= failed.is_some();
        held.writes -= std::mem::take(&mut hold.writes);
    }

    /// The bytes of an answer that was begun are none so far.
    pub(super) fn is_silent(&self) -> bool {
        self.held.as_ref().and_then(|held| held.open).is_none_or(|open| open.start == self.end())
    }

    /// Whether what comes now has to stay.
    pub(super) fn holds_back(&self) -> bool {
        self.limit().is_some()
    }

    /// Writes whose answers are held.
    pub(super) fn held_writes(&self) -> u32 {
        self.held.as_ref().map_or(0, |held| held.writes)
    }

    /// Forgets holds that are over, with errors in the place of what failed. Says by how many bytes that grew.
    pub(super) fn settle(&mut self) -> isize {
        let Some(held) = &mut self.held else { return 0 };
        let before = self.bytes.len();
        if std::mem::take(&mut held.failed) {
            self.bytes = held.with_errors(&self.bytes, self.base);
        }
        while held.holds.front().is_some_and(|hold| hold.state != State::Held) {
            held.holds.pop_front();
            held.first += 1;
        }
        if held.holds.is_empty() && held.holds.capacity() > HOLDS_KEPT {
            held.holds = VecDeque::new();
        }
        self.bytes.len().cast_signed() - before.cast_signed()
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// From here on everything is held.
    fn limit(&self) -> Option<u64> {
        let held = self.held.as_ref()?;
        let oldest = held.holds.iter().find(|hold| hold.state == State::Held).and_then(|hold| hold.start);
        oldest.or(held.gathered.start).or(held.open.map(|open| open.start))
    }
}

impl Held {
    /// The bytes with the answers of failed writes replaced; every position behind them moves.
    fn with_errors(&mut self, bytes: &[u8], base: u64) -> Vec<u8> {
        let offset = |position: u64| usize::try_from(position - base).unwrap_or(usize::MAX).min(bytes.len());
        let mut new = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        let mut grown = 0_u64;
        for hold in self.holds.iter_mut().chain([&mut self.gathered]) {
            hold.start = hold.start.map(|start| start.wrapping_add(grown));
            let State::Failed(sentence) = hold.state else {
                for answer in &mut hold.answers {
                    answer.start = answer.start.wrapping_add(grown);
                    answer.end = answer.end.wrapping_add(grown);
                }
                continue;
            };
            for answer in hold.answers.drain(..) {
                new.extend_from_slice(&bytes[copied..offset(answer.start)]);
                copied = offset(answer.end);
                answer.form.refuse(sentence, &mut new);
                grown = (base + new.len() as u64).wrapping_sub(base + copied as u64);
            }
        }
        new.extend_from_slice(&bytes[copied..]);
        if let Some(open) = &mut self.open {
            open.start = open.start.wrapping_add(grown);
        }
        new
    }
}

impl Form {
    fn refuse(self, sentence: &str, out: &mut Vec<u8>) {
        match self {
            Self::Text => {
                out.extend_from_slice(b"SERVER_ERROR ");
                out.extend_from_slice(sentence.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Self::Packet { opcode, opaque } => {
                let status = binary::status::TEMPORARY_FAILURE;
                binary::write_error(opcode, status, opaque, sentence.as_bytes(), out);
            }
        }
    }
}

/// A queue that was once long is not kept.
const HOLDS_KEPT: usize = 64;

#[cfg(test)]
mod tests;
