//! One site: a replica, its memcached, the upstream connections between them, and both ends of its links.
//!
//! A request on a lane is executed some time after it was sent and answered some time after that, in order. A lane
//! that breaks has executed some of what was sent, and answers nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};

use memcloud_proxy::replication::{Bounds, Effect, Marks, Offer, Owed, PeerId, Replica, Slot, Version};

use crate::memcached::{Command, Item, Memcached};
use crate::rng::Rng;

pub(crate) const SESSION_LANES: usize = 2;

/// A message from a dialer to an acceptor.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Put { key: Vec<u8>, version: Version, item: Option<Item> },
    Flush { version: Version, delay_ms: u64 },
    Mark { version: Version, owed: u64 },
}

/// A request to memcached, with what is to be done about its answer.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Write { slot: Slot, promised: Option<Version>, key: Vec<u8>, command: Command },
    Flush,
    Mirror { slot: Slot, from: usize, place: u64, key: Vec<u8>, version: Version, item: Option<Item> },
    MirrorFlush { from: usize, place: u64, version: Version },
    Drop { slot: Slot, key: Vec<u8>, from: usize, place: u64 },
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    sent: VecDeque<Request>,
    executed: VecDeque<(Request, Effect)>,
}

/// What goes on when a gate opens.
#[derive(Debug)]
enum Job {
    Write { lane: usize, key: Vec<u8>, command: Command },
    Flush,
    Mirror { from: usize, link: u64, message: Message },
}

/// The receiving end of a link.
#[derive(Debug, Default)]
pub(crate) struct Acceptor {
    /// Counts links from this peer, so that what belongs to an older one is known.
    link: u64,
    /// Messages in order, with whether they are answered; a mark is answered when it is reached.
    log: VecDeque<(u64, Option<Message>, bool)>,
    next_place: u64,
    processed: u64,
    pub(crate) stalled: bool,
}

/// What was last known of a key at the end of a write: a ledger that never forgets.
pub(crate) type Truth = BTreeMap<Vec<u8>, (Version, Option<Option<Item>>)>;

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) replica: Replica<u64>,
    pub(crate) memcached: Memcached,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) acceptors: Vec<Acceptor>,
    /// Taken by the dialer to each peer, not written yet.
    pub(crate) outbox: Vec<VecDeque<Owed>>,
    pub(crate) clock_skew_ms: u64,
    pub(crate) run: u64,
    pub(crate) shadow: BTreeMap<Vec<u8>, Version>,
    pub(crate) lanes_broken: u64,
    /// Versions are given when writes begin, as beside a memcached that is told them; it may come and go.
    pub(crate) promises: bool,
    jobs: HashMap<u64, Job>,
    next_job: u64,
    me: usize,
}

impl Site {
    pub(crate) fn new(me: usize, sites: usize, bounds: Bounds, clock_skew_ms: u64) -> Self {
        Self {
            replica: Replica::new(&format!("site-{me}"), sites - 1, bounds),
            memcached: Memcached::default(),
            lanes: (0..SESSION_LANES + sites).map(|_| Lane::default()).collect(),
            acceptors: (0..sites).map(|_| Acceptor::default()).collect(),
            outbox: (0..sites).map(|_| VecDeque::new()).collect(),
            clock_skew_ms,
            run: 1,
            shadow: BTreeMap::new(),
            lanes_broken: 0,
            promises: false,
            jobs: HashMap::new(),
            next_job: 0,
            me,
        }
    }

    /// The proxy starts again: what it knew is gone, its memcached is not. Nothing may be in flight.
    pub(crate) fn restart(&mut self, sites: usize, bounds: Bounds, clock_skew_ms: u64) {
        assert!(self.is_quiet());
        self.replica = Replica::new(&format!("site-{}", self.me), sites - 1, bounds);
        self.clock_skew_ms = clock_skew_ms;
        self.run += 1;
        self.shadow.clear();
    }

    /// Every other site is a peer; ids skip our own index.
    pub(crate) fn peer(&self, site: usize) -> PeerId {
        PeerId(if site < self.me { site } else { site - 1 })
    }

    fn job(&mut self, job: Job) -> u64 {
        self.next_job += 1;
        self.jobs.insert(self.next_job, job);
        self.next_job
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.jobs.is_empty() && self.lanes.iter().all(|lane| lane.sent.is_empty() && lane.executed.is_empty())
    }

    // ---- writes of apps

