//! One mutation as memcached carries it out: its commands, and what their answers mean.

use std::io;

use memcloud_protocol::memcache::reply::is_unknown_flag;

use super::super::super::commands;
use super::super::super::local::{Local, out_of_step};
use super::super::super::message::{Item, Message, Tag};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Store,
    Delete,
    Vivify,
}

pub(super) fn key_and_tag<'a>(mutation: &'a Message<'_>) -> Option<(&'a [u8], Tag<'a>)> {
    match mutation {
        Message::Item(Item { key, tag, .. })
        | Message::Delete { key, tag }
        | Message::Vivify { key, tag, .. } => Some((key, *tag)),
        _ => None,
    }
}

/// `versioned`: memcached is told the CAS, which is the version's time unless the sender has said another one.
pub(super) fn encode(out: &mut Vec<u8>, mutation: &Message<'_>, versioned: bool) -> (Verb, u8) {
    match mutation {
        Message::Item(item) => {
            let cas = Some(item.cas.unwrap_or(item.tag.time)).filter(|cas| versioned && *cas != 0);
            commands::store(out, &item.key, item.flags, item.exptime, item.value, cas);
            if item.stale {
                commands::mark_stale(out, &item.key, cas);
            }
            if item.won {
                commands::take_win(out, &item.key);
            }
            (Verb::Store, 1 + u8::from(item.stale) + u8::from(item.won))
        }
        Message::Vivify { key, exptime, tag } => {
            commands::delete(out, key);
            commands::vivify(out, key, *exptime, versioned.then_some(tag.time));
            (Verb::Vivify, 2)
        }
        other => {
            commands::delete(out, key_and_tag(other).map_or(&[], |(key, _)| key));
            (Verb::Delete, 1)
        }
    }
}

/// Reads the answers to one mutation; false when memcached would not store.
pub(super) async fn answered(local: &mut Local, verb: Verb, answers: u8) -> io::Result<bool> {
    let mut stored = true;
    for nth in 0..answers {
        let line = local.line().await?;
        match (verb, nth) {
            // It was told a CAS, and is not the memcached any more that said it takes one: the link begins anew.
            (Verb::Store | Verb::Vivify, _) if is_unknown_flag(&line) => return Err(out_of_step()),
            (Verb::Store, 0) => stored = line.as_ref() == b"HD",
            // Marks: the item may be evicted again by now.
            (Verb::Store, _) => {}
            (Verb::Vivify, 1) => stored = line.starts_with(b"HD"),
            (Verb::Delete | Verb::Vivify, _) => deleted(&line)?,
        }
    }
    Ok(stored)
}

pub(super) fn deleted(line: &[u8]) -> io::Result<()> {
    if line == b"HD" || line == b"NF" { Ok(()) } else { Err(out_of_step()) }
}
