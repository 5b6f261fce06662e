//! What apps did and saw, and whether any site ever showed what it must not: a value older than one it had to know.
//!
//! Clients on all sites write, delete and read a few keys and note every request with its begin and its end, by one clock
//! (all sites run on this machine). Each value is written once in the whole run, so a read tells which write it saw.
//! Nothing of the proxy's inside is known here: only what an app could hold against it.
//!
//! ```text
//!   site a   ├─ set w1 ─┤                      ├─ set w3 ─┤           w1 < w3: acknowledged at a before w3 began there
//!   site b               ├─ get: w1 ─┤ ├─ set w2 ─┤                    w1 < w2: b had shown w1 before w2 began there
//!                                                  w2, w3: nobody can say; either may win, one must
//! ```
//!
//! # What is provably older
//!
//! A site *knows* a mutation from the end of the first request there that showed it: its own acknowledgement, or a read of
//! its value. A mutation that begins at that site afterwards is newer, in every order of versions that memcloud could have
//! chosen: versions are stamped above all that a site has seen. The relation is followed transitively, across sites.
//! No wall clock is compared between sites, and concurrent mutations are not ordered.
//!
//! # What is a violation
//!
//! * [`Kind::Stale`]: in a calm (faults healed, every site `in_sync`) a site shows a value that is older than a mutation
//!   acknowledged anywhere before the calm began. A deletion is a mutation, so a deleted key that comes back is one.
//! * [`Kind::Backwards`]: at any time, amid faults as well, a site shows a value that is older than one which this same
//!   site knew. Overwritten or deleted in front of its own apps, it came back.
//!
//! A miss is never a violation: it is always legal in a cache.
//!
//! # What faults permit
//!
//! With `--ack local` a site that loses its proxy *and* its memcached before its mutations were sent loses those: a
//! [`Loss`]. One of the two alone may lose nothing. A request without a sound answer may have been carried out or not, at
//! any later time; it binds nobody until a read shows it.

mod check;
mod order;
#[cfg(test)]
mod tests;

pub use check::{Kind, Verdict, Violation, check};

/// Nanoseconds since the run began.
pub type Time = u64;

/// Names a write; its value carries it.
pub type Mark = u64;

/// One request of one client to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub site: usize,
    pub key: usize,
    pub begin: Time,
    pub end: Time,
    pub deed: Deed,
}

/// What a request did or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A value was stored, and this was acknowledged; or no sound answer came.
    Write { mark: Mark, acknowledged: bool },
    /// The key was deleted, or was not there; or no sound answer came.
    Delete { acknowledged: bool },
    /// What a read saw; `None` is a miss.
    Read(Option<Mark>),
}

/// What the harness did to the fleet, as far as it changes what can be held against memcloud.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    pub sites: usize,
    /// From when to when all faults were healed and every site was `in_sync`.
    pub calms: Vec<(Time, Time)>,
    pub losses: Vec<Loss>,
    /// By site and time: the proxy began anew after its machine's clock had been set back, so its new versions may lie
    /// below its own old ones until it has heard from a peer. Nothing is provable across such a moment at that site.
    pub amnesias: Vec<(usize, Time)>,
}

/// A site lost both its proxy and its memcached, or what its memcached alone held for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub site: usize,
    /// What was acknowledged here since then may be gone: the last moment at which everything had been sent.
    pub since: Time,
    /// When the last of the two died; what was asked afterwards was answered by a site that remembers nothing.
    pub died: Time,
    /// When it had died for certain.
    pub until: Time,
}
