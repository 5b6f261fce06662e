//! Writes whose answer never came: nobody can say what they did, so their keys are dropped, here and at every peer.
//!
//! ```text
//!  connection ended ──► memcached has closed it too ──► md, on a fresh connection ──► complete(Removed), gates open
//!                       (nothing is carried out late)    (tried until it is answered)
//! ```
//!
//! Reading the item instead would not do. If the write was not carried out, what is there is the value from before, and with
//! a version of now it would win over everything that peers have written meanwhile: what was overwritten there would
//! come back. A miss is always legal. But while a peer serves our apps, they go on writing that key there, and a deletion
//! stamped when memcached is back would win over what they were told: so then the gates open without a stamp, and the
//! key is looked at once memcached serves again and has all that was written at the peer. If it is there by then, the
//! peer's value is; only if not, the deletion is told.
//!
//! A miss is legal all the same. The gates stay closed until the item is gone, so that no later write of an app
//! and no mutation of a peer is hit.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use memcloud_protocol::memcache::binary::{Opcode, status};

use super::Write;
use super::connection::Stop;
use super::pending::Hold;
use super::replies::Batch;
use crate::backoff::Backoff;
use crate::memcached::commands;
use crate::memcached::incarnation;
use crate::memcached::local::{Local, out_of_step};
use crate::net::Stream;
use crate::replication::{Begin, Effect, Incarnation, Outcome, Shared, Slot, next_lane, wall_clock_ms};
use crate::worker::Context;

/// Settles the outcome of writes that were in flight on a connection that ended.
pub(super) fn settle(
    writes: Vec<Write>,
    context: &Rc<Context>,
    replication: &Arc<Shared>,
    stop: &Stop,
    stream: Stream,
) {
    if writes.is_empty() {
        return;
    }
    let since = Since { route: context.routed().generation, life: replication.memcached_life() };
    let closed = matches!(stop, Stop::Closed | Stop::Broken(_));
    let (context, replication) = (Rc::clone(context), Arc::clone(replication));
    tokio::task::spawn_local(async move {
        if !closed {
            until_closed(stream).await;
        }
        let (slots, keys) = sort_out(writes, &replication);
        drop_keys(slots, since, &context, &replication).await;
        // Those that held no gate have to come by it first, one at a time: who holds a gate waits for no other.
        for key in keys {
            let slot = match replication.begin(&key, next_lane()) {
                Begin::Granted(slot) => slot,
                Begin::Waiting(wait) => wait.await,
            };
            drop_keys(vec![slot], since, &context, &replication).await;
        }
    });
}

/// Those that hold the gate of a key, and the keys of those that hold none. What becomes of others is told at once.
fn sort_out(writes: Vec<Write>, replication: &Arc<Shared>) -> (Vec<Slot>, Vec<Box<[u8]>>) {
    let (mut slots, mut loose, mut batch) = (Vec::new(), Vec::new(), Batch::default());
    for mut write in writes {
        match write.hold {
            Hold::Key(slot) => slots.push(slot),
            Hold::Afterwards(keys) => loose.extend(keys),
            _ => {
                write.effect = Some(Effect::Unknown);
                write.end(&mut batch, None);
            }
        }
    }
    batch.report(replication, None, wall_clock_ms());
    (slots, loose)
}

