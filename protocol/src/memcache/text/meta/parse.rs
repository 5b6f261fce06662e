//! Reading meta lines, plainly valid ones.

use super::{Meta, MetaMode, MetaVerb, bit};
use crate::memcache::key::base64;
use crate::memcache::number::{parse_i32, parse_u32, parse_u64};
use crate::memcache::text::tokens::Tokens;
use crate::memcache::text::{Command, Plain, VALUE_LEN_MAX};

/// The most tokens of a meta line, command and key included: 1.6.18 counts the end of the line as one of 20.
pub(in crate::memcache::text) const TOKENS_MAX: usize = 19;

pub(in crate::memcache::text) fn parse(verb: MetaVerb, text: &[u8]) -> Option<Plain<'_>> {
    let mut tokens = Tokens::behind(text, 2);
    let key = tokens.key()?;
    let mut count = 2;
    let mut body = 0;
    if verb == MetaVerb::Set {
        body = parse_u64(tokens.word()?).filter(|&len| len <= VALUE_LEN_MAX)? + 2;
        count = 3;
    }
    let flags = tokens.rest();
    let (mut seen, mut quiet) = (0u64, (0, 0));
    while !tokens.is_empty() {
        let from = tokens.blank();
        let (&letter, token) = tokens.word()?.split_first()?;
        count += 1;
        if count > TOKENS_MAX || seen & bit(letter) != 0 || !shape(verb, letter)?.fits(token) {
            return None;
        }
        seen |= bit(letter);
        if letter == b'q' {
            quiet = (from, tokens.blank());
        }
    }
    if seen & bit(b'b') != 0 && !base64::is_valid(key) {
        return None;
    }
    // A quiet `ma` that creates the item is answered all the same, one that finds it is not; the loud answer is
    // alike for both. Cutting q out would lose which it was.
    if verb == MetaVerb::Arithmetic && seen & bit(b'q') != 0 && seen & bit(b'N') != 0 {
        return None;
    }
    Some(Plain { body, quiet, command: Command::Meta(Meta { verb, key, flags, seen }) })
}

/// What the token of a flag has to look like.
#[derive(Clone, Copy)]
enum Shape {
    /// There is none.
    Bare,
    /// Seconds, which may be negative.
    Ttl,
    U32,
    U64,
    SetMode,
    ArithmeticMode,
    /// Reflected: at most 32 bytes with its letter.
    Opaque,
    /// Not looked at.
    Free,
}

impl Shape {
    fn fits(self, token: &[u8]) -> bool {
        match self {
            Self::Bare => token.is_empty(),
            Self::Ttl => parse_i32(token).is_some(),
            Self::U32 => parse_u32(token).is_some(),
            Self::U64 => parse_u64(token).is_some(),
            Self::SetMode => matches!(token, [letter] if MetaMode::of_set(*letter).is_some()),
            Self::ArithmeticMode => matches!(token, [letter] if MetaMode::of_arithmetic(*letter).is_some()),
            Self::Opaque => token.len() < 32,
            Self::Free => true,
        }
    }
}

/// The flags of each verb, as 1.6.45 knows them; nothing for one it does not document.
fn shape(verb: MetaVerb, letter: u8) -> Option<Shape> {
    use MetaVerb::{Arithmetic, Debug, Delete, Get, Set};
    Some(match (letter, verb) {
        (b'b', _) => Shape::Bare,
        (_, Debug) => return None,
        (b'k' | b'q', _) => Shape::Bare,
        (b'O', _) => Shape::Opaque,
        (b'P' | b'L', _) => Shape::Free,
        (b'c' | b'f' | b'h' | b'l' | b's' | b't' | b'u' | b'v', Get) => Shape::Bare,
        (b'c' | b's' | b'I', Set) | (b'I' | b'x', Delete) | (b'c' | b't' | b'v', Arithmetic) => Shape::Bare,
        (b'C' | b'E', _) => Shape::U64,
        (b'D' | b'J', Arithmetic) => Shape::U64,
        (b'F', Set) => Shape::U32,
        (b'T', _) => Shape::Ttl,
        (b'N', Get | Set | Arithmetic) | (b'R', Get) => Shape::Ttl,
        (b'M', Set) => Shape::SetMode,
        (b'M', Arithmetic) => Shape::ArithmeticMode,
        _ => return None,
    })
}
