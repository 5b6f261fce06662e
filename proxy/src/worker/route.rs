//! A worker follows the route: to its memcached, to a peer, and back.
//!
//! ```text
//!   Changing ─► nothing is owed on any connection ─► told ─┬─► Peer: shared connections to it
//!                                                          └─► Local: those are left
//! ```
//!
//! Promises that this worker is told quiet only when no request of it is on its way anywhere: the next route begins
//! when the last one has ended, for all workers together.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Context;
use crate::failover::{Route, Routed, Switch};
use crate::upstream::{Target, Upstream, keep_connected};

/// Follows for ever.
pub(super) async fn follow(context: Rc<Context>, switch: Arc<Switch>) {
    let mut routes = switch.follow();
    loop {
        let routed = *routes.borrow_and_update();
        if routed != context.routed() {
            change(&context, routed);
        }
        let changed = tokio::select! {
            biased;
            changed = routes.changed() => changed,
            never = quiet(&context, &switch, routed) => never,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn change(context: &Rc<Context>, routed: Routed) {
    for tunnel in context.tunnels.take() {
        tunnel.finish();
    }
    context.set_routed(routed);
    match routed.route {
        Route::Peer(peer) if !context.settings.dedicated => connect(context, peer, routed.generation),
        _ => {}
    }
    for upstream in context.upstreams() {
        match upstream.is_tunnel() {
            false if routed.forsaken.memcached => upstream.give_up(),
            true if routed.forsaken.peer => upstream.give_up(),
            true => {
                upstream.end_streams();
                upstream.leave_if_idle();
            }
            false => {}
        }
    }
}

fn connect(context: &Rc<Context>, peer: usize, generation: u64) {
    let target = Target::Peer { peer, generation };
    let tunnels: Vec<_> = (0..context.settings.shared_connections)
        .map(|_| {
            let tunnel = Upstream::shared(Rc::clone(context), target);
            let (first, _) = oneshot::channel();
            spawn_local(keep_connected(Rc::clone(&tunnel), first));
            tunnel
        })
        .collect();
    *context.tunnels.borrow_mut() = tunnels;
}

/// Waits until nothing is owed, and says so; for ever when nobody wants to know.
async fn quiet(context: &Context, switch: &Switch, routed: Routed) -> ! {
    if routed.route == Route::Changing {
        while context.upstreams().iter().any(|upstream| upstream.owes()) {
            sleep(LOOK_AGAIN).await;
        }
        switch.is_quiet(routed.generation);
    }
    std::future::pending().await
}

/// An answer takes less than this; nobody is woken for one that ends a route.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
