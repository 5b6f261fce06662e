//! Classic commands, plainly valid ones.

use super::tokens::Tokens;
use super::{ArithmeticVerb, Command, GatVerb, GetVerb, Keys, Plain, StoreVerb, VALUE_LEN_MAX};
use crate::memcache::key;
use crate::memcache::number::{parse_i32, parse_u32, parse_u64};

pub(super) fn parse<'a>(verb: &[u8], text: &'a [u8]) -> Option<Plain<'a>> {
    let tokens = Tokens::behind(text, verb.len());
    match verb {
        b"get" => get(GetVerb::Get, tokens),
        b"set" => store(StoreVerb::Set, tokens),
        b"gets" => get(GetVerb::Gets, tokens),
        b"delete" => delete(tokens),
        b"incr" => arithmetic(ArithmeticVerb::Incr, tokens),
        b"decr" => arithmetic(ArithmeticVerb::Decr, tokens),
        b"add" => store(StoreVerb::Add, tokens),
        b"replace" => store(StoreVerb::Replace, tokens),
        b"append" => store(StoreVerb::Append, tokens),
        b"prepend" => store(StoreVerb::Prepend, tokens),
        b"cas" => store(StoreVerb::Cas, tokens),
        b"touch" => touch(tokens),
        b"gat" => get_and_touch(GatVerb::Gat, tokens),
        b"gats" => get_and_touch(GatVerb::Gats, tokens),
        b"flush_all" => flush_all(tokens),
        b"version" if tokens.is_empty() => Plain::loud(Command::Version),
        b"quit" if tokens.is_empty() => Plain::loud(Command::Quit),
        b"stats" => stats(tokens),
        b"verbosity" | b"cache_memlimit" => level(tokens),
        b"slabs" | b"lru" | b"lru_crawler" | b"extstore" | b"refresh_certs" | b"misbehave" | b"debugtime"
        | b"debugitem" => admin(verb, tokens),
        _ => None,
    }
}

fn get(verb: GetVerb, tokens: Tokens<'_>) -> Option<Plain<'_>> {
    Plain::loud(Command::Get { verb, keys: keys(tokens)? })
}

fn get_and_touch(verb: GatVerb, mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    let exptime = i64::from(parse_i32(tokens.word()?)?);
    Plain::loud(Command::GetAndTouch { verb, exptime, keys: keys(tokens)? })
}

/// One or more keys. One blank behind the last is let pass: nutcracker writes its retrievals so, and every
/// version of memcached takes them.
fn keys(tokens: Tokens<'_>) -> Option<Keys<'_>> {
    let text = tokens.rest();
    let text = text.strip_suffix(b" ").unwrap_or(text);
    let (mut count, mut len) = (1, 0);
    for &byte in text {
        if key::is_key_byte(byte) {
            len += 1;
            continue;
        }
        if byte != b' ' || len == 0 || len > key::KEY_MAX {
            return None;
        }
        (count, len) = (count + 1, 0);
    }
    (1..=key::KEY_MAX).contains(&len).then_some(Keys { text, count })
}

fn store(verb: StoreVerb, mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    let key = tokens.key()?;
    let flags = parse_u32(tokens.word()?)?;
    let exptime = i64::from(parse_i32(tokens.word()?)?);
    let len = parse_u64(tokens.word()?).filter(|&len| len <= VALUE_LEN_MAX)?;
    let cas = if verb == StoreVerb::Cas { Some(parse_u64(tokens.word()?)?) } else { None };
    closed(tokens, len + 2, Command::Store { verb, key, flags, exptime, cas })
}

fn delete(mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    let key = tokens.key()?;
    // The time of old clients; any other number is an error.
    let mut behind = tokens;
    if behind.word() == Some(b"0") {
        tokens = behind;
    }
    closed(tokens, 0, Command::Delete { key })
}

fn arithmetic(verb: ArithmeticVerb, mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    let key = tokens.key()?;
    let delta = parse_u64(tokens.word()?)?;
    closed(tokens, 0, Command::Arithmetic { verb, key, delta })
}

fn touch(mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    let key = tokens.key()?;
    let exptime = i64::from(parse_i32(tokens.word()?)?);
    closed(tokens, 0, Command::Touch { key, exptime })
}

fn flush_all(mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    if tokens.noreply().is_some() {
        return closed(tokens, 0, Command::FlushAll { delay: None });
    }
    let delay = Some(i64::from(parse_i32(tokens.word()?)?));
    closed(tokens, 0, Command::FlushAll { delay })
}

fn stats(tokens: Tokens<'_>) -> Option<Plain<'_>> {
    words(tokens)?;
    Plain::loud(Command::Stats { args: tokens.rest() })
}

/// `verbosity N` and `cache_memlimit N`, the two of administration that always know `noreply`.
fn level(mut tokens: Tokens<'_>) -> Option<Plain<'_>> {
    parse_u32(tokens.word()?)?;
    closed(tokens, 0, Command::Admin)
}

fn admin<'a>(verb: &[u8], tokens: Tokens<'a>) -> Option<Plain<'a>> {
    words(tokens)?;
    // Some forms of `slabs` and `lru` know `noreply`, others refuse it or ignore it: let it be odd.
    if tokens.rest().ends_with(b"noreply") {
        return None;
    }
    let mut first = tokens;
    if verb == b"lru_crawler" && matches!(first.word(), Some(b"metadump" | b"mgdump")) {
        return None;
    }
    Plain::loud(Command::Admin)
}

fn words(mut tokens: Tokens<'_>) -> Option<()> {
    while !tokens.is_empty() {
        tokens.word()?;
    }
    Some(())
}

/// The command, if the line ends here or in `noreply`.
fn closed<'a>(tokens: Tokens<'a>, body: u64, command: Command<'a>) -> Option<Plain<'a>> {
    let from = tokens.blank();
    let to = if tokens.noreply()? { from + NOREPLY.len() } else { from };
    Some(Plain { body, quiet: (from, to), command })
}

const NOREPLY: &[u8] = b" noreply";
