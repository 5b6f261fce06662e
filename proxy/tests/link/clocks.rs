//! Clocks that are further apart than a peer takes: it says so, and nothing is dropped by a comparison of such times.

use memcloud_proxy::replication::{Begin, Effect, Outcome, PeerId, next_lane, wall_clock_ms};

use crate::harness::{Mesh, PAIR, eventually};

#[tokio::test]
async fn a_site_whose_clock_is_ahead_hears_that_it_is_refused() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    a.set("before", "x").await;
    let ahead_ms = wall_clock_ms() + 3_600_000;
    let Begin::Granted(slot) = a.shared.begin(b"k", next_lane()) else { panic!("nobody holds it") };
    a.shared.complete(vec![Outcome::Key(slot, Effect::Removed)], ahead_ms);
    a.set("behind-it", "x").await;
    eventually("all is acknowledged", || a.shared.lock().status(PeerId(0), 0).counters.acked == 3).await;
    b.wait_for("before", Some("x")).await;
    // The clock never goes back, so what comes later is refused too.
    assert_eq!(b.get("behind-it").await, None);
    let status = a.shared.lock().status(PeerId(0), 0);
    assert_eq!(status.skewed.map(|skewed| skewed.mutations), Some(2));
    assert!(!a.shared.lock().in_sync());
    a.flush().await;
    let refused = || a.shared.lock().status(PeerId(0), 0).counters.refused;
    eventually("a flush is refused alike", || refused() == 3).await;
    assert!(!a.shared.lock().in_sync());
    let now_ms = wall_clock_ms();
    a.shared.lock().schedule_flush(now_ms + 100_000, now_ms);
    a.shared.poke_all();
    eventually("and so is a delayed one", || refused() == 4).await;
}

#[tokio::test]
async fn sites_whose_clocks_are_apart_do_not_compare() {
    for ahead in [0, 1] {
        let mut mesh = Mesh::new(PAIR).await;
        mesh.in_sync().await;
        let before = mesh.sites[0].links.peers()[0].resync.full;
        let ahead_ms = wall_clock_ms() + 3_600_000;
        let site = &mut mesh.sites[ahead];
        let Begin::Granted(slot) = site.shared.begin(b"k", next_lane()) else { panic!("nobody holds it") };
        site.shared.complete(vec![Outcome::Key(slot, Effect::Removed)], ahead_ms);
        site.set("written-ahead", "x").await;
        let apart = || mesh.sites[0].links.peers()[0].clocks_apart;
        eventually("the one that would compare sees it", apart).await;
        let resync = |site: usize| mesh.sites[site].links.peers()[0].resync;
        assert_eq!((resync(0).full, resync(0).dropped, resync(1).dropped), (before, 0, 0));
        assert_eq!(mesh.sites[ahead].get("written-ahead").await, Some((5, "x".to_owned())));
        assert!(!mesh.sites[0].shared.lock().in_sync() && !mesh.sites[1].shared.lock().in_sync());
        // What the other site writes is not concerned.
        mesh.sites[1 - ahead].set("other", "y").await;
        mesh.sites[ahead].wait_for("other", Some("y")).await;
    }
}
