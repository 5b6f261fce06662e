//! What a request line says, borrowed from it.

use std::borrow::Cow;
use std::ops::Range;

use crate::memcache::key::base64;
use crate::memcache::reply::Line;

/// A request line and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The whole line, its LF included.
    pub line: &'a [u8],
    /// Bytes of data that follow the line, their CR LF included; 0 for none. They need not be in the input.
    pub body: u64,
    /// What to cut out of `line`, with the blank before it, so that memcached answers. Plainly valid lines only.
    pub quiet: Option<Range<usize>>,
    /// The meaning.
    pub command: Command<'a>,
}

impl<'a> Request<'a> {
    /// The line without its quiet token, in two pieces. A loud line is the first piece.
    pub fn loud(&self) -> (&'a [u8], &'a [u8]) {
        match &self.quiet {
            Some(quiet) => (&self.line[..quiet.start], &self.line[quiet.end..]),
            None => (self.line, &[]),
        }
    }
}

/// The commands of text connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields bear memcached's own names")]
pub enum Command<'a> {
    /// `get`, `gets`
    Get { verb: GetVerb, keys: Keys<'a> },
    /// `gat`, `gats`
    GetAndTouch { verb: GatVerb, exptime: i64, keys: Keys<'a> },
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`. The value's length is the request's body less two.
    Store { verb: StoreVerb, key: &'a [u8], flags: u32, exptime: i64, cas: Option<u64> },
    /// `delete`
    Delete { key: &'a [u8] },
    /// `incr`, `decr`
    Arithmetic { verb: ArithmeticVerb, key: &'a [u8], delta: u64 },
    /// `touch`
    Touch { key: &'a [u8], exptime: i64 },
    /// `flush_all`; a negative delay counts as 0.
    FlushAll { delay: Option<i64> },
    /// `version`
    Version,
    /// `stats`, with what stands behind it, perhaps nothing
    Stats { args: &'a [u8] },
    /// `mn`
    MetaNoop,
    /// `quit`
    Quit,
    /// `mg`, `ms`, `md`, `ma`, `me`
    Meta(Meta<'a>),
    /// `watch`: lines without end, the connection never answers anything else again. Recognised however odd.
    Watch,
    /// `lru_crawler metadump`, `lru_crawler mgdump`: lines up to `END` or `EN`. Commands pipelined behind it are
    /// lost. Recognised however odd.
    Dump,
    /// `shutdown`: ends the server, if it was started so. Recognised however odd.
    Shutdown,
    /// A known command of administration; one line answers it, or none under `noreply`.
    Admin,
    /// Not plainly valid, or not known. How many answers come is unknown; see [`Request::reach`] for what it may
    /// change.
    Odd,
}

/// Which retrieval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GetVerb {
    /// Without cas tokens.
    Get,
    /// With cas tokens.
    Gets,
}

/// Which retrieval with a new expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatVerb {
    /// Without cas tokens.
    Gat,
    /// With cas tokens.
    Gats,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "memcached's own names")]
pub enum StoreVerb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "memcached's own names")]
pub enum ArithmeticVerb {
    Incr,
    Decr,
}

/// The keys of a retrieval: at least one, all valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    pub(super) text: &'a [u8],
    pub(super) count: usize,
}

impl<'a> Keys<'a> {
    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The key, if it is the only one.
    pub fn single(&self) -> Option<&'a [u8]> {
        (self.count == 1).then_some(self.text)
    }

    /// One after the other.
    pub fn iter(&self) -> KeysIter<'a> {
        KeysIter { text: self.text, left: self.count }
    }
}

impl<'a> IntoIterator for Keys<'a> {
    type Item = &'a [u8];
    type IntoIter = KeysIter<'a>;

    fn into_iter(self) -> KeysIter<'a> {
        self.iter()
    }
}

/// See [`Keys::iter`].
#[derive(Clone, Debug)]
pub struct KeysIter<'a> {
    text: &'a [u8],
    left: usize,
}

impl<'a> Iterator for KeysIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let end = memchr::memchr(b' ', self.text).unwrap_or(self.text.len());
        let key = &self.text[..end];
        self.text = self.text.get(end + 1..).unwrap_or_default();
        Some(key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for KeysIter<'_> {}

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
        self.seen & super::meta::bit(letter) != 0
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
    pub(super) fn of_set(letter: u8) -> Option<Self> {
        Some(match letter {
            b'S' | b's' => Self::Set,
            b'E' | b'e' => Self::Add,
            b'A' | b'a' => Self::Append,
            b'P' | b'p' => Self::Prepend,
            b'R' | b'r' => Self::Replace,
            _ => return None,
        })
    }

    pub(super) fn of_arithmetic(letter: u8) -> Option<Self> {
        Some(match letter {
            b'I' | b'i' | b'+' => Self::Incr,
            b'D' | b'd' | b'-' => Self::Decr,
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
            let end = memchr::memchr(b' ', self.text).unwrap_or(self.text.len());
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
