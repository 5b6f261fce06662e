//! Sites of the link's tests: a real memcached each, a replica, and the links, in one process.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memcloud_proxy::config::Address;
use memcloud_proxy::link::{self, LinkConfig, Links};
use memcloud_proxy::net::Listener;
use memcloud_proxy::replication::{
    Begin, Bounds, Effect, Expiry, Incarnation, LaneId, Marks, Outcome, Payload, Shared, Slot, next_lane,
    wall_clock_ms,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A memcached on a unix socket; killed when dropped.
pub(crate) struct Memcached {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Memcached {
    pub(crate) async fn start(socket: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-m", "64", "-t", "2", "-s"]).arg(socket).args(options);
        let child = command.stdin(Stdio::null()).spawn().expect("memcached is installed");
        let memcached = Self { child, socket: socket.to_owned() };
        eventually("memcached answers", || std::os::unix::net::UnixStream::connect(socket).is_ok()).await;
        memcached
    }
}

impl Memcached {
    async fn stats(&self) -> Incarnation {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.write_all(b"stats\r\nquit\r\n").await.unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.unwrap();
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        Incarnation::of_stats(lines).unwrap()
    }

    /// Stops or continues the process, as a machine that is overloaded does.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What a network between two sites does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Net {
    Open,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Connections stay, and nothing passes.
    Stalled,
}

/// A wire that can be cut.
pub(crate) struct Relay {
    pub(crate) addr: String,
    state: watch::Sender<Net>,
}

impl Relay {
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (state, watched) = watch::channel(Net::Open);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *watched.borrow() == Net::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pump(near_read, far_write, watched.clone()));
                tokio::spawn(pump(far_read, near_write, watched.clone()));
            }
        });
        Self { addr, state }
    }

    pub(crate) fn set(&self, net: Net) {
        self.state.send_replace(net);
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<Net>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = *state.borrow_and_update();
        match now {
            Net::Cut => return,
            Net::Stalled => {
                if state.changed().await.is_err() {
                    return;
                }
            }
            Net::Open => tokio::select! {
                read = from.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => if to.write_all(&buffer[..read]).await.is_err() { return },
                },
                changed = state.changed() => if changed.is_err() { return },
            },
        }
    }
}

/// One site.
pub(crate) struct Site {
    pub(crate) memcached: Option<Memcached>,
    pub(crate) socket: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) links: Arc<Links>,
    pub(crate) drain: CancellationToken,
    pub(crate) tracker: TaskTracker,
    app: App,
    lane: LaneId,
}

pub(crate) const PEER_TIMEOUT: Duration = Duration::from_millis(700);

/// A mesh of sites a, b, c …; `relays[i][j]` carries what i dials to reach j.
pub(crate) struct Mesh {
    pub(crate) sites: Vec<Site>,
    pub(crate) relays: Vec<Vec<Relay>>,
    pub(crate) listens: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Mesh {
    /// One site for each list of memcached options.
    pub(crate) async fn new(options: &[&[&str]]) -> Self {
        Self::over(options, |_, _| Net::Open).await
    }

    /// The same over a network that begins as `net(from, to)` says.
    pub(crate) async fn over(options: &[&[&str]], net: impl Fn(usize, usize) -> Net) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut listeners = Vec::new();
        for _ in options {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let listens: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        let (mut sites, mut relays) = (Vec::new(), Vec::new());
        for (index, (listener, options)) in listeners.into_iter().zip(options).enumerate() {
            let mut row = Vec::new();
            for (to, other) in listens.iter().enumerate() {
                let relay = Relay::to(other.clone()).await;
                relay.set(net(index, to));
                row.push(relay);
            }
            let others = (0..listens.len()).filter(|other| *other != index);
            let peers = others.map(|other| row[other].addr.clone()).collect();
            let site = char::from(b'a' + index as u8).to_string();
            let socket = folder.path().join(format!("{site}.sock"));
            let memcached = Memcached::start(&socket, options).await;
            sites.push(Site::start(&site, peers, listener, memcached).await);
            relays.push(row);
        }
        Self { sites, relays, listens, _folder: folder }
    }

    pub(crate) fn net(&self, net: Net) {
        self.relays.iter().flatten().for_each(|relay| relay.set(net));
    }

    pub(crate) async fn in_sync(&self) {
        eventually("all sites are in sync", || self.sites.iter().all(|site| site.shared.lock().in_sync()))
            .await;
    }
}

impl Site {
    async fn start(site: &str, peers: Vec<String>, listener: TcpListener, memcached: Memcached) -> Self {
        let socket = memcached.socket.clone();
        let shared = Shared::new(site, peers.len(), Bounds::default());
        let (drain, tracker) = (CancellationToken::new(), TaskTracker::new());
        let config = LinkConfig {
            site: site.to_owned(),
            shard: None,
            peers,
            upstream: Address::Unix(socket.clone()),
            upstream_timeout: Duration::from_secs(2),
            peer_timeout: PEER_TIMEOUT,
            drain_timeout: Duration::from_secs(5),
            lists: None,
            fills: None,
            sessions: None,
            resync_rate: 64 << 20,
            warmup_timeout: Duration::from_secs(60),
        };
        // As the monitor of a whole proxy does.
        shared.memcached_seen(memcached.stats().await);
        let listener = Some(Listener::Tcp(listener));
        let links = link::spawn(config, listener, Arc::clone(&shared), drain.clone(), &tracker);
        let app = App::connect(&socket).await;
        Self { memcached: Some(memcached), socket, shared, links, drain, tracker, app, lane: next_lane() }
    }

