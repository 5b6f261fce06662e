//! The thread that writes lists: the only one that touches files.
//!
//! A turn: what became void is dropped, then one batch of each list is committed, then those who asked are answered.
//! So a list that is asked for has what was pushed before, and somebody who asks waits for one batch at most.
//! Whatever goes wrong with a file costs that list and is counted; the thread goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::folder::{Folder, Stopped};
use super::list::{List, ListError};
use super::waiting::{Handed, OnDisk};
use super::{Asked, BATCH_KEYS, End, Inner, Reason, SpillConfig, State};

pub(super) struct Writer {
    inner: Arc<Inner>,
    folder: Folder,
    bytes_max: u64,
    open: Vec<Open>,
    next_commit: Instant,
}

/// A list as the writer has it.
#[derive(Default)]
struct Open {
    /// The peer's; none where there is no peer.
    name: Option<String>,
    /// None while there is nothing on it.
    list: Option<List>,
    /// Taken from what waits, last key first.
    hand: Vec<(Arc<[u8]>, u64)>,
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>, folder: Folder, config: &SpillConfig) -> Self {
        Self {
            inner,
            folder,
            bytes_max: config.bytes_max,
            open: config
                .peers
                .iter()
                .map(|name| Open { name: Some(name.clone()), ..Open::default() })
                .collect(),
            next_commit: Instant::now(),
        }
    }

    /// Runs until the lists are closed. Says when those of the last run are open.
    pub(super) fn run(mut self, opened: &SyncSender<()>) {
        for peer in 0..self.open.len() {
            if self.path(peer).is_some_and(|path| path.exists()) {
                self.open_left(peer);
            }
        }
        let _ = opened.send(());
        while let Some(asked) = self.turn() {
            self.answer(asked);
        }
    }

    /// A list that a run before this one has left.
    fn open_left(&mut self, peer: usize) {
        let left = self.guarded(peer, |_, path| {
            let list = List::open(path)?;
            let newest = list.newest()?;
            Ok((list, newest))
        });
        match left {
            Ok((list, newest)) => {
                let disk = list.on_disk();
                self.open[peer].list = Some(list);
                let waiting = &mut self.inner.lock().waiting;
                waiting.written(peer, &[], disk);
                waiting.raise_generation(newest);
            }
            Err(Reason::Corrupt | Reason::Fault) => {
                let _ = self.open[peer].name.as_ref().map(|name| self.folder.put_aside(name));
            }
            Err(_) => {}
        }
        self.drop_if_empty(peer);
    }

    /// One round of writing. None: the lists are closed.
    fn turn(&mut self) -> Option<Vec<Asked>> {
        let idle = self.open.iter().all(|open| open.hand.is_empty());
        let (handed, asked, ended) = {
            let mut state = self.await_work(idle);
            let handed: Vec<_> =
                (0..state.waiting.places()).map(|peer| state.waiting.hand_over(peer)).collect();
            (handed, std::mem::take(&mut state.asked), state.end)
        };
        self.open.resize_with(handed.len(), Open::default);
        let began = Instant::now();
        for (peer, handed) in handed.into_iter().enumerate() {
            self.take_over(peer, handed);
            self.commit(peer);
        }
        // A slow disk is left alone half of the time; what comes meanwhile makes the next commit a better one.
        self.next_commit = Instant::now() + began.elapsed().max(COMMITS_APART);
        self.keep_bound();
        match ended {
            Some(End::Stopped(at_ms)) if self.is_done() => {
                self.close(at_ms);
                None
            }
            Some(End::Dropped) => None,
            _ => Some(asked),
        }
    }

    /// Until there is a batch, or its time has come, or somebody asks.
    fn await_work(&self, idle: bool) -> MutexGuard<'_, State> {
        let mut state = self.inner.lock();
        loop {
            let fresh = state.waiting.fresh();
            let urgent = !idle || !state.asked.is_empty() || state.end.is_some() || state.waiting.has_void();
            let pause = self.next_commit.saturating_duration_since(Instant::now());
            if urgent || fresh >= BATCH_KEYS || (fresh > 0 && pause.is_zero()) {
                return state;
            }
            let wake = &self.inner.wake;
            state = match fresh {
                0 => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                _ => wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn take_over(&mut self, peer: usize, handed: Handed) {
        let open = &mut self.open[peer];
        if handed.void {
            open.hand.clear();
            if let Some(list) = open.list.take() {
                // A store that failed may fail again when it is closed.
                let _ = catch_unwind(AssertUnwindSafe(|| list.delete()));
            }
            self.remove(peer);
        }
        if let Some(name) = handed.renamed {
            self.open[peer].name = name;
            // One that an earlier peer of this name has left says nothing of what this one is owed.
            self.remove(peer);
        }
        let open = &mut self.open[peer];
        if !handed.keys.is_empty() {
            open.hand = handed.keys.into_iter().collect();
            // Neighbours go into the same pages.
            open.hand.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    fn path(&self, peer: usize) -> Option<PathBuf> {
        self.open[peer].name.as_ref().map(|name| self.folder.list(name))
    }

    fn remove(&self, peer: usize) {
        if let Some(path) = self.path(peer) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Writes one batch of what is in hand.
    fn commit(&mut self, peer: usize) {
        // Keys lie anywhere among those that are there, and each page is written whole: so the more there are, the
        // more go into one commit.
        let there = self.open[peer].list.as_ref().map_or(0, |list| list.on_disk().keys as usize);
        let rest = self.open[peer].hand.len().saturating_sub(BATCH_KEYS.max(there / BATCH_SHARE));
        let batch = self.open[peer].hand.split_off(rest);
        if batch.is_empty() {
            return;
        }
        let written = self.guarded(peer, |open, path| {
            let mut list = match open.list.take() {
                Some(list) => list,
                None => List::open(path)?,
            };
            list.add(&batch)?;
            let disk = list.on_disk();
            open.list = Some(list);
            Ok(disk)
        });
        if let Ok(disk) = written {
            self.inner.lock().waiting.written(peer, &batch, disk);
        }
    }

    fn answer(&mut self, asked: Vec<Asked>) {
        for asked in asked {
            match asked {
                Asked::Take { peer, most, answer } => {
                    let taken = self.guarded(peer, |open, _| match &open.list {
                        Some(list) => list.first(most),
                        None => Ok(Vec::new()),
                    });
                    let _ = answer.send(taken.unwrap_or_default());
                }
                Asked::Remove { peer, keys, answer } => {
                    let removed = self.guarded(peer, |open, _| match &mut open.list {
                        Some(list) => list.remove(&keys).map(|()| list.on_disk()),
                        None => Ok(OnDisk::default()),
                    });
                    if let Ok(disk) = removed {
                        self.inner.lock().waiting.written(peer, &[], disk);
                        self.drop_if_empty(peer);
                    }
                    let _ = answer.send(());
                }
            }
        }
    }

    /// Files do not shrink: one with nothing in it goes.
    fn drop_if_empty(&mut self, peer: usize) {
        let open = &mut self.open[peer];
        if let Some(list) = open.list.take_if(|list| list.on_disk().keys == 0) {
            let _ = catch_unwind(AssertUnwindSafe(|| list.delete()));
            self.inner.lock().waiting.written(peer, &[], OnDisk::default());
        }
    }

    /// The largest list goes when there is no room for all.
    fn keep_bound(&self) {
        let mut state = self.inner.lock();
        if let Some(peer) = state.waiting.beyond(self.bytes_max) {
            state.waiting.lose(peer, Reason::Bound);
            drop(state);
            self.tell(peer, Reason::Bound, &"--backlog-dir-bytes is reached");
        }
    }

    /// Works on a list. If that fails, or the store has a fault, the list is lost.
    fn guarded<T>(
        &mut self,
        peer: usize,
        work: impl FnOnce(&mut Open, &std::path::Path) -> Result<T, ListError>,
    ) -> Result<T, Reason> {
        let path = self.path(peer).unwrap_or_default();
        let open = &mut self.open[peer];
        let reason = match catch_unwind(AssertUnwindSafe(|| work(open, &path))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => {
                self.tell(peer, error.reason, &error);
                error.reason
            }
            Err(_) => {
                self.tell(peer, Reason::Fault, &"the store panicked");
                Reason::Fault
            }
        };
        self.inner.lock().waiting.lose(peer, reason);
        Err(reason)
    }

    fn tell(&self, peer: usize, reason: Reason, error: &dyn std::fmt::Display) {
        let reason = reason.as_str();
        tracing::warn!(peer.addr = self.open[peer].name, reason, %error,
            "a list of owed keys is lost: the peer will be compared with instead");
    }

    fn is_done(&self) -> bool {
        let state = self.inner.lock();
        let hands_empty = self.open.iter().all(|open| open.hand.is_empty());
        hands_empty && state.waiting.fresh() == 0 && !state.waiting.has_void()
    }

    fn close(&mut self, at_ms: u64) {
        for peer in 0..self.open.len() {
            let Some(list) = self.open[peer].list.take() else { continue };
            let closed = self.guarded(peer, |_, _| list.close().map_err(|e| redb::Error::from(e).into()));
            if closed.is_err() {
                self.remove(peer);
            }
        }
        let state = self.inner.lock();
        let whole = |peer: usize| state.waiting.says_all(peer);
        let named = self.open.iter().enumerate().filter_map(|(n, open)| Some((n, open.name.clone()?)));
        let stopped = Stopped { at_ms, whole: named.map(|(place, name)| (name, whole(place))).collect() };
        drop(state);
        if let Err(error) = self.folder.put_stopped(&stopped) {
            tracing::warn!(%error, "the end of this run cannot be noted: the next one will compare with its peers");
        }
    }
}

/// A commit may write this part of a list anew.
const BATCH_SHARE: usize = 16;

/// What is written within this time goes into one commit.
const COMMITS_APART: Duration = Duration::from_millis(50);
