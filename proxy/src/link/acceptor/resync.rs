//! A resync connection from a peer, up to the point where the giver takes over.

use tracing::{debug, info};

use super::{Inbound, refuse};
use crate::link::company::Companions;
use crate::link::message::{Ack, Hello, LINK_VERSION, Message, Purpose, Refusal};
use crate::link::resync;
use crate::link::state::LinkStopped;
use crate::memcached::local::{Duplex, Local};
use crate::replication::{PeerId, wall_clock_ms};

/// A peer that may ask.
pub(super) struct Opening {
    peer: PeerId,
    site: String,
    seat: resync::Seat,
}

impl Inbound<'_> {
    /// Answers a peer that wants to compare or to copy.
    pub(super) async fn open_resync(
        &mut self,
        caller: &super::Caller,
        known: &mut Option<super::Member>,
    ) -> Result<Opening, LinkStopped> {
        let context = self.context;
        let clock = context.shared.lock().time(wall_clock_ms());
        let ours = context.identity.hello(Purpose::Resync);
        let hello = Hello { version: LINK_VERSION, clock: Some(clock), ..ours };
        self.say(&Message::Hello(hello)).await?;
        let member = context.directory.identify(&caller.site, super::NAMING_GRACE).await.map_err(refuse)?;
        let peer = known.insert(member).peer;
        if let Some(time) = caller.clock
            && !context.shared.lock().follow_clock(time, wall_clock_ms())
        {
            return Err(refuse(Refusal::Clock));
        }
        if !self.input.is_empty() {
            // Nobody asks before it is let in.
            return Err(refuse(Refusal::Malformed));
        }
        let seat = resync::Seat::take(&context.links, peer).ok_or(refuse(Refusal::Busy))?;
        self.say(&Message::Ack(Ack::default())).await?;
        Ok(Opening { peer, site: caller.site.clone(), seat })
    }

    /// Answers until the peer goes, a link with it breaks, or this proxy stops.
    pub(super) async fn give(self, opening: Opening) {
        let context = self.context;
        let Opening { peer, site, seat: _seat } = opening;
        let stream: Box<dyn Duplex> = self.reader.unsplit(self.writer);
        let stream = Local::over(stream, resync::TAKER_PATIENCE);
        let addr = context.peer_addr(peer);
        let addr = addr.as_str();
        info!(peer.addr = addr, "a peer asks for a resync");
        let companions = Companions::with(context, peer);
        tokio::select! {
            biased;
            served = resync::serve(context, peer, &site, stream, &companions) => match served {
                Ok(()) => debug!(peer.addr = addr, "the peer has what it asked for"),
                Err(error) => info!(peer.addr = addr, %error, "a resync of a peer broke off"),
            },
            // Nobody takes without links, and a connection that died with them may not say so for long.
            () = companions.broken() => debug!(peer.addr = addr, "links have changed: a resync of a peer ends"),
            () = context.over.cancelled() => {}
        }
    }
}
