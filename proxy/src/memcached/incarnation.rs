//! Connecting to the local memcached, and asking who it is before anything is believed of what it holds.
//!
//! A memcached that has started again is empty. Whoever reads there a key that is owed must know that first, or takes
//! the loss for a deletion and carries it to the peers.

use std::io;
use std::time::Duration;

use super::local::{Local, out_of_step};
use crate::config::Address;
use crate::replication::{Incarnation, Shared};

/// A connection to memcached, after the replica was told which life of it this is.
pub(crate) async fn connect(addr: &Address, patience: Duration, shared: &Shared) -> io::Result<Local> {
    let mut local = Local::connect(addr, patience).await?;
    local.write(b"stats\r\n").await?;
    let mut lines = Vec::new();
    while lines.len() < STATS_LINES_MAX {
        let line = local.line().await?;
        if line.as_ref() == b"END" {
            break;
        }
        lines.push(line);
    }
    let seen = Incarnation::of_stats(lines.iter().map(AsRef::as_ref)).ok_or_else(out_of_step)?;
    if shared.memcached_seen(seen) {
        tracing::warn!("memcached has started again, empty: it is filled from a peer");
    }
    Ok(local)
}

/// Some hundred in the versions known.
const STATS_LINES_MAX: usize = 4096;
