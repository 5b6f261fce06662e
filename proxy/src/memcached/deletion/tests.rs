//! A memcached that loses its tongue.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::replication::Bounds;

const PATIENCE: Duration = Duration::from_millis(200);

/// Answers what every connection begins with, and reads the first deletion.
async fn asked(listener: &TcpListener, pid: u32) -> BufReader<TcpStream> {
    let mut peer = BufReader::new(listener.accept().await.unwrap().0);
    loop {
        let mut line = String::new();
        peer.read_line(&mut line).await.unwrap();
        let answer = match line.trim_end() {
            "mn" => "MN\r\n".to_owned(),
            "stats" => {
                format!("STAT pid {pid}\r\nSTAT uptime 1\r\nSTAT time 9\r\nSTAT curr_items 1\r\nEND\r\n")
            }
            _ => return peer,
        };
        peer.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn memcached() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = Address::Tcp(listener.local_addr().unwrap().to_string());
    (listener, addr)
}

#[tokio::test]
async fn what_had_no_answer_is_waited_for_and_then_done_again() {
    let (listener, addr) = memcached().await;
    let shared = Shared::new("a", 1, Bounds::default());
    let closed = Arc::new(AtomicBool::new(false));
    let closing = Arc::clone(&closed);
    let serve = tokio::spawn(async move {
        let mut silent = asked(&listener, 1).await;
        // It has read the deletion, and carries it out when it likes.
        assert_eq!(silent.read(&mut [0; 64]).await.unwrap(), 0, "it is left");
        assert!(timeout(PATIENCE, listener.accept()).await.is_err(), "nothing is tried before it has closed");
        closing.store(true, Ordering::SeqCst);
        drop(silent);
        asked(&listener, 1).await.write_all(b"NF\r\n").await.unwrap();
    });
    let mut deletion = Deletion::of(&addr, PATIENCE, &shared, shared.memcached_life());
    let deleted = timeout(20 * PATIENCE, deletion.carry_out(&[b"k"], pending)).await;
    assert_eq!(deleted, Ok(Ended::Deleted));
    assert!(closed.load(Ordering::SeqCst) && deletion.is_troubled());
    serve.await.unwrap();
}

#[tokio::test]
async fn another_memcached_has_nothing_to_delete() {
    let (listener, addr) = memcached().await;
    let shared = Shared::new("a", 1, Bounds::default());
    let serve = tokio::spawn(async move {
        drop(asked(&listener, 1).await);
        let mut another = asked(&listener, 2).await;
        assert_eq!(another.read(&mut [0; 64]).await.unwrap(), 0, "it is asked for nothing");
    });
    let first = Incarnation::of_stats(
        [&b"STAT pid 1"[..], b"STAT uptime 1", b"STAT time 9", b"STAT curr_items 1"].into_iter(),
    );
    let mut deletion = Deletion::of(&addr, PATIENCE, &shared, first);
    let deleted = timeout(20 * PATIENCE, deletion.carry_out(&[b"k"], pending)).await;
    assert_eq!(deleted, Ok(Ended::Died));
    drop(deletion);
    serve.await.unwrap();
}
