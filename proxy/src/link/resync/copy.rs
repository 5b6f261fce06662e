//! Everything of a peer into a memcached that started empty.
//!
//! Slice by slice of hashes, each in rising order, so that after a cut it goes on where it was. While one part is
//! applied here the next one is read there. What the replica refuses, because something newer is known or because the
//! state became too old on its way, is noted and asked for once more when all else is there ([`undecided`]).

use std::io;
use std::sync::Arc;

use super::super::Context;
use super::SLICE_ITEMS;
use super::compare::{self, Rule};
use super::progress::ResyncKind;
use super::states::Applying;
use super::taker::Taker;
use super::watcher::Watcher;
use super::wire::Request;
use crate::inventory::Span;
use crate::memcached::local::out_of_step;
use crate::replication::{Authority, Basis, PeerId, Shared, Version};

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
    /// We hear somebody whom the peer does not hear, or of whom it misses something.
    PeerIsCutOff,
}

/// Copies from `peer`, from `position` on, which is moved as far as it comes. `gone`: what it misses of
/// these sites is gone with what they held.
pub(super) async fn copy(
    context: &Arc<Context>,
    peer: PeerId,
    gone: &[PeerId],
    position: &mut Position,
    watcher: &Watcher<'_>,
) -> io::Result<Ended> {
    let mut taker = Taker::dial(context, peer, watcher.patience, &watcher.companions).await?;
    let survey = taker.survey().await?;
    if survey.warming {
        return Ok(Ended::PeerIsWarming);
    }
    if taker.company.they_lack || context.shared.lock().is_any_but(&survey.misses, gone) {
        return Ok(Ended::PeerIsCutOff);
    }
    watcher.began(ResyncKind::Copy, survey.items);
    let (began, untouched) = {
        let mut replica = context.shared.lock();
        (replica.begin_resync(), replica.is_untouched())
    };
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
                // One that goes back would never come to an end.
                if next <= first || next > slice.last {
                    return Err(out_of_step());
                }
                taker.ask(&Request::Items(Span { first: next, ..slice })).await?;
            }
            if !items.messages.is_empty() {
                watcher.decides();
            }
            let kept = applying.apply(&items.messages, Basis { unread: true, ..Basis::default() }).await?;
            {
                let mut replica = context.shared.lock();
                if replica.gave_up(peer) {
                    // From then on none of its states can be believed.
                    return Err(io::Error::other("what was owed to the peer had to be given up meanwhile"));
                }
                for kept in &kept {
                    replica.note_undecided(&kept.key);
                }
            }
            position.items += items.count;
            watcher.copied(
                position.items,
                items.messages.len() as u64,
                items.count.saturating_sub(kept.len() as u64),
            );
            match items.next {
                Some(next) => first = next,
                None => break,
            }
            position.next = first;
        }
        position.next = slice.last.saturating_add(1);
    }
    undecided(context, peer, &mut taker, &mut applying, watcher).await?;
    if from == 0 && untouched {
        // All of it was read since then.
        taker.done().await?;
        context.shared.lock().resynced(peer, began);
    } else {
        // Of one that was cut nobody knows. And what was written here before may have been deleted there since, with the deletion
        // given up: a copy deletes nothing. If something was lost, a comparison follows.
        taker.copied().await?;
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
    let mut rounds = Rounds { shared: &context.shared, peer, left: ROUNDS_MAX };
    while let Some(taken) = rounds.next() {
        let keys: Vec<Box<[u8]>> = taken.keys.iter().map(|key| Box::from(&**key)).collect();
        let now = context.shared.lock().begin_resync();
        taker.caught_up(now).await?;
        let rule = Rule { authority: Authority::Peer, since: now };
        compare::make_equal(context, peer, taker, applying, keys, rule, watcher).await?;
        taken.decided();
    }
    Ok(())
}

/// Undecided keys, those again that were noted while the last ones were decided, but not for ever.
struct Rounds<'a> {
    shared: &'a Shared,
    peer: PeerId,
    left: usize,
}

impl<'a> Rounds<'a> {
    fn next(&mut self) -> Option<Taken<'a>> {
        // Keys that are written all the time: whatever they hold is newer than the copy.
        self.left = self.left.checked_sub(1)?;
        let mut replica = self.shared.lock();
        let (keys, whole) = replica.take_undecided();
        if !whole {
            replica.doubt(self.peer);
        }
        (!keys.is_empty()).then_some(Taken { shared: self.shared, keys })
    }
}

/// Keys that are being decided. Whatever cuts that short, they are undecided again: nobody else knows of them.
struct Taken<'a> {
    shared: &'a Shared,
    keys: Vec<Arc<[u8]>>,
}

impl Taken<'_> {
    fn decided(mut self) {
        self.keys.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let mut replica = self.shared.lock();
            for key in &self.keys {
                replica.note_undecided(key);
            }
        }
    }
}

/// States become too old only when something is slow.
const ROUNDS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{Bounds, Loss};

    #[test]
    fn keys_are_undecided_until_they_are_decided() {
        let shared = Shared::new("a", 1, Bounds::default());
        shared.lock().note_undecided(b"k");
        let take = || Taken { keys: shared.lock().take_undecided().0, shared: &shared };
        drop(take());
        let cut = take();
        assert_eq!(cut.keys, [Arc::from(&b"k"[..])], "a cut leaves them as they were");
        cut.decided();
        assert!(take().keys.is_empty());
    }

    #[test]
    fn a_key_that_is_never_decided_ends_no_copy() {
        let shared = Shared::new("a", 1, Bounds::default());
        shared.lock().note_undecided(b"k");
        let rounds = || Rounds { shared: &shared, peer: PeerId(0), left: ROUNDS_MAX };
        let mut asked = rounds();
        for round in 0..ROUNDS_MAX {
            let taken = asked.next().unwrap_or_else(|| panic!("round {round}"));
            shared.lock().note_undecided(b"k");
            taken.decided();
        }
        assert!(asked.next().is_none());
        let mut asked = rounds();
        asked.next().unwrap().decided();
        assert!(asked.next().is_none(), "what is decided is not asked for again");
    }

    #[test]
    fn where_too_many_keys_are_undecided_everything_is_compared() {
        let shared = Shared::new("a", 1, Bounds::default());
        while shared.lock().note_undecided(b"k") {}
        assert_eq!(shared.lock().loss(PeerId(0)), Loss::Nothing);
        Rounds { shared: &shared, peer: PeerId(0), left: 1 }.next().unwrap().decided();
        assert_ne!(shared.lock().loss(PeerId(0)), Loss::Nothing);
    }
}
