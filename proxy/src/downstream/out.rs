//! Bytes on their way to the app, and up to where they may leave.
//!
//! ```text
//!      sent │ may leave            │ held
//!   ────────┼──────────────────────┼───────────┬────────────┬──────
//!           │  END  VALUE…  STORED │ STORED    │ END STORED │ END …
//!                                  ▲ hold 7    ▲ hold 8
//! ```
//!
//! Without `--ack peer` and `--miss peer` nothing is ever held. With the one, the answers of one batch that belong to writes
//! make a *hold*: from the first of them on nothing leaves until it is released. It is released for good, or failed: then
//! each answer of its writes gives way to an error, and what stands behind them keeps its place. With the other, a miss that may yet be
//! filled makes one, and another answer may take its place. Holds may be released in any order; bytes leave in the order in
//! which they came.
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
    /// In the order of their positions.
    holds: VecDeque<Hold>,
    /// The number of the next hold.
    next: u64,
    /// Writes whose answers are held.
    writes: u32,
    /// Some of `holds` are to be replaced and are not settled.
    unsettled: bool,
    /// An answer is received here, and not behind the others.
    aside: Option<Vec<u8>>,
}

#[derive(Default)]
struct Hold {
    id: u64,
    start: Option<u64>,
    writes: u32,
    answers: Vec<Answer>,
    state: State,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    #[default]
    Held,
    Released,
    Failed(&'static str),
    Replaced(Vec<u8>),
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
    /// Orders it among others that begin at the same place.
    id: u64,
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

    /// A part of the answer is complete; more of it comes. If it is long already it is held by itself, so that it can leave
    /// before the rest has room. Then no error takes its place; only that of the last part.
    pub(super) fn part(&mut self, changed: bool) {
        let long = self.is_long();
        let Some(open) = self.held.as_mut().and_then(|held| held.open.as_mut()) else { return };
        open.changed |= changed;
        if long {
            open.form = None;
            self.close(false);
        }
    }

    /// The answer that was begun is more than should wait for its end.
    pub(super) fn is_long(&self) -> bool {
        let open = self.held.as_ref().and_then(|held| held.open);
        open.is_some_and(|open| self.end() - open.start > OPEN_BYTES_MAX)
    }

    /// The answer is complete. If it tells of a change it is held from now on.
    pub(super) fn close(&mut self, changed: bool) {
        let end = self.end();
        let Some(held) = &mut self.held else { return };
        let Some(open) = held.open.take() else { return };
        if !open.changed && !changed {
            return;
        }
        let id = held.number();
        let gathered = &mut held.gathered;
        if gathered.start.is_none() {
            gathered.id = id;
        }
        gathered.start.get_or_insert(open.start);
        gathered.writes += 1;
        held.writes += 1;
        gathered.answers.extend(open.form.map(|form| Answer { id, start: open.start, end, form }));
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
        Some((held.add(hold), writes))
    }

    /// Makes a hold of the last answer, which begins there.
    pub(super) fn hold_from(&mut self, start: u64) -> HoldId {
        let end = self.end();
        let held = self.held.get_or_insert_default();
        let id = held.number();
        let answers = vec![Answer { id, start, end, form: Form::Text }];
        held.add(Hold { id, start: Some(start), answers, ..Hold::default() })
    }

    /// Receives the next answer aside.
    pub(super) fn set_aside(&mut self) {
        self.held.get_or_insert_default().aside = Some(Vec::new());
    }

    /// Where an answer is received that does not go behind the others.
    pub(super) fn aside(&mut self) -> Option<&mut Vec<u8>> {
        self.held.as_mut()?.aside.as_mut()
    }

    /// What was received aside is cut off.
    pub(super) fn drop_aside(&mut self) {
        if let Some(held) = &mut self.held {
            held.aside = None;
        }
    }

    /// What was received aside takes the place of what is held.
    pub(super) fn replace(&mut self, id: HoldId) {
        let Some(held) = &mut self.held else { return };
        let bytes = held.aside.take().unwrap_or_default();
        if let Some(hold) = held.find(id) {
            hold.state = State::Replaced(bytes);
            held.unsettled = true;
        }
    }

    /// A hold is over. With a sentence its writes have failed: see [`Out::settle`].
    pub(super) fn release(&mut self, id: HoldId, failed: Option<&'static str>) {
        let Some(held) = &mut self.held else { return };
        let Some(hold) = held.find(id) else { return };
        hold.state = failed.map_or(State::Released, State::Failed);
        let writes = std::mem::take(&mut hold.writes);
        held.unsettled |= failed.is_some();
        held.writes -= writes;
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
        if std::mem::take(&mut held.unsettled) {
            self.bytes = held.with_others(&self.bytes, self.base);
        }
        while held.holds.front().is_some_and(|hold| hold.state != State::Held) {
            held.holds.pop_front();
        }
        if held.holds.is_empty() && held.holds.capacity() > HOLDS_KEPT {
            held.holds = VecDeque::new();
        }
        self.bytes.len().cast_signed() - before.cast_signed()
    }

    /// The position of the next byte.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// From here on everything is held.
    fn limit(&self) -> Option<u64> {
        let held = self.held.as_ref()?;
        let oldest = held.holds.iter().find(|hold| hold.state == State::Held).and_then(|hold| hold.start);
        [oldest, held.gathered.start, held.open.map(|open| open.start)].into_iter().flatten().min()
    }
}

impl Held {
    /// Of a hold that begins behind all others.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn add(&mut self, hold: Hold) -> HoldId {
        let id = HoldId(hold.id);
        // Nearly always the last one.
        let at = self.holds.partition_point(|other| other.id < hold.id);
        self.holds.insert(at, hold);
        id
    }

