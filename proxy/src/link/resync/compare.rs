//! Two sites compare what they hold, and make equal what differs.
//!
//! ```text
//!   slice ─► digests of ranges, both ─► lists of unequal ranges ─► keys that differ ─► once more, after the lag ─► repair
//! ```
//!
//! Apps go on writing, so a difference may be a write on its way: every key is read again on both sides before anything
//! is done about it. Then, by the two items' versions or else by [`Authority`]: our state is pushed, the peer's is taken, or the key is dropped. A key that
//! only one side holds is copied if the other side's memcached started empty, and else follows the same rule: it may have
//! been deleted where it is missing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use memcloud_protocol::memcache::binary::Opcode;
use tokio::time::sleep;

use super::super::Context;
use super::super::message::{Decoded, Item, Message, decode};
use super::SLICE_ITEMS;
use super::engine::Watcher;
use super::giver::{RANGE_BITS_MAX, failed, inventory, ranges};
use super::newer;
use super::progress::ResyncKind;
use super::states::{Applying, READ_KEYS, States};
use super::taker::Taker;
use super::wire::{Request, Verdict};
use crate::config::Address;
use crate::inventory::{EXPIRY_TOLERANCE_S, Entry, Span, Throttle, compare as differences};
use crate::memcached::commands::{self, is_speakable};
use crate::memcached::local::{Local, out_of_step};
use crate::replication::{Authority, Begin, Effect, Outcome, PeerId, next_lane, wall_clock_ms};

