//! The words of a resync connection: a request, its answer, and the next one. docs/peer-link.md has them for people.
//!
//! ```text
//!   ml survey                          ml survey I<items> L<loss> W<0|1> E<0|1> P<time>
//!   ml items <first> <last>            ml items <count> N<next> | ml items <count>,  then ml block <len> + data
//!   ml digests <first> <last> <bits>   ml block <len> + data
//!   ml list <first> <last>             ml block <len> + data
//!   mg <key> [b]                       ms … or md …: the key's state
//!   ms … or md …: a state              ml took | ml kept | ml old
//!   ml newer, then a state             the same
//!   ml done                            ml done
//! ```
//!
//! Hashes are hexadecimal. Blocks of `items` hold `ms` messages, one behind the other.

use std::io;

use bytes::Bytes;
use memcloud_protocol::memcache::key;

use super::super::local::{Local, out_of_step};
use super::super::message::{self, Message};
use crate::inventory::{Entry, RangeDigest, Span};
use crate::replication::{Expiry, Loss};

/// What a taker asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Survey,
    Items(Span),
    Digests(Span, u32),
    List(Span),
    StateOf(Box<[u8]>),
    /// A state, as an `ms` or `md` message.
    State(Vec<u8>),
    /// The same, and the versions of the two items have said that it is the newer one.
    Newer(Vec<u8>),
    Done,
}

/// What a giver says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) items: u64,
    /// What the taker may miss of it.
    pub(super) loss: Loss,
    pub(super) warming: bool,
    /// Its memcached was empty when its proxy started.
    pub(super) started_empty: bool,
    /// Its state version: everything at or below it has been applied there.
    pub(super) state_time: u64,
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
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        Ok(Some(match words[..] {
            [b"ml", b"survey"] => Self::Survey,
            [b"ml", b"items", first, last] => Self::Items(span(first, last)?),
            [b"ml", b"digests", first, last, bits] => Self::Digests(span(first, last)?, number(bits)?),
            [b"ml", b"list", first, last] => Self::List(span(first, last)?),
            [b"ml", b"done"] => Self::Done,
            [b"mg", key] => Self::StateOf(Box::from(key)),
            [b"mg", key, b"b"] => Self::StateOf(key::base64::decode(key).ok_or_else(out_of_step)?.into()),
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

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Survey => "ml survey\r\n".to_owned(),
            Self::Items(span) => format!("ml items {:x} {:x}\r\n", span.first, span.last),
            Self::Digests(span, bits) => format!("ml digests {:x} {:x} {bits}\r\n", span.first, span.last),
            Self::List(span) => format!("ml list {:x} {:x}\r\n", span.first, span.last),
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
        let Self { items, loss, warming, started_empty, state_time } = *self;
        format!(
            "ml survey I{items} L{} W{} E{} P{state_time:x}\r\n",
            loss as u8,
            u8::from(warming),
            u8::from(started_empty)
        )
    }

    pub(super) fn decode(line: &[u8]) -> io::Result<Self> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [b"ml", b"survey", items, loss, warming, empty, time] = words[..] else {
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
        let (warming, started_empty) = (flag(warming, b'W')? == 1, flag(empty, b'E')? == 1);
        let state_time = hex(time.strip_prefix(b"P").ok_or_else(out_of_step)?)?;
        Ok(Self { items: flag(items, b'I')?, loss, warming, started_empty, state_time })
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

/// `ml block <len>` and the data.
pub(super) async fn block(from: &mut Local, len_max: usize) -> io::Result<Bytes> {
    let line = from.line().await?;
    let len = line.strip_prefix(b"ml block ").ok_or_else(out_of_step)?;
    let len: usize = number(len)?;
    if len > len_max {
        return Err(out_of_step());
    }
    from.block(len).await
}

pub(super) fn encode_block(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(format!("ml block {}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn encode_digests(digests: &[RangeDigest]) -> Vec<u8> {
    let numbers = digests.iter().flat_map(|digest| [digest.count, digest.sum, digest.expiries_s]);
    numbers.flat_map(u64::to_be_bytes).collect()
}

pub(super) fn decode_digests(data: &[u8]) -> io::Result<Vec<RangeDigest>> {
    if !data.len().is_multiple_of(24) {
        return Err(out_of_step());
    }
    let three = |digest: &[u8]| RangeDigest {
        count: be(&digest[..8]),
        sum: be(&digest[8..16]),
        expiries_s: be(&digest[16..]),
    };
    Ok(data.chunks_exact(24).map(three).collect())
}

/// Hash, digest, expiry (0 never, else seconds since 1970), CAS, the key's length in two bytes, the key.
pub(super) fn encode_list<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let expiry = match entry.expiry {
            Expiry::Never => 0,
            Expiry::At(at_s) => at_s,
            Expiry::Past => 1,
        };
        for number in [entry.hash, entry.digest, expiry, entry.cas] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&(entry.key.len() as u16).to_be_bytes());
        out.extend_from_slice(&entry.key);
    }
    out
}

pub(super) fn decode_list(mut data: &[u8]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    while !data.is_empty() {
        let (head, rest) = data.split_at_checked(34).ok_or_else(out_of_step)?;
        let key_len = usize::from(u16::from_be_bytes([head[32], head[33]]));
        let (key, rest) = rest.split_at_checked(key_len).ok_or_else(out_of_step)?;
        let expiry = match be(&head[16..24]) {
            0 => Expiry::Never,
            at_s => Expiry::At(at_s),
        };
        let (hash, digest, cas) = (be(&head[..8]), be(&head[8..16]), be(&head[24..32]));
        entries.push(Entry { hash, key: key.into(), digest, expiry, cas });
        data = rest;
    }
    Ok(entries)
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn span(first: &[u8], last: &[u8]) -> io::Result<Span> {
    Ok(Span { first: hex(first)?, last: hex(last)? })
}

pub(super) fn hex(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits).map_err(|_| out_of_step())?;
    u64::from_str_radix(text, 16).map_err(|_| out_of_step())
}

pub(super) fn number<N: std::str::FromStr>(digits: &[u8]) -> io::Result<N> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(out_of_step)
}