    fn find(&mut self, id: HoldId) -> Option<&mut Hold> {
        let at = self.holds.partition_point(|other| other.id < id.0);
        self.holds.get_mut(at).filter(|hold| hold.id == id.0 && hold.state == State::Held)
    }

    /// The bytes with other answers where that is due; every position behind them moves.
    fn with_others(&mut self, bytes: &[u8], base: u64) -> Vec<u8> {
        let mut edits: Vec<Edit> = self.holds.iter_mut().flat_map(Hold::edits).collect();
        edits.sort_by_key(|edit| edit.at);
        let offset = |position: u64| usize::try_from(position - base).unwrap_or(usize::MAX).min(bytes.len());
        let mut new = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        for edit in &mut edits {
            new.extend_from_slice(&bytes[copied..offset(edit.at.0)]);
            new.append(&mut edit.with);
            copied = offset(edit.end);
            edit.grown = (new.len() as u64).wrapping_sub(copied as u64);
        }
        new.extend_from_slice(&bytes[copied..]);
        // What stands at the place of an edit and is older stays before it.
        let moved = |position: u64, id: u64| {
            let before = edits.partition_point(|edit| edit.at < (position, id));
            position.wrapping_add(before.checked_sub(1).map_or(0, |last| edits[last].grown))
        };
        for hold in self.holds.iter_mut().chain([&mut self.gathered]) {
            hold.start = hold.start.map(|start| moved(start, hold.id));
            for answer in &mut hold.answers {
                (answer.start, answer.end) = (moved(answer.start, answer.id), moved(answer.end, answer.id));
            }
        }
        if let Some(open) = &mut self.open {
            open.start = moved(open.start, u64::MAX);
        }
        new
    }
}

/// Bytes that give way to others.
struct Edit {
    /// Where they begin, and their number.
    at: (u64, u64),
    end: u64,
    with: Vec<u8>,
    /// By how much all edits up to here have moved what follows; wraps where that is shorter.
    grown: u64,
}

impl Hold {
    /// What is to change if it is over.
    fn edits(&mut self) -> Vec<Edit> {
        if matches!(self.state, State::Held | State::Released) {
            return Vec::new();
        }
        let edit = |answer: Answer| {
            let mut with = Vec::new();
            match &self.state {
                State::Failed(sentence) => answer.form.refuse(sentence, &mut with),
                State::Replaced(other) => with.clone_from(other),
                State::Held | State::Released => {}
            }
            Edit { at: (answer.start, answer.id), end: answer.end, with, grown: 0 }
        };
        std::mem::take(&mut self.answers).into_iter().map(edit).collect()
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

/// Far less than what may wait for an app before no more is read for it.
const OPEN_BYTES_MAX: u64 = 64 * 1024;
/// A queue that was once long is not kept.
const HOLDS_KEPT: usize = 64;

#[cfg(test)]
mod tests;
