//! Links between sites with real memcacheds, over wires that can be cut.
#![allow(clippy::unwrap_used, reason = "tests")]

mod by_hand;
mod clocks;
mod copies;
mod flushes;
mod harness;
mod memcached;
mod outages;
mod outcomes;
mod peers;
mod restarts;
mod wire;
