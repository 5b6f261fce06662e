//! Links between sites with real memcacheds, over wires that can be cut.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "link/harness.rs"]
mod harness;

use std::time::Duration;

use harness::{Mesh, Net, PEER_TIMEOUT, eventually};
use memcloud_proxy::link::{LinkState, LinkStopped};
use memcloud_proxy::replication::{Begin, Effect, Expiry, Marks, Outcome, Payload, PeerId, next_lane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PAIR: &[&[&str]] = &[&[], &[]];

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
    let in_forty_days = memcloud_proxy::replication::wall_clock_ms() / 1000 + 40 * 86_400;
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
        a.shared.complete(vec![Outcome::Key(slot, effect)], memcloud_proxy::replication::wall_clock_ms());
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
        let now_s = memcloud_proxy::replication::wall_clock_ms() as i64 / 1000;
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
async fn a_memcached_that_hangs_delays_and_breaks_nothing() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[1].memcached.as_ref().unwrap().signal("-STOP");
    for n in 0..200 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    // Longer than the peer's patience: the acceptor says that it is alive.
    tokio::time::sleep(PEER_TIMEOUT * 4).await;
    assert_eq!(mesh.sites[0].shared.lock().status(PeerId(0), 0).counters.acked, 0);
    mesh.sites[1].memcached.as_ref().unwrap().signal("-CONT");
    mesh.in_sync().await;
    for n in 0..200 {
        mesh.sites[1].wait_for(&format!("k{n}"), Some("v")).await;
    }
}

#[tokio::test]
async fn a_cut_link_loses_nothing_and_conflicts_end_alike() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Cut);
    for site in &mesh.sites {
        eventually("the cut is noticed", || site.links.peers()[0].state == LinkState::Down).await;
    }
    for n in 0..2000 {
        mesh.sites[0].set(&format!("a{n}"), &format!("a{n}")).await;
        mesh.sites[1].set(&format!("b{n}"), &format!("b{n}")).await;
        mesh.sites[n % 2].set(&format!("both{}", n % 100), &format!("{n}")).await;
    }
    mesh.sites[1].set("a-wrote-last", "b").await;
    // Two sites that do not hear each other are ordered by wall time, in milliseconds.
    tokio::time::sleep(Duration::from_millis(5)).await;
    mesh.sites[0].set("a-wrote-last", "a").await;
    assert!(!mesh.sites[0].shared.lock().in_sync());
    mesh.net(Net::Open);
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    for n in 0..2000 {
        for key in [format!("a{n}"), format!("b{n}"), format!("both{}", n % 100)] {
            let here = a.get(&key).await;
            assert!(here.is_some(), "{key}");
            assert_eq!(here, b.get(&key).await, "{key}");
        }
    }
    b.wait_for("a-wrote-last", Some("a")).await;
}

#[tokio::test]
async fn a_link_that_breaks_while_writing_goes_on_loses_nothing() {
    let mut mesh = Mesh::new(PAIR).await;
    for round in 0..10 {
        for n in 0..200 {
            if n == 100 {
                mesh.net(Net::Cut);
            }
            mesh.sites[n % 2].set(&format!("k{}", n % 37), &format!("{round}-{n}")).await;
            mesh.sites[(n + 1) % 2].change("n", "ms n 1 MA N0\r\nx\r\n", Marks::default()).await;
        }
        mesh.net(Net::Open);
    }
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    for key in (0..37).map(|n| format!("k{n}")).chain(["n".to_owned()]) {
        let here = a.get(&key).await;
        assert_eq!(here, b.get(&key).await, "{key}");
    }
}

#[tokio::test]
async fn a_peer_that_stalls_is_left_and_found_again() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Stalled);
    for n in 0..500 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    let links = &mesh.sites[0].links;
    let silent = LinkStopped::LABELS.iter().position(|label| *label == "silent").unwrap();
    eventually("silence ends a link", || links.peers()[0].counters.stopped[silent] > 0).await;
    mesh.net(Net::Open);
    mesh.in_sync().await;
    for n in 0..500 {
        mesh.sites[1].wait_for(&format!("k{n}"), Some("v")).await;
    }
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

#[tokio::test]
async fn a_flush_passes_and_what_comes_later_lives() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[0].set("old", "x").await;
    mesh.sites[1].wait_for("old", Some("x")).await;
    mesh.net(Net::Cut);
    mesh.sites[0].set("during", "x").await;
    mesh.sites[1].set("older-elsewhere", "x").await;
    mesh.sites[0].flush().await;
    // memcached 1.6.18 counts seconds: what is set in the second of a flush may die with it.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    mesh.sites[0].set("later", "x").await;
    mesh.net(Net::Open);
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    for key in ["old", "during", "older-elsewhere"] {
        assert_eq!((a.get(key).await, b.get(key).await), (None, None), "{key}");
    }
    b.wait_for("later", Some("x")).await;
    // With a delay it is an ordinary one of this site, later.
    let now_ms = memcloud_proxy::replication::wall_clock_ms();
    a.shared.schedule_flush(now_ms + 2000, now_ms);
    assert!(b.get("later").await.is_some());
    b.wait_for("later", None).await;
    a.wait_for("later", None).await;
    mesh.in_sync().await;
    assert_eq!(mesh.sites[0].shared.lock().counters().flushes, 3);
    assert_eq!(mesh.sites[1].shared.lock().counters().flushes, 0);
}

