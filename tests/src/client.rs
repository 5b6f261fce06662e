//! A minimal client: raw bytes over TCP or a unix socket, with a deadline on every read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// One connection. Bytes read beyond what was asked for are kept for the next call.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    patience: Duration,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Client {
    /// Connects to `host:port` or `unix:/path`, or as an app of a peer to `tunnel:SITE@PEER-LISTEN`.
    pub fn connect(address: &str) -> io::Result<Self> {
        if let Some((site, address)) = address.strip_prefix("tunnel:").and_then(|rest| rest.split_once('@')) {
            return Self::tunnel(site, address);
        }
        let stream = match address.strip_prefix("unix:") {
            Some(path) => Stream::Unix(UnixStream::connect(path)?),
            None => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        Ok(Self { stream, buffer: Vec::new(), patience: PATIENCE })
    }

    fn tunnel(site: &str, address: &str) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        client.send(format!("ml hello V2 S{site} R1 Qsession\r\n"))?;
        loop {
            let line = client.line()?;
            match line.as_str() {
                "ml ack 0\r\n" => return Ok(client),
                _ if line.starts_with("ml hello ") => {}
                _ => return Err(io::Error::other(line)),
            }
        }
    }

    /// Connects, or ends the test.
    pub fn to(address: &str) -> Self {
        Self::connect(address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// How long reads wait before they give up.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// A second handle on the same socket, for writing from another thread.
    pub fn writer(&self) -> Box<dyn Write + Send> {
        match &self.stream {
            Stream::Tcp(stream) => Box::new(stream.try_clone().unwrap()),
            Stream::Unix(stream) => Box::new(stream.try_clone().unwrap()),
        }
    }

    /// Ends our side; the other may still answer.
    pub fn end_writing(&self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Ends both sides, so that a writer in another thread does not wait for ever.
    pub fn end(&self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Vanishes: the other side gets a reset instead of an orderly end.
    pub fn vanish(self) {
        if let Stream::Tcp(stream) = &self.stream {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Takes the received bytes up to `count`; fails when they do not come in time.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.patience;
        while self.buffer.len() < count {
            self.fill(deadline)?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// The next line, with its line end.
    pub fn line(&mut self) -> io::Result<String> {
        let line = self.until(b"\n")?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Everything up to and with the first occurrence of `mark`.
    pub fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.patience;
        let mut from = 0;
        loop {
            if let Some(at) = find(&self.buffer[from..], mark) {
                return Ok(self.buffer.drain(..from + at + mark.len()).collect());
            }
            from = self.buffer.len().saturating_sub(mark.len() - 1);
            self.fill(deadline)?;
        }
    }

    /// Everything until the other side closes. A reset counts as a close.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.fill(deadline) {
                Ok(()) => {}
                Err(error) if closed(&error) => return Ok(std::mem::take(&mut self.buffer)),
                Err(error) => return Err(error),
            }
        }
    }

    /// What has been received and not taken.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Sends a request (without its line end) and takes a one-line answer, without its line end.
    pub fn ask(&mut self, request: &str) -> String {
        self.try_ask(request).unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
    }

    pub fn try_ask(&mut self, request: &str) -> io::Result<String> {
        self.send(format!("{request}\r\n"))?;
        Ok(self.line()?.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// `set key 0 0 …`; the answer without its line end.
    pub fn set(&mut self, key: &str, value: &[u8]) -> io::Result<String> {
        let mut request = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
        self.send(request)?;
        Ok(self.line()?.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Sets `item:0`, `item:1` … to their numbers with so many digits, and waits until all are set.
    pub fn set_items(&mut self, items: u64, digits: usize) -> io::Result<()> {
        for first in (0..items).step_by(FILLED_AT_ONCE) {
            let numbers = first..items.min(first + FILLED_AT_ONCE as u64);
            let set = |number| format!("set item:{number} 1 0 {digits} noreply\r\n{number:0digits$}\r\n");
            self.send(numbers.map(set).collect::<String>())?;
        }
        assert!(self.try_ask("mn")?.starts_with("MN"));
        Ok(())
    }

    /// `get key`: the value, `None` for a miss, an error for anything else.
    pub fn get(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.send(format!("get {key}\r\n"))?;
        let line = self.line()?;
        if line == "END\r\n" {
            return Ok(None);
        }
        let length = line.starts_with("VALUE ").then(|| line.split_whitespace().nth(3)).flatten();
        let Some(length) = length.and_then(|text| text.parse::<usize>().ok()) else {
            return Err(io::Error::other(line));
        };
        let mut value = self.take(length + 2)?;
        value.truncate(length);
        let end = self.line()?;
        if end == "END\r\n" { Ok(Some(value)) } else { Err(io::Error::other(end)) }
    }

    /// `stats`: one figure of it, 0 when it is not a number or not there.
    pub fn stat(&mut self, name: &str) -> u64 {
        self.send("stats\r\n").unwrap();
        let answer = self.until(b"END\r\n").expect("an answer to stats");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let line =
            answer.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")).map(str::to_owned));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.late());
        }
        let mut chunk = [0; 64 * 1024];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.read(&mut chunk)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.read(&mut chunk)
            }
        };
        match read {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the other side closed")),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(self.late())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn late(&self) -> io::Error {
        let tail = &self.buffer[self.buffer.len().saturating_sub(120)..];
        let text =
            format!("no answer within {:?}; received: {:?}", self.patience, String::from_utf8_lossy(tail));
        io::Error::new(ErrorKind::TimedOut, text)
    }
}

/// True for an orderly end and for a reset.
pub fn closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Where `needle` stands first in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Longer than any time-out of a sidecar under test, so that its answer arrives before we give up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a pipeline that any socket takes.
const FILLED_AT_ONCE: usize = 500;
