//! Dropping keys that differ where nobody knows which side is the newer one.
//!
//! Each is deleted here under its gate, as a write of our own: so it is gone on every side. The gate opens when
//! memcached has carried it out, however long that takes. What was decided about the other keys is void by then, and
//! so it is when the resync was cut short: they keep what they have until they are compared again.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::Context;
use super::watcher::Watcher;
use crate::config::Address;
use crate::memcached::deletion::{Deletion, Ended};
use crate::replication::{Begin, Effect, Outcome, Shared, next_lane, wall_clock_ms};

/// Deletes keys here and so everywhere.
pub(super) async fn drop_keys(
    context: &Arc<Context>,
    keys: Vec<Box<[u8]>>,
    watcher: &Watcher<'_>,
) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    watcher.decides();
    watcher.dropped(keys.len());
    let upstream = (context.config.upstream.clone(), context.config.upstream_timeout);
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    // A task of its own: a resync may be cut short, and a gate that is held has to be given back.
    let dropping = tokio::spawn(delete_all(Arc::clone(&context.shared), upstream, keys, cut));
    dropping.await.map_err(io::Error::other)?
}

async fn delete_all(
    shared: Arc<Shared>,
    upstream: (Address, Duration),
    keys: Vec<Box<[u8]>>,
    cut: CancellationToken,
) -> io::Result<()> {
    let mut deletion = Deletion::of(&upstream.0, upstream.1, &shared, shared.memcached_life());
    for key in &keys {
        if cut.is_cancelled() || deletion.is_troubled() {
            return Err(io::Error::other("memcached had to be waited for"));
        }
        let slot = match shared.begin(key, next_lane()) {
            Begin::Granted(slot) => slot,
            Begin::Waiting(wait) => wait.await,
        };
        match deletion.carry_out(std::slice::from_ref(key), pending).await {
            Ended::Deleted => {
                shared.complete(vec![Outcome::Key(slot, Effect::Removed)], wall_clock_ms());
            }
            Ended::Died => {
                shared.with(|replica, woken| replica.died_with_memcached(vec![slot], woken));
                return Err(io::Error::other("memcached has started again"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::replication::Bounds;

    /// Answers a connection until a deletion comes.
    async fn asked(listener: &TcpListener) -> BufReader<TcpStream> {
        let mut peer = BufReader::new(listener.accept().await.unwrap().0);
        loop {
            let mut line = String::new();
            peer.read_line(&mut line).await.unwrap();
            let answer: &[u8] = match line.trim_end() {
                "mn" => b"MN\r\n",
                "stats" => b"STAT pid 1\r\nSTAT uptime 1\r\nSTAT time 9\r\nSTAT curr_items 1\r\nEND\r\n",
                _ => return peer,
            };
            peer.write_all(answer).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_gate_stays_closed_until_memcached_has_deleted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Address::Tcp(listener.local_addr().unwrap().to_string());
        let shared = Shared::new("a", 1, Bounds::default());
        let keys = vec![Box::from(&b"one"[..]), Box::from(&b"two"[..])];
        let upstream = (addr, Duration::from_secs(5));
        let deleting =
            tokio::spawn(delete_all(Arc::clone(&shared), upstream, keys, CancellationToken::new()));
        // memcached goes before it has answered, and is not there for a while.
        drop(asked(&listener).await);
        let again = listener.accept().await.unwrap().0;
        let waiting = shared.begin(b"one", next_lane());
        assert!(matches!(waiting, Begin::Waiting(_)), "the deletion may still be carried out");
        drop(again);
        asked(&listener).await.write_all(b"HD\r\n").await.unwrap();
        if let Begin::Waiting(wait) = waiting {
            let slot = wait.await;
            shared.complete(vec![Outcome::Key(slot, Effect::None)], wall_clock_ms());
        }
        assert!(deleting.await.unwrap().is_err(), "what was decided about the other one is void");
        assert!(matches!(shared.begin(b"two", next_lane()), Begin::Granted(_)));
        assert!(shared.lock().is_owed(b"one") && !shared.lock().is_owed(b"two"));
    }
}