/// Compares with `peer` and repairs. False: the peer is being filled, there is nothing to compare yet.
pub(super) async fn compare(context: &Arc<Context>, peer: PeerId, watcher: &Watcher<'_>) -> io::Result<bool> {
    let mut taker = Taker::dial(context, peer, watcher.patience).await?;
    let began = context.shared.lock().begin_resync();
    let survey = taker.survey().await?;
    if survey.warming {
        return Ok(false);
    }
    let inventory = inventory(context);
    let ours = inventory.survey().await.map_err(failed)?.curr_items;
    let (loss, started_empty) = {
        let replica = context.shared.lock();
        (replica.loss(peer), replica.started_empty())
    };
    let authority = match Authority::of(loss, survey.loss) {
        // Nobody deleted anything at a side that began with nothing.
        Authority::Nobody if started_empty && !survey.started_empty => Authority::Peer,
        Authority::Nobody if survey.started_empty && !started_empty => Authority::Us,
        authority => authority,
    };
    watcher.began(ResyncKind::Compare, ours.max(survey.items));
    tracing::info!(peer = taker.site, ours, theirs = survey.items, ?authority, "comparing with a peer");
    let mut applying = Applying::from(context, peer, &taker.site.clone()).await?;
    let mut throttle = Throttle::new(context.config.resync_rate);
    let mut compared = 0;
    for slice in Span::slices(ours.max(survey.items), SLICE_ITEMS) {
        taker.ask(&Request::Digests(slice, RANGE_BITS_MAX)).await?;
        let listed = inventory.walk(slice).await.map_err(failed)?;
        let entries = inventory.digests(listed, &mut throttle).await.map_err(failed)?;
        let keys = differing(&mut taker, slice, &entries).await?;
        compared += entries.len() as u64;
        watcher.compared(compared);
        if !keys.is_empty() {
            settle_down(context, peer).await;
            make_equal(context, peer, &mut taker, &mut applying, keys, authority, watcher).await?;
        }
    }
    taker.done().await?;
    context.shared.with(|replica, _| replica.resynced(peer, began));
    Ok(true)
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

/// Repairs keys; what nobody could take, because it became too old on its way, is read again, and dropped in the end.
pub(super) async fn make_equal(
    context: &Arc<Context>,
    peer: PeerId,
    taker: &mut Taker,
    applying: &mut Applying,
    mut keys: Vec<Box<[u8]>>,
    authority: Authority,
    watcher: &Watcher<'_>,
) -> io::Result<()> {
    for _ in 0..ROUNDS {
        keys = repair(context, peer, taker, applying, &keys, authority, watcher).await?;
        if keys.is_empty() {
            return Ok(());
        }
        settle_down(context, peer).await;
    }
    drop_keys(context, keys, watcher).await
}

/// Reads keys once more on both sides, and makes equal what still differs. Answers those whose states were too old.
async fn repair(
    context: &Arc<Context>,
    peer: PeerId,
    taker: &mut Taker,
    applying: &mut Applying,
    keys: &[Box<[u8]>],
    authority: Authority,
    watcher: &Watcher<'_>,
) -> io::Result<Vec<Box<[u8]>>> {
    let mut states = States::of(context);
    let mut again: Vec<Box<[u8]>> = Vec::new();
    for keys in keys.chunks(READ_KEYS) {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let theirs = taker.states_of(&keys).await?;
        let mut ours = Vec::new();
        states.read(&keys, true, &mut ours).await?;
        let ours = split(&ours)?;
        let differ = |index: &usize| !is_same(ours[*index], &theirs[*index]);
        let newer = |index: usize| newer::authority(ours[index], &theirs[index], authority);
        let (mut pushed, mut taken, mut newer_taken) = (Vec::new(), Vec::new(), Vec::new());
        let mut dropped = Vec::new();
        for index in (0..keys.len()).filter(differ) {
            match newer(index) {
                Authority::Us => pushed.push(index),
                Authority::Peer if newer::is_told(ours[index], &theirs[index]) => newer_taken.push(index),
                Authority::Peer => taken.push(index),
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
        let verdicts = taker.push(&out, requests.len()).await?;
        watcher.repaired(verdicts.iter().filter(|verdict| **verdict == Verdict::Took).count());
        let old = pushed.iter().zip(verdicts).filter(|(_, verdict)| *verdict == Verdict::Old);
        again.extend(old.map(|(index, _)| Box::from(keys[*index])));
        for (taken, decided) in [(taken, false), (newer_taken, true)] {
            let messages: Vec<&[u8]> = taken.iter().map(|index| theirs[*index].as_slice()).collect();
            let kept = applying.apply(&messages.concat(), decided).await?;
            watcher.repaired(taken.len() - kept.len());
            let old = |key: &&[u8]| kept.iter().any(|kept| kept.is_too_old() && *kept.key == **key);
            again.extend(taken.iter().map(|index| keys[*index]).filter(old).map(Box::from));
        }
        drop_keys(context, dropped, watcher).await?;
        if context.shared.lock().is_crowded() {
            settle_down(context, peer).await;
        }
    }
    Ok(again)
}

/// Deletes keys here, as writes of our own: so they are gone on every side.
async fn drop_keys(context: &Arc<Context>, keys: Vec<Box<[u8]>>, watcher: &Watcher<'_>) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    watcher.dropped(keys.len());
    // A task of its own: a resync may be cut short, and a gate that is held has to be given back.
    let dropping = tokio::spawn(delete_all(Arc::clone(context), keys));
    dropping.await.map_err(io::Error::other)?
}

async fn delete_all(context: Arc<Context>, keys: Vec<Box<[u8]>>) -> io::Result<()> {
    let (addr, patience) = (&context.config.upstream, context.config.upstream_timeout);
    let mut local = None;
    for key in &keys {
        let slot = match context.shared.begin(key, next_lane()) {
            Begin::Granted(slot) => slot,
            Begin::Waiting(wait) => wait.await,
        };
        let deleted = match is_speakable(key) {
            true => delete(&mut local, addr, patience, key).await,
            false => delete_packet(addr, patience, key).await,
        };
        // Whatever became of it here: peers delete, and if it may still be there we shall read that.
        let effect = if deleted.is_ok() { Effect::Removed } else { Effect::Unknown };
        context.shared.complete(vec![Outcome::Key(slot, effect)], wall_clock_ms());
        deleted?;
    }
    Ok(())
}

async fn delete(local: &mut Option<Local>, addr: &Address, patience: Duration, key: &[u8]) -> io::Result<()> {
    let connected = match local.take() {
        Some(connected) => connected,
        None => Local::connect(addr, patience).await?,
    };
    let connected = local.insert(connected);
    let mut request = Vec::new();
    commands::delete(&mut request, key);
    connected.write(&request).await?;
    connected.line().await.map(drop)
}

async fn delete_packet(addr: &Address, patience: Duration, key: &[u8]) -> io::Result<()> {
    let mut local = Local::connect_binary(addr, patience).await?;
    let mut request = Vec::new();
    commands::packet(&mut request, Opcode::Delete, &[], key, b"");
    local.write(&request).await?;
    local.packet().await.map(drop)
}

/// Messages that stand one behind the other.
fn split(mut messages: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut split = Vec::new();
    while !messages.is_empty() {
        let Ok(Decoded::Message { used, .. }) = decode(messages) else { return Err(out_of_step()) };
        split.push(&messages[..used]);
        messages = &messages[used..];
    }
    Ok(split)
}

/// Whether two states hold the same, as far as apps can tell.
fn is_same(ours: &[u8], theirs: &[u8]) -> bool {
    match (decode(ours), decode(theirs)) {
        (Ok(Decoded::Message { message: ours, .. }), Ok(Decoded::Message { message: theirs, .. })) => {
            match (ours, theirs) {
                (Message::Item(ours), Message::Item(theirs)) => is_same_item(&ours, &theirs),
                (Message::Delete { .. }, Message::Delete { .. }) => true,
                (Message::Vivify { .. }, Message::Vivify { .. }) => true,
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_same_item(ours: &Item<'_>, theirs: &Item<'_>) -> bool {
    // Both are seconds that are left, or both are seconds since 1970, or one is 0.
    let near = (ours.exptime == 0) == (theirs.exptime == 0)
        && u64::from(ours.exptime.abs_diff(theirs.exptime)) <= EXPIRY_TOLERANCE_S;
    near && (ours.flags, ours.stale, ours.value) == (theirs.flags, theirs.stale, theirs.value)
}

/// States become too old only when something is slow.
const ROUNDS: usize = 3;
const SETTLING_ROUNDS: usize = 100;
const SETTLING_TICK: Duration = Duration::from_millis(20);
