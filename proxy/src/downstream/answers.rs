//! Answers on their way from the upstream to the app's socket.
//!
//! Promises that a batch costs one system call, that a large piece is not copied on its way, and that what waits for
//! an app that does not read is bounded: beyond that an own connection of the session is not read any more, and a
//! session on a shared one is closed.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};

use tokio::io::AsyncWrite;

use super::out::Out;
use super::{Downstream, End};

impl Downstream {
    /// Takes a piece of an answer. It leaves with [`Downstream::flush`].
    pub(crate) fn deliver(&self, piece: &[u8]) {
        if self.end.get() == Some(End::Now) {
            return;
        }
        self.owed.came(piece.len());
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

    /// Whether answers wait, for peers or for the app to read them.
    pub(crate) fn has_unsent(&self) -> bool {
        self.out.borrow().unsent() > 0
    }

    /// Whether so much waits for the app that its own upstream connection should not be read for now.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.out.borrow().unsent() > OUT_BYTES_HIGH && self.end.get().is_none()
    }

    /// Whether another request may be sent: answers that wait and answers that are owed are bounded.
    pub(crate) fn has_room(&self) -> bool {
        let out = self.out.borrow();
        out.unsent() < OUT_BYTES_HIGH && out.held_writes() < HELD_WRITES_MAX && self.owed.has_room()
    }

    /// Whether answers on an own connection may have to wait for this app to read. A gate taken behind them would
    /// wait, too.
    pub(crate) fn may_hold_up_answers(&self) -> bool {
        !self.out.borrow().waiting().is_empty() || self.owed.saw_large_reply() && self.owed.in_flight() > 0
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
}

/// Above this an own upstream connection is not read any more, and no request of the app is.
const OUT_BYTES_HIGH: usize = 256 * 1024;
/// A session on a shared connection cannot hold that back; beyond this it is closed.
const OUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Where all sessions together have too much waiting, those above this are closed.
const OUT_BYTES_FAIR: usize = 1024 * 1024;
/// Writes whose answers wait for peers: no more are on their way to one peer.
const HELD_WRITES_MAX: u32 = 16_384;
/// Sent bytes that are worth moving the rest for.
const COMPACTED_BYTES: usize = 64 * 1024;
/// A piece this large is sent from where it lies, rather than copied first.
const WRITE_THROUGH_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::bare;

    const PIECE: [u8; 4096] = [b'v'; 4096];

    /// Answers of so many bytes, to an app that reads none of them.
    fn deliver(downstream: &Downstream, bytes: usize) {
        (0..bytes / PIECE.len()).for_each(|_| downstream.deliver(&PIECE));
        downstream.deliver(&PIECE[..bytes % PIECE.len()]);
    }

    #[tokio::test]
    async fn an_app_that_does_not_read_is_closed_at_the_bound() {
        let context = bare::context(usize::MAX);
        let (downstream, _app) = bare::app(&context);
        deliver(&downstream, OUT_BYTES_MAX);
        assert_eq!((downstream.end(), bare::slow_readers(&context)), (None, 0));
        downstream.deliver(b"v");
        assert_eq!((downstream.end(), bare::slow_readers(&context)), (Some(End::Now), 1));
        let kept = downstream.out.borrow().unsent();
        downstream.deliver(&PIECE);
        assert_eq!(downstream.out.borrow().unsent(), kept, "nothing is kept for it any more");
        drop(downstream);
        assert_eq!(context.waiting.get(), 0);
    }

    #[tokio::test]
    async fn where_all_leave_too_much_those_with_most_are_closed() {
        let context = bare::context(OUT_BYTES_FAIR + 100);
        let (modest, _one) = bare::app(&context);
        let (greedy, _other) = bare::app(&context);
        deliver(&modest, 100);
        deliver(&greedy, OUT_BYTES_FAIR);
        greedy.deliver(b"");
        assert_eq!(greedy.end(), None, "together they are at the bound");
        modest.deliver(b"v");
        assert_eq!((modest.end(), greedy.end()), (None, None), "nobody has more than a fair part");
        greedy.deliver(b"v");
        assert_eq!((modest.end(), greedy.end()), (None, Some(End::Now)));
        assert_eq!(bare::slow_readers(&context), 1);
    }

    #[tokio::test]
    async fn an_app_that_does_not_read_is_not_read_either() {
        let context = bare::context(usize::MAX);
        let (downstream, _app) = bare::app(&context);
        deliver(&downstream, OUT_BYTES_HIGH - 1);
        assert!(downstream.has_room());
        downstream.deliver(b"v");
        assert!(!downstream.has_room() && !downstream.is_backed_up());
        downstream.deliver(b"v");
        assert!(downstream.is_backed_up(), "its own connection to memcached is not read now");
    }
}
