//! Versioned mode: where every memcached can be told the CAS of an item, a CAS is good on every site.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::Duration;

use memcloud_tests::binary::{ADD, Frame, GET, SET, reply};
use memcloud_tests::{Client, Fleet, Plan, Server, eventually};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_cas_read_on_one_site_is_good_on_the_other() {
    let Some(fleet) = versioned(2) else { return };
    let mut sites = clients(&fleet);
    assert_eq!(sites[0].set("k", b"1").unwrap(), "STORED");
    let first = same_cas(&fleet, "k");
    assert!(first > 1 << 60, "a clock reading: {first}");

    let cas = |client: &mut Client, key: &str, value: &str, cas: u64| {
        client.ask(&format!("cas {key} 0 0 {} {cas}\r\n{value}", value.len()))
    };
    assert_eq!(cas(&mut sites[1], "k", "2", first), "STORED");
    let second = same_cas(&fleet, "k");
    assert!(second > first, "versions rise");
    assert_eq!(
        cas(&mut sites[0], "k", "3", first),
        "EXISTS",
        "it was read before the write at the other site"
    );
    assert_eq!(cas(&mut sites[0], "k", "3", second), "STORED");
    assert_eq!(cas(&mut sites[0], "none", "3", second), "NOT_FOUND");

    let third = same_cas(&fleet, "k");
    assert!(sites[1].ask(&format!("ms k 1 c C{third}\r\n4")).starts_with("HD c"), "the meta dialect");
    let fourth = same_cas(&fleet, "k");
    let mut binary = fleet.sites[0].sidecar.client();
    let set = Frame { cas: fourth, key: b"k", value: b"5", extras: &[0; 8], ..Frame::new(SET) };
    binary.send(set.bytes()).unwrap();
    assert_eq!(reply(&mut binary).unwrap().status, 0, "the binary dialect");
    fleet.wait_in_sync(SOON);
    assert_eq!(cas(&mut sites[1], "k", "6", fourth), "EXISTS");
    assert_eq!(sites[1].get("k").unwrap().unwrap(), b"5");
}

/// Each kind of store, by each kind of client: the same CAS on all sites, and what reads it agrees with what stored it.
#[test]
fn every_store_has_one_cas_on_three_sites() {
    let Some(fleet) = versioned(3) else { return };
    let mut app = fleet.sites[0].sidecar.client();
    let mut last = 0;
    let requests = [
        ("add n 7 100 2\r\n10", "STORED"),
        ("add n 7 100 2\r\n10", "NOT_STORED"),
        ("incr n 5", "15"),
        ("decr n 8", "7"),
        ("incr n 1", "8"),
        ("replace n 0 0 3\r\nabc", "STORED"),
        ("append n 0 0 1\r\nd", "STORED"),
        ("prepend n 0 0 1\r\nz", "STORED"),
        ("append none 0 0 1\r\nd", "NOT_STORED"),
        ("incr none 1", "NOT_FOUND"),
        ("incr n 1", "CLIENT_ERROR cannot increment or decrement non-numeric value"),
        ("touch n 200", "TOUCHED"),
        ("set n 0 0 1\r\n5", "STORED"),
        ("ms n 1 T100\r\n5", "HD"),
        ("ma n D3", "HD"),
        ("md n I T30", "HD"),
        ("ms n 1 MA\r\n5", "HD"),
        ("md n x", "HD"),
    ];
    for (request, answer) in requests {
        let said = app.ask(request);
        assert_eq!(said, answer, "{request}");
        let cas = same_cas(&fleet, "n");
        let changed = matches!(answer, "STORED" | "HD") || answer.parse::<u64>().is_ok();
        // A number that takes a digit less keeps its place, one that takes a digit more would not.
        assert_eq!(cas > last, changed || last == 0, "{request}: {last} then {cas}");
        last = cas.max(last);
    }
}

