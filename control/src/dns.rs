//! The zone: an authoritative DNS server over the directory (RFC 1035, RFC 2782).
//!
//! ```text
//!   packet ─► hickory (decoded, or dropped) ─► limits: may this source have an answer? ─► answer (pure) ─► fit (pure) ─► packet
//!                                                                        ▲
//!                                                       directory of now, swapped by the registrar
//! ```
//!
//! It promises: nothing but the directory decides an answer; an answer that does not fit is marked so and is whole over TCP; a name
//! outside the zone is refused. It refuses to know who asks, what was published before, and any database.

pub mod answer;
pub mod fit;
pub mod limits;
pub mod master_file;
pub mod server;
pub mod services;
pub mod zone;

mod handler;

#[cfg(test)]
mod tests;
