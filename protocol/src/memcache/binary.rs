//! The binary dialect: packets with a header of 24 bytes.
//!
//! ```text
//!   0        1        2        4        5         6         8          12       16       24
//!   ├ magic ─┼ opcode ┼ key ───┼ extras ┼ data ───┼ vbucket ┼ body ─────┼ opaque ┼ cas ──┼ extras, key, value …
//!                       length   length   type      or status   length
//! ```
//!
//! A packet is framed by what memcached takes from the stream, which is not always what the header says: it
//! consumes extras and key first, and an unknown opcode then costs another whole body length. A packet whose
//! lengths do not suit its opcode is answered with an error and the connection is closed.

mod header;
mod opcode;

pub use header::{HEADER, Header, MAGIC_REQUEST, MAGIC_RESPONSE, write_error};
pub use opcode::Opcode;

use super::key::KEY_MAX;
use super::text::{ArithmeticVerb, StoreVerb};

/// What a response's status field says.
pub mod status;

/// What stands at the beginning of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Header, extras and key have not all arrived.
    Incomplete,
    /// Not a request: memcached closes without a word.
    BadMagic,
    /// A whole head.
    Request(Request<'a>),
}

/// A request packet and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The header as it came.
    pub header: Header,
    /// Its opcode.
    pub opcode: Opcode,
    /// Bytes behind the header, mostly numbers.
    pub extras: &'a [u8],
    /// The item's own name, any bytes.
    pub key: &'a [u8],
    /// Bytes of the input that header, extras and key take.
    pub head: usize,
    /// Bytes that memcached takes behind the head. They need not be in the input.
    pub body: u64,
    /// The opcode to send instead so that every outcome is answered.
    pub quiet: Option<u8>,
    /// Whether the lengths suit the opcode. Otherwise memcached answers an error and closes.
    pub valid: bool,
    /// The meaning; [`Command::Unknown`] when not valid.
    pub command: Command,
}

/// The commands of binary connections. Their keys stand in [`Request::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields bear memcached's own names")]
pub enum Command {
    /// get getk and their quiet forms; `with_key`: the answer repeats the key.
    Get {
        with_key: bool,
    },
    /// set add replace. A `cas` other than 0 makes it compare; the verb is never `Cas`.
    Store {
        verb: StoreVerb,
        flags: u32,
        exptime: u32,
        cas: u64,
    },
    /// append prepend
    Concat {
        verb: StoreVerb,
        cas: u64,
    },
    /// delete
    Delete {
        cas: u64,
    },
    /// increment decrement. A miss creates `initial` unless `exptime` is all ones.
    Arithmetic {
        verb: ArithmeticVerb,
        delta: u64,
        initial: u64,
        exptime: u32,
        cas: u64,
    },
    /// touch
    Touch {
        exptime: u32,
    },
    /// gat gatk and their quiet forms
    GetAndTouch {
        exptime: u32,
        with_key: bool,
    },
    /// flush
    Flush {
        delay: Option<u32>,
    },
    Noop,
    Version,
    Quit,
    /// Answered by many packets; the last has neither key nor value.
    Stat,
    /// List, auth or step.
    Sasl,
    /// Answered with status 81 hex, and a body length is lost on it.
    Unknown,
}

/// Reads the request head at the beginning of `input`. More input behind it changes nothing.
pub fn decode(input: &[u8]) -> Decoded<'_> {
    match input.first() {
        None => return Decoded::Incomplete,
        Some(&MAGIC_REQUEST) => {}
        Some(_) => return Decoded::BadMagic,
    }
    let Some(header) = Header::read(input) else { return Decoded::Incomplete };
    let key_start = HEADER + usize::from(header.extras_len);
    let head = key_start + usize::from(header.key_len);
    let Some(behind_header) = input.get(HEADER..head) else { return Decoded::Incomplete };
    let (extras, key) = behind_header.split_at(key_start - HEADER);
    let opcode = Opcode::from_byte(header.opcode);
    let quiet = opcode.loud().map(Opcode::to_byte);
    let lengths_agree = header.body_len as usize >= extras.len() + key.len() && key.len() <= KEY_MAX;
    let command = if lengths_agree { command(&header, opcode, extras) } else { None };
    let valid = command.is_some();
    let command = command.unwrap_or(Command::Unknown);
    let body = if valid { body(&header, command) } else { 0 };
    Decoded::Request(Request { header, opcode, extras, key, head, body, quiet, valid, command })
}

