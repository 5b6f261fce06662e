use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::connected::shows_ttl_with_its_sign;
use super::*;
use crate::config::Address;
use crate::link::local::Local;
use crate::replication::{Begin, Bounds, Effect, Offer, Origin, Outcome, Owed, PeerId, wall_clock_ms};

const PATIENCE: Duration = Duration::from_secs(1);
const MARKED: &[u8] = b"me k\r\ngets k\r\n";
const PLAIN: &[u8] = b"mg k c t f v u\r\n";
const STALE: Marks = Marks { stale: true, won: false, vivified: false };

/// One site whose memcached the test plays, and its reader.
struct Scene {
    shared: Arc<Shared>,
    config: LinkConfig,
}

impl Scene {
    fn new() -> Self {
        let config = LinkConfig {
            resync_rate: 1 << 20,
            warmup_timeout: Duration::from_secs(1),
            site: "a".to_owned(),
            shard: None,
            peers: Vec::new(),
            wanted: None,
            upstream: Address::Tcp("127.0.0.1:1".to_owned()),
            upstream_timeout: PATIENCE,
            peer_timeout: PATIENCE,
            drain_timeout: PATIENCE,
            lists: None,
            fills: None,
            sessions: None,
        };
        let shared = Shared::new("a", 1, Bounds::default());
        shared.lock().connected(PeerId(0));
        Self { shared, config }
    }

    fn reader(&self) -> (Reader<'_>, DuplexStream) {
        let (near, far) = tokio::io::duplex(4096);
        let local = Local::over(Box::new(near), self.config.upstream_timeout);
        let mut reader = Reader::new(&self.config, &self.shared);
        reader.local = Some(Connected { local, given_back: 0, signed: false });
        (reader, far)
    }

    /// The connection on which items are read behind their gates.
    fn side(&self, reader: &mut Reader<'_>) -> DuplexStream {
        let (near, far) = tokio::io::duplex(4096);
        let local = Local::over(Box::new(near), self.config.upstream_timeout);
        reader.side = Some(Connected { local, given_back: 0, signed: false });
        far
    }

    /// A write of `k` whose outcome is not in hand, and what the dialer is handed out for it.
    fn write(&self, marks: Marks) -> Owed {
        self.write_key(b"k", marks)
    }

    fn write_key(&self, key: &[u8], marks: Marks) -> Owed {
        let Begin::Granted(slot) = self.shared.begin(key, 1) else { panic!("the gate is free") };
        let effect = Effect::Item { payload: None, marks };
        self.shared.complete(vec![Outcome::Key(slot, effect)], wall_clock_ms());
        self.take()
    }

    fn take(&self) -> Owed {
        let mut owed = Vec::new();
        self.shared.lock().take(PeerId(0), 1, wall_clock_ms(), &mut owed);
        owed.remove(0)
    }

    /// A peer's mutation of `k` is applied.
    fn apply(&self) {
        let newest = self.shared.lock().latest().time();
        let version = Version::new(newest + 1, Origin::of("b"));
        let offer = self.shared.lock().offer(PeerId(0), b"k", version, 2, wall_clock_ms(), || {
            panic!("the gate is free");
        });
        let Offer::Apply(slot) = offer else { panic!("{offer:?}") };
        self.shared.with(|replica, woken| replica.applied(slot, PeerId(0), version, woken));
    }
}

async fn read(
    reader: &mut Reader<'_>,
    memcached: &mut DuplexStream,
    owed: &Owed,
    request: &[u8],
    answer: &str,
) -> Marks {
    let Owed::Key { key, version, effect: Effect::Item { marks, .. }, marks_unsure } = owed else {
        panic!("{owed:?}");
    };
    let item = Unread { key, version: *version, marks: *marks, unsure: *marks_unsure };
    memcached.write_all(answer.as_bytes()).await.unwrap();
    reader.ask([item].into_iter()).await.unwrap();
    expect(memcached, std::str::from_utf8(request).unwrap()).await;
    reader.answer(item).await.unwrap().expect("it is there").marks
}

fn answer_to_marked(cas: u64) -> String {
    format!("ME k exp=-60 la=0 cas={cas} fetch=no cls=1 size=63\r\nVALUE k 0 1 {cas}\r\nv\r\nEND\r\n")
}

#[tokio::test]
async fn a_stale_item_that_is_touched_is_still_known_as_stale() {
    let scene = Scene::new();
    let (mut reader, mut memcached) = scene.reader();
    let first = scene.write(STALE);
    assert_eq!(read(&mut reader, &mut memcached, &first, MARKED, &answer_to_marked(7)).await, STALE);
    assert!(scene.shared.lock().acknowledge(PeerId(0), 1, 0, wall_clock_ms()));
    let touched = scene.write(Marks::default());
    assert_eq!(read(&mut reader, &mut memcached, &touched, MARKED, &answer_to_marked(7)).await, STALE);
}

#[tokio::test]
async fn what_replaced_a_stale_item_before_it_was_read_is_not_known_as_stale() {
    let scene = Scene::new();
    let (mut reader, mut memcached) = scene.reader();
    let first = scene.write(STALE);
    scene.apply();
    // This is the peer's item already. Its own version follows, from the peer.
    assert_eq!(read(&mut reader, &mut memcached, &first, MARKED, &answer_to_marked(8)).await, STALE);
    let touched = scene.write(Marks::default());
    let answer = "VA 1 c8 t60 f0\r\nv\r\n";
    assert_eq!(read(&mut reader, &mut memcached, &touched, PLAIN, answer).await, Marks::default());
}

