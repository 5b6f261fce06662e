//! What the memcached behind us is and can do: asked, not guessed from its version.
//!
//! One small connection of the proxy's own asks when memcached comes up, then says `mn` every second: so `/ready`
//! and `/status` know whether it answers, without any app's help. Beside a dedicated sidecar without peers, where a
//! session is all that memcached should see, it holds its tongue until an answer is needed. How memcached frames what is ill-formed differs
//! between versions, so a few harmless ill-formed lines are sent once and the answers counted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use memcloud_protocol::memcache::error::UNAUTHENTICATED;
use memcloud_protocol::memcache::text::Framing;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::binary_only::Packets;
use super::explicit_cas::ExplicitCas;
use crate::config::Address;
use crate::memcached::incarnation::{self, nobody_listens};
use crate::net::{self, Stream};
use crate::replication::{Incarnation, Shared};

/// What memcached can do, as the data path needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    /// It answers meta commands.
    pub meta: bool,
    /// It speaks the binary dialect only (`-B binary`, `-S`).
    pub(crate) binary_only: bool,
    /// It counts by prefix of keys (`-D`, `stats detail on`): `get` is counted there, `mg` is not.
    pub(crate) prefix_statistics: bool,
    /// It does not flush (`-F`).
    pub(crate) refuses_flush: bool,
    /// It wants a user and a password first (`-Y`): every session says its own.
    pub authentication: bool,
    /// How it frames ill-formed storage lines.
    pub framing: Framing,
    /// It can be told the CAS of an item.
    pub(crate) explicit_cas: Option<ExplicitCas>,
}

impl Default for Capability {
    fn default() -> Self {
        Self {
            meta: true,
            prefix_statistics: false,
            binary_only: false,
            refuses_flush: false,
            authentication: false,
            framing: Framing::default(),
            explicit_cas: None,
        }
    }
}

/// How memcached is, as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct UpstreamState {
    /// Why it cannot be used; `None` while it answers.
    pub down: Option<String>,
    /// It is not there at all: nobody listens at its address.
    pub(crate) refused: bool,
    /// It has been asked what it can do.
    pub(crate) asked: bool,
    /// As it says itself.
    pub version: String,
    /// What it can do.
    pub capability: Capability,
}

/// The task that keeps an eye on memcached.
#[derive(Debug)]
pub(crate) struct Monitor {
    address: Address,
    patience: Duration,
    /// Somebody needs to know what memcached can do.
    wanted: Arc<Notify>,
    /// Who has to know when memcached has started again.
    shared: Option<Arc<Shared>>,
    state: watch::Sender<UpstreamState>,
    /// An earlier one has said who it was: the next may be another, and empty.
    met: bool,
}

impl Monitor {
    /// A monitor that asks once it is `wanted`, and where its findings are read.
    #[must_use]
    pub(crate) fn new(
        address: Address,
        patience: Duration,
        wanted: Arc<Notify>,
        shared: Option<Arc<Shared>>,
    ) -> (Self, watch::Receiver<UpstreamState>) {
        let unknown = UpstreamState { down: Some("not asked yet".to_owned()), ..UpstreamState::default() };
        let (state, receiver) = watch::channel(unknown);
        (Self { address, patience, wanted, shared, state, met: false }, receiver)
    }

    /// Whoever has peers asks memcached who it is before any app does anything to it.
    pub(crate) async fn meet(&self) {
        if let Some(shared) = &self.shared {
            incarnation::meet(&self.address, self.patience, shared).await;
        }
    }

