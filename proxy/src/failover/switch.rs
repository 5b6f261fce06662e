//! The route as threads see it: published by one, followed by the workers, who say when the old one is quiet.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::Route;
use crate::net::Stream;

/// How a peer is asked to serve: a connection on which it takes an app's requests.
pub(crate) trait Dial: Send + Sync {
    /// Opens one to the peer at this place, on the caller's event loop.
    fn dial(&self, peer: usize) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + '_>>;

    /// Where the peer at this place is.
    fn address(&self, peer: usize) -> String;
}

/// A route, and how many were there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) route: Route,
    pub(crate) generation: u64,
    /// Whose answers are not waited for any more.
    pub(crate) forsaken: Forsaken,
}

/// Who is given up: what it still owes will not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forsaken {
    pub(crate) memcached: bool,
    pub(crate) peer: bool,
}

impl Default for Routed {
    fn default() -> Self {
        Self { route: Route::Local, generation: 0, forsaken: Forsaken::default() }
    }
}

/// Changes the route of all workers.
pub(crate) struct Switch {
    routed: watch::Sender<Routed>,
    /// Workers on whose connections nothing is owed, of which generation.
    quiet: watch::Sender<(u64, usize)>,
    workers: usize,
    pub(crate) dial: Arc<dyn Dial>,
}

impl Switch {
    /// For so many workers, all of them on the local route.
    pub(crate) fn new(workers: usize, dial: Arc<dyn Dial>) -> Self {
        Self {
            routed: watch::Sender::new(Routed::default()),
            quiet: watch::Sender::new((0, 0)),
            workers,
            dial,
        }
    }

    /// The route, and its changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Routed> {
        self.routed.subscribe()
    }

    /// Publishes a route, if it is another one than before.
    pub(crate) fn publish(&self, route: Route, forsaken: Forsaken) {
        self.routed.send_if_modified(|routed| {
            let new = routed.route != route;
            if new {
                *routed = Routed { route, generation: routed.generation + 1, forsaken };
            }
            new
        });
    }

    /// A worker has nothing on its way any more.
    pub(crate) fn is_quiet(&self, generation: u64) {
        self.quiet.send_modify(|(of, workers)| match generation.cmp(of) {
            std::cmp::Ordering::Greater => (*of, *workers) = (generation, 1),
            std::cmp::Ordering::Equal => *workers += 1,
            std::cmp::Ordering::Less => {}
        });
    }

    /// Waits until no worker has anything on its way.
    pub(crate) async fn all_quiet(&self) {
        let generation = self.routed.borrow().generation;
        let all = (generation, self.workers);
        let _ = self.quiet.subscribe().wait_for(|quiet| *quiet == all).await;
    }
}
