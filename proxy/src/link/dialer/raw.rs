//! Reading items whose keys no text command can name: over 187 bytes, with a blank or a line end among them.
//!
//! The binary protocol reads their value and flags, but nobody asks it for an expiry and gets an answer. The one who
//! tells is the crawler: `lru_crawler metadump` lists every item with its expiry and its CAS. That walks through all
//! of memcached for a few keys, some 0.7 s for a million items, so it is done once for all such keys of a slice, and
//! for no longer than the link may be silent. The CAS says whether what was listed is what was read. If it is not,
//! a newer write has come between, and brings its own mutation.
//!
//! An item that is not found in this way (too many items, a crawler that is switched off or busy for others) is left
//! out: it is sent as a deletion, because a value without its expiry could outlive the one here.

use std::collections::HashMap;
use std::io;

use memcloud_protocol::memcache::binary::{Opcode, status};
use memcloud_protocol::memcache::expiry::Expiry;
use tokio::time::timeout;
use tracing::debug;

use super::super::LinkConfig;
use super::super::commands;
use super::super::local::{Local, out_of_step};
use super::reader::Found;
use crate::memcached::crawler::{CrawlError, crawl};
use crate::replication::Marks;

/// Reads the items of these keys, as far as they are there.
pub(in crate::link) async fn read<'k>(
    config: &LinkConfig,
    keys: &[&'k [u8]],
) -> io::Result<HashMap<&'k [u8], Found>> {
    let mut found = HashMap::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let Ok(listed) = timeout(config.peer_timeout / 2, list(config, keys)).await else {
        debug!(keys = keys.len(), "memcached has too many items to look for keys of the binary protocol");
        return Ok(found);
    };
    let listed = listed?;
    if listed.is_empty() {
        return Ok(found);
    }
    let mut local = Local::connect_binary(&config.upstream, config.upstream_timeout).await?;
    for (key, (expiry, cas)) in listed {
        let mut get = Vec::new();
        commands::packet(&mut get, Opcode::Get, &[], key, b"");
        local.write(&get).await?;
        let (header, body) = local.packet().await?;
        if header.status_or_vbucket != status::SUCCESS || header.cas != cas {
            continue;
        }
        let extras = usize::from(header.extras_len);
        let flags = body.get(..extras).and_then(|extras| extras.first_chunk()).ok_or_else(out_of_step)?;
        let flags = u32::from_be_bytes(*flags);
        let value = body.slice((extras + usize::from(header.key_len)).min(body.len())..);
        found.insert(key, Found { flags, expiry, value, marks: Marks::default(), cas: Some(cas) });
    }
    Ok(found)
}

/// Expiry and CAS of these keys, from a list of all items.
async fn list<'k>(config: &LinkConfig, keys: &[&'k [u8]]) -> io::Result<Vec<(&'k [u8], (Expiry, u64))>> {
    let (mut listed, mut name) = (Vec::new(), Vec::new());
    let crawled = crawl(&config.upstream, config.upstream_timeout, |line| {
        if line.key(&mut name)
            && !commands::is_speakable(&name)
            && let Some(key) = keys.iter().find(|key| **key == name)
        {
            listed.push((*key, (line.expiry, line.cas)));
        }
    });
    match crawled.await {
        Ok(()) => Ok(listed),
        Err(CrawlError::Io(error)) => Err(error),
        Err(refused) => {
            debug!(%refused, "keys of the binary protocol are dropped at the peer");
            Ok(Vec::new())
        }
    }
}
