//! What a write did on one side is there on the other: values, expiry, marks, whatever the key is made of.

use memcloud_proxy::link::LinkState;
use memcloud_proxy::replication::{Begin, Effect, Expiry, Marks, Outcome, Payload, next_lane, wall_clock_ms};

use crate::harness::{Mesh, PAIR, eventually};

#[tokio::test]
async fn writes_arrive_on_the_other_side_both_ways() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    a.set("from-a", "one").await;
    b.set("from-b", "two").await;
    b.wait_for("from-a", Some("one")).await;
    a.wait_for("from-b", Some("two")).await;
    assert_eq!(b.get("from-a").await, Some((5, "one".to_owned())));
    b.delete("from-a").await;
    a.wait_for("from-a", None).await;
    let peers = a.links.peers();
    assert_eq!((peers[0].state, peers[0].site.as_deref()), (LinkState::Streaming, Some("b")));
    mesh.in_sync().await;
}

#[tokio::test]
async fn outcomes_that_are_not_in_hand_are_read() {
    let mut mesh = Mesh::new(PAIR).await;
    // While an empty memcached is filled, a write without an outcome is taken for one that the old one lost.
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    let none = Marks::default();
    a.set("n", "9").await;
    assert_eq!(a.change("n", "incr n 3\r\n", none).await, "12");
    b.wait_for("n", Some("12")).await;
    assert_eq!(a.change("n", "append n 0 0 2\r\nxy\r\n", none).await, "STORED");
    assert_eq!(a.change("n", "touch n 100\r\n", none).await, "TOUCHED");
    b.wait_for("n", Some("12xy")).await;
    b.wait_for_answer("mg n t f\r\n", |answer| answer.starts_with("HD t99 f5") || answer == "HD t100 f5")
        .await;
    // Gone by the time it is read: dropped on the other side too.
    b.ask("set gone 0 0 3\r\nold\r\n").await;
    let answer = a.write(b"gone", b"incr gone 1\r\n", Effect::Unknown).await;
    assert_eq!(answer, "NOT_FOUND");
    b.wait_for("gone", None).await;
    // Already expired: a deletion.
    b.ask("set past 0 0 3\r\nold\r\n").await;
    a.change("past", "set past 0 -1 1\r\nx\r\n", none).await;
    b.wait_for("past", None).await;
    mesh.in_sync().await;
    assert_eq!(mesh.sites[0].links.peers()[0].counters.read_misses, 2);
}

#[tokio::test]
async fn ttl_over_thirty_days_travels_as_an_absolute_time() {
    let mut mesh = Mesh::new(PAIR).await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    let in_forty_days = wall_clock_ms() / 1000 + 40 * 86_400;
    a.change("k", &format!("set k 0 {in_forty_days} 1\r\nx\r\n"), Marks::default()).await;
    b.wait_for("k", Some("x")).await;
    let left: i64 = b.ask("mg k t\r\n").await.strip_prefix("HD t").unwrap().parse().unwrap();
    // memcached counts whole seconds, and its clock lags.
    assert!((40 * 86_400 - 3..=40 * 86_400 + 2).contains(&left), "{left}");
}

#[tokio::test]
async fn marks_of_the_meta_dialect_arrive() {
    let mut mesh = Mesh::new(PAIR).await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    // Stale, with a TTL: read without taking the win of either side.
    let stale = Marks { stale: true, ..Marks::default() };
    a.set("s", "old").await;
    a.change("s", "md s I T30\r\n", stale).await;
    b.wait_for_answer("me s\r\n", |answer| {
        answer.contains("exp=-30") || answer.contains("exp=30") || answer.contains("29")
    })
    .await;
    b.wait_for_answer("mg s s t\r\n", took_the_win).await;
    assert!(took_the_win(&a.ask("mg s s t\r\n").await), "the win is still there for a's apps");
    // Stale, and never expiring: the case that old memcacheds show in two ways.
    a.set("v", "old").await;
    a.change("v", "md v I\r\n", stale).await;
    b.wait_for("v", Some("old")).await;
    b.wait_for_answer("me v\r\n", |answer| answer.contains("exp=-1 ")).await;
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    assert!(took_the_win(&b.ask("mg v s\r\n").await));
    assert!(took_the_win(&a.ask("mg v s\r\n").await));
    // An empty item whose win is taken.
    let vivified = Marks { vivified: true, won: true, ..Marks::default() };
    assert_eq!(a.change("e", "mg e N60\r\n", vivified).await, "HD W");
    b.wait_for("e", Some("")).await;
    assert!(b.ask("mg e s\r\n").await.ends_with("s0 Z"));
    // A win taken by the recache window.
    a.change("r", "set r 0 100 1\r\nx\r\n", Marks::default()).await;
    b.wait_for("r", Some("x")).await;
    let won = Marks { won: true, ..Marks::default() };
    assert_eq!(a.change("r", "mg r R200\r\n", won).await, "HD W");
    b.wait_for_answer("mg r s\r\n", |answer| answer.ends_with("s1 Z")).await;
    mesh.in_sync().await;
}

