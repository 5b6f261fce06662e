//! The side that asks: a resync connection to one peer, from hello on.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::super::Context;
use super::super::message::{self, Decoded, LINK_VERSION, Message, Purpose};
use super::wire::{self, Request, Survey, Verdict};
use crate::config::Address;
use crate::inventory::{Entry, RangeDigest, Span};
use crate::memcached::local::{Local, connect, out_of_step};
use crate::replication::{PeerId, Version};

/// A connection on which a peer answers.
pub(in crate::link) struct Taker {
    stream: Local,
    /// The peer's name.
    pub(super) site: String,
}

/// Some items of a span.
pub(super) struct Items {
    pub(super) count: u64,
    /// Messages, one behind the other.
    pub(super) messages: Bytes,
    /// Where to go on; None: this was the end.
    pub(super) next: Option<u64>,
}

impl Taker {
    /// Dials a peer, and is let in. An answer may take `patience`: walking a large memcached takes its time.
    pub(in crate::link) async fn dial(
        context: &Context,
        peer: PeerId,
        patience: Duration,
    ) -> io::Result<Self> {
        let addr = Address::Tcp(context.peer_addr(peer).to_owned());
        let greeting = async {
            let mut stream = Local::over(connect(&addr).await?, patience);
            let mut hello = Vec::new();
            Message::Hello(context.identity.hello(Purpose::Resync)).encode(&mut hello);
            stream.write(&hello).await?;
            let mut line = stream.line().await?.to_vec();
            line.extend_from_slice(b"\r\n");
            let site = match message::decode(&line) {
                Ok(Decoded::Message { message: Message::Hello(hello), .. })
                    if hello.version == LINK_VERSION && hello.purpose == Purpose::Resync =>
                {
                    hello.site.to_owned()
                }
                Ok(Decoded::Message { message: Message::Refused(refusal), .. }) => {
                    return Err(io::Error::other(format!("refused: {}", refusal.token())));
                }
                _ => return Err(out_of_step()),
            };
            match stream.line().await?.as_ref() {
                b"ml ack 0" => Ok(Self { stream, site }),
                _ => Err(out_of_step()),
            }
        };
        timeout(context.config.peer_timeout, greeting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// The peer's name.
    pub(in crate::link) fn site(&self) -> &str {
        &self.site
    }

    /// Whether the peer is being filled itself.
    pub(in crate::link) async fn is_warming(&mut self) -> io::Result<bool> {
        Ok(self.survey().await?.warming)
    }

    pub(super) async fn survey(&mut self) -> io::Result<Survey> {
        self.ask(&Request::Survey).await?;
        Survey::decode(&self.stream.line().await?)
    }

    pub(super) async fn ask(&mut self, request: &Request) -> io::Result<()> {
        let mut out = Vec::new();
        request.encode(&mut out);
        self.stream.write(&out).await
    }

    /// The answer to `Request::Items`.
    pub(super) async fn items(&mut self) -> io::Result<Items> {
        let line = self.stream.line().await?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let (count, next) = match words[..] {
            [b"ml", b"items", count] => (count, None),
            [b"ml", b"items", count, next] => (count, Some(next)),
            _ => return Err(out_of_step()),
        };
        let next =
            next.map(|next| wire::hex(next.strip_prefix(b"N").ok_or_else(out_of_step)?)).transpose()?;
        let count = wire::number(count)?;
        Ok(Items { count, messages: wire::block(&mut self.stream, ITEMS_BYTES_MAX).await?, next })
    }

    /// The answer to `Request::Digests`.
    pub(super) async fn digests(&mut self) -> io::Result<Vec<RangeDigest>> {
        wire::decode_digests(&wire::block(&mut self.stream, DIGESTS_BYTES_MAX).await?)
    }

    /// What the peer digested last, of these hashes.
    pub(super) async fn lists(&mut self, spans: &[Span]) -> io::Result<Vec<Vec<Entry>>> {
        let mut out = Vec::new();
        spans.iter().for_each(|span| Request::List(*span).encode(&mut out));
        self.stream.write(&out).await?;
        let mut lists = Vec::with_capacity(spans.len());
        for _ in spans {
            lists.push(wire::decode_list(&wire::block(&mut self.stream, LIST_BYTES_MAX).await?)?);
        }
        Ok(lists)
    }

    /// Waits until the peer has applied everything up to `than`, and so whatever its states are newer. Bounded: later ones
    /// are then refused here and asked for again.
    pub(super) async fn caught_up(&mut self, than: Version) -> io::Result<()> {
        for _ in 0..CATCHING_UP_ROUNDS {
            if self.survey().await?.state_time > than.time() {
                break;
            }
            sleep(CATCHING_UP_TICK).await;
        }
        Ok(())
    }

    /// The states of some keys, as messages in their order.
    pub(in crate::link) async fn states_of(&mut self, keys: &[&[u8]]) -> io::Result<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        keys.iter().for_each(|key| Request::StateOf(Box::from(*key)).encode(&mut out));
        self.stream.write(&out).await?;
        let mut states = Vec::with_capacity(keys.len());
        for _ in keys {
            let line = self.stream.line().await?;
            states.push(wire::whole_state(&mut self.stream, &line).await?);
        }
        Ok(states)
    }

    /// Has the peer take states, messages one behind the other.
    pub(super) async fn push(&mut self, messages: &[u8], count: usize) -> io::Result<Vec<Verdict>> {
        self.stream.write(messages).await?;
        let mut verdicts = Vec::with_capacity(count);
        for _ in 0..count {
            verdicts.push(Verdict::of(&self.stream.line().await?)?);
        }
        Ok(verdicts)
    }

    /// Tells the peer that all it lost before this connection began is made good.
    pub(super) async fn done(&mut self) -> io::Result<()> {
        self.ask(&Request::Done).await?;
        if self.stream.line().await?.as_ref() == b"ml done" { Ok(()) } else { Err(out_of_step()) }
    }
}

const CATCHING_UP_ROUNDS: usize = 100;
const CATCHING_UP_TICK: Duration = Duration::from_millis(20);
/// One value of memcached's own bound may stand alone.
const ITEMS_BYTES_MAX: usize = message::VALUE_MAX + (1 << 20);
const DIGESTS_BYTES_MAX: usize = 24 << super::giver::RANGE_BITS_MAX;
/// A slice of items with the longest keys.
const LIST_BYTES_MAX: usize = 512 << 20;
