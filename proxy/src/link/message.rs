//! The words that two proxies say to each other, and nothing about when they say them.
//!
//! A message is one text line in memcached's meta grammar, with a block of data behind it for `ms` alone
//! (docs/peer-link.md has the grammar for people). Everything that changes keys carries the loop-suppression
//! tag, a `P` token: `Pmc1/<site>/<time>`, the mutation's version. What memcached has no word for begins with `ml`.
//!
//! Promises: [`decode()`] never panics, never allocates more than a key's length, and says the same whether the
//! bytes come at once or one by one; what [`Message::encode`] writes it reads back as it was. A line it does not
//! know by heart is [`Malformed`] and ends the link: two proxies that disagree about one byte must not go on
//! guessing about the next.
//!
//! It refuses to know: who may say what (the dialer sends mutations, the acceptor acks), clocks, versions' order.

use std::borrow::Cow;

use crate::replication::Loss;

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Malformed, decode};

/// The version of this grammar; docs/peer-link.md lists what each one says. A change adds a line there first.
pub const LINK_VERSION: u32 = 2;

/// Longest line, its end included: memcached's own bound, so that its tools can read the stream.
pub const LINE_MAX: usize = 2048;

/// Largest value that travels: memcached's own upper bound for `-I`.
pub const VALUE_MAX: usize = 1 << 30;

/// Longest site or shard name: a tag has to leave room for a key of 250 bytes in base64.
pub const NAME_MAX: usize = 64;

/// May `name` stand in a tag: 1 to 64 of letters, digits, `.`, `_` and `-`.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The loop-suppression tag: where a mutation was born, and the time half of its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The origin's name.
    pub site: &'a str,
    /// The version's hybrid clock reading.
    pub time: u64,
}

/// The first line of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Dialer: the highest version it speaks. Acceptor: the version this link uses, not above the dialer's.
    pub version: u32,
    /// Who speaks.
    pub site: &'a str,
    /// A number drawn at process start: another one means that all memory of earlier links is gone.
    pub run: u64,
    /// The shard the speaker believes to be part of; compared when both name one.
    pub shard: Option<&'a str>,
    /// What the dialer wants the connection for; the acceptor repeats it.
    pub purpose: Purpose,
    /// The newest time that the dialer's clock gave or saw: what comes of this connection is newer.
    pub clock: Option<u64>,
}

/// What a connection between two proxies is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// The dialer's mutations.
    #[default]
    Mutations,
    /// An app of the dialer, served by the acceptor's memcached.
    Session,
    /// The dialer compares, copies and repairs.
    Resync,
}

impl Purpose {
    /// The word on the wire; none for mutations.
    pub(super) fn token(self) -> Option<&'static str> {
        match self {
            Self::Mutations => None,
            Self::Session => Some("session"),
            Self::Resync => Some("resync"),
        }
    }

    fn of(token: &[u8]) -> Option<Self> {
        [Self::Session, Self::Resync].into_iter().find(|p| p.token().is_some_and(|t| t.as_bytes() == token))
    }
}

/// An item as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The decoded key.
    pub key: Cow<'a, [u8]>,
    /// The mutation's version.
    pub tag: Tag<'a>,
    /// The client's flags.
    pub flags: u32,
    /// memcached's exptime at the time of sending: 0 never, to 30 days relative, above absolute.
    pub exptime: u32,
    /// To be marked stale after the store.
    pub stale: bool,
    /// Its win is taken already: no client may be told to recache it.
    pub won: bool,
    /// The CAS it shall have, where that is not the version's time; 0: whichever memcached gives it.
    pub cas: Option<u64>,
    /// The value.
    pub value: &'a [u8],
}

/// How far the acceptor is: running totals since hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Mutations that are settled.
    pub count: u64,
    /// Those of them that were refused, because the clock that stamped them is too far ahead.
    pub refused: u64,
}

/// One message of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Who I am.
    Hello(Hello<'a>),
    /// I shall not talk to you, and why. The speaker closes behind it.
    Refused(Refusal),
    /// The key holds this item now.
    Item(Item<'a>),
    /// The key is gone.
    Delete {
        /// The decoded key.
        key: Cow<'a, [u8]>,
        /// The mutation's version.
        tag: Tag<'a>,
    },
    /// A miss made an empty item of this key and took its win.
    Vivify {
        /// The decoded key.
        key: Cow<'a, [u8]>,
        /// As an item's.
        exptime: u32,
        /// The mutation's version.
        tag: Tag<'a>,
    },
    /// Every key is gone, now or after a delay.
    Flush {
        /// Seconds left until it takes effect; 0 is at once.
        delay_s: u32,
        /// The mutation's version.
        tag: Tag<'a>,
    },
    /// The watermark: nothing at or below the tag's version comes from this site on this link any more.
    Mark {
        /// The version.
        tag: Tag<'a>,
        /// Keys and flushes the speaker still owes or has unacknowledged.
        owed: u64,
        /// What the acceptor may miss of the speaker beyond that; None: not known yet.
        loss: Option<Loss>,
        /// The speaker's memcached is being filled: what the acceptor has may be missing there.
        unfilled: bool,
    },
    /// What the speaker's memcached can do.
    Server {
        /// It can be told the CAS of an item.
        takes_versions: bool,
    },
    /// What the dialer remembers of an earlier life of the acceptor. First behind hello.
    Memory(Memory<'a>),
    /// The dialer stops, and the acceptor has everything of it. Nothing comes behind it.
    Goodbye {
        /// Its memcached has not been filled yet: what the acceptor has may be missing there.
        unfilled: bool,
    },
    /// So many mutations since hello are settled here.
    Ack(Ack),
}

/// How an earlier life of the acceptor ended, as its dialer remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory<'a> {
    /// Nothing is known of one.
    None,
    /// With a goodbye.
    Clean,
    /// With a goodbye, and before its memcached was filled.
    Unfilled,
    /// Without one: what the dialer sends at or below the tag may be older than what that life had.
    Killed {
        /// When that was, at the latest.
        until: Tag<'a>,
        /// Before its memcached was filled.
        unfilled: bool,
    },
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $token:literal,)*) => {
        /// Why a link is refused: the word on the wire and in logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// All of them, for tests and for metrics' labels.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            pub fn token(self) -> &'static str {
                match self { $(Self::$name => $token,)* }
            }

            /// A word this version does not know reads as [`Refusal::Other`].
            fn of(token: &[u8]) -> Self {
                $(if token == $token.as_bytes() { return Self::$name; })*
                Self::Other
            }
        }
    };
}

refusals! {
    /// No common version of the grammar.
    Version = "version",
    /// The two sides name different shards.
    Shard = "shard",
    /// The two sides have one name: one of them is misnamed, or dialed itself.
    SameSite = "same-site",
    /// Two sites of different names share an origin number: rename one.
    OriginClash = "origin-clash",
    /// No configured peer has this name.
    UnknownPeer = "unknown-peer",
    /// The acceptor's memcached does not answer.
    UpstreamDown = "upstream-down",
    /// An earlier link of the same site is still busy; come again.
    Busy = "busy",
    /// The dialer's clock is too far ahead to be followed.
    Clock = "clock",
    /// The acceptor is about to stop.
    Draining = "draining",
    /// The acceptor met a line it does not know.
    Malformed = "malformed",
    /// A reason of a later version.
    Other = "other",
}
