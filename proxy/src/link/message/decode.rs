//! Reading: bytes to one message, strictly.

use std::borrow::Cow;

use memchr::memchr;
use memcloud_protocol::memcache::key;

use crate::replication::Loss;

use super::{Ack, Hello, Item, LINE_MAX, Memory, Message, Purpose, Refusal, Tag, VALUE_MAX, is_name};

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Not a whole message yet. It ends no earlier than `need` bytes from the start.
    Incomplete {
        /// More than there are now.
        need: usize,
    },
    /// A message of `used` bytes.
    Message {
        /// What it says.
        message: Message<'a>,
        /// Its length, data included.
        used: usize,
    },
}

/// What is wrong with some bytes. The names are log fields and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No line end within the bound.
    #[error("line of a peer above {LINE_MAX} bytes")]
    LineTooLong,
    /// A bare LF, a doubled blank, a token missing or left over.
    #[error("line of a peer is ill-formed")]
    Line,
    /// Not one of the link's words.
    #[error("unknown word on the link")]
    Word,
    /// Empty, too long, forbidden bytes, or base64 that is none.
    #[error("key of a peer is not valid")]
    Key,
    /// Not `mc1/<site>/<time>`.
    #[error("version tag of a peer is not valid")]
    Tag,
    /// Not a number, or out of range.
    #[error("number of a peer is not valid")]
    Number,
    /// Unknown, repeated or missing.
    #[error("flag of a peer is unknown, repeated or missing")]
    Flag,
    /// The value is above memcached's own bound.
    #[error("value of a peer above {VALUE_MAX} bytes")]
    ValueTooLarge,
    /// The data does not end where its length says.
    #[error("data of a peer does not end with CRLF")]
    Data,
}

/// Reads the first message of `input`.
pub fn decode(input: &[u8]) -> Result<Decoded<'_>, Malformed> {
    refuse_early(input)?;
    let head = &input[..input.len().min(LINE_MAX)];
    let Some(end) = memchr(b'\n', head) else {
        return if head.len() == LINE_MAX {
            Err(Malformed::LineTooLong)
        } else {
            Ok(Decoded::Incomplete { need: input.len() + 1 })
        };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(Malformed::Line)?;
    let mut tokens = Tokens::of(line);
    let message = match tokens.next()? {
        b"ms" => return item(tokens, input, end + 1),
        b"md" => delete(tokens)?,
        b"mg" => vivify(tokens)?,
        b"ml" => link_word(tokens)?,
        _ => return Err(Malformed::Word),
    };
    Ok(Decoded::Message { message, used: end + 1 })
}

/// Whoever is no proxy at all (TLS, HTTP, memcached's binary protocol) is known by its first bytes, without
/// waiting for a line end that may never come.
fn refuse_early(input: &[u8]) -> Result<(), Malformed> {
    let begin = &input[..input.len().min(3)];
    let known = [b"ms ", b"md ", b"mg ", b"ml "].iter().any(|word| word.starts_with(begin));
    if known { Ok(()) } else { Err(Malformed::Word) }
}

fn item<'a>(mut tokens: Tokens<'a>, input: &'a [u8], data: usize) -> Result<Decoded<'a>, Malformed> {
    let wire_key = tokens.next()?;
    let len = number(tokens.next()?)?;
    if len > VALUE_MAX as u64 {
        return Err(Malformed::ValueTooLarge);
    }
    let flags = Flags::read(tokens, b"TFPbIWE")?;
    let end = data + len as usize;
    let item = Item {
        key: flags.key(wire_key)?,
        tag: flags.tag()?,
        flags: flags.client_flags.ok_or(Malformed::Flag)?,
        exptime: flags.exptime.ok_or(Malformed::Flag)?,
        stale: flags.has(b'I'),
        won: flags.has(b'W'),
        cas: flags.cas,
        value: match input.get(data..end + 2) {
            Some(block) => block.strip_suffix(b"\r\n").ok_or(Malformed::Data)?,
            None => return Ok(Decoded::Incomplete { need: end + 2 }),
        },
    };
    Ok(Decoded::Message { message: Message::Item(item), used: end + 2 })
}

