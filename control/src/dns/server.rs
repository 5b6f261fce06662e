//! Sockets of the zone: one UDP socket for each core, a listener for TCP, and one for TLS when it is asked for (RFC 7858).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_server::server::Server;
use rustls::server::ResolvesServerCert;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use super::zone::Zone;
use crate::registrar::View;

/// How long a TCP client may be silent (RFC 7766 section 6.2.3 asks for seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait for a slow TCP client.
const TCP_ANSWERS_WAITING_MAX: usize = 64;
/// A burst of questions is kept by the kernel until it is their turn.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// What the server is told once.
#[derive(Clone)]
pub struct Plan {
    pub address: SocketAddr,
    /// DNS over TLS, with the certificate of now.
    pub tls: Option<(SocketAddr, Arc<dyn ResolvesServerCert>)>,
    /// UDP sockets.
    pub sockets: usize,
    /// Answers by UDP that a network gets in a second; 0: no limit.
    pub rate: u32,
}

/// An address is taken, or not ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {error}")]
pub struct CannotListen {
    pub what: &'static str,
    pub address: SocketAddr,
    pub error: io::Error,
}

/// Sockets that are bound, and not answered yet.
pub struct Bound {
    servers: Vec<Server<Handler>>,
    address: SocketAddr,
}

/// Binds all, so that what is wrong is said before anything runs.
///
/// # Errors
/// An address is taken, or not ours.
pub async fn bind(plan: &Plan, zone: &Arc<Zone>, view: &Arc<ArcSwap<View>>) -> Result<Bound, CannotListen> {
    let cannot = |error| CannotListen { what: "DNS", address: plan.address, error };
    let mut bound = plain(plan, zone, view).map_err(cannot)?;
    if let (Some((address, certificate)), Some(server)) = (&plan.tls, bound.servers.first_mut()) {
        let listener = tcp(*address);
        let registered = listener.and_then(|listener| {
            server
                .register_tls_listener(listener, TCP_IDLE, Arc::clone(certificate))
                .map_err(io::Error::other)
        });
        registered.map_err(|error| CannotListen { what: "DNS over TLS", address: *address, error })?;
    }
    Ok(bound)
}

fn plain(plan: &Plan, zone: &Arc<Zone>, view: &Arc<ArcSwap<View>>) -> io::Result<Bound> {
    let listener = tcp(plan.address)?;
    // Port 0 is chosen by the listener, and the same for UDP.
    let address = listener.local_addr()?;
    let mut servers = Vec::new();
    let mut listener = Some(listener);
    for number in 0..plan.sockets.max(1) {
        let seed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
        let mut server = Server::new(Handler::new(Arc::clone(zone), Arc::clone(view), plan.rate, seed));
        server.register_socket(udp(address)?);
        if let Some(listener) = listener.take() {
            server.register_listener(listener, TCP_IDLE, TCP_ANSWERS_WAITING_MAX);
        }
        servers.push(server);
    }
    Ok(Bound { servers, address })
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is asked to stop, and then finishes what it has begun.
    pub async fn serve(self, stop: CancellationToken) {
        stop.cancelled().await;
        for mut server in self.servers {
            if let Err(error) = server.shutdown_gracefully().await {
                tracing::warn!(%error, "a DNS socket did not end well");
            }
        }
    }
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    TcpListener::from_std(socket.into())
}
