//! The exact words in which memcached says no.
//!
//! Lines without their CR LF. A proxy that has to refuse something itself says it in these words, so that an
//! application sees nothing it would not see from memcached.

/// Unknown command, or too few tokens for a known one.
pub const ERROR: &[u8] = b"ERROR";
/// A key over 250 bytes, a number that is none, too few tokens of `ms`.
pub const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format";
/// The data did not end where the line said.
pub const BAD_DATA: &[u8] = b"CLIENT_ERROR bad data chunk";
/// A flag of a meta command that this version does not know.
pub const INVALID_FLAG: &[u8] = b"CLIENT_ERROR invalid flag";
/// exptime is no number, in `touch`, `gat` and `flush_all`.
pub const INVALID_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument";
/// The delta of `incr` or `decr` is no number.
pub const INVALID_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument";
/// The stored value of `incr` or `decr` is no number.
pub const NON_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value";
/// With ASCII authentication switched on, before it succeeded.
pub const UNAUTHENTICATED: &[u8] = b"CLIENT_ERROR unauthenticated";
/// The value is above the item size limit; a `set` has dropped the old item.
pub const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache";
/// No memory for the item; a `set` has dropped the old item.
pub const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory storing object";
/// No memory for a number with a digit more; the old one stays.
pub const NO_ROOM_TO_COUNT: &[u8] = b"SERVER_ERROR out of memory";
/// No memory for the number that `ma` was to begin with.
pub const NO_ROOM_TO_COUNT_FROM: &[u8] = b"SERVER_ERROR Out of memory allocating new item";
/// An opaque over 31 bytes. Unlike all other errors it may come after the deed.
pub const LONG_OPAQUE: &[u8] = b"CLIENT_ERROR opaque token too long";
/// The connection limit is reached; the connection is closed behind it.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"ERROR Too many open connections";
