//! Sites of the link's tests: a real memcached each, a replica, and the links, in one process.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memcloud_proxy::config::Address;
use memcloud_proxy::link::{self, LinkConfig, Links};
use memcloud_proxy::net::Listener;
use memcloud_proxy::peers::{Peer, PeerSet};
use memcloud_proxy::replication::{
    Bounds, Effect, Expiry, LaneId, Marks, Outcome, Payload, Shared, Slot, next_lane, wall_clock_ms,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::memcached::{App, Memcached};
use crate::wire::{Net, Relay};

/// One site.
pub(crate) struct Site {
    pub(crate) memcached: Option<Memcached>,
    pub(crate) socket: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) links: Arc<Links>,
    pub(crate) drain: CancellationToken,
    pub(crate) tracker: TaskTracker,
    pub(crate) set: PeerSet,
    app: App,
    lane: LaneId,
}

pub(crate) const PEER_TIMEOUT: Duration = Duration::from_millis(700);

/// Two sites with memcacheds as they come.
pub(crate) const PAIR: &[&[&str]] = &[&[], &[]];

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

    /// Sites that have no peers yet.
    pub(crate) async fn apart(sites: usize) -> Self {
        Self::with(&vec![&[][..]; sites], |_, _| Net::Open, |_, _| false, |_| ()).await
    }

    /// The same over a network that begins as `net(from, to)` says.
    pub(crate) async fn over(options: &[&[&str]], net: impl Fn(usize, usize) -> Net) -> Self {
        Self::tuned(options, net, |_| ()).await
    }

    /// The same with settings of one's own.
    pub(crate) async fn tuned(
        options: &[&[&str]],
        net: impl Fn(usize, usize) -> Net,
        tune: impl Fn(&mut LinkConfig),
    ) -> Self {
        Self::with(options, net, |_, _| true, tune).await
    }

    async fn with(
        options: &[&[&str]],
        net: impl Fn(usize, usize) -> Net,
        are_peers: impl Fn(usize, usize) -> bool,
        tune: impl Fn(&mut LinkConfig),
    ) -> Self {
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
            let others = (0..listens.len()).filter(|other| *other != index && are_peers(index, *other));
            let peers = others.map(|other| row[other].addr.clone()).collect();
            let site = char::from(b'a' + index as u8).to_string();
            let socket = folder.path().join(format!("{site}.sock"));
            let memcached = Memcached::start(&socket, options).await;
            sites.push(Site::start(&site, peers, listener, memcached, &tune).await);
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
    async fn start(
        site: &str,
        peers: Vec<String>,
        listener: TcpListener,
        memcached: Memcached,
        tune: impl Fn(&mut LinkConfig),
    ) -> Self {
        let socket = memcached.socket.clone();
        let shared = Shared::new(site, peers.len(), Bounds::default());
        let (drain, tracker) = (CancellationToken::new(), TaskTracker::new());
        let named = |address: &String| Peer { site: None, address: address.clone() };
        let (set, wanted) = PeerSet::new(site, peers.iter().map(named).collect());
        let mut config = LinkConfig {
            site: site.to_owned(),
            shard: None,
            peers,
            wanted: Some(wanted),
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
        tune(&mut config);
        // As the monitor of a whole proxy does.
        shared.memcached_seen(memcached.stats().await, shared.writes());
        let listener = Some(Listener::Tcp(listener));
        let links = link::spawn(config, listener, Arc::clone(&shared), drain.clone(), &tracker);
        let app = App::connect(&socket).await;
        Self {
            memcached: Some(memcached),
            socket,
            shared,
            links,
            drain,
            tracker,
            set,
            app,
            lane: next_lane(),
        }
    }

    pub(crate) async fn restart_memcached(&mut self, options: &[&str]) {
        self.memcached = None;
        self.memcached = Some(Memcached::start(&self.socket, options).await);
        self.app = App::connect(&self.socket).await;
    }

    /// Notices which memcached there is, as the monitor of a whole proxy does.
    pub(crate) async fn notice_memcached(&self) {
        let memcached = self.memcached.as_ref().unwrap();
        self.shared.memcached_seen(memcached.stats().await, self.shared.writes());
    }

    /// Another connection to the memcached that is there now.
    pub(crate) async fn connect_again(&mut self) {
        self.app = App::connect(&self.socket).await;
    }

    /// What a session does with one write.
    pub(crate) async fn write(&mut self, key: &[u8], command: &[u8], effect: Effect) -> String {
        let slot = self.shared.begin(key, self.lane).granted().await;
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
        assert_eq!(self.shared.begin_flush().granted().await, Slot::FLUSH);
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
        let look = async || self.get(key).await.map(|(_, value)| value);
        watch(&format!("{key} is {value:?}"), look, |found| found.as_deref() == value).await;
    }

    pub(crate) async fn wait_for_answer(&mut self, command: &str, good: impl Fn(&str) -> bool) {
        watch(command, async || self.ask(command).await, |answer| good(answer)).await;
    }

    /// Until so many seconds have begun by memcached's own clock, which ticks once a second.
    pub(crate) async fn memcached_ticks(&mut self, times: u64) {
        let begin = self.memcached_time().await;
        let what = format!("memcached's clock ticks {times} times");
        watch(&what, async || self.memcached_time().await, |now| *now >= begin + times).await;
    }

    async fn memcached_time(&mut self) -> u64 {
        let stats = self.list("stats\r\n").await;
        stats.lines().find_map(|line| line.strip_prefix("STAT time ")).unwrap().parse().unwrap()
    }
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    watch(what, async || condition(), |holds| *holds).await;
}

/// Looks again and again, until what is seen is good.
async fn watch<T: Debug>(what: &str, mut look: impl AsyncFnMut() -> T, good: impl Fn(&T) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = look().await;
        if good(&seen) {
            return;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}; seen last: {seen:?}");
        sleep(TICK).await;
    }
}

const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks.
const TICK: Duration = Duration::from_millis(10);
