//! Peers written by hand, after docs/peer-link.md: served as it says, and held to its rules.

use memcloud_proxy::replication::{PeerId, wall_clock_ms};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Mesh, PAIR, PEER_TIMEOUT, eventually};
use crate::wire::Net;

#[tokio::test]
async fn garbage_on_peer_listen_is_told_off_and_harms_nobody() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    let long = [b"ml hello ".as_slice(), &[b'x'; 4000]].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"get k\r\n", "ml refused malformed\r\n"),
        (b"\x80\x00\x00\x00", "ml refused malformed\r\n"),
        (b"\x16\x03\x01\x02\x00", "ml refused malformed\r\n"),
        (b"ml ack 7\r\n", "ml refused malformed\r\n"),
        (b"ms k 5 T0 F0 Pmc1/b/1\r\nhello\r\n", "ml refused malformed\r\n"),
        (&long, "ml refused malformed\r\n"),
        (b"ml hello V0 Sb R1\r\n", "ml refused version\r\n"),
        (b"ml hello V2 Sa R1\r\n", "ml refused same-site\r\n"),
    ];
    for (bytes, answer) in cases {
        assert_eq!(converse(&mesh.listens[0], bytes).await, *answer, "{}", String::from_utf8_lossy(bytes));
    }
    let answer = converse(&mesh.listens[0], b"ml hello V2 Sz R1\r\n").await;
    assert!(
        answer.starts_with("ml hello V2 Sa R") && answer.ends_with("ml refused unknown-peer\r\n"),
        "{answer}"
    );
    // One that says nothing at all is not waited for.
    assert_eq!(converse(&mesh.listens[0], b"").await, "");
    assert_eq!(mesh.sites[0].links.strangers().iter().sum::<u64>(), cases.len() as u64 + 2);
    mesh.sites[0].set("k", "v").await;
    mesh.sites[1].wait_for("k", Some("v")).await;
    mesh.in_sync().await;
}

/// Says `bytes` and hears until the other side closes.
async fn converse(addr: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut heard = String::new();
    timeout(PEER_TIMEOUT * 8, stream.read_to_string(&mut heard))
        .await
        .expect("the other side closes")
        .unwrap();
    heard
}

#[tokio::test]
async fn a_hand_written_peer_is_served_and_held_to_the_rules() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Cut);
    eventually("the cut is noticed", || !mesh.sites[0].links.peers()[0].inbound).await;
    let now_ms = wall_clock_ms();
    let time = |n: u64| format!("{:x}", (now_ms << 20) + n);
    let mut peer = TcpStream::connect(&mesh.listens[0]).await.unwrap();
    let mut say = format!("ml hello V2 Sb R2a\r\nms k 3 T0 F9 Pmc1/b/{}\r\nnew\r\n", time(2));
    say += &format!("ms k 3 T0 F9 Pmc1/b/{}\r\nold\r\n", time(1));
    say += &format!("md other Pmc1/b/{}\r\nms home 1 T0 F0 Pmc1/a/{}\r\nx\r\n", time(3), time(4));
    say += &format!("ml mark Pmc1/b/{} O0\r\n", time(3));
    peer.write_all(say.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.ends_with("ml ack 4\r\n") {
        let mut more = [0; 4096];
        let read = timeout(PEER_TIMEOUT * 4, peer.read(&mut more)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {heard:?}");
        heard += std::str::from_utf8(&more[..read]).unwrap();
    }
    assert!(heard.starts_with("ml hello V2 Sa R"), "{heard}");
    assert!(heard.contains("\r\nml ack 0\r\n"), "{heard}");
    assert_eq!(mesh.sites[0].get("k").await, Some((9, "new".to_owned())));
    assert_eq!(mesh.sites[0].get("home").await, None, "our own mutations are not taken from others");
    let counters = mesh.sites[0].shared.lock().status(PeerId(0), now_ms).counters;
    assert_eq!((counters.applied, counters.superseded, counters.echo), (2, 1, 1));
    // A third site's mutation ends the link.
    peer.write_all(format!("md k Pmc1/c/{}\r\n", time(9)).as_bytes()).await.unwrap();
    let mut rest = String::new();
    timeout(PEER_TIMEOUT * 4, peer.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.ends_with("ml refused malformed\r\n"), "{rest}");
}

/// A connection on which a peer asks, and what it was told.
async fn asking(mesh: &Mesh) -> (BufReader<TcpStream>, String) {
    let mut peer = BufReader::new(TcpStream::connect(&mesh.listens[0]).await.unwrap());
    peer.get_mut().write_all(b"ml hello V2 Sb R2a Qresync\r\n").await.unwrap();
    let (mut hello, mut told) = (String::new(), String::new());
    peer.read_line(&mut hello).await.unwrap();
    assert!(hello.starts_with("ml hello V2 Sa R"), "{hello}");
    peer.read_line(&mut told).await.unwrap();
    (peer, told)
}

async fn nobody_asks(mesh: &Mesh) {
    eventually("no resync is on", || mesh.sites[0].links.peers()[0].resync.asking == 0).await;
}

#[tokio::test]
async fn a_peer_asks_on_a_few_connections_and_is_told_to_come_again_on_more() {
    let mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    nobody_asks(&mesh).await;
    let mut peers = Vec::new();
    for _ in 0..4 {
        let (peer, told) = asking(&mesh).await;
        assert_eq!(told, "ml ack 0\r\n");
        peers.push(peer);
    }
    assert_eq!(asking(&mesh).await.1, "ml refused busy\r\n");
    // Nonsense costs the connection and gives its seat back.
    let mut peer = peers.pop().unwrap();
    peer.get_mut().write_all(b"ml list ff 0\r\n").await.unwrap();
    assert_eq!(peer.read_line(&mut String::new()).await.unwrap(), 0, "shut out");
    assert_eq!(asking(&mesh).await.1, "ml ack 0\r\n");
    let resync = mesh.sites[0].links.peers()[0].resync;
    assert_eq!(resync.turned_away, 1);
}

#[tokio::test]
async fn a_peer_whose_link_breaks_asks_no_longer() {
    let mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    nobody_asks(&mesh).await;
    let (mut peer, told) = asking(&mesh).await;
    assert_eq!(told, "ml ack 0\r\n");
    mesh.net(Net::Cut);
    let ended = timeout(10 * PEER_TIMEOUT, peer.read_line(&mut String::new())).await;
    assert_eq!(ended.expect("it is closed").unwrap(), 0);
    nobody_asks(&mesh).await;
}
