//! One connection to the target: what is in flight on it, what is still to be written, where reading stands.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::reply::{Checker, Expected};
use crate::workload::Workload;

#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tcp(String),
    Unix(PathBuf),
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    in_flight: VecDeque<Expected>,
    pub(crate) checker: Checker,
    /// Bytes of a reply line that has not ended yet.
    partial: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    open: bool,
}

impl Connection {
    pub(crate) fn open(target: &Target, depth: u16) -> io::Result<Self> {
        let socket = match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Socket::Tcp(stream)
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Socket::Unix(stream)
            }
        };
        Ok(Self {
            socket,
            in_flight: VecDeque::with_capacity(depth.into()),
            checker: Checker::default(),
            partial: Vec::new(),
            out: Vec::new(),
            written: 0,
            open: true,
        })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Some bytes wait until the socket takes more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.written < self.out.len()
    }

    /// Adds a request to what the next `flush` writes.
    pub(crate) fn push(&mut self, workload: &mut Workload, due_ns: u64) {
        let expected = workload.encode_next(&mut self.out, due_ns);
        self.in_flight.push_back(expected);
    }

    /// Writes what it can in one call.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.is_blocked() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads until nothing is left, through the caller's `buffer`; `answered` is told of each request that is done.
    /// A read that does not fill the buffer has emptied the socket, which the next edge would tell otherwise, so it
    /// is not asked again; with `ended` it is, to see the end.
    pub(crate) fn read(
        &mut self,
        workload: &Workload,
        buffer: &mut [u8],
        ended: bool,
        mut answered: impl FnMut(&Expected),
    ) -> anyhow::Result<()> {
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let bytes = match self.socket.read(&mut buffer[kept..]) {
                Ok(0) => {
                    anyhow::bail!("the target closed a connection with {} in flight", self.in_flight.len())
                }
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let end = kept + bytes;
            let used = self
                .checker
                .feed(workload, &mut self.in_flight, &buffer[..end], &mut answered)
                .map_err(|broken| anyhow::anyhow!(broken.0))?;
            self.partial.clear();
            self.partial.extend_from_slice(&buffer[used..end]);
            if end < buffer.len() && !ended {
                return Ok(());
            }
        }
    }

    /// Stops using it; what is in flight stays unanswered.
    pub(crate) fn close(&mut self) {
        self.open = false;
        self.out.clear();
        self.written = 0;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }
}
