//! What a reply of memcached means for the peers.
//!
//! A request says what it would do ([`Intent`]), its reply says whether it did. Promises that the effect is never
//! wrong. An error is no doubt: memcached has done nothing, but for a store for which it had no room, and then the form
//! decides ([`Refused`]). An item that was not changed must not be stamped: it would win over what peers write meanwhile,
//! and any app could have that with an `incr` of a word. Where the reply leaves any doubt (a word not known here) the effect is
//! [`Effect::Unknown`]. Refuses to know keys and connections.
//!
//! | refused for want of room | the item before (1.6.18, 1.6.38 and 1.6.45, asked) |
//! |---|---|
//! | `set`, binary set | dropped |
//! | `ms` of any mode | dropped |
//! | `add`, `replace`, `append`, `prepend`, `cas`, `incr`, `decr`, `ma` and their binary forms | kept |
//! | what `append` would make of it (`NOT_STORED`, `NS`) | kept |

use std::cell::Cell;
use std::rc::Rc;

use memcloud_protocol::memcache::binary::{self, Header};
use memcloud_protocol::memcache::error;
use memcloud_protocol::memcache::reply::{self, Line};

use super::{Effect, Marks, Payload};

/// What a write would do if memcached carries it out.
#[derive(Debug, Clone)]
pub(crate) enum Intent {
    /// Store this value, whole.
    Store(Payload, Refused),
    /// Store a value that is not in hand, or change the item in another way than by its expiry.
    Change(Refused),
    /// `ms` with flag `I`: stored as stale if the item's CAS, told by an `me` sent in front, is above this one.
    StoreStale {
        /// The CAS the app gave.
        cas: u64,
        /// The CAS of the item before; none if there was no item.
        before: Rc<Cell<Option<u64>>>,
    },
    /// Change the expiry alone: marks stay.
    Touch,
    /// Remove the item.
    Delete,
    /// `md` with flag `I`: mark the item stale.
    Invalidate,
    /// `mg` with a flag that changes something, or any while stale marks are in use.
    MetaGet {
        /// Flag `N`: a miss makes an empty item.
        vivify: bool,
        /// Flag `T`: a hit is given a new expiry.
        touch: bool,
    },
    /// `flush_all`.
    Flush,
    /// A line that is not plainly valid: read again, unless it is refused as such.
    Odd,
}

/// What becomes of the item that is there if memcached has no room for the one that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It stays as it is.
    Kept,
    /// It is gone, because it was to be no more.
    Dropped,
}

impl Intent {
    /// It goes up as `ms`: see [`Refused`].
    pub(crate) fn goes_as_meta_set(&mut self) {
        if let Self::Store(_, refused) | Self::Change(refused) = self {
            *refused = Refused::Dropped;
        }
    }

    /// Takes a line of the reply. The first decides, but for `gat`, where any `VALUE` does.
    pub(crate) fn note(&self, line: &[u8], effect: &mut Option<Effect>) {
        if effect.is_none() {
            *effect = Some(self.effect_of(line));
        }
    }

    /// Takes a binary reply.
    pub(crate) fn note_packet(&self, header: &Header, effect: &mut Option<Effect>) {
        if effect.is_some() {
            return;
        }
        *effect = Some(match header.status_or_vbucket {
            binary::status::SUCCESS => self.success(),
            binary::status::KEY_NOT_FOUND if matches!(self, Self::Delete) => Effect::Removed,
            binary::status::KEY_NOT_FOUND
            | binary::status::KEY_EXISTS
            | binary::status::NOT_STORED
            | binary::status::NON_NUMERIC
            | binary::status::INVALID_ARGUMENTS
            | binary::status::AUTH_ERROR
            | binary::status::UNKNOWN_COMMAND => Effect::None,
            _ if matches!(self, Self::Flush) => Effect::None,
            binary::status::TOO_LARGE | binary::status::OUT_OF_MEMORY => self.without_room(),
            _ => Effect::Unknown,
        });
    }

    fn effect_of(&self, line: &[u8]) -> Effect {
        match (self, reply::classify(line)) {
            (Self::MetaGet { vivify, touch }, Line::Hd | Line::Va { .. }) => meta_get(line, *vivify, *touch),
            (Self::MetaGet { .. }, Line::En) => Effect::None,
            (Self::Delete, Line::NotFound | Line::Nf | Line::Deleted | Line::Hd) => Effect::Removed,
            (Self::Invalidate, Line::Nf) => Effect::Removed,
            (Self::Flush, Line::Ok) => self.success(),
            (Self::Flush, _) => Effect::None,
            (Self::Touch, Line::End) => Effect::None,
            // Seen only when the answer is put together: `ma` has counted by then, `mg` has made an item.
            (_, Line::ClientError) if line == error::LONG_OPAQUE => Effect::Unknown,
            (_, Line::Error | Line::ClientError) => Effect::None,
            (Self::Odd, _) => Effect::Unknown,
            (_, Line::ServerError) => self.server_error(line),
            (
                _,
                Line::Stored
                | Line::Touched
                | Line::Number(_)
                | Line::Value { .. }
                | Line::Hd
                | Line::Va { .. }
                | Line::Deleted,
            ) => self.success(),
            (
                _,
                Line::NotStored | Line::Exists | Line::NotFound | Line::Ns | Line::Ex | Line::Nf | Line::En,
            ) => Effect::None,
            _ => Effect::Unknown,
        }
    }

