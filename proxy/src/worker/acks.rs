//! Answers of this worker that wait until peers have what was written: `--ack peer`.
//!
//! ```text
//!  upstream: batch answered ─ complete: stamped ─► hold ─► session's Out keeps the answers
//!                                                    │
//!             dialer: ack ─► Board ─► woken ──► settle: release, flush       deadline ──► late: the peer is behind
//! ```
//!
//! What is held is a batch of one session, under the newest version of the batch: versions rise, so what waits stands in
//! order, and one look at the front says whether anything is over. There is one task and one timer for a worker, not for
//! a write. A write that need not wait, because no live peer lacks it, is never held.
//!
//! Refuses to know what the answers are; that is `downstream/out.rs`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::downstream::{Downstream, HoldId};
use crate::metrics::{AckOutcome, WorkerCounters};
use crate::replication::{Progress, Shared, Version};

/// What `--ack peer` means for a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckSettings {
    /// How long an answer waits.
    pub(crate) timeout: Duration,
    /// How long it waits at most once the proxy drains.
    pub(crate) drain: Duration,
    /// The app hears an error when not every peer has its write.
    pub(crate) fail: bool,
}

/// The waiting answers of one worker.
pub(crate) struct Acks {
    settings: AckSettings,
    worker: usize,
    shared: Arc<Shared>,
    counters: Arc<WorkerCounters>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// The earliest deadline that does not stand in order.
    early: Cell<Option<Instant>>,
    /// When the task looks next by itself.
    alarm: Cell<Instant>,
    set_alarm: Notify,
    /// The proxy stops: nobody waits for longer.
    last_moment: Cell<Option<Instant>>,
}

struct Waiting {
    version: Version,
    since: Instant,
    deadline: Instant,
    writes: u32,
    hold: HoldId,
    downstream: Weak<Downstream>,
}

impl Acks {
    pub(crate) fn new(
        settings: AckSettings,
        worker: usize,
        shared: Arc<Shared>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        Self {
            settings,
            worker,
            shared,
            counters,
            waiting: RefCell::default(),
            early: Cell::new(None),
            alarm: Cell::new(Instant::now()),
            set_alarm: Notify::new(),
            last_moment: Cell::new(None),
        }
    }

    /// Whether answers may have to give way to errors.
    pub(crate) fn may_fail(&self) -> bool {
        self.settings.fail
    }

    /// How long an answer waits at most.
    pub(crate) fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Answers of this session, complete `since` then, wait until every live peer has `version`. If they need not,
    /// they leave with the next flush.
    pub(crate) fn hold(
        &self,
        downstream: &Rc<Downstream>,
        (hold, writes): (HoldId, u32),
        version: Version,
        since: Instant,
    ) {
        let deadline = since + self.settings.timeout;
        let deadline = self.last_moment.get().map_or(deadline, |last| deadline.min(last));
        let held = Waiting { version, since, deadline, writes, hold, downstream: Rc::downgrade(downstream) };
        if let Some(ended) = self.ended(version) {
            return self.end(&held, downstream, ended);
        }
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.is_empty();
        if waiting.back().is_some_and(|last| last.deadline > deadline) {
            self.early.set(Some(self.early.get().map_or(deadline, |early| early.min(deadline))));
        }
        waiting.push_back(held);
        drop(waiting);
        if first {
            self.wait_for_front();
            // It may have come between the two looks, and nobody would wake us.
            self.settle();
        }
        if deadline < self.alarm.get() {
            self.set_alarm.notify_one();
        }
    }

    /// A write of this session could not even be stamped in time.
    pub(crate) fn too_late(
        &self,
        downstream: &Rc<Downstream>,
        (hold, writes): (HoldId, u32),
        since: Instant,
    ) {
        let version = Version::ZERO;
        let held = Waiting { version, since, deadline: since, writes, hold, downstream: Weak::new() };
        self.end(&held, downstream, AckOutcome::Timeout);
    }

