//! Whole proxies on a virtual network, with model memcacheds and apps in all dialects: the code of `memcloud-proxy`
//! from its sockets up, on a virtual clock. A seed is a run, the same one each time.
//!
//! What must hold is what replication promises (README.md): see `run.rs` for what is checked.
//!
//! `make sim SEEDS=5000` runs more seeds; `SIMULATION_SEED=7` runs one, and says what happens.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

mod client;
mod machine;
mod memcached;
mod network;
mod panics;
#[path = "../simulation/rng.rs"]
mod rng;
mod world;

use client::Habits;
use world::{Plan, World};

fn plan() -> Plan {
    let trace = std::env::var_os("SIMULATION_SEED").is_some();
    let habits = Habits { keys: 8, pause_ms: 20, flushes: true, expiry: true };
    Plan { sites: 2, clients: 6, habits, delay_ms: (2, 3), skew_ms: 50, backlog_bytes: None, trace }
}

fn calm(seed: u64) -> (u64, u64) {
    panics::watch();
    let mut world = World::new(seed, plan());
    world.run(2_000);
    assert!(world.settle(10_000), "not in sync: {:?}", world.status(0));
    let differences = world.differences();
    assert!(differences.is_empty(), "{differences:#?}");
    let answered = world.history.answered;
    assert!(
        answered > 200 && world.history.failed == 0,
        "{answered} answers, {} failures",
        world.history.failed
    );
    world.network.trace()
}

#[test]
fn a_seed_is_a_run() {
    let (first, again) = (calm(1), calm(1));
    assert_eq!(first, again);
    assert_ne!(first.0, calm(2).0);
}
