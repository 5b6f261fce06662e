//! What a request would do, in replication's words. Pure.

use bytes::Bytes;
use memcloud_protocol::memcache::binary;
use memcloud_protocol::memcache::expiry::Expiry;
use memcloud_protocol::memcache::text::{Command, Meta, MetaMode, MetaVerb, Reach, Request, StoreVerb};

use crate::replication::Payload;
use crate::replication::effect::{Intent, Refused};

/// Of a classic storage command with its value in hand.
pub(super) fn of_store(verb: StoreVerb, flags: u32, exptime: i64, value: &[u8], now_s: u64) -> Intent {
    match verb {
        StoreVerb::Append | StoreVerb::Prepend => Intent::Change(Refused::Kept),
        StoreVerb::Set | StoreVerb::Add | StoreVerb::Replace | StoreVerb::Cas => {
            store(flags, Expiry::from_exptime(exptime, now_s), value, refused(verb))
        }
    }
}

/// Of a meta command. `None` for one that changes nothing.
pub(super) fn of_meta(meta: &Meta<'_>, value: &[u8], now_s: u64, stale_marks: bool) -> Option<Intent> {
    Some(match meta.verb {
        MetaVerb::Debug => return None,
        MetaVerb::Get => {
            let (vivify, touch) = (meta.has(b'N'), meta.has(b'T'));
            if !(vivify || touch || meta.has(b'R') || stale_marks) {
                return None;
            }
            Intent::MetaGet { vivify, touch }
        }
        // Emptied (`x`) or marked stale: the item is read again.
        MetaVerb::Delete if meta.has(b'I') => Intent::Invalidate,
        MetaVerb::Delete if meta.has(b'x') => Intent::Change(Refused::Kept),
        MetaVerb::Delete => Intent::Delete,
        MetaVerb::Arithmetic => Intent::Change(Refused::Kept),
        MetaVerb::Set => match meta.mode() {
            Some(MetaMode::Append | MetaMode::Prepend) => Intent::Change(Refused::Dropped),
            // It has a CAS of the app's choice, which is read with the item.
            _ if meta.has(b'E') => Intent::Change(Refused::Dropped),
            _ => {
                let exptime = meta.token(b'T').and_then(number).unwrap_or(0);
                let flags = meta.token(b'F').and_then(number).unwrap_or(0);
                let flags = u32::try_from(flags).unwrap_or(0);
                store(flags, Expiry::from_exptime(exptime, now_s), value, Refused::Dropped)
            }
        },
    })
}

/// Of a binary request with its value in hand. `None` for one that changes nothing, or everything.
pub(super) fn of_binary(request: &binary::Request<'_>, value: &[u8], now_s: u64) -> Option<Intent> {
    Some(match request.command {
        binary::Command::Store { verb, flags, exptime, .. } => {
            store(flags, Expiry::from_binary(exptime, now_s), value, refused(verb))
        }
        binary::Command::Concat { .. } | binary::Command::Arithmetic { .. } => Intent::Change(Refused::Kept),
        binary::Command::Delete { .. } => Intent::Delete,
        binary::Command::Touch { .. } | binary::Command::GetAndTouch { .. } => Intent::Touch,
        _ => return None,
    })
}

/// Key and intent of a text request whose value is too long to be in hand.
pub(super) fn of_streamed_text(request: &Request<'_>) -> Option<(Vec<u8>, Intent)> {
    match (&request.command, request.reach()) {
        (Command::Store { verb, key, .. }, _) => Some((key.to_vec(), Intent::Change(refused(*verb)))),
        (Command::Meta(meta), _) => Some((meta.decoded_key().into_owned(), Intent::Change(Refused::Dropped))),
        (_, Reach::Key(key)) => Some((key.into_owned(), Intent::Odd)),
        _ => None,
    }
}

/// Key and intent of a binary request whose value is too long to be in hand.
pub(super) fn of_streamed_binary(request: &binary::Request<'_>) -> Option<(Vec<u8>, Intent)> {
    match request.command {
        binary::Command::Store { verb, .. } => Some((request.key.to_vec(), Intent::Change(refused(verb)))),
        binary::Command::Concat { .. } => Some((request.key.to_vec(), Intent::Change(Refused::Kept))),
        _ => None,
    }
}

fn store(flags: u32, expiry: Expiry, value: &[u8], refused: Refused) -> Intent {
    Intent::Store(Payload { flags, expiry, value: Bytes::copy_from_slice(value) }, refused)
}

/// Of a classic or a binary store: only a `set` would have replaced whatever is there.
fn refused(verb: StoreVerb) -> Refused {
    match verb {
        StoreVerb::Set => Refused::Dropped,
        _ => Refused::Kept,
    }
}

fn number(token: &[u8]) -> Option<i64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}
