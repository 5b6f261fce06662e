//! Servers that close, for one reason or the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::super::capability::Monitor;
use super::*;

const PATIENCE: Duration = Duration::from_secs(5);
const NOOP_ANSWERED: [u8; 24] =
    [0x81, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A server: what it does with each connection whose first bytes have come.
async fn serve<F>(each: impl Fn(TcpStream, u8) -> F + Send + 'static) -> Address
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0];
            if stream.peek(&mut first).await.unwrap() > 0 {
                let mut packet = [0; 24];
                stream.read_exact(&mut packet).await.unwrap();
                tokio::spawn(each(stream, first[0]));
            }
        }
    });
    Address::Tcp(address)
}

async fn answer_packets(mut stream: TcpStream, at_most: usize) {
    for _ in 0..at_most {
        stream.write_all(&NOOP_ANSWERED).await.unwrap();
        if stream.read_exact(&mut [0; 24]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn one_that_answers_packets_and_closes_at_text_refuses_text() {
    let address = serve(|stream, first| async move {
        if first == 0x80 {
            answer_packets(stream, usize::MAX).await;
        }
    })
    .await;
    assert!(Packets::of_binary_only(&address, PATIENCE).await.is_some());
}

#[tokio::test]
async fn one_that_goes_meanwhile_proves_nothing() {
    let address = serve(|stream, first| async move {
        if first == 0x80 {
            answer_packets(stream, 1).await;
        }
    })
    .await;
    assert!(Packets::of_binary_only(&address, PATIENCE).await.is_none());
}

#[tokio::test]
async fn one_that_answers_text_takes_it() {
    let address = serve(|mut stream, first| async move {
        match first {
            0x80 => answer_packets(stream, usize::MAX).await,
            _ => stream.write_all(b"VERSION 1.6.18\r\n").await.unwrap(),
        }
    })
    .await;
    assert!(Packets::of_binary_only(&address, PATIENCE).await.is_none());
}

/// Found by chaos: a memcached that was killed twice within a second was taken for one that speaks packets only. Sessions of text
/// that began then were handed through blindly, and nobody heard of what they wrote.
#[tokio::test]
async fn one_that_is_killed_again_and_again_is_not_taken_for_one_without_text() {
    let (closed, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let told = Arc::clone(&enough);
    let address = serve(move |stream, _| {
        drop(stream);
        if closed.fetch_add(1, Ordering::Relaxed) >= 8 {
            told.notify_one();
        }
        async {}
    })
    .await;
    let wanted = Arc::new(Notify::new());
    wanted.notify_one();
    let (monitor, state) = Monitor::new(address, PATIENCE, wanted, None);
    let monitor = tokio::spawn(monitor.run());
    timeout(PATIENCE, enough.notified()).await.expect("it is asked again");
    assert!(!state.borrow().asked && !state.borrow().capability.binary_only);
    monitor.abort();
}