    /// Watches for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let ended = match timeout(self.patience, net::connect(&self.address)).await {
                Ok(Ok(stream)) => self.watch(BufReader::new(stream)).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let Err(error) = ended else { continue };
            let refused = nobody_listens(&error);
            if let (true, Some(shared)) = (refused, &self.shared) {
                shared.memcached_is_away();
            }
            let was_up = self.state.borrow().down.is_none();
            self.state.send_if_modified(|state| {
                let down = Some(format!("memcached at {} is not reachable: {error}", self.address));
                let new = state.down != down || state.refused != refused;
                (state.down, state.refused) = (down, refused);
                state.asked = false;
                new
            });
            // Whether it is gone, or only this connection, is worth knowing at once.
            if !was_up {
                sleep(RETRY).await;
            }
        }
    }

    /// Asks, then watches until something goes wrong.
    async fn watch(&mut self, mut link: BufReader<Stream>) -> io::Result<()> {
        // It says who it is within milliseconds; one that speaks binary only never does. After an absence that is waited for: until then
        // nobody knows whether it is empty.
        if !self.met {
            self.state.send_if_modified(|state| state.down.take().is_some());
        }
        tokio::select! {
            biased;
            () = self.wanted.notified() => {}
            ended = line(&mut link) => return ended.and_then(|_| Err(io::Error::other("it spoke unasked"))),
        }
        // From now on every connection is asked at once.
        self.wanted.notify_one();
        match timeout(self.patience, self.ask(&mut link)).await {
            Ok(Ok((version, capability))) => {
                self.met = true;
                tracing::info!(upstream.addr = %self.address, version, ?capability, "memcached answers");
                self.state.send_replace(UpstreamState {
                    down: None,
                    refused: false,
                    asked: true,
                    version,
                    capability,
                });
            }
            Ok(Err(error)) if is_closing(&error) => return self.turned_away().await,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        Err(self.listen(link).await)
    }

    async fn ask(&self, link: &mut BufReader<Stream>) -> io::Result<(String, Capability)> {
        let known = ask_all(link).await?;
        if let (Some(shared), false) = (&self.shared, known.1.authentication) {
            let writes = shared.writes();
            let stats = lines_before_version(link, b"stats\r\n").await?;
            let seen = Incarnation::of_stats(stats.iter().map(Vec::as_slice));
            if seen.is_some_and(|seen| shared.memcached_seen(seen, writes)) {
                tracing::warn!(upstream.addr = %self.address, "memcached has started again, empty");
            }
        }
        Ok(known)
    }

    /// It closed at the first words: because it speaks no text, or for a passing reason.
    async fn turned_away(&self) -> io::Result<()> {
        let Some(packets) = Packets::of_binary_only(&self.address, self.patience).await else {
            sleep(RETRY).await;
            return Ok(());
        };
        tracing::info!(upstream.addr = %self.address, "memcached speaks the binary dialect only");
        let capability = Capability { binary_only: true, ..Capability::default() };
        self.state.send_replace(UpstreamState {
            down: None,
            refused: false,
            asked: true,
            version: String::new(),
            capability,
        });
        Err(packets.listen(INTERVAL).await)
    }

    /// Returns what went wrong in the end.
    async fn listen(&self, mut link: BufReader<Stream>) -> io::Error {
        loop {
            tokio::select! {
                biased;
                () = sleep(INTERVAL) => {}
                // It says nothing unasked, but its end shows at once.
                ended = line(&mut link) => return ended.err().unwrap_or_else(|| io::Error::other("it spoke unasked")),
            }
            let asked = async {
                link.get_mut().write_all(b"mn\r\n").await?;
                line(&mut link).await.map(drop)
            };
            match timeout(self.patience, asked).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return io::Error::from(io::ErrorKind::TimedOut),
            }
        }
    }
}

