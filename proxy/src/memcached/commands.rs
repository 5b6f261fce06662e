//! What is said to memcached: meta commands, each with exactly one answer; and packets, for the few
//! keys that no text can name.

use memcloud_protocol::memcache::binary::{Header, MAGIC_REQUEST, Opcode};
use memcloud_protocol::memcache::key::{self, TextForm};
use memcloud_protocol::memcache::number::write_u64;

/// How a key stands in a command: behind the verb, and whether flag `b` has to follow.
///
/// A key of the binary protocol may be too long for base64 within 250 bytes. Its bytes are then written as they
/// are, which every memcached takes as long as no blank and no line end is among them; see [`is_speakable`].
fn keyed(out: &mut Vec<u8>, verb: &[u8], key: &[u8]) -> bool {
    out.extend_from_slice(verb);
    let base64 = key::text_form(key) == TextForm::Base64;
    if base64 {
        key::base64::encode(key, out);
    } else {
        out.extend_from_slice(key);
    }
    base64
}

/// Whether text commands can name the key at all.
pub(crate) fn is_speakable(key: &[u8]) -> bool {
    let breaks = |byte: &u8| matches!(byte, b'\0' | b'\t' | b'\n' | b'\r' | b' ');
    key::text_form(key) != TextForm::None
        || ((1..=key::KEY_MAX).contains(&key.len()) && !key.iter().any(breaks))
}

fn end(out: &mut Vec<u8>, base64: bool) {
    out.extend_from_slice(if base64 { b" b\r\n" } else { b"\r\n" });
}

/// Stores an item whatever is there, with this CAS where memcached can be told one. Answer: `HD`, or an error, after
/// which nothing is there.
pub(crate) fn store(out: &mut Vec<u8>, key: &[u8], flags: u32, exptime: u32, value: &[u8], cas: Option<u64>) {
    let base64 = keyed(out, b"ms ", key);
    number(out, b" ", value.len() as u64);
    if exptime != 0 {
        number(out, b" T", exptime.into());
    }
    if flags != 0 {
        number(out, b" F", flags.into());
    }
    explicit_cas(out, cas);
    end(out, base64);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn explicit_cas(out: &mut Vec<u8>, cas: Option<u64>) {
    if let Some(cas) = cas {
        number(out, b" E", cas);
    }
}

/// No server's own counter comes as far as this.
const COUNTED_MAX: u64 = 1 << 60;

/// Deletes. Answer: `HD` or `NF`.
pub(crate) fn delete(out: &mut Vec<u8>, key: &[u8]) {
    let base64 = keyed(out, b"md ", key);
    end(out, base64);
}

/// Asks whether there is an item, and touches nothing. Answer: `ME` and what is known of it, or `EN`.
pub(crate) fn look(out: &mut Vec<u8>, key: &[u8]) {
    let base64 = keyed(out, b"me ", key);
    end(out, base64);
}

/// Marks an item stale and gives its win free; it then has this CAS, or a new one. Answer: `HD` or `NF`.
pub(crate) fn mark_stale(out: &mut Vec<u8>, key: &[u8], cas: Option<u64>) {
    let base64 = keyed(out, b"md ", key);
    out.extend_from_slice(b" I");
    explicit_cas(out, cas);
    end(out, base64);
}

/// Gives the win of a stale item back, if its CAS still is the given one. It then has a new CAS, unless the given one is so
/// large that memcached must have been told it: then it keeps that. Answer: `HD`, `NF` or `EX`.
pub(crate) fn give_win_back(out: &mut Vec<u8>, key: &[u8], cas: u64) {
    let base64 = keyed(out, b"md ", key);
    number(out, b" I C", cas);
    explicit_cas(out, Some(cas).filter(|cas| *cas > COUNTED_MAX));
    end(out, base64);
}

/// Takes the win of an item: of a stale one by asking at all, of another one by calling every TTL a short one.
/// An item that never expires and is not stale has no win to take. Answer: `HD` or `EN`.
pub(crate) fn take_win(out: &mut Vec<u8>, key: &[u8]) {
    let base64 = keyed(out, b"mg ", key);
    number(out, b" R", i32::MAX as u64);
    end(out, base64);
}

/// Makes an empty item whose win is taken, if there is none. Answer: `HD`, `EN` or an error.
pub(crate) fn vivify(out: &mut Vec<u8>, key: &[u8], exptime: u32, cas: Option<u64>) {
    let base64 = keyed(out, b"mg ", key);
    number(out, b" N", exptime.into());
    explicit_cas(out, cas);
    end(out, base64);
}

/// Reads an item without a trace, but for the win of a stale one. Answer: `VA` with its data, or `EN`.
pub(crate) fn read(out: &mut Vec<u8>, key: &[u8]) {
    let base64 = keyed(out, b"mg ", key);
    out.extend_from_slice(b" c t f v u");
    end(out, base64);
}

/// Reads an item and leaves marks alone; for keys that need no base64. Answers: `ME` or `EN`, then `VALUE` with
/// its data and `END`, or `END`.
pub(crate) fn read_marked(out: &mut Vec<u8>, key: &[u8]) {
    keyed(out, b"me ", key);
    end(out, false);
    keyed(out, b"gets ", key);
    end(out, false);
}

/// `before` and then `value` in decimal.
fn number(out: &mut Vec<u8>, before: &[u8], value: u64) {
    out.extend_from_slice(before);
    write_u64(value, out);
}

/// A loud packet. Answer: one packet.
pub(crate) fn packet(out: &mut Vec<u8>, opcode: Opcode, extras: &[u8], key: &[u8], value: &[u8]) {
    let header = Header {
        magic: MAGIC_REQUEST,
        opcode: opcode.to_byte(),
        key_len: key.len() as u16,
        extras_len: extras.len() as u8,
        data_type: 0,
        status_or_vbucket: 0,
        body_len: (extras.len() + key.len() + value.len()) as u32,
        opaque: 0,
        cas: 0,
    };
    header.write(out);
    out.extend_from_slice(extras);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}
