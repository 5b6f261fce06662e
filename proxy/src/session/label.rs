//! Under which name a request is counted.

use memcloud_protocol::memcache::binary;
use memcloud_protocol::memcache::text::{ArithmeticVerb, Command, GatVerb, GetVerb, MetaVerb, StoreVerb};

use crate::metrics::CommandName;

/// Of a text request.
pub(super) fn label(command: &Command<'_>) -> CommandName {
    match command {
        Command::Get { verb: GetVerb::Get, .. } => CommandName::Get,
        Command::Get { .. } => CommandName::Gets,
        Command::GetAndTouch { verb: GatVerb::Gat, .. } => CommandName::Gat,
        Command::GetAndTouch { .. } => CommandName::Gats,
        Command::Store { verb, .. } => store_label(*verb),
        Command::Delete { .. } => CommandName::Delete,
        Command::Arithmetic { verb: ArithmeticVerb::Incr, .. } => CommandName::Incr,
        Command::Arithmetic { .. } => CommandName::Decr,
        Command::Touch { .. } => CommandName::Touch,
        Command::FlushAll { .. } => CommandName::FlushAll,
        Command::Version => CommandName::Version,
        Command::Stats { .. } => CommandName::Stats,
        Command::MetaNoop => CommandName::MetaNoop,
        Command::Quit => CommandName::Quit,
        Command::Meta(meta) => match meta.verb {
            MetaVerb::Get => CommandName::MetaGet,
            MetaVerb::Set => CommandName::MetaSet,
            MetaVerb::Delete => CommandName::MetaDelete,
            MetaVerb::Arithmetic => CommandName::MetaArithmetic,
            MetaVerb::Debug => CommandName::MetaDebug,
        },
        Command::Watch => CommandName::Watch,
        Command::Dump => CommandName::LruCrawler,
        Command::Admin | Command::Shutdown => CommandName::Admin,
        Command::Odd => CommandName::Other,
    }
}

/// Of a binary request.
pub(super) fn binary_label(command: &binary::Command) -> CommandName {
    match command {
        binary::Command::Get { .. } => CommandName::Get,
        binary::Command::Store { cas: 1.., .. } => CommandName::Cas,
        binary::Command::Store { verb, .. } | binary::Command::Concat { verb, .. } => store_label(*verb),
        binary::Command::Delete { .. } => CommandName::Delete,
        binary::Command::Arithmetic { verb: ArithmeticVerb::Incr, .. } => CommandName::Incr,
        binary::Command::Arithmetic { .. } => CommandName::Decr,
        binary::Command::Touch { .. } => CommandName::Touch,
        binary::Command::GetAndTouch { .. } => CommandName::Gat,
        binary::Command::Flush { .. } => CommandName::FlushAll,
        binary::Command::Noop => CommandName::Noop,
        binary::Command::Version => CommandName::Version,
        binary::Command::Quit => CommandName::Quit,
        binary::Command::Stat => CommandName::Stats,
        binary::Command::Sasl => CommandName::Auth,
        _ => CommandName::Other,
    }
}

/// The name of a storage command.
fn store_label(verb: StoreVerb) -> CommandName {
    match verb {
        StoreVerb::Set => CommandName::Set,
        StoreVerb::Add => CommandName::Add,
        StoreVerb::Replace => CommandName::Replace,
        StoreVerb::Append => CommandName::Append,
        StoreVerb::Prepend => CommandName::Prepend,
        StoreVerb::Cas => CommandName::Cas,
    }
}
