//! A connection to memcached: lines or packets out, answers in, in order.
//!
//! Whoever uses it counts what it asked, and reads as many answers. Every wait ends:
//! when not a byte has passed for as long as memcached's patience is, the connection is of no use any more. What was
//! sent on it may still be carried out, until memcached has closed it too: [`Local::leave`] waits for that.

use std::any::Any;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memrchr};
use memcloud_protocol::memcache::binary::{HEADER, Header, MAGIC_RESPONSE, Opcode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::commands;
use crate::config::Address;

/// Any stream that bytes go both ways on: TCP, a unix socket, TLS over one of them.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync + Any {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + Any> Duplex for S {}

/// Connects to `addr`.
pub(crate) async fn connect(addr: &Address) -> io::Result<Box<dyn Duplex>> {
    Ok(Box::new(crate::net::connect(addr).await?))
}

/// A connection whose memcached has answered.
pub(crate) struct Local {
    stream: Box<dyn Duplex>,
    input: BytesMut,
    /// How long not a byte may pass while something is waited for.
    patience: Duration,
}

impl Local {
    /// Connects and has memcached say so: a server with too many connections accepts, and then closes.
    pub(crate) async fn connect(addr: &Address, patience: Duration) -> io::Result<Self> {
        let connect = async {
            let mut local = Self::over(connect(addr).await?, patience);
            local.write(GREETING).await?;
            if local.line().await?.as_ref() == b"MN" { Ok(local) } else { Err(out_of_step()) }
        };
        timeout(patience, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Connects for the binary protocol. A connection speaks one of the two for all its life.
    pub(crate) async fn connect_binary(addr: &Address, patience: Duration) -> io::Result<Self> {
        let connect = async {
            let mut local = Self::over(connect(addr).await?, patience);
            let mut noop = Vec::new();
            commands::packet(&mut noop, Opcode::Noop, &[], b"", b"");
            local.write(&noop).await?;
            local.packet().await.map(|_| local)
        };
        timeout(patience, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// A connection that somebody else has made.
    pub(crate) fn over(stream: Box<dyn Duplex>, patience: Duration) -> Self {
        Self { stream, input: BytesMut::new(), patience }
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match timeout(self.patience, self.stream.write(bytes)).await.map_err(|_| silent())?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }

    /// Empties memcached. False: it does not let itself be emptied (started with `-F`).
    pub(crate) async fn flush_all(&mut self) -> io::Result<bool> {
        self.write(b"flush_all 0\r\n").await?;
        Ok(self.line().await?.as_ref() == b"OK")
    }

    /// Gives the connection up: says that nothing more will come, and resolves when memcached has understood.
    /// Only then can it no longer carry out what was sent.
    pub(crate) fn leave(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let mut stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        async move {
            let _ = stream.shutdown().await;
            let mut ignored = vec![0; 4096];
            while matches!(stream.read(&mut ignored).await, Ok(read) if read > 0) {}
        }
    }

    /// A whole line has been received already.
    pub(crate) fn has_line(&self) -> bool {
        memchr(b'\n', &self.input).is_some()
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> io::Result<Bytes> {
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

    /// All whole lines that have come, with their ends; at least one. For streams of lines that go on without end.
    pub(crate) async fn lines(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = memrchr(b'\n', &self.input) {
                return Ok(self.input.split_to(end + 1).freeze());
            }
            if self.input.len() > ANSWER_LINE_MAX {
                return Err(out_of_step());
            }
            self.fill(STREAM_READ_BYTES).await?;
        }
    }

    /// The next bytes of a value of which `left` are still to come: as many as are here, at least one. Behind the last
    /// one [`block`](Self::block) of no bytes takes the line end.
    pub(crate) async fn part(&mut self, left: usize) -> io::Result<Bytes> {
        while self.input.is_empty() {
            self.fill(left.clamp(READ_BYTES, RESERVE_BYTES_MAX)).await?;
        }
        let here = left.min(self.input.len());
        Ok(self.input.split_to(here).freeze())
    }

    /// A value of `len` bytes and the line end behind it.
    pub(crate) async fn block(&mut self, len: usize) -> io::Result<Bytes> {
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

    /// The next packet: its header and what is behind it.
    pub(crate) async fn packet(&mut self) -> io::Result<(Header, Bytes)> {
        while self.input.len() < HEADER {
            self.fill(READ_BYTES).await?;
        }
        let header = Header::read(&self.input).filter(|header| header.magic == MAGIC_RESPONSE);
        let header = header.ok_or_else(out_of_step)?;
        self.input.advance(HEADER);
        let len = header.body_len as usize;
        while self.input.len() < len {
            self.fill((len - self.input.len()).clamp(READ_BYTES, RESERVE_BYTES_MAX)).await?;
        }
        Ok((header, self.input.split_to(len).freeze()))
    }

    async fn fill(&mut self, room: usize) -> io::Result<()> {
        self.input.reserve(room);
        match timeout(self.patience, self.stream.read_buf(&mut self.input)).await.map_err(|_| silent())?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn silent() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// memcached said something that is no answer to what it was asked.
pub(crate) fn out_of_step() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "answer of the upstream is out of step")
}

/// `mn`, and blanks up to the length of a binary header: a server that speaks only that dialect waits for one, then closes.
const GREETING: &[u8; HEADER] = b"mn                    \r\n";
const READ_BYTES: usize = 16 << 10;
const STREAM_READ_BYTES: usize = 128 << 10;
/// A length that somebody claims is believed step by step, as the bytes come.
const RESERVE_BYTES_MAX: usize = 1 << 20;
/// Far above any answer line: an echoed key of 250 bytes and some numbers.
const ANSWER_LINE_MAX: usize = 4096;