/// Deletes the keys whose gates are held, however long memcached is away, and then says so to everybody; unless a peer
/// has served since, or memcached has started again: then the writes are gone with it, and so is what was there before.
async fn drop_keys(slots: Vec<Slot>, since: Since, context: &Context, replication: &Arc<Shared>) {
    let mut keys: Vec<Arc<[u8]>> = replication.with(|replica, _| replica.unknown_outcomes(&slots));
    keys.sort_unstable();
    keys.dedup();
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let (addr, patience) = (&context.settings.upstream, patience(context));
    loop {
        let error = match incarnation::connect(addr, patience, replication).await {
            Ok(_) if since.has_died(replication) => {
                return replication.with(|replica, woken| replica.died_with_memcached(slots, woken));
            }
            Ok(_) => match delete_all(&keys, context).await {
                Ok(()) => break,
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::debug!(%error, keys = keys.len(), "keys of unknown outcome are not dropped yet");
        // What peers send of these keys waits, so it is done as soon as memcached is back.
        let mut state = context.upstream_state();
        tokio::select! {
            biased;
            () = sleep(backoff.next_delay()) => {}
            Ok(()) = state.changed() => {}
        }
    }
    let here = context.routed().generation == since.route;
    let effect = if here { Effect::Removed } else { Effect::None };
    let gone = slots.into_iter().map(|slot| Outcome::Key(slot, effect.clone())).collect();
    replication.complete(gone, wall_clock_ms());
    if !here {
        context.at_home().await;
        for key in &keys {
            look_after(key, context, replication).await;
        }
    }
}

/// How things were when a connection broke.
#[derive(Clone, Copy)]
struct Since {
    route: u64,
    life: Option<Incarnation>,
}

impl Since {
    fn has_died(self, replication: &Shared) -> bool {
        self.life.zip(replication.memcached_life()).is_some_and(|(then, now)| !then.is(&now))
    }
}

fn patience(context: &Context) -> Duration {
    Duration::from_micros(context.settings.upstream_timeout_us)
}

/// memcached serves again and has what was written at the peer: is the key still gone?
async fn look_after(key: &Arc<[u8]>, context: &Context, replication: &Arc<Shared>) {
    let slot = match replication.begin(key, next_lane()) {
        Begin::Granted(slot) => slot,
        Begin::Waiting(wait) => wait.await,
    };
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let there = loop {
        match is_there(key, context).await {
            Ok(there) => break there,
            Err(error) => tracing::debug!(%error, "a key of unknown outcome is not looked at yet"),
        }
        sleep(backoff.next_delay()).await;
    };
    let effect = if there { Effect::None } else { Effect::Removed };
    replication.complete(vec![Outcome::Key(slot, effect)], wall_clock_ms());
}

async fn is_there(key: &Arc<[u8]>, context: &Context) -> io::Result<bool> {
    if !commands::is_speakable(key) {
        return delete_all(std::slice::from_ref(key), context).await.map(|()| false);
    }
    let patience = patience(context);
    let mut local = Local::connect(&context.settings.upstream, patience).await?;
    let mut out = Vec::new();
    commands::look(&mut out, key);
    local.write(&out).await?;
    Ok(local.line().await?.starts_with(b"ME "))
}

async fn delete_all(keys: &[Arc<[u8]>], context: &Context) -> io::Result<()> {
    let patience = patience(context);
    let (speakable, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| commands::is_speakable(key));
    if !speakable.is_empty() {
        let mut local = Local::connect(&context.settings.upstream, patience).await?;
        if let Err(error) = delete_lines(&mut local, &speakable).await {
            // What was sent may still be carried out, and would hit a later write.
            local.leave().await;
            return Err(error);
        }
    }
    if !others.is_empty() {
        let mut local = Local::connect_binary(&context.settings.upstream, patience).await?;
        if let Err(error) = delete_packets(&mut local, &others).await {
            local.leave().await;
            return Err(error);
        }
    }
    Ok(())
}

async fn delete_lines(local: &mut Local, keys: &[&Arc<[u8]>]) -> io::Result<()> {
    for batch in keys.chunks(KEYS_AT_ONCE) {
        let mut out = Vec::new();
        batch.iter().for_each(|key| commands::delete(&mut out, key));
        local.write(&out).await?;
        for _ in batch {
            if !matches!(local.line().await?.as_ref(), b"HD" | b"NF") {
                return Err(out_of_step());
            }
        }
    }
    Ok(())
}

async fn delete_packets(local: &mut Local, keys: &[&Arc<[u8]>]) -> io::Result<()> {
    for key in keys {
        let mut out = Vec::new();
        commands::packet(&mut out, Opcode::Delete, &[], key, b"");
        local.write(&out).await?;
        let (header, _) = local.packet().await?;
        if !matches!(header.status_or_vbucket, status::SUCCESS | status::KEY_NOT_FOUND) {
            return Err(out_of_step());
        }
    }
    Ok(())
}

/// Says that nothing more will be sent, and reads until memcached has understood.
async fn until_closed(mut stream: Stream) {
    let _ = stream.shutdown().await;
    let mut ignored = vec![0; 4096];
    while matches!(stream.read(&mut ignored).await, Ok(n) if n > 0) {}
}

/// As often as connections for apps are tried: they come back at about the same time.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Their answers fit any socket's buffer, so that nobody waits for the other to read.
const KEYS_AT_ONCE: usize = 500;
