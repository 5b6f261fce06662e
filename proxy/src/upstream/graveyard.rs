//! Writes whose answer never came, or leaves doubt: nobody can say what they did, so their keys are dropped, here and at every
//! peer.
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
//! A write that was cut off before its end was sent, by an app that went away, is none of these: memcached has not carried it out.
//! It may have dropped what was there when it read how long the value is, so the key is looked at.
//!
//! A miss is legal all the same. The gates stay closed until the item is gone, so that no later write of an app
//! and no mutation of a peer is hit.

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::Write;
use super::batch::Batch;
use super::connection::Stop;
use super::pending::Hold;
use crate::backoff::Backoff;
use crate::memcached::commands;
use crate::memcached::deletion::{Deletion, Ended};
use crate::memcached::local::Local;
use crate::net::Stream;
use crate::replication::{Effect, Incarnation, Outcome, Shared, Slot, wall_clock_ms};
use crate::worker::Context;

/// Settles the outcome of writes that were in flight on a connection that ended. Those that are `cut` were never sent to
/// their end.
pub(super) fn settle(
    writes: Vec<Write>,
    cut: Vec<Write>,
    context: &Rc<Context>,
    replication: &Arc<Shared>,
    stop: &Stop,
    stream: Stream,
) {
    if writes.is_empty() && cut.is_empty() {
        return;
    }
    let since = Since::now(context, replication);
    let closed = matches!(stop, Stop::Closed | Stop::Broken(_));
    let (context, replication) = (Rc::clone(context), Arc::clone(replication));
    // Only what holds no gate is ever sent in pieces.
    let (left, unfinished) = (Left::sort_out(writes, &replication), Left::sort_out(cut, &replication));
    let settling = Rc::clone(&context);
    settling.settle(async move {
        if !closed {
            tokio::select! {
                biased;
                () = since.died(&context, &replication) => {}
                () = until_closed(stream) => {}
            }
        }
        tell(left.others, &context, &replication);
        drop_keys(left.slots, since, &context, &replication).await;
        drop_loose(left.loose, since, &context, &replication).await;
        for key in unfinished.loose {
            context.at_home().await;
            if since.has_died(&replication) {
                replication.lock().foreseen();
            } else {
                look_after(&key.into(), &context, &replication).await;
            }
        }
    });
}

/// Settles writes whose answers leave doubt. They were answered, so nobody has to wait for a close.
pub(super) fn drop_doubted(keys: Vec<Box<[u8]>>, context: &Rc<Context>, replication: &Arc<Shared>) {
    let since = Since::now(context, replication);
    let (settling, replication) = (Rc::clone(context), Arc::clone(replication));
    context.settle(async move { drop_loose(keys, since, &settling, &replication).await });
}

/// Those that hold no gate have to come by it first, one at a time: who holds a gate waits for no other.
async fn drop_loose(keys: Vec<Box<[u8]>>, since: Since, context: &Context, replication: &Arc<Shared>) {
    for key in keys {
        let slot = replication.gate_foreseen(&key).await;
        drop_keys(vec![slot], since, context, replication).await;
    }
}

/// Writes without an answer, by what becomes of them.
#[derive(Default)]
struct Left {
    /// Those that hold the gate of a key.
    slots: Vec<Slot>,
    /// The keys of those that hold none.
    loose: Vec<Box<[u8]>>,
    /// Those of no key, or of no replicated one.
    others: Vec<Write>,
}

impl Left {
    /// Promises are broken at once, and not when memcached has closed: marks would stand still until then.
    fn sort_out(writes: Vec<Write>, replication: &Shared) -> Self {
        let (mut left, mut broken) = (Self::default(), Vec::new());
        for write in writes {
            match write.hold {
                Hold::Key(slot) => left.slots.push(slot),
                Hold::Promised(slot, version) => {
                    broken.push(version);
                    left.slots.push(slot);
                }
                Hold::Afterwards(keys) => left.loose.extend(keys),
                Hold::All | Hold::Told(_) => left.others.push(write),
            }
        }
        if !broken.is_empty() || !left.loose.is_empty() {
            let mut replica = replication.lock();
            replica.foresee(left.loose.len());
            broken.into_iter().for_each(|version| replica.break_promise(version));
        }
        left
    }
}

