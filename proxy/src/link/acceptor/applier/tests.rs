use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::*;
use crate::replication::{Begin, Bounds};

const PATIENCE: Duration = Duration::from_millis(100);
const INPUT: &[u8] = b"md k Pmc1/b/1\r\nmd l Pmc1/b/2\r\n";

/// An applier of site a with a memcached that the test plays.
fn applier() -> (Applier, Arc<Shared>, DuplexStream) {
    let shared = Shared::new("a", 1, Bounds::default());
    let (near, far) = tokio::io::duplex(4096);
    let upstream = (Address::Tcp("127.0.0.1:1".to_owned()), PATIENCE);
    let local = Local::over(Box::new(near), PATIENCE);
    let applier = Applier::new(Arc::clone(&shared), PeerId(0), ["b", "a"], 1, upstream, local);
    (applier, shared, far)
}

fn abandoned(shared: &Shared) -> u64 {
    shared.lock().status(PeerId(0), 0).counters.abandoned
}

/// The gate of `k` is ours only once memcached has closed the connection.
async fn held_until_closed(shared: &Arc<Shared>, mut memcached: DuplexStream, begin: Begin) {
    let Begin::Waiting(wait) = begin else { panic!("memcached may still carry out what it was sent") };
    let mut heard = Vec::new();
    let told = timeout(PATIENCE * 10, memcached.read_to_end(&mut heard)).await;
    told.expect("memcached is told that nothing more comes").unwrap();
    assert_eq!(abandoned(shared), 0);
    drop(memcached);
    timeout(PATIENCE * 10, wait).await.expect("the gate is given back");
    assert!(abandoned(shared) > 0);
}

#[tokio::test]
async fn an_answer_out_of_step_keeps_the_gates_until_memcached_has_closed() {
    let (mut applier, shared, mut memcached) = applier();
    assert_eq!(applier.fill(INPUT, None).unwrap().0, INPUT.len());
    memcached.write_all(b"HD\r\nWHAT\r\n").await.unwrap();
    assert_eq!(applier.settle(INPUT).await.unwrap_err().kind(), ErrorKind::InvalidData);
    applier.abandon();
    held_until_closed(&shared, memcached, shared.begin(b"k", 2)).await;
    assert_eq!(applier.acked().count, 0, "the peer sends all of it again");
}

#[tokio::test]
async fn silence_ends_the_wait_and_not_the_gates() {
    let (mut applier, shared, memcached) = applier();
    assert_eq!(applier.fill(INPUT, None).unwrap().0, INPUT.len());
    let settled = timeout(PATIENCE * 10, applier.settle(INPUT)).await.expect("nobody waits for ever");
    assert_eq!(settled.unwrap_err().kind(), ErrorKind::TimedOut);
    held_until_closed(&shared, memcached, shared.begin(b"k", 2)).await;
}

#[tokio::test]
async fn a_flush_without_an_answer_keeps_all_gates() {
    let version = Version::new(7, Origin::of("b"));
    let (mut applier, shared, memcached) = applier();
    let offer = applier.offer_flush(version, None).unwrap();
    let carried_out = applier.flush(version, offer).await;
    assert_eq!(carried_out.unwrap_err().kind(), ErrorKind::TimedOut);
    held_until_closed(&shared, memcached, shared.begin(b"k", 2)).await;
    assert_eq!(applier.acked().count, 0);
}

#[tokio::test]
async fn what_was_not_sent_is_given_back_at_once() {
    let (mut applier, shared, memcached) = applier();
    let (used, _) = applier.fill(b"md k Pmc1/b/1\r\n", None).unwrap();
    assert!(used > 0 && applier.fill(b"nonsense\r\n", None).is_err());
    applier.abandon();
    assert!(matches!(shared.begin(b"k", 2), Begin::Granted(_)));
    drop(memcached);
}

/// Two sites are compared while a third one's `touch` is on its way to one of them: whose item wins by its CAS has to reach the
/// third one, too.
#[tokio::test]
async fn who_heard_an_older_item_said_again_has_others_compared() {
    const OLDER: u64 = 1_882_595_354_844_594_277;
    let item = |cas: u64, site: &str, time: u64| {
        format!("ms k 1 T0 F0 Pmc1/{site}/{time:x} E{cas}\r\nv\r\n").into_bytes()
    };
    for (heard, others_lack) in [(OLDER + 9, true), (OLDER, false)] {
        let shared = Shared::new("a", 2, Bounds::default());
        let (near, _far) = tokio::io::duplex(4096);
        let upstream = (Address::Tcp("127.0.0.1:1".to_owned()), PATIENCE);
        let local = Local::over(Box::new(near), PATIENCE);
        let mut link = Applier::new(Arc::clone(&shared), PeerId(1), ["c", "a"], 1, upstream.clone(), local);
        shared.lock().inbound_connected(PeerId(1), 1);
        let mutation = item(OLDER, "c", heard);
        assert_eq!(link.fill(&mutation, None).unwrap().0, mutation.len());
        link.abandon();
        let (near, _far) = tokio::io::duplex(4096);
        let local = Local::over(Box::new(near), PATIENCE);
        let mut states =
            Applier::new(Arc::clone(&shared), PeerId(0), ["b", "a"], 2, upstream, local).of_states();
        states.basis = Basis { decided: true, read: Some(shared.lock().begin_resync()), unread: false };
        let newer = item(OLDER + 1, "b", OLDER + 2);
        assert_eq!(states.fill(&newer, None).unwrap().0, newer.len());
        assert!(states.take_kept().is_empty());
        let loss = shared.lock().loss(PeerId(1));
        assert_eq!(loss != Loss::Nothing, others_lack);
    }
}
