//! The ledger: for every key that is in flight, owed, or not yet stable, the newest version known.
//!
//! Entries live in a slab and keep their index while anything points at them; a hash table finds the index of a
//! key. A tombstone is an entry like any other. What is forgotten, and when, is decided elsewhere (`forget.rs`).

use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::gate::Gate;
use super::mutation::Effect;
use super::version::Version;

/// What is known of one key.
#[derive(Debug)]
pub(super) struct Entry<W> {
    pub(super) key: Arc<[u8]>,
    hash: u64,
    /// The newest version known; `ZERO` while the first write of an unknown key is in flight.
    pub(super) version: Version,
    /// Our clock when something of a peer was applied here last.
    pub(super) changed: u64,
    /// `Removed` or `Item` while it is owed to somebody, else `None`.
    effect: Effect,
    /// Peers that have not acknowledged `version`, one bit each.
    pub(super) owed: u64,
    /// Peers in whose queue this entry stands, one bit each.
    pub(super) queued: u64,
    /// Places in queues and windows that name this entry.
    pub(super) pins: u32,
    /// It stands in the age queue.
    pub(super) aged: bool,
    /// The effect says nothing of marks, and stands for a write that left some as well; or for one that held no gate.
    pub(super) marks_unsure: bool,
    /// All that is owed is a write that perhaps never took place.
    pub(super) unsure: bool,
    /// What a peer sent last was a state, and no mutation.
    pub(super) stated: bool,
    pub(super) gate: Gate<W>,
}

impl<W> Entry<W> {
    pub(super) fn effect(&self) -> &Effect {
        &self.effect
    }

    /// What the entry keeps in memory.
    pub(super) fn cost(&self) -> u64 {
        OVERHEAD + self.key.len() as u64 + payload_len(&self.effect)
    }

    /// Nothing points at it, so it may go once its version may.
    pub(super) fn is_loose(&self) -> bool {
        self.owed == 0 && self.pins == 0 && !self.aged && self.gate.is_idle() && !self.gate.has_waiters()
    }
}

/// Slab and hash table.
#[derive(Debug)]
pub(super) struct Table<W> {
    entries: Vec<Entry<W>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
    key_bytes: u64,
    payload_bytes: u64,
}

impl<W> Table<W> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            key_bytes: 0,
            payload_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What all entries keep in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.key_bytes + self.payload_bytes + self.len() as u64 * OVERHEAD
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let entries = &self.entries;
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |at| *entries[*at as usize].key == *key).copied()
    }

    pub(super) fn find_or_insert(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        if let Some(at) = self.index.find(hash, |at| *entries[*at as usize].key == *key) {
            return *at;
        }
        let entry = Entry {
            key: Arc::from(key),
            hash,
            version: Version::ZERO,
            changed: 0,
            effect: Effect::None,
            owed: 0,
            queued: 0,
            pins: 0,
            aged: false,
            marks_unsure: false,
            unsure: false,
            stated: false,
            gate: Gate::new(),
        };
        self.key_bytes += key.len() as u64;
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |at| entries[*at as usize].hash);
        at
    }

    /// Sets what is owed of a key; the only way to change an effect, so that the bytes stay counted.
    pub(super) fn set_effect(&mut self, at: u32, effect: Effect) {
        let entry = &mut self.entries[at as usize];
        self.payload_bytes += payload_len(&effect);
        self.payload_bytes -= payload_len(&entry.effect);
        entry.effect = effect;
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, at: u32) {
        debug_assert!(self.entries[at as usize].is_loose(), "a forgotten entry is still in use");
        self.set_effect(at, Effect::None);
        let entry = &mut self.entries[at as usize];
        self.key_bytes -= entry.key.len() as u64;
        entry.key = Arc::default();
        if let Ok(found) = self.index.find_entry(entry.hash, |other| *other == at) {
            found.remove();
        }
        self.free.push(at);
        if self.index.is_empty() && self.entries.capacity() > SLAB_KEPT {
            self.clear();
        }
    }

    /// Forgets everything and gives the memory back. Only right while no gate is held and nothing is pinned.
    pub(super) fn clear(&mut self) {
        *self = Self { hasher: self.hasher.clone(), ..Self::new() };
    }

    /// All live indices.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        self.index.iter().copied()
    }
}

impl<W> Index<u32> for Table<W> {
    type Output = Entry<W>;

    fn index(&self, at: u32) -> &Entry<W> {
        &self.entries[at as usize]
    }
}

impl<W> IndexMut<u32> for Table<W> {
    fn index_mut(&mut self, at: u32) -> &mut Entry<W> {
        &mut self.entries[at as usize]
    }
}

/// Bytes of value that an effect keeps alive.
pub(super) fn payload_len(effect: &Effect) -> u64 {
    match effect {
        Effect::Item { payload: Some(payload), .. } => payload.value.len() as u64,
        _ => 0,
    }
}

/// What a key costs beside its bytes and its payload: the entry, its place in the index, in the age queue and in a
/// queue or window, and the allocator's share. Rounded up, so that the bound holds.
const OVERHEAD: u64 = 384;

/// An empty slab larger than this is given back, so that one long outage is not paid for ever.
const SLAB_KEPT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_stable_and_used_again() {
        let mut table = Table::<()>::new();
        let a = table.find_or_insert(b"a");
        let b = table.find_or_insert(b"b");
        assert_eq!(table.find_or_insert(b"a"), a);
        table.remove(a);
        assert_eq!(table.find(b"a"), None);
        assert_eq!(table.find(b"b"), Some(b));
        assert_eq!(table.find_or_insert(b"c"), a);
        assert_eq!(table.bytes(), 2 + 2 * OVERHEAD);
    }

    #[test]
    fn the_overhead_is_not_understated() {
        let places = size_of::<Entry<Arc<()>>>() + 2 * size_of::<(Version, u32)>() + 2 * size_of::<u32>();
        assert!(places as u64 <= OVERHEAD, "{places}");
    }
}
