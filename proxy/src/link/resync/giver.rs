//! The side that answers: it walks its memcached, reads and digests, and takes states that are pushed.
//!
//! Promises that a taker which goes away, or asks for nonsense, costs no more than one slice of memory; that apps go
//! first, because reading is paced by `--resync-rate`; and that nothing is decided here. It refuses to know why it is
//! asked.

use std::io;
use std::sync::Arc;

use super::super::Context;
use super::super::message::{Decoded, Message, decode};
use super::states::{Applying, READ_KEYS, States};
use super::wire::{self, Request, Survey, Verdict};
use crate::inventory::{Entry, Inventory, InventoryError, Listed, Span, Throttle, fold};
use crate::memcached::local::{Local, out_of_step};
use crate::replication::{PeerId, Version, wall_clock_ms};

/// Answers a taker until it goes.
pub(in crate::link) async fn serve(
    context: &Arc<Context>,
    peer: PeerId,
    site: &str,
    stream: Local,
) -> io::Result<()> {
    let began = {
        let mut replica = context.shared.lock();
        replica.hold(true);
        replica.begin_resync()
    };
    let inventory = inventory(context);
    let mut giver = Giver {
        context,
        peer,
        site,
        began,
        states: States::of(context),
        applying: None,
        throttle: Throttle::new(context.config.resync_rate),
        inventory,
        listed: None,
        entries: Vec::new(),
    };
    let served = giver.answer_all(stream).await;
    context.shared.lock().hold(false);
    served
}

/// What our memcached holds.
pub(super) fn inventory(context: &Context) -> Inventory {
    let patience = context.config.upstream_timeout;
    Inventory::new(context.config.upstream.clone(), patience, || wall_clock_ms() / 1000)
}

struct Giver<'a> {
    context: &'a Arc<Context>,
    peer: PeerId,
    site: &'a str,
    began: Version,
    states: States<'a>,
    applying: Option<Applying>,
    throttle: Throttle,
    inventory: Inventory,
    /// The slice that was walked last, for copies.
    listed: Option<(Span, Vec<Listed>)>,
    /// The slice that was digested last.
    entries: Vec<Entry>,
}

