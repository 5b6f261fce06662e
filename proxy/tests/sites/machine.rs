//! A proxy's process: a machine that the proxy takes for its operating system, and an event loop of its own whose time
//! stands still unless the world moves it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use memcloud_proxy::admin::AdminSource;
use memcloud_proxy::config::{Address, Config};
use memcloud_proxy::peers::{Peer, PeerSet};
use memcloud_proxy::sidecar;
use memcloud_proxy::simulation::{self, Connecting, Listener, Machine, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::LocalRuntime;
use tokio::time::{Instant, advance, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::network::{End, Network, Place};
use crate::rng::Rng;

/// What the clock of a machine shows: the world's time, and how far off this one is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    pub(crate) now: Rc<Cell<u64>>,
    pub(crate) offset_ms: Rc<Cell<i64>>,
}

impl Clock {
    pub(crate) fn wall_ms(&self) -> u64 {
        EPOCH_MS.saturating_add_signed(self.offset_ms.get()) + self.now.get()
    }
}

struct Host {
    network: Network,
    place: Place,
    now: Rc<Cell<u64>>,
    /// Its machine's clock is read when a proxy starts, and never again.
    offset_ms: i64,
    rng: RefCell<Rng>,
}

/// What a proxy that serves can be asked and told.
type Serving = (Arc<dyn AdminSource>, Arc<PeerSet>);

/// A running proxy.
pub(crate) struct Process {
    runtime: LocalRuntime,
    machine: Rc<dyn Machine>,
    source: Rc<RefCell<Option<Serving>>>,
    /// Peers that were said before it served.
    early: Rc<RefCell<Option<Vec<Peer>>>>,
    stop: CancellationToken,
    ended: Rc<Cell<bool>>,
    /// The same moment by its own clock and by the world's.
    began: (Instant, u64),
}

impl Process {
    pub(crate) fn start(config: Config, network: Network, place: Place, clock: Clock, rng: Rng) -> Self {
        let began_ms = clock.now.get();
        let (now, offset_ms, rng) = (clock.now, clock.offset_ms.get(), RefCell::new(rng));
        let machine: Rc<dyn Machine> = Rc::new(Host { network, place, now, offset_ms, rng });
        let before = simulation::enter(Some(Rc::clone(&machine)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(Default::default())
            .unwrap();
        let source: Rc<RefCell<Option<Serving>>> = Rc::default();
        let (ended, stop) = (Rc::new(Cell::new(false)), CancellationToken::new());
        let (told, done, stopping) = (Rc::clone(&source), Rc::clone(&ended), stop.clone());
        let early: Rc<RefCell<Option<Vec<Peer>>>> = Rc::default();
        let said = Rc::clone(&early);
        runtime.spawn_local(async move {
            let serving = |source: Arc<dyn AdminSource>, peers: Arc<PeerSet>| {
                if let Some(early) = said.borrow_mut().take() {
                    peers.set(early).unwrap();
                }
                *told.borrow_mut() = Some((source, peers));
            };
            let result = sidecar::simulate(config, stopping, serving).await;
            assert!(result.is_ok(), "a proxy ended: {result:?}");
            done.set(true);
        });
        let began = (runtime.block_on(async { Instant::now() }), began_ms);
        simulation::enter(before);
        Self { runtime, machine, source, early, stop, ended, began }
    }

    /// Lets it run until the world's time is `now`.
    pub(crate) fn run_until(&self, now: u64) {
        let before = simulation::enter(Some(Rc::clone(&self.machine)));
        let until = self.began.0 + Duration::from_millis(now - self.began.1);
        self.runtime.block_on(async { sleep_until(until).await });
        simulation::enter(before);
    }

    /// As [`Self::run_until`], but all time since it ran last has passed at once.
    pub(crate) fn jump_to(&self, now: u64) {
        let before = simulation::enter(Some(Rc::clone(&self.machine)));
        let until = self.began.0 + Duration::from_millis(now - self.began.1);
        self.runtime.block_on(async { advance(until - Instant::now()).await });
        simulation::enter(before);
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// What it tells of itself, once it serves.
    pub(crate) fn ask<R>(&self, question: impl FnOnce(&dyn AdminSource) -> R) -> Option<R> {
        let (source, _) = self.source.borrow().clone()?;
        let before = simulation::enter(Some(Rc::clone(&self.machine)));
        let answer = question(&*source);
        simulation::enter(before);
        Some(answer)
    }

    /// Control says who its peers are; to one that does not serve yet, as soon as it does.
    pub(crate) fn set_peers(&self, peers: Vec<Peer>) {
        let Some((_, set)) = self.source.borrow().clone() else {
            *self.early.borrow_mut() = Some(peers);
            return;
        };
        let before = simulation::enter(Some(Rc::clone(&self.machine)));
        set.set(peers).unwrap();
        simulation::enter(before);
    }

    /// SIGKILL: the kernel closes its sockets, and nothing of it runs any more.
    pub(crate) fn kill(self) {
        let before = simulation::enter(Some(self.machine));
        drop(self.source);
        drop(self.runtime);
        simulation::enter(before);
    }
}

impl Machine for Host {
    fn wall_clock_ms(&self) -> u64 {
        EPOCH_MS.saturating_add_signed(self.offset_ms) + self.now.get()
    }

    fn chance(&self) -> u64 {
        self.rng.borrow_mut().next()
    }

    fn connect(&self, address: &Address) -> Connecting {
        let dial = self.network.dial(self.place, &address.to_string(), None);
        Box::pin(Dialing { network: self.network.clone(), dial: Some(dial) })
    }

    fn bind(&self, address: &Address) -> io::Result<Box<dyn Listener>> {
        let address = address.to_string();
        if !self.network.listen(&address, None) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(Box::new(Door { network: self.network.clone(), address }))
    }
}

struct Dialing {
    network: Network,
    dial: Option<u64>,
}

impl Future for Dialing {
    type Output = io::Result<Box<dyn Stream>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(dial) = self.dial else { return Poll::Pending };
        let Poll::Ready(made) = self.network.poll_dial(dial, cx.waker()) else { return Poll::Pending };
        self.dial = None;
        let network = self.network.clone();
        Poll::Ready(made.map(|end| Box::new(Pipe { network, end }) as Box<dyn Stream>))
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if let Some(dial) = self.dial {
            self.network.give_up_dial(dial);
        }
    }
}

struct Door {
    network: Network,
    address: String,
}

impl Listener for Door {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Box<dyn Stream>> {
        let network = self.network.clone();
        self.network.poll_accept(&self.address, cx.waker()).map(|end| Box::new(Pipe { network, end }) as _)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.network.unlisten(&self.address);
    }
}

/// A proxy's end of a connection.
struct Pipe {
    network: Network,
    end: End,
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.network.poll_read(self.end, cx.waker(), buf.remaining()) {
            Poll::Ready(read) => Poll::Ready(read.map(|bytes| buf.put_slice(&bytes))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.network.poll_write(self.end, cx.waker(), buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.shutdown(self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.network.close(self.end);
    }
}

/// 2026-11-22, in whole seconds.
const EPOCH_MS: u64 = 1_795_305_600_000;
