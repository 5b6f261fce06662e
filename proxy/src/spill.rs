//! Keys owed to peers that memory has no room for: on disk, by peer, across restarts.
//!
//! ```text
//!   replica ── gives up a key ──► waiting (memory, bounded, no key twice)
//!                                    │ a thread of its own, in batches
//!                                    ▼
//!                                  lists (a file for each peer) ── take ──► whoever brings peers up to date
//!                                    ▲                                              │ the peer has confirmed
//!                                    └───────────────────── remove ◄────────────────┘
//! ```
//!
//! A listed key has no value and no version. It means: *the peer must get the current state of this key*, whatever
//! that is by then, be it a value or that there is none.
//!
//! # What it promises
//!
//! * Whoever lists a key waits for no disk, and a disk that is slow, full or broken stops nobody.
//! * A list says whether it is complete. It is not as soon as one key was lost on the way (the buffer or the bound
//!   was reached, the disk refused); then it takes no more, and the two sites have to be compared.
//! * A key that is listed again while its state is on its way to the peer stays listed: what is taken off names
//!   the generation that was taken.
//! * What was committed survives the end of this process, however it comes. A crash of the machine may cost a list,
//!   which is then found damaged and put aside.
//!
//! # What it refuses to know
//!
//! Why a key was given up, how it travels, and what memcached holds.

mod disk;
mod folder;
mod list;
#[cfg(test)]
mod tests;
mod waiting;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::oneshot;

pub use waiting::ListState;

use folder::Folder;
use waiting::Waiting;
use writer::Writer;

use crate::replication::{Listing, Lists, PeerId};

/// Where lists are kept, whose they are, and how much they may take.
#[derive(Clone, Debug)]
pub struct SpillConfig {
    /// A folder of this proxy alone.
    pub dir: PathBuf,
    /// What all lists may take on the disk together. It is looked at after each batch.
    pub bytes_max: u64,
    /// What may wait in memory to be written.
    pub waiting_bytes_max: u64,
    /// Our site.
    pub site: String,
    /// The peers' addresses, in the order of `PeerId`.
    pub peers: Vec<String>,
}

/// Why the folder cannot be used at all. Its text is complete.
#[derive(Debug, Error)]
pub enum SpillError {
    /// It cannot be made, read or written.
    #[error("--backlog-dir {}: {source}; name a folder that this process may write to", .dir.display())]
    Unusable { dir: PathBuf, source: io::Error },
    /// Another process has it.
    #[error("--backlog-dir {} is in use by another proxy; give each proxy a folder of its own", .dir.display())]
    Locked { dir: PathBuf },
    /// Another site's lists are in it.
    #[error("--backlog-dir {} is that of site `{owner}`; name another folder, or delete this one if that site is no more", .dir.display())]
    Foreign { dir: PathBuf, owner: String },
    /// The system gives no thread.
    #[error("the thread that writes --backlog-dir cannot be started: {0}")]
    Thread(io::Error),
}

/// Why a list is no longer complete.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More waited to be written than memory may hold: the disk is too slow.
    BufferFull,
    /// The lists reached `--backlog-dir-bytes`.
    Bound,
    /// The disk, or a quota, is full.
    DiskFull,
    /// The disk refused for another reason.
    Io,
    /// A list could not be read.
    Corrupt,
    /// A fault of the store itself.
    Fault,
}

impl Reason {
    /// Every reason, in the order of its counters.
    pub const ALL: [Self; 6] =
        [Self::BufferFull, Self::Bound, Self::DiskFull, Self::Io, Self::Corrupt, Self::Fault];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::Bound => "bound",
            Self::DiskFull => "disk_full",
            Self::Io => "io",
            Self::Corrupt => "corrupt",
            Self::Fault => "fault",
        }
    }
}

/// A key on a list, and which push of it this was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key as bytes.
    pub key: Arc<[u8]>,
    /// Rises with each push.
    pub generation: u64,
}

/// The lists of this site. Shared by all threads.
#[derive(Debug)]
pub struct Spill {
    inner: Arc<Inner>,
    writer: Mutex<Option<JoinHandle<()>>>,
    stopped_ms: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    asked: Vec<Asked>,
    end: Option<End>,
}

/// How this run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// In order, at this time, which is noted for the next one.
    Stopped(u64),
    /// Without a word: the next run takes this one for killed.
    Dropped,
}

/// What the writer is asked for; each is awaited, so there is one at most for each who asks.
#[derive(Debug)]
enum Asked {
    Take { peer: usize, most: usize, answer: oneshot::Sender<Vec<Listed>> },
    Remove { peer: usize, keys: Vec<Listed>, answer: oneshot::Sender<()> },
}

