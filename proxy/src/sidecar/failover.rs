//! Drives the failover: tells the [`Machine`] what is seen, does what it says, and publishes the route.
//!
//! One thing at a time is under way: asking a peer, keeping an eye on the one that serves, or gathering what was
//! written there. For all three there is a *lifeline*, a session of our own at the peer.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::source::Source;
use crate::config::{Config, Failover};
use crate::failover::{Command, Event, Forsaken, Machine, Route, Seen, State, Switch};
use crate::link::Tunnels;
use crate::net::Stream;
use crate::replication::{PeerId, PeerStatus, Shared, Version, wall_clock_ms};
use crate::upstream::UpstreamState;

/// What is told to `/status`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) since_ms: u64,
    pub(super) failovers: u64,
}

impl Shown {
    fn of(machine: &Machine) -> Self {
        Self { state: machine.state(), since_ms: machine.since_ms(), failovers: machine.failovers() }
    }
}

/// Starts it, if it is wanted.
pub(super) fn start(
    config: &Config,
    tunnels: Option<Tunnels>,
    upstream: &watch::Receiver<UpstreamState>,
    shared: Option<&Arc<Shared>>,
    source: &mut Source,
) -> Option<Arc<Switch>> {
    let (tunnels, shared) = (tunnels?, Arc::clone(shared?));
    if config.recovery.failover == Failover::None {
        return None;
    }
    let switch = Arc::new(Switch::new(config.workers, Arc::new(tunnels)));
    let driver = Driver::new(config, Arc::clone(&switch), upstream.clone(), shared);
    source.shows_failover(driver.shown.subscribe());
    // It ends with the runtime: what it leads to has ended before.
    tokio::spawn(driver.run());
    Some(switch)
}

/// The task that leads apps to a peer and back.
struct Driver {
    machine: Machine,
    switch: Arc<Switch>,
    upstream: watch::Receiver<UpstreamState>,
    shared: Arc<Shared>,
    shown: watch::Sender<Shown>,
    /// When the peer came that was asked last.
    asked: Option<Version>,
    /// How long the peer that serves may be silent.
    patience: Duration,
    lifeline: Option<Lifeline>,
}

/// What was under way has ended.
enum Done {
    Event(Event, Option<Lifeline>),
    Failed(Event, io::Error),
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

impl Driver {
    fn new(
        config: &Config,
        switch: Arc<Switch>,
        upstream: watch::Receiver<UpstreamState>,
        shared: Arc<Shared>,
    ) -> Self {
        let machine = Machine::new(0, wall_clock_ms());
        let shown = watch::Sender::new(Shown::of(&machine));
        let patience = config.upstream_timeout.min(PATIENCE_MAX);
        Self { machine, switch, upstream, shared, shown, asked: None, patience, lifeline: None }
    }

    /// Goes on for ever.
    async fn run(mut self) {
        let mut work: Work = Box::pin(pending());
        loop {
            let event = tokio::select! {
                biased;
                changed = self.upstream.changed() => match changed {
                    Ok(()) => Event::Tick,
                    Err(_) => return,
                },
                done = &mut work => {
                    work = Box::pin(pending());
                    self.take(done)
                }
                () = sleep(TICK) => Event::Tick,
            };
            let event = self.look_at_peers(event);
            let before = (self.machine.state(), self.machine.since_ms());
            let seen = self.seen();
            let command = self.machine.on(event, wall_clock_ms(), seen);
            if (self.machine.state(), self.machine.since_ms()) != before {
                self.publish(before.0, seen);
            }
            if let Some(next) = self.next(command, before.0) {
                work = next;
            }
        }
    }

    /// Peers come and go: one that went serves no more.
    fn look_at_peers(&mut self, event: Event) -> Event {
        let replica = self.shared.lock();
        self.machine.has_places(replica.peer_ids().last().map_or(0, |last| last.0 + 1));
        match self.machine.state().peer() {
            Some(peer) if replica.came(PeerId(peer)) != self.asked => Event::Lost,
            _ => event,
        }
    }

