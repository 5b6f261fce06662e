//! What is known about a request while memcached owes its reply.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use memcloud_protocol::memcache::Dialect;
use memcloud_protocol::memcache::binary::Opcode;
use memcloud_protocol::memcache::text::MetaVerb;

use super::{Lookup, Shape};
use crate::downstream::{Downstream, HoldId};
use crate::metrics::CommandName;
use crate::replication::effect::Intent;
use crate::replication::{Effect, Slot, Version};

/// A reply owed to a session.
pub(crate) struct Pending {
    /// Who asked.
    pub(crate) downstream: Rc<Downstream>,
    /// Where its end is.
    pub(crate) shape: Shape,
    /// What of it the app did not want to hear.
    pub(crate) quiet: Quiet,
    /// How it was asked, where that is not how the app asked.
    pub(crate) conversion: Conversion,
    /// Under which name it is counted.
    pub(crate) label: Label,
    /// The write that holds its key's gate.
    pub(crate) write: Option<Box<Write>>,
    /// What is known of a read that a peer may fill.
    pub(crate) lookup: Option<Box<Lookup>>,
    /// It is read once more, and its answer takes the place of what is held there.
    pub(crate) again: Option<HoldId>,
    /// Keys it names.
    pub(crate) keys: u32,
    /// The request is still being sent: its body comes as the app sends it.
    pub(crate) open: bool,
    /// When it was asked.
    pub(crate) asked_us: u64,
}

/// Which replies of a request are kept from the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiet {
    /// None.
    No,
    /// All: `noreply`.
    Noreply,
    /// Those that flag `q` hides, by verb.
    Meta(MetaVerb),
    /// Binary: those that the quiet opcode hides; the others go out under it.
    Packet(Opcode),
    /// The `END` of a part of a `gat` of several keys.
    End,
}

/// A request that went up in another form.
#[derive(Clone, Debug)]
pub(crate) enum Conversion {
    /// It went up as it came.
    None,
    /// `get` as `mg`: `VA` becomes `VALUE … END`, `EN` becomes `END`.
    Get {
        /// `gets`: with the CAS.
        cas: bool,
    },
    /// An `me` of our own: its CAS is wanted.
    CasOf(Rc<Cell<Option<u64>>>),
    /// A classic store as `ms`: `HD` becomes `STORED`, and so on.
    Stored,
    /// `incr` or `decr` as `ma`: the number stands alone.
    Number,
    /// It was told its version, and its answer is as it came.
    Told,
}

/// Dialect and command of a request, for the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label(pub(crate) Dialect, pub(crate) CommandName);

/// A write in flight.
pub(crate) struct Write {
    /// The gate it holds.
    pub(crate) hold: Hold,
    /// What its reply will mean.
    pub(crate) intent: Intent,
    /// What the reply has meant so far.
    pub(crate) effect: Option<Effect>,
}

impl Write {
    /// Whether others wait until it is answered.
    pub(crate) fn holds_a_gate(&self) -> bool {
        matches!(self.hold, Hold::Key(_) | Hold::Promised(..) | Hold::All)
    }
}

/// Which gate a write holds.
#[derive(Debug)]
pub(crate) enum Hold {
    /// Its key's.
    Key(Slot),
    /// Its key's, and this is the write's version if it takes effect.
    Promised(Slot, Version),
    /// Everything's.
    All,
    /// None: these keys are marked as changed when the outcome is known.
    Afterwards(Vec<Box<[u8]>>),
    /// None, and nothing is replicated: the session wants to know.
    Told(Rc<RefCell<Option<Effect>>>),
}

impl Hold {
    /// Of a key's gate.
    pub(crate) fn of(slot: Slot, promised: Option<Version>) -> Self {
        promised.map_or(Self::Key(slot), |version| Self::Promised(slot, version))
    }
}

impl Shape {
    /// Whether memcached is expected to answer within the time-out.
    pub(crate) fn has_deadline(self) -> bool {
        !matches!(self, Self::Dump | Self::Raw)
    }
}
