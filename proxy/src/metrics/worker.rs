//! What one worker thread counts, for less than a nanosecond a time.
//!
//! Each counter has one writer, the worker that owns it, and any number of readers. So an increment is a load
//! and a store, both relaxed: no lock, no read-modify-write instruction, no cache line that two workers write.
//! A shared counter would cost some hundred times as much as soon as two workers count at once.
//!
//! It promises that no increment is lost while the owner alone writes. It refuses to know how a scrape looks.

use std::sync::atomic::{AtomicU64, Ordering};

use memcloud_protocol::memcache::Dialect;

use super::histogram::{BUCKETS, Snapshot, bucket_of};
use super::names::{AckOutcome, CommandName, Refusal, UpstreamFault};

/// The counters of one worker. Aligned so that no two workers share a cache line (pairs of 64 bytes are fetched
/// together).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    requests: [[Counter; CommandName::ALL.len()]; DIALECTS],
    durations: [Counter; BUCKETS],
    duration_sum_us: Counter,
    received_bytes: Counter,
    sent_bytes: Counter,
    sessions_opened: Counter,
    sessions_closed: Counter,
    tunnels_opened: Counter,
    served_by_peers: Counter,
    tunnels_closed: Counter,
    sessions_refused: [Counter; Refusal::ALL.len()],
    slow_readers: Counter,
    upstream_faults: [Counter; UpstreamFault::ALL.len()],
    gate_waits: Counter,
    acks: [Counter; AckOutcome::ALL.len()],
    ack_waits: [Counter; BUCKETS],
    ack_wait_sum_us: Counter,
    beats: Counter,
}

/// Written by one thread, read by any.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.store(self.value().wrapping_add(count), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl WorkerCounters {
    /// A request was answered.
    pub fn request(&self, dialect: Dialect, command: CommandName) {
        if let Some(counter) = self.requests.get(row(dialect)).and_then(|row| row.get(command as usize)) {
            counter.add(1);
        }
    }

    /// So many requests took `us` microseconds each.
    pub fn duration_us(&self, us: u64, count: u64) {
        if let Some(counter) = self.durations.get(bucket_of(us)) {
            counter.add(count);
        }
        self.duration_sum_us.add(us.saturating_mul(count));
    }

    /// Bytes came from apps.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.add(bytes);
    }

    /// Bytes went to apps.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.add(bytes);
    }

    /// An app was let in, perhaps one of a peer's.
    pub fn session_opened(&self, tunnelled: bool) {
        self.sessions_opened.add(1);
        self.tunnels_opened.add(tunnelled.into());
    }

    /// A session that was opened is over.
    pub fn session_closed(&self, tunnelled: bool) {
        self.sessions_closed.add(1);
        self.tunnels_closed.add(tunnelled.into());
    }

    /// An app was turned away.
    pub fn session_refused(&self, why: Refusal) {
        if let Some(counter) = self.sessions_refused.get(why as usize) {
            counter.add(1);
        }
    }

    /// A session was closed because its app did not read its answers.
    pub fn slow_reader_closed(&self) {
        self.slow_readers.add(1);
    }

    /// A peer has answered a request of an app of this site.
    pub fn served_by_peer(&self) {
        self.served_by_peers.add(1);
    }

    /// A connection to memcached failed.
    pub fn upstream_error(&self, fault: UpstreamFault) {
        if let Some(counter) = self.upstream_faults.get(fault as usize) {
            counter.add(1);
        }
    }

    /// A write waited for another write of its key.
    pub fn gate_wait(&self) {
        self.gate_waits.add(1);
    }

    /// So many writes waited `us` microseconds for their peers.
    pub fn acknowledged(&self, outcome: AckOutcome, us: u64, writes: u64) {
        if let Some(counter) = self.acks.get(outcome as usize) {
            counter.add(writes);
        }
        if let Some(counter) = self.ack_waits.get(bucket_of(us)) {
            counter.add(writes);
        }
        self.ack_wait_sum_us.add(us.saturating_mul(writes));
    }

    /// How many writes that waited for peers ended so.
    pub fn acks(&self, outcome: AckOutcome) -> u64 {
        self.acks.get(outcome as usize).map_or(0, Counter::value)
    }

    /// The event loop has turned: to be called by a ticker of the worker, at least once a second.
    pub fn beat(&self) {
        self.beats.add(1);
    }

    /// How often the event loop has beaten.
    pub fn beats(&self) -> u64 {
        self.beats.value()
    }

    /// Sessions open now.
    pub fn sessions(&self) -> u64 {
        // Closed is read first: between the two reads sessions may only be added, never seem negative.
        let closed = self.sessions_closed.value();
        self.sessions_opened.value().saturating_sub(closed)
    }

    /// Those of them that peers opened for their apps.
    pub fn tunnelled_sessions(&self) -> u64 {
        let closed = self.tunnels_closed.value();
        self.tunnels_opened.value().saturating_sub(closed)
    }
}

