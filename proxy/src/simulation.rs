//! What stands in for the operating system when whole proxies run in a simulation: sockets, the wall clock, chance.
//!
//! Compiled with the feature `simulation` only, which no shipped program has. A test puts a [`Machine`] on its own
//! thread; whatever of the proxy runs on that thread then gets its sockets, its time and its dice there, and its
//! workers are tasks instead of threads. Without a machine everything is as it is without the feature.
//!
//! Promises that a proxy cannot tell: it is the same code above `net`, `chance` and `wall_clock_ms`. Refuses to
//! know what a network is.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Address;

/// What a simulated operating system gives to the proxy that runs on it.
pub trait Machine {
    /// Milliseconds since 1970, as this machine has it.
    fn wall_clock_ms(&self) -> u64;

    /// Some number.
    fn chance(&self) -> u64;

    /// Dials.
    fn connect(&self, address: &Address) -> Connecting;

    /// Listens.
    ///
    /// # Errors
    /// Somebody does already.
    fn bind(&self, address: &Address) -> io::Result<Box<dyn Listener>>;
}

/// A connection being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Both ends of a connection are one of these.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// Accepts connections.
pub trait Listener: Send + Sync {
    /// The next one.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Box<dyn Stream>>;
}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a simulated stream")
    }
}

impl fmt::Debug for dyn Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a simulated listener")
    }
}

thread_local! {
    static MACHINE: RefCell<Option<Rc<dyn Machine>>> = const { RefCell::new(None) };
}

/// From now on this thread runs what is on `machine`; returns which one it was before.
pub fn enter(machine: Option<Rc<dyn Machine>>) -> Option<Rc<dyn Machine>> {
    MACHINE.replace(machine)
}

/// The machine that this thread runs, if it runs one.
pub(crate) fn machine() -> Option<Rc<dyn Machine>> {
    MACHINE.with_borrow(Clone::clone)
}

pub(crate) fn connect(address: &Address) -> Option<Connecting> {
    machine().map(|machine| machine.connect(address))
}

pub(crate) fn wall_clock_ms() -> Option<u64> {
    machine().map(|machine| machine.wall_clock_ms())
}

pub(crate) fn chance() -> Option<u64> {
    machine().map(|machine| machine.chance())
}
