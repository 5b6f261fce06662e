//! A worker's context with nothing around it: no memcached, no peers. For tests of what lives in one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Context, Parts, Settings};
use crate::config::Address;
use crate::downstream::Downstream;
use crate::metrics::{Totals, WorkerCounters};
use crate::net::Stream;
use crate::upstream::UpstreamState;

/// A context whose apps may leave so much unread together.
pub(crate) fn context(waiting_bytes_max: usize) -> Rc<Context> {
    let settings = Settings {
        upstream: Address::Unix("/nobody".into()),
        upstream_timeout_us: 1_000_000,
        dedicated: false,
        waiting_bytes_max: Arc::new(AtomicUsize::new(waiting_bytes_max)),
        shared_connections: 1,
        ack: None,
    };
    let parts = Parts {
        settings,
        replication: None,
        fills: None,
        upstream: watch::channel(UpstreamState::default()).1,
        upstream_wanted: Arc::default(),
        notes: Arc::default(),
        failover: None,
        stats: Arc::new(String::new),
        drain: CancellationToken::new(),
    };
    Rc::new(Context::new(0, parts, Arc::new(WorkerCounters::default())))
}

/// An app's connection, and the app.
pub(crate) fn app(context: &Rc<Context>) -> (Rc<Downstream>, UnixStream) {
    let (ours, app) = UnixStream::pair().unwrap();
    (Rc::new(Downstream::new(Rc::clone(context), Stream::Unix(ours))), app)
}

/// Apps that were closed because they do not read.
pub(crate) fn slow_readers(context: &Context) -> u64 {
    Totals::of([&*context.counters]).slow_readers
}
