//! What memcloud's programs say on wires, as plain values.
//!
//! The crate reads and writes memcached's dialects for a program that stands between an application and a
//! stock memcached. It has no sockets, no clock and no runtime: bytes go in, values that borrow from those
//! bytes come out, and the present is an argument.
//!
//! ```text
//!   bytes of the app ──► text::decode ──► Request { line, body, quiet, command } ──► sent on as they came
//!                    └─► binary::decode ─► Request { head, body, quiet, command } ─┘
//!   bytes of memcached ─► reply::classify (text), binary::Header::read (binary) ──► what became of it
//!   a write of our own ─► encode ──► bytes
//! ```
//!
//! Two promises hold for every decoder here. No input makes it panic, and where the input was cut when it
//! arrived changes nothing: a prefix gives `Incomplete` or the very value that the whole gives.
//!
//! ```
//! use memcloud_protocol::memcache::text::{self, Command, Decoded, Framing};
//!
//! let input = b"set greeting 0 60 5 noreply\r\nhello\r\nget greeting\r\n";
//! let Decoded::Request(request) = text::decode(input, &Framing::default()) else { panic!() };
//! let Command::Store { key, exptime, .. } = request.command else { panic!() };
//! assert_eq!((key, exptime), (&b"greeting"[..], 60));
//!
//! // The line with `noreply` cut out makes memcached tell what became of the write.
//! let (before, after) = request.loud();
//! assert_eq!([before, after].concat(), b"set greeting 0 60 5\r\n");
//!
//! // Five bytes and their line end follow; behind them stands the next request.
//! let next = &input[request.line.len() + request.body as usize..];
//! let Decoded::Request(request) = text::decode(next, &Framing::default()) else { panic!() };
//! assert!(matches!(request.command, Command::Get { keys, .. } if keys.single() == Some(b"greeting")));
//! ```

#![warn(missing_docs)]

pub mod memcache;
pub mod registration;
pub mod topology;
