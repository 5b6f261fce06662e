//! A resync connection from a peer, up to the point where the giver takes over.

use tracing::{debug, info};

use super::{Inbound, refuse};
use crate::link::message::{Ack, Hello, LINK_VERSION, Message, Purpose, Refusal};
use crate::link::resync;
use crate::link::state::LinkStopped;
use crate::memcached::local::{Duplex, Local};
use crate::replication::PeerId;

/// A peer that may ask.
pub(super) struct Opening {
    peer: PeerId,
    site: String,
}

impl Inbound<'_> {
    /// Answers a peer that wants to compare or to copy.
    pub(super) async fn open_resync(
        &mut self,
        caller: &super::Caller,
        known: &mut Option<PeerId>,
    ) -> Result<Opening, LinkStopped> {
        let context = self.context;
        let hello = Hello { version: LINK_VERSION, ..context.identity.hello(Purpose::Resync) };
        self.say(&Message::Hello(hello)).await?;
        let peer = context.directory.identify(&caller.site, super::NAMING_GRACE).await.map_err(refuse)?;
        *known = Some(peer);
        if !self.input.is_empty() {
            // Nobody asks before it is let in.
            return Err(refuse(Refusal::Malformed));
        }
        self.say(&Message::Ack(Ack::default())).await?;
        Ok(Opening { peer, site: caller.site.clone() })
    }

    /// Answers until the peer goes, or this proxy stops.
    pub(super) async fn give(self, opening: Opening) {
        let context = self.context;
        let Opening { peer, site } = opening;
        let stream: Box<dyn Duplex> = self.reader.unsplit(self.writer);
        let stream = Local::over(stream, resync::TAKER_PATIENCE);
        let addr = context.peer_addr(peer);
        info!(peer.addr = addr, "a peer asks for a resync");
        tokio::select! {
            biased;
            served = resync::serve(context, peer, &site, stream) => match served {
                Ok(()) => debug!(peer.addr = addr, "the peer has what it asked for"),
                Err(error) => info!(peer.addr = addr, %error, "a resync of a peer broke off"),
            },
            () = context.over.cancelled() => {}
        }
    }
}
