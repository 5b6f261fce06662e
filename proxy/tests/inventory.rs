//! Inventories of a real memcached: everything it holds, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use memcloud_proxy::config::Address;
use memcloud_proxy::inventory::{Entry, Inventory, InventoryError, Span, Throttle, compare, fold};
use memcloud_proxy::replication::{Expiry, wall_clock_ms};
use memcloud_tests::eventually;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(5);

/// A memcached on a unix socket; killed when dropped.
struct Memcached {
    child: Child,
    socket: PathBuf,
}

impl Memcached {
    fn start(folder: &Path, name: &str, options: &[&str]) -> Self {
        let socket = folder.join(name);
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-m", "128", "-t", "2", "-s"]).arg(&socket).args(options);
        let child = command.stdin(Stdio::null()).spawn().expect("memcached is installed");
        eventually("memcached answers", Duration::from_secs(10), || UnixStream::connect(&socket).ok());
        Self { child, socket }
    }

    fn inventory(&self) -> Inventory {
        Inventory::new(Address::Unix(self.socket.clone()), PATIENCE, || wall_clock_ms() / 1000)
    }

    fn app(&self) -> App {
        App(BufReader::new(UnixStream::connect(&self.socket).unwrap()))
    }

    async fn entries(&self) -> Vec<Entry> {
        let inventory = self.inventory();
        let listed = inventory.walk(Span::ALL).await.unwrap();
        inventory.digests(listed, &mut Throttle::new(0)).await.unwrap()
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct App(BufReader<UnixStream>);

impl App {
    /// Says something, and hears the first line.
    fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.0.get_mut().write_all(request.as_ref()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Stores by the binary protocol, which takes any bytes as a key.
fn store_binary(memcached: &Memcached, key: &[u8], exptime: u32, value: &[u8]) {
    let mut packet = vec![0x80, 0x01];
    packet.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
    packet.extend([8, 0, 0, 0]);
    packet.extend(u32::try_from(8 + key.len() + value.len()).unwrap().to_be_bytes());
    packet.extend([0; 12]);
    packet.extend(7_u32.to_be_bytes());
    packet.extend(exptime.to_be_bytes());
    packet.extend(key);
    packet.extend(value);
    let mut stream = UnixStream::connect(&memcached.socket).unwrap();
    stream.write_all(&packet).unwrap();
    let mut answer = [0; 24];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[6..8], [0, 0], "stored");
}

fn keys(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut keys: Vec<_> = entries.iter().map(|entry| entry.key.to_vec()).collect();
    keys.sort();
    keys
}

fn of<'e>(entries: &'e [Entry], key: &[u8]) -> &'e Entry {
    entries.iter().find(|entry| &*entry.key == key).unwrap()
}

#[tokio::test]
async fn keys_of_every_kind_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let memcached = Memcached::start(folder.path(), "m", &[]);
    let mut app = memcached.app();
    let long = [b'k'; 250];
    let base64 = b"a b\r\n%\0c".to_vec();
    let nameless = [&b"x y\n"[..], &[b'z'; 240]].concat();
    let raw_long = [&b"\x01"[..], &[b'r'; 240]].concat();
    assert_eq!(app.ask("set plain 5 0 2\r\nhi\r\n"), "STORED");
    assert_eq!(app.ask([b"ms ", &long[..], b" 2 T100\r\nhi\r\n"].concat()), "HD");
    store_binary(&memcached, &base64, 0, b"hi");
    store_binary(&memcached, &nameless, 500, b"hi");
    store_binary(&memcached, &raw_long, 0, b"hi");
    assert_eq!(app.ask("set gone 0 -1 2\r\nhi\r\n"), "STORED");

    let entries = memcached.entries().await;
    let mut expected = vec![b"plain".to_vec(), long.to_vec(), base64.clone(), nameless.clone(), raw_long];
    expected.sort();
    assert_eq!(keys(&entries), expected);
    assert!(entries.is_sorted_by_key(|entry| entry.hash));
    assert_eq!(of(&entries, b"plain").expiry, Expiry::Never);
    let now_s = wall_clock_ms() / 1000;
    for (key, left) in [(&long[..], 100), (&nameless, 500)] {
        let Expiry::At(at_s) = of(&entries, key).expiry else { panic!("it ends") };
        assert!(at_s.abs_diff(now_s + left) <= 3, "{at_s} {now_s}");
    }
    // Equal flags and values have equal digests, in whatever way they are read.
    assert_eq!(of(&entries, &base64).digest, of(&entries, &nameless).digest);
    assert_ne!(of(&entries, &base64).digest, of(&entries, b"plain").digest);
}

