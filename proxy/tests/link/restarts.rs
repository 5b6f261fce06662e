//! A memcached that starts again, empty, while two sites compare.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use memcloud_proxy::replication::{Loss, PeerId, wall_clock_ms};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};

use crate::harness::{Mesh, Site, eventually};
use crate::memcached::Memcached;
use crate::wire::Net;

const KEYS: usize = 2000;

/// Whose memcached starts again when it is asked to list its items: the one that compares, or the one that answers.
async fn nothing_of_the_other_site_is_dropped(restarted: usize) {
    let mut mesh = Mesh::new(&[&[], &[]]).await;
    mesh.in_sync().await;
    for key in 0..KEYS {
        mesh.sites[0].set(&format!("k{key}"), "v").await;
    }
    mesh.in_sync().await;
    let restarts = restart_when_listed(&mut mesh.sites[restarted]).await;
    // Nobody knows who misses what.
    mesh.sites[0].shared.lock().doubt(PeerId(0));
    eventually("it is listed", || restarts.lock().unwrap().is_none()).await;
    eventually("it was noticed", || mesh.sites[restarted].shared.lock().counters().memcached_restarts > 0)
        .await;
    mesh.in_sync().await;
    for site in &mesh.sites {
        assert_eq!(site.links.peers()[0].resync.dropped, 0);
    }
    for site in &mut mesh.sites {
        site.connect_again().await;
        for key in (0..KEYS).map(|key| format!("k{key}")) {
            assert_eq!(site.get(&key).await, Some((5, "v".to_owned())), "{key}");
        }
    }
}

#[tokio::test]
async fn a_taker_whose_memcached_starts_again_empties_nobody() {
    nothing_of_the_other_site_is_dropped(0).await;
}

#[tokio::test]
async fn a_giver_whose_memcached_starts_again_empties_nobody() {
    nothing_of_the_other_site_is_dropped(1).await;
}

/// From now on: the memcached that is asked to list its items is gone, and the next one answers.
async fn restart_when_listed(site: &mut Site) -> Arc<Mutex<Option<Memcached>>> {
    let aside = |name: &str| site.socket.with_extension(name);
    let (old_socket, new_socket) = (aside("old"), aside("new"));
    let mut old = site.memcached.take().unwrap();
    std::fs::rename(&site.socket, &old_socket).unwrap();
    old.socket.clone_from(&old_socket);
    site.memcached = Some(Memcached::start(&new_socket, &[]).await);
    let listener = UnixListener::bind(&site.socket).unwrap();
    let old = Arc::new(Mutex::new(Some(old)));
    let alive = Arc::clone(&old);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(relay(near, old_socket.clone(), new_socket.clone(), Arc::clone(&alive)));
        }
    });
    old
}

async fn relay(near: UnixStream, old: PathBuf, new: PathBuf, alive: Arc<Mutex<Option<Memcached>>>) {
    let (near_read, mut near_write) = near.into_split();
    let mut near_read = BufReader::new(near_read);
    let is_alive = alive.lock().unwrap().is_some();
    let Ok(far) = UnixStream::connect(if is_alive { old } else { new.clone() }).await else { return };
    let (mut far_read, mut far_write) = far.into_split();
    let mut back = tokio::spawn(async move {
        let _ = copy(&mut far_read, &mut near_write).await;
        near_write
    });
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = tokio::select! {
            read = near_read.read_until(b'\n', &mut line) => read,
            _ = &mut back => return,
        };
        if !matches!(read, Ok(read) if read > 0) {
            return;
        }
        if line.starts_with(b"lru_crawler metadump") && alive.lock().unwrap().take().is_some() {
            // The process has ended before the next one is asked.
            let Ok(near_write) = back.await else { return };
            return pass_on(near_read, near_write, &new, &line).await;
        }
        if far_write.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn pass_on(
    mut near_read: BufReader<OwnedReadHalf>,
    mut near_write: tokio::net::unix::OwnedWriteHalf,
    new: &PathBuf,
    line: &[u8],
) {
    let Ok(far) = UnixStream::connect(new).await else { return };
    let (mut far_read, mut far_write) = far.into_split();
    let _ = far_write.write_all(line).await;
    let back = copy(&mut far_read, &mut near_write);
    let forth = copy(&mut near_read, &mut far_write);
    tokio::select! {
        _ = back => {}
        _ = forth => {}
    }
}

#[tokio::test]
async fn a_comparison_that_decides_nothing_leaves_no_doubt_of_a_peer_that_is_away() {
    let mut mesh = Mesh::new(&[&[], &[], &[]]).await;
    mesh.in_sync().await;
    mesh.sites[0].set("k", "v").await;
    mesh.in_sync().await;
    let (near, away) = (PeerId(0), PeerId(1));
    for site in 0..2 {
        mesh.relays[site][2].set(Net::Cut);
        mesh.relays[2][site].set(Net::Cut);
    }
    let shared = Arc::clone(&mesh.sites[0].shared);
    let is_away = || {
        let status = shared.lock().status(away, wall_clock_ms());
        !status.connected && !status.inbound_connected
    };
    eventually("it is away", is_away).await;
    shared.lock().doubt(near);
    eventually("the two are compared", || shared.lock().loss(near) == Loss::Nothing).await;
    // What was to be said of the absent one is said before the links are shown to be at rest.
    let rests = || !mesh.sites[0].links.peers()[0].progress.is_some_and(|progress| progress.running);
    eventually("it has ended", rests).await;
    assert_eq!(shared.lock().loss(away), Loss::Nothing);
}

#[tokio::test]
async fn who_cannot_say_goodbye_does_not_wait_for_it() {
    let mut mesh = Mesh::new(&[&[], &[]]).await;
    mesh.in_sync().await;
    // The one with the greater name: it does not compare by itself.
    mesh.relays[0][1].set(Net::Cut);
    let b = &mut mesh.sites[1];
    b.set("k", "v").await;
    eventually("all is acknowledged", || b.shared.lock().status(PeerId(0), 0).backlog_entries == 0).await;
    b.shared.lock().doubt(PeerId(0));
    let began = tokio::time::Instant::now();
    b.drain.cancel();
    b.tracker.close();
    b.tracker.wait().await;
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
}
