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
//! - Any other one is read with `mg`, which alone can say whether it is stale. Should it be (the mark is older than
//!   what is remembered, or came from a peer), the answer says so, and the win is given back at once with `md I`,
//!   bound to the CAS just seen so that it can hit no newer item. For that moment another asker may be told that
//!   somebody recaches already.
//!
//! Before 1.6.24 `me` shows the TTL with its sign reversed, and so -1 for both "never" and "one second left".
//! That one case is read with `mg` too.

use std::collections::{HashMap, VecDeque};
use std::io;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use memcloud_protocol::memcache::expiry::Expiry;
use memcloud_protocol::memcache::key::{self, TextForm};

use super::super::LinkConfig;
use super::super::commands;
use super::super::incarnation;
use super::super::local::{Local, out_of_step};
use crate::replication::{Marks, Shared, Version, wall_clock_ms};

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

/// Reads items; connects when the first one is asked for.
pub(in crate::link) struct Reader<'a> {
    config: &'a LinkConfig,
    shared: &'a Shared,
    /// Stale items that were read with `me` and `gets`: their CAS and their marks.
    stale: HashMap<Box<[u8]>, (u64, Marks)>,
    /// Whether what was asked was asked so.
    asked: VecDeque<bool>,
    local: Option<Connected>,
    /// For single reads while answers are outstanding on the other connection.
    side: Option<Connected>,
}

struct Connected {
    local: Local,
    /// Wins given back whose answers are still to come, behind all others.
    given_back: usize,
    /// `me` shows TTLs with the right sign.
    signed: bool,
}

/// What `me` and `gets` say together.
enum Marked {
    Gone,
    Found(Found, u64),
    /// They speak of different items, or of a TTL that can be read in two ways.
    Unclear,
}

impl<'a> Reader<'a> {
    pub(in crate::link) fn new(config: &'a LinkConfig, shared: &'a Shared) -> Self {
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
            let marked = self.reads_marked(item);
            if marked {
                commands::read_marked(&mut requests, item.key);
            } else {
                commands::read(&mut requests, item.key);
            }
            self.asked.push_back(marked);
        }
        if requests.is_empty() {
            return Ok(());
        }
        connected(&mut self.local, self.config, self.shared).await?.local.write(&requests).await
    }

    /// The next item, if there is one.
    pub(in crate::link) async fn answer(&mut self, item: Unread<'_>) -> io::Result<Option<Found>> {
        let Unread { key, version, marks, .. } = item;
        let local = connected(&mut self.local, self.config, self.shared).await?;
        if self.asked.pop_front() != Some(true) {
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
        let side = connected(&mut self.side, self.config, self.shared).await?;
        let mut request = Vec::new();
        commands::read(&mut request, key);
        side.local.write(&request).await?;
        let found = side.plain(key, marks).await;
        side.finish().await?;
        found
    }

    /// `gets` takes no base64.
    fn reads_marked(&self, item: Unread<'_>) -> bool {
        let known = item.marks.stale || (!item.unsure && self.stale.contains_key(item.key));
        known && key::text_form(item.key) == TextForm::Plain
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

async fn connected<'c>(
    connection: &'c mut Option<Connected>,
    config: &LinkConfig,
    shared: &Shared,
) -> io::Result<&'c mut Connected> {
    let connected = match connection.take() {
        Some(connected) => connected,
        None => {
            let mut local = incarnation::connect(&config.upstream, config.upstream_timeout, shared).await?;
            local.write(b"version\r\n").await?;
            let signed = shows_ttl_with_its_sign(&local.line().await?);
            Connected { local, given_back: 0, signed }
        }
    };
    Ok(connection.insert(connected))
}