    fn seen(&self) -> Seen {
        let linked =
            self.machine.state().peer().is_some_and(|peer| {
                is_nearly_here(&self.shared.lock().status(PeerId(peer), wall_clock_ms()))
            });
        let state = self.upstream.borrow();
        let whole = self.shared.lock().warming().is_none();
        Seen { up: state.down.is_none() && state.asked, refused: state.refused, whole, linked }
    }

    fn take(&mut self, done: Done) -> Event {
        match done {
            Done::Event(event, lifeline) => {
                self.lifeline = lifeline;
                event
            }
            Done::Failed(event, error) => {
                tracing::info!(%error, "a peer does not serve");
                event
            }
        }
    }

    /// What is to be under way from now on; nothing if that is what is.
    fn next(&mut self, command: Option<Command>, before: State) -> Option<Work> {
        if let Some(Command::Probe(peer)) = command {
            self.asked = self.shared.lock().came(PeerId(peer));
        }
        match (command, self.machine.state()) {
            (Some(Command::Probe(peer)), _) => Some(self.probe(peer)),
            (Some(Command::Gather), State::Returning { peer, .. }) => Some(self.gather(peer)),
            (None, State::Away { peer, .. }) if before != self.machine.state() => Some(self.watch(peer)),
            (None, State::Local { .. }) => Some(Box::pin(pending())),
            _ => None,
        }
    }

    fn publish(&mut self, before: State, seen: Seen) {
        let (was, is) = (before.word(), self.machine.state());
        self.shown.send_replace(Shown::of(&self.machine));
        let route = self.machine.route();
        match (route, is.peer()) {
            _ if was == is.word() => {}
            (Route::Peer(_), Some(peer)) => {
                tracing::warn!(peer.addr = %self.switch.dial.address(peer), was, "a peer serves our apps");
            }
            (Route::Nobody, _) => tracing::error!("neither memcached nor a peer serves our apps"),
            _ => tracing::info!(state = is.word(), was, "who serves our apps"),
        }
        if route == Route::Local {
            self.lifeline = None;
        }
        let seeking = matches!(is, State::Seeking { .. });
        self.switch.publish(route, Forsaken { memcached: seeking && !seen.up, peer: seeking });
    }

    fn probe(&self, peer: usize) -> Work {
        let (switch, patience) = (Arc::clone(&self.switch), self.patience);
        let changing = self.machine.route() == Route::Changing;
        Box::pin(async move {
            let probing = async {
                if changing {
                    switch.all_quiet().await;
                }
                Lifeline::open(&switch, peer, patience).await
            };
            match timeout(PROBE_WITHIN, probing).await {
                Ok(Ok(lifeline)) => Done::Event(Event::Answers, Some(lifeline)),
                Ok(Err(error)) => Done::Failed(Event::Refuses, error),
                Err(_) => Done::Failed(Event::Refuses, io::ErrorKind::TimedOut.into()),
            }
        })
    }

    fn watch(&mut self, peer: usize) -> Work {
        let (switch, patience, lifeline) = (Arc::clone(&self.switch), self.patience, self.lifeline.take());
        Box::pin(async move {
            let lifeline = match lifeline {
                Some(lifeline) => Ok(lifeline),
                None => Lifeline::open(&switch, peer, patience).await,
            };
            match lifeline {
                Ok(lifeline) => Done::Failed(Event::Lost, lifeline.watch().await),
                Err(error) => Done::Failed(Event::Lost, error),
            }
        })
    }

