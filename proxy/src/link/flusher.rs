//! A `flush_all` with a delay, when its time has come.
//!
//! It was answered when it was asked for, and kept by the replica alone. Now it becomes an ordinary flush: in the
//! order of all writes, and mirrored as one. So does one whose answer was lost, and one of a peer that is gone.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Context;
use super::local::Local;
use crate::replication::{Begin, Outcome, wall_clock_ms};

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
    match context.shared.begin_flush() {
        Begin::Granted(_) => {}
        Begin::Waiting(wait) => {
            wait.await;
        }
    }
    let answer = match local.write(b"flush_all 0\r\n").await {
        Ok(()) => local.line().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(line) => {
            let flushed = line.as_ref() == b"OK";
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

const TICK: Duration = Duration::from_millis(250);