#[tokio::test]
async fn nor_is_what_an_unanswered_write_may_have_put_there() {
    let scene = Scene::new();
    let (mut reader, mut memcached) = scene.reader();
    let first = scene.write(STALE);
    let Begin::Granted(slot) = scene.shared.begin(b"k", 1) else { panic!("the gate is free") };
    read(&mut reader, &mut memcached, &first, MARKED, &answer_to_marked(8)).await;
    scene.shared.complete(vec![Outcome::Key(slot, Effect::None)], wall_clock_ms());
    assert!(scene.shared.lock().acknowledge(PeerId(0), 1, 0, wall_clock_ms()));
    let touched = scene.write(Marks::default());
    let answer = "VA 1 c8 t60 f0\r\nv\r\n";
    assert_eq!(read(&mut reader, &mut memcached, &touched, PLAIN, answer).await, Marks::default());
}

/// Written without its gate while the stale one was read.
#[tokio::test]
async fn nor_is_what_was_marked_after_the_fact() {
    let scene = Scene::new();
    let (mut reader, mut memcached) = scene.reader();
    let first = scene.write(STALE);
    read(&mut reader, &mut memcached, &first, MARKED, &answer_to_marked(8)).await;
    assert!(scene.shared.lock().acknowledge(PeerId(0), 1, 0, wall_clock_ms()));
    let effect = Effect::Item { payload: None, marks: Marks::default() };
    scene.shared.lock().foresee(1);
    Arc::clone(&scene.shared).mark((*b"k").into(), effect).await;
    let streamed = scene.take();
    let answer = "VA 1 c8 t60 f0\r\nv\r\n";
    assert_eq!(read(&mut reader, &mut memcached, &streamed, PLAIN, answer).await, Marks::default());
}

/// No app may ask between the read that takes a win and the word that gives it back.
#[tokio::test]
async fn a_stale_item_that_only_mg_can_read_is_read_behind_its_gate() {
    for (key, before, asked) in [
        (
            &b"k"[..],
            "ME k exp=-1 la=0 cas=7 fetch=no cls=1 size=63\r\nVALUE k 0 1 7\r\nv\r\nEND\r\n",
            "mg k c t f v u\r\n",
        ),
        (b"a b", "", "mg YSBi c t f v u b\r\n"),
    ] {
        let scene = Scene::new();
        let (mut reader, mut memcached) = scene.reader();
        let mut side = scene.side(&mut reader);
        let owed = scene.write_key(key, STALE);
        let Owed::Key { version, marks_unsure, .. } = owed else { panic!("{owed:?}") };
        let item = Unread { key, version, marks: STALE, unsure: marks_unsure };
        memcached.write_all(before.as_bytes()).await.unwrap();
        let reading = async {
            reader.ask([item].into_iter()).await.unwrap();
            reader.answer(item).await.unwrap().expect("it is there").marks
        };
        let serving = async {
            expect(&mut side, asked).await;
            let app = scene.shared.begin(key, 2);
            assert!(matches!(app, Begin::Waiting(_)), "an app may see its win gone");
            side.write_all(b"VA 1 c7 t-1 f0 W X\r\nv\r\n").await.unwrap();
            let mut back = Vec::new();
            commands::give_win_back(&mut back, key, 7);
            expect(&mut side, std::str::from_utf8(&back).unwrap()).await;
            side.write_all(b"HD\r\n").await.unwrap();
            timeout(PATIENCE, app.granted()).await.expect("the gate opens again")
        };
        let (marks, slot) = tokio::join!(reading, serving);
        assert_eq!(marks, STALE);
        scene.shared.complete(vec![Outcome::Key(slot, Effect::None)], wall_clock_ms());
    }
}

/// A gate that does not open holds up no link.
#[tokio::test(start_paused = true)]
async fn a_gate_that_stays_shut_is_not_waited_for() {
    let scene = Scene::new();
    let (mut reader, _memcached) = scene.reader();
    let mut side = scene.side(&mut reader);
    let owed = scene.write_key(b"a b", STALE);
    let Owed::Key { version, .. } = owed else { panic!("{owed:?}") };
    let item = Unread { key: b"a b", version, marks: STALE, unsure: false };
    let _shut = scene.shared.shut(b"a b").await;
    side.write_all(b"VA 1 c7 t-1 f0 X Z\r\nv\r\n").await.unwrap();
    reader.ask([item].into_iter()).await.unwrap();
    assert!(reader.answer(item).await.unwrap().is_some());
}

async fn expect(memcached: &mut DuplexStream, request: &str) {
    let mut asked = vec![0; request.len()];
    timeout(PATIENCE, memcached.read_exact(&mut asked)).await.expect("nothing asked").unwrap();
    assert_eq!(String::from_utf8_lossy(&asked), request);
}

#[test]
fn versions_that_show_ttl_with_its_sign() {
    for (line, signed) in [
        ("VERSION 1.6.18", false),
        ("VERSION 1.6.23", false),
        ("VERSION 1.6.24", true),
        ("VERSION 1.6.45-6-gabcdef", true),
        ("VERSION 1.7.0", true),
        ("VERSION 1.5.99", false),
        ("VERSION", false),
        ("ERROR", false),
    ] {
        assert_eq!(shows_ttl_with_its_sign(line.as_bytes()), signed, "{line}");
    }
}
