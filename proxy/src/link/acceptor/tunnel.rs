//! Sessions that a peer opens here for its apps.
//!
//! ```text
//!   hello read ─> judged ─> memcached answers ─> hello written ─> peer known ─> clock followed ─> front door: `ml ack 0`
//! ```
//!
//! From `ml ack 0` on the stream is an app's: the front door hands it to a worker with whatever was read of it
//! already, and nothing here sees it again. Such a session is served by the memcached of this site or not at all, so
//! two sites whose memcacheds are both down cannot send an app round in circles.

use std::any::Any;

use tokio::sync::mpsc;
use tracing::debug;

use super::{Inbound, refuse};
use crate::link::message::{Ack, Hello, LINK_VERSION, Message, Purpose, Refusal};
use crate::link::state::LinkStopped;
use crate::memcached::local::{Duplex, Local};
use crate::net::{Arrival, Stream};
use crate::replication::wall_clock_ms;

/// The place of a session that is about to begin.
pub(super) type Opening = mpsc::OwnedPermit<Arrival>;

impl Inbound<'_> {
    /// Answers a peer that wants a session for an app of its own, up to the last word.
    pub(super) async fn open_session(
        &mut self,
        caller: &super::Caller,
        known: &mut Option<super::Member>,
    ) -> Result<Opening, LinkStopped> {
        let context = self.context;
        let Some(sessions) = context.config.sessions.clone() else {
            return Err(refuse(Refusal::Draining));
        };
        // Who comes here has lost its own memcached, and may have other peers to ask.
        Local::connect(&context.config.upstream, context.config.upstream_timeout)
            .await
            .map_err(|_| refuse(Refusal::UpstreamDown))?;
        let hello = Hello { version: LINK_VERSION, ..context.identity.hello(Purpose::Session) };
        self.say(&Message::Hello(hello)).await?;
        *known = Some(context.directory.identify(&caller.site, super::NAMING_GRACE).await.map_err(refuse)?);
        if let Some(time) = caller.clock
            && !context.shared.lock().follow_clock(time, wall_clock_ms())
        {
            return Err(refuse(Refusal::Clock));
        }
        // The front door is shut first when the proxy stops.
        sessions.reserve_owned().await.map_err(|_| refuse(Refusal::Draining))
    }

    /// Gives the stream away.
    pub(super) async fn hand_over(self, opening: Opening) {
        let stream: Box<dyn Duplex> = self.reader.unsplit(self.writer);
        let stream: Box<dyn Any> = stream;
        let Ok(stream) = stream.downcast::<Stream>() else { return };
        match stream.release() {
            Ok(accepted) => {
                opening.send(Arrival {
                    accepted,
                    read: self.input.to_vec(),
                    welcome: line(&Message::Ack(Ack::default())),
                    refusal: line(&Message::Refused(Refusal::Busy)),
                    tunnelled: true,
                });
            }
            Err(error) => debug!(%error, "a session of a peer cannot be handed over"),
        }
    }
}

fn line(message: &Message<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    message.encode(&mut line);
    line
}
