//! The side that answers: it walks its memcached, reads and digests, and takes states that are pushed.
//!
//! Promises that a taker which goes away, or asks for nonsense, costs no more than one slice of memory and a few values; that apps go
//! first, because reading is paced by `--resync-rate`; and that nothing is decided here. It refuses to know why it is
//! asked.

use std::io;
use std::sync::Arc;

use super::super::Context;
use super::super::company::Companions;
use super::super::hold::Hold;
use super::super::message::{Decoded, Message, decode};
use super::life::Life;
use super::states::{Applying, READ_KEYS, States};
use super::wire::{self, Request, Survey, Verdict};
use crate::inventory::{Entry, Inventory, InventoryError, Listed, Span, Throttle, fold};
use crate::memcached::local::{Local, out_of_step};
use crate::replication::{Basis, PeerId, Version, wall_clock_ms};

/// Answers a taker until it goes.
pub(in crate::link) async fn serve(
    context: &Arc<Context>,
    peer: PeerId,
    site: &str,
    stream: Local,
    companions: &Companions<'_>,
) -> io::Result<()> {
    let _hold = Hold::on(&context.shared);
    let began = context.shared.lock().begin_resync();
    let inventory = inventory(context);
    let mut giver = Giver {
        context,
        peer,
        site,
        began,
        companions,
        states: States::of(context, companions),
        applying: None,
        read: None,
        reads: false,
        throttle: Throttle::new(context.links.resync_rate()),
        inventory,
        life: None,
        listed: None,
        entries: Vec::new(),
    };
    giver.answer_all(stream).await
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
    companions: &'a Companions<'a>,
    states: States<'a>,
    applying: Option<Applying>,
    /// When the states were read that the taker compares its own with; those it pushes then follow from them.
    read: Option<Version>,
    /// They are being read.
    reads: bool,
    throttle: Throttle,
    inventory: Inventory,
    /// Noted when the taker asked how much is here, or else with the first thing that is read.
    life: Option<Life>,
    /// The slice that was walked last, for copies.
    listed: Option<(Span, Vec<Listed>)>,
    /// The slice that was digested last.
    entries: Vec<Entry>,
}

impl Giver<'_> {
    async fn answer_all(&mut self, mut stream: Local) -> io::Result<()> {
        while let Some(request) = Request::read(&mut stream).await? {
            let mut len = request.len();
            let mut requests = vec![request];
            // What was asked in one breath is answered in one, unless it is much.
            while requests.len() < READ_KEYS && len < CHUNK_BYTES && stream.has_line() {
                let Some(request) = Request::read(&mut stream).await? else { break };
                len += request.len();
                requests.push(request);
            }
            let mut out = Vec::new();
            for alike in requests.chunk_by(Request::is_alike).flat_map(|alike| alike.chunks(ANSWERED_AT_ONCE))
            {
                self.answer_alike(alike, &mut out).await?;
                if out.len() > CHUNK_BYTES {
                    stream.write(&out).await?;
                    out = Vec::new();
                }
            }
            stream.write(&out).await?;
        }
        Ok(())
    }

    /// Requests of one kind, if they are of one that can be answered together.
    async fn answer_alike<'r>(&mut self, requests: &'r [Request], out: &mut Vec<u8>) -> io::Result<()> {
        if requests[0].is_of_states() {
            self.companions.begin();
        }
        let reads = matches!(requests[0], Request::StateOf(_));
        if reads && !std::mem::replace(&mut self.reads, reads) {
            self.read = Some(self.context.shared.lock().begin_resync());
        }
        self.reads = reads;
        match &requests[0] {
            Request::StateOf(_) => {
                let key = |request: &'r Request| match request {
                    Request::StateOf(key) => Some(key.as_ref()),
                    _ => None,
                };
                let keys: Vec<&[u8]> = requests.iter().filter_map(key).collect();
                self.noted().await?;
                self.states.read(&keys, true, out).await?;
                self.noted().await?.lasts()
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
            Request::Heard(ref there) => {
                // In this order: of somebody who comes meanwhile we speak, and what is agreed upon ends.
                self.companions.agree(there);
                let heard = self.companions.heard();
                out.extend_from_slice(wire::heard_line(&heard).as_bytes());
            }
            Request::Items(span) => return self.items(span, out).await,
            Request::Digests(span, bits) => {
                // One slice at a time, whoever asks for what.
                (self.listed, self.entries) = (None, Vec::new());
                self.noted().await?;
                let listed = self.inventory.walk(span).await.map_err(failed)?;
                self.entries = self.inventory.digests(listed, &mut self.throttle).await.map_err(failed)?;
                self.noted().await?.has_lasted().await?;
                wire::encode_block(out, &wire::encode_digests(&ranges(&self.entries, span, bits)));
            }
            Request::List(span) => {
                let from = self.entries.partition_point(|entry| entry.hash < span.first);
                let to = self.entries.partition_point(|entry| entry.hash <= span.last);
                wire::encode_block(out, &wire::encode_list(self.entries[from..to].iter()));
            }
            Request::StateOf(_) | Request::State(_) | Request::Newer(_) => return Err(out_of_step()),
            Request::Copied => {
                self.context.links.change(self.peer.0, |link| link.resync.full += 1);
                out.extend_from_slice(b"ml copied\r\n");
            }
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

    /// The memcached that all answers are about.
    async fn noted(&mut self) -> io::Result<&Life> {
        let noted = match self.life.take() {
            Some(noted) => noted,
            None => Life::note(self.context).await?,
        };
        Ok(self.life.insert(noted))
    }

    async fn survey(&mut self) -> io::Result<Survey> {
        self.noted().await?.lasts()?;
        let items = self.inventory.survey().await.map_err(failed)?.curr_items;
        let company = self.companions.agreed();
        let replica = self.context.shared.lock();
        Ok(Survey {
            items,
            loss: replica.loss(self.peer),
            warming: replica.warming().is_some(),
            state_time: replica.state_version(&company).time(),
            misses: replica.missed_besides(self.peer, &company),
        })
    }

    /// Some items of the span, from its beginning, and where to go on.
    async fn items(&mut self, span: Span, out: &mut Vec<u8>) -> io::Result<()> {
        self.entries = Vec::new();
        self.noted().await?;
        let listed = match self.listed.take() {
            Some((walked, listed)) if walked.contains(span.first) && walked.last == span.last => listed,
            before => {
                drop(before);
                let walked = self.inventory.walk(span).await.map_err(failed)?;
                self.noted().await?.has_lasted().await?;
                walked
            }
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
            self.noted().await?.lasts()?;
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
        let basis = Basis { decided, read: self.read, unread: false };
        let applying = self.applying.insert(applying);
        let kept = applying.apply(&messages.concat(), basis).await?;
        let dropped = applying.take_dropped() as u64;
        self.context.links.change(self.peer.0, |link| link.resync.dropped += dropped);
        for message in messages {
            let kept = kept.iter().find(|kept| is_about(message, &kept.key));
            let verdict = match kept {
                None => Verdict::Took,
                Some(kept) if kept.is_too_old() || kept.is_held_up() => Verdict::Old,
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
/// States that are read, or taken, before their answers leave: of the largest items one that asks may have us hold so many.
const ANSWERED_AT_ONCE: usize = 16;
