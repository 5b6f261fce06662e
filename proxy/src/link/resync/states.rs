//! States of keys of our own memcached as messages, and messages into our own memcached.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::Context;
use super::super::acceptor::{Applier, Kept, Pause};
use super::super::company::Companions;
use super::super::dialer::reader::{Found, Reader, Unread};
use super::super::dialer::{item_message, raw};
use super::super::incarnation;
use super::super::message::{Message, Tag};
use super::life::{self, Life};
use super::newer::cas_of;
use crate::memcached::commands::is_speakable;
use crate::memcached::local::out_of_step;
use crate::replication::{Basis, Marks, PeerId, Version, next_lane};

/// Reads states of keys, with the version that they have at least.
pub(super) struct States<'a> {
    context: &'a Context,
    companions: &'a Companions<'a>,
    reader: Reader<'a>,
}

impl<'a> States<'a> {
    pub(super) fn of(context: &'a Context, companions: &'a Companions<'a>) -> Self {
        Self { context, companions, reader: Reader::new(&context.config, &context.shared) }
    }

    /// Appends the state of each key to `out`; of one that is not there as `md`, or, where `missing` is false, not at
    /// all. At most [`READ_KEYS`] keys.
    pub(super) async fn read(&mut self, keys: &[&[u8]], missing: bool, out: &mut Vec<u8>) -> io::Result<()> {
        // Before the items are read: what they are then covers at least these.
        let versions: Vec<Version> = {
            let replica = self.context.shared.lock();
            let least = replica.state_version(&self.companions.agreed());
            keys.iter().map(|key| replica.state_version_of(key, least)).collect()
        };
        let unspeakable: Vec<&[u8]> = keys.iter().copied().filter(|key| !is_speakable(key)).collect();
        let mut packets = raw::read(&self.context.config, &unspeakable).await?;
        if !unspeakable.is_empty() {
            // The others are read where this was asked.
            life::meet(self.context).await?;
        }
        let unread = |key| Unread { key, version: Version::ZERO, marks: Marks::default(), unsure: false };
        let speakable = || keys.iter().copied().filter(|key| is_speakable(key));
        self.reader.ask(speakable().map(unread)).await?;
        for (key, version) in keys.iter().zip(versions) {
            let found = match is_speakable(key) {
                true => self.reader.answer(unread(key)).await?,
                false => packets.remove(key),
            };
            self.encode(key, version, found, missing, out);
        }
        self.reader.finish().await
    }

    fn encode(&self, key: &[u8], version: Version, found: Option<Found>, missing: bool, out: &mut Vec<u8>) {
        let tag = Tag { site: &self.context.identity.site, time: version.time() };
        let message = match &found {
            Some(found) => item_message(key, tag, found, Some(cas_of(found.cas))),
            None => Message::Delete { key: key.into(), tag },
        };
        if missing || !matches!(message, Message::Delete { .. }) {
            message.encode(out);
        }
    }
}

/// Applies states of one peer to our memcached.
pub(in crate::link) struct Applying {
    applier: Applier,
    /// Of the memcached that was there when this began.
    pub(super) life: Life,
    /// How long a state waits for its key's gate before it is left out.
    patience: Duration,
}

impl Applying {
    pub(in crate::link) async fn from(context: &Arc<Context>, peer: PeerId, site: &str) -> io::Result<Self> {
        let life = Life::note(context).await?;
        let local =
            incarnation::connect(&context.config.upstream, context.config.upstream_timeout, &context.shared)
                .await?;
        let sites = [site, context.identity.site.as_str()];
        let upstream = (context.config.upstream.clone(), context.config.upstream_timeout);
        let shared = Arc::clone(&context.shared);
        let applier = Applier::new(shared, peer, sites, next_lane(), upstream, local).of_states();
        // Whoever holds a gate has his answer by then, or is being buried.
        Ok(Self { applier, life, patience: context.config.upstream_timeout })
    }

    /// States wait for no gate.
    pub(in crate::link) fn at_once(self) -> Self {
        Self { patience: Duration::ZERO, ..self }
    }

    /// Applies messages that stand one behind the other; says which were not taken, and why.
    /// `basis`: why these are believed to be the newer ones.
    pub(in crate::link) async fn apply(&mut self, messages: &[u8], basis: Basis) -> io::Result<Vec<Kept>> {
        self.applier.basis = basis;
        apply(&mut self.applier, self.patience, messages).await
    }

    /// Keys that were deleted, here and so everywhere, since this was last asked: a state differed from what is owed to a third site.
    pub(super) fn take_dropped(&mut self) -> usize {
        self.applier.take_dropped()
    }
}

async fn apply(applier: &mut Applier, patience: Duration, messages: &[u8]) -> io::Result<Vec<Kept>> {
    let mut rest = messages;
    let mut granted = None;
    while !rest.is_empty() {
        let (used, pause) = applier.fill(rest, granted.take()).map_err(|_| out_of_step())?;
        applier.settle(rest).await?;
        rest = &rest[used..];
        match pause {
            Pause::Full => {}
            Pause::Gate(wait) => match timeout(patience, wait).await {
                Ok(slot) => granted = Some(slot),
                Err(_) => rest = &rest[applier.leave_out(rest).map_err(|_| out_of_step())?..],
            },
            Pause::Hungry { .. } if rest.is_empty() => {}
            _ => return Err(out_of_step()),
        }
    }
    Ok(applier.take_kept())
}

/// Keys that are read at a time.
pub(in crate::link) const READ_KEYS: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::super::local::Local;
    use super::*;
    use crate::config::Address;
    use crate::replication::{Begin, Bounds, Shared};

    #[tokio::test(start_paused = true)]
    async fn a_state_whose_key_is_being_written_is_left_out() {
        let patience = Duration::from_millis(100);
        let shared = Shared::new("a", 1, Bounds::default());
        let (near, mut memcached) = tokio::io::duplex(4096);
        let upstream = (Address::Tcp("127.0.0.1:1".to_owned()), patience);
        let local = Local::over(Box::new(near), patience);
        let applier = Applier::new(Arc::clone(&shared), PeerId(0), ["b", "a"], 1, upstream, local);
        let Begin::Granted(_) = shared.begin(b"k", 2) else { panic!("nobody writes it") };
        memcached.write_all(b"HD\r\nHD\r\n").await.unwrap();
        let states = b"md j Pmc1/b/1\r\nmd k Pmc1/b/1\r\nmd l Pmc1/b/1\r\n";
        let kept = apply(&mut applier.of_states(), patience, states).await.unwrap();
        let held_up: Vec<&[u8]> =
            kept.iter().filter(|kept| kept.is_held_up()).map(|kept| &*kept.key).collect();
        assert_eq!(held_up, [b"k"], "and what stands behind it is not");
    }
}
