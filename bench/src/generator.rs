//! The loop: wait, read, check, ask again.
//!
//! Closed loop: each connection has `depth` requests in flight and asks again when one is answered. Open loop: request
//! number *n* is due at *n* / rate whatever has been answered; it goes out on an idle connection if there is one, and
//! its latency counts from when it was *due*, so a target that stalls is charged for all it held up (no coordinated
//! omission).
//!
//! At depth 1 a request costs one `write`, one `read` and a share of one `epoll_wait`: edge-triggered, no arming.

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::clock::Clock;
use crate::connection::{Connection, Target};
use crate::cpu::{self, Watched};
use crate::tally::Tally;
use crate::workload::Workload;

/// How much, how long, how fast.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    pub(crate) warmup_ns: u64,
    pub(crate) measured_ns: u64,
    pub(crate) requests_max: u64,
    /// Requests a second of an open loop; 0 is closed.
    pub(crate) rate: u32,
    /// Ask again when all `depth` requests of a connection are answered, not for each one.
    pub(crate) whole_batches: bool,
}

impl Pace {
    /// As fast as it goes, so many requests.
    pub(crate) fn filling(requests: u64) -> Self {
        Self {
            warmup_ns: 0,
            measured_ns: FILLING_NS_MAX,
            requests_max: requests,
            rate: 0,
            whole_batches: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Generator {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    depth: usize,
    workload: Workload,
    clock: Clock,
    buffer: Vec<u8>,
    tally: Tally,
    sent: u64,
    in_flight: u64,
    /// Where the search for an idle connection goes on (open loop).
    next_connection: usize,
}

impl Generator {
    pub(crate) fn connect(
        target: &Target,
        connections: u16,
        depth: u16,
        workload: Workload,
    ) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        let connections: Vec<Connection> =
            (0..connections).map(|_| Connection::open(target, depth)).collect::<Result<_, _>>()?;
        for (number, connection) in connections.iter().enumerate() {
            epoll::add(&epoll, connection, EventData::new_u64(number as u64), READING).context("epoll")?;
        }
        Ok(Self {
            epoll,
            connections,
            depth: depth.into(),
            workload,
            clock: Clock::start(),
            buffer: vec![0; BUFFER_BYTES],
            tally: Tally::new()?,
            sent: 0,
            in_flight: 0,
            next_connection: 0,
        })
    }

    pub(crate) fn run(mut self, pace: &Pace, watched: &[Watched]) -> anyhow::Result<Tally> {
        let mut window = Window::opening_at(self.clock.now_ns() + pace.warmup_ns);
        let until_ns = window.from_ns + pace.measured_ns;
        let start_ns = self.clock.now_ns();
        if pace.rate == 0 {
            for number in 0..self.connections.len() {
                self.ask(number, self.depth, pace, start_ns);
            }
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let end_ns = loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= window.from_ns && !window.is_open() {
                window.open(self.clock, watched)?;
            }
            if now_ns >= until_ns
                || (self.sent >= pace.requests_max && self.in_flight == 0)
                || self.is_alone()
            {
                break now_ns;
            }
            let mut wake_ns = if window.is_open() { until_ns } else { window.from_ns };
            if pace.rate > 0 {
                wake_ns = wake_ns.min(self.ask_due(pace, start_ns, now_ns));
            }
            self.wait(&mut events, wake_ns.saturating_sub(self.clock.now_ns()))?;
            for event in events.drain(..) {
                self.turn(&event, &window, pace);
            }
        };
        window.close(self.clock, watched, &mut self.tally)?;
        self.collect_late(end_ns)?;
        Ok(self.finish())
    }

    /// Closed loop: puts up to `wanted` requests on a connection and writes them.
    fn ask(&mut self, number: usize, wanted: usize, pace: &Pace, now_ns: u64) {
        let connection = &mut self.connections[number];
        let allowed = usize::try_from(pace.requests_max - self.sent).unwrap_or(usize::MAX);
        let asked = wanted.min(allowed);
        for _ in 0..asked {
            connection.push(&mut self.workload, now_ns);
        }
        self.sent += asked as u64;
        self.in_flight += asked as u64;
        self.flush(number);
    }

    /// Open loop: sends all that is due, and returns when the next will be. What finds every connection full waits for
    /// an answer, with its due time kept.
    fn ask_due(&mut self, pace: &Pace, start_ns: u64, now_ns: u64) -> u64 {
        loop {
            if self.sent >= pace.requests_max {
                return u64::MAX;
            }
            let due_ns = start_ns + self.sent * 1_000_000_000 / u64::from(pace.rate);
            if due_ns > now_ns {
                return due_ns;
            }
            let Some(number) = self.idlest() else { return u64::MAX };
            self.connections[number].push(&mut self.workload, due_ns);
            self.sent += 1;
            self.in_flight += 1;
            self.flush(number);
        }
    }

    /// An idle connection, in turn; with none idle, the first that has room.
    fn idlest(&mut self) -> Option<usize> {
        let count = self.connections.len();
        let mut with_room = None;
        for offset in 0..count {
            let number = (self.next_connection + offset) % count;
            let connection = &self.connections[number];
            if !connection.is_open() || connection.in_flight() >= self.depth {
                continue;
            }
            with_room = with_room.or(Some(number));
            if connection.in_flight() == 0 {
                with_room = Some(number);
                break;
            }
        }
        self.next_connection = with_room.map_or(self.next_connection, |number| (number + 1) % count);
        with_room
    }

    /// One event of one connection: read, check, and in a closed loop ask again.
    fn turn(&mut self, event: &epoll::Event, window: &Window, pace: &Pace) {
        let (flags, number) = (event.flags, usize::try_from(event.data.u64()).unwrap_or(usize::MAX));
        if !self.connections[number].is_open() {
            return;
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(number);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let (answered, now_ns) = self.read(number, ended, window.is_open());
        let waits = self.connections[number].in_flight();
        if pace.rate == 0 && answered > 0 && (waits == 0 || !pace.whole_batches) {
            self.ask(number, self.depth - waits, pace, now_ns);
        }
    }

    /// Returns how many requests were answered, and when that was known.
    fn read(&mut self, number: usize, ended: bool, measured: bool) -> (usize, u64) {
        let (clock, tally) = (self.clock, &mut self.tally);
        let (mut answered, mut now_ns) = (0, 0);
        let read = self.connections[number].read(&self.workload, &mut self.buffer, ended, |expected| {
            // One look at the clock serves all that one read brought, and the requests sent in answer.
            if answered == 0 {
                now_ns = clock.now_ns();
            }
            answered += 1;
            if measured {
                tally.record(now_ns.saturating_sub(expected.due_ns));
            }
        });
        self.in_flight -= answered as u64;
        if let Err(error) = read {
            self.give_up(number, &error);
        }
        (if self.connections[number].is_open() { answered } else { 0 }, now_ns)
    }

    /// Writability is asked for only while bytes wait, which small requests never do.
    fn flush(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let was_blocked = connection.is_blocked();
        let flushed = connection.flush();
        let armed = if was_blocked || connection.is_blocked() {
            let interest = if connection.is_blocked() { READING | EventFlags::OUT } else { READING };
            epoll::modify(&self.epoll, &*connection, EventData::new_u64(number as u64), interest)
        } else {
            Ok(())
        };
        if let Err(error) = flushed.and(armed.map_err(Into::into)) {
            self.give_up(number, &error.into());
        }
    }

    fn give_up(&mut self, number: usize, error: &anyhow::Error) {
        self.connections[number].close();
        if self.tally.broken.len() < COMPLAINTS_MAX {
            self.tally.broken.push(format!("connection {number}: {error}"));
        }
    }

    fn wait(&mut self, events: &mut Vec<epoll::Event>, timeout_ns: u64) -> anyhow::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(timeout_ns % 1_000_000_000).unwrap_or(0),
        };
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }

    /// Waits, a bounded time, for the answers that are still owed: they are checked but not counted.
    fn collect_late(&mut self, end_ns: u64) -> anyhow::Result<()> {
        let give_up_ns = end_ns + LATE_NS_MAX;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while self.in_flight > 0 && !self.is_alone() {
            let now_ns = self.clock.now_ns();
            if now_ns >= give_up_ns {
                break;
            }
            self.wait(&mut events, give_up_ns - now_ns)?;
            for event in events.drain(..) {
                let (flags, number) = (event.flags, usize::try_from(event.data.u64()).unwrap_or(usize::MAX));
                if self.connections[number].is_open() {
                    self.flush(number);
                    self.read(number, flags.contains(EventFlags::RDHUP), false);
                }
            }
        }
        Ok(())
    }

    /// Every connection is lost.
    fn is_alone(&self) -> bool {
        self.connections.iter().all(|connection| !connection.is_open())
    }

    fn finish(mut self) -> Tally {
        for connection in &mut self.connections {
            self.tally.add(connection.checker.seen);
            if let Some(complaint) = connection.checker.complaint.take()
                && self.tally.broken.len() < COMPLAINTS_MAX
            {
                self.tally.broken.push(complaint);
            }
        }
        self.tally.unanswered = self.in_flight;
        self.tally
    }
}

/// The measured part of a run, with the CPU clocks read at both its ends.
#[derive(Debug)]
struct Window {
    from_ns: u64,
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    at_ns: u64,
    own_ns: u64,
    watched_ns: Vec<u64>,
}

impl Window {
    fn opening_at(from_ns: u64) -> Self {
        Self { from_ns, opened: None }
    }

    fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    fn open(&mut self, clock: Clock, watched: &[Watched]) -> anyhow::Result<()> {
        let watched_ns = watched.iter().map(Watched::spent_ns).collect::<Result<_, _>>()?;
        self.opened = Some(Opened { own_ns: cpu::own_ns()?, watched_ns, at_ns: clock.now_ns() });
        Ok(())
    }

    fn close(self, clock: Clock, watched: &[Watched], tally: &mut Tally) -> anyhow::Result<()> {
        let Some(opened) = self.opened else { return Ok(()) };
        tally.elapsed_ns = clock.now_ns() - opened.at_ns;
        tally.own_cpu_ns = cpu::own_ns()?.saturating_sub(opened.own_ns);
        for (process, before_ns) in watched.iter().zip(opened.watched_ns) {
            let spent_ns = process.spent_ns()?.saturating_sub(before_ns);
            match tally.cpu_ns.iter_mut().find(|(name, _)| *name == process.name) {
                Some((_, sum)) => *sum += spent_ns,
                None => tally.cpu_ns.push((process.name.clone(), spent_ns)),
            }
        }
        Ok(())
    }
}

const READING: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
/// Takes a burst of a deep pipeline, or a large value, in one read.
const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
const COMPLAINTS_MAX: usize = 5;
/// Loading ends earlier; a target that hangs is given up after this.
const FILLING_NS_MAX: u64 = 60_000_000_000;
/// How long answers may be late at the end of a run.
const LATE_NS_MAX: u64 = 3_000_000_000;
