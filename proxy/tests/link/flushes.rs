//! Flushes, at once and with a delay: what was there before is gone everywhere, what comes later lives.

use memcloud_proxy::replication::{PeerId, wall_clock_ms};

use crate::harness::{Mesh, PAIR};
use crate::wire::Net;

#[tokio::test]
async fn a_flush_passes_and_what_comes_later_lives() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[0].set("old", "x").await;
    mesh.sites[1].wait_for("old", Some("x")).await;
    mesh.net(Net::Cut);
    mesh.sites[0].set("during", "x").await;
    mesh.sites[1].set("older-elsewhere", "x").await;
    mesh.sites[0].flush().await;
    // memcached 1.6.18 counts seconds: what is set in the second of a flush may die with it.
    mesh.sites[0].memcached_ticks(2).await;
    mesh.sites[0].set("later", "x").await;
    mesh.net(Net::Open);
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    for key in ["old", "during", "older-elsewhere"] {
        assert_eq!((a.get(key).await, b.get(key).await), (None, None), "{key}");
    }
    b.wait_for("later", Some("x")).await;
    // With a delay it is an ordinary one of this site, later.
    let now_ms = wall_clock_ms();
    a.shared.schedule_flush(now_ms + 2000, now_ms);
    assert!(b.get("later").await.is_some());
    b.wait_for("later", None).await;
    a.wait_for("later", None).await;
    mesh.in_sync().await;
    assert_eq!(mesh.sites[0].shared.lock().counters().flushes, 3);
    assert_eq!(mesh.sites[1].shared.lock().counters().flushes, 0);
}

#[tokio::test]
async fn a_scheduled_flush_of_a_peer_that_is_gone_is_run() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[1].set("k", "v").await;
    let now_ms = wall_clock_ms();
    mesh.sites[0].shared.schedule_flush(now_ms + 500, now_ms);
    mesh.in_sync().await;
    let heard = mesh.sites[1].shared.lock().status(PeerId(0), 0).counters.applied;
    mesh.net(Net::Cut);
    assert_eq!(heard, 1, "the schedule");
    mesh.sites[1].wait_for("k", None).await;
    assert_eq!(mesh.sites[1].shared.lock().counters().flushes, 1);
    // It comes back, and its own flush is no news.
    mesh.net(Net::Open);
    mesh.in_sync().await;
    mesh.sites[1].set("k", "v").await;
    mesh.sites[0].wait_for("k", Some("v")).await;
}
