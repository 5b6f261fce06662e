//! memcached as one who asks it sees it: a [connection](local), what is [said](commands) on it, and the [list](crawler)
//! of all it holds. Links and inventories speak to it so; apps' requests go another way, through `upstream`.
//!
//! Promises: every wait ends, and whatever memcached says that is no answer is an error, never a panic. It refuses to
//! know why something is asked.

pub(crate) mod commands;
pub(crate) mod crawler;
pub(crate) mod deletion;
pub(crate) mod incarnation;
pub(crate) mod local;
