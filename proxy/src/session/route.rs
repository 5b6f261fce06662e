//! Where a session's requests go: to its memcached, or to a peer while that one is away.
//!
//! ```text
//!   the route has changed, or the connection is down ─► nothing is owed ─► a connection of the new route is up ─► go on
//!                                                                     └─► nobody serves, or not in time: refused
//! ```
//!
//! Promises that nothing is sent on a new route while an answer is owed on the old one, and that no request waits for
//! ever. A session that a peer has opened stays with our memcached.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Session;
use crate::downstream::Awaiting;
use crate::failover::{Route, Routed};
use crate::upstream::{Target, Upstream};

impl Session {
    /// Whether the next request goes another way than the last one.
    pub(super) fn must_move(&self) -> bool {
        if !self.follows() || self.keys_sent > 0 || self.refusal.is_some() {
            return false;
        }
        let upstream = self.own.as_ref().or(self.shared.as_ref());
        self.context.routed().generation != self.generation
            || upstream.is_some_and(|upstream| upstream.down_reason().is_some())
    }

    /// Whether a peer serves it.
    pub(super) fn is_away(&self) -> bool {
        self.own.as_ref().or(self.shared.as_ref()).is_some_and(|upstream| upstream.is_tunnel())
    }

    /// Whether its writes are stamped here: while a peer serves it, they are that peer's.
    pub(super) fn replicates(&self) -> bool {
        self.context.replication.is_some() && !self.is_away()
    }

    /// Where its own connection goes; `None` if it has to move first.
    pub(super) fn target(&self) -> Option<Target> {
        let routed = self.context.routed();
        match routed.route {
            _ if !self.follows() => Some(Target::Memcached),
            _ if routed.generation != self.generation => None,
            Route::Peer(peer) => Some(Target::Peer { peer, generation: routed.generation }),
            Route::Local | Route::Changing | Route::Nobody => Some(Target::Memcached),
        }
    }

    /// Its own connection cannot be had: because the server is gone, and then the route changes, or for this reason.
    pub(super) async fn stay_or_move(&mut self, reason: String) {
        if self.follows() && self.context.moves_on(self.generation).await {
            self.generation = NO_GENERATION;
        } else {
            self.refusal = Some(reason);
        }
    }

    /// Goes over to the route of now.
    pub(super) async fn move_on(&mut self) {
        // A gate is granted for the order of one connection.
        drop(self.granted.take());
        self.all_told().await;
        if self.downstream.end().is_some() {
            return;
        }
        if let Some(own) = self.own.take() {
            own.leave();
            if self.context.capability.get().authentication {
                // Who was let in there is not let in elsewhere.
                return self.downstream.finish();
            }
        }
        match self.place().await {
            Ok((generation, shared)) => (self.generation, self.shared) = (generation, shared),
            Err(reason) => self.refusal = Some(reason),
        }
    }

    /// Waits until no answer is owed, and none waits for peers: what was written is there before it is read there.
    async fn all_told(&self) {
        let downstream = Rc::clone(&self.downstream);
        poll_fn(|cx| {
            downstream.set_waker(cx.waker());
            downstream.set_awaiting(Awaiting::Idle);
            let flushed = downstream.poll_flush(cx).is_ready() && !downstream.has_unsent();
            if downstream.owed.in_flight() == 0 && flushed || downstream.end().is_some() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    fn follows(&self) -> bool {
        self.context.failover.is_some() && !self.tunnelled
    }

    /// Waits for a route that leads somewhere.
    async fn place(&self) -> Result<(u64, Option<Rc<Upstream>>), String> {
        let context = &self.context;
        let deadline = Instant::now() + WAIT_MAX;
        let mut state = context.upstream_state();
        loop {
            let mut moved = std::pin::pin!(context.moved.notified());
            moved.as_mut().enable();
            let routed = context.routed();
            let down = state.borrow_and_update().down.clone();
            if let Some(shared) = self.connection_of(routed, down.is_some()) {
                return Ok((routed.generation, shared));
            }
            if routed.route == Route::Nobody {
                return Err(down.unwrap_or_else(|| "no peer serves for memcached".to_owned()));
            }
            tokio::select! {
                biased;
                () = moved => {}
                changed = state.changed() => if changed.is_err() {
                    return Err("the proxy stops".to_owned());
                },
                () = sleep_until(deadline) => {
                    let home = self.home.as_ref().and_then(|home| home.down_reason());
                    let reason = home.map(|reason| reason.to_string()).or(down);
                    return Err(reason.unwrap_or_else(|| "no peer has taken over in time".to_owned()));
                }
            }
        }
    }

    /// The shared connection of this route, once it is up; with dedicated ones there is none.
    fn connection_of(&self, routed: Routed, down: bool) -> Option<Option<Rc<Upstream>>> {
        let tunnels = self.context.tunnels.borrow();
        let shared = match routed.route {
            Route::Changing | Route::Nobody => return None,
            Route::Local if down => return None,
            Route::Local | Route::Peer(_) if self.context.settings.dedicated => return Some(None),
            Route::Local => self.home.as_ref()?,
            Route::Peer(_) => tunnels.get(self.seat % tunnels.len().max(1))?,
        };
        shared.down_reason().is_none().then(|| Some(Rc::clone(shared)))
    }
}

/// How long a request waits while the route changes: what the machine needs to ask two peers in vain.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// That of no route.
const NO_GENERATION: u64 = u64::MAX;
