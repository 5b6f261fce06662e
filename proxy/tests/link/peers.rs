//! Peers that come and go while sites run.

use memcloud_proxy::link::LinkState;
use memcloud_proxy::peers::Peer;

use crate::harness::{Mesh, eventually};
use crate::wire::Net;

fn peer(mesh: &Mesh, from: usize, to: usize) -> Peer {
    let site = char::from(b'a' + to as u8).to_string();
    Peer { site: Some(site), address: mesh.relays[from][to].addr.clone() }
}

/// Tells a site who its peers are.
fn set(mesh: &Mesh, site: usize, peers: &[usize]) {
    let peers = peers.iter().map(|other| peer(mesh, site, *other)).collect();
    mesh.sites[site].set.set(peers).unwrap();
}

/// Until the sites of a shard have nothing to tell each other any more.
async fn in_sync(mesh: &Mesh, sites: &[usize]) {
    let peers = sites.len() - 1;
    eventually("the shard is in sync", || {
        let quiet = |site: &usize| {
            let site = &mesh.sites[*site];
            site.links.peers().len() == peers && site.shared.lock().in_sync()
        };
        sites.iter().all(quiet)
    })
    .await;
}

/// Two sites that have become peers.
async fn pair() -> Mesh {
    let mesh = Mesh::apart(2).await;
    set(&mesh, 0, &[1]);
    set(&mesh, 1, &[0]);
    in_sync(&mesh, &[0, 1]).await;
    mesh
}

#[tokio::test]
async fn an_empty_site_that_comes_is_filled() {
    let mut mesh = Mesh::apart(2).await;
    for n in 0..500 {
        mesh.sites[0].set(&format!("k{n}"), "before").await;
    }
    assert_eq!(mesh.sites[0].shared.lock().counters().ledger_entries, 0, "nobody is there to keep it for");
    set(&mesh, 0, &[1]);
    eventually("a stranger is refused", || {
        let peers = mesh.sites[0].links.peers();
        peers.iter().any(|peer| peer.stopped.is_some_and(|why| why.to_string() == "refused: unknown-peer"))
    })
    .await;
    mesh.sites[0].set("k0", "meanwhile").await;
    mesh.sites[0].delete("k1").await;
    set(&mesh, 1, &[0]);
    mesh.sites[0].set("k2", "later").await;
    in_sync(&mesh, &[0, 1]).await;
    let b = &mut mesh.sites[1];
    for (key, value) in
        [("k0", Some("meanwhile")), ("k1", None), ("k2", Some("later")), ("k499", Some("before"))]
    {
        assert_eq!(b.get(key).await.map(|(_, value)| value).as_deref(), value, "{key}");
    }
    assert!(b.links.peers()[0].resync.copied >= 498, "{:?}", b.links.peers()[0].resync);
    assert!(mesh.sites.iter().all(|site| site.shared.lock().warming().is_none()));
}

