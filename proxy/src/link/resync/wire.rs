//! The words of a resync connection: a request, its answer, and the next one. docs/peer-link.md has them for people.
//!
//! ```text
//!   ml survey                          ml survey I<items> L<loss> W<0|1> P<time> <site> …
//!   ml heard <site> …                 ml heard <site> …
//!   ml items <first> <last>            ml items <count> N<next> | ml items <count>,  then ml block <len> + data
//!   ml digests <first> <last> <bits>   ml block <len> + data
//!   ml list <first> <last>             ml block <len> + data
//!   mg <key> [b]                       ms … or md …: the key's state
//!   ms … or md …: a state              ml took | ml kept | ml old
//!   ml newer, then a state             the same
//!   ml copied                          ml copied
//!   ml done                            ml done
//! ```
//!
//! Hashes are hexadecimal. Blocks of `items` hold `ms` messages, one behind the other.

use std::io;

use memcloud_protocol::memcache::key;

use super::super::local::{Local, out_of_step};
use super::super::message::{self, Message};
use crate::inventory::Span;
use crate::replication::{Loss, Origin, PEERS_MAX};

mod blocks;
#[cfg(test)]
mod tests;

pub(super) use blocks::{block, decode_digests, decode_list, encode_block, encode_digests, encode_list};

/// What a taker asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Survey,
    /// Whom the taker hears.
    Heard(Vec<Origin>),
    Items(Span),
    Digests(Span, u32),
    List(Span),
    StateOf(Box<[u8]>),
    /// A state, as an `ms` or `md` message.
    State(Vec<u8>),
    /// The same, and the versions of the two items have said that it is the newer one.
    Newer(Vec<u8>),
    /// Everything is copied, over what the taker held already.
    Copied,
    /// The two are equal but for what was written since.
    Done,
}

/// What a giver says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) items: u64,
    /// What the taker may miss of it.
    pub(super) loss: Loss,
    pub(super) warming: bool,
    /// Its state version: everything at or below it has been applied there.
    pub(super) state_time: u64,
    /// Third sites of which it may miss something: its states seem newer than they are.
    pub(super) misses: Vec<Origin>,
}

/// What became of a state that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Took,
    /// Something newer is known there.
    Kept,
    /// Read it again.
    Old,
}

impl Request {
    /// The next request; None at the end of the stream.
    pub(super) async fn read(from: &mut Local) -> io::Result<Option<Self>> {
        let line = match from.line().await {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        if line.len() > message::LINE_MAX {
            return Err(out_of_step());
        }
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        Ok(Some(match words[..] {
            [b"ml", b"survey"] => Self::Survey,
            [b"ml", b"heard", ref sites @ ..] => Self::Heard(origins(sites)?),
            [b"ml", b"items", first, last] => Self::Items(span(first, last)?),
            [b"ml", b"digests", first, last, bits] => {
                let bits = number(bits)?;
                if bits > RANGE_BITS_MAX {
                    return Err(out_of_step());
                }
                Self::Digests(span(first, last)?, bits)
            }
            [b"ml", b"list", first, last] => Self::List(span(first, last)?),
            [b"ml", b"copied"] => Self::Copied,
            [b"ml", b"done"] => Self::Done,
            [b"mg", key] => Self::StateOf(a_key(key)?),
            [b"mg", key, b"b"] => Self::StateOf(a_key(&key::base64::decode(key).ok_or_else(out_of_step)?)?),
            [b"ms" | b"md", ..] => Self::State(whole_state(from, &line).await?),
            [b"ml", b"newer"] => {
                let line = from.line().await?;
                Self::Newer(whole_state(from, &line).await?)
            }
            _ => return Err(out_of_step()),
        }))
    }

    /// Both ask for a state, or both bring one.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::StateOf(_), Self::StateOf(_))
                | (Self::State(_), Self::State(_))
                | (Self::Newer(_), Self::Newer(_))
        )
    }

    /// It asks for states, or brings one.
    pub(super) fn is_of_states(&self) -> bool {
        matches!(self, Self::Items(_) | Self::StateOf(_) | Self::State(_) | Self::Newer(_))
    }

    /// Bytes that it brought and that are kept for it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::StateOf(key) => key.len(),
            Self::State(message) | Self::Newer(message) => message.len(),
            _ => 0,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Survey => "ml survey\r\n".to_owned(),
            Self::Heard(sites) => heard_line(sites),
            Self::Items(span) => format!("ml items {:x} {:x}\r\n", span.first, span.last),
            Self::Digests(span, bits) => format!("ml digests {:x} {:x} {bits}\r\n", span.first, span.last),
            Self::List(span) => format!("ml list {:x} {:x}\r\n", span.first, span.last),
            Self::Copied => "ml copied\r\n".to_owned(),
            Self::Done => "ml done\r\n".to_owned(),
            Self::StateOf(key) => {
                out.extend_from_slice(b"mg ");
                if key::is_valid(key) {
                    out.extend_from_slice(key);
                    out.extend_from_slice(b"\r\n");
                } else {
                    key::base64::encode(key, out);
                    out.extend_from_slice(b" b\r\n");
                }
                return;
            }
            Self::State(message) => return out.extend_from_slice(message),
            Self::Newer(message) => {
                out.extend_from_slice(b"ml newer\r\n");
                return out.extend_from_slice(message);
            }
        };
        out.extend_from_slice(text.as_bytes());
    }
}

