//! The dialects as a whole: what is written is read, where input is cut does not matter, and a real memcached,
//! where one is installed, frames every line as the decoder says.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cut;
mod grammar;
mod memcached;
mod round_trip;
