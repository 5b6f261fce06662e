//! Fleets of real processes: stock memcacheds, real sidecars, and cables between them that can be cut.
//!
//! ```text
//!   Client ──► Sidecar a ──► Memcached a          Fleet = N such columns
//!                 │  ▲
//!               Cable Cable                       one for each direction of dialing
//!                 ▼  │
//!   Client ──► Sidecar b ──► Memcached b
//! ```
//!
//! Everything is plain threads and blocking sockets: a test reads from top to bottom, and what is measured is the
//! sidecar, not a runtime shared with it. Processes are started here and killed here, by process id, when their value
//! is dropped; ports are picked free; files live in a temporary folder that is kept only when a test fails.
//!
//! Nothing sleeps to let something happen: [`eventually`] asks again until the condition holds or the deadline passes.
//!
//! | variable | does |
//! |---|---|
//! | `MEMCLOUD_SEED` | repeats a random run |
//! | `MEMCLOUD_CONVERGENCE_SECONDS` | how long the random writers write |
//! | `MEMCLOUD_OUTAGE_SECONDS` | how long a peer stays away |
//! | `MEMCLOUD_OUTAGE_WRITES` | how many writes 100,000 keys get meanwhile |
//! | `MEMCLOUD_CHAOS_SECONDS` | how long faults rage, in rounds of `MEMCLOUD_CHAOS_ROUND_SECONDS` |
//! | `MEMCLOUD_CHAOS_KINDS` | only these kinds of faults: `links,freezes,proxies,memcacheds,clocks,overflow` |
//! | `MEMCLOUD_SERVER` | starts this memcached instead of the distribution's: `newest`, or a version |
//! | `MEMCLOUD_PROXY`, `MEMCLOUD_CONTROL_PROGRAM` | tests this binary instead of the one cargo builds |
//!
//! This crate refuses to know the proxy's inside: it starts the binary and speaks to its sockets.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

pub mod authority;
pub mod binary;
pub mod busy;
pub mod cable;
pub mod client;
pub mod clock;
pub mod compare;
pub mod control;
pub mod fault;
pub mod fleet;
pub mod history;
pub mod http;
pub mod knot;
pub mod memcached;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod random;
pub mod registry;
pub mod script;
pub mod server;
pub mod sidecar;
pub mod wait;
pub mod witness;
pub mod writer;

pub use busy::Busy;
pub use cable::{Cable, Direction};
pub use client::Client;
pub use clock::Clock;
pub use control::Control;
pub use fleet::{Fleet, Plan};
pub use knot::Knot;
pub use memcached::Memcached;
pub use random::Rng;
pub use server::Server;
pub use sidecar::Sidecar;
pub use wait::{eventually, seconds_from_env};