impl Spill {
    /// Takes the folder and opens the lists that are in it, and reads them once.
    ///
    /// # Errors
    /// Why the folder cannot be used. A list that cannot be read is none: it is put aside, and not complete.
    pub fn open(config: &SpillConfig) -> Result<Arc<Self>, SpillError> {
        let folder = Folder::open(&config.dir, &config.site)?;
        let unusable = |source| SpillError::Unusable { dir: config.dir.clone(), source };
        let forgotten = folder.forget_all_but(&config.peers).map_err(unusable)?;
        if forgotten > 0 {
            tracing::warn!(forgotten, "lists of peers that are not named any more are deleted");
        }
        let stopped = folder.take_stopped();
        let whole =
            |peer: &String| stopped.as_ref().is_some_and(|s| s.whole.get(peer).copied().unwrap_or(false));
        let whole: Vec<_> = config.peers.iter().map(whole).collect();
        let waiting = Waiting::new(&whole, config.waiting_bytes_max);
        let state = State { waiting, asked: Vec::new(), end: None };
        let inner = Arc::new(Inner { state: Mutex::new(state), wake: Condvar::new() });
        let writer = Writer::new(Arc::clone(&inner), folder, config);
        let (opened, told) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        let thread = thread.spawn(move || writer.run(&opened)).map_err(SpillError::Thread)?;
        // An error means that the thread is gone; then every list is incomplete, which is what it says.
        let _ = told.recv();
        let stopped_ms = stopped.map(|stopped| stopped.at_ms);
        Ok(Arc::new(Self { inner, writer: Mutex::new(Some(thread)), stopped_ms }))
    }

    /// A peer has come to a place where there is none; a list of its own begins there.
    pub fn join(&self, peer: PeerId, name: &str) {
        self.inner.lock().waiting.join(peer.0, Some(name.to_owned()));
        self.inner.wake.notify_one();
    }

    /// A peer has gone: its list is of no use any more.
    pub fn part(&self, peer: PeerId) {
        self.inner.lock().waiting.join(peer.0, None);
        self.inner.wake.notify_one();
    }

    /// Puts a key on a peer's list. Never waits for a disk.
    pub fn push(&self, peer: PeerId, key: Arc<[u8]>) {
        self.tell(vec![Listing::Add { peer, key }]);
    }

    /// The peer lacks nothing that was listed, nor anything that was lost: a new list begins.
    pub fn begin_anew(&self, peer: PeerId) {
        self.tell(vec![Listing::Anew { peer }]);
    }

    /// What a peer is owed is not all on its list: the next run will find one that is not whole.
    pub fn doubt(&self, peer: PeerId) {
        self.inner.lock().waiting.doubt(peer.0);
    }

    /// Up to `most` keys of a peer's list. They stay there until they are removed.
    pub async fn take(&self, peer: PeerId, most: usize) -> Vec<Listed> {
        let (answer, told) = oneshot::channel();
        self.ask(Asked::Take { peer: peer.0, most, answer });
        told.await.unwrap_or_default()
    }

    /// Takes keys off a peer's list, but for those that were listed again since they were taken.
    pub async fn remove(&self, peer: PeerId, keys: Vec<Listed>) {
        let (answer, told) = oneshot::channel();
        self.ask(Asked::Remove { peer: peer.0, keys, answer });
        let _ = told.await;
    }

    /// How a peer's list is.
    #[must_use]
    pub fn state(&self, peer: PeerId) -> ListState {
        self.inner.lock().waiting.state(peer.0)
    }

    /// How often a list was lost, by the place of the reason in [`Reason::ALL`].
    #[must_use]
    pub fn losses(&self) -> [u64; Reason::ALL.len()] {
        self.inner.lock().waiting.losses()
    }

    /// When the last run ended in order, in milliseconds since 1970; nothing if it was killed, or if there was none.
    #[must_use]
    pub fn stopped_ms(&self) -> Option<u64> {
        self.stopped_ms
    }

    /// Writes what waits, closes the lists and notes that this run ended in order. Nothing is listed after it.
    /// Waits for the disk.
    pub fn close(&self, now_ms: u64) {
        self.end(End::Stopped(now_ms));
    }

    fn end(&self, end: End) {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.inner.lock().end = Some(end);
        self.inner.wake.notify_one();
        let _ = writer.join();
    }

    fn ask(&self, asked: Asked) {
        self.inner.lock().asked.push(asked);
        self.inner.wake.notify_one();
    }
}

impl Lists for Spill {
    fn tell(&self, told: Vec<Listing>) -> Vec<PeerId> {
        let mut state = self.inner.lock();
        let before = state.waiting.fresh();
        let mut incomplete = Vec::new();
        for listing in told {
            match listing {
                Listing::Add { peer, key } => {
                    if let Some(reason) = state.waiting.push(peer.0, key) {
                        let reason = reason.as_str();
                        tracing::warn!(
                            peer = peer.0,
                            reason,
                            "a list of owed keys is lost: too many wait for the disk"
                        );
                    }
                    if !state.waiting.state(peer.0).complete && !incomplete.contains(&peer) {
                        incomplete.push(peer);
                    }
                }
                Listing::Anew { peer } => {
                    state.waiting.begin_anew(peer.0);
                    incomplete.retain(|other| *other != peer);
                }
            }
        }
        // The writer sleeps until something waits, and then until there is a batch or its time has come.
        let fresh = state.waiting.fresh();
        if (before == 0 && fresh > 0)
            || (before < BATCH_KEYS && fresh >= BATCH_KEYS)
            || state.waiting.has_void()
        {
            self.inner.wake.notify_one();
        }
        incomplete
    }

    fn keys(&self, peer: PeerId) -> Option<u64> {
        let state = self.state(peer);
        state.complete.then_some(state.keys)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the thread that writes. A panic there costs lists and not the proxy.
pub const THREAD: &str = "memcloud-spill";

/// Keys of one commit: a few megabytes of pages at most, wherever they lie.
const BATCH_KEYS: usize = 4096;
