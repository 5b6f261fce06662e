//! The dialing side of a session at a peer: hello, the peer's hello, `ml ack 0`, and then the stream is an app's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Context;
use super::message::{Decoded, Hello, LINE_MAX, Message, Purpose, decode};
use crate::config::Address;
use crate::failover::Dial;
use crate::net::{self, Stream};
use crate::replication::PeerId;

/// Opens sessions at peers.
pub(crate) struct Tunnels {
    context: Arc<Context>,
}

impl Tunnels {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn open(&self, peer: usize) -> io::Result<Stream> {
        let address = Address::Tcp(self.context.peer_addr(PeerId(peer)));
        let mut stream = net::connect(&address).await?;
        let mut line = Vec::new();
        let clock = self.context.shared.lock().latest().time();
        let hello = Hello { clock: Some(clock), ..self.context.identity.hello(Purpose::Session) };
        Message::Hello(hello).encode(&mut line);
        stream.write_all(&line).await?;
        let mut input = BytesMut::new();
        loop {
            while let Some(opened) = self.hear(&mut input)? {
                if opened {
                    return Ok(stream);
                }
            }
            if input.len() > LINE_MAX {
                return Err(io::Error::other("the peer says a line without end"));
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::Error::other("the peer closed the connection"));
            }
        }
    }

    /// Takes the next line, if it is all here. True: the session is open.
    fn hear(&self, input: &mut BytesMut) -> io::Result<Option<bool>> {
        let malformed = |malformed| io::Error::other(format!("the peer's answer is malformed: {malformed}"));
        let (opened, used) = match decode(input).map_err(malformed)? {
            Decoded::Incomplete { .. } => return Ok(None),
            Decoded::Message { message: Message::Hello(hello), used }
                if hello.purpose == Purpose::Session =>
            {
                let judged = self.context.identity.judge(&hello);
                judged.map_err(|refusal| io::Error::other(refusal.token()))?;
                (false, used)
            }
            Decoded::Message { message: Message::Ack(_), used } => (true, used),
            Decoded::Message { message: Message::Refused(refusal), .. } => {
                return Err(io::Error::other(format!("the peer refuses: {}", refusal.token())));
            }
            Decoded::Message { .. } => return Err(io::Error::other("the peer answers out of turn")),
        };
        input.advance(used);
        match opened && !input.is_empty() {
            true => Err(io::Error::other("the peer speaks before it is asked")),
            false => Ok(Some(opened)),
        }
    }
}

impl Dial for Tunnels {
    fn address(&self, peer: usize) -> String {
        self.context.peer_addr(PeerId(peer))
    }

    fn dial(&self, peer: usize) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + '_>> {
        Box::pin(async move {
            let opened = timeout(OPEN_WITHIN, self.open(peer)).await;
            opened.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the peer does not answer"))?
        })
    }
}

/// Requests wait for this; a peer that needs longer is no help.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
