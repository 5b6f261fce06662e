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
mod run;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use client::{Habits, History};
use run::{Fault, KILLS, LINK_FAULTS, Run, STALLS};
use world::Plan;

#[test]
fn a_seed_is_a_run() {
    let trace = |seed| {
        let mut run = Run::new(seed, plan(seed), LINK_FAULTS);
        run.trouble(3_000);
        run.check();
        run.world.network.trace()
    };
    for seed in 0..3 {
        assert_eq!(trace(seed), trace(seed));
    }
    assert_ne!(trace(1), trace(2));
}

#[test]
fn sites_without_faults_are_equal() {
    each_seed(10, |seed| {
        let mut run = Run::new(seed, plan(seed), &[]);
        run.trouble(2_000);
        let History { answered, failed, .. } = run.world.history;
        assert!(answered > 200 && failed == 0, "{answered} answers, {failed} failures");
        run.check();
        run.check_nothing_was_lost();
        run.check_no_eviction_echo();
    });
}

#[test]
fn links_fail() {
    each_seed(12, |seed| {
        let mut run = Run::new(seed, plan(seed), LINK_FAULTS);
        run.trouble(8_000);
        run.check();
        run.check_nothing_was_lost();
        if !run.world.plan.habits.flushes {
            run.check_no_loops();
        }
        run.check_no_eviction_echo();
    });
}

#[test]
fn processes_stand_still() {
    each_seed(12, |seed| {
        let mut run = Run::new(seed, plan(seed), STALLS);
        run.trouble(8_000);
        run.check();
        run.check_nothing_was_lost();
    });
}

#[test]
fn processes_are_killed() {
    each_seed(2, |seed| {
        let mut run = Run::new(seed, plan(seed), KILLS);
        for _ in 0..2 {
            run.trouble(6_000);
            run.check();
        }
        run.check_no_eviction_echo();
    });
}

#[test]
fn proxies_are_killed() {
    each_seed(12, |seed| {
        let mut run = Run::new(seed, plan(seed), &[Fault::KillProxy, Fault::CutBoth]);
        run.trouble(6_000);
        run.check();
    });
}

#[test]
fn proxies_are_restarted() {
    each_seed(12, |seed| {
        let mut run = Run::new(seed, plan(seed), &[Fault::RestartProxy, Fault::CutOneWay]);
        run.trouble(6_000);
        run.check();
    });
}

#[test]
fn memcacheds_are_killed() {
    each_seed(12, |seed| {
        let mut run = Run::new(seed, plan(seed), &[Fault::KillMemcached, Fault::CutBoth]);
        run.trouble(6_000);
        run.check();
    });
}

#[test]
fn backlogs_overflow() {
    each_seed(2, overflow);
}

/// A deletion was given up while a comparison was on, and the peer's older item beat it.
#[test]
fn what_was_given_up_during_a_comparison_does_not_lose_to_a_state() {
    overflow(0);
}

fn overflow(seed: u64) {
    let mut plan = plan(seed);
    plan.backlog_bytes = Some(5_000);
    plan.habits.keys = 40;
    let mut run = Run::new(seed, plan, LINK_FAULTS);
    run.trouble(8_000);
    run.check();
    run.check_no_eviction_echo();
}

#[test]
fn a_seed_with_kills_is_a_run() {
    let trace = |seed| {
        let mut run = Run::new(seed, plan(seed), KILLS);
        run.trouble(4_000);
        run.world.settle(5_000);
        run.world.network.trace()
    };
    for seed in 0..3 {
        assert_eq!(trace(seed), trace(seed));
    }
}

fn plan(seed: u64) -> Plan {
    let trace = std::env::var_os("SIMULATION_SEED").is_some();
    let bits = seed / 3;
    let habits = Habits {
        keys: [3, 8, 20][seed as usize % 3],
        pause_ms: if bits & 4 != 0 { 5 } else { 50 },
        flushes: bits & 1 != 0,
        expiry: bits & 2 != 0,
    };
    let sites = [2, 2, 3, 4][(bits >> 3) as usize % 4];
    Plan {
        sites,
        clients: 2 * sites + 2,
        habits,
        delay_ms: [(1, 0), (2, 3), (30, 10)][(bits >> 5) as usize % 3],
        skew_ms: [0, 50, 5_000][(bits >> 4) as usize % 3],
        backlog_bytes: None,
        trace,
    }
}

/// Runs seeds until one fails; its number is printed.
fn each_seed(count: u64, run: impl Fn(u64)) {
    let from_env = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match from_env("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = from_env("SIMULATION_FIRST").unwrap_or(0);
            first..first + from_env("SIMULATION_SEEDS").unwrap_or(count)
        }
    };
    for seed in seeds {
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("failing seed: SIMULATION_SEED={seed}");
            resume_unwind(failure);
        }
    }
}