/// A body that is passed on as it comes has its CAS in the head. Errors are worded as without.
#[test]
fn a_streamed_body_has_one_cas_too() {
    let Some(fleet) = versioned(2) else { return };
    let mut app = fleet.sites[0].sidecar.client();
    let long = "1".repeat(100_000);
    let huge = "1".repeat(2_000_000);
    let len = long.len();
    let mut last = 0;
    for (request, answer) in [
        (format!("set n 7 100 {len}\r\n{long}"), "STORED"),
        (format!("replace n 7 0 {len}\r\n{long}"), "STORED"),
        (format!("add n 7 0 {len}\r\n{long}"), "NOT_STORED"),
        (format!("append n 7 0 {len}\r\n{long}"), "STORED"),
        (format!("prepend n 7 0 {len}\r\n{long}"), "STORED"),
        (format!("prepend none 7 0 {len}\r\n{long}"), "NOT_STORED"),
        (format!("cas n 7 0 {len} 1\r\n{long}"), "EXISTS"),
        (format!("cas none 7 0 {len} 1\r\n{long}"), "NOT_FOUND"),
        (format!("ms n {len}\r\n{long}"), "HD"),
        (format!("ms n {len} MA\r\n{long}"), "HD"),
        (format!("set n 7 0 {len} noreply\r\n{long}\r\nms n {len} q\r\n{long}\r\nmn"), "MN"),
        (format!("append n 7 0 {}\r\n{huge}", huge.len()), "SERVER_ERROR object too large for cache"),
    ] {
        let shown = &request[..request.len().min(30)];
        assert_eq!(app.ask(&request), answer, "{shown}");
        let cas = same_cas(&fleet, "n");
        assert!(cas > 1 << 60, "{shown}: {cas}");
        assert_eq!(cas > last, matches!(answer, "STORED" | "HD" | "MN"), "{shown}: {last} then {cas}");
        last = cas;
    }
    let mut away = fleet.sites[1].sidecar.client();
    assert_eq!(away.ask(&format!("cas n 3 0 {len} {last}\r\n{long}")), "STORED");
    fleet.wait_in_sync(SOON);
    assert_eq!(app.ask(&format!("cas n 3 0 {len} {last}\r\n{long}")), "EXISTS");
    assert_eq!(app.ask(&format!("cas n 3 0 {len} {}\r\n{long}", same_cas(&fleet, "n"))), "STORED");
    let cut = format!("set n 0 0 {len}\r\n{long}1\r\n");
    for (request, answer) in [
        (cut, "CLIENT_ERROR bad data chunk"),
        (format!("set n 0 0 {}\r\n{huge}", huge.len()), "SERVER_ERROR object too large for cache"),
    ] {
        let mut through = fleet.sites[0].sidecar.client();
        let mut direct = fleet.sites[1].memcached.client();
        assert_eq!(through.ask(&request), answer);
        assert_eq!(direct.ask(&request), answer);
    }
}

/// What a server counts itself is nobody else's business: a token of one site never fits another site's item by chance.
#[test]
fn what_cannot_say_its_version_has_a_cas_that_is_good_at_home() {
    let Some(fleet) = versioned(2) else { return };
    let mut binary = fleet.sites[0].sidecar.client();
    binary.send(Frame { key: b"k", value: b"1", extras: &[0; 8], ..Frame::new(ADD) }.bytes()).unwrap();
    let stored = reply(&mut binary).unwrap();
    fleet.wait_in_sync(SOON);
    binary.send(Frame { key: b"k", ..Frame::new(GET) }.bytes()).unwrap();
    assert_eq!(reply(&mut binary).unwrap().cas, stored.cas);
    let away = cas_of(&mut fleet.sites[1].memcached.client(), "k");
    assert_ne!(away, stored.cas);
    let mut other = fleet.sites[1].sidecar.client();
    assert_eq!(other.ask(&format!("cas k 0 0 1 {}\r\n2", stored.cas)), "EXISTS");
    assert_eq!(other.ask(&format!("cas k 0 0 1 {away}\r\n2")), "STORED");
}

#[test]
fn a_shard_with_an_older_server_goes_on_without() {
    let plan = Plan::of(2).server(&Server::newest()).server_at(0, &Server::distribution());
    let fleet = plan.start();
    if Server::distribution().is_versioned() || !Server::newest().is_versioned() {
        return println!("an older and a newer memcached are not both at hand");
    }
    for (site, reason) in [(0, "this memcached cannot"), (1, "a peer's memcached cannot")] {
        says(&fleet, site, Some(reason));
        let mut app = fleet.sites[site].sidecar.client();
        assert_eq!(app.set("k", b"1").unwrap(), "STORED");
        assert!(cas_of(&mut fleet.sites[site].memcached.client(), "k") < 1 << 60);
        fleet.wait_in_sync(SOON);
    }
}

