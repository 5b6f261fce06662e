//! Request lines of the classic and the meta dialect.
//!
//! Both live on the same connections, so one decoder reads both. It looks at the line only: the data that
//! follows a storage line is counted in [`Request::body`] and need not have arrived.
//!
//! ```text
//!   set  k  0 60 5 noreply CR LF   hello CR LF   get k CR LF
//!   └─────────── line ─────────┘   └─ body 7 ─┘  └─ the next request
//!                 └ quiet ┘ what to cut out so that memcached answers
//! ```
//!
//! **Plainly valid** is a line that every version of memcached from 1.6.18 on reads alike: single blanks between
//! tokens, valid keys, numbers that fit. Only such a line becomes a command with a meaning. Everything else is
//! [`Command::Odd`] and goes up as it came; how many bytes of data memcached then takes differs between versions,
//! and [`Framing`] says which rules hold. Strictness costs an odd line speed, never correctness.
//!
//! No decoding allocates.

mod classic;
mod command;
mod meta;
mod odd;
mod tokens;

use memchr::memchr;

pub use command::{ArithmeticVerb, Command, GatVerb, GetVerb, Keys, KeysIter, Request, StoreVerb};
pub use meta::{Meta, MetaFlags, MetaMode, MetaVerb};
pub use odd::{Reach, Words};

/// The longest line that memcached waits for the end of, other than a retrieval: bytes before its LF.
pub const LINE_MAX: usize = 2048;

/// The largest length a storage line may announce: memcached adds two for the line end and counts in 32 bits.
pub const VALUE_LEN_MAX: u64 = i32::MAX as u64 - 2;

/// What stands at the beginning of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The line has no end yet.
    Incomplete,
    /// No line end within [`LINE_MAX`] bytes, and no retrieval that may be longer: memcached closes.
    LineTooLong,
    /// A retrieval that has passed [`LINE_MAX`] and has no end yet. memcached sets no limit to `get` and `gets`;
    /// a program with a limit of its own applies it here.
    LongGet,
    /// A whole line.
    Request(Request<'a>),
}

/// Where versions of memcached disagree about the data behind an ill-formed storage line: take it away or read
/// it as commands. The default is 1.6.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Framing {
    /// The data behind a key of more than 250 bytes is taken away.
    pub long_key_swallows: bool,
    /// The data behind flags, an exptime or a cas token that is no number is taken away.
    pub bad_number_swallows: bool,
    /// A classic storage line with a token too many is a store; otherwise an error, its data is read as commands.
    pub extra_token_stores: bool,
    /// The data behind an `ms` with a flag that cannot be one is taken away; behind one that is only unknown it always is.
    pub meta_bad_flag_swallows: bool,
    /// The data behind a `cas` without a token is taken away.
    pub short_cas_swallows: bool,
    /// The data behind an `ms` with too many flags is taken away.
    pub meta_many_flags_swallow: bool,
    /// Blanks before the command make the line an error; otherwise they are skipped.
    pub leading_blank_is_error: bool,
}

impl Framing {
    /// The rules up to 1.6.39.
    pub const V1_6_18: Self = Self {
        long_key_swallows: false,
        bad_number_swallows: false,
        extra_token_stores: false,
        meta_bad_flag_swallows: true,
        short_cas_swallows: false,
        meta_many_flags_swallow: false,
        leading_blank_is_error: false,
    };
    /// The rules of the parser that came with 1.6.40.
    pub const V1_6_45: Self = Self {
        long_key_swallows: true,
        bad_number_swallows: true,
        extra_token_stores: true,
        meta_bad_flag_swallows: false,
        short_cas_swallows: true,
        meta_many_flags_swallow: true,
        leading_blank_is_error: true,
    };
}

impl Default for Framing {
    fn default() -> Self {
        Self::V1_6_18
    }
}

/// Reads the request line at the beginning of `input`.
///
/// More input behind the line changes nothing. memcached takes an overlong line if all of it arrives at once;
/// that hangs on how the network cut the bytes, so here it is [`Decoded::LineTooLong`] however it arrived.
pub fn decode<'a>(input: &'a [u8], framing: &Framing) -> Decoded<'a> {
    let window = &input[..input.len().min(LINE_MAX + 1)];
    let end = match memchr(b'\n', window) {
        Some(end) => end,
        None if input.len() <= LINE_MAX => return Decoded::Incomplete,
        None if !may_be_long(window) => return Decoded::LineTooLong,
        None => match memchr(b'\n', &input[window.len()..]) {
            Some(more) => window.len() + more,
            None => return Decoded::LongGet,
        },
    };
    Decoded::Request(request(&input[..=end], framing))
}

/// Reads a line of any length whose end is in `input`. For one beyond [`LINE_MAX`] that did arrive as a whole:
/// memcached may take it, and may close.
///
/// Without a line end all of `input` is taken for the line.
pub fn decode_line<'a>(input: &'a [u8], framing: &Framing) -> Request<'a> {
    let end = memchr(b'\n', input).map_or(input.len(), |end| end + 1);
    request(&input[..end], framing)
}

/// Whether an overlong line is a retrieval. memcached spares `get` and `gets`; `gat` and `gats` are spared here
/// because they work there as long as the line arrives in one piece.
fn may_be_long(window: &[u8]) -> bool {
    let blanks = window.iter().take_while(|&&byte| byte == b' ').count();
    let verb = &window[blanks..];
    blanks <= LEADING_BLANKS_MAX
        && [&b"get "[..], b"gets ", b"gat ", b"gats "].iter().any(|get| verb.starts_with(get))
}

/// Blanks that memcached accepts before an overlong retrieval.
const LEADING_BLANKS_MAX: usize = 100;

fn request<'a>(line: &'a [u8], framing: &Framing) -> Request<'a> {
    let text = match line {
        [text @ .., b'\r', b'\n'] => text,
        [text @ .., b'\n'] => text,
        text => text,
    };
    match plain(text, line) {
        Some(Plain { body, quiet, command }) => {
            let quiet = (quiet.0 < quiet.1).then_some(quiet.0..quiet.1);
            Request { line, body, quiet, command }
        }
        None => Request { line, body: odd::body(text, framing), quiet: None, command: odd::command(text) },
    }
}

/// What a plainly valid line means.
struct Plain<'a> {
    body: u64,
    /// From and to; an empty range is no quiet token.
    quiet: (usize, usize),
    command: Command<'a>,
}

impl<'a> Plain<'a> {
    /// A command that is always answered.
    fn loud(command: Command<'a>) -> Option<Self> {
        Some(Self { body: 0, quiet: (0, 0), command })
    }
}

fn plain<'a>(text: &'a [u8], line: &[u8]) -> Option<Plain<'a>> {
    let verb_len = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    match &text[..verb_len] {
        b"mg" => meta::parse(MetaVerb::Get, text),
        b"ms" => meta::parse(MetaVerb::Set, text),
        b"md" => meta::parse(MetaVerb::Delete, text),
        b"ma" => meta::parse(MetaVerb::Arithmetic, text),
        b"me" => meta::parse(MetaVerb::Debug, text),
        // 1.6.45 refuses this one command when its line ends in a bare LF.
        b"mn" if line == b"mn\r\n" => Plain::loud(Command::MetaNoop),
        verb => classic::parse(verb, text),
    }
}

#[cfg(test)]
mod tests;
