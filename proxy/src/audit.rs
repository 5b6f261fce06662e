//! `memcloud-proxy audit`: whether replicas hold the same, and what to do about it if not.
//!
//! ```text
//!   survey all ─► spans of hashes ─► each replica: walk, digests ─► merge ─► equal: counted
//!                       ▲                                             └────► candidates
//!                       │ next span                                             │ lag, read again, some rounds
//!                       └── survey: still the same processes? ◄── repair ◄── proven
//! ```
//!
//! Replicas are read while apps write, and never at the same instant. So what differs at first is only a candidate: it
//! is read again on all replicas after the lag. It is *proven* if it differs still, and one of the replicas has held the
//! same for the whole lag, through which replication owed it something else. What is equal by then is equal; what changed
//! everywhere in between is looked at again, and what never rests is counted as unsettled, which is no difference.
//!
//! Items within [`EXPIRY_TOLERANCE_S`](crate::inventory::EXPIRY_TOLERANCE_S) of their end are left out, for one memcached drops them before the other.
//!
//! Memory is bounded for stores of any size: together all replicas' lists of a span hold about `SPAN_ITEMS` items.
//!
//! A repair deletes what is proven different, on all replicas: a miss is always legal, a wrong value is not, and who is
//! right nobody can tell from outside. Through proxies the deletions are mirrored like any other.

use std::time::Duration;

use futures_util::future::try_join_all;
use thiserror::Error;
use tokio::time::{Instant, sleep};

mod held;
mod progress;
mod recheck;
mod repair;
mod replica;
mod report;

pub use report::{OfReplica, Outcome, Report, Sample, failure};

use crate::config::Address;
use crate::inventory::{InventoryError, Span, WALK_ITEMS_MAX};
use held::sort;
use progress::Progress;
use replica::Replica;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least two, app addresses of proxies or of memcacheds.
    pub replicas: Vec<Address>,
    /// Delete what differs.
    pub repair: bool,
    /// What replication is given to bring over what was written meanwhile.
    pub lag: Duration,
    /// Keys to be named, of each kind of difference.
    pub samples: usize,
    /// Bytes a second that are read from each replica; 0: no bound.
    pub bytes_per_s: u64,
    /// How long a replica may be silent while it owes an answer.
    pub patience: Duration,
    /// Seconds since 1970.
    pub clock: fn() -> u64,
}

/// Why nothing can be said.
#[derive(Debug, Error)]
#[error("{addr}: {reason}")]
pub struct AuditError {
    addr: Address,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error("it was restarted or replaced while it was looked at: it was {0}, it is {1}")]
    Replaced(String, String),
    #[error("it refuses to delete: `{0}`")]
    Undeleted(String),
}

/// Compares, and repairs if that is wanted.
///
/// # Errors
/// A replica that cannot be read to the end, or is not the same process any more.
pub async fn run(plan: &Plan) -> Result<Report, AuditError> {
    let began = Instant::now();
    let mut replicas = try_join_all(plan.replicas.iter().map(|addr| Replica::meet(plan, addr))).await?;
    let items: Vec<u64> = replicas.iter().map(|replica| replica.survey.curr_items).collect();
    let progress = Progress::new(items.iter().sum());
    let mut report = Report::new(&replicas);
    let per_span = SPAN_ITEMS / replicas.len() as u64;
    let most = items.iter().copied().max().unwrap_or(0);
    let mut spans: Vec<Span> = Span::slices(most, per_span).collect();
    spans.reverse();
    while let Some(span) = spans.pop() {
        // Twice what was expected still fits; beyond that the span is taken in two parts.
        let room = usize::try_from(per_span * 2).unwrap_or(usize::MAX).clamp(1, WALK_ITEMS_MAX);
        let taken =
            try_join_all(replicas.iter_mut().map(|replica| replica.take(span, room, &progress))).await;
        let entries = match taken {
            Err(AuditError { reason: Reason::Inventory(InventoryError::TooMany(_)), .. })
                if let Some(halves) = span.halves() =>
            {
                spans.extend(halves.into_iter().rev());
                continue;
            }
            taken => taken?,
        };
        report.count_items(&entries);
        let sorted = sort(entries, (plan.clock)());
        report.equal += sorted.equal;
        let differing = recheck::settle(plan, &mut replicas, span, sorted.differing, &mut report).await?;
        report.count_differing(&differing, plan.samples);
        if plan.repair && !differing.is_empty() {
            try_join_all(replicas.iter().map(|replica| replica.delete(&differing))).await?;
            report.repaired += differing.len() as u64;
            sleep(plan.lag).await;
            let left = recheck::read_again(plan, &mut replicas, span, &differing).await?;
            report.still_differing += left.differing.len() as u64;
        }
        try_join_all(replicas.iter().map(Replica::meet_again)).await?;
    }
    progress.finish();
    report.repair = plan.repair;
    report.elapsed = began.elapsed();
    Ok(report)
}

/// Of all replicas' lists together, and so at most twice as many: some 150 bytes each.
const SPAN_ITEMS: u64 = 1 << 20;
