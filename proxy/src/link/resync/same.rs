//! Whether two states hold the same.

use std::io;

use super::super::message::{Decoded, Item, Message, decode};
use crate::inventory::EXPIRY_TOLERANCE_S;
use crate::memcached::local::out_of_step;

/// Messages that stand one behind the other.
pub(super) fn split(mut messages: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut split = Vec::new();
    while !messages.is_empty() {
        let Ok(Decoded::Message { used, .. }) = decode(messages) else { return Err(out_of_step()) };
        split.push(&messages[..used]);
        messages = &messages[used..];
    }
    Ok(split)
}

/// Whether two states hold the same, as far as apps can tell.
pub(super) fn is_same(ours: &[u8], theirs: &[u8]) -> bool {
    match (decode(ours), decode(theirs)) {
        (Ok(Decoded::Message { message: ours, .. }), Ok(Decoded::Message { message: theirs, .. })) => {
            match (ours, theirs) {
                (Message::Item(ours), Message::Item(theirs)) => is_same_item(&ours, &theirs),
                (Message::Delete { .. }, Message::Delete { .. }) => true,
                (Message::Vivify { .. }, Message::Vivify { .. }) => true,
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_same_item(ours: &Item<'_>, theirs: &Item<'_>) -> bool {
    // Both are seconds that are left, or both are seconds since 1970, or one is 0.
    let near = (ours.exptime == 0) == (theirs.exptime == 0)
        && u64::from(ours.exptime.abs_diff(theirs.exptime)) <= EXPIRY_TOLERANCE_S;
    near && (ours.flags, ours.stale, ours.value) == (theirs.flags, theirs.stale, theirs.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apps_can_tell_apart_is_not_the_same() {
        let item = |rest: &str| format!("ms k 1 {rest} Pmc1/a/1\r\nv\r\n").into_bytes();
        let plain = item("T9 F0");
        for (other, same) in [
            (item("T9 F0 E7"), true),
            (item("T11 F0"), true),
            (item("T12 F0"), false),
            (item("T0 F0"), false),
            (item("T9 F1"), false),
            (item("T9 F0 I"), false),
            (b"ms k 1 T9 F0 Pmc1/b/2\r\nw\r\n".to_vec(), false),
            (b"md k Pmc1/b/2\r\n".to_vec(), false),
        ] {
            assert_eq!(is_same(&plain, &other), same, "{}", String::from_utf8_lossy(&other));
            assert_eq!(is_same(&other, &plain), same);
        }
        assert!(is_same(b"md k Pmc1/a/1\r\n", b"md k Pmc1/b/2\r\n"));
    }

    #[test]
    fn messages_are_told_apart_and_a_cut_one_is_refused() {
        let two = b"md k Pmc1/a/1\r\nms k 1 T0 F0 Pmc1/a/1\r\nv\r\n";
        assert_eq!(split(two).unwrap(), [&two[..15], &two[15..]]);
        assert!(split(&two[..two.len() - 1]).is_err());
        assert!(split(b"").unwrap().is_empty());
    }
}