fn delete(mut tokens: Tokens<'_>) -> Result<Message<'_>, Malformed> {
    let wire_key = tokens.next()?;
    let flags = Flags::read(tokens, b"Pb")?;
    Ok(Message::Delete { key: flags.key(wire_key)?, tag: flags.tag()? })
}

fn vivify(mut tokens: Tokens<'_>) -> Result<Message<'_>, Malformed> {
    let wire_key = tokens.next()?;
    let flags = Flags::read(tokens, b"NPb")?;
    let exptime = flags.exptime.ok_or(Malformed::Flag)?;
    Ok(Message::Vivify { key: flags.key(wire_key)?, exptime, tag: flags.tag()? })
}

fn link_word(mut tokens: Tokens<'_>) -> Result<Message<'_>, Malformed> {
    let message = match tokens.next()? {
        b"hello" => hello(&mut tokens)?,
        b"refused" => Message::Refused(Refusal::of(tokens.next()?)),
        b"flush" => {
            let delay_s = flag_number(tokens.next()?, b'D')?;
            let delay_s = u32::try_from(delay_s).map_err(|_| Malformed::Number)?;
            Message::Flush { delay_s, tag: flag_tag(tokens.next()?)? }
        }
        b"mark" => {
            let tag = flag_tag(tokens.next()?)?;
            let owed = flag_number(tokens.next()?, b'O')?;
            let mut next = tokens.maybe_next()?;
            let loss = next.take_if(|token| *token != UNFILLED).map(loss).transpose()?;
            if loss.is_some() {
                next = tokens.maybe_next()?;
            }
            Message::Mark { tag, owed, loss, unfilled: unfilled(next)? }
        }
        b"server" => Message::Server {
            takes_versions: match flag_number(tokens.next()?, b'E')? {
                0 => false,
                1 => true,
                _ => return Err(Malformed::Number),
            },
        },
        b"memory" => Message::Memory(match tokens.next()? {
            b"none" => Memory::None,
            b"clean" => Memory::Clean,
            b"unfilled" => Memory::Unfilled,
            b"killed" => {
                Memory::Killed { until: flag_tag(tokens.next()?)?, unfilled: unfilled(tokens.maybe_next()?)? }
            }
            _ => return Err(Malformed::Word),
        }),
        b"bye" => match tokens.maybe_next()? {
            None => Message::Goodbye { unfilled: false },
            Some(b"unfilled") => Message::Goodbye { unfilled: true },
            Some(_) => return Err(Malformed::Word),
        },
        b"ack" => {
            let count = number(tokens.next()?)?;
            let refused = tokens.maybe_next()?.map_or(Ok(0), |token| flag_number(token, b'R'))?;
            Message::Ack(Ack { count, refused })
        }
        _ => return Err(Malformed::Word),
    };
    tokens.end()?;
    Ok(message)
}

/// Behind all else, and only if it is so.
const UNFILLED: &[u8] = b"U";

fn unfilled(token: Option<&[u8]>) -> Result<bool, Malformed> {
    match token {
        None => Ok(false),
        Some(token) if token == UNFILLED => Ok(true),
        Some(_) => Err(Malformed::Word),
    }
}

fn loss(token: &[u8]) -> Result<Loss, Malformed> {
    match flag_number(token, b'L')? {
        0 => Ok(Loss::Nothing),
        1 => Ok(Loss::Ours),
        2 => Ok(Loss::Anything),
        _ => Err(Malformed::Number),
    }
}

fn hello<'a>(tokens: &mut Tokens<'a>) -> Result<Message<'a>, Malformed> {
    let version = u32::try_from(flag_number(tokens.next()?, b'V')?).map_err(|_| Malformed::Number)?;
    let site = name(flag(tokens.next()?, b'S')?)?;
    let run = hex(flag(tokens.next()?, b'R')?)?;
    let mut optional = tokens.maybe_next()?;
    let mut shard = None;
    if let Some(token) = optional.and_then(|token| token.strip_prefix(b"H")) {
        shard = Some(name(token)?);
        optional = tokens.maybe_next()?;
    }
    let mut purpose = Purpose::Mutations;
    if let Some(token) = optional.and_then(|token| token.strip_prefix(b"Q")) {
        purpose = Purpose::of(token).ok_or(Malformed::Word)?;
        optional = tokens.maybe_next()?;
    }
    let clock = optional.map(|token| hex(flag(token, b'C')?)).transpose()?;
    Ok(Message::Hello(Hello { version, site, run, shard, purpose, clock }))
}

/// The blank-separated tokens of a line. One blank each: two in a row make an empty token, which is refused.
struct Tokens<'a>(Option<&'a [u8]>);

impl<'a> Tokens<'a> {
    fn of(line: &'a [u8]) -> Self {
        Self(Some(line))
    }

    fn maybe_next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(rest) = self.0 else { return Ok(None) };
        let token = match memchr(b' ', rest) {
            Some(at) => {
                self.0 = Some(&rest[at + 1..]);
                &rest[..at]
            }
            None => self.0.take().unwrap_or_default(),
        };
        if token.is_empty() { Err(Malformed::Line) } else { Ok(Some(token)) }
    }

    fn next(&mut self) -> Result<&'a [u8], Malformed> {
        self.maybe_next()?.ok_or(Malformed::Line)
    }

    fn end(&mut self) -> Result<(), Malformed> {
        if self.0.is_none() { Ok(()) } else { Err(Malformed::Line) }
    }
}

