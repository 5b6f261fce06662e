//! Mutations of keys that text commands cannot name: more than 187 bytes with a blank or a line end among them.
//! Only the binary protocol ever makes such a key, so it is the binary protocol that applies them here: one
//! packet and its answer at a time, on a connection of their own, for they are the rarest of the rare.
//!
//! What the binary protocol has no word for (stale, win taken) is lost. An item made empty by `mg` cannot have such
//! a key.

use std::io;

use memcloud_protocol::memcache::binary::{Opcode, status};

use super::super::commands;
use super::super::local::{Local, out_of_step};
use super::super::message::{Decoded, Item, Message, decode};

/// Applies the mutation that `input` begins with, or deletes its key; false when memcached would not store, and then
/// the key is deleted too.
pub(super) async fn apply(local: &mut Local, input: &[u8], delete: bool) -> io::Result<bool> {
    let Ok(Decoded::Message { message, .. }) = decode(input) else { return Err(out_of_step()) };
    let mut out = Vec::new();
    let key = match &message {
        Message::Item(item) if !delete => {
            let mut extras = [0; 8];
            extras[..4].copy_from_slice(&item.flags.to_be_bytes());
            extras[4..].copy_from_slice(&item.exptime.to_be_bytes());
            commands::packet(&mut out, Opcode::Set, &extras, &item.key, item.value);
            if ask(local, &out).await? == status::SUCCESS {
                return Ok(true);
            }
            out.clear();
            &item.key
        }
        Message::Item(Item { key, .. }) | Message::Delete { key, .. } | Message::Vivify { key, .. } => key,
        _ => return Err(out_of_step()),
    };
    commands::packet(&mut out, Opcode::Delete, &[], key, &[]);
    match ask(local, &out).await? {
        status::SUCCESS | status::KEY_NOT_FOUND => Ok(delete || !matches!(message, Message::Item(_))),
        _ => Err(out_of_step()),
    }
}

async fn ask(local: &mut Local, packet: &[u8]) -> io::Result<u16> {
    local.write(packet).await?;
    Ok(local.packet().await?.0.status_or_vbucket)
}
