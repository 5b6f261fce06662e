//! Sites that learn of each other from control: no `--peer` stands anywhere.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

mod machine;
mod shard;

use std::fs;

use memcloud_tests::compare::compare;
use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::Sidecar;
use memcloud_tests::{Busy, Control, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use machine::Machine;
use shard::{APPID, FLAGS, Pair, WITHIN, control, fill, furnish, in_sync, shown};

#[test]
fn two_sites_learn_of_each_other_from_control_and_go_on_without_it() {
    let folder = Folder::new();
    let mut control = control(&folder);
    let token = control.token_file("token");
    let a = Machine::start("a", "m-a", Some("s0"), &control, &token, &folder);
    a.is("placed");
    shown(&control, &[a.srv(0)]);
    fill(&a);
    let mut b = Machine::start("b", "m-b", Some("s0"), &control, &token, &folder);
    b.is("placed");
    in_sync(&[&a, &b]);
    assert!(compare(&[&a.memcached, &b.memcached]).is_equal());
    shown(&control, &[a.srv(0), b.srv(0)]);
    a.set("one", "from a");
    b.gets("one", "from a");

    control.kill();
    a.says("cannot be reached");
    b.says("cannot be reached");
    assert_eq!(a.sidecar.metric("memcloud_proxy_control_up", &[]), 0.0);
    b.set("two", "from b");
    a.gets("two", "from b");
    in_sync(&[&a, &b]);
    // Who starts meanwhile begins with the peers that it had.
    b.sidecar.process().signal(Signal::TERM);
    assert!(b.sidecar.process_mut().wait(WITHIN).success());
    a.set("two", "from a while b is away");
    b.sidecar.relaunch();
    b.gets("two", "from a while b is away");
    in_sync(&[&a, &b]);
    b.says("cannot be reached");
    assert_eq!(b.control()["state"], "placed");
    control.restart();
    a.is("placed");
    b.is("placed");
    assert!(a.sidecar.metric("memcloud_proxy_control_requests_total", &["outcome=\"failed\""]) > 0.0);
    a.set("three", "from a");
    b.gets("three", "from a");
    in_sync(&[&a, &b]);
    shown(&control, &[a.srv(0), b.srv(0)]);

    // Who ends says so: clients are sent elsewhere at once, and the place stays its own.
    let replica = b.control()["replica"].clone();
    b.sidecar.process().signal(Signal::TERM);
    assert!(b.sidecar.process_mut().wait(WITHIN).success());
    shown(&control, &[a.srv(0), b.srv(20)]);
    let heard = control.ok("GET", &format!("/v1/replicas/{replica}"), &Value::Null);
    assert_eq!((&heard["heartbeat"]["stopping"], &heard["state"]), (&json!(true), &json!("down")));
    b.sidecar.relaunch();
    b.is("placed");
    assert_eq!(b.control()["replica"], replica);
    in_sync(&[&a, &b]);
    shown(&control, &[a.srv(0), b.srv(0)]);
    let secret = fs::read_to_string(&token).unwrap();
    assert!(!a.sidecar.process().log().contains(&secret) && !b.sidecar.process().log().contains(&secret));
}

#[test]
fn a_machine_dies_and_one_of_the_pool_takes_its_place() {
    let Pair { folder, mut control, token, a, mut b } = Pair::start();
    let c = Machine::start("c", "m-c", None, &control, &token, &folder);
    c.is("pool");
    // What it holds is nobody's.
    c.set("stray", "of the pool");
    let dead = b.control()["replica"].clone();
    b.kill();
    shown(&control, &[a.srv(0), b.srv(20)]);

    let newcomer = json!({ "replica": c.control()["replica"], "replaces": dead });
    control.ok("POST", "/v1/apps/10001/shards/s0/replicas", &newcomer);
    // What was decided is kept.
    control.kill();
    control.restart();
    eventually("DNS has the newcomer", WITHIN, || {
        let srv = control.srv(APPID);
        let is_there = srv.contains(&c.srv(0));
        if is_there {
            assert_eq!(c.sidecar.status()["warming"], false, "published before it was filled: {srv:?}");
            let held = compare(&[&a.memcached, &c.memcached]);
            assert!(held.is_equal(), "published before it had everything: {held:?}");
        }
        is_there.then_some(())
    });
    shown(&control, &[a.srv(0), c.srv(0)]);
    c.is("placed");
    in_sync(&[&a, &c]);
    assert_eq!((a.peers(), c.peers()), (vec!["c".to_owned()], vec!["a".to_owned()]));
    assert_eq!(c.memcached.client().get("stray").unwrap(), None);
    c.set("one", "from c");
    a.gets("one", "from c");
    eventually("the dead one is let go", WITHIN, || {
        let one = control.ok("GET", &format!("/v1/replicas/{dead}"), &Value::Null);
        (one["allocation"]["state"] == "released").then_some(())
    });
}

#[test]
fn a_replica_in_use_is_replaced_and_nobody_misses_anything() {
    let Pair { folder, control, token, a, b } = Pair::start();
    let c = Machine::start("c", "m-c", None, &control, &token, &folder);
    c.is("pool");
    let writing = Busy::start(a.sidecar.client());
    let old = b.control()["replica"].clone();
    let newcomer = json!({ "replica": c.control()["replica"], "replaces": old });
    control.ok("POST", "/v1/apps/10001/shards/s0/replicas", &newcomer);
    eventually("DNS has the newcomer", WITHIN, || {
        let srv = control.srv(APPID);
        if srv.contains(&c.srv(0)) {
            assert_eq!(c.sidecar.status()["warming"], false, "published before it was filled");
            return Some(());
        }
        assert!(srv.contains(&b.srv(0)), "the old one serves until the newcomer does: {srv:?}");
        None
    });
    shown(&control, &[a.srv(0), c.srv(0)]);
    eventually("the old one is let go", WITHIN, || b.peers().is_empty().then_some(()));
    b.is("pool");
    let newest = writing.end();
    in_sync(&[&a, &c]);
    assert!(compare(&[&a.memcached, &c.memcached]).is_equal());
    for (key, value) in newest {
        c.gets(&key, &value);
    }
    assert_eq!(c.memcached.client().get("item:4999").unwrap().as_deref(), Some(b"00004999".as_slice()));
    assert_eq!([&a, &c].map(|one| one.sidecar.status()["lost_unrepaired"].clone()), [json!(0), json!(0)]);
}

#[test]
fn two_of_the_pool_become_a_shard_when_a_requisition_is_approved() {
    let folder = Folder::new();
    let control = control(&folder);
    let token = control.token_file("token");
    let c = Machine::start("c", "m-c", None, &control, &token, &folder);
    let d = Machine::start("d", "m-d", None, &control, &token, &folder);
    for one in [&c, &d] {
        one.is("pool");
        one.set("stray", "of the pool");
        assert!(one.peers().is_empty());
    }
    let size = json!({ "shards": 1, "replicas": 2, "memory_bytes": 64 << 20 });
    let filed = control.ok("POST", "/v1/apps/10001/requisitions", &json!({ "size": size }));
    let id = &filed["requisition"]["id"];
    control.ok("POST", &format!("/v1/requisitions/{id}/approve"), &json!({}));
    for one in [&c, &d] {
        one.is("placed");
    }
    in_sync(&[&c, &d]);
    shown(&control, &[c.srv(0), d.srv(0)]);
    for one in [&c, &d] {
        assert_eq!(one.memcached.client().get("stray").unwrap(), None, "what it held was nobody's");
    }
    c.set("one", "from c");
    d.gets("one", "from c");
    assert_eq!(
        control.ok("GET", &format!("/v1/requisitions/{id}"), &Value::Null)["state"]["state"],
        "fulfilled"
    );
}

#[test]
fn each_site_has_a_control_process_of_its_own_and_one_of_these_is_killed() {
    let folder = Folder::new();
    let database = Postgres::start();
    let mut one = Control::start_on(database.url(), &folder, &FLAGS);
    furnish(&one);
    let other = one.beside();
    let token = one.token_file("token");
    let a = Machine::start("a", "m-a", Some("s0"), &one, &token, &folder);
    a.is("placed");
    fill(&a);
    let b = Machine::start("b", "m-b", Some("s0"), &other, &token, &folder);
    b.is("placed");
    in_sync(&[&a, &b]);
    for control in [&one, &other] {
        shown(control, &[a.srv(0), b.srv(0)]);
    }
    one.kill();
    a.says("cannot be reached");
    // Nobody hears of it any more, and nobody would know whether it lives.
    shown(&other, &[a.srv(20), b.srv(0)]);
    a.set("one", "from a");
    b.gets("one", "from a");
    let c = Machine::start("c", "m-c", None, &other, &token, &folder);
    c.is("pool");
    one.restart();
    a.is("placed");
    let path = format!("/v1/replicas/{}", c.control()["replica"]);
    eventually("what one has heard the other knows", WITHIN, || {
        (one.ok("GET", &path, &Value::Null)["state"] == "up").then_some(())
    });
    // Asked of the one, carried out by whoever hears that the newcomer is whole.
    let newcomer = json!({ "replica": c.control()["replica"], "replaces": b.control()["replica"] });
    one.ok("POST", "/v1/apps/10001/shards/s0/replicas", &newcomer);
    for control in [&one, &other] {
        shown(control, &[a.srv(0), c.srv(0)]);
    }
    in_sync(&[&a, &c]);
    assert!(compare(&[&a.memcached, &c.memcached]).is_equal());
}

#[test]
fn a_proxy_that_knows_two_control_processes_goes_on_with_the_second_when_the_first_is_killed() {
    let folder = Folder::new();
    let database = Postgres::start();
    let mut one = Control::start_on(database.url(), &folder, &FLAGS);
    furnish(&one);
    let other = one.beside();
    let token = one.token_file("token");
    let urls = format!("{},{}", one.url(), other.url());
    let a = Machine::start_by("a", "m-a", Some("s0"), &urls, &token, &folder);
    a.is("placed");
    assert_eq!(a.control()["url"], one.url());
    one.kill();
    eventually("the other one is asked", WITHIN, || {
        let control = a.control();
        (control["url"] == other.url() && control["up"] == true).then_some(())
    });
    shown(&other, &[a.srv(0)]);
    // What it is told comes from there as well.
    let b = Machine::start_by("b", "m-b", Some("s0"), &urls, &token, &folder);
    b.is("placed");
    in_sync(&[&a, &b]);
    // It stays there: nothing is won by going back.
    one.restart();
    shown(&one, &[a.srv(0), b.srv(0)]);
    assert_eq!((a.control()["url"].clone(), a.control()["up"].clone()), (json!(other.url()), json!(true)));
}

#[test]
fn a_site_comes_back_on_another_machine_when_the_old_one_is_dead() {
    let Pair { folder, control, token, a, mut b } = Pair::start();
    let again = Machine::start("b", "m-new", Some("s0"), &control, &token, &folder);
    again.says("is alive at");
    assert!(again.peers().is_empty());
    let number = b.control()["replica"].clone();
    b.kill();
    again.is("placed");
    assert_eq!(again.control()["replica"], number);
    in_sync(&[&a, &again]);
    assert!(compare(&[&a.memcached, &again.memcached]).is_equal());
    shown(&control, &[a.srv(0), again.srv(0)]);
}

#[test]
fn what_control_refuses_is_one_sentence_that_says_what_to_do() {
    let folder = Folder::new();
    let control = control(&folder);
    let token = control.token_file("token");
    let wrong = folder.path().join("wrong");
    fs::write(&wrong, "memcloud_wrong").unwrap();
    let a = Machine::start("a", "m-a", Some("s0"), &control, &wrong, &folder);
    a.says("this token is unknown, expired or revoked: ask for another; put another one there, it is read again by itself");
    a.set("alone", "all the same");
    fs::copy(&token, &wrong).unwrap();
    a.is("placed");

    let far = Machine::start("b", "m-b", Some("s7"), &control, &token, &folder);
    far.says(
        "there is no shard s7 of app 10001: ask for one that is there, or for s1, which would be the next",
    );
    drop(far);
    let b = Machine::start("b", "m-b", Some("s0"), &control, &token, &folder);
    b.is("placed");
    let full = Machine::start("c", "m-c", Some("s0"), &control, &token, &folder);
    full.says("shard s0 of app 10001 is full, its quota allows 2 replicas: raise the quota, or take a replica out first");
    drop(b);
    full.says("replica 2 is down, and a proxy started with --site b takes its place");

    let mut settings = full.sidecar.settings().clone();
    settings.extra.iter_mut().filter(|flag| *flag == "10001").for_each(|app| *app = "10009".to_owned());
    drop(full.sidecar);
    let unknown = Sidecar::launch(settings, &folder);
    eventually("an app that is none is told", WITHIN, || {
        let reason = unknown.status()["control"]["reason"].clone();
        let says = "there is no app 10009: create it before a replica asks for a place in it";
        reason.as_str().is_some_and(|reason| reason.contains(says)).then_some(())
    });
}
