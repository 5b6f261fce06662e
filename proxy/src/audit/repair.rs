//! Deleting what differs.

use memcloud_protocol::memcache::binary::{Opcode, status};

use super::held::Held;
use super::replica::Replica;
use super::{AuditError, Reason};
use crate::memcached::commands;
use crate::memcached::local::Local;

impl Replica {
    /// Deletes these keys, whatever is behind them by now.
    pub(super) async fn delete(&self, keys: &[Held]) -> Result<(), AuditError> {
        let (speakable, nameless): (Vec<_>, Vec<_>) =
            keys.iter().map(|held| &*held.key).partition(|key| commands::is_speakable(key));
        self.delete_named(&speakable).await?;
        self.delete_nameless(&nameless).await
    }

    async fn delete_named(&self, keys: &[&[u8]]) -> Result<(), AuditError> {
        let (addr, patience) = (self.inventory.addr(), self.inventory.patience());
        let mut local = Local::connect(addr, patience).await.map_err(|error| self.failed(error))?;
        let mut requests = Vec::new();
        for batch in keys.chunks(BATCH_KEYS) {
            requests.clear();
            batch.iter().for_each(|key| commands::delete(&mut requests, key));
            local.write(&requests).await.map_err(|error| self.failed(error))?;
            for _ in batch {
                let answer = local.line().await.map_err(|error| self.failed(error))?;
                if !matches!(answer.as_ref(), b"HD" | b"NF") {
                    return Err(self.undeleted(String::from_utf8_lossy(&answer).into_owned()));
                }
            }
        }
        Ok(())
    }

    /// Keys of the binary protocol that no text names.
    async fn delete_nameless(&self, keys: &[&[u8]]) -> Result<(), AuditError> {
        if keys.is_empty() {
            return Ok(());
        }
        let (addr, patience) = (self.inventory.addr(), self.inventory.patience());
        let mut local = Local::connect_binary(addr, patience).await.map_err(|error| self.failed(error))?;
        for key in keys {
            let mut request = Vec::new();
            commands::packet(&mut request, Opcode::Delete, &[], key, b"");
            local.write(&request).await.map_err(|error| self.failed(error))?;
            let (header, _) = local.packet().await.map_err(|error| self.failed(error))?;
            if !matches!(header.status_or_vbucket, status::SUCCESS | status::KEY_NOT_FOUND) {
                return Err(self.undeleted(format!("status {}", header.status_or_vbucket)));
            }
        }
        Ok(())
    }

    fn undeleted(&self, why: String) -> AuditError {
        AuditError { addr: self.inventory.addr().clone(), reason: Reason::Undeleted(why) }
    }
}

/// With the longest keys 16 KiB, which a socket takes in whole.
const BATCH_KEYS: usize = 64;