/// What becomes of writes that touch no single key is told at once.
fn tell(writes: Vec<Write>, context: &Rc<Context>, replication: &Arc<Shared>) {
    let mut batch = Batch::default();
    for mut write in writes {
        write.effect = Some(Effect::Unknown);
        write.end(&mut batch, None);
    }
    batch.report(context, replication, wall_clock_ms());
}

/// Deletes the keys whose gates are held, however long memcached is away, and then says so to everybody; unless a peer
/// has served since, or memcached has started again: then the writes are gone with it, and so is what was there before.
async fn drop_keys(slots: Vec<Slot>, since: Since, context: &Context, replication: &Arc<Shared>) {
    let mut keys: Vec<Arc<[u8]>> = replication.with(|replica, _| replica.unknown_outcomes(&slots));
    keys.sort_unstable();
    keys.dedup();
    let mut deletion = deletion(since.life, context, replication);
    // What peers send of these keys waits, so it is done as soon as memcached is back.
    let sooner = || {
        let mut state = context.upstream_state();
        async move {
            if state.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    };
    if deletion.carry_out(&keys, sooner).await == Ended::Died {
        return replication.with(|replica, woken| replica.died_with_memcached(slots, woken));
    }
    let here = context.routed().generation == since.route;
    let effect = if here { Effect::Removed } else { Effect::None };
    if !here {
        replication.lock().foresee(keys.len());
    }
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
    fn now(context: &Context, replication: &Shared) -> Self {
        Self { route: context.routed().generation, life: replication.memcached_life() }
    }

    /// Resolves when it has: what was sent before is gone with it, whether the old connection ever ends or not.
    async fn died(self, context: &Context, replication: &Shared) {
        let mut state = context.upstream_state();
        while !self.has_died(replication) {
            if state.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// memcached has started again since, empty.
    fn has_died(self, replication: &Shared) -> bool {
        self.life.zip(replication.memcached_life()).is_some_and(|(then, now)| !then.is(&now))
    }
}

fn deletion<'a>(life: Option<Incarnation>, context: &'a Context, replication: &'a Shared) -> Deletion<'a> {
    Deletion::of(&context.settings.upstream, patience(context), replication, life)
}

fn patience(context: &Context) -> Duration {
    Duration::from_micros(context.settings.upstream_timeout_us)
}

/// memcached serves and has what was written at the peer, if that served: is the key there? It was foreseen.
async fn look_after(key: &Arc<[u8]>, context: &Context, replication: &Arc<Shared>) {
    let slot = replication.gate_foreseen(key).await;
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let there = loop {
        match is_there(key, context, replication).await {
            Ok(there) => break there,
            Err(error) => tracing::debug!(%error, "a key of unknown outcome is not looked at yet"),
        }
        sleep(backoff.next_delay()).await;
    };
    let effect = if there { Effect::None } else { Effect::Removed };
    replication.complete(vec![Outcome::Key(slot, effect)], wall_clock_ms());
}

async fn is_there(key: &Arc<[u8]>, context: &Context, replication: &Shared) -> io::Result<bool> {
    if !commands::is_speakable(key) {
        // Nothing looks at such a key and leaves it alone.
        deletion(None, context, replication).carry_out(std::slice::from_ref(key), pending).await;
        return Ok(false);
    }
    let patience = patience(context);
    let mut local = Local::connect(&context.settings.upstream, patience).await?;
    let mut out = Vec::new();
    commands::look(&mut out, key);
    local.write(&out).await?;
    Ok(local.line().await?.starts_with(b"ME "))
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