    pub(crate) fn write(&mut self, lane: usize, key: Vec<u8>, command: Command, now_ms: u64) {
        let job = self.job(Job::Write { lane, key: key.clone(), command: command.clone() });
        if let Some(slot) = self.replica.begin(&key, lane as u32, || job) {
            self.jobs.remove(&job);
            self.send_write(slot, lane, key, command, now_ms);
        }
    }

    fn send_write(&mut self, slot: Slot, lane: usize, key: Vec<u8>, command: Command, now_ms: u64) {
        let promised = self.promises.then(|| self.replica.promise(now_ms + self.clock_skew_ms));
        self.lanes[lane].sent.push_back(Request::Write { slot, promised, key, command });
    }

    /// Says what a write did; answers the version it has if it did something.
    fn end_write(
        &mut self,
        (slot, promised, key): (Slot, Option<Version>, &[u8]),
        effect: Effect,
        now_ms: u64,
        woken: &mut Vec<(u64, Slot)>,
    ) -> Option<Version> {
        let changed = effect != Effect::None;
        let kept = promised.filter(|version| {
            effect != Effect::Unknown && self.shadow.get(key).is_none_or(|known| known < version)
        });
        match promised {
            Some(version) => self.replica.complete_promised(slot, version, effect, now_ms, woken),
            None => self.replica.complete(slot, effect, now_ms, woken),
        };
        // Asked of the clock: under a tight bound the ledger may have forgotten the key already.
        changed.then(|| kept.unwrap_or(self.replica.latest()))
    }

    pub(crate) fn flush(&mut self, lane: usize) {
        let job = self.job(Job::Flush);
        if self.replica.begin_flush(|| job) {
            self.jobs.remove(&job);
            self.lanes[lane].sent.push_back(Request::Flush);
        }
    }

    /// Memcached hears nothing of it before it is due.
    pub(crate) fn flush_later(&mut self, now_ms: u64, delay_ms: u64) {
        let now_ms = now_ms + self.clock_skew_ms;
        self.replica.schedule_flush(now_ms + delay_ms, now_ms);
    }

    // ---- upstream

    /// Memcached executes the next request of a lane.
    pub(crate) fn execute(&mut self, lane: usize) -> bool {
        let Some(request) = self.lanes[lane].sent.pop_front() else { return false };
        let effect = match &request {
            Request::Write { key, command, .. } => self.memcached.run(key, command.clone()),
            Request::Mirror { key, item: Some(item), .. } => {
                self.memcached.run(key, Command::Set(item.clone()))
            }
            Request::Drop { slot: Slot::FLUSH, .. } => {
                self.memcached.flush();
                Effect::None
            }
            Request::Mirror { key, .. } | Request::Drop { key, .. } => {
                self.memcached.run(key, Command::Delete)
            }
            Request::Flush | Request::MirrorFlush { .. } => {
                self.memcached.flush();
                Effect::None
            }
        };
        self.lanes[lane].executed.push_back((request, effect));
        true
    }

    /// The next answer of a lane arrives.
    pub(crate) fn answer(&mut self, lane: usize, now_ms: u64, rng: &mut Rng, truth: &mut Truth) -> bool {
        let Some((request, effect)) = self.lanes[lane].executed.pop_front() else { return false };
        let mut woken = Vec::new();
        match request {
            Request::Write { slot, promised, key, .. } => {
                let outcome = match &effect {
                    Effect::Item { payload: Some(payload), .. } => {
                        Some(Some(Item { value: payload.value.clone(), expiry: payload.expiry }))
                    }
                    Effect::Removed => Some(None),
                    // Changed in place: what it is now shows when it is read.
                    _ => None,
                };
                let now_ms = now_ms + self.clock_skew_ms;
                let version = self.end_write((slot, promised, &key), effect, now_ms, &mut woken);
                if let Some(version) = version {
                    self.note_local(&key, version, outcome, truth);
                }
            }
            Request::Flush => {
                self.replica.complete_flush(true, now_ms + self.clock_skew_ms, &mut woken);
                self.note_flush(truth);
            }
            Request::Mirror { slot, from, place, key, version, .. } => {
                let before = self.shadow.insert(key, version);
                assert!(before.is_none_or(|before| before < version), "{before:?} then {version:?}");
                self.replica.applied(slot, self.peer(from), version, &mut woken);
                self.processed(from, place);
            }
            Request::MirrorFlush { from, place, version } => {
                let now_ms = now_ms + self.clock_skew_ms;
                self.replica.applied_flush(self.peer(from), version, now_ms, &mut woken);
                self.note_flush(truth);
                self.processed(from, place);
            }
            Request::Drop { slot, key, from, place } => {
                let now_ms = now_ms + self.clock_skew_ms;
                if slot == Slot::FLUSH {
                    self.replica.complete_flush(true, now_ms, &mut woken);
                    self.note_flush(truth);
                } else {
                    self.replica.complete(slot, Effect::Removed, now_ms, &mut woken);
                    self.note_local(&key, self.replica.latest(), Some(None), truth);
                }
                self.processed(from, place);
            }
        }
        self.wake(woken, now_ms, rng);
        true
    }

