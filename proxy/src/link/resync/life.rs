//! One life of our memcached, for as long as something is decided by what it holds.
//!
//! A memcached that starts again is empty, and each of its keys would be taken for one that was deleted. So whoever
//! compares, or is compared with, notes who is there before anything is read, and believes what was read only if the same
//! one was there all the time. What is being filled says as little about what is missing.

use std::io;
use std::sync::Arc;

use super::super::{Context, incarnation};
use crate::replication::{Incarnation, Version};

/// Who is there, and since when it is being filled.
pub(super) struct Life {
    context: Arc<Context>,
    who: Option<Incarnation>,
    warming: Option<Version>,
}

impl Life {
    /// Asks memcached who it is.
    pub(super) async fn note(context: &Arc<Context>) -> io::Result<Self> {
        meet(context).await?;
        let who = context.shared.memcached_life();
        let warming = context.shared.lock().warming();
        Ok(Self { context: Arc::clone(context), who, warming })
    }

    /// It holds what it should.
    pub(super) fn is_whole(&self) -> bool {
        self.warming.is_none()
    }

    /// Fails if what was read may be of another life. What was read on connections of [`incarnation`]'s, that is: whoever
    /// made those has asked who is there.
    pub(super) fn lasts(&self) -> io::Result<()> {
        let now = self.context.shared.memcached_life();
        let warming = self.context.shared.lock().warming();
        let same = self.who.zip(now).is_some_and(|(then, now)| then.is(&now));
        match same && (warming.is_none() || warming == self.warming) {
            true => Ok(()),
            false => Err(io::Error::other("memcached has started again meanwhile")),
        }
    }

    /// The same of what was read on any connection: asks memcached who it is by now.
    pub(super) async fn has_lasted(&self) -> io::Result<()> {
        meet(&self.context).await?;
        self.lasts()
    }
}

/// Whoever is there is known afterwards.
pub(super) async fn meet(context: &Context) -> io::Result<()> {
    let config = &context.config;
    incarnation::connect(&config.upstream, config.upstream_timeout, &context.shared).await.map(drop)
}
