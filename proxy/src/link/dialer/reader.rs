//! Reading items of the local memcached whose outcome was not in hand: counters, appended values, touched items,
//! and whatever the backlog keeps without its payload.
//!
//! Reading must leave no trace an app could see. `mg` with `u` bumps nothing, but a stale item gives its win to
//! whoever asks first. Hence two ways:
//!
//! - A key that is known to be marked stale is read with `me` and `gets`, which leave marks alone. They do not
//!   tell marks either, so what is read so is remembered with its CAS: if a `touch` makes it to be read again and the
//!   CAS is the same, the marks are too. What is read may be newer already than the write that left the marks. That
//!   does no harm by itself, for what made it newer has a version of its own and follows; but it is not remembered,
//!   or the newer item would be taken for a stale one whenever it is read.
//! - Any other one is read with `mg`, which alone can say whether it is stale. Should it be, the answer says so, and the
//!   win is given back at once with `md I`, bound to the CAS just seen so that it can hit no newer item.
//!
//! Between those two another asker would be told that somebody recaches already. So an item that is known to be stale, or
//! may well be, is read behind its gate, where `me` and `gets` cannot do it: a key that only base64 names, which `gets`
//! does not take; and before 1.6.24, where `me` shows the TTL with its sign reversed, one of -1, which means both "never"
//! and "one second left". Only an item that nobody here knows to be stale (its mark came from a peer, or is older than
//! what is remembered) is read in the open.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod connected;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use memcloud_protocol::memcache::expiry::Expiry;
use memcloud_protocol::memcache::key::{self, TextForm};
use tokio::time::timeout;

use super::super::LinkConfig;
use super::super::commands;
use crate::replication::{Marks, Shared, Version};
use connected::{Connected, Marked, connected};

/// An item as memcached has it.
pub(in crate::link) struct Found {
    pub(in crate::link) flags: u32,
    pub(in crate::link) expiry: Expiry,
    pub(in crate::link) value: Bytes,
    pub(in crate::link) marks: Marks,
    /// Its CAS, if it was read.
    pub(in crate::link) cas: Option<u64>,
}

/// An item to be read.
#[derive(Clone, Copy)]
pub(in crate::link) struct Unread<'a> {
    pub(in crate::link) key: &'a [u8],
    /// Of the write that made it unread.
    pub(in crate::link) version: Version,
    /// What that write says of its marks.
    pub(in crate::link) marks: Marks,
    /// A write that left marks came before that one, and was not sent; or that one held no gate.
    pub(in crate::link) unsure: bool,
}

/// How an item is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `mg`.
    Open,
    /// `me` and `gets`.
    Marked,
    /// `mg` while nobody else can.
    BehindGate,
}

/// Reads items; connects when the first one is asked for.
pub(in crate::link) struct Reader<'a> {
    config: &'a LinkConfig,
    shared: &'a Arc<Shared>,
    /// Stale items that were read with `me` and `gets`: their CAS and their marks.
    stale: HashMap<Box<[u8]>, (u64, Marks)>,
    /// How those were asked for whose answers are still to come.
    asked: VecDeque<Way>,
    local: Option<Connected>,
    /// For reads behind a gate, while answers are outstanding on the other connection.
    side: Option<Connected>,
}

impl<'a> Reader<'a> {
    pub(in crate::link) fn new(config: &'a LinkConfig, shared: &'a Arc<Shared>) -> Self {
        Self { config, shared, stale: HashMap::new(), asked: VecDeque::new(), local: None, side: None }
    }

    /// Asks for items; [`answer`](Self::answer) must be called for each, in the same order, then
    /// [`finish`](Self::finish).
    pub(in crate::link) async fn ask<'i>(
        &mut self,
        items: impl Iterator<Item = Unread<'i>>,
    ) -> io::Result<()> {
        let mut requests = Vec::new();
        for item in items {
            let way = self.way(item);
            match way {
                Way::Open => commands::read(&mut requests, item.key),
                Way::Marked => commands::read_marked(&mut requests, item.key),
                Way::BehindGate => {}
            }
            self.asked.push_back(way);
        }
        if requests.is_empty() {
            return Ok(());
        }
        connected(&mut self.local, self.config, self.shared).await?.local.write(&requests).await
    }

    /// The next item, if there is one.
    pub(in crate::link) async fn answer(&mut self, item: Unread<'_>) -> io::Result<Option<Found>> {
        let Unread { key, version, marks, .. } = item;
        let way = self.asked.pop_front();
        if way == Some(Way::BehindGate) {
            return self.behind_gate(key, marks).await;
        }
        let local = connected(&mut self.local, self.config, self.shared).await?;
        if way != Some(Way::Marked) {
            return local.plain(key, marks).await;
        }
        match local.marked().await? {
            Marked::Gone => {
                self.stale.remove(key);
                return Ok(None);
            }
            Marked::Found(found, cas) => {
                if marks.stale {
                    // Looked at after the answer: nothing newer was in memcached when it answered.
                    if self.shared.lock().is_newest(key, version) {
                        self.remember(key, cas, marks);
                    }
                    return Ok(Some(Found { marks, ..found }));
                }
                if let Some(marks) = self.marks_of(key, cas) {
                    return Ok(Some(Found { marks, ..found }));
                }
            }
            Marked::Unclear => {}
        }
        self.behind_gate(key, marks).await
    }

    fn way(&self, item: Unread<'_>) -> Way {
        let known = item.marks.stale || (!item.unsure && self.stale.contains_key(item.key));
        match known {
            true if key::text_form(item.key) == TextForm::Plain => Way::Marked,
            true => Way::BehindGate,
            false if item.unsure && self.shared.stale_marks_seen() => Way::BehindGate,
            false => Way::Open,
        }
    }

    /// Reads an item that apps cannot get at before its win is back. Where the gate is not to be had, it is read all the
    /// same: the link must not fall silent over it.
    async fn behind_gate(&mut self, key: &[u8], marks: Marks) -> io::Result<Option<Found>> {
        let side = connected(&mut self.side, self.config, self.shared).await?;
        let _shut = timeout(GATE_WAIT, self.shared.shut(key)).await;
        let mut request = Vec::new();
        commands::read(&mut request, key);
        side.local.write(&request).await?;
        let found = side.plain(key, marks).await?;
        side.finish().await?;
        match &found {
            Some(Found { marks, cas: Some(cas), .. }) if marks.stale => self.remember(key, *cas, *marks),
            _ => drop(self.stale.remove(key)),
        }
        Ok(found)
    }

    fn marks_of(&self, key: &[u8], cas: u64) -> Option<Marks> {
        self.stale.get(key).filter(|(of, _)| *of == cas).map(|(_, marks)| *marks)
    }

    /// Without CAS (`-C`) all are 0, and say nothing.
    fn remember(&mut self, key: &[u8], cas: u64, marks: Marks) {
        if cas == 0 {
            return;
        }
        if self.stale.len() >= REMEMBERED_MAX {
            self.stale.clear();
        }
        self.stale.insert(key.into(), (cas, marks));
    }

    /// Reads what is left to be read.
    pub(in crate::link) async fn finish(&mut self) -> io::Result<()> {
        match &mut self.local {
            Some(local) => local.finish().await,
            None => Ok(()),
        }
    }
}

/// Beyond this the memory of stale items begins anew: forgetting costs a `mg` and is never wrong.
const REMEMBERED_MAX: usize = 16_384;
/// How long a gate is waited for: as long as a link may go without a mark at ease.
const GATE_WAIT: Duration = Duration::from_millis(100);
