//! What a request line says, borrowed from it.

use std::ops::Range;

use super::Meta;

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
