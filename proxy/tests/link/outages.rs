//! Networks that are cut, memcacheds that hang or die, a site that ends: nothing is lost, and all sites end alike.

use std::time::Duration;

use memcloud_proxy::link::{LinkState, LinkStopped};
use memcloud_proxy::replication::{Marks, PeerId, wall_clock_ms};
use tokio::time::timeout;

use crate::harness::{Mesh, PAIR, PEER_TIMEOUT, eventually};
use crate::wire::Net;

#[tokio::test]
async fn a_memcached_that_hangs_delays_and_breaks_nothing() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[1].memcached.as_ref().unwrap().signal("-STOP");
    for n in 0..200 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    // Longer than the peer's patience: the acceptor says that it is alive. That nothing happens can be seen in no other way
    // than by letting that time pass.
    tokio::time::sleep(PEER_TIMEOUT * 4).await;
    assert_eq!(mesh.sites[0].shared.lock().status(PeerId(0), 0).counters.acked, 0);
    mesh.sites[1].memcached.as_ref().unwrap().signal("-CONT");
    mesh.in_sync().await;
    for n in 0..200 {
        mesh.sites[1].wait_for(&format!("k{n}"), Some("v")).await;
    }
}

#[tokio::test]
async fn a_cut_link_loses_nothing_and_conflicts_end_alike() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Cut);
    for site in &mesh.sites {
        eventually("the cut is noticed", || site.links.peers()[0].state == LinkState::Down).await;
    }
    for n in 0..2000 {
        mesh.sites[0].set(&format!("a{n}"), &format!("a{n}")).await;
        mesh.sites[1].set(&format!("b{n}"), &format!("b{n}")).await;
        mesh.sites[n % 2].set(&format!("both{}", n % 100), &format!("{n}")).await;
    }
    mesh.sites[1].set("a-wrote-last", "b").await;
    // Two sites that do not hear each other are ordered by wall time, in milliseconds.
    let wrote_ms = mesh.sites[1].shared.lock().latest().millis();
    eventually("a millisecond has passed", || wall_clock_ms() > wrote_ms).await;
    mesh.sites[0].set("a-wrote-last", "a").await;
    assert!(!mesh.sites[0].shared.lock().in_sync());
    mesh.net(Net::Open);
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    for n in 0..2000 {
        for key in [format!("a{n}"), format!("b{n}"), format!("both{}", n % 100)] {
            let here = a.get(&key).await;
            assert!(here.is_some(), "{key}");
            assert_eq!(here, b.get(&key).await, "{key}");
        }
    }
    b.wait_for("a-wrote-last", Some("a")).await;
}

#[tokio::test]
async fn a_link_that_breaks_while_writing_goes_on_loses_nothing() {
    let mut mesh = Mesh::new(PAIR).await;
    for round in 0..10 {
        for n in 0..200 {
            if n == 100 {
                mesh.net(Net::Cut);
            }
            mesh.sites[n % 2].set(&format!("k{}", n % 37), &format!("{round}-{n}")).await;
            mesh.sites[(n + 1) % 2].change("n", "ms n 1 MA N0\r\nx\r\n", Marks::default()).await;
        }
        mesh.net(Net::Open);
    }
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    for key in (0..37).map(|n| format!("k{n}")).chain(["n".to_owned()]) {
        let here = a.get(&key).await;
        assert_eq!(here, b.get(&key).await, "{key}");
    }
}

#[tokio::test]
async fn a_peer_that_stalls_is_left_and_found_again() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Stalled);
    for n in 0..500 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    let links = &mesh.sites[0].links;
    let silent = LinkStopped::LABELS.iter().position(|label| *label == "silent").unwrap();
    eventually("silence ends a link", || links.peers()[0].counters.stopped[silent] > 0).await;
    mesh.net(Net::Open);
    mesh.in_sync().await;
    for n in 0..500 {
        mesh.sites[1].wait_for(&format!("k{n}"), Some("v")).await;
    }
}

#[tokio::test]
async fn the_receivers_memcached_dies_and_comes_back() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[1].memcached = None;
    for n in 0..300 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    let links = &mesh.sites[0].links;
    eventually("the dialer hears why", || {
        links.peers()[0].stopped.is_some_and(|stopped| stopped.to_string() == "refused: upstream-down")
    })
    .await;
    mesh.sites[1].restart_memcached(&[]).await;
    mesh.in_sync().await;
    for n in 0..300 {
        mesh.sites[1].wait_for(&format!("k{n}"), Some("v")).await;
    }
}

#[tokio::test]
async fn a_network_of_one_direction_carries_that_direction() {
    let only_from_a = |from, _| if from == 0 { Net::Open } else { Net::Cut };
    let mut mesh = Mesh::over(PAIR, only_from_a).await;
    mesh.sites[0].set("k", "v").await;
    mesh.sites[1].wait_for("k", Some("v")).await;
    assert!(!mesh.sites[0].shared.lock().in_sync());
    mesh.net(Net::Open);
    mesh.in_sync().await;
}

#[tokio::test]
async fn three_sites_agree() {
    let mut mesh = Mesh::new(&[&[], &[], &[]]).await;
    mesh.in_sync().await;
    for n in 0..600 {
        match n {
            150 => mesh.relays[0][1].set(Net::Cut),
            250 => mesh.relays[2].iter().for_each(|relay| relay.set(Net::Cut)),
            350 => mesh.net(Net::Open),
            _ => {}
        }
        mesh.sites[n % 3].set(&format!("k{}", n % 50), &format!("{n}")).await;
        if n % 7 == 0 {
            mesh.sites[(n + 1) % 3].delete(&format!("k{}", n % 50)).await;
        }
    }
    mesh.in_sync().await;
    for n in 0..50 {
        let key = format!("k{n}");
        let mut seen = Vec::new();
        for site in &mut mesh.sites {
            seen.push(site.get(&key).await);
        }
        assert!(seen.iter().all(|found| *found == seen[0]), "{key}: {seen:?}");
    }
    for site in &mesh.sites {
        for peer in site.links.peers() {
            let name = peer.site.unwrap();
            assert_ne!(name, "");
        }
    }
}

#[tokio::test]
async fn a_draining_site_sends_what_it_owes_first() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Cut);
    eventually("the cut is noticed", || mesh.sites[0].links.peers()[0].state == LinkState::Down).await;
    for n in 0..100 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    mesh.sites[0].drain.cancel();
    mesh.net(Net::Open);
    mesh.sites[0].tracker.close();
    timeout(Duration::from_secs(10), mesh.sites[0].tracker.wait()).await.expect("drained");
    for n in 0..100 {
        assert_eq!(mesh.sites[1].get(&format!("k{n}")).await, Some((5, "v".to_owned())));
    }
}
