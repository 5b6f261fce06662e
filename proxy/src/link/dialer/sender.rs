//! Writing to a peer: what is owed, then the mark that says how far that was.
//!
//! Batches are about a millisecond apart unless they are full, so that a busy writer pays for a wake-up a thousand
//! times a second and not once a write; the first write after a pause goes out at once. Nothing here grows with a
//! slow peer: the replica bounds what is taken, and no more is encoded than is about to be written.

use std::borrow::Cow;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::Context;
use super::super::commands::is_speakable;
use super::super::message::{self, Item, Message, Tag};
use super::super::state::LinkStopped;
use super::raw;
use super::reader::{Found, Reader, Unread};
use crate::replication::{Effect, Marks, Memory, Owed, PeerId, Version, wall_clock_ms};

/// Writes to one peer, for as long as one link lives.
pub(super) struct Sender<'a, S> {
    context: &'a Context,
    peer: PeerId,
    stream: S,
    reader: Reader<'a>,
    /// An ack has made room in the window.
    acked: &'a Notify,
    owed: Vec<Owed>,
    out: Vec<u8>,
    next_mark: Instant,
    /// What the peer was told of our memcached.
    told: Option<bool>,
    goodbye: bool,
    /// It is known that items were sent which are older than their mutations.
    said_again: bool,
}

impl<'a, S: AsyncWrite + Unpin> Sender<'a, S> {
    pub(super) fn new(context: &'a Context, peer: PeerId, stream: S, acked: &'a Notify) -> Self {
        let reader = Reader::new(&context.config, &context.shared);
        let (owed, out) = (Vec::new(), Vec::new());
        let next_mark = Instant::now();
        let (told, goodbye, said_again) = (None, false, false);
        Self { context, peer, stream, reader, acked, owed, out, next_mark, told, goodbye, said_again }
    }

