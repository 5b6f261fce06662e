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
use std::time::Duration;

use memcloud_protocol::memcache::binary::{Opcode, status};
use memcloud_protocol::memcache::expiry::Expiry;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::super::LinkConfig;
use super::super::commands;
use super::super::local::{Local, out_of_step};
use super::reader::{Found, field};
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
    // By the hash table no item is missed while it moves between LRUs; older ones know classes alone.
    for which in ["hash", "all"] {
        let mut listed = Vec::new();
        // A connection of its own: one that is left in the middle of a list is of no other use.
        let mut local = Local::connect(&config.upstream, config.upstream_timeout).await?;
        loop {
            local.write(format!("lru_crawler metadump {which}\r\n").as_bytes()).await?;
            let mut line = local.line().await?;
            if line.starts_with(b"BUSY") {
                sleep(CRAWLER_PAUSE).await;
                continue;
            }
            while line.starts_with(b"key=") {
                if let Some((name, about)) = item(&line)
                    && let Some(key) = keys.iter().find(|key| **key == name)
                {
                    listed.push((*key, about));
                }
                line = local.line().await?;
            }
            if line.as_ref() == b"END" {
                return Ok(listed);
            }
            break;
        }
    }
    debug!("memcached lists no items: keys of the binary protocol are dropped at the peer");
    Ok(Vec::new())
}

/// A line of the list, if its key is one that text cannot name.
fn item(line: &[u8]) -> Option<(Vec<u8>, (Expiry, u64))> {
    let encoded = line.strip_prefix(b"key=")?;
    let encoded = &encoded[..memchr::memchr(b' ', encoded)?];
    // Most lines of all end here.
    memchr::memchr(b'%', encoded)?;
    let key = decoded(encoded)?;
    if commands::is_speakable(&key) {
        return None;
    }
    let expiry = match field::<i64>(line, b"exp=")? {
        -1 => Expiry::Never,
        at_s => Expiry::At(u64::try_from(at_s).ok()?),
    };
    Some((key, (expiry, field(line, b"cas=")?)))
}

/// `%0D` and the like as the bytes they stand for.
fn decoded(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [*bytes.next()?, *bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(plain)
}

const CRAWLER_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_list() {
        let k = "k".repeat(190);
        let line = |key: &str, exp: &str| {
            item(format!("key={key} exp={exp} la=1 cas=7 fetch=no cls=6 size=253").as_bytes())
        };
        let raw = format!("a%20%0D%0a%00%25{k}");
        let key = format!("a \r\n\0%{k}").into_bytes();
        assert_eq!(line(&raw, "1795373747"), Some((key.clone(), (Expiry::At(1_795_373_747), 7))));
        assert_eq!(line(&raw, "-1"), Some((key, (Expiry::Never, 7))));
        for none in ["k", "a%20b", &raw[..raw.len() - 190], &format!("%{k}"), &format!("%2{k}%")] {
            assert_eq!(line(none, "-1"), None, "{none}");
        }
        assert_eq!(line(&raw, "-2"), None);
        assert_eq!(item(b"key=a"), None);
        assert_eq!(item(b"END"), None);
    }
}