    fn server_error(&self, line: &[u8]) -> Effect {
        match (self, line) {
            (_, error::TOO_LARGE | error::OUT_OF_MEMORY) => self.without_room(),
            (Self::Change(_), error::NO_ROOM_TO_COUNT | error::NO_ROOM_TO_COUNT_FROM) => Effect::None,
            _ => Effect::Unknown,
        }
    }

    /// There was no room for what was to be stored.
    fn without_room(&self) -> Effect {
        match self {
            Self::Store(_, Refused::Kept) | Self::Change(Refused::Kept) => Effect::None,
            Self::Store(_, Refused::Dropped) | Self::Change(Refused::Dropped) | Self::StoreStale { .. } => {
                Effect::Removed
            }
            _ => Effect::Unknown,
        }
    }

    fn success(&self) -> Effect {
        match self {
            Self::Store(payload, _) => stored(Some(payload.clone()), Marks::default()),
            // Stored as stale it keeps the expiry of the item before: what it is now has to be read.
            Self::StoreStale { cas, before } => {
                let stale = before.get().is_some_and(|before| *cas < before);
                stored(None, Marks { stale, ..Marks::default() })
            }
            Self::Invalidate => stored(None, Marks { stale: true, ..Marks::default() }),
            Self::Delete => Effect::Removed,
            Self::Change(_) | Self::Touch | Self::MetaGet { .. } | Self::Flush | Self::Odd => {
                stored(None, Marks::default())
            }
        }
    }
}

/// The CAS in an `ME` line.
pub(crate) fn cas_of_debug_line(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    text.split(' ').skip(2).find_map(|word| word.strip_prefix("cas=")).and_then(|cas| cas.parse().ok())
}

fn stored(payload: Option<Payload>, marks: Marks) -> Effect {
    if payload.as_ref().is_some_and(|payload| payload.expiry == super::Expiry::Past) {
        return Effect::Removed;
    }
    Effect::Item { payload, marks }
}

