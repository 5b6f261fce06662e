//! Mutations of keys that text commands cannot name: more than 187 bytes with a blank or a line end among them.
//! Only the binary protocol ever makes such a key, so it is the binary protocol that applies them here: one
//! packet and its answer at a time, on a connection of its own, for they are the rarest of the rare.
//!
//! What the binary protocol has no word for (stale, win taken) is lost. An item made empty by `mg` cannot have such
//! a key.

use std::io;

use memcloud_protocol::memcache::binary::{HEADER, Header, MAGIC_REQUEST, MAGIC_RESPONSE, Opcode, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::local::{self, out_of_step};
use super::super::message::{Decoded, Item, Message, decode};
use crate::config::Address;

/// Applies the mutation that `input` begins with, or deletes its key; false when memcached would not store, and then
/// the key is deleted too.
pub(super) async fn apply(upstream: &Address, input: &[u8], delete: bool) -> io::Result<bool> {
    let Ok(Decoded::Message { message, .. }) = decode(input) else { return Err(out_of_step()) };
    let mut out = Vec::new();
    let key = match &message {
        Message::Item(item) if !delete => {
            let mut extras = [0; 8];
            extras[..4].copy_from_slice(&item.flags.to_be_bytes());
            extras[4..].copy_from_slice(&item.exptime.to_be_bytes());
            request(&mut out, Opcode::Set, &extras, &item.key, item.value);
            if ask(upstream, &out).await? == status::SUCCESS {
                return Ok(true);
            }
            out.clear();
            &item.key
        }
        Message::Item(Item { key, .. }) | Message::Delete { key, .. } | Message::Vivify { key, .. } => key,
        _ => return Err(out_of_step()),
    };
    request(&mut out, Opcode::Delete, &[], key, &[]);
    match ask(upstream, &out).await? {
        status::SUCCESS | status::KEY_NOT_FOUND => Ok(delete || !matches!(message, Message::Item(_))),
        _ => Err(out_of_step()),
    }
}

fn request(out: &mut Vec<u8>, opcode: Opcode, extras: &[u8], key: &[u8], value: &[u8]) {
    let header = Header {
        magic: MAGIC_REQUEST,
        opcode: opcode.to_byte(),
        key_len: key.len() as u16,
        extras_len: extras.len() as u8,
        data_type: 0,
        status_or_vbucket: 0,
        body_len: (extras.len() + key.len() + value.len()) as u32,
        opaque: 0,
        cas: 0,
    };
    header.write(out);
    out.extend_from_slice(extras);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

async fn ask(upstream: &Address, packet: &[u8]) -> io::Result<u16> {
    let mut stream = local::connect(upstream).await?;
    stream.write_all(packet).await?;
    let mut answer = [0; HEADER];
    stream.read_exact(&mut answer).await?;
    let header =
        Header::read(&answer).filter(|header| header.magic == MAGIC_RESPONSE).ok_or_else(out_of_step)?;
    // The text behind an error is read too: closing over unread bytes would reset the connection.
    let mut rest = stream.take(header.body_len.into());
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(header.status_or_vbucket)
}
