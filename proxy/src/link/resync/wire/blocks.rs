//! Blocks: a length, and data that is no lines. Digests of ranges, and lists of items.

use std::io;

use bytes::Bytes;

use super::{a_key, number};
use crate::inventory::{Entry, RangeDigest};
use crate::memcached::local::{Local, out_of_step};
use crate::replication::Expiry;

/// `ml block <len>` and the data.
pub(in crate::link::resync) async fn block(from: &mut Local, len_max: usize) -> io::Result<Bytes> {
    let line = from.line().await?;
    let len = line.strip_prefix(b"ml block ").ok_or_else(out_of_step)?;
    let len: usize = number(len)?;
    if len > len_max {
        return Err(out_of_step());
    }
    from.block(len).await
}

pub(in crate::link::resync) fn encode_block(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(format!("ml block {}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

pub(in crate::link::resync) fn encode_digests(digests: &[RangeDigest]) -> Vec<u8> {
    let numbers = digests.iter().flat_map(|digest| [digest.count, digest.sum, digest.expiries_s]);
    numbers.flat_map(u64::to_be_bytes).collect()
}

pub(in crate::link::resync) fn decode_digests(data: &[u8]) -> io::Result<Vec<RangeDigest>> {
    if !data.len().is_multiple_of(24) {
        return Err(out_of_step());
    }
    let three = |digest: &[u8]| RangeDigest {
        count: be(&digest[..8]),
        sum: be(&digest[8..16]),
        expiries_s: be(&digest[16..]),
    };
    Ok(data.chunks_exact(24).map(three).collect())
}

/// Hash, digest, expiry (0 never, else seconds since 1970), CAS, the key's length in two bytes, the key.
pub(in crate::link::resync) fn encode_list<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let expiry = match entry.expiry {
            Expiry::Never => 0,
            Expiry::At(at_s) => at_s,
            Expiry::Past => 1,
        };
        for number in [entry.hash, entry.digest, expiry, entry.cas] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&(entry.key.len() as u16).to_be_bytes());
        out.extend_from_slice(&entry.key);
    }
    out
}

pub(in crate::link::resync) fn decode_list(mut data: &[u8]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    while !data.is_empty() {
        let (head, rest) = data.split_at_checked(34).ok_or_else(out_of_step)?;
        let key_len = usize::from(u16::from_be_bytes([head[32], head[33]]));
        let (key, rest) = rest.split_at_checked(key_len).ok_or_else(out_of_step)?;
        let expiry = match be(&head[16..24]) {
            0 => Expiry::Never,
            at_s => Expiry::At(at_s),
        };
        let (hash, digest, cas) = (be(&head[..8]), be(&head[8..16]), be(&head[24..32]));
        entries.push(Entry { hash, key: a_key(key)?, digest, expiry, cas });
        data = rest;
    }
    Ok(entries)
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