    /// Releases whatever is over, for as long as the worker lives.
    pub(crate) async fn run(self: Rc<Self>, drain: CancellationToken) {
        let mut drains = false;
        loop {
            let alarm = self.next_deadline().unwrap_or_else(|| Instant::now() + IDLE);
            self.alarm.set(alarm);
            tokio::select! {
                biased;
                () = self.shared_changed() => {}
                () = sleep_until(alarm) => {}
                () = self.set_alarm.notified() => {}
                () = drain.cancelled(), if !drains => {
                    drains = true;
                    self.hurry();
                }
            }
            self.settle();
            self.expire();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let front = self.waiting.borrow().front().map(|held| held.deadline);
        [front, self.early.get()].into_iter().flatten().min()
    }

    async fn shared_changed(&self) {
        match self.shared.board() {
            Some(board) => board.changed(self.worker).await,
            None => std::future::pending().await,
        }
    }

    /// The proxy stops: what waits may do so a little longer, and no more.
    fn hurry(&self) {
        let last = Instant::now() + self.settings.drain;
        self.last_moment.set(Some(last));
        for held in &mut *self.waiting.borrow_mut() {
            held.deadline = held.deadline.min(last);
        }
    }

    /// Ends the waits that are over.
    fn settle(&self) {
        let mut flush = Vec::new();
        loop {
            let Some(version) = self.waiting.borrow().front().map(|held| held.version) else { break };
            let Some(ended) = self.ended(version) else { break };
            let Some(held) = self.waiting.borrow_mut().pop_front() else { break };
            self.end_one(&held, ended, &mut flush);
        }
        self.wait_for_front();
        flush.iter().for_each(|downstream: &Rc<Downstream>| downstream.flush());
    }

    /// Ends the waits whose time is up, and has nobody wait for who was late.
    fn expire(&self) {
        let now = Instant::now();
        if self.next_deadline().is_none_or(|next| next > now) {
            return;
        }
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        let (expired, left): (Vec<_>, _) = waiting.into_iter().partition(|held| held.deadline <= now);
        self.early.set(left.iter().map(|held: &Waiting| held.deadline).min());
        *self.waiting.borrow_mut() = left.into();
        let Some(newest) = expired.iter().map(|held| held.version).max() else { return };
        self.shared.lock().late(newest);
        let mut flush = Vec::new();
        for held in &expired {
            self.end_one(held, AckOutcome::Timeout, &mut flush);
        }
        flush.iter().for_each(|downstream: &Rc<Downstream>| downstream.flush());
        // What was behind them waits for fewer peers now.
        self.settle();
    }

    fn end_one(&self, held: &Waiting, ended: AckOutcome, flush: &mut Vec<Rc<Downstream>>) {
        if let Some(downstream) = held.downstream.upgrade() {
            self.end(held, &downstream, ended);
            if downstream.touch() {
                flush.push(downstream);
            }
        }
    }

    fn end(&self, held: &Waiting, downstream: &Downstream, ended: AckOutcome) {
        let failed = match ended {
            AckOutcome::Degraded if self.settings.fail => Some(AWAY),
            AckOutcome::Timeout if self.settings.fail => Some(LATE),
            _ => None,
        };
        let outcome = if failed.is_some() { AckOutcome::Failed } else { ended };
        let waited = u64::try_from(held.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.acknowledged(outcome, waited, held.writes.into());
        downstream.release(held.hold, failed);
    }

    /// How the wait for this version ended, if it has.
    fn ended(&self, version: Version) -> Option<AckOutcome> {
        match self.shared.board().map(|board| board.look(version)) {
            Some(Progress::Waiting) => None,
            Some(Progress::Everywhere) => Some(AckOutcome::Peer),
            Some(Progress::Degraded) | None => Some(AckOutcome::Degraded),
        }
    }

    fn wait_for_front(&self) {
        if let Some(board) = self.shared.board() {
            board.wait_for(self.worker, self.waiting.borrow().front().map(|held| held.version));
        }
    }
}

/// What an app hears instead of its answer. The write stands all the same.
const AWAY: &str = "done here, but a peer is away";
const LATE: &str = "done here, but a peer has not confirmed it in time";
/// Nothing waits: any time will do.
const IDLE: Duration = Duration::from_secs(60);
