//! A listener that gives out connections on which TLS stands already.
//!
//! ```text
//!   accept ──► handshakes, each a task ──► the server of the API
//!                 │ too slow, too many, no TLS: closed, and counted
//! ```
//!
//! Promises that whoever connects and says nothing holds up nobody: handshakes run beside each other, each has a time, and when there
//! are too many the oldest is given up. Whoever speaks plain HTTP is told so in plain HTTP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A handshake takes two round trips.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Handshakes at a time; each holds a descriptor and some 40 KB.
const HANDSHAKES_MAX: usize = 512;
/// Before accepting is tried again: descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// The first byte of a TLS record that holds a handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// Read of a request that is refused, so that the refusal arrives.
const REFUSED_BYTES_MAX: u64 = 1 << 16;

type Shaken = Result<(TlsStream<TcpStream>, SocketAddr), &'static str>;

/// Connections on which TLS stands.
pub struct Https {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    begun: JoinSet<Shaken>,
    /// The oldest first; some may have ended.
    order: VecDeque<AbortHandle>,
    handshakes_max: usize,
}

impl Https {
    #[must_use]
    pub fn new(tcp: TcpListener, config: ServerConfig) -> Self {
        Self {
            tcp,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            begun: JoinSet::new(),
            order: VecDeque::new(),
            handshakes_max: HANDSHAKES_MAX,
        }
    }

    fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.begun.len() >= self.handshakes_max {
            self.order.retain(|handshake| !handshake.is_finished());
            if let Some(oldest) = self.order.pop_front() {
                oldest.abort();
                failed("crowded");
            }
        }
        let acceptor = self.acceptor.clone();
        let handshake = self.begun.spawn(async move {
            timeout(HANDSHAKE_WITHIN, shake(acceptor, stream, from)).await.unwrap_or(Err("slow"))
        });
        self.order.push_back(handshake);
        if self.order.len() > 2 * self.handshakes_max {
            self.order.retain(|handshake| !handshake.is_finished());
        }
    }
}

impl Listener for Https {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                biased;
                Some(shaken) = self.begun.join_next() => match shaken {
                    Ok(Ok(shaken)) => return shaken,
                    Ok(Err(reason)) => failed(reason),
                    // Given up, and counted then.
                    Err(_) => {}
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, from)) => self.begin(stream, from),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "no connection can be accepted");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

async fn shake(acceptor: TlsAcceptor, mut stream: TcpStream, from: SocketAddr) -> Shaken {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => {
            // That it may be gone already is no matter.
            let _ = refuse(&mut stream).await;
            return Err("plain");
        }
        _ => return Err("closed"),
    }
    match acceptor.accept(stream).await {
        Ok(stream) => Ok((stream, from)),
        Err(error) => {
            tracing::debug!(%from, %error, "a TLS handshake failed");
            Err("failed")
        }
    }
}

/// Closed before all was read, a connection would lose the answer.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let says = r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"this address speaks TLS only: write https:// instead of http://"}"#;
    let length = says.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{says}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

fn failed(reason: &'static str) {
    metrics::counter!("memcloud_control_tls_handshakes_failed_total", "reason" => reason).increment(1);
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
