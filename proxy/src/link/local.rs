//! The link's own connection to the local memcached: lines out, lines in, in order.
//!
//! It knows nothing of peers. Whoever uses it counts what it asked, and reads as many answers.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::Address;

/// Any stream that bytes go both ways on: TCP, a unix socket, TLS over one of them.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for S {}

/// Connects to `addr`.
pub(super) async fn connect(addr: &Address) -> io::Result<Box<dyn Duplex>> {
    Ok(Box::new(crate::net::connect(addr).await?))
}

/// A connection whose memcached has answered.
pub(super) struct Local {
    stream: Box<dyn Duplex>,
    input: BytesMut,
}

impl Local {
    /// Connects and has memcached say so: a server with too many connections accepts, and then closes.
    pub(super) async fn connect(addr: &Address, patience: Duration) -> io::Result<Self> {
        let connect = async {
            let mut local = Self { stream: connect(addr).await?, input: BytesMut::new() };
            local.write(b"mn\r\n").await?;
            if local.line().await?.as_ref() == b"MN" { Ok(local) } else { Err(out_of_step()) }
        };
        timeout(patience, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = memchr(b'\n', &self.input) {
                let mut line = self.input.split_to(end + 1).freeze();
                line.truncate(if line.ends_with(b"\r\n") { end - 1 } else { end });
                return Ok(line);
            }
            if self.input.len() > ANSWER_LINE_MAX {
                return Err(out_of_step());
            }
            self.fill(READ_BYTES).await?;
        }
    }

    /// A value of `len` bytes and the line end behind it.
    pub(super) async fn block(&mut self, len: usize) -> io::Result<Bytes> {
        while self.input.len() < len + 2 {
            self.fill((len + 2 - self.input.len()).clamp(READ_BYTES, RESERVE_BYTES_MAX)).await?;
        }
        let block = self.input.split_to(len).freeze();
        if !self.input.starts_with(b"\r\n") {
            return Err(out_of_step());
        }
        self.input.advance(2);
        Ok(block)
    }

    async fn fill(&mut self, room: usize) -> io::Result<()> {
        self.input.reserve(room);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// memcached said something that is no answer to what it was asked.
pub(super) fn out_of_step() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "answer of the upstream is out of step")
}

const READ_BYTES: usize = 16 << 10;
/// A length that somebody claims is believed step by step, as the bytes come.
const RESERVE_BYTES_MAX: usize = 1 << 20;
/// Far above any answer line: an echoed key of 250 bytes and some numbers.
const ANSWER_LINE_MAX: usize = 4096;