/// The flags of a mutation, in any order, none of them twice.
#[derive(Default)]
struct Flags<'a> {
    /// One bit a letter.
    seen: u64,
    exptime: Option<u32>,
    client_flags: Option<u32>,
    cas: Option<u64>,
    tag: Option<Tag<'a>>,
}

impl<'a> Flags<'a> {
    fn read(mut tokens: Tokens<'a>, allowed: &[u8]) -> Result<Self, Malformed> {
        let mut flags = Self::default();
        while let Some(token) = tokens.maybe_next()? {
            let (letter, value) = (token[0], &token[1..]);
            if !allowed.contains(&letter) || flags.has(letter) {
                return Err(Malformed::Flag);
            }
            flags.seen |= Self::bit(letter);
            match letter {
                b'T' | b'N' => flags.exptime = Some(exptime(value)?),
                b'F' => {
                    flags.client_flags = Some(u32::try_from(number(value)?).map_err(|_| Malformed::Number)?)
                }
                b'P' => flags.tag = Some(tag(value)?),
                b'E' => flags.cas = Some(number(value)?),
                _ if value.is_empty() => {}
                _ => return Err(Malformed::Flag),
            }
        }
        Ok(flags)
    }

    /// `letter` is an ASCII letter: only allowed ones get here.
    fn bit(letter: u8) -> u64 {
        1 << (letter & 63)
    }

    fn has(&self, letter: u8) -> bool {
        self.seen & Self::bit(letter) != 0
    }

    fn tag(&self) -> Result<Tag<'a>, Malformed> {
        self.tag.ok_or(Malformed::Flag)
    }

    fn key(&self, wire: &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
        if !self.has(b'b') {
            return if key::is_valid(wire) { Ok(Cow::Borrowed(wire)) } else { Err(Malformed::Key) };
        }
        let decoded = key::base64::decode(wire).ok_or(Malformed::Key)?;
        if (1..=key::KEY_MAX).contains(&decoded.len()) {
            Ok(Cow::Owned(decoded))
        } else {
            Err(Malformed::Key)
        }
    }
}

fn flag(token: &[u8], letter: u8) -> Result<&[u8], Malformed> {
    token.strip_prefix(&[letter]).ok_or(Malformed::Flag)
}

fn flag_number(token: &[u8], letter: u8) -> Result<u64, Malformed> {
    number(flag(token, letter)?)
}

fn flag_tag(token: &[u8]) -> Result<Tag<'_>, Malformed> {
    tag(flag(token, b'P')?)
}

fn tag(value: &[u8]) -> Result<Tag<'_>, Malformed> {
    let rest = value.strip_prefix(b"mc1/").ok_or(Malformed::Tag)?;
    let slash = memchr(b'/', rest).ok_or(Malformed::Tag)?;
    let site = name(&rest[..slash]).map_err(|_| Malformed::Tag)?;
    let time = hex(&rest[slash + 1..]).map_err(|_| Malformed::Tag)?;
    Ok(Tag { site, time })
}

fn name(value: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(value).ok().filter(|name| is_name(name)).ok_or(Malformed::Line)
}

/// memcached reads an exptime into 32 bits with a sign; negative ones never travel.
fn exptime(value: &[u8]) -> Result<u32, Malformed> {
    let exptime = number(value)?;
    if exptime > i32::MAX as u64 { Err(Malformed::Number) } else { Ok(exptime as u32) }
}

/// Decimal digits alone, without leading zeros: one number, one spelling.
fn number(value: &[u8]) -> Result<u64, Malformed> {
    digits(value, 10, 20)
}

/// Lower-case hexadecimal digits alone, without leading zeros.
fn hex(value: &[u8]) -> Result<u64, Malformed> {
    if value.iter().any(u8::is_ascii_uppercase) { Err(Malformed::Number) } else { digits(value, 16, 16) }
}

fn digits(value: &[u8], radix: u32, length_max: usize) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > length_max || (value.len() > 1 && value[0] == b'0') {
        return Err(Malformed::Number);
    }
    value.iter().try_fold(0_u64, |sum, &byte| {
        let digit = char::from(byte).to_digit(radix).ok_or(Malformed::Number)?;
        sum.checked_mul(u64::from(radix))
            .and_then(|sum| sum.checked_add(u64::from(digit)))
            .ok_or(Malformed::Number)
    })
}