/// The newer memcached of one site is replaced by an older one while apps write: they see a memcached that went away and
/// came back, and nothing else.
#[test]
fn a_server_that_is_replaced_by_an_older_one_ends_the_mode() {
    let Some(mut fleet) = versioned(2) else { return };
    if Server::distribution().is_versioned() {
        return println!("no older memcached is at hand");
    }
    fleet.sites[1].memcached.restart_as(&Server::distribution());
    let mut app = fleet.sites[1].sidecar.client();
    for number in 0..500 {
        let answer = app.set(&format!("k{number}"), b"1").unwrap();
        assert!(answer == "STORED" || answer.starts_with("SERVER_ERROR "), "{answer}");
    }
    says(&fleet, 0, Some("a peer's memcached cannot"));
    says(&fleet, 1, Some("this memcached cannot"));
    assert_eq!(app.set("last", b"1").unwrap(), "STORED");
    fleet.sites[1].memcached.restart_as(&Server::newest());
    says(&fleet, 0, None);
    says(&fleet, 1, None);
}

/// Both proxies are killed with writes that the other side never heard of: nobody knows any more who missed what. The items
/// do: the newer one is on both sides, and neither is dropped.
#[test]
fn of_what_two_killed_proxies_owed_the_newer_item_lives() {
    let Some(mut fleet) = versioned(2) else { return };
    let mut sites = clients(&fleet);
    for key in ["at-a", "at-b"] {
        assert_eq!(sites[0].set(key, b"old").unwrap(), "STORED");
    }
    fleet.wait_in_sync(SOON);
    fleet.part(0, 1);
    for (key, first, second) in [("at-a", 1, 0), ("at-b", 0, 1)] {
        assert_eq!(sites[first].set(key, b"older").unwrap(), "STORED");
        // Sites that do not hear each other order their writes by the millisecond.
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(sites[second].set(key, b"newer").unwrap(), "STORED");
    }
    fleet.sites.iter_mut().for_each(|site| site.sidecar.process_mut().kill());
    fleet.heal();
    fleet.sites.iter_mut().for_each(|site| site.sidecar.relaunch());
    fleet.sites.iter_mut().for_each(|site| site.sidecar.wait_until_ready());
    fleet.wait_in_sync(Duration::from_secs(30));
    for site in &fleet.sites {
        for key in ["at-a", "at-b"] {
            let held = site.memcached.client().get(key).unwrap();
            assert_eq!(held.as_deref(), Some(&b"newer"[..]), "{key}: {}", fleet.statuses());
        }
    }
    assert!(same_cas(&fleet, "at-a") > 1 << 60);
}

/// A fleet on the newest server, once all sites say that the mode is on.
fn versioned(sites: usize) -> Option<Fleet> {
    if !Server::newest().is_versioned() {
        println!("no memcached at hand takes a CAS from outside");
        return None;
    }
    let fleet = Plan::of(sites).server(&Server::newest()).start();
    (0..sites).for_each(|site| says(&fleet, site, None));
    Some(fleet)
}

/// Waits until a site says that the mode is on, or off for this reason.
fn says(fleet: &Fleet, site: usize, reason: Option<&str>) {
    eventually(&format!("site {site} says {reason:?}"), SOON, || {
        let status = fleet.sites[site].sidecar.status();
        let because = status["unversioned_because"].as_str();
        let said = match reason {
            None => status["versioned"] == true && because.is_none(),
            Some(reason) => status["versioned"] == false && because?.starts_with(reason),
        };
        said.then_some(())
    });
}

fn clients(fleet: &Fleet) -> Vec<Client> {
    fleet.sites.iter().map(|site| site.sidecar.client()).collect()
}

/// The CAS that all memcacheds have for a key, once nothing is on its way.
fn same_cas(fleet: &Fleet, key: &str) -> u64 {
    fleet.wait_in_sync(SOON);
    let all: Vec<_> = fleet.sites.iter().map(|site| cas_of(&mut site.memcached.client(), key)).collect();
    assert!(all.iter().all(|cas| *cas == all[0]), "{key}: {all:?}");
    all[0]
}

/// `me` takes no win.
fn cas_of(memcached: &mut Client, key: &str) -> u64 {
    let line = memcached.ask(&format!("me {key}"));
    let cas = line.split(' ').find_map(|word| word.strip_prefix("cas="));
    cas.unwrap_or_else(|| panic!("no item: {line}")).parse().unwrap()
}
