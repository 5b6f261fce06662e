//! What waits to be written, and what is known of each list: plain values, no files and no threads.
//!
//! ```text
//!   push ──► fresh ──hand_over──► in hand ──written──► on disk
//!              │                     │                    │
//!              └── begin_anew, lose ─┴── `void` ──────────┴──► the writer drops what came before
//! ```
//!
//! A key waits once, however often it is pushed, with the number of its newest push (its *generation*). A list that
//! has lost a key takes no more: it would be compared anyway, so what comes costs nothing.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Reason;

/// Keys and their generations.
pub(super) type Keys = HashMap<Arc<[u8]>, u64, RandomState>;

/// All lists, in the order of `PeerId`.
#[derive(Debug)]
pub(super) struct Waiting {
    lists: Vec<Known>,
    /// What waits, in memory: fresh and in hand.
    bytes: u64,
    bytes_max: u64,
    generation: u64,
    losses: [u64; Reason::ALL.len()],
}

/// One list.
#[derive(Debug)]
struct Known {
    fresh: Keys,
    fresh_bytes: u64,
    in_hand: u64,
    in_hand_bytes: u64,
    disk: OnDisk,
    complete: bool,
    whole: bool,
    doubted: bool,
    void: bool,
    /// Whose it is from now on, once what came before is dropped.
    renamed: Option<Option<String>>,
}

/// What the writer says of a file.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OnDisk {
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

/// A peer's list, as it is told.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ListState {
    /// Keys on it, those included that are not on the disk yet.
    pub keys: u64,
    /// What they take on the disk.
    pub bytes: u64,
    /// Everything that was given up for the peer in this run is on it.
    pub complete: bool,
    /// What the run before this one owed is on it, too: it ended in order, and said so.
    pub whole: bool,
}

/// What the writer is to do for one list: first drop what came before, if so told, then write.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) void: bool,
    /// Whose it is from now on.
    pub(super) renamed: Option<Option<String>>,
    pub(super) keys: Keys,
}

impl Known {
    fn new(whole: bool) -> Self {
        Self {
            fresh: Keys::default(),
            fresh_bytes: 0,
            in_hand: 0,
            in_hand_bytes: 0,
            disk: OnDisk::default(),
            complete: true,
            whole,
            doubted: false,
            void: false,
            renamed: None,
        }
    }
}

impl Waiting {
    /// A list for each peer; whether what the last run left there is all that it owed.
    pub(super) fn new(whole: &[bool], bytes_max: u64) -> Self {
        let lists = whole.iter().map(|&whole| Known::new(whole)).collect();
        Self { lists, bytes: 0, bytes_max, generation: 0, losses: Default::default() }
    }

    /// Puts a key on a peer's list. What has to be reported: the list is no longer complete.
    pub(super) fn push(&mut self, peer: usize, key: Arc<[u8]>) -> Option<Reason> {
        let list = self.lists.get_mut(peer)?;
        if !list.complete {
            return None;
        }
        self.generation += 1;
        let cost = cost(&key);
        if list.fresh.insert(key, self.generation).is_none() {
            list.fresh_bytes += cost;
            self.bytes += cost;
        }
        if self.bytes > self.bytes_max {
            self.lose(peer, Reason::BufferFull);
            return Some(Reason::BufferFull);
        }
        None
    }

    /// Nothing that was listed matters any more: a new list begins, and lacks nothing.
    pub(super) fn begin_anew(&mut self, peer: usize) {
        if let Some(list) = self.lists.get_mut(peer) {
            list.complete = true;
            self.drop_fresh(peer);
        }
    }

    /// Another peer has this place, or nobody: whatever was listed for the one before is dropped.
    pub(super) fn join(&mut self, peer: usize, name: Option<String>) {
        while self.lists.len() <= peer {
            self.lists.push(Known::new(false));
        }
        self.begin_anew(peer);
        let list = &mut self.lists[peer];
        (list.whole, list.doubted, list.renamed) = (false, false, Some(name));
    }

    /// A key could not be kept, so the list says too little: it is dropped.
    pub(super) fn lose(&mut self, peer: usize, reason: Reason) {
        if let Some(list) = self.lists.get_mut(peer) {
            (list.complete, list.whole) = (false, false);
            self.losses[reason as usize] += 1;
            self.drop_fresh(peer);
        }
    }

