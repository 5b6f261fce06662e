//! Lines that are not plainly valid: how much data they take with them, and what they may change.
//!
//! Here memcached's own lenient tokens count: blanks in any number separate, 1.6.18 also stops at a zero byte.

use std::borrow::Cow;

use super::meta::TOKENS_MAX;
use super::{Command, Framing, Request, VALUE_LEN_MAX};
use crate::memcache::key::{KEY_MAX, base64};

/// What a line may change if memcached takes it.
#[derive(Clone, Debug)]
pub enum Reach<'a> {
    /// No item.
    Nothing,
    /// One item, named by its plain bytes.
    Key(Cow<'a, [u8]>),
    /// The items of these keys.
    Keys(Words<'a>),
    /// All items, or any.
    Everything,
}

impl<'a> Request<'a> {
    /// What this line may change, read as leniently as memcached reads. Meant for [`Command::Odd`], whose
    /// outcome no answer tells for sure; for the others it agrees with the command.
    pub fn reach(&self) -> Reach<'a> {
        let mut words = Words { text: self.line.trim_ascii_end() };
        let verb = words.next().unwrap_or_default();
        match verb {
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" | b"delete" | b"incr"
            | b"decr" | b"touch" => one(words, false),
            b"mg" | b"ms" | b"md" | b"ma" => one(words, true),
            b"gat" | b"gats" => {
                words.next();
                Reach::Keys(words)
            }
            b"flush_all" => Reach::Everything,
            _ => Reach::Nothing,
        }
    }
}

fn one(mut words: Words<'_>, meta: bool) -> Reach<'_> {
    match words.next() {
        Some(key) if key.len() <= KEY_MAX => {
            let encoded = meta && words.any(|word| word.first() == Some(&b'b'));
            let decoded = if encoded { base64::decode(key) } else { None };
            Reach::Key(decoded.map_or(Cow::Borrowed(key), Cow::Owned))
        }
        _ => Reach::Nothing,
    }
}

/// Commands that have to be known for what they are even when oddly written, because nothing behind them is
/// answered as usual.
pub(super) fn command<'a>(text: &[u8]) -> Command<'a> {
    let mut words = Words { text };
    match (words.next(), words.next()) {
        (Some(b"watch"), _) => Command::Watch,
        (Some(b"mn"), _) => Command::MetaNoop,
        (Some(b"lru_crawler"), Some(b"metadump" | b"mgdump")) => Command::Dump,
        (Some(b"shutdown"), _) => Command::Shutdown,
        _ => Command::Odd,
    }
}

/// Bytes of data that memcached takes away behind an odd line.
pub(super) fn body(text: &[u8], framing: &Framing) -> u64 {
    if framing.leading_blank_is_error && text.starts_with(b" ") {
        return 0;
    }
    let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    let mut words = Words { text };
    match words.next() {
        Some(b"set" | b"add" | b"replace" | b"append" | b"prepend") => store(words, 4, framing),
        Some(b"cas") => store(words, 5, framing),
        Some(b"ms") => meta_set(words, framing),
        _ => 0,
    }
}

/// A classic storage line that should have `needed` tokens behind the verb, and perhaps one more.
fn store(words: Words<'_>, needed: usize, framing: &Framing) -> u64 {
    let mut tokens = [&b""[..]; 5];
    let mut count = 0;
    for word in words {
        if let Some(token) = tokens.get_mut(count) {
            *token = word;
        }
        count += 1;
    }
    let [key, flags, exptime, len, cas] = tokens;
    let bad_number =
        !is_unsigned(flags) || signed(exptime).is_none() || (needed == 5 && count > 4 && !is_unsigned(cas));
    let short = count < needed && !(needed == 5 && count == 4 && framing.short_cas_swallows);
    let refused = short
        || (count > needed + 1 && !framing.extra_token_stores)
        || (key.len() > KEY_MAX && !framing.long_key_swallows)
        || (bad_number && !framing.bad_number_swallows);
    if refused { 0 } else { value_len(len, framing) }
}

fn meta_set(mut words: Words<'_>, framing: &Framing) -> u64 {
    let key = words.next().unwrap_or_default();
    let body = value_len(words.next().unwrap_or_default(), framing);
    let too_many = words.clone().count() > TOKENS_MAX - 3;
    let no_flag = words.any(|flag| !matches!(flag[0], b'0'..=b'9' | b'A'..=b'z'));
    let refused = (too_many && !framing.meta_many_flags_swallow)
        || (key.len() > KEY_MAX && !framing.long_key_swallows)
        || (no_flag && !framing.meta_bad_flag_swallows);
    if refused { 0 } else { body }
}

/// The data of a value of that length with its line end; 0 when the length is none that memcached would take.
///
/// 1.6.18 cuts a length to 32 bits before it looks: 4294967297 is 1. The newer parser refuses it.
fn value_len(len: &[u8], framing: &Framing) -> u64 {
    let cuts = !framing.bad_number_swallows;
    let len = signed(len).map(|len| if cuts { i64::from(len as i32) } else { len });
    let len = len.and_then(|len| u64::try_from(len).ok());
    len.filter(|&len| len <= VALUE_LEN_MAX).map_or(0, |len| len + 2)
}

/// A number as `strtol` reads it: a sign may be there.
fn signed(text: &[u8]) -> Option<i64> {
    crate::memcache::number::parse_i64(text.strip_prefix(b"+").unwrap_or(text))
}

/// Whether `strtoul` reads it. Values of more than 32 bits pass: 1.6.18 cuts them.
fn is_unsigned(text: &[u8]) -> bool {
    crate::memcache::number::parse_u64(text.strip_prefix(b"+").unwrap_or(text)).is_some()
}

/// Tokens as memcached reads them: separated by one or more blanks, blanks at both ends ignored.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    text: &'a [u8],
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.text.iter().position(|&byte| byte != b' ')?;
        let text = &self.text[start..];
        let end = memchr::memchr(b' ', text).unwrap_or(text.len());
        self.text = &text[end..];
        Some(&text[..end])
    }
}
