//! The sidecar: a proxy in front of one stock memcached, which mirrors what apps write to the proxies of its peers and
//! applies what they mirror.
//!
//! ```text
//!           ┌───────────────────────── a worker ──────────────────────────┐
//!   app ───►│ session: decode, pass the gate ──► upstream: a batch a turn ├───► memcached
//!       ◄───┤ downstream: in order ◄─── upstream: frame, judge, deliver   │◄───
//!           └─────────┬ begin ────────────────────────┬ complete ─────────┘
//!                     ▼                               ▼
//!           ┌──────────────────────── replication ────────────────────────┐
//!           │      gate, stamp, ledger, what each peer is owed            │
//!           └─────────┬ take ─────────────────────────▲ offer, applied ───┘
//!                     ▼                               │
//!   peers ◄─── link: dialer                     link: acceptor ◄─── peers
//!                                                     └───► memcached
//! ```
//!
//! # The way of a request
//!
//! A worker is one thread with one event loop. Its sessions read, decode and append to the connection they share; at
//! the end of the turn everything leaves with one system call. Answers come back in the order of the requests,
//! because every request is owed exactly one: a request that wants none is sent without that wish, and its answer is
//! kept here. The connection gives each answer to its session, tells replication what it means, and only then lets
//! it go to the app.
//!
//! What cannot be shared (binary sessions, long values, streams, lines that are not plainly valid) has a connection of
//! its own. What cannot go on at once leaves the turn and is awaited, so the common way waits for nothing.
//!
//! # The way of a write to the peers
//!
//! Outcomes travel, not commands. [`replication`] is a pure state machine behind one lock: a write passes the gate of
//! its key, is stamped when memcached has answered, and is owed to every peer from that moment. [`link`] carries what
//! is owed and offers what comes. The two meet nowhere else.
//!
//! # What is where
//!
//! | modules | are |
//! |---|---|
//! | `front_door`, `worker`, `session`, `downstream`, `upstream` | the data path, from the app to memcached and back |
//! | [`replication`] | who wrote what last, what is owed to whom, what can be forgotten |
//! | [`peers`] | who the peers are to be |
//! | [`agent`] | who asks control for them |
//! | [`spill`] | keys owed to peers that memory has no room for |
//! | [`link`] | the connections between proxies |
//! | [`inventory`] | what a memcached holds, walked and digested |
//! | [`audit`] | whether replicas hold the same |
//! | [`config`], [`cli`] | what the proxy was told |
//! | [`admin`], [`metrics`], [`logging`] | what it tells |
//! | [`sidecar`] | the one place that knows every part, and ends them in order |
//! | [`net`], [`backoff`], `chance`, [`signals`], [`descriptors`] | what the operating system gives |
//! | `simulation` | what stands in for it in tests, behind a feature that is never shipped |
//!
//! # What holds everywhere
//!
//! Every queue, window and buffer has a bound. Time comes in as an argument, or from a worker's clock of the turn.
//! Bytes from outside never lead to a panic: memcached is asked what it thinks of them, or the connection ends. Neither
//! keys nor values are logged.
//!
//! ARCHITECTURE.md traces a write through both sites by the names of functions; docs/peer-link.md is the wire.

pub mod admin;
pub mod agent;
pub mod audit;
pub mod backoff;
mod chance;
pub mod cli;
pub mod config;
pub mod descriptors;
mod downstream;
mod failover;
pub mod fill;
mod front_door;
pub mod inventory;
pub mod link;
pub mod logging;
mod memcached;
pub mod metrics;
pub mod net;
pub mod peers;
pub mod replication;
mod session;
pub mod sidecar;
pub mod signals;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod spill;
mod upstream;
mod worker;
