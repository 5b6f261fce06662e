//! Two sites compare what they hold, and make equal what differs.
//!
//! ```text
//!   slice ─► digests of ranges, both ─► lists of unequal ranges ─► keys that differ ─► once more, after the lag ─► repair
//! ```
//!
//! Apps go on writing, so a difference may be a write on its way: every key is read again on both sides before anything
//! is done about it. Then, by the two items' versions or else by [`Authority`]: our state is pushed, the peer's is taken, or the key is dropped. A key that
//! only one side holds follows the same rule: it may have been deleted where it is missing. (A memcached that is empty has
//! been filled before anybody compares.) A memcached that starts again in the middle ends it all, on whichever side ([`Life`]).
//!
//! [`Life`]: super::life::Life

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::Context;
use super::SLICE_ITEMS;
use super::drop::drop_keys;
use super::giver::{failed, inventory, ranges};
use super::newer;
use super::progress::ResyncKind;
use super::same::{is_same, split};
use super::states::{Applying, READ_KEYS, States};
use super::taker::Taker;
use super::watcher::Watcher;
use super::wire::{RANGE_BITS_MAX, Request, Verdict};
use crate::inventory::{Entry, Span, Throttle, compare as differences};
use crate::memcached::local::out_of_step;
use crate::replication::{Authority, Basis, Loss, PeerId, Version};

/// Compares with `peer` and repairs. False: there is nothing to compare yet, because the peer is being filled or one of us
/// is cut off from a third; or the two cannot repair anything, because each deletion of one is refused by the other one for its clock.
pub(super) async fn compare(context: &Arc<Context>, peer: PeerId, watcher: &Watcher<'_>) -> io::Result<bool> {
    let dialed = Taker::dial_in_step(context, peer, watcher.patience, &watcher.companions).await?;
    note_clocks(context, peer, dialed.is_none());
    let Some(mut taker) = dialed else {
        sleep(CLOCKS_RETRY).await;
        return Ok(false);
    };
    let began = context.shared.lock().begin_resync();
    let survey = taker.survey().await?;
    // What one of us hears and the other does not, neither could judge by the other's states.
    if survey.warming || taker.company.we_lack || taker.company.they_lack {
        return Ok(false);
    }
    let inventory = inventory(context);
    let ours = inventory.survey().await.map_err(failed)?.curr_items;
    let loss = context.shared.lock().loss(peer);
    if loss == Loss::Nothing && survey.loss == Loss::Nothing {
        // A copy has made it good meanwhile.
        return Ok(false);
    }
    let company = watcher.companions.agreed();
    let we_miss = company.leaves_out() || !context.shared.lock().missed_besides(peer, &company).is_empty();
    let they_miss = company.leaves_out() || !survey.misses.is_empty();
    let authority = Authority::of(loss, survey.loss).unless(we_miss, they_miss);
    watcher.began(ResyncKind::Compare, ours.max(survey.items));
    tracing::info!(peer = taker.site, ours, theirs = survey.items, ?authority, "comparing with a peer");
    let mut applying = Applying::from(context, peer, &taker.site.clone()).await?;
    if !applying.life.is_whole() {
        return Err(io::Error::other("memcached has started again"));
    }
    let mut throttle = Throttle::new(context.links.resync_rate());
    let mut compared = 0;
    for slice in Span::slices(ours.max(survey.items), SLICE_ITEMS) {
        taker.ask(&Request::Digests(slice, RANGE_BITS_MAX)).await?;
        let listed = inventory.walk(slice).await.map_err(failed)?;
        let entries = inventory.digests(listed, &mut throttle).await.map_err(failed)?;
        applying.life.has_lasted().await?;
        let keys = differing(&mut taker, slice, &entries).await?;
        compared += entries.len() as u64;
        watcher.compared(compared);
        if !keys.is_empty() {
            settle_down(context, peer).await;
            let rule = Rule { authority, since: began };
            make_equal(context, peer, &mut taker, &mut applying, keys, rule, watcher).await?;
        }
    }
    taker.done().await?;
    context.shared.with(|replica, _| replica.resynced(peer, began));
    Ok(true)
}

fn note_clocks(context: &Context, peer: PeerId, apart: bool) {
    let mut before = apart;
    context.links.change(peer.0, |link| before = std::mem::replace(&mut link.clocks_apart, apart));
    if apart && !before {
        tracing::warn!(
            peer.addr = %context.peer_addr(peer),
            "the clocks of the two sites are too far apart to compare: set the wrong one right, and restart its proxy"
        );
    }
}

/// Keys of a slice that are not the same on both sides.
async fn differing(taker: &mut Taker, slice: Span, ours: &[Entry]) -> io::Result<Vec<Box<[u8]>>> {
    let theirs = taker.digests().await?;
    let ranges = ranges(ours, slice, RANGE_BITS_MAX);
    if ranges.len() != theirs.len() {
        return Err(out_of_step());
    }
    let width = 1_u64 << (u64::BITS - RANGE_BITS_MAX);
    let base = slice.first & !(width - 1);
    let span = |index: usize| {
        let first = base + width * index as u64;
        Span { first: first.max(slice.first), last: (first + (width - 1)).min(slice.last) }
    };
    let unequal: Vec<Span> =
        (0..ranges.len()).filter(|index| !ranges[*index].agrees(&theirs[*index])).map(span).collect();
    let mut keys = Vec::new();
    for spans in unequal.chunks(READ_KEYS) {
        for (span, list) in spans.iter().zip(taker.lists(spans).await?) {
            let from = ours.partition_point(|entry| entry.hash < span.first);
            let to = ours.partition_point(|entry| entry.hash <= span.last);
            let found = differences(&ours[from..to], &list);
            let different = found.different.iter().map(|(our, _)| our);
            let either = different.chain(&found.only_ours).chain(&found.only_theirs);
            keys.extend(either.map(|entry| entry.key.clone()));
        }
    }
    Ok(keys)
}