/// The meaning of a packet, or nothing when its lengths do not suit the opcode.
fn command(header: &Header, opcode: Opcode, extras: &[u8]) -> Option<Command> {
    use Opcode::*;
    let cas = header.cas;
    let has_key = header.key_len > 0;
    let has_value = header.value_len() > 0;
    let bare = header.body_len == 0;
    let fields = Fields(extras);
    let (fits, command) = match opcode {
        Get | GetQ | GetK | GetKQ => {
            let with_key = matches!(opcode, GetK | GetKQ);
            (extras.is_empty() && has_key && !has_value, Command::Get { with_key })
        }
        Set | SetQ | Add | AddQ | Replace | ReplaceQ => {
            let verb = match opcode {
                Set | SetQ => StoreVerb::Set,
                Add | AddQ => StoreVerb::Add,
                _ => StoreVerb::Replace,
            };
            let (flags, exptime) = (fields.u32_at(0), fields.u32_at(4));
            (extras.len() == 8 && has_key, Command::Store { verb, flags, exptime, cas })
        }
        Append | AppendQ | Prepend | PrependQ => {
            let verb =
                if matches!(opcode, Append | AppendQ) { StoreVerb::Append } else { StoreVerb::Prepend };
            (extras.is_empty() && has_key, Command::Concat { verb, cas })
        }
        Delete | DeleteQ => (extras.is_empty() && has_key && !has_value, Command::Delete { cas }),
        Increment | IncrementQ | Decrement | DecrementQ => {
            let up = matches!(opcode, Increment | IncrementQ);
            let verb = if up { ArithmeticVerb::Incr } else { ArithmeticVerb::Decr };
            let (delta, initial, exptime) = (fields.u64_at(0), fields.u64_at(8), fields.u32_at(16));
            let command = Command::Arithmetic { verb, delta, initial, exptime, cas };
            (extras.len() == 20 && has_key && !has_value, command)
        }
        // A value behind these three is not refused; memcached reads it as the next packet.
        Touch => (extras.len() == 4 && has_key, Command::Touch { exptime: fields.u32_at(0) }),
        Gat | GatQ | GatK | GatKQ => {
            let with_key = matches!(opcode, GatK | GatKQ);
            (extras.len() == 4 && has_key, Command::GetAndTouch { exptime: fields.u32_at(0), with_key })
        }
        Stat => (extras.is_empty(), Command::Stat),
        Flush | FlushQ => {
            let delay = (!extras.is_empty()).then(|| fields.u32_at(0));
            (matches!(extras.len(), 0 | 4) && !has_key && !has_value, Command::Flush { delay })
        }
        Noop => (bare, Command::Noop),
        Version => (bare, Command::Version),
        Quit | QuitQ => (bare, Command::Quit),
        SaslList => (bare, Command::Sasl),
        SaslAuth | SaslStep => (extras.is_empty() && has_key, Command::Sasl),
        Unknown(_) => (true, Command::Unknown),
    };
    fits.then_some(command)
}

/// What memcached takes from the stream behind the head of a valid packet.
fn body(header: &Header, command: Command) -> u64 {
    match command {
        Command::Unknown => u64::from(header.body_len),
        Command::Touch { .. } | Command::GetAndTouch { .. } | Command::Stat => 0,
        _ => u64::from(header.value_len()),
    }
}

/// Big-endian numbers in the extras; 0 where they are too short, which the caller has found out.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32_at(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
    }

    fn u64_at(&self, at: usize) -> u64 {
        self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
