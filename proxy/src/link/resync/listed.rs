//! Keys that memory had no room for: the state of each goes to the peer, and then the key off the list.
//!
//! What is on the list is all that the peer misses, so nothing has to be compared. It is read as it is now: a key
//! that is gone by now is pushed as gone. A key leaves the list when the peer has taken its state, or knows something
//! newer; one whose state became too old on its way stays, and is read again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::Context;
use super::progress::ResyncKind;
use super::states::{READ_KEYS, States};
use super::taker::Taker;
use super::watcher::Watcher;
use super::wire::Verdict;
use crate::inventory::Throttle;
use crate::replication::PeerId;
use crate::spill::{Listed, Spill};

/// Brings `peer` up to date from its list. False: the list is not complete any more, so the two have to be
/// compared.
pub(super) async fn push_listed(
    context: &Arc<Context>,
    peer: PeerId,
    lists: &Spill,
    watcher: &Watcher<'_>,
) -> io::Result<bool> {
    let mut taker = Taker::dial(context, peer, watcher.patience, &watcher.companions).await?;
    if taker.company.we_lack {
        return Err(io::Error::other("the peer hears a site that we do not hear"));
    }
    let mut states = States::of(context, &watcher.companions);
    let mut throttle = Throttle::new(context.links.resync_rate());
    watcher.began(ResyncKind::Listed, lists.state(peer).keys);
    let (mut done, mut idle_rounds) = (0, 0);
    loop {
        let listed = lists.take(peer, TAKEN_KEYS).await;
        if listed.is_empty() {
            if context.shared.list_delivered(peer) {
                return Ok(true);
            }
            if !lists.state(peer).complete {
                return Ok(false);
            }
        }
        let before = done;
        for listed in listed.chunks(READ_KEYS) {
            watcher.decides();
            let verdicts = push(&mut taker, &mut states, &mut throttle, listed).await?;
            let confirmed = listed.iter().zip(verdicts).filter(|(_, verdict)| *verdict != Verdict::Old);
            let confirmed: Vec<Listed> = confirmed.map(|(listed, _)| listed.clone()).collect();
            done += confirmed.len() as u64;
            lists.remove(peer, confirmed).await;
        }
        watcher.listed(done);
        idle_rounds = if done == before { idle_rounds + 1 } else { 0 };
        if idle_rounds > IDLE_ROUNDS_MAX {
            // The peer takes none of them, because it may have failed to send us something as well.
            context.shared.lock().unlist(peer);
            return Ok(false);
        }
        if idle_rounds > 0 {
            sleep(IDLE_PAUSE).await;
        }
    }
}

async fn push(
    taker: &mut Taker,
    states: &mut States<'_>,
    throttle: &mut Throttle,
    listed: &[Listed],
) -> io::Result<Vec<Verdict>> {
    let keys: Vec<&[u8]> = listed.iter().map(|listed| &*listed.key).collect();
    let mut messages = Vec::new();
    states.read(&keys, true, &mut messages).await?;
    throttle.pace(messages.len() as u64).await;
    taker.push(&messages, keys.len()).await
}

const IDLE_ROUNDS_MAX: u32 = 5;
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// Keys that are taken from the list at a time.
const TAKEN_KEYS: usize = 4096;