    pub(crate) async fn restart_memcached(&mut self, options: &[&str]) {
        self.memcached = None;
        self.memcached = Some(Memcached::start(&self.socket, options).await);
        self.app = App::connect(&self.socket).await;
    }

    /// What a session does with one write.
    pub(crate) async fn write(&mut self, key: &[u8], command: &[u8], effect: Effect) -> String {
        let slot = match self.shared.begin(key, self.lane) {
            Begin::Granted(slot) => slot,
            Begin::Waiting(wait) => wait.await,
        };
        let answer = self.app.ask(command).await;
        self.shared.complete(vec![Outcome::Key(slot, effect)], wall_clock_ms());
        answer
    }

    pub(crate) async fn set(&mut self, key: &str, value: &str) {
        let command = format!("set {key} 5 0 {}\r\n{value}\r\n", value.len());
        let payload =
            Payload { flags: 5, expiry: Expiry::Never, value: Bytes::copy_from_slice(value.as_bytes()) };
        let effect = Effect::Item { payload: Some(payload), marks: Marks::default() };
        assert_eq!(self.write(key.as_bytes(), command.as_bytes(), effect).await, "STORED");
    }

    /// A write whose outcome is not in hand.
    pub(crate) async fn change(&mut self, key: &str, command: &str, marks: Marks) -> String {
        self.write(key.as_bytes(), command.as_bytes(), Effect::Item { payload: None, marks }).await
    }

    pub(crate) async fn delete(&mut self, key: &str) {
        self.write(key.as_bytes(), format!("delete {key}\r\n").as_bytes(), Effect::Removed).await;
    }

    pub(crate) async fn flush(&mut self) {
        match self.shared.begin_flush() {
            Begin::Granted(slot) => assert_eq!(slot, Slot::FLUSH),
            Begin::Waiting(wait) => assert_eq!(wait.await, Slot::FLUSH),
        }
        assert_eq!(self.app.ask(b"flush_all\r\n").await, "OK");
        self.shared.complete(vec![Outcome::Flush(true)], wall_clock_ms());
    }

    /// Straight to memcached: one line out, one line back.
    pub(crate) async fn ask(&mut self, command: &str) -> String {
        self.app.ask(command.as_bytes()).await
    }

    /// A command whose answer is lines up to `END`.
    pub(crate) async fn list(&mut self, command: &str) -> String {
        let mut lines = self.app.ask(command.as_bytes()).await;
        while !lines.ends_with("END") {
            lines = lines + "\n" + &self.app.line().await;
        }
        lines
    }

    /// `get`: flags and value.
    pub(crate) async fn get(&mut self, key: &str) -> Option<(u32, String)> {
        self.app.get(key).await
    }

    /// One request of the binary protocol, and the body of its answer.
    pub(crate) async fn packet(&mut self, opcode: u8, key: &[u8]) -> Vec<u8> {
        self.packet_with(opcode, &[], key, b"").await
    }

    pub(crate) async fn packet_with(
        &mut self,
        opcode: u8,
        extras: &[u8],
        key: &[u8],
        value: &[u8],
    ) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let mut request = vec![0; 24];
        (request[0], request[1]) = (0x80, opcode);
        request[2..4].copy_from_slice(&(key.len() as u16).to_be_bytes());
        request[4] = extras.len() as u8;
        let body = [extras, key, value].concat();
        request[8..12].copy_from_slice(&(body.len() as u32).to_be_bytes());
        request.extend_from_slice(&body);
        stream.write_all(&request).await.unwrap();
        let mut header = [0; 24];
        stream.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize];
        stream.read_exact(&mut body).await.unwrap();
        body
    }

    pub(crate) async fn wait_for(&mut self, key: &str, value: Option<&str>) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.get(key).await.map(|(_, value)| value);
            if found.as_deref() == value {
                return;
            }
            assert!(Instant::now() < deadline, "{key} is {found:?}, not {value:?}");
            sleep(TICK).await;
        }
    }

    pub(crate) async fn wait_for_answer(&mut self, command: &str, good: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.ask(command).await;
            if good(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{command:?} answers {answer:?}");
            sleep(TICK).await;
        }
    }
}

/// A plain connection to memcached.
struct App(BufReader<UnixStream>);

impl App {
    async fn connect(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).await.unwrap()))
    }

    async fn ask(&mut self, command: &[u8]) -> String {
        self.0.write_all(command).await.unwrap();
        self.line().await
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn get(&mut self, key: &str) -> Option<(u32, String)> {
        let head = self.ask(format!("get {key}\r\n").as_bytes()).await;
        if head == "END" {
            return None;
        }
        let mut words = head.split(' ').skip(2);
        let flags = words.next().unwrap().parse().unwrap();
        let mut value = vec![0; words.next().unwrap().parse::<usize>().unwrap() + 2];
        self.0.read_exact(&mut value).await.unwrap();
        value.truncate(value.len() - 2);
        assert_eq!(self.line().await, "END");
        Some((flags, String::from_utf8(value).unwrap()))
    }
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(TICK).await;
    }
}

const DEADLINE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);
