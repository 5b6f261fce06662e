//! The app's end of a session: its socket, the answers on their way to it, and how many are still owed.
//!
//! Promises that answers leave in the order in which they are given to it, that a batch of them costs one
//! system call, and that an idle app holds no buffer. Refuses to know what a request is.
//!
//! The upstream connection writes here directly, from its own task: an answer does not have to wake the task of
//! the session to reach the app. Only when the socket is full does the session's task take over.
//!
//! | part | holds |
//! |---|---|
//! | `answers` | bytes from the upstream to the socket, and how many may wait for an app that does not read |
//! | `owed` | requests that are not answered yet, and whether another may be sent |
//! | `held` | answers that wait for peers, and answers that take the place of others |
//! | `out` | the bytes themselves, and up to where they may leave |
//!
//! Here is what remains: how a session ends, and whom it wakes.

mod answers;
mod held;
mod out;
mod owed;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;
use crate::worker::Context;
use out::Out;
pub(crate) use out::{Form, HoldId};
use owed::Owed;

/// The app's side of one session.
pub(crate) struct Downstream {
    context: Rc<Context>,
    stream: RefCell<Stream>,
    out: RefCell<Out>,
    /// Requests that are not answered yet.
    pub(crate) owed: Owed,
    /// A batch has given something that is not flushed yet.
    touched: Cell<bool>,
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
            owed: Owed::default(),
            touched: Cell::new(false),
            draining: Cell::new(false),
            end: Cell::new(None),
            awaiting: Cell::new(Awaiting::Nothing),
            waker: RefCell::new(None),
            reader: RefCell::new(None),
        }
    }

    // ---- the socket, but for answers

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

    // ---- how it ends

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

    /// How the session is to end, if it is.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    // ---- who is woken

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

    /// Whether what the task sleeps for has come.
    pub(crate) fn may_go_on(&self) -> bool {
        match self.awaiting.get() {
            Awaiting::Nothing => false,
            Awaiting::Room => self.has_room(),
            Awaiting::Idle => self.owed.in_flight() == 0,
        }
    }

    /// memcached has taken what it was sent.
    pub(crate) fn upstream_drained(&self) {
        self.wake();
    }

    /// Whom to wake when the app has read enough again.
    pub(crate) fn wake_when_drained(&self, reader: &Waker) {
        *self.reader.borrow_mut() = Some(reader.clone());
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
