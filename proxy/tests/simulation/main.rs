//! Whole sites on a virtual clock: replicas, model memcacheds with lanes that answer later, links that are cut,
//! stall, lose what is on its way, and send it again. A seed is a run; the seed of a failing run is printed.
//!
//! What must hold: when writing stops and the links are up, all sites hold the outcome of the newest write of every
//! key, and the ledgers are empty. On every site the versions applied to a key only rise, so nothing is applied
//! twice and nothing older returns. Nothing comes home. What is evicted somewhere is not deleted elsewhere.
//!
//! `SIMULATION_SEEDS=20000 cargo test --release --test simulation` runs more seeds, `SIMULATION_SEED=7` runs one.

mod memcached;
mod rng;
mod site;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use memcloud_proxy::replication::Bounds;

use crate::world::{Plan, World};

#[test]
fn a_pair_converges() {
    each_seed(600, |seed| converge(seed, plan(seed, 2)));
}

#[test]
fn three_sites_converge() {
    each_seed(120, |seed| converge(seed, plan(seed, 3)));
}

#[test]
fn four_sites_converge() {
    each_seed(60, |seed| converge(seed, plan(seed, 4)));
}

#[test]
fn a_pair_survives_restarts_of_drained_proxies() {
    let restarts: u64 = each_seed(500, |seed| {
        let mut plan = plan(seed, 2);
        plan.restarts = true;
        // Flushes by a clock that went back are one site's own until the next one.
        plan.flushes = false;
        plan.skew_ms = 500;
        converge(seed, plan).restarts
    })
    .into_iter()
    .sum();
    assert!(restarts > 0);
}

#[test]
fn what_exceeds_the_bound_is_a_gap_and_never_a_step_back() {
    let gaps: u64 = each_seed(120, |seed| {
        let mut plan = plan(seed, 2 + (seed % 3) as usize);
        plan.keys = 40;
        plan.cuts = true;
        plan.bounds.backlog_bytes = 5_000;
        let mut world = World::new(seed, plan.clone());
        world.run();
        let gaps = u64::from(world.has_gaps());
        world.settle();
        world.flush_everywhere();
        // From here on it is a shard like any other.
        world.plan.keys = 4;
        world.run();
        world.settle();
        world.check_equal();
        gaps
    })
    .into_iter()
    .sum();
    assert!(gaps > 0);
}

fn plan(seed: u64, sites: usize) -> Plan {
    let bits = seed / 7;
    Plan {
        sites,
        keys: [1, 2, 3, 5, 8, 13, 21][seed as usize % 7],
        steps: 500,
        cuts: bits & 1 != 0,
        flushes: bits & 2 != 0,
        evictions: bits & 4 != 0,
        breaks: bits & 8 != 0,
        restarts: false,
        promises: [!(seed / 3).is_multiple_of(3), (seed / 3) % 3 == 1],
        skew_ms: [0, 50, 5_000][(bits >> 4) as usize % 3],
        bounds: Bounds {
            window_entries: 1 + seed as usize % 5,
            backlog_bytes: if seed.is_multiple_of(3) { 20_000 } else { 1 << 20 },
            ..Bounds::default()
        },
    }
}

fn converge(seed: u64, plan: Plan) -> World {
    let mut world = World::new(seed, plan);
    world.run();
    world.settle();
    world.check_equal();
    world.check_no_eviction_echo();
    world
}

/// Runs seeds until one fails; its number is printed.
fn each_seed<T>(count: u64, run: impl Fn(u64) -> T) -> Vec<T> {
    let from_env = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match from_env("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("SIMULATION_SEEDS").unwrap_or(count),
    };
    seeds
        .map(|seed| match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(result) => result,
            Err(failure) => {
                eprintln!("failing seed: SIMULATION_SEED={seed}");
                resume_unwind(failure)
            }
        })
        .collect()
}
