//! The app's end of a session: its socket, the answers on their way to it, and how many are still owed.
//!
//! Promises that answers leave in the order in which they are given to it, that a batch of them costs one
//! system call, and that an idle app holds no buffer. Refuses to know what a request is.
//!
//! The upstream connection writes here directly, from its own task: an answer does not have to wake the task of
//! the session to reach the app. Only when the socket is full does the session's task take over.

mod out;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;
use crate::worker::Context;
use out::Out;
pub(crate) use out::{Form, HoldId};

/// The app's side of one session.
pub(crate) struct Downstream {
    context: Rc<Context>,
    stream: RefCell<Stream>,
    out: RefCell<Out>,
    in_flight: Cell<u32>,
    /// Keys asked for by those; a retrieval may name many.
    keys_in_flight: Cell<u32>,
    /// Writes that are in flight, and that ever were; and misses that are being filled: counted with `--miss peer`.
    changes_in_flight: Cell<u32>,
    changes: Cell<u64>,
    fills: Cell<u32>,
    /// Bytes that fills bring.
    filling_bytes: Cell<usize>,
    reply_peak: Cell<u32>,
    reply_bytes: Cell<u32>,
    touched: Cell<bool>,
    saw_large_reply: Cell<bool>,
    draining: Cell<bool>,
    end: Cell<Option<End>>,
    awaiting: Cell<Awaiting>,
    waker: RefCell<Option<Waker>>,
    reader: RefCell<Option<Waker>>,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything given was to be delivered first.
    AfterFlush,
    /// The socket is broken, or an answer was cut in the middle.
    Now,
}

/// What the session's task sleeps for, besides its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaiting {
    /// Nothing of this side.
    Nothing,
    /// Room for more requests in flight.
    Room,
    /// That no answer is owed any more.
    Idle,
}

impl Downstream {
    pub(crate) fn new(context: Rc<Context>, stream: Stream) -> Self {
        Self {
            context,
            stream: RefCell::new(stream),
            out: RefCell::default(),
            in_flight: Cell::new(0),
            keys_in_flight: Cell::new(0),
            changes_in_flight: Cell::new(0),
            changes: Cell::new(0),
            fills: Cell::new(0),
            filling_bytes: Cell::new(0),
            reply_peak: Cell::new(REPLY_ESTIMATE_AT_START),
            reply_bytes: Cell::new(0),
            touched: Cell::new(false),
            saw_large_reply: Cell::new(false),
            draining: Cell::new(false),
            end: Cell::new(None),
            awaiting: Cell::new(Awaiting::Nothing),
            waker: RefCell::new(None),
            reader: RefCell::new(None),
        }
    }

    // ---- the upstream's side

