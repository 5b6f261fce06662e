//! Meta requests, flag by flag.

use super::meta_verb;
use crate::memcache::key::{TextForm, base64, text_form};
use crate::memcache::number::{write_i64, write_u64};
use crate::memcache::text::MetaVerb;

/// A meta request that is being written. [`MetaRequest::finish`] ends its line.
///
/// ```
/// use memcloud_protocol::memcache::encode::{self, MetaRequest};
///
/// let mut out = Vec::new();
/// MetaRequest::set(b"a key", 5, &mut out)?.number(b'F', 7).seconds(b'T', 60).tag(b"mc1/a/1f").finish();
/// encode::value(b"hello", &mut out);
/// assert_eq!(out, b"ms YSBrZXk= 5 F7 T60 Pmc1/a/1f b\r\nhello\r\n");
/// # Ok::<(), encode::KeyUnfit>(())
/// ```
#[must_use = "the line has no end before `finish`"]
#[derive(Debug)]
pub struct MetaRequest<'o> {
    out: &'o mut Vec<u8>,
    base64: bool,
}

impl<'o> MetaRequest<'o> {
    /// `mg`
    pub fn get(key: &[u8], out: &'o mut Vec<u8>) -> Result<Self, KeyUnfit> {
        Self::begin(MetaVerb::Get, key, out)
    }

    /// `ms` of a value of `len` bytes, which [`value`](super::value) appends behind the finished line.
    pub fn set(key: &[u8], len: usize, out: &'o mut Vec<u8>) -> Result<Self, KeyUnfit> {
        let request = Self::begin(MetaVerb::Set, key, out)?;
        request.out.push(b' ');
        write_u64(len as u64, request.out);
        Ok(request)
    }

    /// `md`
    pub fn delete(key: &[u8], out: &'o mut Vec<u8>) -> Result<Self, KeyUnfit> {
        Self::begin(MetaVerb::Delete, key, out)
    }

    /// `ma`
    pub fn arithmetic(key: &[u8], out: &'o mut Vec<u8>) -> Result<Self, KeyUnfit> {
        Self::begin(MetaVerb::Arithmetic, key, out)
    }

    /// `me`
    pub fn debug(key: &[u8], out: &'o mut Vec<u8>) -> Result<Self, KeyUnfit> {
        Self::begin(MetaVerb::Debug, key, out)
    }

    fn begin(verb: MetaVerb, key: &[u8], out: &'o mut Vec<u8>) -> Result<Self, KeyUnfit> {
        let form = text_form(key);
        if form == TextForm::None {
            return Err(KeyUnfit { len: key.len() });
        }
        out.extend_from_slice(meta_verb(verb));
        out.push(b' ');
        match form {
            TextForm::Base64 => base64::encode(key, out),
            TextForm::Plain | TextForm::None => out.extend_from_slice(key),
        }
        Ok(Self { out, base64: form == TextForm::Base64 })
    }

    /// A flag without a token.
    pub fn flag(self, letter: u8) -> Self {
        self.out.extend_from_slice(&[b' ', letter]);
        self
    }

    /// A flag with a number: C D E F J.
    pub fn number(self, letter: u8, number: u64) -> Self {
        let request = self.flag(letter);
        write_u64(number, request.out);
        request
    }

    /// A flag with seconds, which may be negative: N R T.
    pub fn seconds(self, letter: u8, seconds: i64) -> Self {
        let request = self.flag(letter);
        write_i64(seconds, request.out);
        request
    }

    /// A flag with a token: M, O. The token is free of blanks and control bytes; the caller sees to it.
    pub fn token(self, letter: u8, token: &[u8]) -> Self {
        debug_assert!(token.iter().all(|&byte| byte > b' '), "a token ends at a blank");
        let request = self.flag(letter);
        request.out.extend_from_slice(token);
        request
    }

    /// Flag P, which memcached ignores: a mark for whoever else reads the line.
    pub fn tag(self, tag: &[u8]) -> Self {
        self.token(b'P', tag)
    }

    /// Ends the line, naming base64 where the key is so written.
    pub fn finish(self) {
        self.out.extend_from_slice(if self.base64 { b" b\r\n" } else { b"\r\n" });
    }
}

/// The key has no text form: see [`text_form`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of {len} bytes has no text form")]
pub struct KeyUnfit {
    /// Its length.
    pub len: usize,
}
