//! A `flush_all` with a delay, when its time has come.
//!
//! It was answered when it was asked for, and kept by the replica alone. Now it becomes an ordinary flush: in the
//! order of all writes, and mirrored as one. So does one whose answer was lost, and one of a peer that is gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Context;
use super::local::Local;
use crate::replication::{Outcome, PeerId, wall_clock_ms};

/// Looks at the clock until the proxy stops.
pub(super) async fn run(context: Arc<Context>) {
    loop {
        tokio::select! {
            biased;
            () = context.drain.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let due = context.shared.lock().due_flush(wall_clock_ms());
        if due {
            tokio::select! {
                biased;
                () = flush(&context) => {}
                () = context.over.cancelled() => return,
            }
        }
    }
}

/// Flushes once; the replica says again that a flush is due until one is done.
async fn flush(context: &Context) {
    let mut local = match Local::connect(&context.config.upstream, context.config.upstream_timeout).await {
        Ok(local) => local,
        Err(error) => return warn!(%error, "a scheduled flush waits for the upstream"),
    };
    context.shared.begin_flush().granted().await;
    match local.flush_all().await {
        Ok(flushed) => {
            context.shared.complete(vec![Outcome::Flush(flushed)], wall_clock_ms());
            if !flushed {
                warn!("the upstream refuses a scheduled flush");
            }
        }
        Err(error) => {
            // It may still be carried out until memcached has closed the connection: after writes of then.
            local.leave().await;
            context.shared.with(|replica, woken| replica.flush_unknown(wall_clock_ms(), woken));
            warn!(%error, "the upstream broke in a scheduled flush");
        }
    }
}

/// Empties our memcached, and has these peers come before anybody writes to it again.
pub(super) async fn empty_for(context: &Context, peers: &[PeerId]) -> io::Result<()> {
    let mut local = Local::connect(&context.config.upstream, context.config.upstream_timeout).await?;
    context.shared.begin_flush().granted().await;
    let failed = match local.flush_all().await {
        Ok(true) => {
            context.shared.join_afresh(peers, wall_clock_ms());
            return Ok(());
        }
        Ok(false) => io::Error::other("memcached refuses to be flushed"),
        Err(error) => {
            local.leave().await;
            error
        }
    };
    // If it was carried out all the same, what was there is missed and nothing is stale.
    context.shared.complete(vec![Outcome::Flush(false)], wall_clock_ms());
    Err(failed)
}

const TICK: Duration = Duration::from_millis(250);