#[tokio::test]
async fn a_site_is_replaced_by_another_one() {
    let mut mesh = Mesh::apart(3).await;
    set(&mesh, 0, &[1]);
    set(&mesh, 1, &[0]);
    in_sync(&mesh, &[0, 1]).await;
    for n in 0..200 {
        mesh.sites[n % 2].set(&format!("k{n}"), "old").await;
    }
    set(&mesh, 0, &[1, 2]);
    set(&mesh, 1, &[0, 2]);
    set(&mesh, 2, &[0, 1]);
    for n in 0..50 {
        mesh.sites[n % 2].set(&format!("k{n}"), "new").await;
    }
    in_sync(&mesh, &[0, 1, 2]).await;
    set(&mesh, 1, &[]);
    set(&mesh, 0, &[2]);
    set(&mesh, 2, &[0]);
    mesh.sites[0].delete("k0").await;
    in_sync(&mesh, &[0, 2]).await;
    for n in 0..200 {
        let value = if n == 0 { None } else { Some(if n < 50 { "new" } else { "old" }) };
        for site in [0, 2] {
            let found = mesh.sites[site].get(&format!("k{n}")).await.map(|(_, value)| value);
            assert_eq!(found.as_deref(), value, "k{n} at {site}");
        }
    }
    assert!(mesh.sites[1].get("k0").await.is_some(), "who went hears nothing any more");
    let lost: u64 = mesh.sites.iter().map(|site| site.shared.lock().counters().lost).sum();
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn what_was_written_while_one_was_away_from_the_set_is_nowhere_stale() {
    let mut mesh = pair().await;
    for n in 0..100 {
        mesh.sites[0].set(&format!("k{n}"), "old").await;
    }
    in_sync(&mesh, &[0, 1]).await;
    set(&mesh, 0, &[]);
    set(&mesh, 1, &[]);
    eventually("both are alone", || mesh.sites.iter().all(|site| site.links.peers().is_empty())).await;
    for n in 0..50 {
        mesh.sites[0].set(&format!("k{n}"), "new").await;
    }
    for n in 50..60 {
        mesh.sites[0].delete(&format!("k{n}")).await;
    }
    set(&mesh, 1, &[0]);
    set(&mesh, 0, &[1]);
    in_sync(&mesh, &[0, 1]).await;
    for n in 0..100 {
        let key = format!("k{n}");
        let [a, b] = [mesh.sites[0].get(&key).await, mesh.sites[1].get(&key).await];
        assert_eq!(a, b, "{key}");
        let value = a.map(|(_, value)| value);
        match n {
            // b has written nothing in its life, so what a says is what counts.
            0..50 => assert_eq!(value.as_deref(), Some("new"), "{key}"),
            50..60 => assert_eq!(value, None, "{key}"),
            _ => assert_eq!(value.as_deref(), Some("old"), "{key}"),
        }
    }
}

#[tokio::test]
async fn both_wrote_while_they_were_no_peers() {
    let mut mesh = pair().await;
    for n in 0..100 {
        mesh.sites[n % 2].set(&format!("k{n}"), "old").await;
    }
    in_sync(&mesh, &[0, 1]).await;
    // Only one side forgets the other, which goes on owing.
    set(&mesh, 0, &[]);
    eventually("a is alone", || mesh.sites[0].links.peers().is_empty()).await;
    eventually("b has no link", || mesh.sites[1].links.peers()[0].state != LinkState::Streaming).await;
    for n in 0..20 {
        mesh.sites[1].set(&format!("k{n}"), "b").await;
    }
    for n in 10..40 {
        mesh.sites[0].set(&format!("k{n}"), "a").await;
    }
    set(&mesh, 0, &[1]);
    in_sync(&mesh, &[0, 1]).await;
    for n in 0..100 {
        let key = format!("k{n}");
        let [a, b] = [mesh.sites[0].get(&key).await, mesh.sites[1].get(&key).await];
        assert_eq!(a, b, "{key}");
        let value = a.map(|(_, value)| value);
        assert!(n >= 40 || value.as_deref() != Some("old"), "{key} is stale");
    }
}

#[tokio::test]
async fn a_backlog_goes_with_its_peer() {
    let mut mesh = pair().await;
    mesh.net(Net::Cut);
    eventually("the cut is noticed", || mesh.sites[0].links.peers()[0].state == LinkState::Down).await;
    for n in 0..2000 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    assert!(mesh.sites[0].shared.lock().counters().ledger_entries >= 2000);
    set(&mesh, 0, &[]);
    eventually("nothing is kept for who went", || {
        mesh.sites[0].shared.lock().counters().ledger_entries < 2000
    })
    .await;
    for n in 0..1000 {
        mesh.sites[0].set(&format!("l{n}"), "v").await;
    }
    let counters = mesh.sites[0].shared.lock().counters();
    assert_eq!((counters.ledger_entries, counters.parted, counters.lost), (0, 2000, 0));
}

#[tokio::test]
async fn a_peer_moves() {
    let mut mesh = pair().await;
    mesh.sites[0].set("k", "v").await;
    let full = mesh.sites[0].links.peers()[0].resync.full;
    let direct = Peer { site: Some("b".to_owned()), address: mesh.listens[1].clone() };
    mesh.relays[0][1].set(Net::Cut);
    mesh.sites[0].set("l", "v").await;
    mesh.sites[0].set.set(vec![direct.clone()]).unwrap();
    in_sync(&mesh, &[0, 1]).await;
    mesh.sites[1].wait_for("l", Some("v")).await;
    let link = mesh.sites[0].links.peers().remove(0);
    assert_eq!((link.addr, link.resync.full), (direct.address, full), "what it was owed was kept");
}

#[tokio::test]
async fn places_are_used_again() {
    let mut mesh = Mesh::apart(2).await;
    set(&mesh, 1, &[0]);
    for round in 0..80 {
        set(&mesh, 0, &[1]);
        eventually("it is there", || mesh.sites[0].links.peers().len() == 1).await;
        mesh.sites[0].set("k", &round.to_string()).await;
        set(&mesh, 0, &[]);
        eventually("it is gone", || mesh.sites[0].links.peers().is_empty()).await;
    }
    set(&mesh, 0, &[1]);
    in_sync(&mesh, &[0, 1]).await;
    assert!(mesh.sites[0].links.peers()[0].id < 4, "a place is found again soon");
    assert_eq!(mesh.sites[1].get("k").await, mesh.sites[0].get("k").await);
}

/// A site that was elsewhere before: what its memcached holds shall not meet what the shard has.
#[tokio::test]
async fn a_site_that_begins_afresh_takes_all_and_tells_nothing() {
    let mut mesh = Mesh::apart(2).await;
    for n in 0..100 {
        mesh.sites[0].set(&format!("k{n}"), "a").await;
        mesh.sites[1].set(&format!("k{}", n + 50), "b").await;
    }
    set(&mesh, 0, &[1]);
    let peers = vec![peer(&mesh, 1, 0)];
    mesh.sites[1].set.set_afresh(peers.clone()).unwrap();
    in_sync(&mesh, &[0, 1]).await;
    for n in 0..150 {
        let key = format!("k{n}");
        let value = (n < 100).then(|| "a".to_owned());
        for site in &mut mesh.sites {
            assert_eq!(site.get(&key).await.map(|(_, value)| value), value, "{key}");
        }
    }
    // Said again it changes nothing.
    mesh.sites[0].set("k0", "later").await;
    mesh.sites[1].set.set_afresh(peers).unwrap();
    mesh.sites[1].wait_for("k0", Some("later")).await;
    assert!(mesh.sites[1].get("k1").await.is_some());
}