#[tokio::test]
async fn a_site_whose_clock_is_ahead_hears_that_it_is_refused() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    let [a, b] = &mut mesh.sites[..] else { unreachable!() };
    a.set("before", "x").await;
    let ahead_ms = memcloud_proxy::replication::wall_clock_ms() + 3_600_000;
    let Begin::Granted(slot) = a.shared.begin(b"k", next_lane()) else { panic!("nobody holds it") };
    a.shared.complete(vec![Outcome::Key(slot, Effect::Removed)], ahead_ms);
    a.set("behind-it", "x").await;
    eventually("all is acknowledged", || a.shared.lock().status(PeerId(0), 0).counters.acked == 3).await;
    b.wait_for("before", Some("x")).await;
    // The clock never goes back, so what comes later is refused too.
    assert_eq!(b.get("behind-it").await, None);
    let status = a.shared.lock().status(PeerId(0), 0);
    assert_eq!(status.skewed.map(|skewed| skewed.mutations), Some(2));
    assert!(!a.shared.lock().in_sync());
    a.flush().await;
    let refused = || a.shared.lock().status(PeerId(0), 0).counters.refused;
    eventually("a flush is refused alike", || refused() == 3).await;
    assert!(!a.shared.lock().in_sync());
    let now_ms = memcloud_proxy::replication::wall_clock_ms();
    a.shared.lock().schedule_flush(now_ms + 100_000, now_ms);
    a.shared.poke_all();
    eventually("and so is a delayed one", || refused() == 4).await;
}

#[tokio::test]
async fn a_scheduled_flush_of_a_peer_that_is_gone_is_run() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[1].set("k", "v").await;
    let now_ms = memcloud_proxy::replication::wall_clock_ms();
    mesh.sites[0].shared.schedule_flush(now_ms + 500, now_ms);
    mesh.in_sync().await;
    let heard = mesh.sites[1].shared.lock().status(PeerId(0), 0).counters.applied;
    mesh.net(Net::Cut);
    assert_eq!(heard, 1, "the schedule");
    mesh.sites[1].wait_for("k", None).await;
    assert_eq!(mesh.sites[1].shared.lock().counters().flushes, 1);
    // It comes back, and its own flush is no news.
    mesh.net(Net::Open);
    mesh.in_sync().await;
    mesh.sites[1].set("k", "v").await;
    mesh.sites[0].wait_for("k", Some("v")).await;
}

#[tokio::test]
async fn the_receivers_memcached_dies_and_comes_back() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.sites[1].memcached = None;
    for n in 0..300 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    let links = &mesh.sites[0].links;
    eventually("the dialer hears why", || {
        links.peers()[0].stopped.is_some_and(|stopped| stopped.to_string() == "refused: upstream-down")
    })
    .await;
    mesh.sites[1].restart_memcached(&[]).await;
    mesh.in_sync().await;
    for n in 0..300 {
        mesh.sites[1].wait_for(&format!("k{n}"), Some("v")).await;
    }
}

#[tokio::test]
async fn a_network_of_one_direction_carries_that_direction() {
    let only_from_a = |from, _| if from == 0 { Net::Open } else { Net::Cut };
    let mut mesh = Mesh::over(PAIR, only_from_a).await;
    mesh.sites[0].set("k", "v").await;
    mesh.sites[1].wait_for("k", Some("v")).await;
    assert!(!mesh.sites[0].shared.lock().in_sync());
    mesh.net(Net::Open);
    mesh.in_sync().await;
}

#[tokio::test]
async fn three_sites_agree() {
    let mut mesh = Mesh::new(&[&[], &[], &[]]).await;
    mesh.in_sync().await;
    for n in 0..600 {
        match n {
            150 => mesh.relays[0][1].set(Net::Cut),
            250 => mesh.relays[2].iter().for_each(|relay| relay.set(Net::Cut)),
            350 => mesh.net(Net::Open),
            _ => {}
        }
        mesh.sites[n % 3].set(&format!("k{}", n % 50), &format!("{n}")).await;
        if n % 7 == 0 {
            mesh.sites[(n + 1) % 3].delete(&format!("k{}", n % 50)).await;
        }
    }
    mesh.in_sync().await;
    for n in 0..50 {
        let key = format!("k{n}");
        let mut seen = Vec::new();
        for site in &mut mesh.sites {
            seen.push(site.get(&key).await);
        }
        assert!(seen.iter().all(|found| *found == seen[0]), "{key}: {seen:?}");
    }
    for site in &mesh.sites {
        for peer in site.links.peers() {
            let name = peer.site.unwrap();
            assert_ne!(name, "");
        }
    }
}