#[tokio::test]
async fn values_larger_than_a_batch_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Memcached::start(folder.path(), "a", &[]), Memcached::start(folder.path(), "b", &[]));
    let value = |len: usize| (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    for memcached in [&one, &other] {
        let mut app = memcached.app();
        for len in [0, 1, 64 << 10, (64 << 10) + 1, 1_000_000] {
            let set = [format!("set key{len} 0 0 {len}\r\n").as_bytes(), &value(len), b"\r\n"].concat();
            assert_eq!(app.ask(set), "STORED");
        }
    }
    let (ours, theirs) = (one.entries().await, other.entries().await);
    assert_eq!(compare(&ours, &theirs).equal, 5);
    let mut different = value(1_000_000);
    different[999_999] ^= 1;
    other.app().ask([&b"set key1000000 0 0 1000000\r\n"[..], &different, b"\r\n"].concat());
    let theirs = other.entries().await;
    assert_eq!(compare(&ours, &theirs).different.len(), 1);
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let memcached = Memcached::start(folder.path(), "m", &[]);
    let mut app = memcached.app();
    for key in ["stale", "fresh", "won"] {
        assert_eq!(app.ask(format!("ms {key} 2 T100\r\nhi\r\n")), "HD");
    }
    assert_eq!(app.ask("md stale I T90\r\n"), "HD");
    assert_eq!(app.ask("md won I T90\r\n"), "HD");
    assert!(app.ask("mg won\r\n").contains('W'));
    let before = app.ask("me fresh\r\n");
    assert!(before.contains("fetch=no"), "{before}");

    let entries = memcached.entries().await;
    assert_eq!(app.ask("me fresh\r\n").replace("exp=-99", "exp=-100"), before.replace("exp=-99", "exp=-100"));
    let stale = app.ask("mg stale\r\n");
    assert!(stale.contains('X') && stale.contains('W'), "the win is there for an app: {stale}");
    let won = app.ask("mg won\r\n");
    assert!(won.contains('Z') && !won.contains('W'), "and one that was given stays given: {won}");
    assert_ne!(of(&entries, b"stale").digest, of(&entries, b"fresh").digest, "a mark can be seen");
}

#[tokio::test]
async fn slices_together_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let memcached = Memcached::start(folder.path(), "m", &[]);
    let mut app = memcached.app();
    for at in 0..3000 {
        app.ask(format!("set key:{at} 0 0 4\r\n{at:04}\r\n"));
    }
    let inventory = memcached.inventory();
    let survey = inventory.survey().await.unwrap();
    assert_eq!((survey.curr_items, survey.pid), (3000, u64::from(memcached.child.id())));
    assert!(survey.start.abs_diff(wall_clock_ms() / 1000) < 30 && survey.version.starts_with("1."));
    assert!(survey.is_same_life(&inventory.survey().await.unwrap()));

    let mut sliced = Vec::new();
    for span in Span::slices(survey.curr_items, 1000) {
        let listed = inventory.walk_at_most(span, 1200).await.unwrap();
        assert!(listed.iter().all(|item| span.contains(item.hash)));
        sliced.extend(inventory.digests(listed, &mut Throttle::new(0)).await.unwrap());
    }
    let whole = memcached.entries().await;
    assert_eq!(sliced, whole);
    assert_eq!(fold(&whole, 8).iter().map(|range| range.count).sum::<u64>(), 3000);
    let refused = inventory.walk_at_most(Span::ALL, 2999).await;
    assert!(matches!(refused, Err(InventoryError::TooMany(2999))));
    assert_eq!(inventory.walk_at_most(Span::ALL, 3000).await.unwrap().len(), 3000);
}

#[tokio::test]
async fn items_gone_meanwhile_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let memcached = Memcached::start(folder.path(), "m", &[]);
    let mut app = memcached.app();
    app.ask("set stays 0 0 1\r\n1\r\n");
    app.ask("set goes 0 0 1\r\n1\r\n");
    let listed = memcached.inventory().walk(Span::ALL).await.unwrap();
    assert_eq!(app.ask("delete goes\r\n"), "DELETED");
    let entries = memcached.inventory().digests(listed, &mut Throttle::new(0)).await.unwrap();
    assert_eq!(keys(&entries), [b"stays"]);
}

#[tokio::test]
async fn the_pace_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let memcached = Memcached::start(folder.path(), "m", &[]);
    let mut app = memcached.app();
    let value = "x".repeat(10_000);
    for at in 0..50 {
        app.ask(format!("set {at} 0 0 10000\r\n{value}\r\n"));
    }
    let listed = memcached.inventory().walk(Span::ALL).await.unwrap();
    let began = Instant::now();
    memcached.inventory().digests(listed, &mut Throttle::new(1_000_000)).await.unwrap();
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_cannot_be_had_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (name, option) in [("x", &["-X"][..]), ("o", &["-o", "no_lru_crawler"])] {
        let memcached = Memcached::start(folder.path(), name, option);
        let walked = memcached.inventory().walk(Span::ALL).await;
        assert!(matches!(walked, Err(InventoryError::Refused(_))), "{walked:?}");
        assert_eq!(memcached.inventory().survey().await.unwrap().curr_items, 0);
    }
    let nobody = Inventory::new(Address::Unix(folder.path().join("nobody")), PATIENCE, || 0);
    assert!(matches!(nobody.survey().await, Err(InventoryError::Io(_))));
    assert!(matches!(nobody.walk(Span::ALL).await, Err(InventoryError::Io(_))));
}
