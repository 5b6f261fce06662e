//! An empty memcached that is filled: in parts, and by whoever there is.

use std::time::Duration;

use memcloud_proxy::link::LinkConfig;

use crate::harness::{Mesh, PAIR, eventually};
use crate::wire::Net;

const KEYS: usize = 5000;
/// Some answers long, each of 256 KiB.
const VALUE_BYTES: usize = 500;
/// Slow enough to be cut amid it.
const RATE: u64 = 1 << 20;

#[tokio::test]
async fn a_copy_that_is_cut_goes_on_where_it_was() {
    let slowly = |config: &mut LinkConfig| config.resync_rate = RATE;
    let mut mesh = Mesh::tuned(PAIR, |_, _| Net::Open, slowly).await;
    mesh.in_sync().await;
    let value = "v".repeat(VALUE_BYTES);
    for key in 0..KEYS {
        mesh.sites[0].set(&format!("k{key}"), &value).await;
    }
    mesh.in_sync().await;
    let copied = |mesh: &Mesh| mesh.sites[1].links.peers()[0].resync.copied as usize;
    let before = copied(&mesh);
    mesh.sites[1].restart_memcached(&[]).await;
    mesh.sites[1].notice_memcached().await;
    eventually("a part is copied", || copied(&mesh) - before > KEYS / 4).await;
    mesh.net(Net::Cut);
    eventually("the copy is cut", || mesh.sites[1].links.peers()[0].resync.broken > 0).await;
    assert!(mesh.sites[1].shared.lock().warming().is_some(), "it is not whole");
    assert!(copied(&mesh) - before < KEYS, "all was copied before the cut");
    mesh.net(Net::Open);
    mesh.in_sync().await;
    assert_eq!(copied(&mesh) - before, KEYS, "each of them once");
    for key in 0..KEYS {
        assert_eq!(mesh.sites[1].get(&format!("k{key}")).await, Some((5, value.clone())), "k{key}");
    }
}

#[tokio::test]
async fn empty_sites_do_not_wait_for_another_one_longer_than_they_were_told() {
    let third_is_cut_off = |from, to| if from == 2 || to == 2 { Net::Cut } else { Net::Open };
    let at_once = |config: &mut LinkConfig| config.warmup_timeout = Duration::ZERO;
    let mut mesh = Mesh::tuned(&[&[], &[], &[]], third_is_cut_off, at_once).await;
    let whole = |site: usize| mesh.sites[site].shared.lock().warming().is_none();
    eventually("the two are whole", || whole(0) && whole(1)).await;
    assert!(!whole(2), "it hears nobody");
    mesh.sites[0].set("k", "v").await;
    mesh.sites[1].wait_for("k", Some("v")).await;
    mesh.net(Net::Open);
    mesh.in_sync().await;
    for site in &mut mesh.sites {
        assert_eq!(site.get("k").await, Some((5, "v".to_owned())));
    }
}
