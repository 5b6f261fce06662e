//! Deleting keys whose gates are held, until memcached has carried it out.
//!
//! A deletion without an answer may still be carried out, and would hit whatever is written behind the gate. So after
//! an error the connection is left first, which ends when memcached has closed it too, and then it is tried again,
//! however long memcached is away. If it has started again meanwhile there is nothing to delete: all that was there is
//! gone with it.

use std::future::Future;
use std::io;
use std::time::Duration;

use memcloud_protocol::memcache::binary::{Opcode, status};
use tokio::time::sleep;

use super::local::{Local, out_of_step};
use super::{commands, incarnation};
use crate::backoff::Backoff;
use crate::config::Address;
use crate::replication::{Incarnation, Shared};

/// Connections on which keys are deleted, made when they are needed.
pub(crate) struct Deletion<'a> {
    upstream: (&'a Address, Duration),
    shared: &'a Shared,
    /// The memcached that holds what is to be deleted.
    life: Option<Incarnation>,
    lines: Option<Local>,
    /// For keys that no text can name.
    packets: Option<Local>,
    troubled: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// memcached has deleted them.
    Deleted,
    /// It has started again, empty.
    Died,
}

impl<'a> Deletion<'a> {
    /// From the memcached at `addr` in this life of it.
    pub(crate) fn of(
        addr: &'a Address,
        patience: Duration,
        shared: &'a Shared,
        life: Option<Incarnation>,
    ) -> Self {
        Self { upstream: (addr, patience), shared, life, lines: None, packets: None, troubled: false }
    }

    /// An attempt has failed since this began.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled
    }

    /// Deletes keys whose gates are held. `sooner` resolves when it is worth trying before the pause has passed.
    pub(crate) async fn carry_out<K, F>(&mut self, keys: &[K], mut sooner: impl FnMut() -> F) -> Ended
    where
        K: AsRef<[u8]>,
        F: Future<Output = ()>,
    {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            match self.attempt(keys).await {
                Ok(ended) => return ended,
                Err(error) => {
                    tracing::debug!(%error, keys = keys.len(), "keys are not deleted yet");
                    self.troubled = true;
                    self.leave().await;
                }
            }
            tokio::select! {
                biased;
                () = sleep(backoff.next_delay()) => {}
                () = sooner() => {}
            }
        }
    }

    async fn attempt<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> io::Result<Ended> {
        let (addr, patience) = self.upstream;
        // Asked on every new connection: who is there now?
        let lines = match &mut self.lines {
            Some(lines) => lines,
            None => self.lines.insert(incarnation::connect(addr, patience, self.shared).await?),
        };
        if self.life.zip(self.shared.memcached_life()).is_some_and(|(then, now)| !then.is(&now)) {
            return Ok(Ended::Died);
        }
        let keys = || keys.iter().map(AsRef::as_ref);
        let speakable: Vec<&[u8]> = keys().filter(|key| commands::is_speakable(key)).collect();
        delete_lines(lines, &speakable).await?;
        for key in keys().filter(|key| !commands::is_speakable(key)) {
            let packets = match &mut self.packets {
                Some(packets) => packets,
                None => self.packets.insert(Local::connect_binary(addr, patience).await?),
            };
            delete_packet(packets, key).await?;
        }
        Ok(Ended::Deleted)
    }

    /// Until memcached can carry out nothing more of what it was sent.
    async fn leave(&mut self) {
        for mut left in [self.lines.take(), self.packets.take()].into_iter().flatten() {
            left.leave().await;
        }
    }
}

async fn delete_lines(local: &mut Local, keys: &[&[u8]]) -> io::Result<()> {
    for batch in keys.chunks(KEYS_AT_ONCE) {
        let mut out = Vec::new();
        batch.iter().for_each(|key| commands::delete(&mut out, key));
        local.write(&out).await?;
        for _ in batch {
            if !matches!(local.line().await?.as_ref(), b"HD" | b"NF") {
                return Err(out_of_step());
            }
        }
    }
    Ok(())
}

async fn delete_packet(local: &mut Local, key: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    commands::packet(&mut out, Opcode::Delete, &[], key, b"");
    local.write(&out).await?;
    let (header, _) = local.packet().await?;
    match header.status_or_vbucket {
        status::SUCCESS | status::KEY_NOT_FOUND => Ok(()),
        _ => Err(out_of_step()),
    }
}

/// As often as connections for apps are tried: they come back at about the same time.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Their answers fit any socket's buffer, so that nobody waits for the other to read.
const KEYS_AT_ONCE: usize = 500;

#[cfg(test)]
mod tests;
