//! Connecting to the local memcached, and asking who it is before anything is believed of what it holds.
//!
//! A memcached that has started again is empty. Whoever reads there a key that is owed must know that first, or takes
//! the loss for a deletion and carries it to the peers.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::local::{Local, out_of_step};
use crate::config::Address;
use crate::replication::{Incarnation, Shared};

/// A connection to memcached, after the replica was told which life of it this is.
pub(crate) async fn connect(addr: &Address, patience: Duration, shared: &Shared) -> io::Result<Local> {
    let mut local = Local::connect(addr, patience).await?;
    let writes = shared.writes();
    local.write(b"stats\r\n").await?;
    let mut lines = Vec::new();
    loop {
        let line = local.line().await?;
        if line.as_ref() == b"END" {
            break;
        }
        // What is left unread would be taken for the answer to something else.
        if !line.starts_with(b"STAT ") || lines.len() == STATS_LINES_MAX {
            return Err(out_of_step());
        }
        lines.push(line);
    }
    let seen = Incarnation::of_stats(lines.iter().map(AsRef::as_ref)).ok_or_else(out_of_step)?;
    if shared.memcached_seen(seen, writes) {
        tracing::warn!("memcached has started again, empty: it is filled from a peer");
    }
    Ok(local)
}

/// Asks who it is before the first app is let in: what apps write would hide that it was empty, and nobody would fill it. One
/// that is not there yet is empty when it comes. One that does not answer in time does not answer apps either.
pub(crate) async fn meet(addr: &Address, patience: Duration, shared: &Shared) {
    if let Ok(Err(error)) = timeout(patience, connect(addr, patience, shared)).await
        && nobody_listens(&error)
    {
        shared.memcached_is_away();
    }
}

/// Whether an attempt to connect says that there is no memcached.
pub(crate) fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Some hundred in the versions known.
const STATS_LINES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use memcloud_protocol::memcache::binary::HEADER;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::replication::Bounds;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn stats(items: u64) -> String {
        format!("STAT pid 7\r\nSTAT uptime 1\r\nSTAT time 9\r\nSTAT curr_items {items}\r\nEND\r\n")
    }

    /// Whether it is filled, once apps have been let in.
    async fn is_filled(answer: Option<String>, later: &str) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Address::Tcp(listener.local_addr().unwrap().to_string());
        let server = answer.map(|answer| {
            tokio::spawn(async move {
                let mut client = BufReader::new(listener.accept().await.unwrap().0);
                for answer in ["MN\r\n", &answer] {
                    client.read_line(&mut String::new()).await.unwrap();
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            })
        });
        let shared = Shared::new("a", 1, Bounds::default());
        meet(&addr, PATIENCE, &shared).await;
        if let Some(server) = server {
            server.await.unwrap();
        }
        let lines = later.split_terminator("\r\n").map(str::as_bytes);
        shared.memcached_seen(Incarnation::of_stats(lines).unwrap(), shared.writes());
        let warming = shared.lock().warming();
        warming.is_some()
    }

    /// What comes of a connection to one that says so many lines of itself.
    async fn said(lines: usize) -> io::Result<Local> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Address::Tcp(listener.local_addr().unwrap().to_string());
        let known = "STAT pid 7\r\nSTAT uptime 1\r\nSTAT time 9\r\nSTAT curr_items 5\r\n";
        let more = "STAT more 1\r\n".repeat(lines - known.lines().count());
        let server = tokio::spawn(async move {
            let mut client = BufReader::new(listener.accept().await.unwrap().0);
            for answer in ["MN\r\n", &format!("{known}{more}END\r\n"), "VERSION 1.6.18\r\n"] {
                if client.read_line(&mut String::new()).await.unwrap_or(0) == 0 {
                    break;
                }
                let _ = client.write_all(answer.as_bytes()).await;
            }
        });
        let shared = Shared::new("a", 1, Bounds::default());
        let mut connected = connect(&addr, Duration::from_secs(60), &shared).await;
        if let Ok(local) = &mut connected {
            local.write(b"version\r\n").await.unwrap();
            assert_eq!(local.line().await.unwrap().as_ref(), b"VERSION 1.6.18", "it is in step");
        }
        server.abort();
        connected
    }

    #[tokio::test]
    async fn one_that_says_too_much_of_itself_is_not_spoken_with() {
        assert!(said(STATS_LINES_MAX).await.is_ok());
        assert!(said(STATS_LINES_MAX + 1).await.is_err());
    }

    /// Found by memcached's own issue_50.t: the first app was not let in before its patience was at an end.
    #[tokio::test]
    async fn one_that_speaks_packets_only_keeps_nobody_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = Address::Tcp(listener.local_addr().unwrap().to_string());
        let server = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            client.read_exact(&mut [0; HEADER]).await.unwrap();
        });
        let shared = Shared::new("a", 1, Bounds::default());
        let met = timeout(Duration::from_secs(20), meet(&addr, Duration::from_secs(3600), &shared)).await;
        assert!(met.is_ok(), "it waits for a header, and closes at what is none");
        server.await.unwrap();
    }

    /// Found by the simulation: the first app's write came before the question, and an empty memcached was taken for a full one.
    #[tokio::test]
    async fn an_empty_memcached_is_filled_whatever_apps_write_to_it_at_once() {
        assert!(is_filled(Some(stats(0)), &stats(1)).await);
        assert!(!is_filled(Some(stats(1)), &stats(1)).await, "it held something before");
        assert!(is_filled(None, &stats(1)).await, "nobody listened");
        assert!(!is_filled(Some("ERROR\r\n".into()), &stats(1)).await, "it says nothing of itself");
    }
}
