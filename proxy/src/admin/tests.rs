use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

#[derive(Default)]
struct Fake {
    not_ready: Mutex<Option<String>>,
}

impl AdminSource for Fake {
    fn status(&self) -> Status {
        Status {
            site: "a".to_owned(),
            version: "0.1.0",
            in_sync: true,
            upstream: UpstreamStatus {
                addr: "127.0.0.1:11210".to_owned(),
                state: UpstreamState::Up,
                version: Some("1.6.18".to_owned()),
            },
            versioned: true,
            unversioned_because: None,
            failover: None,
            control: None,
            peers: vec![PeerStatus {
                site: None,
                addr: "127.0.0.1:9".to_owned(),
                state: PeerState::Connecting,
                inbound: InboundState::Down,
                live: false,
                lag_ms: 0,
                backlog_entries: 1,
                backlog_bytes: 2,
                unacknowledged: 3,
                resyncs_full: 4,
                resyncs_partial: 5,
                spilled_keys: None,
                lost_unrepaired: 6,
                resync: None,
                reason: None,
            }],
            warming: false,
            lost_unrepaired: 0,
            sessions: 3,
            tunnelled_sessions: 1,
            ack: AckStatus { mode: "local", ..AckStatus::default() },
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn control(&self) -> Option<ControlFigures> {
        None
    }

    fn counters(&self) -> Vec<Arc<WorkerCounters>> {
        let counters = WorkerCounters::default();
        counters.session_opened(false);
        vec![Arc::new(counters)]
    }

    fn replication(&self) -> ReplicationFigures {
        ReplicationFigures::default()
    }

    fn memcached_stats(&self) -> Pin<Box<dyn Future<Output = io::Result<MemcachedStats>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Status line with headers, and body.
async fn ask(addr: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn paths_answer_as_the_contract_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (source, stop) = (Arc::new(Fake::default()), CancellationToken::new());
    let server = tokio::spawn(serve(listener, Arc::clone(&source) as _, stop.clone()));

    let (head, body) = ask(addr, "/status").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/json"), "{head}");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "site": "a", "version": "0.1.0", "in_sync": true,
        "upstream": { "addr": "127.0.0.1:11210", "state": "up", "version": "1.6.18" },
        "versioned": true,
        "peers": [ { "site": null, "addr": "127.0.0.1:9", "state": "connecting", "inbound": "down", "live": false, "lag_ms": 0, "backlog_entries": 1,
                     "backlog_bytes": 2, "unacknowledged": 3, "resyncs_full": 4, "resyncs_partial": 5,
                     "lost_unrepaired": 6 } ],
        "warming": false, "lost_unrepaired": 0, "sessions": 3, "tunnelled_sessions": 1,
        "ack": { "mode": "local", "peer": 0, "degraded": 0, "timeout": 0, "failed": 0 }
    });
    assert_eq!(status, expected);

    assert!(ask(addr, "/live").await.0.starts_with("HTTP/1.1 200"));
    assert!(ask(addr, "/ready").await.0.starts_with("HTTP/1.1 200"));
    *source.not_ready.lock().unwrap() = Some("memcached does not answer".to_owned());
    let (head, body) = ask(addr, "/ready").await;
    assert!(head.starts_with("HTTP/1.1 503") && body == "memcached does not answer\n", "{head} {body}");
    assert!(ask(addr, "/nothing").await.0.starts_with("HTTP/1.1 404"));

    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_memcached_that_hangs_does_not_hold_up_a_scrape() {
    let answer = show_metrics(State(Arc::new(Fake::default()) as Arc<dyn AdminSource>)).await;
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        text.contains("\nmemcached_up 0\n") && text.contains("\nmemcloud_proxy_upstream_up 1\n"),
        "{text}"
    );
    assert!(text.contains("\nmemcloud_proxy_sessions 1\n"));
}

#[tokio::test]
async fn an_open_connection_does_not_keep_it_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Arc::new(Fake::default()), stop.clone()));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    stop.cancel();
    timeout(CLOSING_TIME * 5, server).await.unwrap().unwrap().unwrap();
}