impl Connected {
    /// The answer to `mg c t f v u`.
    async fn plain(&mut self, key: &[u8], marks: Marks) -> io::Result<Option<Found>> {
        let line = self.local.line().await?;
        if line.as_ref() == b"EN" {
            return Ok(None);
        }
        let mut tokens = words(&line);
        if tokens.next() != Some(b"VA") {
            return Err(out_of_step());
        }
        let len = tokens.next().and_then(parsed).ok_or_else(out_of_step)?;
        let (mut flags, mut ttl, mut cas) = (0, -1, 0);
        let (mut won, mut stale, mut sent) = (false, false, false);
        for token in tokens {
            let value = token.get(1..).unwrap_or_default();
            match token[0] {
                b'f' => flags = parsed(value).ok_or_else(out_of_step)?,
                b't' => ttl = parsed(value).ok_or_else(out_of_step)?,
                b'c' => cas = parsed(value).ok_or_else(out_of_step)?,
                b'W' => won = true,
                b'X' => stale = true,
                b'Z' => sent = true,
                _ => {}
            }
        }
        let value = self.local.block(len).await?;
        if won {
            let mut give_back = Vec::new();
            commands::give_win_back(&mut give_back, key, cas);
            self.local.write(&give_back).await?;
            self.given_back += 1;
        }
        let marks = Marks { stale, won: sent, vivified: marks.vivified && sent };
        let expiry = Expiry::from_ttl_left(ttl, wall_clock_ms() / 1000);
        Ok(Some(Found { flags, expiry, value, marks, cas: Some(cas) }))
    }

    /// The answers to `me` and `gets`.
    async fn marked(&mut self) -> io::Result<Marked> {
        let about = self.local.line().await?;
        let item = self.local.line().await?;
        if item.as_ref() == b"END" {
            return Ok(Marked::Gone);
        }
        let mut tokens = words(&item);
        let (verb, _key) = (tokens.next(), tokens.next());
        let flags = tokens.next().and_then(parsed).ok_or_else(out_of_step)?;
        let len = tokens.next().and_then(parsed).ok_or_else(out_of_step)?;
        let cas: u64 = tokens.next().and_then(parsed).ok_or_else(out_of_step)?;
        if verb != Some(b"VALUE") {
            return Err(out_of_step());
        }
        let value = self.local.block(len).await?;
        if self.local.line().await?.as_ref() != b"END" {
            return Err(out_of_step());
        }
        let ttl = match (field(&about, b"exp="), self.signed) {
            (Some(-1), false) => return Ok(Marked::Unclear),
            (Some(exp), false) => -exp,
            (Some(exp), true) => exp,
            (None, _) => return Ok(Marked::Unclear),
        };
        if field(&about, b"cas=") != Some(cas) {
            return Ok(Marked::Unclear);
        }
        let expiry = Expiry::from_ttl_left(ttl, wall_clock_ms() / 1000);
        let found = Found { flags, expiry, value, marks: Marks::default(), cas: Some(cas) };
        Ok(Marked::Found(found, cas))
    }

    async fn finish(&mut self) -> io::Result<()> {
        for _ in 0..std::mem::take(&mut self.given_back) {
            self.local.line().await?;
        }
        Ok(())
    }
}

/// `VERSION 1.6.24` and later. What cannot be read is taken for an old one, which costs a little and is never wrong.
fn shows_ttl_with_its_sign(line: &[u8]) -> bool {
    let version = line.strip_prefix(b"VERSION ").and_then(|version| std::str::from_utf8(version).ok());
    let mut parts =
        version.unwrap_or_default().split(['.', '-', '_', ' ']).map(|part| part.parse().unwrap_or(0));
    let version: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    version >= [1, 6, 24]
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

pub(in crate::link) fn field<N: std::str::FromStr>(line: &[u8], name: &[u8]) -> Option<N> {
    words(line).find_map(|word| word.strip_prefix(name)).and_then(parsed)
}

fn parsed<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Beyond this the memory of stale items begins anew: forgetting costs a `mg` and is never wrong.
const REMEMBERED_MAX: usize = 16_384;
