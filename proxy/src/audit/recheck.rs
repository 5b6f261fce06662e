//! Looking again at what differs: on all replicas, after the lag, until it is proven, equal, or clearly being written.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;
use memcloud_protocol::memcache::expiry::Expiry;
use tokio::time::sleep;

use super::held::{Held, Sorted, sort};
use super::replica::Replica;
use super::{AuditError, Plan, Report};
use crate::inventory::{Entry, Listed, Span, WALK_ITEMS_MAX};
use crate::memcached::commands::is_speakable;

/// Those of the candidates that are proven to differ. What became of the others is counted.
pub(super) async fn settle(
    plan: &Plan,
    replicas: &mut [Replica],
    span: Span,
    candidates: Vec<Held>,
    report: &mut Report,
) -> Result<Vec<Held>, AuditError> {
    let (mut open, mut proven) = (candidates, Vec::new());
    for _ in 0..ROUNDS {
        if open.is_empty() {
            break;
        }
        sleep(plan.lag).await;
        let again = read_again(plan, replicas, span, &open).await?;
        report.equal += again.equal;
        report.settled += again.equal;
        let earlier: HashMap<Box<[u8]>, Held> =
            open.into_iter().map(|held| (held.key.clone(), held)).collect();
        let is_proven = |held: &Held| earlier.get(&held.key).is_some_and(|then| held.is_proven_since(then));
        let (sure, unsure): (Vec<_>, Vec<_>) = again.differing.into_iter().partition(is_proven);
        proven.extend(sure);
        open = unsure;
    }
    report.unsettled += open.len() as u64;
    Ok(proven)
}

/// What all replicas hold now of these keys, which are sorted.
pub(super) async fn read_again(
    plan: &Plan,
    replicas: &mut [Replica],
    span: Span,
    keys: &[Held],
) -> Result<Sorted, AuditError> {
    let all = replicas.iter_mut().enumerate().map(|(index, replica)| one(replica, index, span, keys));
    Ok(sort(try_join_all(all).await?, (plan.clock)()))
}

async fn one(
    replica: &mut Replica,
    index: usize,
    span: Span,
    keys: &[Held],
) -> Result<Vec<Entry>, AuditError> {
    let mut listed: Vec<Listed> =
        keys.iter().filter(|held| is_speakable(&held.key)).map(|held| known(held, index)).collect();
    if listed.len() < keys.len() {
        // Of a key that no text names only the list tells when it ends, so the list is asked for again.
        let nameless: HashSet<&[u8]> =
            keys.iter().map(|held| &*held.key).filter(|key| !is_speakable(key)).collect();
        let walked = replica.list(span, WALK_ITEMS_MAX).await?;
        listed.extend(walked.into_iter().filter(|item| nameless.contains(&*item.key)));
        listed.sort_by(|a, b| (a.hash, &a.key).cmp(&(b.hash, &b.key)));
    }
    replica.read(listed).await
}

/// As if it had been listed; how large it is now nobody knows.
fn known(held: &Held, index: usize) -> Listed {
    let cas = held.on[index].as_ref().map_or(0, |entry| entry.cas);
    Listed { hash: held.hash, key: held.key.clone(), expiry: Expiry::Never, cas, size: UNKNOWN_SIZE }
}

/// A write that is on its way at two looks in a row is rare, at five it is a key that never rests.
const ROUNDS: usize = 5;
/// Batches of items whose size is not known are small, and hold up no app.
const UNKNOWN_SIZE: u64 = 8 << 10;
