//! Label values: closed sets, so that no label grows with traffic.

/// An enum whose variants are label values: the set is closed, so no label grows with traffic.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of its counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// What was asked. Binary opcodes count under the classic name of what they do.
    CommandName {
        Get = "get",
        Gets = "gets",
        Gat = "gat",
        Gats = "gats",
        Set = "set",
        Add = "add",
        Replace = "replace",
        Append = "append",
        Prepend = "prepend",
        Cas = "cas",
        Incr = "incr",
        Decr = "decr",
        Delete = "delete",
        Touch = "touch",
        FlushAll = "flush_all",
        Stats = "stats",
        Version = "version",
        Verbosity = "verbosity",
        Quit = "quit",
        /// Binary `noop`.
        Noop = "noop",
        MetaGet = "mg",
        MetaSet = "ms",
        MetaDelete = "md",
        MetaArithmetic = "ma",
        MetaNoop = "mn",
        MetaDebug = "me",
        Watch = "watch",
        LruCrawler = "lru_crawler",
        /// SASL, or the `set` that carries a user and a password.
        Auth = "auth",
        /// `slabs`, `lru`, `cache_memlimit`, `shutdown` and their like.
        Admin = "admin",
        /// A name that the parser does not know, or a line that is not plainly valid.
        Other = "other",
    }
}

labels! {
    /// Why an app was not let in.
    Refusal {
        /// `--max-sessions` are open.
        Limit = "limit",
        /// The proxy is stopping.
        Draining = "draining",
        /// The operating system gave no socket.
        Accept = "accept",
    }
}

labels! {
    /// How a connection to memcached failed.
    UpstreamFault {
        Unreachable = "unreachable",
        /// memcached closed it.
        Closed = "closed",
        /// The operating system reported an error.
        Broken = "broken",
        /// Bytes came that fit no reply.
        OutOfStep = "out_of_step",
        /// An answer was owed for too long.
        TimedOut = "timed_out",
    }
}

labels! {
    /// How the wait of a write for its peers ended.
    AckOutcome {
        /// Every configured peer has it.
        Peer = "peer",
        /// It was answered although a peer is away.
        Degraded = "degraded",
        /// It was answered although a live peer had not confirmed it in time.
        Timeout = "timeout",
        /// The app heard an error for one of these reasons.
        Failed = "failed",
    }
}

impl CommandName {
    /// Whether it is one of the meta commands, which are a dialect of their own in the metrics.
    pub fn is_meta(self) -> bool {
        matches!(
            self,
            Self::MetaGet
                | Self::MetaSet
                | Self::MetaDelete
                | Self::MetaArithmetic
                | Self::MetaNoop
                | Self::MetaDebug
        )
    }
}