    /// Something is owed that cannot be listed.
    pub(super) fn doubt(&mut self, peer: usize) {
        if let Some(list) = self.lists.get_mut(peer) {
            list.doubted = true;
        }
    }

    /// For the next run: all that the peer is owed is on its list.
    pub(super) fn says_all(&self, peer: usize) -> bool {
        self.lists.get(peer).is_some_and(|list| list.complete && !list.doubted)
    }

    fn drop_fresh(&mut self, peer: usize) {
        let list = &mut self.lists[peer];
        self.bytes -= list.fresh_bytes;
        (list.fresh, list.fresh_bytes) = (Keys::default(), 0);
        list.void = true;
    }

    /// Gives the writer what waits for a list. While it has keys in hand it gets none, but hears of a void.
    pub(super) fn hand_over(&mut self, peer: usize) -> Handed {
        let list = &mut self.lists[peer];
        let void = std::mem::take(&mut list.void);
        let renamed = list.renamed.take();
        if void {
            self.bytes -= list.in_hand_bytes;
            (list.in_hand, list.in_hand_bytes) = (0, 0);
            list.disk = OnDisk::default();
        }
        if list.in_hand > 0 {
            return Handed { void, renamed, keys: Keys::default() };
        }
        let keys = std::mem::take(&mut list.fresh);
        (list.in_hand, list.in_hand_bytes) = (keys.len() as u64, std::mem::take(&mut list.fresh_bytes));
        Handed { void, renamed, keys }
    }

    /// Keys that were in hand are on the disk, or some were taken off there.
    pub(super) fn written(&mut self, peer: usize, keys: &[(Arc<[u8]>, u64)], disk: OnDisk) {
        let list = &mut self.lists[peer];
        let bytes: u64 = keys.iter().map(|(key, _)| cost(key)).sum();
        list.in_hand = list.in_hand.saturating_sub(keys.len() as u64);
        let bytes = bytes.min(list.in_hand_bytes);
        list.in_hand_bytes -= bytes;
        self.bytes -= bytes;
        list.disk = disk;
    }

    /// The list whose file is largest, if the files take more than `bytes_max` together.
    pub(super) fn beyond(&self, bytes_max: u64) -> Option<usize> {
        let all: u64 = self.lists.iter().map(|list| list.disk.bytes).sum();
        let largest = (0..self.lists.len()).max_by_key(|peer| self.lists[*peer].disk.bytes);
        largest.filter(|_| all > bytes_max)
    }

    pub(super) fn state(&self, peer: usize) -> ListState {
        let Some(list) = self.lists.get(peer) else { return ListState::default() };
        let (void, disk) = (list.void, list.disk);
        // What a void is about to drop counts no more.
        let below = if void { 0 } else { list.in_hand + disk.keys };
        ListState {
            keys: list.fresh.len() as u64 + below,
            bytes: if void { 0 } else { disk.bytes },
            complete: list.complete,
            whole: list.complete && list.whole,
        }
    }

    /// Places of lists that were ever taken.
    pub(super) fn places(&self) -> usize {
        self.lists.len()
    }

    /// Keys that wait and are not in hand.
    pub(super) fn fresh(&self) -> usize {
        self.lists.iter().map(|list| list.fresh.len()).sum()
    }

    pub(super) fn has_void(&self) -> bool {
        self.lists.iter().any(|list| list.void)
    }

    /// A list was found with generations up to this one.
    pub(super) fn raise_generation(&mut self, newest: u64) {
        self.generation = self.generation.max(newest);
    }

    /// How often a list was lost, by reason.
    pub(super) fn losses(&self) -> [u64; Reason::ALL.len()] {
        self.losses
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What a key takes while it waits.
fn cost(key: &[u8]) -> u64 {
    KEY_OVERHEAD + key.len() as u64
}

/// The place in the map at its emptiest (24 bytes and a control byte, seven eighths full at most and half of that
/// after it grew), the counters of the `Arc` and what the allocator adds. Rounded up.
const KEY_OVERHEAD: u64 = 96;
