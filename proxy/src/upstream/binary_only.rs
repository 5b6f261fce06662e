//! Whether a memcached refuses text (`-B binary`, `-S`), or has only closed a connection.
//!
//! ```text
//!   packets  noop ─► answered ............................ noop ─► answered: it lives, and refuses text
//!   text                        first words ─► closed            └► closed: it was going
//! ```
//!
//! Both look alike: a connection that is closed at its first words, and again at the next try if memcached is restarted a few
//! times. So it has to be proven: a connection that was answered in packets before is answered after. One process
//! has done all three then.

use std::io;
use std::time::Duration;

use memcloud_protocol::memcache::binary::Opcode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::config::Address;
use crate::memcached::commands;
use crate::memcached::local::Local;
use crate::net;

/// A connection to a memcached that refuses text.
pub(super) struct Packets(Local);

impl Packets {
    /// None: it takes text, or one of the connections was closed for another reason.
    pub(super) async fn of_binary_only(address: &Address, patience: Duration) -> Option<Self> {
        let mut packets = Self(Local::connect_binary(address, patience).await.ok()?);
        let refused = timeout(patience, refuses(address)).await.ok()?.ok()?;
        packets.ask().await.ok().filter(|()| refused).map(|()| packets)
    }

    /// Asks it every so often. Returns what went wrong in the end.
    pub(super) async fn listen(mut self, every: Duration) -> io::Error {
        loop {
            sleep(every).await;
            if let Err(error) = self.ask().await {
                return error;
            }
        }
    }

    async fn ask(&mut self) -> io::Result<()> {
        let mut noop = Vec::new();
        commands::packet(&mut noop, Opcode::Noop, &[], b"", b"");
        self.0.write(&noop).await?;
        self.0.packet().await.map(drop)
    }
}

/// Whether a new connection is closed at its first words.
async fn refuses(address: &Address) -> io::Result<bool> {
    let mut text = net::connect(address).await?;
    text.write_all(super::capability::FIRST_WORDS).await?;
    match text.read(&mut [0; 64]).await {
        Ok(read) => Ok(read == 0),
        Err(error) => Ok(super::capability::is_closing(&error)),
    }
}

#[cfg(test)]
mod tests;