impl Survey {
    pub(super) fn encode(&self) -> String {
        let Self { items, loss, warming, state_time, ref misses } = *self;
        let (loss, warming, names) = (loss as u8, u8::from(warming), names(misses));
        format!("ml survey I{items} L{loss} W{warming} P{state_time:x}{names}\r\n")
    }

    pub(super) fn decode(line: &[u8]) -> io::Result<Self> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [b"ml", b"survey", items, loss, warming, time, ref misses @ ..] = words[..] else {
            return Err(out_of_step());
        };
        let flag = |word: &[u8], letter| {
            word.strip_prefix(&[letter]).map_or_else(|| Err(out_of_step()), number::<u64>)
        };
        let loss = match flag(loss, b'L')? {
            0 => Loss::Nothing,
            1 => Loss::Ours,
            2 => Loss::Anything,
            _ => return Err(out_of_step()),
        };
        let items = flag(items, b'I')?;
        if items > ITEMS_MAX {
            return Err(out_of_step());
        }
        let warming = flag(warming, b'W')? == 1;
        let state_time = hex(time.strip_prefix(b"P").ok_or_else(out_of_step)?)?;
        Ok(Self { items, loss, warming, state_time, misses: origins(misses)? })
    }
}

impl Verdict {
    pub(super) fn line(self) -> &'static [u8] {
        match self {
            Self::Took => b"ml took\r\n",
            Self::Kept => b"ml kept\r\n",
            Self::Old => b"ml old\r\n",
        }
    }

    pub(super) fn of(line: &[u8]) -> io::Result<Self> {
        match line {
            b"ml took" => Ok(Self::Took),
            b"ml kept" => Ok(Self::Kept),
            b"ml old" => Ok(Self::Old),
            _ => Err(out_of_step()),
        }
    }
}

/// The line and the data of a state, as one message.
pub(super) async fn whole_state(from: &mut Local, line: &[u8]) -> io::Result<Vec<u8>> {
    let mut whole = [line, b"\r\n"].concat();
    if line.starts_with(b"ms ") {
        let length = line.split(|byte| *byte == b' ').nth(2).ok_or_else(out_of_step)?;
        let length: usize = number(length)?;
        if length > message::VALUE_MAX {
            return Err(out_of_step());
        }
        whole.extend_from_slice(&from.block(length).await?);
        whole.extend_from_slice(b"\r\n");
    }
    match message::decode(&whole) {
        Ok(message::Decoded::Message { message: Message::Item(_) | Message::Delete { .. }, used })
            if used == whole.len() =>
        {
            Ok(whole)
        }
        _ => Err(out_of_step()),
    }
}

fn span(first: &[u8], last: &[u8]) -> io::Result<Span> {
    let span = Span { first: hex(first)?, last: hex(last)? };
    if span.first <= span.last { Ok(span) } else { Err(out_of_step()) }
}

/// The bytes of a key, if memcached could hold an item of that name.
fn a_key(bytes: &[u8]) -> io::Result<Box<[u8]>> {
    if (1..=key::KEY_MAX).contains(&bytes.len()) { Ok(bytes.into()) } else { Err(out_of_step()) }
}

/// Whom one of the two hears, in its words.
pub(super) fn heard_line(sites: &[Origin]) -> String {
    format!("ml heard{}\r\n", names(sites))
}

fn names(sites: &[Origin]) -> String {
    sites.iter().map(|site| format!(" {:x}", site.hash())).collect()
}

/// The same, read.
pub(super) fn heard(line: &[u8]) -> io::Result<Vec<Origin>> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    match words[..] {
        [b"ml", b"heard", ref sites @ ..] => origins(sites),
        _ => Err(out_of_step()),
    }
}

fn origins(sites: &[&[u8]]) -> io::Result<Vec<Origin>> {
    if sites.len() > PEERS_MAX {
        return Err(out_of_step());
    }
    let origin = |site: &&[u8]| u32::try_from(hex(site)?).map(Origin::of_hash).map_err(|_| out_of_step());
    sites.iter().map(origin).collect()
}

pub(super) fn hex(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits).map_err(|_| out_of_step())?;
    u64::from_str_radix(text, 16).map_err(|_| out_of_step())
}

pub(super) fn number<N: std::str::FromStr>(digits: &[u8]) -> io::Result<N> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(out_of_step)
}

/// A million and a half of bytes of digests at most.
pub(super) const RANGE_BITS_MAX: u32 = 16;
/// Of the smallest items so many take four terabytes. A taker walks once for each slice of them.
pub(super) const ITEMS_MAX: u64 = 1 << 36;
