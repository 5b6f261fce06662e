//! Which side of one key is the newer one.
//!
//! What two sites know of each other's losses says it of all keys at once, or of none. The CAS of an item may say it of
//! that item: where memcached was told a version, it is the version of the value that is there, whoever has died since.
//! So two items that both bear one need no authority: the newer is sent, and nothing is dropped. An item without one
//! (a server's own small number), and a key that only one side holds, say nothing: it may have been deleted where it is
//! missing.

use crate::link::message::{Decoded, Message, decode};
use crate::replication::{Authority, Version};

/// Whose state of a key counts; `otherwise` where the states themselves do not say it.
pub(super) fn authority(ours: &[u8], theirs: &[u8], otherwise: Authority) -> Authority {
    match (version(ours), version(theirs)) {
        (Some(ours), Some(theirs)) if ours > theirs => Authority::Us,
        (Some(ours), Some(theirs)) if ours < theirs => Authority::Peer,
        // The same value; they differ in an expiry or a mark.
        _ => otherwise,
    }
}

/// Whether the items themselves say which is the newer one.
pub(super) fn is_told(ours: &[u8], theirs: &[u8]) -> bool {
    version(ours).zip(version(theirs)).is_some_and(|(ours, theirs)| ours != theirs)
}

/// The CAS beside a state, for an item as it was read.
pub(super) fn cas_of(read: Option<u64>) -> u64 {
    read.filter(|cas| Version::is_reading(*cas)).unwrap_or(0)
}

/// The version of the value in a state, if the item bears one.
fn version(state: &[u8]) -> Option<u64> {
    match decode(state) {
        Ok(Decoded::Message { message: Message::Item(item), .. }) => {
            item.cas.filter(|cas| Version::is_reading(*cas))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: u64 = 1_882_595_354_844_594_277;

    fn item(cas: u64) -> Vec<u8> {
        format!("ms k 1 T0 F0 Pmc1/a/1 E{}\r\nv\r\n", cas_of(Some(cas))).into_bytes()
    }

    #[test]
    fn of_two_versions_the_greater_counts() {
        assert_eq!(authority(&item(OLDER), &item(OLDER + 1), Authority::Nobody), Authority::Peer);
        assert_eq!(authority(&item(OLDER + 1), &item(OLDER), Authority::Peer), Authority::Us);
        assert_eq!(authority(&item(OLDER), &item(OLDER), Authority::Nobody), Authority::Nobody);
    }

    #[test]
    fn a_servers_own_number_and_a_missing_item_say_nothing() {
        for other in [&item(7)[..], b"md k Pmc1/a/1\r\n"] {
            for authority_of_all in [Authority::Us, Authority::Peer, Authority::Nobody] {
                assert_eq!(authority(&item(OLDER), other, authority_of_all), authority_of_all);
                assert_eq!(authority(other, &item(OLDER), authority_of_all), authority_of_all);
            }
        }
    }
}
