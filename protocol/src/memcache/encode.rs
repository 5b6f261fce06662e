//! Text requests of our own, appended to a buffer.
//!
//! [`MetaRequest`] builds what replication says to a memcached; [`line()`] writes a decoded command anew. Nothing
//! here checks against a version: what memcached 1.6.18 refuses (flags E and x, N on `ms`) is for the caller to
//! know. A line of more than 20 tokens is refused by memcached.

mod meta;

pub use meta::{KeyUnfit, MetaRequest};

use super::number::{write_i64, write_u64};
use super::text::{ArithmeticVerb, Command, GatVerb, GetVerb, Keys, Meta, MetaVerb, StoreVerb};

/// The barrier of text connections: its answer `MN` says that all before it is done.
pub const META_NOOP: &[u8] = b"mn\r\n";

/// Appends a value and its line end.
pub fn value(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line of `command`, whose data of `body` bytes (line end included, as in a request) is to follow.
/// `quiet` adds the token that keeps memcached silent.
///
/// Returns false, and appends nothing, for commands that a decoder recognises without reading them:
/// administration and what is odd.
pub fn line(command: &Command<'_>, body: u64, quiet: bool, out: &mut Vec<u8>) -> bool {
    let mut line = LineWriter { out };
    match *command {
        Command::Get { verb, keys } => {
            line.verb(if verb == GetVerb::Get { b"get" } else { b"gets" }).keys(keys)
        }
        Command::GetAndTouch { verb, exptime, keys } => {
            line.verb(if verb == GatVerb::Gat { b"gat" } else { b"gats" }).signed(exptime).keys(keys)
        }
        Command::Store { verb, key, flags, exptime, cas } => {
            line.verb(store_verb(verb)).word(key).unsigned(u64::from(flags)).signed(exptime);
            line.unsigned(body.saturating_sub(2));
            cas.map(|cas| line.unsigned(cas));
            line.noreply(quiet)
        }
        Command::Delete { key } => line.verb(b"delete").word(key).noreply(quiet),
        Command::Arithmetic { verb, key, delta } => line
            .verb(if verb == ArithmeticVerb::Incr { b"incr" } else { b"decr" })
            .word(key)
            .unsigned(delta)
            .noreply(quiet),
        Command::Touch { key, exptime } => line.verb(b"touch").word(key).signed(exptime).noreply(quiet),
        Command::FlushAll { delay } => {
            line.verb(b"flush_all");
            delay.map(|delay| line.signed(delay));
            line.noreply(quiet)
        }
        Command::Version => line.verb(b"version"),
        Command::Stats { args: b"" } => line.verb(b"stats"),
        Command::Stats { args } => line.verb(b"stats").word(args),
        Command::MetaNoop => line.verb(b"mn"),
        Command::Quit => line.verb(b"quit"),
        Command::Meta(meta) => line.meta(meta, body, quiet),
        Command::Watch | Command::Dump | Command::Shutdown | Command::Admin | Command::Odd => return false,
    };
    out.extend_from_slice(b"\r\n");
    true
}

fn store_verb(verb: StoreVerb) -> &'static [u8] {
    match verb {
        StoreVerb::Set => b"set",
        StoreVerb::Add => b"add",
        StoreVerb::Replace => b"replace",
        StoreVerb::Append => b"append",
        StoreVerb::Prepend => b"prepend",
        StoreVerb::Cas => b"cas",
    }
}

fn meta_verb(verb: MetaVerb) -> &'static [u8] {
    match verb {
        MetaVerb::Get => b"mg",
        MetaVerb::Set => b"ms",
        MetaVerb::Delete => b"md",
        MetaVerb::Arithmetic => b"ma",
        MetaVerb::Debug => b"me",
    }
}

/// Appends tokens, each behind a blank.
struct LineWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl LineWriter<'_> {
    fn verb(&mut self, verb: &[u8]) -> &mut Self {
        self.out.extend_from_slice(verb);
        self
    }

    fn word(&mut self, word: &[u8]) -> &mut Self {
        self.out.push(b' ');
        self.out.extend_from_slice(word);
        self
    }

    fn unsigned(&mut self, number: u64) -> &mut Self {
        self.out.push(b' ');
        write_u64(number, self.out);
        self
    }

    fn signed(&mut self, number: i64) -> &mut Self {
        self.out.push(b' ');
        write_i64(number, self.out);
        self
    }

    fn keys(&mut self, keys: Keys<'_>) -> &mut Self {
        for key in keys {
            self.word(key);
        }
        self
    }

    fn noreply(&mut self, noreply: bool) -> &mut Self {
        if noreply { self.word(b"noreply") } else { self }
    }

    fn meta(&mut self, meta: Meta<'_>, body: u64, quiet: bool) -> &mut Self {
        self.verb(meta_verb(meta.verb)).word(meta.key);
        if meta.verb == MetaVerb::Set {
            self.unsigned(body.saturating_sub(2));
        }
        for (letter, token) in meta.flags().filter(|&(letter, _)| letter != b'q') {
            self.word(&[letter]).verb(token);
        }
        if quiet { self.word(b"q") } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcache::text::{Decoded, Framing, decode};

    #[test]
    fn what_is_only_recognised_is_not_written() {
        for command in [Command::Watch, Command::Dump, Command::Shutdown, Command::Admin, Command::Odd] {
            let mut out = Vec::new();
            assert!(!line(&command, 0, false, &mut out));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn meta_requests_name_base64_where_they_use_it() {
        let mut out = Vec::new();
        MetaRequest::get(b"k", &mut out).unwrap().flag(b'v').token(b'O', b"7").finish();
        MetaRequest::delete(b"\r\nflush_all", &mut out).unwrap().flag(b'I').seconds(b'T', -1).finish();
        MetaRequest::arithmetic(b"n", &mut out).unwrap().number(b'D', u64::MAX).finish();
        MetaRequest::debug(b"a b", &mut out).unwrap().finish();
        assert_eq!(
            out,
            b"mg k v O7\r\nmd DQpmbHVzaF9hbGw= I T-1 b\r\nma n D18446744073709551615\r\nme YSBi b\r\n"
        );
        assert_eq!(MetaRequest::get(&[b' '; 200], &mut out).err(), Some(KeyUnfit { len: 200 }));
        assert_eq!(MetaRequest::get(b"", &mut out).err(), Some(KeyUnfit { len: 0 }));
    }

    proptest::proptest! {
        #[test]
        fn any_key_that_has_a_text_form_comes_back(key in proptest::collection::vec(0u8.., 1..187), len in 0usize..1000) {
            let mut out = Vec::new();
            MetaRequest::set(&key, len, &mut out).unwrap().number(b'F', 7).seconds(b'T', 60).tag(b"mc1/a/1f").finish();
            let Decoded::Request(request) = decode(&out, &Framing::default()) else { panic!() };
            let Command::Meta(meta) = request.command else { panic!() };
            proptest::prop_assert_eq!(request.body, len as u64 + 2);
            proptest::prop_assert_eq!(&*meta.decoded_key(), &key[..]);
            proptest::prop_assert_eq!(meta.token(b'P'), Some(&b"mc1/a/1f"[..]));
        }
    }
}