    /// The connection of a lane breaks. Some of what was sent is executed; nothing is answered.
    pub(crate) fn break_lane(&mut self, lane: usize, now_ms: u64, rng: &mut Rng, truth: &mut Truth) {
        self.lanes_broken += 1;
        while rng.chance(600) && self.execute(lane) {}
        let lane = std::mem::take(&mut self.lanes[lane]);
        let now_ms = now_ms + self.clock_skew_ms;
        let mut woken = Vec::new();
        for request in lane.executed.into_iter().map(|(request, _)| request).chain(lane.sent) {
            match request {
                Request::Write { slot, promised, key, .. } => {
                    let version = self.end_write((slot, promised, &key), Effect::Unknown, now_ms, &mut woken);
                    self.note_local(&key, version.expect("it may have changed"), None, truth);
                }
                Request::Flush => self.replica.flush_unknown(now_ms, &mut woken),
                Request::Mirror { slot, from, .. } | Request::Drop { slot, from, .. } => {
                    self.replica.abandon(slot, self.peer(from), &mut woken);
                }
                Request::MirrorFlush { from, .. } => {
                    self.replica.abandon(Slot::FLUSH, self.peer(from), &mut woken);
                }
            }
        }
        self.wake(woken, now_ms - self.clock_skew_ms, rng);
    }

    fn wake(&mut self, woken: Vec<(u64, Slot)>, now_ms: u64, rng: &mut Rng) {
        let mut woken = VecDeque::from(woken);
        while let Some((job, slot)) = woken.pop_front() {
            let mut more = Vec::new();
            match self.jobs.remove(&job).expect("a job is woken once") {
                // The session is gone.
                Job::Write { .. } if rng.chance(50) => {
                    self.replica.complete(slot, Effect::None, now_ms, &mut more);
                }
                Job::Write { lane, key, command } => self.send_write(slot, lane, key, command, now_ms),
                Job::Flush => self.lanes[0].sent.push_back(Request::Flush),
                Job::Mirror { from, link, .. } if link != self.acceptors[from].link => {
                    self.replica.abandon(slot, self.peer(from), &mut more);
                }
                Job::Mirror { from, message, .. } => {
                    self.acceptors[from].stalled = false;
                    let version = match &message {
                        Message::Put { version, .. } | Message::Flush { version, .. } => *version,
                        Message::Mark { .. } => unreachable!("marks pass no gate"),
                    };
                    let offer = self.replica.reoffer(slot, self.peer(from), version, &mut more);
                    self.follow(offer, from, message);
                }
            }
            woken.extend(more);
        }
    }

    // ---- the receiving end

    pub(crate) fn accept(&mut self, from: usize, run: u64) {
        self.acceptors[from] = Acceptor { link: self.acceptors[from].link + 1, ..Acceptor::default() };
        self.replica.inbound_connected(self.peer(from), run);
    }

    pub(crate) fn hang_up(&mut self, from: usize, now_ms: u64, rng: &mut Rng, truth: &mut Truth) {
        let lane = SESSION_LANES + from;
        if rng.chance(500) {
            while self.execute(lane) {}
            while self.answer(lane, now_ms, rng, truth) {}
        }
        self.break_lane(lane, now_ms, rng, truth);
        self.acceptors[from].link += 1;
        self.acceptors[from].stalled = false;
        self.replica.inbound_disconnected(self.peer(from));
    }