/// Until what was on its way when the two were read has arrived, on both sides: a mark of the peer that is newer than
/// now, and nothing owed to it that is older. Bounded, for a busy key only costs a look more.
async fn settle_down(context: &Context, peer: PeerId) {
    let now = context.shared.lock().begin_resync();
    for _ in 0..SETTLING_ROUNDS {
        let settled = context.shared.lock().has_settled(peer, now);
        if settled {
            return;
        }
        sleep(SETTLING_TICK).await;
    }
}

/// By what differing keys are made equal.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) authority: Authority,
    /// What was lost was lost before this.
    pub(super) since: Version,
}

/// Repairs keys; what nobody could take, because it became too old on its way, is read again, and dropped in the end.
pub(super) async fn make_equal(
    context: &Arc<Context>,
    peer: PeerId,
    taker: &mut Taker,
    applying: &mut Applying,
    mut keys: Vec<Box<[u8]>>,
    rule: Rule,
    watcher: &Watcher<'_>,
) -> io::Result<()> {
    for _ in 0..ROUNDS {
        keys = repair(context, peer, taker, applying, &keys, rule, watcher).await?;
        if keys.is_empty() {
            return Ok(());
        }
        settle_down(context, peer).await;
    }
    applying.life.lasts()?;
    drop_keys(context, keys, watcher).await
}

/// Reads keys once more on both sides, and makes equal what still differs. Answers those whose states were too old.
async fn repair(
    context: &Arc<Context>,
    peer: PeerId,
    taker: &mut Taker,
    applying: &mut Applying,
    keys: &[Box<[u8]>],
    rule: Rule,
    watcher: &Watcher<'_>,
) -> io::Result<Vec<Box<[u8]>>> {
    let mut states = States::of(context, &watcher.companions);
    let mut again: Vec<Box<[u8]>> = Vec::new();
    for keys in keys.chunks(READ_KEYS) {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let theirs = taker.states_of(&keys).await?;
        let mut ours = Vec::new();
        let read = Some(context.shared.lock().begin_resync());
        states.read(&keys, true, &mut ours).await?;
        let ours = split(&ours)?;
        applying.life.lasts()?;
        let differ = |index: &usize| !is_same(ours[*index], &theirs[*index]);
        let newer = |index: usize| newer::authority(ours[index], &theirs[index], rule.authority);
        let (mut pushed, mut taken, mut newer_taken) = (Vec::new(), Vec::new(), Vec::new());
        let mut dropped = Vec::new();
        for index in (0..keys.len()).filter(differ) {
            match newer(index) {
                Authority::Us => pushed.push(index),
                Authority::Peer if newer::is_told(ours[index], &theirs[index]) => newer_taken.push(index),
                Authority::Peer => taken.push(index),
                // What was written since then was not lost, and is on its way to whoever has not got it yet.
                Authority::Nobody if context.shared.lock().is_written_since(keys[index], rule.since) => {}
                Authority::Nobody => dropped.push(Box::from(keys[index])),
            }
        }
        let request = |index: &usize| match newer::is_told(ours[*index], &theirs[*index]) {
            true => Request::Newer(ours[*index].to_vec()),
            false => Request::State(ours[*index].to_vec()),
        };
        let requests: Vec<Request> = pushed.iter().map(request).collect();
        let mut out = Vec::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        if !(pushed.is_empty() && taken.is_empty() && newer_taken.is_empty()) {
            watcher.decides();
        }
        let verdicts = taker.push(&out, requests.len()).await?;
        watcher.repaired(verdicts.iter().filter(|verdict| **verdict == Verdict::Took).count());
        let old = pushed.iter().zip(verdicts).filter(|(_, verdict)| *verdict == Verdict::Old);
        again.extend(old.map(|(index, _)| Box::from(keys[*index])));
        for (taken, decided) in [(taken, false), (newer_taken, true)] {
            let messages: Vec<&[u8]> = taken.iter().map(|index| theirs[*index].as_slice()).collect();
            let kept = applying.apply(&messages.concat(), Basis { decided, read, unread: false }).await?;
            let lost = applying.take_dropped();
            watcher.repaired((taken.len() - kept.len()).saturating_sub(lost));
            watcher.dropped(lost);
            let old = |key: &&[u8]| kept.iter().any(|kept| kept.is_too_old() && *kept.key == **key);
            again.extend(taken.iter().map(|index| keys[*index]).filter(old).map(Box::from));
            let mut replica = context.shared.lock();
            for kept in kept.iter().filter(|kept| kept.is_held_up()) {
                replica.note_undecided(&kept.key);
            }
        }
        drop_keys(context, dropped, watcher).await?;
        if context.shared.lock().is_crowded() {
            settle_down(context, peer).await;
        }
    }
    Ok(again)
}

/// A clock is set right by somebody.
const CLOCKS_RETRY: Duration = Duration::from_secs(1);
/// States become too old only when something is slow.
const ROUNDS: usize = 3;
const SETTLING_ROUNDS: usize = 100;
const SETTLING_TICK: Duration = Duration::from_millis(20);
