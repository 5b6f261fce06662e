//! States of keys of our own memcached as messages, and messages into our own memcached.

use std::io;
use std::sync::Arc;

use super::super::Context;
use super::super::acceptor::{Applier, Kept, Pause};
use super::super::dialer::reader::{Found, Reader, Unread};
use super::super::dialer::{item_message, raw};
use super::super::incarnation;
use super::super::message::{Message, Tag};
use super::newer::cas_of;
use crate::memcached::commands::is_speakable;
use crate::memcached::local::out_of_step;
use crate::replication::{Marks, PeerId, Version, next_lane};

/// Reads states of keys, with the version that they have at least.
pub(super) struct States<'a> {
    context: &'a Context,
    reader: Reader<'a>,
}

impl<'a> States<'a> {
    pub(super) fn of(context: &'a Context) -> Self {
        Self { context, reader: Reader::new(&context.config, &context.shared) }
    }

    /// Appends the state of each key to `out`; of one that is not there as `md`, or, where `missing` is false, not at
    /// all. At most [`READ_KEYS`] keys.
    pub(super) async fn read(&mut self, keys: &[&[u8]], missing: bool, out: &mut Vec<u8>) -> io::Result<()> {
        // Before the items are read: what they are then covers at least this.
        let version = self.context.shared.lock().state_version();
        let unspeakable: Vec<&[u8]> = keys.iter().copied().filter(|key| !is_speakable(key)).collect();
        let mut packets = raw::read(&self.context.config, &unspeakable).await?;
        let unread = |key| Unread { key, version: Version::ZERO, marks: Marks::default(), unsure: false };
        let speakable = || keys.iter().copied().filter(|key| is_speakable(key));
        self.reader.ask(speakable().map(unread)).await?;
        for key in keys {
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
}

impl Applying {
    pub(in crate::link) async fn from(context: &Arc<Context>, peer: PeerId, site: &str) -> io::Result<Self> {
        let local =
            incarnation::connect(&context.config.upstream, context.config.upstream_timeout, &context.shared)
                .await?;
        let sites = [site, context.identity.site.as_str()];
        let upstream = (context.config.upstream.clone(), context.config.upstream_timeout);
        let shared = Arc::clone(&context.shared);
        let applier = Applier::new(shared, peer, sites, next_lane(), upstream, local).of_states();
        Ok(Self { applier })
    }

    /// Applies messages that stand one behind the other; says which were not taken, and why.
    /// `decided`: the versions of the items have said that these are the newer ones.
    pub(in crate::link) async fn apply(&mut self, messages: &[u8], decided: bool) -> io::Result<Vec<Kept>> {
        self.applier.decided = decided;
        let mut rest = messages;
        let mut granted = None;
        while !rest.is_empty() {
            let (used, pause) = self.applier.fill(rest, granted.take()).map_err(|_| out_of_step())?;
            self.applier.settle(rest).await?;
            rest = &rest[used..];
            match pause {
                Pause::Full => {}
                Pause::Gate(wait) => granted = Some(wait.await),
                Pause::Hungry { .. } if rest.is_empty() => {}
                _ => return Err(out_of_step()),
            }
        }
        Ok(self.applier.take_kept())
    }
}

/// Keys that are read at a time.
pub(in crate::link) const READ_KEYS: usize = 64;
