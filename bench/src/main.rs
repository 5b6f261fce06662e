//! The load generator behind `make bench`.
//!
//! One thread, one epoll, a few connections: it asks, checks every reply (key, flags, length, first
//! bytes) and says how many requests a second were answered, how long they took and how much CPU
//! the named processes spent on each. It knows nothing of scenarios, rounds or ratios: those are
//! `bench/run`, which calls this program once for each figure.
//!
//! ```text
//!   workload ──encode──▶ connection ──write──▶ target
//!      ▲                     │
//!      └──── generator ◀─────┘ read ─▶ reply (check) ─▶ tally ─▶ report
//! ```
//!
//! The store is loaded first (`load`), so that a miss in a run is as wrong as a wrong value.

mod args;
mod clock;
mod connection;
mod cpu;
mod generator;
mod reply;
mod tally;
mod workload;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::args::{Args, Command};
use crate::generator::{Generator, Pace};
use crate::tally::Tally;
use crate::workload::Workload;

fn main() -> anyhow::Result<ExitCode> {
    let (target, workload, pace, shape, cpu, json) = match Args::parse().command {
        Command::Load(load) => {
            let pace = Pace::filling(load.keys.keys.into());
            let workload = Workload::filling(load.keys.keys, &load.keys.value, load.keys.dialect);
            (load.target, workload, pace, (1, 16), Vec::new(), load.json)
        }
        Command::Run(run) => {
            let workload = run.workload()?;
            let pace = run.pace();
            (run.target, workload, pace, (run.connections, run.depth), run.cpu, run.json)
        }
    };
    // A sleep until the next request is due must not be rounded up by the kernel's default 50 us.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).context("timer slack")?;
    let (connections, depth) = shape;
    let generator = Generator::connect(&target, connections, depth, workload)
        .with_context(|| format!("connecting to {target}"))?;
    let tally = generator.run(&pace, &cpu)?;
    report(&tally, json);
    Ok(if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(tally: &Tally, json: bool) {
    if json {
        println!("{}", tally.to_json());
    } else {
        println!("{tally}");
    }
    for complaint in tally.complaints() {
        eprintln!("memcloud-bench: {complaint}");
    }
}
