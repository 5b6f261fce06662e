use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::*;
use crate::config::Address;
use crate::replication::{Begin, Bounds, Effect, Offer, Origin, Outcome, Owed, PeerId};

const PATIENCE: Duration = Duration::from_secs(1);
const MARKED: &[u8] = b"me k\r\ngets k\r\n";
const PLAIN: &[u8] = b"mg k c t f v u\r\n";
const STALE: Marks = Marks { stale: true, won: false, vivified: false };

/// One site whose memcached the test plays, and its reader.
struct Scene {
    shared: std::sync::Arc<Shared>,
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

    /// A write of `k` whose outcome is not in hand, and what the dialer is handed out for it.
    fn write(&self, marks: Marks) -> Owed {
        let Begin::Granted(slot) = self.shared.begin(b"k", 1) else { panic!("the gate is free") };
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
    let mut asked = vec![0; request.len()];
    timeout(PATIENCE, memcached.read_exact(&mut asked)).await.expect("asked otherwise").unwrap();
    assert_eq!(asked, request, "{:?}", String::from_utf8_lossy(&asked));
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
    std::sync::Arc::clone(&scene.shared).mark((*b"k").into(), effect).await;
    let streamed = scene.take();
    let answer = "VA 1 c8 t60 f0\r\nv\r\n";
    assert_eq!(read(&mut reader, &mut memcached, &streamed, PLAIN, answer).await, Marks::default());
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