    pub(crate) fn receive(&mut self, from: usize, message: Message, now_ms: u64) {
        let now_ms = now_ms + self.clock_skew_ms;
        let peer = self.peer(from);
        let link = self.acceptors[from].link;
        let lane = (SESSION_LANES + from) as u32;
        let job = self.job(Job::Mirror { from, link, message: message.clone() });
        let offer = match &message {
            Message::Put { key, version, .. } => {
                self.replica.offer(peer, key, *version, lane, now_ms, || job)
            }
            Message::Flush { version, delay_ms: 0 } => {
                self.replica.offer_flush(peer, *version, now_ms, || job)
            }
            Message::Flush { version, delay_ms } => {
                let settled = self.replica.heard_scheduled_flush(peer, *version, now_ms + delay_ms, now_ms);
                assert!(settled, "clocks are near enough");
                // There is nothing else to be done about it.
                Offer::Superseded
            }
            Message::Mark { version, owed } => {
                let mark = Message::Mark { version: *version, owed: *owed };
                self.acceptors[from].log.push_back((u64::MAX, Some(mark), true));
                self.jobs.remove(&job);
                self.process(from, now_ms);
                return;
            }
        };
        assert_ne!(offer, Offer::Echo, "a mutation came home");
        assert_ne!(offer, Offer::Skewed, "clocks are near enough");
        if offer == Offer::Waiting {
            self.acceptors[from].stalled = true;
            return;
        }
        self.jobs.remove(&job);
        self.follow(offer, from, message);
        self.process(from, now_ms);
    }

    fn follow(&mut self, offer: Offer, from: usize, message: Message) {
        let place = self.acceptors[from].next_place;
        self.acceptors[from].next_place += 1;
        let request = match (offer, message) {
            (Offer::Apply(slot), Message::Put { key, version, item }) => {
                Request::Mirror { slot, from, place, key, version, item }
            }
            (Offer::Apply(_), Message::Flush { version, .. }) => {
                Request::MirrorFlush { from, place, version }
            }
            (Offer::Drop(slot), Message::Put { key, .. }) => Request::Drop { slot, key, from, place },
            (Offer::Drop(slot), _) => Request::Drop { slot, key: Vec::new(), from, place },
            _ => {
                self.acceptors[from].log.push_back((place, None, true));
                return;
            }
        };
        self.acceptors[from].log.push_back((place, None, false));
        self.lanes[SESSION_LANES + from].sent.push_back(request);
    }

    fn processed(&mut self, from: usize, place: u64) {
        for entry in self.acceptors[from].log.iter_mut().filter(|entry| entry.0 == place) {
            entry.2 = true;
        }
    }

    /// Counts what is answered, and hears the marks behind it. Returns what to acknowledge.
    pub(crate) fn process(&mut self, from: usize, now_ms: u64) -> u64 {
        while self.acceptors[from].log.front().is_some_and(|entry| entry.2) {
            match self.acceptors[from].log.pop_front() {
                Some((_, Some(Message::Mark { version, owed }), _)) => {
                    self.replica.heard_mark(self.peer(from), version, owed, now_ms);
                }
                _ => self.acceptors[from].processed += 1,
            }
        }
        self.acceptors[from].processed
    }

    // ---- the sending end

    /// The dialer writes what it took, reading the item where it is not in hand.
    pub(crate) fn next_message(&mut self, to: usize) -> Option<Message> {
        Some(match self.outbox[to].pop_front()? {
            Owed::Flush { version, delay_ms } => Message::Flush { version, delay_ms },
            Owed::Key { key, version, effect, .. } => {
                let item = match effect {
                    Effect::Item { payload: Some(payload), marks } => {
                        assert_eq!(marks, Marks::default());
                        Some(Item { value: payload.value, expiry: payload.expiry })
                    }
                    Effect::Item { payload: None, .. } => self.memcached.items.get(&*key).cloned(),
                    Effect::Removed => None,
                    effect => panic!("{effect:?} is not owed"),
                };
                Message::Put { key: key.to_vec(), version, item }
            }
        })
    }

    // ---- what is compared in the end

    fn note_local(&mut self, key: &[u8], version: Version, outcome: Option<Option<Item>>, truth: &mut Truth) {
        let before = self.shadow.insert(key.to_vec(), version);
        assert!(before.is_none_or(|before| before < version), "{before:?} then {version:?}");
        note(truth, key, version, outcome);
    }

    fn note_flush(&mut self, truth: &mut Truth) {
        let keys: Vec<_> = self.shadow.keys().chain(truth.keys()).cloned().collect();
        for key in keys {
            let before = self.shadow.get(&key).copied().unwrap_or(Version::ZERO);
            let known = self.replica.known(&key);
            // What was newer than the flush got a fresh version, even if the bound made it forgotten at once.
            let version = if known < before { self.replica.latest() } else { known };
            self.shadow.insert(key.clone(), version);
            note(truth, &key, version, Some(None));
        }
    }
}

fn note(truth: &mut Truth, key: &[u8], version: Version, outcome: Option<Option<Item>>) {
    let newest = truth.entry(key.to_vec()).or_insert((Version::ZERO, None));
    if version > newest.0 {
        *newest = (version, outcome);
    }
}
