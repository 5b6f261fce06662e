//! The command line.

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::connection::Target;
use crate::cpu::Watched;
use crate::generator::Pace;
use crate::workload::{Dialect, Sizes, Workload};

/// Loads a memcached, or whatever stands in front of one, and checks every reply.
#[derive(Debug, Parser)]
#[command(name = "memcloud-bench", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store every key once, so that a later run has no misses
    Load(Load),
    /// Send load for a bounded time and report
    Run(Run),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Keys {
    /// How many keys, of 32 bytes each
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,
    /// Value sizes in bytes with weights: `100`, or `100:9,1024:1`
    #[arg(long, default_value = "100")]
    pub(crate) value: Sizes,
    /// What is spoken
    #[arg(long, value_enum, default_value_t = Dialect::Text)]
    pub(crate) dialect: Dialect,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Load {
    /// `host:port` or `unix:/path`
    #[arg(long)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Report as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// `host:port` or `unix:/path`
    #[arg(long)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Connections, opened once and kept
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) depth: u16,
    /// Send the next `depth` requests when all of the last are answered, as clients with a batch call do
    #[arg(long)]
    whole_batches: bool,
    /// Gets in a hundred requests; the others are sets
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
    gets: u8,
    /// Keys in each get (text only)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    multiget: u32,
    /// Exponent of a Zipf distribution over the keys; 0 is uniform
    #[arg(long, default_value_t = 0.0)]
    zipf: f64,
    /// Open loop: requests a second, sent when due whatever has been answered; 0 is closed loop
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    rate: u32,
    /// Seconds measured
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds of load before measuring starts
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Stop after this many requests, if that is sooner
    #[arg(long, default_value_t = 100_000_000)]
    requests: u64,
    /// Seed of the choice of keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Report the CPU of a process for each request: `name=pid` (repeatable; same names are added up)
    #[arg(long)]
    pub(crate) cpu: Vec<Watched>,
    /// Report as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Run {
    pub(crate) fn workload(&self) -> anyhow::Result<Workload> {
        ensure!(
            self.multiget == 1 || self.keys.dialect == Dialect::Text,
            "--multiget is a command of the text dialect"
        );
        ensure!(self.multiget <= self.keys.keys, "--multiget asks for more keys than there are");
        ensure!((0.0..=5.0).contains(&self.zipf), "--zipf is between 0 and 5");
        ensure!(
            self.seconds > 0.0 && self.seconds <= SECONDS_MAX && (0.0..=SECONDS_MAX).contains(&self.warmup),
            "--seconds and --warmup are at most {SECONDS_MAX}"
        );
        Ok(Workload::filling(self.keys.keys, &self.keys.value, self.keys.dialect).mixed(
            self.gets,
            self.multiget,
            self.zipf,
            self.seed,
        ))
    }

    pub(crate) fn pace(&self) -> Pace {
        Pace {
            warmup_ns: nanoseconds(self.warmup),
            measured_ns: nanoseconds(self.seconds),
            requests_max: self.requests,
            rate: self.rate,
            whole_batches: self.whole_batches,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(PathBuf::from(path)),
            None => Self::Tcp(text.to_owned()),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be small and positive"
)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Nobody measures for longer by intent, and a shared machine should not be kept busy by mistake.
const SECONDS_MAX: f64 = 600.0;
