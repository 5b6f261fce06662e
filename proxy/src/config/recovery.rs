//! What the proxy does when something breaks: how fast it resyncs, who fills misses, who serves meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use super::check::{Problem, period, period_or_none, refuse};
use super::settings::{AckFallback, Failover, Miss, Settings};
use super::units::{Period, Size};

/// The settings of recovery, each with its default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How long an answer waits for peers with `--ack peer`.
    pub ack_timeout: Duration,
    pub ack_fallback: AckFallback,
    /// Bytes a second that a resync reads or sends.
    pub resync_rate: u64,
    /// How long an empty memcached keeps the site from being ready.
    pub warmup_timeout: Duration,
    pub miss: Miss,
    /// How long a miss may wait for a peer.
    pub miss_timeout: Duration,
    pub failover: Failover,
    /// Where keys are kept that the backlog has no room for.
    pub backlog_dir: Option<PathBuf>,
    pub backlog_dir_bytes: u64,
}

impl Recovery {
    pub(super) fn of(settings: &Settings) -> Result<Self, Problem> {
        Ok(Self {
            ack_timeout: period("ack_timeout", settings.ack_timeout, ACK_TIMEOUT)?,
            ack_fallback: settings.ack_fallback.unwrap_or(AckFallback::Degrade),
            resync_rate: at_least("resync_rate", settings.resync_rate, RESYNC_RATE, RESYNC_RATE_MIN)?,
            warmup_timeout: period_or_none("warmup_timeout", settings.warmup_timeout, WARMUP_TIMEOUT)?,
            miss: settings.miss.unwrap_or(Miss::Local),
            miss_timeout: period("miss_timeout", settings.miss_timeout, MISS_TIMEOUT)?,
            failover: settings.failover.unwrap_or(Failover::None),
            backlog_dir: settings.backlog_dir.clone(),
            backlog_dir_bytes: at_least(
                "backlog_dir_bytes",
                settings.backlog_dir_bytes,
                BACKLOG_DIR_BYTES,
                BACKLOG_DIR_BYTES_MIN,
            )?,
        })
    }

    /// The layer that reads back as this.
    pub(super) fn fill(self, settings: Settings) -> Settings {
        Settings {
            ack_timeout: Some(Period(self.ack_timeout)),
            ack_fallback: Some(self.ack_fallback),
            resync_rate: Some(Size(self.resync_rate)),
            warmup_timeout: Some(Period(self.warmup_timeout)),
            miss: Some(self.miss),
            miss_timeout: Some(Period(self.miss_timeout)),
            failover: Some(self.failover),
            backlog_dir: self.backlog_dir,
            backlog_dir_bytes: Some(Size(self.backlog_dir_bytes)),
            ..settings
        }
    }
}

fn at_least(setting: &'static str, given: Option<Size>, default: Size, least: Size) -> Result<u64, Problem> {
    match given.unwrap_or(default) {
        Size(bytes) if bytes < least.0 => {
            refuse(setting, format!("{} is too little to be of use; use {least} or more", Size(bytes)))
        }
        Size(bytes) => Ok(bytes),
    }
}

/// A peer answers within milliseconds; a second is a peer in trouble, and apps seldom wait longer.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Half a gigabit: a gigabyte in a quarter of a minute, and room for apps on the slowest of today's networks.
const RESYNC_RATE: Size = Size(64 << 20);
/// One item of memcached's default size limit in a second.
const RESYNC_RATE_MIN: Size = Size(1 << 20);
/// Long enough for a peer to be found; a cold cache that serves is better than none.
const WARMUP_TIMEOUT: Duration = Duration::from_secs(60);
/// What filling a miss from the database would take.
const MISS_TIMEOUT: Duration = Duration::from_millis(50);
/// About ten million keys.
const BACKLOG_DIR_BYTES: Size = Size(1 << 30);
const BACKLOG_DIR_BYTES_MIN: Size = Size(1 << 20);