    /// Takes a piece of an answer. It leaves with [`Downstream::flush`].
    pub(crate) fn deliver(&self, piece: &[u8]) {
        if self.end.get() == Some(End::Now) {
            return;
        }
        self.reply_bytes
            .set(self.reply_bytes.get().saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX)));
        let mut out = self.out.borrow_mut();
        if let Some(aside) = out.aside() {
            return aside.extend_from_slice(piece);
        }
        let mut rest = piece;
        if piece.len() >= WRITE_THROUGH_BYTES && out.unsent() == 0 && !out.holds_back() {
            rest = &piece[self.write_now(piece)..];
        }
        if rest.is_empty() {
            return;
        }
        if !out.has_buffer() {
            out.set_buffer(self.context.buffers.take());
        }
        out.compact(COMPACTED_BYTES);
        out.bytes().extend_from_slice(rest);
        self.context.waiting.set(self.context.waiting.get() + rest.len());
        let waiting = out.unsent();
        if waiting > OUT_BYTES_MAX || waiting > OUT_BYTES_FAIR && self.context.too_much_waits() {
            drop(out);
            self.context.counters.slow_reader_closed();
            self.abort();
        }
    }

    /// Takes a piece of an answer that is written in place.
    pub(crate) fn deliver_with<R>(&self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut out = self.out.borrow_mut();
        if let Some(aside) = out.aside() {
            return write(aside);
        }
        if !out.has_buffer() {
            out.set_buffer(self.context.buffers.take());
        }
        let before = out.unsent();
        let result = write(out.bytes());
        self.context.waiting.set(self.context.waiting.get() + out.unsent() - before);
        result
    }

    // ---- answers that wait for peers: see `out.rs`

    /// An answer to a write begins, or its next part does. With a form it can be replaced by an error.
    pub(crate) fn open_write(&self, form: Option<Form>) {
        self.out.borrow_mut().open(form);
    }

    /// A part of it is complete, more comes.
    pub(crate) fn part_of_write(&self, changed: bool) {
        self.out.borrow_mut().part(changed);
    }

    /// It is complete, and told of a change or not.
    pub(crate) fn close_write(&self, changed: bool) {
        self.out.borrow_mut().close(changed);
    }

    /// It has no bytes so far.
    pub(crate) fn is_silent(&self) -> bool {
        self.out.borrow().is_silent()
    }

    /// No more comes of it.
    pub(crate) fn cut_write(&self) {
        self.out.borrow_mut().cut();
    }

    /// Holds the answers of writes that were completed since the last hold, and all behind them; says how many.
    pub(crate) fn hold(&self) -> Option<(HoldId, u32)> {
        self.out.borrow_mut().hold()
    }

    /// A hold is over; what it held leaves with the next flush, or errors in its place.
    pub(crate) fn release(&self, hold: HoldId, failed: Option<&'static str>) {
        self.out.borrow_mut().release(hold, failed);
    }

    // ---- misses that a peer may fill: see `upstream/lookup.rs`

    /// Where the next answer begins.
    pub(crate) fn position(&self) -> u64 {
        self.out.borrow().end()
    }

    /// Holds the last answer, which begins there.
    pub(crate) fn hold_from(&self, start: u64) -> HoldId {
        self.out.borrow_mut().hold_from(start)
    }

    /// The answer that begins now is to take the place of another one.
    pub(crate) fn receive_aside(&self) {
        self.out.borrow_mut().set_aside();
    }

    /// No more comes of it.
    pub(crate) fn drop_aside(&self) {
        self.out.borrow_mut().drop_aside();
    }

    /// It is complete.
    pub(crate) fn take_place(&self, hold: HoldId) {
        self.out.borrow_mut().replace(hold);
    }

    /// One more is being filled, or one less.
    pub(crate) fn filling(&self, change: i32) {
        self.fills.set(self.fills.get().saturating_add_signed(change));
        if self.fills.get() == 0 {
            self.filling_bytes.set(0);
        }
    }

    /// One more write is in flight, or one less.
    pub(crate) fn changing(&self, change: i32) {
        self.changes_in_flight.set(self.changes_in_flight.get().saturating_add_signed(change));
        self.changes.set(self.changes.get() + u64::from(change > 0));
    }

    /// Writes that the session ever sent, if all of them are answered.
    pub(crate) fn changes(&self) -> Option<u64> {
        (self.changes_in_flight.get() == 0).then(|| self.changes.get())
    }

    /// Whether answers with so many bytes more may be held; if so they are counted. One may always.
    pub(crate) fn may_take(&self, bytes: usize) -> bool {
        let held = self.filling_bytes.get();
        let may = held == 0 || held.saturating_add(bytes) <= FILLING_BYTES_MAX;
        if may {
            self.filling_bytes.set(held.saturating_add(bytes));
        }
        may
    }

    /// Whether answers wait, for peers or for the app to read them.
    pub(crate) fn has_unsent(&self) -> bool {
        self.out.borrow().unsent() > 0
    }

    /// memcached has taken what it was sent.
    pub(crate) fn upstream_drained(&self) {
        self.wake();
    }

    /// An answer is complete.
    pub(crate) fn replied(&self, keys: u32) {
        let size = self.reply_bytes.replace(0) / keys.max(1);
        let peak = self.reply_peak.get();
        if size > LARGE_REPLY {
            self.saw_large_reply.set(true);
        }
        // Rises at once, forgets slowly.
        self.reply_peak.set(size.max(peak - peak / 16).max(REPLY_ESTIMATE_MIN));
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.keys_in_flight.set(self.keys_in_flight.get().saturating_sub(keys));
    }

    /// Marks that a batch has given something; true the first time since the last flush.
    pub(crate) fn touch(&self) -> bool {
        !self.touched.replace(true)
    }

    /// Sends what a batch has gathered, and wakes the session's task if that can go on now.
    pub(crate) fn flush(&self) {
        self.touched.set(false);
        let mut out = self.out.borrow_mut();
        self.settle(&mut out);
        if !out.waiting().is_empty() {
            let sent = self.write_now(out.waiting());
            self.left(&mut out, sent);
        }
        let blocked = !out.waiting().is_empty();
        if out.unsent() <= OUT_BYTES_HIGH / 2 {
            self.wake_reader();
        }
        if !blocked {
            self.recycle(&mut out);
        }
        drop(out);
        if blocked || self.end.get().is_some() || self.may_go_on() {
            self.wake();
        }
    }

    /// Ends the session once all that was given has left.
    pub(crate) fn finish(&self) {
        if self.end.get().is_none() {
            self.end.set(Some(End::AfterFlush));
        }
        self.wake();
    }

    /// Ends the session once nothing that was received waits for an answer.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    /// See [`Downstream::drain`].
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Ends the session at once.
    pub(crate) fn abort(&self) {
        self.end.set(Some(End::Now));
        self.wake();
    }

    /// Whether so much waits for the app that its own upstream connection should not be read for now.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.out.borrow().unsent() > OUT_BYTES_HIGH && self.end.get().is_none()
    }

    /// Whom to wake when the app has read enough again.
    pub(crate) fn wake_when_drained(&self, reader: &Waker) {
        *self.reader.borrow_mut() = Some(reader.clone());
    }

    // ---- the session's side

    /// Counts a request that will be answered by the upstream.
    pub(crate) fn asked(&self, keys: u32) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.keys_in_flight.set(self.keys_in_flight.get().saturating_add(keys));
    }

    /// Answers owed by the upstream.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether another request may be sent: answers owed and waiting are bounded in number and, by the size
    /// of the recent ones, in bytes.
    pub(crate) fn has_room(&self) -> bool {
        let in_flight = self.in_flight.get();
        let out = self.out.borrow();
        let expected = u64::from(self.keys_in_flight.get()) * u64::from(self.reply_peak.get());
        out.unsent() < OUT_BYTES_HIGH
            && self.fills.get() == 0
            && out.held_writes() < HELD_WRITES_MAX
            && (in_flight == 0 || in_flight < IN_FLIGHT_MAX && expected < REPLY_BYTES_MAX)
    }

    /// Whether the answer to so many keys, by what is known of their values, is too much to hold.
    pub(crate) fn is_too_much(&self, keys: usize) -> bool {
        keys as u64 * u64::from(self.reply_peak.get()) > REPLY_BYTES_AT_ONCE
    }

    /// Whether answers on an own connection may have to wait for this app to read. A gate taken behind them would
    /// wait, too.
    pub(crate) fn may_hold_up_answers(&self) -> bool {
        !self.out.borrow().waiting().is_empty() || self.saw_large_reply.get() && self.in_flight.get() > 0
    }

    /// Whether an answer was so large that the next ones are better streamed.
    pub(crate) fn saw_large_reply(&self) -> bool {
        self.saw_large_reply.get()
    }

    /// Says what the task sleeps for.
    pub(crate) fn set_awaiting(&self, awaiting: Awaiting) {
        self.awaiting.set(awaiting);
    }

    /// Remembers the session's task.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// How the session is to end, if it is.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// Sends what waits; `Ready` when nothing does any more or the socket is broken.
    pub(crate) fn poll_flush(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut out = self.out.borrow_mut();
        self.settle(&mut out);
        while !out.waiting().is_empty() {
            let mut stream = self.stream.borrow_mut();
            match Pin::new(&mut *stream).poll_write(cx, out.waiting()) {
                Poll::Ready(Ok(sent)) => {
                    self.context.counters.sent(sent as u64);
                    drop(stream);
                    self.left(&mut out, sent);
                }
                Poll::Ready(Err(_)) => {
                    self.end.set(Some(End::Now));
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    if out.unsent() <= OUT_BYTES_HIGH / 2 {
                        self.wake_reader();
                    }
                    return Poll::Pending;
                }
            }
        }
        self.recycle(&mut out);
        if out.unsent() <= OUT_BYTES_HIGH / 2 {
            self.wake_reader();
        }
        Poll::Ready(())
    }

    /// Reads from the app.
    pub(crate) fn poll_read(
        &self,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buf)
    }

    /// Closes the sending half, as far as that is possible.
    pub(crate) fn poll_shutdown(&self, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    fn write_now(&self, bytes: &[u8]) -> usize {
        // Not this task's socket: if it is full, the session's task is woken and waits for it properly.
        let mut cx = TaskContext::from_waker(Waker::noop());
        match Pin::new(&mut *self.stream.borrow_mut()).poll_write(&mut cx, bytes) {
            Poll::Ready(Ok(sent)) => {
                self.context.counters.sent(sent as u64);
                sent
            }
            Poll::Ready(Err(_)) => {
                self.end.set(Some(End::Now));
                bytes.len()
            }
            Poll::Pending => 0,
        }
    }

    /// Puts errors in the place of what failed.
    fn settle(&self, out: &mut Out) {
        let waiting = self.context.waiting.get();
        self.context.waiting.set(waiting.saturating_add_signed(out.settle()));
    }

    fn left(&self, out: &mut Out, bytes: usize) {
        out.left(bytes);
        self.context.waiting.set(self.context.waiting.get().saturating_sub(bytes));
    }

    fn recycle(&self, out: &mut Out) {
        if let Some(buffer) = out.take_buffer() {
            self.context.buffers.give(buffer);
        }
    }

    /// Whether what the task sleeps for has come.
    pub(crate) fn may_go_on(&self) -> bool {
        match self.awaiting.get() {
            Awaiting::Nothing => false,
            Awaiting::Room => self.has_room(),
            Awaiting::Idle => self.in_flight.get() == 0,
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn wake_reader(&self) {
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        let unsent = self.out.get_mut().unsent();
        self.context.waiting.set(self.context.waiting.get().saturating_sub(unsent));
    }
}

/// Above this an own upstream connection is not read any more, and no request of the app is.
const OUT_BYTES_HIGH: usize = 256 * 1024;
/// A session on a shared connection cannot hold that back; beyond this it is closed.
const OUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Where all sessions together have too much waiting, those above this are closed.
const OUT_BYTES_FAIR: usize = 1024 * 1024;
/// Sent bytes that are worth moving the rest for.
const COMPACTED_BYTES: usize = 64 * 1024;
/// What one retrieval may bring, by estimate, on a shared connection.
const REPLY_BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;
/// Requests in flight at the most.
const IN_FLIGHT_MAX: u32 = 1024;
/// Writes whose answers wait for peers: no more are on their way to one peer.
const HELD_WRITES_MAX: u32 = 16_384;
/// Values that come from peers for one session at a time: a batch of misses may bring any.
const FILLING_BYTES_MAX: usize = 1024 * 1024;
/// Requests in flight times the size of recent answers, at the most.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;
/// Nothing is known of a new session's values: 16 requests may be in flight at first.
const REPLY_ESTIMATE_AT_START: u32 = 64 * 1024;
/// Answers of this size are better streamed on a connection of the session's own.
const LARGE_REPLY: u32 = 32 * 1024;
const REPLY_ESTIMATE_MIN: u32 = 64;
/// A piece this large is sent from where it lies, rather than copied first.
const WRITE_THROUGH_BYTES: usize = 8 * 1024;
