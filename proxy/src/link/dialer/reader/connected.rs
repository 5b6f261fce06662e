//! A connection on which items are read, and what the answers say.

use std::io;

use memcloud_protocol::memcache::expiry::Expiry;

use super::super::super::LinkConfig;
use super::super::super::commands;
use super::super::super::incarnation;
use super::super::super::local::{Local, out_of_step};
use super::Found;
use crate::replication::{Marks, Shared, wall_clock_ms};

pub(super) struct Connected {
    pub(super) local: Local,
    /// Wins given back whose answers are still to come, behind all others.
    pub(super) given_back: usize,
    /// `me` shows TTLs with the right sign.
    pub(super) signed: bool,
}

/// What `me` and `gets` say together.
pub(super) enum Marked {
    Gone,
    Found(Found, u64),
    /// They speak of different items, or of a TTL that can be read in two ways.
    Unclear,
}

pub(super) async fn connected<'c>(
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
    pub(super) async fn plain(&mut self, key: &[u8], marks: Marks) -> io::Result<Option<Found>> {
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
    pub(super) async fn marked(&mut self) -> io::Result<Marked> {
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

    pub(super) async fn finish(&mut self) -> io::Result<()> {
        for _ in 0..std::mem::take(&mut self.given_back) {
            self.local.line().await?;
        }
        Ok(())
    }
}

/// `VERSION 1.6.24` and later. What cannot be read is taken for an old one, which costs a little and is never wrong.
pub(super) fn shows_ttl_with_its_sign(line: &[u8]) -> bool {
    let version = line.strip_prefix(b"VERSION ").and_then(|version| std::str::from_utf8(version).ok());
    let mut parts =
        version.unwrap_or_default().split(['.', '-', '_', ' ']).map(|part| part.parse().unwrap_or(0));
    let version: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    version >= [1, 6, 24]
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

fn field<N: std::str::FromStr>(line: &[u8], name: &[u8]) -> Option<N> {
    words(line).find_map(|word| word.strip_prefix(name)).and_then(parsed)
}

fn parsed<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
