//! Sockets of either family behind one type, so that nothing above knows whether a neighbour is
//! reached by TCP or by a unix socket.
//!
//! Promises that `TCP_NODELAY` is set on every TCP stream: the proxy batches by itself, once per turn of
//! the event loop, and never wants the kernel to wait for more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Address;
#[cfg(feature = "simulation")]
use crate::simulation;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP, with `TCP_NODELAY`.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
    /// One of a simulated machine.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Stream>),
}

/// Connects to `address`.
///
/// # Errors
/// Whatever the operating system says of the attempt.
pub async fn connect(address: &Address) -> io::Result<Stream> {
    #[cfg(feature = "simulation")]
    if let Some(connecting) = simulation::connect(address) {
        return connecting.await.map(Stream::Simulated);
    }
    match address {
        Address::Tcp(host_port) => {
            let stream = TcpStream::connect(host_port.as_str()).await?;
            stream.set_nodelay(true)?;
            notice_death(&stream)?;
            Ok(Stream::Tcp(stream))
        }
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}

/// A bound socket that accepts streams.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; its file is removed when the listener is dropped.
    Unix(UnixListener, std::path::PathBuf),
    /// One of a simulated machine.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Listener>),
}

/// A socket as it was accepted, not yet tied to the event loop of a thread.
#[derive(Debug)]
pub enum Accepted {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// Unix.
    Unix(std::os::unix::net::UnixStream),
    /// One of a simulated machine.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Stream>),
}

/// A connection on its way to whoever serves it.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub accepted: Accepted,
    /// What was read from it already.
    pub read: Vec<u8>,
    /// Said to it before anything else.
    pub welcome: Vec<u8>,
    /// Said instead when there is no seat left.
    pub refusal: Vec<u8>,
    /// A peer's proxy brings it, for an app of its own.
    pub tunnelled: bool,
}

impl Listener {
    /// Binds `address`. A unix socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The address is in use, not ours, or not allowed.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = simulation::machine() {
            return machine.bind(address).map(Self::Simulated);
        }
        match address {
            Address::Tcp(host_port) => {
                let resolved = tokio::net::lookup_host(host_port.as_str()).await?.next();
                let resolved = resolved.ok_or_else(|| io::Error::other("the name has no address"))?;
                let domain = socket2::Domain::for_address(resolved);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.set_nonblocking(true)?;
                socket.bind(&resolved.into())?;
                socket.listen(ACCEPT_QUEUE)?;
                Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
            }
            Address::Unix(path) => {
                remove_dead_socket(path)?;
                Ok(Self::Unix(UnixListener::bind(path)?, path.clone()))
            }
        }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Out of file descriptors or memory; the listener itself stays good.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => Ok(Accepted::Tcp(listener.accept().await?.0.into_std()?)),
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0.into_std()?)),
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => {
                Ok(Accepted::Simulated(std::future::poll_fn(|cx| listener.poll_accept(cx)).await))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Accepted {
    /// Says why, as far as the socket takes it at once, and closes.
    pub fn refuse(mut self, why: &[u8]) {
        use std::io::Write;
        let said = match &mut self {
            Self::Tcp(stream) => stream.write(why),
            Self::Unix(stream) => stream.write(why),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                match Pin::new(stream).poll_write(&mut cx, why) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Ok(0),
                }
            }
        };
        if let Err(error) = said {
            tracing::debug!(%error, "a refused app did not listen");
        }
    }

    /// Ties the socket to the event loop of the calling thread.
    ///
    /// # Errors
    /// The event loop refuses it.
    pub fn adopt(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                Ok(Stream::Tcp(TcpStream::from_std(stream)?))
            }
            Self::Unix(stream) => Ok(Stream::Unix(UnixStream::from_std(stream)?)),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => Ok(Stream::Simulated(stream)),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Stream {
    /// Takes the socket from the event loop, so that another thread can adopt it.
    ///
    /// # Errors
    /// The event loop does not give it back.
    pub fn release(self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(stream) => Ok(Accepted::Tcp(stream.into_std()?)),
            Self::Unix(stream) => Ok(Accepted::Unix(stream.into_std()?)),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => Ok(Accepted::Simulated(stream)),
        }
    }
}

/// Only a socket, and only one that nobody listens on.
fn remove_dead_socket(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let tried = std::os::unix::net::UnixStream::connect(path);
    match tried {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// A neighbour whose machine died says nothing any more; the kernel finds out.
fn keep_alive(stream: &impl std::os::fd::AsFd) -> io::Result<()> {
    socket2::SockRef::from(stream).set_keepalive(true)
}

/// The same where we dialled: gates may stay closed until it is known that nobody is there any more, so it is found out
/// within half a minute, and not after the kernel's hours.
fn notice_death(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(SILENT_FOR).with_interval(PROBE_EVERY).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    // A machine does not lose itself. And a process of its own that stands still, and so takes nothing, would count as dead.
    if !stream.peer_addr()?.ip().is_loopback() {
        socket.set_tcp_user_timeout(Some(UNHEARD_FOR))?;
    }
    Ok(())
}

/// A neighbour that says nothing for so long is asked by the kernel whether it is there,
const SILENT_FOR: Duration = Duration::from_secs(10);
/// so often,
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// so many times.
const PROBES: u32 = 4;
/// One that has not taken what it was sent for so long is gone.
const UNHEARD_FOR: Duration = Duration::from_secs(30);
/// Connections the kernel may hold for us between two turns of the accepting task.
const ACCEPT_QUEUE: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_neighbour_is_noticed_where_we_dialled() {
        let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".to_owned())).await.expect("a free port");
        let Listener::Tcp(bound) = &listener else { panic!("TCP") };
        let address = Address::Tcp(bound.local_addr().expect("an address").to_string());
        let Ok(Stream::Tcp(stream)) = connect(&address).await else { panic!("it listens") };
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option") && stream.nodelay().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), SILENT_FOR);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), PROBE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), None, "one that stands still is not dead");
    }
}
