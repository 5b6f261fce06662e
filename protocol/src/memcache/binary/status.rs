//! Statuses of responses, and the words that memcached sends with the ones that say no.

/// Done.
pub const SUCCESS: u16 = 0x00;
/// No such key.
pub const KEY_NOT_FOUND: u16 = 0x01;
/// The cas token does not match, or `add` found the key there.
pub const KEY_EXISTS: u16 = 0x02;
/// The value is above the item size limit; a set has dropped the old item.
pub const TOO_LARGE: u16 = 0x03;
/// The packet's lengths do not suit its opcode; the connection is closed.
pub const INVALID_ARGUMENTS: u16 = 0x04;
/// append or prepend to what is not there.
pub const NOT_STORED: u16 = 0x05;
/// Arithmetic on a value that is no number.
pub const NON_NUMERIC: u16 = 0x06;
/// SASL refused, or needed.
pub const AUTH_ERROR: u16 = 0x20;
/// SASL needs another step.
pub const AUTH_CONTINUE: u16 = 0x21;
/// No such opcode.
pub const UNKNOWN_COMMAND: u16 = 0x81;
/// No memory for the item.
pub const OUT_OF_MEMORY: u16 = 0x82;
/// Try again later; memcached's protocol names it, memcached itself never says it.
pub const TEMPORARY_FAILURE: u16 = 0x86;

/// The value of a response with this status, as memcached words it; empty for the ones that bring none.
pub fn text(status: u16) -> &'static [u8] {
    match status {
        KEY_NOT_FOUND => b"Not found",
        KEY_EXISTS => b"Data exists for key.",
        TOO_LARGE => b"Too large.",
        INVALID_ARGUMENTS => b"Invalid arguments",
        NOT_STORED => b"Not stored.",
        NON_NUMERIC => b"Non-numeric server-side value for incr or decr",
        AUTH_ERROR => b"Auth failure.",
        UNKNOWN_COMMAND => b"Unknown command",
        OUT_OF_MEMORY => b"Out of memory",
        TEMPORARY_FAILURE => b"Temporary failure",
        _ => b"",
    }
}