impl Giver<'_> {
    async fn answer_all(&mut self, mut stream: Local) -> io::Result<()> {
        while let Some(request) = Request::read(&mut stream).await? {
            let mut requests = vec![request];
            // What was asked in one breath is answered in one.
            while requests.len() < READ_KEYS && stream.has_line() {
                requests.extend(Request::read(&mut stream).await?);
            }
            let mut out = Vec::new();
            for alike in requests.chunk_by(Request::is_alike) {
                self.answer_alike(alike, &mut out).await?;
            }
            stream.write(&out).await?;
        }
        Ok(())
    }

    /// Requests of one kind, if they are of one that can be answered together.
    async fn answer_alike<'r>(&mut self, requests: &'r [Request], out: &mut Vec<u8>) -> io::Result<()> {
        match &requests[0] {
            Request::StateOf(_) => {
                let key = |request: &'r Request| match request {
                    Request::StateOf(key) => Some(key.as_ref()),
                    _ => None,
                };
                let keys: Vec<&[u8]> = requests.iter().filter_map(key).collect();
                self.states.read(&keys, true, out).await
            }
            Request::State(_) | Request::Newer(_) => self.take(requests, out).await,
            _ => {
                for request in requests {
                    self.answer(request, out).await?;
                }
                Ok(())
            }
        }
    }

    async fn answer(&mut self, request: &Request, out: &mut Vec<u8>) -> io::Result<()> {
        match *request {
            Request::Survey => out.extend_from_slice(self.survey().await?.encode().as_bytes()),
            Request::Items(span) => return self.items(span, out).await,
            Request::Digests(span, bits) => {
                if bits > RANGE_BITS_MAX {
                    return Err(out_of_step());
                }
                let listed = self.inventory.walk(span).await.map_err(failed)?;
                self.entries = self.inventory.digests(listed, &mut self.throttle).await.map_err(failed)?;
                wire::encode_block(out, &wire::encode_digests(&ranges(&self.entries, span, bits)));
            }
            Request::List(span) => {
                let from = self.entries.partition_point(|entry| entry.hash < span.first);
                let to = self.entries.partition_point(|entry| entry.hash <= span.last);
                wire::encode_block(out, &wire::encode_list(self.entries[from..to].iter()));
            }
            Request::StateOf(_) | Request::State(_) | Request::Newer(_) => return Err(out_of_step()),
            Request::Done => {
                let made_good =
                    self.context.shared.with(|replica, _| replica.resynced(self.peer, self.began));
                self.context.links.change(self.peer.0, |link| {
                    link.resync.full += 1;
                    link.resync.made_good += made_good;
                });
                out.extend_from_slice(b"ml done\r\n");
            }
        }
        Ok(())
    }

    async fn survey(&self) -> io::Result<Survey> {
        let items = self.inventory.survey().await.map_err(failed)?.curr_items;
        let replica = self.context.shared.lock();
        Ok(Survey {
            items,
            loss: replica.loss(self.peer),
            warming: replica.warming().is_some(),
            started_empty: replica.started_empty(),
            state_time: replica.state_version().time(),
        })
    }

    /// Some items of the span, from its beginning, and where to go on.
    async fn items(&mut self, span: Span, out: &mut Vec<u8>) -> io::Result<()> {
        let listed = match self.listed.take() {
            Some((walked, listed)) if walked.contains(span.first) && walked.last == span.last => listed,
            _ => self.inventory.walk(span).await.map_err(failed)?,
        };
        let mut at = listed.partition_point(|item| item.hash < span.first);
        let (mut data, mut count) = (Vec::new(), 0);
        while at < listed.len() && data.len() < CHUNK_BYTES {
            let mut end = (at + READ_KEYS).min(listed.len());
            let expected: u64 = listed[at..end].iter().map(|item| item.size).sum();
            if expected > CHUNK_BYTES as u64 {
                end = at + 1;
            }
            // Keys of one hash stay together, for the next request begins with a hash.
            while end < listed.len() && listed[end].hash == listed[end - 1].hash {
                end += 1;
            }
            let keys: Vec<&[u8]> = listed[at..end].iter().map(|item| &*item.key).collect();
            self.throttle.pace(listed[at..end].iter().map(|item| item.size).sum()).await;
            self.states.read(&keys, false, &mut data).await?;
            count += end - at;
            at = end;
        }
        let next = listed.get(at).map_or(String::new(), |item| format!(" N{:x}", item.hash));
        out.extend_from_slice(format!("ml items {count}{next}\r\n").as_bytes());
        wire::encode_block(out, &data);
        if at < listed.len() {
            self.listed = Some((span, listed));
        }
        Ok(())
    }

    async fn take<'r>(&mut self, requests: &'r [Request], out: &mut Vec<u8>) -> io::Result<()> {
        let applying = match self.applying.take() {
            Some(applying) => applying,
            None => Applying::from(self.context, self.peer, self.site).await?,
        };
        let decided = matches!(requests.first(), Some(Request::Newer(_)));
        let message = |request: &'r Request| match request {
            Request::State(message) | Request::Newer(message) => Some(message.as_slice()),
            _ => None,
        };
        let messages: Vec<&[u8]> = requests.iter().filter_map(message).collect();
        let kept = self.applying.insert(applying).apply(&messages.concat(), decided).await?;
        for message in messages {
            let kept = kept.iter().find(|kept| is_about(message, &kept.key));
            let verdict = match kept {
                None => Verdict::Took,
                Some(kept) if kept.is_too_old() => Verdict::Old,
                Some(_) => Verdict::Kept,
            };
            out.extend_from_slice(verdict.line());
        }
        Ok(())
    }
}

fn is_about(message: &[u8], wanted: &[u8]) -> bool {
    match decode(message) {
        Ok(Decoded::Message { message: Message::Item(item), .. }) => *item.key == *wanted,
        Ok(Decoded::Message { message: Message::Delete { key, .. }, .. }) => *key == *wanted,
        _ => false,
    }
}

/// The digests of the ranges that a span touches.
pub(super) fn ranges(entries: &[Entry], span: Span, bits: u32) -> Vec<crate::inventory::RangeDigest> {
    let range = |hash: u64| hash.checked_shr(u64::BITS - bits).unwrap_or(0) as usize;
    let mut all = fold(entries, bits);
    all.truncate(range(span.last) + 1);
    all.split_off(range(span.first))
}

pub(super) fn failed(error: InventoryError) -> io::Error {
    match error {
        InventoryError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// What is read and sent at a time: enough to fill a network, little enough to be applied within the hold.
const CHUNK_BYTES: usize = 256 << 10;
/// A million and a half of bytes at most.
pub(super) const RANGE_BITS_MAX: u32 = 16;
