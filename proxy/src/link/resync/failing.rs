//! Which peers rest because an attempt with them has failed, and what is worth a word.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::replication::{Incarnation, PeerId};

/// What has failed, by peer.
#[derive(Debug, Default)]
pub(super) struct Failing {
    peers: HashMap<PeerId, Failed>,
    /// Who was linked when that was, and who our memcached was.
    met_with: (Vec<PeerId>, Option<Incarnation>),
}

#[derive(Debug)]
struct Failed {
    backoff: Backoff,
    rests_until: Instant,
    error: String,
}

impl Failing {
    /// Where other peers are linked, or another memcached is there, what failed may succeed: nobody rests any longer.
    pub(super) fn meets(&mut self, linked: &[PeerId], life: Option<Incarnation>) {
        let (then, who) = &self.met_with;
        if then == linked && *who == life {
            return;
        }
        let now = Instant::now();
        self.met_with = (linked.to_vec(), life);
        for failed in self.peers.values_mut() {
            failed.backoff.reset();
            failed.rests_until = now;
        }
    }

    pub(super) fn rests(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|failed| failed.rests_until > Instant::now())
    }

    /// An attempt has failed, or there was nothing to be done yet. True: not for the reason of the one before.
    pub(super) fn failed(&mut self, peer: PeerId, error: &str) -> bool {
        let fresh = || Failed {
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
            rests_until: Instant::now(),
            error: String::new(),
        };
        let failed = self.peers.entry(peer).or_insert_with(fresh);
        failed.rests_until = Instant::now() + failed.backoff.next_delay();
        let other = failed.error != error;
        error.clone_into(&mut failed.error);
        other
    }

    /// The peer is being filled, and asked again soon.
    pub(super) fn not_yet(&mut self, peer: PeerId) {
        self.failed(peer, "");
        if let Some(failed) = self.peers.get_mut(&peer) {
            failed.backoff.reset();
        }
    }

    pub(super) fn succeeded(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// Peers that went are forgotten.
    pub(super) fn retain(&mut self, mut there: impl FnMut(PeerId) -> bool) {
        self.peers.retain(|peer, _| there(*peer));
    }
}

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PEER: PeerId = PeerId(0);

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_rests_longer_and_longer_and_alone() {
        let mut failing = Failing::default();
        assert!(failing.failed(PEER, "no crawler"));
        assert!(failing.rests(PEER) && !failing.rests(PeerId(1)));
        advance(RETRY_MIN).await;
        assert!(!failing.rests(PEER));
        for _ in 0..12 {
            assert!(!failing.failed(PEER, "no crawler"), "said already");
        }
        advance(RETRY_MAX / 2 - Duration::from_millis(1)).await;
        assert!(failing.rests(PEER));
        advance(RETRY_MAX / 2 + Duration::from_millis(1)).await;
        assert!(!failing.rests(PEER));
        assert!(failing.failed(PEER, "refused: busy"), "another reason");
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_and_another_situation_end_it() {
        let mut failing = Failing::default();
        failing.meets(&[PEER], None);
        failing.failed(PEER, "no crawler");
        failing.meets(&[PEER], None);
        assert!(failing.rests(PEER), "all is as it was");
        failing.meets(&[PEER, PeerId(1)], None);
        assert!(!failing.rests(PEER));
        assert!(!failing.failed(PEER, "no crawler"), "that is nothing new");
        failing.succeeded(PEER);
        assert!(!failing.rests(PEER));
        assert!(failing.failed(PEER, "no crawler"));
    }
}