/// A hit of `mg`: `X` says that the item is stale, `W` that the win was given to this reader, `Z` to an earlier one.
fn meta_get(line: &[u8], vivify: bool, touch: bool) -> Effect {
    let (mut won, mut lost, mut stale) = (false, false, false);
    for (letter, _) in reply::meta_flags(line) {
        won |= letter == b'W';
        lost |= letter == b'Z';
        stale |= letter == b'X';
    }
    if won {
        let vivified = vivify && !stale;
        return Effect::Item { payload: None, marks: Marks { stale, won, vivified } };
    }
    match touch {
        true => Effect::Item { payload: None, marks: Marks { stale, won: lost, vivified: false } },
        false => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::replication::Expiry;

    fn payload(expiry: Expiry) -> Payload {
        Payload { flags: 7, expiry, value: Bytes::from_static(b"v") }
    }

    fn of(intent: &Intent, lines: &[&[u8]]) -> Effect {
        let mut effect = None;
        for line in lines {
            intent.note(line, &mut effect);
        }
        effect.expect("a line says something")
    }

    fn read_again(marks: Marks) -> Effect {
        Effect::Item { payload: None, marks }
    }

    #[test]
    fn a_store_counts_only_when_stored() {
        let store = Intent::Store(payload(Expiry::Never), Refused::Dropped);
        let stored = Effect::Item { payload: Some(payload(Expiry::Never)), marks: Marks::default() };
        for yes in [&b"STORED"[..], b"HD", b"HD c7"] {
            assert_eq!(of(&store, &[yes]), stored);
        }
        for no in [&b"NOT_STORED"[..], b"EXISTS", b"NOT_FOUND", b"NS", b"EX", b"NF"] {
            assert_eq!(of(&store, &[no]), Effect::None);
        }
    }

    #[test]
    fn a_value_that_is_stored_dead_is_a_deletion() {
        assert_eq!(
            of(&Intent::Store(payload(Expiry::Past), Refused::Dropped), &[b"STORED"]),
            Effect::Removed
        );
    }

    #[test]
    fn what_was_refused_is_not_stamped() {
        let kept = Intent::Store(payload(Expiry::Never), Refused::Kept);
        let (change, touch) = (Intent::Change(Refused::Kept), Intent::Touch);
        for refusal in
            [error::NON_NUMERIC, error::BAD_DATA, error::BAD_FORMAT, error::INVALID_FLAG, error::ERROR]
        {
            for intent in [&kept, &change, &touch, &Intent::Delete, &Intent::Invalidate, &Intent::Odd] {
                assert_eq!(of(intent, &[refusal]), Effect::None, "{intent:?}");
            }
        }
        for no_room in [error::TOO_LARGE, error::OUT_OF_MEMORY] {
            assert_eq!((of(&kept, &[no_room]), of(&change, &[no_room])), (Effect::None, Effect::None));
        }
        for no_room in [error::NO_ROOM_TO_COUNT, error::NO_ROOM_TO_COUNT_FROM] {
            assert_eq!(of(&change, &[no_room]), Effect::None);
        }
    }

    #[test]
    fn a_set_without_room_has_removed_the_item_and_so_has_any_ms() {
        for no_room in [error::TOO_LARGE, error::OUT_OF_MEMORY] {
            let set = Intent::Store(payload(Expiry::Never), Refused::Dropped);
            assert_eq!(of(&set, &[no_room]), Effect::Removed);
            let mut append = Intent::Change(Refused::Kept);
            append.goes_as_meta_set();
            assert_eq!(of(&append, &[no_room]), Effect::Removed);
            let stale = Intent::StoreStale { cas: 5, before: Rc::default() };
            assert_eq!(of(&stale, &[no_room]), Effect::Removed);
        }
    }

    #[test]
    fn statuses_mean_what_the_words_mean() {
        let of = |intent: &Intent, status| {
            let mut packet = Vec::new();
            binary::write_error(0, status, 0, b"", &mut packet);
            let mut effect = None;
            intent.note_packet(&Header::read(&packet).expect("a header"), &mut effect);
            effect.expect("a status says something")
        };
        let set = Intent::Store(payload(Expiry::Never), Refused::Dropped);
        let change = Intent::Change(Refused::Kept);
        for no_room in [binary::status::TOO_LARGE, binary::status::OUT_OF_MEMORY] {
            assert_eq!((of(&set, no_room), of(&change, no_room)), (Effect::Removed, Effect::None));
            assert_eq!(of(&Intent::Touch, no_room), Effect::Unknown);
        }
        assert_eq!(of(&change, binary::status::NON_NUMERIC), Effect::None);
        assert_eq!(of(&change, binary::status::TEMPORARY_FAILURE), Effect::Unknown);
    }

    #[test]
    fn doubt_is_doubt() {
        let change = Intent::Change(Refused::Kept);
        for doubt in [&b"SERVER_ERROR of another kind"[..], b"WHAT", error::LONG_OPAQUE] {
            assert_eq!(of(&change, &[doubt]), Effect::Unknown);
            assert_eq!(of(&Intent::Odd, &[doubt]), Effect::Unknown);
        }
        assert_eq!(of(&Intent::Touch, &[error::TOO_LARGE]), Effect::Unknown);
    }

    #[test]
    fn a_delete_that_missed_is_mirrored_and_one_refused_by_its_cas_is_not() {
        for gone in [&b"DELETED"[..], b"NOT_FOUND", b"HD", b"NF"] {
            assert_eq!(of(&Intent::Delete, &[gone]), Effect::Removed);
        }
        assert_eq!(of(&Intent::Delete, &[b"EX"]), Effect::None);
        assert_eq!(of(&Intent::Invalidate, &[b"NF"]), Effect::Removed);
        let stale = Marks { stale: true, ..Marks::default() };
        assert_eq!(of(&Intent::Invalidate, &[b"HD"]), read_again(stale));
    }

    #[test]
    fn of_gat_the_value_decides_and_not_the_end() {
        assert_eq!(of(&Intent::Touch, &[b"VALUE k 0 1", b"END"]), read_again(Marks::default()));
        assert_eq!(of(&Intent::Touch, &[b"END"]), Effect::None);
    }

    #[test]
    fn a_read_counts_when_it_gave_the_win_away_or_touched() {
        let get = Intent::MetaGet { vivify: true, touch: false };
        assert_eq!(of(&get, &[b"EN"]), Effect::None);
        assert_eq!(of(&get, &[b"VA 1 t30"]), Effect::None);
        let vivified = Marks { won: true, vivified: true, stale: false };
        assert_eq!(of(&get, &[b"VA 0 W"]), read_again(vivified));
        let won = Marks { won: true, stale: true, vivified: false };
        assert_eq!(of(&get, &[b"VA 1 W X"]), read_again(won));
        let touch = Intent::MetaGet { vivify: false, touch: true };
        assert_eq!(of(&touch, &[b"HD"]), read_again(Marks::default()));
        assert_eq!(of(&touch, &[b"HD X Z"]), read_again(won));
    }

    #[test]
    fn a_store_below_the_items_cas_leaves_it_stale() {
        let intent = |before| Intent::StoreStale { cas: 5, before: Rc::new(Cell::new(before)) };
        let stale = |stale| read_again(Marks { stale, ..Marks::default() });
        assert_eq!(of(&intent(Some(6)), &[b"HD"]), stale(true));
        assert_eq!(of(&intent(Some(5)), &[b"HD"]), stale(false));
        assert_eq!(of(&intent(None), &[b"EX"]), Effect::None);
        assert_eq!(cas_of_debug_line(b"ME k exp=-1 la=0 cas=61 fetch=no cls=1 size=63"), Some(61));
        assert_eq!(cas_of_debug_line(b"EN"), None);
    }
}
