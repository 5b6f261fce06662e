//! The loop around the machine: looks at the replica, says what is due, has the links follow what control answers.

use std::time::Duration;

use memcloud_protocol::registration::{Assignment, Heartbeat, Place};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{Client, Failure};
use super::machine::{Machine, Peers, Said, Say};
use super::shown::{Outcome, Request, Shown, Tally};
use super::told::Told;
use super::{Agent, watcher};
use crate::peers::{Peer, Vitals};

pub(super) struct Work {
    agent: Agent,
    told: Told,
    client: Client,
    machine: Machine,
    tally: Tally,
    /// The last request was answered.
    is_heard: bool,
    /// As it is on disk.
    kept: Option<Place>,
    began: Instant,
    /// Whom the watcher asks for.
    replica: watch::Sender<Option<u64>>,
    assigned: mpsc::Receiver<Assignment>,
    _watcher: JoinSet<()>,
}

impl Work {
    pub(super) fn new(agent: Agent) -> Self {
        let (replica, watched) = watch::channel(None);
        let (assign, assigned) = mpsc::channel(1);
        let mut watcher = JoinSet::new();
        watcher.spawn(watcher::watch(Client::new(&agent.control), watched, assign));
        Self {
            told: Told::new(&agent.control, &agent.site, agent.addresses.clone()),
            client: Client::new(&agent.control),
            machine: Machine::recalling(agent.recalled.clone()),
            kept: agent.recalled.clone(),
            tally: Tally::default(),
            is_heard: false,
            began: Instant::now(),
            replica,
            assigned,
            _watcher: watcher,
            agent,
        }
    }

    /// Looks once, says what is due, and waits for the next reason to look.
    pub(super) async fn turn(&mut self) {
        // memcached is asked only for what is said.
        if self.machine.has_something_to_say(self.now(), &self.agent.vital.glance()) {
            let vitals = self.agent.vital.vitals().await;
            if let Some(say) = self.next(&vitals).await {
                self.say(say).await;
            }
        }
        self.show();
        let wait = self.machine.wait(self.now(), LOOK);
        tokio::select! {
            biased;
            Some(assignment) = self.assigned.recv() => self.take(assignment),
            () = sleep(wait) => {}
        }
    }

    async fn next(&mut self, vitals: &Vitals) -> Option<Say> {
        // Behind a wildcard a machine is known by the address from which it reaches control.
        if self.told.lacks_host() {
            match self.client.local(REQUEST_WITHIN).await {
                Ok(local) => self.told.reached_from(local),
                Err(failure) => {
                    self.failed(Said::Register, failure);
                    return None;
                }
            }
        }
        let now = self.now();
        self.machine.next(now, &vitals.glance, self.told.register(vitals), self.told.heartbeat(vitals))
    }

    async fn say(&mut self, say: Say) {
        let said = say.said();
        let answer = match &say {
            Say::Register(register) => self.client.register(register, REQUEST_WITHIN).await,
            Say::Beat { replica, heartbeat } => self.client.beat(*replica, heartbeat, REQUEST_WITHIN).await,
        };
        match answer {
            Ok(answer) => {
                self.tally.count(said.request(), Outcome::Ok);
                let now = self.now();
                let peers = self.machine.answered(now, say, answer);
                self.told_by_control(peers);
            }
            Err(failure) => self.failed(said, failure),
        }
    }

    fn failed(&mut self, said: Said, failure: Failure) {
        self.tally.count(said.request(), failure.outcome());
        if self.machine.trouble() != Some(failure.to_string().as_str()) {
            tracing::warn!(reason = %failure, "control does not answer as it should; the peers stay as they are");
        }
        self.is_heard = false;
        let now = self.now();
        let peers = self.machine.failed(now, said, &failure);
        self.follow(peers);
        self.ask_for_it();
    }

    fn take(&mut self, assignment: Assignment) {
        self.tally.count(Request::Assignment, Outcome::Ok);
        let now = self.now();
        let peers = self.machine.assigned(now, assignment);
        self.told_by_control(peers);
    }

    /// Control has answered.
    fn told_by_control(&mut self, peers: Peers) {
        let was_heard = std::mem::replace(&mut self.is_heard, true);
        if !was_heard {
            let shown = self.machine.shown(&self.tally);
            tracing::info!(
                replica = shown.replica,
                state = shown.standing.word(),
                "control knows this replica"
            );
        }
        self.tally.heard = Some((self.agent.clock)());
        self.follow(peers);
        self.ask_for_it();
    }

    /// The watcher asks for whoever we are.
    fn ask_for_it(&self) {
        let replica = self.machine.replica();
        self.replica.send_if_modified(|asked| std::mem::replace(asked, replica) != replica);
    }

    fn follow(&mut self, peers: Peers) {
        let Peers::Set { peers, afresh } = peers else { return };
        self.keep();
        let peers: Vec<Peer> = peers
            .into_iter()
            .map(|peer| Peer { site: Some(peer.site.to_string()), address: peer.peer_address.to_string() })
            .collect();
        if peers == self.agent.peers.wanted() {
            return;
        }
        let names: Vec<&str> = peers.iter().filter_map(|peer| peer.site.as_deref()).collect();
        tracing::info!(peers = names.join(", "), afresh, "control names the peers");
        let set = if afresh { self.agent.peers.set_afresh(peers) } else { self.agent.peers.set(peers) };
        if let Err(error) = set {
            tracing::error!(%error, "control names peers that cannot be; the ones before stay");
        }
    }

    fn keep(&mut self) {
        if let Some(memory) = &self.agent.memory
            && self.kept.as_ref() != self.machine.place()
        {
            self.kept = self.machine.place().cloned();
            memory.keep(self.kept.clone());
        }
    }

    fn show(&self) {
        let shown = Shown { url: self.client.url(), ..self.machine.shown(&self.tally) };
        self.agent.shown.send_replace(shown);
    }

    /// Gives the lease back, so that clients hear of it at once. The place stays ours.
    pub(super) async fn leave(mut self) {
        let Some(replica) = self.machine.replica() else { return };
        self.client.hang_up();
        let last = Heartbeat { stopping: true, ..self.told.heartbeat(&Vitals::default()) };
        if let Err(failure) = self.client.beat(replica, &last, LEAVE_WITHIN).await {
            tracing::warn!(reason = %failure, "control was not told that this proxy ends");
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// How often the replica is looked at: what has changed for clients is said then, without waiting for the next heartbeat.
const LOOK: Duration = Duration::from_secs(1);
/// Control answers from memory, and decides within milliseconds; a third of the lease is left for the next one.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// Nobody who stops waits long for control.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