#[tokio::test]
async fn a_touched_stale_item_keeps_its_win_for_the_apps() {
    let mut mesh = Mesh::new(PAIR).await;
    // A copy into a memcached that started empty would read the item as well.
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    let in_sync = |shared: std::sync::Arc<memcloud_proxy::replication::Shared>| async move {
        eventually("all is acknowledged", || shared.lock().in_sync()).await;
    };
    let stale = Marks { stale: true, ..Marks::default() };
    a.set("s", "old").await;
    a.change("s", "md s I T50\r\n", stale).await;
    in_sync(a.shared.clone()).await;
    let cas = |about: String| about.split(' ').find(|word| word.starts_with("cas=")).unwrap().to_owned();
    let before = cas(a.ask("me s\r\n").await);
    a.change("s", "touch s 300\r\n", Marks::default()).await;
    in_sync(a.shared.clone()).await;
    assert_eq!(cas(a.ask("me s\r\n").await), before, "the win was taken and given back");
    let answer = b.ask("mg s t\r\n").await;
    assert!(
        took_the_win(&answer) && (answer.starts_with("HD t300") || answer.starts_with("HD t299")),
        "{answer}"
    );
    // An app has taken the win, and the item is touched before that is sent: nobody on the other side may win too.
    a.change("s", "md s I T50\r\n", stale).await;
    in_sync(a.shared.clone()).await;
    assert!(took_the_win(&a.ask("mg s t0\r\n").await));
    assert_eq!(a.ask("touch s 500\r\n").await, "TOUCHED");
    for marks in [Marks { won: true, ..stale }, Marks::default()] {
        let Begin::Granted(slot) = a.shared.begin(b"s", next_lane()) else { panic!("nobody holds it") };
        let effect = Effect::Item { payload: None, marks };
        a.shared.complete(vec![Outcome::Key(slot, effect)], wall_clock_ms());
    }
    in_sync(a.shared.clone()).await;
    let answer = b.ask("mg s\r\n").await;
    assert!(answer.contains('X') && answer.contains('Z'), "{answer}");
}

/// Versions of memcached differ in the order of the two.
fn took_the_win(answer: &str) -> bool {
    answer.ends_with(" W X") || answer.ends_with(" X W")
}

#[tokio::test]
async fn keys_of_any_bytes_arrive() {
    let mut mesh = Mesh::new(PAIR).await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    let key = b"a b\r\n\0";
    let command = b"ms YSBiDQoA 2 F7 b\r\nhi\r\n";
    let effect = Effect::Item { payload: None, marks: Marks::default() };
    assert_eq!(a.write(key, command, effect).await, "HD");
    b.wait_for_answer("mg YSBiDQoA b f s\r\n", |answer| answer.starts_with("HD f7 s2")).await;
    a.write(key, b"md YSBiDQoA b\r\n", Effect::Removed).await;
    b.wait_for_answer("mg YSBiDQoA b\r\n", |answer| answer == "EN").await;
}

#[tokio::test]
async fn keys_that_no_text_can_name_arrive() {
    let mut mesh = Mesh::new(PAIR).await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    let key = [b"a b ".as_slice(), &[b'k'; 240]].concat();
    let payload = Payload { flags: 3, expiry: Expiry::Never, value: "hi".into() };
    let effect = Effect::Item { payload: Some(payload), marks: Marks::default() };
    assert!(a.write(&key, b"version\r\n", effect).await.starts_with("VERSION"));
    eventually("everything is acknowledged", || a.shared.lock().in_sync()).await;
    let found = b.packet(0x00, &key).await;
    assert!(found.ends_with(b"\0\0\0\x03hi"), "{found:?}");
    // What is not in hand is read, with its expiry.
    for (exptime, expiry) in [(100_u32, 100), (0, -1)] {
        let extras = [[0, 0, 0, 4], exptime.to_be_bytes()].concat();
        a.packet_with(0x01, &extras, &key, b"val").await;
        a.packet_with(0x0e, &[], &key, b"ue").await;
        a.write(&key, b"version\r\n", Effect::Unknown).await;
        eventually("everything is acknowledged", || a.shared.lock().in_sync()).await;
        assert!(b.packet(0x00, &key).await.ends_with(b"\0\0\0\x04value"));
        let now_s = wall_clock_ms() as i64 / 1000;
        let listed = b.list("lru_crawler metadump all\r\n").await;
        let exp = listed.split(' ').find_map(|word| word.strip_prefix("exp=")).unwrap();
        let exp: i64 = exp.parse().unwrap();
        assert!(exp == expiry || (exp - now_s - expiry).abs() <= 2, "{listed}");
    }
    // One that is gone is a deletion.
    a.packet(0x04, &key).await;
    a.write(&key, b"version\r\n", Effect::Unknown).await;
    eventually("everything is acknowledged", || a.shared.lock().in_sync()).await;
    assert!(b.packet(0x00, &key).await.ends_with(b"Not found"));
    mesh.in_sync().await;
}

#[tokio::test]
async fn a_value_too_large_for_the_peer_drops_the_old_one_there() {
    let mut mesh = Mesh::new(&[&["-I", "4m"], &["-I", "1m"]]).await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    a.set("k", "small").await;
    b.wait_for("k", Some("small")).await;
    a.set("k", &"x".repeat(3 << 20)).await;
    a.set("large", &"y".repeat(1000 * 1000)).await;
    b.wait_for("k", None).await;
    b.wait_for("large", Some(&"y".repeat(1000 * 1000))).await;
    mesh.in_sync().await;
    assert_eq!(mesh.sites[1].links.peers()[0].counters.refused, 1);
    // The other way it fits.
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    b.set("k", "small again").await;
    a.wait_for("k", Some("small again")).await;
}
