//! Fills misses of apps from a peer: `--miss peer`.
//!
//! ```text
//!   Fills ─ wanted: keys ─► a resync connection to a live peer ─ mg … ─► ms … or md …, as of a version there
//!     ▲                                                                        │
//!     └────────────── landed ◄── applied, if nothing newer is known here ◄─────┘
//! ```
//!
//! One connection to one peer at a time, the first that is linked both ways and not being filled itself. What comes is a
//! *state* (`replication/state.rs`): it loses to every newer write and to every deletion. A key that the peer lacks is left
//! alone, and so is one that is still owed to a third site, or is being written.
//!
//! Promises that misses cost no time while no peer answers: then, and while one lets `--miss-timeout` pass, nobody is
//! asked. Refuses to know who waits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::Context;
use super::company::Companions;
use super::hold::{Hold, is_linked};
use super::message::{Decoded, Message, decode};
use super::resync::{Applying, READ_KEYS, Taker};
use crate::fill::{Fills, Landing};
use crate::replication::{Basis, PeerId};

/// Fills until the proxy stops.
pub(super) async fn run(context: Arc<Context>, fills: Arc<Fills>) {
    loop {
        tokio::select! {
            biased;
            () = context.drain.cancelled() => break,
            ended = fill(&context, &fills) => if let Err(error) = ended {
                debug!(%error, "misses are not filled for now");
            },
        }
        fills.close();
        tokio::select! {
            biased;
            () = context.drain.cancelled() => break,
            () = sleep(AGAIN_AFTER) => {}
        }
    }
    fills.close();
}

async fn fill(context: &Arc<Context>, fills: &Fills) -> io::Result<()> {
    let (peer, mut taker, companions) = find(context).await?;
    let _member = context.directory.member(peer);
    let site = taker.site().to_owned();
    let mut applying = Applying::from(context, peer, &site).await?.at_once();
    let _hold = Hold::on(&context.shared);
    info!(peer.addr = %context.peer_addr(peer), "misses are filled from this peer");
    companions.begin();
    fills.open();
    loop {
        tokio::select! {
            biased;
            () = companions.broken() => return Ok(()),
            keys = fills.wanted(READ_KEYS) => fetch(context, fills, &mut taker, &mut applying, &keys).await?,
        }
    }
}

/// A connection to a peer that can fill; to one that is being filled itself only if there is no other, and never to one
/// that does not hear whom we hear or misses something of them, nor while somebody is away whom a short break would leave to be compared with.
async fn find(context: &Context) -> io::Result<(PeerId, Taker, Companions<'_>)> {
    let mut warming = None;
    let peers: Vec<PeerId> = context.shared.lock().peer_ids().collect();
    for peer in peers.into_iter().filter(|peer| is_linked(context, *peer)) {
        let patience = context.config.peer_timeout;
        let companions = Companions::with(context, peer);
        let Ok(mut taker) = Taker::dial(context, peer, patience, &companions).await else { continue };
        if taker.company.they_lack || companions.are_hasty() {
            continue;
        }
        match taker.is_warming().await {
            Ok(None) => {}
            Ok(Some(false)) => return Ok((peer, taker, companions)),
            Ok(Some(true)) => warming = Some((peer, taker, companions)),
            Err(_) => {}
        }
    }
    warming.ok_or_else(|| io::Error::other("no peer can be asked"))
}

async fn fetch(
    context: &Context,
    fills: &Fills,
    taker: &mut Taker,
    applying: &mut Applying,
    keys: &[Arc<[u8]>],
) -> io::Result<()> {
    let names: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
    let states = {
        let mut states = std::pin::pin!(taker.states_of(&names));
        match timeout(fills.timeout(), states.as_mut()).await {
            Ok(states) => states?,
            Err(_) => {
                // Whoever waits has given up. Until the peer answers nobody else shall.
                fills.close();
                states.await?;
                fills.open();
                return Ok(());
            }
        }
    };
    for (key, state) in keys.iter().zip(&states) {
        let landing = match value_len(state) {
            None => Landing::Missed,
            Some(_) if context.shared.lock().is_owed(key) => Landing::Failed,
            Some(bytes) => match applying.apply(state, Basis::default()).await?.first() {
                None => Landing::Here { bytes },
                Some(kept) if kept.is_too_old() || kept.is_held_up() => Landing::Failed,
                Some(_) => Landing::Known { bytes },
            },
        };
        fills.land(key, landing);
    }
    Ok(())
}

/// How long the value is that a state brings; nothing for one that says that there is none.
fn value_len(state: &[u8]) -> Option<usize> {
    match decode(state) {
        Ok(Decoded::Message { message: Message::Item(item), .. }) => Some(item.value.len()),
        _ => None,
    }
}

const AGAIN_AFTER: Duration = Duration::from_millis(200);
