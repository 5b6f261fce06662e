//! Everything of a peer into a memcached that started empty.
//!
//! Slice by slice of hashes, each in rising order, so that after a cut it goes on where it was. While one part is
//! applied here the next one is read there. What the replica refuses, because something newer is known or because the
//! state became too old on its way, is noted and asked for once more when all else is there ([`undecided`]).

use std::io;
use std::sync::Arc;

use super::super::Context;
use super::SLICE_ITEMS;
use super::compare;
use super::engine::Watcher;
use super::progress::ResyncKind;
use super::states::Applying;
use super::taker::Taker;
use super::wire::Request;
use crate::inventory::Span;
use crate::replication::{Authority, PeerId, Version};

/// Where a copy goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Of the memcached that is being filled.
    pub(super) since: Version,
    /// The first hash that is not copied.
    pub(super) next: u64,
    pub(super) items: u64,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All is here.
    Whole,
    /// The peer is being filled itself.
    PeerIsWarming,
}

/// Copies from `peer`, from `position` on, which is moved as far as it comes.
pub(super) async fn copy(
    context: &Arc<Context>,
    peer: PeerId,
    position: &mut Position,
    watcher: &Watcher<'_>,
) -> io::Result<Ended> {
    let mut taker = Taker::dial(context, peer, watcher.patience).await?;
    let survey = taker.survey().await?;
    if survey.warming {
        return Ok(Ended::PeerIsWarming);
    }
    watcher.began(ResyncKind::Copy, survey.items);
    let began = context.shared.lock().begin_resync();
    let mut applying = Applying::from(context, peer, &taker.site.clone()).await?;
    // What this memcached's earlier life knew must not be taken for newer than what is copied.
    taker.caught_up(position.since).await?;
    let from = position.next;
    for slice in Span::slices(survey.items, SLICE_ITEMS).filter(|slice| slice.last >= from) {
        let mut first = slice.first.max(position.next);
        taker.ask(&Request::Items(Span { first, ..slice })).await?;
        loop {
            let items = taker.items().await?;
            if let Some(next) = items.next {
                taker.ask(&Request::Items(Span { first: next, ..slice })).await?;
            }
            let kept = applying.apply(&items.messages, false).await?;
            {
                let mut replica = context.shared.lock();
                for kept in &kept {
                    replica.note_undecided(&kept.key);
                }
            }
            position.items += items.count;
            watcher.copied(position.items, items.messages.len() as u64, items.count - kept.len() as u64);
            match items.next {
                Some(next) => first = next,
                None => break,
            }
            position.next = first;
        }
        position.next = slice.last.saturating_add(1);
    }
    undecided(context, peer, &mut taker, &mut applying, watcher).await?;
    if from == 0 {
        // All of it was read since then. Of one that was cut nobody knows; if something was lost meanwhile, a
        // comparison follows.
        taker.done().await?;
        context.shared.lock().resynced(peer, began);
    }
    Ok(Ended::Whole)
}

/// Keys whose state was not taken: newer here, too old, or of a write without an answer. Where the two still differ the
/// peer's state is taken; what it lacks, and was written here since, is on its way to it.
async fn undecided(
    context: &Arc<Context>,
    peer: PeerId,
    taker: &mut Taker,
    applying: &mut Applying,
    watcher: &Watcher<'_>,
) -> io::Result<()> {
    for _ in 0..ROUNDS_MAX {
        let (keys, whole) = context.shared.lock().take_undecided();
        if !whole {
            context.shared.lock().doubt(peer);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<Box<[u8]>> = keys.iter().map(|key| Box::from(&**key)).collect();
        let now = context.shared.lock().begin_resync();
        taker.caught_up(now).await?;
        compare::make_equal(context, peer, taker, applying, keys, Authority::Peer, watcher).await?;
    }
    // Keys that are written all the time: whatever they hold is newer than the copy.
    Ok(())
}

/// States become too old only when something is slow.
const ROUNDS_MAX: usize = 3;