async fn ask_all(link: &mut BufReader<Stream>) -> io::Result<(String, Capability)> {
    link.get_mut().write_all(FIRST_WORDS).await?;
    let answer = line(link).await?;
    if answer == UNAUTHENTICATED {
        return Ok((String::new(), Capability { authentication: true, ..Capability::default() }));
    }
    let version = String::from_utf8_lossy(answer.strip_prefix(b"VERSION ").unwrap_or(&answer)).into_owned();
    let meta = lines_before_version(link, b"").await?.iter().any(|line| line == b"MN");
    let mut framing = Framing::default();
    if meta {
        let long_key = format!("set {} 0 0 2\r\n", "k".repeat(251));
        framing.long_key_swallows = swallows(link, long_key.as_bytes()).await?;
        framing.bad_number_swallows = swallows(link, b"replace memcloud:probe x 0 2\r\n").await?;
        framing.extra_token_stores = swallows(link, b"replace memcloud:probe 0 0 2 0 0\r\n").await?;
        framing.short_cas_swallows = swallows(link, b"cas memcloud:probe 0 0 2\r\n").await?;
        let many = format!("ms memcloud:probe 2 MR{}\r\n", " O0".repeat(30));
        framing.meta_many_flags_swallow = swallows(link, many.as_bytes()).await?;
        framing.meta_bad_flag_swallows = swallows(link, b"ms memcloud:probe 2 MR ~\r\n").await?;
        let blank = lines_before_version(link, b" mn\r\n").await?;
        framing.leading_blank_is_error = !blank.iter().any(|line| line == b"MN");
    }
    let settings = lines_before_version(link, b"stats settings\r\n").await?;
    let prefix_statistics = settings.iter().any(|line| line == b"STAT detail_enabled yes");
    let refuses_flush = settings.iter().any(|line| line == b"STAT flush_enabled no");
    let answer = if meta { lines_before_version(link, ExplicitCas::PROBE).await? } else { Vec::new() };
    let explicit_cas = ExplicitCas::of(&answer, &settings);
    let known =
        Capability { meta, prefix_statistics, refuses_flush, framing, explicit_cas, ..Capability::default() };
    Ok((version, known))
}

/// Sends an ill-formed storage line that announces two bytes, and `mn` as those bytes: is it data or a command?
async fn swallows(link: &mut BufReader<Stream>, storage_line: &[u8]) -> io::Result<bool> {
    let question = [storage_line, b"mn\r\n"].concat();
    Ok(!lines_before_version(link, &question).await?.iter().any(|line| line == b"MN"))
}

async fn lines_before_version(link: &mut BufReader<Stream>, question: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    link.get_mut().write_all(&[question, b"version\r\n"].concat()).await?;
    let mut lines = Vec::new();
    loop {
        let answer = line(link).await?;
        if answer.starts_with(b"VERSION ") {
            return Ok(lines);
        }
        if lines.len() == ANSWER_LINES_MAX {
            return Err(io::Error::other("it answers more than it was asked"));
        }
        lines.push(answer);
    }
}

/// The other side closed, in one of the ways in which that shows.
pub(super) fn is_closing(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted)
}

async fn line(link: &mut BufReader<Stream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let read = link.take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    Ok(super::trim(&line).to_vec())
}

/// As long as the header of a binary packet: a server that speaks only that dialect waits for one, then closes.
pub(super) const FIRST_WORDS: &[u8] = b"version\r\nmn\r\nmn\r\nmn\r\nmn\r\n";
const INTERVAL: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(100);
const ANSWER_LINES_MAX: usize = 1024;
const ANSWER_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of an answer of so many lines before the version.
    async fn answered(lines: usize) -> io::Result<usize> {
        let (ours, mut server) = tokio::net::UnixStream::pair().unwrap();
        let answer = ["STAT a 1\r\n".repeat(lines).as_bytes(), b"VERSION 1.6.18\r\n"].concat();
        server.write_all(&answer).await.unwrap();
        let mut link = BufReader::new(Stream::Unix(ours));
        lines_before_version(&mut link, b"stats\r\n").await.map(|lines| lines.len())
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        assert_eq!(answered(ANSWER_LINES_MAX).await.unwrap(), ANSWER_LINES_MAX);
        assert!(answered(ANSWER_LINES_MAX + 1).await.is_err());
    }

    #[tokio::test]
    async fn a_line_without_end_is_read_in_parts() {
        let (ours, mut server) = tokio::net::UnixStream::pair().unwrap();
        server.write_all(&[b'x'; ANSWER_BYTES_MAX as usize + 1]).await.unwrap();
        drop(server);
        let mut link = BufReader::new(Stream::Unix(ours));
        assert_eq!(line(&mut link).await.unwrap().len() as u64, ANSWER_BYTES_MAX);
        assert_eq!(line(&mut link).await.unwrap(), b"x");
        assert!(line(&mut link).await.is_err(), "it has closed");
    }
}
