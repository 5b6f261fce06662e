//! Meta commands as values: a key and an ordered set of flags.

mod parse;

use std::borrow::Cow;

use crate::memcache::key::base64;
use crate::memcache::reply::Line;

pub(super) use parse::{TOKENS_MAX, parse};

/// A plainly valid meta command: its flags are known, none stands twice, their tokens are what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which command.
    pub verb: MetaVerb,
    /// As on the wire; see [`Meta::decoded_key`].
    pub key: &'a [u8],
    pub(super) flags: &'a [u8],
    /// One bit a letter.
    pub(super) seen: u64,
}

impl<'a> Meta<'a> {
    /// Letter and token of every flag, in the order of the request.
    pub fn flags(&self) -> MetaFlags<'a> {
        MetaFlags { text: self.flags }
    }

    /// Whether a flag stands there.
    pub fn has(&self, letter: u8) -> bool {
        self.seen & bit(letter) != 0
    }

    /// The token of a flag that stands there; empty for a flag without one.
    pub fn token(&self, letter: u8) -> Option<&'a [u8]> {
        if !self.has(letter) {
            return None;
        }
        self.flags().find(|&(found, _)| found == letter).map(|(_, token)| token)
    }

    /// Whether the key is base64 on the wire.
    pub fn is_base64(&self) -> bool {
        self.has(b'b')
    }

    /// The item's own name. Allocates for a base64 key only.
    pub fn decoded_key(&self) -> Cow<'a, [u8]> {
        if self.is_base64() {
            base64::decode(self.key).map_or(Cow::Borrowed(self.key), Cow::Owned)
        } else {
            Cow::Borrowed(self.key)
        }
    }

    /// What flag M asks for, or the verb's own mode without it. Nothing for verbs that have no modes.
    pub fn mode(&self) -> Option<MetaMode> {
        let letter = self.token(b'M').and_then(|token| token.first().copied());
        match self.verb {
            MetaVerb::Set => MetaMode::of_set(letter.unwrap_or(b'S')),
            MetaVerb::Arithmetic => MetaMode::of_arithmetic(letter.unwrap_or(b'I')),
            MetaVerb::Get | MetaVerb::Delete | MetaVerb::Debug => None,
        }
    }
}

/// Which meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaVerb {
    /// `mg`
    Get,
    /// `ms`
    Set,
    /// `md`
    Delete,
    /// `ma`
    Arithmetic,
    /// `me`
    Debug,
}

impl MetaVerb {
    /// Whether flag q keeps memcached from sending this answer. Errors are always sent.
    pub fn quiet_hides(self, answer: &Line<'_>) -> bool {
        match self {
            Self::Get => matches!(answer, Line::En),
            Self::Set => matches!(answer, Line::Hd),
            Self::Delete => matches!(answer, Line::Hd),
            Self::Arithmetic => matches!(answer, Line::Hd | Line::Va { .. }),
            Self::Debug => false,
        }
    }
}

/// What flag M asks `ms` or `ma` for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "memcached's own names")]
pub enum MetaMode {
    Set,
    Add,
    Append,
    Prepend,
    Replace,
    Incr,
    Decr,
}

impl MetaMode {
    fn of_set(letter: u8) -> Option<Self> {
        Some(match letter {
            b'S' => Self::Set,
            b'E' => Self::Add,
            b'A' => Self::Append,
            b'P' => Self::Prepend,
            b'R' => Self::Replace,
            _ => return None,
        })
    }

    fn of_arithmetic(letter: u8) -> Option<Self> {
        Some(match letter {
            b'I' | b'+' => Self::Incr,
            b'D' | b'-' => Self::Decr,
            _ => return None,
        })
    }
}

/// See [`Meta::flags`].
#[derive(Clone, Debug)]
pub struct MetaFlags<'a> {
    pub(in crate::memcache) text: &'a [u8],
}

impl<'a> Iterator for MetaFlags<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            // Tokens are short: a loop beats the search's call.
            let end = self.text.iter().position(|&byte| byte == b' ').unwrap_or(self.text.len());
            let (flag, rest) = self.text.split_at(end);
            self.text = rest.get(1..).unwrap_or_default();
            match flag {
                [letter, token @ ..] => return Some((*letter, token)),
                [] if rest.is_empty() => return None,
                [] => {}
            }
        }
    }
}

/// The place of a letter in [`Meta`]'s set; nothing for what is no letter.
fn bit(letter: u8) -> u64 {
    match letter {
        b'a'..=b'z' => 1 << (letter - b'a'),
        b'A'..=b'Z' => 1 << (letter - b'A' + 26),
        _ => 0,
    }
}
