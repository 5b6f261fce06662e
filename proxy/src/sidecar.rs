//! The composition root of the sidecar: builds every part, says which addresses are bound, and ends them in order.
//!
//! ```text
//!  front door ─► workers ─► memcached ◄─ monitor
//!                  │
//!               replica (one lock) ◄─► links to peers
//!                  │
//!                admin
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Address, Config, UpstreamConnections};
use crate::front_door::FrontDoor;
use crate::metrics::WorkerCounters;
use crate::net::Listener;
use crate::upstream::Monitor;
use crate::worker::{Parts, Settings, Worker};

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; is something else there? Choose another address with {flag}")]
pub struct BindError {
    address: Address,
    flag: &'static str,
    source: std::io::Error,
}

/// Runs until `stop` is cancelled, then drains.
///
/// # Errors
/// An address cannot be bound, or a thread cannot be started.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let mut doors = Vec::new();
    for address in &config.listen {
        doors.push(bind(address, "--listen").await?);
    }
    let (monitor, upstream) = Monitor::new(config.upstream.clone(), config.upstream_timeout);
    tokio::spawn(monitor.run());
    let parts = Parts {
        settings: settings(&config),
        replication: None,
        upstream,
        stale_marks: Arc::new(AtomicBool::new(false)),
        stats: Arc::new(|| "END\r\n".to_owned()),
        drain: stop.child_token(),
    };
    let workers = start_workers(&config, &parts).await?;

    let tracker = TaskTracker::new();
    let counters = Arc::new(WorkerCounters::default());
    let door = Arc::new(FrontDoor {
        inboxes: workers.iter().map(Worker::inbox).collect(),
        sessions_max: config.max_sessions as u64,
        counters,
    });
    for listener in doors {
        tracker.spawn(Arc::clone(&door).open(listener, stop.child_token()));
    }
    tracing::info!(listen = ?config.listen, upstream = %config.upstream, "serving");
    stop.cancelled().await;
    tracker.close();
    tracker.wait().await;
    drop(door);
    let joined = tokio::task::spawn_blocking(move || workers.into_iter().for_each(Worker::join));
    if tokio::time::timeout(config.drain_timeout, joined).await.is_err() {
        tracing::warn!("some apps were cut off: they were not done within --drain-timeout");
    }
    Ok(())
}

async fn bind(address: &Address, flag: &'static str) -> Result<Listener, BindError> {
    Listener::bind(address).await.map_err(|source| BindError { address: address.clone(), flag, source })
}

async fn start_workers(config: &Config, parts: &Parts) -> anyhow::Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for number in 0..config.workers {
        let (ready, told) = oneshot::channel();
        workers
            .push(Worker::start(number, parts.clone(), ready).context("a worker thread cannot be started")?);
        let _ = told.await;
    }
    Ok(workers)
}

fn settings(config: &Config) -> Settings {
    Settings {
        upstream: config.upstream.clone(),
        upstream_timeout_us: u64::try_from(config.upstream_timeout.as_micros()).unwrap_or(u64::MAX),
        dedicated: config.upstream_connections == UpstreamConnections::Dedicated,
        shared_connections: config.shared_connections,
    }
}
