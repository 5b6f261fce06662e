//! Writes whose answer never came.
//!
//! While memcached may still read them from a connection we gave up, nobody can say what they did. So their gates
//! stay closed until memcached has closed that connection too; only then are they *unknown* rather than *pending*,
//! and replication reads their keys again.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Write;
use super::connection::Stop;
use super::replies::Batch;
use crate::net::Stream;
use crate::replication::{Effect, Shared, wall_clock_ms};

/// Settles the outcome of writes that were in flight on a connection that ended.
pub(super) fn settle(writes: Vec<Write>, replication: &Arc<Shared>, stop: &Stop, stream: Stream) {
    if writes.is_empty() {
        return;
    }
    if matches!(stop, Stop::Closed | Stop::Broken(_)) {
        return unknown(writes, replication);
    }
    let replication = Arc::clone(replication);
    tokio::task::spawn_local(async move {
        until_closed(stream).await;
        unknown(writes, &replication);
    });
}

fn unknown(writes: Vec<Write>, replication: &Arc<Shared>) {
    let mut batch = Batch::default();
    for mut write in writes {
        write.effect = Some(Effect::Unknown);
        write.end(&mut batch, None);
    }
    batch.report(replication, None, wall_clock_ms());
}

/// Says that nothing more will be sent, and reads until memcached has understood.
async fn until_closed(mut stream: Stream) {
    let _ = stream.shutdown().await;
    let mut ignored = vec![0; 4096];
    while matches!(stream.read(&mut ignored).await, Ok(n) if n > 0) {}
}