    /// Sends until the link ends, and says why it did.
    pub(super) async fn run(&mut self) -> LinkStopped {
        self.remember();
        loop {
            if let Err(stopped) = self.round().await {
                return stopped;
            }
            if self.goodbye {
                // The peer answers by closing.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Everything of ours has arrived, and the peer was told that nothing more comes.
    pub(super) fn said_goodbye(&self) -> bool {
        self.goodbye
    }

    /// What we know of the peer's earlier life; it stands before all else.
    fn remember(&mut self) {
        let memory = match self.context.shared.lock().memory_of(self.peer) {
            Memory::None => message::Memory::None,
            Memory::Clean => message::Memory::Clean,
            Memory::Unfilled => message::Memory::Unfilled,
            Memory::Killed { until, unfilled } => {
                message::Memory::Killed { until: self.tag(until), unfilled }
            }
        };
        Message::Memory(memory).encode(&mut self.out);
    }

    async fn round(&mut self) -> Result<(), LinkStopped> {
        let now_ms = wall_clock_ms();
        let mut owed = std::mem::take(&mut self.owed);
        self.context.shared.lock().take(self.peer, BATCH_MUTATIONS_MAX, now_ms, &mut owed);
        for slice in owed.chunks(SLICE_MUTATIONS) {
            self.send(slice).await?;
        }
        let taken = owed.len();
        owed.clear();
        self.owed = owed;
        if taken > 0 || Instant::now() >= self.next_mark {
            self.mark().await?;
        }
        if taken < BATCH_MUTATIONS_MAX {
            self.pause(taken > 0).await;
        }
        Ok(())
    }

    /// Until there may be more to send.
    async fn pause(&self, busy: bool) {
        if busy {
            // Where answers wait for this peer, a batch goes out as soon as the one before is acknowledged.
            let waited_for = self.context.shared.board().is_some();
            tokio::select! {
                biased;
                () = sleep(BATCHES_APART) => {}
                () = self.acked.notified(), if waited_for => return,
            }
        }
        tokio::select! {
            biased;
            () = self.context.shared.owed(self.peer) => {}
            () = self.acked.notified() => {}
            () = sleep_until(self.next_mark) => {}
        }
    }

    async fn send(&mut self, slice: &[Owed]) -> Result<(), LinkStopped> {
        let raw: Vec<_> = slice.iter().filter_map(unread).filter(is_raw).map(|item| item.key).collect();
        let mut raw = raw::read(&self.context.config, &raw).await.map_err(|_| LinkStopped::Upstream)?;
        let unread_by_text = slice.iter().filter_map(unread).filter(|item| !is_raw(item));
        self.reader.ask(unread_by_text).await.map_err(|_| LinkStopped::Upstream)?;
        for owed in slice {
            match owed {
                Owed::Flush { version, delay_ms } => {
                    let delay_s = u32::try_from(delay_ms.div_ceil(1000)).unwrap_or(u32::MAX);
                    Message::Flush { delay_s, tag: self.tag(*version) }.encode(&mut self.out);
                }
                Owed::Key { key, version, effect: Effect::Removed | Effect::None, .. } => {
                    self.gone(key, *version)
                }
                Owed::Key {
                    key, version, effect: Effect::Item { payload: Some(payload), marks }, ..
                } => {
                    let found = Found {
                        flags: payload.flags,
                        expiry: payload.expiry,
                        value: payload.value.clone(),
                        marks: *marks,
                        cas: None,
                    };
                    self.item(key, *version, &found);
                }
                Owed::Key { key, version, .. } => {
                    let found = match unread(owed) {
                        Some(item) if is_raw(&item) => Ok(raw.remove(item.key)),
                        Some(item) => self.reader.answer(item).await,
                        None => Ok(None),
                    };
                    match found.map_err(|_| LinkStopped::Upstream)? {
                        Some(found) => self.item(key, *version, &found),
                        None => {
                            self.context.links.change(self.peer.0, |link| link.counters.read_misses += 1);
                            self.gone(key, *version);
                        }
                    }
                }
            }
            if self.out.len() >= WRITE_BYTES {
                self.write().await?;
            }
        }
        self.reader.finish().await.map_err(|_| LinkStopped::Upstream)
    }

    fn item(&mut self, key: &[u8], version: Version, found: &Found) {
        let cas = self.cas_beside(version, found.cas);
        if !self.said_again && cas.is_some_and(|cas| cas != 0 && cas < version.time()) {
            self.context.shared.lock().note_said_again();
            self.said_again = true;
        }
        item_message(key, self.tag(version), found, cas).encode(&mut self.out);
    }

    /// What is read may be newer than its version, or may have changed without a new CAS: the CAS it has here goes beside
    /// the version, if it is one that is good elsewhere.
    fn cas_beside(&self, version: Version, read: Option<u64>) -> Option<u64> {
        let cas = read.filter(|_| self.context.shared.is_versioned())?;
        if !Version::is_reading(cas) {
            return Some(0);
        }
        (cas != version.time()).then_some(cas)
    }

    fn gone(&mut self, key: &[u8], version: Version) {
        Message::Delete { key: Cow::Borrowed(key), tag: self.tag(version) }.encode(&mut self.out);
    }

    /// Everything taken stands before it in the stream: only so the mark is true.
    async fn mark(&mut self) -> Result<(), LinkStopped> {
        let takes = self.context.shared.takes_versions();
        if let Some(takes_versions) = takes.filter(|_| self.told != takes) {
            Message::Server { takes_versions }.encode(&mut self.out);
            self.told = takes;
        }
        let leaving = self.context.drain.is_cancelled();
        let (mark, loss, unfilled) = {
            let mut replica = self.context.shared.lock();
            self.goodbye = leaving && replica.may_leave(self.peer);
            (
                replica.mark(self.peer, wall_clock_ms()),
                replica.told_loss(self.peer),
                replica.warming().is_some(),
            )
        };
        let tag = self.tag(mark.version);
        Message::Mark { tag, owed: mark.owed, loss, unfilled }.encode(&mut self.out);
        if self.goodbye {
            Message::Goodbye { unfilled }.encode(&mut self.out);
        }
        self.next_mark = Instant::now() + MARKS_APART;
        self.write().await
    }

    async fn write(&mut self) -> Result<(), LinkStopped> {
        self.stream.write_all(&self.out).await.map_err(|_| LinkStopped::Closed)?;
        let sent = self.out.len() as u64;
        self.context.links.change(self.peer.0, |link| link.counters.sent_bytes += sent);
        self.out.clear();
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// All we send was born here.
    fn tag(&self, version: Version) -> Tag<'a> {
        Tag { site: &self.context.identity.site, time: version.time() }
    }
}

/// An item is sent with the time it has left now. One whose time is up is a deletion.
pub(in crate::link) fn item_message<'m>(
    key: &'m [u8],
    tag: Tag<'m>,
    found: &'m Found,
    cas: Option<u64>,
) -> Message<'m> {
    let exptime = found.expiry.to_exptime(wall_clock_ms() / 1000);
    let key = Cow::Borrowed(key);
    // memcached reads 31 bits: what lies beyond 2038 ends there, as it does here.
    let Some(exptime) = exptime.map(|exptime| exptime.clamp(0, i32::MAX.into()) as u32) else {
        return Message::Delete { key, tag };
    };
    if found.marks.vivified && found.value.is_empty() {
        return Message::Vivify { key, exptime, tag };
    }
    let Marks { stale, won, .. } = found.marks;
    Message::Item(Item { key, tag, flags: found.flags, exptime, stale, won, cas, value: &found.value })
}

/// An item that has to be read before it is sent.
fn unread(owed: &Owed) -> Option<Unread<'_>> {
    let Owed::Key { key, version, effect, marks_unsure } = owed else { return None };
    let marks = match effect {
        Effect::Item { payload: None, marks } => *marks,
        Effect::Unknown => Marks::default(),
        _ => return None,
    };
    Some(Unread { key, version: *version, marks, unsure: *marks_unsure })
}

/// No text command can name it.
fn is_raw(item: &Unread<'_>) -> bool {
    !is_speakable(item.key)
}

const BATCH_MUTATIONS_MAX: usize = 512;
/// Reads asked for at once: their requests fit into any socket's buffer, so memcached never waits for us to read
/// while we wait for it.
const SLICE_MUTATIONS: usize = 64;
const BATCHES_APART: Duration = Duration::from_millis(1);
/// Also the heartbeat.
const MARKS_APART: Duration = Duration::from_millis(100);
const WRITE_BYTES: usize = 256 << 10;
/// A buffer that once held a huge value is not kept.
const OUT_BYTES_KEPT: usize = 1 << 20;