/// Everything that all workers have counted, as plain numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub(super) requests: Vec<(&'static str, CommandName, u64)>,
    pub(super) durations: Snapshot,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) sessions: u64,
    pub(super) sessions_opened: u64,
    pub(super) tunnelled: u64,
    pub(super) tunnels_opened: u64,
    pub(super) served_by_peers: u64,
    pub(super) sessions_refused: Vec<(Refusal, u64)>,
    pub(crate) slow_readers: u64,
    pub(super) upstream_faults: Vec<(UpstreamFault, u64)>,
    pub(super) gate_waits: u64,
    pub(super) acks: Vec<(AckOutcome, u64)>,
    pub(super) ack_waits: Snapshot,
}

impl Totals {
    /// The sum over all workers.
    pub fn of<'a>(workers: impl IntoIterator<Item = &'a WorkerCounters> + Clone) -> Self {
        let all = |of: fn(&WorkerCounters) -> u64| workers.clone().into_iter().map(of).sum();
        let each = |of: fn(&WorkerCounters) -> &[Counter], label: usize| {
            workers.clone().into_iter().filter_map(|w| of(w).get(label)).map(Counter::value).sum()
        };
        let mut requests = Vec::new();
        for dialect in [Dialect::Text, Dialect::Binary] {
            for &command in CommandName::ALL {
                let counters = workers
                    .clone()
                    .into_iter()
                    .filter_map(|w| w.requests.get(row(dialect))?.get(command as usize));
                let count = counters.map(Counter::value).sum();
                requests.push((dialect_label(dialect, command), command, count));
            }
        }
        let mut durations = Snapshot::default();
        let mut ack_waits = Snapshot::default();
        for worker in workers.clone() {
            durations.add(worker.durations.iter().map(Counter::value), worker.duration_sum_us.value());
            ack_waits.add(worker.ack_waits.iter().map(Counter::value), worker.ack_wait_sum_us.value());
        }
        Self {
            requests,
            durations,
            received_bytes: all(|w| w.received_bytes.value()),
            sent_bytes: all(|w| w.sent_bytes.value()),
            sessions: all(WorkerCounters::sessions),
            sessions_opened: all(|w| w.sessions_opened.value()),
            tunnelled: all(WorkerCounters::tunnelled_sessions),
            tunnels_opened: all(|w| w.tunnels_opened.value()),
            served_by_peers: all(|w| w.served_by_peers.value()),
            sessions_refused: by_label(Refusal::ALL, |why| each(|w| &w.sessions_refused, why as usize)),
            slow_readers: all(|w| w.slow_readers.value()),
            upstream_faults: by_label(UpstreamFault::ALL, |fault| {
                each(|w| &w.upstream_faults, fault as usize)
            }),
            gate_waits: all(|w| w.gate_waits.value()),
            acks: by_label(AckOutcome::ALL, |outcome| each(|w| &w.acks, outcome as usize)),
            ack_waits,
        }
    }
}

fn by_label<L: Copy>(labels: &[L], count: impl Fn(L) -> u64) -> Vec<(L, u64)> {
    labels.iter().map(|&label| (label, count(label))).collect()
}

fn row(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Text => 0,
        Dialect::Binary => 1,
    }
}

fn dialect_label(dialect: Dialect, command: CommandName) -> &'static str {
    match dialect {
        Dialect::Text if command.is_meta() => "meta",
        Dialect::Text => "text",
        Dialect::Binary => "binary",
    }
}

const DIALECTS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let (a, b) = (WorkerCounters::default(), WorkerCounters::default());
        a.request(Dialect::Text, CommandName::Get);
        b.request(Dialect::Text, CommandName::Get);
        b.request(Dialect::Text, CommandName::MetaGet);
        b.request(Dialect::Binary, CommandName::Get);
        a.session_opened(true);
        b.session_opened(false);
        b.session_closed(false);
        a.session_refused(Refusal::Limit);
        b.upstream_error(UpstreamFault::TimedOut);
        a.duration_us(100, 3);
        let totals = Totals::of([&a, &b]);
        let asked: Vec<_> = totals.requests.iter().filter(|(_, _, count)| *count > 0).copied().collect();
        assert_eq!(
            asked,
            [
                ("text", CommandName::Get, 2),
                ("meta", CommandName::MetaGet, 1),
                ("binary", CommandName::Get, 1)
            ]
        );
        assert_eq!((totals.sessions, totals.sessions_opened), (1, 2));
        assert_eq!((totals.tunnelled, totals.tunnels_opened), (1, 1));
        assert_eq!(
            totals.sessions_refused,
            [(Refusal::Limit, 1), (Refusal::Draining, 0), (Refusal::Accept, 0)]
        );
        assert_eq!(totals.upstream_faults.last(), Some(&(UpstreamFault::TimedOut, 1)));
        assert_eq!(totals.durations.count(), 3);
    }

    #[test]
    fn every_label_has_a_counter_of_its_own() {
        for (index, &command) in CommandName::ALL.iter().enumerate() {
            assert_eq!(command as usize, index);
        }
        let labels: std::collections::HashSet<_> =
            CommandName::ALL.iter().map(|command| command.as_str()).collect();
        assert_eq!(labels.len(), CommandName::ALL.len());
    }
}
