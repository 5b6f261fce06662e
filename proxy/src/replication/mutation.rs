//! What travels: the outcome of a write, never the command that led to it.

use std::sync::Arc;

use bytes::Bytes;
use memcloud_protocol::memcache::expiry::Expiry;

use super::version::Version;

/// What a finished local write did to its key.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Effect {
    /// Nothing: a refused `add`, a missed `incr`. It is not mirrored.
    None,
    /// The item is gone, or was not there to be deleted: a peer may still hold one.
    Removed,
    /// The item was stored or changed.
    Item {
        /// The item as it is now, where it is in hand; else the sender reads it.
        payload: Option<Payload>,
        /// What a plain store cannot say about the item.
        marks: Marks,
    },
    /// The connection broke before the answer: the item is read again.
    Unknown,
}

/// An item as memcached holds it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Payload {
    /// The client's flags.
    pub flags: u32,
    /// When it ends, as an absolute time.
    pub expiry: Expiry,
    /// The value; memory of its own, not a slice that keeps a whole read buffer alive.
    pub value: Bytes,
}

/// Marks of the meta dialect that an app can see and a plain store would lose. A later store replaces them.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Marks {
    /// Marked stale by `md … I`.
    pub stale: bool,
    /// The right to recache was given to a client (`W` was sent).
    pub won: bool,
    /// Made empty by `mg … N` for a client that recaches.
    pub vivified: bool,
}

/// A mutation on its way to a peer.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Owed {
    /// `flush_all`: at once if `delay_ms` is 0, else the scheduled one with what is left of its delay.
    Flush {
        /// Its place in the order.
        version: Version,
        /// What is left of the delay when it is taken.
        delay_ms: u64,
    },
    /// The outcome of writes of one key.
    Key {
        /// The key as bytes, whatever dialect named it.
        key: Arc<[u8]>,
        /// The newest version of the key here.
        version: Version,
        /// `Removed` or `Item`; an item without payload is read from memcached just before it is sent.
        effect: Effect,
        /// The effect says nothing of marks, and stands for an earlier write as well, one that left some, or for one
        /// that held no gate: which marks the item has is for memcached to say.
        marks_unsure: bool,
    },
}