#[tokio::test]
async fn garbage_on_peer_listen_is_told_off_and_harms_nobody() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    let long = [b"ml hello ".as_slice(), &[b'x'; 4000]].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"get k\r\n", "ml refused malformed\r\n"),
        (b"\x80\x00\x00\x00", "ml refused malformed\r\n"),
        (b"\x16\x03\x01\x02\x00", "ml refused malformed\r\n"),
        (b"ml ack 7\r\n", "ml refused malformed\r\n"),
        (b"ms k 5 T0 F0 Pmc1/b/1\r\nhello\r\n", "ml refused malformed\r\n"),
        (&long, "ml refused malformed\r\n"),
        (b"ml hello V0 Sb R1\r\n", "ml refused version\r\n"),
        (b"ml hello V2 Sa R1\r\n", "ml refused same-site\r\n"),
    ];
    for (bytes, answer) in cases {
        assert_eq!(converse(&mesh.listens[0], bytes).await, *answer, "{}", String::from_utf8_lossy(bytes));
    }
    let answer = converse(&mesh.listens[0], b"ml hello V2 Sz R1\r\n").await;
    assert!(
        answer.starts_with("ml hello V2 Sa R") && answer.ends_with("ml refused unknown-peer\r\n"),
        "{answer}"
    );
    // One that says nothing at all is not waited for.
    assert_eq!(converse(&mesh.listens[0], b"").await, "");
    assert_eq!(mesh.sites[0].links.strangers().iter().sum::<u64>(), cases.len() as u64 + 2);
    mesh.sites[0].set("k", "v").await;
    mesh.sites[1].wait_for("k", Some("v")).await;
    mesh.in_sync().await;
}

/// Says `bytes` and hears until the other side closes.
async fn converse(addr: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut heard = String::new();
    timeout(PEER_TIMEOUT * 8, stream.read_to_string(&mut heard))
        .await
        .expect("the other side closes")
        .unwrap();
    heard
}

/// A peer written by hand, after docs/peer-link.md.
#[tokio::test]
async fn a_hand_written_peer_is_served_and_held_to_the_rules() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Cut);
    eventually("the cut is noticed", || !mesh.sites[0].links.peers()[0].inbound).await;
    let now_ms = memcloud_proxy::replication::wall_clock_ms();
    let time = |n: u64| format!("{:x}", (now_ms << 20) + n);
    let mut peer = TcpStream::connect(&mesh.listens[0]).await.unwrap();
    let mut say = format!("ml hello V2 Sb R2a\r\nms k 3 T0 F9 Pmc1/b/{}\r\nnew\r\n", time(2));
    say += &format!("ms k 3 T0 F9 Pmc1/b/{}\r\nold\r\n", time(1));
    say += &format!("md other Pmc1/b/{}\r\nms home 1 T0 F0 Pmc1/a/{}\r\nx\r\n", time(3), time(4));
    say += &format!("ml mark Pmc1/b/{} O0\r\n", time(3));
    peer.write_all(say.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.ends_with("ml ack 4\r\n") {
        let mut more = [0; 4096];
        let read = timeout(PEER_TIMEOUT * 4, peer.read(&mut more)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {heard:?}");
        heard += std::str::from_utf8(&more[..read]).unwrap();
    }
    assert!(heard.starts_with("ml hello V2 Sa R"), "{heard}");
    assert!(heard.contains("\r\nml ack 0\r\n"), "{heard}");
    assert_eq!(mesh.sites[0].get("k").await, Some((9, "new".to_owned())));
    assert_eq!(mesh.sites[0].get("home").await, None, "our own mutations are not taken from others");
    let counters = mesh.sites[0].shared.lock().status(PeerId(0), now_ms).counters;
    assert_eq!((counters.applied, counters.superseded, counters.echo), (2, 1, 1));
    // A third site's mutation ends the link.
    peer.write_all(format!("md k Pmc1/c/{}\r\n", time(9)).as_bytes()).await.unwrap();
    let mut rest = String::new();
    timeout(PEER_TIMEOUT * 4, peer.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.ends_with("ml refused malformed\r\n"), "{rest}");
}

#[tokio::test]
async fn a_draining_site_sends_what_it_owes_first() {
    let mut mesh = Mesh::new(PAIR).await;
    mesh.in_sync().await;
    mesh.net(Net::Cut);
    eventually("the cut is noticed", || mesh.sites[0].links.peers()[0].state == LinkState::Down).await;
    for n in 0..100 {
        mesh.sites[0].set(&format!("k{n}"), "v").await;
    }
    mesh.sites[0].drain.cancel();
    mesh.net(Net::Open);
    mesh.sites[0].tracker.close();
    timeout(Duration::from_secs(10), mesh.sites[0].tracker.wait()).await.expect("drained");
    for n in 0..100 {
        assert_eq!(mesh.sites[1].get(&format!("k{n}")).await, Some((5, "v".to_owned())));
    }
}
