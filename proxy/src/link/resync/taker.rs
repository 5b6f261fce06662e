//! The side that asks: a resync connection to one peer, from hello on.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::super::Context;
use super::super::company::Companions;
use super::super::message::{self, Decoded, Hello, LINK_VERSION, Message, Purpose};
use super::wire::{self, Request, Survey, Verdict};
use crate::config::Address;
use crate::inventory::{Entry, RangeDigest, Span};
use crate::memcached::local::{Local, connect, out_of_step};
use crate::replication::{Company, PeerId, Version, wall_clock_ms};

/// A connection on which a peer answers.
pub(in crate::link) struct Taker {
    stream: Local,
    /// The peer's name.
    pub(super) site: String,
    /// Whom both of us hear, and who is left out.
    pub(in crate::link) company: Company,
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
        companions: &Companions<'_>,
    ) -> io::Result<Self> {
        let dialed = Self::dial_with(context, peer, patience, companions, false).await?;
        dialed.ok_or_else(out_of_step)
    }

    /// Dials a peer for what both sides have to believe in each other's versions for. None: one of the two clocks is too
    /// far ahead, and what is stamped there would be refused here.
    pub(super) async fn dial_in_step(
        context: &Context,
        peer: PeerId,
        patience: Duration,
        companions: &Companions<'_>,
    ) -> io::Result<Option<Self>> {
        Self::dial_with(context, peer, patience, companions, true).await
    }

    async fn dial_with(
        context: &Context,
        peer: PeerId,
        patience: Duration,
        companions: &Companions<'_>,
        in_step: bool,
    ) -> io::Result<Option<Self>> {
        let addr = Address::Tcp(context.peer_addr(peer));
        let greeting = async {
            let mut stream = Local::over(connect(&addr).await?, patience);
            let clock = in_step.then(|| context.shared.lock().time(wall_clock_ms()));
            let mut hello = Vec::new();
            Message::Hello(Hello { clock, ..context.identity.hello(Purpose::Resync) }).encode(&mut hello);
            stream.write(&hello).await?;
            let mut line = stream.line().await?.to_vec();
            line.extend_from_slice(b"\r\n");
            let site = match message::decode(&line) {
                Ok(Decoded::Message { message: Message::Hello(hello), .. })
                    if hello.version == LINK_VERSION && hello.purpose == Purpose::Resync =>
                {
                    let follow = |time| context.shared.lock().follow_clock(time, wall_clock_ms());
                    if in_step && !hello.clock.is_none_or(follow) {
                        return Ok(None);
                    }
                    hello.site.to_owned()
                }
                Ok(Decoded::Message { message: Message::Refused(refusal), .. }) => {
                    return Err(io::Error::other(format!("refused: {}", refusal.token())));
                }
                _ => return Err(out_of_step()),
            };
            match stream.line().await?.as_ref() {
                b"ml ack 0" => {
                    stream.write(wire::heard_line(&companions.heard()).as_bytes()).await?;
                    let company = companions.agree(&wire::heard(&stream.line().await?)?);
                    Ok(Some(Self { stream, site, company }))
                }
                b"ml refused clock" => Ok(None),
                b"ml refused busy" => Err(io::Error::new(io::ErrorKind::ResourceBusy, "refused: busy")),
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

    /// Whether the peer is being filled itself; None: it may miss something of a third site, and cannot be believed.
    pub(in crate::link) async fn is_warming(&mut self) -> io::Result<Option<bool>> {
        let survey = self.survey().await?;
        Ok(survey.misses.is_empty().then_some(survey.warming))
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
        if count > ITEMS_AT_ONCE_MAX {
            return Err(out_of_step());
        }
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
        // Together they are no more than the slice.
        let mut left = LIST_BYTES_MAX;
        for _ in spans {
            let list = wire::block(&mut self.stream, left).await?;
            left -= list.len();
            lists.push(wire::decode_list(&list)?);
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
        self.end(&Request::Done, b"ml done").await
    }

    /// Everything is copied; what the giver had lost may still be here as it was before.
    pub(super) async fn copied(&mut self) -> io::Result<()> {
        self.end(&Request::Copied, b"ml copied").await
    }

    async fn end(&mut self, request: &Request, answer: &[u8]) -> io::Result<()> {
        self.ask(request).await?;
        if self.stream.line().await?.as_ref() == answer { Ok(()) } else { Err(out_of_step()) }
    }
}

const CATCHING_UP_ROUNDS: usize = 100;
const CATCHING_UP_TICK: Duration = Duration::from_millis(20);
/// One value of memcached's own bound may stand alone.
const ITEMS_BYTES_MAX: usize = message::VALUE_MAX + (1 << 20);
const ITEMS_AT_ONCE_MAX: u64 = crate::inventory::WALK_ITEMS_MAX as u64;
const DIGESTS_BYTES_MAX: usize = 24 << wire::RANGE_BITS_MAX;
/// A slice of items with the longest keys.
const LIST_BYTES_MAX: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A taker to whom the peer has said this, and then closed.
    async fn told(said: &[u8]) -> Taker {
        let (near, mut peer) = tokio::io::duplex(1 << 20);
        peer.write_all(said).await.unwrap();
        // Closed in one direction: the taker may still ask.
        peer.shutdown().await.unwrap();
        let (mut asked, _) = tokio::io::split(peer);
        tokio::spawn(async move { tokio::io::copy(&mut asked, &mut tokio::io::sink()).await });
        let stream = Local::over(Box::new(near), Duration::from_secs(60));
        Taker { stream, site: "b".to_owned(), company: Company::default() }
    }

    /// Whether a claim was believed: then more was waited for, and the end came.
    fn is_believed<T>(answer: io::Result<T>) -> bool {
        answer.err().unwrap().kind() == io::ErrorKind::UnexpectedEof
    }

    #[tokio::test]
    async fn items_are_bounded_in_number_and_in_bytes() {
        for (count, len, believed) in [
            (ITEMS_AT_ONCE_MAX, ITEMS_BYTES_MAX, true),
            (ITEMS_AT_ONCE_MAX, ITEMS_BYTES_MAX + 1, false),
            (ITEMS_AT_ONCE_MAX + 1, ITEMS_BYTES_MAX, false),
        ] {
            let said = format!("ml items {count}\r\nml block {len}\r\n");
            let items = told(said.as_bytes()).await.items().await;
            assert_eq!(is_believed(items), believed, "{count} {len}");
        }
    }

    #[tokio::test]
    async fn digests_are_bounded_in_bytes() {
        for (len, believed) in [(DIGESTS_BYTES_MAX, true), (DIGESTS_BYTES_MAX + 1, false)] {
            let said = format!("ml block {len}\r\n");
            assert_eq!(is_believed(told(said.as_bytes()).await.digests().await), believed, "{len}");
        }
    }

    #[tokio::test]
    async fn lists_are_bounded_all_together() {
        let entry = Entry {
            hash: 1,
            key: b"k"[..].into(),
            digest: 2,
            expiry: crate::replication::Expiry::Never,
            cas: 3,
        };
        let list = wire::encode_list([entry].iter());
        for (beyond, believed) in [(0, true), (1, false)] {
            let mut said = Vec::new();
            wire::encode_block(&mut said, &list);
            let left = LIST_BYTES_MAX - list.len() + beyond;
            said.extend_from_slice(format!("ml block {left}\r\n").as_bytes());
            let lists = told(&said).await.lists(&[Span::ALL; 2]).await;
            assert_eq!(is_believed(lists), believed, "{beyond}");
        }
    }

    #[tokio::test]
    async fn a_state_is_bounded_in_bytes() {
        for (len, believed) in [(message::VALUE_MAX, true), (message::VALUE_MAX + 1, false)] {
            let said = format!("ms k {len} T0 F0 Pmc1/a/1\r\n");
            let states = told(said.as_bytes()).await.states_of(&[b"k"]).await;
            assert_eq!(is_believed(states), believed, "{len}");
        }
    }
}
