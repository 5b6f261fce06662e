//! What strangers can do to the listener for peers.

use std::task::Poll;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::Address;
use crate::link::{LinkConfig, Links, spawn};
use crate::replication::{Bounds, Shared};

/// A site without peers, and where it listens for some.
async fn site() -> (Arc<Links>, String) {
    let config = LinkConfig {
        site: "a".to_owned(),
        shard: None,
        peers: Vec::new(),
        wanted: None,
        upstream: Address::Unix("/nobody".into()),
        upstream_timeout: PATIENCE,
        peer_timeout: PATIENCE,
        resync_rate: 0,
        warmup_timeout: PATIENCE,
        drain_timeout: Duration::ZERO,
        lists: None,
        fills: None,
        sessions: None,
    };
    let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".to_owned())).await.unwrap();
    let Listener::Tcp(bound) = &listener else { panic!("it is TCP") };
    let addr = bound.local_addr().unwrap().to_string();
    let shared = Shared::new("a", 0, Bounds::default());
    (spawn(config, Some(listener), shared, CancellationToken::new(), &TaskTracker::new()), addr)
}

/// Says what no peer says, and hears that.
async fn is_answered(stream: &mut TcpStream) {
    let mut answer = [0; 21];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ml refused malformed\r");
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_until_one_ends() {
    let (links, addr) = site().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(&addr).await.unwrap());
    }
    let mut beyond = TcpStream::connect(&addr).await.unwrap();
    beyond.write_all(b"nonsense\r\n").await.unwrap();
    let mut answered = std::pin::pin!(is_answered(&mut beyond));
    // Connections are let in in the order in which they came: when the last place is taken, the next one has been passed by.
    std::future::poll_fn(|cx| {
        assert!(answered.as_mut().poll(cx).is_pending(), "it was let in");
        cx.waker().wake_by_ref();
        if links.listener_full() == 1 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    silent.pop();
    answered.await;
}

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(600);
