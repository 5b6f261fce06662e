//! How far a resync is: to `/status`, to metrics and to the log.

/// What a resync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResyncKind {
    /// Everything of a peer is copied into a memcached that started empty.
    Copy,
    /// Two sites compare, and repair what differs.
    Compare,
    /// What is on the peer's list of keys goes to it.
    Listed,
}

impl ResyncKind {
    /// The word in `/status` and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Compare => "compare",
            Self::Listed => "listed",
        }
    }
}

/// A resync that is on, or the last one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub kind: ResyncKind,
    /// It is on.
    pub running: bool,
    /// Items that are done, of about so many.
    pub items: u64,
    pub items_expected: u64,
    pub bytes: u64,
    /// Milliseconds since it began, or that it took.
    pub elapsed_ms: u64,
}

impl Progress {
    /// Milliseconds that are left if it goes on like this; None while nobody can say.
    pub fn left_ms(&self) -> Option<u64> {
        let left = self.items_expected.saturating_sub(self.items);
        if !self.running || left == 0 {
            return Some(0);
        }
        (self.items > 0).then(|| self.elapsed_ms.saturating_mul(left) / self.items)
    }
}

/// What resyncs with one peer have done since the start, as far as this side took part in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncCounters {
    /// Resyncs that ended well, copies and comparisons.
    pub full: u64,
    /// Lists of keys that were delivered.
    pub listed: u64,
    /// Those that broke off; they are tried again.
    pub broken: u64,
    /// Items that were copied here.
    pub copied: u64,
    /// Keys whose newer side is known, and was taken over.
    pub repaired: u64,
    /// Keys that differed and were dropped on every side.
    pub dropped: u64,
    /// Mutations that were lost and are made good.
    pub made_good: u64,
    /// Connections on which the peer asks now.
    pub asking: u64,
    /// Those it was refused because it had too many.
    pub turned_away: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_guessed_from_what_is_done() {
        let progress = |items, elapsed_ms| Progress {
            kind: ResyncKind::Copy,
            running: true,
            items,
            items_expected: 1000,
            bytes: 0,
            elapsed_ms,
        };
        assert_eq!(progress(0, 500).left_ms(), None);
        assert_eq!(progress(250, 500).left_ms(), Some(1500));
        assert_eq!(progress(1001, 500).left_ms(), Some(0));
    }
}