    /// Waits until nothing is on its way to the peer, asks it for its clock, and waits until its mark has passed that:
    /// everything it stamped for our apps is here then.
    fn gather(&self, peer: usize) -> Work {
        let (switch, patience, shared) = (Arc::clone(&self.switch), self.patience, Arc::clone(&self.shared));
        Box::pin(async move {
            switch.all_quiet().await;
            let asked = async { Lifeline::open(&switch, peer, patience).await?.clock().await };
            let clock = match asked.await {
                Ok(clock) => clock,
                Err(error) => return Done::Failed(Event::Lost, error),
            };
            while shared.lock().heard(PeerId(peer)).time() < clock {
                sleep(MARKS_LOOKED_AT).await;
            }
            Done::Event(Event::Arrived, None)
        })
    }
}

/// A session of our own at a peer.
struct Lifeline {
    stream: BufReader<Stream>,
    patience: Duration,
}

impl Lifeline {
    /// Opens one and has the peer's memcached answer on it.
    async fn open(switch: &Switch, peer: usize, patience: Duration) -> io::Result<Self> {
        let stream = switch.dial.dial(peer).await?;
        let mut lifeline = Self { stream: BufReader::new(stream), patience };
        lifeline.beat().await?;
        Ok(lifeline)
    }

    /// Returns when the peer serves no more, with the reason.
    async fn watch(mut self) -> io::Error {
        loop {
            sleep(BEATS_APART).await;
            if let Err(error) = self.beat().await {
                return error;
            }
        }
    }

    async fn beat(&mut self) -> io::Result<()> {
        match self.ask("mn\r\n", |line| Some(line.to_owned())).await?.as_str() {
            "MN" => Ok(()),
            other => Err(io::Error::other(other.to_owned())),
        }
    }

    /// The newest time the peer has stamped with, or seen.
    async fn clock(&mut self) -> io::Result<u64> {
        let clock = self.ask("stats memcloud\r\n", |line| match line.strip_prefix("STAT clock ") {
            Some(clock) => u64::from_str_radix(clock, 16).ok(),
            None if line == "END" => Some(u64::MAX),
            None => None,
        });
        match clock.await? {
            u64::MAX => Err(io::Error::other("the peer does not tell its clock")),
            clock => Ok(clock),
        }
    }

    /// Asks, and reads lines until one is what is wanted.
    async fn ask<T>(&mut self, question: &str, wanted: impl Fn(&str) -> Option<T>) -> io::Result<T> {
        let asked = async {
            self.stream.get_mut().write_all(question.as_bytes()).await?;
            loop {
                let mut line = String::new();
                if self.stream.read_line(&mut line).await? == 0 {
                    return Err(io::Error::other("the peer closed the session"));
                }
                if let Some(found) = wanted(line.trim_end()) {
                    return Ok(found);
                }
            }
        };
        timeout(self.patience, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Whether what was written at the peer that serves is here but for a moment's worth of it.
fn is_nearly_here(status: &PeerStatus) -> bool {
    status.inbound_connected && status.peer_owes.is_some_and(|owed| owed <= OWED_MAX)
}

/// Time enters the machine this often.
const TICK: Duration = Duration::from_millis(20);
/// Ten of them are a second.
const BEATS_APART: Duration = Duration::from_millis(100);
/// A peer that serves many apps may be slow for a moment; one that is silent for longer is of no use.
const PATIENCE_MAX: Duration = Duration::from_secs(2);
/// What a peer sends in a fraction of the time for which requests wait.
const OWED_MAX: u64 = 4096;
/// Requests wait meanwhile.
const PROBE_WITHIN: Duration = Duration::from_millis(2500);
/// An idle link brings one each tenth of a second.
const MARKS_LOOKED_AT: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_comes_back_when_little_is_on_its_way() {
        let owes = |peer_owes| PeerStatus { inbound_connected: true, peer_owes, ..PeerStatus::default() };
        assert!(is_nearly_here(&owes(Some(OWED_MAX))));
        assert!(!is_nearly_here(&owes(Some(OWED_MAX + 1))));
        assert!(!is_nearly_here(&owes(None)), "it has not said");
        assert!(!is_nearly_here(&PeerStatus { inbound_connected: false, ..owes(Some(0)) }));
    }
}
